"""Carry out what a person says to a version that passed every check and waits."""

from __future__ import annotations

from dataclasses import asdict

from storage.io import append_line, digest_of_json, read_lines
from storage.layout import Store
from storage.registry import CHAMPION, Registry
from tasks.config import ApprovalRequest, Verdict
from tasks.promotion.log import applied_keys, complete_last_promotion, decision_from_log, family, final_decisions, now
from tasks.promotion.promote import complete_promotion, keep_champion, promote_version
from tasks.promotion.rollback import complete_rollback
from tasks.promotion.rule import Decision


def carry_out(request: ApprovalRequest, *, verdict: Verdict, run_id: str, registry: Registry, store: Store) -> Decision:
    """Make the version champion, or log that the person rejects it.

    Every step can be repeated: what the log already has of this run is completed, and not decided again. If another version has
    become champion while this one waited, it stays, because the person was told of a comparison with an earlier champion.

    Args:
        request: The version that waits.
        verdict: What the person says.
        run_id: The run that waited, by which its decision is known again.
        registry: Registry that holds the version.
        store: Store that holds the log of decisions.

    Raises:
        RegistryError: There is no such version, or it does not load.
    """
    version = registry.resolve(request.model)
    name, log = version.name, store.promotions(version.name)
    complete_rollback(name, registry=registry, store=store)
    key = digest_of_json({"run": run_id, "model": request.model})
    lines = read_lines(log)
    champion = registry.by_alias(name, CHAMPION)
    logged = final_decisions(lines).get(key)
    if logged:
        decision = decision_from_log(logged)
        is_due = champion is None or f"v{champion.version}" in (decision.champion, decision.candidate)
        if decision.outcome == "promoted" and key not in applied_keys(lines) and is_due:
            complete_promotion(decision, name=name, key=key, registry=registry, store=store)
        return decision
    said = f"by {verdict.person}: {verdict.reason}"
    signed = {"key": key, "person": verdict.person, "reason": verdict.reason}
    if verdict.decision == "reject":
        decision = Decision(
            outcome="rejected",
            reason=f"Rejected v{version.version}: {said}",
            candidate=f"v{version.version}",
            champion=f"v{champion.version}" if champion else None,
            checks=(),
        )
        entry = {"at": now(), "candidate": version.version, "by": "person", **signed, "version": version.version}
        append_line(log, entry | {"refused": sorted(family(version)), "decision": asdict(decision)})
        return decision
    if champion and champion.version == version.version:
        return keep_champion(champion, candidate=version.version, reason="it was promoted while this run waited")
    if champion and f"v{champion.version}" != request.champion:
        reason = (
            f"it became champion after v{version.version} was compared with {request.champion or 'none'}; a person may promote"
        )
        return keep_champion(
            champion, candidate=version.version, reason=f"{reason} v{version.version}: retrain promote {request.model}"
        )
    if champion:
        complete_last_promotion(champion, log=log)
    return promote_version(version, champion=champion, said=said, signed=signed, registry=registry, store=store)
