"""What every data set promises; a new one is covered by standing in the registry."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
from dataset_contracts import DATASET_CONTRACTS, DatasetCase, check

from storage.tables import read_manifest, read_splits, read_validation
from tasks.config import DatasetName
from tasks.datasets import DATASETS
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import SPLITS, DatasetSpec, Parsed, Severity, SplitTables

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "station": {"from_period": "2009a", "to_period": "2010b"},
    "files": {"path": "/data/reviews.csv", "use": "add"},
    "file": {"path": "/data/own.csv"},
}
"""Options of the sources whose files follow from them."""

TODAY = date(2026, 3, 10)

every_dataset = pytest.mark.parametrize("spec", DATASETS.values(), ids=lambda spec: spec.name)


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parsed]:
    results = {}
    for name, spec in DATASETS.items():
        paths = spec.simulate(tmp_path_factory.mktemp(name))
        results[name] = spec.parse({path.name: path for path in paths}, TableRequest(source="sample"))
    return results


@pytest.fixture(scope="module")
def split(parsed: dict[str, Parsed]) -> dict[str, SplitTables]:
    return {name: spec.split(parsed[name]) for name, spec in DATASETS.items()}


@every_dataset
def test_it_is_described(spec: DatasetSpec) -> None:
    assert re.fullmatch(r"[a-z]+", spec.name)
    assert DATASETS[spec.name] is spec
    for value in (spec.title, spec.licence):
        assert value.strip() == value != ""
    assert spec.transform_version >= 1
    assert spec.default_source in spec.sources
    assert spec.sample_source in spec.sources
    assert "sample" not in spec.sources  # the name of the simulation is no source's
    assert all(getattr(spec, field.name) is not None for field in fields(spec) if field.default is not None)


def test_the_form_offers_exactly_the_registered_data_sets() -> None:
    assert set(get_args(DatasetName)) == set(DATASETS)


@every_dataset
def test_every_source_names_its_files(spec: DatasetSpec) -> None:
    for name, source in spec.sources.items():
        files = source.files(OPTIONS.get(name, {}), TODAY)
        assert set(OPTIONS.get(name, {})) <= set(source.options.model_fields)
        assert all(field.description for field in source.options.model_fields.values())
        assert files
        names = [file.name for file in files]
        assert len(set(names)) == len(names)
        for file in files:
            if file.own:
                continue  # its name, place and first bytes are a person's
            assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", file.name)
            assert file.urls
            assert all(re.fullmatch(r"https://[a-z0-9.-]+/\S+", url) and url.endswith(f"/{file.name}") for url in file.urls)
            assert 0 < file.max_bytes <= 2**30
            assert file.magic
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.size_bytes is None or 0 < file.size_bytes <= file.max_bytes


@every_dataset
def test_its_sample_is_in_the_layout_of_a_source(spec: DatasetSpec, tmp_path: Path) -> None:
    files = spec.sources[spec.sample_source].files(OPTIONS.get(spec.sample_source, {}), TODAY)
    paths = spec.simulate(tmp_path)
    assert {path.name for path in paths} == {file.name for file in files}
    for path in paths:
        file = next(file for file in files if file.name == path.name)
        assert path.read_bytes().startswith(file.magic)
        assert path.stat().st_size <= file.max_bytes


@every_dataset
def test_its_sample_parses_to_the_promised_schema(spec: DatasetSpec, parsed: dict[str, Parsed]) -> None:
    result = parsed[spec.name]
    assert result.table.schema.equals(spec.schema)
    assert result.table.num_rows > 0
    assert result.repairs
    for repair in result.repairs:
        assert re.fullmatch(r"[a-z_]+", repair.name)
        assert repair.rule
        assert 0 <= repair.share <= repair.limit <= 1
        assert (repair.count == 0) == (repair.share == 0)
    assert result.facts["rows_read"] > 0
    assert not set(result.extras) & set(SPLITS)


@every_dataset
def test_its_expectations_are_worded_and_of_known_kinds(spec: DatasetSpec) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of Great Expectations' own imports
        import great_expectations.expectations as gxe

    for source in (*spec.sources, "sample"):
        suite = spec.expectations(TableRequest(source=source))
        assert any(expectation.severity == "critical" for expectation in suite)
        for expectation in suite:
            assert expectation.severity in get_args(Severity)
            assert expectation.meaning.strip()
            camel = "".join(word[:1].upper() + word[1:] for word in expectation.kind.split("_"))
            assert hasattr(gxe, f"Expect{camel}"), expectation.kind


@every_dataset
def test_its_sample_passes_its_suite(spec: DatasetSpec, samples: Any) -> None:
    report = read_validation(samples.tables[spec.name], store=samples.store)
    assert report["passed_critical"] is True
    assert [outcome for outcome in report["outcomes"] if not outcome["success"] and outcome["severity"] == "critical"] == []
    assert len(report["outcomes"]) == len(spec.expectations(TableRequest(source="sample")))


@every_dataset
def test_it_is_published_without_float64_and_as_it_was_split(
    spec: DatasetSpec, samples: Any, split: dict[str, SplitTables]
) -> None:
    reference = samples.tables[spec.name]
    manifest = read_manifest(samples.store.table_folder(spec.name, reference.version))
    tables, _ = read_splits(reference, store=samples.store)
    assert set(SPLITS) <= set(tables)
    for name in SPLITS:
        written, made = tables[name], split[spec.name].tables[name]
        assert written.schema.names == made.schema.names
        assert not any(pa.types.is_float64(field.type) for field in written.schema)
        assert written.cast(made.schema).equals(made)
        assert sum(written[column].null_count for column in written.column_names) == 0
    assert manifest["normalisation"] == split[spec.name].normalisation
    assert manifest["bounds"] == split[spec.name].bounds
    for said in ("title", "licence", "source", "raw", "repairs", "facts", "expectations", "transform_version", "simulated"):
        assert said in manifest
    assert reference.rows == {name: tables[name].num_rows for name in SPLITS}
    assert manifest["simulated"] is True


@every_dataset
@pytest.mark.parametrize("contract", DATASET_CONTRACTS)
def test_it_holds_the_contract(spec: DatasetSpec, tmp_path: Path, contract: str) -> None:
    check(contract, DatasetCase(spec, tmp_path), DATASET_CONTRACTS)
