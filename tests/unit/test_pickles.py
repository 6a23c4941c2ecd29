"""The restricted reader of pickled arrays: what it reads, and what it never runs."""

from __future__ import annotations

import copyreg
import io
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import pickles
from storage.errors import DataError
from storage.pickle_opcodes import check_opcodes
from storage.pickles import load_npz_arrays

RAN: list[str] = []


def record_call(text: str = "") -> str:
    """What the hostile pickles try to call, where they can reach this process."""
    RAN.append(text)
    return text


class Calls:
    """Pickles to a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@pytest.fixture(autouse=True)
def _nothing_ran() -> Any:
    RAN.clear()
    yield
    assert RAN == []


def objects(*items: Any) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for position, item in enumerate(items):
        array[position] = item
    return array


def header(shape: tuple[int, ...] = (1,), descr: Any = "|O") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def npz(folder: Path, **members: bytes) -> Path:
    path = folder / "arrays.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(f"{name}.npy", body)
    return path


def read_pickle(folder: Path, body: bytes, shape: tuple[int, ...] = (1,)) -> np.ndarray:
    return load_npz_arrays(npz(folder, x=header(shape) + body), names=["x"])["x"]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_lists_come_back_whatever_the_protocol(tmp_path: Path, protocol: int) -> None:
    body = pickle.dumps(objects([1, 2, 300_000], [], [7]), protocol=protocol)
    assert read_pickle(tmp_path, body, shape=(3,)).tolist() == [[1, 2, 300_000], [], [7]]


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    # As Python 2 wrote it: the type code is a short string, the flags are whole numbers.
    body = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
        b"\x89](](K\x05K\x06eetb."
    )
    assert read_pickle(tmp_path, body).tolist() == [[5, 6]]


def test_lists_of_one_length_stay_lists(tmp_path: Path) -> None:
    array = read_pickle(tmp_path, pickle.dumps(objects([1, 2], [3, 4]), protocol=4), shape=(2,))
    assert array.shape == (2,)
    assert array[1] == [3, 4]


def test_numbers_come_without_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "numbers.npz"
    table = np.asfortranarray(np.array([[1, 2, 3], [4, 5, 6]], dtype=np.int64))
    np.savez_compressed(path, y=np.array([0, 1, 1]), table=table)
    arrays = load_npz_arrays(path, names=["y", "table"])
    assert arrays["y"].tolist() == [0, 1, 1]
    assert arrays["table"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_only_the_named_members_are_opened(tmp_path: Path) -> None:
    path = npz(tmp_path, x=header((0,), "<i8"), hostile=header() + pickle.dumps(Calls(record_call)))
    assert load_npz_arrays(path, names=["x"])["x"].tolist() == []


def stack_global(module: str, name: str) -> bytes:
    parts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return b"\x80\x04" + parts + b"\x93"


HOSTILE = {
    "global and reduce": (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
    "stack global": (stack_global("os", "system") + b"\x8c\x04true\x85R.", "os.system"),
    "inst": (b"(S'1'\nibuiltins\neval\n.", "builtins.eval"),
    "obj": (b"(cbuiltins\neval\nS'1'\no.", "builtins.eval"),
    "newobj": (b"\x80\x02csubprocess\nPopen\n(S'true'\nt\x81.", "subprocess.Popen"),
    "attribute of an admitted class": (stack_global("numpy", "ndarray.tofile") + b".", "numpy.ndarray.tofile"),
    "numpy, but no constructor": (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
    "codec": (b"c_codecs\nencode\n(S'b'\nS'rot13'\ntR.", "_codecs.encode"),
    "persistent id": (b"Pthing\n.", "the persistent id 'thing'"),
    "binary persistent id": (b"S'thing'\nQ.", "the persistent id 'thing'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_by_name(tmp_path: Path, name: str) -> None:
    body, named = HOSTILE[name]
    with pytest.raises(DataError, match=r"member 'x\.npy' of arrays\.npz") as caught:
        read_pickle(tmp_path, body)
    assert named in str(caught.value)
    assert "expected numpy's array constructors" in str(caught.value)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_call_within_the_array_is_refused(tmp_path: Path, protocol: int) -> None:
    body = pickle.dumps(objects([1, Calls(record_call, "ran")]), protocol=protocol)
    with pytest.raises(DataError, match=r"record_call|_codecs"):
        read_pickle(tmp_path, body)


def test_a_cached_extension_code_is_refused(tmp_path: Path) -> None:
    copyreg.add_extension(__name__, "record_call", 240)
    try:
        copyreg._extension_cache[240] = record_call  # as a load of it elsewhere leaves behind; no look-up goes past it
        with pytest.raises(DataError, match="record_call"):
            read_pickle(tmp_path, b"\x80\x02\x82\xf0)R.")
    finally:
        copyreg.remove_extension(__name__, "record_call", 240)


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
NDARRAY = b"cnumpy\nndarray\n"
EMPTY = b"\x80\x03" + RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01b\x87R"
DTYPE = b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x89\x88\x87R"

MISUSED = {
    "an array of four billion bytes": NDARRAY + b"(J\xff\xff\xff\x7ftR.",
    "a dtype of its own": b"cnumpy\ndtype\nX\x02\x00\x00\x00V8\x89\x88\x87R.",
    "an array that was never filled": EMPTY + b".",
    "bytes taken for object pointers": EMPTY + b"(K\x01K\x01\x85" + DTYPE + b"\x89C\x08AAAAAAAAtb.",
    "state for the constructor": RECONSTRUCT + b"}b.",
    "a constructor as an element": EMPTY + b"(K\x01K\x01\x85" + DTYPE + b"\x89]" + NDARRAY + b"atb.",
    "an array in the array": b"\x80\x03" + RECONSTRUCT + b"(" + NDARRAY + b"K\x00\x85C\x01bt\x81.",
    "no array": b"](K\x01e.",
    "another number of elements": EMPTY + b"(K\x01K\x01\x85" + DTYPE + b"\x89](K\x01K\x02etb.",
}


@pytest.mark.parametrize("name", MISUSED)
def test_an_admitted_name_cannot_be_misused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"member 'x\.npy' of arrays\.npz"):
        read_pickle(tmp_path, MISUSED[name])


def test_nested_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an array within the array"):
        read_pickle(tmp_path, pickle.dumps(objects(objects([1])), protocol=4))


def test_a_dtype_with_hidden_objects_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path, x=header((1,), [("a", "|O")]) + b"A" * 8)
    with pytest.raises(DataError, match="the dtype"):
        load_npz_arrays(path, names=["x"])


@given(cut=st.integers(min_value=0, max_value=400))
def test_a_member_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    whole = header((2,)) + pickle.dumps(objects([1, 2, 3], [4]), protocol=4)
    path = npz(tmp_path_factory.mktemp("cut"), x=whole[: min(cut, len(whole) - 1)])
    with pytest.raises(DataError, match="damaged"):
        load_npz_arrays(path, names=["x"])


@pytest.mark.parametrize("body", [b"", b"<!DOCTYPE html><html></html>", b"PK\x03\x04" + bytes(60)])
def test_what_is_no_archive_is_refused(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "imdb.npz"
    path.write_bytes(body)
    with pytest.raises(DataError, match=r"imdb\.npz cannot be read as an \.npz archive"):
        load_npz_arrays(path, names=["x"])


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path, x=header((2,), "<i8") + bytes(16))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="cannot be read"):
        load_npz_arrays(path, names=["x"])


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "stored.npz"
    np.savez(path, x=np.arange(1_000))
    body = bytearray(path.read_bytes())
    body[4_000] ^= 1
    path.write_bytes(bytes(body))
    with pytest.raises(DataError, match="CRC"):
        load_npz_arrays(path, names=["x"])


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    path = npz(tmp_path, x=header((0,), "<i8"))
    with pytest.raises(DataError, match=r"has no array y: expected x, y, found x"):
        load_npz_arrays(path, names=["x", "y"])


@pytest.mark.parametrize("name", ["../x.npy", "folder/x.npy", "x.txt", "/x.npy", "x" * 70 + ".npy"])
def test_a_member_of_another_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "arrays.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(DataError, match="expected plain names"):
        load_npz_arrays(path, names=["x"])


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    path = npz(tmp_path, **{f"x{number}": b"" for number in range(17)})
    with pytest.raises(DataError, match="17 members: expected at most 16"):
        load_npz_arrays(path, names=["x1"])


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_UNPACKED_BYTES", 99)
    path = npz(tmp_path, x=bytes(60), y=bytes(40))
    with pytest.raises(DataError, match="unpacks to 100 bytes: expected at most 99"):
        load_npz_arrays(path, names=["x"])


def test_a_header_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path, x=header((10**12,), "<i8") + bytes(16))
    with pytest.raises(DataError, match="damaged"):
        load_npz_arrays(path, names=["x"])


def peak_of(script: str, *arguments: str) -> tuple[str, int]:
    """What a process prints, and the most memory that it held, in bytes."""
    # Not `ru_maxrss`, which a process takes over from the one that starts it.
    peak = "next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))"
    code = f"import sys\n{script}\nprint(int({peak}) * 1024)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    *lines, most = done.stdout.splitlines()
    return "\n".join(lines), int(most)


READ = """
from pathlib import Path
from storage.errors import DataError
from storage.pickle_opcodes import check_opcodes
from storage.pickles import load_npz_arrays
try:
    print(load_npz_arrays(Path(sys.argv[1]), names=["x"])["x"].shape)
except DataError as error:
    print(error)
"""
MAX_PEAK_BYTES = 600 * 2**20


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\x80\x03]r\x00\x00\x00\x12.", "a place in the memo beyond 16,777,216"),  # a place in the memo of 300 million entries
        (b"\x80\x03]p300000000\n.", "a place in the memo of more than eight digits"),
        (b"\x80\x04\x8e\x00\x00\x00\x12\x00\x00\x00\x00.", "a text or number of 301,989,888 bytes"),
        (b"\x80\x04\x8b\x00\x00\x00\x12.", "a text or number of 301,989,888 bytes"),
        (b"\x80\x03" + b"}" * 300 + b".", "more than 200 instructions that are not of lists and numbers"),
        (b"\x80\x03](K", "ends in the middle"),
        (b"\x80\x03](K\x01", "no end"),
    ],
)
def test_a_pickle_that_asks_for_much_is_refused_before_it_gets_it(tmp_path: Path, body: bytes, said: str) -> None:
    printed, peak = peak_of(READ, str(npz(tmp_path, x=header() + body)))
    assert said in printed
    assert peak < MAX_PEAK_BYTES


def test_a_member_that_unpacks_to_more_than_the_archive_says_is_bounded(tmp_path: Path) -> None:
    path = npz(tmp_path, x=header((400 * 2**20,), "|i1") + bytes(400 * 2**20))
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # the size unpacked, in both headers of the member
        start = content.rindex(mark) + offset
        content[start : start + 4] = (1_000).to_bytes(4, "little")
    path.write_bytes(content)
    printed, peak = peak_of(READ, str(path))
    assert "x.npy" in printed or "cannot be read" in printed
    assert peak < MAX_PEAK_BYTES


@given(st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=30), min_size=1, max_size=30), st.sampled_from([2, 3, 4, 5]))
def test_what_a_pickle_of_lists_of_numbers_consists_of_is_known(items: list[list[int]], protocol: int) -> None:
    check_opcodes(pickle.dumps(objects(*items), protocol=protocol))
