"""Promote a version: score it against the champion, log the decision, then move the aliases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from storage.errors import RegistryError
from storage.io import append_line, digest_of_json, read_lines
from storage.layout import Store
from storage.records import ModelVersion
from storage.references import ModelRef, TableRef
from storage.registry import CANDIDATE, CHAMPION, PREVIOUS, Registry
from tasks.config import PromotionSettings, TrainSettings
from tasks.models import problem_named
from tasks.promotion.comparison import evaluate_candidate, load_check
from tasks.promotion.log import (
    applied_entry,
    applied_keys,
    complete_last_promotion,
    current_person,
    decision_from_log,
    entries_of,
    final_decisions,
    now,
    refusal_text,
    standing_refusal,
    superseded_since,
)
from tasks.promotion.rollback import complete_rollback
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

    If a run dies before `apply_decision` has marked the decision as applied, the next run on the same candidate, champion, table
    and settings gets the same decision and completes it; any other run decides anew. A version that was champion and has been
    replaced is not promoted again, nor one that a person rolled back or rejected. A rollback that was cut off is completed first.

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
    name, problem = models[0].name, problem_named(table.dataset)
    complete_rollback(name, registry=registry, store=store)
    versions = {version.version: version for version in registry.versions(name)}
    champion = next((version for version in versions.values() if CHAMPION in version.aliases), None)
    log = store.promotions(name)
    if champion:
        complete_last_promotion(champion, log=log)

    def keep(candidate: int, reason: str) -> PendingDecision:
        return PendingDecision(keep_champion(champion, candidate=candidate, reason=reason), name)

    allowed = [model for model in models if settings.allow_baselines or model.variant not in problem.baselines]
    if not allowed:
        command = f"retrain promote {name}@{models[0].version}"
        return keep(models[0].version, f"only a linear baseline was trained, which a person may promote: {command}")
    evaluated = [versions[twin_number(versions[model.version])] for model in allowed]
    contenders = [
        Contender(model.variant, version.version, validation=version.metrics[problem.validation_metric])
        for model, version in zip(allowed, evaluated, strict=True)
    ]
    candidate = versions[choose_candidate(contenders, metric=problem.scoring.validation).version]
    if champion and twin_number(champion) == candidate.version:
        return keep(candidate.version, f"still the best by validation on table {table.version}")
    lines = read_lines(log)
    entries = entries_of(candidate, lines=lines)
    refusal = standing_refusal(candidate, lines=lines)
    if refusal:
        return keep(candidate.version, refusal_text(refusal, candidate=candidate.version, model_name=name))
    superseded = superseded_since(entries)
    if superseded:
        return keep(candidate.version, f"v{candidate.version} was champion from {superseded} and has been replaced since")
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
        append_line(log, entry | {"by": "run", "decision": asdict(decision)} | ({"test": test} if test else {}))
    plan = None
    if settings.refit and decision.outcome in ("promoted", "manual"):
        plan = plan_refit(candidate, table=table, placement=placement, registry=registry)
    return PendingDecision(decision, name, key=key, refit=plan)


def apply_decision(pending: PendingDecision, *, refitted: ModelRef | None, registry: Registry, store: Store) -> Decision:
    """Move the aliases as a decision says, once its refit is registered and loads, and mark it as applied.

    Every step can be repeated, so a run that dies on the way is completed by the next equal one. If another version became
    champion while the refit was trained, as by a person, it stays: the next run decides anew. A candidate that a person refused
    in that time is not promoted.

    Args:
        pending: The decision.
        refitted: The version that `pending.refit` was trained as; None if nothing was to be trained.
        registry: Registry that holds the versions.
        store: Store that holds the log.
    """
    decision, name = pending.decision, pending.model_name
    if pending.key is None:
        return decision
    candidate = int(decision.candidate.removeprefix("v"))
    complete_rollback(name, registry=registry, store=store)
    champion = registry.by_alias(name, CHAMPION)
    refusal = standing_refusal(registry.version(name, candidate), lines=read_lines(store.promotions(name)))
    if refusal:
        return keep_champion(champion, candidate=candidate, reason=refusal_text(refusal, candidate=candidate, model_name=name))
    if champion and f"v{champion.version}" != decision.champion:
        reason = f"it became champion after {decision.candidate} was compared with {decision.champion or 'none'}; run again"
        return keep_champion(champion, candidate=candidate, reason=reason)
    applied = applied_entry(pending.key, candidate=candidate)
    if refitted:
        version = registry.version(name, refitted.version)
        decision = with_refit(decision, version=version.version, load=load_check(version, registry=registry))
        registry.set_version_tags(registry.version(name, candidate), {REFIT_TAG: str(version.version)})
        applied["decision"] = asdict(decision)
    registry.set_aliases(name, _aliases(decision))
    append_line(store.promotions(name), applied)
    return decision


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

    The reason names the refit of a version that has one, which may be what the person wants.
    If the command dies before the alias moves, nothing completes it: give it again.

    Args:
        model: Version as `MODEL@VERSION` or `MODEL@ALIAS`.
        registry: Registry that holds the version.
        store: Store that holds the log of decisions.

    Raises:
        RegistryError: There is no such version, it is the champion already, or it does not load.
    """
    version = registry.resolve(model)
    complete_rollback(version.name, registry=registry, store=store)
    champion = registry.by_alias(version.name, CHAMPION)
    if champion and champion.version == version.version:
        raise RegistryError(f"{version.name}@{version.version} is the champion already: name another version")
    if champion:
        complete_last_promotion(champion, log=store.promotions(version.name))
    person = current_person()
    key = digest_of_json({"at": now(), "candidate": version.version})
    said = f"by {person}, who takes the responsibility{_refit_remark(version)}"
    return promote_version(
        version, champion=champion, said=said, signed={"key": key, "person": person}, registry=registry, store=store
    )


def promote_version(
    version: ModelVersion,
    *,
    champion: ModelVersion | None,
    said: str,
    signed: Mapping[str, str],
    registry: Registry,
    store: Store,
) -> Decision:
    """Make a version champion after a load check, because a person says so: log it, move the aliases, mark it as applied.

    Args:
        version: The version.
        champion: The present champion, or None.
        said: Who says so and why, for the reason of the decision.
        signed: `key`, `person` and what else is logged of the person's decision.
        registry: Registry that holds the version.
        store: Store that holds the log of decisions.

    Raises:
        RegistryError: The version does not load; nothing was written.
    """
    load = load_check(version, registry=registry)
    if not load.passed:
        raise RegistryError(f"{version.name}@{version.version} cannot become champion: {load.detail}")
    decision = Decision(
        outcome="promoted",
        reason=f"Promoted v{version.version}: {said}",
        candidate=f"v{version.version}",
        champion=f"v{champion.version}" if champion else None,
        checks=(load,),
    )
    entry = {"at": now(), "candidate": version.version, "by": "person", **signed, "decision": asdict(decision)}
    append_line(store.promotions(version.name), entry)
    complete_promotion(decision, name=version.name, key=signed["key"], registry=registry, store=store)
    return decision


def complete_promotion(decision: Decision, *, name: str, key: str, registry: Registry, store: Store) -> None:
    """Move the aliases as a logged decision of a person says, and mark it as applied."""
    registry.set_aliases(name, _aliases(decision))
    append_line(store.promotions(name), applied_entry(key, candidate=int(decision.candidate.removeprefix("v"))))


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


def _aliases(decision: Decision) -> dict[str, int]:
    """Return the aliases to set. `previous` comes before `champion`, so that a crash in between loses no champion."""
    aliases = {CANDIDATE: int(decision.candidate.removeprefix("v"))}
    if decision.outcome == "promoted":
        if decision.champion:
            aliases[PREVIOUS] = int(decision.champion.removeprefix("v"))
        aliases[CHAMPION] = int((decision.refit or decision.candidate).removeprefix("v"))
    return aliases
