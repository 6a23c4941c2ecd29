"""Shared code names no data set: what differs between them stands in their own folders, and is asked for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.datasets import NAMES

ROOT = Path(__file__).resolve().parents[2]
# The data sets of the project; the name of another one may be a word of the language.
SEARCHED = ("jena", "imdb")
OWN = tuple(
    path for name in NAMES for path in (f"tasks/datasets/{name}/", f"tasks/models/{name}.py", f"tasks/models/networks/{name}.py")
)
REGISTRY = "tasks/datasets/__init__.py"
# Layers and first weights of one network of reviews, which stand beside the networks and read that data set's numbers.
SHARED = sorted(
    path
    for folder in ("flows", "tasks", "storage")
    for path in (ROOT / folder).rglob("*.py")
    if not str(path.relative_to(ROOT)).startswith(OWN) and str(path.relative_to(ROOT)) != REGISTRY
)


def names_of_data_sets(source: str) -> Iterator[str]:
    """Yield what a module says of a data set: comments and docstrings too."""
    for number, line in enumerate(source.splitlines(), start=1):
        if any(name in line.lower() for name in SEARCHED):
            yield f"line {number}: {line.strip()}"


@pytest.mark.parametrize("path", SHARED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shared_code_names_no_data_set(path: Path) -> None:
    assert list(names_of_data_sets(path.read_text(encoding="utf-8"))) == []


def test_the_search_finds_a_name(tmp_path: Path) -> None:
    assert list(names_of_data_sets('if dataset == "imdb":')) == ['line 1: if dataset == "imdb":']
    assert len(SHARED) > 80


def test_the_registry_names_each_data_set_once() -> None:
    tree = ast.parse((ROOT / REGISTRY).read_text(encoding="utf-8"))
    named = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in NAMES]
    assert sorted(named) == sorted(NAMES)
