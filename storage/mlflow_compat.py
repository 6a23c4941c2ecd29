"""What MLflow needs so that it stays quiet, sends nothing, pickles nothing, and fails in one line."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

from storage.errors import RegistryError
from storage.layout import lock_file

_PICKLES = (".pkl", ".pickle", ".cloudpickle", ".joblib")


def database_lock(address: str) -> AbstractContextManager[Any]:
    """Guard the first use of a sqlite file: its tables are made then, and two processes that make them at once break."""
    if not address.startswith("sqlite:///"):
        return nullcontext()
    lock = lock_file(Path(address.removeprefix("sqlite:///")).absolute())
    lock.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(lock)


def import_mlflow() -> None:
    """Import what the registry uses of MLflow, which takes seconds, with its telemetry and its notes off from the first line."""
    with quiet():
        import mlflow.tracking  # noqa: F401


def save_model(model: Any, folder: Path, described: Any, *, signature: Any, requirements: Sequence[str]) -> None:
    """Write the model in MLflow's layout, without the pickle that MLflow makes of registered Keras layers.

    The `.keras` file names those layers itself, and whoever loads it must import them: then nothing needs to run out of a pickle.
    """
    import mlflow.tensorflow

    pinned = list(requirements) or [f"mlflow=={mlflow.__version__}"]  # never empty: MLflow would then infer them for 11 s
    mlflow.tensorflow.save_model(model, str(folder), mlflow_model=described, signature=signature, pip_requirements=pinned)
    for path in pickles(folder):
        path.unlink()


def pickles(folder: Path) -> list[Path]:
    """Return the files of a folder that are pickles by their name."""
    return [path for path in folder.rglob("*") if path.suffix in _PICKLES]


@contextmanager
def mlflow_faults(what: str) -> Iterator[None]:
    """Turn what MLflow, its database or its server raise into one line."""
    _set_environment()
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as fault:
        raise RegistryError(f"{what}: {_first_line(fault)}") from fault
    except OSError as fault:
        raise RegistryError(f"{what}: {fault}: look whether the registry's folder is there and can be written") from fault


def _first_line(fault: Exception) -> str:
    return next(iter(str(fault).splitlines()), type(fault).__name__)


def _set_environment() -> None:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's notes and the warnings of its own code off the terminal."""
    _set_environment()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"mlflow(\..*)?")
        # TensorFlow's tensors and numpy 2.4, seen while Keras saves and loads weights.
        warnings.filterwarnings(
            "ignore", message="__array__ implementation doesn't accept a copy keyword", category=DeprecationWarning
        )
        yield
