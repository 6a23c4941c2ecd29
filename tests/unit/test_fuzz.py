"""Damaged files of every format: the first examples of the fuzzer, and those that once failed."""

from __future__ import annotations

import resource

import pytest
from faults.fuzz import FORMATS, try_one

EXAMPLES = 150
# Format and number of what raised something else than an error of the project, before it was mended.
ONCE_FAILED: tuple[tuple[str, int], ...] = ()


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
