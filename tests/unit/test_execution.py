"""How a network runs on which device, and the refusal of a device that is not there."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from storage.errors import DeviceError, SettingError
from tasks.models import PROBLEMS
from tasks.models.device import Device, _cache_programs, prepare_device
from tasks.models.engine.accelerated import accelerate_for_training, refuse_masks
from tasks.models.engine.execution import Execution, can_shard, choose_execution, describe_execution
from tasks.models.spec import Variant


def small(keras: Any, layer: Any, *others: Any) -> Any:
    return keras.Sequential([keras.Input((9, 2)), layer, *others, keras.layers.Dense(1)])


def chosen(network: Any, device: Device, *, batch_size: int = 128, has_schedule: bool = False) -> Execution:
    return choose_execution(network, device=device, batch_size=batch_size, has_schedule=has_schedule)


@pytest.mark.parametrize(
    ("kind", "layer", "options", "expected"),
    [
        ("gpu", "GRU", {}, Execution(use_cudnn=True, jit_compile=False, steps_per_execution=50)),
        ("gpu", "LSTM", {"dropout": 0.2}, Execution(use_cudnn=True, jit_compile=False, steps_per_execution=50)),
        ("gpu", "GRU", {"recurrent_dropout": 0.2}, Execution(use_cudnn=False, jit_compile=True, steps_per_execution=50)),
        ("gpu", "GRU", {"use_bias": False}, Execution(use_cudnn=False, jit_compile=True, steps_per_execution=50)),
        ("gpu", "GRU", {"reset_after": False}, Execution(use_cudnn=False, jit_compile=True, steps_per_execution=50)),
        ("gpu", "SimpleRNN", {}, Execution(use_cudnn=False, jit_compile=True, steps_per_execution=50)),
        ("cpu", "GRU", {}, Execution(use_cudnn=False, jit_compile=True, skip_padding_steps=True)),
        ("cpu", "GRU", {"recurrent_dropout": 0.2}, Execution(use_cudnn=False, jit_compile=True, skip_padding_steps=True)),
    ],
)
def test_cudnn_where_it_can_else_xla(keras: Any, kind: str, layer: str, options: dict[str, Any], expected: Execution) -> None:
    network = small(keras, getattr(keras.layers, layer)(3, **options))
    assert chosen(network, Device(kind=kind, count=1, backend="tensorflow")) == expected


@pytest.mark.parametrize(
    ("device", "batch_size", "drops", "num_shards"),
    [
        (Device(kind="cpu", count=1, backend="tensorflow", threads=1), 128, False, 1),
        (Device(kind="cpu", count=1, backend="tensorflow", threads=2), 128, False, 2),
        # A shard of fewer than 32 examples is not worth a thread.
        (Device(kind="cpu", count=1, backend="tensorflow", threads=64), 128, False, 4),
        (Device(kind="cpu", count=1, backend="tensorflow", threads=2), 32, False, 1),
        # A layer of dropout would draw other masks where a step is not compiled as a whole.
        (Device(kind="cpu", count=1, backend="tensorflow", threads=2), 128, True, 1),
        (Device(kind="gpu", count=1, backend="tensorflow", threads=2), 128, False, 1),
    ],
)
def test_a_training_with_threads_shards_its_batch(
    keras: Any, device: Device, batch_size: int, drops: bool, num_shards: int
) -> None:
    network = small(keras, keras.layers.GRU(3), *([keras.layers.Dropout(0.5)] if drops else []))
    assert can_shard(network) is not drops
    execution = chosen(network, device, batch_size=batch_size)
    assert execution.num_shards == num_shards
    assert not (execution.jit_compile and num_shards > 1)  # one program keeps to one core


def test_jax_compiles_every_step_and_chooses_for_itself(keras: Any) -> None:
    expected = Execution(use_cudnn="auto", jit_compile=True)
    assert chosen(small(keras, keras.layers.GRU(3)), Device(kind="gpu", count=1, backend="jax")) == expected


def test_xla_is_left_out_on_several_devices(keras: Any) -> None:
    expected = Execution(use_cudnn=False, jit_compile=False)
    assert chosen(small(keras, keras.layers.SimpleRNN(3)), Device(kind="gpu", count=2, backend="tensorflow")) == expected


def test_a_scheduled_rate_is_set_before_every_step(keras: Any) -> None:
    gpu = Device(kind="gpu", count=1, backend="tensorflow")
    assert chosen(small(keras, keras.layers.GRU(3)), gpu, has_schedule=True).steps_per_execution == 1


def test_what_a_layer_loses_is_told_with_the_remedy(keras: Any) -> None:
    network = small(keras, keras.layers.LSTM(4, return_sequences=True), keras.layers.LSTM(3))
    cpu = Device(kind="cpu", count=1, backend="tensorflow")
    first, second = describe_execution(network, execution=chosen(network, cpu))
    assert first.text == "recurrent layer 1, LSTM(4): XLA without the fast loop, because it returns every step to the next layer"
    assert str(first).endswith("; faster: return the last step alone (return_sequences=False)")
    assert str(second) == "recurrent layer 2, LSTM(3): fast loop"


@pytest.mark.parametrize("layer", ["Masking", "Embedding"])
def test_a_mask_is_refused_before_training(keras: Any, layer: str) -> None:
    layers = keras.layers
    masked = layers.Masking() if layer == "Masking" else layers.Embedding(9, 2, mask_zero=True)
    network = keras.Sequential([keras.Input((9, 2) if layer == "Masking" else (9,)), masked, layers.LSTM(3)])
    with pytest.raises(SettingError, match=r"of variant 'masked' makes a mask.*: leave out mask_zero and Masking"):
        refuse_masks(network, variant="masked")


def test_a_network_without_an_input_is_refused(keras: Any) -> None:
    variant = Variant(name="bare", summary="", network=lambda: keras.Sequential([keras.layers.Dense(1)]), epochs=1)
    with pytest.raises(SettingError, match=r"variant 'bare' has no input: begin it with keras\.Input"):
        accelerate_for_training(variant, device=Device(kind="cpu", count=1, backend="tensorflow"), seed=0)


# What every variant takes on one GPU: cuDNN (no XLA) or XLA (no cuDNN), and the steps of an execution.
ON_A_GPU = {
    ("jena", "gru_baseline"): (True, False, 50),
    ("jena", "gru_dropout"): (False, True, 50),
    ("jena", "gru_stacked"): (True, False, 50),
    ("jena", "gru_bidirectional"): (True, False, 50),
    ("jena", "gru_daily"): (True, False, 1),
    ("jena", "ridge"): (False, True, 50),
    ("imdb", "gru_baseline"): (True, False, 50),
    ("imdb", "gru_dropout"): (False, True, 50),
    ("imdb", "simple_rnn"): (False, True, 50),
    ("imdb", "lstm"): (True, False, 50),
    ("imdb", "gru_bidirectional"): (True, False, 50),
    ("imdb", "gru_pooled"): (False, True, 1),
    ("imdb", "tfidf_logistic"): (False, True, 50),
}


def test_the_execution_of_every_variant_on_a_gpu(keras: Any) -> None:
    gpu = Device(kind="gpu", count=1, backend="tensorflow")
    executions = {
        (dataset, name): chosen(variant.network(), gpu, has_schedule=variant.schedule is not None)
        for dataset, problem in PROBLEMS.items()
        for name, variant in problem.variants.items()
    }
    assert {key: (one.use_cudnn, one.jit_compile, one.steps_per_execution) for key, one in executions.items()} == ON_A_GPU


def test_the_device_of_this_process(keras: Any) -> None:
    assert prepare_device(1, require_gpu=False) == Device(kind="cpu", count=1, backend="tensorflow")
    import tensorflow as tf

    assert tf.config.threading.get_intra_op_parallelism_threads() == 1


def test_a_required_gpu_that_is_not_there_is_refused(keras: Any) -> None:
    with pytest.raises(DeviceError, match="run on a GPU worker, install the CUDA build, or turn require_gpu off"):
        prepare_device(1, require_gpu=True)


def test_a_process_that_computes_keeps_its_threads(keras: Any) -> None:
    import tensorflow as tf

    keras.ops.convert_to_numpy(keras.ops.ones(2) + 1.0)
    assert prepare_device(3, require_gpu=False).threads == 3  # what a training makes of them is the execution's matter
    assert tf.config.threading.get_intra_op_parallelism_threads() == 1
    assert tf.config.threading.get_inter_op_parallelism_threads() == os.cpu_count()


def test_standard_error_is_there_again_afterwards(keras: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeviceError):
        prepare_device(1, require_gpu=True)
    os.write(2, b"still here\n")
    sys.stderr.flush()
    assert "still here" in capfd.readouterr().err


# --- compiled programs

STEP = """
import flows
from tasks.models.device import prepare_device

prepare_device(1, require_gpu=False)
import keras

keras.utils.set_random_seed(0)
network = keras.Sequential([keras.Input((9, 2)), keras.layers.GRU(3, use_cudnn=False), keras.layers.Dense(1)])
network.compile(optimizer="rmsprop", loss="mae", jit_compile=True)
inputs, targets = keras.ops.ones((4, 9, 2)), keras.ops.ones((4, 1))
print([float(network.train_on_batch(inputs, targets)).hex() for _ in range(3)])
"""


def steps_with(folder: Path, **more: str) -> str:
    root = Path(__file__).resolve().parents[2]
    environment = {"PYTHONPATH": str(root), "PATH": "", "HOME": str(folder), "XDG_CACHE_HOME": str(folder), **more}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STEP], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_a_program_is_compiled_once_and_gives_the_same_bits_from_its_file(tmp_path: Path) -> None:
    first = steps_with(tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "retrain" / "programs").rglob("*.pb")}
    assert kept
    assert steps_with(tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "retrain" / "programs").rglob("*.pb")} == kept


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    return monkeypatch


def test_the_folder_of_programs_is_its_owners_alone(flags: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flags.setenv("TF_XLA_FLAGS", "--tf_xla_clustering_debug=false")
    _cache_programs()
    kept, _, folder = os.environ["TF_XLA_FLAGS"].partition(" --tf_xla_persistent_cache_directory=")
    assert kept == "--tf_xla_clustering_debug=false"
    assert Path(folder).parent == tmp_path / "retrain" / "programs"
    assert Path(folder).stat().st_mode & 0o077 == 0
    _cache_programs()  # a second call finds a place chosen
    assert os.environ["TF_XLA_FLAGS"].count("persistent_cache") == 1


def test_a_place_that_a_person_chose_stays(flags: pytest.MonkeyPatch) -> None:
    flags.setenv("TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory=/elsewhere")
    _cache_programs()
    assert os.environ["TF_XLA_FLAGS"] == "--tf_xla_persistent_cache_directory=/elsewhere"


def test_without_a_folder_nothing_is_kept(flags: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "retrain").write_text("a file where the folder should be")
    _cache_programs()
    assert "TF_XLA_FLAGS" not in os.environ


def test_without_tensorflow_nothing_is_kept(flags: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    flags.setattr(importlib.metadata, "version", missing)
    _cache_programs()
    assert "TF_XLA_FLAGS" not in os.environ
