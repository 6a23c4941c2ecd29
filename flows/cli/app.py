"""The command `retrain`: its subcommands and options. With `--json` its output is for programs."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.compare import compare
from flows.cli.doctor import doctor
from flows.cli.examples import help_of
from flows.cli.gc import gc
from flows.cli.models import models, show
from flows.cli.monitor import monitor
from flows.cli.notify import notify
from flows.cli.plan import acceptance, limits_of, plan_runs
from flows.cli.predict import predict
from flows.cli.promote import promote
from flows.cli.rollback import rollback
from flows.cli.runs import logs, runs
from flows.cli.schema import schema
from flows.cli.serve import serve
from flows.cli.service import demo, down, status, up, worker
from flows.cli.tables import tables
from flows.cli.verify import verify
from flows.runtime.authentication import set_variables
from storage.environment import Environment, require_sound_addresses
from storage.errors import RetrainError
from tasks.choices import DataOrigin, PromoteMode, SplitRule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


HELP = (
    "Keep recurrent models fresh: data in, a better model out, every step on record.\n\n"
    "Begin with `retrain run --data sample`, which needs no network for data; then `retrain models`, and `retrain up` for "
    "the service."
)

app = typer.Typer(help=HELP, no_args_is_help=True, pretty_exceptions_enable=False)

_DOCUMENTS = Path(__file__).resolve().parents[2] / "docs"
# An installed package has no documents of its own.
RESULTS = (_DOCUMENTS if _DOCUMENTS.is_dir() else Path()) / "results.md"

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
# An option that is not given is left out of the settings, so that their own defaults hold.
DataOption = Annotated[
    DataOrigin | None, typer.Option(help="auto: the mirror if named, else upstream, else the sample. Default: auto.")
]
SourceOption = Annotated[str | None, typer.Option(help="Source of the data set, such as station; its first one if not given.")]
FirstOption = Annotated[
    str | None, typer.Option("--from", help="First period of a source in periods, such as 2009, 2009a, 2014-03 or 2014-03-15.")
]
LastOption = Annotated[str | None, typer.Option("--to", help="Last period, or latest.")]
AddressOption = Annotated[
    list[str] | None, typer.Option(help="Address that is tried before the known ones, with {name} for the name of a file.")
]
InputOption = Annotated[
    str | None, typer.Option("--input", help="File or folder of your own, or the URL of a file, for a source that reads one.")
]
UseOption = Annotated[
    str | None, typer.Option(help="add: train on own reviews beside the published ones. replace: in their place.")
]
ColumnsOption = Annotated[str | None, typer.Option(help="Columns of that file with other names: reading=column,reading=column.")]
StampColumnOption = Annotated[str | None, typer.Option(help="Column of its time stamps.")]
StampFormatOption = Annotated[str | None, typer.Option(help="Form of its time stamps, such as '%d.%m.%Y %H:%M'.")]
SplitOption = Annotated[SplitRule | None, typer.Option(help="shares or recent; the source's own if not given.")]
TestMonthsOption = Annotated[int | None, typer.Option(help="Months that test, with --split recent. Default: 12.")]
ValidationMonthsOption = Annotated[int | None, typer.Option(help="Months that validate, with --split recent. Default: 12.")]
LimitOption = Annotated[list[str] | None, typer.Option(help="Limit of a repair: missing_values=0.01; can be given again.")]
DigestOption = Annotated[list[str] | None, typer.Option(help="SHA-256 of a changed file to accept.")]
FailuresOption = Annotated[
    list[str] | None, typer.Option(help="Table version to publish although its readings are rejected; needs --reason.")
]
ReasonOption = Annotated[str | None, typer.Option(help="Why these failures are accepted.")]
EpochsOption = Annotated[int | None, typer.Option(help="Upper bound on the epochs; the variant's own if not given.")]
BatchSizeOption = Annotated[int | None, typer.Option(help="Examples a step; the variant's own if not given.")]
LearningRateOption = Annotated[float | None, typer.Option(help="Learning rate; the variant's own if not given.")]
StepsOption = Annotated[int | None, typer.Option(help="Steps an epoch; the variant's own if not given.")]


@app.command(**help_of("run"))
def run(
    dataset: Annotated[str, typer.Argument(help="Name of a data set, or all.")] = "all",
    *,
    variants: Annotated[
        str | None, typer.Option(help="Networks to train, separated by commas, or all; each data set's own if not given.")
    ] = None,
    data: DataOption = None,
    source: SourceOption = None,
    first: FirstOption = None,
    last: LastOption = None,
    address: AddressOption = None,
    input_file: InputOption = None,
    use: UseOption = None,
    columns: ColumnsOption = None,
    stamp_column: StampColumnOption = None,
    stamp_format: StampFormatOption = None,
    split: SplitOption = None,
    test_months: TestMonthsOption = None,
    validation_months: ValidationMonthsOption = None,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    batch_size: BatchSizeOption = None,
    learning_rate: LearningRateOption = None,
    target: Annotated[str | None, typer.Option(help="Forecasts only: the column to forecast.")] = None,
    horizon_rows: Annotated[int | None, typer.Option(help="Forecasts only: rows from a window to its target.")] = None,
    lookback_rows: Annotated[int | None, typer.Option(help="Forecasts only: rows that a window covers.")] = None,
    step_rows: Annotated[int | None, typer.Option(help="Forecasts only: rows between two readings of a window.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after this many epochs without a better validation metric. Default: 10.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, dropout and the order of batches. Default: 0.")] = None,
    promote: Annotated[PromoteMode | None, typer.Option(help="auto: promote what passes every check. Default: auto.")] = None,
    margin: Annotated[float | None, typer.Option(help="Relative gain that is enough without significance.")] = None,
    allow_baselines: Annotated[bool, typer.Option("--allow-baselines", help="Let a linear baseline become champion.")] = False,
    no_refit: Annotated[
        bool, typer.Option("--no-refit", help="Use the version that passed as it is, not trained on all rows.")
    ] = False,
    limit: LimitOption = None,
    accept_digest: DigestOption = None,
    accept_failures: FailuresOption = None,
    reason: ReasonOption = None,
    require_gpu: Annotated[bool, typer.Option("--require-gpu", help="Refuse to train on a CPU.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch, validate, train, score, register, and promote the best network if it is really better."""
    from flows.cli.run import run_all

    plan = plan_runs(
        dataset,
        variants=variants,
        data={
            "data": data,
            "source": source,
            "options": {
                "--from": first,
                "--to": last,
                "--address": address,
                "--input": input_file,
                "--use": use,
                "--columns": columns,
                "--stamp-column": stamp_column,
                "--stamp-format": stamp_format,
            },
            "split": {"rule": split, "test_months": test_months, "validation_months": validation_months},
            "limits": limits_of(limit),
            "accept_digests": tuple(accept_digest or ()),
            **acceptance(accept_failures, reason=reason),
        },
        training={
            "epochs": epochs,
            "steps_per_epoch": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "forecast": {
                "target": target,
                "horizon_rows": horizon_rows,
                "lookback_rows": lookback_rows,
                "step_rows": step_rows,
            },
            "patience_epochs": patience,
            "seed": seed,
            "require_gpu": require_gpu,
        },
        promotion={
            "promote": promote,
            "margin": margin,
            "allow_baselines": allow_baselines,
            "refit": False if no_refit else None,
        },
    )
    with _exit_on_interrupt():
        results = run_all(plan, command=shlex.join(["retrain", *sys.argv[1:]]), quiet=as_json)
    if as_json:
        typer.echo(json.dumps(results, indent=2, ensure_ascii=False))


@app.command(**help_of("ingest"))
def ingest(
    dataset: Annotated[str, typer.Argument(help="Name of a data set, or all.")] = "all",
    *,
    data: DataOption = None,
    source: SourceOption = None,
    first: FirstOption = None,
    last: LastOption = None,
    address: AddressOption = None,
    input_file: InputOption = None,
    use: UseOption = None,
    columns: ColumnsOption = None,
    stamp_column: StampColumnOption = None,
    stamp_format: StampFormatOption = None,
    split: SplitOption = None,
    test_months: TestMonthsOption = None,
    validation_months: ValidationMonthsOption = None,
    limit: LimitOption = None,
    accept_digest: DigestOption = None,
    accept_failures: FailuresOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch, repair, validate and publish the table, and train nothing."""
    from flows.cli.run import ingest_all

    plan = plan_runs(
        dataset,
        variants=None,
        data={
            "data": data,
            "source": source,
            "options": {
                "--from": first,
                "--to": last,
                "--address": address,
                "--input": input_file,
                "--use": use,
                "--columns": columns,
                "--stamp-column": stamp_column,
                "--stamp-format": stamp_format,
            },
            "split": {"rule": split, "test_months": test_months, "validation_months": validation_months},
            "limits": limits_of(limit),
            "accept_digests": tuple(accept_digest or ()),
            **acceptance(accept_failures, reason=reason),
        },
        training={},
        promotion={},
    )
    with _exit_on_interrupt():
        tables = ingest_all(plan, quiet=as_json)
    if as_json:
        typer.echo(json.dumps([table.model_dump(mode="json") for table in tables], indent=2))


@app.command(**help_of("reproduce"))
def reproduce(
    dataset: Annotated[str, typer.Argument(help="Name of a data set, or all.")] = "all",
    *,
    data: DataOption = None,
    source: SourceOption = None,
    first: FirstOption = None,
    last: LastOption = None,
    own_input: InputOption = None,
    use: UseOption = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of every variant, with the seeds 0, 1, 2 ...")] = 3,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    patience: Annotated[int, typer.Option(help="Stop after this many epochs without a better validation metric.")] = 1000,
    output: Annotated[Path, typer.Option(help="Document whose sections are renewed.")] = RESULTS,
) -> None:
    """Train every variant at the tutorial's settings with several seeds, and write its scores beside ours."""
    from flows.cli.run import reproduce_all

    command = shlex.join(["retrain", *sys.argv[1:]])
    source_settings = {
        "data": data,
        "source": source,
        "options": {"--from": first, "--to": last, "--input": own_input, "--use": use},
    }
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in range(seeds):
        training = {"epochs": epochs, "steps_per_epoch": steps, "patience_epochs": patience, "seed": seed}
        plan = plan_runs(dataset, variants="all", data=source_settings, training=training, promotion={"promote": "never"})
        for parameters in plan:
            runs.setdefault(parameters["dataset"], []).append(parameters)
    with _exit_on_interrupt():
        for line in reproduce_all(runs, usual_budget=epochs is None and steps is None, command=command, output=output):
            typer.echo(line)


@contextmanager
def _exit_on_interrupt() -> Iterator[None]:
    """At Ctrl-C say that the next run resumes, and exit with code 130; Typer would exit without a message."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("retrain: stopped; the next run resumes from the last complete epoch", err=True)
        raise SystemExit(130) from None


@app.command(**help_of("variants"))
def variants(dataset: Annotated[str | None, typer.Argument(help="Data set; every one if not given.")] = None) -> None:
    """List the networks and baselines that can be trained, with their budgets. A star marks the default networks."""
    from flows.cli.console import print_variants
    from tasks.models import PROBLEMS, problem_named

    print_variants([problem_named(dataset)] if dataset else list(PROBLEMS.values()))


app.add_typer(notify, name="notify", rich_help_panel=help_of("notify")["rich_help_panel"])
for _command in (
    models,
    show,
    tables,
    compare,
    promote,
    rollback,
    predict,
    serve,
    monitor,
    runs,
    logs,
    doctor,
    gc,
    verify,
    schema,
    up,
    down,
    status,
    demo,
    worker,
):
    app.command(**help_of(_command.__name__))(_command)


def _print_version(asked: bool) -> None:  # noqa: FBT001  (Typer calls it)
    if asked:
        from importlib.metadata import version

        typer.echo(f"retrain {version('retrain')}")
        raise typer.Exit


@app.callback(help=HELP)
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version of retrain and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None: ...


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. An error of input or environment is one line, and the exit code is 2."""
    try:
        require_sound_addresses()
        set_variables()
        app(args=arguments)
    except RetrainError as error:
        typer.echo(f"retrain: {error}", err=True)
        raise SystemExit(2) from None
    except Exception as error:
        from storage.remote_store import known_error

        known = known_error(error, home=Environment.read().home)
        if known is None:
            raise
        typer.echo(f"retrain: {known}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
