"""Two versions of a model side by side: scores on one test split, a paired test, and what differed when they were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.errors import RegistryError
from storage.layout import Store
from storage.records import ModelVersion
from storage.references import TableRef
from storage.registry import Registry
from tasks.promotion.comparison import ScoredVersion, score_version
from tasks.scoring import Scoring
from tasks.statistics import PairedTest
from tasks.training.identity import problem_answered_by
from tasks.training.refit import evaluated_version
from tasks.training.seen import ids_of_test_rows

# What a version was made from, by part of its manifest: the part as people call it, and the places in the manifest.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "data": ("table.version", "table.source", "table.origin", "table.request", "table.transform_version", "table.bounds"),
    "network": ("variant", "summary", "training.task", "training.batch_size", "training.learning_rate"),
    "settings": ("training.settings", "training.budget"),
    "code": ("code", "lock", "libraries"),
}


@dataclass(frozen=True)
class Difference:
    """A thing that was different when two versions were made.

    Attributes:
        part: `data`, `network`, `settings` or `code`.
        name: Its place in the manifests, such as `training.settings.seed`.
        first: Value of the first version; None where its manifest does not tell.
        second: Value of the second version.
    """

    part: str
    name: str
    first: Any
    second: Any


@dataclass(frozen=True)
class SideBySide:
    """Two versions on the same rows.

    Attributes:
        first: Version whose scores stand for the first one: of a refit its twin.
        second: The same for the second one.
        table: Version of the table whose test split is used.
        rows: Test rows that both forecast.
        fair_rows: Those that neither has seen.
        first_scores: Scores on the whole test split.
        second_scores: The same of the second one.
        test: Paired test of the second against the first on the fair rows; None if they are too few for one.
        differences: What was different when they were made, in the order of their manifests.
    """

    first: ModelVersion
    second: ModelVersion
    table: str
    rows: int
    fair_rows: int
    first_scores: Mapping[str, float]
    second_scores: Mapping[str, float]
    test: PairedTest | None
    differences: tuple[Difference, ...]

    @property
    def p_value(self) -> float | None:
        """Of the two-sided hypothesis that neither is better; the test itself asks in one direction."""
        if self.test is None:
            return None
        return min(1.0, 2 * min(self.test.p_value, 1 - self.test.p_value))


def side_by_side(first: ModelVersion, second: ModelVersion, *, table: TableRef, registry: Registry, store: Store) -> SideBySide:
    """Score two versions on the test split of a table, test them row by row, and list what was different when they were made.

    Nothing is decided and nothing is logged: tests that look at many pairs find a difference in some by chance.

    Args:
        first: A version.
        second: Another version of the same model.
        table: Table on whose test split they are scored.
        registry: Registry that holds the versions.
        store: Store that holds the table and keeps the evaluations.

    Raises:
        RegistryError: They are versions of two models, which answer two questions.
    """
    if first.name != second.name:
        raise RegistryError(
            f"{first.name}@{first.version} and {second.name}@{second.version} answer two questions: "
            "compare versions of one model, such as those that `retrain models` lists under one name"
        )
    versions = registry.versions(first.name)
    twins = [evaluated_version(version, versions=versions) for version in (first, second)]
    problem = problem_answered_by(twins[1], dataset=table.dataset)
    test_ids = ids_of_test_rows(table, problem=problem, store=store)
    ours, theirs = (score_version(twin, test_ids=test_ids, table=table, registry=registry, store=store) for twin in twins)
    rows, test, fair_rows = _tested(ours, theirs, scoring=problem.scoring)
    manifests = [registry.read_json(version.run_id, "manifest.json") for version in (first, second)]
    return SideBySide(
        first=twins[0],
        second=twins[1],
        table=table.version,
        rows=rows,
        fair_rows=fair_rows,
        first_scores=ours.evaluation.scores,
        second_scores=theirs.evaluation.scores,
        test=test,
        differences=tuple(differences_of(*manifests)),
    )


def _tested(first: ScoredVersion, second: ScoredVersion, *, scoring: Scoring) -> tuple[int, PairedTest | None, int]:
    """Return how many rows both forecast, the paired test on those that neither has seen, and their number."""
    rows, places, other_places = np.intersect1d(first.row, second.row, assume_unique=True, return_indices=True)
    fair = first.unseen[places] & second.unseen[other_places]
    if not fair.any() or (not fair.all() and fair.sum() < scoring.min_rows(len(rows))):
        return len(rows), None, int(fair.sum())
    test = scoring.paired_test(reference_loss=first.loss[places[fair]], candidate_loss=second.loss[other_places[fair]], seed=0)
    return len(rows), test, int(fair.sum())


def differences_of(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield what two manifests tell differently of data, network, settings and code."""
    for part, places in _PARTS.items():
        ours, theirs = (dict(_values(manifest, places=places)) for manifest in (first, second))
        for name in dict.fromkeys([*ours, *theirs]):
            if ours.get(name) != theirs.get(name):
                yield Difference(part, name, ours.get(name), theirs.get(name))


def _values(manifest: Mapping[str, Any], *, places: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for place in places:
        value: Any = manifest
        for name in place.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        yield from _flat(place, value)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings, each under its path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value
