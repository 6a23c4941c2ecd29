"""Distances between samples: values derived by hand, and what holds of every sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.metrics import ScoreError
from tasks.monitoring.drift import population_stability_index, wasserstein_in_std

SAMPLES = st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=1, max_size=50).map(np.array)


def test_psi_by_hand() -> None:
    # Two bins, whose edge is the median 2.5. The reference has 2 values in each, the current sample 1 and 3; with half a count
    # more in each bin: shares 0.5 and 0.5 against 1.5 / 5 = 0.3 and 3.5 / 5 = 0.7.
    expected = (0.3 - 0.5) * math.log(0.3 / 0.5) + (0.7 - 0.5) * math.log(0.7 / 0.5)
    found = population_stability_index(np.array([1.0, 3.0, 3.0, 9.0]), reference=np.array([1.0, 2.0, 3.0, 4.0]), bins=2)
    assert found == pytest.approx(expected)
    assert expected == pytest.approx(0.1695, abs=1e-4)


@pytest.mark.parametrize("value", [1.0, 9.0])
def test_a_constant_reference_has_a_bin_of_its_own(value: float) -> None:
    # All deciles are 5: the bins are below 5, 5 itself and above 5, which hold 0, 4 and 0 of the reference.
    reference = np.full(4, 5.0)
    assert population_stability_index(reference, reference=reference) == 0
    expected = 2 * (4.5 - 0.5) / 5.5 * math.log(4.5 / 0.5)
    assert population_stability_index(np.full(4, value), reference=reference) == pytest.approx(expected)


def test_wasserstein_distance_by_hand() -> None:
    # Sorted, 0 goes to 1 and 2 to 5: (1 + 3) / 2 = 2. The reference 1, 5 has the mean 3 and the standard deviation 2.
    assert wasserstein_in_std(np.array([2.0, 0.0]), reference=np.array([5.0, 1.0])) == pytest.approx(1.0)
    assert wasserstein_in_std(np.array([3.0]), reference=np.array([3.0, 3.0])) == 0
    assert wasserstein_in_std(np.array([4.0]), reference=np.array([3.0, 3.0])) == np.inf


@given(SAMPLES, SAMPLES)
def test_both_distances_are_not_negative_and_vanish_for_equal_samples(one: np.ndarray, other: np.ndarray) -> None:
    for distance in (population_stability_index, wasserstein_in_std):
        assert distance(one, reference=other) >= 0
        assert distance(one, reference=one) == pytest.approx(0, abs=1e-12)


@given(SAMPLES.filter(lambda values: np.std(values) > 1e-3), st.floats(-100, 100))
def test_a_shift_costs_its_size(reference: np.ndarray, shift: float) -> None:
    assert wasserstein_in_std(reference + shift, reference=reference) * np.std(reference) == pytest.approx(abs(shift), abs=1e-6)


@given(SAMPLES, SAMPLES, st.integers(0, 2**32 - 1))
def test_the_order_of_a_sample_does_not_count(one: np.ndarray, other: np.ndarray, seed: int) -> None:
    mixed = np.random.default_rng(seed).permutation(one)
    for distance in (population_stability_index, wasserstein_in_std):
        assert distance(mixed, reference=other) == pytest.approx(distance(one, reference=other))


@pytest.mark.parametrize("distance", [population_stability_index, wasserstein_in_std])
def test_an_empty_sample_is_refused(distance: object) -> None:
    assert callable(distance)
    with pytest.raises(ScoreError, match="current has no value"):
        distance(np.array([]), reference=np.array([1.0]))
    with pytest.raises(ScoreError, match="reference has no value"):
        distance(np.array([1.0]), reference=np.array([]))
