"""nginx with TLS in front of a team's service with a password, each page under a prefix: a browser, and hosts, through it.

Prefect and MLflow keep their rows in PostgreSQL, and the store is on an S3. The configuration is that of
`flows/runtime/configuration/nginx.conf`, with the ports, the name and the certificate of the test. The hub's own workers are
stopped: whatever runs here is taken up by workers that reach Prefect and MLflow through nginx alone. With RETRAIN_SCREENSHOTS
set, pages are kept in docs/images.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from object_store import BUCKET, running_object_store
from postgres_helpers import running_postgres
from service_helpers import PORTS, ROOT, Live, free_ports, running_service, wait_for
from test_ui import FINAL, RUN_MS, bottom, browser_page, field, keep, open_form

if TYPE_CHECKING:
    from playwright.sync_api import Page

USER, PASSWORD = "team", "planted-9f2c%41 behind:nginx"
NAME = "localhost"

pytestmark = [pytest.mark.ui, pytest.mark.service, pytest.mark.timeout(RUN_MS // 1000 + 900)]


@dataclass(frozen=True)
class Hub:
    """A service behind nginx.

    Attributes:
        folder: Where nginx and the workers keep their files.
        address: Of nginx, without a prefix.
        client: Variables of a host that reaches the service through it.
    """

    live: Live
    folder: Path
    address: str
    client: Mapping[str, str]

    def retrain(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the command on a host that knows nothing but the addresses of nginx."""
        return self.live.retrain(*arguments, **{**self.client, **more})


def certificate(folder: Path) -> Path:
    """Make a certificate that is its own authority, and a file of those that this machine trusts and of this one."""
    folder.mkdir()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    names = ["-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run([*command, *names], check=True, capture_output=True)
    system = ssl.get_default_verify_paths().cafile
    trusted = Path(system).read_text(encoding="utf-8") if system and Path(system).is_file() else ""
    bundle = folder / "authorities.pem"
    bundle.write_text(trusted + (folder / "certificate.pem").read_text(encoding="utf-8"), encoding="utf-8")
    return bundle


def configuration(folder: Path, *, ports: Mapping[str, str]) -> Path:
    """Write the example with the addresses of the test, and what Debian's nginx.conf has around it."""
    example = (ROOT / "flows/runtime/configuration/nginx.conf").read_text(encoding="utf-8")
    replaced = {
        "listen 80;": f"listen 127.0.0.1:{ports['http']};",
        "listen [::]:80;": "",
        "listen 443 ssl;": f"listen 127.0.0.1:{ports['https']} ssl;",
        "listen [::]:443 ssl;": "",
        "retrain.example.org": NAME,
        "/etc/ssl/retrain": str(folder),
        "127.0.0.1:4200": f"127.0.0.1:{ports['prefect']}",
        "127.0.0.1:5000": f"127.0.0.1:{ports['mlflow']}",
        "127.0.0.1:5001": f"127.0.0.1:{ports['docs']}",
    }
    for old, new in replaced.items():
        assert old in example, f"flows/runtime/configuration/nginx.conf lacks {old!r}"
        example = example.replace(old, new)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    user = "user root;\n" if os.getuid() == 0 else ""
    file = folder / "nginx.conf"
    file.write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log warn;\nevents {{}}\n"
        f"http {{\naccess_log {folder}/access.log;\n{temporary}{example}}}\n",
        encoding="utf-8",
    )
    return file


def is_answered(url: str, *, context: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(url, context=context, timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("no nginx here: install it (Debian: apt-get install nginx-light)")
    folder = tmp_path_factory.mktemp("proxy")
    file = folder / "password"
    file.write_text(f"{PASSWORD}\n", encoding="utf-8")
    file.chmod(0o600)
    http, https = map(str, free_ports(2))
    address = f"https://{NAME}:{https}"
    bundle = certificate(folder / "tls")
    variables = {
        "RETRAIN_AUTH": f"{USER}:{file}",
        "RETRAIN_PREFECT_ADDRESS": f"{address}/prefect",
        "RETRAIN_MLFLOW_ADDRESS": f"{address}/mlflow",
        "RETRAIN_DOCS_ADDRESS": f"{address}/reports",
    }
    client = {
        "PREFECT_API_URL": f"{address}/prefect/api",
        "MLFLOW_TRACKING_URI": f"{address}/mlflow",
        "RETRAIN_DATABASE_URL": "",
        "SSL_CERT_FILE": str(bundle),
        "REQUESTS_CA_BUNDLE": str(bundle),
        "NO_PROXY": NAME,
    }
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        objects = stack.enter_context(running_object_store(tmp_path_factory.mktemp("objects")))
        variables |= objects.environment | {
            "RETRAIN_DATABASE_URL": f"{postgres}/team",
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        live = stack.enter_context(running_service(f"s3://{BUCKET}/store", folder=folder, **variables))
        own = {name: live.environment[port] for name, port in zip(("prefect", "mlflow", "docs"), PORTS, strict=True)}
        conf = configuration(bundle.parent, ports={"http": http, "https": https, **own})
        started = subprocess.Popen([nginx, "-p", str(bundle.parent), "-e", str(bundle.parent / "error.log"), "-c", str(conf)])
        stack.callback(started.wait, 30)
        stack.callback(started.terminate)
        context = ssl.create_default_context(cafile=str(bundle))
        wait_for(
            lambda: is_answered(f"{address}/prefect/api/health", context=context), 30, (bundle.parent / "error.log").read_text
        )
        for pool in ("cpu", "gpu"):
            live.supervisor("stop", f"worker-{pool}")
            log = stack.enter_context((folder / f"worker-{pool}.log").open("w"))
            environment = {**live.environment, **client, "HOME": str(folder), "PREFECT_HOME": str(folder / pool)}
            command = [sys.executable, "-m", "flows.cli.app", "worker", pool]
            worker = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
            stack.callback(worker.wait, 90)
            stack.callback(worker.terminate)
        yield Hub(live, folder, address, client)


@pytest.fixture(scope="module")
def page(hub: Hub) -> Iterator[Page]:
    """A page of a real browser, which knows user and password and reaches nothing but nginx."""
    credentials = {"username": USER, "password": PASSWORD, "origin": hub.address}
    with browser_page(f"{hub.address}/", ignore_https_errors=True, http_credentials=credentials) as page:
        yield page


@pytest.fixture(scope="module")
def logged_in(page: Page, hub: Hub) -> Page:
    """The page after a person has given user and password: a wrong one first."""
    page.goto(f"{hub.address}/")
    password = page.locator("input[type=password]")
    password.wait_for()
    page.wait_for_timeout(1_000)  # fonts and pictures
    keep(page, "log-in.png")
    password.fill(f"{USER}:not the password")
    page.keyboard.press("Enter")
    page.wait_for_timeout(2_000)
    assert "/prefect/" in page.url
    password.fill(f"{USER}:{PASSWORD}")
    page.keyboard.press("Enter")
    password.wait_for(state="detached")
    return page


def test_both_versions_of_the_pages_are_under_the_prefix(logged_in: Page, hub: Hub) -> None:
    from playwright.sync_api import expect

    for version in ("/v2", ""):
        logged_in.goto(f"{hub.address}/prefect{version}/deployments")
        expect(logged_in.get_by_text("retrain-jena", exact=True).first).to_be_visible()
        assert logged_in.url.startswith(f"{hub.address}/prefect{version}/deployments")


@pytest.mark.slow
def test_a_person_starts_a_run_and_reads_what_came_of_it(logged_in: Page, hub: Hub) -> None:
    from playwright.sync_api import expect

    page = logged_in
    open_form(page, f"{hub.address}/prefect/")
    field(page, "Data").get_by_role("button", name="Select Data").click()
    page.get_by_role("option", name="sample", exact=True).click()
    for title, value in (("Epochs", "2"), ("Steps Per Epoch", "30")):
        field(page, title).get_by_role("tab", name="int", exact=True).click()
        field(page, title).locator("input[type=number]").fill(value)
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="View run").or_(page.get_by_role("link", name="View run")).first.click()
    page.wait_for_url("**/runs/flow-run/*")
    address = page.url
    assert address.startswith(f"{hub.address}/prefect/")
    run_id = address.split("/flow-run/")[1].split("?")[0]
    page.goto("about:blank")
    run = hub.live.ended(run_id, within_s=RUN_MS / 1000)
    assert run["state_type"] == "COMPLETED", hub.live.told(run_id)
    page.goto(address)
    page.get_by_role("tab", name="Details").click()
    expect(page.get_by_text(FINAL).first).to_have_text("Promoted")

    the_report_opens(page)
    the_links_of_the_report_open(page, hub)
    every_run_came_through_nginx(hub, run_id)


def the_report_opens(page: Page) -> None:
    from playwright.sync_api import expect

    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("report-jena-sample", exact=True).first.click()
    page.get_by_role("link", name=re.compile("^[0-9a-f]{8}$")).first.click()
    expect(page.get_by_role("heading", name="Checks before promotion")).to_be_visible()


def the_links_of_the_report_open(page: Page, hub: Hub) -> None:
    from playwright.sync_api import expect

    report = page.url
    data_docs = page.get_by_role("link", name="Data Docs")
    assert str(data_docs.get_attribute("href")).startswith(f"{hub.address}/reports/jena/")
    table_version = str(data_docs.get_attribute("href")).split("/")[-2]
    data_docs.click()
    page.wait_for_url(f"**/reports/jena/{table_version}/index.html")
    expect(page).to_have_title("Data Docs created by Great Expectations")
    page.get_by_role("link", name=f"validations/jena-{table_version}/").click()
    expect(page.get_by_text("Status: Succeeded")).to_be_visible()
    # The page is in the sandbox: it reads nothing that the other pages of this origin keep, such as Prefect's password.
    assert page.evaluate("() => { try { return localStorage.length } catch (error) { return error.name } }") == "SecurityError"

    page.goto(f"{hub.address}/reports/")
    page.get_by_role("link", name="jena/", exact=True).click()
    page.wait_for_url("**/reports/jena/")

    page.goto(report)
    page.get_by_role("link", name="MLflow run").click()
    assert page.url.startswith(f"{hub.address}/mlflow/")
    expect(page.get_by_role("heading", name=re.compile(rf"^gru_(baseline|dropout) {table_version}$"))).to_be_visible()
    expect(page.get_by_text("mae_degc", exact=True).first).to_be_visible()
    for panel in page.get_by_role("button", name="Close", exact=True).all():
        panel.click()
    keep(
        page, "mlflow-behind-nginx.png", clip={"x": 0, "y": 0, "width": 1280, "height": min(900.0, bottom(page.locator("body")))}
    )


def every_run_came_through_nginx(hub: Hub, run_id: str) -> None:
    """The workers are those of the other host, and the models went through nginx into MLflow."""
    for pool in ("cpu", "gpu"):
        online = [
            entry["name"] for entry in hub.live.ask(f"/work_pools/{pool}/workers/filter", {}) if entry["status"] == "ONLINE"
        ]
        assert any(re.fullmatch(rf"{pool}-.+-\d+", name) for name in online), online
    assert {run["state_type"] for run in hub.live.trains(run_id)} == {"COMPLETED"}
    log = (hub.folder / "tls" / "access.log").read_text(encoding="utf-8")
    assert re.search(r'"POST /prefect/api/work_pools/gpu/get_scheduled_flow_runs HTTP/1.1" 200', log)
    assert re.search(r'"PUT /mlflow/api/2.0/mlflow-artifacts/artifacts/\S+\.keras HTTP/1.1" 200', log)


def test_the_command_works_through_nginx(hub: Hub) -> None:
    steps = ("--variants", "gru_baseline", "--epochs", "1", "--steps", "20")
    done = hub.retrain("run", "jena", "--data", "sample", *steps, "--promote", "never")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{hub.address}/mlflow/#" in done.stdout
    models = hub.retrain("models")
    assert models.returncode == 0, models.stderr
    assert "jena-sample@1" in models.stdout


def test_an_unknown_certificate_is_named_with_its_remedy(hub: Hub) -> None:
    done = hub.retrain("notify", "list", SSL_CERT_FILE="", REQUESTS_CA_BUNDLE="")
    assert done.returncode == 2
    assert "SSL_CERT_FILE" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("path", ["/prefect/api/admin/version", "/mlflow/", "/mlflow/version", "/reports/"])
def test_strangers_are_refused_behind_nginx_too(hub: Hub, path: str) -> None:
    context = ssl.create_default_context(cafile=hub.client["SSL_CERT_FILE"])
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(f"{hub.address}{path}", context=context)  # noqa: S310
    refused.value.close()
