"""Which kernel a variant takes on which device, and the refusal of a device that is not there."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from storage.errors import DeviceError
from tasks.models.device import Device, kernel_for, prepare_device
from tasks.models.spec import Kernel, Variant


@pytest.mark.parametrize(
    ("kind", "recurrent_dropout", "expected"),
    [
        ("gpu", False, Kernel(use_cudnn=True, jit_compile=False)),
        ("gpu", True, Kernel(use_cudnn=False, jit_compile=True)),
        ("cpu", False, Kernel(use_cudnn=False, jit_compile=True)),
        ("cpu", True, Kernel(use_cudnn=False, jit_compile=True)),
    ],
)
def test_cudnn_where_it_can_else_xla(kind: str, recurrent_dropout: bool, expected: Kernel) -> None:
    def network(kernel: Kernel) -> Any:
        raise AssertionError("a kernel is chosen without building the network")

    variant = Variant(name="any", summary="", network=network, epochs=1, cudnn=not recurrent_dropout)
    assert kernel_for(variant, device=Device(kind=kind, count=1, backend="tensorflow")) == expected


def test_the_device_of_this_process(keras: Any) -> None:
    assert prepare_device(1, require_gpu=False) == Device(kind="cpu", count=1, backend="tensorflow")
    import tensorflow as tf

    assert tf.config.threading.get_intra_op_parallelism_threads() == 1


def test_a_required_gpu_that_is_not_there_is_refused(keras: Any) -> None:
    with pytest.raises(DeviceError, match="run on a GPU worker, install the CUDA build, or turn require_gpu off"):
        prepare_device(1, require_gpu=True)


def test_a_process_that_computes_keeps_its_threads(keras: Any) -> None:
    keras.ops.convert_to_numpy(keras.ops.ones(2) + 1.0)
    with pytest.raises(DeviceError, match="other than 3 threads already"):
        prepare_device(3, require_gpu=False)
    assert prepare_device(1, require_gpu=False).count == 1


def test_standard_error_is_there_again_afterwards(keras: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeviceError):
        prepare_device(1, require_gpu=True)
    os.write(2, b"still here\n")
    sys.stderr.flush()
    assert "still here" in capfd.readouterr().err
