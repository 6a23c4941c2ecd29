"""Which runs of Prefect can go: old ones that have ended, but the newest of each deployment and those that made a champion."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks.retention.settings import RetentionSettings


@dataclass(frozen=True)
class EndedRun:
    """A run of Prefect that has ended.

    Attributes:
        group: Its deployment, or its flow where it has none.
        ended: When it ended.
    """

    run_id: str
    name: str
    group: str
    ended: datetime


def old_runs(
    runs: Iterable[EndedRun], *, made_champions: Collection[str], settings: RetentionSettings, now: datetime
) -> tuple[EndedRun, ...]:
    """Return the runs that can go, the oldest first.

    Args:
        runs: Every run that has ended and has no parent; children go with their parent.
        made_champions: Ids of the runs that made a version with an alias.
        settings: Age, and how many of each group stay.
        now: The time.
    """
    groups: dict[str, list[EndedRun]] = {}
    for run in sorted(runs, key=lambda run: run.ended, reverse=True):
        groups.setdefault(run.group, []).append(run)
    cutoff = now - timedelta(days=settings.older_than_days)
    old = [run for group in groups.values() for run in group[settings.keep :] if run.ended < cutoff]
    return tuple(sorted((run for run in old if run.run_id not in made_champions), key=lambda run: run.ended))
