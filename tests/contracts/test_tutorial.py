"""What the tutorial prints about its data and its networks holds here too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.layout import Store
from storage.tables import read_splits
from tasks.config import DataSettings
from tasks.datasets.jena.spec import COLUMNS
from tasks.ingestion import fetching, pipeline
from tasks.models import PROBLEMS
from tasks.models.networks.jena import FORECAST
from tasks.models.review_network import padded_tokens

MIRROR = Path(os.environ.get("RETRAIN_MIRROR") or Path(__file__).parents[3] / "shared" / "data" / "mirror")


def by_layer(network: Any) -> list[int]:
    return [layer.count_params() for layer in network.layers]


def test_an_embedding_with_a_simple_rnn(keras: Any) -> None:
    """10,000 words of 32 numbers; W and U of 32 x 32 and a bias of 32: 2 * 32² + 32 = 2,080."""
    layers = keras.layers
    last = keras.Sequential([keras.Input((None,), dtype="int32"), layers.Embedding(10_000, 32), layers.SimpleRNN(32)])
    assert by_layer(last) == [320_000, 2_080]
    assert last.count_params() == 322_080
    assert last.output_shape == (None, 32)
    every = keras.Sequential(
        [keras.Input((None,), dtype="int32"), layers.Embedding(10_000, 32), layers.SimpleRNN(32, return_sequences=True)]
    )
    assert every.count_params() == 322_080
    assert every.output_shape == (None, None, 32)


@pytest.mark.parametrize(
    ("dataset", "variant", "parameters"),
    [
        # W, U and b of every gate: 3 * (14 * 32 + 32 * 32 + 2 * 32) for a GRU with reset_after, then 32 + 1.
        ("jena", "gru_baseline", [4_608, 33]),
        ("jena", "gru_dropout", [4_608, 33]),
        # The second layer reads 32 outputs: 3 * (32 * 32 + 32 * 32 + 2 * 32).
        ("jena", "gru_stacked", [4_608, 6_336, 33]),
        ("jena", "gru_bidirectional", [2 * 4_608, 65]),
        ("imdb", "gru_baseline", [320_000, 6_336, 33]),
        ("imdb", "gru_dropout", [320_000, 6_336, 33]),
        ("imdb", "simple_rnn", [320_000, 2_080, 33]),
        # 4 * (32 * 32 + 32 * 32 + 32).
        ("imdb", "lstm", [320_000, 8_320, 33]),
        ("imdb", "gru_bidirectional", [320_000, 2 * 6_336, 65]),
    ],
)
def test_the_variants_have_the_parameters_of_their_layers(keras: Any, dataset: str, variant: str, parameters: list[int]) -> None:
    network = PROBLEMS[dataset].variants[variant].network()
    assert by_layer(network) == parameters
    assert network.input_shape == {"jena": (None, 240, 14), "imdb": (None, 500)}[dataset]
    assert network.output_shape == (None, 1)


def test_a_window_is_ten_days_of_hourly_readings_and_its_target_a_day_later() -> None:
    assert FORECAST.task.steps == 240
    assert FORECAST.task.steps * FORECAST.task.step_rows == FORECAST.task.lookback_rows == 10 * 24 * 6
    assert FORECAST.task.horizon_rows == 24 * 6
    assert len(FORECAST.task.columns) == 14
    assert COLUMNS[FORECAST.task.target_index] == "temperature_degc"


@pytest.mark.skipif(not (MIRROR / "imdb.npz").is_file(), reason="no imdb.npz here: name a mirror with RETRAIN_MIRROR")
def test_the_reviews_are_those_of_the_tutorial(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    settings = DataSettings(data="mirror")
    raw = fetching.fetch_raw("imdb", settings=settings, store=store, mirror=str(MIRROR))
    parsed = pipeline.parse_raw(raw, store=store)
    table = pipeline.publish_parsed(
        parsed, validation=pipeline.validate_parsed(parsed, settings=DataSettings(), store=store), store=store
    )
    assert table.rows["train"] + table.rows["val"] == 25_000
    assert table.rows["test"] == 25_000
    splits, _ = read_splits(table, store=store)
    padded = np.concatenate([padded_tokens(splits[name]["tokens"]) for name in ("train", "val")])
    assert padded.shape == (25_000, 500)
    assert padded.max() < 10_000


@pytest.mark.skipif(
    not (MIRROR / "jena_climate_2009_2016.csv.zip").is_file(),
    reason="no jena_climate_2009_2016.csv.zip here: name a mirror that has it with RETRAIN_MIRROR",
)
def test_the_readings_are_those_of_the_tutorial(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    raw = fetching.fetch_raw("jena", settings=DataSettings(data="mirror"), store=store, mirror=str(MIRROR))
    parsed = pipeline.parse_raw(raw, store=store)
    table = pipeline.publish_parsed(
        parsed, validation=pipeline.validate_parsed(parsed, settings=DataSettings(), store=store), store=store
    )
    splits, manifest = read_splits(table, store=store)
    assert manifest["facts"]["rows_read"] == 420_551
    assert set(COLUMNS) <= set(splits["train"].column_names)
