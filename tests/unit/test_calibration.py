"""Temperature scaling: the temperature by hand, labels that stay, and the error before and after."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.calibration import Temperature, expected_calibration_error, fit_temperature


def test_the_temperature_is_the_one_with_the_lowest_cross_entropy() -> None:
    # The classifier says 0.9 of rows of which 3 in 4 are positive: the scaled probability is 3 in 4 where the logit ln 9 is
    # divided by ln 9 / ln 3 = 2. That of label 0 mirrors it.
    probability = np.array([0.9] * 8 + [0.1] * 8)
    label = np.array([1] * 6 + [0] * 2 + [0] * 6 + [1] * 2)
    temperature = fit_temperature(probability, label=label)
    assert temperature.temperature == pytest.approx(2.0, abs=1e-3)
    assert temperature.calibrated([0.9, 0.1]) == pytest.approx([0.75, 0.25], abs=1e-3)
    assert expected_calibration_error(probability, label=label) == pytest.approx(0.15)
    assert expected_calibration_error(temperature.calibrated(probability), label=label) == pytest.approx(0.0, abs=1e-3)


def test_a_classifier_that_is_always_right_gets_the_lowest_temperature() -> None:
    assert fit_temperature([0.9, 0.2], label=[1, 0]).temperature == pytest.approx(0.05, rel=1e-3)


def test_scaling_divides_the_logit() -> None:
    # 0.8 has the odds 4; a temperature of 2 makes them 2.
    assert Temperature(2.0).calibrated([0.8])[0] == pytest.approx(2 / 3)
    assert Temperature(1.0).calibrated([0.0, 0.3, 1.0]) == pytest.approx([0.0, 0.3, 1.0], abs=1e-6)
    assert Temperature(0.5).calibrated([[0.8]]).shape == (1, 1)


@given(
    probability=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20),
    temperature=st.floats(0.05, 20),
)
def test_no_label_changes_and_the_order_stays(probability: list[float], temperature: float) -> None:
    raw = np.array(probability, dtype=np.float32)
    scaled = Temperature(temperature).calibrated(raw)
    assert ((scaled > 0.5) == (raw > 0.5)).all()
    assert ((scaled >= 0) & (scaled <= 1)).all()
    assert (np.diff(scaled[np.argsort(raw, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("raw", [np.nextafter(np.float32(0.5), np.float32(1)), np.float32(0.5)], ids=["above", "half"])
def test_a_probability_next_to_one_half_keeps_its_label(raw: np.float32) -> None:
    assert (Temperature(20.0).calibrated([raw])[0] > 0.5) == (raw > 0.5)


def test_json_keeps_the_temperature() -> None:
    temperature = Temperature(math.pi)
    assert Temperature.from_json(json.loads(json.dumps(temperature.as_json()))) == temperature


def test_the_calibration_error_weighs_each_bin_by_its_rows() -> None:
    # Fifteenths: three rows in [0.2, 0.267) of which one is positive, one row in [0.933, 1] that is not.
    error = expected_calibration_error([0.2, 0.25, 0.26, 1.0], label=[0, 1, 0, 0])
    assert error == pytest.approx((3 * abs(0.71 / 3 - 1 / 3) + 1.0) / 4)
