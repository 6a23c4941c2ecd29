"""What a person says to a version that waits: it is promoted or rejected once, whatever dies on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from promotion_helpers import NAME, Desk, write_log
from pydantic import ValidationError

from storage.errors import RegistryError
from tasks.config import ApprovalRequest, PromotionSettings, Verdict
from tasks.promotion.approval import carry_out
from tasks.promotion.promote import _decision_key
from tasks.promotion.rule import Decision

WHY = "Compared with the station by hand."


@pytest.fixture
def desk(trained: Any, preloaded_processes: None) -> Iterator[Desk]:
    desk = Desk(trained)
    yield desk
    desk.clear()


def say(desk: Desk, decision: str, *, champion: str | None = None, run: str = "run-1", version: int | None = None) -> Decision:
    request = ApprovalRequest(model=f"{NAME}@{version or desk.better}", champion=champion, grounds="It is better.")
    verdict = Verdict(decision=decision, reason=WHY, person="ben")
    return carry_out(request, verdict=verdict, run_id=run, registry=desk.registry, store=desk.store)


def test_promote_makes_it_champion_with_person_and_reason_in_the_log(desk: Desk) -> None:
    better, worse = desk.better, desk.worse
    desk.promote(worse)
    decision = say(desk, "promote", champion=f"v{worse}")
    assert (decision.outcome, decision.reason) == ("promoted", f"Promoted v{better}: by ben: {WHY}")
    assert desk.aliases() == {"candidate": better, "champion": better, "previous": worse}
    logged, applied = desk.lines()[-2:]
    assert (logged["by"], logged["person"], logged["reason"]) == ("person", "ben", WHY)
    assert applied["applied"] == logged["key"]

    # The run that is started again after a crash finds that it has done so.
    lines = desk.lines()
    assert say(desk, "promote", champion=f"v{worse}") == decision
    assert desk.lines() == lines

    # Had it died between the log and the aliases, it would finish, and decide nothing anew.
    write_log(lines[:-1], registry=desk.registry, store=desk.store)
    desk.registry.set_aliases(NAME, {"champion": worse})
    assert say(desk, "promote", champion=f"v{worse}") == decision
    assert desk.aliases() == {"candidate": better, "champion": better, "previous": worse}
    assert [line["key"] for line in desk.lines()] == [line["key"] for line in lines]

    # Another run that waited for the same version has nothing left to do.
    assert say(desk, "promote", run="run-2").reason == f"Kept champion v{better}: it was promoted while this run waited"


def test_a_rejection_is_logged_and_no_run_promotes_it(desk: Desk) -> None:
    better = desk.better
    decision = say(desk, "reject")
    assert decision.reason == f"Rejected v{better}: by ben: {WHY}"
    assert say(desk, "reject") == decision
    (line,) = desk.lines()
    assert (line["person"], line["reason"], line["refused"]) == ("ben", WHY, [better])
    assert desk.aliases() == {}
    kept = desk.run()
    assert kept.reason == (
        f"Kept no champion: v{better} was rejected by ben on {line['at'][:10]}: {WHY}; a person may promote it: "
        f"retrain promote {NAME}@{better}"
    )
    desk.promote(better)
    assert desk.aliases()["champion"] == better


def test_a_champion_that_came_while_it_waited_stays(desk: Desk) -> None:
    desk.promote(desk.worse)
    decision = say(desk, "promote")
    assert decision.reason == (
        f"Kept champion v{desk.worse}: it became champion after v{desk.better} was compared with none; a person may promote "
        f"v{desk.better}: retrain promote {NAME}@{desk.better}"
    )
    assert desk.aliases()["champion"] == desk.worse


def test_a_version_that_is_gone_is_told(desk: Desk) -> None:
    with pytest.raises(RegistryError, match="has no version 99"):
        say(desk, "promote", version=99)
    assert desk.lines() == []


def test_the_form_asks_for_a_reason_and_a_person() -> None:
    for wrong in ({"reason": "yes"}, {"person": "b"}, {"decision": "maybe"}):
        with pytest.raises(ValidationError):
            Verdict(**{"decision": "promote", "reason": WHY, "person": "ben", **wrong})


def test_how_long_a_run_waits_changes_no_decision(trained: Any) -> None:
    candidate = trained.registry.version(NAME, trained.better.version)
    keys = {
        _decision_key(candidate, champion=None, table=trained.table, settings=PromotionSettings(wait_days=days))
        for days in (1, 7)
    }
    assert len(keys) == 1
