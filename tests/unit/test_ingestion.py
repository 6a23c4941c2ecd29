"""From a source to a published table on a real store: what is published, and what is left when it is not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from pydantic import ValidationError

from storage.errors import DataError, RejectedError, RetrainError, SettingError
from storage.io import sha256_of
from storage.layout import Store
from storage.raw_files import fetch
from storage.references import RawFile, RawRef
from storage.tables import read_manifest, read_validation
from tasks.config import DataSettings
from tasks.datasets import DATASETS
from tasks.datasets.jena import spec as jena
from tasks.datasets.jena.sample import SAMPLE_FILE, simulated_weather, write_csv_zip
from tasks.datasets.jena.station import StationOptions
from tasks.datasets.request import SplitSettings
from tasks.ingestion.fetching import fetch_raw, resolve_origin
from tasks.ingestion.pipeline import (
    find_published_table,
    parse_raw,
    publish_parsed,
    table_version,
    validate_parsed,
    write_missing_docs,
)

HALF_YEARS = StationOptions(from_period="2009a", to_period="2009a")
SAMPLE = DataSettings(data="sample")
ROWS = 10_000  # as few as the suite lets pass


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "home")


def small_jena(folder: Path, *, store: Store, rows: int = ROWS, **columns: Any) -> RawRef:
    """Fetch a small simulated file, with columns replaced, as if it were the sample."""
    frame = simulated_weather(rows, seed=5, start="2009-05-01T00:00:00").assign(**columns)
    folder.mkdir(exist_ok=True)
    path = write_csv_zip(frame, folder / SAMPLE_FILE)
    file = fetch(path.name, urls=(str(path),), store=store, dataset="jena-sample", origin="test", max_bytes=10**8, growing=True)
    return RawRef(dataset="jena", source="sample", origin="sample", simulated=True, files=(file,))


def files_under(folder: Any) -> dict[str, bytes]:
    root = Path(str(folder))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def staged(store: Store, dataset: str) -> list[str]:
    folder = store.staging(dataset, "any").parent
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# --- where data comes from


@pytest.mark.parametrize(
    ("data", "mirror", "reached", "expected"),
    [
        ("auto", "/mirror", True, "mirror"),
        ("auto", "/mirror", False, "mirror"),
        ("auto", None, True, "upstream"),
        ("auto", None, False, "sample"),
        ("upstream", "/mirror", False, "upstream"),
        ("upstream", None, False, "upstream"),
        ("mirror", "/mirror", False, "mirror"),
        ("sample", "/mirror", True, "sample"),
        ("sample", None, False, "sample"),
    ],
)
def test_the_origin_is_what_was_asked_for_or_the_first_that_is_there(
    data: Any, mirror: str | None, reached: bool, expected: str
) -> None:
    asked: list[str] = []

    def can_reach(url: str) -> bool:
        asked.append(url)
        return reached

    settings = DataSettings(data=data)
    assert resolve_origin(settings, mirror=mirror, url="https://host/file", can_reach=can_reach) == expected
    # The network is asked only where the answer matters.
    assert asked == (["https://host/file"] if data == "auto" and mirror is None else [])


def test_a_mirror_that_is_asked_for_must_be_named() -> None:
    with pytest.raises(SettingError, match="set RETRAIN_MIRROR to a folder or URL with a SHA256SUMS"):
        resolve_origin(DataSettings(data="mirror"), mirror=None, url="", can_reach=lambda url: True)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send every request to a port of this host on which nothing listens."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", DATASETS)
def test_auto_falls_to_the_sample_when_upstream_cannot_be_reached(name: str, store: Store, no_network: None) -> None:
    raw = fetch_raw(name, settings=DataSettings(data="auto"), store=store, mirror=None)
    assert (raw.simulated, raw.source, raw.origin) == (True, "sample", "sample")


@pytest.mark.parametrize("name", DATASETS)
def test_the_sample_is_the_same_bytes_each_time(name: str, tmp_path: Path) -> None:
    digests = []
    for home in ("one", "two"):
        raw = fetch_raw(name, settings=SAMPLE, store=Store.at(tmp_path / home), mirror=None)
        assert (raw.dataset, raw.simulated) == (name, True)
        digests.append({file.name: file.sha256 for file in raw.files})
        for file in raw.files:
            assert sha256_of(Path(file.uri)) == file.sha256
            # A sample never stands where real raw files are looked for.
            assert f"raw/{name}-sample/" in file.uri
    assert digests[0] == digests[1]


def test_a_mirror_gives_its_own_digests(tmp_path: Path, store: Store) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    name = "mpi_roof_2009a.zip"
    write_csv_zip(simulated_weather(50, seed=1, start="2009-01-01T00:10:00"), mirror / name)
    settings = DataSettings(data="mirror", source="station", options=StationOptions(from_period="2009a", to_period="2009a"))
    (mirror / "SHA256SUMS").write_text(f"{sha256_of(mirror / name)}  {name}\n")
    raw = fetch_raw("jena", settings=settings, store=store, mirror=str(mirror))
    assert (raw.source, raw.origin, raw.simulated, [file.name for file in raw.files]) == ("station", "mirror", False, [name])
    (mirror / "SHA256SUMS").write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(RetrainError, match="0000"):
        fetch_raw("jena", settings=settings, store=Store.at(tmp_path / "other"), mirror=str(mirror))


@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        ("wine", SAMPLE, "unknown data set 'wine' for retrain: choose imdb, jena"),
        ("jena", DataSettings(source="roof"), "unknown source 'roof' for jena: choose file, keras-2009-2016, station"),
        (
            "jena",
            DataSettings(source="station", options=StationOptions(from_period="2031")),
            "from_period is '2031', which is in the future on 2026-03-10: give a period that has begun",
        ),
        ("imdb", DataSettings(split=SplitSettings(rule="recent")), "unknown split 'recent' for imdb: choose shares"),
        (
            "imdb",
            DataSettings(options=HALF_YEARS),
            "source keras of imdb has no options from_period, to_period: leave them out",
        ),
        (
            "jena",
            DataSettings(options=HALF_YEARS),
            "of jena has no options .*: choose source station, or leave them out",
        ),
    ],
)
def test_settings_that_mean_no_source_are_refused(
    dataset: str, settings: DataSettings, message: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRAIN_TODAY", "2026-03-10")
    with pytest.raises(SettingError, match=message):
        fetch_raw(dataset, settings=settings, store=store, mirror=None)
    assert files_under(store.root) == {}


# --- versions


def raw_of(**digests: str) -> RawRef:
    files = tuple(RawFile(name=name, uri="anywhere", sha256=digest, size_bytes=1) for name, digest in digests.items())
    return RawRef(dataset="jena", source="station", origin="upstream", simulated=False, files=files)


def test_a_version_follows_from_bytes_source_and_transformation() -> None:
    version = table_version(raw_of(a="1", b="2"), transform_version=1)
    assert len(version) == 12
    assert table_version(raw_of(b="2", a="1"), transform_version=1) == version
    moved = raw_of(a="1", b="2").model_copy(
        update={"files": tuple(f.model_copy(update={"uri": "x"}) for f in raw_of(a="1", b="2").files)}
    )
    assert table_version(moved, transform_version=1) == version  # where the same bytes came from makes no other table
    assert table_version(moved.model_copy(update={"origin": "mirror"}), transform_version=1) == version
    others = [
        table_version(raw_of(a="1", b="3"), transform_version=1),
        table_version(raw_of(a="1"), transform_version=1),
        table_version(raw_of(a="1", b="2"), transform_version=2),
        table_version(raw_of(a="1", b="2").model_copy(update={"source": "keras-2009-2016"}), transform_version=1),
        table_version(raw_of(a="1", b="2").model_copy(update={"dataset": "imdb"}), transform_version=1),
    ]
    assert len({version, *others}) == 6


# --- publishing


def test_unchanged_input_publishes_nothing_and_other_bytes_another_version(tmp_path: Path, store: Store) -> None:
    raw = small_jena(tmp_path / "a", store=store)
    assert find_published_table(raw, store=store) is None
    parsed = parse_raw(raw, store=store)
    first = publish_parsed(parsed, validation=validate_parsed(parsed, settings=DataSettings(), store=store), store=store)
    assert first.published
    assert first.version == table_version(raw, transform_version=jena.SPEC.transform_version)
    before = files_under(first.uri)
    manifest = read_manifest(store.table_folder("jena", first.version))
    assert (manifest["simulated"], manifest["source"], manifest["version"]) == (True, "sample", first.version)
    assert first.rows == {name: manifest["files"][f"{name}.parquet"]["rows"] for name in ("train", "val", "test")}
    assert staged(store, "jena") == []

    published = find_published_table(raw, store=store)
    assert published == first.model_copy(update={"published": False})
    # A second run that did not look publishes the same version, which stands already.
    parsed = parse_raw(raw, store=store)
    again = publish_parsed(parsed, validation=validate_parsed(parsed, settings=DataSettings(), store=store), store=store)
    assert again == published
    assert files_under(first.uri) == before

    other = small_jena(tmp_path / "b", store=store, rows=ROWS + 1)
    assert find_published_table(other, store=store) is None
    assert table_version(other, transform_version=jena.SPEC.transform_version) != first.version


def test_data_docs_follow_the_table_and_the_next_run_writes_those_of_a_killed_one(tmp_path: Path, store: Store) -> None:
    tables = []
    for name in ("a", "b"):
        raw = small_jena(tmp_path / name, store=store, rows=ROWS + len(tables))
        parsed = parse_raw(raw, store=store)
        validation = validate_parsed(parsed, settings=DataSettings(), store=store)
        tables.append(publish_parsed(parsed, validation=validation, store=store))
        assert not Path(validation.docs_uri).exists()
        assert Path(validation.report_uri).is_file()
    # The run of the first table was killed here. That of the second writes the docs of both.
    versions = sorted(table.version for table in tables)
    assert write_missing_docs("jena", store=store) == tuple(versions)
    for version in versions:
        index = Path(str(store.docs_index("jena", version)))
        (page,) = re.findall(r'href="(validations/[^"]+)"', index.read_text())
        assert (index.parent / unquote(page)).is_file()
    assert write_missing_docs("jena", store=store) == ()
    assert write_missing_docs("imdb", store=store) == ()


def test_a_table_is_published_before_great_expectations_is_imported(tmp_path: Path) -> None:
    code = f"""
import sys
from sample_helpers import publish_sample
from storage.layout import Store
from tasks.ingestion.pipeline import write_missing_docs

store = Store.at({str(tmp_path)!r})
for name in ("jena", "imdb"):
    publish_sample(name, store=store)
print([name for name in sys.modules if name.startswith("great_expectations")], end=" ")
write_missing_docs("jena", store=store)
print("great_expectations" in sys.modules)
"""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.stdout == "[] True\n", done.stderr


def test_a_rejected_table_leaves_its_data_docs_and_nothing_else(tmp_path: Path, store: Store) -> None:
    humidity = np.where(np.arange(ROWS) == 7, 180.0, 60.0)
    raw = small_jena(tmp_path / "a", store=store, **{"rh (%)": humidity})
    parsed = parse_raw(raw, store=store)
    assert staged(store, "jena")
    with pytest.raises(
        RejectedError, match=r"critical expectations? failed: .*relative_humidity_percent.*Data Docs: .*index\.html"
    ):
        validate_parsed(parsed, settings=DataSettings(), store=store)
    assert not store.table_folder("jena", parsed.version).exists()
    assert find_published_table(raw, store=store) is None
    assert staged(store, "jena") == []
    docs = store.report_folder("jena", parsed.version)
    assert "html" in (docs / "index.html").read_text()
    report = json.loads((docs / "validation.json").read_text())
    assert report["passed_critical"] is False
    assert any(not outcome["success"] and outcome["column"] == "relative_humidity_percent" for outcome in report["outcomes"])


def test_a_rejected_table_can_be_accepted_by_a_named_person_once_and_for_this_version_alone(tmp_path: Path, store: Store) -> None:
    humidity = np.where(np.arange(ROWS) == 7, 180.0, 60.0)
    raw = small_jena(tmp_path / "a", store=store, **{"rh (%)": humidity})
    parsed = parse_raw(raw, store=store)
    with pytest.raises(RejectedError, match=f"accept this one version with --accept-failures {parsed.version} --reason"):
        validate_parsed(parsed, settings=DataSettings(), store=store)
    accepting = DataSettings(
        accept_failures=(parsed.version,), accept_reason="a known fault of the logger", accepted_by="a weather engineer"
    )
    parsed = parse_raw(raw, store=store)
    validation = validate_parsed(parsed, settings=accepting, store=store)
    assert validation.acceptance is not None
    assert (validation.acceptance["by"], validation.acceptance["reason"]) == (
        "a weather engineer",
        "a known fault of the logger",
    )
    table = publish_parsed(parsed, validation=validation, store=store)
    manifest = read_manifest(store.table_folder("jena", table.version))
    assert manifest["acceptance"] == validation.acceptance
    assert any("relative_humidity" in failure for failure in manifest["acceptance"]["failures"])
    # It never carries over to other data.
    other = parse_raw(small_jena(tmp_path / "b", store=store, rows=ROWS + 1, **{"rh (%)": 180.0}), store=store)
    with pytest.raises(RejectedError, match=f"the failures accepted are those of {parsed.version}, and this is {other.version}"):
        validate_parsed(other, settings=accepting, store=store)


def test_a_fault_of_the_schema_cannot_be_accepted(tmp_path: Path, store: Store) -> None:
    parsed = parse_raw(small_jena(tmp_path / "a", store=store, rows=5_000), store=store)
    accepting = DataSettings(accept_failures=(parsed.version,), accept_reason="there are no more rows", accepted_by="somebody")
    with pytest.raises(RejectedError, match="nobody can accept this, because tables and models rest on it: at least 10000 rows"):
        validate_parsed(parsed, settings=accepting, store=store)


@pytest.mark.parametrize("missing", ["accept_reason", "accepted_by"])
def test_failures_are_accepted_with_a_name_and_a_reason(missing: str) -> None:
    values = {"accept_failures": ("0" * 12,), "accept_reason": "a known fault", "accepted_by": "somebody"}
    DataSettings.model_validate(values)
    with pytest.raises(ValidationError, match="give accept_reason and accepted_by"):
        DataSettings.model_validate(values | {missing: None})


def test_more_repairs_than_a_limit_allows_are_rejected_and_a_limit_can_be_set(tmp_path: Path, store: Store) -> None:
    wind = np.where(np.arange(ROWS) % 10 == 5, -9999.0, 3.0 + np.arange(ROWS) % 7)
    columns = {"wv (m/s)": wind, "max. wv (m/s)": np.where(wind < 0, wind, wind + 1)}
    parsed = parse_raw(small_jena(tmp_path / "a", store=store, **columns), store=store)
    message = r"missing_values: 2,000, a share of 0\.0143, expected at most 0\.005 \(a missing reading"
    with pytest.raises(RejectedError, match=message):
        validate_parsed(parsed, settings=DataSettings(), store=store)


def test_a_file_that_cannot_be_parsed_stages_nothing(tmp_path: Path, store: Store) -> None:
    raw = small_jena(tmp_path / "a", store=store, **{"wv (m/s)": np.full(ROWS, -9999.0)})
    with pytest.raises(DataError, match="no row with every reading"):
        parse_raw(raw, store=store)
    assert staged(store, "jena") == []
    assert not store.table_folder("jena", table_version(raw, transform_version=1)).exists()


def test_the_report_of_a_table_is_kept_beside_it(samples: Any) -> None:
    for table in samples.tables.values():
        report = read_validation(table, store=samples.store)
        assert report["passed_critical"] is True
        manifest = read_manifest(samples.store.table_folder(table.dataset, table.version))
        passed = sum(outcome["success"] for outcome in report["outcomes"])
        assert manifest["expectations"] == {"passed": passed, "failed": len(report["outcomes"]) - passed}


def test_an_option_beside_its_source_is_told_where_it_belongs() -> None:
    with pytest.raises(ValidationError, match="from_period: write the options of a source under options"):
        DataSettings.model_validate({"source": "station", "from_period": "2009a"})


def test_the_form_shows_the_options_of_every_source_with_help() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.retrain import retrain

    schema = parameter_schema(retrain)
    shown = schema.definitions["StationOptions"]["properties"]
    assert {name: field["description"].split(":")[0] for name, field in shown.items()} == {
        "from_period": "First period",
        "to_period": "Last period, or latest",
        "addresses": "Addresses that are tried before the known ones, with {name} for the name of a file, such as https",
    }
    shown = schema.definitions["ReviewFilesOptions"]["properties"]
    assert all(field["description"] for field in shown.values())
    assert (list(shown), shown["use"]["enum"], shown["use"]["default"]) == (["path", "use"], ["add", "replace"], "add")
    assert schema.properties["dataset"]["enum"] == list(DATASETS)
