"""The commands `retrain models` and `retrain show`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def models(
    name: Annotated[str | None, typer.Argument(help="Registered model; every one if not given.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List versions, aliases and scores."""
    from flows.cli.console import print_models
    from storage.errors import RegistryError
    from storage.layout import Store
    from storage.registry import Registry
    from tasks.promotion.rollback import refusals_of

    store = Store.from_environment(to_write=False)
    registry = Registry.open(store)
    names = registry.names()
    if name and name not in names:
        listed = ", ".join(names) or "none yet: run `retrain run` first"
        raise RegistryError(f"unknown model {name!r}: registered models are {listed}")
    versions = [version for each in ([name] if name else names) for version in registry.versions(each)]
    refusals = refusals_of(versions, registry=registry, store=store)
    if as_json:
        values = [_version_values(each) | {"refused": refusals.get(f"{each.name}@{each.version}")} for each in versions]
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
    else:
        print_models(versions, refusals=refusals)


def show(
    names: Annotated[
        list[str], typer.Argument(metavar="MODEL", help="MODEL@VERSION, MODEL@ALIAS or MODEL; or `table` and DATASET@VERSION.")
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one version: its scores, data, settings and decisions. `retrain show table DATASET` shows its newest table."""
    from flows.cli.tables import show_table
    from storage.errors import SettingError

    if names[0] == "table" and len(names) == 2:
        show_table(names[1], as_json=as_json)
    elif len(names) == 1:
        _show_version(names[0], as_json=as_json)
    else:
        raise SettingError(
            f"cannot show {' '.join(names)!r}, expected one model, or `table` and one table: see `retrain show --help`"
        )


def _show_version(model: str, *, as_json: bool) -> None:
    from flows.cli.console import print_version
    from storage.layout import Store
    from storage.registry import Registry
    from tasks.promotion.log import decisions_about
    from tasks.training.refit import evaluated_version

    store = Store.from_environment(to_write=False)
    registry = Registry.open(store)
    version = registry.resolve(model)
    manifest = registry.read_json(version.run_id, "manifest.json")
    decisions = decisions_about(version, registry=registry, store=store)
    evaluated = evaluated_version(version, versions=registry.versions(version.name))
    scores_of = f"{evaluated.name}@{evaluated.version}"
    twin = registry.read_json(evaluated.run_id, "manifest.json")
    if as_json:
        scores = {"scores_of": scores_of, "scores": twin["scores"], "validation": twin["training"]["validation"]}
        values = _version_values(version) | {"manifest": manifest, "decisions": decisions} | scores
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
    else:
        print_version(version, manifest=manifest, evaluated=evaluated, evaluated_manifest=twin, decisions=decisions)


def _version_values(version: Any) -> dict[str, Any]:
    """Return a version as JSON-ready values."""
    from dataclasses import asdict

    return asdict(version) | {"aliases": list(version.aliases)}
