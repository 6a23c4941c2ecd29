"""How far a training on a worker is, on the page of the run that waits for it."""

import logging
import time
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
)
from prefect.client.schemas.sorting import ArtifactSort

logger = logging.getLogger("retrain")

LOOK_EVERY_S = 10


class ChildProgress:
    """Shows the newest progress artifact of another run as one of this run, and logs each epoch that it sees."""

    def __init__(self, run_id: UUID) -> None:
        """Follow a run."""
        self._run_id = run_id
        self._own: UUID | None = None
        self._shown: tuple[float, str | None] | None = None
        self._told = ""
        self._next_s = 0.0

    def look(self, *, at_once: bool = False) -> None:
        """Show what there is, at most every `LOOK_EVERY_S`; a server that does not answer is asked again later.

        Args:
            at_once: Whether to look although the last look was a moment ago, as at the end.
        """
        if time.monotonic() < self._next_s and not at_once:
            return
        self._next_s = time.monotonic() + LOOK_EVERY_S
        try:
            self._copy()
        except httpx.HTTPError:
            return

    def _copy(self) -> None:
        with get_client(sync_client=True) as client:
            found = client.read_artifacts(
                artifact_filter=ArtifactFilter(
                    flow_run_id=ArtifactFilterFlowRunId(any_=[self._run_id]), type=ArtifactFilterType(any_=["progress"])
                ),
                sort=ArtifactSort.UPDATED_DESC,
                limit=1,
            )
        if not found or not isinstance(found[0].data, int | float):
            return
        now = float(found[0].data), found[0].description
        if self._own is None:
            key = f"training-{(found[0].key or 'network').removeprefix('progress-')}"
            made = create_progress_artifact(now[0], key=key, description=now[1])
            self._own = made if isinstance(made, UUID) else None
        elif now != self._shown:
            update_progress_artifact(self._own, now[0], description=now[1])
        self._shown = now
        text = now[1] or ""
        epoch = text.partition(", ")[0]
        if ": epoch " in epoch and epoch != self._told:
            self._told = epoch
            logger.info(text)
