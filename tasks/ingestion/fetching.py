"""From the settings of the data to its raw files: which source and files, from which origin, fetched or found in the store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from storage.download import is_web_address, local_source, reachable
from storage.environment import Environment
from storage.errors import NotFoundError, SettingError, unknown
from storage.layout import Store
from storage.raw_files import earlier_states, fetch, mirror_file
from storage.redaction import without_secrets
from storage.references import RawFile, RawRef
from tasks.config import DataSettings
from tasks.datasets import dataset_named
from tasks.datasets.request import SplitSettings, TableRequest
from tasks.datasets.spec import DatasetSpec, Source, SourceFile

SAMPLE, OWN = "sample", "own"
# The states of a rolling file that a table is made from: as many as it may take until a finished file holds their rows.
KEPT_STATES_DAYS = 430
MAX_LOCAL_BYTES = 1 << 31
OnProgress = Callable[[str, int, int | None], None]


def today() -> date:
    """Return the day that `RETRAIN_TODAY` names, or that of the clock of this host."""
    return Environment.read().today or datetime.now().astimezone().date()


def source_named(spec: DatasetSpec, settings: DataSettings) -> tuple[str, Source, dict[str, Any]]:
    """Return the source in the settings, or the default one, with its name and the values of its options that were set.

    Raises:
        SettingError: The data set has no such source, or the source has no such options.
    """
    name = settings.source or spec.default_source
    if name not in spec.sources:
        raise unknown("source", name, where=spec.name, choices=spec.sources)
    source = spec.sources[name]
    options = settings.options.model_dump(mode="json", exclude_none=True)
    if options and type(settings.options) is not source.options:
        owners = ", ".join(each for each, other in spec.sources.items() if type(settings.options) is other.options)
        remedy = f"choose source {owners}, or leave them out" if owners else "leave them out"
        raise SettingError(f"source {name} of {spec.name} has no options {', '.join(options)}: {remedy}")
    return name, source, options


def source_files(spec: DatasetSpec, settings: DataSettings) -> tuple[str, tuple[SourceFile, ...]]:
    """Return the name of the source in the settings, or of the default source, and its files.

    Raises:
        SettingError: The data set has no such source, the source has no such options, the sample is asked for together with a
            source, or the split is none of the data set's.
    """
    name, source, options = source_named(spec, settings)
    # A person's own files may stand beside the sample.
    if settings.data == SAMPLE and source.gather is None and (settings.source or options):
        asked = ", ".join([f"source {name}", *options])
        raise SettingError(
            f"the sample of {spec.name} is simulated and comes from no source, and {asked} is asked for: leave that out, or "
            "choose data upstream"
        )
    table_request(spec, settings)
    return name, source.files(options, today())


def table_request(spec: DatasetSpec, settings: DataSettings, *, simulated: bool = False) -> TableRequest:
    """Return what the settings ask of a table, every choice that was left open made.

    Raises:
        SettingError: The data set has no such source or split, or the source has no such options.
    """
    name, source, options = source_named(spec, settings)
    goes_on = source.goes_on(options) and not simulated
    usual = "recent" if goes_on and "recent" in spec.split_rules else spec.split_rules[0]
    rule = settings.split.rule or usual
    if rule not in spec.split_rules:
        raise unknown("split", rule, where=spec.name, choices=spec.split_rules)
    split = settings.split.model_copy(update={"rule": rule}) if rule == "recent" else SplitSettings(rule=rule)
    if simulated:
        return TableRequest(source=SAMPLE, limits=settings.limits, split=split)
    # Where else the files may be says nothing about what is in them.
    options = {option: value for option, value in options.items() if option not in source.options.address_fields()}
    return TableRequest(source=name, options=options, limits=settings.limits, split=split)


def resolve_origin(settings: DataSettings, *, mirror: str | None, url: str, can_reach: Callable[[str], bool]) -> str:
    """Return `mirror`, `upstream` or `sample`: the origin in the settings, or for `auto` the first that is available.

    A source that a person names is never replaced by the sample.

    Args:
        settings: Settings of the data.
        mirror: Folder or URL of the mirror, or None.
        url: Upstream address that `can_reach` is asked for.
        can_reach: Whether a URL can be reached.

    Raises:
        SettingError: The settings name the mirror, and there is none.
    """
    if settings.data == "mirror" and not mirror:
        raise SettingError("--data mirror needs a mirror: set RETRAIN_MIRROR to a folder or URL with a SHA256SUMS")
    if settings.data != "auto":
        return settings.data
    if mirror:
        return "mirror"
    return "upstream" if settings.source or can_reach(url) else SAMPLE


def fetch_raw(
    dataset: str, *, settings: DataSettings, store: Store, mirror: str | None, on_progress: OnProgress | None = None
) -> RawRef:
    """Fetch the files of a data set, or simulate its sample, into the raw files of the store.

    Raises:
        RetrainError: The settings are wrong, a host does not answer, or a file is not what it should be.
    """
    spec = dataset_named(dataset)
    source, files = source_files(spec, settings)
    hosted = [file for file in files if not file.own]
    url = hosted[0].urls[0] if hosted else ""
    origin = resolve_origin(settings, mirror=mirror, url=url, can_reach=lambda url: not hosted or reachable(url, timeout_s=9.0))
    if origin == SAMPLE:
        request = table_request(spec, settings, simulated=True).model_dump(mode="json")
        files_of_sample = (*_sample(spec, store=store), *_gathered(spec, settings=settings, store=store, simulated=True))
        return RawRef(dataset=dataset, source=SAMPLE, origin=SAMPLE, simulated=True, files=files_of_sample, request=request)
    # Before anything is fetched: what is wrong with a person's own files is said at once.
    gathered = _gathered(spec, settings=settings, store=store, simulated=False)
    fetching = _Fetching(spec.name, source=source, origin=origin, mirror=mirror, settings=settings, store=store, say=on_progress)
    return RawRef(
        dataset=dataset,
        source=source,
        origin=origin if hosted else OWN,
        simulated=False,
        files=(*fetching.all_of(files), *gathered),
        request=table_request(spec, settings).model_dump(mode="json"),
    )


@dataclass(frozen=True)
class _Fetching:
    """Fetches the files of one source from one origin."""

    dataset: str
    source: str
    origin: str
    mirror: str | None
    settings: DataSettings
    store: Store
    say: OnProgress | None
    silent_hosts: set[str] = field(default_factory=set)

    def all_of(self, files: Sequence[SourceFile]) -> tuple[RawFile, ...]:
        """Return every file once, and of a rolling file also its earlier states, the newest first.

        Raises:
            NotFoundError: A file that must be there is not, or none of the optional ones is.
        """
        found: dict[str, RawFile] = {}
        missing: list[NotFoundError] = []
        for file in files:
            try:
                found |= self._one_of((file, *file.instead), done=found)
            except NotFoundError as error:
                if not file.optional:
                    raise
                missing.append(error)
        if missing and len(missing) == sum(file.optional for file in files):
            raise self._nowhere(missing, what="none of the files with the newest rows is there") from missing[-1]
        for file in files:
            for each in (file, *file.instead) if file.rolling else ():
                found |= self._earlier(each, but=found.get(each.name))
        return tuple(found.values())

    def _one_of(self, files: Sequence[SourceFile], *, done: Mapping[str, RawFile]) -> dict[str, RawFile]:
        """Return the first file, or all the others that are there in its place."""
        first, *others = files
        if first.name in done:
            return {}
        try:
            return {first.name: self._fetch(first)}
        except NotFoundError as error:
            errors = [error]
        found: dict[str, RawFile] = {}
        for other in others:
            if other.name in done:
                return {}
            try:
                found[other.name] = self._fetch(other)
            except NotFoundError as error:
                errors.append(error)
        # A half-year that has not ended may be missing beside the other; a finished one may not.
        absent = [other for other in others if other.name not in found]
        if found and all(other.optional or other.rolling for other in absent):
            return found
        if not errors[0].tried:
            raise errors[0]  # a mirror: its list is the one place, and what may stand in for the file says nothing more
        raise self._nowhere(errors, what=f"{first.name} and what may stand in for it are not there") from errors[-1]

    def _nowhere(self, errors: Sequence[NotFoundError], *, what: str) -> NotFoundError:
        """Return the error for files that no address has: it names each file and each address once."""
        if len(errors) == 1 or not all(error.tried for error in errors):
            return NotFoundError("; ".join(map(str, errors)), tried=errors[0].tried)
        tried = [each for error in errors for each in error.tried]
        names = dict.fromkeys(name for name, _, _ in tried)
        places = dict.fromkeys(f"{address.replace(name, '{name}')} ({answer})" for name, address, answer in tried)
        options = dataset_named(self.dataset).sources[self.source].options
        flags = [flag for flag, field in options.flags().items() if field in options.address_fields()]
        remedy = f", and give the new address with {' or '.join(flags)}" if flags else ""
        message = f"{what}: {', '.join(names)}; tried {', '.join(places)}: see whether the publisher has moved them{remedy}"
        return NotFoundError(message, tried=tried)

    def _fetch(self, file: SourceFile) -> RawFile:
        urls, sha256, size_bytes, locked_under = file.urls, file.sha256, file.size_bytes, self._locked_under(file)
        if self.origin == "mirror" and self.mirror and not file.own:
            # A mirror replaces the hosts, so the digests of its own SHA256SUMS hold and not the pinned ones.
            url, sha256 = mirror_file(self.mirror, file.name)
            urls, size_bytes = (url,), None
        return fetch(
            file.name,
            urls=urls,
            store=self.store,
            dataset=self.dataset,
            origin=locked_under,
            max_bytes=file.max_bytes,
            sha256=sha256,
            size_bytes=size_bytes,
            magic=file.magic,
            growing=file.growing,
            rolling=file.rolling,
            today=today(),
            accepted=self.settings.accept_digests,
            silent_hosts=self.silent_hosts,
            on_progress=None if self.say is None else _named(self.say, file.name),
        )

    def _earlier(self, file: SourceFile, *, but: RawFile | None) -> dict[str, RawFile]:
        since = today() - timedelta(days=KEPT_STATES_DAYS)
        states = earlier_states(self.store, dataset=self.dataset, origin=self._locked_under(file), name=file.name, since=since)
        newest_first = reversed(states)
        return {f"{each.name}@{each.sha256[:12]}": each for each in newest_first if but is None or each.sha256 != but.sha256}

    def _locked_under(self, file: SourceFile) -> str:
        if file.own:
            return OWN
        return f"mirror {_absolute_address(self.mirror)}" if self.origin == "mirror" and self.mirror else self.source


def _absolute_address(mirror: str) -> str:
    """Return a mirror's address as it is from any working folder, and without a password: digests are locked under it."""
    return without_secrets(mirror).rstrip("/") if is_web_address(mirror) else str(local_source(mirror).resolve())


def _named(on_progress: OnProgress, name: str) -> Callable[[int, int | None], None]:
    return lambda done, total: on_progress(name, done, total)


def _sample(spec: DatasetSpec, *, store: Store) -> tuple[RawFile, ...]:
    """Simulate the sample, and store its files as if they were fetched."""
    with tempfile.TemporaryDirectory() as folder:
        return _stored(spec.simulate(Path(folder)), store=store, dataset=raw_name(spec.name, simulated=True), origin=SAMPLE)


def raw_name(dataset: str, *, simulated: bool) -> str:
    """Return the name under which the raw files of a data set are stored: those of the sample have their own."""
    return f"{dataset}-{SAMPLE}" if simulated else dataset


def _gathered(spec: DatasetSpec, *, settings: DataSettings, store: Store, simulated: bool) -> tuple[RawFile, ...]:
    """Gather a person's own files, and store what is made of them as if it was fetched."""
    _, source, options = source_named(spec, settings)
    if source.gather is None:
        return ()
    dataset = raw_name(spec.name, simulated=simulated)
    with tempfile.TemporaryDirectory() as folder:
        return _stored(source.gather(options, Path(folder)), store=store, dataset=dataset, origin=OWN)


def _stored(paths: Sequence[Path], *, store: Store, dataset: str, origin: str) -> tuple[RawFile, ...]:
    """Store local files as if they were fetched.

    They are `growing`: a new digest means new code of a sample, or new files of a person, which nobody has to accept.
    """
    return tuple(
        fetch(
            path.name,
            urls=(str(path),),
            store=store,
            dataset=dataset,
            origin=origin,
            max_bytes=MAX_LOCAL_BYTES,
            growing=True,
        )
        for path in paths
    )
