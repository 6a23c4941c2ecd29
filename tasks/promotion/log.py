"""The log of decisions of one model: what was promoted, what a person refused, and which version was champion before.

The log lies in the store and the versions in the registry. A line says in which registry it was made, by the time at which the
model was registered there. Where a registry was lost and made anew, versions are numbered from 1 again, and lines of before say
nothing of them: they stay in the log, and do not count.

The log is a journal (`storage.journal`): of two hosts that decide at once, one alone adds the next line, and the other one reads
it and decides anew. A decision is logged before an alias moves. A line with `moves` says which aliases move where; its writer
moves them, and then a line with its key under `applied` marks it. Whoever decides next first completes a line with `moves` that
has no mark (`settle`), so that aliases and log agree whatever dies on the way.

A line by which a person refuses a version, in a rollback or a rejection, names it under `version`, and lists it with its twin and
its refit under `refused`. The refusal stands until a person promotes one of them.
"""

from __future__ import annotations

import getpass
import logging
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from storage.journal import Journal
from storage.layout import Store
from storage.records import ModelVersion
from storage.registry import CHAMPION, PREVIOUS, Registry
from tasks.promotion.rule import ROLLED_BACK, Check, Decision
from tasks.training.refit import REFIT_TAG, twin_number

logger = logging.getLogger("retrain")

Line = Mapping[str, Any]

# Between the host that decides and the one that keeps the registry.
_MAX_CLOCK_DIFFERENCE_MS = 600_000
# A host that was slow puts right within milliseconds what it moved back; a person's change in MLflow's UI stays.
_LOOKS, _LOOK_S = 4, 0.5


class DecisionLog:
    """The log of decisions of a model, of which the lines of the present registry count."""

    def __init__(self, journal: Journal, *, registered_ms: int | None) -> None:
        """Wrap a journal; `registered_ms` is when the model was registered, in milliseconds since 1970, None if it was not."""
        self._journal, self._registered_ms = journal, registered_ms
        self.earlier_lines = 0

    def entries(self) -> list[Line]:
        """Return the lines that count, oldest first, and remember for `add` which lines there were."""
        lines = self._journal.entries()
        counting = [line for line in lines if self._counts(line)]
        self.earlier_lines = len(lines) - len(counting)
        return counting

    def add(self, line: Line) -> bool:
        """Add a line unless another writer has added one since `entries`; False if one has, and nothing was added."""
        return self._journal.add({**line, "registered_ms": self._registered_ms})

    def _counts(self, line: Line) -> bool:
        if self._registered_ms is None:
            return False
        if "registered_ms" in line:
            return bool(line["registered_ms"] == self._registered_ms)
        # A line of release 0.1 or 0.2 says only when it was made.
        made_ms = datetime.fromisoformat(line["at"]).timestamp() * 1000
        return made_ms >= self._registered_ms - _MAX_CLOCK_DIFFERENCE_MS


@dataclass(frozen=True)
class Standing:
    """What a decision is made on.

    Attributes:
        log: To which a line is added only if nobody has added one to `lines` since.
        lines: The log; every line in it that moves aliases is completed.
        champion: The version in use, or None.
    """

    log: DecisionLog
    lines: Sequence[Line]
    champion: ModelVersion | None

    @property
    def champion_number(self) -> int | None:
        """Number of the champion, or None."""
        return self.champion.version if self.champion else None


def open_log(model_name: str, *, registry: Registry, store: Store) -> DecisionLog:
    """Return the log of decisions of a registered model."""
    journal = Journal(store.promotions(model_name), beginning=store.first_promotions(model_name))
    return DecisionLog(journal, registered_ms=registry.registered_ms(model_name))


def read_log(model_name: str, *, registry: Registry, store: Store) -> Sequence[Line]:
    """Return the lines of the log of a registered model that count, oldest first."""
    return open_log(model_name, registry=registry, store=store).entries()


def settle(model_name: str, *, registry: Registry, store: Store) -> Standing:
    """Complete what the log says and the aliases do not yet, and return both as they stand.

    Where they differ and nothing is due, a person has moved the alias in MLflow's UI, or a slow host has just moved it back and
    is about to see that. So the alias is read again for two seconds before it counts as a person's.
    """
    log = open_log(model_name, registry=registry, store=store)
    looks = 0
    while True:
        lines: Sequence[Line] = log.entries()
        if log.earlier_lines and not lines:
            logger.warning(
                "%s: its %d logged decisions are about versions of a registry that was lost or emptied, and count no more: "
                "versions are numbered anew; restore mlflow.db from a backup if that was not meant",
                model_name,
                log.earlier_lines,
            )
        champion = registry.by_alias(model_name, CHAMPION)
        due = due_moves(lines, champion=champion)
        if due:
            _carry_out(due, model_name=model_name, log=log, registry=registry)
        elif champion and (mark := _lost_mark(champion, lines=lines)):
            log.add(mark)
        elif looks < _LOOKS and not _agree(lines, champion=champion):
            looks += 1
            time.sleep(_LOOK_S)
        else:
            return Standing(log, lines, champion)


def _agree(lines: Sequence[Line], *, champion: ModelVersion | None) -> bool:
    """Return whether the champion is the one that the moves made which were marked last."""
    applied = next((line["applied"] for line in reversed(lines) if "applied" in line), None)
    moves = next((moves for line in lines if line["key"] == applied and (moves := moves_of(line))), None)
    return moves is None or moves[CHAMPION] == (champion.version if champion else None)


def due_moves(lines: Sequence[Line], *, champion: ModelVersion | None) -> Line | None:
    """Return the last line of the log if its aliases are still to be moved or to be marked as moved; else None.

    If someone else has made another version champion since, as in MLflow's UI, that version stays.
    """
    last: Line = lines[-1] if lines else {}
    moves = moves_of(last)
    if not moves or "applied" in last:
        return None
    before = last["before"] if "before" in last else _number(last["decision"]["champion"])
    number = champion.version if champion else None
    return last if number in (before, moves[CHAMPION]) else None


def moves_of(line: Line) -> Mapping[str, int | None]:
    """Return the aliases that a line moves, in their order; None removes one. Rollbacks of version 0.1 have no `moves`."""
    if "moves" in line:
        moves: Mapping[str, int | None] = line["moves"]
        return moves
    if line.get("decision", {}).get("outcome") == ROLLED_BACK:
        return {CHAMPION: line["candidate"], PREVIOUS: line["previous"]}
    return {}


def _carry_out(line: Line, *, model_name: str, log: DecisionLog, registry: Registry) -> None:
    _move(moves_of(line), model_name=model_name, registry=registry)
    if log.add(applied_entry(line["key"], candidate=line["candidate"])):
        return
    # This host was slow, and another one has marked the line. If it has gone on to a later one, that one's aliases stand.
    newest = next((each for each in reversed(log.entries()) if moves_of(each)), line)
    if newest["key"] != line["key"]:
        _move(moves_of(newest), model_name=model_name, registry=registry)


def _move(moves: Mapping[str, int | None], *, model_name: str, registry: Registry) -> None:
    for alias, version in moves.items():
        if version is None:
            registry.delete_alias(model_name, alias)
        else:
            registry.set_aliases(model_name, {alias: version})


def applied_entry(key: str, *, candidate: int) -> dict[str, Any]:
    """Return the line of the log that marks a decision as applied."""
    return {"at": now(), "key": key, "candidate": candidate, "applied": key}


def applied_keys(lines: Sequence[Line]) -> set[str]:
    """Return the keys of the decisions that are marked as applied."""
    return {line["applied"] for line in lines if "applied" in line}


def final_decisions(lines: Sequence[Line]) -> dict[str, Line]:
    """Return the last decision of each key, in the order of the first; once it has a refit, a later line repeats it with that."""
    return {line["key"]: line["decision"] for line in lines if "decision" in line}


def decision_from_log(values: Line) -> Decision:
    """Return a decision as it was logged."""
    return Decision(**{**values, "checks": tuple(Check(**check) for check in values["checks"])})


def family(version: ModelVersion) -> set[int]:
    """Return the numbers of a version, of its twin and of its refit."""
    return {version.version, twin_number(version), int(version.tags.get(REFIT_TAG, version.version))}


def entries_of(version: ModelVersion, *, lines: Sequence[Line]) -> list[Line]:
    """Return the lines of the log about a version, its twin or its refit."""
    numbers = family(version)
    return [line for line in lines if line["candidate"] in numbers]


def decisions_about(version: ModelVersion, *, registry: Registry, store: Store) -> list[dict[str, Any]]:
    """Return the logged decisions about a version, its twin or its refit, each once and as it was in the end."""
    lines = read_log(version.name, registry=registry, store=store)
    numbers, final = family(version), final_decisions(lines)
    first: dict[str, Line] = {}
    for line in lines:
        if "decision" in line and "applied" not in line and numbers & {line["candidate"], *line.get("refused", ())}:
            first.setdefault(line["key"], line)
    return [{**line, "decision": final[key]} for key, line in first.items()]


def _lost_mark(champion: ModelVersion, *, lines: Sequence[Line]) -> Line | None:
    """Return the mark that the champion's promotion lacks if its process died right after the alias had moved.

    Without the mark a later run could promote this version again after another one has replaced it. Only logs of version 0.1 can
    lack it: what has `moves` is completed by `settle`.
    """
    entries = entries_of(champion, lines=lines)
    keys = promotions(entries)
    if keys and keys[-1] not in applied_keys(entries) and not any("moves" in line for line in entries):
        return applied_entry(keys[-1], candidate=twin_number(champion))
    return None


def promotions(entries: Sequence[Line]) -> list[str]:
    """Return the keys of the decisions that promoted a version, in order."""
    return [key for key, decision in final_decisions(entries).items() if decision["outcome"] == "promoted"]


def superseded_since(entries: Sequence[Line]) -> str | None:
    """Return since when the version of these lines was champion before the present one; None if it never was."""
    applied = applied_keys(entries)
    keys = [key for key in promotions(entries) if key in applied]
    if not keys:
        return None
    return next(str(entry["at"]) for entry in entries if entry["key"] == keys[-1])


def standing_refusal(version: ModelVersion, *, lines: Sequence[Line]) -> Line | None:
    """Return the line by which a person refused a version, its twin or its refit; None if a person has promoted it since."""
    numbers, applied = family(version), applied_keys(lines)
    for line in reversed(lines):
        if numbers & set(line.get("refused", ())):
            return line
        is_promotion = line.get("decision", {}).get("outcome") == "promoted" and line["key"] in applied
        if is_promotion and line.get("by") == "person" and line["candidate"] in numbers:
            return None
    return None


def refusal_text(line: Line, *, candidate: int, model_name: str) -> str:
    """Return who refused a version and why, and how a person may promote it all the same."""
    used = line["version"]
    verb = "rolled back" if line["decision"]["outcome"] == ROLLED_BACK else "rejected"
    name = f"v{candidate}" if used == candidate else f"v{candidate}, in use as v{used},"
    said = f"{name} was {verb} by {line['person']} on {line['at'][:10]}: {line['reason']}"
    return f"{said}; a person may promote it: retrain promote {model_name}@{used}"


def champion_before(version: int, *, lines: Sequence[Line], usable: Collection[int]) -> int | None:
    """Return the version that was champion before one was promoted, further back where that one is not usable.

    Args:
        version: Version whose promotion is looked up; the way back ends where a promotion had no champion before it.
        lines: The log.
        usable: Versions that may be returned.
    """
    decisions = final_decisions(lines)
    replaced: dict[int | None, int | None] = {}
    for decision in (decisions[line["applied"]] for line in lines if line.get("applied") in decisions):
        if decision["outcome"] == "promoted":
            replaced[_number(decision.get("refit") or decision["candidate"])] = _number(decision["champion"])
    passed = {version}
    current = replaced.get(version)
    while current is not None and current not in passed:
        if current in usable:
            return current
        passed.add(current)
        current = replaced.get(current)
    return None


def _number(name: str | None) -> int | None:
    return int(name.removeprefix("v")) if name else None


def now() -> str:
    """Return the time in UTC, ISO 8601 to the second."""
    return datetime.now(tz=UTC).isoformat(timespec="seconds")


def new_key() -> str:
    """Return a key for a decision of a person, which is made once: none is like it."""
    return uuid.uuid4().hex


def current_person() -> str:
    """Return the name of the user whose process this is."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return "a person"
