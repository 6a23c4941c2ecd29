"""The command `retrain compare`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from storage.layout import Store
    from storage.records import ModelVersion
    from storage.references import TableRef
    from tasks.promotion.side_by_side import SideBySide


def compare(
    first: Annotated[str, typer.Argument(help="MODEL@VERSION, MODEL@ALIAS or MODEL.")],
    second: Annotated[str, typer.Argument(help="Another version of the same model.")],
    *,
    table: Annotated[
        str | None, typer.Option(help="Table on whose test split they are scored; that of the second if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Compare two versions: scores, a paired test on the same rows, and what was different when they were made."""
    from storage.layout import Store
    from storage.registry import Registry
    from tasks.models import problem_named
    from tasks.promotion.side_by_side import side_by_side

    store = Store.from_environment()
    registry = Registry.open(store)
    versions = [registry.resolve(name) for name in (first, second)]
    # The name of a model begins with that of its data set.
    dataset = problem_named(versions[1].name.split("-")[0]).dataset
    reference = _table(dataset, asked=table, version=versions[1], store=store)
    result = side_by_side(*versions, table=reference, registry=registry, store=store)
    if as_json:
        typer.echo(json.dumps(_values(result), indent=2, ensure_ascii=False))
    else:
        _print(result, dataset=dataset)


def _table(dataset: str, *, asked: str | None, version: ModelVersion, store: Store) -> TableRef:
    """Return the table that is asked for, or that a version was trained on; if that is gone, the newest."""
    from storage.tables import exists
    from tasks.ingestion.published import SAMPLE_SUFFIX, find_table

    own = version.tags.get("table_version", "")
    if asked or (own and exists(store, dataset, own)):
        return find_table(f"{dataset}@{asked or own}", store=store)
    return find_table(f"{dataset}{SAMPLE_SUFFIX}" if version.tags.get("simulated") == "true" else dataset, store=store)


def _values(result: SideBySide) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "first": f"{result.first.name}@{result.first.version}",
        "second": f"{result.second.name}@{result.second.version}",
        "table": result.table,
        "rows": result.rows,
        "fair_rows": result.fair_rows,
        "scores": {"first": dict(result.first_scores), "second": dict(result.second_scores)},
        "test": asdict(result.test) if result.test else None,
        "p_value": result.p_value,
        "differences": [asdict(each) for each in result.differences],
    }


def _print(result: SideBySide, *, dataset: str) -> None:
    from flows.cli.console import make_console, print_rows
    from tasks.training.identity import problem_answered_by

    console = make_console()
    primary = problem_answered_by(result.second, dataset=dataset).scoring.primary
    names = [f"{each.name}@{each.version}" for each in (result.first, result.second)]
    scores = [result.first_scores, result.second_scores]
    rows = [
        {
            "version": name,
            "variant": version.variant,
            f"test {primary.label}": primary.text(values[primary.key]),
            "skill": f"{100 * values['skill']:+.1f} %",
        }
        for name, version, values in zip(names, (result.first, result.second), scores, strict=True)
    ]
    print_rows(rows, console=console)
    console.print(_verdict(result, names=names, unit=primary.unit), highlight=False)
    differences = [
        {"part": each.part, "what": each.name, names[0]: _text(each.first), names[1]: _text(each.second)}
        for each in result.differences
    ]
    print_rows(differences, console=console)
    if not differences:
        console.print("They were made from the same data, network, settings and code.", highlight=False)


def _verdict(result: SideBySide, *, names: list[str], unit: str) -> str:
    """Return what the paired test says, in a sentence, and on which rows it was made."""
    test, p_value = result.test, result.p_value
    where = f"{result.fair_rows:,} of {result.rows:,} test rows of table {result.table}"
    if test is None or p_value is None:
        return f"No test: {where} were seen by neither version, which is too few."
    better, worse = (names[1], names[0]) if test.mean_gain > 0 else (names[0], names[1])
    by = f"{abs(test.mean_gain):.3g} {unit}".strip()
    word = "is better than" if p_value < 0.05 else "is ahead of, but not clearly better than,"
    if test.mean_gain == 0:
        return f"{names[0]} and {names[1]} are equal on {where}."
    return f"{better} {word} {worse} by {by} a row (two-sided p = {p_value:.2g}) on {where}, which neither has seen."


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
