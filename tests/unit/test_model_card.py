"""The model card says what a version was trained on, how it scored and how sure that is, and fits the registry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.models import PROBLEMS
from tasks.training.model_card import MAX_CHARACTERS, ScoreInterval, model_card, score_interval

FORECAST, CLASSES = PROBLEMS["jena"].scoring, PROBLEMS["imdb"].scoring
TABLE: dict[str, Any] = {
    "dataset": "jena",
    "title": "Jena weather, ten-minute readings",
    "licence": "Max Planck Institute; CC BY 4.0",
    "version": "0123456789ab",
    "source": "station",
    "simulated": False,
    "bounds": {
        "train": {"rows": 12_362, "first_stamp": "2009-04-15T00:10:00", "last_stamp": "2009-07-09T21:30:00"},
        "test": {"rows": 7_450, "first_stamp": "2009-08-21T19:50:00", "last_stamp": "2009-10-12T13:20:00"},
    },
    "repairs": [
        {"name": "missing_values", "count": 2, "share": 0.0001},
        {"name": "repeated_rows", "count": 0, "share": 0.0},
        {"name": "wind_sentinels", "count": 1_040, "share": 0.05},
    ],
    "acceptance": None,
}
TRAINING: dict[str, Any] = {"settings": {"seed": 3}, "parameters": 5_953, "best_epoch": 4, "epochs_run": 5}
SCORES = {"mae_degc": 2.04, "naive_mae_degc": 3.24, "skill": 0.372, "rmse_degc": 2.7, "bias_degc": 0.1}


def card(**changes: Any) -> str:
    values: dict[str, Any] = {
        "variant": "gru_baseline",
        "summary": "a GRU of 32 units",
        "table": TABLE,
        "training": TRAINING,
        "scores": SCORES,
        "interval": ScoreInterval(1.9, 2.2, "moving-block bootstrap, blocks of 745 rows, 2000 resamples"),
        "scoring": FORECAST,
        "twin": None,
    }
    return model_card(**{**values, **changes})


def test_a_card_has_data_span_licence_repairs_scores_use_and_limits() -> None:
    text = card()
    assert text.startswith("## gru_baseline: Jena weather, ten-minute readings\n\nA GRU of 32 units.\n")
    for part in (
        "Source `station`, table `0123456789ab`: train 12,362 rows from 2009-04-15T00:10 to 2009-07-09T21:30; test 7,450 rows",
        "**Licence and origin.** Max Planck Institute; CC BY 4.0.",
        "**Repairs.** wind_sentinels 1,040 (5 %), missing_values 2 (0.01 %); the rules are in the manifest.",
        "| MAE | 2.04 °C (95 % interval 1.90 °C to 2.20 °C) | 3.24 °C |",
        "| skill over the naive baseline | +37.2 % | 0 % |",
        "Interval: moving-block bootstrap, blocks of 745 rows, 2000 resamples.",
        "5,953 parameters, epoch 4 of 5, seed 3. Trained on the train rows alone",
        "**Intended use.** Forecasts at the station",
        "- It knows one roof in Jena",
    ):
        assert part in text, part
    assert "SIMULAT" not in text.upper()


def test_a_refit_shows_the_scores_of_its_twin_and_says_that_nobody_measured_it() -> None:
    text = card(twin=5)
    assert "| score on the test split | its twin v5 | naive baseline: " in text
    assert "A refit: v5 trained again on the rows of every split" in text
    assert "- Nobody has measured this version on rows that it has not seen" in text


def test_a_simulation_and_accepted_data_are_told_at_once() -> None:
    accepted = {"by": "A. Engineer", "reason": "The mast was down.", "failures": {}}
    text = card(table=TABLE | {"simulated": True, "acceptance": accepted})
    assert text.index("**Trained on a simulation.**") < text.index("**Data.**")
    assert "accepted by A. Engineer: The mast was down." in text


def test_a_card_that_is_too_long_for_the_registry_is_cut_and_says_so() -> None:
    text = card(summary="long " * 2_000)
    assert len(text) == MAX_CHARACTERS
    assert text.endswith("(Shortened: the whole is in manifest.json of the run.)")


def test_a_linear_baseline_has_no_epochs() -> None:
    text = card(training=TRAINING | {"best_epoch": 0, "epochs_run": 0})
    assert "**Training.** 5,953 parameters, solved in closed form. Trained on the train rows alone." in text
    assert "One seed" not in text
    assert "- One seed: another one gives somewhat other scores." in card()


def test_without_repairs_or_scores_the_card_says_so() -> None:
    text = card(table=TABLE | {"repairs": []}, scores={}, interval=None)
    assert "**Repairs.** None was needed." in text
    assert "**Scores.** None is recorded." in text


def test_the_interval_of_an_accuracy_is_the_wald_interval_of_a_share() -> None:
    """80 of 100 are right: 0.8 ± 1.959964 √(0.8 · 0.2 / 100) = 0.8 ± 0.0784."""
    interval = score_interval(np.repeat([1.0, 0.0], [20, 80]), scoring=CLASSES)
    assert (interval.low, interval.high) == pytest.approx((0.7216, 0.8784), abs=1e-4)
    assert interval.method == "Wald interval of a share"


def test_the_interval_of_an_error_widens_where_errors_depend_on_each_other() -> None:
    """The same values in runs of 144 rows: a block holds one run or parts of two, so the mean of the split is less sure."""
    values = np.random.default_rng(0).exponential(2.0, 200)
    alone = score_interval(np.random.default_rng(1).permutation(np.repeat(values, 144)), scoring=FORECAST)
    runs = score_interval(np.repeat(values, 144), scoring=FORECAST)
    for interval in (alone, runs):
        assert interval.low < values.mean() < interval.high
        assert interval.method.startswith("moving-block bootstrap, blocks of 1008 rows")
    assert runs.high - runs.low > 3 * (alone.high - alone.low)


def test_every_registered_version_has_its_card(trained: Any) -> None:
    for model in (trained.better, trained.worse):
        stored = trained.registry._client.get_model_version(model.name, str(model.version))
        score = trained.registry.version(model.name, model.version).metrics["mae_degc"]
        assert f"| MAE | {score:.2f} °C (95 % interval " in stored.description
        assert "**Trained on a simulation.**" in stored.description
        assert len(stored.description) < MAX_CHARACTERS
