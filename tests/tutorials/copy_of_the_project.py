"""A copy of the project in which a tutorial is followed: its code blocks are written, and the command and contracts run there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    *("flows", "tasks", "storage", "tests", "docs"),
    *("pyproject.toml", "prefect.yaml", "mkdocs.yml", "README.md", "requirements.lock"),
)


@dataclass(frozen=True)
class Followed:
    """What following a tutorial took.

    Attributes:
        folder: The copy.
        new_files: Lines of every file that was written, by path; an empty file is none.
        changed_lines: Lines that stand in files of the project and were changed or added.
    """

    folder: Path
    new_files: dict[str, int]
    changed_lines: int

    def run(self, *arguments: str, store: Path) -> subprocess.CompletedProcess[str]:
        """Run `retrain` of the copy on a store."""
        return self.python("-m", "flows.cli.app", *arguments, RETRAIN_HOME=str(store))

    def python(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the copy, which stands before the installed project on the path."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder), **variables}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)


def follow(tutorial: Path, *, into: Path) -> Followed:
    """Copy the project and write every python block of a tutorial.

    The first line of a block names its file. A block of a file that is there already replaces the line that begins as its
    second line does, up to the first bracket, or, where the first line says so, is put before the line that it names.
    """
    into.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, into / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, into / name)
    new_files: dict[str, int] = {}
    changed_lines = 0
    for block in re.findall(r"^```python\n(.*?)^```", tutorial.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        head, code = block.split("\n", 1)
        name, _, where = head.removeprefix("# ").partition(", ")
        path = into / name
        if not where:
            assert not path.exists(), f"{name} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code, encoding="utf-8")
            new_files[name] = len(code.splitlines())
            package = path.parent / "__init__.py"
            if not package.exists():
                package.write_text("", encoding="utf-8")
            continue
        text, lines = path.read_text(encoding="utf-8"), code.rstrip("\n").splitlines()
        if before := re.fullmatch(r"before the line `(.*)`", where):
            assert text.count(before[1]) == 1, f"{name} has {text.count(before[1])} lines {before[1]!r}"
            text = text.replace(before[1], f"{code}{before[1]}")
        else:
            (line,) = lines
            begins = line.split("(")[0]
            text, count = re.subn(rf"^{re.escape(begins)}\(.*$", line, text, flags=re.MULTILINE)
            assert count == 1, f"{name} has {count} lines that begin with {begins!r}"
        path.write_text(text, encoding="utf-8")
        changed_lines += len([line for line in lines if line.strip()])
    return Followed(into, new_files, changed_lines)
