"""Reviews as the publisher lays them out: `train/pos/0_9.txt`, one text file a review, in a folder or in a .tar.gz."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.errors import DataError

# The longest published review has 14,000 characters.
MAX_REVIEW_BYTES = 2**17
# The publisher's archive has 100,000 reviews, half of them without a label, and some files more.
MAX_MEMBERS = 1_000_000

_LABEL_FOLDERS = {"pos": 1, "neg": 0}
_PART_FOLDERS = ("train", "test")


@dataclass(frozen=True)
class Review:
    """A labelled review as it was read.

    Attributes:
        label: 1 for a positive review, else 0.
        part: `train` or `test` where the review stands in a folder of that name.
    """

    text: str
    label: int
    part: str | None


def place_in_tree(parts: Sequence[str]) -> tuple[int, str | None] | None:
    """Return label and part of a text file by the folders that it is in, or None for another file.

    Args:
        parts: The path from the top, such as `("aclImdb", "train", "pos", "0_9.txt")`; at most one folder is above the parts.
    """
    *folders, name = parts
    if not folders or folders[-1] not in _LABEL_FOLDERS or not name.endswith(".txt") or name.startswith("."):
        return None
    above = folders[:-1]
    part = above.pop() if above and above[-1] in _PART_FOLDERS else None
    return (_LABEL_FOLDERS[folders[-1]], part) if len(above) <= 1 else None


def text_of(data: bytes, *, where: str) -> str:
    """Return text from its bytes: UTF-8, with or without a mark of it, else Windows-1252, which has all letters of latin-1.

    Raises:
        DataError: There is a NUL byte, as in UTF-16 and in what is no text, or a byte that is in neither of the two.
    """
    nul = data.find(b"\0")
    if nul >= 0:
        raise DataError(f"{where} holds a NUL byte at position {nul:,}: expected text; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where} holds the byte 0x{data[error.start]:02x} at position {error.start:,}, which is neither UTF-8 nor "
            "Windows-1252: expected text; save it as UTF-8"
        ) from None


def read_archive(path: Path, *, max_bytes: int) -> Iterator[Review]:
    """Yield the reviews of a .tar.gz in the order of its members. Nothing is unpacked to disk.

    Raises:
        DataError: It is damaged, has a link or a device among its reviews, or goes past a bound.
    """
    try:
        with gzip.open(path, "rb") as unpacked, tarfile.open(fileobj=_Bounded(unpacked, path, max_bytes), mode="r|") as archive:
            for number, member in enumerate(archive):
                if number >= MAX_MEMBERS:
                    raise DataError(f"{path.name} has more than {MAX_MEMBERS:,} members: pack the reviews alone")
                place = place_in_tree([part for part in member.name.split("/") if part not in ("", ".")])
                if place is None or member.isdir():
                    continue
                where = f"{member.name[:80]} in {path.name}"
                stream = archive.extractfile(member) if member.isreg() else None
                if stream is None:
                    raise DataError(f"{where} is no plain file: pack the reviews themselves in place of links")
                if member.size > MAX_REVIEW_BYTES:
                    raise DataError(f"{where} has {member.size:,} bytes, {MAX_REVIEW_BYTES:,} are allowed: split it")
                label, part = place
                yield Review(text=text_of(stream.read(), where=where), label=label, part=part)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"{path.name} is not readable as .tar.gz ({reason}): expected pos/ and neg/ in it; pack it again"
        ) from error


class _Bounded(io.RawIOBase):
    """A stream that refuses to unpack to more than a bound, so that a small archive cannot become a huge one."""

    def __init__(self, stream: gzip.GzipFile, path: Path, max_bytes: int) -> None:
        super().__init__()
        self._stream, self._path, self._left, self._max_bytes = stream, path, max_bytes, max_bytes

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes.

        Raises:
            DataError: There are more of them than allowed.
        """
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"{self._path.name} unpacks to more than {self._max_bytes:,} bytes: pack the reviews alone")
        return data
