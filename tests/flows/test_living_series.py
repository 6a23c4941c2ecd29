"""The series lives: Mondays of a simulated year through the real flows, against a host that grows, moves, renames and fails.

Of each Monday it is derived by hand what is fetched, what is published and why, or why not. The test leaves a table of them.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from flow_helpers import NETWORK, ROOT, Done, WarmCommand, query
from living.series import ROWS_PER_DAY, real_readings, simulated_readings
from living.station import Publisher, Station

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

REAL = ROOT.parent / "shared" / "data"
# One epoch of windows of a day, so that a whole run takes seconds.
BUDGET = (
    "--variants",
    NETWORK,
    "--epochs",
    "2",
    "--steps",
    "40",
    "--lookback-rows",
    "144",
    "--step-rows",
    "12",
    "--allow-baselines",
)

OLD_YEARS = {f"mpi_roof_{name}.zip": 200 for name in ("2022a", "2022b", "2023a", "2023b", "2024")}
NOT_YET_2025 = {"mpi_roof_2025.zip": 404, "mpi_roof_2025a.zip": 404}
NOT_YET_2025_B = {**NOT_YET_2025, "mpi_roof_2025b.zip": 404}
NOT_YET_2026 = {"mpi_roof_2026.zip": 404, "mpi_roof_2026a.zip": 404}
CSV, RENAMED = {"mpi_roof.csv": 200}, {"mpi_roof.csv": 404, "mpi_roof.zip": 200}


@dataclass(frozen=True)
class Monday:
    """One Monday: how the host behaves, and what follows.

    Attributes:
        served: What the host does, in words.
        moods: How its behaviour changes.
        asked: The last status of every file that is asked for.
        state: Name of the final state of the flow `ingest`.
        message: What the message of the state says.
        until: Midnight of the newest reading that is published; None: nothing is published.
        lost_rows: Rows before it that are missing in gaps.
        repairs: Repairs that found something.
        trains: Whether the whole flow `retrain` runs.
    """

    day: str
    served: str
    asked: Mapping[str, int]
    state: str
    message: str
    until: str | None = None
    moods: Mapping[str, Any] = field(default_factory=dict)
    lost_rows: int = 0
    repairs: Mapping[str, int] = field(default_factory=dict)
    trains: bool = False

    @property
    def rows(self) -> int:
        """Rows from 2022 on: 144 a day, without those that are lost."""
        return (date.fromisoformat(str(self.until)) - date(2022, 1, 1)).days * ROWS_PER_DAY - self.lost_rows


MONDAYS = (
    Monday(
        "2025-03-03",
        "everything for the first time",
        {**OLD_YEARS, **NOT_YET_2025, **CSV},
        "Completed",
        "newest reading of 2025-03-03T00:00:00",
        until="2025-03-03",
        trains=True,
    ),
    Monday(
        "2025-03-10",
        "nothing new",
        {**NOT_YET_2025, "mpi_roof.csv": 304},
        "Skipped",
        "nothing changed since table [0-9a-f]{12}: the newest reading is of 2025-03-03T00:00:00",
        moods={"frozen": date(2025, 3, 3)},
        trains=True,
    ),
    Monday(
        "2025-03-17",
        "two weeks more in the current file",
        {**NOT_YET_2025, **CSV},
        "Completed",
        "newest reading of 2025-03-17T00:00:00",
        until="2025-03-17",
        moods={"frozen": None},
    ),
    Monday(
        "2025-03-24",
        "the last 24 hours twice",
        {**NOT_YET_2025, **CSV},
        "Completed",
        "newest reading of 2025-03-24T00:00:00",
        until="2025-03-24",
        moods={"repeats_last_day": True},
        repairs={"repeated_rows": 144},
    ),
    Monday(
        "2025-03-31",
        "six hours of the new week are lost",
        {**NOT_YET_2025, **CSV},
        "Completed",
        "newest reading of 2025-03-31T00:00:00",
        until="2025-03-31",
        moods={"repeats_last_day": False, "lost": ("2025-03-26T06:10:00", "2025-03-26T12:00:00")},
        lost_rows=36,
    ),
    Monday(
        "2025-04-07",
        "the lost hours are back; three of the new week are -9999 in every column",
        {**NOT_YET_2025, **CSV},
        "Completed",
        "newest reading of 2025-04-07T00:00:00",
        until="2025-04-07",
        moods={"lost": ("2025-04-02T06:10:00", "2025-04-02T09:00:00"), "lost_as_sentinel": True},
        # 18 rows of 14 columns, filled between their neighbours.
        repairs={"missing_values": 18 * 14},
    ),
    Monday(
        "2025-04-14",
        "the current file is a zip, and lacks a day of March that the old one had",
        {**NOT_YET_2025, **RENAMED},
        "Completed",
        "newest reading of 2025-04-14T00:00:00",
        until="2025-04-14",
        moods={
            "current": "mpi_roof.zip",
            "lost": ("2025-03-05T00:10:00", "2025-03-06T00:00:00"),
            "lost_as_sentinel": False,
        },
        # Neither the day that only an earlier state has is missing, nor is its -9999 a contradiction of what is there now.
    ),
    Monday(
        "2025-04-21",
        "the host has moved: the second address has it",
        {**NOT_YET_2025, **RENAMED},
        "Completed",
        "newest reading of 2025-04-21T00:00:00",
        until="2025-04-21",
        moods={"path": "wetter", "lost": None},
    ),
    Monday(
        "2025-04-28",
        "404 for the current file, and the year has no zip yet",
        {**NOT_YET_2025, "mpi_roof.csv": 404, "mpi_roof.zip": 404},
        "Failed",
        r"none of the files with the newest rows is there: mpi_roof_2025\.zip, mpi_roof_2025a\.zip, mpi_roof\.csv, "
        r"mpi_roof\.zip; tried http://127\.0\.0\.1:\d+/\{name\} \(no such file\), "
        r"http://127\.0\.0\.1:\d+/wetter/\{name\} \(no such file\)",
        moods={"faults": {"mpi_roof.zip": "404"}},
        trains=True,
    ),
    Monday(
        "2025-05-05",
        "500 for the current file",
        {**NOT_YET_2025, "mpi_roof.csv": 404, "mpi_roof.zip": 500},
        "Failed",
        r"mpi_roof\.zip from 127\.0\.0\.1:\d+ failed 4 times \(HTTP 500\): run again",
        moods={"faults": {"mpi_roof.zip": "500"}},
    ),
    Monday(
        "2025-05-12",
        "a login page with status 200",
        {**NOT_YET_2025, **RENAMED},
        "Failed",
        r"mpi_roof\.zip from 127\.0\.0\.1:\d+ is an HTML page, expected the file",
        moods={"faults": {"mpi_roof.zip": "login"}},
    ),
    Monday(
        "2025-05-19",
        "an empty file",
        {**NOT_YET_2025, **RENAMED},
        "Failed",
        r"mpi_roof\.zip from 127\.0\.0\.1:\d+ is empty",
        moods={"faults": {"mpi_roof.zip": "empty"}},
    ),
    Monday(
        "2025-05-26",
        "all is well again",
        {**NOT_YET_2025, **RENAMED},
        "Completed",
        "newest reading of 2025-05-26T00:00:00",
        until="2025-05-26",
        moods={"faults": {}},
    ),
    Monday(
        "2025-09-22",
        "four months later: the current file reaches back as far",
        {**NOT_YET_2025_B, **RENAMED},
        "Completed",
        "newest reading of 2025-09-22T00:00:00",
        until="2025-09-22",
    ),
    Monday(
        "2026-01-05",
        "a new year, and no zip of the old one yet",
        {**NOT_YET_2025_B, **NOT_YET_2026, **RENAMED},
        "Completed",
        "newest reading of 2026-01-05T00:00:00",
        until="2026-01-05",
    ),
    Monday(
        "2026-01-12",
        "the zip of 2025 is there; its last 2,000 rows contradict the current file",
        {"mpi_roof_2025.zip": 200, **NOT_YET_2026, **RENAMED},
        "Rejected",
        # From 2022 on there are 1,472 days of 144 rows: 2,000 of 211,968 are 0.94 %.
        r"contradicting_rows: 2,000, a share of 0\.0094, expected at most 0\.005",
        moods={"corrected_rows": 2000},
        trains=True,
    ),
    Monday(
        "2026-01-19",
        "its publisher has corrected the zip: 500 rows contradict",
        {"mpi_roof_2025.zip": 200, **NOT_YET_2026, **RENAMED},
        "Completed",
        "newest reading of 2026-01-19T00:00:00",
        until="2026-01-19",
        moods={"corrected_rows": 500},
        repairs={"contradicting_rows": 500},
    ),
    Monday(
        "2026-01-26",
        "nothing new for a week",
        {**NOT_YET_2026, "mpi_roof.csv": 404, "mpi_roof.zip": 304},
        "Skipped",
        "the newest reading is of 2026-01-19T00:00:00",
        moods={"frozen": date(2026, 1, 19)},
    ),
    Monday(
        "2026-02-09",
        "nothing new for three weeks",
        {**NOT_YET_2026, "mpi_roof.csv": 404, "mpi_roof.zip": 304},
        "Stale",
        "the newest reading is of 2026-01-19T00:00:00, and nothing newer has come for longer than expected",
    ),
    Monday(
        "2026-02-16",
        "it goes on, and the whole run with it",
        {**NOT_YET_2026, **RENAMED},
        "Completed",
        "newest reading of 2026-02-16T00:00:00",
        until="2026-02-16",
        moods={"frozen": None},
        repairs={"contradicting_rows": 500},
        trains=True,
    ),
)

REAL_ROWS_MISSING = 9
REAL_REPAIRS = {"repeated_rows": 1, "missing_values": 1}
"""What the station's year 2020 has of its own, which is 2024 here: a gap of 100 minutes, a repeated stamp, a -9999."""


@dataclass(frozen=True)
class Outcome:
    """What came of a Monday."""

    done: Done
    requests: list[tuple[str, int]]
    state: str
    message: str
    run: tuple[str, str]
    tables: frozenset[str]
    manifest: dict[str, Any]
    champion: int | None
    events: list[tuple[str, str]]

    @property
    def asked(self) -> dict[str, int]:
        return {path.rsplit("/", 1)[-1]: status for path, status in self.requests}


class Year:
    """The Mondays, lived in their order on one store."""

    def __init__(self, readings: pd.DataFrame, *, real: bool, home: Path, warm: WarmCommand) -> None:
        self.real = real
        self.home = home
        self._warm = warm
        self._station = Station(Publisher(readings), day=date.fromisoformat(MONDAYS[0].day))
        with self._station.serve():
            first, known = self._station.address(""), self._station.address("wetter")
            self._station.misbehave(current="mpi_roof.csv")
            source = ("--source", "station", "--from", "2022", "--to", "latest", "--address", first, "--json")
            self.outcomes: dict[str, Outcome] = {}
            for monday in MONDAYS:
                outcome = self._live(monday, source, known)
                self.outcomes[monday.day] = outcome if outcome.champion else replace(outcome, champion=self._promote_by_hand())

    def _live(self, monday: Monday, source: tuple[str, ...], known: str) -> Outcome:
        self._station.day = date.fromisoformat(monday.day)
        self._station.misbehave(**monday.moods)
        since = len(self._station.log)
        command = ("run", "jena", *source, *BUDGET) if monday.trains else ("ingest", "jena", *source)
        done = self._warm(*command, home=self.home, today=monday.day, known_addresses=[known])
        state, message = self._last_state("ingest")
        version = re.search(r"table ([0-9a-f]{12})", message)
        folder = self.home / "tables" / "jena"
        manifest = folder / version[1] / "manifest.json" if version else None
        return Outcome(
            done,
            [(request.path, request.status) for request in self._station.log[since:]],
            state,
            message,
            self._last_state("retrain") if monday.trains else ("", ""),
            frozenset(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")),
            json.loads(manifest.read_text()) if manifest else {},
            self._champion(),
            self._events(monday),
        )

    def _last_state(self, flow: str) -> tuple[str, str]:
        """Return name and message of the state in which the last run of a flow ended."""
        ((name, message),) = query(
            self._warm.home,
            "SELECT s.name, s.message FROM flow_run r JOIN flow f ON f.id = r.flow_id JOIN flow_run_state s ON s.id = r.state_id "
            f"WHERE f.name = '{flow}' ORDER BY r.start_time DESC LIMIT 1",
        )
        return name, message

    def _promote_by_hand(self) -> int | None:
        """Make the first version champion: so short a training does not always beat the naive baseline."""
        promoted = self._warm("promote", "jena@1", home=self.home)
        assert promoted.code == 0, promoted.err
        return self._champion()

    def _champion(self) -> int | None:
        listed = self._warm("models", "--json", home=self.home)
        found = [entry["version"] for entry in json.loads(listed.out) if "champion" in entry["aliases"]]
        return found[0] if found else None

    def _events(self, monday: Monday) -> list[tuple[str, str]]:
        """Return kind and newest reading of the events of tables; the server stores them within moments."""
        expected = "stale" if monday.state == "Stale" else "published" if monday.until else None
        events: list[tuple[str, str]] = []
        for _ in range(100):
            rows = query(
                self._warm.home, "SELECT event, payload FROM events WHERE event LIKE 'retrain.table.%' ORDER BY occurred"
            )
            events = [(event.rsplit(".", 1)[-1], json.loads(payload)["newest"]) for event, payload in rows]
            if expected is None or (events and events[-1][0] == expected):
                break
            time.sleep(0.1)
        return events


def described(monday: Monday, outcome: Outcome) -> str:
    """Return a row of the table of Mondays."""
    fetched = ", ".join(f"{name} {status}" for name, status in outcome.asked.items() if status != 404)
    published = "nothing"
    if monday.until:
        facts, repairs = outcome.manifest["facts"], outcome.manifest["repairs"]
        repaired = ", ".join(f"{repair['name']} {repair['count']:,}" for repair in repairs if repair["count"])
        published = f"{facts['rows']:,} rows to {facts['last_stamp']}" + (f"; {repaired}" if repaired else "")
        published += f"; {facts['missing_rows']} rows in gaps" if facts["missing_rows"] else ""
    message = outcome.message.removeprefix(f"{outcome.state}: ")
    why = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", message)
    why = why if len(why) <= 200 else f"{why[:197]}..."
    day = f"{monday.day}, whole run" if monday.trains else monday.day
    return f"| {day} | {monday.served} | {fetched or 'nothing'} | {published} | {outcome.state}: {why} |"


SERIES = ("simulated", *(("real",) if REAL.is_dir() else ()))


@pytest.fixture(scope="module", params=SERIES)
def year(request: pytest.FixtureRequest, warm: WarmCommand, tmp_path_factory: pytest.TempPathFactory) -> Year:
    readings = real_readings(REAL) if request.param == "real" else simulated_readings()
    if readings is None:
        pytest.fail(f"{REAL} lacks a file of the real readings")
    home = tmp_path_factory.mktemp(f"living-{request.param}") / "var"
    return Year(readings, real=request.param == "real", home=home, warm=warm)


@pytest.fixture(params=MONDAYS, ids=lambda monday: monday.day)
def monday(request: pytest.FixtureRequest) -> Monday:
    found: Monday = request.param
    return found


def test_a_monday_asks_for_what_may_be_new_and_for_nothing_else(year: Year, monday: Monday) -> None:
    assert year.outcomes[monday.day].asked == monday.asked


def test_a_monday_ends_in_its_state_and_says_why(year: Year, monday: Monday) -> None:
    outcome = year.outcomes[monday.day]
    assert outcome.state == monday.state, outcome.message
    assert re.search(monday.message, outcome.message), outcome.message
    is_error = monday.state in ("Failed", "Rejected")
    assert outcome.done.code == (2 if is_error else 0), outcome.done.err
    if is_error:
        # The person at the terminal reads the same line, and no traceback.
        assert outcome.message in outcome.done.err
        assert "Traceback" not in outcome.done.err


def test_a_monday_publishes_its_rows_or_nothing(year: Year, monday: Monday) -> None:
    outcome = year.outcomes[monday.day]
    before = [year.outcomes[other.day].tables for other in MONDAYS if other.day < monday.day]
    new = outcome.tables - (before[-1] if before else frozenset())
    assert len(new) == (1 if monday.until else 0)
    if not monday.until:
        return
    own = REAL_ROWS_MISSING if year.real else 0
    facts = outcome.manifest["facts"]
    assert facts["rows"] == monday.rows - own
    assert (facts["first_stamp"], facts["last_stamp"]) == ("2022-01-01T00:10:00", f"{monday.until}T00:00:00")
    assert facts["missing_rows"] == monday.lost_rows + own
    assert facts["gaps"] == bool(monday.lost_rows) + bool(own)
    expected = dict(monday.repairs)
    for name, count in (REAL_REPAIRS if year.real else {}).items():
        expected[name] = expected.get(name, 0) + count
    assert {repair["name"]: repair["count"] for repair in outcome.manifest["repairs"] if repair["count"]} == expected
    # The newest twelve months test, the twelve before validate.
    bounds = outcome.manifest["bounds"]
    newest = date.fromisoformat(monday.until)
    edges = [newest.replace(year=newest.year - years).isoformat() for years in (2, 1)]
    assert [bounds[split]["last_stamp"] for split in ("train", "val")] == [f"{edge}T00:00:00" for edge in edges]
    assert [bounds[split]["first_stamp"] for split in ("val", "test")] == [f"{edge}T00:10:00" for edge in edges]


def test_an_event_tells_of_every_published_table_and_of_a_source_that_is_stale(year: Year) -> None:
    expected = [("published", f"{monday.until}T00:00:00") for monday in MONDAYS if monday.until]
    expected.insert(-1, ("stale", "2026-01-19T00:00:00"))
    assert year.outcomes[MONDAYS[-1].day].events[-len(expected) :] == expected


def test_the_champion_changes_only_where_a_run_decides_it(year: Year) -> None:
    outcomes = [year.outcomes[monday.day] for monday in MONDAYS]
    first, last = outcomes[0].champion, outcomes[-1].champion
    assert first is not None
    assert {outcome.champion for outcome in outcomes[:-1]} == {first}
    decision = outcomes[-1].done.json[0]["decision"]
    assert (last != first) == (decision["outcome"] == "promoted"), decision
    # It was compared with the champion on the newest twelve months.
    assert f"champion v{first}" in decision["reason"]


@pytest.mark.parametrize(
    ("day", "state"),
    [("2025-03-10", "Skipped"), ("2025-04-28", "Failed"), ("2026-01-12", "Rejected"), ("2026-02-16", "Kept or Promoted")],
)
def test_a_whole_run_ends_as_its_ingestion_does_where_nothing_may_change(year: Year, day: str, state: str) -> None:
    outcome = year.outcomes[day]
    name, message = outcome.run
    assert name in state.split(" or "), message
    if state in ("Failed", "Rejected"):
        assert message == outcome.message
    elif state == "Skipped":
        assert [each["trained"] for each in outcome.done.json[0]["results"]] == [False, False]
    else:
        assert [each["trained"] for each in outcome.done.json[0]["results"]] == [True, True]


def test_the_moved_host_was_asked_at_both_addresses(year: Year) -> None:
    requests = year.outcomes["2025-04-21"].requests
    assert ("/mpi_roof.zip", 404) in requests
    assert ("/wetter/mpi_roof.zip", 200) in requests


def test_the_mondays_are_told_in_a_table(year: Year, capsys: pytest.CaptureFixture[str]) -> None:
    head = "| Monday | served | fetched | published | decided and why |\n|---|---|---|---|---|\n"
    rows = [described(monday, year.outcomes[monday.day]) for monday in MONDAYS]
    table = head + "\n".join(rows) + "\n"
    (year.home.parent / "mondays.md").write_text(table, encoding="utf-8")
    with capsys.disabled():
        sys.stdout.write(f"\n{'real' if year.real else 'simulated'} readings\n\n{table}")
    assert len(rows) >= 12
