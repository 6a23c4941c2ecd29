"""`retrain verify` and the flow of its deployment, on a store that a run has filled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flow_helpers import WarmCommand, retrain


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, warm: WarmCommand) -> Path:
    home = tmp_path_factory.mktemp("verify") / "var"
    done = warm("ingest", "jena", "--data", "sample", home=home)
    assert done.code == 0, done.err
    return home


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_whole_store_is_one_sentence(home: Path, warm: WarmCommand) -> None:
    done = warm("verify", home=home)
    assert (done.code, done.err) == (0, "")
    assert done.out.strip().splitlines()[-1].endswith("files are as they were written.")


def test_damage_is_told_with_what_needs_it_then_repaired(home: Path) -> None:
    """The real command, with a Prefect server of its own."""
    (path,) = home.glob("tables/jena/*/train.parquet")
    sound = path.read_bytes()
    flip(path)
    done = retrain("verify", "--json", home=home)
    assert done.code == 1, done.err
    (damage,) = json.loads(done.out)["damages"]
    assert damage["name"] == str(path.relative_to(home))
    assert damage["fault"].startswith("its SHA-256 is ")
    assert damage["repaired"] == ""
    assert "retrain ingest" in damage["remedy"]
    repaired = retrain("verify", "--repair", home=home)
    assert repaired.code == 0, repaired.err
    assert "made again, equal" in " ".join(repaired.out.split())
    assert "1 of them repaired." in repaired.out
    assert path.read_bytes() == sound


def test_the_run_of_the_deployment_fails_while_damage_is_left(home: Path, warm: WarmCommand) -> None:
    (path,) = sorted(home.glob("raw/jena-sample/locks/*.json"))[-1:]
    sound = path.read_bytes()
    flip(path)
    ran = warm.flow("verify", home=home, settings={"repair": True})
    assert ran["state"] == "Damaged"
    assert ran["message"].endswith("is damaged: see the artifact verification")
    path.write_bytes(sound)
    assert warm.flow("verify", home=home, settings={"repair": True})["state"] == "Completed"
