"""Score a candidate and the champion on the same test rows, of which neither side has seen any, and decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.errors import SettingError
from storage.io import digest_of_json
from storage.layout import Store
from storage.records import ModelVersion
from storage.references import TableRef
from storage.registry import Registry
from storage.tables import exists, read_table
from tasks.config import PromotionSettings
from tasks.datasets.row_ids import RowIds
from tasks.metrics import FloatVector
from tasks.models.load_check import check_in_fresh_process
from tasks.models.spec import Problem
from tasks.promotion.rule import Champion, Check, Decision, decide
from tasks.promotion.spending import Spending, level_of_test, spend
from tasks.training.identity import problem_answered_by
from tasks.training.scoring import EvaluationRef, Predictions, evaluate_version, read_predictions, scores_on
from tasks.training.seen import Flags, SeenRows, describe_rows, ids_of_test_rows, seen_by, spans_of

DIGEST_DIGITS = 16


@dataclass(frozen=True)
class ScoredVersion:
    """A version on the test split of a table.

    Attributes:
        loss: Loss of every test example.
        row: Row of the test split of each, rising.
        unseen: Which of the examples the version has not seen.
        is_known: False where nobody can say what it has seen; `unseen` is then true throughout.
    """

    version: ModelVersion
    evaluation: EvaluationRef
    predictions: Predictions
    loss: FloatVector
    unseen: Flags
    is_known: bool

    @property
    def row(self) -> RowIds:
        """Row of the test split that each example predicts, rising."""
        rows: RowIds = self.predictions["row"]
        return rows


def evaluate_candidate(
    candidate: ModelVersion,
    *,
    champion: ModelVersion | None,
    twin: ModelVersion | None,
    entries: Sequence[Mapping[str, Any]],
    table: TableRef,
    settings: PromotionSettings,
    registry: Registry,
    store: Store,
) -> tuple[Decision, dict[str, Any] | None]:
    """Score the candidate and the champion on the test split, compare them row by row, and decide.

    Args:
        candidate: Version that may become champion.
        champion: The present champion, or None.
        twin: The evaluated version that the champion is a refit of, or None.
        entries: Lines of the log of decisions, among them those about earlier tests against this champion.
        table: Table on whose test split they are compared.
        settings: What a person set.
        registry: Registry that holds the versions.
        store: Store that holds table and evaluations.

    Returns:
        The decision, and what is logged of the paired test against the champion, or None if it was not made or could not
        promote.
    """
    problem = problem_answered_by(candidate, dataset=table.dataset)
    test_ids = ids_of_test_rows(table, problem=problem, store=store)
    ours = score_version(candidate, test_ids=test_ids, table=table, registry=registry, store=store)
    judged, unseen = _rows_to_judge(ours, problem=problem)
    predictions, scoring = ours.predictions, problem.scoring
    scores = ours.evaluation.scores
    if not judged.all():
        scores = scores_on(judged, predictions=predictions, scores=scores, problem=problem)
    naive_loss = scoring.naive_row_losses(predictions["naive"], truth=predictions["truth"])
    rival, record = None, None
    if champion and not answers_same_question(champion, problem=problem):
        rival = Champion(champion.version, test=None)
    elif champion:
        rival, record = _test_against(
            champion,
            twin=twin,
            ours=ours,
            test_ids=test_ids,
            entries=entries,
            table=table,
            settings=settings,
            registry=registry,
            store=store,
        )
    decision = decide(
        scoring.primary,
        model_name=candidate.name,
        candidate_version=candidate.version,
        candidate_scores=scores,
        load=load_check(candidate, registry=registry),
        naive_test=scoring.paired_test(reference_loss=naive_loss[judged], candidate_loss=ours.loss[judged], seed=0),
        champion=rival,
        settings=settings,
        unseen=unseen,
    )
    was_tested = champion is not None and any(check.name == f"beats champion v{champion.version}" for check in decision.checks)
    return decision, record if was_tested and settings.promote != "never" else None


def load_check(version: ModelVersion, *, registry: Registry) -> Check:
    """Check that the stored version loads in a fresh process and predicts what it predicted in training."""
    examples = registry.read_file(version.run_id, "examples.npz")
    passed, detail = check_in_fresh_process(registry.model_folder(version), examples=examples)
    return Check(name="loads and predicts the same", passed=passed, detail=detail)


def answers_same_question(champion: ModelVersion, *, problem: Problem) -> bool:
    """Tell whether a champion was trained for the task of a problem. The task may have changed in the code since then."""
    try:
        return problem_answered_by(champion, dataset=problem.dataset).model_suffix == problem.model_suffix
    except SettingError:
        return False


def score_version(version: ModelVersion, *, test_ids: RowIds, table: TableRef, registry: Registry, store: Store) -> ScoredVersion:
    """Return a version on the test split of a table, with the loss of every example and which of them it has not seen."""
    problem = problem_answered_by(version, dataset=table.dataset)
    seen = seen_by(version, problem=problem, registry=registry, store=store)
    evaluation = evaluate_version(version, table=table, registry=registry, store=store)
    predictions = read_predictions(evaluation, table=table, store=store)
    return ScoredVersion(
        version=version,
        evaluation=evaluation,
        predictions=predictions,
        loss=problem.scoring.row_losses(predictions["prediction"], truth=predictions["truth"]),
        unseen=~seen.among(test_ids[predictions["row"]]),
        is_known=seen.is_known,
    )


def _rows_to_judge(ours: ScoredVersion, *, problem: Problem) -> tuple[Flags, Check | None]:
    """Return the examples on which the candidate is judged, and the check that they are enough if it has seen others."""
    if ours.unseen.all():
        return ours.unseen, None
    unseen, rows = int(ours.unseen.sum()), len(ours.unseen)
    needed = problem.scoring.min_rows(rows)
    name = f"v{ours.version.version}"
    detail = f"{name} has seen {rows - unseen:,} of the {rows:,} test rows; {unseen:,} are left, and a fair test needs {needed:,}"
    check = Check(name="enough unseen test rows", passed=unseen >= needed, detail=detail)
    return (ours.unseen if check.passed else np.ones(rows, dtype=np.bool_)), check


def _test_against(
    champion: ModelVersion,
    *,
    twin: ModelVersion | None,
    ours: ScoredVersion,
    test_ids: RowIds,
    entries: Sequence[Mapping[str, Any]],
    table: TableRef,
    settings: PromotionSettings,
    registry: Registry,
    store: Store,
) -> tuple[Champion, dict[str, Any] | None]:
    """Return the champion with its paired test on the rows that neither side has seen, and what is logged of the test.

    A refitted champion is represented by its twin, because the candidate was fitted on train rows alone too: a champion that
    knows newer rows would win for its rows and not for its network. Where the twin cannot be tested, the champion itself is.
    """
    problem = problem_answered_by(ours.version, dataset=table.dataset)
    too_few: list[str] = []
    for opponent in filter(None, (twin, champion)):
        theirs = score_version(opponent, test_ids=test_ids, table=table, registry=registry, store=store)
        # A champion with another lookback has other examples of the same test split: the test takes those that both have.
        rows, our_places, their_places = np.intersect1d(ours.row, theirs.row, assume_unique=True, return_indices=True)
        fair = ours.unseen[our_places] & theirs.unseen[their_places]
        needed = problem.scoring.min_rows(len(rows))
        if fair.all() or fair.sum() >= needed:
            break
        too_few += [text for text in _seen_texts(theirs, ours) if text not in too_few]
    else:
        command = f"retrain promote {ours.version.name}@{ours.version.version}"
        why = f"{' and '.join(too_few)}, a fair test needs {needed:,} that neither side has seen; a person may decide: {command}"
        return Champion(champion.version, test=None, cannot_be_tested=why), None
    ids = test_ids[rows[fair]]
    spending = _spending(
        entries, between=(ours.version, champion), ids=ids, table=table, problem=problem, alpha=settings.alpha, store=store
    )
    test = problem.scoring.paired_test(
        reference_loss=theirs.loss[their_places[fair]],
        candidate_loss=ours.loss[our_places[fair]],
        seed=0,
        level=spending.level,
    )
    record = {
        "champion": champion.version,
        "opponent": opponent.version,
        "rows": _described(ids, table=table, problem=problem),
        "number": spending.number,
        "fresh_share": spending.fresh_share,
        "level": spending.level,
        "alpha": settings.alpha,
        "p_value": test.p_value,
    }
    rival = Champion(
        champion.version,
        test=test,
        level=spending.level,
        number=spending.number,
        fresh_share=spending.fresh_share,
        twin=None if opponent is champion else opponent.version,
        remark=_remark(ours, theirs, champion=champion, left_out=int((~fair).sum()), rows=len(fair)),
    )
    return rival, record


def _remark(ours: ScoredVersion, theirs: ScoredVersion, *, champion: ModelVersion, left_out: int, rows: int) -> str:
    """Return what a person must know of the versions and rows of a test."""
    name, parts = f"v{theirs.version.version}", []
    if theirs.version.version != champion.version:
        parts.append(f"{name} is compared, of which v{champion.version} is the refit on all rows")
    if left_out:
        seers = " or ".join(f"v{side.version.version}" for side in (ours, theirs) if not side.unseen.all())
        parts.append(f"{left_out:,} of {rows:,} test rows are left out, because {seers} has seen them")
    if not theirs.is_known:
        parts.append(
            f"which rows {name} has seen is not recorded, and its table is no longer in the store: if it has seen test rows, its "
            "errors are too small here"
        )
    return "; ".join(parts)


def _seen_texts(*sides: ScoredVersion) -> list[str]:
    """Return how many of its test rows each version has seen that has seen any."""
    return [
        f"v{side.version.version} has seen {int((~side.unseen).sum()):,} of the {len(side.unseen):,} test rows"
        for side in sides
        if not side.unseen.all()
    ]


def _described(ids: RowIds, *, table: TableRef, problem: Problem) -> dict[str, Any]:
    """Return JSON-ready values by which the rows of a test are known again."""
    described = describe_rows(ids, problem=problem)
    return described if problem.is_series else described | {"table": table.version, "digest": _digest(ids)}


def _digest(ids: RowIds) -> str:
    return digest_of_json(np.sort(ids).tolist(), length=DIGEST_DIGITS)


def _spending(
    entries: Sequence[Mapping[str, Any]],
    *,
    between: tuple[ModelVersion, ModelVersion],
    ids: RowIds,
    table: TableRef,
    problem: Problem,
    alpha: float,
    store: Store,
) -> Spending:
    """Return what a test of a candidate against a champion spends after the logged ones; an equal test spends nothing more."""
    candidate, champion = between
    rows = _described(ids, table=table, problem=problem)
    earlier = [entry for entry in entries if "test" in entry and entry["test"]["champion"] == champion.version]
    for entry in earlier:
        if entry["candidate"] == candidate.version and entry["test"]["rows"] == rows:
            number, fresh_share = entry["test"]["number"], entry["test"]["fresh_share"]
            return Spending(number, fresh_share, level_of_test(alpha, number=number, fresh_share=fresh_share))
    used = [_used_rows(entry["test"]["rows"], ids=ids, table=table, problem=problem, store=store) for entry in earlier]
    return spend(alpha, used=used)


def _used_rows(rows: Mapping[str, Any], *, ids: RowIds, table: TableRef, problem: Problem, store: Store) -> Flags:
    """Return which of some rows a logged test used; all of them where its table is no longer in the store."""
    if problem.is_series:
        return SeenRows(spans=spans_of({"test": rows})).among(ids)
    if rows["table"] == table.version or rows["digest"] == _digest(ids) or not exists(store, problem.dataset, rows["table"]):
        return np.ones(len(ids), dtype=np.bool_)
    test = read_table(store.table_folder(problem.dataset, rows["table"]) / "test.parquet")
    return SeenRows(ids=np.unique(problem.row_ids(test))).among(ids)
