"""An alias is followed, and what cannot be loaded or asked leaves the old version in place."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from storage.errors import RegistryError, RetrainError
from storage.records import ModelVersion
from tasks.serving import following
from tasks.serving.following import Follower
from tasks.serving.served import ServedModel


class Place:
    """Where an alias points, and which versions load."""

    def __init__(self) -> None:
        self.version = 1
        self.broken: set[int] = set()
        self.is_down = False
        self.loaded: list[int] = []
        self.log: list[dict[str, Any]] = []

    def resolve(self, reference: str) -> ModelVersion:
        if self.is_down:
            raise RegistryError("the registry is down")
        name = reference.partition("@")[0]
        return ModelVersion(
            name=name,
            version=self.version,
            variant="gru",
            run_id="r",
            uri=f"models:/{name}/{self.version}",
            aliases=(),
            tags={},
            metrics={},
            created="",
        )

    def load(self, version: ModelVersion) -> ServedModel:
        self.loaded.append(version.version)
        if version.version in self.broken:
            raise OSError("half of a file\nand more")
        values: Any = None  # no prediction is asked for
        return ServedModel(version, values, values, None, "table", datetime.now(tz=UTC))


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def follower(place: Place) -> Follower:
    return Follower("jena@champion", resolve=place.resolve, load=place.load, poll_s=1, log=place.log.append)


def answering(follower: Follower) -> tuple[int, bool]:
    return follower.state.model.version.version, follower.state.problem is None


def test_a_version_is_loaded_once_and_exchanged_when_the_alias_moves(place: Place, follower: Follower) -> None:
    follower.check()
    assert (answering(follower), place.loaded) == ((1, True), [1])
    place.version = 2
    before = follower.state.checked_at
    follower.check()
    assert (answering(follower), place.loaded) == ((2, True), [1, 2])
    assert before is not None
    assert follower.state.checked_at is not None
    assert follower.state.checked_at > before
    assert place.log == [{"event": "version", "from": 1, "to": 2}]


def test_a_version_that_does_not_load_is_told_once_and_tried_again_later(
    place: Place, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.version, place.broken = 2, {2}
    for _ in range(3):
        follower.check()
    assert (answering(follower), place.loaded) == ((1, False), [1, 2])
    told = "jena@champion is version 2, which does not load: half of a file; version 1 goes on answering"
    assert follower.state.problem == told
    assert place.log == [{"event": "outdated", "version": 1, "problem": told}]
    monkeypatch.setattr(following.time, "monotonic", lambda: float("inf"))
    place.broken = set()
    follower.check()
    assert (answering(follower), place.loaded) == ((2, True), [1, 2, 2])


def test_an_alias_that_goes_back_ends_the_problem(place: Place, follower: Follower) -> None:
    place.version, place.broken = 2, {2}
    follower.check()
    place.version = 1
    follower.check()
    assert (answering(follower), place.loaded) == ((1, True), [1, 2])


def test_a_registry_that_is_down_changes_nothing(place: Place, follower: Follower) -> None:
    checked_at = follower.state.checked_at
    place.is_down = True
    follower.check()
    assert answering(follower) == (1, False)
    assert follower.state.problem == "jena@champion cannot be found: the registry is down; version 1 goes on answering"
    assert follower.state.checked_at == checked_at
    place.is_down = False
    follower.check()
    assert answering(follower) == (1, True)


def test_what_does_not_load_at_first_is_an_error(place: Place) -> None:
    place.is_down = True
    with pytest.raises(RetrainError, match="the registry is down"):
        Follower("jena@champion", resolve=place.resolve, load=place.load, poll_s=1, log=place.log.append)
