"""The service of a team, started by `retrain up`: Prefect and MLflow on one PostgreSQL, and the store on an S3."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import BUCKET, running_object_store
from postgres_helpers import PASSWORD, running_postgres
from service_helpers import PORTS, QUICK, SAMPLE, Live, running_service, variables
from sqlalchemy import create_engine, text
from upath import UPath

from storage.layout import Store
from storage.registry import Registry

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("team")
    with running_postgres() as postgres, running_object_store(tmp_path_factory.mktemp("objects")) as objects:
        more = {
            **objects.environment,
            "RETRAIN_DATABASE_URL": f"{postgres}/team",
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        with running_service(f"s3://{BUCKET}/store", folder=folder, **more) as service:
            yield service


@pytest.fixture(scope="module")
def retrained(live: Live) -> str:
    run_id = live.start("retrain/retrain-jena", data=SAMPLE, training=QUICK, variants=["gru_baseline"])
    assert live.ended(run_id)["state_type"] == "COMPLETED", live.told(run_id)
    return run_id


def test_both_servers_keep_their_rows_in_postgresql(live: Live, retrained: str) -> None:
    counts = {}
    for name, table in (("team_prefect", "flow_run"), ("team_mlflow", "model_versions")):
        engine = create_engine(live.environment["RETRAIN_DATABASE_URL"].removesuffix("team") + name)
        with engine.connect() as connection:
            counts[name] = connection.execute(text(f"select count(*) from {table}")).scalar()
        engine.dispose()
    assert counts["team_prefect"] >= 3  # the retrain, a training and a refit or a report
    assert counts["team_mlflow"] >= 2  # the network and the baseline
    databases = [
        path for path in Path(live.environment["XDG_STATE_HOME"]).rglob("*.db") if path.name in {"mlflow.db", "prefect.db"}
    ]
    assert databases == []


def test_everything_else_is_in_the_object_store(live: Live, retrained: str) -> None:
    with variables(live.environment):
        store = Store.from_environment()
        kept = {path.name for path in store.root.iterdir()}
        assert {"raw", "tables", "reports", "promotions", "mlflow", "evaluations"} <= kept
        registry = Registry.open(store)
        (champion, *_) = [version for version in registry.versions("jena-sample") if "champion" in version.aliases]
        assert registry.model_folder(champion).is_dir()
        assert any(UPath(store.root / "mlflow" / "artifacts").rglob("model.keras"))


def test_another_host_needs_the_tracking_server_and_no_key_of_the_registry(live: Live, retrained: str) -> None:
    without = {"RETRAIN_DATABASE_URL": "", "MLFLOW_TRACKING_URI": live.address(PORTS[1])}
    elsewhere = Live(live.home, {**live.environment, **without}, live.folder)
    listed = elsewhere.retrain("show", "jena-sample@champion")
    assert listed.returncode == 0, listed.stderr
    assert "gru_baseline" in listed.stdout


def test_the_password_is_on_no_command_line_and_in_no_log(live: Live, retrained: str) -> None:
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if PASSWORD.encode() in line]
    logs = list(Path(live.environment["XDG_STATE_HOME"]).rglob("*.log"))
    assert {"prefect.log", "mlflow.log", "worker-cpu.log"} <= {path.name for path in logs}
    assert not [path.name for path in logs if PASSWORD in path.read_text(encoding="utf-8", errors="replace")]


def test_reports_are_served_from_the_object_store(live: Live, retrained: str) -> None:
    report = live.artifacts(retrained)["report-jena-sample"]["data"]
    address = next(word.strip("()[]<>|") for word in report.replace("](", " ").split() if live.address(PORTS[2]) in word)
    with urllib.request.urlopen(address) as answer:  # noqa: S310
        assert answer.status == 200
