"""Rollback on a real registry: the champion before comes back, and nothing promotes again what was rolled back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from promotion_helpers import NAME, REASON, Desk, decide, write_log
from pydantic import ValidationError

from storage.errors import RegistryError
from tasks.config import PromotionSettings, RollbackSettings
from tasks.promotion.log import champion_before, decisions_about
from tasks.promotion.promote import apply_decision
from tasks.promotion.rollback import refusals_of
from tasks.training.refit import REFIT_TAG, TWIN_TAG


@pytest.fixture
def desk(trained: Any, preloaded_processes: None) -> Iterator[Desk]:
    desk = Desk(trained)
    yield desk
    desk.clear()


def test_what_was_rolled_back_stays_out_of_use_until_a_person_promotes_it(desk: Desk) -> None:
    better, worse = desk.better, desk.worse
    desk.promote(worse)
    desk.promote(better)
    assert desk.aliases() == {"candidate": better, "champion": better, "previous": worse}

    decision = desk.roll_back()
    assert decision.reason == f"Rolled back champion v{better} to v{worse}: by anna: {REASON}"
    assert (decision.outcome, decision.candidate, decision.champion) == ("rolled back", f"v{worse}", f"v{better}")
    assert desk.aliases() == {"candidate": better, "champion": worse}
    logged, applied = desk.lines()[-2:]
    assert (logged["person"], logged["reason"], logged["refused"]) == ("anna", REASON, [better])
    assert applied["applied"] == logged["key"]

    # A second rollback in a row does not bring back what the first one took away.
    lines = desk.lines()
    with pytest.raises(
        RegistryError, match=rf"jena-sample has no version to roll back to: .* the champion before v{worse}; choose"
    ):
        desk.roll_back()
    assert (desk.lines(), desk.aliases()["champion"]) == (lines, worse)

    # An equal training finds the same version again, and the run says why it is not promoted, whatever it was set to.
    said = f"v{better} was rolled back by anna on {logged['at'][:10]}: {REASON}"
    for mode in ("auto", "manual"):
        kept = desk.run(promote=mode)
        assert kept.outcome == "kept"
        assert kept.reason == f"Kept champion v{worse}: {said}; a person may promote it: retrain promote jena-sample@{better}"
    assert (desk.lines(), desk.aliases()["champion"]) == (lines, worse)
    versions = desk.registry.versions(NAME)
    assert refusals_of(versions, registry=desk.registry, store=desk.store) == {
        f"{NAME}@{better}": f"{said}; a person may promote it: retrain promote jena-sample@{better}"
    }
    # Other tests may have registered further versions, of which the log tells nothing.
    for version in (version for version in versions if version.version in (better, worse)):
        assert decisions_about(version, registry=desk.registry, store=desk.store)[-1]["decision"]["reason"] == decision.reason

    # A person may, and then it is a champion like any other.
    desk.promote(better)
    assert desk.aliases() == {"candidate": better, "champion": better, "previous": worse}
    assert refusals_of(versions, registry=desk.registry, store=desk.store) == {}
    assert desk.run().reason == f"Kept champion v{better}: still the best by validation on table {desk.trained.table.version}"


def test_the_twin_of_a_refit_goes_with_it(desk: Desk) -> None:
    """The worse version stands for the refit of the better one; both are linked as a refit links them."""
    better, worse = desk.better, desk.worse
    desk.registry.set_version_tags(desk.registry.version(NAME, better), {REFIT_TAG: str(worse)})
    desk.registry.set_version_tags(desk.registry.version(NAME, worse), {TWIN_TAG: str(better)})
    older = {"champion": worse, "previous": better}
    desk.registry.set_aliases(NAME, older)
    # Rolled back from the refit to its own twin: only the refit is refused.
    assert desk.roll_back().candidate == f"v{better}"
    assert desk.lines()[-2]["refused"] == [worse]

    # Had another version been champion before, both would be.
    line = dict(desk.lines()[-2]) | {"refused": sorted([better, worse])}
    mark = {"at": line["at"], "key": line["key"], "candidate": better, "applied": line["key"]}
    write_log([line, mark], registry=desk.registry, store=desk.store)
    desk.registry.delete_alias(NAME, "champion")
    decision = desk.run()
    assert decision.reason.startswith(f"Kept no champion: v{better}, in use as v{worse}, was rolled back by anna on ")
    assert decision.reason.endswith(f"a person may promote it: retrain promote jena-sample@{worse}")


@pytest.mark.parametrize("steps_done", [0, 1, 2], ids=["logged", "champion moved", "previous removed"])
def test_a_rollback_that_dies_anywhere_is_completed_by_whatever_comes_next(desk: Desk, steps_done: int) -> None:
    better, worse = desk.better, desk.worse
    desk.promote(worse)
    desk.promote(better)
    desk.roll_back()
    lines, aliases = desk.lines(), desk.aliases()
    # Back to where a kill would have left it.
    write_log(lines[:-1], registry=desk.registry, store=desk.store)
    if steps_done < 2:
        desk.registry.set_aliases(NAME, {"previous": worse})
    if steps_done < 1:
        desk.registry.set_aliases(NAME, {"champion": better})
    kept = desk.run()
    assert kept.reason.startswith(f"Kept champion v{worse}: v{better} was rolled back by anna")
    assert desk.aliases() == aliases
    assert [line["key"] for line in desk.lines()] == [line["key"] for line in lines]
    assert desk.lines()[-1]["applied"] == lines[-1]["applied"]


def test_a_run_that_was_about_to_promote_what_is_rolled_back_keeps_the_champion(desk: Desk) -> None:
    """Decided before a person promoted and rolled back the very candidate, applied after."""
    better, worse = desk.better, desk.worse
    desk.promote(worse)
    settings = PromotionSettings(refit=False, margin=0.001)
    models = (desk.trained.better, desk.trained.worse)
    pending = decide(models, table=desk.trained.table, settings=settings, registry=desk.registry, store=desk.store)
    assert pending.decision.outcome == "promoted"
    desk.promote(better)
    desk.roll_back()
    decision = apply_decision(pending, refitted=None, registry=desk.registry, store=desk.store)
    assert decision.reason.startswith(f"Kept champion v{worse}: v{better} was rolled back by anna")
    assert desk.aliases()["champion"] == worse


def test_nothing_is_written_where_nothing_can_be_rolled_back(desk: Desk) -> None:
    with pytest.raises(RegistryError, match="model 'nothing' has no versions"):
        desk.roll_back("nothing")
    with pytest.raises(RegistryError, match="model 'jena-sample' has no alias 'champion'"):
        desk.roll_back()
    with pytest.raises(RegistryError, match="'jena-sample@2' names a version, expected a model such as 'jena-sample'"):
        desk.roll_back("jena-sample@2")
    desk.registry.set_aliases(NAME, {"champion": desk.better})
    with pytest.raises(RegistryError, match="no version to roll back to"):
        desk.roll_back()
    assert (desk.lines(), desk.aliases()) == ([], {"champion": desk.better})


def test_a_previous_version_that_does_not_load_is_refused(desk: Desk) -> None:
    aliases = {"champion": desk.better, "previous": desk.worse}
    desk.registry.set_aliases(NAME, aliases)
    folder = desk.registry.model_folder(desk.registry.version(NAME, desk.worse))
    (model,) = folder.rglob("*.keras")
    away = model.rename(model.with_suffix(".away"))
    try:
        with pytest.raises(RegistryError, match=f"jena-sample@{desk.worse} cannot become champion again: "):
            desk.roll_back()
    finally:
        away.rename(model)
    assert (desk.lines(), desk.aliases()) == ([], aliases)


@pytest.mark.parametrize("wrong", [{"reason": "bad"}, {"person": ""}, {"model": ""}, {"alias": "champion"}])
def test_the_form_refuses_what_says_too_little(wrong: Mapping[str, str]) -> None:
    with pytest.raises(ValidationError):
        RollbackSettings(**{"model": NAME, "reason": REASON, "person": "anna", **wrong})


# --- which version is `previous` after a rollback


def promoted(*pairs: tuple[int, int | None]) -> list[dict[str, Any]]:
    """The log of promotions of versions, each with the champion before it."""
    lines = []
    for place, (version, before) in enumerate(pairs):
        key = f"key {place}"
        decision = {"outcome": "promoted", "candidate": f"v{version}", "champion": before and f"v{before}", "refit": None}
        lines += [{"key": key, "candidate": version, "decision": decision}, {"key": key, "applied": key, "candidate": version}]
    return lines


def test_previous_goes_back_one_champion_further() -> None:
    lines = promoted((1, None), (4, 1), (7, 4))
    assert champion_before(7, lines=lines, usable={1, 4, 7}) == 4
    assert champion_before(7, lines=lines, usable={1, 7}) == 1
    assert champion_before(4, lines=lines, usable={1, 4}) == 1
    assert champion_before(1, lines=lines, usable={1, 4, 7}) is None
    assert champion_before(9, lines=lines, usable={1, 4, 7}) is None
    # A promotion that was logged and did not happen is no history.
    assert champion_before(7, lines=lines[:-1], usable={1, 4, 7}) is None


def test_a_refit_was_champion_in_the_place_of_its_twin() -> None:
    lines = promoted((1, None), (4, 1))
    lines.append({**lines.pop(), "decision": lines[-1]["decision"] | {"refit": "v5"}})
    assert champion_before(5, lines=lines, usable={1, 4, 5}) == 1
    assert champion_before(4, lines=lines, usable={1, 4, 5}) is None


@given(st.lists(st.integers(1, 5), max_size=12), st.sets(st.integers(1, 5)), st.integers(1, 5))
def test_the_way_back_ends_and_never_comes_back_to_where_it_began(order: list[int], usable: set[int], version: int) -> None:
    pairs = [(after, before) for before, after in zip([None, *order], order, strict=False)]
    before = champion_before(version, lines=promoted(*pairs), usable=usable)
    assert before is None or (before in usable and before != version)
