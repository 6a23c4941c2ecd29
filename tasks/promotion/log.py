"""Read the log of decisions of one model: what was promoted, what a person refused, and which version was champion before.

Each decision is a line before the aliases move, and a further line with its key under `applied` marks it once they have moved.
A line by which a person refuses a version, in a rollback or a rejection, names it under `version`, and lists it with its twin and
its refit under `refused`. The refusal stands until a person promotes one of them.
"""

from __future__ import annotations

import getpass
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from upath import UPath

from storage.io import append_line, read_lines
from storage.layout import Store
from storage.records import ModelVersion
from tasks.promotion.rule import ROLLED_BACK, Check, Decision
from tasks.training.refit import REFIT_TAG, twin_number

Line = Mapping[str, Any]


def applied_entry(key: str, *, candidate: int) -> dict[str, Any]:
    """Return the line of the log that marks a decision as applied."""
    return {"at": now(), "key": key, "candidate": candidate, "applied": key}


def applied_keys(lines: Sequence[Line]) -> set[str]:
    """Return the keys of the decisions that are marked as applied."""
    return {line["applied"] for line in lines if "applied" in line}


def final_decisions(lines: Sequence[Line]) -> dict[str, Line]:
    """Return the last decision of each key, in the order of the first; the mark of a refit repeats the decision with it."""
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


def decisions_about(version: ModelVersion, *, store: Store) -> list[dict[str, Any]]:
    """Return the logged decisions about a version, its twin or its refit, each once and as it was in the end."""
    lines = read_lines(store.promotions(version.name))
    numbers, final = family(version), final_decisions(lines)
    return [
        {**line, "decision": final[line["key"]]}
        for line in lines
        if "decision" in line and "applied" not in line and numbers & {line["candidate"], *line.get("refused", ())}
    ]


def complete_last_promotion(champion: ModelVersion, *, log: UPath) -> None:
    """Mark the champion's promotion as applied if its run, or the command, died right after the alias had moved.

    Without the mark a later run could promote this version again after another one has replaced it.
    """
    entries = entries_of(champion, lines=read_lines(log))
    keys = promotions(entries)
    if keys and keys[-1] not in applied_keys(entries):
        append_line(log, applied_entry(keys[-1], candidate=twin_number(champion)))


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
    applied = applied_keys(lines)
    replaced: dict[int, int | None] = {}
    for key, decision in final_decisions(lines).items():
        if decision["outcome"] == "promoted" and key in applied:
            before = decision["champion"]
            replaced[_number(decision.get("refit") or decision["candidate"])] = _number(before) if before else None
    passed = {version}
    current = replaced.get(version)
    while current is not None and current not in passed:
        if current in usable:
            return current
        passed.add(current)
        current = replaced.get(current)
    return None


def _number(name: str) -> int:
    return int(name.removeprefix("v"))


def now() -> str:
    """Return the time in UTC, ISO 8601 to the second."""
    return datetime.now(tz=UTC).isoformat(timespec="seconds")


def current_person() -> str:
    """Return the name of the user whose process this is."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return "a person"
