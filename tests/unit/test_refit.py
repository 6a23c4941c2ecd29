"""Refit before use: the version that passed is trained again on all rows, and nothing of it is ever left half done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from promotion_helpers import decide, refit_version, write_log

from storage.errors import RegistryError
from storage.io import read_json
from storage.references import ModelRef, Refit
from tasks.config import PromotionSettings, TrainSettings
from tasks.models import PROBLEMS
from tasks.promotion.log import decisions_about, read_log
from tasks.promotion.promote import PendingDecision, apply_decision, promote_by_hand
from tasks.promotion.rule import Check, Decision, with_refit
from tasks.reporting.collect import run_report
from tasks.training.fitting import with_all_rows_to_train
from tasks.training.identity import training_key
from tasks.training.refit import REFIT_TAG, TWIN_TAG, evaluated_version, plan_refit
from tasks.training.seen import ids_of_test_rows, seen_by
from tasks.training.uncertainty import uncertainty_of

NAME = "jena-sample"


class CutOffError(Exception):
    """Stands for a power cut."""


# --- what is trained


def test_all_rows_are_train_rows_in_their_order() -> None:
    def split(*numbers: int) -> pa.Table:
        return pa.table({"tokens": pa.array([[number] * number for number in numbers]), "segment": pa.array(numbers)})

    splits = {"train": split(1, 2), "val": split(3), "test": split(4, 5), "words": pa.table({"rank": [7]})}
    merged = with_all_rows_to_train(splits)
    assert merged["train"]["segment"].to_pylist() == [1, 2, 3, 4, 5]
    assert merged["train"]["tokens"].to_pylist() == [[number] * number for number in (1, 2, 3, 4, 5)]
    assert {name: merged[name] for name in ("val", "test", "words")} == {name: splits[name] for name in ("val", "test", "words")}


def test_a_refit_has_a_key_of_its_own_that_follows_from_its_twin(trained: Any) -> None:
    def key(refit: Refit | None = None, **changes: Any) -> str:
        settings = trained.better_settings.model_copy(update=changes)
        return training_key(trained.table, variant="gru_baseline", settings=settings, refit=refit)

    refit = Refit(twin=1, epochs=2, steps_per_epoch=53)
    keys = [
        key(),
        key(refit),
        key(refit.model_copy(update={"epochs": 1})),
        key(refit.model_copy(update={"steps_per_epoch": 54})),
        key(refit, seed=1),
        key(refit, epochs=3),  # another budget, and so another schedule
    ]
    assert len(set(keys)) == 6
    assert key(refit.model_copy(update={"twin": 7})) == keys[1]
    # Another number of threads sums in another order; and so did the twin that a refit follows.
    assert key(refit, threads=2) not in keys
    assert key(refit.model_copy(update={"twin_key": keys[0]})) == keys[1]
    assert key(refit.model_copy(update={"twin_key": key(threads=2)})) not in [*keys, key(refit, threads=2)]


def test_the_plan_takes_the_best_epoch_and_as_many_steps_a_row(trained: Any) -> None:
    twin = trained.registry.version(NAME, trained.better.version)
    placement = TrainSettings(epochs=99, seed=99, threads=2, run_on="work_pool")
    plan = plan_refit(twin, table=trained.table, placement=placement, registry=trained.registry)
    manifest = json.loads(trained.registry.read_file(twin.run_id, "manifest.json"))
    assert trained.table.rows == {"train": 12_362, "val": 6_181, "test": 7_450}
    assert plan.refit == Refit(
        twin=twin.version,
        epochs=manifest["training"]["best_epoch"],
        steps_per_epoch=53,  # 25 * 25,993 / 12,362 = 52.57
        twin_key=twin.tags["training_key"],
    )
    assert plan.settings == trained.better_settings.model_copy(update={"threads": 2, "run_on": "work_pool"})


def test_what_this_code_would_not_train_alike_is_not_refitted(trained: Any) -> None:
    twin = trained.registry.version(NAME, trained.better.version)
    other = trained.table.model_copy(update={"version": "0123456789ab"})
    with pytest.raises(RegistryError, match=r"jena-sample@1 cannot be refitted on table 0123456789ab: .*--no-refit"):
        plan_refit(twin, table=other, placement=TrainSettings(), registry=trained.registry)


# --- what is said

LOADS = Check("loads and predicts the same", passed=True, detail="within 1e-7")
PROMOTED = Decision("promoted", "Promoted v5: MAE 2.35 °C beats champion v4 by 0.06 °C (p = 0.003)", "v5", "v4", (LOADS,))


def test_the_decision_names_the_refit() -> None:
    decision = with_refit(PROMOTED, version=6, load=LOADS)
    assert (decision.outcome, decision.candidate, decision.refit) == ("promoted", "v5", "v6")
    assert decision.reason == (
        "Promoted v5, trained again on all rows as v6: MAE 2.35 °C beats champion v4 by 0.06 °C (p = 0.003)"
    )
    assert [check.name for check in decision.checks] == [LOADS.name, f"refit v6 {LOADS.name}"]


def test_a_person_is_told_to_promote_the_refit() -> None:
    manual = Decision("manual", "v5 passed every check (...); to promote it: retrain promote jena@5", "v5", "v4", (LOADS,))
    assert with_refit(manual, version=6, load=LOADS).reason == (
        "v5 passed every check (...); to promote it: retrain promote jena@6, which is v5 trained again on all rows"
    )


def test_a_refit_that_does_not_load_is_rejected() -> None:
    broken = Check(LOADS.name, passed=False, detail="it does not load in a fresh process: KeyError")
    decision = with_refit(PROMOTED, version=6, load=broken)
    assert (decision.outcome, decision.refit) == ("rejected", None)
    assert decision.reason == (
        "Rejected v6, which is v5 trained again on all rows: it does not load in a fresh process: KeyError"
    )


# --- what happens, on a real registry


class Run:
    """A run on the two versions, of which any step can be the last one."""

    def __init__(self, trained: Any) -> None:
        self.trained, self.registry, self.store, self.table = trained, trained.registry, trained.store, trained.table
        self.clear()

    def clear(self) -> None:
        write_log([], registry=self.registry, store=self.store)
        for version in self.registry.versions(NAME):
            for alias in version.aliases:
                self.registry._client.delete_registered_model_alias(NAME, alias)
            for tag in version.tags.keys() & {REFIT_TAG}:
                self.registry._client.delete_model_version_tag(NAME, str(version.version), tag)
            if TWIN_TAG in version.tags:
                self.registry._client.delete_model_version(NAME, str(version.version))

    def decide(self, *models: ModelRef, **settings: Any) -> PendingDecision:
        models = models or (self.trained.better, self.trained.worse)
        asked = PromotionSettings(**settings)
        return decide(models, table=self.table, settings=asked, registry=self.registry, store=self.store)

    def refit(self, pending: PendingDecision, **how: Any) -> ModelRef:
        assert pending.refit
        return refit_version(pending.refit, table=self.table, registry=self.registry, store=self.store, **how)

    def apply(self, pending: PendingDecision, refitted: ModelRef | None) -> Decision:
        return apply_decision(pending, refitted=refitted, registry=self.registry, store=self.store)

    def aliases(self) -> dict[str, int]:
        return {alias: version.version for version in self.registry.versions(NAME) for alias in version.aliases}

    def lines(self) -> list[Any]:
        return list(read_log(NAME, registry=self.registry, store=self.store))


@pytest.fixture
def run(trained: Any, preloaded_processes: None) -> Iterator[Run]:
    run = Run(trained)
    yield run
    run.clear()


def cut_off(progress: Any) -> None:
    if progress.metrics:
        raise CutOffError


def test_a_run_that_dies_anywhere_is_completed_by_the_next_equal_one(  # noqa: PLR0915  (one story: every part takes seconds)
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = run.trained.better.version

    # Killed once the decision is logged: the alias has not moved, and the next run gets the same decision.
    pending = run.decide()
    assert pending.decision.outcome == "promoted"
    assert run.aliases() == {}
    assert run.decide() == pending
    assert len(run.lines()) == 1

    # Killed in the middle of the refit: the next run resumes it from its checkpoint.
    with pytest.raises(CutOffError):
        run.refit(pending, on_progress=cut_off)
    assert run.aliases() == {}
    refitted = run.refit(run.decide())
    version = run.registry.version(NAME, refitted.version)
    training = json.loads(run.registry.read_file(version.run_id, "manifest.json"))["training"]
    assert training["resumed_from"] == 1
    assert (training["fitted_rows"], training["epochs_run"]) == (25_993, pending.refit.refit.epochs)
    assert training["budget"]["steps_per_epoch"] == 53
    assert training["seconds"] > 0
    # It has seen every row, so its intervals are those of its twin.
    twin = run.registry.version(NAME, better)
    assert uncertainty_of(version, registry=run.registry) == uncertainty_of(twin, registry=run.registry) is not None

    # Killed once it is registered: the next run finds it, and trains nothing.
    assert run.aliases() == {}
    assert run.refit(run.decide(), on_progress=pytest.fail) == refitted.model_copy(update={"trained": False})

    # Killed between the link and the alias.
    with monkeypatch.context() as patch:
        patch.setattr(run.registry, "set_aliases", lambda *arguments: cut_off_now())
        with pytest.raises(CutOffError):
            run.apply(run.decide(), refitted)
    assert run.aliases() == {}
    decision = run.apply(run.decide(), run.refit(run.decide()))
    assert run.aliases() == {"candidate": better, "champion": refitted.version}
    assert (decision.outcome, decision.candidate, decision.refit) == ("promoted", "v1", f"v{refitted.version}")
    assert decision.reason.startswith(f"Promoted v1, trained again on all rows as v{refitted.version}: first model that beats")
    assert decision.checks[-1].name == f"refit v{refitted.version} loads and predicts the same"

    # Both are linked, and the refit has seen every row and has no scores.
    twin, version = run.registry.version(NAME, better), run.registry.version(NAME, refitted.version)
    assert (twin.tags[REFIT_TAG], version.tags[TWIN_TAG]) == (str(version.version), str(better))
    assert version.metrics == {}
    assert evaluated_version(version, versions=run.registry.versions(NAME)).version == better
    test_ids = ids_of_test_rows(run.table, problem=PROBLEMS["jena"], store=run.store)
    assert seen_by(version, problem=PROBLEMS["jena"], registry=run.registry, store=run.store).among(test_ids).all()
    assert not seen_by(twin, problem=PROBLEMS["jena"], registry=run.registry, store=run.store).among(test_ids).any()
    weights = [run.registry.load_model(each).get_weights() for each in (twin, version)]
    assert any(not np.array_equal(a, b) for a, b in zip(*weights, strict=True))
    models = [run.registry.load_model(each).get_layer("normalise") for each in (twin, version)]
    np.testing.assert_array_equal(models[0].mean, models[1].mean)  # the statistics stay those of the train rows

    # Killed before the mark: the next run closes the log.
    lines = run.lines()
    assert lines[-1]["applied"] == lines[0]["key"]
    write_log(lines[:-1], registry=run.registry, store=run.store)
    again = run.decide()
    assert again.decision.reason == f"Kept champion v{version.version}: still the best by validation on table {run.table.version}"
    assert (again.key, again.refit) == (None, None)
    assert [line.get("applied") for line in run.lines()] == [None, None, lines[0]["key"]]
    write_log(lines, registry=run.registry, store=run.store)

    # The decision is told once, with its refit, of the twin and of the refit.
    for each in (twin, version):
        (told,) = decisions_about(each, registry=run.registry, store=run.store)
        assert told["decision"]["refit"] == f"v{version.version}"

    # The report shows the twin's scores, and says whose they are and what the refit cost.
    report = run_report(
        run.table, models=[run.trained.better, run.trained.worse], decision=decision, registry=run.registry, store=run.store
    )
    assert f"- Refit: v{version.version} is v1 trained again on all 25,993 rows" in report.markdown
    assert report.plain["refit"]["version"] == version.version
    assert f"promoted as v{version.version}" in [row["decision"] for row in report.plain["rows"]]
    later = run_report(run.table, models=[run.trained.better], decision=again.decision, registry=run.registry, store=run.store)
    assert [row["decision"] for row in later.plain["rows"]] == [f"champion as v{version.version}"]

    # A person promotes exactly what the person names, and is told of the refit; the way back is open too.
    by_hand = promote_by_hand(f"{NAME}@{better}", registry=run.registry, store=run.store)
    assert by_hand.reason.endswith(
        f"; trained again on all rows it is v{version.version}: retrain promote {NAME}@{version.version}"
    )
    assert run.aliases()["champion"] == better
    by_hand = promote_by_hand(f"{NAME}@{version.version}", registry=run.registry, store=run.store)
    assert by_hand.reason.endswith("; it is v1 trained again on all rows")
    assert run.aliases()["champion"] == version.version

    # Another version replaces it, and a run with the very candidate does not bring it back.
    promote_by_hand(f"{NAME}@{run.trained.worse.version}", registry=run.registry, store=run.store)
    assert "v1 was champion from" in run.decide().decision.reason


def cut_off_now() -> None:
    raise CutOffError


def test_a_refitted_champion_is_compared_by_its_twin_or_not_at_all(run: Run) -> None:
    """The worse version is made champion as a refit, and the better one is the candidate."""
    worse = run.registry.version(NAME, run.trained.worse.version)
    plan = plan_refit(worse, table=run.table, placement=TrainSettings(), registry=run.registry)
    refitted = refit_version(plan, table=run.table, registry=run.registry, store=run.store)
    promote_by_hand(f"{NAME}@{refitted.version}", registry=run.registry, store=run.store)
    pending = run.decide(run.trained.better, promote="manual", refit=False)
    assert (pending.decision.outcome, pending.decision.champion) == ("manual", f"v{refitted.version}")
    detail = pending.decision.checks[-1].detail
    assert f"beats v{worse.version}, the twin of champion v{refitted.version}, by" in pending.decision.reason
    assert f"v{worse.version} is compared, of which v{refitted.version} is the refit on all rows" in detail
    (test,) = [line["test"] for line in run.lines() if "test" in line]
    assert (test["champion"], test["opponent"]) == (refitted.version, worse.version)

    # Had the twin seen the test rows too, nothing could be compared.
    manifest = json.loads(run.registry.read_file(worse.run_id, "manifest.json"))
    changed = json.loads(json.dumps(manifest))
    changed["training"]["seen"]["val"]["last_stamp"] = manifest["table"]["bounds"]["test"]["last_stamp"]
    run.registry._client.log_text(worse.run_id, json.dumps(changed), "manifest.json")
    try:
        decision = run.decide(run.trained.better, refit=False).decision
    finally:
        run.registry._client.log_text(worse.run_id, json.dumps(manifest), "manifest.json")
    assert decision.outcome == "kept"
    for number in (worse.version, refitted.version):
        assert f"v{number} has seen 5,866 of the 5,866 test rows" in decision.reason


def test_a_champion_that_a_person_made_while_the_refit_was_trained_stays(run: Run) -> None:
    pending = run.decide()
    refitted = run.refit(pending)
    promote_by_hand(f"{NAME}@{run.trained.worse.version}", registry=run.registry, store=run.store)
    aliases = run.aliases()
    decision = run.apply(pending, refitted)
    assert (decision.outcome, decision.reason) == (
        "kept",
        "Kept champion v2: it became champion after v1 was compared with none; run again",
    )
    assert run.aliases() == aliases
    assert run.decide().decision.champion == "v2"  # decided anew


def test_what_is_kept_or_rejected_or_turned_off_is_not_refitted(run: Run) -> None:
    assert run.decide(promote="never").refit is None
    assert run.decide(run.trained.worse).refit is None
    assert run.decide(refit=False).refit is None


def test_a_refit_leaves_no_checkpoint_and_no_scores(run: Run) -> None:
    plan = plan_refit(
        run.registry.version(NAME, run.trained.worse.version),
        table=run.table,
        placement=TrainSettings(),
        registry=run.registry,
    )
    key = training_key(run.table, variant=plan.variant, settings=plan.settings, refit=plan.refit)
    for suffix in (".json", ".parquet", ".npz"):  # another test may have scored an equal refit
        run.store.evaluation(run.table.version, key).with_suffix(suffix).unlink(missing_ok=True)
    refitted = refit_version(plan, table=run.table, registry=run.registry, store=run.store)
    assert run.registry.version(NAME, refitted.version).tags["training_key"] == key
    assert not run.store.checkpoint_folder(run.table.version, key).exists()
    path = run.store.evaluation(run.table.version, key)
    assert [path.with_suffix(suffix).is_file() for suffix in (".npz", ".json", ".parquet")] == [True, False, False]
    manifest = json.loads(run.registry.read_file(run.registry.version(NAME, refitted.version).run_id, "manifest.json"))
    assert (manifest["scores"], manifest["training"]["validation"]) == ({}, {})
    assert manifest["training"]["refit"]["twin"] == run.trained.worse.version
    assert read_json(run.store.manifest("jena", run.table.version))["normalisation"] == manifest["table"]["normalisation"]
