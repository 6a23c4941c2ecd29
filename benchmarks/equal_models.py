"""Compare the tables and models of two stores: what a change of the code that should change no result is held to.

python -m benchmarks.equal_models STORE OTHER_STORE

Run the same command on both stores first, such as `RETRAIN_HOME=STORE retrain run --data sample`, one with each code.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np

from storage.layout import Store
from storage.registry import Registry
from storage.tables import read_manifest

TOLERANCE = 1e-5


def tables_of(folder: Path) -> dict[str, dict[str, str]]:
    """Return the digest of every Parquet file, by table."""
    manifests = {path.parent: read_manifest(path.parent) for path in sorted(folder.glob("tables/*/*/manifest.json"))}
    return {
        str(path.relative_to(folder)): {name: file["sha256"] for name, file in manifest["files"].items()}
        for path, manifest in manifests.items()
    }


def examples_of(folder: Path) -> dict[str, Any]:
    """Return the predictions of every registered model on the examples kept with it, by model and variant."""
    registry = Registry.open(Store.at(folder))
    predictions: dict[str, Any] = {}
    for name in registry.names():
        for version in registry.versions(name):
            with np.load(io.BytesIO(registry.read_file(version.run_id, "examples.npz")), allow_pickle=False) as arrays:
                predictions[f"{name} {version.variant}"] = arrays["outputs"]
    return predictions


def main() -> None:
    """Print what differs, and exit with 1 if anything does."""
    first, second = (Path(argument).resolve() for argument in sys.argv[1:3])
    tables = tables_of(first), tables_of(second)
    print(f"tables: {len(tables[0])} and {len(tables[1])}, {'equal digests' if tables[0] == tables[1] else 'DIFFERENT digests'}")
    ours, theirs = examples_of(first), examples_of(second)
    equal = tables[0] == tables[1] and ours.keys() == theirs.keys()
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            print(f"{name}: only in one store")
            continue
        worst = float(np.max(np.abs(ours[name] - theirs[name])))
        equal = equal and worst <= TOLERANCE
        print(f"{name}: predictions differ by at most {worst:.1e}")
    raise SystemExit(0 if equal else 1)


if __name__ == "__main__":
    main()
