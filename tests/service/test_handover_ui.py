"""What people see when a version waits for them: the message, the form at Resume, the model card, and the message after it.

With RETRAIN_SCREENSHOTS set, the pages are kept in docs/images.
"""

from __future__ import annotations

import html
import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from service_helpers import PORTS, SAMPLE, Listener, Live, running_service, wait_for
from test_ui import RUN_MS, bottom, keep, page  # noqa: F401  (a fixture)

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAME = "jena-sample"
BASELINE: dict[str, Any] = {"variants": ["ridge"], "training": {"run_on": "local"}, "data": SAMPLE}
BY_HAND = {"promote": "manual", "allow_baselines": True}
KINDS = "waiting,champion,failed,success"

pytestmark = [pytest.mark.ui, pytest.mark.slow, pytest.mark.timeout(RUN_MS // 1000 + 900)]


class Phone(Listener):
    """A webhook whose page shows the messages as they were received, on a small screen."""

    def do_GET(self) -> None:  # noqa: N802  (the name that the server calls)
        rows = "".join(
            f"<div><b>{html.escape(entry['subject'])}</b><p>{html.escape(entry['text'])}</p><u>{html.escape(entry['page'])}</u></div>"
            for entry in messages()
        )
        style = (
            "body{margin:0;padding:12px;background:#e8e8ec;font:15px/1.35 sans-serif;width:336px}"
            "div{background:#fff;border-radius:12px;padding:10px 12px;margin-bottom:10px}p{margin:4px 0}"
            "u{color:#2257c9;font-size:11px;word-break:break-all}"
        )
        content = f"<!doctype html><meta charset=utf-8><style>{style}</style>{rows}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(content)


def messages() -> list[dict[str, str]]:
    return [json.loads(body) for body in Phone.told]


@pytest.fixture(scope="module")
def live(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:  # noqa: F811
    with running_service(tmp_path_factory.mktemp("handover") / "home") as service:
        yield service


@pytest.fixture(scope="module")
def phone() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Phone)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_a_person_is_told_that_a_version_waits_and_promotes_it(page: Page, live: Live, phone: str) -> None:  # noqa: F811
    from playwright.sync_api import expect

    added = live.retrain("notify", "add", "webhook", "--url-from-env", "PHONE", "--on", KINDS, PHONE=phone)
    assert added.returncode == 0, added.stderr
    started = live.start("retrain/retrain-jena", **BASELINE, promotion=BY_HAND)
    retrained = live.ended(started, within_s=RUN_MS / 1000)
    assert retrained["state_type"] == "COMPLETED", live.told(started)
    wait_for(lambda: "Waits for you: approve jena-sample@2" in subjects(), 180, messages)
    waiting = next(entry for entry in messages() if entry["subject"].startswith("Waits for you"))

    see_model_card(page, live)

    # The link of the message leads to the run, whose menu has Resume.
    run_id = waiting["page"].rsplit("/", 1)[1]
    page.goto(f"{live.address(PORTS[0])}/v2/runs/flow-run/{run_id}")
    page.get_by_role("button", name="Open menu").first.click()
    page.get_by_role("menuitem", name="Resume").click()
    form = page.get_by_role("dialog")
    expect(form.get_by_text("jena-sample@2 waits. v1 passed every check")).to_be_visible()
    for help_text in ("Why. The log of decisions keeps it.", "Who decides."):
        expect(form.get_by_text(help_text)).to_be_visible()
    form.get_by_role("button", name="Select").click()
    page.get_by_role("option", name="promote", exact=True).click()
    form.get_by_role("textbox").nth(0).fill("Compared with the station by hand.")
    form.get_by_role("textbox").nth(1).fill("ben")
    keep(page, "approval.png", clip={"x": 0, "y": 0, "width": 1280, "height": 900})
    form.get_by_role("button", name="Resume").click()
    expect(form).to_be_hidden()  # the answer is at the server
    page.goto("about:blank")  # a page in motion takes a core
    ended = live.ended(run_id)
    assert ended["state"]["message"] == "Promoted v2: by ben: Compared with the station by hand.", live.told(run_id)
    assert live.versions(NAME) == {1: (), 2: ("candidate", "champion")}

    wait_for(lambda: "jena-sample: v2 is champion, before none" in subjects(), 60, messages)
    assert all(len(entry["subject"] + entry["text"]) < 180 for entry in messages())
    page.set_viewport_size({"width": 360, "height": 640})
    page.goto(phone)
    last = page.locator("div").last
    expect(last).to_be_visible()
    keep(page, "notification.png", clip={"x": 0, "y": 0, "width": 360, "height": bottom(last) + 12})


def subjects() -> list[str]:
    return [entry["subject"] for entry in messages()]


def see_model_card(page: Page, live: Live) -> None:  # noqa: F811
    """Open the version in MLflow: its card is its description."""
    from playwright.sync_api import expect

    page.goto(f"{live.address(PORTS[1])}/#/models/{NAME}/versions/2")
    expect(page.get_by_role("heading", name="ridge: Jena weather, ten-minute readings")).to_be_visible()
    expect(page.get_by_text("95 % interval")).to_be_visible()
    expect(page.get_by_text("Nobody has measured this version")).to_be_attached()
    for panel in page.get_by_role("button", name="Close", exact=True).all():
        panel.click()
    keep(page, "model-card.png", clip={"x": 0, "y": 0, "width": 1280, "height": 900})
    page.goto("about:blank")
