"""Download or copy one file: within bounds, resumed after a break, and checked for what it should be."""

from __future__ import annotations

import hashlib
import json
import logging
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
from storage.expected_file import ExpectedFile
from storage.http_headers import Validators, number_of, sendable

logger = logging.getLogger("retrain")

Progress = Callable[[int, int | None], None]

_CHUNK_BYTES = 1 << 18
_HEAD_BYTES = 512
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
class RetryPolicy:
    """How long to wait, and how often to try again.

    Attributes:
        contact_s: Budget of all addresses together for the first answer; a host that does not answer is noticed within it.
        read_s: Longest silence within a transfer.
        total_s: Longest time of one file, all attempts at one address together: a host may send a byte now and then for days.
        tries: Attempts at one address.
        backoff_s: First wait between attempts; it doubles, with jitter.
        max_wait_s: Longest wait between attempts, also when the host asks for more (`Retry-After`).
    """

    contact_s: float = 9.0
    read_s: float = 20.0
    total_s: float = 3_600.0
    tries: int = 4
    backoff_s: float = 0.5
    max_wait_s: float = 20.0


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
    until = time.monotonic() + policy.total_s
    partial = _PartialFile(into, expected=expected, where=host_of(url), on_progress=on_progress, until=until)
    attempts = _Attempts(url, partial, current=current, policy=policy, deadline=time.monotonic() + contact_s)
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.tries),
        wait=attempts.wait_s,
        retry=tenacity.retry_if_exception(attempts.is_worth_another),
        before_sleep=attempts.tell,
        reraise=True,
    )
    with _client(policy) as client:
        try:
            return retrying(attempts.make, client)
        except SourceError:
            discard(into)  # a file that was refused is never continued
            raise
        except (httpx.HTTPError, httpx.InvalidURL, _BrokenError) as error:
            reason = _reason(error)
            if not attempts.contacted:
                raise UnreachableError(f"{host_of(url)} cannot be reached ({reason})") from error
            raise SourceError(
                f"{expected.name} from {host_of(url)} failed {policy.tries} times ({reason}): run again to continue from there"
            ) from error


def _reason(error: BaseException | None) -> str:
    if isinstance(error, httpx.ReadTimeout):
        return "silent for too long"
    return str(error) or type(error).__name__


def discard(partial: Path) -> None:
    """Remove a partial file and its note."""
    partial.unlink(missing_ok=True)
    _note(partial).unlink(missing_ok=True)


def _mark(url: str) -> str:
    """Return a digest of an address, which may hold a password: notes lie on the disk."""
    return hashlib.sha256(url.encode()).hexdigest()


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

    def tell(self, state: tenacity.RetryCallState) -> None:
        """Log why an attempt ended, and when the next one is made."""
        error = state.outcome.exception() if state.outcome else None
        pause_s = state.next_action.sleep if state.next_action else 0.0
        logger.warning(
            "%s from %s: %s; tried again in %.0f s", self.partial.expected.name, self.partial.where, _reason(error), pause_s
        )

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
    """The file into which bytes are written, checked against what is expected.

    Attributes:
        until: When the transfer is given up, by the monotonic clock.
    """

    path: Path
    expected: ExpectedFile
    where: str
    on_progress: Progress | None
    until: float = float("inf")

    def range_headers(self, url: str) -> dict[str, str]:
        """Return the headers that ask for the rest of the file, if its bytes can be continued from this URL."""
        if not self._size():
            return {}
        try:
            note = json.loads(_note(self.path).read_text(encoding="utf-8"))
            validator = sendable(note["validator"])
            if note["url"] != _mark(url) or not validator:
                return {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return {"Range": f"bytes={self._size()}-", "If-Range": validator}

    def receive(self, response: httpx.Response, *, url: str) -> Validators | None:
        """Write the body of a response; return the host's validators, or None when it has no newer version."""
        status, size_bytes = response.status_code, self._size()
        validators = Validators.of(response.headers.get("etag"), response.headers.get("last-modified"))
        if status == 304:
            return None
        if status == 416:
            if size_bytes and response.headers.get("content-range") == f"bytes */{size_bytes}":
                self.write((), start=size_bytes, total=size_bytes)
                return validators
            discard(self.path)
            raise _BrokenError("the host could not continue the transfer")
        if status == 429 or status >= 500:
            asked_s = number_of(response.headers.get("retry-after", ""))
            raise _BrokenError(f"HTTP {status}", wait_s=float(asked_s or 0))
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
        length = number_of(response.headers.get("content-length", ""))
        total = start + length if length is not None and not encoded else None
        # Without a length a broken transfer looks like a complete one, so it is never continued.
        if total is not None and validators.for_range:
            _note(self.path).write_text(json.dumps({"url": _mark(url), "validator": validators.for_range}), encoding="utf-8")
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
                if time.monotonic() > self.until:
                    raise SourceError(
                        f"{self.expected.name} from {self.where} was given up after {done} bytes: the host sends too slowly, "
                        "fetch the file from a mirror"
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
