"""What a run leaves open is as its deployment has it; and a run of the service never falls back to the sample."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_settings import DIALOG

from flows.runtime.run_settings import merged, placed
from tasks.config import DataSettings, PromotionSettings, TrainSettings

DEPLOYED: dict[str, Any] = {
    "dataset": "load",
    "data": {"data": "upstream", "source": "station", "options": {"from_period": "2009", "to_period": "latest"}},
    "promotion": {"promote": "manual"},
}


def test_a_schedule_whose_hour_was_changed_runs_as_before() -> None:
    found = merged(DEPLOYED, {"dataset": "load", **DIALOG}, null_is_open=True)
    assert found == {**DEPLOYED, "data": {**DEPLOYED["data"], "split": {}}, "training": {"forecast": {}}}


def test_a_field_that_a_person_empties_in_the_form_of_a_run_is_empty() -> None:
    found = merged(DEPLOYED, {"data": {"data": "upstream", "source": None}}, null_is_open=False)
    assert found["data"]["source"] is None


def test_a_run_that_names_one_field_of_a_group_keeps_the_others() -> None:
    found = merged(DEPLOYED, {"promotion": {"margin": 0.01}, "data": {"options": {"from_period": "2015"}}}, null_is_open=False)
    assert found["promotion"] == {"promote": "manual", "margin": 0.01}
    assert found["data"]["options"] == {"from_period": "2015", "to_period": "latest"}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"data": "sample"}, {"data": "sample"}),
        # As the form of a run sends it, in which a person has chosen the sample and touched nothing else.
        (
            {**DEPLOYED["data"], "options": {**DEPLOYED["data"]["options"], "addresses": None}, "data": "sample"},
            {"data": "sample"},
        ),
        ({"data": "sample", "source": "file"}, {"data": "sample", "source": "file"}),
        ({"source": "file"}, {"data": "upstream", "source": "file"}),
        ({"source": "file", "options": {"path": "a.csv"}}, {"data": "upstream", "source": "file", "options": {"path": "a.csv"}}),
        ({"source": "station"}, DEPLOYED["data"]),
    ],
)
def test_options_hold_for_their_source_alone(asked: dict[str, Any], found: dict[str, Any]) -> None:
    assert merged(DEPLOYED, {"data": asked}, null_is_open=False)["data"] == found


VALUES = st.one_of(st.none(), st.integers(), st.text(max_size=3))
GROUPS = st.dictionaries(st.sampled_from("abc"), st.one_of(VALUES, st.dictionaries(st.sampled_from("xyz"), VALUES)))


@given(deployed=GROUPS, asked=GROUPS)
def test_what_was_asked_is_found_and_nothing_deployed_is_lost(deployed: dict[str, Any], asked: dict[str, Any]) -> None:
    for null_is_open in (False, True):
        found = merged(deployed, asked, null_is_open=null_is_open)
        said = {name: value for name, value in asked.items() if value is not None or not null_is_open}
        assert found.keys() == {**deployed, **said}.keys()
        assert {name: found[name] for name in said if not isinstance(said[name], dict)} == {
            name: value for name, value in said.items() if not isinstance(value, dict)
        }
        assert {name: found[name] for name in deployed.keys() - said.keys()} == {
            name: value for name, value in deployed.items() if name not in said
        }
        assert merged(deployed, {}, null_is_open=null_is_open) == deployed
    assert merged({}, asked, null_is_open=False) == asked


@pytest.mark.parametrize(
    ("data", "on_worker", "mirror", "found"),
    [
        ("auto", True, None, "upstream"),
        ("auto", True, "/mirror", "mirror"),
        ("auto", False, None, "auto"),
        ("sample", True, None, "sample"),
        ("upstream", True, "/mirror", "upstream"),
    ],
)
def test_a_run_of_the_service_never_falls_back_to_the_sample(data: Any, on_worker: bool, mirror: str | None, found: str) -> None:
    assert placed(DataSettings(data=data), on_worker=on_worker, mirror=mirror).data == found


@pytest.mark.parametrize(
    ("run_on", "on_worker", "found"),
    [(None, True, "work_pool"), (None, False, "local"), ("local", True, "local"), ("work_pool", False, "work_pool")],
)
def test_trainings_run_where_the_run_is_unless_it_says_otherwise(run_on: Any, on_worker: bool, found: str) -> None:
    assert placed(TrainSettings(run_on=run_on), on_worker=on_worker, mirror=None).run_on == found


def test_other_parameters_are_left_as_they_are() -> None:
    settings = PromotionSettings()
    assert placed(settings, on_worker=True, mirror=None) is settings
