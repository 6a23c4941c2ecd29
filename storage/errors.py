"""Errors that a person can fix; they are shown as one line, without a traceback."""

from __future__ import annotations

from collections.abc import Iterable

from storage.redaction import printable, redact


class RetrainError(Exception):
    """An error of input or environment; its message says what, where, what was expected, and what to do, and no password."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(redact(message)))


class SettingError(RetrainError):
    """A setting has a value that is not allowed."""


class DiskError(SettingError, OSError):
    """A disk refused something. It is an `OSError` too, for those who can do without the file."""


class NoAnswerError(RetrainError, OSError):
    """A server does not answer. It is an `OSError` too, for those who ask it again or can do without it."""


class SourceError(RetrainError):
    """A source could not be reached, or sent something else than the file."""


class NotFoundError(SourceError):
    """The hosts answered, and have no such file.

    Attributes:
        tried: Name of the file, address, and what came of it, for every address; empty where there is only one place.
    """

    def __init__(self, message: str, *, tried: Iterable[tuple[str, str, str]] = ()) -> None:
        super().__init__(message)
        self.tried = tuple(tried)


class MirrorError(SourceError):
    """The mirror that a person named is none, which time does not mend."""


class DigestChangedError(SourceError):
    """A file has another digest than the one that was locked on first use."""


class DataError(RetrainError):
    """Stored or fetched data does not have the form or content that its layout requires."""


class RejectedError(RetrainError):
    """Critical expectations failed, so nothing was published.

    Attributes:
        reasons: What failed, one sentence each; empty where the message says it all.
        remedy: What a person can do.
        docs: Address of the Data Docs, which show each failure.
    """

    def __init__(self, message: str = "", *, reasons: Iterable[str] = (), remedy: str = "", docs: str = "") -> None:
        super().__init__(message)
        self.reasons, self.remedy, self.docs = tuple(reasons), remedy, docs


class RegistryError(RetrainError):
    """A model, version or alias is not in the registry, or the registry cannot be used."""


class ReplacedError(RetrainError):
    """Another run has taken over the work of this one, whose host was not heard of; this one must write nothing more."""


class DeviceError(RetrainError):
    """This host lacks the device that a run requires."""


def unknown(kind: str, value: object, *, where: str, choices: Iterable[object]) -> SettingError:
    """Return the error for a name that is not among the allowed ones."""
    listed = ", ".join(sorted(str(choice) for choice in choices))
    return SettingError(f"unknown {kind} {str(value)!r} for {where}: choose {listed}")
