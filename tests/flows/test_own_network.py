"""A network that a person trained in plain Keras is scored and registered as one of the pipeline is, for every data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flow_helpers import WarmCommand

from storage.errors import SettingError
from storage.layout import Store
from storage.registry import Registry
from tasks.ingestion.published import open_table
from tasks.models.networks.jena import FORECAST
from tasks.training.own_network import examples_of, register_network, score_network

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, warm: WarmCommand) -> Path:
    path = tmp_path_factory.mktemp("own") / "var"
    for dataset in ("jena", "imdb"):
        assert warm.ingest(dataset, home=path, data="sample")["published"]
    return path


@pytest.fixture(scope="module")
def store(home: Path) -> Store:
    return Store.at(home)


def forecast_network() -> Any:
    import keras

    layers = [keras.Input((240, 14)), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)]
    return keras.Sequential(layers, name="mine")


def review_network() -> Any:
    import keras

    tokens = keras.Input((500,), dtype="int32")
    words = keras.layers.Embedding(10_000, 4)(tokens)
    positive = keras.layers.Dense(1, activation="sigmoid")(keras.layers.GlobalAveragePooling1D()(words))
    return keras.Model(tokens, positive, name="mine")


def test_the_examples_of_a_series_are_windows_and_the_reading_a_day_after_them(store: Store) -> None:
    inputs, targets = examples_of("jena-sample", "val", store=store, every=50)
    splits, _ = open_table("jena-sample", store=store)
    rows = np.column_stack([splits["val"][name].to_numpy() for name in FORECAST.task.columns])
    assert inputs.shape[1:] == (240, 14)
    assert targets.shape == (len(inputs), 1)
    # Ten days of ten minutes, every hour of them, and the temperature 144 rows after the last.
    np.testing.assert_array_equal(inputs[0], rows[0:1440:6])
    assert targets[0, 0] == rows[1440 + 144, FORECAST.task.target_index]


def test_the_examples_of_reviews_are_tokens_and_labels(store: Store) -> None:
    inputs, targets = examples_of("imdb-sample", "val", store=store)
    assert inputs.shape[1:] == (500,)
    assert set(np.unique(targets)) == {0.0, 1.0}
    splits, _ = open_table("imdb-sample", store=store)
    last = splits["val"]["tokens"][0].as_py()[-500:]
    assert inputs[0, -len(last) :].tolist() == last
    assert not inputs[0, : -len(last)].any()


@pytest.mark.parametrize(
    ("table", "build", "loss"),
    [("jena-sample", forecast_network, "mae"), ("imdb-sample", review_network, "binary_crossentropy")],
)
def test_it_is_scored_registered_once_and_can_be_promoted(
    table: str, build: Callable[[], Any], loss: str, home: Path, warm: WarmCommand
) -> None:
    import keras

    store = Store.at(home)
    network = build()
    inputs, targets = examples_of(table, "train", store=store, every=4)
    # A network that has learnt something: near a probability of one half, rounding decides the label.
    network.compile(optimizer=keras.optimizers.Adam(0.02), loss=loss)
    history = network.fit(inputs, targets, epochs=2, verbose=0)
    scores = score_network(network, table, store=store)
    asked: dict[str, Any] = {"name": "mine", "summary": "a mean", "curves": history.history, "store": store}
    model = register_network(network, table, **asked)
    assert register_network(network, table, **asked).version == model.version == 1
    version = Registry.open(store).version(table, 1)
    assert (version.variant, version.aliases) == ("mine", ("candidate",))
    for name, score in scores.items():
        # What a version says of its calibration is measured after its probabilities were scaled.
        assert version.metrics.get(f"{name}_raw", version.metrics[name]) == pytest.approx(score, rel=1e-4, abs=1e-4)
    done = warm("promote", f"{table}@1", home=home)
    assert done.code == 0, done.err  # it loads in a fresh process and predicts the same
    shown = warm("show", table, home=home)
    assert "best 2 of 2" in shown.out
    assert "trained in plain Keras, outside of the pipeline" in shown.out


@pytest.mark.parametrize("name", ["gru_baseline", "My GRU", ""])
def test_a_name_that_cannot_be_is_refused(name: str, store: Store) -> None:
    with pytest.raises(
        SettingError, match=r"expected lower-case letters, digits and _, and none of the project's own: .*gru_baseline"
    ):
        register_network(forecast_network(), "jena-sample", name=name, summary="", curves={}, store=store)


def test_a_network_of_another_output_is_refused(store: Store) -> None:
    import keras

    network = keras.Sequential([keras.Input((240, 14)), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(2)], name="two")
    with pytest.raises(
        SettingError, match=r"variant 'two' of jena returns the shape \(None, 2\), expected one forecast a window"
    ):
        score_network(network, "jena-sample", store=store)
