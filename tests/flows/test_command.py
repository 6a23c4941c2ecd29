"""The command as a program: quick, documented, and clear about what it does not know."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flow_helpers import WarmCommand, python, retrain
from typer.main import get_command
from typer.testing import CliRunner

from flows.cli.app import app
from tasks.config import DataSettings, PromotionSettings, TrainSettings

HEAVY = ("tensorflow", "keras", "great_expectations", "mlflow", "prefect", "matplotlib", "pandas", "pyarrow")
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
LOADED = f"""
import sys
from flows.cli.app import main
try:
    main(sys.argv[1:])
except SystemExit as leaving:
    assert leaving.code == 0, leaving.code
sys.stderr.write(",".join(name for name in {HEAVY!r} if name in sys.modules))
"""


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help")], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = python("-c", LOADED, *arguments, home=tmp_path)
    assert done.code == 0, done.err
    assert done.err == ""


def test_the_same_check_sees_what_is_imported(tmp_path: Path) -> None:
    done = python("-c", LOADED.replace("from flows.cli.app", "import pandas\nfrom flows.cli.app"), "--help", home=tmp_path)
    assert "pandas" in done.err.split(",")


def help_of(*arguments: str) -> str:
    # Wide, so that no option is broken over two lines.
    done = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "250", "TERMINAL_WIDTH": "250"})
    assert done.exit_code == 0
    return plain(done.output)


def test_help_names_and_explains_every_command() -> None:
    text = help_of()
    assert {"run", "models", "show", "promote"} <= COMMANDS.keys()
    for name in COMMANDS:
        assert re.search(rf"│ {name} +[A-Z].*\.", text), name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_and_explains_every_option(name: str) -> None:
    lines = help_of(name).splitlines()
    for parameter in COMMANDS[name].params:
        if "--help" in parameter.opts:
            continue
        shown = parameter.opts[0] if parameter.param_type_name == "option" else (parameter.metavar or parameter.name)
        found = [line for line in lines if re.search(rf"(?<![\w-]){re.escape(shown)}(?![\w-]).*[a-z]{{2,}}.*\.", line)]
        assert found, f"{shown} of {name} is not explained"


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ("--data", DataSettings.model_fields["data"]),
        ("--patience", TrainSettings.model_fields["patience_epochs"]),
        ("--seed", TrainSettings.model_fields["seed"]),
        ("--promote", PromotionSettings.model_fields["promote"]),
    ],
)
def test_help_names_the_defaults_of_the_settings(option: str, field: Any) -> None:
    (line,) = [line for line in help_of("run").splitlines() if re.search(rf"│ +{option} ", line)]
    assert f"Default: {field.default}." in line


def test_a_store_is_not_made_by_asking_for_help(tmp_path: Path) -> None:
    assert retrain("show", "--help", home=tmp_path / "var").code == 0
    assert list((tmp_path / "var").iterdir()) == []


def test_without_arguments_the_help_is_shown(tmp_path: Path) -> None:
    done = retrain(home=tmp_path)
    assert "Usage:" in done.out + done.err
    assert done.code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "jena", "--epoch", "3"), ("No such option: --epoch", "--epochs")),
        (("run", "jena", "--data", "samples"), ("'--data'", "'samples'", "'upstream'", "'mirror'", "'sample'")),
        (("run", "jena", "--promote", "always"), ("'--promote'", "'always'", "'manual'", "'never'")),
        (("run", "jena", "--seed"), ("--seed", "requires an argument")),
        (("run", "jena", "imdb"), ("unexpected extra argument", "imdb")),
        (("trian",), ("No such command", "trian")),
        (("show",), ("Missing argument", "MODEL")),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, tuple) else "",
)
def test_what_the_command_does_not_know_is_a_clear_error(
    arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    done = retrain(*arguments, home=tmp_path, COLUMNS="200")
    assert done.code == 2
    assert done.out == ""
    assert "Traceback" not in done.err
    for word in words:
        assert word.lower() in plain(done.err).lower(), done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argument", ["--help", "jena"])
def test_the_flow_module_takes_no_arguments_and_says_so(argument: str, tmp_path: Path) -> None:
    done = python("-m", "flows.retrain", argument, home=tmp_path)
    assert done.code == 2
    assert done.err.startswith("retrain: ")
    assert done.err.count("\n") == 1
    assert "retrain run" in done.err
    assert list(tmp_path.iterdir()) == []


def test_models_of_an_empty_store(tmp_path: Path, warm: WarmCommand) -> None:
    done = warm("models", home=tmp_path / "var")
    assert (done.code, done.err) == (0, "")
    assert "No model is registered yet: run `retrain run`." in done.out
