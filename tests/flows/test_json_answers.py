"""What commands print with `--json` is what their schemas say, and every command with `--json` has a schema."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from flow_helpers import NETWORK, SAMPLE_BUDGET, Run, WarmCommand
from typer.main import get_command

from flows.cli.answers import ANSWERS, VERSION, schema_of
from flows.cli.app import app

AGAIN = ("run", "jena", "--data", "sample", "--variants", NETWORK, "--no-refit", *SAMPLE_BUDGET)


@pytest.fixture(scope="module")
def home(first_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the store of a run, in which these commands may write."""
    copy = tmp_path_factory.mktemp("answers") / "var"
    shutil.copytree(first_run.home, copy)
    return copy


def check(command: str, answer: Any) -> None:
    schema = schema_of(command)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(answer, schema, cls=jsonschema.Draft202012Validator)


def test_every_command_that_prints_json_has_a_schema() -> None:
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    with_json = {name for name, command in commands.items() if any("--json" in each.opts for each in command.params)}
    assert with_json | {"show table"} == ANSWERS.keys()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("run", AGAIN),
        ("ingest", ("ingest", "jena", "--data", "sample")),
        ("tables", ("tables",)),
        ("models", ("models",)),
        ("show", ("show", "jena-sample@1")),
        ("show table", ("show", "table", "imdb-sample")),
        ("compare", ("compare", "jena-sample@1", "jena-sample@2")),
        ("predict", ("predict", "imdb-sample@1", "A good film.")),
        ("runs", ("runs",)),
        ("verify", ("verify",)),
        ("gc", ("gc",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_is_what_its_schema_says(home: Path, warm: WarmCommand, command: str, arguments: tuple[str, ...]) -> None:
    done = warm(*arguments, "--json", home=home)
    assert done.code == 0, done.err
    assert done.json
    check(command, done.json)


def test_the_findings_of_the_doctor_are_what_their_schema_says(home: Path, warm: WarmCommand) -> None:
    done = warm("doctor", "--json", home=home)
    assert done.code in (0, 1)
    check("doctor", done.json)


def test_the_log_of_a_run_is_what_its_schema_says(home: Path, warm: WarmCommand) -> None:
    runs = warm("runs", "--json", home=home).json
    done = warm("logs", runs[0]["id"][:13], "--json", home=home)
    assert done.code == 0, done.err
    check("logs", done.json)


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_a_decision_of_a_person_is_what_its_schema_says(command: str) -> None:
    check(command, {"outcome": "promoted", "reason": "Promoted v1 by hand."})


def test_an_answer_of_another_form_is_seen() -> None:
    with pytest.raises(jsonschema.ValidationError, match="'reason' is a required property"):
        check("promote", {"outcome": "promoted"})
    with pytest.raises(jsonschema.ValidationError, match="'perhaps' is not one of"):
        check("promote", {"outcome": "perhaps", "reason": "x"})


def test_a_schema_is_printed_with_its_version(warm: WarmCommand, home: Path) -> None:
    done = warm("schema", "show", "table", home=home)
    assert json.loads(done.out)["$id"] == f"retrain/show-table/{VERSION}"
    refused = warm("schema", "nothing", home=home)
    assert refused.code == 2
    assert "unknown command 'nothing' for retrain schema: choose compare, doctor, gc" in refused.err
