"""What must stay, whatever its age: model versions, tables, and all that waiting or running flows work with.

A version is needed if an alias, the log of decisions, an issued prediction or a waiting run names it, or if it is the twin or the
refit of one that is. A table is needed if it is among the newest of its data set, or if a version, a test against the present
champion or a waiting run names it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from storage.records import ModelVersion
from storage.registry import CHAMPION
from tasks.promotion.log import Line, applied_keys, final_decisions, moves_of
from tasks.training.refit import REFIT_TAG, TWIN_TAG

# No training may take longer than 1,000 hours. An older run without an end has died unnoticed.
DEAD_AFTER = timedelta(days=60)
SOON = timedelta(minutes=10)
_NAMES_OF_A_DATA_SET = ("dataset", "model")


@dataclass(frozen=True)
class WaitingRun:
    """A run of Prefect that has not ended.

    Attributes:
        state: Type of its state, such as `RUNNING`.
        since: When it began, or is to begin; None if nobody knows.
        parameters: What it was given.
    """

    state: str
    since: datetime | None
    parameters: Mapping[str, Any]

    def is_at_work(self, *, now: datetime) -> bool:
        """Tell whether it works, or will within minutes; one that is suspended or planned needs only what it names."""
        if self.state == "PAUSED":
            return False
        if self.since is None:
            return True
        return self.since - SOON <= now if self.state == "SCHEDULED" else now - self.since < DEAD_AFTER

    def words(self) -> frozenset[str]:
        """Return every text in its parameters."""
        return frozenset(_texts(self.parameters))

    def datasets(self) -> frozenset[str]:
        """Return the data sets that its parameters are about; the name of a model begins with that of its data set."""
        names = _values(self.parameters, keys=_NAMES_OF_A_DATA_SET)
        return frozenset(name.partition("@")[0].split("-")[0] for name in names)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _values(value: Any, *, keys: Collection[str]) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            if key in keys and isinstance(each, str):
                yield each
            else:
                yield from _values(each, keys=keys)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _values(each, keys=keys)


@dataclass(frozen=True)
class Waiting:
    """What all waiting and running flows need.

    Attributes:
        words: Every text that their parameters hold, among them table versions and MODEL@VERSION.
        datasets: Data sets that one of them works on now.
    """

    words: frozenset[str] = frozenset()
    datasets: frozenset[str] = frozenset()


def waiting_of(runs: Iterable[WaitingRun], *, now: datetime) -> Waiting:
    """Return what some runs need together."""
    runs = tuple(runs)
    words = frozenset(word for run in runs for word in run.words())
    return Waiting(words=words, datasets=frozenset(name for run in runs if run.is_at_work(now=now) for name in run.datasets()))


def needed_versions(
    versions: Sequence[ModelVersion],
    *,
    lines: Sequence[Line],
    issued: Collection[int],
    newest_tables: Collection[str],
    words: Collection[str],
) -> set[int]:
    """Return the numbers of the versions of one model that must stay.

    Args:
        versions: All of them.
        lines: The log of decisions of the model.
        issued: Versions that issued predictions, which monitoring judges.
        newest_tables: Tables on which the next runs would find them trained.
        words: Texts of waiting runs.
    """
    numbers = {version.version for version in versions}
    needed = set(issued) | _champions(lines)
    for version in versions:
        names = {f"{version.name}@{version.version}", *(f"{version.name}@{alias}" for alias in version.aliases)}
        if version.aliases or names & set(words) or version.tags.get("table_version") in newest_tables:
            needed.add(version.version)
    links = {version.version: _linked(version) for version in versions}
    for number, linked in list(links.items()):  # a link holds from both ends
        for other in linked:
            links.setdefault(other, set()).add(number)
    waiting = list(needed)
    while waiting:
        for other in links.get(waiting.pop(), ()):
            if other not in needed:
                needed.add(other)
                waiting.append(other)
    return needed & numbers


def _linked(version: ModelVersion) -> set[int]:
    """Return the twin and the refit that the tags of a version name."""
    return {int(version.tags[tag]) for tag in (TWIN_TAG, REFIT_TAG) if version.tags.get(tag, "").isdecimal()}


def _champions(lines: Sequence[Line]) -> set[int]:
    """Return every version that was champion, to which a rollback may go back, or that an alias is about to move to."""
    applied = applied_keys(lines)
    moved = {number for line in lines for number in moves_of(line).values() if number is not None}
    names: set[str] = set()
    for key, decision in final_decisions(lines).items():
        if decision["outcome"] == "promoted" and key in applied:
            names.update(filter(None, (decision.get("refit"), decision["candidate"], decision["champion"])))
    return moved | {int(name.removeprefix("v")) for name in names}


def needed_tables(
    versions: Iterable[ModelVersion],
    *,
    lines: Mapping[str, Sequence[Line]],
    newest_tables: Collection[str],
    words: Collection[str],
) -> set[str]:
    """Return the versions of the tables that must stay.

    Args:
        versions: The model versions that stay.
        lines: The logs of decisions, by model.
        newest_tables: The newest ones of each data set.
        words: Texts of waiting runs.
    """
    versions = tuple(versions)
    champions = {version.name: version.version for version in versions if CHAMPION in version.aliases}
    needed = {*newest_tables, *words, *(version.tags.get("table_version", "") for version in versions)}
    for model, log in lines.items():
        # Of data whose rows have no stamps, the rows of an earlier test are looked up in its table.
        tests = (line["test"] for line in log if "test" in line)
        needed |= {str(test["rows"].get("table", "")) for test in tests if test["champion"] == champions.get(model)}
    return needed


def needed_keys(versions: Iterable[ModelVersion]) -> set[str]:
    """Return the training keys of versions with an alias and of their twins, whose evaluations reports and monitoring read."""
    versions = tuple(versions)
    in_use = {
        (version.name, number) for version in versions if version.aliases for number in (version.version, *_linked(version))
    }
    return {version.tags.get("training_key", "") for version in versions if (version.name, version.version) in in_use}
