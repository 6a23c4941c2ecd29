"""Gather what monitoring needs of one model from store and registry, and keep what it found."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from storage.checksums import CHECKSUMS, checksums_of
from storage.errors import RetrainError, SettingError
from storage.folders import publish_folder
from storage.io import digest_of_json, read_json, write_atomically, write_record
from storage.layout import MANIFEST, Store
from storage.records import ModelVersion
from storage.registry import CHAMPION, Registry
from storage.tables import exists, newest_version, read_manifest, read_splits, read_table, write_table
from tasks.config import MonitorSettings
from tasks.datasets import dataset_named
from tasks.datasets.spec import SPLITS
from tasks.ingestion.pipeline import table_ref
from tasks.models.spec import Problem, SeriesPlot
from tasks.monitoring.figures import watch_pictures
from tasks.monitoring.findings import Watch, since_last
from tasks.monitoring.performance import UsualErrors
from tasks.monitoring.repairs import repair_findings
from tasks.monitoring.report import HISTORY, MonitorReport, report_markdown
from tasks.monitoring.reviews import watch_reviews
from tasks.monitoring.series import WatchedSeries, watch_series
from tasks.prediction.issued import REVIEWS_SCHEMA, SERIES_SCHEMA, read_issued
from tasks.training.identity import problem_answered_by
from tasks.training.refit import evaluated_version
from tasks.training.scoring import evaluate_version, read_predictions
from tasks.training.seen import seen_by

# A reading comes back from its normalisation with the rounding of a float32; the instruments' last digit is coarser than this.
READING_DECIMALS = 3
KEY_DIGITS = 12
TOLD_FILE = "told.json"
# Raised by hand whenever monitoring would find something else in the same inputs, or shows it differently.
MONITORING_VERSION = 1


@dataclass(frozen=True)
class Monitored:
    """What a run of monitoring found.

    Attributes:
        report: What the page says.
        markdown: The page, with its pictures.
        pictures: PNGs by title.
        folder: Where it is kept.
        is_new: False if an equal run had found it before.
    """

    report: MonitorReport
    markdown: str
    pictures: Mapping[str, bytes]
    folder: UPath
    is_new: bool


def monitor_model(name: str, *, settings: MonitorSettings, registry: Registry, store: Store) -> Monitored:
    """Watch the champion of a registered model, and keep what was found. Equal inputs are not watched again.

    Raises:
        RegistryError: There is no such model, or it has no champion.
        DataError: The data set has no published table.
    """
    champion = registry.resolve(f"{name}@{CHAMPION}")
    trained_manifest = registry.read_json(champion.run_id, "manifest.json")["table"]
    dataset, simulated = str(trained_manifest["dataset"]), bool(trained_manifest["simulated"])
    problem = problem_answered_by(champion, dataset=dataset)
    version = newest_version(store, dataset, simulated=simulated)
    issued = read_issued(name, store=store, schema=SERIES_SCHEMA if problem.is_series else REVIEWS_SCHEMA)
    folder = store.monitoring_folder(name)
    last = last_result(folder)
    key = digest_of_json(
        [MONITORING_VERSION, version, champion.version, _digest_of(issued), settings.model_dump()], length=KEY_DIGITS
    )
    existing = next((path for path in _results(folder) if path.name.endswith(key)), None)
    if existing:
        return _read(existing)
    if problem.is_series:
        watch, unit = _watch_series(
            champion, problem=problem, version=version, issued=issued, settings=settings, registry=registry, store=store
        )
    else:
        trained_on = _table_of(champion, store=store) or version
        watch, unit = _watch_reviews(issued, dataset=dataset, version=trained_on, settings=settings, store=store), ""
    newest = read_manifest(store.table_folder(dataset, version))
    repaired = repair_findings(newest, trained=trained_manifest, settings=settings)
    findings = since_last((*watch.findings, *repaired), last=last.get("findings", ()), day=watch.day)
    report = MonitorReport(
        model=name,
        champion=champion.version,
        simulated=simulated,
        table=version,
        title=str(newest["title"]),
        findings=findings,
        watch=watch,
        unit=unit,
        settings=settings.model_dump(),
        made_at=datetime.now(tz=UTC).isoformat(timespec="seconds"),
    )
    return _keep(report, key=key, folder=folder, store=store)


def unseen_outcomes(
    issued: pa.Table, *, versions: Mapping[int, ModelVersion], problem: Problem, registry: Registry, store: Store
) -> pa.Table:
    """Return the forecasts whose target the version that issued them has not seen in its training."""
    number = issued["model_version"].to_numpy()
    target = issued["target_time"].to_numpy().astype("datetime64[s]").astype(np.int64)
    keep = np.ones(len(number), dtype=np.bool_)
    for version in np.unique(number):
        if int(version) in versions:
            seen = seen_by(versions[int(version)], problem=problem, registry=registry, store=store)
            keep &= ~((number == version) & seen.among(target))
    return issued.filter(pa.array(keep))


def _digest_of(issued: pa.Table) -> str:
    """Return a digest of the issued predictions: a row that was issued never changes."""
    newest = issued["issued_at"].to_numpy()
    return digest_of_json([issued.num_rows, str(newest.max()) if len(newest) else ""])


def _table_of(version: ModelVersion, *, store: Store) -> str | None:
    """Return the table that a version was trained on, or None if it is no longer in the store."""
    table, dataset = version.tags.get("table_version", ""), version.name.split("-")[0]
    return table if table and exists(store, dataset, table) else None


def _watch_series(
    champion: ModelVersion,
    *,
    problem: Problem,
    version: str,
    issued: pa.Table,
    settings: MonitorSettings,
    registry: Registry,
    store: Store,
) -> tuple[Watch, str]:
    """Return what is found of a series, and the unit of its target."""
    table = table_ref(problem.dataset, version=version, store=store, published=False)
    splits, manifest = read_splits(table, store=store)
    plot = problem.plot_data(splits, manifest["normalisation"])
    if not isinstance(plot, SeriesPlot):
        raise SettingError(f"{champion.name} forecasts a series whose problem draws {type(plot).__name__}, expected SeriesPlot")
    seen = seen_by(champion, problem=problem, registry=registry, store=store)
    versions = {each.version: each for each in registry.versions(champion.name)}
    issued = unseen_outcomes(issued, versions=versions, problem=problem, registry=registry, store=store)
    watched = WatchedSeries(
        spec=dataset_named(problem.dataset),
        stamp=plot.stamp.astype("datetime64[s]"),
        columns=_readings(splits, normalisation=manifest["normalisation"]),
        row_seconds=plot.row_seconds,
        target=str(problem.task["target"]),
        trained_until=np.datetime64(
            max((last for _, last in seen.spans), default=int(plot.stamp[-1].astype("datetime64[s]").astype(int))), "s"
        ),
        issued=issued,
        usual=_usual_errors(champion, problem=problem, registry=registry, store=store),
    )
    return watch_series(watched, settings=settings), plot.unit


def _readings(splits: Mapping[str, pa.Table], *, normalisation: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the columns of a table in their own units."""
    mean, std = normalisation["mean"], normalisation["std"]
    values = {name: np.concatenate([splits[split][name].to_numpy() for split in SPLITS]) for name in mean}
    return {
        name: np.round(normalised.astype(np.float64) * std[name] + mean[name], READING_DECIMALS).astype(np.float32)
        for name, normalised in values.items()
    }


def _usual_errors(champion: ModelVersion, *, problem: Problem, registry: Registry, store: Store) -> UsualErrors | None:
    """Return the errors of the champion, or of the twin of a refit, on the test split of its table, if that is in the store."""
    twin = evaluated_version(champion, versions=registry.versions(champion.name))
    version = _table_of(twin, store=store)
    if version is None:
        return None
    table = table_ref(problem.dataset, version=version, store=store, published=False)
    try:
        evaluation = evaluate_version(twin, table=table, registry=registry, store=store)
    except RetrainError:
        return None
    predictions = read_predictions(evaluation, table=table, store=store)
    stamp = read_table(store.table_folder(problem.dataset, version) / "test.parquet", columns=["timestamp"])[
        "timestamp"
    ].to_numpy()
    truth = predictions["truth"].astype(np.float64)
    return UsualErrors(
        target=stamp[predictions["row"]].astype("datetime64[s]"),
        error=np.abs(predictions["prediction"] - truth),
        naive_error=np.abs(predictions["naive"] - truth),
    )


def _watch_reviews(issued: pa.Table, *, dataset: str, version: str, settings: MonitorSettings, store: Store) -> Watch:
    spec = dataset_named(dataset)
    if spec.train_profile is None:
        return Watch(
            notes=("The data set tells nothing of the texts that trained: nothing to compare with.",), predictions=issued.num_rows
        )
    splits, _ = read_splits(table_ref(dataset, version=version, store=store, published=False), store=store)
    return watch_reviews(issued, profile=spec.train_profile(splits), settings=settings)


def _results(folder: UPath) -> list[UPath]:
    """Return the folders of all results, in no order."""
    return [path for path in folder.iterdir() if (path / MANIFEST).is_file()] if folder.is_dir() else []


def last_result(folder: UPath) -> dict[str, Any]:
    """Return what was found last of a model; empty if it was never watched."""
    manifests: list[dict[str, Any]] = [read_json(path / MANIFEST) for path in _results(folder)]
    return max(manifests, key=lambda manifest: str(manifest["made_at"]), default={})


def _keep(report: MonitorReport, *, key: str, folder: UPath, store: Store) -> Monitored:
    """Publish report, tables and pictures as a folder that is never changed."""
    pictures = watch_pictures(report.watch, unit=report.unit)
    markdown = report_markdown(report, pictures=pictures)
    place = folder / f"{report.watch.day or report.made_at[:10]}-{key}"
    staging = store.staging(report.model, f"monitoring-{key}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    for title, png in pictures.items():
        write_atomically(staging / _file_name(title), png)
    write_atomically(staging / "report.md", markdown.encode())
    for name in HISTORY:
        if rows := [dict(row) for row in getattr(report.watch, name)]:
            write_table(pa.Table.from_pylist(rows), staging / f"{name}.parquet")
    write_record(staging / MANIFEST, report.as_dict() | {"titles": list(pictures), CHECKSUMS: checksums_of(staging)})
    publish_folder(staging, into=place)
    return Monitored(report=report, markdown=markdown, pictures=pictures, folder=place, is_new=True)


def _file_name(title: str) -> str:
    return f"{title.replace(' ', '-')}.png"


def read_result(uri: str) -> Monitored:
    """Return a result that was kept."""
    return _read(UPath(uri))


def was_told(folder: UPath) -> bool:
    """Tell whether the events of a result were emitted."""
    return (folder / TOLD_FILE).is_file()


def mark_told(folder: UPath) -> None:
    """Record that the events of a result were emitted."""
    write_record(folder / TOLD_FILE, {"at": datetime.now(tz=UTC).isoformat(timespec="seconds")})


def _read(folder: UPath) -> Monitored:
    manifest = read_json(folder / MANIFEST)
    pictures = {title: (folder / _file_name(title)).read_bytes() for title in manifest["titles"]}
    history = {name: tuple(read_table(path).to_pylist()) for name in HISTORY if (path := folder / f"{name}.parquet").is_file()}
    report = MonitorReport.from_dict(manifest, history=history)
    return Monitored(report, (folder / "report.md").read_text(), pictures, folder, is_new=False)
