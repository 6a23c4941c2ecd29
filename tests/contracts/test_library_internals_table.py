"""The table of library internals is whole: what it names exists, and every private name of a library is in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs/explanation/library-internals.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TABLE.splitlines() if line.startswith("| `")]
CODE = sorted(path for folder in ("flows", "tasks", "storage") for path in (ROOT / folder).rglob("*.py"))


def file_and_names(row: list[str]) -> tuple[str, list[str]]:
    file, *names = re.findall(r"`([^`]+)`", row[0])
    return file, names


def test_the_table_is_read() -> None:
    assert len(ROWS) >= 15
    assert {len(row) for row in ROWS} == {5}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_a_row_names_exists(row: list[str]) -> None:
    file, names = file_and_names(row)
    text = (ROOT / file).read_text(encoding="utf-8")
    assert names
    assert [name for name in names if name not in text] == []
    tests = re.findall(r"`([^`]+)::(\w+)`", row[-1])
    assert tests
    for path, function in tests:
        assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8")


# `os._exit` is documented: the underscore tells of what it leaves undone.
DOCUMENTED = {"_exit"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in {"_", *DOCUMENTED}


def own_names(tree: ast.Module) -> set[str]:
    """The private names that a file defines itself: functions, classes, variables, fields and attributes of `self`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            names.add(node.attr)
    return names


def private_names_of_others(tree: ast.Module) -> Iterator[str]:
    """Yield the private names that a file reads of libraries, and the private methods that it overrides there.

    A method that the file itself never names is one that a library calls.
    """
    own = own_names(tree)
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
            yield node.attr
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            parts = [part for name in (module, *(alias.name for alias in node.names)) for part in name.split(".")]
            yield from (part for part in parts if is_private(part))
        elif isinstance(node, ast.ClassDef) and node.bases:
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            yield from (
                each.name for each in methods if is_private(each.name) and each.name not in named and not each.decorator_list
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[A-Z]+__[A-Z_]+", node.value):
            yield node.value  # a private environment variable, such as PREFECT__SERVER_FINAL


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_private_name_of_a_library_is_in_the_table(path: Path) -> None:
    listed = {name for row in ROWS if file_and_names(row)[0] == str(path.relative_to(ROOT)) for name in file_and_names(row)[1]}
    assert set(private_names_of_others(ast.parse(path.read_text(encoding="utf-8")))) - listed == set()


def test_the_scan_finds_what_it_is_for() -> None:
    source = """
import os
from prefect._internal import concurrency

class Own(Base):
    def __init__(self):
        self._mine = 1

    def _hook(self):
        return self._mine + self._theirs

client._session
os.environ["PREFECT__SERVER_FINAL"] = "1"
"""
    found = set(private_names_of_others(ast.parse(source)))
    assert found == {"_internal", "_hook", "_theirs", "_session", "PREFECT__SERVER_FINAL"}
