"""Predict with a registered version: read and check the input, predict in chunks, and keep what was issued."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import SettingError
from storage.layout import Store
from storage.records import ModelVersion
from storage.registry import Registry
from storage.tables import newest_version
from tasks.calibration import Temperature
from tasks.config import PredictSettings
from tasks.datasets import dataset_named
from tasks.intervals import LEVELS, Bounds, ConformalIntervals
from tasks.models.device import prepare_device
from tasks.models.predictor import TextPredictor, WindowPredictor
from tasks.models.serialization import register_layers
from tasks.prediction.issued import REVIEWS_SCHEMA, SERIES_SCHEMA, append_issued
from tasks.prediction.readings import Readings, digest_of, readings_of_file, readings_of_table
from tasks.prediction.uncertainty import bounds_of, calibrated, issued_before
from tasks.prediction.windows import rows_asked, stamp_of
from tasks.reporting.figures.predictions import MAX_POINTS
from tasks.training.identity import problem_answered_by
from tasks.training.uncertainty import uncertainty_of

# Windows between two notes of progress.
CHUNK_WINDOWS = 4096
# A review of which more is unknown is told: it may be of another language.
MAX_UNKNOWN_SHARE = 0.5
SAMPLE_REMARK = "SAMPLE: simulated, not real data"
# Of the readings in the picture of a single forecast.
DAYS_SHOWN = 4
OnProgress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Predictions:
    """What was predicted.

    Attributes:
        version: Version that predicted.
        table: Every prediction, of `SERIES_SCHEMA` or `REVIEWS_SCHEMA`, in the order of the input.
        kept: Number of them that were not in the store before.
        seconds: Time that predicting took, without loading the model and reading a series.
        remarks: What a person should know of the input.
        recent: Readings before the newest forecast, for its picture; None: texts were classified.
        quantity: What is forecast, with its unit in parentheses; empty for texts.
        decimals: Digits that mean something.
    """

    version: ModelVersion
    table: pa.Table
    kept: int
    seconds: float
    remarks: tuple[str, ...] = ()
    recent: tuple[npt.NDArray[np.datetime64], npt.NDArray[np.float32]] | None = None
    quantity: str = ""
    decimals: int = 3


def predict(
    reference: str,
    *,
    settings: PredictSettings,
    registry: Registry,
    store: Store,
    on_progress: OnProgress | None = None,
) -> Predictions:
    """Predict with the version that `model`, `model@3` or `model@alias` names, and keep what was not issued before.

    Args:
        reference: Names the version; a model without more is its champion.
        settings: What is predicted.
        registry: Registry that holds the version.
        store: Store with the tables and the issued predictions.
        on_progress: Called with the number of examples done and that of all, or None where it is not known.

    Raises:
        RegistryError: There is no such version.
        SettingError: The settings ask for what the model cannot predict.
        DataError: The input cannot be read or has no whole window.
        RejectedError: The input does not meet the expectations of the data that trains.
    """
    version = registry.resolve(reference)
    manifest = registry.read_json(version.run_id, "manifest.json")
    dataset, simulated = manifest["table"]["dataset"], manifest["table"]["simulated"]
    problem = problem_answered_by(version, dataset=dataset)
    if problem.predictor is None:
        raise SettingError(f"{version.name} has no predictor: expected a forecast of a series, or a classifier of texts")
    _refuse_wrong_input(settings, is_series=problem.is_series, dataset=dataset)
    prepare_device(1, require_gpu=False)
    register_layers()
    predictor = problem.predictor(registry.load_model(version))
    issue = _Issue(version, np.datetime64(datetime.now(tz=UTC).replace(tzinfo=None), "s"), registry, on_progress or _quiet)
    if isinstance(predictor, WindowPredictor):
        readings = _readings(dataset, predictor=predictor, simulated=simulated, settings=settings, store=store)
        predictions = _forecast(predictor, readings=readings, settings=settings, issue=issue, store=store)
    else:
        predictions = _classify(predictor, texts=_texts(dataset, settings=settings), issue=issue)
    kept = append_issued(predictions.table, model_name=version.name, store=store)
    remarks = (SAMPLE_REMARK, *predictions.remarks) if simulated else predictions.remarks
    return replace(predictions, kept=kept.num_rows, remarks=remarks)


@dataclass(frozen=True)
class _Issue:
    """What all predictions of a run share."""

    version: ModelVersion
    at: np.datetime64
    registry: Registry
    on_progress: OnProgress

    def columns(self, digests: list[str]) -> Mapping[str, Any]:
        """Return the columns that say which model issued what when."""
        rows = len(digests)
        return {
            "model": [self.version.name] * rows,
            "model_version": [self.version.version] * rows,
            "input_digest": digests,
            "issued_at": np.full(rows, self.at),
        }


def _quiet(done: int, total: int | None) -> None:
    del done, total


def _refuse_wrong_input(settings: PredictSettings, *, is_series: bool, dataset: str) -> None:
    """Refuse texts for a series, and stamps for texts."""
    if is_series and settings.texts:
        raise SettingError(f"{dataset} is forecast from readings, and texts were given: leave them out, or name another model")
    stamped = [name for name in ("at", "first", "last", "every_rows") if getattr(settings, name) is not None]
    if not is_series and stamped:
        raise SettingError(f"{stamped[0]} is {getattr(settings, stamped[0])!r}, but texts have no stamps: leave it out")
    if not is_series and not settings.texts and settings.input.path is None:
        raise SettingError(f"{dataset} classifies texts, and none was given: give texts, a file, or - for standard input")


def _readings(dataset: str, *, predictor: WindowPredictor, simulated: bool, settings: PredictSettings, store: Store) -> Readings:
    until, columns = stamp_of(settings.at or settings.last), predictor.task.columns
    if settings.input.path is not None:
        return readings_of_file(dataset, settings.input, columns=columns, until=until)
    table = newest_version(store, dataset, simulated=simulated)
    return readings_of_table(dataset, table, columns=columns, until=until, store=store)


def _forecast(
    predictor: WindowPredictor, *, readings: Readings, settings: PredictSettings, issue: _Issue, store: Store
) -> Predictions:
    """Forecast as of every stamp that is asked for, with intervals where the version has any."""
    task, started_s = predictor.task, time.monotonic()
    rows = rows_asked(readings.stamp, task=task, row_seconds=predictor.row_seconds, settings=settings)
    parts = []
    for start in range(0, len(rows), CHUNK_WINDOWS):
        parts.append(predictor.predict_rows(readings.values, rows[start : start + CHUNK_WINDOWS]))
        issue.on_progress(min(start + CHUNK_WINDOWS, len(rows)), len(rows))
    prediction = np.concatenate(parts)
    as_of = readings.stamp[rows - 1]
    target_time = as_of + np.timedelta64((task.horizon_rows + 1) * predictor.row_seconds, "s")
    first = int(rows[0]) - task.lookback_rows
    digest = digest_of(readings.values[first : int(rows[-1])])
    columns = {
        **issue.columns([digest] * len(rows)),
        "origin": [readings.origin] * len(rows),
        "as_of": as_of,
        "target_time": target_time,
        "prediction": prediction,
        "persistence": readings.values[rows - 1, task.target_index],
    }
    intervals = uncertainty_of(issue.version, registry=issue.registry)
    bounds: Bounds | None = None
    if isinstance(intervals, ConformalIntervals):
        bounds = bounds_of(
            intervals,
            prediction,
            as_of=as_of,
            target_time=target_time,
            earlier=issued_before(issue.version, intervals=intervals, store=store, first=as_of[0]),
            readings=readings,
            target=task.target_index,
        )
    for level in LEVELS:
        lower, upper = bounds[level] if bounds else (None, None)
        columns |= {f"lower_{level}": lower, f"upper_{level}": upper}
    remarks = () if bounds else (f"{issue.version.name}@{issue.version.version} has no intervals: train it again to have them",)
    table = pa.table({name: _column(columns[name], rows=len(rows), type_=type_) for name, type_ in _types(SERIES_SCHEMA)})
    # The picture shows what was measured before the newest forecast, and beside the older ones.
    first_shown = min(as_of[-MAX_POINTS:][0], readings.stamp[-1] - np.timedelta64(DAYS_SHOWN, "D"))
    shown = readings.stamp >= first_shown
    return Predictions(
        version=issue.version,
        table=table.cast(SERIES_SCHEMA),
        kept=0,
        seconds=time.monotonic() - started_s,
        remarks=remarks,
        recent=(readings.stamp[shown], readings.values[shown, task.target_index]),
        quantity=f"{predictor.quantity} ({predictor.unit})",
        decimals=predictor.decimals,
    )


def _types(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    return [(field.name, field.type) for field in schema]


def _column(values: Any, *, rows: int, type_: pa.DataType) -> pa.Array:
    return pa.nulls(rows, type_) if values is None else pa.array(values).cast(type_)


def _texts(dataset: str, *, settings: PredictSettings) -> Iterable[tuple[str, ...]]:
    """Return the texts in parts."""
    spec = dataset_named(dataset)
    if spec.read_texts is None or spec.check_texts is None:
        raise SettingError(f"{dataset} has no texts to classify: name another model")
    if settings.texts:
        return [spec.check_texts(settings.texts)]
    options = settings.input.model_dump(exclude_none=True, exclude={"path"})
    return spec.read_texts(str(settings.input.path), options)


def _classify(predictor: TextPredictor, *, texts: Iterable[tuple[str, ...]], issue: _Issue) -> Predictions:
    """Classify texts part by part: no more than a part of them is in memory at once."""
    uncertainty = uncertainty_of(issue.version, registry=issue.registry)
    temperature = uncertainty if isinstance(uncertainty, Temperature) else None
    parts, done, seconds = [], 0, 0.0
    for part in texts:
        started_s = time.monotonic()
        predicted = predictor.predict_texts(part)
        seconds += time.monotonic() - started_s
        probability = calibrated(temperature, predicted.probability)
        columns = {
            **issue.columns([digest_of(np.frombuffer(text.encode(errors="replace"), dtype=np.uint8)) for text in part]),
            "label": np.where(predicted.probability > 0.5, "positive", "negative"),
            "probability": probability,
            "raw_probability": predicted.probability,
            "tokens": predicted.tokens,
            "unknown_share": predicted.unknown_share,
        }
        parts.append(
            pa.table({name: _column(columns[name], rows=len(part), type_=type_) for name, type_ in _types(REVIEWS_SCHEMA)})
        )
        done += len(part)
        issue.on_progress(done, None)
    table = pa.concat_tables(parts).cast(REVIEWS_SCHEMA)
    strange = int((table["unknown_share"].to_numpy() > MAX_UNKNOWN_SHARE).sum())
    remarks = []
    if strange:
        remarks.append(
            f"of {strange:,} of the {table.num_rows:,} texts more than half of the words are unknown: they may be of another "
            "language, and their labels say little"
        )
    return Predictions(version=issue.version, table=table, kept=0, seconds=seconds, remarks=tuple(remarks))
