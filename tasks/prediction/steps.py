"""The Prefect tasks of prediction: each wraps one function, and reads and writes through the store and the registry."""

from __future__ import annotations

import base64
import logging

from prefect import task
from prefect.artifacts import create_markdown_artifact

from storage.layout import Store
from storage.references import PredictionRef
from storage.registry import Registry
from storage.retries import wait_while_away
from tasks.config import PredictSettings
from tasks.prediction import predict as predicting
from tasks.prediction.output import picture_of, summary_of

logger = logging.getLogger("retrain")


@task(task_run_name="find data set of {model}")
def dataset_of(model: str) -> str:
    """Return the data set that a registered model was trained on."""
    registry = Registry.open(Store.from_environment())
    manifest = registry.read_json(registry.resolve(model).run_id, "manifest.json")
    return str(manifest["table"]["dataset"])


@task(task_run_name="predict with {model}")
def predict(model: str, settings: PredictSettings) -> PredictionRef:
    """Predict, keep what was not issued before, and show the forecast in the run."""
    store = Store.from_environment()
    predictions = predicting.predict(model, settings=settings, registry=Registry.open(store), store=store)
    summary = summary_of(predictions)
    for line in (summary, *predictions.remarks):
        logger.info("%s", line)
    name = predictions.version.name
    picture = picture_of(predictions)
    shown = "" if picture is None else f"\n\n![forecast](data:image/png;base64,{base64.b64encode(picture).decode()})"
    remarks = "".join(f"\n\n{remark}." for remark in predictions.remarks)
    wait_while_away(create_markdown_artifact)(f"{summary}.{remarks}{shown}", key=f"prediction-{name}", description=summary)
    return PredictionRef(
        model=name,
        version=predictions.version.version,
        uri=str(store.predictions_folder(name)),
        rows=predictions.table.num_rows,
        kept=predictions.kept,
        summary=summary,
    )
