"""MLflow's artifacts on any file system that fsspec knows; imported only where MLflow is."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from upath import UPath

from storage.errors import RegistryError
from storage.io import copy_file


class StoredArtifacts(ArtifactRepository):  # type: ignore[misc]
    """The files of a run or model in a remote store, without a server between."""

    def __init__(self, folder: UPath, artifact_uri: str, tracking_uri: str | None, registry_uri: str | None) -> None:
        """Open a folder, which need not exist."""
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._folder = folder

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Store one local file."""
        copy_file(Path(local_file), self._at(artifact_path) / Path(local_file).name)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Store the files of a local folder."""
        for path in sorted(Path(local_dir).rglob("*")):
            if path.is_file():
                copy_file(path, self._at(artifact_path) / path.relative_to(local_dir).as_posix())

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """Return files and folders at a path; none for a file, as MLflow expects it."""
        folder = self._at(path)
        folder.fs.invalidate_cache(folder.path)
        try:
            entries = folder.fs.ls(folder.path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        place = folder.path.rstrip("/")
        found = [entry for entry in entries if entry["name"].rstrip("/") != place]
        infos = [
            FileInfo(
                (PurePosixPath(path or "") / PurePosixPath(entry["name"].rstrip("/")).name).as_posix(),
                entry["type"] == "directory",
                None if entry["type"] == "directory" else entry["size"],
            )
            for entry in found
        ]
        return sorted(infos, key=lambda info: str(info.path))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Remove the files at a path, if there are any."""
        place = self._at(artifact_path)
        if place.exists():
            place.fs.rm(place.path, recursive=True)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        copy_file(self._at(remote_file_path), Path(local_path))

    def _at(self, path: str | None) -> UPath:
        relative = PurePosixPath(path or "")
        if relative.is_absolute() or ".." in relative.parts:
            raise RegistryError(f"artifact path {path!r} leaves its folder: use a relative path without '..'")
        return self._folder / relative.as_posix() if relative.parts else self._folder
