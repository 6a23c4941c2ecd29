"""Gather what one run did from the store and the registry, and render it: report, tables, pictures and plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from upath import UPath

from storage.checksums import CHECKSUMS, sha256_of_bytes
from storage.environment import Environment
from storage.io import digest_of_json, read_json, write_atomically, write_record
from storage.layout import Store
from storage.records import ModelVersion
from storage.references import ModelRef, TableRef
from storage.registry import Registry
from storage.tables import read_manifest, read_splits, read_validation
from tasks.models.spec import Problem, ReviewsPlot
from tasks.promotion.comparison import answers_same_question
from tasks.promotion.rule import Decision
from tasks.reporting.figures import example_pictures
from tasks.reporting.figures.curves import learning_curves_png
from tasks.reporting.figures.reviews import most_wrong
from tasks.reporting.linear_baseline import compare_with_baseline
from tasks.reporting.markdown import metrics_rows, report_markdown, result_name, result_rows, validation_markdown
from tasks.reporting.page import report_page
from tasks.reporting.run_report import RefitResult, RunReport, VariantResult, WrongReview
from tasks.reporting.uncertainty import calibration_result, interval_results, missing_uncertainty
from tasks.scoring import Scoring
from tasks.training.identity import library_versions, problem_answered_by
from tasks.training.refit import evaluated_version
from tasks.training.scoring import EvaluationRef, Predictions, evaluate_version, read_predictions, scale_of
from tasks.training.seen import ids_of_test_rows, seen_by

WRONG_REVIEWS = 5
PICTURES_FILE = "pictures.json"
# Raise it by hand whenever the same results would be drawn differently.
DRAWING_VERSION = 4
# Fields of a `VariantResult` that the plain values hold.
RESULT_FIELDS = (
    "variant",
    "version",
    "trained",
    "is_baseline",
    "validation",
    "scores",
    "best_epoch",
    "epochs_run",
    "seconds_per_epoch",
    "parameters",
    "tutorial_best",
    "seen_note",
)


@dataclass(frozen=True)
class RenderedReport:
    """The report of one run in each of its forms.

    Attributes:
        pictures: PNGs by title, as embedded in the Markdown.
        drawn_from: Digest of what the pictures show. The next run takes the same pictures if the digest is the same.
        validation: The expectations as Markdown.
        metrics: Rows of the scores table.
        plain: JSON-ready values: what the command prints as a table, or with `--json`.
    """

    markdown: str
    pictures: Mapping[str, bytes]
    drawn_from: str
    validation: str
    metrics: list[dict[str, str]]
    plain: dict[str, Any]


def run_report(
    table: TableRef, *, models: Sequence[ModelRef], decision: Decision, registry: Registry, store: Store
) -> RenderedReport:
    """Collect what a run did with one table and its models, and render it."""
    name = models[0].name
    manifest = read_manifest(store.table_folder(table.dataset, table.version))
    versions = {f"v{version.version}": version for version in registry.versions(name)}
    candidate = versions[decision.candidate]
    problem = problem_answered_by(candidate, dataset=table.dataset)
    results = tuple(
        _result(versions[f"v{model.version}"], trained=model.trained, problem=problem, registry=registry) for model in models
    )
    evaluation = evaluate_version(candidate, table=table, registry=registry, store=store)
    predictions = read_predictions(evaluation, table=table, store=store)
    splits, _ = read_splits(table, store=store)
    plot_data = problem.plot_data(splits, manifest["normalisation"])
    champion = _champion(decision, versions=versions, table=table, problem=problem, registry=registry, store=store)
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
        split=_split_text(manifest),
        acceptance=manifest.get("acceptance"),
        stale=table.stale,
        validation=dict(read_validation(table, store=store)),
        results=results,
        champion=champion,
        champion_warning=champion_warning(champion, decision=decision, scoring=problem.scoring),
        naive=_naive_scores(predictions, scores=evaluation.scores, problem=problem),
        decision=decision,
        baseline_comparison=_baseline_comparison(
            results, scoring=problem.scoring, decision=decision, versions=versions, table=table, registry=registry, store=store
        ),
        most_wrong=_most_wrong(plot_data, predictions=predictions) if isinstance(plot_data, ReviewsPlot) else (),
        links=_links(table, candidate=candidate, registry=registry, store=store),
        versions=", ".join(f"{library} {version}" for library, version in library_versions().items()),
        date=datetime.now(tz=UTC).isoformat(timespec="seconds"),
        refit=_refit_result(versions[decision.refit], registry=registry) if decision.refit else None,
        intervals=interval_results(plot_data, predictions=predictions, scores=evaluation.scores),
        calibration=calibration_result(predictions, scores=evaluation.scores),
        findings=_finding_pictures(table, store=store),
        missing_uncertainty=missing_uncertainty(predictions, problem=problem, model=f"{candidate.variant} {decision.candidate}"),
    )
    drawn_from = digest_of_json([DRAWING_VERSION, name, candidate.version, [result.version for result in results]])
    pictures = _saved_pictures(drawn_from, folder=store.report_folder(table.dataset, table.version))
    if pictures is None:
        pictures = {"learning curves": learning_curves_png(results, metric_label=problem.scoring.loss_label)}
        pictures |= example_pictures(plot_data, predictions=predictions, model=f"{candidate.variant} {decision.candidate}")
    return RenderedReport(
        markdown=report_markdown(report, pictures=pictures),
        pictures=pictures,
        drawn_from=drawn_from,
        validation=validation_markdown(report),
        metrics=metrics_rows(report),
        plain=_plain_values(report, raw=manifest["raw"]),
    )


def _finding_pictures(table: TableRef, *, store: Store) -> dict[str, bytes]:
    """Return the pictures of failed expectations by their names; one that is no longer there is left out."""
    folder = store.report_folder(table.dataset, table.version)
    names = {outcome.get("picture") for outcome in read_validation(table, store=store)["outcomes"]}
    return {name: (folder / name).read_bytes() for name in sorted(filter(None, names)) if (folder / name).is_file()}


def _split_text(manifest: Mapping[str, Any]) -> str:
    """Return how the rows were divided; empty for a table that does not say."""
    split = manifest.get("request", {}).get("split", {})
    if split.get("rule") == "recent":
        return (
            f"the newest {split['test_months']} months test, the {split['validation_months']} before validate, all before trains"
        )
    return "fixed shares of the rows" if split.get("rule") == "shares" else ""


def _plain_values(report: RunReport, *, raw: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the report as JSON-ready values; `raw` are the raw files of the table."""
    values = {
        "dataset": report.dataset,
        "model": report.model_name,
        "simulated": report.simulated,
        "source": report.source,
        "table": {"version": report.table_version, "published": report.table_published, "rows": report.rows},
        "acceptance": report.acceptance,
        "stale": report.stale,
        "repairs": report.repairs,
        "decision": {name: getattr(report.decision, name) for name in ("outcome", "reason", "candidate", "champion", "refit")},
        "raw": raw,
        "versions": report.versions,
        "results": [{name: getattr(result, name) for name in RESULT_FIELDS} for result in report.results],
        "naive": report.naive,
        "champion_warning": report.champion_warning,
        "baseline_comparison": report.baseline_comparison,
        "refit": asdict(report.refit) if report.refit else None,
        "intervals": [asdict(result) for result in report.intervals],
        "calibration": asdict(report.calibration) if report.calibration else None,
        "rows": result_rows(report),
        "links": report.links,
    }
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def save_report(report: RenderedReport, *, table: TableRef, store: Store) -> None:
    """Write the report beside the Data Docs of its table, and its pictures as files."""
    folder = store.report_folder(table.dataset, table.version)
    page = report_page(report.markdown, title=f"{table.dataset} {table.version}")
    files = {_file_name(title): png for title, png in report.pictures.items()}
    files |= {"report.md": report.markdown.encode(), "report.html": page.encode()}
    for name, data in files.items():
        write_atomically(folder / name, data)
    checksums = {name: sha256_of_bytes(data) for name, data in files.items()}
    write_record(folder / PICTURES_FILE, {"drawn_from": report.drawn_from, "titles": list(report.pictures), CHECKSUMS: checksums})


def _file_name(title: str) -> str:
    return f"{title.replace(' ', '-')}.png"


def _saved_pictures(drawn_from: str, *, folder: UPath) -> dict[str, bytes] | None:
    """Return the pictures of this table's last report if they show the same, else None.

    Drawing takes most of a report's time.
    """
    note = read_json(folder / PICTURES_FILE) if (folder / PICTURES_FILE).is_file() else {}
    if note.get("drawn_from") != drawn_from:
        return None
    files = {title: folder / _file_name(title) for title in note["titles"]}
    if not all(path.is_file() for path in files.values()):
        return None
    return {title: path.read_bytes() for title, path in files.items()}


def _baseline_comparison(
    results: Sequence[VariantResult],
    *,
    scoring: Scoring,
    decision: Decision,
    versions: Mapping[str, ModelVersion],
    table: TableRef,
    registry: Registry,
    store: Store,
) -> str:
    """Return how the candidate compares with the best linear baseline; empty if it is one itself, or there is none."""
    metric = scoring.primary
    sign = 1 if metric.lower_is_better else -1
    baselines = sorted((r for r in results if r.is_baseline), key=lambda result: sign * result.scores[metric.key])
    network = next((r for r in results if f"v{r.version}" == decision.candidate and not r.is_baseline), None)
    if network is None or not baselines:
        return ""
    loss = {}
    for result in (network, baselines[0]):
        evaluation = evaluate_version(versions[f"v{result.version}"], table=table, registry=registry, store=store)
        predictions = read_predictions(evaluation, table=table, store=store)
        loss[result.variant] = scoring.row_losses(predictions["prediction"], truth=predictions["truth"])
    return compare_with_baseline(
        scoring,
        network=result_name(network),
        network_scores=network.scores,
        network_loss=loss[network.variant],
        baseline=result_name(baselines[0]),
        baseline_scores=baselines[0].scores,
        baseline_loss=loss[baselines[0].variant],
    )


def _most_wrong(plot_data: ReviewsPlot, *, predictions: Predictions) -> tuple[WrongReview, ...]:
    """Return the reviews that the candidate is most wrong about, decoded, the worst first."""
    probability, truth = predictions["prediction"], predictions["truth"]
    return tuple(
        WrongReview(label=int(truth[row]), probability=float(probability[row]), text=plot_data.text(int(row)))
        for row in most_wrong(probability, truth=truth, count=WRONG_REVIEWS)
    )


def _result(version: ModelVersion, *, trained: bool, problem: Problem, registry: Registry) -> VariantResult:
    """Return a registered version as its manifest describes it."""
    manifest = registry.read_json(version.run_id, "manifest.json")
    training = manifest["training"]
    variant = problem.variants.get(version.variant)
    return VariantResult(
        variant=version.variant,
        version=version.version,
        trained=trained,
        # A refit whose twin is gone has no metrics.
        validation={problem.scoring.validation.key: version.metrics.get(problem.validation_metric, math.nan)},
        scores=manifest["scores"],
        curves=training["curves"],
        epochs_run=training["epochs_run"],
        best_epoch=training["best_epoch"],
        seconds_per_epoch=training["seconds_per_epoch"],
        parameters=training["parameters"],
        execution=tuple(training.get("execution", {}).get("notes", ())),
        # A variant may have been removed since its version was registered.
        tutorial_best=variant.tutorial_best if variant else None,
        is_baseline=version.variant in problem.baselines,
    )


def _champion(
    decision: Decision, *, versions: dict[str, ModelVersion], table: TableRef, problem: Problem, registry: Registry, store: Store
) -> VariantResult | None:
    """Return the champion before the decision, or the twin of a refit, with its scores on the test split of this table."""
    if decision.champion is None:
        return None
    version = evaluated_version(versions[decision.champion], versions=versions.values())
    if not answers_same_question(version, problem=problem):
        return _result(version, trained=False, problem=problem, registry=registry)
    evaluation = evaluate_version(version, table=table, registry=registry, store=store)
    return replace(
        _result(version, trained=False, problem=problem, registry=registry),
        scores=evaluation.scores,
        seen_note=_seen_note(version, evaluation=evaluation, table=table, registry=registry, store=store),
    )


def champion_warning(champion: VariantResult | None, *, decision: Decision, scoring: Scoring) -> str:
    """Return that the champion, which stays, does not beat the naive baseline on the test rows; empty if it does, or is unknown.

    Args:
        champion: The champion before the decision, or the twin of a refit, scored on the test split.
        decision: What was decided; a champion that goes is no concern.
        scoring: Names and formats the scores.
    """
    metric = scoring.primary
    if champion is None or decision.outcome == "promoted" or metric.naive_key not in champion.scores:
        return ""
    own, naive = champion.scores[metric.key], champion.scores[metric.naive_key]
    if metric.better(own, than=naive):
        return ""
    return (
        f"Champion {decision.champion} does not beat the naive baseline here ({metric.label} {metric.text(own)} against "
        f"{metric.text(naive)}, {metric.naive_label}): train on newer data, or roll it back"
    )


def _refit_result(version: ModelVersion, *, registry: Registry) -> RefitResult:
    """Return what the refit of the candidate is and cost, by its manifest."""
    training = registry.read_json(version.run_id, "manifest.json")["training"]
    epochs, seconds = training["epochs_run"], training["seconds"]
    return RefitResult(version=version.version, rows=training["fitted_rows"], epochs=epochs, seconds=seconds)


def _seen_note(version: ModelVersion, *, evaluation: EvaluationRef, table: TableRef, registry: Registry, store: Store) -> str:
    """Return how many of the test rows that a version is scored on it has seen; empty if it has seen none of them."""
    problem = problem_answered_by(version, dataset=table.dataset)
    seen = seen_by(version, problem=problem, registry=registry, store=store)
    if not seen.is_known:
        return "may have seen test rows: what it was fitted on is not recorded"
    rows = read_predictions(evaluation, table=table, store=store)["row"]
    count = int(seen.among(ids_of_test_rows(table, problem=problem, store=store)[rows]).sum())
    return f"has seen {count:,} of the {len(rows):,} test rows" if count else ""


def _links(table: TableRef, *, candidate: ModelVersion, registry: Registry, store: Store) -> dict[str, str]:
    """Return the addresses of report, Data Docs, table and decisions: web addresses where the service runs, else paths."""
    folder = store.report_folder(table.dataset, table.version)
    environment = Environment.read()
    docs_address, mlflow_address = environment.docs_address, environment.mlflow_address
    docs = f"{docs_address}/{table.dataset}/{table.version}" if docs_address else str(folder)
    links = {
        "report": f"{docs}/report.html",
        "Data Docs": f"{docs}/index.html",
        "table": str(store.table_folder(table.dataset, table.version)),
        "decisions": str(store.promotions(candidate.name)),
    }
    if mlflow_address:
        links["MLflow run"] = f"{mlflow_address}/#{registry.run_page(candidate)}"
    return links


def _naive_scores(predictions: Predictions, *, scores: Mapping[str, float], problem: Problem) -> dict[str, float]:
    """Return the scores of the naive baseline, under the keys of the models' scores."""
    scale = scale_of(scores, problem=problem)
    return problem.scoring.naive_scores(predictions["naive"], truth=predictions["truth"], scale=scale)
