"""The report server: what it shows as users are used to, and that nothing leads out of the reports."""

from __future__ import annotations

import asyncio
import base64
import os
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from flows.runtime import service
from flows.runtime.authentication import AsgiApp, Credentials
from flows.runtime.report_server import HEALTH, create_app

PASSWORD = "a long password"
OUTSIDE = "of nobody's business"
REPORT = "# jena\n\nMAE 2.35 °C\n"


@pytest.fixture(params=["local", "remote"])
def reports(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    """A store's reports, on a disk and behind an fsspec URL, with something beside them that is none of theirs."""
    root = UPath(tmp_path) if request.param == "local" else UPath(f"memory://{uuid.uuid4().hex}")
    files = {
        "reports/jena/0f/index.html": "<html><body>Data Docs</body></html>",
        "reports/jena/0f/report.md": REPORT,
        "reports/jena/0f/validation.json": '{"a": 1}',
        "reports/jena/0f/static/images/logo.svg": "<svg/>",
        "reports/jena/0f/.index.html.lock": "",
        "reports/jena/a b & <c>/report.md": "odd",
        "prefect/prefect.db": OUTSIDE,
        "secret.txt": OUTSIDE,
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    return root / "reports"


def ask(app: AsgiApp, path: str, *, method: str = "GET", **options: Any) -> httpx.Response:
    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(request())


def get(reports: UPath, path: str, **options: Any) -> httpx.Response:
    return ask(create_app(reports, credentials=None), path, **options)


def test_folders_are_listed_and_an_index_is_shown(reports: UPath) -> None:
    root = get(reports, "/")
    assert (root.status_code, root.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<html" in root.text
    assert 'href="./jena/"' in root.text
    assert '<a href="./a%20b%20%26%20%3Cc%3E/">a b &amp; &lt;c&gt;/</a>' in get(reports, "/jena/").text
    assert get(reports, "/jena/0f/").text == "<html><body>Data Docs</body></html>"
    static = get(reports, "/jena/0f/static/").text
    assert 'href="./images/"' in static


def test_a_folder_without_a_slash_leads_to_it_under_any_prefix(reports: UPath) -> None:
    answer = get(reports, "/jena/0f")
    assert (answer.status_code, answer.headers["location"]) == (308, "0f/")


def test_a_file_is_told_as_what_it_is_and_shown(reports: UPath) -> None:
    report = get(reports, "/jena/0f/report.md")
    assert (report.text, report.headers["content-type"]) == (REPORT, "text/plain; charset=utf-8")
    assert report.headers["content-length"] == str(len(REPORT.encode()))
    assert get(reports, "/jena/0f/validation.json").headers["content-type"] == "text/plain; charset=utf-8"
    assert get(reports, "/jena/0f/static/images/logo.svg").headers["content-type"] == "image/svg+xml"
    assert get(reports, "/jena/a%20b%20&%20%3Cc%3E/report.md").text == "odd"


def test_a_head_has_the_length_and_no_body(reports: UPath) -> None:
    for path in ("/", "/jena/0f/report.md"):
        whole, head = get(reports, path), get(reports, path, method="HEAD")
        assert head.status_code == 200
        assert head.headers["content-length"] == whole.headers["content-length"]
    assert get(reports, "/jena/0f/report.md", method="HEAD").content == b""


def test_what_is_not_there_and_what_is_hidden_is_not_found(reports: UPath) -> None:
    for path in ("/nothing", "/jena/0f/nothing.html", "/jena/0f/report.md/", "/jena/0f/.index.html.lock", "/jena//0f/report.md"):
        assert get(reports, path).status_code == 404, path
    assert ".lock" not in get(reports, "/jena/0f/static/../").text


def test_nothing_can_be_written(reports: UPath) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert get(reports, "/jena/0f/report.md", method=method).status_code == 405


def test_reports_that_come_later_are_found(reports: UPath) -> None:
    app = create_app(reports, credentials=None)
    assert "1a" not in ask(app, "/jena/").text
    new = reports / "jena" / "1a" / "report.md"
    new.parent.mkdir(parents=True, exist_ok=True)
    new.write_bytes(b"new")
    assert "1a/" in ask(app, "/jena/").text
    assert ask(app, "/jena/1a/report.md").text == "new"


def test_a_store_without_reports_says_so(tmp_path: Path) -> None:
    for reports in (UPath(tmp_path / "none"), UPath(f"memory://{uuid.uuid4().hex}/reports")):
        answer = get(reports, "/")
        assert answer.status_code == 200
        assert "Nothing here yet" in answer.text


ESCAPES = (
    "/../secret.txt",
    "/..%2fsecret.txt",
    "/%2e%2e/secret.txt",
    "/jena/../../secret.txt",
    "/jena/%2e%2e/%2e%2e/secret.txt",
    "/jena/0f/..%5c..%5c..%5csecret.txt",
    "//secret.txt",
    "/./../secret.txt",
    "/%00/secret.txt",
)


def raw(app: AsgiApp, path: str) -> tuple[int, bytes]:
    """Ask with a path as it is: a client would take the dots out."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    from urllib.parse import unquote

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(errors="replace"),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "server": ("test", 80),
        "client": ("test", 1),
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("path", ESCAPES)
def test_no_address_leads_out(reports: UPath, path: str) -> None:
    status, body = raw(create_app(reports, credentials=None), path)
    assert status == 404
    assert OUTSIDE.encode() not in body


def test_no_link_leads_out(tmp_path: Path) -> None:
    reports = UPath(tmp_path / "reports")
    (tmp_path / "reports" / "jena").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text(OUTSIDE)
    (tmp_path / "reports" / "jena" / "file").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "reports" / "jena" / "folder").symlink_to(tmp_path)
    (tmp_path / "reports" / "jena" / "circle").symlink_to("circle")
    (tmp_path / "reports" / "jena" / "index.html").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "reports" / "inside").symlink_to("jena")
    os.mkfifo(tmp_path / "reports" / "jena" / "pipe")
    for path in ("/jena/file", "/jena/folder/secret.txt", "/jena/folder/", "/jena/circle", "/jena/index.html", "/jena/pipe"):
        assert get(reports, path).status_code == 404, path
    assert OUTSIDE not in get(reports, "/jena/").text
    assert get(reports, "/inside/").status_code == 200


def test_a_folder_of_reports_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "report.md").write_text("here")
    (tmp_path / "reports").symlink_to("elsewhere")
    assert get(UPath(tmp_path / "reports"), "/report.md").text == "here"


@given(
    names=st.lists(
        st.sampled_from(["..", ".", "", "jena", "0f", "secret.txt", "reports", "..\\", "%2e%2e", "~", "\0"]), max_size=8
    )
)
def test_whatever_the_address_nothing_else_is_shown(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "hypothesis-of-reports"
    (root / "reports" / "jena" / "0f").mkdir(parents=True, exist_ok=True)
    (root / "secret.txt").write_text(OUTSIDE)
    status, body = raw(create_app(UPath(root / "reports"), credentials=None), "/" + "/".join(names))
    assert status in {200, 308, 404}
    assert OUTSIDE.encode() not in body


def test_headers_keep_pages_private_and_scripts_away_from_other_servers(reports: UPath) -> None:
    for path in ("/", "/jena/0f/", "/jena/0f/report.md", "/nothing"):
        headers = get(reports, path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        policy = headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= set(policy)
        (sandbox,) = [part for part in policy if part.startswith("sandbox")]
        assert "allow-same-origin" not in sandbox


def test_only_who_has_the_password_reads(reports: UPath) -> None:
    app = create_app(reports, credentials=Credentials("team", PASSWORD))
    for path in ("/", "/jena/0f/report.md", "/nothing"):
        stranger = ask(app, path)
        assert stranger.status_code == 401
        assert stranger.headers["www-authenticate"].startswith("Basic ")
        assert "jena" not in stranger.text
        assert ask(app, path, auth=("team", "another")).status_code == 401
    assert ask(app, "/jena/0f/report.md", auth=("team", PASSWORD)).text == REPORT
    header = {"Authorization": f"Basic {base64.b64encode(f'team:{PASSWORD}'.encode()).decode()}"}
    assert "jena" in ask(app, "/", headers=header).text


def test_health_needs_no_password(reports: UPath) -> None:
    assert service.HEALTH["docs"] == HEALTH
    answer = ask(create_app(reports, credentials=Credentials("team", PASSWORD)), HEALTH)
    assert (answer.status_code, answer.text) == (200, "OK")
