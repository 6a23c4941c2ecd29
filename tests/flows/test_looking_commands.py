"""The commands that only look: runs, logs, tables, compare, and what `show table` prints."""

from __future__ import annotations

import re

import pytest
from flow_helpers import NETWORK, Run, WarmCommand

from flows.cli.app import app
from flows.cli.console import begin_text, make_console, print_closing
from flows.cli.examples import COMMANDS as EXAMPLES


def test_the_runs_of_a_store_are_listed_the_newest_first(first_run: Run, warm: WarmCommand) -> None:
    """The store of the warm command's server has runs of every test; those of this store come from a server of their own."""
    done = warm("runs", "--json", home=first_run.home)
    assert done.code == 0, done.err
    assert all(run["id"] and run["started"] for run in done.json)
    assert [run["started"] for run in done.json] == sorted((run["started"] for run in done.json), reverse=True)


def test_tables_are_listed_and_shown(first_run: Run, warm: WarmCommand) -> None:
    listed = warm("tables", "--json", home=first_run.home)
    assert listed.code == 0, listed.err
    tables = {table["dataset"]: table for table in listed.json}
    assert tables.keys() == {"jena", "imdb"}
    printed = warm("tables", "jena", home=first_run.home)
    assert f"jena@{tables['jena']['version']}" in printed.out
    assert "SAMPLE, simulated" in printed.out
    shown = warm("show", "table", f"jena@{tables['jena']['version'][:6]}", home=first_run.home)
    assert shown.code == 0, shown.err
    assert re.search(r"models +jena-sample@1, jena-sample@2", shown.out)
    assert re.search(r"expectations +\d+ passed, 0 failed", shown.out)
    as_json = warm("show", "table", "imdb-sample", "--json", home=first_run.home).json
    assert as_json["manifest"]["version"] == tables["imdb"]["version"]


def test_two_versions_are_compared(first_run: Run, warm: WarmCommand) -> None:
    numbers = {entry["variant"]: entry["version"] for entry in first_run.models if entry["name"] == "jena-sample"}
    pair = [f"jena-sample@{numbers[name]}" for name in ("ridge", NETWORK)]
    done = warm("compare", *pair, "--json", home=first_run.home)
    assert done.code == 0, done.err
    assert (done.json["first"], done.json["second"]) == tuple(pair)
    assert 0 <= done.json["p_value"] <= 1
    assert {"part": "network", "name": "variant", "first": "ridge", "second": NETWORK} in done.json["differences"]
    printed = warm("compare", *pair, home=first_run.home)
    assert re.search(r"is (better than|ahead of, but not clearly better than,) jena-sample@\d+ by [\d.]+ °C a row", printed.out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compare", "jena-sample@1", "imdb-sample@1"), "jena-sample@1 and imdb-sample@1 answer two questions"),
        (("show", "table", "jena@zzzz"), "'zzzz' is no version of a table of jena: published are"),
        (("show", "jena-sample@1", "jena-sample@2"), "expected one model, or `table` and one table"),
        (("tables", "weather"), "unknown data set 'weather'"),
        (("logs", "nothing of this name"), "'nothing of this name' is no run, expected a name or an id: see `retrain runs`"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_is_not_there_is_one_line(first_run: Run, warm: WarmCommand, arguments: tuple[str, ...], said: str) -> None:
    done = warm(*arguments, home=first_run.home)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_run_says_what_it_is_about_to_do_and_ends_with_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    plan = [{"dataset": "jena", "variants": ("gru_baseline",)}, {"dataset": "imdb", "variants": ("lstm", "simple_rnn")}]
    assert begin_text(plan).startswith("Fetches, validates and trains jena (gru_baseline), imdb (lstm, simple_rnn). ")

    def result(model: str, outcome: str, **decision: str | None) -> dict[str, object]:
        values = {"outcome": outcome, "candidate": "v1", "champion": None, "refit": None, **decision}
        return {"model": model, "decision": values, "links": {"report": "http://127.0.0.1:5001/jena/0f/report.html"}}

    results = [
        result("jena", "promoted", refit="v4"),
        result("imdb", "kept", champion="v7"),
        result("load", "manual", refit="v2"),
        result("wind", "rejected"),
    ]
    print_closing(results, seconds=75.4, console=make_console())
    lines = capsys.readouterr().out.splitlines()
    champions = " ".join(lines[:2])
    assert champions.startswith("jena@4 is champion now; imdb@7 is champion still; load@2 waits for a person: retrain promote ")
    assert "wind has no champion yet. Took 0:01:15." in champions
    assert lines[-2] == "Look at:   http://127.0.0.1:5001/jena/0f/report.html"
    assert lines[-1].startswith("Type next: retrain show jena, ")


def test_every_command_has_a_place_in_the_help_and_an_example() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert names | {group.name for group in app.registered_groups} == {name for name in EXAMPLES if " " not in name}
    for name, shown in EXAMPLES.items():
        assert shown.example.startswith(f"retrain {name}"), name
