"""Every kind of bad input where a user meets it: one line that helps, exit code 2, and a store as it was before."""

from __future__ import annotations

import random
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from flow_helpers import (
    IMDB_FILE,
    STATION,
    STATION_FILE,
    WORDS_FILE,
    Done,
    Run,
    WarmCommand,
    contents,
    csv_lines,
    csv_zip,
    imdb_files,
    make_mirror,
    retrain,
    sha256,
    station_zip,
    web_mirror,
)

from storage.io import read_json

# The first test that asks for a trained store waits for it.
pytestmark = pytest.mark.timeout(1200)

# What a fault may leave: what was fetched, and the Data Docs of what was refused.
MAY_GROW = ("raw/", "reports/")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return station_zip(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def other(good: bytes) -> bytes:
    """The same readings, zipped again: other weather under the same stamps would be refused as another series."""
    return csv_zip(csv_lines(good))


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, good: bytes) -> Path:
    return make_mirror(tmp_path_factory.mktemp("mirror"), {STATION_FILE: good})


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, mirror: Path, warm: WarmCommand) -> Path:
    """A store that holds a published table of each data set."""
    home = tmp_path_factory.mktemp("filled") / "var"
    station = {"source": "station", "options": {"from_period": "2009a", "to_period": "2009a"}}
    assert warm.ingest("jena", home=home, mirror=mirror, data="mirror", **station)["published"]
    assert warm.ingest("imdb", home=home, data="sample")["published"]
    return home


@pytest.fixture
def home(filled: Path, tmp_path: Path) -> Path:
    """A copy of the filled store, so that no test sees what another left."""
    return Path(shutil.copytree(filled, tmp_path / "var"))


def check_refused(done: Done, pattern: str) -> None:
    """One line on standard error, exit code 2, no traceback anywhere."""
    assert "Traceback" not in done.out + done.err
    assert done.code == 2, done.out + done.err
    assert re.fullmatch(rf"retrain: {pattern}\n", done.err), done.err


def locks_of(home: Path) -> dict[str, dict[str, str]]:
    newest = {path.parent.parent.name: path for path in sorted(home.glob("raw/*/locks/*.json"))}
    return {dataset: read_json(path) for dataset, path in newest.items()}


class Watched:
    """A store whose content is compared before and after."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._before = contents(home)
        self._locks = locks_of(home)
        assert any(name.startswith("tables/") and name.endswith("manifest.json") for name in self._before)

    def check_untouched(self, *, may_grow: tuple[str, ...] = MAY_GROW) -> None:
        after = contents(self.home)
        for name, digest in self._before.items():
            assert after.get(name) == digest, name
        # A first digest is locked in a further snapshot of all locks, in which no lock may have changed.
        for dataset, locks in self._locks.items():
            assert locks.items() <= locks_of(self.home)[dataset].items()
        grown = [name for name in after.keys() - self._before.keys() if not name.startswith(may_grow)]
        assert grown == []
        # Neither a table nor a registry, which this store has never had.
        assert len(list(self.home.glob("tables/*/*/manifest.json"))) == 2
        assert not (self.home / "mlflow").exists()
        assert not (self.home / "promotions").exists()


@pytest.fixture
def watched(home: Path) -> Iterator[Watched]:
    store = Watched(home)
    yield store
    store.check_untouched()


WRONG_SETTINGS = {
    "data set": (("run", "wheather"), r"unknown data set 'wheather' for retrain: choose imdb, jena"),
    "variant": (
        ("run", "jena", "--variants", "gru_baseline,gru_dropot"),
        r"unknown variant 'gru_dropot' for jena: choose gru_baseline, .*, gru_dropout, gru_stacked, ridge",
    ),
    "no variant": (("run", "jena", "--variants", ""), r"unknown variant '' for jena: choose .*"),
    "source": (("run", "jena", "--source", "roof"), r"unknown source 'roof' for jena: choose file, keras-2009-2016, station"),
    "source of another data set": (
        ("run", "imdb", "--source", "station"),
        r"unknown source 'station' for imdb: choose files, keras",
    ),
    "half-year's form": (
        ("run", "jena", "--source", "station", "--from", "2020c", "--to", "2020c"),
        r"--from is '2020c': String should match pattern .*; see `retrain run --help`",
    ),
    "half-year before the first": (
        ("run", "jena", "--source", "station", "--from", "1999a", "--to", "2020b"),
        r"--from is '1999a': the station's files begin with 2004",
    ),
    "half-year to come": (
        ("run", "jena", "--source", "station", "--from", "2020a", "--to", "2999b"),
        r"--to is '2999b', which is in the future on .*: give a period that has begun",
    ),
    "half-years reversed": (
        ("run", "jena", "--source", "station", "--from", "2020b", "--to", "2020a"),
        r"periods '2020b' to '2020a' are reversed: give the earlier one as --from",
    ),
    "day that is none": (
        ("ingest", "jena", "--source", "station", "--from", "2020-02-30"),
        r"--from is '2020-02-30', which is no day: give a year, half-year, month or day such as .*",
    ),
    "split of another data set": (("ingest", "imdb", "--split", "recent"), r"unknown split 'recent' for imdb: choose shares"),
    "address without a name": (
        ("ingest", "jena", "--source", "station", "--address", "https://example.org/jena"),
        r"--address is 'https://example.org/jena': String should match pattern .*",
    ),
    "failures accepted without a reason": (
        ("ingest", "jena", "--accept-failures", "0123456789ab"),
        r".*failures are accepted by a named person with a reason: .*",
    ),
    "limit that is none": (
        ("ingest", "jena", "--limit", "sentinel_values=0.01"),
        r"unknown limit 'sentinel_values' for --limit: choose contradicting_rows, .*, out_of_order_rows",
    ),
    "limit without a value": (
        ("ingest", "jena", "--limit", "missing_values"),
        r"--limit is 'missing_values': give a name and .*",
    ),
    "share above one": (
        ("ingest", "jena", "--limit", "missing_values=2"),
        r"missing_values is '2': Input should be less than or equal to 1; see `retrain run --help`",
    ),
    "no table version": (
        ("ingest", "jena", "--accept-failures", "all", "--reason", "because I say so"),
        r"--accept-failures is 'all': String should match pattern .*",
    ),
    "half-years of a source without them": (
        ("run", "jena", "--from", "2020a", "--to", "2020b"),
        r".*--from.*--source station.*",
    ),
    "own reviews that are nowhere named": (
        ("run", "imdb", "--source", "files"),
        r"--input is None: name a csv, a Parquet file, a \.tar\.gz, or a folder with pos/ and neg/",
    ),
    "own reviews without a source": (
        ("run", "imdb", "--input", "own.csv", "--use", "add"),
        r"--input and --use belong to another source: add --source files, or leave them out",
    ),
    "use of own reviews": (
        ("run", "imdb", "--source", "files", "--input", "own.csv", "--use", "both"),
        r"--use is 'both': Input should be 'add' or 'replace'; see `retrain run --help`",
    ),
    "target, beside named variants": (
        ("run", "jena", "--variants", "gru_baseline", "--target", "wind_direction_deg"),
        r"unknown --target 'wind_direction_deg' for jena: choose air_density_g_per_m3, .*, wind_speed_m_per_s",
    ),
    "lookback between two steps": (
        ("run", "jena", "--variants", "all", "--lookback-rows", "1441"),
        r"--lookback-rows 1441 is no multiple of --step-rows 6: a window would begin between two of its readings",
    ),
    "horizon of what is no forecast": (
        ("run", "all", "--horizon-rows", "72"),
        r"--horizon-rows is 72, but imdb has no such setting: leave it out, or name the data set that has it",
    ),
    "no epochs": (("run", "jena", "--epochs", "0"), r"--epochs is 0: .*greater than or equal to 1; see `retrain run --help`"),
    "negative epochs": (("run", "all", "--epochs", "-3"), r"--epochs is -3: .*greater than or equal to 1; see .*"),
    "no steps": (("run", "imdb", "--steps", "0"), r"--steps is 0: .*greater than or equal to 1; see .*"),
    "no patience": (("run", "jena", "--patience", "0"), r"--patience is 0: .*greater than or equal to 1; see .*"),
    "negative seed": (("run", "jena", "--seed", "-1"), r"--seed is -1: .*greater than or equal to 0; see .*"),
    "no margin": (("run", "jena", "--margin", "0"), r"--margin is 0.0: .*greater than 0; see .*"),
    "negative margin": (("run", "jena", "--margin", "-0.1"), r"--margin is -0.1: .*greater than 0; see .*"),
    "a digest that is none": (("run", "jena", "--accept-digest", "abc"), r"--accept-digest is 'abc': .*\{64\}.*; see .*"),
    "no mirror": (("run", "jena", "--data", "mirror"), r"--data mirror needs a mirror: set RETRAIN_MIRROR to .*"),
}


@pytest.mark.parametrize(("arguments", "pattern"), WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_wrong_settings_are_refused_before_anything_starts(
    arguments: tuple[str, ...], pattern: str, home: Path, warm: WarmCommand
) -> None:
    before = contents(home)
    done = warm(*arguments, home=home)
    check_refused(done, pattern)
    assert done.out == ""
    assert contents(home) == before


def test_a_number_that_is_text_is_refused(home: Path, warm: WarmCommand) -> None:
    before = contents(home)
    done = warm("run", "jena", "--epochs", "many", home=home)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert "--epochs" in done.err
    assert contents(home) == before


UNKNOWN_VERSIONS = {
    "alias of show": (
        ("show", "jena-sample@champoin"),
        r"model 'jena-sample' has no alias 'champoin': choose jena-sample@\S.*champion.*",
    ),
    "alias of promote": (("promote", "jena-sample@champoin"), r"model 'jena-sample' has no alias 'champoin': choose .*"),
    "version": (("show", "jena-sample@99"), r"model 'jena-sample' has no version 99: choose jena-sample@.*"),
    "model of rollback": (
        ("rollback", "jena", "--reason", "Too warm since Monday."),
        r"model 'jena' has no versions, so no alias 'champion': registered models are .*",
    ),
    "version of rollback": (
        ("rollback", "jena-sample@1", "--reason", "Too warm since Monday."),
        r"'jena-sample@1' names a version, expected a model such as 'jena-sample': leave out what follows @",
    ),
    "rollback without a previous": (
        ("rollback", "jena-sample", "--reason", "Too warm since Monday."),
        r"jena-sample has no version to roll back to: no other version is 'previous', expected the champion before v\d+; .*",
    ),
    "reason of rollback": (
        ("rollback", "jena-sample", "--reason", "bad"),
        r"--reason is 'bad': String should have at least 10 characters; see `retrain rollback --help`",
    ),
    "version of promote": (("promote", "imdb-sample@99"), r"model 'imdb-sample' has no version 99: choose imdb-sample@.*"),
    "model": (("show", "jena"), r"model 'jena' has no versions, .*: registered models are imdb-sample, jena-sample"),
    "model of the list": (("models", "jena"), r"unknown model 'jena': registered models are imdb-sample, jena-sample"),
    "no model": (("show", "@champion"), r"'@champion' names no model version: write MODEL, MODEL@VERSION or MODEL@ALIAS, .*"),
}


@pytest.mark.parametrize(("arguments", "pattern"), UNKNOWN_VERSIONS.values(), ids=UNKNOWN_VERSIONS)
def test_unknown_aliases_and_versions_are_refused(
    arguments: tuple[str, ...], pattern: str, first_run: Run, warm: WarmCommand
) -> None:
    before = contents(first_run.home)
    done = warm(*arguments, home=first_run.home)
    check_refused(done, pattern)
    assert done.out == ""
    assert contents(first_run.home) == before


@pytest.fixture
def run_station(watched: Watched, warm: WarmCommand) -> Callable[..., Done]:
    """Run Jena on a mirror, with the store watched."""

    def run(mirror: Path | str, *more: str) -> Done:
        return warm("run", "jena", "--data", "mirror", *STATION, *more, home=watched.home, mirror=mirror)

    return run


def test_a_host_that_refuses_connections(run_station: Callable[..., Done]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = run_station(f"http://127.0.0.1:{port}")
    check_refused(done, rf"mirror gave no SHA256SUMS: 127\.0\.0\.1:{port} cannot be reached \(.*\): correct RETRAIN_MIRROR")


def test_a_host_that_never_answers_is_noticed_within_ten_seconds(run_station: Callable[..., Done]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        done = run_station(f"http://127.0.0.1:{port}")
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):  # there was no second try of nine seconds
            silent.accept()
    check_refused(done, rf"mirror gave no SHA256SUMS: 127\.0\.0\.1:{port} cannot be reached \(no answer within 9 s\): .*")


def test_a_mirror_that_is_no_folder(run_station: Callable[..., Done], tmp_path: Path) -> None:
    done = run_station(tmp_path / "none")
    check_refused(done, r"mirror '.*/none' is neither a folder nor an http address: correct RETRAIN_MIRROR")


def test_a_mirror_without_the_file(run_station: Callable[..., Done], tmp_path: Path) -> None:
    done = run_station(make_mirror(tmp_path / "mirror", {"mpi_roof_2010a.zip": b"PK"}))
    check_refused(done, rf"mirror .* does not list {STATION_FILE} in SHA256SUMS, listed are mpi_roof_2010a\.zip: add it there")


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
BROKEN_FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", rf"{STATION_FILE} from .*/mirror/{STATION_FILE} is empty: fetch a whole copy"),
    "HTML": (lambda _: PAGE, rf"{STATION_FILE} from .* is an HTML page, expected the file: open the address in a browser .*"),
    "text": (lambda _: b"no zip at all", rf"{STATION_FILE} from .* begins with b'no', expected b'PK': fetch a whole copy"),
    "truncated": (cut, rf"{STATION_FILE} is not a sound zip file \(.*\): correct it .* fetch it again"),
}


@pytest.mark.parametrize(("spoil", "pattern"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_a_broken_file_in_a_folder(
    spoil: Callable[[bytes], bytes], pattern: str, run_station: Callable[..., Done], other: bytes, tmp_path: Path
) -> None:
    check_refused(run_station(make_mirror(tmp_path / "mirror", {STATION_FILE: spoil(other)})), pattern)


@pytest.mark.parametrize("spoil", [cut, lambda data: data + b"!"], ids=["truncated", "longer"])
def test_a_file_with_another_digest_than_the_mirror_lists(
    spoil: Callable[[bytes], bytes], run_station: Callable[..., Done], other: bytes, tmp_path: Path
) -> None:
    bad = spoil(other)
    done = run_station(make_mirror(tmp_path / "mirror", {STATION_FILE: bad}, sums={STATION_FILE: sha256(other)}))
    check_refused(done, rf"{STATION_FILE} from .* has SHA-256 {sha256(bad)}, expected {sha256(other)}: fetch a whole copy, or .*")


WEB_ANSWERS: dict[str, tuple[Callable[[bytes], tuple[bytes, int]], str]] = {
    "empty": (lambda _: (b"", 0), rf"{STATION_FILE} from 127\.0\.0\.1:\d+ is empty: fetch a whole copy"),
    "HTML": (lambda _: (PAGE, len(PAGE)), rf"{STATION_FILE} from 127\.0\.0\.1:\d+ is an HTML page, expected the file: .*"),
    "truncated": (
        lambda data: (cut(data), len(data)),
        rf"{STATION_FILE} from 127\.0\.0\.1:\d+ failed 4 times \(.*\): run again to continue from there",
    ),
    "wrong digest": (
        lambda data: (data + b"!", len(data) + 1),
        rf"{STATION_FILE} from 127\.0\.0\.1:\d+ has SHA-256 [0-9a-f]{{64}}, expected [0-9a-f]{{64}}: fetch a whole copy, or .*",
    ),
}


@pytest.mark.parametrize(("answer", "pattern"), WEB_ANSWERS.values(), ids=WEB_ANSWERS)
def test_a_broken_file_from_a_host(
    answer: Callable[[bytes], tuple[bytes, int]], pattern: str, run_station: Callable[..., Done], other: bytes
) -> None:
    sums = f"{sha256(other)}  {STATION_FILE}\n".encode()
    with web_mirror({"SHA256SUMS": (sums, len(sums)), STATION_FILE: answer(other)}) as address:
        check_refused(run_station(address), pattern)


def test_a_file_that_the_host_has_not(run_station: Callable[..., Done], other: bytes) -> None:
    sums = f"{sha256(other)}  {STATION_FILE}\n".encode()
    with web_mirror({"SHA256SUMS": (sums, len(sums))}) as address:
        check_refused(run_station(address), rf"{STATION_FILE} from 127\.0\.0\.1:\d+: HTTP 404 Not Found, expected the file: .*")


@pytest.fixture
def changed_mirror(mirror: Path, good: bytes, other: bytes) -> Iterator[Path]:
    """The mirror that the store was filled from, with another file and its digest in it."""
    make_mirror(mirror, {STATION_FILE: other})
    yield mirror
    make_mirror(mirror, {STATION_FILE: good})


def test_a_changed_digest_names_both_and_the_way_to_accept_it(
    run_station: Callable[..., Done], changed_mirror: Path, good: bytes, other: bytes
) -> None:
    pattern = (
        rf"{STATION_FILE} of jena from mirror .* has SHA-256 {sha256(other)} now, locked was {sha256(good)}: "
        rf"if the change is meant, accept it with --accept-digest {sha256(other)}"
    )
    check_refused(run_station(changed_mirror), pattern)
    # Another digest than the changed one accepts nothing.
    check_refused(run_station(changed_mirror, "--accept-digest", sha256(good)), pattern)


@pytest.mark.slow
def test_a_changed_digest_is_accepted_once_and_for_all(home: Path, changed_mirror: Path, other: bytes, warm: WarmCommand) -> None:
    short = ("--variants", "ridge", "--promote", "never", "--json")  # a training of a second
    command = ("run", "jena", "--data", "mirror", *STATION, *short)
    before = set(home.glob("tables/jena/*/manifest.json"))
    accepted = warm(*command, "--accept-digest", sha256(other), home=home, mirror=changed_mirror)
    assert accepted.code == 0, accepted.err
    table = accepted.json[0]["table"]
    assert table["published"] is True
    assert set(home.glob("tables/jena/*/manifest.json")) - before == {home / "tables/jena" / table["version"] / "manifest.json"}
    again = warm(*command, home=home, mirror=changed_mirror)
    assert again.code == 0, again.err
    assert again.json[0]["table"] == {**table, "published": False}
    assert not any(result["trained"] for result in again.json[0]["results"])


def without_column(lines: list[str], position: int) -> list[str]:
    return [",".join(cell for i, cell in enumerate(line.split(",")) if i != position) for line in lines]


def with_cell(lines: list[str], value: str) -> list[str]:
    """Put a value into the temperature of the 5,000th line."""
    cells = lines[4_999].split(",")
    return [*lines[:4_999], ",".join([*cells[:2], value, *cells[3:]]), *lines[5_000:]]


def warmer(line: str) -> str:
    """Return a row with another temperature."""
    cells = line.split(",")
    return ",".join([*cells[:2], str(float(cells[2]) + 1), *cells[3:]])


def shuffled(lines: list[str]) -> list[str]:
    rows = lines[1:]
    random.Random(3).shuffle(rows)
    return [lines[0], *rows]


NO_TEMPERATURE = rf"{STATION_FILE}, line 1: no column is named 'T \(degC\)' \(temperature_degc\); the file has .*: restore .*"
SPOILED_TABLES: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "missing column": (lambda lines: without_column(lines, 2), NO_TEMPERATURE),
    "renamed column": (lambda lines: [lines[0].replace('"T (degC)"', '"T (K)"'), *lines[1:]], NO_TEMPERATURE),
    "column twice": (
        lambda lines: [lines[0].replace('"Tpot (K)"', '"T (degC)"'), *lines[1:]],
        rf"{STATION_FILE}, line 1: 'T \(degC\)' is the name of columns number 3 and 4, expected each name once: .*",
    ),
    "swapped names": (
        lambda lines: [lines[0].replace("VPmax", "#").replace("VPact", "VPmax").replace("#", "VPact"), *lines[1:]],
        r"jena-[0-9a-f]{12}: \d+ critical expectations? failed: .*; Data Docs: .*/index\.html.*",
    ),
    "text in a number": (
        lambda lines: with_cell(lines, "cold"),
        rf"{STATION_FILE}, line 5000: 'cold' in temperature_degc \(T \(degC\)\) is not a number: correct or remove this row .*",
    ),
    "shuffled stamps": (
        shuffled,
        r".*out_of_order_rows: [\d,]+, a share of 0\.9\d+, expected at most 0\.001 .*",
    ),
    # 100 of 12,000 stamps are 0.83 %, above the 0.5 % that are repaired.
    "contradicting rows": (
        lambda lines: [*lines[:101], *(warmer(line) for line in lines[1:101]), *lines[101:]],
        r".*contradicting_rows: 100, a share of 0\.0083, expected at most 0\.005 \(.*\); correct the data upstream, "
        r"raise a limit, or accept this one version with --accept-failures [0-9a-f]{12} --reason .*",
    ),
    "no rows": (lambda lines: lines[:1], rf"{STATION_FILE} has a header and no rows: .* fetch it again"),
}


@pytest.mark.parametrize(("spoil", "pattern"), SPOILED_TABLES.values(), ids=SPOILED_TABLES)
def test_a_spoiled_table(
    spoil: Callable[[list[str]], list[str]], pattern: str, run_station: Callable[..., Done], good: bytes, tmp_path: Path
) -> None:
    bad = csv_zip(spoil(csv_lines(good)))
    check_refused(run_station(make_mirror(tmp_path / "mirror", {STATION_FILE: bad})), pattern)


def test_the_unspoiled_table_would_pass(good: bytes, tmp_path: Path, warm: WarmCommand) -> None:
    """Without this, the tests above could pass on a file that is refused for quite another reason."""
    mirror = make_mirror(tmp_path / "mirror", {STATION_FILE: csv_zip(csv_lines(good))})
    station = {"source": "station", "options": {"from_period": "2009a", "to_period": "2009a"}}
    assert warm.ingest("jena", home=tmp_path / "var", mirror=mirror, data="mirror", **station)["published"] is True


@pytest.mark.parametrize("reading", ["cold", "60"], ids=["not a number", "out of bounds"])
def test_once_the_publisher_has_restored_a_rejected_file_it_is_taken(
    reading: str, good: bytes, tmp_path: Path, warm: WarmCommand
) -> None:
    home = tmp_path / "var"
    mirror = make_mirror(tmp_path / "mirror", {STATION_FILE: csv_zip(with_cell(csv_lines(good), reading))})
    command = ("ingest", "jena", "--data", "mirror", *STATION)
    assert warm(*command, home=home, mirror=mirror).code == 2
    # Asked for once more, and still what it was.
    assert warm(*command, home=home, mirror=mirror).code == 2
    make_mirror(mirror, {STATION_FILE: good})
    restored = warm(*command, home=home, mirror=mirror)
    assert restored.code == 0, restored.err
    # From now on it is locked.
    make_mirror(mirror, {STATION_FILE: csv_zip(csv_lines(good))})
    check_refused(
        warm(*command, home=home, mirror=mirror), rf"{STATION_FILE} of jena from mirror .* locked was {sha256(good)}: .*"
    )


def test_data_docs_of_refused_data_are_kept(
    run_station: Callable[..., Done], watched: Watched, good: bytes, tmp_path: Path
) -> None:
    bad = csv_zip(with_cell(csv_lines(good), "60"))  # degrees, which Jena cannot have
    done = run_station(make_mirror(tmp_path / "mirror", {STATION_FILE: bad}))
    named = re.search(r"Data Docs: (\S+?index\.html)", done.err)
    assert named, done.err
    assert Path(named[1]).is_file()
    assert Path(named[1]).is_relative_to(watched.home / "reports")


class Runs:
    """What a pickle would do to whoever loads it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return Path.mkdir, (self._path,)  # type: ignore[return-value]


SPOILED_REVIEWS: dict[str, tuple[Mapping[str, bytes], str]] = {
    "label of 2": (
        imdb_files(reviews=[[1, 2], [3], [4]], labels=[0, 1, 2]),
        rf"label 2 at position 2 of y_train of {IMDB_FILE}: expected 0 \(negative\) or 1 \(positive\).*",
    ),
    "rank past the vocabulary": (
        imdb_files(reviews=[[1, 2], [3, 6], [4]], labels=[0, 1, 0]),
        rf"rank 6 in review 1 of x_train of {IMDB_FILE}: expected 1 to 5, the ranks of {WORDS_FILE}.*",
    ),
    "text for a rank": (
        imdb_files(reviews=[[1, 2], ["film"], [4]], labels=[0, 1, 0]),
        rf"token 'film' in review 1 of x_train of {IMDB_FILE}: expected a whole number.*",
    ),
    "half of the reviews": (
        imdb_files(reviews=[[1, 2], [3], [4]], labels=[0, 1, 0]),
        rf"{IMDB_FILE} has 3 train reviews: expected 25,000 from the source keras; fetch it again, or check the mirror",
    ),
    "HTML for words": (
        {**imdb_files(reviews=[[1]], labels=[0]), WORDS_FILE: PAGE},
        rf"{WORDS_FILE} from .* is an HTML page, expected the file: .*",
    ),
}


@pytest.mark.parametrize(("files", "pattern"), SPOILED_REVIEWS.values(), ids=SPOILED_REVIEWS)
def test_spoiled_reviews(files: Mapping[str, bytes], pattern: str, watched: Watched, tmp_path: Path, warm: WarmCommand) -> None:
    mirror = make_mirror(tmp_path / "mirror", files)
    check_refused(warm("run", "imdb", "--data", "mirror", home=watched.home, mirror=mirror), pattern)


def test_a_pickle_that_names_anything_else_runs_nothing(watched: Watched, tmp_path: Path, warm: WarmCommand) -> None:
    trace = tmp_path / "trace"
    mirror = make_mirror(tmp_path / "mirror", imdb_files(reviews=[[1, 2], Runs(trace)], labels=[0, 1]))
    done = warm("run", "imdb", "--data", "mirror", home=watched.home, mirror=mirror)
    check_refused(
        done,
        rf"member 'x_train\.npy' of {IMDB_FILE} asks for the global pathlib\.\S+, which was refused before anything ran: "
        r"expected numpy's array constructors and nothing else; do not use this file, fetch it again from its publisher",
    )
    assert not trace.exists()


@pytest.mark.slow
def test_a_refusal_is_one_line_from_a_shell_too(watched: Watched, good: bytes, tmp_path: Path) -> None:
    """The one that goes deepest, in a process and with a server of its own."""
    bad = csv_zip(with_cell(csv_lines(good), "60"))  # degrees, which Jena cannot have
    mirror = make_mirror(tmp_path / "mirror", {STATION_FILE: bad})
    done = retrain("run", "jena", "--data", "mirror", *STATION, home=watched.home, RETRAIN_MIRROR=str(mirror))
    check_refused(done, r"jena-[0-9a-f]{12}: \d+ critical expectations? failed: .*")
    # A server of its own keeps its database in the store, which is a log.
    watched.check_untouched(may_grow=(*MAY_GROW, "prefect/"))
    shutil.rmtree(watched.home / "prefect")
