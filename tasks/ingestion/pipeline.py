"""The steps of ingestion, from a source to a published table, without Prefect."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from storage.download import is_web_address, local_source, reachable
from storage.errors import RejectedError, SettingError, unknown
from storage.folders import publish_folder, replace_folder
from storage.io import digest_of_json, read_json, write_json
from storage.layout import Store
from storage.raw_files import fetch, local_copy, mirror_file
from storage.references import RawFile, RawRef, Reference, TableRef
from storage.tables import exists, read_manifest, read_table, write_manifest, write_table
from tasks.config import DataSettings
from tasks.datasets import dataset_named
from tasks.datasets.spec import SPLITS, DatasetSpec, Parsed, Repair, SourceFile

SAMPLE = "sample"
OWN = "own"
VERSION_DIGITS = 12
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
    """

    report_uri: str
    docs_uri: str
    passed: int
    failed: int


def source_files(spec: DatasetSpec, settings: DataSettings) -> tuple[str, tuple[SourceFile, ...]]:
    """Return the name of the source in the settings, or of the default source, and its files.

    Raises:
        SettingError: The data set has no such source, or the source has no such options.
    """
    name = settings.source or spec.default_source
    if name not in spec.sources:
        raise unknown("source", name, where=spec.name, choices=spec.sources)
    source = spec.sources[name]
    options = settings.options.model_dump(exclude_none=True)
    if options and type(settings.options) is not source.options:
        owners = ", ".join(each for each, other in spec.sources.items() if type(settings.options) is other.options)
        remedy = f"choose source {owners}, or leave them out" if owners else "leave them out"
        raise SettingError(f"source {name} of {spec.name} has no options {', '.join(options)}: {remedy}")
    return name, source.files(options)


def resolve_origin(settings: DataSettings, *, mirror: str | None, url: str, can_reach: Callable[[str], bool]) -> str:
    """Return `mirror`, `upstream` or `sample`: the origin in the settings, or for `auto` the first that is available.

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
    return "upstream" if can_reach(url) else SAMPLE


def fetch_raw(
    dataset: str, *, settings: DataSettings, store: Store, mirror: str | None, on_progress: OnProgress | None = None
) -> RawRef:
    """Fetch the files of a data set, or simulate its sample, into the raw files of the store.

    Raises:
        RetrainError: The settings are wrong, a host does not answer, or a file is not what it should be.
    """
    spec = dataset_named(dataset)
    source, files = source_files(spec, settings)
    origin = resolve_origin(settings, mirror=mirror, url=files[0].urls[0], can_reach=lambda url: reachable(url, timeout_s=9.0))
    if origin == SAMPLE:
        own = _own(spec, source=source, settings=settings, store=store, simulated=True)
        return RawRef(dataset=dataset, source=SAMPLE, origin=SAMPLE, simulated=True, files=(*_sample(spec, store=store), *own))
    fetched = list(_own(spec, source=source, settings=settings, store=store, simulated=False))
    for file in files:
        urls, sha256, size_bytes, locked_under = file.urls, file.sha256, file.size_bytes, source
        if origin == "mirror" and mirror:
            # A mirror replaces the hosts, so the digests of its own SHA256SUMS hold and not the pinned ones.
            url, sha256 = mirror_file(mirror, file.name)
            urls, size_bytes, locked_under = (url,), None, f"mirror {_absolute_address(mirror)}"
        fetched.append(
            fetch(
                file.name,
                urls=urls,
                store=store,
                dataset=dataset,
                origin=locked_under,
                max_bytes=file.max_bytes,
                sha256=sha256,
                size_bytes=size_bytes,
                magic=file.magic,
                growing=file.growing,
                accepted=settings.accept_digests,
                on_progress=None if on_progress is None else _named(on_progress, file.name),
            )
        )
    return RawRef(dataset=dataset, source=source, origin=origin, simulated=False, files=tuple(fetched))


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


def _own(spec: DatasetSpec, *, source: str, settings: DataSettings, store: Store, simulated: bool) -> tuple[RawFile, ...]:
    """Gather a person's own files, and store what is made of them as if it was fetched."""
    gather = spec.sources[source].gather
    if gather is None:
        return ()
    with tempfile.TemporaryDirectory() as folder:
        return tuple(
            fetch(
                path.name,
                urls=(str(path),),
                store=store,
                dataset=f"{spec.name}-{SAMPLE}" if simulated else spec.name,
                origin=OWN,
                max_bytes=1 << 31,
                # A person may add to their files at any time.
                growing=True,
            )
            for path in gather(settings.options.model_dump(exclude_none=True), Path(folder))
        )


def table_version(raw: RawRef, *, transform_version: int) -> str:
    """Return the version of a table: a digest of its source, its raw files and its transformation."""
    digests = {file.name: file.sha256 for file in raw.files}
    content = {"dataset": raw.dataset, "source": raw.source, "raw": digests, "transform_version": transform_version}
    return digest_of_json(content, length=VERSION_DIGITS)


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
        dataset=dataset, version=version, uri=str(folder), simulated=manifest["simulated"], rows=rows, published=published
    )


def parse_raw(raw: RawRef, *, store: Store) -> ParsedRef:
    """Parse and repair raw files into a staging folder.

    Raises:
        DataError: A file does not have its layout, or a repair is above its limit.
    """
    spec = dataset_named(raw.dataset)
    version = table_version(raw, transform_version=spec.transform_version)
    parsed = spec.parse({file.name: local_copy(file, store=store) for file in raw.files}, raw.source)
    folder = store.staging(raw.dataset, version)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write_parsed(parsed, folder=folder)
    return ParsedRef(dataset=raw.dataset, version=version, folder=str(folder), raw=raw)


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


def validate_parsed(parsed: ParsedRef, *, store: Store) -> ValidationRef:
    """Run the data set's suite, and store its Data Docs whether it passes or not.

    Raises:
        RejectedError: A critical expectation failed. The staged data is removed.
    """
    from tasks.ingestion.validation import rejected_message, run_suite

    spec = dataset_named(parsed.dataset)
    staged = Path(parsed.folder)
    docs = staged.with_name(f"{staged.name}-docs")
    shutil.rmtree(docs, ignore_errors=True)
    report = run_suite(
        spec.validation_frame(_read_parsed(staged)),
        name=f"{spec.name}-{parsed.version}",
        expectations=spec.expectations(parsed.raw.source),
        docs_folder=docs,
    )
    reports = store.report_folder(parsed.dataset, parsed.version)
    write_json(docs / "validation.json", report.as_dict())
    replace_folder(docs, into=reports)
    if not report.passed_critical:
        shutil.rmtree(staged, ignore_errors=True)
        raise RejectedError(f"{rejected_message(report)}; Data Docs: {reports / 'index.html'}")
    passed = sum(outcome.success for outcome in report.outcomes)
    return ValidationRef(
        report_uri=str(reports / "validation.json"),
        docs_uri=str(reports / "index.html"),
        passed=passed,
        failed=len(report.outcomes) - passed,
    )


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
            "transform_version": spec.transform_version,
            "normalisation": dict(splits.normalisation),
            "bounds": dict(splits.bounds),
            "repairs": [asdict(repair) for repair in data.repairs],
            "facts": dict(data.facts),
            "expectations": {"passed": validation.passed, "failed": validation.failed},
        },
    )
    published = publish_folder(folder, into=store.table_folder(parsed.dataset, parsed.version))
    shutil.rmtree(staged, ignore_errors=True)
    return table_ref(parsed.dataset, version=parsed.version, store=store, published=published)
