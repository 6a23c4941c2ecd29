"""Write what is recorded of a training, and its model, into a run of MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from storage.checksums import SUMS, checksums_of, sha256_of_bytes, sums_text
from storage.errors import RegistryError
from storage.mlflow_compat import quiet, save_model, translate_mlflow_errors
from storage.records import RunRecord

CURVE_PREFIX = "epoch/"
MODEL_FOLDER = "model/"


def log_record(client: Any, run_id: str, *, record: RunRecord) -> dict[str, str]:
    """Log parameters, metrics with their curves, data sets, files and the manifest of a training.

    Returns:
        The checksums of the files, by their path in the run.
    """
    import json

    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

    now_ms = int(datetime.now(tz=UTC).timestamp() * 1000)
    metrics = [Metric(key, float(value), now_ms, 0) for key, value in record.metrics.items()]
    for key, curve in record.curves.items():
        metrics += [Metric(f"{CURVE_PREFIX}{key}", float(value), now_ms, epoch) for epoch, value in enumerate(curve, start=1)]
    params = [Param(key, str(value)) for key, value in record.params.items()]
    # MLflow takes 1,000 metrics and 100 parameters a call.
    for start in range(0, max(len(metrics), 10 * len(params), 1), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000], params=params[start // 10 : start // 10 + 100])
    inputs = [
        DatasetInput(
            dataset=Dataset(
                name=table.name,
                digest=table.digest[:36],
                source_type="local",
                source=json.dumps({"uri": table.uri}),
                profile=json.dumps({"num_rows": table.rows}),
            ),
            tags=[InputTag("mlflow.data.context", table.context), InputTag("sha256", table.digest)],
        )
        for table in record.datasets
    ]
    if inputs:
        client.log_inputs(run_id, inputs)
    manifest = json.dumps(record.manifest, indent=2, ensure_ascii=False) + "\n"
    files = {**record.files, "manifest.json": manifest.encode()}
    _log_files(client, run_id, files=files)
    return {name: sha256_of_bytes(data) for name, data in files.items()}


def log_model(client: Any, run_id: str, *, experiment_id: str, model: Any, record: RunRecord) -> tuple[str, str, dict[str, str]]:
    """Log a Keras model as one of a run.

    Returns:
        Its id, its location, and the checksums of its files by their path in the model.
    """
    with quiet():
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model, infer_signature

        logged = client.create_logged_model(experiment_id, name=record.variant, source_run_id=run_id)
        signature = None
        if record.input_example is not None:
            signature = infer_signature(record.input_example, record.output_example)
        with tempfile.TemporaryDirectory() as folder:
            description = Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id)
            save_model(
                model,
                Path(folder, "model"),
                description,
                signature=signature,
                requirements=record.pip_requirements,
                code=record.code,
            )
            checksums = checksums_of(Path(folder, "model"))
            client.log_model_artifacts(logged.model_id, str(Path(folder, "model")))
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id), str(logged.artifact_location), checksums


def log_checksums(client: Any, run_id: str, *, files: Mapping[str, str], model: Mapping[str, str]) -> None:
    """Log the checksums of a run's files and of its model's, the latter below `model/`, as `SHA256SUMS` of the run."""
    names = {**files, **{f"{MODEL_FOLDER}{name}": checksum for name, checksum in model.items()}}
    _log_files(client, run_id, files={SUMS: sums_text(names)})


def _log_files(client: Any, run_id: str, *, files: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder, translate_mlflow_errors(f"cannot write files of run {run_id}"):
        for name, data in files.items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise RegistryError(f"artifact path {name!r} leaves the run: use a relative path without '..'")
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        client.log_artifacts(run_id, folder)
