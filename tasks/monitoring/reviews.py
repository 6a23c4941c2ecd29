"""Watch a classifier of texts: whether the texts that it is asked, and its answers, are like those that it was trained on.

Nobody tells afterwards whether a review was positive, so distributions are all that can be watched.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.config import MonitorSettings
from tasks.datasets.spec import TextProfile
from tasks.monitoring.drift import PSI_BINS, population_stability_index, wasserstein_in_std
from tasks.monitoring.findings import DRIFT, Finding, Watch
from tasks.monitoring.seasons import DAY, Distance, Thresholds, days_watched

PROBABILITY = "probability"
# Independent texts of one kind have a PSI of 9 (1/n + 1/m) in the mean with 10 bins (Yurdakul 2018); it follows a chi-squared
# distribution with 9 degrees of freedom, whose 0.99 quantile is 2.4 times its mean.
CHANCE_FACTOR = 2.4
# Standard errors of a mean probability, at most 0.5 / sqrt(n), that its shift must exceed.
STANDARD_ERRORS = 3


def watch_reviews(issued: pa.Table, *, profile: TextProfile, settings: MonitorSettings) -> Watch:
    """Return what differs between the newest weeks of texts and those that trained.

    Args:
        issued: Schema `REVIEWS_SCHEMA`.
        profile: What the texts that trained were like.
        settings: Window and thresholds.
    """
    stamp = issued["issued_at"].to_numpy().astype("datetime64[s]")
    if not len(stamp):
        return Watch(notes=("Nothing to compare yet: no prediction was issued.",))
    newest = stamp.max().astype("datetime64[D]")
    ends = days_watched(np.array([newest + 1]), after=stamp.min(), at_most=settings.history_days) or [newest + 1]
    history: list[dict[str, Any]] = []
    for end in ends:
        compared = _compare(issued, stamp=stamp, end=end, profile=profile, settings=settings)
        day = str(end.astype("datetime64[D]") - 1)
        for column, (distance, limits) in compared.items():
            values = {"psi": distance.psi, "wasserstein_std": distance.wasserstein_std, "excess": distance.excess(limits)}
            history.append({"day": day, "column": column, **values})
    last = _compare(issued, stamp=stamp, end=ends[-1], profile=profile, settings=settings)
    findings = [
        _finding(column, distance=distance, limits=limits)
        for column, (distance, limits) in last.items()
        if distance.excess(limits) > 1
    ]
    shifted = class_shift(_window(issued, stamp=stamp, end=ends[-1], settings=settings), profile=profile, settings=settings)
    notes = (
        [] if last else [f"Nothing to compare yet: fewer than {settings.min_predictions} texts in {settings.drift_days} days."]
    )
    return Watch(
        findings=(*findings, *([shifted] if shifted else ())),
        notes=tuple(notes),
        drift=tuple(history),
        thresholds={column: asdict(limits) for column, (_, limits) in last.items()},
        predictions=issued.num_rows,
        day=str(newest),
    )


def _window(issued: pa.Table, *, stamp: npt.NDArray[np.datetime64], end: np.datetime64, settings: MonitorSettings) -> pa.Table:
    """Return the predictions of the weeks that end at a stamp."""
    return issued.filter(pa.array((stamp > end - settings.drift_days * DAY) & (stamp <= end)))


def _compare(
    issued: pa.Table,
    *,
    stamp: npt.NDArray[np.datetime64],
    end: np.datetime64,
    profile: TextProfile,
    settings: MonitorSettings,
) -> dict[str, tuple[Distance, Thresholds]]:
    """Return distance and thresholds of every column of the profile but the probability; empty for too few texts."""
    window = _window(issued, stamp=stamp, end=end, settings=settings)
    if window.num_rows < settings.min_predictions:
        return {}
    found = {}
    for column, reference in profile.values.items():
        if column == PROBABILITY:
            continue
        current = np.minimum(window[column].to_numpy().astype(np.float64), profile.largest.get(column, np.inf))
        chance = CHANCE_FACTOR * (PSI_BINS - 1) * (1 / len(current) + 1 / len(reference))
        found[column] = (
            Distance(
                psi=population_stability_index(current, reference=reference.astype(np.float64)),
                wasserstein_std=wasserstein_in_std(current, reference=reference.astype(np.float64)),
                mean=float(current.mean()),
                reference_mean=float(reference.mean()),
                years=0,
            ),
            Thresholds(psi=max(settings.min_psi, chance), wasserstein_std=settings.min_wasserstein_std, comparisons=0),
        )
    return found


def _finding(column: str, *, distance: Distance, limits: Thresholds) -> Finding:
    numbers = {
        "psi": distance.psi,
        "psi threshold": limits.psi,
        "wasserstein_std": distance.wasserstein_std,
        "wasserstein_std threshold": limits.wasserstein_std,
        "mean": distance.mean,
        "mean of the training texts": distance.reference_mean,
    }
    reason = (
        f"{column}: mean {distance.mean:.4g}, of the training texts {distance.reference_mean:.4g}; PSI {distance.psi:.2f} "
        f"(threshold {limits.psi:.2f}), Wasserstein distance {distance.wasserstein_std:.2f} standard deviations (threshold "
        f"{limits.wasserstein_std:.2f})"
    )
    return Finding("drift", column, "drift", DRIFT, reason, numbers)


def class_shift(window: pa.Table, *, profile: TextProfile, settings: MonitorSettings) -> Finding | None:
    """Return the finding that the mean probability lies too far from the share of the class among the training texts."""
    if PROBABILITY not in profile.values or window.num_rows < settings.min_predictions:
        return None
    mean, share = float(np.mean(window[PROBABILITY].to_numpy(), dtype=np.float64)), float(np.mean(profile.values[PROBABILITY]))
    threshold = max(settings.max_class_shift, STANDARD_ERRORS * 0.5 / np.sqrt(window.num_rows))
    if abs(mean - share) <= threshold:
        return None
    numbers = {"mean probability": mean, "share in training": share, "threshold": float(threshold)}
    reason = f"class share: mean probability {mean:.2f}, share among the training texts {share:.2f}, threshold {threshold:.2f}"
    return Finding("drift", "class share", "drift", DRIFT, reason, numbers)
