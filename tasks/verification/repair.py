"""Make again what is damaged in a store: each thing from what it was made from, and never in the place of what is whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from upath import UPath

from storage.checksums import CHECKSUMS, fault_of
from storage.errors import RetrainError
from storage.folders import put_aside, remove_folder
from storage.inventory import entries
from storage.io import read_json, write_atomically
from storage.layout import Store
from storage.references import RawRef
from storage.registry import Registry
from storage.tables import exists, is_whole, read_manifest
from tasks.config import DataSettings
from tasks.datasets import dataset_named
from tasks.ingestion.pipeline import (
    parse_raw,
    publish_parsed,
    raw_of_table,
    table_ref,
    table_version,
    validate_parsed,
    write_missing_docs,
)
from tasks.training.scoring import evaluate_version
from tasks.verification.check import Checked, Kind

logger = logging.getLogger("retrain")

Owner = tuple[str, ...]
# What others are made from comes first.
_ORDER: tuple[Kind, ...] = ("raw file", "checkpoint", "table", "report", "evaluation")


def repair_store(faults: Iterable[Checked], *, registry: Registry, store: Store) -> dict[str, str]:
    """Make again what can be made of what is damaged, and return what was done, by the name of each file.

    What cannot be made again is not touched, and has no entry.
    """
    repairs: Mapping[Kind, Callable[[Owner], str]] = {
        "raw file": lambda owner: _put_raw_aside(owner, store=store),
        "checkpoint": lambda owner: _put_checkpoint_aside(owner, store=store),
        "table": lambda owner: _make_table_again(owner, store=store),
        "report": lambda owner: _make_report_again(owner, store=store),
        "evaluation": lambda owner: _score_again(owner, registry=registry, store=store),
    }
    damaged: dict[tuple[Kind, Owner], list[str]] = {}
    for found in sorted((each for each in faults if each.kind in _ORDER), key=lambda each: _ORDER.index(each.kind)):
        damaged.setdefault((found.kind, found.owner), []).append(found.name)
    done: dict[str, str] = {}
    for (kind, owner), names in damaged.items():
        try:
            outcome = repairs[kind](owner)
        except RetrainError as error:
            logger.warning("%s cannot be made again: %s", names[0], error)
            continue
        if outcome:
            done |= dict.fromkeys(names, outcome)
    return done


def _put_raw_aside(owner: Owner, *, store: Store) -> str:
    dataset, digest, _ = owner
    put_aside(store.raw_folder(dataset) / digest, into=store.damaged(dataset, digest))
    return "put aside: the next retrain ingest fetches it again"


def _put_checkpoint_aside(owner: Owner, *, store: Store) -> str:
    """Take a checkpoint out of the way of its training; of a finished one the record, so that it is trained again."""
    folder = store.root / "checkpoints" / owner[0]
    if owner[1] == "attempts":
        remove_folder(folder / "attempts")
        return "removed: the next attempt begins to count anew"
    path = folder / owner[1]
    write_atomically(path.with_name(f"damaged-{path.name}"), path.read_bytes())
    path.unlink()
    return "put aside: the next run goes on without it"


def _make_table_again(owner: Owner, *, store: Store) -> str:
    """Make a table again from its raw files, or put it aside where its manifest or they are damaged too."""
    dataset, version = owner
    folder = store.table_folder(dataset, version)
    raw = _whole_raw(dataset, version=version, store=store)
    if raw is None:
        put_aside(folder, into=store.damaged(dataset, version))
        return "put aside: the next retrain ingest makes it again"
    before = read_manifest(folder)
    put_aside(folder, into=store.damaged(dataset, version))
    _publish(raw, acceptance=before.get("acceptance"), store=store)
    after = read_manifest(folder)
    return "made again, equal" if after["files"] == before["files"] else "made again; this release writes other bytes"


def _make_report_again(owner: Owner, *, store: Store) -> str:
    """Write the pages of a report again; if its results are damaged, the data is validated again."""
    dataset, version, *rest = owner
    if rest:
        for name in rest:
            (store.report_folder(dataset, version) / name).unlink(missing_ok=True)
        return "removed: the next retrain run on this table writes it"
    if not exists(store, dataset, version):
        remove_folder(store.report_folder(dataset, version))
        return "removed: it is of data that was never published"
    if _has_whole_results(dataset, version=version, store=store):
        store.docs_index(dataset, version).unlink(missing_ok=True)
        write_missing_docs(dataset, store=store)
        return "made again"
    raw = _whole_raw(dataset, version=version, store=store)
    if raw is None:
        return ""
    _publish(raw, acceptance=read_manifest(store.table_folder(dataset, version)).get("acceptance"), store=store)
    return "made again"


def _has_whole_results(dataset: str, *, version: str, store: Store) -> bool:
    """Tell whether the record of a validation and its pictures are as they were written."""
    path = store.validation_report(dataset, version)
    try:
        checksums = read_json(path).get(CHECKSUMS, {})
    except RetrainError:
        return False
    return not any(fault_of(path.parent / name, sha256=checksum) for name, checksum in checksums.items())


def _whole_raw(dataset: str, *, version: str, store: Store) -> RawRef | None:
    """Return the raw files of a table, if all are whole and this release still makes this version of them."""
    try:
        raw = raw_of_table(dataset, manifest=read_manifest(store.table_folder(dataset, version)), store=store)
    except (RetrainError, KeyError, TypeError):
        return None
    if table_version(raw, transform_version=dataset_named(dataset).transform_version) != version:
        return None
    files = [(UPath(each.uri, **store.root.storage_options), each.sha256) for each in raw.files]
    return None if any(fault_of(path, sha256=digest) for path, digest in files) else raw


def _publish(raw: RawRef, *, acceptance: Mapping[str, str] | None, store: Store) -> None:
    """Parse, validate and publish, where a person accepted failures of this version, accepting them once more."""
    settings = DataSettings()
    if acceptance:
        settings = DataSettings(
            accept_failures=(acceptance["version"],), accept_reason=acceptance["reason"], accepted_by=acceptance["by"]
        )
    parsed = parse_raw(raw, store=store)
    publish_parsed(parsed, validation=validate_parsed(parsed, settings=settings, store=store), store=store)
    write_missing_docs(raw.dataset, store=store)


def _score_again(owner: Owner, *, registry: Registry, store: Store) -> str:
    """Score a registered version again; an evaluation of none is removed, because nothing reads it."""
    table, training_key = owner
    path = store.evaluation(table, training_key)
    versions = [version for name in registry.names() for version in registry.versions(name)]
    version = next((each for each in versions if each.tags.get("training_key") == training_key), None)
    path.with_suffix(".json").unlink(missing_ok=True)
    dataset = next((each.parts[0] for each in entries(store.root / "tables", depth=2) if each.parts[1] == table), None)
    if version is None or dataset is None or not exists(store, dataset, table):
        path.unlink(missing_ok=True)
        return "removed: no registered version is scored by it"
    if not is_whole(store.table_folder(dataset, table)):
        return "removed: the next run that needs it scores the version again"
    reference = table_ref(dataset, version=table, store=store, published=False)
    evaluate_version(version, table=reference, registry=registry, store=store)
    return "scored again"
