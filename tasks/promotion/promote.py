"""Promote a version: score it against the champion, log the decision, then move the aliases.

Each function here reads the log, decides, and adds its line only if no other host has added one since; else it decides anew on
what the log says then. So a decision is carried out only on the champion that it was made about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from storage.errors import RegistryError
from storage.io import digest_of_json
from storage.layout import Store
from storage.records import ModelVersion
from storage.references import ModelRef, TableRef
from storage.registry import CANDIDATE, CHAMPION, PREVIOUS, Registry
from tasks.config import PromotionSettings, TrainSettings
from tasks.models import problem_named
from tasks.models.spec import Problem
from tasks.promotion.comparison import evaluate_candidate, load_check
from tasks.promotion.log import (
    Line,
    Standing,
    applied_entry,
    applied_keys,
    current_person,
    decision_from_log,
    due_moves,
    entries_of,
    final_decisions,
    new_key,
    now,
    open_log,
    refusal_text,
    settle,
    standing_refusal,
    superseded_since,
)
from tasks.promotion.rule import Contender, Decision, choose_candidate, with_refit
from tasks.training.identity import model_name
from tasks.training.refit import REFIT_TAG, TWIN_TAG, RefitPlan, plan_refit, twin_number

# Raised by hand whenever the rule, a test or a metric would decide otherwise, so that no decision of before is taken for it.
DECISION_VERSION = 2


@dataclass(frozen=True)
class PendingDecision:
    """A decision, and what is left to do before it holds.

    Attributes:
        model_name: Registered model that it is about.
        key: Digest of what it depends on; None if the aliases stay as they are.
        refit: What must be trained before the aliases move; None: nothing.
    """

    decision: Decision
    model_name: str
    key: str | None = None
    refit: RefitPlan | None = None


def decide_best(
    models: Sequence[ModelRef],
    *,
    table: TableRef,
    settings: PromotionSettings,
    placement: TrainSettings,
    registry: Registry,
    store: Store,
) -> PendingDecision:
    """Choose the best of some versions by validation, test it against the champion, and log the decision; move no alias.

    If a run dies before `apply_decision` has logged that aliases move, the next run on the same candidate, champion, table and
    settings gets the same decision and completes it; any other run decides anew. Once it is logged, whoever decides next moves
    them. A version that was champion and has been replaced is not promoted again, nor one that a person rolled back or rejected.

    Args:
        models: Versions to choose from; of a refit its twin is taken.
        table: Table on whose test split they are compared.
        settings: When the champion changes.
        placement: Where a refit is trained.
        registry: Registry that holds the versions.
        store: Store that holds the log.

    Raises:
        RegistryError: There are no versions to choose from, or the candidate cannot be refitted.
    """
    if not models:
        raise RegistryError(f"no version of {model_name(table)} was trained on table {table.version}: train a variant first")
    name = models[0].name
    pending = None
    while pending is None:
        pending = _unfinished(models, table=table, settings=settings, placement=placement, registry=registry, store=store)
        if pending is None:
            standing = settle(name, registry=registry, store=store)
            pending = _decide(
                models, standing=standing, table=table, settings=settings, placement=placement, registry=registry, store=store
            )
    return pending


def _unfinished(
    models: Sequence[ModelRef],
    *,
    table: TableRef,
    settings: PromotionSettings,
    placement: TrainSettings,
    registry: Registry,
    store: Store,
) -> PendingDecision | None:
    """Return the decision of an equal run that died before the champion's alias moved, which `apply_decision` completes."""
    name, problem = models[0].name, problem_named(table.dataset)
    lines = open_log(name, registry=registry, store=store).entries()
    champion = registry.by_alias(name, CHAMPION)
    due = due_moves(lines, champion=champion)
    if not due or "by" in due or (champion.version if champion else None) != due["before"]:
        return None
    versions = {version.version: version for version in registry.versions(name)}
    candidate = _choose(models, versions=versions, problem=problem, settings=settings)
    if candidate is None or _decision_key(candidate, champion=champion, table=table, settings=settings) != due["key"]:
        return None
    decision = decision_from_log(final_decisions(lines)[due["key"]])
    plan = plan_refit(candidate, table=table, placement=placement, registry=registry) if decision.refit else None
    return PendingDecision(decision, name, key=due["key"], refit=plan)


def _choose(
    models: Sequence[ModelRef], *, versions: Mapping[int, ModelVersion], problem: Problem, settings: PromotionSettings
) -> ModelVersion | None:
    """Return the best version by validation, of a refit its twin; None if there are only linear baselines, which may not win."""
    allowed = [model for model in models if settings.allow_baselines or model.variant not in problem.baselines]
    evaluated = [versions[twin_number(versions[model.version])] for model in allowed]
    contenders = [
        Contender(model.variant, version.version, validation=version.metrics[problem.validation_metric])
        for model, version in zip(allowed, evaluated, strict=True)
    ]
    return versions[choose_candidate(contenders, metric=problem.scoring.validation).version] if contenders else None


def _decide(
    models: Sequence[ModelRef],
    *,
    standing: Standing,
    table: TableRef,
    settings: PromotionSettings,
    placement: TrainSettings,
    registry: Registry,
    store: Store,
) -> PendingDecision | None:
    """Decide on what stands, and log the decision; None if another host has logged something in the meantime."""
    name, problem, lines = models[0].name, problem_named(table.dataset), standing.lines
    versions = {version.version: version for version in registry.versions(name)}
    champion = versions.get(standing.champion.version) if standing.champion else None

    def keep(candidate: int, reason: str) -> PendingDecision:
        return PendingDecision(keep_champion(champion, candidate=candidate, reason=reason), name)

    candidate = _choose(models, versions=versions, problem=problem, settings=settings)
    if candidate is None:
        command = f"retrain promote {name}@{models[0].version}"
        return keep(models[0].version, f"only a linear baseline was trained, which a person may promote: {command}")
    obstacle = _obstacle(candidate, champion=champion, lines=lines, table=table)
    if obstacle:
        return keep(candidate.version, obstacle)
    entries = entries_of(candidate, lines=lines)
    key = _decision_key(candidate, champion=champion, table=table, settings=settings)
    logged = final_decisions(entries).get(key)
    if logged:
        decision = decision_from_log(logged)
        if key in applied_keys(entries):
            return PendingDecision(decision, name)
    else:
        twin = versions.get(twin_number(champion)) if champion and twin_number(champion) != champion.version else None
        decision, test = evaluate_candidate(
            candidate,
            champion=champion,
            twin=twin,
            entries=lines,
            table=table,
            settings=settings,
            registry=registry,
            store=store,
        )
        entry = {"at": now(), "key": key, "candidate": candidate.version, "table": table.version}
        if not standing.log.add(entry | {"by": "run", "decision": asdict(decision)} | ({"test": test} if test else {})):
            return None  # also the level of a test depends on the tests before it
    plan = None
    if settings.refit and decision.outcome in ("promoted", "manual"):
        plan = plan_refit(candidate, table=table, placement=placement, registry=registry)
    return PendingDecision(decision, name, key=key, refit=plan)


def _obstacle(candidate: ModelVersion, *, champion: ModelVersion | None, lines: Sequence[Line], table: TableRef) -> str | None:
    """Return why a candidate is not even compared with the champion; None: it is."""
    if champion and twin_number(champion) == candidate.version:
        return f"still the best by validation on table {table.version}"
    refusal = standing_refusal(candidate, lines=lines)
    if refusal:
        return refusal_text(refusal, candidate=candidate.version, model_name=candidate.name)
    superseded = superseded_since(entries_of(candidate, lines=lines))
    return f"v{candidate.version} was champion from {superseded} and has been replaced since" if superseded else None


def apply_decision(pending: PendingDecision, *, refitted: ModelRef | None, registry: Registry, store: Store) -> Decision:
    """Move the aliases as a decision says, once its refit is registered and loads, and mark it as applied.

    Every step can be repeated, so a run that dies on the way is completed by the next one. If another version became champion
    while the refit was trained, as by a person or a run on another host, it stays: the next run decides anew. A candidate that a
    person refused in that time is not promoted.

    Args:
        pending: The decision.
        refitted: The version that `pending.refit` was trained as; None if nothing was to be trained.
        registry: Registry that holds the versions.
        store: Store that holds the log.
    """
    decision, name, key = pending.decision, pending.model_name, pending.key
    if key is None:
        return decision
    candidate = int(decision.candidate.removeprefix("v"))
    final = decision
    if refitted and not decision.refit:
        version = registry.version(name, refitted.version)
        final = with_refit(decision, version=version.version, load=load_check(version, registry=registry))
        registry.set_version_tags(registry.version(name, candidate), {REFIT_TAG: str(version.version)})
    refit = {"decision": asdict(final)} if final is not decision else {}
    while True:
        standing = settle(name, registry=registry, store=store)
        champion = standing.champion
        if key in applied_keys(standing.lines):
            return decision_from_log(final_decisions(standing.lines)[key])
        refusal = standing_refusal(registry.version(name, candidate), lines=standing.lines)
        if refusal:
            return keep_champion(
                champion, candidate=candidate, reason=refusal_text(refusal, candidate=candidate, model_name=name)
            )
        if champion and f"v{champion.version}" != decision.champion:
            reason = f"it became champion after {decision.candidate} was compared with {decision.champion or 'none'}; run again"
            return keep_champion(champion, candidate=candidate, reason=reason)
        if final.outcome == "promoted":
            entry = {"at": now(), "key": key, "candidate": candidate, "before": standing.champion_number}
            standing.log.add(entry | {"moves": _aliases(final, champion=champion)} | refit)  # then `settle` moves them
        else:
            registry.set_aliases(name, {CANDIDATE: candidate})
            standing.log.add(applied_entry(key, candidate=candidate) | refit)


def keep_champion(champion: ModelVersion | None, *, candidate: int, reason: str) -> Decision:
    """Return the decision to leave the aliases as they are, without any check."""
    holder = f"champion v{champion.version}" if champion else "no champion"
    return Decision(
        outcome="kept",
        reason=f"Kept {holder}: {reason}",
        candidate=f"v{candidate}",
        champion=f"v{champion.version}" if champion else None,
        checks=(),
    )


def promote_by_hand(model: str, *, registry: Registry, store: Store) -> Decision:
    """Make exactly this version champion because a person says so; it must pass the load check and no other.

    The reason names the refit of a version that has one, which may be what the person wants. If the command dies once the
    decision is logged, whatever decides next completes it.

    Args:
        model: Version as `MODEL@VERSION` or `MODEL@ALIAS`.
        registry: Registry that holds the version.
        store: Store that holds the log of decisions.

    Raises:
        RegistryError: There is no such version, it is the champion already, or it does not load.
    """
    version = registry.resolve(model)
    person = current_person()
    said = f"by {person}, who takes the responsibility{_refit_remark(version)}"
    decision = None
    while decision is None:
        standing = settle(version.name, registry=registry, store=store)
        if standing.champion_number == version.version:
            raise RegistryError(f"{version.name}@{version.version} is the champion already: name another version")
        signed = {"key": new_key(), "person": person}
        decision = promote_version(version, standing=standing, said=said, signed=signed, registry=registry, store=store)
    return decision


def promote_version(
    version: ModelVersion, *, standing: Standing, said: str, signed: Mapping[str, str], registry: Registry, store: Store
) -> Decision | None:
    """Make a version champion after a load check, because a person says so: log it, move the aliases, mark it as applied.

    Args:
        version: The version.
        standing: Log and champion as they stand.
        said: Who says so and why, for the reason of the decision.
        signed: `key`, `person` and what else is logged of the person's decision.
        registry: Registry that holds the version.
        store: Store that holds the log of decisions.

    Returns:
        The decision, or None if another host has logged something in the meantime: nothing was written then.

    Raises:
        RegistryError: The version does not load; nothing was written.
    """
    load = load_check(version, registry=registry)
    if not load.passed:
        raise RegistryError(f"{version.name}@{version.version} cannot become champion: {load.detail}")
    champion = standing.champion
    decision = Decision(
        outcome="promoted",
        reason=f"Promoted v{version.version}: {said}",
        candidate=f"v{version.version}",
        champion=f"v{champion.version}" if champion else None,
        checks=(load,),
    )
    entry = {"at": now(), "candidate": version.version, "by": "person", **signed, "before": standing.champion_number}
    if not standing.log.add(entry | {"moves": _aliases(decision, champion=champion), "decision": asdict(decision)}):
        return None
    settle(version.name, registry=registry, store=store)
    return decision


def _refit_remark(version: ModelVersion) -> str:
    """Return what a person should know who promotes a version that has a refit or is one."""
    if REFIT_TAG in version.tags:
        refit = version.tags[REFIT_TAG]
        return f"; trained again on all rows it is v{refit}: retrain promote {version.name}@{refit}"
    return f"; it is v{version.tags[TWIN_TAG]} trained again on all rows" if TWIN_TAG in version.tags else ""


def _decision_key(candidate: ModelVersion, *, champion: ModelVersion | None, table: TableRef, settings: PromotionSettings) -> str:
    """Return the digest of everything that a decision depends on."""
    return digest_of_json(
        {
            "decision_version": DECISION_VERSION,
            "candidate": candidate.version,
            "champion": champion.version if champion else None,
            "table": table.version,
            "settings": settings.model_dump(mode="json", exclude={"wait_days"}),
        },
        length=16,
    )


def _aliases(decision: Decision, *, champion: ModelVersion | None) -> dict[str, int]:
    """Return the aliases that a promotion moves; `previous` before `champion`, so that a crash in between loses no champion."""
    aliases = {CANDIDATE: int(decision.candidate.removeprefix("v"))}
    if champion:
        aliases[PREVIOUS] = champion.version
    aliases[CHAMPION] = int((decision.refit or decision.candidate).removeprefix("v"))
    return aliases
