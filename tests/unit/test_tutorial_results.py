"""The tutorial's figures beside ours: what is compared, what is not, and how it is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scoring_helpers import CLASSES

from tasks.reporting.tutorial import Reproduction, differences, remarks, section, with_section

PINNED = {"imdb.npz": "a" * 64}


def entry(
    variant: str, *, validation: float, test: float, printed: float | None = None, baseline: bool = False
) -> dict[str, Any]:
    return {
        "variant": variant,
        "version": 1,
        "trained": True,
        "is_baseline": baseline,
        "validation": {"accuracy": validation},
        "scores": {"accuracy": test, "majority_accuracy": 0.5},
        "best_epoch": 0 if baseline else 4,
        "epochs_run": 0 if baseline else 10,
        "seconds_per_epoch": 6.0,
        "parameters": 322_113,
        "tutorial_best": printed,
    }


def result(*entries: dict[str, Any], rows: int = 50_000, simulated: bool = False, digest: str = "a") -> dict[str, Any]:
    return {
        "simulated": simulated,
        "source": "keras",
        "table": {"version": "0f0f0f0f0f0f", "rows": {"train": rows - 2, "val": 1, "test": 1}},
        "raw": [{"name": "imdb.npz", "sha256": digest * 64}],
        "results": list(entries),
    }


REPRODUCTION = Reproduction(
    dataset="imdb",
    scoring=CLASSES,
    tutorial_rows=50_000,
    results=[
        result(
            entry("simple_rnn", validation=validation, test=test, printed=0.8592),
            entry("tfidf_logistic", validation=0.91, test=0.9, baseline=True),
        )
        for validation, test in ((0.84, 0.83), (0.85, 0.84), (0.86, 0.85))
    ],
    seeds=(0, 1, 2),
    pinned=PINNED,
    usual_budget=True,
    command="retrain reproduce imdb",
    date="2026-11-24",
    machine="a processor, 2 cores",
    versions="keras 3.15.1",
)


def test_the_tutorials_own_data_is_comparable() -> None:
    assert differences(REPRODUCTION) == []
    assert remarks(REPRODUCTION) == []
    assert "Not comparable" not in section(REPRODUCTION)
    assert "not comparable" not in section(REPRODUCTION)


@pytest.mark.parametrize(
    ("reproduction", "reason"),
    [
        (replace(REPRODUCTION, results=[result(REPRODUCTION.results[0]["results"][0], simulated=True)]), "sample, a simulation"),
        (
            replace(REPRODUCTION, results=[result(REPRODUCTION.results[0]["results"][0], rows=30_000)]),
            "30,000 rows, not those of the tutorial",
        ),
        (replace(REPRODUCTION, usual_budget=False), "epochs or steps"),
        (replace(REPRODUCTION, dataset="third", tutorial_rows=None), "no such data set"),
    ],
)
def test_what_cannot_be_compared_is_said_and_marked(reproduction: Reproduction, reason: str) -> None:
    assert reason in differences(reproduction)[0]
    text = section(reproduction)
    assert "**Not comparable with the tutorial's figures:**" in text
    assert "0.8592 (not comparable)" in text
    assert "is worse than printed" not in text


def test_another_file_of_the_same_reviews_is_remarked_on() -> None:
    assert remarks(replace(REPRODUCTION, results=[result(digest="b")])) == [
        "`imdb.npz` is not the publisher's own file: the splits may hold other examples."
    ]


def test_the_table_has_means_and_spreads() -> None:
    lines = section(REPRODUCTION).splitlines()
    (row,) = [line for line in lines if line.startswith("| `simple_rnn` |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        "`simple_rnn`",
        "0.8592",
        "0.8500 (0.8400 to 0.8600)",
        "0.8400 (0.830 to 0.850)",
        "0.500",
        "322,113",
        "6.0",
        "4 of 10 / 4 of 10 / 4 of 10",
    ]
    (row,) = [line for line in lines if line.startswith("| `tfidf_logistic` (linear baseline) |")]
    assert [cell.strip() for cell in row.strip("|").split("|")][1:4] == ["-", "0.9100", "0.9000"]


def test_a_figure_below_the_printed_one_is_admitted() -> None:
    text = section(REPRODUCTION)
    # The mean is 0.85, and the third seed reaches 0.86.
    assert "`simple_rnn` is worse than printed, by 0.0092: the printed figure is that of one run, and a seed of ours" in text
    below = replace(REPRODUCTION, results=REPRODUCTION.results[:2], seeds=(0, 1))
    assert "2 of ours lie between 0.8400 and 0.8500." in section(below)


def test_a_section_is_renewed_where_it_stands() -> None:
    first = with_section("# Results\n\nBefore.\n", dataset="imdb", text="old\n")
    assert first.startswith("# Results\n\nBefore.\n\n<!-- reproduce imdb -->")
    both = with_section(first, dataset="jena", text="weather\n") + "\nAfter.\n"
    renewed = with_section(both, dataset="imdb", text="new \\1\n")
    assert "old" not in renewed
    assert renewed.index("Before.") < renewed.index("new \\1") < renewed.index("weather") < renewed.index("After.")
    assert with_section(renewed, dataset="imdb", text="new \\1\n") == renewed
