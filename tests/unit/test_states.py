"""Names and final states by which a person tells runs apart in the list of runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flows import states
from flows.states import final_state, run_name
from storage.references import ModelRef, TableRef
from tasks.config import DataSettings
from tasks.promotion.rule import Decision, Outcome

TABLE = TableRef(dataset="load", version="0123456789ab", uri="var/tables/load", simulated=False, rows={"train": 3})
MODEL = ModelRef(name="load", version=2, variant="gru", run_id="0f", uri="models:/load/2")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What Prefect tells of the present run."""
    from datetime import UTC, datetime

    told = SimpleNamespace(
        name="clever-otter",
        parameters={"dataset": "load"},
        tags=[],
        run_count=1,
        scheduled_start_time=datetime(2026, 11, 23, 3, 5, tzinfo=UTC),
    )
    monkeypatch.setattr(states, "flow_run", told)
    monkeypatch.setattr(states, "deployment", SimpleNamespace(name=None))
    return told


@pytest.mark.parametrize("name", ["clever-otter", "well-worn-otter", "old-fashioned-guinea pig", "Awesome-Barb"])
def test_a_name_that_prefect_has_made_up_is_replaced(run: SimpleNamespace, name: str) -> None:
    run.name = name
    assert run_name() == "retrain-load 2026-11-23 03:05 by hand"


def test_a_run_by_hand_has_its_minute_and_a_scheduled_one_its_cadence(run: SimpleNamespace) -> None:
    assert run_name() == "retrain-load 2026-11-23 03:05 by hand"
    run.tags = ["weekly", "auto-scheduled"]
    assert run_name() == "retrain-load 2026-11-23 weekly"


@pytest.mark.parametrize("data", [{"data": "sample"}, DataSettings(data="sample")])
def test_a_run_on_the_sample_says_so_in_its_name(run: SimpleNamespace, data: Any) -> None:
    run.parameters = {"dataset": "load", "data": data}
    assert run_name() == "retrain-load 2026-11-23 03:05 by hand SAMPLE"


@pytest.mark.parametrize("name", ["After the storm", "retry of Monday 3", "try-2"])
def test_a_name_that_a_person_gave_stays(run: SimpleNamespace, name: str) -> None:
    run.name = name
    assert run_name() == name


def ended(outcome: Outcome, *, trained: bool = True, **table: Any) -> tuple[str | None, str | None]:
    model = MODEL.model_copy(update={"trained": trained})
    decision = Decision(outcome=outcome, reason="What was decided.", candidate="v2", champion="v1", checks=())
    state = final_state(decision, table=TABLE.model_copy(update=table), models=(model,), result={})
    assert state.type.value == "COMPLETED"
    return state.name, state.message


@pytest.mark.parametrize(
    ("outcome", "name"), [("promoted", "Promoted"), ("kept", "Kept"), ("rejected", "Kept"), ("manual", "Waiting")]
)
def test_the_state_says_what_was_decided(run: SimpleNamespace, outcome: Outcome, name: str) -> None:
    assert ended(outcome) == (name, "What was decided.")
    assert ended(outcome, simulated=True) == (name, "SAMPLE: What was decided.")
    assert ended(outcome, stale=True)[0] == "Stale"


def test_only_a_run_that_found_nothing_new_is_skipped(run: SimpleNamespace) -> None:
    assert ended("kept", trained=False, published=False)[0] == "Skipped"
    assert ended("kept", trained=False)[0] == "Kept"
    assert ended("promoted", trained=False, published=False)[0] == "Promoted"
    # It was killed after its training: its second start finds everything made.
    run.run_count = 2
    assert ended("kept", trained=False, published=False)[0] == "Kept"
