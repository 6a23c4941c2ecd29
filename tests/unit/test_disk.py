"""What a disk refuses is one line that names the place, the bytes needed and free, and nothing half is left."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from upath import UPath

from storage.disk import disk_error, free_bytes, require_free
from storage.errors import DiskError, SettingError
from storage.io import create_exclusively, write_atomically, write_json


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["/bin/umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_and_the_old_file_stays(small_disk: Path) -> None:
    write_json(small_disk / "a.json", {"old": 1})
    with pytest.raises(
        DiskError, match=r"cannot be used \(No space left on device, 2,000,000 bytes are needed, [\d,]+ are free\)"
    ):
        write_atomically(small_disk / "a.json", bytes(2_000_000))
    with pytest.raises(DiskError):
        create_exclusively(small_disk / "b.json", bytes(2_000_000))
    assert [path.name for path in small_disk.iterdir()] == ["a.json"]
    assert b"old" in (small_disk / "a.json").read_bytes()


def test_who_can_do_without_a_file_catches_it_as_an_error_of_the_system(small_disk: Path) -> None:
    with pytest.raises(OSError, match="cannot be used") as raised:
        write_atomically(small_disk / "cache", bytes(2_000_000))
    assert isinstance(raised.value, SettingError)
    assert str(raised.value).startswith(str(small_disk))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y"),
            r"/x/y cannot be used \(No space left on device, .* free\): free",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), r"/x/y cannot be used .*: let this user write there"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "let this user write there"),
        (OSError(errno.EIO, "Input/output error", "/x"), "look after the disk"),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), r"/home cannot be used \(database or disk is full"),
        (RuntimeError("attempt to write a readonly database"), "let this user write there"),
    ],
)
def test_what_a_disk_says_becomes_one_line(error: Exception, said: str) -> None:
    known = disk_error(error, home="/home")
    assert known is not None
    with pytest.raises(DiskError, match=said):
        raise known


def test_the_cause_of_an_error_is_looked_at_and_other_errors_are_left() -> None:
    outer = RuntimeError("a task failed")
    outer.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/x")
    assert disk_error(outer, home="/home") is not None
    assert disk_error(FileNotFoundError(errno.ENOENT, "No such file", "/x"), home="/home") is None
    assert disk_error(ValueError("a bug"), home="/home") is None


def test_work_that_could_not_be_kept_is_not_begun(tmp_path: Path) -> None:
    folder = UPath(tmp_path) / "checkpoints" / "x"
    free = free_bytes(tmp_path)
    assert free is not None
    require_free(folder, needed=free // 2, what="this training")
    with pytest.raises(DiskError, match=r"checkpoints/x has [\d,]+ bytes free, this training needs [\d,]+: free the disk"):
        require_free(folder, needed=2 * free, what="this training")
    require_free(UPath("memory://x"), needed=2 * free, what="this training")


def test_a_place_whose_parents_are_not_there_is_of_the_disk_above(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b" / "c") is not None


def test_a_server_that_fails_for_want_of_room_is_told_as_that(small_disk: Path, tmp_path: Path) -> None:
    error = RuntimeError("Server error '500 Internal Server Error' for url 'http://127.0.0.1:4200/api/flows/'")
    assert disk_error(error, home=str(tmp_path)) is None
    (small_disk / "database").write_bytes(bytes(900_000))
    known = disk_error(error, home=str(small_disk))
    assert str(known).startswith(f"{small_disk} cannot be used (its server cannot write, ")
    assert str(known).endswith("are free): free the disk (retrain gc), and run again: what is complete is kept")
