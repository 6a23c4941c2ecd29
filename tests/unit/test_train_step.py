"""Two devices take the steps of one: the same losses and weights, a checkpoint that goes on, and predictions once each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Logical devices must be there before TensorFlow computes, so each number of devices has a process of its own.
SCRIPT = """
import json, sys
import numpy as np
import flows
from tasks.models.device import Device, prepare_device
from tasks.models.engine.accelerated import accelerate_for_training
from tasks.models.engine.execution import choose_execution

count = int(sys.argv[1])
prepare_device(1, require_gpu=False)
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
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


device = Device(kind="cpu", count=count, backend="tensorflow")
variant = replace(variant_named("gru_baseline", dataset="jena"), batch_size=8, optimizer=averaged)
# XLA or not is another order of operations; here the number of devices alone shall differ.
chosen = choose_execution(variant.network(), device=device, batch_size=8, has_schedule=False)
execution = replace(chosen, jit_compile=False)
checkpoints = []


def train(epochs, saved=None):
    with mirrored_scope(device):
        accelerated = accelerate_for_training(variant, device=device, seed=0, execution=execution)
        learner = problem_named("jena").learner(splits, normalisation, variant, accelerated)
    budget = Budget(epochs=epochs, steps_per_epoch=3, patience_epochs=9)
    fitted = fit(
        learner, budget=budget, seed=0, is_better=lambda new, old: True,
        load_checkpoint=lambda: saved, save_checkpoint=checkpoints.append,
    )
    return learner, fitted


learner, fitted = train(2)
again, resumed = train(2, saved=checkpoints[0])
print(json.dumps({
    "compiled": chosen.jit_compile,
    "loss": fitted.curves["loss"],
    "resumed": resumed.curves["loss"],
    "weights": [weight.ravel().tolist()[:50] for weight in learner.network.get_weights()],
    "windows": len(learner.rows["test"]),
    "predictions": learner.predict("test").tolist(),
}))
"""


def trained_on(devices: int, folder: Path) -> dict[str, object]:
    script = folder / "train.py"
    script.write_text(SCRIPT)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-W", "ignore", str(script), str(devices)]
    done = subprocess.run(
        command,
        cwd=root,
        env={"PYTHONPATH": str(root), "PATH": "", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_two_devices_take_the_steps_of_one(tmp_path: Path) -> None:
    one, two = (trained_on(devices, tmp_path) for devices in (1, 2))
    assert (one["compiled"], two["compiled"]) == (True, False)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["resumed"] == pytest.approx(two["loss"], rel=1e-5)
    for mine, theirs in zip(one["weights"], two["weights"], strict=True):
        assert theirs == pytest.approx(mine, abs=1e-5)
    assert len(two["predictions"]) == two["windows"] == one["windows"]
    assert two["predictions"] == pytest.approx(one["predictions"], abs=1e-5)
