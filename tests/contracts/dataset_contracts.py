"""What every data set promises, as functions of a data set: the tests hold the registry to them, and planted faults hold them."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from storage.errors import DataError
from tasks.datasets.imdb.review_files import gather_reviews
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import SPLITS, DatasetSpec, Parsed, SplitTables


@dataclass(frozen=True)
class Dirt:
    """Damage that one repair rule mends.

    Attributes:
        repair: Name of the rule.
        plant: Files by name, a new folder and a count to the files with so much damage in that folder.
        left: How much of the damage a table still holds.
        changes: Whether a repaired value may differ from the one that was there before the damage.
        drops: Whether the damaged rows are dropped.
        of_values: Whether its share is one of readings, not of rows.
    """

    repair: str
    plant: Callable[[Mapping[str, Path], Path, int], dict[str, Path]]
    left: Callable[[pa.Table], int]
    changes: bool = False
    drops: bool = False
    of_values: bool = False


@dataclass(frozen=True)
class DatasetCase:
    """A data set, and a folder to work in."""

    spec: DatasetSpec
    folder: Path

    @property
    def dirt(self) -> tuple[Dirt, ...]:
        """The damage that its repairs mend."""
        unknown = [repair.name for repair in self.parsed.repairs if repair.name not in DIRT]
        assert not unknown, f"say in DIRT how to damage a sample for {unknown}"
        return tuple(DIRT[repair.name] for repair in self.parsed.repairs)

    @cached_property
    def files(self) -> dict[str, Path]:
        return self.sample("sample")

    def sample(self, name: str) -> dict[str, Path]:
        return {path.name: path for path in self.spec.simulate(self.new_folder(name))}

    def new_folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @cached_property
    def parsed(self) -> Parsed:
        return self.spec.parse(self.files, TableRequest(source="sample"))

    @cached_property
    def split(self) -> SplitTables:
        return self.spec.split(self.parsed)


def sample_is_deterministic(case: DatasetCase) -> None:
    again = case.sample("again")
    assert {name: path.read_bytes() for name, path in again.items()} == {
        name: path.read_bytes() for name, path in case.files.items()
    }, "two samples differ"
    assert case.spec.parse(again, TableRequest(source="sample")).table.equals(case.parsed.table), "two parsings differ"


def schema_is_the_promised_one(case: DatasetCase) -> None:
    assert case.parsed.table.schema.equals(case.spec.schema), "columns, their order or their types are others"
    assert case.parsed.table.num_rows > 0, "no rows"


def repairs_are_counted_and_made(case: DatasetCase) -> None:
    clean = case.parsed
    known = {repair.name: repair.count for repair in clean.repairs}
    for dirt in case.dirt:
        planted = 3
        files = dirt.plant(case.files, case.new_folder(f"dirty-{dirt.repair}"), planted)
        dirty = case.spec.parse(files, TableRequest(source="sample"))
        counted = {repair.name: repair.count for repair in dirty.repairs}
        assert counted[dirt.repair] == known[dirt.repair] + planted, f"{dirt.repair}: counted {counted[dirt.repair]}"
        assert dirt.left(dirty.table) == 0, f"{dirt.repair}: counted and not made"
        if dirt.drops:
            assert dirty.table.num_rows == clean.table.num_rows - planted, f"{dirt.repair}: rows were not dropped"
            continue
        assert dirty.table.num_rows == clean.table.num_rows, f"{dirt.repair}: another number of rows"
        changed = sum(int((_values(dirty.table[name]) != _values(clean.table[name])).sum()) for name in clean.table.column_names)
        assert changed <= (planted if dirt.changes else 0), f"{dirt.repair}: {changed} values changed, {planted} were damaged"


def _values(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column that can be compared row by row, one of lists too."""
    if not pa.types.is_list(column.type):
        return np.asarray(column)
    return np.array([str(values) for values in column.to_pylist()])


def limits_are_enforced(case: DatasetCase) -> None:
    rows = case.parsed.facts["rows_read"]
    values = rows * sum(pa.types.is_floating(field.type) for field in case.parsed.table.schema)
    limits = {repair.name: repair.limit for repair in case.parsed.repairs}
    for dirt in case.dirt:
        if limits[dirt.repair] == 1:  # it costs nothing, however often it is needed
            continue
        count = int(limits[dirt.repair] * (values if dirt.of_values else rows) * 1.1) + 5
        files = dirt.plant(case.files, case.new_folder(f"filthy-{dirt.repair}"), count)
        try:
            repairs = case.spec.parse(files, TableRequest(source="sample")).repairs
        except DataError:
            continue
        is_told = any(repair.name == dirt.repair and not repair.is_within_limit for repair in repairs)
        assert is_told, f"{dirt.repair}: {count} of {rows} rows were taken, the limit is {limits[dirt.repair]:g}"


def repairs_are_described(case: DatasetCase) -> None:
    table = case.parsed.table
    rows = case.parsed.facts["rows_read"]
    values = rows * sum(pa.types.is_floating(field.type) for field in table.schema)
    assert case.parsed.repairs, "no rule"
    for repair in case.parsed.repairs:
        assert repair.rule, f"{repair.name}: no words"
        assert 0 <= repair.share <= repair.limit <= 1, f"{repair.name}: its share is over its limit"
        # Of rows, or of the readings in them; rows that another repair drops may be left out.
        shares = (repair.count / rows, repair.count / values if values else 0.0)
        is_share = any(repair.share == pytest.approx(share, rel=0.01) for share in shares)
        assert is_share, f"{repair.name}: its share is not that of its count"


def splits_are_whole_and_share_no_row(case: DatasetCase) -> None:
    tables = case.split.tables
    assert tuple(tables) == SPLITS, "other splits"
    assert all(table.num_rows for table in tables.values()), "an empty split"
    assert sum(table.num_rows for table in tables.values()) == case.parsed.table.num_rows, "rows were lost or doubled"
    assert all(case.split.bounds[name]["rows"] == tables[name].num_rows for name in SPLITS), "bounds tell of other rows"
    whole = pa.concat_tables(tables.values()).to_pandas()
    keys = whole.map(lambda value: tuple(value) if hasattr(value, "__len__") else value)
    origin = [name for name in SPLITS for _ in range(tables[name].num_rows)]
    homes = pd.Series(origin).groupby([keys[column] for column in keys.columns]).nunique()
    assert homes.max() == 1, "one row stands in two splits"


def splits_follow_in_time(case: DatasetCase) -> None:
    table = case.parsed.table
    for field in table.schema:
        if pa.types.is_timestamp(field.type):
            stamps = np.concatenate([np.asarray(case.split.tables[name][field.name]) for name in SPLITS])
            assert (np.diff(stamps) > np.timedelta64(0)).all(), "splits or their rows are out of order"


def _altered(parsed: Parsed, rows: np.ndarray) -> Parsed:
    """Return other values in some rows: readings far away, and lists in reverse with their last value over and over."""
    columns = []
    for field in parsed.table.schema:
        column = parsed.table[field.name].combine_chunks()
        if pa.types.is_floating(field.type):
            values = column.to_numpy().copy()
            values[rows] = values[rows] * 3 + 1000
            column = pa.array(values, type=field.type)
        elif pa.types.is_list(field.type):
            lists = column.to_pylist()
            for row in np.flatnonzero(rows):
                lists[row] = [lists[row][-1]] * len(lists[row])
            column = pa.array(lists, type=field.type)
        columns.append(column)
    return replace(parsed, table=pa.table(columns, schema=parsed.table.schema))


def statistics_are_of_train_rows(case: DatasetCase) -> None:
    whole, before = case.parsed, case.split
    is_train = np.arange(whole.table.num_rows) < before.tables["train"].num_rows
    after = case.spec.split(_altered(whole, ~is_train))
    for name in ("val", "test"):
        assert not after.tables[name].equals(before.tables[name]), f"other rows leave {name} as it was"
        only = np.zeros_like(is_train)
        first = before.tables["train"].num_rows + (before.tables["val"].num_rows if name == "test" else 0)
        only[first : first + before.tables[name].num_rows] = True
        assert case.spec.split(_altered(whole, only)).normalisation == before.normalisation, f"statistics follow {name} rows"
    assert after.normalisation == before.normalisation, "statistics follow rows after train"
    assert after.tables["train"].equals(before.tables["train"]), "train follows rows after it"
    if "mean" in before.normalisation:
        assert case.spec.split(_altered(whole, is_train)).normalisation != before.normalisation, "statistics ignore train rows"


def normalisation_can_be_undone(case: DatasetCase) -> None:
    statistics = case.split.normalisation
    first = 0
    for name in SPLITS:
        table = case.split.tables[name]
        for column in statistics.get("mean", ()):
            raw = np.asarray(case.parsed.table[column])[first : first + table.num_rows]
            undone = np.asarray(table[column], dtype=np.float64) * statistics["std"][column] + statistics["mean"][column]
            assert np.allclose(undone, raw, rtol=1e-4, atol=1e-3 * statistics["std"][column]), f"{name}: {column} is another"
        first += table.num_rows


def suite_judges_columns_that_are_there(case: DatasetCase) -> None:
    frame = case.spec.validation_frame(case.parsed)
    assert len(frame) == case.parsed.table.num_rows, "the frame has other rows"
    for source in (*case.spec.sources, "sample"):
        for expectation in case.spec.expectations(TableRequest(source=source)):
            named = [expectation.arguments.get(key) for key in ("column", "column_A", "column_B")]
            named += list(expectation.arguments.get("column_list", ()))
            missing = {name for name in named if name is not None} - set(frame.columns)
            assert not missing, f"{expectation.kind} judges {missing}"


_REPORTS: dict[str, Any] = {}


def validated(frame: pd.DataFrame, *, name: str, expectations: tuple[Any, ...]) -> Any:
    """Return the report on a frame; the same suite on the same frame is run once, because it takes a second."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of Great Expectations' own imports
        from tasks.ingestion.validation import run_suite

    key = f"{name} {expectations} {frame.to_csv()}"
    if key not in _REPORTS:
        _REPORTS[key] = run_suite(frame, name=name, expectations=expectations)
    return _REPORTS[key]


def suite_rejects_a_broken_frame(case: DatasetCase) -> None:
    broken = case.spec.validation_frame(case.parsed).head(400)
    columns = set(broken.columns)
    numbers = [name for name in broken.columns if broken[name].dtype.kind in "if"]
    # Half of the rows are empty, and in the other half numbers are a million times too large.
    broken[numbers] = broken[numbers] * 1e6
    for column in broken.columns:
        broken[column] = broken[column].astype(object)
        broken.loc[broken.index[:200], column] = None
    broken[numbers] = broken[numbers].astype(float)
    report = validated(broken, name=case.spec.name, expectations=case.spec.expectations(TableRequest(source="sample")))
    failed = [outcome for outcome in report.failed if outcome.severity == "critical"]
    missed = columns & set(case.spec.schema.names) - {outcome.column for outcome in failed if "null" in outcome.kind}
    assert not missed, f"empty rows of {sorted(missed)} pass"
    assert any("between" in outcome.kind and outcome.column in numbers for outcome in failed), "numbers far too large pass"


DATASET_CONTRACTS: Mapping[str, Callable[[DatasetCase], None]] = {
    function.__name__: function
    for function in (
        sample_is_deterministic,
        schema_is_the_promised_one,
        repairs_are_counted_and_made,
        limits_are_enforced,
        repairs_are_described,
        splits_are_whole_and_share_no_row,
        splits_follow_in_time,
        statistics_are_of_train_rows,
        normalisation_can_be_undone,
        suite_judges_columns_that_are_there,
        suite_rejects_a_broken_frame,
    )
}


def check(name: str, case: Any, contracts: Mapping[str, Callable[[Any], None]]) -> None:
    """Hold a case to one contract.

    Raises:
        AssertionError: It is broken; the message begins with the contract's name.
    """
    try:
        contracts[name](case)
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}") from error


# Damage to the samples.


def _csv_lines(files: Mapping[str, Path]) -> tuple[str, str, list[str]]:
    """Return the name of a sample's one file, the head of its csv, and the rows; a zip holds one csv."""
    ((name, path),) = files.items()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            text = archive.read(archive.namelist()[0]).decode("latin-1")
    else:
        text = path.read_text(encoding="latin-1")
    header, *rows = text.splitlines()
    return name, header, rows


def _write_csv(folder: Path, name: str, header: str, rows: list[str]) -> dict[str, Path]:
    data = "\n".join((header, *rows, "")).encode("latin-1")
    if name.endswith(".zip"):
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("sample.csv", data)
    else:
        (folder / name).write_bytes(data)
    return {name: folder / name}


def _repeat_rows(files: Mapping[str, Path], folder: Path, count: int) -> dict[str, Path]:
    name, header, rows = _csv_lines(files)
    return _write_csv(folder, name, header, [*rows[: 100 + count], *rows[100 : 100 + count], *rows[100 + count :]])


def _contradict(files: Mapping[str, Path], folder: Path, count: int) -> dict[str, Path]:
    name, header, rows = _csv_lines(files)
    doubled = []
    for i, row in enumerate(rows):
        doubled.append(row)
        if i in range(100, 100 + 3 * count, 3):
            # The second row of a stamp has the readings of another one.
            doubled.append(",".join((row.split(",")[0], *rows[i - 50].split(",")[1:])))
    return _write_csv(folder, name, header, doubled)


def _disorder(files: Mapping[str, Path], folder: Path, count: int) -> dict[str, Path]:
    name, header, rows = _csv_lines(files)
    for i in range(100, 100 + 3 * count, 3):
        rows[i], rows[i + 1] = rows[i + 1], rows[i]
    return _write_csv(folder, name, header, rows)


def _switch_off(files: Mapping[str, Path], folder: Path, count: int) -> dict[str, Path]:
    name, header, rows = _csv_lines(files)
    columns = len(header.split(",")) - 1
    for k in range(count):
        # A few columns a row, so that a share of all readings can be damaged in rows that can be filled.
        i, column = 100 + 3 * (k % (len(rows) // 4)), 1 + (k // (len(rows) // 4)) % columns
        cells = rows[i].split(",")
        rows[i] = ",".join((*cells[:column], "-9999.00", *cells[column + 1 :]))
    return _write_csv(folder, name, header, rows)


def _begin_without(files: Mapping[str, Path], folder: Path, count: int) -> dict[str, Path]:
    """Take one reading from the first rows, which have no neighbour before them to be filled from."""
    name, header, rows = _csv_lines(files)
    for i in range(count):
        cells = rows[i].split(",")
        rows[i] = ",".join((cells[0], "-9999.00", *cells[2:]))
    return _write_csv(folder, name, header, rows)


def _spacings(table: pa.Table) -> Any:
    (stamp,) = (field.name for field in table.schema if pa.types.is_timestamp(field.type))
    return np.diff(np.asarray(table[stamp])).astype(np.int64)


def _sentinels(table: pa.Table) -> int:
    readings = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    return sum(int((~(np.asarray(table[name]) > -999)).sum()) for name in readings)


def _empty_reviews(files: Mapping[str, Path], folder: Path, count: int) -> dict[str, Path]:
    archive = next(path for name, path in files.items() if name.endswith(".npz"))
    with np.load(archive, allow_pickle=True) as stored:
        arrays = dict(stored)
    for i in range(count):
        arrays["x_train"][5 + i] = []
    np.savez(folder / archive.name, **arrays)
    return {**files, archive.name: folder / archive.name}


def _test_again(files: Mapping[str, Path], folder: Path, count: int) -> dict[str, Path]:
    """Add a person's own reviews that have the words of test reviews."""
    archive, index = (next(path for name, path in files.items() if name.endswith(end)) for end in (".npz", ".json"))
    words = {rank: word for word, rank in json.loads(index.read_text(encoding="utf-8")).items()}
    with np.load(archive, allow_pickle=True) as stored:
        tested = stored["x_test"]
    texts = [" ".join(words[rank] for rank in tested[i % len(tested)]) for i in range(count)]
    table = folder / "own.csv"
    table.write_text("\n".join(["review,sentiment", *(f"{text},positive" for text in texts)]), encoding="utf-8")
    (gathered,) = gather_reviews({"path": str(table)}, folder)
    return {**files, gathered.name: gathered}


def _train_rows_of_other_splits(table: pa.Table) -> int:
    """Return how many rows that train have the tokens of a row that does not."""
    rows = list(zip(table["split"].to_pylist(), map(tuple, table["tokens"].to_pylist()), strict=True))
    others = {tokens for split, tokens in rows if split != "train"}
    return sum(tokens in others for split, tokens in rows if split == "train")


DIRT: Mapping[str, Dirt] = {
    dirt.repair: dirt
    for dirt in (
        Dirt("repeated_rows", _repeat_rows, lambda table: int((_spacings(table) == 0).sum())),
        Dirt("contradicting_rows", _contradict, lambda table: int((_spacings(table) == 0).sum())),
        Dirt("out_of_order_rows", _disorder, lambda table: int((_spacings(table) < 0).sum())),
        Dirt("missing_values", _switch_off, _sentinels, changes=True, of_values=True),
        Dirt("incomplete_rows", _begin_without, _sentinels, drops=True),
        Dirt(
            "empty_reviews", _empty_reviews, lambda table: sum(not review for review in table["tokens"].to_pylist()), drops=True
        ),
        Dirt("reviews_of_other_splits", _test_again, _train_rows_of_other_splits),
    )
}
"""How to damage a sample so that a repair is needed, by the name of the repair; a repair of another kind has an entry here."""
