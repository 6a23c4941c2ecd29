"""Roll back: make the champion before the present one champion again, because a person says so and why.

The rollback is logged first, then the aliases move, then a line marks it as applied. If its process dies on the way, whatever
next decides on the model completes it: a run, a promotion by hand, or another rollback. A rollback takes away the champion that
the person saw: if another host has changed it in the meantime, nothing is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from storage.errors import RegistryError
from storage.layout import Store
from storage.records import ModelVersion
from storage.registry import CHAMPION, PREVIOUS, Registry
from tasks.config import RollbackSettings
from tasks.promotion.comparison import load_check
from tasks.promotion.log import (
    Line,
    Standing,
    champion_before,
    family,
    new_key,
    now,
    read_log,
    refusal_text,
    settle,
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
    seen: ModelVersion | None = None
    decision = None
    while decision is None:
        standing = settle(name, registry=registry, store=store)
        champion = registry.resolve(f"{name}@{CHAMPION}")
        if seen and seen.version != champion.version:
            raise RegistryError(
                f"v{champion.version} became champion of {name} while v{seen.version} was being rolled back, expected "
                f"v{seen.version}: look at `retrain show {name}`, and roll back again if v{champion.version} is bad too"
            )
        seen = champion
        decision = _roll_back(champion, settings=settings, standing=standing, registry=registry)
    settle(name, registry=registry, store=store)
    return decision


def _roll_back(champion: ModelVersion, *, settings: RollbackSettings, standing: Standing, registry: Registry) -> Decision | None:
    """Log the rollback; None if another host has logged something in the meantime."""
    name, lines = champion.name, standing.lines
    target = registry.by_alias(name, PREVIOUS)
    if target is None or target.version == champion.version:
        raise RegistryError(
            f"{name} has no version to roll back to: no other version is {PREVIOUS!r}, expected the champion before "
            f"v{champion.version}; choose one by `retrain models {name}` and promote it: retrain promote {name}@VERSION"
        )
    load = load_check(target, registry=registry)
    if not load.passed:
        raise RegistryError(f"{name}@{target.version} cannot become champion again: {load.detail}")
    refused = sorted(family(champion) - {target.version})
    decision = Decision(
        outcome=ROLLED_BACK,
        reason=f"Rolled back champion v{champion.version} to v{target.version}: by {settings.person}: {settings.reason}",
        candidate=f"v{target.version}",
        champion=f"v{champion.version}",
        checks=(load,),
    )
    previous = _next_previous(target, refused=refused, lines=lines, registry=registry)
    entry = {"at": now(), "candidate": target.version, "by": "person", "person": settings.person, "reason": settings.reason}
    entry |= {"version": champion.version, "refused": refused, "decision": asdict(decision), "previous": previous}
    entry |= {"before": champion.version, "moves": {CHAMPION: target.version, PREVIOUS: previous}}
    return decision if standing.log.add(entry | {"key": new_key()}) else None


def refusals_of(versions: Sequence[ModelVersion], *, registry: Registry, store: Store) -> dict[str, str]:
    """Return of each version that a person rolled back or rejected, as `model@3`, who did so and why."""
    lines = {name: read_log(name, registry=registry, store=store) for name in {version.name for version in versions}}
    refusals = [(version, standing_refusal(version, lines=lines[version.name])) for version in versions]
    return {
        f"{version.name}@{version.version}": refusal_text(line, candidate=version.version, model_name=version.name)
        for version, line in refusals
        if line and version.version in line["refused"]
    }


def _next_previous(target: ModelVersion, *, refused: list[int], lines: Sequence[Line], registry: Registry) -> int | None:
    """Return the version that `previous` points to once the target is champion."""
    usable = {
        version.version
        for version in registry.versions(target.name)
        if version.version not in refused and not standing_refusal(version, lines=lines)
    }
    return champion_before(target.version, lines=lines, usable=usable)
