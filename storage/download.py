"""One file from one address into a partial file: bounded, resumed, checked for what it is."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import tenacity

from storage.addresses import host_of, local_source
from storage.errors import SourceError

Progress = Callable[[int, int | None], None]

_CHUNK_BYTES = 1 << 18
_SNIFFED_BYTES = 512
_HTML = (b"<!doctype html", b"<html", b"<head", b'<?xml version="1.0" encoding="utf-8"?><!doctype html')
_USER_AGENT = "retrain (+scheduled data fetch)"


@dataclass(frozen=True)
class ExpectedFile:
    """What a file must be before its digest is looked at.

    Attributes:
        size_bytes: Exact size where it is known.
        max_bytes: Above this the transfer stops.
        magic: First bytes.
    """

    name: str
    max_bytes: int
    size_bytes: int | None = None
    magic: bytes = b""


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait, and how often to try again.

    Attributes:
        contact_s: Budget of all addresses together for the first answer; a host that does not answer is noticed within it.
        read_s: Longest silence within a transfer.
        tries: Attempts at one address.
        backoff_s: First wait between attempts; it doubles, with jitter.
        max_wait_s: Longest wait between attempts, also when the host asks for more (`Retry-After`).
    """

    contact_s: float = 9.0
    read_s: float = 30.0
    tries: int = 4
    backoff_s: float = 0.5
    max_wait_s: float = 20.0


@dataclass(frozen=True)
class Validators:
    """What a host says about the version of a file, for conditional requests."""

    etag: str | None = None
    last_modified: str | None = None

    @property
    def for_range(self) -> str | None:
        """The validator that `If-Range` admits: a strong ETag, else the date."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified


class UnreachableError(SourceError):
    """No connection came about."""


class _BrokenError(Exception):
    """A transfer that may succeed when it is tried again."""

    def __init__(self, message: str, *, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def reachable(url: str, *, timeout_s: float = 5.0) -> bool:
    """Tell whether the host of a URL answers at all, through the proxy if one is set; any HTTP status counts."""
    with _client(RetryPolicy(read_s=timeout_s)) as client:
        try:
            response = _answer(client, "HEAD", url, headers={}, within_s=timeout_s)
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
        response.close()
        return True


def copy_local(address: str, into: Path, *, expected: ExpectedFile, on_progress: Progress | None = None) -> None:
    """Copy a local file through the checks that a download passes.

    Raises:
        SourceError: The file is not there, or is not what was expected.
    """
    source = local_source(address)
    if not source.is_file():
        raise SourceError(f"{expected.name} is not at {source}: put it there, or name another mirror in RETRAIN_MIRROR")
    into.parent.mkdir(parents=True, exist_ok=True)
    try:
        with source.open("rb") as stream:
            chunks = iter(lambda: stream.read(_CHUNK_BYTES), b"")
            _receive(
                chunks, into, start=0, total=source.stat().st_size, expected=expected, where=str(source), on_progress=on_progress
            )
    except _BrokenError as error:
        raise SourceError(f"{expected.name} changed while it was read at {source} ({error}): run again") from error
    except OSError as error:
        raise SourceError(f"{expected.name} cannot be copied from {source}: {error.strerror or error}") from error


def download(
    url: str,
    into: Path,
    *,
    expected: ExpectedFile,
    policy: RetryPolicy,
    contact_s: float,
    current: Validators | None = None,
    on_progress: Progress | None = None,
) -> Validators | None:
    """Download one URL into a partial file, continuing what an earlier attempt left there.

    Args:
        url: The http or https address.
        into: The partial file; what it holds after an interruption is described by a note beside it.
        expected: What the file must be.
        policy: Waits and tries.
        contact_s: This address's share of the budget for the first answer.
        current: Validators of the stored copy; the file is only fetched when the host has another version.
        on_progress: Called with the bytes so far and the total, if the host tells it.

    Returns:
        The host's validators, or None when the stored copy is still current.

    Raises:
        UnreachableError: The host gave no answer.
        SourceError: The host answered with something else than the file, or the transfer kept breaking.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + contact_s
    contacted = False

    def attempt() -> Validators | None:
        nonlocal contacted
        within_s = policy.read_s if contacted else max(deadline - time.monotonic(), 0.1)
        with _response(client, url, into, current=current, within_s=within_s) as response:
            contacted = True
            return _take(response, into, url=url, expected=expected, on_progress=on_progress)

    def is_worth_another_try(error: BaseException) -> bool:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            return contacted or time.monotonic() + policy.backoff_s < deadline
        return isinstance(error, _BrokenError | httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)

    backoff = tenacity.wait_exponential(multiplier=policy.backoff_s) + tenacity.wait_random(0, policy.backoff_s)

    def wait_s(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait_s if isinstance(error, _BrokenError) else 0.0
        pause = min(max(backoff(state), asked), policy.max_wait_s)
        return pause if contacted else min(pause, max(deadline - time.monotonic(), 0.0))

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.tries),
        wait=wait_s,
        retry=tenacity.retry_if_exception(is_worth_another_try),
        reraise=True,
    )
    with _client(policy) as client:
        try:
            return retrying(attempt)
        except SourceError:
            discard(into)  # a file that was refused is never continued
            raise
        except (httpx.HTTPError, httpx.InvalidURL, _BrokenError) as error:
            if not contacted:
                raise UnreachableError(f"{host_of(url)} cannot be reached ({_reason(error)})") from error
            raise SourceError(
                f"{expected.name} from {host_of(url)} failed {policy.tries} times ({_reason(error)}): "
                "run again to continue from there"
            ) from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _client(policy: RetryPolicy) -> httpx.Client:
    return httpx.Client(
        follow_redirects=True,
        max_redirects=5,
        timeout=httpx.Timeout(policy.read_s, connect=policy.contact_s),
        # Compressed transfers have no length to check and no offset to resume from.
        headers={"Accept-Encoding": "identity", "User-Agent": _USER_AGENT},
    )


def _answer(client: httpx.Client, method: str, url: str, *, headers: Mapping[str, str], within_s: float) -> httpx.Response:
    """Return the opened response, or raise when there is none in time.

    The request runs in a thread of its own, because the resolver's time-outs (often 5 to 30 s) are none of httpx's.
    """
    answers: queue.SimpleQueue[httpx.Response | Exception] = queue.SimpleQueue()
    given_up = threading.Event()

    def ask() -> None:
        try:
            response = client.send(client.build_request(method, url, headers=headers), stream=True)
        except Exception as error:
            answers.put(error)
            return
        answers.put(response)
        if given_up.is_set():
            response.close()

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=within_s)
    except queue.Empty:
        given_up.set()
        raise httpx.ConnectTimeout(f"no answer within {within_s:.0f} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


@contextmanager
def _response(
    client: httpx.Client, url: str, into: Path, *, current: Validators | None, within_s: float
) -> Iterator[httpx.Response]:
    headers: dict[str, str] = {}
    validator = _resumable(into, url)
    if validator:
        headers = {"Range": f"bytes={into.stat().st_size}-", "If-Range": validator}
    elif current and current.etag:
        headers = {"If-None-Match": current.etag}
    elif current and current.last_modified:
        headers = {"If-Modified-Since": current.last_modified}
    response = _answer(client, "GET", url, headers=headers, within_s=within_s)
    try:
        yield response
    finally:
        response.close()


def _take(
    response: httpx.Response, into: Path, *, url: str, expected: ExpectedFile, on_progress: Progress | None
) -> Validators | None:
    status = response.status_code
    held = into.stat().st_size if into.exists() else 0
    validators = Validators(response.headers.get("etag"), response.headers.get("last-modified"))
    if status == 304:
        return None
    if status == 416:
        if response.headers.get("content-range") == f"bytes */{held}" and held:
            _receive((), into, start=held, total=held, expected=expected, where=host_of(url), on_progress=on_progress)
            return validators
        discard(into)
        raise _BrokenError("the host could not continue the transfer")
    if status == 429 or status >= 500:
        raise _BrokenError(f"HTTP {status}", wait_s=_retry_after_s(response))
    if status not in {200, 206}:
        raise SourceError(
            f"{expected.name} from {host_of(url)}: HTTP {status} {response.reason_phrase}, expected the file: check the address"
        )
    start = 0
    if status == 206:
        start = _range_start(response)
        if start != held:
            discard(into)
            raise _BrokenError(f"the host continued at byte {start}, not at {held}")
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    length = response.headers.get("content-length")
    total = start + int(length) if length and length.isdigit() and not encoded else None
    if start == 0:
        discard(into)
    # Without a length a cut transfer cannot be told from a whole one, so none is continued.
    if total is not None and validators.for_range:
        _note(into).write_text(json.dumps({"url": url, "validator": validators.for_range}), encoding="utf-8")
    chunks = response.iter_bytes(_CHUNK_BYTES) if encoded else response.iter_raw(_CHUNK_BYTES)
    _receive(chunks, into, start=start, total=total, expected=expected, where=host_of(url), on_progress=on_progress)
    return validators


def _receive(
    chunks: Iterable[bytes],
    into: Path,
    *,
    start: int,
    total: int | None,
    expected: ExpectedFile,
    where: str,
    on_progress: Progress | None,
) -> None:
    """Write chunks behind `start`, checking the first bytes before the sizes: a page of HTML has the wrong size too."""
    done = start
    head = b""
    if start:
        with into.open("rb") as stream:
            head = stream.read(_SNIFFED_BYTES)
    is_checked = False
    with into.open("r+b" if start else "wb") as stream:
        stream.seek(start)
        for chunk in chunks:
            done += len(chunk)
            if not is_checked:
                head = (head + chunk)[:_SNIFFED_BYTES]
                if is_checked := len(head) == _SNIFFED_BYTES:
                    _check(head, total, expected=expected, where=where)
            if done > expected.max_bytes:
                raise SourceError(
                    f"{expected.name} from {where} is larger than the {expected.max_bytes} bytes allowed: check the source"
                )
            stream.write(chunk)
            if on_progress:
                on_progress(done, total)
    if not is_checked:
        _check(head, total if total is not None else done, expected=expected, where=where)
    if total is not None and done != total:
        raise _BrokenError(f"{done} of {total} bytes came")
    if expected.size_bytes is not None and done != expected.size_bytes:
        raise SourceError(f"{expected.name} from {where} has {done} bytes, expected {expected.size_bytes}: fetch a whole copy")


def _check(head: bytes, total: int | None, *, expected: ExpectedFile, where: str) -> None:
    if not head:
        raise SourceError(f"{expected.name} from {where} is empty: fetch a whole copy")
    if not (expected.magic and head.startswith(expected.magic)):
        if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML):
            raise SourceError(
                f"{expected.name} from {where} is an HTML page, expected the file: "
                "open the address in a browser to see which page (a login, an error?)"
            )
        if expected.magic:
            first_bytes = head[: len(expected.magic)]
            raise SourceError(
                f"{expected.name} from {where} begins with {first_bytes!r}, expected {expected.magic!r}: fetch a whole copy"
            )
    if total is None:
        return
    if total > expected.max_bytes:
        raise SourceError(f"{expected.name} from {where} has {total} bytes, {expected.max_bytes} are allowed: check the source")
    if expected.size_bytes is not None and total != expected.size_bytes:
        raise SourceError(f"{expected.name} from {where} has {total} bytes, expected {expected.size_bytes}: fetch a whole copy")


def discard(partial: Path) -> None:
    """Remove a partial file and its note."""
    partial.unlink(missing_ok=True)
    _note(partial).unlink(missing_ok=True)


def _note(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.note")


def _resumable(partial: Path, url: str) -> str | None:
    """Return the validator under which a partial file can be continued from this URL, if it can."""
    if not partial.exists() or not partial.stat().st_size:
        return None
    try:
        note = json.loads(_note(partial).read_text(encoding="utf-8"))
        validator = note["validator"] if note["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        validator = None
    return validator if isinstance(validator, str) else None


def _range_start(response: httpx.Response) -> int:
    first = response.headers.get("content-range", "").removeprefix("bytes ").split("-")[0]
    return int(first) if first.isdigit() else -1


def _retry_after_s(response: httpx.Response) -> float:
    seconds = response.headers.get("retry-after", "")
    return float(seconds) if seconds.isdigit() else 0.0
