"""The steps of ingestion, from a source to a published table, without Prefect."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.download import is_web_address, local_source, reachable
from storage.environment import Environment
from storage.errors import NotFoundError, RejectedError, SettingError, unknown
from storage.folders import publish_folder, replace_folder
from storage.io import digest_of_json, read_json, write_atomically, write_json
from storage.layout import Store
from storage.raw_files import earlier_states, fetch, local_copy, mirror_file
from storage.references import RawFile, RawRef, Reference, TableRef
from storage.tables import exists, read_manifest, read_table, write_manifest, write_table
from tasks.config import DataSettings
from tasks.datasets import dataset_named
from tasks.datasets.request import SplitSettings, TableRequest
from tasks.datasets.spec import SPLITS, DatasetSpec, Expectation, Parsed, Repair, Source, SourceFile

SAMPLE, OWN = "sample", "own"
VERSION_DIGITS = 12
# The states of a rolling file that a table is made from: as many as it may take until a finished file holds their rows.
KEPT_STATES_DAYS = 430
OnProgress = Callable[[str, int, int | None], None]


class ParsedRef(Reference):
    """A parsed and repaired data set in a staging folder of this host; nothing is published yet."""

    dataset: str
    version: str
    folder: str
    raw: RawRef


class ValidationRef(Reference):
    """The outcome of a suite in which no critical expectation failed.

    Attributes:
        passed: Number of expectations that passed.
        failed: Number of expectations that failed.
        acceptance: Who accepted which critical failures of this table version, when and why; None: there were none.
    """

    report_uri: str
    docs_uri: str
    passed: int
    failed: int
    acceptance: dict[str, Any] | None = None


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
        SettingError: The data set has no such source, the source has no such options, or the split is none of the data set's.
    """
    name, source, options = source_named(spec, settings)
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
        sample = _sample(spec, store=store)
        return RawRef(dataset=dataset, source=SAMPLE, origin=SAMPLE, simulated=True, files=sample, request=request)
    fetching = _Fetching(spec.name, source=source, origin=origin, mirror=mirror, settings=settings, store=store, say=on_progress)
    return RawRef(
        dataset=dataset,
        source=source,
        origin=origin if hosted else OWN,
        simulated=False,
        files=fetching.all_of(files),
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
    """Return a mirror's address as it is from any working folder: digests are locked under it."""
    return mirror.rstrip("/") if is_web_address(mirror) else str(local_source(mirror).resolve())


def _named(on_progress: OnProgress, name: str) -> Callable[[int, int | None], None]:
    return lambda done, total: on_progress(name, done, total)


def _sample(spec: DatasetSpec, *, store: Store) -> tuple[RawFile, ...]:
    """Simulate the sample, and store its files as if they were fetched."""
    with tempfile.TemporaryDirectory() as folder:
        return tuple(
            fetch(
                path.name,
                urls=(str(path),),
                store=store,
                dataset=f"{spec.name}-{SAMPLE}",
                origin=SAMPLE,
                max_bytes=1 << 28,
                # The sample follows from the code, so a new digest means new code, which no person has to accept.
                growing=True,
            )
            for path in spec.simulate(Path(folder))
        )


def _request_of(raw: RawRef) -> TableRequest:
    """Return what is asked of the table that is made from these files."""
    return TableRequest.model_validate({**raw.request, "source": raw.source})


def table_version(raw: RawRef, *, transform_version: int) -> str:
    """Return the version of a table: a digest of its raw files, of what is asked of it, and of its transformation."""
    digests = _digests(raw)
    content = {"dataset": raw.dataset, "raw": digests, "transform_version": transform_version}
    return digest_of_json(content | _request_of(raw).content(), length=VERSION_DIGITS)


def _digests(raw: RawRef) -> dict[str, str]:
    """Return the digests by name of the file; an earlier state of a rolling file has some digits behind its name."""
    return {name: file.sha256 for name, file in _by_name(raw).items()}


def _by_name(raw: RawRef) -> dict[str, RawFile]:
    """Return the files by name. Of several with one name the first has it, and the others have some digits behind it."""
    files: dict[str, RawFile] = {}
    for file in raw.files:
        files[file.name if file.name not in files else f"{file.name}@{file.sha256[:12]}"] = file
    return files


def find_published_table(raw: RawRef, *, store: Store) -> TableRef | None:
    """Return the table that was published from these raw files before, or None."""
    version = table_version(raw, transform_version=dataset_named(raw.dataset).transform_version)
    if not exists(store, raw.dataset, version):
        return None
    return table_ref(raw.dataset, version=version, store=store, published=False)


def table_ref(dataset: str, *, version: str, store: Store, published: bool) -> TableRef:
    """Return the reference to a published table; `published` tells whether this run published it."""
    folder = store.table_folder(dataset, version)
    manifest = read_manifest(folder)
    rows = {split: manifest["files"][f"{split}.parquet"]["rows"] for split in SPLITS}
    return TableRef(
        dataset=dataset,
        version=version,
        uri=str(folder),
        simulated=manifest["simulated"],
        rows=rows,
        published=published,
        newest=str(manifest["facts"].get("last_stamp", "")),
    )


def with_age(table: TableRef, *, settings: DataSettings) -> TableRef:
    """Return the reference, marked as stale if its source goes on and has brought nothing for longer than expected."""
    spec = dataset_named(table.dataset)
    _, source, options = source_named(spec, settings)
    if table.simulated or not table.newest or not source.goes_on(options):
        return table
    age = today() - datetime.fromisoformat(table.newest).date()
    return table.model_copy(update={"stale": age > timedelta(days=settings.stale_after_days)})


def parse_raw(raw: RawRef, *, store: Store) -> ParsedRef:
    """Parse and repair raw files into a staging folder.

    Raises:
        DataError: A file does not have its layout, or a repair is above its limit.
    """
    spec = dataset_named(raw.dataset)
    version = table_version(raw, transform_version=spec.transform_version)
    request = _request_of(raw)
    parsed = spec.parse(
        {name: _readable(file, spec=spec, request=request, store=store) for name, file in _by_name(raw).items()}, request
    )
    folder = store.staging(raw.dataset, version)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write_parsed(parsed, folder=folder)
    return ParsedRef(dataset=raw.dataset, version=version, folder=str(folder), raw=raw)


def _readable(file: RawFile, *, spec: DatasetSpec, request: TableRequest, store: Store) -> Path:
    """Return a local path of a raw file, or of what was read from it, which is kept for the next table.

    Raises:
        DataError: The file does not have its layout.
    """
    local = local_copy(file, store=store)
    if spec.read_part is None:
        return local
    version = digest_of_json(
        {"part_version": spec.part_version, "source": request.source, "options": dict(request.options)}, length=12
    )
    part = store.part(spec.name, file.sha256, version)
    if not part.is_file():
        buffer = pa.BufferOutputStream()
        pq.write_table(spec.read_part(file.name, local, request), buffer, compression="lz4")
        write_atomically(part, buffer.getvalue().to_pybytes())
    return part


def _write_parsed(parsed: Parsed, *, folder: Path) -> None:
    write_table(parsed.table, folder / "parsed.parquet")
    for name, table in parsed.extras.items():
        write_table(table, folder / f"extra-{name}.parquet")
    write_json(folder / "parsed.json", {"repairs": [asdict(repair) for repair in parsed.repairs], "facts": dict(parsed.facts)})


def _read_parsed(folder: Path) -> Parsed:
    notes = read_json(folder / "parsed.json")
    extras = {path.stem.removeprefix("extra-"): read_table(path) for path in sorted(folder.glob("extra-*.parquet"))}
    repairs = tuple(Repair(**repair) for repair in notes["repairs"])
    return Parsed(table=read_table(folder / "parsed.parquet"), repairs=repairs, facts=notes["facts"], extras=extras)


def validate_parsed(parsed: ParsedRef, *, settings: DataSettings, store: Store) -> ValidationRef:
    """Run the data set's suite, and store its Data Docs whether it passes or not.

    Raises:
        RejectedError: A critical expectation failed, or more was repaired than a limit allows, and no person has accepted
            that for this table version. The staged data is removed.
    """
    from tasks.ingestion.validation import rejected_message, run_suite

    spec = dataset_named(parsed.dataset)
    staged = Path(parsed.folder)
    docs = staged.with_name(f"{staged.name}-docs")
    shutil.rmtree(docs, ignore_errors=True)
    data = _read_parsed(staged)
    expectations = spec.expectations(_request_of(parsed.raw))
    report = run_suite(
        spec.validation_frame(data), name=f"{spec.name}-{parsed.version}", expectations=expectations, docs_folder=docs
    )
    excessive = [repair for repair in data.repairs if not repair.is_within_limit]
    critical = [
        expectation
        for expectation, outcome in zip(expectations, report.outcomes, strict=True)
        if outcome.severity == "critical" and not outcome.success
    ]
    acceptance = None
    if excessive or critical:
        acceptance = _acceptance(settings, version=parsed.version, excessive=excessive, critical=critical)
    reports = store.report_folder(parsed.dataset, parsed.version)
    write_json(docs / "validation.json", report.as_dict() | {"acceptance": acceptance})
    replace_folder(docs, into=reports)
    if (excessive or critical) and acceptance is None:
        shutil.rmtree(staged, ignore_errors=True)
        reasons = [f"{spec.name}-{parsed.version}: {_excess_text(repair)}" for repair in excessive]
        reasons += [rejected_message(report)] if critical else []
        remedy = _acceptance_remedy(settings, version=parsed.version, critical=critical)
        raise RejectedError(f"{'; '.join(reasons)}; {remedy}; Data Docs: {reports / 'index.html'}")
    passed = sum(outcome.success for outcome in report.outcomes)
    return ValidationRef(
        report_uri=str(reports / "validation.json"),
        docs_uri=str(reports / "index.html"),
        passed=passed,
        failed=len(report.outcomes) - passed,
        acceptance=acceptance,
    )


def _excess_text(repair: Repair) -> str:
    return f"{repair.name}: {repair.count:,}, a share of {repair.share:.4f}, expected at most {repair.limit:g} ({repair.rule})"


def _acceptance(
    settings: DataSettings, *, version: str, excessive: Sequence[Repair], critical: Sequence[Expectation]
) -> dict[str, Any] | None:
    """Return who accepts the failures of a table version, when and why; None: nobody, or one of them cannot be accepted."""
    if version not in settings.accept_failures or not all(expectation.can_be_accepted for expectation in critical):
        return None
    return {
        "version": version,
        "by": settings.accepted_by,
        "reason": settings.accept_reason,
        "at": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "failures": [repair.name for repair in excessive] + [expectation.meaning for expectation in critical],
    }


def _acceptance_remedy(settings: DataSettings, *, version: str, critical: Sequence[Expectation]) -> str:
    """Return what a person can do about rejected data."""
    fixed = [expectation.meaning for expectation in critical if not expectation.can_be_accepted]
    if fixed:
        return f"nobody can accept this, because tables and models rest on it: {fixed[0].rstrip('.')}; correct the data upstream"
    option = f'--accept-failures {version} --reason "..."'
    if settings.accept_failures:
        others = ", ".join(settings.accept_failures)
        return f"the failures accepted are those of {others}, and this is {version}: correct the data, or accept it with {option}"
    return f"correct the data upstream, raise a limit, or accept this one version with {option}"


def publish_parsed(parsed: ParsedRef, *, validation: ValidationRef, store: Store) -> TableRef:
    """Split and normalise the data, and publish the table: the manifest is written last, and the folder moved as a whole."""
    spec = dataset_named(parsed.dataset)
    staged = Path(parsed.folder)
    data = _read_parsed(staged)
    splits = spec.split(data)
    folder = staged.with_name(f"{staged.name}-table")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tables: dict[str, pa.Table] = {**{str(name): table for name, table in splits.tables.items()}, **data.extras}
    for name, table in tables.items():
        write_table(table, folder / f"{name}.parquet")
    write_manifest(
        folder,
        {
            "dataset": spec.name,
            "version": parsed.version,
            "title": spec.title,
            "licence": spec.licence,
            "simulated": parsed.raw.simulated,
            "source": parsed.raw.source,
            "origin": parsed.raw.origin,
            "raw": [file.model_dump(exclude={"uri"}) for file in parsed.raw.files],
            "request": parsed.raw.request,
            "transform_version": spec.transform_version,
            "normalisation": dict(splits.normalisation),
            "bounds": dict(splits.bounds),
            "repairs": [asdict(repair) for repair in data.repairs],
            "facts": dict(data.facts),
            "expectations": {"passed": validation.passed, "failed": validation.failed},
            "acceptance": validation.acceptance,
        },
    )
    published = publish_folder(folder, into=store.table_folder(parsed.dataset, parsed.version))
    shutil.rmtree(staged, ignore_errors=True)
    return table_ref(parsed.dataset, version=parsed.version, store=store, published=published)
