"""The faults that a person can mend, told without a traceback."""

from __future__ import annotations

from collections.abc import Iterable


class RetrainError(Exception):
    """A fault of input or environment: what, where, what was expected, what to do."""


class SettingError(RetrainError):
    """A value that a person gave is not one of those that can be."""


class SourceError(RetrainError):
    """A source could not be reached, or what it sent is not what was asked for."""


class DigestChangedError(SourceError):
    """A locked file has other bytes than those that were locked on first use."""


class DataError(RetrainError):
    """Raw data does not have the form or the content that its layout promises."""


class RejectedError(RetrainError):
    """Critical expectations failed: nothing was published."""


class RegistryError(RetrainError):
    """A model, version or alias that was asked for is not in the registry."""


class DeviceError(RetrainError):
    """The device that a run requires is not there."""


def unknown(kind: str, value: object, *, where: str, choices: Iterable[object]) -> SettingError:
    """Return the error for a name that is not in a closed list of names."""
    listed = ", ".join(sorted(str(choice) for choice in choices))
    return SettingError(f"unknown {kind} {str(value)!r} for {where}: choose {listed}")
