"""Read arrays from an `.npz` file that may come from anybody.

numpy stores an array of lists as a pickle, and a pickle is a program that can call anything it names. This reader runs that
program with nothing to call: the three names that such an array needs are inert recorders, every other name is refused, and
no object of numpy is given a state from the file.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import re
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import DataError
from storage.pickle_opcodes import RefusedPickleError, check_opcodes

MAX_MEMBERS = 16
MAX_UNPACKED_BYTES = 128 * 2**20
"""Bound on all members together; the archive of reviews that Keras publishes unpacks to about 29 MB."""

_BLOCK_BYTES = 1 << 20

_MEMBER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\.npy")
_READ_AHEAD_BYTES = 1 << 20

# What `numpy.ndarray.__reduce__` names for an array of lists. Two names of one function: numpy 2 moved it. `_codecs.encode` and
# `scalar` are left out: neither the published file nor a mirror of it names them (protocol 2 of Python 2, or protocol 3).
_RECONSTRUCT = frozenset({("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")})
_NDARRAY = ("numpy", "ndarray")
_DTYPE = ("numpy", "dtype")
_PLAIN = frozenset({list, tuple, dict, int, float, bool, str, bytes, type(None)})


class _Recorder:
    """A value without behaviour: no attributes can be set on it, and it cannot be called."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise RefusedPickleError("the state of an object that has none")


class _Array(_Recorder):
    """What the pickle says about the array, as the list of its elements."""

    __slots__ = ("items", "shape")

    def __init__(self) -> None:
        self.items: list[Any] | None = None
        self.shape: tuple[int, ...] = ()

    def __setstate__(self, state: object) -> None:
        # The state of `numpy.ndarray`: version, shape, dtype, Fortran order, list of elements.
        match state:
            case (int(), tuple() as shape, _Dtype(), False | 0, list() as items) if self.items is None:
                self.items, self.shape = items, shape
            case _:
                raise RefusedPickleError("an array that is not one list of Python objects")


class _Dtype(_Recorder):
    """The dtype of objects; its state says nothing that is needed."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Ignore the state: it holds only byte order and flags of object pointers."""


class _Ndarray(_Recorder):
    """The class itself, which `_reconstruct` is given and which nothing may call."""

    __slots__ = ()


class _Reconstruct(_Recorder):
    __slots__ = ("arrays",)

    def __init__(self) -> None:
        self.arrays: list[_Array] = []

    def __call__(self, *arguments: object) -> _Array:
        match arguments:
            case (_Ndarray(), (0,), b"b" | "b") if not self.arrays:
                self.arrays.append(_Array())
                return self.arrays[0]
        raise RefusedPickleError("an array within the array")


class _MakeDtype(_Recorder):
    __slots__ = ()

    def __call__(self, *arguments: object) -> _Dtype:
        match arguments:
            case ("O8" | "O4" | "|O" | "O", *_):
                return _Dtype()
        raise RefusedPickleError("a dtype other than that of Python objects")


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that resolves numpy's array constructors to recorders, and refuses every other name."""

    def __init__(self, stream: io.BufferedReader) -> None:
        super().__init__(stream)
        self._reconstruct = _Reconstruct()

    def find_class(self, module: str, name: str, /) -> Any:
        """Return the recorder for one of numpy's array constructors."""
        if (module, name) in _RECONSTRUCT:
            return self._reconstruct
        if (module, name) == _NDARRAY:
            return _Ndarray()
        if (module, name) == _DTYPE:
            return _MakeDtype()
        raise RefusedPickleError(f"the global {module}.{name}")

    def persistent_load(self, pid: Any, /) -> Any:
        """Refuse: an array in a file refers to nothing outside of it."""
        raise RefusedPickleError(f"the persistent id {str(pid)[:40]!r}")


def load_npz_arrays(path: Path, *, names: Collection[str]) -> dict[str, np.ndarray]:
    """Return the named arrays of an `.npz` file; arrays of objects have one dimension and plain Python values.

    The unpacked size is bounded, whatever the archive says of it, so a small file cannot unpack to a huge one. A pickle is read
    through once before it runs (`storage.pickle_opcodes`): it can allocate no more than a few times its own size.

    Raises:
        DataError: The file is no such archive, is cut off, lacks a name, goes past a bound, or a pickle in it names anything
            but numpy's array constructors, which is found before anything of it runs.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path=path, names=names)
            return {
                name: _read_array(_unpack(archive, member), where=f"member {member.filename!r} of {path.name}")
                for name, member in members.items()
            }
    except DataError:
        raise
    except Exception as error:  # zipfile raises a dozen types for damaged archives, zlib one more
        raise DataError(
            f"{path.name} cannot be read as an .npz archive ({_reason(error)}): expected a zip of arrays; fetch the file again"
        ) from error


def _members(archive: zipfile.ZipFile, *, path: Path, names: Collection[str]) -> dict[str, zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > MAX_MEMBERS:
        raise DataError(
            f"{path.name} has {len(entries)} members: expected at most {MAX_MEMBERS}; fetch the file again from its publisher"
        )
    for entry in entries:
        if not _MEMBER_NAME.fullmatch(entry.filename):
            raise DataError(f"{path.name} has a member {entry.filename[:80]!r}: expected plain names such as 'x_train.npy'")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_UNPACKED_BYTES:
        raise DataError(
            f"{path.name} unpacks to {unpacked:,} bytes: expected at most {MAX_UNPACKED_BYTES:,}; fetch the file again"
        )
    by_name = {entry.filename.removesuffix(".npy"): entry for entry in entries}
    if len(by_name) != len(entries):
        raise DataError(f"{path.name} has two members of the same name: expected each array once")
    missing = sorted(set(names) - set(by_name))
    if missing:
        present = ", ".join(sorted(by_name)) or "none"
        raise DataError(f"{path.name} has no array {', '.join(missing)}: expected {', '.join(sorted(names))}, found {present}")
    return {name: by_name[name] for name in names}


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a member, block by block: one call would let a block of a false size unpack to gigabytes."""
    with archive.open(member) as stream:
        return b"".join(iter(lambda: stream.read(_BLOCK_BYTES), b""))


def _read_array(body: bytes, *, where: str) -> np.ndarray:
    try:
        shape, fortran_order, dtype, start = _read_header(body)
        if dtype == np.dtype(object):
            return _read_objects(body[start:], shape=shape)
        if dtype.hasobject:
            raise RefusedPickleError(f"the dtype {dtype}")
        flat = np.frombuffer(body, dtype=dtype, offset=start)
        return flat.reshape(shape, order="F" if fortran_order else "C")
    except RefusedPickleError as error:
        raise DataError(
            f"{where} asks for {error}, which was refused before anything ran: expected numpy's array constructors and nothing "
            "else; do not use this file, fetch it again from its publisher"
        ) from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(f"{where} is damaged ({_reason(error)}): expected a whole .npy array; fetch the file again") from error


def _read_header(body: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    stream = io.BytesIO(body)
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of the .npy format")
    shape, fortran_order, dtype = readers[version](stream)
    return shape, fortran_order, dtype, stream.tell()


def _read_objects(body: bytes, *, shape: tuple[int, ...]) -> np.ndarray:
    check_opcodes(body)
    # A cached extension code would come back without passing through `find_class`.
    copyreg.clear_extension_cache()
    # Buffered, because the unpickler asks a stream that cannot peek for every opcode singly.
    loaded = _ArrayUnpickler(io.BufferedReader(io.BytesIO(body), _READ_AHEAD_BYTES)).load()
    if not isinstance(loaded, _Array) or loaded.items is None:
        raise RefusedPickleError("something that is no array")
    if loaded.shape != shape or shape != (len(loaded.items),):
        raise ValueError(f"{len(loaded.items)} objects for the shape {shape}")
    strangers = set(map(type, loaded.items)) - _PLAIN
    if strangers:
        raise RefusedPickleError("an element that is no plain Python value")
    array = np.empty(len(loaded.items), dtype=object)
    # One by one: numpy would read a list of lists of one length as a table.
    for position, item in enumerate(loaded.items):
        array[position] = item
    return array


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:120]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
