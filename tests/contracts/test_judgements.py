"""What is judged from aggregates equals what Great Expectations itself finds: every suite, on clean and on damaged frames."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.datasets import DATASETS
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import Expectation
from tasks.ingestion.aggregates import KINDS, judge
from tasks.ingestion.gx import run_expectations
from tasks.ingestion.outcomes import Judgement

Suite = tuple[pd.DataFrame, list[Expectation]]
ROWS = 1_200


@pytest.fixture(scope="module", params=tuple(DATASETS))
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The frame of a sample, which begins with its first rows, and the expectations of all sources, each once."""
    spec = DATASETS[request.param]
    files = {path.name: path for path in spec.simulate(tmp_path_factory.mktemp("sample"))}
    frame = spec.validation_frame(spec.parse(files, TableRequest(source="sample")))
    expectations: list[Expectation] = []
    for source in (*spec.sources, "sample"):
        expectations += [
            expectation for expectation in spec.expectations(TableRequest(source=source)) if expectation not in expectations
        ]
    return frame.iloc[:ROWS].reset_index(drop=True), expectations


def assert_equal(frame: pd.DataFrame, expectations: list[Expectation]) -> list[Judgement | None]:
    """Hold every judgement against that of Great Expectations, and return those that were made without it."""
    ours = judge(frame, expectations)
    theirs = run_expectations(frame, name="suite", expectations=expectations)
    for expectation, own, their in zip(expectations, ours, theirs, strict=True):
        if own is None:
            continue
        text = f"{expectation.kind} {dict(expectation.arguments)}"
        assert (own.success, own.exception) == (their.success, their.exception), text
        assert json.loads(json.dumps(own.details)) == their.details, text
    return ours


def numbers_of(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if isinstance(frame[name].dtype, np.dtype) and frame[name].dtype.kind in "iuf"]


def bounds_of(expectations: list[Expectation]) -> dict[str, tuple[Any, Any, float]]:
    """The narrowest bounds by column, and the largest share of rows that may be outside."""
    bounds: dict[str, tuple[Any, Any, float]] = {}
    for expectation in expectations:
        arguments = expectation.arguments
        if expectation.kind == "column_values_to_be_between":
            bounds[arguments["column"]] = (arguments["min_value"], arguments["max_value"], 1 - arguments.get("mostly", 1.0))
    return bounds


def set_values(frame: pd.DataFrame, column: str, rows: Any, value: Any) -> None:
    values = frame[column].to_numpy().copy()
    values[rows] = np.asarray(value).astype(values.dtype)
    frame[column] = values


def outside(count: Callable[[int, float], int], *, above: bool, by: int = 1) -> Callable[[pd.DataFrame, list[Expectation]], None]:
    """Put as many values outside of the bounds of each column as `count` says, from the rows and the share that may be so."""

    def damage(frame: pd.DataFrame, expectations: list[Expectation]) -> None:
        for column, (low, high, share) in bounds_of(expectations).items():
            bound = high if above else low
            if bound is not None:
                set_values(frame, column, slice(0, count(len(frame), share)), bound + by if above else bound - by)

    return damage


def at_bounds(frame: pd.DataFrame, expectations: list[Expectation]) -> None:
    for column, (low, high, _) in bounds_of(expectations).items():
        if low is not None:
            set_values(frame, column, slice(0, 50), low)
        if high is not None:
            set_values(frame, column, slice(50, 100), high)


def next_to_bounds(frame: pd.DataFrame, expectations: list[Expectation]) -> None:
    for column, (low, high, _) in bounds_of(expectations).items():
        if frame[column].dtype.kind == "f":
            kind = frame[column].dtype.type
            if low is not None:
                set_values(frame, column, slice(0, 50), np.nextafter(kind(low), kind(-np.inf)))
            if high is not None:
                set_values(frame, column, slice(50, 100), np.nextafter(kind(high), kind(np.inf)))


def nulls(rows: slice) -> Callable[[pd.DataFrame, list[Expectation]], None]:
    def damage(frame: pd.DataFrame, expectations: list[Expectation]) -> None:
        del expectations
        for column in frame.columns:
            frame[column] = frame[column].mask(np.isin(np.arange(len(frame)), np.arange(len(frame))[rows]))

    return damage


def infinities(frame: pd.DataFrame, expectations: list[Expectation]) -> None:
    del expectations
    for column in numbers_of(frame):
        if frame[column].dtype.kind == "f":
            set_values(frame, column, slice(3, 5), [np.inf, -np.inf])


def repeated_rows(frame: pd.DataFrame, expectations: list[Expectation]) -> None:
    del expectations
    frame.iloc[10:13] = frame.iloc[20:23].to_numpy()


def other_types(frame: pd.DataFrame, expectations: list[Expectation]) -> None:
    del expectations
    for column in numbers_of(frame):
        frame[column] = frame[column].astype("float64" if frame[column].dtype != np.float64 else "float32")


def other_words(frame: pd.DataFrame, expectations: list[Expectation]) -> None:
    """Put a value that is in no set, and shift the columns of which an aggregate is judged."""
    for expectation in expectations:
        column = expectation.arguments.get("column")
        if expectation.kind == "column_values_to_be_in_set":
            if column in numbers_of(frame):
                set_values(frame, column, slice(0, 200), 7)
            else:
                frame.loc[frame.index[:100], column] = "other"
        elif expectation.kind.startswith(("column_mean", "column_min", "column_max")):
            frame[column] = frame[column] + 100_000


DAMAGES: Mapping[str, Callable[[pd.DataFrame, list[Expectation]], None]] = {
    "clean": lambda frame, expectations: None,
    "one_below": outside(lambda rows, share: 1, above=False),
    "one_above": outside(lambda rows, share: 1, above=True),
    "one_far_below": outside(lambda rows, share: 1, above=False, by=10**6),
    "one_far_above": outside(lambda rows, share: 1, above=True, by=10**6),
    # The share that `mostly` allows, exactly (12 of 1,200 rows), and one row more.
    "as_many_below_as_may_be": outside(lambda rows, share: round(rows * share), above=False),
    "one_more_below": outside(lambda rows, share: round(rows * share) + 1, above=False),
    "as_many_above_as_may_be": outside(lambda rows, share: round(rows * share), above=True),
    "one_more_above": outside(lambda rows, share: round(rows * share) + 1, above=True),
    "at_bounds": at_bounds,
    "next_to_bounds": next_to_bounds,
    "three_nulls": nulls(slice(5, 8)),
    "only_nulls": nulls(slice(None)),
    "infinities": infinities,
    "repeated_rows": repeated_rows,
    "other_types": other_types,
    "other_words": other_words,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_judgements_are_those_of_great_expectations(suite: Suite, damage: str) -> None:
    frame, expectations = suite[0].copy(), suite[1]
    DAMAGES[damage](frame, expectations)
    assert_equal(frame, expectations)


@pytest.mark.parametrize("rows", [0, 1])
def test_judgements_of_few_rows_are_those_of_great_expectations(suite: Suite, rows: int) -> None:
    assert_equal(suite[0].iloc[:rows], suite[1])


def test_every_expectation_is_judged_without_great_expectations_and_fails_on_some_damage(
    suite: Suite,
) -> None:
    clean, expectations = suite
    failed: set[int] = set()
    for damage in DAMAGES.values():
        frame = clean.copy()
        damage(frame, expectations)
        for number, judgement in enumerate(judge(frame, expectations)):
            # A list of columns that does not match is told by Great Expectations, which says where.
            if judgement is not None and not judgement.success:
                failed.add(number)
    assert {expectation.kind for expectation in expectations} <= KINDS
    assert None not in judge(clean, expectations)
    failed |= {
        number for number, judgement in enumerate(judge(clean.head(1), expectations)) if judgement and not judgement.success
    }
    swapped = judge(clean[[*clean.columns[1:], clean.columns[0]]], expectations)
    failed |= {number for number, judgement in enumerate(swapped) if judgement is None}
    assert [expectations[number] for number in range(len(expectations)) if number not in failed] == []


@pytest.mark.parametrize("seed", range(3))
def test_judgements_of_any_numbers_against_any_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "float32": rng.normal(0, 3, 400).astype(np.float32),
            "float64": np.where(rng.random(400) < 0.1, np.nan, rng.normal(0, 3, 400)),
            "int16": rng.integers(-9, 9, 400).astype(np.int16),
            "uint8": rng.integers(0, 9, 400).astype(np.uint8),
            "int64": rng.integers(-(2**62), 2**62, 400),
            "uint64": rng.integers(0, 2**63, 400).astype(np.uint64) * 2,
            "stamp": np.datetime64("2009-01-01T00:10:00", "s") + rng.integers(0, 5_000, 400) * np.timedelta64(600, "s"),
        }
    )

    def bound(column: str) -> Any:
        value = frame[column].iloc[int(rng.integers(0, 400))].item()
        return [value, value + 1, round(value, 1)][int(rng.integers(0, 3))] if not np.isnan(value) else 0.5

    expectations = []
    for _ in range(25):
        for column in frame.columns[:-1]:
            low, high = bound(column), bound(column)
            low, high = min(low, high), max(low, high)
            if rng.random() < 0.3:
                low, high = (None, high) if rng.random() < 0.5 else (low, None)
            mostly = float(rng.choice([1.0, 0.99, 0.5, 0.0]))
            arguments = {"column": column, "min_value": low, "max_value": high}
            expectations += [
                Expectation("column_values_to_be_between", {**arguments, "mostly": mostly}, "critical", "m"),
                Expectation(f"column_{rng.choice(['min', 'max', 'mean'])}_to_be_between", arguments, "critical", "m"),
                Expectation("column_values_to_be_in_set", {"column": column, "value_set": [0, 1, 2.5]}, "critical", "m"),
            ]
    for column in frame.columns:
        expectations += [
            Expectation("column_values_to_be_unique", {"column": column, "mostly": 0.9}, "critical", "m"),
            Expectation("column_values_to_not_be_null", {"column": column, "mostly": 0.9}, "critical", "m"),
            Expectation("column_values_to_be_of_type", {"column": column, "type_": "int64"}, "critical", "m"),
        ]
    unique = [each for number, each in enumerate(expectations) if each not in expectations[:number]]
    judged = assert_equal(frame, unique)
    # Two of six columns have numbers that float64 does not hold: they are left to Great Expectations.
    assert sum(judgement is not None for judgement in judged) > 0.6 * len(unique)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("column_values_to_be_between", {"column": "number", "min_value": 0, "max_value": 1, "strict_min": True}),
        ("column_values_to_be_between", {"column": "number", "min_value": None, "max_value": None}),
        ("column_values_to_be_between", {"column": "number", "min_value": 2, "max_value": 1}),
        ("column_values_to_be_between", {"column": "number", "min_value": "0", "max_value": "1"}),
        ("column_values_to_be_between", {"column": "number", "min_value": 0, "max_value": 1, "mostly": 2}),
        ("column_values_to_be_between", {"column": "word", "min_value": 0, "max_value": 1}),
        ("column_values_to_be_between", {"column": "absent", "min_value": 0, "max_value": 1}),
        ("column_values_to_be_between", {"min_value": 0, "max_value": 1}),
        ("column_values_to_be_of_type", {"column": "word", "type_": "str"}),
        ("column_values_to_be_of_type", {"column": "number", "type_": "float"}),
        ("column_values_to_be_in_set", {"column": "number", "value_set": None}),
        ("column_median_to_be_between", {"column": "number", "min_value": 0, "max_value": 1}),
        ("table_columns_to_match_ordered_list", {"column_list": ["word", "number"]}),
        ("compound_columns_to_be_unique", {"column_list": ["number", "absent"]}),
    ],
)
def test_what_may_differ_is_left_to_great_expectations(kind: str, arguments: dict[str, Any]) -> None:
    frame = pd.DataFrame({"number": [0.5, 0.5], "word": np.array(["a", "b"], dtype=object)})
    assert judge(frame, [Expectation(kind, arguments, "critical", "m")]) == [None]
