"""The command and the flow `predict` on a trained store: what a person sees, what is kept, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from flow_helpers import Run, WarmCommand, contents

# The first test that asks for a trained store waits for it.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def home(first_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a trained store, so that what is predicted stays out of the other tests' store."""
    home = tmp_path_factory.mktemp("predict") / "var"
    shutil.copytree(first_run.home, home, ignore=shutil.ignore_patterns(".scratch", "prefect"))
    return home


def kept(home: Path, model: str) -> int:
    return sum(pq.read_metadata(path).num_rows for path in (home / "predictions" / model).rglob("*.parquet"))


def test_a_forecast_is_printed_and_kept_once(home: Path, warm: WarmCommand) -> None:
    done = warm("predict", "jena-sample", home=home)
    assert done.code == 0, done.err
    assert "temperature (°C)" in done.out
    assert "80 %" in done.out
    assert f"1 of 1 kept in {home}/predictions/jena-sample" in done.out
    again = warm("predict", "jena-sample", home=home)
    assert "issued before, none kept again" in again.out
    assert kept(home, "jena-sample") == 1


def test_json_is_all_of_standard_output(home: Path, warm: WarmCommand) -> None:
    done = warm("predict", "jena-sample@champion", "--json", home=home)
    (row,) = done.json
    assert {"model", "model_version", "as_of", "target_time", "prediction", "lower_95", "upper_95"} <= row.keys()


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".json"])
def test_many_forecasts_are_written_with_their_picture(home: Path, warm: WarmCommand, tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"forecasts{ending}"
    done = warm("predict", "jena-sample", "--from", "2009-10-01", "--every-rows", "6", "--output", str(output), home=home)
    assert done.code == 0, done.err
    assert " a second" in done.out
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    if ending == ".parquet":
        rows = pq.read_table(output).num_rows
    elif ending == ".csv":
        rows = len(output.read_text().splitlines()) - 1
    else:
        rows = len(json.loads(output.read_text()))
    assert rows > 200
    assert f"the last of {rows:,} forecasts" in done.out


def test_texts_are_labelled_and_none_of_them_is_kept(home: Path, warm: WarmCommand, tmp_path: Path) -> None:
    secret = "unmistakable secret words"
    done = warm("predict", "imdb-sample", secret, "zzzz zzzz zzzz", home=home)
    assert done.code == 0, done.err
    assert "probability" in done.out
    assert "they may be of another language" in done.out
    (tmp_path / "reviews.csv").write_text(f'review\n"{secret}"\nanother one\n')
    done = warm("predict", "imdb-sample", "--input", str(tmp_path / "reviews.csv"), "--json", home=home)
    labels = done.json
    assert len(labels) == 2
    assert {row["label"] for row in labels} <= {"positive", "negative"}
    (tmp_path / "bodies.csv").write_text(f"body\n{secret}\n")
    other = warm("predict", "imdb-sample", "--input", str(tmp_path / "bodies.csv"), "--columns", "review=body", home=home)
    assert "issued before" in other.out
    # The first text was kept before.
    assert "1 of 2 kept" in done.err
    files = [path.read_bytes() for path in (home / "predictions").rglob("*") if path.is_file()]
    assert kept(home, "imdb-sample") == 3
    assert not any(b"unmistakable" in content for content in files)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rain",), "model 'rain' has no versions"),
        (("jena-sample@99",), "has no version 99"),
        (("jena-sample", "--at", "tomorrow"), "--at is 'tomorrow'"),
        (("jena-sample", "--at", "2031-01-01"), "there is no reading of 2031-01-01T00:00:00"),
        (
            ("jena-sample", "--at", "2009-10-01", "--every-rows", "2"),
            "--at is one stamp: leave out --from, --to and --every-rows",
        ),
        (("jena-sample", "--input", "nowhere.csv"), "nowhere.csv is not there"),
        (("jena-sample", "--output", "a.xlsx"), "--output is 'a.xlsx': end the name with .parquet, .csv, .json"),
        (("jena-sample", "a text"), "jena is forecast from readings, and texts were given"),
        (("imdb-sample",), "imdb classifies texts, and none was given"),
        (("imdb-sample", " "), "text 1 of the input is empty"),
        (("imdb-sample", "--at", "2009-10-01"), "at is '2009-10-01', but texts have no stamps"),
    ],
    ids=lambda value: "-".join(value).replace(" ", "_") if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_line_and_keeps_nothing(home: Path, warm: WarmCommand, arguments: tuple[str, ...], message: str) -> None:
    before = contents(home)
    done = warm("predict", *arguments, home=home)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert contents(home) == before


def test_the_flow_keeps_the_forecast_and_shows_it(home: Path, warm: WarmCommand) -> None:
    done = warm.flow("predict", home=home, model="jena-sample", settings={"at": "2009-10-05T12:00"})
    assert done["state"] == "Completed"
    assert done["result"]["kept"] == 1
    assert done["result"]["summary"].startswith("jena-sample@")
    again = warm.flow("predict", home=home, model="jena-sample", settings={"at": "2009-10-05T12:00"})
    assert again["state"] == "Skipped"
