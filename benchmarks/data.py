"""The data that every opponent gets: published tables, the same windows and reviews as plain arrays, and first weights.

python -m benchmarks.data HOME FOLDER SAMPLE [MIRROR ...]

SAMPLE is 1 to take the simulation whatever mirrors are named.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage.errors import RetrainError
from storage.layout import Store
from storage.references import TableRef
from storage.tables import read_splits
from tasks.config import DataSettings
from tasks.datasets.jena.station import StationOptions
from tasks.datasets.spec import SPLITS
from tasks.ingestion import fetching, pipeline

JENA_VARIANTS = ("gru_baseline", "gru_dropout")
IMDB_VARIANTS = ("gru_baseline", "lstm", "simple_rnn")
_PROBE_EXAMPLES = 128


def published(dataset: str, *, store: Store, mirrors: Sequence[str], sample: bool) -> TableRef:
    """Publish the table of the first mirror that has the data set, else that of the simulation."""
    settings, mirror = DataSettings(data="sample"), None
    for candidate in () if sample else mirrors:
        found = _in_mirror(dataset, candidate)
        if found:
            settings, mirror = found, candidate
            break
    raw = fetching.fetch_raw(dataset, settings=settings, store=store, mirror=mirror)
    published = pipeline.find_published_table(raw, store=store)
    if published:
        return published
    parsed = pipeline.parse_raw(raw, store=store)
    validation = pipeline.validate_parsed(parsed, settings=settings, store=store)
    return pipeline.publish_parsed(parsed, validation=validation, store=store)


def _in_mirror(dataset: str, mirror: str) -> DataSettings | None:
    """Return the settings that fetch a data set from a mirror in a local folder, or None where it does not hold it."""
    sums = Path(mirror, "SHA256SUMS")
    if not sums.is_file():
        raise RetrainError(f"mirror {mirror} has no SHA256SUMS: make it in the mirror: sha256sum * > SHA256SUMS")
    names = sums.read_text(encoding="utf-8")
    if dataset == "imdb":
        return DataSettings(data="mirror") if "imdb.npz" in names else None
    if "jena_climate_2009_2016.csv.zip" in names:
        return DataSettings(data="mirror")
    span = longest_span(re.findall(r"mpi_roof_(\d{4}[ab])\.zip", names))
    if span is None:
        return None
    return DataSettings(data="mirror", source="station", options=StationOptions(from_period=span[0], to_period=span[1]))


def longest_span(half_years: Iterable[str]) -> tuple[str, str] | None:
    """Return the first and last half-year of the longest span without a gap, or None where there is none."""
    numbers = sorted({2 * int(name[:4]) + "ab".index(name[4]) for name in half_years})
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][-1] == number - 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    if not spans:
        return None
    longest = max(spans, key=len)
    first, last = (f"{number // 2}{'ab'[number % 2]}" for number in (longest[0], longest[-1]))
    return first, last


def write_arrays(table: TableRef, *, store: Store, folder: Path) -> None:
    """Write the arrays of one data set, the examples that everyone predicts, and the weights that everyone begins with."""
    splits, _ = read_splits(table, store=store)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = _jena_arrays(splits) if table.dataset == "jena" else _imdb_arrays(splits)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    for variant in JENA_VARIANTS if table.dataset == "jena" else IMDB_VARIANTS:
        np.savez(folder / f"weights-{variant}.npz", *first_weights(table.dataset, variant))


def _jena_arrays(splits: dict[str, pa.Table]) -> dict[str, np.ndarray[Any, Any]]:
    from tasks.models.networks.jena import FORECAST
    from tasks.models.windows import window_rows

    task = FORECAST.task
    table = np.concatenate([np.column_stack([splits[name][column].to_numpy() for column in task.columns]) for name in SPLITS])
    rows, first = {}, 0
    for name in SPLITS:
        rows[name] = window_rows(splits[name]["segment"].to_numpy(), task=task) + first
        first += splits[name].num_rows
    probe = rows["train"][np.linspace(0, len(rows["train"]) - 1, _PROBE_EXAMPLES, dtype=int)]
    return {
        "table": table,
        "train_rows": rows["train"],
        "val_rows": rows["val"],
        "probe_inputs": table[probe[:, None] + np.arange(-task.lookback_rows, 0, task.step_rows)],
        "probe_targets": table[probe + task.horizon_rows, task.target_index],
    }


def _imdb_arrays(splits: dict[str, pa.Table]) -> dict[str, np.ndarray[Any, Any]]:
    from tasks.models.review_network import padded_tokens

    reviews = padded_tokens(splits["train"]["tokens"])
    labels = splits["train"]["label"].to_numpy().astype(np.float32)
    return {
        "train_reviews": reviews,
        "train_labels": labels,
        "probe_inputs": reviews[:_PROBE_EXAMPLES].astype(np.int32),
        "probe_targets": labels[:_PROBE_EXAMPLES],
    }


def first_weights(dataset: str, variant: str) -> list[np.ndarray[Any, Any]]:
    """Return the weights of a plain Keras network as it is made, in the order of `get_weights`."""
    import keras

    keras.utils.set_random_seed(0)
    kinds = {"lstm": keras.layers.LSTM, "simple_rnn": keras.layers.SimpleRNN}
    recurrent = kinds.get(variant, keras.layers.GRU)(32)
    if dataset == "jena":
        network = keras.Sequential([keras.Input((240, 14)), recurrent, keras.layers.Dense(1)])
    else:
        embedding = keras.layers.Embedding(10_000, 32)
        network = keras.Sequential([keras.Input((500,)), embedding, recurrent, keras.layers.Dense(1, activation="sigmoid")])
    weights: list[np.ndarray[Any, Any]] = network.get_weights()
    return weights


def main() -> None:
    """Publish both tables, write their arrays, and print the references as JSON."""
    home, folder, sample, *mirrors = sys.argv[1:]
    store = Store.at(home)
    tables = {}
    for dataset in ("jena", "imdb"):
        table = published(dataset, store=store, mirrors=mirrors, sample=sample == "1")
        write_arrays(table, store=store, folder=Path(folder, dataset))
        tables[dataset] = table.model_dump()
    sys.stdout.write(json.dumps(tables) + "\n")


if __name__ == "__main__":
    main()
