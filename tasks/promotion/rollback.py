"""Roll back: make the champion before the present one champion again, because a person says so and why.

The rollback is logged first, then the aliases move, then a line marks it as applied. If its process dies on the way, whatever
next decides on the model completes it: a run, a promotion by hand, or another rollback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from storage.errors import RegistryError
from storage.io import append_line, digest_of_json, read_lines
from storage.layout import Store
from storage.records import ModelVersion
from storage.registry import CHAMPION, PREVIOUS, Registry
from tasks.config import RollbackSettings
from tasks.promotion.comparison import load_check
from tasks.promotion.log import (
    applied_entry,
    champion_before,
    complete_last_promotion,
    family,
    now,
    refusal_text,
    standing_refusal,
)
from tasks.promotion.rule import ROLLED_BACK, Decision


def roll_back(settings: RollbackSettings, *, registry: Registry, store: Store) -> Decision:
    """Make `previous` the champion, and refuse what was champion, with its twin, until a person promotes it again.

    `previous` then points to the version that was champion before the one that is champion now, as the log has it, and to none
    that was itself rolled back. Where there is none the alias is removed, so that a second rollback in a row goes a further
    step back or is refused, and never brings back what the first one took away.

    Args:
        settings: Model, reason and person.
        registry: Registry that holds the versions.
        store: Store that holds the log of decisions.

    Raises:
        RegistryError: There is no such model, no champion or no previous one, or that does not load. Nothing was written.
    """
    name = settings.model
    if "@" in name:
        raise RegistryError(
            f"{name!r} names a version, expected a model such as {name.partition('@')[0]!r}: leave out what follows @"
        )
    complete_rollback(name, registry=registry, store=store)
    champion = registry.resolve(f"{name}@{CHAMPION}")
    target = registry.by_alias(name, PREVIOUS)
    if target is None or target.version == champion.version:
        raise RegistryError(
            f"{name} has no version to roll back to: no other version is {PREVIOUS!r}, expected the champion before "
            f"v{champion.version}; choose one by `retrain models {name}` and promote it: retrain promote {name}@VERSION"
        )
    load = load_check(target, registry=registry)
    if not load.passed:
        raise RegistryError(f"{name}@{target.version} cannot become champion again: {load.detail}")
    log = store.promotions(name)
    complete_last_promotion(champion, log=log)
    refused = sorted(family(champion) - {target.version})
    decision = Decision(
        outcome=ROLLED_BACK,
        reason=f"Rolled back champion v{champion.version} to v{target.version}: by {settings.person}: {settings.reason}",
        candidate=f"v{target.version}",
        champion=f"v{champion.version}",
        checks=(load,),
    )
    entry = {"at": now(), "candidate": target.version, "by": "person", "person": settings.person, "reason": settings.reason}
    entry |= {"version": champion.version, "refused": refused, "decision": asdict(decision)}
    entry["previous"] = _next_previous(target, refused=refused, registry=registry, store=store)
    append_line(log, entry | {"key": digest_of_json(entry)})
    complete_rollback(name, registry=registry, store=store)
    return decision


def complete_rollback(name: str, *, registry: Registry, store: Store) -> None:
    """Move the aliases of a logged rollback that is not marked as applied, and mark it; every step can be repeated.

    Such a rollback is the last line of the log, because whatever would write another line completes it first. If someone else
    has made another version champion since, as in MLflow's UI, that version stays.
    """
    log = store.promotions(name)
    last: Mapping[str, Any] = next(iter(read_lines(log)[-1:]), {})
    if "applied" in last or last.get("decision", {}).get("outcome") != ROLLED_BACK:
        return
    champion = registry.by_alias(name, CHAMPION)
    if champion is None or champion.version not in {last["candidate"], last["version"]}:
        return
    registry.set_aliases(name, {CHAMPION: last["candidate"]})
    if last["previous"] is None:
        registry.delete_alias(name, PREVIOUS)
    else:
        registry.set_aliases(name, {PREVIOUS: last["previous"]})
    append_line(log, applied_entry(last["key"], candidate=last["candidate"]))


def refusals_of(versions: Sequence[ModelVersion], *, store: Store) -> dict[str, str]:
    """Return of each version that a person rolled back or rejected, as `model@3`, who did so and why."""
    lines = {name: read_lines(store.promotions(name)) for name in {version.name for version in versions}}
    refusals = [(version, standing_refusal(version, lines=lines[version.name])) for version in versions]
    return {
        f"{version.name}@{version.version}": refusal_text(line, candidate=version.version, model_name=version.name)
        for version, line in refusals
        if line and version.version in line["refused"]
    }


def _next_previous(target: ModelVersion, *, refused: list[int], registry: Registry, store: Store) -> int | None:
    """Return the version that `previous` points to once the target is champion."""
    lines = read_lines(store.promotions(target.name))
    usable = {
        version.version
        for version in registry.versions(target.name)
        if version.version not in refused and not standing_refusal(version, lines=lines)
    }
    return champion_before(target.version, lines=lines, usable=usable)
