"""The data sets: one file each, and this registry. They know no Keras and no Prefect."""

from __future__ import annotations

from storage.errors import unknown
from tasks.datasets.imdb import spec as imdb
from tasks.datasets.jena import spec as jena
from tasks.datasets.spec import DatasetSpec

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in (jena.SPEC, imdb.SPEC)}


def dataset_named(name: str) -> DatasetSpec:
    """Return the data set of that name.

    Raises:
        SettingError: There is none.
    """
    if name not in DATASETS:
        raise unknown("data set", name, where="retrain", choices=DATASETS)
    return DATASETS[name]
