"""What people see in a browser while the series goes on: a week that came, nothing new, a stale source, rejected data accepted.

The publisher is the simulated station of `tests/living`. With RETRAIN_SCREENSHOTS set, the pages are kept in docs/images.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from service_helpers import FINAL, PORTS, ROOT, Live, fetch, running_service, wait_for
from test_ui import RUN_MS, bottom, keep, page  # noqa: F401  (a fixture)

sys.path.insert(0, str(ROOT / "tests"))
from living.series import simulated_readings
from living.station import Publisher, Station

if TYPE_CHECKING:
    from playwright.sync_api import Page

TODAY = "2026-03-16"
SHORT: dict[str, Any] = {"variants": ["ridge"], "training": {"run_on": "local"}}

pytestmark = [pytest.mark.ui, pytest.mark.slow, pytest.mark.timeout(RUN_MS // 1000 + 900)]


@pytest.fixture(scope="module")
def station() -> Iterator[Station]:
    readings = simulated_readings(first=date(2023, 1, 1), end=date(2026, 4, 1))
    with Station(Publisher(readings), day=date(2026, 2, 23)).serve() as serving:
        yield serving


@pytest.fixture(scope="module")
def live(page: Page, station: Station, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:  # noqa: F811
    """The whole service on a store of its own, on one simulated day."""
    with running_service(tmp_path_factory.mktemp("living") / "home", RETRAIN_TODAY=TODAY) as service:
        yield service


def data_from(station: Station, **more: Any) -> dict[str, Any]:
    options = {"from_period": "2023", "to_period": "latest", "addresses": [station.address()]}
    return {"data": "upstream", "source": "station", "options": options, **more}


def retrained(live: Live, station: Station, **data: Any) -> dict[str, Any]:
    """Start a retrain as a person does, and return its run once it has ended."""
    started = live.start("retrain/retrain-jena", dataset="jena", data=data_from(station, **data), **SHORT)
    return live.ended(started, within_s=RUN_MS / 1000)


def ran_on_schedule(live: Live, station: Station) -> dict[str, Any]:
    """Give the deployment a schedule of the next minute, and return its run once it has ended."""
    deployment = live.deployments()["retrain-jena"]
    at = datetime.now(UTC) + timedelta(seconds=75)
    schedule = {
        "slug": "weekly",
        "active": True,
        "schedule": {"cron": f"{at.minute} {at.hour} {at.day} {at.month} *", "timezone": "UTC"},
        "parameters": {"data": data_from(station), **SHORT},
    }
    live.ask(f"/deployments/{deployment['id']}", {"schedules": [schedule]}, method="PATCH")

    def made() -> list[dict[str, Any]]:
        runs = live.runs(deployment_id={"any_": [deployment["id"]]})
        soon = (at + timedelta(minutes=2)).isoformat()
        return [run for run in runs if run["auto_scheduled"] and run["expected_start_time"][:19] < soon[:19]]

    wait_for(lambda: any(run["state_type"] in FINAL for run in made()), RUN_MS / 1000, made)
    (run,) = made()
    return run


def see_run(page: Page, live: Live, run: dict[str, Any], picture: str) -> None:  # noqa: F811
    """Open the page of a run: its state and its message are on it."""
    from playwright.sync_api import expect

    page.goto(f"{live.address(PORTS[0])}/v2/runs/flow-run/{run['id']}")
    page.get_by_role("tab", name="Details").click()
    message = page.get_by_text(run["state"]["message"], exact=True).first
    expect(message).to_be_visible()
    expect(page.get_by_text(run["state_name"], exact=True).first).to_be_visible()
    page.wait_for_timeout(3_000)  # the graph of the run is drawn in motion
    keep(page, picture, clip={"x": 0, "y": 0, "width": 1280, "height": bottom(message) + 24})
    page.goto("about:blank")  # a page in motion takes a core


def see_report(page: Page, live: Live, run: dict[str, Any], heading: str, picture: str) -> None:  # noqa: F811
    """Open the report of a run: what a reader must know of the data stands before any score."""
    from playwright.sync_api import expect

    report = next(entry for key, entry in live.artifacts(run["id"]).items() if key.startswith("report-"))
    page.goto(f"{live.address(PORTS[0])}/v2/artifacts/artifact/{report['id']}")
    expect(page.get_by_text(re.compile(heading)).first).to_be_visible()
    decision = page.get_by_text("Decision:").first
    expect(decision).to_be_visible()
    keep(page, picture, clip={"x": 0, "y": 0, "width": 1280, "height": bottom(decision) + 60})
    page.goto("about:blank")


def test_a_person_sees_how_the_series_goes_on(page: Page, live: Live, station: Station) -> None:  # noqa: F811
    # Nothing has come for 21 days, a week longer than is expected.
    stale = retrained(live, station)
    assert (stale["state_type"], stale["state_name"]) == ("COMPLETED", "Stale"), live.told(stale["id"])
    assert stale["state"]["message"].startswith("Stale: the newest reading is of 2026-02-23T00:00:00")
    see_run(page, live, stale, "stale.png")
    see_report(page, live, stale, "STALE:", "stale-report.png")
    events = live.ask("/events/filter", {"filter": {"event": {"name": ["retrain.table.stale"]}}})["events"]
    assert [event["payload"]["newest"] for event in events] == ["2026-02-23T00:00:00"]

    station.day = date(2026, 3, 16)
    weekly = ran_on_schedule(live, station)
    # A linear baseline becomes no champion unless a person says so.
    assert (weekly["state_type"], weekly["state_name"]) == ("COMPLETED", "Kept"), live.told(weekly["id"])
    published = live.ask("/events/filter", {"filter": {"event": {"name": ["retrain.table.published"]}}})["events"]
    assert [event["payload"]["newest"] for event in published] == ["2026-03-16T00:00:00", "2026-02-23T00:00:00"]
    see_run(page, live, weekly, "weekly.png")

    skipped = retrained(live, station)
    assert (skipped["state_type"], skipped["state_name"]) == ("COMPLETED", "Skipped"), live.told(skipped["id"])
    assert skipped["state"]["message"].endswith("the newest reading is of 2026-03-16T00:00:00")
    see_run(page, live, skipped, "skipped.png")

    # Ten days of all columns at -9999 are 0.85 % of the readings.
    station.misbehave(lost=("2026-03-01T00:10:00", "2026-03-11T00:00:00"), lost_as_sentinel=True)
    rejected = retrained(live, station)
    assert (rejected["state_type"], rejected["state_name"]) == ("FAILED", "Rejected"), live.told(rejected["id"])
    version = re.search(r"--accept-failures ([0-9a-f]{12})", rejected["state"]["message"])
    assert version is not None, rejected["state"]["message"]
    assert "missing_values" in rejected["state"]["message"]
    assert str(live.home) not in rejected["state"]["message"]
    # An artifact of the run says what to do, with a link that opens.
    (ingest,) = [run for run in live.runs(parent_flow_run_id={"any_": [rejected["id"]]}) if run["name"] == "ingest jena"]
    told = live.artifacts(ingest["id"])["rejected-jena"]["data"]
    assert f"--accept-failures {version[1]}" in told
    docs = re.search(r"\[Data Docs\]\((http\S+)\)", told)
    assert docs is not None, told
    assert "<html" in fetch(docs[1]).lower()
    see_run(page, live, rejected, "rejected.png")

    accepted = retrained(
        live,
        station,
        accept_failures=[version[1]],
        accept_reason="The mast was down for maintenance.",
        accepted_by="A. Engineer",
    )
    assert accepted["state_type"] == "COMPLETED", live.told(accepted["id"])
    see_report(page, live, accepted, "REJECTED, AND ACCEPTED by A. Engineer", "accepted-report.png")
