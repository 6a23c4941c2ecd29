"""The flow `predict`: forecasts from the newest readings, or labels of texts, with a registered model."""

from typing import cast

from prefect import flow

from flows.ingest import ingest
from flows.states import predicted_state, run_of_project
from storage.references import PredictionRef
from tasks.config import DataSettings, PredictSettings
from tasks.prediction import steps as prediction_steps


@flow(name="predict", flow_run_name="predict {model}")
@run_of_project
def predict(
    model: str,
    settings: PredictSettings = PredictSettings(),  # noqa: B008  (frozen)
    data: DataSettings | None = None,
) -> PredictionRef:
    """Predict with the champion, or another version, and keep what was issued. What was issued before is not kept twice.

    Args:
        model: Registered model, such as one named after its data set; its champion, or a version such as model@3.
        settings: What is predicted.
        data: Source from which the newest readings are fetched first. None: the newest table as it is.
    """
    if data:
        ingest(prediction_steps.dataset_of(model), data)
    return cast("PredictionRef", predicted_state(prediction_steps.predict(model, settings)))
