"""What is known of a file before its digest is computed, so that a wrong one is refused as it comes."""

from __future__ import annotations

from dataclasses import dataclass

from storage.errors import SourceError

_HTML = (b"<!doctype html", b"<html", b"<head", b'<?xml version="1.0" encoding="utf-8"?><!doctype html')


@dataclass(frozen=True)
class ExpectedFile:
    """What is known of a file before its digest is computed.

    Attributes:
        max_bytes: A larger file is refused, and its transfer stopped.
        size_bytes: Exact size where it is known.
        magic: First bytes.
    """

    name: str
    max_bytes: int
    size_bytes: int | None = None
    magic: bytes = b""

    def check(self, head: bytes, size_bytes: int | None, *, where: str) -> None:
        """Check the first bytes, then the size where it is known, so that a page of HTML is called one and not a wrong size.

        Raises:
            SourceError: They are not those of the file.
        """
        source = f"{self.name} from {where}"
        if not head:
            raise SourceError(f"{source} is empty: fetch a whole copy")
        if not (self.magic and head.startswith(self.magic)):
            if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML):
                raise SourceError(
                    f"{source} is an HTML page, expected the file: "
                    "open the address in a browser to see which page (a login, an error?)"
                )
            if self.magic:
                first_bytes = head[: len(self.magic)]
                raise SourceError(f"{source} begins with {first_bytes!r}, expected {self.magic!r}: fetch a whole copy")
        if size_bytes is None:
            return
        if size_bytes > self.max_bytes:
            raise SourceError(f"{source} has {size_bytes} bytes, {self.max_bytes} are allowed: check the source")
        if self.size_bytes is not None and size_bytes != self.size_bytes:
            raise SourceError(f"{source} has {size_bytes} bytes, expected {self.size_bytes}: fetch a whole copy")
