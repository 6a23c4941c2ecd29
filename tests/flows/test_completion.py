"""Completion as a shell asks for it: commands, options and choices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RETRAIN = Path(sys.executable).with_name("retrain")
"""The command as it is installed: what a shell completes is told by its name."""
PATH = f"{RETRAIN.parent}:{os.environ['PATH']}"


def completed(typed: str, *, of: str) -> list[str]:
    """What the shell is offered after what a person has typed."""
    asked = {"_RETRAIN_COMPLETE": f"complete_{of}", "PATH": PATH}
    if of == "bash":
        asked |= {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - (0 if typed.endswith(" ") else 1))}
    else:
        asked |= {"_TYPER_COMPLETE_ARGS": typed}
    done = subprocess.run([RETRAIN], env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.stdout.split()


def test_commands_options_and_choices_are_completed() -> None:
    assert completed("retrain ver", of="bash") == ["verify"]
    assert {"run", "models", "status", "demo"} <= set(completed("retrain ", of="bash"))
    assert completed("retrain run --learn", of="bash") == ["--learning-rate"]
    assert completed("retrain run --data ", of="bash") == ["auto", "upstream", "mirror", "sample"]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_what_is_installed_completes_in_the_shell_itself(tmp_path: Path, shell: str) -> None:
    """The script that `--install-completion` writes is loaded by the shell, which then completes."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here (apt install {shell}); where changes are checked it is")
    script = subprocess.run(
        [RETRAIN, "--show-completion", shell],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    file = tmp_path / "completion"
    file.write_text(script)
    if shell == "bash":
        ask = f'source {file}; COMP_WORDS=(retrain verif); COMP_CWORD=1; _retrain_completion retrain; echo "${{COMPREPLY[@]}}"'
        command = ["bash", "--norc", "-c", ask]
    else:
        # compinit, because the script registers itself by compdef; -f: no file of the person's own.
        ask = f"autoload -Uz compinit; compinit -u -d {tmp_path}/dump; source {file}; print $_comps[retrain]"
        command = ["zsh", "-f", "-c", ask]
    done = subprocess.run(command, env={**os.environ, "PATH": PATH}, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == ("verify" if shell == "bash" else "_retrain_completion"), done.stdout + done.stderr
