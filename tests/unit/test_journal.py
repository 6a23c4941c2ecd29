"""Writers on many hosts: real processes, on a local disk and on a real S3 server, of whose changes none is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from object_store import ObjectStore, running_object_store
from upath import UPath

from storage.errors import DataError, SettingError
from storage.folders import publish_folder
from storage.io import create_exclusively, write_json
from storage.journal import Journal, SharedValue
from storage.layout import Store

ROOT = Path(__file__).parents[2]
PROCESSES, CHANGES = 5, 12


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with running_object_store(tmp_path_factory.mktemp("objects")) as objects:
        yield objects


@pytest.fixture(params=["local", "s3"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store."""
    if request.param == "local":
        return str(tmp_path / "a store")
    request.getfixturevalue("objects")
    return f"s3://retrain/{tmp_path.name}"


@pytest.fixture
def folder(home: str) -> UPath:
    return Store.at(home).promotions("jena")


def start(code: str, *arguments: str, cache: Path) -> subprocess.Popen[str]:
    """Start a process as another host has it: without the lock files of this one."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=variables, stdout=subprocess.PIPE, text=True, cwd=cache)


def hosts(code: str, *arguments: str, folder: Path, count: int = PROCESSES) -> list[str]:
    """Run as many processes at once, each with its number as last argument, and return what each printed."""
    caches = [folder / f"host {number}" for number in range(count)]
    for cache in caches:
        cache.mkdir()
    running = [start(code, *arguments, str(number), cache=cache) for number, cache in enumerate(caches)]
    printed = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0] * count
    return printed


# --- exclusive creation


def test_what_is_there_is_never_replaced(folder: UPath) -> None:
    assert create_exclusively(folder / "a.json", b"first")
    assert not create_exclusively(folder / "a.json", b"second")
    assert (folder / "a.json").read_bytes() == b"first"
    assert [path.name for path in folder.iterdir()] == ["a.json"]


RACE = """
import sys
from pathlib import Path
from storage.io import create_exclusively
from storage.layout import Store
folder = Store.at(sys.argv[1]).promotions("race")
won = [number for number in range(20) if create_exclusively(folder / f"{number}.json", sys.argv[-1].encode() * 1000)]
print(*won)
"""


def test_of_many_hosts_one_alone_creates_a_file(home: str, tmp_path: Path) -> None:
    won = [set(map(int, printed.split())) for printed in hosts(RACE, home, folder=tmp_path)]
    assert sorted(number for numbers in won for number in numbers) == list(range(20))
    for host, numbers in enumerate(won):
        for number in numbers:
            assert (Store.at(home).promotions("race") / f"{number}.json").read_bytes() == str(host).encode() * 1000


def test_a_store_that_replaces_files_all_the_same_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As some servers do that speak S3 and ignore If-None-Match."""
    pipe_file = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda fs, path, value, mode="overwrite": pipe_file(fs, path, value))
    monkeypatch.setattr("storage.io._careful", set())
    path = UPath("memory://careless/log/00000001.json")
    with pytest.raises(SettingError, match="ignores If-None-Match"):
        create_exclusively(path, b"1")
    assert not path.parent.exists()


# --- journals


def test_an_entry_follows_those_that_its_writer_has_read(folder: UPath) -> None:
    one, other = Journal(folder), Journal(folder)
    assert one.entries() == other.entries() == []
    assert one.add({"by": "one"})
    assert not other.add({"by": "other"})  # it has not read what one wrote
    assert other.entries() == [{"by": "one"}]
    assert other.add({"by": "other"})
    assert other.add({"by": "other again"})
    assert not one.add({"by": "one again"})
    one.append({"by": "one again"})
    assert [entry["by"] for entry in Journal(folder).entries()] == ["one", "other", "other again", "one again"]
    assert sorted(path.name for path in folder.iterdir()) == [f"0000000{number}.json" for number in range(1, 5)]


def test_an_answer_that_was_lost_is_no_other_writer(folder: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """A put whose answer is lost is made again by the client, and then the entry is there: its own."""
    import storage.journal

    monkeypatch.setattr(storage.journal, "create_exclusively", lambda path, data: create_exclusively(path, data) and False)
    log = Journal(folder)
    log.entries()
    assert log.add({"at": "10:00", "key": "a"})
    assert log.entries() == [{"at": "10:00", "key": "a"}]


def test_two_writers_of_equal_entries_are_told_apart(folder: UPath) -> None:
    """Two hosts may mark one decision in the same second."""
    one, other = Journal(folder), Journal(folder)
    assert one.entries() == other.entries() == []
    assert one.add({"at": "10:00", "applied": "a"})
    assert not other.add({"at": "10:00", "applied": "a"})
    assert other.entries() == [{"at": "10:00", "applied": "a"}]


def test_a_log_of_before_is_its_beginning_and_stays_as_it_is(home: str) -> None:
    store = Store.at(home)
    old, log = store.first_promotions("jena"), Journal(store.promotions("jena"), beginning=store.first_promotions("jena"))
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_bytes(b'{"key": "a"}\n{"key": "b"}\n{"key": "cut o')
    assert log.entries() == [{"key": "a"}, {"key": "b"}]
    assert log.add({"key": "c"})
    log = Journal(store.promotions("jena"), beginning=old)
    assert log.entries() == [{"key": "a"}, {"key": "b"}, {"key": "c"}]
    assert log.add({"key": "d"})
    assert old.read_bytes() == b'{"key": "a"}\n{"key": "b"}\n{"key": "cut o'


def test_an_entry_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "00000001.json").write_text("{")
    with pytest.raises(DataError, match=r"00000001\.json is not JSON"):
        Journal(UPath(tmp_path)).entries()


APPEND = """
import sys
from storage.journal import Journal
from storage.layout import Store
log = Journal(Store.at(sys.argv[1]).promotions("jena"))
for number in range(int(sys.argv[2])):
    log.append({"host": int(sys.argv[-1]), "number": number, "text": "é" * 3000})
    print(number, flush=True)
"""


def test_of_many_hosts_no_entry_is_lost(home: str, folder: UPath, tmp_path: Path) -> None:
    hosts(APPEND, home, str(CHANGES), folder=tmp_path)
    entries = Journal(folder).entries()
    assert len(entries) == PROCESSES * CHANGES
    for host in range(PROCESSES):  # and each host's own are in their order
        assert [entry["number"] for entry in entries if entry["host"] == host] == list(range(CHANGES))
    assert sorted(int(path.stem) for path in folder.glob("*.json")) == list(range(1, PROCESSES * CHANGES + 1))


def test_a_writer_that_is_killed_leaves_whole_entries(home: str, folder: UPath, tmp_path: Path) -> None:
    told = 0
    for kill in range(4):
        cache = tmp_path / f"host {kill}"
        cache.mkdir()
        with start(APPEND, home, "1000000", "0", cache=cache) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(0.03 * kill)
            process.send_signal(signal.SIGKILL)
            told += 1 + len(process.stdout.read().splitlines())
    entries = Journal(folder).entries()
    assert told <= len(entries) <= told + 4  # the last one of each may have been written and not told
    assert all(entry["text"] == "é" * 3000 for entry in entries)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=30))
def test_an_entry_is_added_only_by_who_has_read_all_others(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    """Three writers read and add in any order, beside a list that says what must happen."""
    folder = UPath(tmp_path_factory.mktemp("journal"))
    writers = [Journal(folder) for _ in range(3)]
    known, expected = [0, 0, 0], 0
    for writer, reads in steps:
        if reads:
            known[writer] = len(writers[writer].entries())
            assert known[writer] == expected
        else:
            is_first = known[writer] == expected
            assert writers[writer].add({"number": expected}) is is_first
            expected += is_first
            known[writer] = expected if is_first else known[writer]
    assert Journal(folder).entries() == [{"number": number} for number in range(expected)]


# --- shared values


CHANGE = """
import sys
from storage.journal import SharedValue
from storage.layout import Store
store = Store.at(sys.argv[1])
value = SharedValue(store.locks("jena"), beginning=store.first_locks("jena"))
for number in range(int(sys.argv[2])):
    value.change(lambda locks: locks | {f"{sys.argv[-1]} {number}": number})
"""


def test_of_many_hosts_no_change_of_a_value_is_lost(home: str, tmp_path: Path) -> None:
    store = Store.at(home)
    write_json(store.first_locks("jena"), {"old": 1})
    hosts(CHANGE, home, str(CHANGES), folder=tmp_path)
    expected = {f"{host} {number}": number for host in range(PROCESSES) for number in range(CHANGES)}
    assert SharedValue(store.locks("jena"), beginning=store.first_locks("jena")).read() == {"old": 1} | expected
    assert json.loads(store.first_locks("jena").read_bytes()) == {"old": 1}


def test_a_value_of_many_changes_keeps_few_snapshots(tmp_path: Path) -> None:
    value = SharedValue(UPath(tmp_path / "locks"))
    assert value.read() == {}
    for number in range(130):
        value.change(lambda old, number=number: old | {"last": number})  # type: ignore[misc]
    assert value.read() == {"last": 129}
    assert sorted(int(path.stem) for path in (tmp_path / "locks").iterdir()) == list(range(30, 131))


# --- tables


PUBLISH = """
import sys
from pathlib import Path
from storage.folders import publish_folder
from storage.layout import Store
for number in range(6):
    staging = Path(f"staging {number}")
    staging.mkdir()
    text = sys.argv[-1] if sys.argv[2] == "different" else "same"
    (staging / "train.parquet").write_text(text * 100_000)
    (staging / "manifest.json").write_text(text)
    print(publish_folder(staging, into=Store.at(sys.argv[1]).table_folder("jena", f"0{number}")))
"""


@pytest.mark.parametrize("content", ["same", "different"])
def test_of_many_hosts_one_alone_publishes_a_table(home: str, tmp_path: Path, content: str) -> None:
    answers = [printed.split() for printed in hosts(PUBLISH, home, content, folder=tmp_path)]
    for number, published in enumerate(zip(*answers, strict=True)):
        assert published.count("True") == 1, answers
        table = Store.at(home).table_folder("jena", f"0{number}")
        winner = str(published.index("True")) if content == "different" else "same"
        assert (table / "manifest.json").read_text() == winner
        assert sorted(path.name for path in table.iterdir()) == ["manifest.json", "train.parquet"]
        assert set((table / "train.parquet").read_text()) == set(winner)


def test_what_a_dead_host_has_copied_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.folders._PATIENCE_S", 0.5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    table = Store.at("memory://dead-host").table_folder("jena", "0f")
    write_json(table / "train.parquet", "of the dead")
    (tmp_path / "staging").mkdir()
    for name in ("train.parquet", "val.parquet", "manifest.json"):
        (tmp_path / "staging" / name).write_text("of the living")
    assert publish_folder(tmp_path / "staging", into=table)
    assert {path.name: path.read_text() for path in table.iterdir()} == dict.fromkeys(
        ("train.parquet", "val.parquet", "manifest.json"), "of the living"
    )


def test_a_table_that_another_host_published_in_the_last_moment_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leftover lies there when one host looks; before it is moved away, another one has published."""
    place, rename = tmp_path / "0f", Path.rename
    place.mkdir()
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / "manifest.json").write_text("late")

    def rename_late(path: Path, target: Path) -> Any:
        if path == place and not (place / "manifest.json").exists():
            (place / "manifest.json").write_text("early")
        return rename(path, target)

    monkeypatch.setattr(type(UPath(place)), "rename", rename_late, raising=False)
    monkeypatch.setattr(Path, "rename", rename_late)
    assert not publish_folder(tmp_path / "staging", into=place)
    assert (place / "manifest.json").read_text() == "early"
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")) == ["0f"]


def test_a_listing_shows_what_another_host_has_written(home: str) -> None:
    """A file system of fsspec keeps listings for the life of a process unless it is told not to."""
    one, other = (Store.at(home) for _ in range(2))
    folder: Callable[[Store], UPath] = lambda store: store.table_folder("jena", "0f")  # noqa: E731
    write_json(folder(one) / "a.json", {})
    assert [path.name for path in folder(one).iterdir()] == ["a.json"]
    folder(other).fs.__class__(**folder(other).fs.storage_options, skip_instance_cache=True).pipe_file(
        (folder(other) / "b.json").path, b"{}"
    )
    assert sorted(path.name for path in folder(one).iterdir()) == ["a.json", "b.json"]
    assert (folder(one) / "b.json").is_file()
