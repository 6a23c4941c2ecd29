"""Every variant on a GPU: which kernel it takes and what a step costs, on TensorFlow and, with the same layers, on JAX."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.measuring import Part, Table, spread_of
from benchmarks.workers import Worker, WorkerError, finish, own_module
from tasks.models import PROBLEMS

_LOOK = (
    "import json; from tasks.models.device import prepare_device; device = prepare_device(1, require_gpu=False); "
    "print(json.dumps({'kind': device.kind, 'count': device.count}))"
)


def measure(bench: Bench) -> Part:
    """Measure each backend that shows a GPU; a quick run takes the processor, to see that the case itself works."""
    tables, values = [], {}
    for backend, python in _interpreters(bench).items():
        variables = {"KERAS_BACKEND": backend}
        if python is None:
            tables.append(Table(f"Keras on {backend}", (), (), (bench.peers["jax"][1],)))
            continue
        try:
            found = finish([python, "-c", _LOOK], variables=variables).answer
        except WorkerError as error:
            tables.append(Table(f"Keras on {backend}", (), (), (f"skipped: {str(error).splitlines()[-1]}",)))
            continue
        if found["kind"] != "gpu" and not bench.quick:
            tables.append(Table(f"Keras on {backend}", (), (), ("no GPU here",)))
            continue
        table, values[backend] = _backend(bench, backend=backend, python=python, found=found)
        tables.append(table)
    return Part("gpu", (), tuple(tables), values)


def _interpreters(bench: Bench) -> dict[str, str | None]:
    """Return the interpreter of each backend: the project's own, and that of the environment without TensorFlow."""
    jax: Path | None = bench.peers["jax"][0]
    return {"tensorflow": sys.executable, "jax": str(jax) if jax else None}


def _backend(bench: Bench, *, backend: str, python: str, found: dict[str, Any]) -> tuple[Table, dict[str, Any]]:
    rows, values = [], {}
    notes = [f"{found['count']} device(s) of kind {found['kind']}"]
    if found["kind"] != "gpu":
        notes.append("no GPU here: a quick run on the processor, to see that the case works")
    for dataset, problem in PROBLEMS.items():
        for variant in problem.variants.values():
            if getattr(variant, "is_baseline", False):
                continue
            bench.say(f"gpu: {backend}, {dataset} {variant.name}")
            worker = Worker(
                _command(bench, python=python, dataset=dataset, variant=variant.name), variables={"KERAS_BACKEND": backend}
            )
            try:
                rows.append(_row(bench, worker=worker, name=f"{dataset} {variant.name}", values=values))
            except WorkerError as error:
                rows.append((f"{dataset} {variant.name}", "-", "-", "-", "-", "-"))
                notes.append(f"{dataset} {variant.name} failed: {str(error).splitlines()[-1]}")
            finally:
                worker.close()
    columns = ("variant", "kernel", "ms a step", "first turn in s", "loss of the first turn", "TensorFlow imported")
    notes.append("without dropout both backends begin with the same weights and batches, so their first losses must agree")
    return Table(f"Keras on {backend}", columns, tuple(rows), tuple(notes)), values


def _command(bench: Bench, *, python: str, dataset: str, variant: str) -> list[str]:
    module = own_module("benchmarks.opponents.ours", bench.data.tables[dataset]["uri"], str(bench.data.arrays))
    return [python, *module[1:], "1", "turns", dataset, variant]


def _row(bench: Bench, *, worker: Worker, name: str, values: dict[str, Any]) -> tuple[str, ...]:
    described = worker.ask("describe")
    # On IMDB a first turn of one pass meets every width that is compiled.
    steps = 0 if name.startswith("imdb") else bench.sizes.gpu_steps
    first = worker.ask("train", steps=steps)
    turns = [worker.ask("train", steps=steps) for _ in range(bench.sizes.rounds)]
    step_ms = spread_of([turn["seconds"] / turn["steps"] for turn in turns], scale=1e3)
    kernel = described["kernel"]
    values[name] = {"described": described, "first": first, "turns": turns}
    imported = "yes" if described["tensorflow_imported"] else "no"
    told = ", ".join(f"{name}={value}" for name, value in kernel.items())
    return name, told, step_ms.text(digits=1), f"{first['whole_s']:.1f}", f"{first['loss']:.4f}", imported
