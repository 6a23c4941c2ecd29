"""Who owns the folder of a training: the attempt that began last, whatever the others do."""

from __future__ import annotations

import io
import threading
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from storage.attempts import Attempt, begin_attempt, is_last, require_last
from storage.errors import ReplacedError
from storage.folders import remove_folder
from tasks.training.fitting import Checkpoints
from tasks.training.steps import begin_or_go_on


@pytest.fixture(params=["disk", "objects"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    """A folder that nobody has made, on a disk and behind an fsspec file system."""
    return UPath(tmp_path / "work") if request.param == "disk" else UPath(f"memory://{tmp_path}/work")


def test_the_last_attempt_owns_the_folder(folder: UPath) -> None:
    first = begin_attempt(folder)
    assert (first.number, is_last(first, folder=folder)) == (1, True)
    second = begin_attempt(folder)
    assert (second.number, is_last(second, folder=folder)) == (2, True)
    assert not is_last(first, folder=folder)
    require_last(second, folder=folder)
    with pytest.raises(ReplacedError, match=r"attempt 1 at .* was replaced"):
        require_last(first, folder=folder)


def test_nobody_owns_a_folder_whose_work_is_done(folder: UPath) -> None:
    first = begin_attempt(folder)
    remove_folder(folder)
    assert not is_last(first, folder=folder)
    again = begin_attempt(folder)
    # The numbers of a new folder begin anew, and are no reason to take the first attempt for its owner.
    assert again.number == first.number
    assert is_last(again, folder=folder)
    assert not is_last(first, folder=folder)


def test_attempts_that_begin_together_get_numbers_of_their_own(tmp_path: Path) -> None:
    folder, attempts = UPath(tmp_path / "work"), list[Attempt]()
    threads = [threading.Thread(target=lambda: attempts.append(begin_attempt(folder))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(attempt.number for attempt in attempts) == list(range(1, 17))
    assert [attempt.number for attempt in attempts if is_last(attempt, folder=folder)] == [16]


def content(text: str) -> bytes:
    """A whole checkpoint that says something."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("text"), text)
    return stream.getvalue()


@given(st.lists(st.sampled_from(["begin", "save by the first", "save by the last"]), min_size=1, max_size=12))
def test_only_the_last_attempt_saves_and_the_next_one_loads_it(steps: list[str]) -> None:
    folder = UPath(f"memory://checkpoints/{'-'.join(steps).replace(' ', '')}")
    if folder.exists():
        remove_folder(folder)
    attempts, saved = [begin_attempt(folder)], None
    for number, step in enumerate(steps):
        if step == "begin":
            attempts.append(begin_attempt(folder))
            continue
        writer, data = attempts[0 if step == "save by the first" else -1], content(f"{number}")
        checkpoints = Checkpoints(folder, attempt=writer)
        if writer == attempts[-1]:
            checkpoints.save(data)
            saved = data
        else:
            with pytest.raises(ReplacedError):
                checkpoints.save(data)
    assert Checkpoints(folder, attempt=begin_attempt(folder)).load() == saved


def test_a_write_that_was_on_its_way_overwrites_no_later_checkpoint(folder: UPath) -> None:
    """A host that falls asleep between the question and the write has its own file to write to."""
    first = begin_attempt(folder)
    second = begin_attempt(folder)
    Checkpoints(folder, attempt=second).save(content("later"))
    (folder / f"checkpoint-{first.number}.npz").write_bytes(content("earlier"))
    third = Checkpoints(folder, attempt=begin_attempt(folder))
    assert third.load() == content("later")
    third.save(content("latest"))
    assert [path.name for path in folder.iterdir() if path.suffix == ".npz"] == ["checkpoint-3.npz"]


def test_a_checkpoint_of_version_0_1_0_is_gone_on_from(folder: UPath) -> None:
    attempt = begin_attempt(folder)
    (folder / "checkpoint.npz").write_bytes(content("old"))
    checkpoints = Checkpoints(folder, attempt=attempt)
    assert checkpoints.load() == content("old")
    checkpoints.save(content("new"))
    assert checkpoints.load() == content("new")
    checkpoints.remove()
    assert checkpoints.load() is None


def test_a_retry_of_a_run_goes_on_with_its_own_attempt_and_takes_nothing_back(folder: UPath, tmp_path: Path) -> None:
    own = begin_or_go_on(f"run {tmp_path}", folder=folder)
    assert begin_or_go_on(f"run {tmp_path}", folder=folder) == own
    other = begin_or_go_on(f"another run {tmp_path}", folder=folder)
    assert other.number == own.number + 1
    with pytest.raises(ReplacedError):
        begin_or_go_on(f"run {tmp_path}", folder=folder)
    assert is_last(other, folder=folder)
    # The other one finishes: what it has removed is not made again.
    remove_folder(folder)
    with pytest.raises(ReplacedError):
        begin_or_go_on(f"run {tmp_path}", folder=folder)
    assert not folder.exists()
