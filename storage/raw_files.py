"""Raw files: fetched with checks, locked by digest, stored under their digest."""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from upath import UPath

from storage import download
from storage.checksums import SUMS
from storage.download import Progress, RetryPolicy, UnreachableError, host_of, is_web_address, local_source
from storage.errors import DigestChangedError, MirrorError, NotFoundError, SettingError, SourceError
from storage.expected_file import ExpectedFile
from storage.http_headers import Validators
from storage.io import copy_file, locked, sha256_of
from storage.journal import SharedValue
from storage.layout import Store
from storage.redaction import without_secrets
from storage.references import RawFile

_MAXSUMS_BYTES = 1 << 20


def local_copy(raw: RawFile, *, store: Store) -> Path:
    """Return a local path with the bytes of a fetched file: the stored file itself in a local store, else a cached copy.

    Raises:
        SourceError: The file is no longer there, or does not match its digest.
    """
    source = UPath(raw.uri)
    if not source.is_file():
        raise SourceError(f"{raw.name} is not at {raw.uri}: fetch it again")
    if source.protocol == "":
        return Path(str(source))
    copy = store.local_copy(raw.sha256, raw.name)
    with locked(copy):
        if not copy.is_file():
            beside = copy.with_name(f".{copy.name}.partial")
            copy_file(source, beside)
            digest = sha256_of(beside)
            if digest != raw.sha256:
                beside.unlink()
                raise SourceError(f"{raw.uri} has digest {digest}, expected {raw.sha256}: remove it and fetch it again")
            beside.replace(copy)
    return copy


def fetch(
    name: str,
    *,
    urls: Sequence[str],
    store: Store,
    dataset: str,
    origin: str,
    max_bytes: int,
    sha256: str | None = None,
    size_bytes: int | None = None,
    magic: bytes = b"",
    growing: bool = False,
    rolling: bool = False,
    today: date | None = None,
    accepted: Collection[str] = (),
    silent_hosts: set[str] | None = None,
    on_progress: Progress | None = None,
    policy: RetryPolicy | None = None,
) -> RawFile:
    """Fetch one file into `raw/<dataset>/<sha256>/<name>`, or find it there.

    A stored file whose digest is pinned or locked costs no network; one that is still growing costs a conditional request. A
    file that was still growing when it was fetched is asked for once more after it has stopped, and so is one whose content was
    rejected (`ask_again`).

    Args:
        name: File name.
        urls: http(s) addresses, `file://` URLs or local paths, in the order in which they are tried.
        store: Where files are kept.
        dataset: Data set that the file belongs to.
        origin: What the lock is for, such as `station` or the mirror's address: the same name may have other bytes elsewhere.
        max_bytes: Above this the transfer stops.
        sha256: Pinned digest; None locks the first one seen.
        size_bytes: Exact size where it is known.
        magic: First bytes that the file must have.
        growing: True while the publisher still appends to the file: a changed digest replaces the lock.
        rolling: True to remember every state of the file, for `earlier_states`.
        today: The day that a state is remembered with.
        accepted: Digests that may replace the locked one.
        silent_hosts: Hosts that gave no answer for another file, which are not waited for again; those of this file are added.
        on_progress: Called with the bytes so far and the total, if the host sends it.
        policy: Waits and tries.

    Raises:
        NotFoundError: Every address answered, and none has the file.
        SourceError: No address has the file, or a host sent something else.
        DigestChangedError: The file has another digest than the locked one. The stored file is left as it is.
    """
    if not urls:
        raise SettingError(f"no address is known for {name} of {dataset}: name a mirror in RETRAIN_MIRROR")
    policy = policy or RetryPolicy()
    partial = store.partial(dataset, origin, name)
    pinned = sha256.lower() if sha256 else None
    with locked(partial):  # a second process waits here, then reads the stored file
        lock = _locks(store, dataset).get(f"{origin}:{name}")
        is_final = not growing and not (lock and lock.get("growing"))
        state = _State(growing=growing, day=today if rolling else None)
        set_lock = functools.partial(_set_lock, store, dataset, origin=origin, state=state, replaces=lock, accepted=accepted)
        if pinned and lock and is_final:
            _refuse_change(name, digest=pinned, lock=lock, dataset=dataset, origin=origin, accepted=accepted)
        expected_digest = pinned or (lock["sha256"] if lock else None)
        stored = _find_stored(store, dataset, name, expected_digest, size_bytes=_size(lock, expected_digest) or size_bytes)
        if stored and (pinned or is_final):
            if not lock or lock["sha256"] != stored.sha256 or bool(lock.get("growing")) != growing:
                set_lock(raw=stored, validators=None)
            return stored
        current = Validators.of(lock["etag"], lock["last_modified"]) if stored and lock else None
        expected = ExpectedFile(name=name, max_bytes=max_bytes, size_bytes=size_bytes, magic=magic)
        try:
            validators, is_current = _obtain(
                urls,
                partial,
                expected=expected,
                policy=policy,
                current=current,
                silent_hosts=set() if silent_hosts is None else silent_hosts,
                on_progress=on_progress,
            )
            if is_current and stored:
                if not growing:
                    set_lock(raw=stored, validators=current)
                return stored
            digest = sha256_of(partial)
            if pinned and digest != pinned:
                download.discard(partial)
                raise SourceError(
                    f"{name} from {_hosts(urls)} has SHA-256 {digest}, expected {pinned}: "
                    "fetch a whole copy, or correct the pinned digest"
                )
            if lock and is_final:
                try:
                    _refuse_change(name, digest=digest, lock=lock, dataset=dataset, origin=origin, accepted=accepted)
                except DigestChangedError:
                    download.discard(partial)
                    raise
            raw = _store_file(partial, store=store, dataset=dataset, sha256=digest)
        except OSError as error:
            raise SourceError(
                f"{name} cannot be kept under {store.root} ({error.strerror or error}): free or mend the disk"
            ) from error
        set_lock(raw=raw, validators=validators)
        return raw


def earlier_states(store: Store, *, dataset: str, origin: str, name: str, since: date) -> tuple[RawFile, ...]:
    """Return the stored states of a rolling file that were fetched on or after a day, the newest one last."""
    lock = _locks(store, dataset).get(f"{origin}:{name}", {})
    digests = [state["sha256"] for state in lock.get("states", ()) if state["day"] >= since.isoformat()]
    files = (_find_stored(store, dataset, name, digest, size_bytes=None) for digest in digests)
    return tuple(file for file in files if file)


def ask_again(files: Sequence[RawFile], *, store: Store, dataset: str) -> None:
    """Let the next fetch ask for some locked files once more, because their content was rejected.

    If the publisher has replaced a file by then, the new one is taken without `DigestChangedError`: nothing was made from the old
    one. If not, the stored file stays and nothing is fetched.
    """
    digests = {file.sha256 for file in files}

    def changed(locks: dict[str, Any]) -> dict[str, Any]:
        return {key: lock | {"growing": True} if lock["sha256"] in digests else lock for key, lock in locks.items()}

    if any(lock["sha256"] in digests and not lock.get("growing") for lock in _locks(store, dataset).values()):
        _shared_locks(store, dataset).change(changed)


def _obtain(
    urls: Sequence[str],
    partial: Path,
    *,
    expected: ExpectedFile,
    policy: RetryPolicy,
    current: Validators | None,
    silent_hosts: set[str],
    on_progress: Progress | None,
) -> tuple[Validators | None, bool]:
    """Fill the partial file from the first address that has it.

    Returns:
        The host's validators, and whether the copy in the store is still the current one, so that nothing was fetched.
    """
    errors: list[SourceError] = []
    contact_until = time.monotonic() + policy.contact_s
    for position, url in enumerate(urls):
        try:
            if not is_web_address(url):
                download.copy_local(url, partial, expected=expected, on_progress=on_progress)
                return None, False
            if host_of(url) in silent_hosts and len(urls) > 1:
                raise UnreachableError(f"{host_of(url)} cannot be reached (it gave no answer before)")
            share_s = max(contact_until - time.monotonic(), 0.1) / (len(urls) - position)
            validators = download.download(
                url, partial, expected=expected, policy=policy, contact_s=share_s, current=current, on_progress=on_progress
            )
        except SourceError as error:
            errors.append(error)
            if isinstance(error, UnreachableError):
                silent_hosts.add(host_of(url))
            else:
                # The budget limits silence only, so a host that answered has used none of it.
                contact_until = time.monotonic() + policy.contact_s
        else:
            return validators, validators is None
    reasons = "; ".join(dict.fromkeys(str(error) for error in errors))
    # A host that is gone for good must not hide that the others have no such file.
    has_answer = any(isinstance(error, NotFoundError) for error in errors)
    if has_answer and all(isinstance(error, NotFoundError | UnreachableError) for error in errors):
        addresses = ", ".join(dict.fromkeys(_shown(url) for url in urls))
        answers = ["cannot be reached" if isinstance(error, UnreachableError) else "no such file" for error in errors]
        tried = [(expected.name, _shown(url), answer) for url, answer in zip(urls, answers, strict=True)]
        raise NotFoundError(f"{reasons}; tried {addresses}", tried=tried) from errors[-1]
    if any(isinstance(error, UnreachableError) for error in errors):
        raise SourceError(
            f"cannot fetch {expected.name}: {reasons}: set RETRAIN_MIRROR to a folder or URL that holds it, or use --data sample"
        ) from errors[-1]
    raise SourceError(reasons) from errors[-1]


def _shown(address: str) -> str:
    """Return an address for a message: without its credentials and its query."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{host_of(address)}{parts.path}" if is_web_address(address) else str(local_source(address))


def _hosts(urls: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(host_of(url) for url in urls))


def _store_file(partial: Path, *, store: Store, dataset: str, sha256: str) -> RawFile:
    target = store.raw_file(dataset, sha256, partial.name)
    size_bytes = partial.stat().st_size
    target.parent.mkdir(parents=True, exist_ok=True)
    if store.is_local:
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(Path(str(target)))
    else:
        copy_file(partial, target)
    download.discard(partial)
    return RawFile(name=partial.name, uri=str(target), sha256=sha256, size_bytes=size_bytes)


def _find_stored(store: Store, dataset: str, name: str, sha256: str | None, *, size_bytes: int | None) -> RawFile | None:
    if sha256 is None:
        return None
    target = store.raw_file(dataset, sha256, name)
    if not target.is_file():
        return None
    stored_bytes = target.stat().st_size
    if size_bytes is not None and stored_bytes != size_bytes:
        return None
    return RawFile(name=name, uri=str(target), sha256=sha256, size_bytes=stored_bytes)


def _size(lock: dict[str, Any] | None, sha256: str | None) -> int | None:
    return int(lock["size_bytes"]) if lock and lock["sha256"] == sha256 else None


@dataclass(frozen=True)
class _State:
    """What is remembered of a file beside its digest: whether it still grew, and for a rolling file the day."""

    growing: bool
    day: date | None


def _shared_locks(store: Store, dataset: str) -> SharedValue:
    return SharedValue(store.locks(dataset), beginning=store.first_locks(dataset))


def _locks(store: Store, dataset: str) -> dict[str, Any]:
    return _shared_locks(store, dataset).read()


def _set_lock(
    store: Store,
    dataset: str,
    *,
    origin: str,
    raw: RawFile,
    validators: Validators | None,
    state: _State,
    replaces: Mapping[str, Any] | None,
    accepted: Collection[str],
) -> None:
    """Lock the digest of a file in the place of an earlier lock.

    Raises:
        DigestChangedError: Another host has locked another digest in the meantime. The stored file is left as it is.
    """
    key = f"{origin}:{raw.name}"

    def changed(locks: dict[str, Any]) -> dict[str, Any]:
        current = locks.get(key)
        if current and current != replaces and not (state.growing or current.get("growing")):
            _refuse_change(raw.name, digest=raw.sha256, lock=current, dataset=dataset, origin=origin, accepted=accepted)
        states = [each for each in (current or {}).get("states", ()) if each["sha256"] != raw.sha256]
        if state.day:
            states.append({"sha256": raw.sha256, "day": state.day.isoformat()})
        lock = {
            "sha256": raw.sha256,
            "size_bytes": raw.size_bytes,
            "etag": validators.etag if validators else None,
            "last_modified": validators.last_modified if validators else None,
            **({"growing": True} if state.growing else {}),
            **({"states": states} if states else {}),
        }
        return dict(sorted((locks | {key: lock}).items()))

    _shared_locks(store, dataset).change(changed)


def _refuse_change(name: str, *, digest: str, lock: dict[str, Any], dataset: str, origin: str, accepted: Collection[str]) -> None:
    if digest == lock["sha256"] or digest in {each.lower() for each in accepted}:
        return
    raise DigestChangedError(
        f"{name} of {dataset} from {origin} has SHA-256 {digest} now, locked was {lock['sha256']}: "
        f"if the change is meant, accept it with --accept-digest {digest}"
    )


def mirror_file(mirror: str, name: str) -> tuple[str, str | None]:
    """Return the address of a file in a mirror, and the digest that the mirror's `SHA256SUMS` lists for it.

    Args:
        mirror: A folder, a `file://` URL or an http(s) address.
        name: File name.

    Raises:
        MirrorError: It is no mirror, or has no `SHA256SUMS`.
        NotFoundError: It does not list this file, or does not hold it.
        SourceError: It does not answer.
    """
    if is_web_address(mirror):
        return _beside(mirror, name), _listed(_read_remote(_beside(mirror, SUMS)), name, mirror=without_secrets(mirror))
    folder = local_source(mirror).absolute()
    if not folder.is_dir():
        raise MirrorError(f"mirror {mirror!r} is neither a folder nor an http address: correct RETRAIN_MIRROR")
    sums = folder / SUMS
    if not sums.is_file():
        raise MirrorError(f"mirror {folder} has no {SUMS}: make it there with `sha256sum * > {SUMS}`")
    digest = _listed(sums.read_bytes(), name, mirror=str(folder))
    if not (folder / name).is_file():
        raise NotFoundError(f"mirror {folder} lists {name} in {SUMS} but does not hold it: copy the file there")
    return str(folder / name), digest


def _beside(mirror: str, name: str) -> str:
    """Return the address of a file in a remote mirror; a query, such as a token, stays at its end."""
    parts = urlsplit(mirror)
    return urlunsplit((*parts[:2], f"{parts.path.rstrip('/')}/{quote(name)}", *parts[3:]))


def _read_remote(url: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder, SUMS)
        policy = RetryPolicy()
        try:
            download.download(
                url,
                into,
                expected=ExpectedFile(name=SUMS, max_bytes=_MAXSUMS_BYTES),
                policy=policy,
                contact_s=policy.contact_s,
            )
        except SourceError as error:
            kind = MirrorError if isinstance(error, NotFoundError) else SourceError
            raise kind(f"mirror gave no {SUMS}: {error}: correct RETRAIN_MIRROR") from error
        return into.read_bytes()


def _listed(sums: bytes, name: str, *, mirror: str) -> str:
    listed: dict[str, str] = {}
    for line in sums.decode("utf-8", errors="replace").splitlines():
        digest, _, file_name = line.strip().partition(" ")
        if len(digest) == 64 and file_name:
            listed[file_name.strip().removeprefix("*").removeprefix("./")] = digest.lower()
    if name not in listed:
        raise NotFoundError(
            f"mirror {mirror} does not list {name} in {SUMS}, listed are {', '.join(sorted(listed)) or 'none'}: add it there"
        )
    return listed[name]
