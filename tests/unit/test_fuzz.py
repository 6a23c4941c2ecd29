"""Damaged files of every format: the first examples of the fuzzer, and those that once failed."""

from __future__ import annotations

import resource

import pytest
from planted.fuzz import FORMATS, try_one

EXAMPLES = 150
# Format and number of what raised something else than an error of the project, before it was mended.
ONCE_FAILED = (
    ("csv", 63),  # a number that is no UTF-8
    ("csv", 300),  # a carriage return in the header
    ("zip", 543),  # a member without a name
    ("zip, lzma", 193),
    ("parquet of readings", 1575),  # a name of a column that is no UTF-8
    ("parquet table", 107),
    ("parquet table", 1289),  # two schemas that differ
    ("texts", 16),
    ("locks", 16),  # a JSON text in the place of an object
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_end_in_errors_of_the_project(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failed = {number: error for number in range(EXAMPLES) if (error := try_one(name, number)) is not None}
    assert failed == {}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700_000  # kilobytes


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "number"), ONCE_FAILED)
def test_what_once_failed_does_not_fail_again(name: str, number: int) -> None:
    assert try_one(name, number) is None
