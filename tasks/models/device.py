"""The device that a training runs on, and where its compiled programs are cached."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import DeviceError
from storage.layout import programs_folder
from storage.library_variables import set_library_variables


@dataclass(frozen=True)
class Device:
    """What Keras found.

    Attributes:
        kind: `gpu` or `cpu`.
        count: How many of them.
        backend: Keras's backend.
        threads: Threads of one training on a CPU.
    """

    kind: str
    count: int
    backend: str
    threads: int = 1


def prepare_device(threads: int, *, require_gpu: bool) -> Device:
    """Set threads and memory growth before anything is computed, and tell which device is there.

    Args:
        threads: Threads of one training on a CPU, among which `engine` may shard a batch.
        require_gpu: Refuse a CPU.

    Raises:
        DeviceError: A GPU is required and there is none.
    """
    import_keras()
    with _native_stderr_silenced():
        import keras

        backend = keras.backend.backend()
        gpus = _tensorflow_gpus() if backend == "tensorflow" else _jax_gpus()
    if require_gpu and not gpus:
        raise DeviceError(
            "require_gpu is on, but this host shows no GPU to "
            f"{backend}: run on a GPU worker, install the CUDA build, or turn require_gpu off"
        )
    return Device(kind="gpu" if gpus else "cpu", count=len(gpus) or 1, backend=backend, threads=threads)


def import_keras() -> None:
    """Import Keras and its backend, which takes seconds, with all set that they read as they are imported."""
    set_library_variables()
    _cache_programs()
    with _native_stderr_silenced():
        import keras  # noqa: F401


def _cache_programs() -> None:
    """Cache compiled XLA programs on disk, so that the next process loads them: a program takes seconds to compile.

    TensorFlow files programs by their content; the folder tells apart what else they depend on, its version and the
    processor, because a program of one processor may not run on another.
    """
    flags = os.environ.get("TF_XLA_FLAGS", "")
    try:
        version = importlib.metadata.version("tensorflow")
    except importlib.metadata.PackageNotFoundError:  # another backend of Keras
        return
    if "persistent_cache" in flags:  # a person chose a place
        return
    cpuinfo = Path("/proc/cpuinfo")
    processor = cpuinfo.read_text(encoding="utf-8").split("\n\n")[0] if cpuinfo.is_file() else platform.processor()
    same = [line for line in processor.splitlines() if line.startswith(("model name", "flags", "Features"))]
    mark = hashlib.sha256("\n".join([version, platform.machine(), *same]).encode())
    folder = programs_folder(mark.hexdigest()[:16])
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_ours = folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK)
    except OSError:  # a home that cannot be written to
        return
    if is_ours and " " not in str(folder):
        os.environ["TF_XLA_FLAGS"] = f"{flags} --tf_xla_persistent_cache_directory={folder}".strip()


@contextmanager
def _native_stderr_silenced() -> Iterator[None]:
    """Keep what compiled code prints while it loads from the terminal: its log level is not heeded that early.

    Python's own exceptions are not printed through the descriptor and come out as ever.
    """
    try:
        saved = os.dup(2)
    except OSError:  # a service without standard error
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _tensorflow_gpus() -> list[Any]:
    import tensorflow as tf

    # One model a width means one trace each; TensorFlow takes that for an oversight and says so at length.
    tf.get_logger().setLevel("ERROR")
    # The operations of a recurrent step are too small to be shared: with two threads each they take a third longer. Operations
    # beside each other are what a training with several threads has, and each process may come to such a one.
    with suppress(RuntimeError):  # TensorFlow refuses a change once it has computed: the process keeps what it has
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count() or 1)
    gpus = list(tf.config.list_physical_devices("GPU"))
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    return gpus


def _jax_gpus() -> list[Any]:
    import jax  # type: ignore[import-not-found]

    return [device for device in jax.devices() if device.platform == "gpu"]
