"""Gather what one run did from the store and the registry, and word it: the report, the tables, the plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from upath import UPath

from storage.environment import Environment
from storage.io import digest_of_json, read_json, write_atomically, write_json
from storage.layout import Store
from storage.records import ModelVersion
from storage.references import ModelRef, TableRef
from storage.registry import Registry
from storage.tables import read_manifest, read_splits, read_validation
from tasks.models import problem_named
from tasks.models.spec import Problem, ReviewsPlot
from tasks.promotion.promote import validation_scores
from tasks.promotion.rule import Decision
from tasks.reporting.baseline import beside_reference
from tasks.reporting.figures import example_pictures
from tasks.reporting.figures.curves import learning_curves_png
from tasks.reporting.figures.reviews import most_wrong
from tasks.reporting.markdown import (
    RunReport,
    VariantResult,
    WrongReview,
    metrics_rows,
    report_markdown,
    result_name,
    result_rows,
    validation_markdown,
)
from tasks.training.identity import library_versions, model_name
from tasks.training.scoring import evaluate_version, read_predictions

WRONG_REVIEWS = 5
PICTURES = "pictures.json"
# Raised by hand whenever the same results would be drawn otherwise.
DRAWING_VERSION = 1
# What a result tells in plain values: all but what only the report draws.
TOLD = (
    "variant",
    "version",
    "trained",
    "is_reference",
    "validation",
    "scores",
    "best_epoch",
    "epochs_run",
    "seconds_per_epoch",
    "parameters",
    "tutorial_best",
)


@dataclass(frozen=True)
class Made:
    """The report of one run in each of its forms.

    Attributes:
        pictures: PNGs by title, those of the markdown.
        drawn_from: Digest of what the pictures show, by which the next run finds them.
        plain: JSON-ready: what the command prints as a table, or with `--json`.
    """

    markdown: str
    pictures: Mapping[str, bytes]
    drawn_from: str
    validation: str
    metrics: list[dict[str, str]]
    plain: dict[str, Any]


def run_report(table: TableRef, *, models: Sequence[ModelRef], decision: Decision, registry: Registry, store: Store) -> Made:
    """Word what a run did to a table's models."""
    name, problem = model_name(table), problem_named(table.dataset)
    folder = store.table_folder(table.dataset, table.version)
    manifest = read_manifest(folder)
    versions = {f"v{version.version}": version for version in registry.versions(name)}
    trained = {model.version: model.trained for model in models}
    results = tuple(
        _result(versions[f"v{model.version}"], trained=trained[model.version], problem=problem, registry=registry)
        for model in models
    )
    candidate = versions[decision.candidate]
    seen = _predictions(candidate, table=table, registry=registry, store=store)
    splits, _ = read_splits(table, store=store)
    plot_data = problem.plot_data(splits, manifest["normalisation"])
    wrong = _most_wrong(plot_data, seen=seen) if isinstance(plot_data, ReviewsPlot) else ()
    report = RunReport(
        dataset=table.dataset,
        title=manifest["title"],
        scoring=problem.scoring,
        model_name=name,
        simulated=table.simulated,
        source=manifest["source"] if table.simulated else f"{manifest['source']} ({manifest['origin']})",
        table_version=table.version,
        table_published=table.published,
        rows=table.rows,
        repairs=manifest["repairs"],
        facts=manifest["facts"],
        validation=dict(read_validation(table, store=store)),
        results=results,
        champion=_champion(decision, versions=versions, table=table, problem=problem, registry=registry, store=store),
        naive=_naive(candidate, table=table, problem=problem, registry=registry, store=store),
        decision=decision,
        beside=_beside(results, decision=decision, versions=versions, table=table, registry=registry, store=store),
        most_wrong=wrong,
        links=_links(table, candidate=candidate, registry=registry, store=store),
        versions=", ".join(f"{library} {version}" for library, version in library_versions().items()),
        date=datetime.now(tz=UTC).isoformat(timespec="seconds"),
    )
    drawn_from = digest_of_json([DRAWING_VERSION, name, candidate.version, [result.version for result in results]])
    pictures = _kept_pictures(drawn_from, folder=store.report_folder(table.dataset, table.version))
    if pictures is None:
        pictures = {"learning curves": learning_curves_png(results, metric_label=problem.scoring.loss_label)}
        pictures |= example_pictures(plot_data, seen=seen, model=f"{candidate.variant} {decision.candidate}")
    plain = {
        "dataset": table.dataset,
        "model": name,
        "simulated": table.simulated,
        "source": report.source,
        "table": {"version": table.version, "published": table.published, "rows": table.rows},
        "repairs": report.repairs,
        "decision": {"outcome": decision.outcome, "reason": decision.reason},
        "raw": manifest["raw"],
        "versions": report.versions,
        "results": [{name: getattr(result, name) for name in TOLD} for result in results],
        "naive": report.naive,
        "beside_reference": report.beside,
        "rows": result_rows(report),
        "links": report.links,
    }
    return Made(
        markdown=report_markdown(report, pictures=pictures),
        pictures=pictures,
        drawn_from=drawn_from,
        validation=validation_markdown(report),
        metrics=metrics_rows(report),
        plain=json.loads(json.dumps(plain)),
    )


def keep(made: Made, *, table: TableRef, store: Store) -> None:
    """Keep the report beside the Data Docs of its table, and its pictures as files."""
    folder = store.report_folder(table.dataset, table.version)
    for title, png in made.pictures.items():
        write_atomically(folder / _file_name(title), png)
    write_json(folder / PICTURES, {"drawn_from": made.drawn_from, "titles": list(made.pictures)})
    write_atomically(folder / "report.md", made.markdown.encode())


def _file_name(title: str) -> str:
    return f"{title.replace(' ', '-')}.png"


def _kept_pictures(drawn_from: str, *, folder: UPath) -> dict[str, bytes] | None:
    """Return the pictures of the last report of this table if they show the same: drawing is most of a report's time."""
    note = read_json(folder / PICTURES) if (folder / PICTURES).is_file() else {}
    if note.get("drawn_from") != drawn_from:
        return None
    files = {title: folder / _file_name(title) for title in note["titles"]}
    return {title: path.read_bytes() for title, path in files.items()} if all(p.is_file() for p in files.values()) else None


def _beside(
    results: Sequence[VariantResult],
    *,
    decision: Decision,
    versions: Mapping[str, ModelVersion],
    table: TableRef,
    registry: Registry,
    store: Store,
) -> str:
    """Return how the candidate does against the best simple reference, or nothing where it is one or there is none."""
    scoring = problem_named(table.dataset).scoring
    spec = scoring.primary
    sign = 1 if spec.lower_is_better else -1
    references = sorted((r for r in results if r.is_reference), key=lambda result: sign * result.scores[spec.key])
    network = next((r for r in results if f"v{r.version}" == decision.candidate and not r.is_reference), None)
    if network is None or not references:
        return ""
    loss = {}
    for result in (network, references[0]):
        seen = _predictions(versions[f"v{result.version}"], table=table, registry=registry, store=store)
        loss[result.variant] = scoring.row_losses(seen["prediction"].to_numpy(), truth=seen["truth"].to_numpy())
    return beside_reference(
        scoring,
        network=result_name(network),
        network_scores=network.scores,
        network_loss=loss[network.variant],
        reference=result_name(references[0]),
        reference_scores=references[0].scores,
        reference_loss=loss[references[0].variant],
    )


def _most_wrong(plot_data: ReviewsPlot, *, seen: pa.Table) -> tuple[WrongReview, ...]:
    """Return the reviews that the candidate is most wrong about, decoded, the worst first."""
    probability, truth = seen["prediction"].to_numpy(), seen["truth"].to_numpy()
    return tuple(
        WrongReview(label=int(truth[place]), probability=float(probability[place]), text=plot_data.text(int(place)))
        for place in most_wrong(probability, truth=truth, count=WRONG_REVIEWS)
    )


def _result(version: ModelVersion, *, trained: bool, problem: Problem, registry: Registry) -> VariantResult:
    described = json.loads(registry.read_file(version.run_id, "manifest.json"))
    training = described["training"]
    variant = problem.variants.get(version.variant)
    return VariantResult(
        variant=version.variant,
        version=version.version,
        trained=trained,
        validation=validation_scores(version, dataset=problem.dataset),
        scores=described["scores"],
        curves=training["curves"],
        epochs_run=training["epochs_run"],
        best_epoch=training["best_epoch"],
        seconds_per_epoch=training["seconds_per_epoch"],
        parameters=training["parameters"],
        tutorial_best=variant.tutorial_best if variant else None,
        uri=version.uri,
        is_reference=version.variant in problem.references,
    )


def _champion(
    decision: Decision, *, versions: dict[str, ModelVersion], table: TableRef, problem: Problem, registry: Registry, store: Store
) -> VariantResult | None:
    """Return the champion before the decision, with its scores on today's test split."""
    version = versions.get(decision.champion or "")
    if version is None:
        return None

    scores = evaluate_version(version, table=table, registry=registry, store=store).scores
    return replace(_result(version, trained=False, problem=problem, registry=registry), scores=scores)


def _links(table: TableRef, *, candidate: ModelVersion, registry: Registry, store: Store) -> dict[str, str]:
    """Return where to look further: addresses that open where the service runs, else paths."""
    folder = store.report_folder(table.dataset, table.version)
    environment = Environment.read()
    docs_address, mlflow_address = environment.docs_address, environment.mlflow_address
    docs = f"{docs_address}/{table.dataset}/{table.version}" if docs_address else str(folder)
    links = {
        "report": f"{docs}/report.md",
        "Data Docs": f"{docs}/index.html",
        "table": str(store.table_folder(table.dataset, table.version)),
        "decisions": str(store.promotions(candidate.name)),
    }
    if mlflow_address:
        links["MLflow run"] = f"{mlflow_address}/#{registry.run_page(candidate)}"
    return links


def _predictions(candidate: ModelVersion, *, table: TableRef, registry: Registry, store: Store) -> pa.Table:
    evaluation = evaluate_version(candidate, table=table, registry=registry, store=store)
    return read_predictions(evaluation, table=table, store=store)


def _naive(candidate: ModelVersion, *, table: TableRef, problem: Problem, registry: Registry, store: Store) -> dict[str, float]:
    """Return the scores of the naive reference, keyed as the models' are."""
    evaluation = evaluate_version(candidate, table=table, registry=registry, store=store)
    seen = read_predictions(evaluation, table=table, store=store)
    truth, naive = seen["truth"].to_numpy(), seen["naive"].to_numpy()
    scores = evaluation.scores
    # Scores keep the scale of the problem as the ratio of both forms of one error; what has no such form has no scale.
    primary, normalised = problem.scoring.primary.key, problem.scoring.validation.key
    scale = scores[primary] / scores[normalised] if scores.get(normalised) else 1.0
    return problem.scoring.naive_scores(naive, truth=truth, scale=scale)
