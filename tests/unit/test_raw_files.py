"""Fetching from a real server on loopback, locks, and atomic publishing."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity

from storage import download, io, raw_files
from storage.errors import DataError, DigestChangedError, SettingError, SourceError
from storage.folders import copy_folder, publish_folder
from storage.io import digest_of_json, read_lines
from storage.journal import SharedValue
from storage.layout import Store
from storage.raw_files import RetryPolicy, fetch, mirror_file
from storage.references import RawFile

Get = Callable[..., RawFile]

DATA = b"PK\x03\x04" + bytes(range(256)) * 4000
DIGEST = hashlib.sha256(DATA).hexdigest()
OTHER = b"PK\x03\x04" + bytes(range(255, -1, -1)) * 4000
OTHER_DIGEST = hashlib.sha256(OTHER).hexdigest()
FAST = RetryPolicy(contact_s=2.0, read_s=2.0, tries=4, backoff_s=0.01, max_wait_s=0.3)


@dataclass
class Host:
    """What the server does: the body, its validator, and faults for the first requests (a status, or a byte to cut at)."""

    body: bytes = DATA
    etag: str | None = '"one"'
    faults: list[int | tuple[str, int]] = field(default_factory=list)
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


class Server(ThreadingHTTPServer):
    host: Host


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        host = self.server.host
        asked = {key.lower(): value for key, value in self.headers.items()}
        host.requests.append(asked)
        fault = host.faults.pop(0) if host.faults else None
        if isinstance(fault, int):
            self.send_response(fault)
            for key, value in host.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if host.etag and asked.get("if-none-match") == host.etag:
            self.send_response(304)
            self.end_headers()
            return
        start, body = 0, host.body
        if "range" in asked and host.ranges and asked.get("if-range") == host.etag:
            start = int(asked["range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        if host.etag:
            self.send_header("ETag", host.etag)
        self.end_headers()
        self.wfile.write(body[start : fault[1] if fault else None])


@pytest.fixture
def host() -> Iterator[Host]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.host = Host(url=f"http://127.0.0.1:{server.server_port}/a.zip")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.host
        server.shutdown()
        thread.join()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "home")


@pytest.fixture
def get(store: Store) -> Get:
    def call(*urls: str, **options: Any) -> RawFile:
        defaults = {"dataset": "jena", "origin": "upstream", "max_bytes": 10**7, "magic": b"PK\x03\x04", "policy": FAST}
        return fetch("a.zip", urls=urls, store=store, **{**defaults, **options})

    return call


def note_of(url: str, *, validator: str = '"one"') -> str:
    """The note beside a partial file: a digest of the address, which may hold a password, and the version of the file."""
    return json.dumps({"url": hashlib.sha256(url.encode()).hexdigest(), "validator": validator})


def tree(store: Store) -> dict[str, bytes]:
    """What a reader can see: files outside the scratch folder, locks of processes left out."""
    found = (path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(store.root)): path.read_bytes() for path in found if ".scratch" not in path.parts}


def locks(store: Store) -> dict[str, Any]:
    return SharedValue(store.locks("jena")).read()


def locked(store: Store) -> dict[str, Any]:
    return locks(store)["upstream:a.zip"]


def test_a_file_is_placed_under_its_digest_and_locked(get: Get, host: Host, store: Store) -> None:
    seen: list[tuple[int, int | None]] = []
    raw = get(host.url, on_progress=lambda done, total: seen.append((done, total)))
    assert (raw.sha256, raw.size_bytes, raw.uri) == (DIGEST, len(DATA), str(store.raw_file("jena", DIGEST, "a.zip")))
    assert store.raw_file("jena", DIGEST, "a.zip").read_bytes() == DATA
    assert locked(store) == {"sha256": DIGEST, "size_bytes": len(DATA), "etag": '"one"', "last_modified": None}
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_file_that_stands_costs_no_network(get: Get, host: Host) -> None:
    first = get(host.url)
    assert get(host.url) == first
    assert get("http://host.invalid/a.zip") == first
    assert len(host.requests) == 1


def test_a_pinned_file_that_stands_costs_no_network_for_another_origin(get: Get, host: Host, store: Store) -> None:
    get(host.url)
    assert get("http://host.invalid/a.zip", sha256=DIGEST, origin="mirror").sha256 == DIGEST
    assert set(locks(store)) == {"upstream:a.zip", "mirror:a.zip"}


def test_a_standing_file_of_another_size_is_fetched_again(get: Get, host: Host, store: Store) -> None:
    get(host.url)
    store.raw_file("jena", DIGEST, "a.zip").write_bytes(DATA[:100])
    get(host.url)
    assert store.raw_file("jena", DIGEST, "a.zip").read_bytes() == DATA


def test_a_broken_transfer_is_continued_where_it_broke(get: Get, host: Host) -> None:
    host.faults = [("cut", 300_000)]
    assert get(host.url).sha256 == DIGEST
    assert "range" not in host.requests[0]
    held = int(host.requests[1]["range"].removeprefix("bytes=").rstrip("-"))
    assert 0 < held <= 300_000
    assert host.requests[1]["if-range"] == '"one"'


def test_a_transfer_is_continued_by_the_next_run(get: Get, host: Host) -> None:
    host.faults = [("cut", 500_000)]
    with pytest.raises(SourceError, match=r"a\.zip from 127\.0\.0\.1:\d+ failed 1 times .*run again to continue"):
        get(host.url, policy=RetryPolicy(tries=1))
    assert get(host.url).sha256 == DIGEST
    assert "range" in host.requests[1]


def test_a_host_that_knows_no_ranges_sends_all_again(get: Get, host: Host) -> None:
    host.faults, host.ranges = [("cut", 300_000)], False
    assert get(host.url).sha256 == DIGEST


def test_a_file_that_changed_meanwhile_is_not_joined_to_the_old_part(get: Get, host: Host) -> None:
    host.faults = [("cut", 300_000)]
    with pytest.raises(SourceError):
        get(host.url, policy=RetryPolicy(tries=1))
    host.body, host.etag = OTHER, '"two"'
    assert get(host.url).sha256 == OTHER_DIGEST


def test_a_whole_partial_file_is_taken_as_it_is(get: Get, host: Host, store: Store) -> None:
    partial = store.partial("jena", "upstream", "a.zip")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA)
    partial.with_name("a.zip.note").write_text(note_of(host.url))
    assert get(host.url).sha256 == DIGEST  # by way of a 416
    assert host.requests[0]["range"] == f"bytes={len(DATA)}-"


def test_a_partial_file_longer_than_the_file_is_thrown_away(get: Get, host: Host, store: Store) -> None:
    partial = store.partial("jena", "upstream", "a.zip")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA + b"more")
    partial.with_name("a.zip.note").write_text(note_of(host.url))
    assert get(host.url).sha256 == DIGEST
    assert "range" not in host.requests[1]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_host_is_asked_again(get: Get, host: Host, status: int) -> None:
    host.faults = [status, status]
    assert get(host.url).sha256 == DIGEST
    assert len(host.requests) == 3


@pytest.mark.parametrize("etag", ['"\xe9"', '"caf\u00e9 \u2603"'.encode().decode("latin-1"), '"a\x7fb"'])
def test_a_version_that_no_header_can_carry_back_is_not_kept(get: Get, host: Host, store: Store, etag: str) -> None:
    host.etag = etag
    host.faults = [("cut", 300_000)]
    with pytest.raises(SourceError):
        get(host.url, policy=RetryPolicy(tries=1), growing=True)
    assert get(host.url, growing=True).sha256 == DIGEST
    assert get(host.url, growing=True).sha256 == DIGEST
    locked = SharedValue(store.locks("jena")).read()["upstream:a.zip"]
    assert locked["etag"] is None


def test_a_lock_and_a_note_with_such_a_version_do_no_harm(get: Get, host: Host, store: Store) -> None:
    """Releases before this one kept it, and could not fetch the file any more."""
    get(host.url, growing=True)
    SharedValue(store.locks("jena")).change(
        lambda locks: {name: lock | {"etag": '"\u00e9"', "last_modified": "M\u00e4rz"} for name, lock in locks.items()}
    )
    partial = store.partial("jena", "upstream", "a.zip")
    partial.write_bytes(DATA[:1000])
    partial.with_name("a.zip.note").write_text(note_of(host.url, validator='"\u00e9"'))
    assert get(host.url, growing=True).sha256 == DIGEST
    assert not {"range", "if-none-match", "if-modified-since"} & set(host.requests[-1])


@pytest.mark.parametrize("asked", ["\u00b2", "soon", "-1", "1e9", "9" * 400, "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_wait_that_is_no_number_is_no_wait(get: Get, host: Host, asked: str) -> None:
    host.faults, host.headers = [429], {"Retry-After": asked}
    assert get(host.url).sha256 == DIGEST


def test_a_host_that_sends_too_slowly_is_given_up(get: Get, host: Host) -> None:
    with pytest.raises(SourceError, match=r"was given up after .* bytes: the host sends too slowly"):
        get(host.url, policy=RetryPolicy(total_s=0.0, backoff_s=0.01))


def test_each_attempt_that_fails_is_told(get: Get, host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.faults = [503, ("cut", 300_000)]
    with caplog.at_level("WARNING", logger="retrain"):
        get(host.url)
    said = [record.getMessage() for record in caplog.records]
    assert said[0].partition(": ")[2].partition(";")[0] == "HTTP 503"
    assert len(said) == 2
    assert all(text.startswith("a.zip from 127.0.0.1:") and "tried again in 0 s" in text for text in said)


def test_the_wait_that_a_host_asks_for_is_kept_within_bounds(get: Get, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    waits_s: list[float] = []
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=waits_s.append))
    host.faults, host.headers = [429], {"Retry-After": "3600"}
    get(host.url)
    assert waits_s == [FAST.max_wait_s]


def test_a_host_that_stays_busy_is_given_up(get: Get, host: Host, store: Store) -> None:
    host.faults = [503] * 9
    with pytest.raises(SourceError, match=r"failed 4 times \(HTTP 503\)"):
        get(host.url)
    assert len(host.requests) == 4
    assert tree(store) == {}


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_refusal_is_not_asked_again_and_the_next_address_is_tried(get: Get, host: Host, status: int) -> None:
    host.faults = [status]
    with pytest.raises(SourceError, match=f"HTTP {status}"):
        get(host.url)
    assert len(host.requests) == 1
    host.faults = [status]
    assert get(host.url, host.url).sha256 == DIGEST


@pytest.fixture(params=["host", "folder"])
def serve(request: pytest.FixtureRequest, host: Host, tmp_path: Path) -> Callable[[bytes], str]:
    """A way to serve a body: over HTTP, or as a file in a mirror folder."""

    def call(body: bytes) -> str:
        host.body = body
        (tmp_path / "a.zip").write_bytes(body)
        return host.url if request.param == "host" else str(tmp_path / "a.zip")

    return call


UNWANTED: list[tuple[bytes, dict[str, Any], str]] = [
    (b"<!DOCTYPE html><html>sign in</html>", {}, "is an HTML page"),
    (b"\n<html><body>" + b"x" * 5000, {"magic": b"", "size_bytes": 7}, "is an HTML page"),
    (b"\x89PNG" + b"x" * 5000, {}, r"begins with b'\\x89PNG', expected b'PK"),
    (b"", {}, "is empty"),
    (DATA, {"size_bytes": 5}, f"has {len(DATA)} bytes, expected 5"),
    (DATA, {"max_bytes": 1000}, f"has {len(DATA)} bytes, 1000 are allowed"),
    (DATA, {"sha256": OTHER_DIGEST}, f"{DIGEST}, expected {OTHER_DIGEST}"),
]


@pytest.mark.parametrize(("body", "options", "message"), UNWANTED)
def test_what_was_not_wanted_is_refused(
    get: Get, serve: Callable[[bytes], str], body: bytes, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        get(serve(body), **options)


def test_a_refused_file_leaves_nothing_behind(get: Get, host: Host, serve: Callable[[bytes], str], store: Store) -> None:
    with pytest.raises(SourceError):
        get(serve(OTHER), sha256=DIGEST)
    assert tree(store) == {}
    assert len(host.requests) <= 1  # the same bytes would come again
    assert get(serve(DATA), sha256=DIGEST).sha256 == DIGEST
    assert "range" not in (host.requests or [{}])[-1]


def test_a_changed_digest_is_refused_until_it_is_accepted(get: Get, host: Host, store: Store) -> None:
    get(host.url)
    store.raw_file("jena", DIGEST, "a.zip").unlink()
    host.body = OTHER
    before = tree(store)
    with pytest.raises(DigestChangedError, match=f"{OTHER_DIGEST} now, locked was {DIGEST}.*--accept-digest {OTHER_DIGEST}"):
        get(host.url)
    assert tree(store) == before
    assert get(host.url, accepted=[OTHER_DIGEST]).sha256 == OTHER_DIGEST
    assert locked(store)["sha256"] == OTHER_DIGEST


def test_a_mirror_that_lists_another_digest_than_the_locked_one_is_refused(
    get: Get, host: Host, store: Store, tmp_path: Path
) -> None:
    get(host.url)
    before = tree(store)
    (tmp_path / "a.zip").write_bytes(OTHER)
    with pytest.raises(DigestChangedError, match=f"--accept-digest {OTHER_DIGEST}"):
        get(str(tmp_path / "a.zip"), sha256=OTHER_DIGEST)
    assert tree(store) == before
    assert get(str(tmp_path / "a.zip"), sha256=OTHER_DIGEST, accepted=[OTHER_DIGEST]).sha256 == OTHER_DIGEST


def test_a_growing_file_is_asked_for_by_its_validator(get: Get, host: Host, store: Store) -> None:
    get(host.url, growing=True)
    assert get(host.url, growing=True).sha256 == DIGEST
    assert host.requests[1]["if-none-match"] == '"one"'
    host.body, host.etag = OTHER, '"two"'
    assert get(host.url, growing=True).sha256 == OTHER_DIGEST
    expected = {"sha256": OTHER_DIGEST, "size_bytes": len(OTHER), "etag": '"two"', "last_modified": None, "growing": True}
    assert locked(store) == expected
    assert store.raw_file("jena", DIGEST, "a.zip").read_bytes() == DATA


def test_a_growing_file_in_a_folder_is_read_anew(get: Get, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(DATA)
    assert get(f"file://{tmp_path}/a.zip", growing=True).sha256 == DIGEST
    (tmp_path / "a.zip").write_bytes(OTHER)
    assert get(f"file://{tmp_path}/a.zip", growing=True).sha256 == OTHER_DIGEST


def connections_to(silent: socket.socket) -> int:
    """Count the connections that a host let come in and never looked at."""
    silent.setblocking(False)
    count = 0
    with suppress(BlockingIOError):
        while True:
            silent.accept()[0].close()
            count += 1
    return count


def test_silent_hosts_are_noticed_in_time_and_named(get: Get) -> None:
    with closing(create_server(("127.0.0.1", 0))) as silent:  # accepts, and never answers
        port = silent.getsockname()[1]
        # Each address has half of the budget of two seconds, and no second try.
        named = [rf"{host}:{port} cannot be reached \(no answer within 1 s\)" for host in (r"127\.0\.0\.1", "localhost")]
        with pytest.raises(SourceError, match=rf"{named[0]}; {named[1]}.*RETRAIN_MIRROR.*--data sample"):
            get(f"http://127.0.0.1:{port}/a.zip", f"http://localhost:{port}/a.zip")
        assert connections_to(silent) == 2
    assert RetryPolicy().contact_s < 10


def test_a_closed_port_is_noticed_and_the_next_address_is_tried(get: Get, host: Host) -> None:
    with closing(create_server(("127.0.0.1", 0))) as server:
        closed = f"http://127.0.0.1:{server.getsockname()[1]}/a.zip"
    with pytest.raises(SourceError, match=r"cannot be reached"):
        get(closed)
    assert get(closed, host.url).sha256 == DIGEST


def test_reachable_tells_a_host_from_none(host: Host) -> None:
    assert download.reachable(host.url, timeout_s=2.0)  # its answer to HEAD is 503
    assert not download.reachable("http://host.invalid/", timeout_s=1.0)


def test_no_address_is_a_setting_to_mend(get: Get) -> None:
    with pytest.raises(SettingError, match="RETRAIN_MIRROR"):
        get()


def test_two_at_once_fetch_it_once(get: Get, host: Host) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: get(host.url), range(4)))
    assert {raw.sha256 for raw in results} == {DIGEST}
    assert len(host.requests) == 1


def test_a_remote_store_holds_the_file_and_gives_a_local_copy(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = Store.at("memory://files-test")
    raw = fetch("a.zip", urls=[host.url], store=store, dataset="jena", origin="upstream", max_bytes=10**7, policy=FAST)
    assert raw.uri == f"memory://files-test/raw/jena/{DIGEST}/a.zip"
    copy = raw_files.local_copy(raw, store=store)
    assert copy.read_bytes() == DATA
    assert raw_files.local_copy(raw, store=store) == copy


def test_a_local_file_is_its_own_copy(get: Get, host: Host, store: Store) -> None:
    raw = get(host.url)
    assert str(raw_files.local_copy(raw, store=store)) == raw.uri


def test_a_mirror_folder_gives_address_and_digest(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(DATA)
    (tmp_path / "SHA256SUMS").write_text(f"{DIGEST}  a.zip\n{OTHER_DIGEST} *./gone.zip\n")
    assert mirror_file(str(tmp_path), "a.zip") == (str(tmp_path / "a.zip"), DIGEST)
    assert mirror_file(f"file://{tmp_path}", "a.zip") == (str(tmp_path / "a.zip"), DIGEST)
    with pytest.raises(SourceError, match=r"does not list b\.zip in SHA256SUMS, listed are a\.zip, gone\.zip"):
        mirror_file(str(tmp_path), "b.zip")
    with pytest.raises(SourceError, match=r"lists gone\.zip in SHA256SUMS but does not hold it"):
        mirror_file(str(tmp_path), "gone.zip")
    (tmp_path / "SHA256SUMS").unlink()
    with pytest.raises(SourceError, match="has no SHA256SUMS"):
        mirror_file(str(tmp_path), "a.zip")
    with pytest.raises(SourceError, match="neither a folder nor an http address"):
        mirror_file(str(tmp_path / "nowhere"), "a.zip")


def test_a_mirror_on_the_web_gives_address_and_digest(host: Host) -> None:
    base = host.url.rsplit("/", 1)[0]
    host.body = f"{DIGEST}  a.zip\n".encode()
    assert mirror_file(f"{base}/", "a.zip") == (f"{base}/a.zip", DIGEST)
    host.faults = [404]
    with pytest.raises(SourceError, match=r"mirror gave no SHA256SUMS.*HTTP 404"):
        mirror_file(base, "a.zip")


def staged(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "train.parquet").write_text(text)
    (folder / "manifest.json").write_text("{}")
    return folder


@pytest.mark.parametrize("home", ["local", "remote"])
def test_a_version_is_published_once_and_then_left_alone(tmp_path: Path, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = Store.at(tmp_path / "home" if home == "local" else "memory://publish-test")
    place = store.table_folder("jena", "0f")
    assert publish_folder(staged(tmp_path / "one", "first"), into=place)
    assert not publish_folder(staged(tmp_path / "two", "second"), into=place)
    assert (place / "train.parquet").read_text() == "first"
    assert sorted(path.name for path in place.iterdir()) == ["manifest.json", "train.parquet"]
    assert not (tmp_path / "one").exists()
    assert not (tmp_path / "two").exists()


def test_a_folder_is_copied_with_the_file_last_that_says_it_is_whole(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "pages").mkdir(parents=True)
    for name in ("a.html", "index.html", "pages/z.html"):
        (source / name).write_text(name)
    # A folder is where a file has to go, so the copy ends early.
    (target / "pages" / "z.html").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        copy_folder(source, into=target, last="index.html")
    assert sorted(path.name for path in target.iterdir()) == ["a.html", "pages"]
    (target / "pages" / "z.html").rmdir()
    copy_folder(source, into=target, last="index.html")
    assert (target / "index.html").read_text() == "index.html"
    assert (target / "pages" / "z.html").read_text() == "pages/z.html"


def test_a_leftover_without_manifest_gives_way(tmp_path: Path) -> None:
    (tmp_path / "0f").mkdir()
    (tmp_path / "0f" / "val.parquet").write_text("torn")
    assert publish_folder(staged(tmp_path / "one", "first"), into=tmp_path / "0f")
    assert sorted(path.name for path in (tmp_path / "0f").iterdir()) == ["manifest.json", "train.parquet"]


def test_a_staging_folder_without_manifest_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        publish_folder(tmp_path / "one", into=tmp_path / "0f")
    assert not (tmp_path / "0f").exists()


def test_of_many_publishers_one_wins_whole(tmp_path: Path) -> None:
    stagings = [staged(tmp_path / f"s{number}", f"{number}" * 1000) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        published = list(pool.map(lambda staging: publish_folder(staging, into=tmp_path / "0f"), stagings))
    assert published.count(True) == 1
    assert (tmp_path / "0f" / "train.parquet").read_text() == f"{published.index(True)}" * 1000


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io.write_json(tmp_path / "a.json", {"a": 1})
    monkeypatch.setattr(io.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        io.write_json(tmp_path / "a.json", {"a": 2})
    assert io.read_json(tmp_path / "a.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_digest_of_json_knows_no_order_of_keys() -> None:
    # sha256 of the bytes {"a":[1,null],"b":"é"} in UTF-8
    expected = hashlib.sha256('{"a":[1,null],"b":"é"}'.encode()).hexdigest()
    assert digest_of_json({"b": "é", "a": [1, None]}) == expected
    assert digest_of_json({"a": [1, None], "b": "é"}, length=12) == expected[:12]
    with pytest.raises(ValueError, match="JSON compliant"):
        digest_of_json(float("nan"))


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert read_lines(path) == []
    path.write_bytes(b'{"number": 1}\n{"number": 2, "te')
    assert read_lines(path) == [{"number": 1}]
    path.write_bytes(b'{"a": 1}\n{"b"\n')
    with pytest.raises(DataError, match="line that is not JSON"):
        read_lines(path)
