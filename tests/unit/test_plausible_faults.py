"""Faults that leave data well-formed and plausible: each is found, or it is told why it cannot be; sound data raises no alarm."""

from __future__ import annotations

import pytest
from jena_helpers import DATA, MIRROR, real
from planted import jena_planted, review_planted
from planted.plausible import JenaBench, ReviewBench

from tasks.datasets.imdb import spec as imdb
from tasks.datasets.request import TableRequest

SEEDS = (1, 2)
BAROMETER = "pressure_step_over_gusts_mbar column_values_to_be_between warning"


@pytest.fixture(scope="module")
def station() -> JenaBench:
    return JenaBench(real(MIRROR, ["mpi_roof_2020a.zip", "mpi_roof_2020b.zip"]))


@pytest.fixture(scope="module")
def reviews() -> ReviewBench:
    files = {name: MIRROR / name for name in ("imdb.npz", "imdb_word_index.json")}
    if not all(path.is_file() for path in files.values()):
        pytest.skip("the published reviews are not here: name a mirror that has them with RETRAIN_MIRROR")
    return ReviewBench(imdb.SPEC.parse(files, TableRequest(source="keras")))


def test_sound_data_raises_no_alarm(station: JenaBench, reviews: ReviewBench) -> None:
    assert station.before == {}
    assert reviews.before == {}
    years = [f"mpi_roof_{year}{half}.zip" for year in range(2009, 2015) for half in "ab"][:11]
    # On 2011-06-06 the barometer jumped by 10 mbar within ten minutes, and stayed there for some hours.
    assert JenaBench(real(DATA / "reconstructed", years)).before == {BAROMETER: "warning"}


@pytest.mark.parametrize("name", jena_planted.FAULTS)
def test_a_fault_of_the_station_is_found(station: JenaBench, name: str) -> None:
    for seed in SEEDS:
        assert station.plant(jena_planted.FAULTS[name], seed=seed).severity, f"{name}, seed {seed}"


@pytest.mark.parametrize("name", jena_planted.NOT_TO_BE_SEEN)
def test_what_nothing_within_the_file_contradicts_is_not_found(station: JenaBench, name: str) -> None:
    # Once one of these is found, the table in docs/explanation/reliability.md is to be changed.
    fault, _ = jena_planted.NOT_TO_BE_SEEN[name]
    assert station.plant(fault, seed=1).severity == ""


@pytest.mark.parametrize("name", review_planted.FAULTS)
def test_a_fault_of_the_reviews_is_found(reviews: ReviewBench, name: str) -> None:
    assert reviews.plant(review_planted.FAULTS[name], seed=1).severity, name


@pytest.mark.parametrize("name", review_planted.NOT_TO_BE_SEEN)
def test_what_nothing_within_the_reviews_contradicts_is_not_found(reviews: ReviewBench, name: str) -> None:
    fault, _ = review_planted.NOT_TO_BE_SEEN[name]
    assert reviews.plant(fault, seed=1).severity == ""


def test_enough_kinds_are_planted() -> None:
    assert len(jena_planted.FAULTS) >= 60
    assert len(review_planted.FAULTS) >= 20
