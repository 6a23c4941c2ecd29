"""A store that release 0.1.0 has filled, somewhere else, is opened by today's code and goes on.

`tests/data/store-0.1.0.tar.xz` was made by the code of that release (the last commit before the rooms of decision 0016), with a sample
of 9,000 rows in place of 26,000: `retrain run jena --data sample --variants gru_baseline --epochs 1 --steps 20`, the same with
`--epochs 3 --steps 40 --seed 1`, and `retrain promote jena-sample@2`. Raw files, scratch and logs of processes were left out.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from flow_helpers import WarmCommand

from storage.layout import Store
from storage.registry import Registry
from storage.tables import published_versions, read_splits
from tasks.ingestion.pipeline import table_ref
from tasks.promotion.comparison import load_check
from tasks.promotion.log import decisions_about

ARCHIVE = Path(__file__).resolve().parents[1] / "data" / "store-0.1.0.tar.xz"
MODEL = "jena-sample"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(home, filter="data")
    return home / "var"
