"""The Prefect tasks of ingestion: each wraps one function, and reads and writes through the store."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas import State
from prefect.events import emit_event
from prefect.runtime import deployment, flow_run

from storage.errors import DigestChangedError, MirrorError, RejectedError, SourceError
from storage.layout import Store
from storage.progress import shown, write_note
from storage.references import RawRef, TableRef
from storage.retries import wait_while_away
from tasks.config import DataSettings, mirror_address
from tasks.ingestion import fetching, pipeline
from tasks.ingestion.outcomes import rejection_markdown
from tasks.ingestion.pipeline import ParsedRef, ValidationRef

logger = logging.getLogger("retrain")
MIN_NOTE_INTERVAL_S = 0.3


def _may_succeed_later(task: Any, run: Any, state: State[Any]) -> bool:
    """Tell whether to retry: a host may be up again later.

    A run that a person started, at a terminal or in the UI, is not retried: that person would rather see the error at once.
    """
    del task, run
    error = state.result(raise_on_failure=False)
    passes = isinstance(error, SourceError) and not isinstance(error, DigestChangedError | MirrorError)
    return passes and deployment.id is not None and _is_unattended()


def _is_unattended() -> bool:
    """Tell whether a schedule or an automation has started the run."""
    with get_client(sync_client=True) as client:
        root = wait_while_away(client.read_flow_run)(UUID(str(flow_run.root_flow_run_id)))
    return bool(root.auto_scheduled) or bool(root.created_by and root.created_by.type == "AUTOMATION")


@task(
    task_run_name="fetch {dataset}",
    retries=3,
    retry_delay_seconds=[60, 300, 1800],
    retry_jitter_factor=0.5,
    retry_condition_fn=_may_succeed_later,
)
def fetch(dataset: str, settings: DataSettings) -> RawRef:
    """Fetch the raw files of a data set that the store does not have yet."""
    store = Store.from_environment()
    progress = _FetchProgress(dataset, file=store.progress(f"fetch-{dataset}"))
    raw = fetching.fetch_raw(dataset, settings=settings, store=store, mirror=mirror_address(), on_progress=progress)
    progress.close()
    if raw.simulated and settings.data == "auto":
        logger.warning("%s: no mirror is named and upstream cannot be reached: THE SAMPLE, A SIMULATION, STANDS IN", dataset)
    size = sum(file.size_bytes for file in raw.files) / 1e6
    files = "1 file" if len(raw.files) == 1 else f"{len(raw.files)} files"
    logger.info("%s: %s of source %s, %.1f MB", dataset, files, raw.source, size)
    return raw


class _FetchProgress:
    """Write the progress of a data set's downloads to a file, from which a terminal reads it."""

    def __init__(self, dataset: str, *, file: Path) -> None:
        self._title = f"fetch {dataset}"
        self._file = file
        self._written_s = 0.0

    def __call__(self, name: str, done_bytes: int, total_bytes: int | None) -> None:
        if time.monotonic() - self._written_s < MIN_NOTE_INTERVAL_S:
            return
        self._written_s = time.monotonic()
        total = "" if total_bytes is None else f" of {total_bytes / 1e6:.1f}"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        share = done_bytes / total_bytes if total_bytes else 0.0
        write_note(self._file, title=self._title, share=share, text=f"{name}: {done_bytes / 1e6:.1f}{total} MB")

    def close(self) -> None:
        """Remove the file."""
        self._file.unlink(missing_ok=True)


@task(task_run_name="find table")
def find_table(raw: RawRef) -> TableRef | None:
    """Return the table that was published from these raw files before, or None. Data Docs that it lacks are written."""
    table = pipeline.find_published_table(raw, store=Store.from_environment())
    if table:
        pipeline.write_missing_docs(table.dataset, store=Store.from_environment())
        logger.info("%s: nothing changed since table %s", raw.dataset, table.version)
    return table


@task(task_run_name="parse and repair")
def parse(raw: RawRef) -> ParsedRef:
    """Parse the raw files into canonical columns, and repair them by rule."""
    store = Store.from_environment()
    with shown(f"parse {raw.dataset}", file=store.progress(f"parse-{raw.dataset}")):
        return pipeline.parse_raw(raw, store=store)


@task(task_run_name="validate")
def validate(parsed: ParsedRef, settings: DataSettings) -> ValidationRef:
    """Validate the parsed data against the suite of expectations. A critical failure that nobody accepted ends the run."""
    store = Store.from_environment()
    try:
        with shown(f"validate {parsed.dataset}", file=store.progress(f"validate-{parsed.dataset}")):
            validation = pipeline.validate_parsed(parsed, settings=settings, store=store)
    except RejectedError as error:
        markdown = rejection_markdown(dataset=parsed.dataset, reasons=error.reasons, remedy=error.remedy, docs=error.docs)
        key = f"rejected-{parsed.dataset}" + ("-sample" if parsed.raw.simulated else "")
        wait_while_away(create_markdown_artifact)(markdown, key=key, description="What failed, and what to do")
        raise
    summary = f"{validation.passed} expectations passed, {validation.failed} failed"
    key = f"validation-{parsed.dataset}" + ("-sample" if parsed.raw.simulated else "")
    wait_while_away(create_markdown_artifact)(f"{summary}. Data Docs: `{validation.docs_uri}`", key=key, description=summary)
    logger.info("%s: %s", parsed.dataset, summary)
    for warning in validation.warnings:
        logger.warning("%s: %s", parsed.dataset, warning)
    if validation.acceptance:
        accepted = "; ".join(validation.acceptance["failures"])
        logger.warning(
            "%s: table %s is published although it is rejected, accepted by %s (%s): %s",
            parsed.dataset,
            parsed.version,
            validation.acceptance["by"],
            validation.acceptance["reason"],
            accepted,
        )
    return validation


@task(task_run_name="publish")
def publish(parsed: ParsedRef, validation: ValidationRef) -> TableRef:
    """Split, normalise and publish the table."""
    store = Store.from_environment()
    with shown(f"publish {parsed.dataset}", file=store.progress(f"publish-{parsed.dataset}")):
        table = pipeline.publish_parsed(parsed, validation=validation, store=store)
    logger.info("%s: published table %s: %s rows", table.dataset, table.version, table.rows)
    if table.published:
        _tell("published", table)
    return table


@task(task_run_name="check age")
def check_age(table: TableRef, settings: DataSettings) -> TableRef:
    """Mark a table as stale, with a warning and an event, if its source has brought nothing for longer than expected."""
    table = pipeline.with_age(table, settings=settings)
    if table.stale:
        _tell("stale", table)
        logger.warning(
            "%s: STALE: the newest reading is of %s, more than %d days ago: see whether the source is still kept, or has moved",
            table.dataset,
            table.newest,
            settings.stale_after_days,
        )
    return table


def _tell(what: str, table: TableRef) -> None:
    """Emit the event `retrain.table.published` or `retrain.table.stale`, which automations can react to."""
    emit_event(
        f"retrain.table.{what}",
        resource={"prefect.resource.id": f"retrain.table.{table.dataset}", "prefect.resource.name": table.dataset},
        payload={"version": table.version, "newest": table.newest, "rows": table.rows, "simulated": table.simulated},
    )


@task(task_run_name="write data docs")
def document(table: TableRef) -> None:
    """Write the Data Docs of a table that was just published."""
    store = Store.from_environment()
    with shown(f"write the Data Docs of {table.dataset}", file=store.progress(f"document-{table.dataset}")):
        pipeline.write_missing_docs(table.dataset, store=store)
