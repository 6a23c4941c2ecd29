"""What people do in a browser: start a run in the form, see it complete, read its report, and follow the links.

Needs Chromium and the package `playwright` (no browser of its own); both are in CI. With RETRAIN_SCREENSHOTS set, the pages
are kept in docs/images.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import pytest
from service_helpers import PORTS, ROOT, Live, running_service, wait_for

from flows.runtime.run_settings import merged
from tasks.config import DataSettings, PromotionSettings, TrainSettings

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

IMAGES = ROOT / "docs" / "images"
SCREENSHOTS_VARIABLE = "RETRAIN_SCREENSHOTS"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update")
# A busy machine of two cores takes minutes over what takes seconds on an idle one.
PAGE_MS = 90_000
RUN_MS = 900_000
FINAL = re.compile(r"^(Completed|Promoted|Kept|Waiting|Stale|Failed|Crashed|Cancelled|TimedOut|Skipped|Rejected)$")

pytestmark = [pytest.mark.ui, pytest.mark.timeout(RUN_MS // 1000 + 900)]


@contextmanager
def browser_page(reaches: str, **options: Any) -> Iterator[Page]:
    """A page of a real browser, which reaches the addresses that begin so and no other.

    Data Docs fetch their style from a network, which a test may not wait for.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium here: install one (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install -e '.[dev]'")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, headless=True, args=[f"--{flag}" for flag in FLAGS])
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        context.route(lambda url: not url.startswith(reaches), lambda route: route.abort())
        context.set_default_timeout(PAGE_MS)
        playwright.expect.set_options(timeout=PAGE_MS)
        yield context.new_page()
        browser.close()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of a real browser, which reaches nothing but this machine."""
    with browser_page("http://127.0.0.1:") as page:
        yield page


@pytest.fixture(scope="module")
def live(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The whole service on a store of its own; it needs the page, so that nothing is started in vain."""
    with running_service(tmp_path_factory.mktemp("ui") / "home") as service:
        yield service


def keep(page: Page, name: str, *, clip: dict[str, float] | None = None) -> None:
    """Keep a picture of the page, when one is asked for, in a palette: a third of the bytes."""
    if not os.environ.get(SCREENSHOTS_VARIABLE):
        return
    from PIL import Image

    seen = page.screenshot(clip=clip, full_page=clip is not None)
    IMAGES.mkdir(parents=True, exist_ok=True)
    Image.open(io.BytesIO(seen)).convert("RGB").quantize(256).save(IMAGES / name, format="PNG", optimize=True)


def keep_status(page: Page, live: Live) -> None:
    """Keep a picture of what `retrain status` prints."""
    page.set_content(f"<pre style='font: 13px monospace; padding: 8px'>{escape(live.retrain('status').stdout)}</pre>")
    keep(page, "status.png", clip={"x": 0, "y": 0, "width": 680, "height": bottom(page.locator("pre")) + 8})


def bottom(element: Locator) -> float:
    """Where on the whole page an element ends."""
    return float(element.evaluate("element => element.getBoundingClientRect().bottom + window.scrollY"))


def label(page: Page, title: str) -> Locator:
    """The label of a field, which the form marks when it may be left out."""
    return page.locator("form label").get_by_text(re.compile(rf"^{re.escape(title)}( \(Optional\))?$"))


def field(page: Page, title: str) -> Locator:
    """A field with its label, its help and its input."""
    return label(page, title).locator("xpath=ancestor::div[fieldset][1]")


def fields_of(schema: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Title and help of every field, those within groups too."""
    groups = [schema, *schema["definitions"].values()]
    entries = [entry for group in groups for entry in group.get("properties", {}).values()]
    # A group within a group, such as the options of a source, has the title of its model.
    return [(entry["title"], entry["description"]) for entry in entries if "title" in entry]


def open_form(page: Page, address: str) -> None:
    """Go where a person goes: the start page, the deployment, its run button."""
    page.goto(address)
    page.get_by_role("link", name="Deployments", exact=True).click()
    page.get_by_role("link", name="retrain-jena", exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()


def test_a_person_starts_a_run_in_the_form_and_reads_its_report(page: Page, live: Live) -> None:
    open_form(page, live.address(PORTS[0]))
    every_parameter_has_its_help(page, live)
    start_a_run_on_the_sample(page)
    the_run_completes(page, live)
    the_report_shows_its_pictures(page)
    the_links_of_the_report_open(page)


def test_the_pages_ask_no_other_host(page: Page, live: Live) -> None:
    """The browser forbids it: a page of Prefect asks a host of analytics, although analytics are off."""
    outside: list[str] = []
    # A tab of its own: what the page before still asks when it is left is not asked by these pages.
    tab = page.context.new_page()

    def note(request: Any) -> None:
        if not request.url.startswith((live.address(PORTS[0]), "data:", "blob:")) and "csp" not in str(request.failure):
            outside.append(f"{request.url} ({request.failure})")

    tab.on("requestfinished", note)
    tab.on("requestfailed", note)
    try:
        for path in ("/v2/dashboard", "/v2/deployments", "/v2/runs", "/v2/settings", "/dashboard"):
            tab.goto(f"{live.address(PORTS[0])}{path}")
            tab.wait_for_timeout(2_000)
    finally:
        tab.close()
    assert outside == []


def test_a_person_moves_a_schedule_to_another_hour(page: Page, live: Live) -> None:
    """The dialog stores more than the person has changed; the next run goes on as the deployment says."""
    from playwright.sync_api import expect

    deployment = live.deployments()["retrain-jena"]
    page.goto(f"{live.address(PORTS[0])}/v2/deployments/deployment/{deployment['id']}")
    page.get_by_role("button", name="Open menu").last.click()
    page.get_by_role("menuitem", name="Edit").click()
    dialog = page.get_by_role("dialog")
    hour = dialog.locator('input[name="schedule.cron"]')
    # The dialog has read the schedule, and the form of the parameters is there: it will not overwrite what is typed.
    expect(hour).to_have_value("0 3 * * 1")
    expect(dialog.get_by_text("dataset (Optional)")).to_be_visible()
    page.wait_for_timeout(2_000)
    hour.fill("0 5 * * 1")
    page.wait_for_timeout(1_000)
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()

    def schedules() -> list[dict[str, Any]]:
        return list(live.deployments()["retrain-jena"]["schedules"])

    wait_for(lambda: schedules()[0]["schedule"]["cron"] == "0 5 * * 1", 60, schedules)
    stored = schedules()[0]["parameters"]
    assert stored["data"]["options"] == {"continue_to": None}  # of a source that nobody has asked for
    # As Prefect makes the parameters of the next run, and as the run then reads them.
    sent = {**deployment["parameters"], **stored}
    assert "data" not in sent["data"]
    read = DataSettings.model_validate(merged(deployment["parameters"], sent, null_is_open=True)["data"])
    assert read == DataSettings.model_validate(deployment["parameters"]["data"])
    page.goto("about:blank")


@pytest.mark.slow
def test_a_person_edits_schedules_and_the_deployment_in_both_versions(page: Page, live: Live) -> None:
    """What is saved reads as what was there, but for what the person has changed."""
    before = live.deployments()["retrain-imdb"]
    read = settings_of(before["parameters"])
    for version, hour in (("", "0 5 1 * *"), ("v2/", "0 6 1 * *")):
        page.goto(f"{live.address(PORTS[0])}/{version}deployments/deployment/{before['id']}")
        move_schedule(page, hour, is_first_version=not version)
        wait_for(lambda hour=hour: hour in crons(live), 60, lambda: crons(live))  # type: ignore[misc]
        add_schedule(page, is_first_version=not version)
        wait_for(lambda count=2 if not version else 3: len(crons(live)) == count, 60, lambda: crons(live))  # type: ignore[misc]
        page.goto(f"{live.address(PORTS[0])}/{version}deployments/deployment/{before['id']}/edit")
        page.get_by_role("button", name="Save").click()
        page.wait_for_url(re.compile(rf"/deployment/{before['id']}(\?.*)?$"))
        page.goto("about:blank")
        after = live.deployments()["retrain-imdb"]
        assert settings_of(after["parameters"]) == read
        for schedule in after["schedules"]:
            sent = {**after["parameters"], **schedule["parameters"]}
            assert settings_of(merged(after["parameters"], sent, null_is_open=True)) == read


def crons(live: Live) -> list[str]:
    return [schedule["schedule"]["cron"] for schedule in live.deployments()["retrain-imdb"]["schedules"]]


def settings_of(parameters: Mapping[str, Any]) -> tuple[DataSettings, TrainSettings, PromotionSettings, list[str]]:
    """What parameters say to a run."""
    return (
        DataSettings.model_validate(parameters["data"]),
        TrainSettings.model_validate(parameters.get("training", {})),
        PromotionSettings.model_validate(parameters.get("promotion", {})),
        list(parameters.get("variants") or []),
    )


def move_schedule(page: Page, cron: str, *, is_first_version: bool) -> None:
    from playwright.sync_api import expect

    if is_first_version:
        page.locator(".deployment-schedule__menu").first.click()
        page.get_by_text("Edit", exact=True).last.click()
    else:
        page.get_by_role("button", name="Open menu").last.click()
        page.get_by_role("menuitem", name="Edit").click()
    dialog = page.get_by_role("dialog")
    hour = dialog.get_by_role("textbox").nth(1) if is_first_version else dialog.locator('input[name="schedule.cron"]')
    expect(hour).to_have_value(re.compile(r"^[0-9* ]+$"))
    page.wait_for_timeout(2_000)  # the form of the parameters is there: it will not overwrite what is typed
    hour.fill(cron)
    page.wait_for_timeout(1_000)
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()


def add_schedule(page: Page, *, is_first_version: bool) -> None:
    from playwright.sync_api import expect

    page.get_by_role("button", name="Schedule", exact=True).last.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button" if is_first_version else "tab", name="Cron").click()
    hour = dialog.get_by_role("textbox").nth(1) if is_first_version else dialog.locator('input[name="schedule.cron"]')
    page.wait_for_timeout(2_000)
    hour.fill("0 7 1 1 *")
    page.wait_for_timeout(1_000)
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()


def every_parameter_has_its_help(page: Page, live: Live) -> None:
    from playwright.sync_api import expect

    schema = live.deployments()["retrain-jena"]["parameter_openapi_schema"]
    assert set(schema["properties"]) == {"dataset", "variants", "data", "training", "promotion"}
    groups = {"DataSettings", "TrainSettings", "PromotionSettings", "ForecastSettings", "QualityLimits", "SplitSettings"}
    assert set(schema["definitions"]) == groups | {"KerasOptions", "StationOptions", "OwnFileOptions", "ReviewFilesOptions"}
    of_sources = {
        part["$ref"].rpartition("/")[2] for part in schema["definitions"]["DataSettings"]["properties"]["options"]["anyOf"]
    }
    assert of_sources == {"KerasOptions", "StationOptions", "OwnFileOptions", "ReviewFilesOptions"}
    shared = {name: group for name, group in schema["definitions"].items() if name not in of_sources}
    # The options of each source are behind a tab; the station's are the last to be looked at, as the deployment has them.
    for name in sorted(of_sources):
        group = schema["definitions"][name]
        page.get_by_role("tab", name=group["title"], exact=True).click()
        for title, help_text in fields_of({"definitions": {name: group}}):
            expect(label(page, title)).to_be_visible()
            expect(field(page, title).locator("p").first).to_have_text(help_text)
    for title, help_text in fields_of({**schema, "definitions": shared}):
        expect(label(page, title)).to_be_visible()
        expect(field(page, title).locator("p").first).to_have_text(help_text)


def start_a_run_on_the_sample(page: Page) -> None:
    field(page, "Data").get_by_role("button", name="Select Data").click()
    page.get_by_role("option", name="sample", exact=True).click()
    for title, value in (("Epochs", "5"), ("Steps Per Epoch", "40")):
        field(page, title).get_by_role("tab", name="int", exact=True).click()
        field(page, title).locator("input[type=number]").fill(value)
    page.evaluate("window.scrollTo(0, 0)")
    keep(page, "form.png")
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="View run").or_(page.get_by_role("link", name="View run")).first.click()
    page.wait_for_url("**/runs/flow-run/*")


def the_run_completes(page: Page, live: Live) -> None:
    """See it complete, on a page that says what it decided."""
    from playwright.sync_api import expect

    address = page.url
    run_id = address.split("/flow-run/")[1].split("?")[0]
    expect(page.get_by_text("Running", exact=True).first).to_be_visible()
    # The page of a run is drawn in motion, which takes a core without a GPU; the trainings need it.
    page.goto("about:blank")
    live.ended(run_id, within_s=RUN_MS / 1000)
    page.goto(address)
    page.get_by_role("tab", name="Details").click()
    expect(page.get_by_text(FINAL).first).to_have_text("Promoted")
    run = live.run(run_id)
    assert run["parameters"]["data"]["data"] == "sample"
    assert run["parameters"]["training"]["epochs"] == 5
    expect(page.get_by_text(run["state"]["message"], exact=True).first).to_be_visible()
    expect(page.get_by_text(re.compile(r"^retrain-jena \d{4}-\d\d-\d\d \d\d:\d\d by hand SAMPLE$")).first).to_be_visible()
    page.reload()
    message = page.get_by_text(run["state"]["message"], exact=True).first
    expect(message).to_be_visible()
    page.wait_for_timeout(3_000)  # the graph of the run is drawn in motion
    keep(page, "run.png", clip={"x": 0, "y": 0, "width": 1280, "height": bottom(message) + 24})
    page.get_by_role("tab", name="Logs").click()
    for said in ("jena: Published table ", "jena gru_baseline: epoch 5 of 5", "jena gru_baseline: registered as jena-sample@"):
        expect(page.get_by_text(said).first).to_be_visible()
    page.get_by_role("tabpanel", name="Logs").evaluate("element => element.scrollIntoView()")
    keep(page, "log.png")
    keep_status(page, live)
    page.goto(address)


def the_report_shows_its_pictures(page: Page) -> None:
    from playwright.sync_api import expect

    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("report-jena-sample", exact=True).first.click()
    page.get_by_role("link", name=re.compile("^[0-9a-f]{8}$")).first.click()
    expect(page.get_by_role("heading", name="Checks before promotion")).to_be_visible()
    for title in ("learning curves", "forecast of a test week"):
        picture = page.get_by_role("img", name=title)
        expect(picture).to_be_visible()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    height = bottom(page.get_by_role("img", name="forecast of a test week")) - 100
    keep(page, "report.png", clip={"x": 256, "y": 116, "width": 620, "height": height})


def the_links_of_the_report_open(page: Page) -> None:
    from playwright.sync_api import expect

    report = page.url
    data_docs = page.get_by_role("link", name="Data Docs")
    table_version = str(data_docs.get_attribute("href")).split("/")[-2]
    data_docs.click()
    page.wait_for_url(f"**/jena/{table_version}/index.html")
    expect(page).to_have_title("Data Docs created by Great Expectations")
    page.get_by_role("link", name=f"validations/jena-{table_version}/").click()
    expect(page.get_by_text("Status: Succeeded")).to_be_visible()
    page.get_by_text("Status: Succeeded").evaluate("element => element.scrollIntoView()")
    keep(page, "data-docs.png")

    page.goto(report)
    page.get_by_role("link", name="MLflow run").click()
    expect(page.get_by_role("heading", name=re.compile(rf"^gru_(baseline|dropout) {table_version}$"))).to_be_visible()
    expect(page.get_by_text("mae_degc", exact=True).first).to_be_visible()
    for panel in page.get_by_role("button", name="Close", exact=True).all():
        panel.click()
    keep(page, "mlflow.png")


def test_a_person_reads_a_forecast_and_what_is_watched(page: Page, live: Live) -> None:
    """The champion of the run before forecasts; it has seen every reading of the sample, so that nothing can be compared yet."""
    from playwright.sync_api import expect

    see_artifact(page, live, live.start("predict/predict", model="jena-sample", data=None), key="prediction-jena-sample")
    expect(page.get_by_text(re.compile("SAMPLE: simulated, not real data")).first).to_be_visible()
    picture = page.locator("img[src^='data:image/png']")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    keep(page, "prediction.png", clip={"x": 256, "y": 116, "width": 620, "height": bottom(picture) - 100})

    see_artifact(page, live, live.start("monitor/monitor", model="jena-sample"), key="monitoring-jena-sample")
    expect(page.get_by_role("heading", name=re.compile(r"jena-sample@\d+ at work"))).to_be_visible()
    expect(page.get_by_text(re.compile("Nothing to compare yet")).first).to_be_visible()


def see_artifact(page: Page, live: Live, run_id: str, *, key: str) -> None:
    """Wait for a run, and open the artifact that shows what it found."""
    run = live.ended(run_id, within_s=RUN_MS / 1000)
    assert run["state_type"] == "COMPLETED", live.told(run_id)
    page.goto(f"{live.address(PORTS[0])}/v2/artifacts/artifact/{live.artifacts(run_id)[key]['id']}")
