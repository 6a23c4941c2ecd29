"""Where the registry's files lie: a location is recorded as `mlflow-artifacts:/...`, relative to the store, wherever that is.

A server of MLflow resolves the scheme by its `--artifacts-destination`. A process that opens the database itself has none: for it
the scheme names the folder `mlflow/artifacts` of the store, on whatever file system that lies. Version 0.1 recorded absolute
locations; `make_relative` corrects those of a store, also of one that has been moved since.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from upath import UPath

from storage.errors import RegistryError
from storage.io import write_atomically
from storage.layout import HOME_VARIABLE, Store

SCHEME = "mlflow-artifacts"

_BELOW_THE_STORE = "mlflow/artifacts"
# Table, key and column of the locations that belong to an experiment.
_PLACES = (("runs", "run_uuid", "artifact_uri"), ("logged_models", "model_id", "artifact_location"))
# By the address of a database: the artifact folders of the stores that this process has opened.
_folders: dict[str, UPath] = {}


def location_of(name: str) -> str:
    """Return the recorded location of an experiment's files."""
    return f"{SCHEME}:/{name}"


def stored_at(location: str, *, store: Store) -> UPath | None:
    """Return where a recorded location lies in a store; None if it is a place outside of it."""
    relative = _relative(location)
    return store.artifacts / relative if relative else None


def remember_folder(address: str, *, store: Store) -> None:
    """Let this process find the files of the registry at a database's address in a store."""
    _folders[address] = store.artifacts


def resolve(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
    """Return MLflow's artifact repository of a `mlflow-artifacts:` location; MLflow calls this for the scheme.

    Args:
        artifact_uri: The location.
        tracking_uri: Address of the database or server; None: MLflow's default.
        registry_uri: Handed on.
    """
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
    from mlflow.tracking import get_tracking_uri

    from storage.artifact_repository import StoredArtifacts

    address = tracking_uri or get_tracking_uri()
    parts = urlsplit(artifact_uri)
    if parts.netloc or address.startswith(("http://", "https://")):
        return MlflowArtifactsRepository(artifact_uri, tracking_uri, registry_uri)
    folder = _folder_of(address)
    place: UPath | Path = folder / _inside(unquote(parts.path).strip("/")) if parts.path.strip("/") else folder
    if isinstance(place, Path):
        return LocalArtifactRepository(place.as_uri(), tracking_uri, registry_uri)
    return StoredArtifacts(place, artifact_uri, tracking_uri, registry_uri)


def register_scheme() -> None:
    """Make this process's MLflow resolve the scheme; an installed project is found by its entry point, without this."""
    from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry

    _artifact_repository_registry.register(SCHEME, resolve)


def make_experiment(client: Any, name: str, *, server: str | None) -> str:
    """Make an experiment, and return its id; its files lie in the store, or where a server that does not serve files says.

    Raises:
        RegistryError: The server would let every client write to the client's own disk.
    """
    if server is None or _serves_artifacts(server):
        return str(client.create_experiment(name, artifact_location=location_of(name)))
    number = str(client.create_experiment(name))
    try:
        refuse_foreign_disk(client.get_experiment(number).artifact_location, server=server)
    except RegistryError:
        # The name is free again for when the server has been started otherwise.
        client.rename_experiment(number, f"{name}-unusable-{number}")
        client.delete_experiment(number)
        raise
    return number


def refuse_foreign_disk(location: str, *, server: str) -> None:
    """Refuse a local folder that a server has named and this host does not have: files would lie on the client's disk.

    Raises:
        RegistryError: It is such a folder.
    """
    parts = urlsplit(location)
    if parts.scheme in ("", "file") and not Path(unquote(parts.path)).parent.is_dir():
        raise RegistryError(
            f"the MLflow server at {_host_of(server)} keeps files in {location!r}, which is not on this host: start it with "
            "--serve-artifacts --artifacts-destination FOLDER-OR-URL, as `retrain up` does"
        )


def make_relative(address: str, *, store: Store) -> int:
    """Make absolute locations below a `mlflow/artifacts` relative, in one transaction; return how many experiments had some.

    Files that lie at an old place and not in the store are copied first: a store that was moved went on writing to its old place
    before locations were relative. What has another form than the project's, `<store>/mlflow/artifacts/<experiment>`, stays.

    Args:
        address: Address of the database, of which MLflow has made the tables.
        store: Store whose registry it is.
    """
    import sqlalchemy as sql

    engine = sql.create_engine(address, poolclass=sql.NullPool)
    absolute = sql.text(
        f"SELECT experiment_id, name, artifact_location FROM experiments WHERE artifact_location NOT LIKE '{SCHEME}:%'"
    )
    try:
        with _one_line_errors(address), engine.connect() as connection:
            if not _ours(connection.execute(absolute)):
                return 0
        with _one_line_errors(address), engine.begin() as connection:
            experiments = _ours(connection.execute(absolute))
            for number, (name, location) in experiments.items():
                _correct(connection, "experiments", "artifact_location", {"experiment_id": number}, new=location)
                for table, key, column in _PLACES:
                    query = sql.text(f"SELECT {key}, {column} FROM {table} WHERE experiment_id = :number")
                    for row_key, old in connection.execute(query, {"number": number}).all():
                        if relative := _relative(old, experiment=name):
                            _copy_missing(old, into=store.artifacts / relative)
                            _correct(connection, table, column, {key: row_key}, new=f"{SCHEME}:/{relative}")
            query = sql.text("SELECT name, version, source, storage_location FROM model_versions")
            for model, version, *places in connection.execute(query).all():
                for column, old in zip(("source", "storage_location"), places, strict=True):
                    relative = _relative(old)
                    if relative and not old.startswith(SCHEME):
                        _correct(
                            connection, "model_versions", column, {"name": model, "version": version}, new=f"{SCHEME}:/{relative}"
                        )
        return len(experiments)
    finally:
        engine.dispose()


@contextmanager
def _one_line_errors(address: str) -> Iterator[None]:
    import sqlalchemy as sql

    try:
        yield
    except sql.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
        where = _host_of(address) if urlsplit(address).hostname else urlsplit(address).path
        raise RegistryError(
            f"locations in the registry at {where} cannot be made relative ({reason}): open it by a user who may write there"
        ) from error


def _ours(rows: Any) -> dict[int, tuple[str, str]]:
    """Return name and new location of the experiments whose location is the project's, and of MLflow's own empty one."""
    return {
        number: (name, location_of(name) if number else location_of("0"))
        for number, name, location in rows
        if number == 0 or _relative(location or "", experiment=name)
    }


def _correct(connection: Any, table: str, column: str, key: Mapping[str, Any], *, new: str) -> None:
    import sqlalchemy as sql

    where = " AND ".join(f"{name} = :{name}" for name in key)
    connection.execute(sql.text(f"UPDATE {table} SET {column} = :new WHERE {where}"), {"new": new, **key})


def _relative(location: str | None, *, experiment: str | None = None) -> str | None:
    """Return a location relative to the artifacts of a store: a relative one, or an absolute one of the project's form."""
    location = location or ""
    if location.startswith(f"{SCHEME}:/"):
        return _inside(unquote(urlsplit(location).path).strip("/"))
    name = re.escape(experiment) if experiment else r"[A-Za-z0-9._-]+"
    found = re.fullmatch(rf"(?:.*/)?{_BELOW_THE_STORE}/({name}(?:/.*)?)", location)
    return _inside(unquote(found[1]).strip("/")) if found else None


def _inside(relative: str) -> str:
    if ".." in PurePosixPath(relative).parts:
        raise RegistryError(f"location {relative!r} of the registry leaves its folder: correct it in the database")
    return relative


def _copy_missing(old: str, *, into: UPath) -> None:
    """Copy the files of an old place that a store does not have; an old place that cannot be read has none."""
    parts = urlsplit(old)
    source = UPath(unquote(parts.path) if parts.scheme in ("", "file") else old)
    if str(source) == str(into):
        return
    try:
        files = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else []
    except (OSError, ImportError):
        return
    for path in files:
        target = into / path.relative_to(source).as_posix()
        if not target.exists():
            write_atomically(target, path.read_bytes())


def _folder_of(address: str) -> UPath:
    """Return the artifact folder of a database: of a store that was opened, beside a SQLite file, or of `RETRAIN_HOME`."""
    if address in _folders:
        return _folders[address]
    parts = urlsplit(address)
    if parts.scheme == "sqlite":
        beside = Path(address.removeprefix("sqlite:///")).absolute().parent / "artifacts"
        if beside.is_dir():
            return UPath(beside)
    if not os.environ.get(HOME_VARIABLE):
        raise RegistryError(
            f"files of the registry at {parts.hostname or parts.path} lie in a store: set {HOME_VARIABLE} to its address"
        )
    return Store.from_environment().artifacts


def _serves_artifacts(address: str) -> bool:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    # Without tries of its own: a server that does not serve them answers 503, which MLflow would ask again for minutes.
    answer = http_request(
        get_default_host_creds(address),
        "/api/2.0/mlflow-artifacts/artifacts",
        "GET",
        max_retries=0,
        raise_on_status=False,
        params={"path": ""},
    )
    return bool(answer.status_code == 200)


def _host_of(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
