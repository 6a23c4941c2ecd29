"""Two devices take the steps of one: the same losses and weights, a checkpoint that goes on, and predictions once each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Logical devices must be there before TensorFlow computes, so they have a process of their own; one of them is one device.
SCRIPT = """
import json
import numpy as np
import flows
from tasks.models.device import Device, prepare_device
from tasks.models.engine.accelerated import accelerate_for_training
from tasks.models.engine.execution import choose_execution

prepare_device(1, require_gpu=False)
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from dataclasses import replace
from tasks.datasets.jena.spec import COLUMNS
from tasks.models import variant_named, problem_named
from tasks.models.training_loop import fit
from tasks.models.engine.train_step import mirrored_scope
from tasks.models.spec import Budget
import pyarrow as pa

rng = np.random.default_rng(0)
rows = 1800
columns = {name: pa.array(rng.normal(size=rows).astype(np.float32)) for name in COLUMNS}
splits = {name: pa.table(columns | {"segment": np.zeros(rows, dtype=np.int32)}) for name in ("train", "val", "test")}
normalisation = {key: dict.fromkeys(COLUMNS, value) for key, value in (("mean", 0.0), ("std", 1.0))}
def averaged(rate):  # a moving average of the weights, so that this is tested too
    import keras

    return keras.optimizers.RMSprop(rate, use_ema=True, ema_momentum=0.5)


variant = replace(variant_named("gru_baseline", dataset="jena"), batch_size=8, optimizer=averaged)


def train(device, execution, checkpoints, saved=None):
    with mirrored_scope(device):
        accelerated = accelerate_for_training(variant, device=device, seed=0, execution=execution)
        learner = problem_named("jena").learner(splits, normalisation, variant, accelerated)
    budget = Budget(epochs=2, steps_per_epoch=3, patience_epochs=9)
    fitted = fit(
        learner, budget=budget, seed=0, is_better=lambda new, old: True,
        load_checkpoint=lambda: saved, save_checkpoint=checkpoints.append,
    )
    return learner, fitted


def trained_on(count):
    device, checkpoints = Device(kind="cpu", count=count, backend="tensorflow"), []
    chosen = choose_execution(variant.network(), device=device, batch_size=8, has_schedule=False)
    # XLA or not is another order of operations; here the number of devices alone shall differ.
    execution = replace(chosen, jit_compile=False)
    learner, fitted = train(device, execution, checkpoints)
    again, resumed = train(device, execution, checkpoints, saved=checkpoints[0])
    return {
        "compiled": chosen.jit_compile,
        "replicas": max(getattr(weight.value, "values", [0]).__len__() for weight in learner.network.weights),
        "loss": fitted.curves["loss"],
        "resumed": resumed.curves["loss"],
        "weights": [weight.ravel().tolist()[:50] for weight in learner.network.get_weights()],
        "windows": len(learner.rows["test"]),
        "predictions": learner.predict("test").tolist(),
    }


print(json.dumps([trained_on(count) for count in (1, 2)]))
"""


@pytest.mark.slow
def test_two_devices_take_the_steps_of_one(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    root = Path(__file__).resolve().parents[2]
    environment = {"PYTHONPATH": str(root), "PATH": "", "HOME": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = json.loads(done.stdout.splitlines()[-1])
    assert (one["replicas"], two["replicas"]) == (1, 2)
    assert (one["compiled"], two["compiled"]) == (True, False)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["resumed"] == pytest.approx(two["loss"], rel=1e-5)
    for mine, theirs in zip(one["weights"], two["weights"], strict=True):
        assert theirs == pytest.approx(mine, abs=1e-5)
    assert len(two["predictions"]) == two["windows"] == one["windows"]
    assert two["predictions"] == pytest.approx(one["predictions"], abs=1e-5)
