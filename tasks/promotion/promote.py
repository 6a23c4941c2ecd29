"""Promote a version: score it against the champion, log the decision, then move the aliases."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from upath import UPath

from storage.errors import RegistryError
from storage.io import append_line, digest_of_json, read_lines
from storage.layout import Store
from storage.records import ModelVersion
from storage.references import ModelRef, TableRef
from storage.registry import CHAMPION, Registry
from tasks.config import PromotionSettings
from tasks.models import problem_named
from tasks.promotion.comparison import evaluate_candidate, load_check
from tasks.promotion.rule import Check, Contender, Decision, choose_candidate
from tasks.training.identity import model_name

CANDIDATE, PREVIOUS = "candidate", "previous"
# Raised by hand whenever the rule, a test or a metric would decide otherwise, so that no decision of before is taken for it.
DECISION_VERSION = 2


def promote_best(
    models: Sequence[ModelRef], *, table: TableRef, settings: PromotionSettings, registry: Registry, store: Store
) -> Decision:
    """Choose the best of some versions by validation, test it against the champion, and move the aliases accordingly.

    The decision is logged before the aliases move, and marked as applied afterwards. If a run dies in between, the next run on
    the same candidate, champion, table and settings completes the decision; any other run decides anew. A version that was
    champion and has been replaced is not promoted again.

    Raises:
        RegistryError: There are no versions to choose from.
    """
    if not models:
        raise RegistryError(f"no version of {model_name(table)} was trained on table {table.version}: train a variant first")
    name, problem = models[0].name, problem_named(table.dataset)
    versions = {version.version: version for version in registry.versions(name)}
    champion = next((version for version in versions.values() if CHAMPION in version.aliases), None)
    log = store.promotions(name)
    if champion:
        _complete_last_promotion(champion, log=log)
    allowed = [model for model in models if settings.allow_baselines or model.variant not in problem.baselines]
    if not allowed:
        command = f"retrain promote {name}@{models[0].version}"
        reason = f"only a linear baseline was trained, which a person may promote: {command}"
        return _keep(champion, candidate=models[0].version, reason=reason)
    contenders = [
        Contender(model.variant, model.version, validation=versions[model.version].metrics[problem.validation_metric])
        for model in allowed
    ]
    candidate = versions[choose_candidate(contenders, metric=problem.scoring.validation).version]
    if champion and champion.version == candidate.version:
        return _keep(champion, candidate=candidate.version, reason=f"still the best by validation on table {table.version}")
    lines = read_lines(log)
    entries = [entry for entry in lines if entry["candidate"] == candidate.version]
    superseded = _superseded(entries, candidate=candidate, champion=champion)
    if superseded:
        return superseded
    key = _decision_key(candidate, champion=champion, table=table, settings=settings)
    logged = next((entry["decision"] for entry in reversed(entries) if entry["key"] == key and "decision" in entry), None)
    if logged:
        decision = _decision_from_log(logged)
    else:
        decision, test = evaluate_candidate(
            candidate, champion=champion, entries=lines, table=table, settings=settings, registry=registry, store=store
        )
        entry = {"at": _now(), "key": key, "candidate": candidate.version, "table": table.version}
        append_line(log, entry | {"by": "run", "decision": asdict(decision)} | ({"test": test} if test else {}))
    if key not in _applied_keys(entries):
        registry.set_aliases(name, _aliases(decision, candidate=candidate, champion=champion))
        append_line(log, _applied_entry(key, candidate=candidate))
    return decision


def _keep(champion: ModelVersion | None, *, candidate: int, reason: str) -> Decision:
    """Return the decision to leave the aliases as they are, without any check."""
    holder = f"champion v{champion.version}" if champion else "no champion"
    return Decision(
        outcome="kept",
        reason=f"Kept {holder}: {reason}",
        candidate=f"v{candidate}",
        champion=f"v{champion.version}" if champion else None,
        checks=(),
    )


def _applied_entry(key: str, *, candidate: ModelVersion) -> dict[str, Any]:
    """Return the line of the log that marks a decision as applied."""
    return {"at": _now(), "key": key, "candidate": candidate.version, "applied": key}


def _applied_keys(entries: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the keys of the decisions that are marked as applied."""
    return {entry["applied"] for entry in entries if "applied" in entry}


def _promotions(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the lines of the log that promoted a version."""
    return [entry for entry in entries if entry.get("decision", {}).get("outcome") == "promoted"]


def _entries_of(version: ModelVersion, *, log: UPath) -> list[Mapping[str, Any]]:
    """Return the lines of the log about one version."""
    return [entry for entry in read_lines(log) if entry["candidate"] == version.version]


def _complete_last_promotion(champion: ModelVersion, *, log: UPath) -> None:
    """Mark the champion's promotion as applied if its run, or the command, died right after the alias had moved.

    Without the mark a later run could promote this version again after another one has replaced it.
    """
    entries = _entries_of(champion, log=log)
    promotions = _promotions(entries)
    if promotions and promotions[-1]["key"] not in _applied_keys(entries):
        append_line(log, _applied_entry(promotions[-1]["key"], candidate=champion))


def promote_by_hand(model: str, *, registry: Registry, store: Store) -> Decision:
    """Make a version champion because a person says so; it must pass the load check and no other.

    If the command dies before the alias moves, nothing completes it: give it again.

    Args:
        model: Version as `MODEL@VERSION` or `MODEL@ALIAS`.
        registry: Registry that holds the version.
        store: Store that holds the log of decisions.

    Raises:
        RegistryError: There is no such version, it is the champion already, or it does not load.
    """
    version = registry.resolve(model)
    champion = registry.by_alias(version.name, CHAMPION)
    if champion and champion.version == version.version:
        raise RegistryError(f"{version.name}@{version.version} is the champion already: name another version")
    if champion:
        _complete_last_promotion(champion, log=store.promotions(version.name))
    load = load_check(version, registry=registry)
    if not load.passed:
        raise RegistryError(f"{version.name}@{version.version} cannot become champion: {load.detail}")
    decision = Decision(
        outcome="promoted",
        reason=f"Promoted v{version.version}: by {_person()}, who takes the responsibility",
        candidate=f"v{version.version}",
        champion=f"v{champion.version}" if champion else None,
        checks=(load,),
    )
    key = digest_of_json({"at": _now(), "candidate": version.version})
    entry = {"at": _now(), "key": key, "candidate": version.version, "by": "person", "decision": asdict(decision)}
    append_line(store.promotions(version.name), entry)
    registry.set_aliases(version.name, _aliases(decision, candidate=version, champion=champion))
    append_line(store.promotions(version.name), _applied_entry(key, candidate=version))
    return decision


def _decision_key(candidate: ModelVersion, *, champion: ModelVersion | None, table: TableRef, settings: PromotionSettings) -> str:
    """Return the digest of everything that a decision depends on."""
    return digest_of_json(
        {
            "decision_version": DECISION_VERSION,
            "candidate": candidate.version,
            "champion": champion.version if champion else None,
            "table": table.version,
            "settings": settings.model_dump(mode="json"),
        },
        length=16,
    )


def _superseded(
    entries: Sequence[Mapping[str, Any]], *, candidate: ModelVersion, champion: ModelVersion | None
) -> Decision | None:
    """Return the decision to keep the present champion if the candidate was champion before it, else None."""
    applied = _applied_keys(entries)
    promotions = [entry for entry in _promotions(entries) if entry["key"] in applied]
    if not promotions:
        return None
    reason = f"v{candidate.version} was champion from {promotions[-1]['at']} and has been replaced since"
    return _keep(champion, candidate=candidate.version, reason=reason)


def _aliases(decision: Decision, *, candidate: ModelVersion, champion: ModelVersion | None) -> dict[str, int]:
    """Return the aliases to set. `previous` comes before `champion`, so that a crash in between loses no champion."""
    aliases = {CANDIDATE: candidate.version}
    if decision.outcome == "promoted":
        if champion:
            aliases[PREVIOUS] = champion.version
        aliases[CHAMPION] = candidate.version
    return aliases


def _decision_from_log(values: Mapping[str, Any]) -> Decision:
    return Decision(**{**values, "checks": tuple(Check(**check) for check in values["checks"])})


def _now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="seconds")


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return "a person"
