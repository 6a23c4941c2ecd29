"""The flow `retrain`: from the source of a data set to the promotion of a better model."""

import os
import sys
from typing import Any, cast

from prefect import flow, get_run_logger

from flows.ingest import ingest
from flows.promote import promote
from flows.runtime.process_pool import TrainingPool
from flows.states import final_state, ingested_message, limit_restarts, run_name, run_of_project
from flows.train import train_variant
from storage.references import ModelRef, TableRef
from tasks.config import DatasetName, DataSettings, PromotionSettings, TrainSettings
from tasks.datasets import DATASETS
from tasks.models import VariantName, choose_variants, variant_named, with_baselines
from tasks.reporting import steps as reporting_steps
from tasks.training import steps as training_steps

# Prefect types `task_runner` for runners of threads, and its own process pool has another type of future.
_POOL: Any = TrainingPool
CORES = os.cpu_count() or 1
# Two trainings side by side with one thread each end sooner than one after the other with two threads: a training gains
# less from a second core.
MAX_SIDE_BY_SIDE = min(4, CORES)


@flow(name="retrain", flow_run_name=run_name, task_runner=_POOL(max_workers=MAX_SIDE_BY_SIDE + 1))
@run_of_project
def retrain(
    dataset: DatasetName,
    variants: tuple[VariantName, ...] = (),
    data: DataSettings = DataSettings(),  # noqa: B008  (frozen)
    training: TrainSettings = TrainSettings(),  # noqa: B008
    promotion: PromotionSettings = PromotionSettings(),  # noqa: B008
) -> dict[str, Any]:
    """Ingest a data set, train its variants and the linear baselines, and promote the best network if it is really better.

    Args:
        dataset: Data set to retrain on.
        variants: Networks to train, of those that the data set has. None: its default variants. The linear baselines are
            always trained.
        data: Source of the data, and where it is fetched.
        training: How and where the variants are trained.
        promotion: Whether and when a new champion is made.
    """
    limit_restarts()
    variants = choose_variants(variants, dataset=dataset, forecast=training.forecast)
    table = ingest(dataset, data)
    get_run_logger().info("%s: %s", dataset, ingested_message(table))  # on the page of this run, as ingest has its own
    models = train_side_by_side(table, variants=with_baselines(variants, dataset=dataset), settings=training)
    decision = promote(table, models, promotion, training)
    result = reporting_steps.report(table, models, decision)
    # Prefect ends the run in a state that a flow returns, and gives the data of the state to the caller.
    return cast("dict[str, Any]", final_state(decision, table=table, models=models, result=result))


def train_side_by_side(table: TableRef, *, variants: tuple[str, ...], settings: TrainSettings) -> tuple[ModelRef, ...]:
    """Train the variants that were not trained before, each in its own process or on a worker.

    If the networks occupy every core, the linear baselines wait for the first network to end. Its core would otherwise be
    idle until the last network ends.
    """
    models = {variant: training_steps.find_trained(table, variant, settings) for variant in variants}
    missing = [variant for variant, model in models.items() if model is None]
    baselines = [variant for variant in missing if variant_named(variant, dataset=table.dataset).is_baseline]
    networks = [variant for variant in missing if variant not in baselines]
    is_local = settings.run_on != "work_pool"
    shared = settings.with_threads_for(min(len(networks), MAX_SIDE_BY_SIDE), cores=CORES) if is_local else settings
    running = {variant: train_variant.submit(table, variant, shared) for variant in networks}
    first = list(running.values())[:1] if is_local and len(networks) >= CORES else []
    after_first: dict[str, Any] = {"wait_for": first, "return_state": False}
    running |= {variant: train_variant.submit(table, variant, shared, **after_first) for variant in baselines}
    models |= {variant: future.result() for variant, future in running.items()}
    return tuple(model for model in models.values() if model is not None)


def main() -> None:
    """Retrain every data set with the defaults. An error of input or environment is one line, and the exit code is 2."""
    from flows.runtime.server import prefect_server
    from storage.errors import RetrainError, SettingError
    from storage.layout import Store

    try:
        if sys.argv[1:]:
            raise SettingError("python -m flows.retrain takes no arguments: use `retrain run`, see `retrain run --help`")
        with prefect_server(Store.from_environment()):
            for dataset in DATASETS:
                retrain(dataset)
    except RetrainError as error:
        sys.stderr.write(f"retrain: {error}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
