"""The command `retrain`, for people at a terminal and, with `--json`, for programs."""

from __future__ import annotations

import json
import re
import shlex
import sys
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from storage.errors import RetrainError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic import ValidationError

app = typer.Typer(
    help="Keep recurrent models fresh: data in, a better model out, every step on record.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# What a person typed where a setting has another name.
_OPTIONS = {
    "accept_digests": "--accept-digest",
    "epochs": "--epochs",
    "steps_per_epoch": "--steps",
    "patience_epochs": "--patience",
    "batch_size": "--batch-size",
    "learning_rate": "--learning-rate",
    "seed": "--seed",
    "margin": "--margin",
}

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results.md"

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class DataChoice(StrEnum):
    """Where the data comes from."""

    auto = "auto"
    upstream = "upstream"
    mirror = "mirror"
    sample = "sample"


class PromoteChoice(StrEnum):
    """When the champion changes."""

    auto = "auto"
    manual = "manual"
    never = "never"


DataOption = Annotated[DataChoice, typer.Option(help="auto: mirror if named, else upstream, else the sample.")]
SourceOption = Annotated[str | None, typer.Option(help="Source of the data set, such as station; its first one if not given.")]
FirstOption = Annotated[str | None, typer.Option("--from", help="First part of a source in parts, such as 2009a of station.")]
LastOption = Annotated[str | None, typer.Option("--to", help="Last part of a source in parts, such as 2014a of station.")]
EpochsOption = Annotated[int | None, typer.Option(help="Upper bound on the epochs; the variant's own if not given.")]
BatchSizeOption = Annotated[int | None, typer.Option(help="Examples a step; the variant's own if not given.")]
LearningRateOption = Annotated[float | None, typer.Option(help="Learning rate; the variant's own if not given.")]
StepsOption = Annotated[int | None, typer.Option(help="Steps an epoch; the variant's own if not given.")]


@app.command()
def run(
    dataset: Annotated[str, typer.Argument(help="Name of a data set, or all.")] = "all",
    *,
    variants: Annotated[
        str | None, typer.Option(help="Networks to train, separated by commas, or all; each data set's own if not given.")
    ] = None,
    data: DataOption = DataChoice.auto,
    source: SourceOption = None,
    first: FirstOption = None,
    last: LastOption = None,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    batch_size: BatchSizeOption = None,
    learning_rate: LearningRateOption = None,
    patience: Annotated[int, typer.Option(help="Stop after this many epochs without a better validation figure.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of weights, dropout and the order of batches.")] = 0,
    promote: Annotated[PromoteChoice, typer.Option(help="auto: promote what passes every check.")] = PromoteChoice.auto,
    margin: Annotated[float | None, typer.Option(help="Relative gain that is enough without significance.")] = None,
    allow_references: Annotated[bool, typer.Option("--allow-references", help="Let a simple reference become champion.")] = False,
    accept_digest: Annotated[list[str] | None, typer.Option(help="SHA-256 of a changed file to accept.")] = None,
    require_gpu: Annotated[bool, typer.Option("--require-gpu", help="Refuse to train on a CPU.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch, validate, train, score, register, and promote what is really better."""
    from flows.cli.run import run_all

    plan = _plan(
        dataset,
        variants=variants,
        data={
            "data": data.value,
            "source": source,
            "options": {"--from": first, "--to": last},
            "accept_digests": tuple(accept_digest or ()),
        },
        training={
            "epochs": epochs,
            "steps_per_epoch": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "patience_epochs": patience,
            "seed": seed,
            "require_gpu": require_gpu,
        },
        promotion={"promote": promote.value, "margin": margin, "allow_references": allow_references},
    )
    with _told_when_stopped():
        results = run_all(plan, command=shlex.join(["retrain", *sys.argv[1:]]), quiet=as_json)
    if as_json:
        typer.echo(json.dumps(results, indent=2, ensure_ascii=False))


@app.command()
def reproduce(
    dataset: Annotated[str, typer.Argument(help="Name of a data set, or all.")] = "all",
    *,
    data: DataOption = DataChoice.auto,
    source: SourceOption = None,
    first: FirstOption = None,
    last: LastOption = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of every variant, with the seeds 0, 1, 2 ...")] = 3,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    patience: Annotated[int, typer.Option(help="Stop after this many epochs without a better validation figure.")] = 1000,
    output: Annotated[Path, typer.Option(help="Document whose sections are renewed.")] = RESULTS,
) -> None:
    """Train every variant at the tutorial's settings with several seeds, and write its figures beside ours."""
    from flows.cli.run import reproduce_all

    command = shlex.join(["retrain", *sys.argv[1:]])
    chosen = {"data": data.value, "source": source, "options": {"--from": first, "--to": last}}
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in range(seeds):
        training = {"epochs": epochs, "steps_per_epoch": steps, "patience_epochs": patience, "seed": seed}
        for run_of in _plan(dataset, variants="all", data=chosen, training=training, promotion={"promote": "never"}):
            runs.setdefault(run_of["dataset"], []).append(run_of)
    with _told_when_stopped():
        for line in reproduce_all(runs, usual_budget=epochs is None and steps is None, command=command, output=output):
            typer.echo(line)


@contextmanager
def _told_when_stopped() -> Iterator[None]:
    """End at Ctrl-C with a line on what comes next; Typer would end without a word."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("retrain: stopped; the next run goes on from the last complete epoch", err=True)
        raise SystemExit(130) from None


def _plan(
    dataset: str, *, variants: str | None, data: dict[str, Any], training: dict[str, Any], promotion: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the parameters of one flow run a data set, all of them checked before anything is started."""
    from pydantic import ValidationError

    from storage.errors import SettingError
    from tasks.config import DataSettings, PromotionSettings, TrainSettings, mirror_address
    from tasks.datasets import DATASETS, dataset_named
    from tasks.ingestion.pipeline import resolve_origin, source_files
    from tasks.models import choose_variants, problem_named

    data = data | {"options": _source_options(data["source"], typed=data["options"])}
    try:
        parsed = DataSettings(**data), TrainSettings(**training), PromotionSettings(**promotion)
    except ValidationError as error:
        raise SettingError(_first_fault(error)) from None
    names = tuple(DATASETS) if dataset == "all" else (dataset_named(dataset).name,)
    is_of_another = any(parsed[0].source in dataset_named(name).sources for name in names)
    plan = []
    for name in names:
        if variants == "all":
            asked = tuple(problem_named(name).variants)
        else:
            asked = () if variants is None else tuple(variants.split(","))
        chosen = choose_variants(asked, dataset=name)
        settings = parsed[0]
        if is_of_another and settings.source not in dataset_named(name).sources:
            # A source of one data set says nothing about the others.
            settings = settings.model_copy(update={"source": None, "options": DataSettings().options})
        try:
            source_files(dataset_named(name), settings)
        except SettingError as error:
            raise SettingError(_in_options(str(error))) from None
        resolve_origin(settings, mirror=mirror_address(), url="", can_reach=lambda _: True)
        plan.append({"dataset": name, "variants": chosen, "data": settings, "training": parsed[1], "promotion": parsed[2]})
    return plan


def _source_options(source: str | None, *, typed: Mapping[str, str | None]) -> dict[str, str]:
    """Return the options of a source by field, from what a person typed by flag.

    Raises:
        SettingError: The source has no such option.
    """
    from storage.errors import SettingError
    from tasks.datasets import DATASETS

    sources = {name: each for spec in DATASETS.values() for name, each in spec.sources.items()}
    fields = sources[source].options.flags() if source in sources else {}
    given = {flag: value for flag, value in typed.items() if value is not None}
    stray = [flag for flag in given if flag not in fields]
    if stray and (source is None or source in sources):
        takers = " or ".join(name for name, each in sources.items() if set(stray) <= set(each.options.flags()))
        raise SettingError(f"{' and '.join(stray)} belong to another source: add --source {takers}, or leave them out")
    return {fields[flag]: value for flag, value in given.items() if flag in fields}


def _flags() -> dict[str, str]:
    """Return what a person typed by the name of the setting, those of every source too."""
    from tasks.datasets import DATASETS

    flags = dict(_OPTIONS)
    for spec in DATASETS.values():
        for source in spec.sources.values():
            flags |= {field: flag for flag, field in source.options.flags().items()}
    return flags


def _in_options(message: str) -> str:
    """Put what a person typed in the place of the names of settings."""
    for setting, flag in _flags().items():
        message = re.sub(rf"\b{setting}\b", flag, message)
    return message


def _first_fault(error: ValidationError) -> str:
    """Word the first refused field like every other error."""
    fault = error.errors()[0]
    # A fault within a list ends with its place there.
    field = next((str(part) for part in reversed(fault["loc"]) if isinstance(part, str)), "")
    return f"{_flags().get(field, field)} is {fault['input']!r}: {fault['msg']}; see `retrain run --help`"


@app.command()
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

    registry = Registry.open(Store.from_environment())
    names = registry.names()
    if name and name not in names:
        listed = ", ".join(names) or "none yet: run `retrain run` first"
        raise RegistryError(f"unknown model {name!r}: registered models are {listed}")
    found = [version for each in ([name] if name else names) for version in registry.versions(each)]
    if as_json:
        typer.echo(json.dumps([_plain(version) for version in found], indent=2))
    else:
        print_models(found)


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="MODEL@VERSION, MODEL@ALIAS or MODEL.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one version: scores, what it was made from, and the decisions about it."""
    from flows.cli.console import print_version
    from storage.io import read_lines
    from storage.layout import Store
    from storage.registry import Registry

    store = Store.from_environment()
    registry = Registry.open(store)
    version = registry.resolve(model)
    manifest = json.loads(registry.read_file(version.run_id, "manifest.json"))
    log = [
        line for line in read_lines(store.promotions(version.name)) if line["candidate"] == version.version and "decision" in line
    ]
    if as_json:
        typer.echo(json.dumps(_plain(version) | {"manifest": manifest, "decisions": log}, indent=2, ensure_ascii=False))
    else:
        print_version(version, manifest=manifest, decisions=log)


@app.command()
def promote(
    model: Annotated[str, typer.Argument(help="MODEL@VERSION to make champion.")], *, as_json: JsonOption = False
) -> None:
    """Make a version champion by hand, after a load check; also the way back to an older one."""
    from storage.layout import Store
    from storage.registry import Registry
    from tasks.promotion.promote import promote_by_hand

    store = Store.from_environment()
    decision = promote_by_hand(model, registry=Registry.open(store), store=store)
    typer.echo(json.dumps({"outcome": decision.outcome, "reason": decision.reason}) if as_json else decision.reason)


@app.command()
def up() -> None:
    """Start the service: Prefect and its UI, MLflow, the reports, and a worker for each pool; then print where they are."""
    from flows.runtime.service import Service
    from flows.runtime.service import up as start

    start(Service.from_environment(), say=typer.echo)


@app.command()
def down() -> None:
    """End the service; nothing that it knew is lost."""
    from flows.runtime.service import Service
    from flows.runtime.service import down as stop

    stop(Service.from_environment(), say=typer.echo)


@app.command()
def worker(pool: Annotated[str, typer.Argument(help="cpu or gpu.")]) -> None:
    """Serve one pool of the server that PREFECT_API_URL names, on this host, until it is stopped."""
    from flows.runtime.service import serve

    serve(pool)


def _plain(version: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(version) | {"aliases": list(version.aliases)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a fault of input or environment is one line, and exit code 2."""
    try:
        app(args=arguments)
    except RetrainError as error:
        typer.echo(f"retrain: {error}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
