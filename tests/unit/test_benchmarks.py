"""The pure parts of the benchmarks: what is done with times once they are measured. Nothing is timed here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import __main__ as main
from benchmarks import measuring
from benchmarks.data import longest_span
from benchmarks.measuring import Goal, Part, Table
from benchmarks.settings import QUICK, Sizes
from benchmarks.workers import ROOT, Worker, WorkerError, finish_all


def test_the_spread_is_the_median_with_both_ends() -> None:
    spread = measuring.spread_of([3.0, 1.0, 2.0], scale=10)
    assert (spread.median, spread.least, spread.greatest, spread.count) == (20, 10, 30, 3)
    assert spread.text(digits=0) == "20 (10-30)"
    assert measuring.spread_of([1.5]).text() == "1.50"


def test_a_spread_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no measurement"):
        measuring.spread_of([])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(power: float) -> None:
    sizes = [1.0, 3.0, 10.0]
    assert measuring.exponent_of(sizes, [7 * size**power for size in sizes]) == pytest.approx(power, abs=1e-12)


def test_the_exponent_is_the_least_squares_line_of_the_logarithms() -> None:
    # log2: x = 0, 1, 2; y = 0, 2, 1. Slope: sum((x - 1)(y - 1)) / sum((x - 1)^2) = (1 + 0 + 0) / 2.
    assert measuring.exponent_of([1, 2, 4], [1, 4, 2]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("sizes", "costs"), [([1.0], [1.0]), ([2.0, 2.0], [1.0, 2.0]), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [0.0, 1.0])]
)
def test_an_exponent_that_cannot_be_fitted_is_refused(sizes: list[float], costs: list[float]) -> None:
    with pytest.raises(ValueError, match="size"):
        measuring.exponent_of(sizes, costs)


def test_turns_are_interleaved() -> None:
    order: list[str] = []
    pauses: list[None] = []

    def take(name: str) -> int:
        order.append(name)
        return len(order)

    taken = measuring.interleaved(["a", "b", "c"], rounds=2, take=take, pause=lambda: pauses.append(None))
    assert order == ["a", "b", "c", "c", "b", "a"]
    assert taken == {"a": [1, 6], "b": [2, 5], "c": [3, 4]}
    assert len(pauses) == 6


def test_goals_say_whether_they_are_reached() -> None:
    assert measuring.ratio_goal("epoch", against="torch", ratio=2.0, at_least=2).reached is True
    assert measuring.ratio_goal("epoch", against="torch", ratio=1.99, at_least=2).reached is False
    assert measuring.ratio_goal("epoch", against="torch", ratio=None, at_least=2).reached is None
    assert measuring.ceiling_goal("idle", against="-", value=12.0, at_most=12, unit="s").reached is True
    assert measuring.ceiling_goal("idle", against="-", value=12.1, at_most=12, unit="s").reached is False


def test_a_markdown_table_has_a_head_a_rule_and_escaped_bars() -> None:
    assert measuring.markdown_table(("a", "b"), [("1|2", "3")]) == "| a | b |\n| --- | --- |\n| 1\\|2 | 3 |"
    with pytest.raises(ValueError, match="has 1 cells, expected 2"):
        measuring.markdown_table(("a", "b"), [("1",)])


def test_the_document_is_made_from_what_the_json_holds() -> None:
    goal = Goal("epoch", "torch", "1.50x", "at least 2x", reached=False)
    table = Table("Steps", ("way", "s"), (("ours", "1.0"),), ("a remark",))
    part = measuring.plain_part(
        Part("steps", (goal,), (table, Table("Skipped", (), (), ("no GPU here",)))),
        circumstances={"date": "today", "versions": {"keras": "3", "numpy": "2"}},
    )
    text = measuring.document(json.loads(json.dumps({"steps": part})))
    assert text.startswith("# Benchmarks\n")
    assert "| epoch | torch | 1.50x | at least 2x | **no** |" in text
    assert "- versions: keras 3, numpy 2" in text
    assert "| ours | 1.0 |\n\n- a remark" in text
    assert "### Skipped\n\n- no GPU here" in text


def test_a_missed_aim_is_told_with_its_reason_and_a_reached_one_is_not() -> None:
    missed = Goal("imdb lstm epoch", "torch", "1.83x", "at least 2x", reached=False)
    reached = Goal("ingest of 420,551 rows", "pandas", "5.00x", "at least 4x", reached=True)
    part = measuring.plain_part(Part("steps", (missed, reached)), circumstances={})
    text = measuring.document({"steps": part})
    assert (
        "### What fell short, and why\n\n**imdb lstm epoch against torch.** A training alone runs both halves of its batch"
        in text
    )
    assert "ingest of 420,551 rows against" not in text
    assert "fell short" not in measuring.document({"steps": measuring.plain_part(Part("steps", (reached,)), circumstances={})})


def test_a_part_that_is_measured_again_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = tmp_path / "benchmarks.json", tmp_path / "benchmarks.md"
    monkeypatch.setattr(main, "WRITTEN", written)
    for name, figure in (("fixed", "1"), ("steps", f"in {ROOT}"), ("fixed", "2")):
        part = Part(name, (Goal(name, "-", figure, "-", None),), (), {})
        main._write({name: measuring.plain_part(part, circumstances={"date": figure})})
    plain = json.loads(written[0].read_text(encoding="utf-8"))
    assert list(plain) == ["steps", "fixed"]
    assert plain["fixed"]["goals"][0]["measured"] == "2"
    text = written[1].read_text(encoding="utf-8")
    assert "- date: in ..." in text
    assert "- date: 2" in text
    assert str(ROOT) not in text


def test_the_command_is_told_without_the_folders_of_one_machine() -> None:
    assert main._without_mirrors(["--mirror", "/a b/c", "--only", "steps"]) == ["--mirror=...", "--only", "steps"]
    assert main._without_mirrors(["--mirror=/x"]) == ["--mirror=..."]


def test_the_longest_span_of_half_years_has_no_gap() -> None:
    assert longest_span(["2020a", "2009b", "2009a", "2010a", "2020b"]) == ("2009a", "2010a")
    assert longest_span([]) is None


def test_quick_sizes_are_no_larger_than_the_real_ones() -> None:
    for name, value in vars(QUICK).items():
        real = getattr(Sizes(), name)
        assert (max(value) <= max(real)) if isinstance(value, tuple) else (value <= real), name


def test_a_worker_that_ends_is_an_error_with_its_last_words() -> None:
    worker = Worker(["sh", "-c", "echo no luck >&2"])
    with pytest.raises(WorkerError, match="no luck"):
        worker.ask("train", steps=1)
    worker.close()


def test_processes_side_by_side_are_waited_for_each() -> None:
    first, second = finish_all([["sh", "-c", "sleep 0.2; echo '{\"a\": 1}'"], ["sh", "-c", "echo no json"]])
    assert (first.answer, second.answer) == ({"a": 1}, {})
    assert first.peak_bytes > 0
    with pytest.raises(WorkerError, match="ended with 3"):
        finish_all([["sh", "-c", "exit 3"], ["sh", "-c", "exit 0"]])


def test_only_the_peers_are_run_outside_of_the_projects_environment() -> None:
    """A script of a peer needs nothing of the project."""
    for path in sorted(Path(ROOT, "benchmarks", "opponents").glob("*.py")):
        if path.name not in {"ours.py", "our_ingest.py", "__init__.py"}:
            assert not re.search(
                r"^(from|import) (tasks|storage|flows|benchmarks)", path.read_text(encoding="utf-8"), re.MULTILINE
            )
