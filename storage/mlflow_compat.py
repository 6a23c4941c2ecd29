"""Keep MLflow quiet and its telemetry off, write models without pickles, and report its errors in one line."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from http import HTTPStatus
from pathlib import Path
from typing import Any

from storage.errors import RegistryError, SettingError
from storage.library_variables import set_library_variables
from storage.records import ModelCode

_PICKLES = (".pkl", ".pickle", ".cloudpickle", ".joblib")
_CODE = "code"
_PAGE = 1000
_DESCRIPTION = "MLmodel"


def import_mlflow() -> None:
    """Import the part of MLflow that the registry uses, which takes seconds, with telemetry and notes turned off before."""
    with quiet():
        import mlflow.tracking  # noqa: F401


def make_tables(database: Path) -> None:
    """Make MLflow's tables in a SQLite file that is not there yet, by the command `mlflow db upgrade` in this process.

    Raises:
        SettingError: SQLite could not, as on a full disk.
    """
    from mlflow.db import upgrade
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with quiet(), redirect_stdout(io.StringIO()):
            upgrade.main(args=[f"sqlite:///{database}"], standalone_mode=False)
    except SQLAlchemyError as error:
        reason = getattr(error, "orig", None) or error
        raise SettingError(f"MLflow's database cannot be made in {database.parent} ({reason}): free the disk") from error


def save_model(
    model: Any, folder: Path, description: Any, *, signature: Any, requirements: Sequence[str], code: ModelCode | None
) -> None:
    """Write a model in MLflow's layout, without the pickle that MLflow adds for registered Keras layers.

    The `.keras` file names those layers itself, and the project has their modules. Code for those who load the model by MLflow
    alone is named in the flavor `python_function` and not in `tensorflow`, which the project reads.
    """
    import mlflow.tensorflow

    pinned = list(requirements) or [f"mlflow=={mlflow.__version__}"]  # never empty: MLflow would then infer them for 11 s
    mlflow.tensorflow.save_model(model, str(folder), mlflow_model=description, signature=signature, pip_requirements=pinned)
    for path in pickles(folder):
        path.unlink()
    if code:
        for name, source in code.files.items():
            file = folder / _CODE / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source, encoding="utf-8")
        description.flavors["python_function"] |= {"loader_module": code.loader_module, "code": _CODE}
        description.save(str(folder / _DESCRIPTION))


def code_that_would_load(folder: Path) -> str | None:
    """Say which module that the files of a stored model bring or name would be imported with its flavor `tensorflow`."""
    from mlflow.models import Model

    flavor = Model.load(str(folder)).flavors.get("tensorflow", {})
    named = {name: flavor[name] for name in ("code", "keras_module") if flavor.get(name)}
    if named:
        return f"{_DESCRIPTION}: {named}"
    file = folder / "data" / "keras_module.txt"
    module = file.read_text(encoding="utf-8").strip() if file.is_file() else "tensorflow.keras"
    return None if module == "tensorflow.keras" else f"{file.name}: {module}"


def pages(search: Any, *arguments: Any) -> Iterator[Any]:
    """Yield every result of one of MLflow's searches, which it gives page by page."""
    token = None
    while True:
        page = search(*arguments, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def pickles(folder: Path) -> list[Path]:
    """Return the files of a folder whose name ends as that of a pickle does."""
    return [path for path in folder.rglob("*") if path.suffix in _PICKLES]


@contextmanager
def translate_mlflow_errors(what: str) -> Iterator[None]:
    """Raise errors of MLflow, its database or its server as a RegistryError of one line."""
    set_library_variables()
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.get_http_status_code() == HTTPStatus.UNAUTHORIZED:
            is_shown = "MLFLOW_TRACKING_PASSWORD" in os.environ
            reason = "the user and password given are not its own" if is_shown else "it wants a user and password"
            raise RegistryError(
                f"{what}: the MLflow server refused the request (401): {reason}; "
                "set RETRAIN_AUTH=USER:FILE as where it was started, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            ) from None
        raise RegistryError(f"{what}: {_first_line(error)}") from error
    except ImportError as error:  # the driver of a database, or the client of an object store
        raise RegistryError(
            f"{what}: the package {error.name} is not installed: pip install 'retrain[postgres,s3]', or name another registry"
        ) from error
    except OSError as error:
        raise RegistryError(f"{what}: {error}: look whether the registry's folder is there and can be written") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence MLflow's log messages and the warnings of its own code."""
    set_library_variables()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"mlflow(\..*)?")
        # In a notebook without widgets.
        warnings.filterwarnings("ignore", message="IProgress not found")
        # TensorFlow's variables do not take the `copy` argument of numpy 2; Keras meets this as it saves and loads weights.
        warnings.filterwarnings(
            "ignore", message="__array__ implementation doesn't accept a copy keyword", category=DeprecationWarning
        )
        yield
