"""A web server that plays the Jena station over simulated time. Tests import it, and a person can start it by hand.

It publishes what the station would have published by a day: half-year zips up to 2023b, from 2024 a zip of each year some days
after its end, and a current file without a year in its name, which holds the newest months up to the midnight that begins
the day. It can be told to misbehave, and it keeps a log of what was asked for.

    .venv/bin/python tests/living/station.py --port 8090 --today 2026-03-02
    .venv/bin/python tests/living/station.py --port 8090 --move-to 2026-03-09
    .venv/bin/python tests/living/station.py --port 8090 --fault mpi_roof.csv=login
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # it is also started by hand
from living.series import ROWS_PER_DAY, csv_bytes, real_readings, simulated_readings, zip_bytes

from tasks.datasets.jena.physics import STAMP_HEADER

LAST_HALF_YEAR, FIRST_WHOLE_YEAR = 2023, 2024
YEAR_AFTER_DAYS = 7
"""Days from the end of a year to the day on which its zip appears."""
CURRENT_DAYS = 133
"""Days that the current file holds."""
CURRENT = "mpi_roof.csv"
SUMS = "SHA256SUMS"
FAULTS = ("404", "500", "login", "empty")
_LOGIN = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Sign in to go on.</body></html>\n"


@dataclass(frozen=True)
class Moods:
    """How the station misbehaves.

    Attributes:
        faults: For each file: an answer of status 404 or 500, a login page or an empty file in its place.
        current: Name of the current file.
        current_days: Days that the current file holds.
        repeats_last_day: The current file ends with its last 24 hours again, row for row.
        lost: First and last stamp of rows that are lost.
        lost_as_sentinel: The lost rows are there, with -9999 in every column.
        frozen: The day after which nothing new is written; the current file stays as it was on it.
        corrected_rows: So many of the last rows of a year have another pressure in the year's zip than the current file had.
        path: Path under which the files are; other paths answer 404.
        etag: Whether the host sends an ETag.
        last_modified: Whether the host sends a date.
    """

    faults: dict[str, str] = field(default_factory=dict)
    current: str = CURRENT
    current_days: int = CURRENT_DAYS
    repeats_last_day: bool = False
    lost: tuple[str, str] | None = None
    lost_as_sentinel: bool = False
    frozen: date | None = None
    corrected_rows: int = 0
    path: str = ""
    etag: bool = True
    last_modified: bool = True


@dataclass(frozen=True)
class Request:
    """One request for a file, and what came of it."""

    day: date
    path: str
    status: int
    size_bytes: int

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


class Publisher:
    """The files of a station by day, made from readings of many years."""

    def __init__(self, readings: pd.DataFrame) -> None:
        self.readings = readings
        self._stamps = readings[STAMP_HEADER].to_numpy().astype("datetime64[s]")
        self._made: dict[tuple[Any, ...], bytes] = {}

    @property
    def first_day(self) -> date:
        return self._stamps[0].astype("datetime64[D]").item()

    def names(self, day: date, moods: Moods) -> tuple[str, ...]:
        """Return the names of the files that are there on a day, the current one last."""
        names = []
        for year in range(self.first_day.year, day.year + 1):
            if year <= LAST_HALF_YEAR:
                names += [f"mpi_roof_{year}{half}.zip" for half in "ab" if _appears(year, half) <= day]
            elif _appears(year, "") <= day:
                names.append(f"mpi_roof_{year}.zip")
        return (*names, moods.current)

    def body(self, name: str, day: date, moods: Moods) -> bytes | None:
        """Return the bytes of a file on a day; None: it is not there."""
        if name not in self.names(day, moods):
            return None
        if name == moods.current:
            newest = min(day, moods.frozen or day)
            key: tuple[Any, ...] = (name, newest, moods.current_days, moods.repeats_last_day, moods.lost, moods.lost_as_sentinel)
            make = self._current
        else:
            newest, key, make = day, (name, moods.corrected_rows), self._of_period
        if key not in self._made:
            self._made[key] = make(name, newest, moods)
        return self._made[key]

    def changed_on(self, name: str, day: date, moods: Moods) -> date:
        """Return the day on which a file last changed."""
        if name == moods.current:
            return min(day, moods.frozen or day)
        return _appears(*_period(name))

    def between(self, first: date, end: date) -> pd.DataFrame:
        """Return the readings from the first row after one midnight to the row that ends at another."""
        start, stop = np.searchsorted(self._stamps, np.array([first, end], dtype="datetime64[s]"), side="right")
        return self.readings.iloc[start:stop]

    def _of_period(self, name: str, day: date, moods: Moods) -> bytes:
        del day
        year, half = _period(name)
        rows = self.between(date(year, 7 if half == "b" else 1, 1), _end(year, half))
        if moods.corrected_rows and year >= FIRST_WHOLE_YEAR:
            rows = rows.copy()
            rows.iloc[-moods.corrected_rows :, 1] += 0.1
        return zip_bytes(name, csv_bytes(rows))

    def _current(self, name: str, day: date, moods: Moods) -> bytes:
        rows = self.between(day - timedelta(days=moods.current_days), day)
        if moods.lost:
            stamps = rows[STAMP_HEADER].to_numpy()
            is_lost = (stamps >= np.datetime64(moods.lost[0])) & (stamps <= np.datetime64(moods.lost[1]))
            if moods.lost_as_sentinel:
                rows = rows.copy()
                rows.iloc[is_lost, 1:] = -9999.0
            else:
                rows = rows[~is_lost]
        if moods.repeats_last_day:
            rows = pd.concat([rows, rows.iloc[-ROWS_PER_DAY:]])
        body = csv_bytes(rows, quoted=False, end="\r\n")
        return zip_bytes(name, body) if name.endswith(".zip") else body


def _period(name: str) -> tuple[int, str]:
    """Return year and half of the name of a file; the half is empty for a whole year."""
    return int(name[9:13]), name[13:].removesuffix(".zip")


def _end(year: int, half: str) -> date:
    return date(year, 7, 1) if half == "a" else date(year + 1, 1, 1)


def _appears(year: int, half: str) -> date:
    return _end(year, half) + timedelta(days=YEAR_AFTER_DAYS)


class Station:
    """The server: `day` and `moods` can be set while it runs, and `log` tells what was asked for."""

    def __init__(self, publisher: Publisher, *, day: date, moods: Moods | None = None) -> None:
        self.publisher = publisher
        self.day = day
        self.moods = moods or Moods()
        self.log: list[Request] = []
        self.port = 0

    def misbehave(self, **moods: Any) -> None:
        """Change how it misbehaves, and leave the rest as it is."""
        self.moods = replace(self.moods, **moods)

    def address(self, path: str | None = None) -> str:
        """Return the address of its files, with `{name}` for the name of one."""
        folder = self.moods.path if path is None else path
        return f"http://127.0.0.1:{self.port}/{f'{folder}/' if folder else ''}{{name}}"

    @property
    def home(self) -> str:
        """The address of its folder, as a mirror is named."""
        return self.address().removesuffix("/{name}")

    def fetched(self, since: int = 0) -> dict[str, int]:
        """Return the status of the last answer for each file that was asked for, after so many requests."""
        return {request.name: request.status for request in self.log[since:]}

    @contextmanager
    def serve(self, port: int = 0) -> Iterator[Station]:
        """Serve on loopback while the block runs; port 0 takes a free one."""
        with _Server(("127.0.0.1", port), _Handler) as server:
            server.station = self
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()

    def answer(self, path: str, asked: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for a path, and log the request."""
        status, headers, body = self._answer(path.strip("/"), asked)
        self.log.append(Request(self.day, path, status, len(body)))
        return status, headers, body

    def _answer(self, path: str, asked: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        folder, _, name = path.rpartition("/")
        day, moods = self.day, self.moods
        if folder != moods.path.strip("/"):
            return 404, {}, b""
        if name == SUMS:
            return 200, {}, self._sums().encode()
        fault = moods.faults.get(name)
        if fault in ("404", "500"):
            return int(fault), {}, b""
        if fault in ("login", "empty"):
            return 200, {}, _LOGIN if fault == "login" else b""
        body = self.publisher.body(name, day, moods)
        if body is None:
            return 404, {}, b""
        changed = datetime.combine(self.publisher.changed_on(name, day, moods), datetime.min.time(), tzinfo=UTC).replace(hour=6)
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"ETag": etag} if moods.etag else {}
        headers |= {"Last-Modified": format_datetime(changed, usegmt=True)} if moods.last_modified else {}
        if "if-none-match" in asked:
            is_current = moods.etag and asked["if-none-match"] == etag
        else:
            since = asked.get("if-modified-since")
            is_current = bool(moods.last_modified and since and changed <= parsedate_to_datetime(since))
        return (304, headers, b"") if is_current else (200, headers, body)

    def _sums(self) -> str:
        bodies = {name: self.publisher.body(name, self.day, self.moods) for name in self.publisher.names(self.day, self.moods)}
        listed = {name: body for name, body in bodies.items() if body and self.moods.faults.get(name) != "404"}
        return "".join(f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in listed.items())

    def told(self, orders: dict[str, Any]) -> None:
        """Follow the orders of a person: `day`, and any of the moods by name."""
        values = {each.name: orders[each.name] for each in fields(Moods) if each.name in orders}
        values |= {"frozen": date.fromisoformat(values["frozen"])} if values.get("frozen") else {}
        self.misbehave(**values)
        self.day = date.fromisoformat(orders["day"]) if orders.get("day") else self.day


class _Server(ThreadingHTTPServer):
    station: Station


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        status, headers, body = self.server.station.answer(self.path, {key.lower(): value for key, value in self.headers.items()})
        self._send(status, headers, body)

    def do_HEAD(self) -> None:
        self._send(200, {}, b"")

    def do_PUT(self) -> None:
        orders = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.station.told(orders)
        self._send(200, {}, b"")

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing: the log of the station has it."""


def order(port: int, **orders: Any) -> None:
    """Give orders to a station that runs in another process."""
    url, body = f"http://127.0.0.1:{port}/", json.dumps(orders).encode()
    request = urllib.request.Request(url, data=body, method="PUT")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Start a station by hand, or give orders to the one that runs."""
    parser = argparse.ArgumentParser(description="Play the Jena station on loopback over simulated time.")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--today", type=date.fromisoformat, default=date(2026, 3, 2), help="simulated day")
    parser.add_argument("--data", type=Path, help="folder with real readings; simulated weather if not given")
    parser.add_argument("--move-to", type=date.fromisoformat, help="order: the simulated day is this one")
    parser.add_argument("--fault", help=f"order: NAME=FAULT, one of {', '.join(FAULTS)}; NAME= takes it back")
    parser.add_argument("--mood", help='order: JSON such as {"repeats_last_day": true}')
    given = parser.parse_args(arguments)
    orders: dict[str, Any] = json.loads(given.mood) if given.mood else {}
    if given.move_to:
        orders["day"] = given.move_to.isoformat()
    if given.fault:
        name, _, fault = given.fault.partition("=")
        orders["faults"] = {name: fault} if fault else {}
    if orders:
        order(given.port, **orders)
        return
    readings = real_readings(given.data) if given.data else simulated_readings()
    if readings is None:
        parser.error(f"{given.data} lacks a file of the real readings")
    station = Station(Publisher(readings), day=given.today)
    with station.serve(given.port):
        sys.stdout.write(f"The station of {station.day} is at {station.address()}; Ctrl-C ends it.\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            sys.stdout.write("\n")


if __name__ == "__main__":
    main()
