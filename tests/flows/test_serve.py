"""`retrain serve` in a process of its own, asked over HTTP."""

from __future__ import annotations

import ast
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from flow_helpers import ROOT, environment, python, retrain
from sample_helpers import Registered, register

from storage.layout import Store
from storage.registry import Registry
from tasks.datasets.jena.physics import COLUMNS
from tasks.models.load_check import TOLERANCE

WAIT_S = 240
OPTIONS = ("--port", "0", "--poll-seconds", "0.1", "--max-rows", "4", "--max-body-bytes", "4000000")


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    process: subprocess.Popen[str]
    client: httpx.Client
    log_file: Path

    def predict(self, **body: Any) -> httpx.Response:
        return self.client.post("/predict", json=body)

    def health(self) -> Any:
        return self.client.get("/health").json()

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def settled_log(self) -> list[dict[str, Any]]:
        """The log once it grows no more: a line is written when its answer has been sent, so who has the answer may be first."""
        lines = self.log
        while True:
            time.sleep(0.3)
            if len(self.log) == len(lines):
                return lines
            lines = self.log

    def wait_for(self, holds: Callable[[Any], bool]) -> Any:
        """Ask for the health until it is as it should be, and return it."""
        deadline = time.monotonic() + WAIT_S
        while not holds(health := self.health()):
            assert time.monotonic() < deadline, health
            time.sleep(0.05)
        return health


@contextmanager
def serving(reference: str, *, home: Path, folder: Path, **more: str) -> Iterator[Served]:
    """Serve until the block ends, which must end the process with code 0."""
    log_file = folder / f"{reference}.log"
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli.app", "serve", reference, *OPTIONS],
            env=environment(home, **more),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+?:\d+", line)
        assert found, log_file.read_text()
        with httpx.Client(base_url=found.group(), timeout=WAIT_S, trust_env=False) as client:
            yield Served(process, client, log_file)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def registry(home: Path) -> Registry:
    return Registry.open(Store.at(home))


@pytest.fixture(scope="module")
def forecasts(keras: Any, samples: Any, registry: Registry) -> tuple[Registered, ...]:
    """Three versions of a forecast."""
    table = samples.tables["jena"]
    return tuple(
        register(table, store=samples.store, registry=registry, variant="gru_baseline", steps=steps) for steps in (1, 2, 3)
    )


@pytest.fixture(scope="module")
def reviews(keras: Any, samples: Any, registry: Registry) -> Registered:
    return register(samples.tables["imdb"], store=samples.store, registry=registry, variant="gru_baseline", steps=1)


@pytest.fixture(scope="module")
def forecast_server(
    forecasts: tuple[Registered, ...], registry: Registry, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    registry.set_aliases("jena-sample", {"champion": 1})
    with serving("jena-sample", home=home, folder=tmp_path_factory.mktemp("logs")) as server:
        yield server


@pytest.fixture(scope="module")
def review_server(
    reviews: Registered, registry: Registry, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    registry.set_aliases("imdb-sample", {"candidate": 1})
    with serving("imdb-sample@candidate", home=home, folder=tmp_path_factory.mktemp("logs")) as server:
        yield server


def values(response: httpx.Response, name: str) -> list[Any]:
    assert response.status_code == 200, response.text
    return [prediction[name] for prediction in response.json()["predictions"]]


def test_windows_are_forecast_as_in_training(forecast_server: Served, forecasts: tuple[Registered, ...]) -> None:
    inputs, outputs = forecasts[0].inputs[:4], forecasts[0].outputs[:4]
    response = forecast_server.predict(windows=inputs.tolist())
    np.testing.assert_allclose(values(response, "prediction"), outputs, atol=TOLERANCE)
    answer = response.json()
    assert answer["model"] == {"name": "jena-sample", "version": 1}
    # 144 rows after the row that would come next: 145 times ten minutes.
    assert (answer["target"], answer["unit"], answer["horizon_seconds"]) == ("temperature_degc", "°C", 87_000)
    assert set(values(response, "lower_80")) == {None}
    named = forecast_server.predict(windows=inputs[:, :, ::-1].tolist(), columns=list(reversed(COLUMNS)))
    assert values(named, "prediction") == values(response, "prediction")


def test_with_stamps_a_forecast_has_its_time_and_its_intervals(
    forecast_server: Served, forecasts: tuple[Registered, ...]
) -> None:
    response = forecast_server.predict(
        windows=forecasts[0].inputs[:2].tolist(), last_timestamps=["2024-01-01T10:00:00", "2024-07-01T10:00:00"]
    )
    assert values(response, "target_timestamp") == ["2024-01-02T10:10:00", "2024-07-02T10:10:00"]
    for prediction in response.json()["predictions"]:
        edges = [prediction[name] for name in ("lower_95", "lower_80", "prediction", "upper_80", "upper_95")]
        assert edges == sorted(edges)
        assert edges[0] < edges[-1]


def test_texts_are_classified_as_in_training(review_server: Served, reviews: Registered) -> None:
    texts = reviews.inputs[:4, 0].tolist()
    response = review_server.predict(texts=texts)
    np.testing.assert_allclose(values(response, "raw_probability"), reviews.outputs[:4], atol=TOLERANCE)
    expected = ["positive" if probability > 0.5 else "negative" for probability in reviews.outputs[:4]]
    assert values(response, "label") == expected
    assert all(0 <= probability <= 1 for probability in values(response, "probability"))
    foreign = review_server.predict(texts=["ein wunderbarer Streifen", "the film"])
    assert values(foreign, "unknown_word_share") == [1.0, 0.0]  # told, and not refused


def test_the_server_says_what_it_is(forecast_server: Served, review_server: Served) -> None:
    version = forecast_server.client.get("/version").json()
    assert version["window"] == {"rows": 1440, "columns": list(COLUMNS), "row_seconds": 600}
    assert (version["model"], version["uri"]) == ({"name": "jena-sample", "version": 1}, "models:/jena-sample/1")
    assert (version["max_rows"], version["max_body_bytes"]) == (4, 4_000_000)
    assert review_server.client.get("/version").json()["window"] is None
    health = review_server.health()
    assert (health["status"], health["reference"], health["problem"]) == ("ok", "imdb-sample@candidate", None)
    schema = forecast_server.client.get("/openapi.json").json()
    request = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert request["required"] == ["windows"]
    assert request["properties"]["windows"]["items"]["items"]["items"] == {"type": "number"}


def test_the_page_asks_as_it_says(forecast_server: Served, samples: Any, tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/serve-a-model.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert "http://127.0.0.1:5002" in code
    (raw,) = Path(str(samples.store.root), "raw", "jena-sample").glob("*/*.zip")
    shutil.copy(raw, tmp_path / "jena_climate_2009_2016.csv.zip")
    address = str(forecast_server.client.base_url).rstrip("/")
    (tmp_path / "ask.py").write_text(code.replace("http://127.0.0.1:5002", address))
    done = python("ask.py", home=tmp_path)
    assert done.code == 0, done.err
    answer = ast.literal_eval(done.out)
    assert answer["predictions"][0]["target_timestamp"] == "2017-01-02T00:10:00"
    assert answer["predictions"][0]["lower_80"] < answer["predictions"][0]["prediction"]


SECRET = "secretword"
BAD_TEXTS = {
    "empty": ({"texts": [SECRET, ""]}, 422, "empty_text"),
    "none": ({"texts": []}, 422, "invalid_request"),
    "no list": ({"texts": SECRET}, 422, "invalid_request"),
    "a number": ({"texts": [7]}, 422, "invalid_request"),
    "too many": ({"texts": [SECRET] * 5}, 413, "too_many_rows"),
    "too long": ({"texts": [SECRET * 20_000]}, 422, "text_too_long"),
    "too many bytes": ({"texts": [SECRET * 500_000]}, 413, "body_too_large"),
    "another field": ({"texts": [SECRET], "further": 1}, 422, "invalid_request"),
    "windows": ({"windows": [[[1.0]]]}, 422, "invalid_request"),
}
ROWS = [[1.0] * 14] * 1440
BAD_WINDOWS = {
    "short": ({"windows": [ROWS[:7]]}, 422, "wrong_shape"),
    "ragged": ({"windows": [[[1.0], [1.0, 2.0]]]}, 422, "invalid_request"),
    "a word": ({"windows": [[[SECRET]]]}, 422, "invalid_request"),
    "null": ({"windows": [[[None]]]}, 422, "invalid_request"),
    "too many": ({"windows": [ROWS] * 5}, 413, "too_many_rows"),
    "too many bytes": ({"windows": [ROWS] * 60}, 413, "body_too_large"),
    "columns": ({"windows": [ROWS], "columns": [SECRET]}, 422, "wrong_columns"),
    "stamps": ({"windows": [ROWS], "last_timestamps": []}, 422, "wrong_stamps"),
    "no stamp": ({"windows": [ROWS], "last_timestamps": [SECRET]}, 422, "invalid_request"),
}


def assert_refused(response: httpx.Response, *, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    assert len(error["message"]) > 20
    assert SECRET not in error["message"]


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_bad_texts_are_refused(review_server: Served, case: str) -> None:
    body, status, code = BAD_TEXTS[case]
    assert_refused(review_server.predict(**body), status=status, code=code)


@pytest.mark.parametrize("case", BAD_WINDOWS)
def test_bad_windows_are_refused(forecast_server: Served, case: str) -> None:
    body, status, code = BAD_WINDOWS[case]
    assert_refused(forecast_server.predict(**body), status=status, code=code)


def test_what_is_no_request_is_refused(review_server: Served) -> None:
    client, as_json = review_server.client, {"Content-Type": "application/json"}
    for content, code in ((b"{", "invalid_json"), (b"\xff\xfe", "invalid_json"), (b"[]", "invalid_request")):
        assert_refused(client.post("/predict", content=content, headers=as_json), status=422, code=code)
    surrogate = b'{"texts": ["\\ud800"]}'  # half of a character
    assert_refused(client.post("/predict", content=surrogate, headers=as_json), status=422, code="invalid_json")
    assert_refused(client.post("/predict", content=b'{"texts": ["good"]}'), status=415, code="wrong_media_type")
    chunks = (b"x" * 100_000 for _ in range(50))  # sent without a length
    assert_refused(client.post("/predict", content=chunks, headers=as_json), status=413, code="body_too_large")
    assert_refused(client.get("/predict"), status=405, code="wrong_method")
    assert_refused(client.get("/nothing"), status=404, code="not_found")


def test_not_a_number_is_no_reading(forecast_server: Served) -> None:
    nan = json.dumps({"windows": [[[float("nan")] * 14] * 1440]}).encode()
    assert b"NaN" in nan
    response = forecast_server.client.post("/predict", content=nan, headers={"Content-Type": "application/json"})
    assert_refused(response, status=422, code="not_finite")


def test_the_log_has_one_line_a_request_and_no_text(review_server: Served) -> None:
    before = len(review_server.settled_log())
    review_server.predict(texts=[SECRET, "the film"])
    review_server.predict(texts=[SECRET, ""])
    review_server.client.get(f"/health?{SECRET}")
    lines = review_server.settled_log()[before:]
    told = [(line["method"], line["path"], line["status"], line["rows"], line["version"]) for line in lines]
    assert told == [
        ("POST", "/predict", 200, 2, 1),
        ("POST", "/predict", 422, None, None),
        ("GET", "/health", 200, None, None),
    ]
    assert all(line["time"].endswith("+00:00") and line["ms"] > 0 for line in lines)
    assert SECRET not in review_server.log_file.read_text()


def test_many_at_once_are_all_answered(forecast_server: Served, forecasts: tuple[Registered, ...]) -> None:
    inputs, outputs = forecasts[0].inputs, forecasts[0].outputs
    asked = [[(first + more) % len(inputs) for more in range(1 + first % 3)] for first in range(12)]
    answers: dict[int, list[float]] = {}

    def ask(number: int) -> None:
        answers[number] = values(forecast_server.predict(windows=inputs[asked[number]].tolist()), "prediction")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, rows in enumerate(asked):
        np.testing.assert_allclose(answers[number], outputs[rows], atol=TOLERANCE)


def test_the_alias_is_followed_without_a_restart_and_a_broken_version_is_not(
    forecasts: tuple[Registered, ...], registry: Registry, home: Path, tmp_path: Path
) -> None:
    window = forecasts[0].inputs[:1].tolist()
    expected = {model.version.version: model.outputs[0] for model in forecasts}
    broken = forecasts[2]
    registry.set_aliases("jena-sample", {"followed": 1})
    with serving("jena-sample@followed", home=home, folder=tmp_path) as server:
        responses: list[httpx.Response] = []
        stopped = threading.Event()

        def keep_asking() -> None:
            while not stopped.is_set():
                responses.append(server.predict(windows=window))

        asking = threading.Thread(target=keep_asking)
        asking.start()
        try:
            registry.set_aliases("jena-sample", {"followed": 2})
            server.wait_for(lambda health: health["model"]["version"] == 2)
            file = broken.folder / "data" / "model.keras"
            content = file.read_bytes()
            file.write_bytes(content[: len(content) // 2])
            registry.set_aliases("jena-sample", {"followed": 3})
            health = server.wait_for(lambda health: health["status"] == "outdated")
            file.write_bytes(content)
            assert health["model"]["version"] == 2
            assert "jena-sample@followed is version 3, which does not load: " in health["problem"]
            registry.set_aliases("jena-sample", {"followed": 1})
            health = server.wait_for(lambda health: health["status"] == "ok")
            assert (health["model"]["version"], health["problem"]) == (1, None)
        finally:
            stopped.set()
            asking.join()
        answered = [response.json()["model"]["version"] for response in responses]
        assert answered == [1] * answered.index(2) + [2] * answered.count(2) + [1] * (
            len(answered) - answered.index(2) - answered.count(2)
        )
        for response, version in zip(responses, answered, strict=True):
            np.testing.assert_allclose(values(response, "prediction"), [expected[version]], atol=TOLERANCE)
        events = [line for line in server.log if "event" in line]
    told = [(line["event"], line.get("from"), line.get("to"), line.get("version")) for line in events]
    assert told == [("version", 1, 2, None), ("outdated", None, None, 2), ("version", 2, 1, None)]


def test_a_password_that_is_named_is_asked_for(forecasts: tuple[Registered, ...], home: Path, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("a long password")
    file.chmod(0o600)
    body = {"windows": forecasts[0].inputs[:1].tolist()}
    with serving("jena-sample@1", home=home, folder=tmp_path, RETRAIN_AUTH=f"team:{file}") as server:
        assert server.client.get("/health").status_code == 200
        assert [server.client.get(path).status_code for path in ("/version", "/openapi.json")] == [401, 401]
        assert server.predict(**body).status_code == 401
        assert server.client.post("/predict", json=body, auth=("team", "another")).status_code == 401
        assert server.client.post("/predict", json=body, auth=("team", "a long password")).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "model 'nothing' has no versions, so no alias 'champion'"),
        (("jena-sample@best",), "model 'jena-sample' has no alias 'best': choose jena-sample@"),
        (("jena-sample@9",), "model 'jena-sample' has no version 9"),
        (("jena-sample@1", "--max-rows", "0"), "--max-rows is 0: Input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(
    forecasts: tuple[Registered, ...], home: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = retrain("serve", *arguments, home=home)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"retrain: {message}")
    assert done.err.count("\n") == 1


def test_a_port_that_is_taken_is_told(forecasts: tuple[Registered, ...], home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = retrain("serve", "jena-sample@1", "--port", str(taken.getsockname()[1]), home=home)
    assert done.code == 2
    assert re.fullmatch(r"retrain: cannot listen on 127\.0\.0\.1:\d+ \(.*\): give another --port, or free it\n", done.err)
