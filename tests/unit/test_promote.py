"""Promotion on a real registry with real trainings on the sample: decisions, their log, and the aliases that follow."""

from __future__ import annotations

import json
from typing import Any

import pytest
from promotion_helpers import promote_best, write_log

from storage.errors import RegistryError
from storage.references import ModelRef
from tasks.config import PromotionSettings, TrainSettings
from tasks.promotion.log import read_log
from tasks.promotion.promote import promote_by_hand
from tasks.promotion.rule import Decision
from tasks.training.fitting import fit_variant
from tasks.training.registering import register_fitted
from tasks.training.scoring import evaluate_fitted, evaluate_version, read_predictions

NAME = "jena-sample"


class Stage:
    """The trained versions, without aliases or log."""

    def __init__(self, trained: Any) -> None:
        self.trained = trained
        self.registry, self.store = trained.registry, trained.store
        self.better, self.worse = trained.better, trained.worse
        self.clear()

    def clear(self) -> None:
        self.clear_aliases()
        write_log([], registry=self.registry, store=self.store)

    def clear_aliases(self) -> None:
        for alias in self.aliases():
            self.delete_alias(alias)

    def delete_alias(self, alias: str) -> None:
        self.registry._client.delete_registered_model_alias(NAME, alias)

    def decide(self, *models: ModelRef, **settings: Any) -> Decision:
        """Without a refit, which costs a training: `test_refit.py` has them."""
        asked = PromotionSettings(**{"refit": False, **settings})
        return promote_best(models, table=self.trained.table, settings=asked, registry=self.registry, store=self.store)

    def by_hand(self, model: ModelRef) -> Decision:
        return promote_by_hand(f"{NAME}@{model.version}", registry=self.registry, store=self.store)

    def aliases(self) -> dict[str, int]:
        return {alias: version.version for version in self.registry.versions(NAME) for alias in version.aliases}

    def lines(self) -> list[Any]:
        return list(read_log(NAME, registry=self.registry, store=self.store))

    def decisions(self) -> list[Any]:
        return [line for line in self.lines() if "decision" in line]


@pytest.fixture
def stage(trained: Any, preloaded_processes: None) -> Stage:
    return Stage(trained)


def test_the_story_of_a_champion(stage: Stage) -> None:  # noqa: PLR0915  (see below)
    """One story, because every decision loads the model in a fresh process, which takes seconds."""
    better, worse = stage.better.version, stage.worse.version
    assert (better, worse) == (1, 2)

    # Never: every check is passed, and still nothing moves but the candidate.
    decision = stage.decide(stage.better, stage.worse, promote="never")
    assert (decision.outcome, decision.candidate, decision.champion) == ("kept", "v1", None)
    assert "promotion is set to never, though v1 passed every check" in decision.reason
    assert stage.aliases() == {"candidate": 1}

    # Manual: a person is told what to type.
    decision = stage.decide(stage.better, stage.worse, promote="manual")
    assert (decision.outcome, decision.candidate, decision.champion) == ("manual", "v1", None)
    assert decision.reason.endswith("to promote it: retrain promote jena-sample@1")
    assert stage.aliases() == {"candidate": 1}

    # Auto: the best by validation becomes the first champion; nothing was champion before.
    decision = stage.decide(stage.worse, stage.better)
    assert (decision.outcome, decision.candidate, decision.champion) == ("promoted", "v1", None)
    assert "first model that beats the naive baseline" in decision.reason
    assert [check.passed for check in decision.checks] == [True, True]
    assert stage.aliases() == {"candidate": 1, "champion": 1}

    # Had the run died between the log and the aliases, the next one would carry the decision out, and not make it again.
    lines = stage.lines()
    write_log(lines[:-1], registry=stage.registry, store=stage.store)
    stage.delete_alias("champion")
    assert stage.decide(stage.worse, stage.better) == decision
    assert stage.aliases() == {"candidate": 1, "champion": 1}
    assert [line["key"] for line in stage.lines()] == [line["key"] for line in lines]

    # Had it died between the aliases and the last line, the next one would close the log, so that a person's choice stands.
    write_log(lines[:-1], registry=stage.registry, store=stage.store)
    stage.decide(stage.worse, stage.better)
    assert [line["key"] for line in stage.lines()] == [line["key"] for line in lines]
    stage.registry.set_aliases(NAME, {"champion": worse})
    assert stage.decide(stage.better).outcome == "kept"
    assert stage.aliases()["champion"] == worse
    stage.registry.set_aliases(NAME, {"champion": better})

    # The same again: it is the champion itself, and there is no second decision.
    lines = stage.lines()
    decision = stage.decide(stage.worse, stage.better)
    assert (decision.outcome, decision.reason.split(":")[0]) == ("kept", "Kept champion v1")
    assert stage.lines() == lines

    # A worse candidate does not become champion, and the log says why.
    decision = stage.decide(stage.worse)
    assert decision.outcome in {"kept", "rejected"}
    assert (decision.candidate, decision.champion) == ("v2", "v1")
    assert "does not beat the naive baseline" in decision.reason or "no significant gain" in decision.reason
    assert stage.aliases() == {"candidate": 2, "champion": 1}
    assert stage.decisions()[-1]["decision"]["reason"] == decision.reason

    # Again: the same answer out of the log, without a second line.
    lines = stage.lines()
    assert stage.decide(stage.worse) == decision
    assert stage.lines() == lines

    # Each decision is a line before the aliases move and a line after, in one order; that the champion changes is a line between.
    kinds = ["run" if "by" in line else "moves" if "moves" in line else "applied" for line in lines]
    assert kinds == ["run", "applied", "run", "applied", "run", "moves", "applied", "run", "applied"]
    assert lines[5]["moves"] == {"candidate": 1, "champion": 1}
    assert lines[5]["key"] == lines[4]["key"]
    assert [line["decision"]["outcome"] for line in stage.decisions()][:3] == ["kept", "manual", "promoted"]
    lines = lines[:5] + lines[6:]
    for before, after in zip(lines[::2], lines[1::2], strict=True):
        assert after["applied"] == before["key"]
        assert before["table"] == stage.trained.table.version
        assert before["at"].endswith("+00:00")

    # A person promotes the worse one: it is champion at once, the other one is `previous`.
    decision = stage.by_hand(stage.worse)
    assert (decision.outcome, decision.champion) == ("promoted", "v1")
    assert stage.aliases() == {"candidate": 2, "champion": 2, "previous": 1}
    assert stage.decisions()[-1]["by"] == "person"

    # A run with the very candidate that the person replaced does not overthrow the person's choice.
    lines = stage.lines()
    decision = stage.decide(stage.better, stage.worse)
    assert (decision.outcome, decision.candidate, decision.champion) == ("kept", "v1", "v2")
    assert "v1 was champion from" in decision.reason
    assert stage.aliases() == {"candidate": 2, "champion": 2, "previous": 1}
    assert stage.lines() == lines
    with pytest.raises(RegistryError, match="jena-sample@2 is the champion already"):
        stage.by_hand(stage.worse)


def test_without_a_version_there_is_nothing_to_decide(stage: Stage) -> None:
    with pytest.raises(RegistryError, match="no version of jena-sample was trained"):
        stage.decide()
    assert stage.lines() == []


@pytest.mark.parametrize("reference", ["jena-sample@9", "jena-sample@nobody", "jena"])
def test_by_hand_only_what_is_there_is_promoted(stage: Stage, reference: str) -> None:
    with pytest.raises(RegistryError, match="has no"):
        promote_by_hand(reference, registry=stage.registry, store=stage.store)
    assert stage.lines() == []
    assert stage.aliases() == {}


def test_a_linear_baseline_is_no_candidate_unless_it_is_allowed_to(stage: Stage) -> None:
    """The better version stands in for a linear baseline; the worse one does not beat the naive baseline."""
    baseline = stage.better.model_copy(update={"variant": "ridge"})
    decision = stage.decide(baseline, stage.worse)
    assert (decision.outcome, decision.candidate) == ("rejected", f"v{stage.worse.version}")
    decision = stage.decide(baseline, stage.worse, allow_baselines=True)
    assert (decision.outcome, decision.candidate) == ("promoted", f"v{stage.better.version}")
    stage.clear()


def test_a_run_of_linear_baselines_alone_keeps_what_is(stage: Stage) -> None:
    baseline = stage.better.model_copy(update={"variant": "ridge"})
    decision = stage.decide(baseline)
    assert (decision.outcome, decision.candidate, decision.champion) == ("kept", "v1", None)
    assert decision.reason == (
        "Kept no champion: only a linear baseline was trained, which a person may promote: retrain promote jena-sample@1"
    )
    assert stage.lines() == []
    assert stage.aliases() == {}


@pytest.mark.slow
def test_a_champion_with_another_lookback_is_compared_on_the_examples_of_both(stage: Stage) -> None:
    """A shorter lookback has 720 more examples in each run of the test split; the paired test is on those of the longer one."""
    trained, table, store = stage.trained, stage.trained.table, stage.store
    settings = TrainSettings(epochs=1, steps_per_epoch=1, forecast={"lookback_rows": 720})
    fitted = fit_variant(table, variant="gru_baseline", settings=settings, store=store, on_progress=lambda progress: None)
    evaluation = evaluate_fitted(fitted, store=store)
    short = register_fitted(fitted, evaluation=evaluation, registry=stage.registry, store=store, flow_run_id="run-2")
    assert short.name == NAME
    own = evaluate_version(stage.registry.version(NAME, 1), table=table, registry=stage.registry, store=store)
    longer = set(read_predictions(own, table=table, store=store)["row"].tolist())
    shorter = set(read_predictions(evaluation, table=table, store=store)["row"].tolist())
    assert longer < shorter

    stage.decide(trained.better)
    assert stage.aliases()["champion"] == 1
    decision = stage.decide(short)
    assert decision.outcome in ("kept", "rejected")
    if decision.outcome == "kept":
        assert f"{len(longer)} rows" in decision.checks[-1].detail
    # The other way round: the short one is champion, and the better model is compared on its own examples.
    stage.clear()
    stage.by_hand(short)
    decision = stage.decide(trained.better)
    assert (decision.outcome, decision.champion) == ("promoted", f"v{short.version}")
    assert f"{len(longer)} rows" in decision.checks[-1].detail

    # A champion of another task, which the code had before, is followed by a model that beats the naive baseline.
    stage.clear()
    stage.by_hand(trained.better)
    version = stage.registry.version(NAME, trained.better.version)
    task = json.loads(version.tags["task"])
    stage.registry._client.set_model_version_tag(NAME, str(version.version), "task", json.dumps({**task, "horizon_rows": 72}))
    try:
        decision = stage.decide(short, margin=0.5)
        assert decision.champion == "v1"
        if decision.outcome == "promoted":
            assert "was trained for another task" in decision.reason
        else:
            assert "does not beat the naive baseline" in decision.reason
    finally:
        stage.registry._client.set_model_version_tag(NAME, str(version.version), "task", version.tags["task"])


def test_a_promotion_whose_mark_was_lost_is_marked_by_the_next_run_on_any_candidate(stage: Stage) -> None:
    """Killed after the alias moved: without the mark, the replaced champion could be promoted a second time."""
    stage.decide(stage.better)
    lines = stage.lines()
    assert "applied" in lines[-1]
    write_log(lines[:-1], registry=stage.registry, store=stage.store)
    stage.decide(stage.worse)
    assert any(line.get("applied") == lines[-1]["applied"] for line in stage.lines())
