"""A small interface to MLflow: runs, model versions, aliases."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage import artifacts
from storage.database import database_lock, registry_database
from storage.database_file import make_file
from storage.errors import RegistryError
from storage.layout import Store, can_be_written
from storage.metric_history import MetricHistory
from storage.mlflow_compat import code_that_would_load, make_tables, pages, pickles, quiet, translate_mlflow_errors
from storage.records import MODEL_PAGES, ModelVersion, RunRecord
from storage.redaction import without_secrets
from storage.run_logging import CURVE_PREFIX, log_checksums, log_model, log_record
from storage.schema import sqlite_path
from storage.upgrade import upgrade_registry

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"

# Of a run and its version: which attempt at the training made it.
ATTEMPT_TAG = "attempt"

_COMPLETE = "complete"
_RUN_IDS_A_QUERY = 100
_NAME = re.compile(r"[A-Za-z0-9._-]+")  # safe inside the quotes of a search filter


class Registry:
    """The registered models of one MLflow database or server.

    Open it with `Registry.open`. `register` sets the tag `complete` last, and every method ignores versions without it: they
    are what a crash left behind.
    """

    def __init__(self, client: Any, *, server: str | None) -> None:
        """Wrap an MLflow client of a server, or of a database (server None), whose files lie in the store."""
        self._client = client
        self._server = server

    @property
    def client(self) -> Any:
        """The MLflow client, for what is not of every day."""
        return self._client

    @classmethod
    def open(cls, store: Store) -> Registry:
        """Open the registry that `MLFLOW_TRACKING_URI` names, or the one in the store; one that cannot be written is only read.

        Raises:
            SettingError: The store is remote and the environment names no registry, or PostgreSQL cannot be used.
            RegistryError: The registry cannot be opened.
        """
        address = os.environ.get(TRACKING_VARIABLE) or registry_database(store)
        is_server = address.startswith(("http://", "https://"))
        with quiet(), translate_mlflow_errors(f"cannot open the registry at {without_secrets(address)}"):
            from mlflow.tracking import MlflowClient

            is_fixed = address.startswith("sqlite:") and not can_be_written(sqlite_path(address).parent)
            with nullcontext() if is_fixed else database_lock(address):
                if not is_fixed:
                    if address.startswith("sqlite:"):
                        make_file(sqlite_path(address), library="mlflow", make=make_tables)
                    upgrade_registry(address)
                client = MlflowClient(tracking_uri=address, registry_uri=address)
                artifacts.register_scheme()
                if not is_server:
                    client.search_registered_models(max_results=1)
                    client.search_experiments(max_results=1)
                    artifacts.remember_folder(address, store=store)
                    if not is_fixed:
                        artifacts.make_relative(address, store=store)
        return cls(client, server=address if is_server else None)

    def names(self) -> tuple[str, ...]:
        """Return the registered models, in alphabetical order."""
        with translate_mlflow_errors("cannot list the registered models"):
            return tuple(sorted(model.name for model in pages(self._client.search_registered_models)))

    def registered_ms(self, name: str) -> int | None:
        """Return when a model was registered, in milliseconds since 1970; None if it is not.

        A registry that was made anew has another time for it.
        """
        with translate_mlflow_errors(f"cannot find the model {name}"):
            found = self._client.search_registered_models(f"name = '{_quotable(name)}'")
            return int(found[0].creation_timestamp) if found else None

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """Return every complete version, newest first; a model that is not there has none."""
        return self._versions(name, f"name = '{_quotable(name)}'")

    def version(self, name: str, number: int) -> ModelVersion:
        """Return one complete version.

        Raises:
            RegistryError: There is no such model or version; the message lists those that exist.
        """
        versions = self.versions(name)
        for version in versions:
            if version.version == number:
                return version
        raise self._absent(name, f"version {number}", versions)

    def find(self, name: str, *, training_key: str, tag: str = "training_key") -> ModelVersion | None:
        """Return the newest complete version that has a training key in a tag."""
        query = f"name = '{_quotable(name)}' AND tags.{tag} = '{_quotable(training_key)}'"
        return next(iter(self._versions(name, query)), None)

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """Return the complete version that an alias points to."""
        return next((version for version in self.versions(name) if alias in version.aliases), None)

    def resolve(self, reference: str) -> ModelVersion:
        """Return the version that `model@3`, `model@alias` or `model` (its champion) names.

        Raises:
            RegistryError: There is no such version; the message lists those that exist.
        """
        name, at, selector = reference.partition("@")
        if not name or (at and not selector):
            raise RegistryError(
                f"{reference!r} names no model version: write MODEL, MODEL@VERSION or MODEL@ALIAS, such as MODEL@champion"
            )
        if selector.isdecimal():
            return self.version(name, int(selector))
        versions = self.versions(name)
        alias = selector or CHAMPION
        for version in versions:
            if alias in version.aliases:
                return version
        raise self._absent(name, f"alias {alias!r}", versions)

    def register(
        self, name: str, *, model: Any, record: RunRecord, require_owner: Callable[[], None] = lambda: None
    ) -> ModelVersion:
        """Log a run with its Keras model and make a version of it, complete or not at all.

        Args:
            name: Registered model.
            model: Keras model.
            record: What is logged with it.
            require_owner: Called before the version is made and before it is completed. It raises if another run has taken the
                work over, and then no version is left.

        Raises:
            RegistryError: MLflow refused something; the run is marked as failed and no version exists.
        """
        _quotable(name)
        with translate_mlflow_errors(f"cannot register {record.variant} as {name}"):
            experiment_id = self._experiment_id(name)
            tags = {**record.tags, "variant": record.variant, "training_key": record.training_key}
            run = self._client.create_run(experiment_id, run_name=record.run_name, tags=tags)
            run_id = run.info.run_id
            try:
                files = log_record(self._client, run_id, record=record)
                model_id, location, checksums = log_model(
                    self._client, run_id, experiment_id=experiment_id, model=model, record=record
                )
                log_checksums(self._client, run_id, files=files, model=checksums)
                require_owner()
            except BaseException:
                self._client.set_terminated(run_id, status="FAILED")
                raise
            self._client.set_terminated(run_id, status="FINISHED")
            self._make_model(name)
            # Without a server MLflow resolves a models:/ source in the process's default registry, which may be another one.
            source = f"models:/{model_id}" if self._server else location
            created = self._client.create_model_version(
                name, source, run_id=run_id, tags=tags, model_id=model_id, description=record.description or None
            )
            try:
                require_owner()
            except BaseException:
                self._client.delete_model_version(name, str(created.version))
                raise
            self._client.set_model_version_tag(name, str(created.version), _COMPLETE, "true")
        return self.version(name, int(created.version))

    def delete_unfinished(self, name: str, *, training_key: str, before_attempt: int) -> None:
        """Delete the incomplete versions of a training that earlier attempts have left, and mark their runs as killed.

        An earlier attempt that comes back finds nothing to complete. One whose version is complete has finished the training.
        """
        query = f"tags.training_key = '{_quotable(training_key)}'"
        with translate_mlflow_errors(f"cannot delete the unfinished versions of {name}"):
            experiment = self._client.get_experiment_by_name(name)
            if experiment is None:
                return
            for entry in pages(self._client.search_model_versions, f"name = '{_quotable(name)}' AND {query}"):
                if entry.tags.get(_COMPLETE) != "true" and int(entry.tags.get(ATTEMPT_TAG, 0)) < before_attempt:
                    self._client.delete_model_version(name, str(entry.version))
            running = f"{query} AND attributes.status = 'RUNNING'"
            for run in self._client.search_runs([experiment.experiment_id], running):
                if int(run.data.tags.get(ATTEMPT_TAG, 0)) < before_attempt:
                    self._client.set_terminated(run.info.run_id, status="KILLED")

    def set_aliases(self, name: str, aliases: Mapping[str, int]) -> None:
        """Point aliases to versions, in the order of the mapping, after checking that every version exists.

        Raises:
            RegistryError: A version is not there, or MLflow reserves the alias.
        """
        versions = self.versions(name)
        numbers = {version.version for version in versions}
        for number in aliases.values():
            if number not in numbers:
                raise self._absent(name, f"version {number}", versions)
        for alias, number in aliases.items():
            with translate_mlflow_errors(f"cannot set alias {alias!r} of {name}"):
                self._client.set_registered_model_alias(name, alias, str(number))

    def delete_alias(self, name: str, alias: str) -> None:
        """Let an alias point to no version; one that is not there stays so."""
        with translate_mlflow_errors(f"cannot delete alias {alias!r} of {name}"):
            self._client.delete_registered_model_alias(name, alias)

    def set_version_tags(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Set tags of a version, in place of those of the same names."""
        with translate_mlflow_errors(f"cannot set tags of {version.name}@{version.version}"):
            for tag, value in tags.items():
                self._client.set_model_version_tag(version.name, str(version.version), tag, value)

    def read_file(self, run_id: str, path: str) -> bytes:
        """Return one artifact of a run.

        Raises:
            RegistryError: The run or the artifact is not there.
        """
        with tempfile.TemporaryDirectory() as folder, translate_mlflow_errors(f"cannot read {path} of run {run_id}"):
            return Path(self._client.download_artifacts(run_id, path, folder)).read_bytes()

    def read_json(self, run_id: str, path: str) -> Any:
        """Return one artifact of a run that is JSON.

        Raises:
            RegistryError: The run or the artifact is not there, or it is damaged.
        """
        try:
            return json.loads(self.read_file(run_id, path))
        except ValueError as error:
            raise RegistryError(
                f"{path} of run {run_id} is not JSON ({error}): restore the registry's files from a backup, or train again"
            ) from error

    def metric_history(self, experiment: str, *, run_name: str) -> MetricHistory:
        """Return the run that takes metrics over time, in an experiment of its own."""
        return MetricHistory(self._client, experiment_id=self._experiment_id(_quotable(experiment)), run_name=_quotable(run_name))

    def run_page(self, version: ModelVersion) -> str:
        """Return the path of a version's run in MLflow's UI, which otherwise shows a page for chat models first."""
        with translate_mlflow_errors(f"cannot find the run of {version.name}@{version.version}"):
            return f"/experiments/{self._client.get_run(version.run_id).info.experiment_id}/runs/{version.run_id}{MODEL_PAGES}"

    def model_folder(self, version: ModelVersion) -> Path:
        """Return a local folder with the version's files: the stored folder itself where it is local, else a download.

        Raises:
            RegistryError: The files are not there.
        """
        with quiet(), translate_mlflow_errors(f"cannot read the files of {version.name}@{version.version}"):
            from mlflow.artifacts import download_artifacts

            source = self._client.get_model_version_download_uri(version.name, str(version.version))
            if source.startswith("models:/"):
                source = self._client.get_logged_model(source.removeprefix("models:/")).artifact_location
            return Path(download_artifacts(artifact_uri=source, tracking_uri=self._client.tracking_uri))

    def load_model(self, version: ModelVersion) -> Any:
        """Load the Keras model of a version in Keras's safe mode, without its training state.

        The caller imports the project's own layers before. Code that is stored with the model, for those who load it by MLflow
        alone, is not imported.

        Raises:
            RegistryError: The files are not there, one of them is a pickle, which could run any code, or loading would import
                such code.
        """
        folder = self.model_folder(version)
        _refuse_pickles(folder, version)
        with quiet(), translate_mlflow_errors(f"cannot load {version.name}@{version.version}"):
            import mlflow.tensorflow
            from mlflow.exceptions import MlflowException

            if code := code_that_would_load(folder):
                raise RegistryError(
                    f"{version.name}@{version.version} would import code of its own ({code[:200]}): register the model again"
                )

            try:
                return mlflow.tensorflow.load_model(str(folder), keras_model_kwargs={"safe_mode": True, "compile": False})
            except (MemoryError, MlflowException):
                raise
            except Exception as error:  # Keras, zipfile and HDF5 raise a dozen types for a damaged file
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                raise RegistryError(
                    f"{version.name}@{version.version} does not load ({reason[:200]}): its files are damaged; restore them "
                    "from a backup, train again, or roll back"
                ) from error

    def _versions(self, name: str, query: str) -> tuple[ModelVersion, ...]:
        with translate_mlflow_errors(f"cannot list the versions of {name}"):
            complete = [
                entry for entry in pages(self._client.search_model_versions, query) if entry.tags.get(_COMPLETE) == "true"
            ]
            if not complete:
                return ()
            aliases: dict[int, list[str]] = {}
            for alias, number in self._client.get_registered_model(name).aliases.items():
                aliases.setdefault(int(number), []).append(alias)
            metrics = self._metrics(name, [entry.run_id for entry in complete])
        versions = (
            ModelVersion(
                name=name,
                version=int(entry.version),
                variant=entry.tags.get("variant", ""),
                run_id=entry.run_id,
                uri=f"models:/{name}/{entry.version}",
                aliases=tuple(sorted(aliases.get(int(entry.version), ()))),
                tags=dict(entry.tags),
                metrics=metrics.get(entry.run_id, {}),
                created=datetime.fromtimestamp(entry.creation_timestamp / 1000, tz=UTC).isoformat(timespec="seconds"),
            )
            for entry in complete
        )
        return tuple(sorted(versions, key=lambda version: -version.version))

    def _metrics(self, name: str, run_ids: Sequence[str]) -> dict[str, dict[str, float]]:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return {}
        metrics: dict[str, dict[str, float]] = {}
        for start in range(0, len(run_ids), _RUN_IDS_A_QUERY):
            listed = ", ".join(f"'{run_id}'" for run_id in run_ids[start : start + _RUN_IDS_A_QUERY])
            for run in self._client.search_runs([experiment.experiment_id], f"attributes.run_id IN ({listed})"):
                scores = {key: float(value) for key, value in run.data.metrics.items() if not key.startswith(CURVE_PREFIX)}
                metrics[run.info.run_id] = scores
        return metrics

    def _absent(self, name: str, missing: str, versions: Sequence[ModelVersion]) -> RegistryError:
        if not versions:
            names = ", ".join(self.names()) or "none yet: run `retrain run` first"
            return RegistryError(f"model {name!r} has no versions, so no {missing}: registered models are {names}")
        listed = ", ".join(f"{name}@{'|'.join([str(entry.version), *entry.aliases])}" for entry in versions)
        return RegistryError(f"model {name!r} has no {missing}: choose {listed}")

    def _experiment_id(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return artifacts.make_experiment(self._client, name, server=self._server)
            except MlflowException:  # another process was first
                experiment = self._client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        if self._server:
            artifacts.refuse_foreign_disk(experiment.artifact_location, server=self._server)
        return str(experiment.experiment_id)

    def _make_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _refuse_pickles(folder: Path, version: ModelVersion) -> None:
    for path in pickles(folder):
        raise RegistryError(
            f"{version.name}@{version.version} holds a pickle ({path.name}), which could run any code: register the model again"
        )


def _quotable(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise RegistryError(f"{name!r} cannot be a registered name: use letters, digits, '.', '_' and '-'")
    return name
