"""Download or copy one file: within bounds, resumed after a break, and checked for what it should be."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import tenacity

from storage.errors import NotFoundError, SourceError

Progress = Callable[[int, int | None], None]

_CHUNK_BYTES = 1 << 18
_HEAD_BYTES = 512
_HTML = (b"<!doctype html", b"<html", b"<head", b'<?xml version="1.0" encoding="utf-8"?><!doctype html')
_USER_AGENT = "retrain (+scheduled data fetch)"


def is_web_address(address: str) -> bool:
    """Tell whether an address is fetched over HTTP."""
    return address.lower().startswith(("http://", "https://"))


def local_source(address: str) -> Path:
    """Return the path that a `file://` URL or a plain path names."""
    if address.lower().startswith("file://"):
        return Path(unquote(urlsplit(address).path))
    return Path(address).expanduser()


def host_of(address: str) -> str:
    """Return the name of an address in a message: its host, or the path; never its credentials or query."""
    if not is_web_address(address):
        return str(local_source(address))
    parts = urlsplit(address)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


@dataclass(frozen=True)
class ExpectedFile:
    """What is known of a file before its digest is computed.

    Attributes:
        max_bytes: A larger file is refused, and its transfer stopped.
        size_bytes: Exact size where it is known.
        magic: First bytes.
    """

    name: str
    max_bytes: int
    size_bytes: int | None = None
    magic: bytes = b""

    def check(self, head: bytes, size_bytes: int | None, *, where: str) -> None:
        """Check the first bytes, then the size where it is known, so that a page of HTML is called one and not a wrong size.

        Raises:
            SourceError: They are not those of the file.
        """
        source = f"{self.name} from {where}"
        if not head:
            raise SourceError(f"{source} is empty: fetch a whole copy")
        if not (self.magic and head.startswith(self.magic)):
            if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML):
                raise SourceError(
                    f"{source} is an HTML page, expected the file: "
                    "open the address in a browser to see which page (a login, an error?)"
                )
            if self.magic:
                first_bytes = head[: len(self.magic)]
                raise SourceError(f"{source} begins with {first_bytes!r}, expected {self.magic!r}: fetch a whole copy")
        if size_bytes is None:
            return
        if size_bytes > self.max_bytes:
            raise SourceError(f"{source} has {size_bytes} bytes, {self.max_bytes} are allowed: check the source")
        if self.size_bytes is not None and size_bytes != self.size_bytes:
            raise SourceError(f"{source} has {size_bytes} bytes, expected {self.size_bytes}: fetch a whole copy")


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

    @property
    def headers(self) -> dict[str, str]:
        """The header of a request that is answered with 304 while the file is this version."""
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.last_modified} if self.last_modified else {}


class UnreachableError(SourceError):
    """The host could not be reached."""


class _BrokenError(Exception):
    """A transfer that may succeed when it is tried again, after `wait_s` seconds at least."""

    def __init__(self, message: str, *, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def reachable(url: str, *, timeout_s: float = 5.0) -> bool:
    """Tell whether the host of a URL answers at all, through the proxy if one is set; any HTTP status counts."""
    with _client(RetryPolicy(read_s=timeout_s)) as client:
        try:
            response = _send(client, client.build_request("HEAD", url), within_s=timeout_s)
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
        raise NotFoundError(f"{expected.name} is not at {source}: put it there, or name another mirror in RETRAIN_MIRROR")
    into.parent.mkdir(parents=True, exist_ok=True)
    partial = _PartialFile(into, expected=expected, where=str(source), on_progress=on_progress)
    try:
        with source.open("rb") as stream:
            partial.write(iter(lambda: stream.read(_CHUNK_BYTES), b""), start=0, total=source.stat().st_size)
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
        into: The partial file; a note beside it says from where and in which version its bytes are.
        expected: What the file must be.
        policy: Waits and tries.
        contact_s: This address's share of the budget for the first answer.
        current: Validators of the stored copy; the file is only fetched when the host has another version.
        on_progress: Called with the bytes so far and the total, if the host sends it.

    Returns:
        The host's validators, or None when the stored copy is still current.

    Raises:
        UnreachableError: The host gave no answer.
        SourceError: The host answered with something else than the file, or the transfer kept breaking.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    partial = _PartialFile(into, expected=expected, where=host_of(url), on_progress=on_progress)
    attempts = _Attempts(url, partial, current=current, policy=policy, deadline=time.monotonic() + contact_s)
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.tries),
        wait=attempts.wait_s,
        retry=tenacity.retry_if_exception(attempts.is_worth_another),
        reraise=True,
    )
    with _client(policy) as client:
        try:
            return retrying(attempts.make, client)
        except SourceError:
            discard(into)  # a file that was refused is never continued
            raise
        except (httpx.HTTPError, httpx.InvalidURL, _BrokenError) as error:
            reason = str(error) or type(error).__name__
            if not attempts.contacted:
                raise UnreachableError(f"{host_of(url)} cannot be reached ({reason})") from error
            raise SourceError(
                f"{expected.name} from {host_of(url)} failed {policy.tries} times ({reason}): run again to continue from there"
            ) from error


def discard(partial: Path) -> None:
    """Remove a partial file and its note."""
    partial.unlink(missing_ok=True)
    _note(partial).unlink(missing_ok=True)


def _note(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.note")


def _client(policy: RetryPolicy) -> httpx.Client:
    return httpx.Client(
        follow_redirects=True,
        max_redirects=5,
        timeout=httpx.Timeout(policy.read_s, connect=policy.contact_s),
        # Compressed transfers have no length to check and no offset to resume from.
        headers={"Accept-Encoding": "identity", "User-Agent": _USER_AGENT},
    )


def _send(client: httpx.Client, request: httpx.Request, *, within_s: float) -> httpx.Response:
    """Return the opened response, or raise when there is none in time.

    The request runs in a thread of its own, because httpx does not limit the time of name resolution, which is often 5 to 30 s.
    """
    answers: queue.SimpleQueue[httpx.Response | Exception] = queue.SimpleQueue()
    given_up = threading.Event()

    def send() -> None:
        try:
            response = client.send(request, stream=True)
        except Exception as error:
            answers.put(error)
            return
        answers.put(response)
        if given_up.is_set():
            response.close()

    threading.Thread(target=send, daemon=True).start()
    try:
        answer = answers.get(timeout=within_s)
    except queue.Empty:
        given_up.set()
        raise httpx.ConnectTimeout(f"no answer within {within_s:.0f} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


@dataclass
class _Attempts:
    """Attempts to download one URL.

    Attributes:
        deadline: Until when a first answer must have come, by the monotonic clock.
        contacted: Whether the host has answered; then it gets the time-outs of a transfer.
    """

    url: str
    partial: _PartialFile
    current: Validators | None
    policy: RetryPolicy
    deadline: float
    contacted: bool = field(default=False, init=False)

    def make(self, client: httpx.Client) -> Validators | None:
        """Make one attempt; see `download`."""
        headers = self.partial.range_headers(self.url) or (self.current.headers if self.current else {})
        within_s = self.policy.read_s if self.contacted else max(self.deadline - time.monotonic(), 0.1)
        response = _send(client, client.build_request("GET", self.url, headers=headers), within_s=within_s)
        self.contacted = True
        with closing(response):
            return self.partial.receive(response, url=self.url)

    def is_worth_another(self, error: BaseException) -> bool:
        """Tell whether an attempt that ended with this error is made again."""
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            return self.contacted or time.monotonic() + self.policy.backoff_s < self.deadline
        return isinstance(error, _BrokenError | httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)

    def wait_s(self, state: tenacity.RetryCallState) -> float:
        """Return how long to wait before the next attempt."""
        first_s = self.policy.backoff_s
        backoff = tenacity.wait_exponential(multiplier=first_s) + tenacity.wait_random(0, first_s)
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.wait_s if isinstance(error, _BrokenError) else 0.0
        pause_s = min(max(backoff(state), asked_s), self.policy.max_wait_s)
        return pause_s if self.contacted else min(pause_s, max(self.deadline - time.monotonic(), 0.0))


@dataclass(frozen=True)
class _PartialFile:
    """The file into which bytes are written, checked against what is expected."""

    path: Path
    expected: ExpectedFile
    where: str
    on_progress: Progress | None

    def range_headers(self, url: str) -> dict[str, str]:
        """Return the headers that ask for the rest of the file, if its bytes can be continued from this URL."""
        if not self._size():
            return {}
        try:
            note = json.loads(_note(self.path).read_text(encoding="utf-8"))
            if note["url"] != url or not isinstance(note["validator"], str):
                return {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return {"Range": f"bytes={self._size()}-", "If-Range": note["validator"]}

    def receive(self, response: httpx.Response, *, url: str) -> Validators | None:
        """Write the body of a response; return the host's validators, or None when it has no newer version."""
        status, size_bytes = response.status_code, self._size()
        validators = Validators(response.headers.get("etag"), response.headers.get("last-modified"))
        if status == 304:
            return None
        if status == 416:
            if size_bytes and response.headers.get("content-range") == f"bytes */{size_bytes}":
                self.write((), start=size_bytes, total=size_bytes)
                return validators
            discard(self.path)
            raise _BrokenError("the host could not continue the transfer")
        if status == 429 or status >= 500:
            retry_after = response.headers.get("retry-after", "")
            raise _BrokenError(f"HTTP {status}", wait_s=float(retry_after) if retry_after.isdigit() else 0.0)
        if status not in {200, 206}:
            answer = f"HTTP {status} {response.reason_phrase}, expected the file: check the address"
            text = f"{self.expected.name} from {self.where}: {answer}"
            raise NotFoundError(text) if status in {404, 410} else SourceError(text)
        start = 0
        if status == 206:
            first_byte = response.headers.get("content-range", "").removeprefix("bytes ").split("-")[0]
            if first_byte != str(size_bytes):
                discard(self.path)
                raise _BrokenError(f"the host continued at byte {first_byte or 'unknown'}, not at {size_bytes}")
            start = size_bytes
        if not start:
            discard(self.path)
        encoded = response.headers.get("content-encoding", "identity") != "identity"
        length = response.headers.get("content-length", "")
        total = start + int(length) if length.isdigit() and not encoded else None
        # Without a length a broken transfer looks like a complete one, so it is never continued.
        if total is not None and validators.for_range:
            _note(self.path).write_text(json.dumps({"url": url, "validator": validators.for_range}), encoding="utf-8")
        self.write(response.iter_bytes(_CHUNK_BYTES) if encoded else response.iter_raw(_CHUNK_BYTES), start=start, total=total)
        return validators

    def write(self, chunks: Iterable[bytes], *, start: int, total: int | None) -> None:
        """Write chunks from byte `start` on; what is known to be wrong ends the transfer at once."""
        done = start
        with self.path.open("r+b" if start else "w+b") as stream:
            head, is_checked = stream.read(_HEAD_BYTES), False
            stream.seek(start)
            for chunk in chunks:
                done += len(chunk)
                if not is_checked:
                    head = (head + chunk)[:_HEAD_BYTES]
                    if is_checked := len(head) == _HEAD_BYTES:
                        self.expected.check(head, total, where=self.where)
                if done > (limit := self.expected.max_bytes):
                    raise SourceError(
                        f"{self.expected.name} from {self.where} is larger than the {limit} bytes allowed: check the source"
                    )
                stream.write(chunk)
                if self.on_progress:
                    self.on_progress(done, total)
        if not is_checked:
            self.expected.check(head, total, where=self.where)
        if total is not None and done != total:
            raise _BrokenError(f"{done} of {total} bytes came")
        self.expected.check(head, done, where=self.where)

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0
