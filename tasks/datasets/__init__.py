"""The registry of data sets: one folder each, named here. They know no Keras and no Prefect."""

from __future__ import annotations

from importlib import import_module

from storage.errors import unknown
from tasks.datasets.spec import DatasetSpec

# A data set is registered by its name in this line: `tasks/datasets/<name>/spec.py` holds its `SPEC`, and
# `tasks/models/networks/<name>.py` its networks.
NAMES = ("jena", "imdb")

DATASETS: dict[str, DatasetSpec] = {name: import_module(f"tasks.datasets.{name}.spec").SPEC for name in NAMES}


def dataset_named(name: str) -> DatasetSpec:
    """Return the data set of that name.

    Raises:
        SettingError: There is none.
    """
    if name not in DATASETS:
        raise unknown("data set", name, where="retrain", choices=DATASETS)
    return DATASETS[name]
