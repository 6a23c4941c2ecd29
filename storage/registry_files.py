"""Compare the files of a model version, and of its run, with the checksums that were logged with them."""

from __future__ import annotations

from storage.checksums import SUMS, fault_of, fault_of_bytes, parse_sums
from storage.errors import RegistryError
from storage.mlflow_compat import quiet, translate_mlflow_errors
from storage.records import ModelVersion
from storage.registry import Registry
from storage.run_logging import MODEL_FOLDER


def file_faults(version: ModelVersion, *, registry: Registry) -> dict[str, str] | None:
    """Return how each file of a version and of its run differs from its checksum, empty where it does not.

    Every file is read, from a store elsewhere over the network. None: the version has no checksums, as those of release 0.1.

    Raises:
        RegistryError: The run is not there.
        DataError: Its list of checksums is damaged.
    """
    with quiet(), translate_mlflow_errors(f"cannot list the files of {version.name}@{version.version}"):
        names = [entry.path for entry in registry.client.list_artifacts(version.run_id)]
    if SUMS not in names:
        return None
    sums = parse_sums(registry.read_file(version.run_id, SUMS), path=f"{SUMS} of {version.name}@{version.version}")
    own = {name: checksum for name, checksum in sums.items() if not name.startswith(MODEL_FOLDER)}
    faults = {name: _fault_of_artifact(version, name, sha256=checksum, registry=registry) for name, checksum in own.items()}
    of_model = {name: checksum for name, checksum in sums.items() if name not in own}
    try:
        folder = registry.model_folder(version)
    except RegistryError:
        return faults | dict.fromkeys(of_model, "it is not there")
    return faults | {
        name: fault_of(folder / name.removeprefix(MODEL_FOLDER), sha256=checksum) for name, checksum in of_model.items()
    }


def _fault_of_artifact(version: ModelVersion, name: str, *, sha256: str, registry: Registry) -> str:
    try:
        data = registry.read_file(version.run_id, name)
    except RegistryError:
        return "it is not there"
    return fault_of_bytes(data, sha256=sha256)
