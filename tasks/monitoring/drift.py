"""How far one sample of a quantity lies from another: the population stability index and the Wasserstein distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance

from tasks.metrics import ScoreError

Values = npt.NDArray[np.floating[Any]]

PSI_BINS = 10
# Added to the count of every bin, so that an empty one has a logarithm.
PSI_COUNT = 0.5


def population_stability_index(current: Values, *, reference: Values, bins: int = PSI_BINS) -> float:
    """Return the PSI of a sample: the sum over bins of (c - r) ln(c / r), c and r being the shares of current and reference.

    The inner edges of the bins are quantiles of the reference; a value that equals an edge lies above it. A value that is several
    quantiles at once, such as a calm, has a bin of its own. Half a count is added to every bin. Below 0.1 a sample is by custom
    taken as unchanged, above 0.25 as another one (Siddiqi 2006).

    Args:
        current: Finite values, at least one.
        reference: Finite values, at least one.
        bins: Number of bins where no two quantiles are equal.

    Raises:
        ScoreError: A sample is empty.
    """
    _refuse_empty(current, reference)
    quantiles, times = np.unique(np.quantile(reference, np.arange(1, bins) / bins), return_counts=True)
    edges = np.union1d(quantiles, np.nextafter(quantiles[times > 1], np.inf))
    counts = [
        np.bincount(np.searchsorted(edges, sample, side="right"), minlength=len(edges) + 1) for sample in (current, reference)
    ]
    c, r = ((count + PSI_COUNT) / (count.sum() + PSI_COUNT * len(count)) for count in counts)
    return float(np.sum((c - r) * np.log(c / r)))


def wasserstein_in_std(current: Values, *, reference: Values) -> float:
    """Return the Wasserstein distance of order 1 between two samples, in standard deviations of the reference.

    It is the mean distance that the values of one sample have to be moved to become the other; a shift by d costs |d|. Infinite
    for two different samples of which the reference does not vary.

    Raises:
        ScoreError: A sample is empty.
    """
    _refuse_empty(current, reference)
    distance, std = float(wasserstein_distance(current, reference)), float(np.std(reference))
    if std > 0:
        return distance / std
    return np.inf if distance > 0 else 0.0


def _refuse_empty(current: Values, reference: Values) -> None:
    for name, sample in (("current", current), ("reference", reference)):
        if not len(sample):
            raise ScoreError(f"{name} has no value, expected at least one: compare samples that hold something")
