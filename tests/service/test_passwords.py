"""A service with a password: strangers are refused everywhere, runs work, and the password is found nowhere but in its file."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from postgres_helpers import postgres_programs, running_postgres
from service_helpers import PORTS, QUICK, SAMPLE, Live, fetch, running_service, wait_for
from sqlalchemy import create_engine, text

USER, PASSWORD = "team", "planted-e81d%20 a:secret"
DATABASE_PASSWORD = "planted-5c07:/@%20?#of the database"
OWN_STRING = "admin:planted-77b1-of-prefect"

pytestmark = [pytest.mark.service, pytest.mark.timeout(900)]


def password_file(folder: Path, password: str = PASSWORD) -> Path:
    file = folder / "password"
    file.write_text(f"{password}\n", encoding="utf-8")
    file.chmod(0o600)
    return file


@dataclass(frozen=True)
class Secrets:
    """A service in whose settings secrets are planted.

    Attributes:
        folder: Everything that it writes lies there: the store, and what the host keeps for itself.
        dump: Writes its databases on PostgreSQL as SQL.
    """

    live: Live
    folder: Path
    dump: Callable[[], str]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secrets]:
    folder = tmp_path_factory.mktemp("passwords")
    file = password_file(tmp_path_factory.mktemp("elsewhere"))
    own = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder)}
    with running_postgres() as postgres:
        make_user(postgres)
        address = urllib.parse.urlsplit(postgres)
        database = f"postgresql://planted:{urllib.parse.quote(DATABASE_PASSWORD, safe='')}@{address.hostname}:{address.port}/team"

        def dump() -> str:
            names = [f"--dbname={database}_{part}" for part in ("prefect", "mlflow")]
            return "".join(
                subprocess.run([postgres_programs() / "pg_dump", name], check=True, capture_output=True, text=True).stdout
                for name in names
            )

        with running_service(folder / "home", RETRAIN_AUTH=f"{USER}:{file}", RETRAIN_DATABASE_URL=database, **own) as service:
            yield Secrets(service, folder, dump)


@pytest.fixture(scope="module")
def live(planted: Secrets) -> Live:
    return planted.live


def make_user(postgres: str) -> None:
    """Make a user of PostgreSQL whose password has every character that an address must quote."""
    engine = create_engine(f"{postgres}/postgres")
    with engine.connect() as connection:
        connection.execute(text(f"create role planted login createdb password '{DATABASE_PASSWORD}'"))
        connection.commit()
    engine.dispose()


def status(url: str, *, auth: str | None = None) -> int:
    """The status of an answer, to whoever has these credentials."""
    try:
        fetch(url, auth=auth)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that was refused said."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert PASSWORD not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


PRIVATE = (
    (0, "/api/admin/version"),
    (0, "/api/admin/settings"),
    (0, "/api/deployments/name/retrain/retrain-jena"),
    (1, "/"),
    (1, "/version"),
    (1, "/api/2.0/mlflow/experiments/get?experiment_id=0"),
    (1, "/api/2.0/mlflow-artifacts/artifacts"),
    (1, "/get-artifact?path=manifest.json&run_uuid=0"),
    (1, "/signup"),
    (1, "/api/2.0/mlflow/users/get?username=team"),
    (2, "/"),
    (2, "/jena/"),
)


@pytest.mark.parametrize(("server", "path"), PRIVATE)
@pytest.mark.parametrize("auth", [None, "admin:password1234", "team:not-the-password", "team:", f"other:{PASSWORD}"])
def test_strangers_are_refused(live: Live, server: int, path: str, auth: str | None) -> None:
    assert status(f"{live.address(PORTS[server])}{path}", auth=auth) == 401


@pytest.mark.parametrize(
    ("server", "path"), [entry for entry in PRIVATE if "0" not in entry[1].split("?")[-1] and "jena/" not in entry[1]]
)
def test_the_user_is_let_in(live: Live, server: int, path: str) -> None:
    fetch(f"{live.address(PORTS[server])}{path}", auth=live.auth)


def test_health_is_told_to_everybody(live: Live) -> None:
    assert fetch(f"{live.address(PORTS[0])}/api/health") == "true"
    assert fetch(f"{live.address(PORTS[1])}/health") == "OK"
    assert fetch(f"{live.address(PORTS[2])}/-/health") == "OK"


def test_a_wrong_password_is_one_line(live: Live, tmp_path: Path) -> None:
    wrong = {"RETRAIN_AUTH": f"{USER}:{password_file(tmp_path, 'not-the-password')}"}
    api = {"PREFECT_API_URL": f"{live.address(PORTS[0])}/api"}
    mlflow = {"MLFLOW_TRACKING_URI": live.address(PORTS[1])}
    said = "are not its own; set RETRAIN_AUTH=USER:FILE"
    assert said in one_line(live.retrain("up", **wrong))
    assert said in one_line(live.retrain("notify", "list", **wrong))
    assert said in one_line(live.retrain("worker", "cpu", **wrong, **api))
    assert said in one_line(live.retrain("models", **wrong, **mlflow))
    refused = live.retrain("run", "jena", "--data", "sample", **wrong, **api)
    assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
    assert "wants a user and password" in one_line(live.retrain("notify", "list", RETRAIN_AUTH=""))
    assert "wants a user and password" in one_line(live.retrain("models", RETRAIN_AUTH="", **mlflow))


@pytest.fixture(scope="module")
def run(live: Live) -> dict[str, Any]:
    return live.ended(live.start("retrain/retrain-jena", data=SAMPLE, training=QUICK, promotion={"refit": False}), within_s=600)


def test_a_run_goes_through_both_pools(live: Live, run: dict[str, Any]) -> None:
    assert run["state_type"] == "COMPLETED", live.told(run["id"])
    assert {entry["state_type"] for entry in live.trains(run["id"])} == {"COMPLETED"}


def test_the_registry_is_read_over_http(live: Live, run: dict[str, Any]) -> None:
    done = live.retrain("models", "--json", MLFLOW_TRACKING_URI=live.address(PORTS[1]))
    assert done.returncode == 0, done.stderr
    assert {entry["name"] for entry in json.loads(done.stdout)} == {"jena-sample"}


def test_its_report_is_for_the_user_alone(live: Live, run: dict[str, Any]) -> None:
    report = live.artifacts(run["id"])["report-jena-sample"]["data"]
    words = report.replace("](", " ").split()
    address = next(word.strip("()[]<>|") for word in words if live.address(PORTS[2]) in word)
    assert "Great Expectations" in fetch(address, auth=live.auth)
    assert status(address) == 401


def forms_of(secret: str) -> dict[str, bytes]:
    """A secret as it is, and as what travels and what is stored may hold it."""
    joined = f"{USER}:{secret}"
    # The bytes in the middle of an encoded secret do not depend on what stands before and after it.
    encoded = {f"base64, shifted {shift}": base64.b64encode(b" " * shift + secret.encode())[4:-4] for shift in range(3)}
    return {
        "plain": secret.encode(),
        "quoted": urllib.parse.quote(secret, safe="").encode(),
        "json": json.dumps(secret)[1:-1].encode(),
        "basic": base64.b64encode(joined.encode()),
        **encoded,
    }


def places_of(secret: str, *, folder: Path) -> list[str]:
    """Where a secret is found: in files, in the rows of databases, and on the command lines of this machine."""
    forms = forms_of(secret)
    places = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if content[:16] == b"SQLite format 3\0":
                with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
                    content += "\n".join(database.iterdump()).encode()
            places += [f"{path}: {form}" for form, needle in forms.items() if needle in content]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        places += [f"{path}: {form}" for form, needle in forms.items() if needle in content]
    return places


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text(f"password={PASSWORD}")
    (tmp_path / "header").write_bytes(b"authorization: Basic " + base64.b64encode(f"anyone:{PASSWORD}".encode()))
    (tmp_path / "address").write_text(f"http://{USER}:{urllib.parse.quote(PASSWORD, safe='')}@host")
    with closing(sqlite3.connect(tmp_path / "database")) as database, database:
        database.execute("create table rows (value text)")
        database.execute("insert into rows values (?)", (PASSWORD,))
        database.commit()
    with subprocess.Popen([sys.executable, "-c", "input()", PASSWORD], stdin=subprocess.PIPE) as process:
        wait_for(lambda: bool(Path(f"/proc/{process.pid}/cmdline").read_bytes()), 10, lambda: "")
        found = places_of(PASSWORD, folder=tmp_path)
        process.communicate(b"\n")
    for name in ("plain", "header", "address", "database", f"{process.pid}/cmdline"):
        assert any(name in place for place in found), f"{name} is not among {found}"


@pytest.mark.parametrize("secret", [PASSWORD, DATABASE_PASSWORD])
def test_a_secret_is_nowhere_but_where_it_was_planted(planted: Secrets, run: dict[str, Any], secret: str) -> None:
    """Store, folders of the host, databases, logs and command lines, while everything runs; and what the servers tell."""
    live = planted.live
    assert run["state_type"] == "COMPLETED"
    assert len(list(live.home.rglob("*"))) > 100
    # While a run goes on, Prefect keeps its environment in a file that only its user may read, and removes it at the end.
    wait_for(lambda: not places_of(secret, folder=planted.folder), 60, lambda: places_of(secret, folder=planted.folder))
    told = {
        "log of the run": live.told(run["id"]),
        "settings": json.dumps(live.ask("/admin/settings")),
        "artifacts": json.dumps(live.ask("/artifacts/filter", {})),
        "work pools": json.dumps(live.ask("/work_pools/filter", {})),
        "runs": json.dumps(live.ask("/flow_runs/filter", {})),
        "deployments": json.dumps(live.ask("/deployments/filter", {})),
        "databases": planted.dump(),
    }
    assert "CREATE TABLE public.flow_run" in told["databases"]
    assert "CREATE TABLE public.model_versions" in told["databases"]
    found = [name for name, content in told.items() if any(form in content.encode() for form in forms_of(secret).values())]
    assert found == []


def test_prefects_own_password_alone_is_served(tmp_path: Path) -> None:
    """`PREFECT_SERVER_API_AUTH_STRING` without anything else: `up` died of an uncaught 401 before a worker started."""
    with running_service(tmp_path / "home", PREFECT_SERVER_API_AUTH_STRING=OWN_STRING) as service:
        for pool in ("cpu", "gpu"):
            workers = service.ask(f"/work_pools/{pool}/workers/filter", {})
            assert [worker["status"] for worker in workers] == ["ONLINE"], pool
        assert status(f"{service.address(PORTS[0])}/api/admin/version") == 401
        assert service.retrain("notify", "list").returncode == 0
        assert places_of(OWN_STRING.partition(":")[2], folder=tmp_path) == []
