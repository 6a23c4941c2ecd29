"""The command `retrain tables`, and what `retrain show table` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def tables(
    dataset: Annotated[str | None, typer.Argument(help="Data set; every one if not given.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the published tables: rows, source and newest reading. The newest of a data set comes last."""
    from dataclasses import asdict

    from flows.cli.console import make_console, print_rows
    from storage.layout import Store
    from tasks.ingestion.published import published_tables

    found = published_tables(dataset, store=Store.from_environment(to_write=False))
    if as_json:
        typer.echo(json.dumps([asdict(table) for table in found], indent=2, ensure_ascii=False))
        return
    if not found:
        typer.echo("No table is published yet: run `retrain ingest`.")
    rows = [
        {
            "table": f"{table.dataset}@{table.version}",
            "source": f"{table.source} (SAMPLE, simulated)" if table.simulated else f"{table.source} ({table.origin})",
            "rows": ", ".join(f"{split} {count:,}" for split, count in table.rows.items() if split in ("train", "val", "test")),
            "newest reading": table.newest.replace("T", " ") or "-",
            "ingested (UTC)": table.ingested[:16].replace("T", " "),
            "": "accepted" if table.accepted else "",
        }
        for table in found
    ]
    print_rows(rows, console=make_console())


def show_table(name: str, *, as_json: bool) -> None:
    """Print what a table was made from and what was done to its data, and who uses it."""
    from storage.layout import Store
    from storage.registry import Registry
    from storage.tables import read_manifest
    from tasks.ingestion.published import find_table

    store = Store.from_environment(to_write=False)
    table = find_table(name, store=store)
    manifest = read_manifest(store.table_folder(table.dataset, table.version))
    registry = Registry.open(store)
    versions = [version for each in registry.names() for version in registry.versions(each)]
    own = [each for each in versions if each.tags.get("table_version") == table.version]
    models = [f"{each.name}@{each.version}" for each in sorted(own, key=lambda each: (each.name, each.version))]
    if as_json:
        typer.echo(json.dumps({"manifest": manifest, "models": models}, indent=2, ensure_ascii=False))
        return
    _print(manifest, models=models, folder=table.uri)


def _print(manifest: Mapping[str, Any], *, models: list[str], folder: str) -> None:
    from rich.markup import escape

    from flows.cli.console import make_console

    console = make_console()
    console.print(f"[bold]{manifest['dataset']}@{manifest['version']}[/bold] {escape(manifest['title'])}")
    acceptance = manifest.get("acceptance")
    expectations = manifest.get("expectations", {})
    rows = [
        ("source", manifest["source"] + (" (SAMPLE, simulated)" if manifest["simulated"] else f" ({manifest['origin']})")),
        *(("raw file", f"{raw['name']}, {raw['size_bytes']:,} bytes, SHA-256 {raw['sha256']}") for raw in manifest["raw"]),
        *(("file", f"{name}, {file['rows']:,} rows") for name, file in manifest["files"].items()),
        *(("repair", f"{each['name']}: {each['count']:,} ({100 * each['share']:.3f} %)") for each in manifest["repairs"]),
        *((name.replace("_", " "), str(value)) for name, value in manifest["facts"].items()),
        ("expectations", ", ".join(f"{count} {name}" for name, count in expectations.items())),
        *([("accepted by", f"{acceptance['by']}: {acceptance['reason']}")] if acceptance else []),
        ("models", ", ".join(models) or "none"),
        ("licence", manifest["licence"]),
        ("folder", folder),
    ]
    for name, value in rows:
        console.print(f"  {name:<20} {escape(str(value))}", highlight=False, soft_wrap=True)
