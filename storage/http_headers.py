"""Headers of hosts, which may hold anything: what is kept of them, and what is sent back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Validators:
    """What a host says about the version of a file, for conditional requests."""

    etag: str | None = None
    last_modified: str | None = None

    @classmethod
    def of(cls, etag: object, last_modified: object) -> Self:
        """Return what a host, or a note of an earlier time, says; what no header can carry back to the host is left out."""
        return cls(sendable(etag), sendable(last_modified))

    @property
    def for_range(self) -> str | None:
        """The validator that `If-Range` admits: a strong ETag, else the date."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified

    @property
    def headers(self) -> dict[str, str]:
        """The header of a request that is answered with 304 while the file is this version."""
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.last_modified} if self.last_modified else {}


def sendable(value: object) -> str | None:
    """Return the value of a header if it consists of printable ASCII characters, else None."""
    return value if isinstance(value, str) and value.isascii() and value.isprintable() else None


def number_of(value: str) -> int | None:
    """Return the number that a header gives in ASCII digits; Python's `isdigit` takes `²` for one too."""
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else None
