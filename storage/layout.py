"""Every path under `RETRAIN_HOME`; no other module builds one."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from upath import UPath

from storage.environment import Environment, variable
from storage.errors import SettingError
from storage.redaction import without_secrets
from storage.temporary import shared_temporary_folder, staging_name

HOME_VARIABLE = variable("home")
MANIFEST = "manifest.json"
DOCS_INDEX = "index.html"

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Store:
    """The folder tree of everything that the project stores, on a local disk or behind an fsspec URL.

    Attributes:
        root: Absolute; for a local tree a path without a protocol.
    """

    root: UPath

    @classmethod
    def at(cls, home: str | os.PathLike[str], *, to_write: bool = True) -> Store:
        """Open the tree at a folder or an fsspec URL; a folder that does not exist is made.

        Args:
            home: The address.
            to_write: False for what only reads: a folder that is there is taken although nothing can be written into it.

        Raises:
            SettingError: The address cannot be a store, or cannot be written.
        """
        address = os.fspath(home)
        if "://" not in address:
            return cls(root=_folder(Path(address).expanduser().absolute(), to_write=to_write))
        if without_secrets(address) != address:
            raise SettingError(
                f"{HOME_VARIABLE}={without_secrets(address)!r} also holds a user, a key or a query, expected the address alone, "
                "because every table keeps it: give keys in variables such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        try:
            # Other hosts write there, so that a listing of before may be wrong.
            root = UPath(address, use_listings_cache=False)
            _ = root.fs
        except (ValueError, ImportError, OSError) as error:
            raise SettingError(
                f"{HOME_VARIABLE}={address!r} cannot be opened ({error}): name a folder or an fsspec URL "
                "such as s3://bucket/prefix, and install the file system's package"
            ) from error
        if root.protocol in {"file", "local"}:
            return cls(root=_folder(Path(root.path), to_write=to_write))
        if root.protocol in {"http", "https"} or not root.path.strip("/"):
            raise SettingError(
                f"{HOME_VARIABLE}={address!r} cannot be a store: name a folder or an fsspec URL that can be written, such as s3://bucket/prefix"
            )
        return cls(root=root)

    @classmethod
    def from_environment(cls, *, to_write: bool = True) -> Store:
        """Open the tree that `RETRAIN_HOME` names, or `./var`, as `at` does.

        Raises:
            SettingError: The address cannot be a store, or cannot be written; or a variable has a wrong value.
        """
        return cls.at(Environment.read().home, to_write=to_write)

    @property
    def is_local(self) -> bool:
        """Tell whether the tree is on a file system of this machine."""
        return self.root.protocol == ""

    @property
    def scratch(self) -> Path:
        """The local folder of unfinished work: in the tree where that is local, else in the user's cache folder."""
        if self.is_local:
            return Path(str(self.root), ".scratch")
        return cache_folder() / _mark(self.root)

    def local_path(self, path: UPath, *, needed_by: str, remedy: str) -> Path:
        """Return the path as a local one.

        Raises:
            SettingError: The store is remote.
        """
        if path.protocol == "":
            return Path(str(path))
        raise SettingError(f"{needed_by} needs a local folder, but {HOME_VARIABLE} is {str(self.root)!r}: {remedy}")

    def raw_folder(self, dataset: str) -> UPath:
        """Return the folder of fetched files of one data set."""
        return self.root / "raw" / _segment(dataset, kind="data set")

    def raw_file(self, dataset: str, sha256: str, name: str) -> UPath:
        """Return the path of a fetched file, under its own digest."""
        return self.raw_folder(dataset) / _segment(sha256, kind="digest") / _segment(name, kind="file name")

    def locks(self, dataset: str) -> UPath:
        """Return the folder of the digests that were locked on first use: a `SharedValue`."""
        return self.raw_folder(dataset) / "locks"

    def first_locks(self, dataset: str) -> UPath:
        """Return the file in which version 0.1 kept these digests; it is only read."""
        return self.raw_folder(dataset) / "locks.json"

    def partial(self, dataset: str, origin: str, name: str) -> Path:
        """Return the local path of an unfinished download.

        Each origin has its own, so that a download from a mirror is never continued from upstream.
        """
        mark = hashlib.sha256(origin.encode()).hexdigest()[:12]
        return self.scratch / "partial" / _segment(dataset, kind="data set") / mark / _segment(name, kind="file name")

    def local_copy(self, sha256: str, name: str) -> Path:
        """Return the local path of a copy of a remote raw file."""
        return self.scratch / "copies" / _segment(sha256, kind="digest") / _segment(name, kind="file name")

    def part(self, dataset: str, sha256: str, version: str) -> Path:
        """Return the local path of what was read from a raw file: a cache, which can be made again."""
        name = f"{_segment(sha256, kind='digest')}-{_segment(version, kind='version')}.part"
        return self.scratch / "parts" / _segment(dataset, kind="data set") / name

    def table_folder(self, dataset: str, version: str) -> UPath:
        """Return the folder of one published table version."""
        return self.root / "tables" / _segment(dataset, kind="data set") / _segment(version, kind="table version")

    def manifest(self, dataset: str, version: str) -> UPath:
        """Return the manifest of a table version; a version without it does not exist."""
        return self.table_folder(dataset, version) / MANIFEST

    def ingested(self, dataset: str) -> UPath:
        """Return where it is told when each table version was last ingested, published or found unchanged: a `SharedValue`."""
        return self.root / "tables" / _segment(dataset, kind="data set") / ".ingested"

    def first_ingested(self, dataset: str) -> UPath:
        """Return the file in which version 0.1 told so; it is only read."""
        return self.root / "tables" / _segment(dataset, kind="data set") / ".ingested.json"

    def staging(self, dataset: str, key: str) -> Path:
        """Return a local folder in which a version is built before it is published.

        Each process has its own, so that two that build the same version do not see each other's half-written files.
        """
        name = staging_name(_segment(key, kind="staging key"))
        return self.scratch / "staging" / _segment(dataset, kind="data set") / name

    def damaged(self, dataset: str, version: str) -> Path:
        """Return a new local place for what was damaged in the store, from which it goes with other scratch files."""
        name = f"{_segment(version, kind='table version')}-{uuid.uuid4().hex[:8]}"
        return self.scratch / "damaged" / _segment(dataset, kind="data set") / name

    def report_folder(self, dataset: str, version: str) -> UPath:
        """Return the folder of the Data Docs of one table version."""
        return self.root / "reports" / _segment(dataset, kind="data set") / _segment(version, kind="table version")

    def validation_report(self, dataset: str, version: str) -> UPath:
        """Return the results of the expectations of one table version, from which its Data Docs are written."""
        return self.report_folder(dataset, version) / "validation.json"

    def docs_index(self, dataset: str, version: str) -> UPath:
        """Return the first page of the Data Docs of one table version; docs without it are not complete."""
        return self.report_folder(dataset, version) / DOCS_INDEX

    def checkpoint_folder(self, table_version: str, config_digest: str) -> UPath:
        """Return the folder from which an interrupted training resumes."""
        key = f"{_segment(table_version, kind='table version')}-{_segment(config_digest, kind='config digest')}"
        return self.root / "checkpoints" / key

    def evaluation(self, table_version: str, training_key: str) -> UPath:
        """Return the predictions of one model on the test split of one table."""
        version = _segment(table_version, kind="table version")
        return self.root / "evaluations" / version / f"{_segment(training_key, kind='training key')}.parquet"

    def progress(self, training_key: str) -> Path:
        """Return the local file to which a running training writes its progress."""
        return self.scratch / "progress" / f"{_segment(training_key, kind='training key')}.json"

    def promotions(self, model_name: str) -> UPath:
        """Return the folder of the log of promotion decisions of one registered model: a `Journal`."""
        return self.root / "promotions" / _segment(model_name, kind="model name")

    def first_promotions(self, model_name: str) -> UPath:
        """Return the file in which version 0.1 kept this log; it is only read, as the log's beginning."""
        return self.root / "promotions" / f"{_segment(model_name, kind='model name')}.jsonl"

    def predictions_folder(self, model_name: str) -> UPath:
        """Return the folder of the predictions that were issued with the versions of one registered model."""
        return self.root / "predictions" / _segment(model_name, kind="model name")

    def monitoring_folder(self, model_name: str) -> UPath:
        """Return the folder of what monitoring found of one registered model."""
        return self.root / "monitoring" / _segment(model_name, kind="model name")

    @property
    def artifacts(self) -> UPath:
        """The folder of the registry's files, to which the locations that it records are relative."""
        return self.root / "mlflow" / "artifacts"

    @property
    def host_folder(self) -> Path:
        """The local folder of what a host keeps for itself: the tree where that is local, else one in the user's state folder."""
        return Path(str(self.root)) if self.is_local else state_folder() / _mark(self.root)

    @property
    def mlflow_folder(self) -> Path:
        """The local folder of MLflow's database.

        Raises:
            SettingError: The store is remote, so its registry must be one that every host reaches.
        """
        remedy = f"set {variable('database_url')} or MLFLOW_TRACKING_URI"
        return self.local_path(self.root / "mlflow", needed_by="MLflow's own database", remedy=remedy)

    @property
    def prefect_folder(self) -> Path:
        """The local folder of Prefect's own files, with its database where no PostgreSQL is named."""
        return self.host_folder / "prefect"

    @property
    def service_folder(self) -> Path:
        """The local folder of a lasting service's logs and addresses."""
        return self.host_folder / "service"


def state_folder() -> Path:
    """Return the user's folder of this project for what must outlive a cache."""
    return _user_folder("XDG_STATE_HOME", ".local/state")


def cache_folder() -> Path:
    """Return the user's cache folder of this project."""
    return _user_folder("XDG_CACHE_HOME", ".cache")


def _user_folder(name: str, below_home: str) -> Path:
    base = os.environ.get(name)
    if base:
        return Path(base) / "retrain"
    try:
        return Path.home() / below_home / "retrain"
    except RuntimeError:  # no home folder, such as a user id without account in a container
        return shared_temporary_folder() / f"retrain-{os.getuid()}"


def _mark(root: UPath) -> str:
    return hashlib.sha256(str(root).encode()).hexdigest()[:16]


def programs_folder(mark: str) -> Path:
    """Return the cache of compiled programs for a kind of host; they are code, so only this user may write there."""
    return cache_folder() / "programs" / _segment(mark, kind="kind of host")


def signatures_folder() -> Path:
    """Return the cache of network signatures: computing one takes the import of Keras."""
    return cache_folder() / "signatures"


def lock_file(path: UPath | Path) -> Path:
    """Return the local lock file of a file or folder.

    It lies beside a local path. For a remote path it lies in the user's cache folder, so it only holds between processes of
    one machine: it spares them work, and what several hosts write is created exclusively.
    """
    if isinstance(path, Path):
        return Path(path.parent, f".{path.name}.lock")
    return cache_folder() / "locks" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.lock"


def _segment(value: str, *, kind: str) -> str:
    if not _SEGMENT.fullmatch(value):
        raise SettingError(
            f"{kind} {value!r} cannot be a path segment: use letters, digits, '.', '_' and '-', and begin with a letter or digit"
        )
    return value


def can_be_written(folder: Path) -> bool:
    """Tell whether this process can write into a folder."""
    try:
        _try_to_write(folder)
    except OSError:
        return False
    return True


def _try_to_write(folder: Path) -> None:
    # os.access is wrong for root and on read-only mounts.
    with tempfile.TemporaryFile(dir=folder):
        pass


def _folder(folder: Path, *, to_write: bool) -> UPath:
    if not to_write and folder.is_dir():
        return UPath(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_to_write(folder)
    except OSError as error:
        raise SettingError(
            f"{HOME_VARIABLE} cannot be {str(folder)!r} ({error.strerror or error}): "
            "name a folder that can be written, or an fsspec URL such as s3://bucket/prefix"
        ) from error
    return UPath(folder)
