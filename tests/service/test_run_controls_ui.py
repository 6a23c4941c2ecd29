"""A person pauses, resumes, cancels and retries a run on its page, in both versions of the UI, and the run does so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from service_helpers import PORTS, SAMPLE, Live, flow_run_of, wait_for, working_on
from test_ui import RUN_MS, live, page  # noqa: F401  (fixtures)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.ui, pytest.mark.slow, pytest.mark.timeout(RUN_MS // 1000 + 900)]

# Long enough to be met in its middle, minutes at most.
BUDGET: dict[str, Any] = {
    "dataset": "jena",
    "variants": ["gru_baseline"],
    "data": SAMPLE,
    "training": {"epochs": 30, "steps_per_epoch": 60, "run_on": "work_pool"},
    "promotion": {"promote": "never"},
}


def processes(live: Live, run_id: str) -> list[int]:  # noqa: F811
    return [pid for pid in working_on(live.home) if flow_run_of(pid) == run_id]


def trains_at_work(live: Live, run_id: str) -> list[str]:  # noqa: F811
    return [str(run["id"]) for run in live.trains(run_id) if run["state_type"] == "RUNNING"]


def test_pause_resume_cancel_and_retry_do_what_they_say(page: Page, live: Live) -> None:  # noqa: F811
    run_id = live.start("retrain/retrain-jena", **BUDGET)
    wait_for(lambda: len(trains_at_work(live, run_id)) == 1, 300, lambda: live.told(run_id))

    pause(page, live, run_id)
    wait_for(lambda: not processes(live, run_id), 60, lambda: live.told(run_id))
    assert live.run(run_id)["state_name"] == "Suspended"
    assert "this run was paused: its process ends" in live.told(run_id)

    resume(page, live, run_id)
    wait_for(
        lambda: bool(processes(live, run_id)) and live.run(run_id)["state_type"] == "RUNNING", 120, lambda: live.told(run_id)
    )
    # The training went on meanwhile, and no second one was started.
    assert len(live.trains(run_id)) == 1

    cancel(page, live, run_id)
    assert live.ended(run_id)["state_name"] == "Cancelled"
    wait_for(lambda: not trains_at_work(live, run_id), 120, lambda: live.trains(run_id))
    wait_for(lambda: not processes(live, run_id), 60, lambda: live.told(run_id))

    # Prefect's runner finds the project and not a module of its own of the same name.
    assert "Traceback" not in (live.home / "service" / "worker-cpu.log").read_text()

    retry(page, live, run_id)
    wait_for(lambda: live.run(run_id)["state_type"] != "CANCELLED", 60, lambda: live.told(run_id))
    run = live.ended(run_id, within_s=RUN_MS / 1000)
    assert run["state_name"] == "Kept", live.told(run_id)
    assert run["run_count"] == 2  # Prefect counts no Resume
    # The linear baseline and the network, once each.
    assert set(live.versions("jena-sample")) == {1, 2}
    (cancelled, resumed) = (live.told(run["id"]) for run in live.trains(run_id))
    assert "epoch 1 of 30" in cancelled
    assert "epoch 1 of 30" not in resumed


def open_page(page: Page, live: Live, run_id: str, *, version: str) -> None:  # noqa: F811
    page.goto(f"{live.address(PORTS[0])}/{version}runs/flow-run/{run_id}")


def pause(page: Page, live: Live, run_id: str) -> None:  # noqa: F811
    from playwright.sync_api import expect

    open_page(page, live, run_id, version="v2/")
    page.get_by_role("button", name="Open menu").first.click()
    page.get_by_role("menuitem", name="Pause").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Pause Flow Run").click()
    expect(dialog).to_be_hidden()
    page.goto("about:blank")  # a page in motion takes a core


def resume(page: Page, live: Live, run_id: str) -> None:  # noqa: F811
    from playwright.sync_api import expect

    open_page(page, live, run_id, version="")
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("button", name="Submit")).to_be_hidden()
    page.goto("about:blank")


def cancel(page: Page, live: Live, run_id: str) -> None:  # noqa: F811
    from playwright.sync_api import expect

    open_page(page, live, run_id, version="")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancel all sub flow runs").click()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("button", name="Confirm")).to_be_hidden()
    page.goto("about:blank")


def retry(page: Page, live: Live, run_id: str) -> None:  # noqa: F811
    from playwright.sync_api import expect

    open_page(page, live, run_id, version="v2/")
    page.get_by_role("button", name="Open menu").first.click()
    page.get_by_role("menuitem", name="Retry").click()
    dialog = page.get_by_role("alertdialog")
    dialog.get_by_role("button", name="Retry", exact=True).click()
    expect(dialog).to_be_hidden()
    page.goto("about:blank")
