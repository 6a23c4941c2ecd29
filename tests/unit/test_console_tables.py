"""Tables on a narrow terminal: what a person types next is whole, and nothing is cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flows.cli.console import print_rows

ROW = {
    "model": "imdb-sample@6",
    "aliases": "candidate, champion",
    "variant": "gru_dropout",
    "validation": "0.8725 accuracy",
    "test": "0.8840 accuracy (of @5)",
    "table": "81231cfb000e",
    "created (UTC)": "2026-11-30 23:38",
}


@pytest.mark.parametrize("width", [60, 80, 140])
def test_nothing_is_cut(width: int) -> None:
    printed = io.StringIO()
    print_rows([ROW], console=Console(file=printed, width=width))
    text = printed.getvalue()
    assert "imdb-sample@6" in text
    assert "…" not in text
    cells = [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]
    for column, value in enumerate(ROW.values()):
        assert "".join(cell[column] for cell in cells).replace(" ", "") == value.replace(" ", "")
