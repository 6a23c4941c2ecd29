"""Carry out what a person says to a version that passed every check and waits."""

from __future__ import annotations

from dataclasses import asdict

from storage.io import digest_of_json
from storage.layout import Store
from storage.records import ModelVersion
from storage.registry import Registry
from tasks.config import ApprovalRequest, Verdict
from tasks.promotion.log import Standing, decision_from_log, family, final_decisions, now, settle
from tasks.promotion.promote import keep_champion, promote_version
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
    key = digest_of_json({"run": run_id, "model": request.model})
    decision = None
    while decision is None:
        standing = settle(version.name, registry=registry, store=store)
        logged = final_decisions(standing.lines).get(key)
        if logged:
            return decision_from_log(logged)
        if verdict.decision == "reject":
            decision = _reject(version, verdict=verdict, key=key, standing=standing)
        else:
            decision = _promote(
                version, request=request, verdict=verdict, key=key, standing=standing, registry=registry, store=store
            )
    return decision


def _reject(version: ModelVersion, *, verdict: Verdict, key: str, standing: Standing) -> Decision | None:
    champion = standing.champion
    decision = Decision(
        outcome="rejected",
        reason=f"Rejected v{version.version}: by {verdict.person}: {verdict.reason}",
        candidate=f"v{version.version}",
        champion=f"v{champion.version}" if champion else None,
        checks=(),
    )
    entry = {"at": now(), "candidate": version.version, "by": "person", "key": key, "person": verdict.person}
    entry |= {"reason": verdict.reason, "version": version.version, "refused": sorted(family(version))}
    return decision if standing.log.add(entry | {"decision": asdict(decision)}) else None


def _promote(
    version: ModelVersion,
    *,
    request: ApprovalRequest,
    verdict: Verdict,
    key: str,
    standing: Standing,
    registry: Registry,
    store: Store,
) -> Decision | None:
    champion = standing.champion
    if champion and champion.version == version.version:
        return keep_champion(champion, candidate=version.version, reason="it was promoted while this run waited")
    if champion and f"v{champion.version}" != request.champion:
        reason = (
            f"it became champion after v{version.version} was compared with {request.champion or 'none'}; a person may promote"
        )
        return keep_champion(
            champion, candidate=version.version, reason=f"{reason} v{version.version}: retrain promote {request.model}"
        )
    said = f"by {verdict.person}: {verdict.reason}"
    signed = {"key": key, "person": verdict.person, "reason": verdict.reason}
    return promote_version(version, standing=standing, said=said, signed=signed, registry=registry, store=store)
