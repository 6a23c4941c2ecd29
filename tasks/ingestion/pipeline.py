"""The steps of ingestion from raw files to a published table, without Prefect."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from upath import UPath

from storage.checksums import CHECKSUMS, SUMS, checksums_of, sha256_of_bytes, sums_text
from storage.environment import Environment
from storage.errors import DataError, RejectedError
from storage.folders import copy_folder, publish_folder, put_aside, remove_others
from storage.io import digest_of_json, locked, read_json, write_atomically, write_json, write_record
from storage.layout import DOCS_INDEX, Store
from storage.raw_files import ask_again, local_copy
from storage.references import RawFile, RawRef, Reference, TableRef
from storage.tables import (
    exists,
    is_whole,
    note_ingested,
    published_versions,
    read_manifest,
    read_staged,
    write_manifest,
    write_part,
    write_staged,
    write_tables,
)
from tasks.config import DataSettings
from tasks.datasets import dataset_named
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import SPLITS, DatasetSpec, Parsed, Repair
from tasks.ingestion.acceptance import acceptance, excess_text, remedy
from tasks.ingestion.continuity import Series, continuity_frame, expectations_about, series_of, table_before
from tasks.ingestion.fetching import OWN, raw_name, source_named, today
from tasks.ingestion.outcomes import ValidationReport, failed_text, rejected_message

logger = logging.getLogger("retrain")

VERSION_DIGITS = 12


class ParsedRef(Reference):
    """A parsed and repaired data set in a staging folder of this host; nothing is published yet."""

    dataset: str
    version: str
    folder: str
    raw: RawRef


class ValidationRef(Reference):
    """The outcome of a suite in which no critical expectation failed.

    Attributes:
        passed: Number of expectations that passed.
        failed: Number of expectations that failed.
        acceptance: Who accepted which critical failures of this table version, when and why; None: there were none.
        warnings: Each failed expectation that is a warning, with its place, one line each.
    """

    report_uri: str
    docs_uri: str
    passed: int
    failed: int
    acceptance: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()


def _request_of(raw: RawRef) -> TableRequest:
    """Return what is asked of the table that is made from these files."""
    return TableRequest.model_validate({**raw.request, "source": raw.source})


def table_version(raw: RawRef, *, transform_version: int) -> str:
    """Return the version of a table: a digest of its raw files, of what is asked of it, and of its transformation."""
    digests = _digests(raw)
    content = {"dataset": raw.dataset, "raw": digests, "transform_version": transform_version}
    return digest_of_json(content | _request_of(raw).content(), length=VERSION_DIGITS)


def raw_of_table(dataset: str, *, manifest: Mapping[str, Any], store: Store) -> RawRef:
    """Return the raw files that a table was made from, as its manifest lists them; whether they are there is not looked at."""
    name = raw_name(dataset, simulated=manifest["simulated"])
    files = tuple(RawFile(uri=str(store.raw_file(name, raw["sha256"], raw["name"])), **raw) for raw in manifest["raw"])
    return RawRef(
        dataset=dataset,
        source=manifest["source"],
        origin=manifest["origin"],
        simulated=manifest["simulated"],
        files=files,
        request=manifest.get("request", {}),
    )


def _digests(raw: RawRef) -> dict[str, str]:
    """Return the digests by name of the file; an earlier state of a rolling file has some digits behind its name."""
    return {name: file.sha256 for name, file in _by_name(raw).items()}


def _by_name(raw: RawRef) -> dict[str, RawFile]:
    """Return the files by name. Of several with one name the first has it, and the others have some digits behind it."""
    files: dict[str, RawFile] = {}
    for file in raw.files:
        files[file.name if file.name not in files else f"{file.name}@{file.sha256[:12]}"] = file
    return files


def find_published_table(raw: RawRef, *, store: Store) -> TableRef | None:
    """Return the table that was published from these raw files before, or None.

    Every byte of the table is compared with its manifest. A damaged one is put aside, and then made again.
    """
    version = table_version(raw, transform_version=dataset_named(raw.dataset).transform_version)
    if not exists(store, raw.dataset, version):
        return None
    folder = store.table_folder(raw.dataset, version)
    if not is_whole(folder):
        with locked(folder):
            if not is_whole(folder):
                logger.warning("table %s of %s was damaged after it was published: it is made again", version, raw.dataset)
                put_aside(folder, into=store.damaged(raw.dataset, version))
                return None
    if not _has_report(raw.dataset, version=version, store=store):
        logger.warning("the validation of table %s of %s is lost or damaged: the data is validated again", version, raw.dataset)
        return None
    note_ingested(store, raw.dataset, version)
    return table_ref(raw.dataset, version=version, store=store, published=False)


def _has_report(dataset: str, *, version: str, store: Store) -> bool:
    try:
        return bool(read_json(store.validation_report(dataset, version))["outcomes"])
    except (DataError, KeyError, TypeError):
        return False


def table_ref(dataset: str, *, version: str, store: Store, published: bool) -> TableRef:
    """Return the reference to a published table; `published` tells whether this run published it."""
    folder = store.table_folder(dataset, version)
    manifest = read_manifest(folder)
    rows = {split: manifest["files"][f"{split}.parquet"]["rows"] for split in SPLITS}
    return TableRef(
        dataset=dataset,
        version=version,
        uri=str(folder),
        simulated=manifest["simulated"],
        rows=rows,
        published=published,
        newest=str(manifest["facts"].get("last_stamp", "")),
    )


def with_age(table: TableRef, *, settings: DataSettings) -> TableRef:
    """Return the reference, marked as stale if its source goes on and has brought nothing for longer than expected."""
    spec = dataset_named(table.dataset)
    _, source, options = source_named(spec, settings)
    if table.simulated or not table.newest or not source.goes_on(options):
        return table
    age = today() - datetime.fromisoformat(table.newest).date()
    return table.model_copy(update={"stale": age > timedelta(days=settings.stale_after_days)})


def parse_raw(raw: RawRef, *, store: Store) -> ParsedRef:
    """Parse and repair raw files into a staging folder.

    Raises:
        DataError: A file does not have its layout, or a repair is above its limit.
    """
    version = table_version(raw, transform_version=dataset_named(raw.dataset).transform_version)
    try:
        parsed = read_raw(raw, store=store)
    except DataError:
        _ask_again_for(raw, store=store)
        raise
    folder = store.staging(raw.dataset, version)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write_parsed(parsed, folder=folder)
    return ParsedRef(dataset=raw.dataset, version=version, folder=str(folder), raw=raw)


def read_raw(raw: RawRef, *, store: Store, until: datetime | None = None) -> Parsed:
    """Return raw files as canonical columns, repaired, of a series up to a stamp as it was known then.

    Raises:
        DataError: A file does not have its layout, or is no longer in the store.
    """
    spec = dataset_named(raw.dataset)
    request = _request_of(raw)
    files = {name: _readable(file, spec=spec, request=request, store=store) for name, file in _by_name(raw).items()}
    return spec.parse(files, request.model_copy(update={"until": until}))


def _readable(file: RawFile, *, spec: DatasetSpec, request: TableRequest, store: Store) -> Path:
    """Return a local path of a raw file, or of what was read from it, which is kept for the next table.

    Raises:
        DataError: The file does not have its layout.
    """
    local = local_copy(file, store=store)
    if spec.read_part is None:
        return local
    version = digest_of_json(
        {"part_version": spec.part_version, "source": request.source, "options": dict(request.options)}, length=12
    )
    part = store.part(spec.name, file.sha256, version)
    if not part.is_file():
        write_part(spec.read_part(file.name, local, request), part)
    return part


def _write_parsed(parsed: Parsed, *, folder: Path) -> None:
    write_staged(parsed.table, folder / "parsed.arrow")
    for name, table in parsed.extras.items():
        write_staged(table, folder / f"extra-{name}.arrow")
    write_json(folder / "parsed.json", {"repairs": [asdict(repair) for repair in parsed.repairs], "facts": dict(parsed.facts)})


def _read_parsed(folder: Path) -> Parsed:
    notes = read_json(folder / "parsed.json")
    extras = {path.stem.removeprefix("extra-"): read_staged(path) for path in sorted(folder.glob("extra-*.arrow"))}
    repairs = tuple(Repair(**repair) for repair in notes["repairs"])
    return Parsed(table=read_staged(folder / "parsed.arrow"), repairs=repairs, facts=notes["facts"], extras=extras)


def validate_parsed(parsed: ParsedRef, *, settings: DataSettings, store: Store) -> ValidationRef:
    """Run the data set's suite, and store its report.

    The Data Docs of data that passes are written once it is published (`write_missing_docs`), because Great Expectations
    takes seconds to be imported; those of data that does not pass are written here.

    Raises:
        RejectedError: A critical expectation failed, or more was repaired than a limit allows, and no person has accepted
            that for this table version. The staged data is removed.
    """
    from tasks.ingestion.pictures import with_pictures
    from tasks.ingestion.validation import run_suite

    spec = dataset_named(parsed.dataset)
    staged = Path(parsed.folder)
    data = _read_parsed(staged)
    expectations = spec.expectations(_request_of(parsed.raw).model_copy(update={"today": today()}))
    frames = [spec.validation_frame(data)]
    report = run_suite(frames[0], name=f"{spec.name}-{parsed.version}", expectations=expectations)
    before = None if parsed.raw.simulated else _before(parsed, spec=spec, store=store)
    if before is not None:
        frames.append(continuity_frame(series_of(data.table), before=before))
        more = expectations_about(frames[1])
        expectations = (*expectations, *more)
        report = replace(
            report, outcomes=(*report.outcomes, *run_suite(frames[1], name=report.suite, expectations=more).outcomes)
        )
    report, pictures = with_pictures(report, frames=frames)
    excessive = [repair for repair in data.repairs if not repair.is_within_limit]
    critical = [
        expectation
        for expectation, outcome in zip(expectations, report.outcomes, strict=True)
        if outcome.severity == "critical" and not outcome.success
    ]
    accepted = None
    if excessive or critical:
        accepted = acceptance(settings, version=parsed.version, excessive=excessive, critical=critical)
    docs_index = store.docs_index(parsed.dataset, parsed.version)
    _save_report(report, pictures=pictures, accepted=accepted, path=store.validation_report(parsed.dataset, parsed.version))
    if (excessive or critical) and accepted is None:
        shutil.rmtree(staged, ignore_errors=True)
        _ask_again_for(parsed.raw, store=store)
        _write_docs(parsed.dataset, version=parsed.version, store=store)
        reasons = [f"{spec.name}-{parsed.version}: {excess_text(repair)}" for repair in excessive]
        reasons += [rejected_message(report)] if critical else []
        what_to_do = remedy(settings, version=parsed.version, critical=critical)
        docs = _docs_address(parsed, store=store)
        message = f"{'; '.join(reasons)}; {what_to_do}; Data Docs: {docs}"
        raise RejectedError(message, reasons=reasons, remedy=what_to_do, docs=docs)
    passed = sum(outcome.success for outcome in report.outcomes)
    return ValidationRef(
        report_uri=str(store.validation_report(parsed.dataset, parsed.version)),
        docs_uri=str(docs_index),
        passed=passed,
        failed=len(report.outcomes) - passed,
        acceptance=accepted,
        warnings=tuple(failed_text(outcome) for outcome in report.failed if outcome.severity == "warning"),
    )


def _save_report(report: ValidationReport, *, pictures: Mapping[str, bytes], accepted: object, path: UPath) -> None:
    """Write a report and its pictures, and remove what an earlier validation of this version and its run left beside them.

    The index of the Data Docs goes first, so that they are written again. The report is replaced and never missing, because
    another host may be about to read it.
    """
    with locked(path.parent):
        (path.parent / DOCS_INDEX).unlink(missing_ok=True)
        for name, png in pictures.items():
            write_atomically(path.parent / name, png)
        checksums = {name: sha256_of_bytes(png) for name, png in pictures.items()}
        write_record(path, report.as_dict() | {"acceptance": accepted, CHECKSUMS: checksums})
        remove_others(path.parent, keep=(path, *(path.parent / name for name in pictures)))


def _before(parsed: ParsedRef, *, spec: DatasetSpec, store: Store) -> Series | None:
    """Return the table to which this one is to be continuous. Of a person's own files nothing says that they are of one place."""
    if parsed.raw.origin == OWN:
        return None
    return table_before(spec, version=parsed.version, source=parsed.raw.source, store=store)


def _ask_again_for(raw: RawRef, *, store: Store) -> None:
    """Let the next run ask for the files of rejected data once more, but not for those from which a table was published."""
    folders = [store.table_folder(raw.dataset, version) for version in published_versions(store, raw.dataset)]
    trusted = {file["sha256"] for folder in folders for file in read_manifest(folder)["raw"]}
    suspects = [file for file in raw.files if file.sha256 not in trusted]
    ask_again(suspects, store=store, dataset=raw_name(raw.dataset, simulated=raw.simulated))


def _docs_address(parsed: ParsedRef, *, store: Store) -> str:
    """Return where a person finds the Data Docs: a web address where the service runs, else a path."""
    base = Environment.read().docs_address
    index = store.docs_index(parsed.dataset, parsed.version)
    return f"{base}/{parsed.dataset}/{parsed.version}/{index.name}" if base else str(index)


def write_missing_docs(dataset: str, *, store: Store) -> tuple[str, ...]:
    """Write the Data Docs of every published version of a data set that has none, and return these versions.

    That is the version just published, and any whose run was killed before it came to this.
    """
    missing = [
        version
        for version in published_versions(store, dataset)
        if not store.docs_index(dataset, version).is_file() and store.validation_report(dataset, version).is_file()
    ]
    for version in missing:
        _write_docs(dataset, version=version, store=store)
    return tuple(missing)


def _write_docs(dataset: str, *, version: str, store: Store) -> None:
    """Write the Data Docs of a validated version from its stored report; the index is written last."""
    from tasks.ingestion.gx import write_data_docs

    docs_index = store.docs_index(dataset, version)
    with tempfile.TemporaryDirectory() as folder, locked(docs_index.parent):
        report = ValidationReport.from_dict(read_json(store.validation_report(dataset, version)))
        write_data_docs(report, folder=Path(folder))
        write_atomically(Path(folder, SUMS), sums_text(checksums_of(Path(folder))))
        copy_folder(Path(folder), into=docs_index.parent, last=docs_index.name)


def publish_parsed(parsed: ParsedRef, *, validation: ValidationRef, store: Store) -> TableRef:
    """Split and normalise the data, and publish the table: the manifest is written last, and the folder moved as a whole."""
    spec = dataset_named(parsed.dataset)
    staged = Path(parsed.folder)
    data = _read_parsed(staged)
    splits = spec.split(data)
    folder = staged.with_name(f"{staged.name}-table")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tables: dict[str, pa.Table] = {**{str(name): table for name, table in splits.tables.items()}, **data.extras}
    write_tables(tables, folder=folder)
    write_manifest(
        folder,
        {
            "dataset": spec.name,
            "version": parsed.version,
            "title": spec.title,
            "licence": spec.licence,
            "simulated": parsed.raw.simulated,
            "source": parsed.raw.source,
            "origin": parsed.raw.origin,
            "raw": [file.model_dump(exclude={"uri"}) for file in parsed.raw.files],
            "request": parsed.raw.request,
            "transform_version": spec.transform_version,
            "normalisation": dict(splits.normalisation),
            "bounds": dict(splits.bounds),
            "repairs": [asdict(repair) for repair in data.repairs],
            "facts": dict(data.facts),
            "expectations": {"passed": validation.passed, "failed": validation.failed},
            "acceptance": validation.acceptance,
        },
    )
    published = publish_folder(folder, into=store.table_folder(parsed.dataset, parsed.version))
    shutil.rmtree(staged, ignore_errors=True)
    note_ingested(store, parsed.dataset, parsed.version)
    return table_ref(parsed.dataset, version=parsed.version, store=store, published=published)
