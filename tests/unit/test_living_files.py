"""Files that grow, roll, move and fail on a host that plays the station: what is asked for, kept and told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
from living.series import simulated_readings
from living.station import Publisher, Station

from storage.errors import DigestChangedError, NotFoundError, SourceError
from storage.journal import SharedValue
from storage.layout import Store
from storage.raw_files import RetryPolicy, ask_again, earlier_states, fetch
from storage.references import RawFile
from tasks.config import DataSettings
from tasks.datasets.jena import station as jena_station
from tasks.datasets.jena.station import StationOptions
from tasks.ingestion.fetching import fetch_raw
from tasks.ingestion.pipeline import table_version

Get = Callable[..., RawFile]

FAST = RetryPolicy(contact_s=2.0, read_s=2.0, tries=2, backoff_s=0.01, max_wait_s=0.05)
YEAR, CURRENT = "mpi_roof_2025.zip", "mpi_roof.csv"


@pytest.fixture(scope="module")
def publisher() -> Publisher:
    return Publisher(simulated_readings(first=date(2025, 11, 1), end=date(2026, 3, 1)))


@pytest.fixture
def station(publisher: Publisher) -> Iterator[Station]:
    with Station(publisher, day=date(2026, 1, 12)).serve() as station:
        station.misbehave(current_days=20)
        yield station


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "home")


@pytest.fixture
def get(station: Station, store: Store) -> Get:
    def call(name: str, *addresses: str, **options: Any) -> RawFile:
        urls = [address.replace("{name}", name) for address in addresses or (station.address(),)]
        known: dict[str, Any] = {"dataset": "jena", "origin": "station", "max_bytes": 10**8, "policy": FAST, "today": station.day}
        return fetch(name, urls=urls, store=store, **{**known, **options})

    return call


def statuses(station: Station) -> list[int]:
    return [request.status for request in station.log]


def states(store: Store, name: str = CURRENT, since: str = "2026-01-01") -> list[str]:
    found = earlier_states(store, dataset="jena", origin="station", name=name, since=date.fromisoformat(since))
    return [state.sha256 for state in found]


# --- the host itself


def test_the_station_publishes_what_it_would_have_by_a_day(publisher: Publisher, station: Station) -> None:
    many = Publisher(simulated_readings(first=date(2022, 7, 1), end=date(2022, 7, 3)))
    assert many.names(date(2024, 1, 7), station.moods) == (
        "mpi_roof_2022a.zip",
        "mpi_roof_2022b.zip",
        "mpi_roof_2023a.zip",
        CURRENT,
    )
    assert many.names(date(2024, 1, 8), station.moods)[-2:] == ("mpi_roof_2023b.zip", CURRENT)
    assert publisher.names(date(2026, 1, 7), station.moods) == (CURRENT,)
    assert publisher.names(date(2026, 1, 8), station.moods) == (YEAR, CURRENT)
    body = publisher.body(CURRENT, date(2026, 1, 12), station.moods)
    assert body is not None
    lines = body.decode("latin-1").split("\r\n")
    # A header, 20 days of 144 rows, and nothing after the last line end.
    assert len(lines) == 1 + 20 * 144 + 1
    assert lines[1].startswith("23.12.2025 00:10:00,")
    assert lines[-2].startswith("12.01.2026 00:00:00,")


# --- growing


def test_a_growing_file_is_replaced_and_after_its_period_asked_for_once_more(station: Station, get: Get, store: Store) -> None:
    first = get(YEAR, growing=True)
    station.misbehave(corrected_rows=5)
    second = get(YEAR, growing=True)
    assert second.sha256 != first.sha256
    station.misbehave(corrected_rows=7)
    third = get(YEAR)  # its period has ended, and this one is final
    assert third.sha256 not in (first.sha256, second.sha256)
    assert "growing" not in SharedValue(store.locks("jena")).read()[f"station:{YEAR}"]
    station.misbehave(corrected_rows=9)
    assert get(YEAR) == third
    assert statuses(station) == [200, 200, 200]


def test_a_growing_file_that_did_not_grow_is_complete_after_one_304(station: Station, get: Get) -> None:
    first = get(YEAR, growing=True)
    assert [get(YEAR), get(YEAR), get(YEAR)] == [first] * 3
    assert statuses(station) == [200, 304]


def test_a_final_file_that_changed_is_refused(station: Station, get: Get, store: Store) -> None:
    first = get(YEAR, growing=True)
    assert get(YEAR) == first
    Path(first.uri).unlink()
    station.misbehave(corrected_rows=9)
    with pytest.raises(DigestChangedError, match="--accept-digest"):
        get(YEAR)


def test_a_file_whose_content_was_rejected_is_asked_for_once_more(station: Station, get: Get, store: Store) -> None:
    rejected = get(YEAR)
    ask_again([rejected], store=store, dataset="jena")
    assert get(YEAR) == rejected  # one 304, and it is locked
    assert get(YEAR) == rejected
    ask_again([rejected], store=store, dataset="jena")
    station.misbehave(corrected_rows=9)
    restored = get(YEAR)
    assert restored.sha256 != rejected.sha256
    assert get(YEAR) == restored
    assert statuses(station) == [200, 304, 200]


def test_a_final_request_that_fails_is_made_again(station: Station, get: Get) -> None:
    get(YEAR, growing=True)
    station.misbehave(faults={YEAR: "500"})
    with pytest.raises(SourceError, match=r"failed 2 times \(HTTP 500\)"):
        get(YEAR)
    station.misbehave(faults={}, corrected_rows=3)
    assert get(YEAR).sha256 == hashlib.sha256(station.publisher.body(YEAR, station.day, station.moods) or b"").hexdigest()


@pytest.mark.parametrize(("etag", "last_modified"), [(True, False), (False, True), (True, True)])
def test_either_validator_saves_the_transfer(station: Station, get: Get, etag: bool, last_modified: bool) -> None:
    station.misbehave(etag=etag, last_modified=last_modified)
    first = get(CURRENT, growing=True)
    assert get(CURRENT, growing=True) == first
    station.day = date(2026, 1, 13)
    assert get(CURRENT, growing=True) != first
    assert statuses(station) == [200, 304, 200]


def test_without_a_validator_the_same_bytes_come_again_and_are_the_same_file(station: Station, get: Get, store: Store) -> None:
    station.misbehave(etag=False, last_modified=False)
    assert get(CURRENT, growing=True, rolling=True) == get(CURRENT, growing=True, rolling=True)
    assert statuses(station) == [200, 200]
    assert len(states(store)) == 1


# --- rolling


def test_every_state_of_a_rolling_file_is_kept_in_the_order_of_its_days(station: Station, get: Get, store: Store) -> None:
    digests = []
    for day in (12, 19, 26):
        station.day = date(2026, 1, day)
        digests.append(get(CURRENT, growing=True, rolling=True).sha256)
    assert len(set(digests)) == 3
    assert states(store) == digests
    assert states(store, since="2026-01-19") == digests[1:]
    assert states(store, since="2026-01-27") == []
    assert states(store, name="mpi_roof.zip") == []


def test_a_file_that_only_grows_keeps_no_states(get: Get, store: Store) -> None:
    get(CURRENT, growing=True)
    assert states(store) == []


def test_a_state_that_comes_back_is_the_newest_one_again(station: Station, get: Get, store: Store) -> None:
    first = get(CURRENT, growing=True, rolling=True).sha256
    station.misbehave(repeats_last_day=True)
    second = get(CURRENT, growing=True, rolling=True).sha256
    assert states(store) == [first, second]
    station.misbehave(repeats_last_day=False)
    get(CURRENT, growing=True, rolling=True)
    assert states(store) == [second, first]


def test_a_304_leaves_the_states_as_they_are(station: Station, get: Get, store: Store) -> None:
    first = get(CURRENT, growing=True, rolling=True).sha256
    station.misbehave(frozen=station.day)
    station.day = date(2026, 2, 2)
    get(CURRENT, growing=True, rolling=True)
    assert statuses(station) == [200, 304]
    assert states(store) == [first]


def test_what_is_no_file_becomes_no_state(station: Station, get: Get, store: Store) -> None:
    first = get(CURRENT, growing=True, rolling=True).sha256
    for fault, message in (("login", "is an HTML page"), ("empty", "is empty"), ("500", "HTTP 500")):
        station.misbehave(faults={CURRENT: fault})
        with pytest.raises(SourceError, match=message):
            get(CURRENT, growing=True, rolling=True)
    assert states(store) == [first]
    station.misbehave(faults={})
    assert get(CURRENT, growing=True, rolling=True).sha256 == first


# --- addresses


def test_a_file_that_no_address_has_names_all_of_them(station: Station, get: Get) -> None:
    old, new = station.address("wetter"), station.address()
    with pytest.raises(NotFoundError) as caught:
        get("mpi_roof_2024.zip", old, new)
    message = str(caught.value)
    assert "HTTP 404" in message
    base = f"http://127.0.0.1:{station.port}"
    assert message.endswith(f"tried {base}/wetter/mpi_roof_2024.zip, {base}/mpi_roof_2024.zip")
    assert [answer for _, _, answer in caught.value.tried] == ["no such file"] * 2


def test_credentials_and_queries_of_an_address_are_not_told(station: Station, get: Get) -> None:
    with pytest.raises(NotFoundError) as caught:
        get("gone.zip", f"http://user:secret@127.0.0.1:{station.port}/{{name}}?token=secret")
    assert "secret" not in str(caught.value)
    assert "secret" not in str(caught.value.tried)


def test_the_address_that_has_it_is_found_after_one_that_has_not(station: Station, get: Get) -> None:
    station.misbehave(path="new")
    assert get(YEAR, station.address("old"), station.address("new"))
    assert [(request.path, request.status) for request in station.log] == [(f"/old/{YEAR}", 404), (f"/new/{YEAR}", 200)]


@pytest.fixture
def closed() -> str:
    """An address at which nobody listens."""
    with closing(create_server(("127.0.0.1", 0))) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/{{name}}"


def test_a_host_that_is_gone_does_not_hide_that_the_others_have_no_such_file(station: Station, get: Get, closed: str) -> None:
    for addresses in ((closed, station.address()), (station.address(), closed)):
        with pytest.raises(NotFoundError, match=r"cannot be reached.*HTTP 404|HTTP 404.*cannot be reached"):
            get("gone.zip", *addresses)


def test_hosts_that_are_all_gone_say_nothing_about_the_file(get: Get, closed: str) -> None:
    with pytest.raises(SourceError, match=r"cannot fetch gone\.zip: .*cannot be reached") as caught:
        get("gone.zip", closed)
    assert not isinstance(caught.value, NotFoundError)


def test_a_host_in_trouble_is_no_answer_either(station: Station, get: Get) -> None:
    station.misbehave(faults={YEAR: "500"})
    with pytest.raises(SourceError, match="HTTP 500") as caught:
        get(YEAR, station.address("old"), station.address())
    assert not isinstance(caught.value, NotFoundError)


def test_a_host_that_gave_no_answer_is_not_waited_for_again(station: Station, get: Get, closed: str) -> None:
    silent: set[str] = set()
    assert get(YEAR, closed, station.address(), silent_hosts=silent)
    assert silent == {closed.removeprefix("http://").removesuffix("/{name}")}
    # Now somebody listens there, and is not asked.
    port = int(closed.rsplit(":", 1)[1].removesuffix("/{name}"))
    with Station(station.publisher, day=station.day).serve(port) as late:
        assert get(CURRENT, closed, station.address(), silent_hosts=silent, growing=True)
        assert late.log == []
        # The only address is asked in any case.
        assert get(CURRENT, closed, silent_hosts=silent, origin="other")


# --- every file of a request


@pytest.fixture
def request_raw(station: Station, store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def call(*, first: str = "2025-11", last: str = "latest") -> Any:
        monkeypatch.setenv("RETRAIN_TODAY", station.day.isoformat())
        monkeypatch.setattr(jena_station, "ADDRESSES", (station.address("wetter"),))
        options = StationOptions(from_period=first, to_period=last, addresses=(station.address(),))
        settings = DataSettings(data="upstream", source="station", options=options)
        return fetch_raw("jena", settings=settings, store=store, mirror=None)

    return call


def fetched_names(raw: Any) -> list[str]:
    return [file.name for file in raw.files]


def test_optional_files_may_be_missing_and_the_current_one_comes_with_its_states(
    station: Station, request_raw: Callable[..., Any]
) -> None:
    station.day = date(2026, 1, 5)
    first = request_raw()
    assert fetched_names(first) == [CURRENT]
    asked = {name: status for name, status in station.fetched().items() if status == 404}
    assert set(asked) == {YEAR, "mpi_roof_2025b.zip", "mpi_roof_2026.zip", "mpi_roof_2026a.zip"}
    station.day = date(2026, 1, 12)
    second = request_raw()
    assert fetched_names(second) == [YEAR, CURRENT, CURRENT]
    assert second.files[2] == first.files[0]


def test_the_renamed_current_file_is_found_and_the_states_of_the_old_name_stay(
    station: Station, request_raw: Callable[..., Any]
) -> None:
    station.day = date(2026, 1, 5)
    old = request_raw().files[0]
    station.misbehave(current="mpi_roof.zip")
    station.day = date(2026, 1, 19)
    raw = request_raw()
    assert fetched_names(raw) == [YEAR, "mpi_roof.zip", CURRENT]
    assert raw.files[2] == old


def test_newer_states_come_first(station: Station, request_raw: Callable[..., Any]) -> None:
    digests = []
    for day in (12, 19, 26):
        station.day = date(2026, 1, day)
        digests.append(next(file.sha256 for file in request_raw().files if file.name == CURRENT))
    assert [file.sha256 for file in request_raw().files if file.name == CURRENT] == digests[::-1]


def test_nothing_new_is_the_same_version_and_a_new_state_another(station: Station, request_raw: Callable[..., Any]) -> None:
    version = table_version(request_raw(), transform_version=1)
    station.misbehave(frozen=station.day)
    station.day = date(2026, 1, 19)
    assert table_version(request_raw(), transform_version=1) == version
    station.misbehave(frozen=None)
    assert table_version(request_raw(), transform_version=1) != version


def test_a_current_file_that_is_nowhere_is_told_with_every_file_and_address_once(
    station: Station, request_raw: Callable[..., Any]
) -> None:
    station.day = date(2026, 1, 5)
    station.misbehave(faults={CURRENT: "404"})
    with pytest.raises(NotFoundError) as caught:
        request_raw()
    base = f"http://127.0.0.1:{station.port}"
    assert str(caught.value) == (
        "none of the files with the newest rows is there: mpi_roof_2025.zip, mpi_roof_2025b.zip, mpi_roof_2026.zip, "
        "mpi_roof_2026a.zip, mpi_roof.csv, mpi_roof.zip; "
        f"tried {base}/{{name}} (no such file), {base}/wetter/{{name}} (no such file): "
        "see whether the publisher has moved them, and give the new address with --address"
    )


def test_a_finished_year_that_is_nowhere_is_told_with_what_may_stand_in_for_it(
    station: Station, request_raw: Callable[..., Any]
) -> None:
    station.day = date(2026, 3, 2)
    station.misbehave(faults={YEAR: "404"})
    with pytest.raises(NotFoundError, match=r"mpi_roof_2025\.zip and what may stand in for it are not there: "):
        request_raw()
    station.day = date(2026, 3, 1)  # a day before it may still be late
    assert fetched_names(request_raw()) == [CURRENT]


def test_a_year_that_is_asked_for_alone_must_be_there_or_be_told(station: Station, request_raw: Callable[..., Any]) -> None:
    assert fetched_names(request_raw(first="2025-12", last="2025-12"))[0] == YEAR
    with pytest.raises(NotFoundError, match=r"mpi_roof_2023b\.zip and what may stand in for it are not there"):
        request_raw(first="2023b", last="2023b")
