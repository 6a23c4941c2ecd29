"""The main flow: data in, a better model out, every step on record."""

import os
import sys
from typing import Any, cast

from prefect import flow

from flows.ingest import ingest
from flows.promote import promote
from flows.runtime.process_pool import TrainingPool
from flows.states import fail_with_message, limit_restarts, outcome, run_name
from flows.train import train_variant
from storage.references import ModelRef, TableRef
from tasks.config import DatasetName, DataSettings, PromotionSettings, TrainSettings
from tasks.datasets import DATASETS
from tasks.models import choose_variants, variant_named, with_references
from tasks.reporting import steps as reporting_steps
from tasks.training import steps as training_steps

# Prefect types the parameter for its thread futures; its own process pool returns a sibling.
_POOL: Any = TrainingPool
CORES = os.cpu_count() or 1
# Two trainings with a thread each are done sooner than one after the other with two: a training makes less of a second core.
SIDE_BY_SIDE = min(4, CORES)


@flow(name="retrain", flow_run_name=run_name, task_runner=_POOL(max_workers=SIDE_BY_SIDE + 1))
@fail_with_message
def retrain(
    dataset: DatasetName,
    variants: tuple[str, ...] = (),
    data: DataSettings = DataSettings(),  # noqa: B008  (frozen)
    training: TrainSettings = TrainSettings(),  # noqa: B008
    promotion: PromotionSettings = PromotionSettings(),  # noqa: B008
) -> dict[str, Any]:
    """Ingest a data set, train its variants beside the simple references, and promote the best when it is really better.

    Args:
        dataset: Data set to retrain on.
        variants: Networks to train, such as gru_baseline. None: the default variants of the data set. The simple references
            come by themselves.
        data: Source of the data, and where it is fetched.
        training: How and where the variants are trained.
        promotion: Rule by which a new champion is made.
    """
    limit_restarts()
    variants = choose_variants(variants, dataset=dataset, forecast=training.forecast)
    table = ingest(dataset, data)
    models = train_side_by_side(table, variants=with_references(variants, dataset=dataset), settings=training)
    decision = promote(table, models, promotion)
    result = reporting_steps.report(table, models, decision)
    # Prefect takes a returned state for the end of the run, and hands its data to the caller.
    return cast("dict[str, Any]", outcome(decision, table=table, models=models, result=result))


def train_side_by_side(table: TableRef, *, variants: tuple[str, ...], settings: TrainSettings) -> tuple[ModelRef, ...]:
    """Train what no equal training has made before, each in a process or on a worker of its own.

    Where networks have every core, the simple references wait for the first to be done: its core would be idle until the last is.
    """
    models = {variant: training_steps.find_trained(table, variant, settings) for variant in variants}
    missing = [variant for variant, model in models.items() if model is None]
    references = [variant for variant in missing if variant_named(variant, dataset=table.dataset).is_reference]
    networks = [variant for variant in missing if variant not in references]
    local = settings.run_on == "local"
    shared = settings.with_threads_for(min(len(networks), SIDE_BY_SIDE), cores=CORES) if local else settings
    running = {variant: train_variant.submit(table, variant, shared) for variant in networks}
    first = list(running.values())[:1] if local and len(networks) >= CORES else []
    waiting = {"wait_for": first, "return_state": False}
    running |= {variant: train_variant.submit(table, variant, shared, **waiting) for variant in references}
    models |= {variant: future.result() for variant, future in running.items()}
    return tuple(model for model in models.values() if model is not None)


def main() -> None:
    """Retrain both data sets with the defaults; a fault of input or environment is one line, and exit code 2."""
    from flows.runtime.server import prefect_server
    from storage.errors import RetrainError, SettingError
    from storage.layout import Store

    try:
        if sys.argv[1:]:
            raise SettingError("python -m flows.retrain takes no arguments: see `retrain run --help` for what can be set")
        with prefect_server(Store.from_environment()):
            for dataset in DATASETS:
                retrain(dataset)
    except RetrainError as error:
        sys.stderr.write(f"retrain: {error}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
