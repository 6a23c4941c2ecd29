"""Put a candidate to the promotion test: gather the evidence, log the decision, then move the aliases."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from upath import UPath

from storage.errors import RegistryError
from storage.io import append_line, digest_of_json, read_lines
from storage.layout import Store
from storage.records import ModelVersion
from storage.references import ModelRef, TableRef
from storage.registry import Registry
from tasks.config import PromotionSettings
from tasks.models import problem_named
from tasks.models.load_check import check_in_fresh_process
from tasks.promotion.rule import Check, Decision, choose_candidate, decide
from tasks.statistics import PairedTest
from tasks.training.identity import model_name
from tasks.training.scoring import evaluate_version, read_predictions

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"


@dataclass(frozen=True)
class Contender:
    """A version with its validation scores, keyed as the test scores are."""

    variant: str
    version: int
    trained: bool
    validation: Mapping[str, float]


def validation_scores(version: ModelVersion, *, dataset: str) -> dict[str, float]:
    """Return the validation figure of a version under the key of the test score that it compares with."""
    problem = problem_named(dataset)
    return {problem.scoring.validation.key: version.metrics[problem.validation_metric]}


def promote_best(
    models: Sequence[ModelRef], *, table: TableRef, settings: PromotionSettings, registry: Registry, store: Store
) -> Decision:
    """Choose the best of some versions by validation, test it against the champion, and act on the outcome.

    The decision is logged before an alias moves and marked as applied after, so that a run that dies in between is
    finished by the next one, and a champion that a person put back is not overthrown by the same candidate again.
    """
    name, problem = model_name(table), problem_named(table.dataset)
    versions = {version.version: version for version in registry.versions(name)}
    allowed = [model for model in models if settings.allow_references or model.variant not in problem.references]
    if models and not allowed:
        return _references_alone(models, name=name, versions=versions)
    contenders = [
        Contender(
            model.variant,
            model.version,
            trained=True,
            validation=validation_scores(versions[model.version], dataset=table.dataset),
        )
        for model in allowed
    ]
    chosen = choose_candidate(contenders, metric=problem.scoring.validation)
    if chosen is None:
        raise RegistryError(f"no version of {name} was trained on table {table.version}: train a variant first")
    candidate = versions[chosen.version]
    log = store.promotions(name)
    logged = [line for line in read_lines(log) if line.get("candidate") == candidate.version]
    champion = next((version for version in versions.values() if CHAMPION in version.aliases), None)
    if champion and champion.version == candidate.version:
        _close(logged, log=log, candidate=candidate)
        reason = f"Kept champion v{champion.version}: still the best by validation on table {table.version}"
        return Decision(
            outcome="kept", reason=reason, candidate=f"v{candidate.version}", champion=f"v{champion.version}", checks=()
        )
    key = _decision_key(candidate, champion=champion, table=table, settings=settings)
    standing = next((line for line in reversed(logged) if line["key"] == key and "decision" in line), None)
    superseded = _superseded(logged, candidate=candidate, champion=champion)
    if superseded:
        return superseded
    if standing:
        decision = _restored(standing["decision"])
    else:
        decision = _evaluate_candidate(
            candidate, champion=champion, table=table, settings=settings, registry=registry, store=store
        )
        entry = {"at": _now(), "key": key, "candidate": candidate.version, "table": table.version}
        append_line(log, entry | {"by": "run", "decision": asdict(decision)})
    applied = any(line.get("applied") == key for line in logged)
    if not applied:
        registry.set_aliases(name, _aliases(decision, candidate=candidate, champion=champion))
        append_line(log, _applied(key, candidate=candidate))
    return decision


def _references_alone(models: Sequence[ModelRef], *, name: str, versions: Mapping[int, ModelVersion]) -> Decision:
    """Return the decision to keep what is, where a run made nothing but simple references."""
    champion = next((f"v{version.version}" for version in versions.values() if CHAMPION in version.aliases), None)
    kept = f"champion {champion}" if champion else "no champion"
    reason = (
        f"Kept {kept}: only a simple reference was there, which a person may promote: retrain promote {name}@{models[0].version}"
    )
    return Decision(outcome="kept", reason=reason, candidate=f"v{models[0].version}", champion=champion, checks=())


def _applied(key: str, *, candidate: ModelVersion) -> dict[str, Any]:
    return {"at": _now(), "key": key, "candidate": candidate.version, "applied": key}


def _close(logged: Sequence[Mapping[str, Any]], *, log: UPath, candidate: ModelVersion) -> None:
    """Mark a promotion as applied whose run died right after the alias moved, so that it is not carried out a second time."""
    applied = {line["applied"] for line in logged if "applied" in line}
    promoted = [line["key"] for line in logged if line.get("decision", {}).get("outcome") == "promoted"]
    if promoted and promoted[-1] not in applied:
        append_line(log, _applied(promoted[-1], candidate=candidate))


def promote_by_hand(reference: str, *, registry: Registry, store: Store) -> Decision:
    """Make a version champion because a person says so, after the load check alone.

    Raises:
        RegistryError: There is no such version, it is the champion already, or it does not load.
    """
    version = registry.resolve(reference)
    champion = registry.by_alias(version.name, CHAMPION)
    if champion and champion.version == version.version:
        raise RegistryError(f"{version.name}@{version.version} is the champion already: name another version")
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
    append_line(store.promotions(version.name), _applied(key, candidate=version))
    return decision


def load_check(version: ModelVersion, *, registry: Registry) -> Check:
    """Tell whether the stored version loads in a fresh process and predicts what it did in training."""
    examples = registry.read_file(version.run_id, "examples.npz")
    passed, detail = check_in_fresh_process(registry.model_folder(version), examples=examples)
    return Check(name="loads and predicts the same", passed=passed, detail=detail)


def _decision_key(candidate: ModelVersion, *, champion: ModelVersion | None, table: TableRef, settings: PromotionSettings) -> str:
    return digest_of_json(
        {
            "candidate": candidate.version,
            "champion": champion.version if champion else None,
            "table": table.version,
            "settings": settings.model_dump(mode="json"),
        },
        length=16,
    )


def _superseded(
    logged: Sequence[Mapping[str, Any]], *, candidate: ModelVersion, champion: ModelVersion | None
) -> Decision | None:
    """Return the decision to keep what a person put back after this very candidate had been champion."""
    applied = {line["applied"] for line in logged if "applied" in line}
    promoted = [line for line in logged if line["key"] in applied and line.get("decision", {}).get("outcome") == "promoted"]
    if not promoted:
        return None
    kept = f"champion v{champion.version}" if champion else "no champion"
    reason = f"Kept {kept}: v{candidate.version} was champion from {promoted[-1]['at']} and has been replaced since"
    return Decision(
        outcome="kept",
        reason=reason,
        candidate=f"v{candidate.version}",
        champion=f"v{champion.version}" if champion else None,
        checks=(),
    )


def _evaluate_candidate(
    candidate: ModelVersion,
    *,
    champion: ModelVersion | None,
    table: TableRef,
    settings: PromotionSettings,
    registry: Registry,
    store: Store,
) -> Decision:
    scoring = problem_named(table.dataset).scoring
    evaluation = evaluate_version(candidate, table=table, registry=registry, store=store)
    seen = read_predictions(evaluation, table=table, store=store)
    truth = seen["truth"].to_numpy()
    loss = scoring.row_losses(seen["prediction"].to_numpy(), truth=truth)
    naive_loss = scoring.row_losses(seen["naive"].to_numpy(), truth=truth)
    naive_test = scoring.paired_test(reference_loss=naive_loss, candidate_loss=loss, seed=0)
    champion_test: PairedTest | None = None
    if champion:
        rescored = evaluate_version(champion, table=table, registry=registry, store=store)
        theirs = read_predictions(rescored, table=table, store=store)["prediction"].to_numpy()
        champion_loss = scoring.row_losses(theirs, truth=truth)
        champion_test = scoring.paired_test(reference_loss=champion_loss, candidate_loss=loss, seed=0)
    return decide(
        scoring.primary,
        model_name=candidate.name,
        candidate_version=candidate.version,
        candidate_scores=evaluation.scores,
        load=load_check(candidate, registry=registry),
        naive_test=naive_test,
        champion_version=champion.version if champion else None,
        champion_test=champion_test,
        alpha=settings.alpha,
        margin=settings.margin,
        promote=settings.promote,
    )


def _aliases(decision: Decision, *, candidate: ModelVersion, champion: ModelVersion | None) -> dict[str, int]:
    """Return the aliases to set; `previous` first, so that a crash in between loses no champion."""
    aliases = {CANDIDATE: candidate.version}
    if decision.outcome == "promoted":
        if champion:
            aliases[PREVIOUS] = champion.version
        aliases[CHAMPION] = candidate.version
    return aliases


def _restored(plain: Mapping[str, Any]) -> Decision:
    return Decision(**{**plain, "checks": tuple(Check(**check) for check in plain["checks"])})


def _now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="seconds")


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a bare user id without a name, as in a container
        return "a person"
