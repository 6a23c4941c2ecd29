"""Rejected data: what a person is told, and whether a named person has accepted it for one table version."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tasks.config import DataSettings
from tasks.datasets.spec import Expectation, Repair


def excess_text(repair: Repair) -> str:
    """Return what a person is told of a repair that is above its limit."""
    return f"{repair.name}: {repair.count:,}, a share of {repair.share:.4f}, expected at most {repair.limit:g} ({repair.rule})"


def acceptance(
    settings: DataSettings, *, version: str, excessive: Sequence[Repair], critical: Sequence[Expectation]
) -> dict[str, Any] | None:
    """Return who accepts the failures of a table version, when and why; None: nobody, or one of them cannot be accepted."""
    if version not in settings.accept_failures or not all(expectation.can_be_accepted for expectation in critical):
        return None
    return {
        "version": version,
        "by": settings.accepted_by,
        "reason": settings.accept_reason,
        "at": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "failures": [repair.name for repair in excessive] + [expectation.meaning for expectation in critical],
    }


def remedy(settings: DataSettings, *, version: str, critical: Sequence[Expectation]) -> str:
    """Return what a person can do about rejected data."""
    fixed = [expectation.meaning for expectation in critical if not expectation.can_be_accepted]
    if fixed:
        return f"nobody can accept this, because tables and models rest on it: {fixed[0].rstrip('.')}; correct the data upstream"
    option = f'--accept-failures {version} --reason "..."'
    if settings.accept_failures:
        others = ", ".join(settings.accept_failures)
        return f"the failures accepted are those of {others}, and this is {version}: correct the data, or accept it with {option}"
    return f"correct the data upstream, raise a limit, or accept this one version with {option}"
