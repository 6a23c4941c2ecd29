"""What MLflow keeps of trainings that nobody can use any more, and its removal, files first."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from upath import UPath

from storage.artifacts import stored_at
from storage.inventory import remove, size_of
from storage.layout import Store
from storage.mlflow_compat import pages, quiet, translate_mlflow_errors
from storage.records import ModelVersion
from storage.registry import Registry

# Tag of every run that this project registers; runs of others in the same MLflow are none of its business.
KEY_TAG, COMPLETE_TAG = "training_key", "complete"


@dataclass(frozen=True)
class Leftover:
    """A training in MLflow: its run, with its logged models and versions.

    Attributes:
        numbers: Versions of the registered model that it made.
        places: Folders of its files in the store.
    """

    model: str
    run_id: str
    run_name: str
    numbers: tuple[int, ...]
    model_ids: tuple[str, ...]
    places: tuple[UPath, ...]
    reason: str

    @property
    def size_bytes(self) -> int:
        """The bytes of its files."""
        return sum(size_of(place) for place in self.places)


def end_trainings(flow_run_ids: Collection[str], *, registry: Registry) -> None:
    """Mark the unfinished runs of MLflow that some killed runs of Prefect have left as killed, and their models as failed."""
    from mlflow.entities import LoggedModelStatus, ViewType

    client = registry.client
    with quiet(), translate_mlflow_errors("cannot end the runs of killed trainings"):
        experiments = [each.experiment_id for each in pages(client.search_experiments)]
        for run in pages(client.search_runs, experiments, "attributes.status = 'RUNNING'", ViewType.ACTIVE_ONLY):
            if KEY_TAG not in run.data.tags or run.data.tags.get("flow_run_id") not in flow_run_ids:
                continue
            for model in client.search_logged_models(
                [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
            ):
                if model.status == LoggedModelStatus.PENDING:
                    client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
            client.set_terminated(run.info.run_id, status="KILLED")


@dataclass(frozen=True)
class _Run:
    run_id: str
    name: str
    status: str
    is_deleted: bool
    since: datetime
    place: UPath | None


class RegistryCleanup:
    """Finds and removes trainings in one MLflow database or server."""

    def __init__(self, client: Any, *, store: Store, address: str | None) -> None:
        """Wrap an MLflow client; a server (address None) marks runs as deleted, and its database alone forgets them."""
        self._client = client
        self._store = store
        self._address = address

    @classmethod
    def of(cls, registry: Registry, *, store: Store) -> RegistryCleanup:
        """Return the cleanup of an open registry."""
        client = registry.client
        address = str(client.tracking_uri)
        return cls(client, store=store, address=None if address.startswith(("http://", "https://")) else address)

    @property
    def forgets(self) -> bool:
        """Tell whether what is removed is gone for good: behind a server its rows and files stay, marked as deleted."""
        return self._address is not None

    def leftovers(self, model: str, *, failed_before: datetime, old_before: datetime) -> tuple[Leftover, ...]:
        """Return the trainings of a registered model without a usable version.

        These are runs that were deleted, or that failed or were killed on the way, before `failed_before`, and runs whose version
        a person has deleted, which ended before `old_before`.
        """
        with quiet(), translate_mlflow_errors(f"cannot list the runs of {model}"):
            numbers, complete = self._numbers(model)
            runs = list(self._runs(model))
            deleted = self._deleted_before(failed_before)
            models = self._models(model)
        leftovers = []
        for run in runs:
            reason = ""
            if run.run_id in complete:
                continue
            if run.is_deleted:
                reason = "its run was deleted" if run.run_id in deleted else ""
            elif run.status != "FINISHED" or run.run_id in numbers:
                reason = "it was never finished" if run.since < failed_before else ""
            elif run.since < old_before:
                reason = "its version was deleted"
            if reason:
                leftovers.append(self._leftover(model, run, numbers=numbers, models=models, reason=reason))
        return tuple(leftovers)

    def trainings_of(self, versions: Sequence[ModelVersion], *, reason: str) -> tuple[Leftover, ...]:
        """Return the trainings of some versions of one model, for their removal."""
        if not versions:
            return ()
        model, wanted = versions[0].name, {version.run_id for version in versions}
        with quiet(), translate_mlflow_errors(f"cannot list the runs of {model}"):
            numbers, _ = self._numbers(model)
            runs = [run for run in self._runs(model) if run.run_id in wanted]
            models = self._models(model)
        return tuple(self._leftover(model, run, numbers=numbers, models=models, reason=reason) for run in runs)

    def remove(self, leftover: Leftover) -> None:
        """Remove a training: versions, files, rows. Cut off on the way, it is a deleted run, or one without a version."""
        from mlflow.exceptions import MlflowException

        with quiet(), translate_mlflow_errors(f"cannot remove run {leftover.run_id} of {leftover.model}"):
            for number in leftover.numbers:
                with suppress(MlflowException):  # gone already
                    self._client.delete_model_version(leftover.model, str(number))
            with suppress(MlflowException):
                self._client.delete_run(leftover.run_id)
            for model_id in leftover.model_ids:
                with suppress(MlflowException):
                    self._client.delete_logged_model(model_id)
            if not self.forgets:
                return
            for place in leftover.places:
                remove(place)
            rows = self._rows()
            for model_id in leftover.model_ids:
                with suppress(MlflowException):
                    rows._hard_delete_logged_model(model_id)
            with suppress(MlflowException):
                rows._hard_delete_run(leftover.run_id)

    def _rows(self) -> Any:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        return SqlAlchemyStore(self._address, str(self._store.artifacts))

    def _deleted_before(self, moment: datetime) -> set[str]:
        if not self.forgets:
            return set()
        age_ms = max(0, int((datetime.now(tz=UTC) - moment).total_seconds() * 1000))
        return set(self._rows()._get_deleted_runs(older_than=age_ms))

    def _numbers(self, model: str) -> tuple[dict[str, list[int]], set[str]]:
        """Return the versions that each run made, and the runs of complete ones."""
        numbers: dict[str, list[int]] = {}
        complete = set()
        for entry in pages(self._client.search_model_versions, f"name = '{model}'"):
            numbers.setdefault(entry.run_id, []).append(int(entry.version))
            if entry.tags.get(COMPLETE_TAG) == "true":
                complete.add(entry.run_id)
        return numbers, complete

    def _runs(self, model: str) -> Iterator[_Run]:
        from mlflow.entities import ViewType

        experiment = self._client.get_experiment_by_name(model)
        if experiment is None:
            return
        for run in pages(self._client.search_runs, [experiment.experiment_id], "", ViewType.ALL):
            if KEY_TAG in run.data.tags:
                yield _Run(
                    run_id=run.info.run_id,
                    name=run.info.run_name,
                    status=run.info.status,
                    is_deleted=run.info.lifecycle_stage == "deleted",
                    since=datetime.fromtimestamp((run.info.end_time or run.info.start_time) / 1000, tz=UTC),
                    place=stored_at(run.info.artifact_uri, store=self._store),
                )

    def _models(self, model: str) -> dict[str, list[Any]]:
        experiment = self._client.get_experiment_by_name(model)
        found: dict[str, list[Any]] = {}
        if experiment is not None:
            token = None
            while True:
                page = self._client.search_logged_models([experiment.experiment_id], page_token=token)
                for each in page:
                    found.setdefault(str(each.source_run_id), []).append(each)
                token = page.token
                if not token:
                    break
        return found

    def _leftover(
        self, model: str, run: _Run, *, numbers: dict[str, list[int]], models: dict[str, list[Any]], reason: str
    ) -> Leftover:
        own = models.get(run.run_id, [])
        # MLflow puts the artifacts of a run below a folder that has its id, and a logged model's likewise.
        recorded = [
            (run.place, run.run_id),
            *((stored_at(each.artifact_location, store=self._store), str(each.model_id)) for each in own),
        ]
        places = [place.parent if place is not None and place.parent.name == name else place for place, name in recorded]
        return Leftover(
            model=model,
            run_id=run.run_id,
            run_name=run.name,
            numbers=tuple(sorted(numbers.get(run.run_id, ()))),
            model_ids=tuple(str(each.model_id) for each in own),
            places=tuple(place for place in places if place is not None),
            reason=reason,
        )
