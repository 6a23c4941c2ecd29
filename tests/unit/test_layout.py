"""The tree under RETRAIN_HOME: where things lie, and which homes are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors import SettingError
from storage.layout import Store, lock_file, state_folder


def test_every_path_lies_where_the_documentation_says(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    assert str(store.raw_file("jena", "ab12", "a.zip")) == f"{tmp_path}/raw/jena/ab12/a.zip"
    assert str(store.locks("jena")) == f"{tmp_path}/raw/jena/locks"
    assert str(store.table_folder("jena", "0f")) == f"{tmp_path}/tables/jena/0f"
    assert str(store.manifest("jena", "0f")) == f"{tmp_path}/tables/jena/0f/manifest.json"
    assert str(store.report_folder("jena", "0f")) == f"{tmp_path}/reports/jena/0f"
    assert str(store.checkpoint_folder("0f", "9c")) == f"{tmp_path}/checkpoints/0f-9c"
    assert str(store.promotions("jena-sample")) == f"{tmp_path}/promotions/jena-sample"
    assert store.mlflow_folder == tmp_path / "mlflow"
    assert store.prefect_folder == tmp_path / "prefect"


def test_home_is_var_under_the_working_folder_when_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value, folder in {"": "var", "here": "here"}.items():
        monkeypatch.setenv("RETRAIN_HOME", value)
        assert str(Store.from_environment().root) == str(tmp_path / folder)
    monkeypatch.delenv("RETRAIN_HOME")
    assert str(Store.from_environment().root) == str(tmp_path / "var")


def test_a_file_url_is_a_local_store(tmp_path: Path) -> None:
    store = Store.at(f"file://{tmp_path}/home")
    assert store.is_local
    assert str(store.root) == f"{tmp_path}/home"


def test_a_remote_store_keeps_no_registry_of_its_own_on_a_host() -> None:
    store = Store.at("memory://bucket/prefix")
    assert not store.is_local
    assert str(store.locks("imdb")) == "memory://bucket/prefix/raw/imdb/locks"
    with pytest.raises(SettingError, match="MLFLOW_TRACKING_URI"):
        _ = store.mlflow_folder
    assert store.prefect_folder.is_relative_to(state_folder())
    assert isinstance(store.partial("imdb", "upstream", "imdb.npz"), Path)


def test_an_s3_address_is_taken_without_a_connection() -> None:
    assert str(Store.at("s3://bucket/prefix").raw_folder("jena")) == "s3://bucket/prefix/raw/jena"


@pytest.mark.parametrize("home", ["nosuch://bucket/x", "s3://", "https://host/folder"])
def test_an_address_that_cannot_be_a_store_is_refused(home: str) -> None:
    with pytest.raises(SettingError, match=r"RETRAIN_HOME.*name a folder"):
        Store.at(home)


def test_a_file_in_the_place_of_the_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(SettingError, match=r"RETRAIN_HOME cannot be .*taken"):
        Store.at(tmp_path / "taken")
    with pytest.raises(SettingError, match=r"RETRAIN_HOME cannot be .*below"):
        Store.at(tmp_path / "taken" / "below")


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc", ".hidden", "a b"])
def test_a_name_that_would_leave_the_tree_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError, match="path segment"):
        Store.at(tmp_path).table_folder("jena", name)


def test_each_origin_has_its_own_partial_file(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    assert store.partial("jena", "upstream", "a.zip") != store.partial("jena", "mirror", "a.zip")


def test_a_local_lock_lies_beside_what_it_guards(tmp_path: Path) -> None:
    assert lock_file(tmp_path / "a.json") == tmp_path / ".a.json.lock"
