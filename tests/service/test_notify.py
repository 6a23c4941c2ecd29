"""Channels on a real service: a webhook and a mail server on loopback get what happens, and the address stays in its block."""

from __future__ import annotations

import email
import email.policy
import json
import socketserver
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from service_helpers import Listener, Live, running_service, wait_for

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(1200)]

TOKEN = "k3ep-this-to-yourself"
RUN = "prefect.flow-run.5f3a1a52-6a0c-4a57-93a0-5e7f0d6b5d11"
LONG = "Promoted v5: MAE 2.35 °C beats champion v4 by 0.06 °C <b>&</b> " + "so much more to say " * 30
FLOW = {"prefect.resource.id": "prefect.flow.1", "prefect.resource.role": "flow"}
DEPLOYMENT = {"prefect.resource.id": "prefect.deployment.1", "prefect.resource.role": "deployment"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running_service(tmp_path_factory.mktemp("notify") / "home") as service:
        yield service


class MailServer(socketserver.StreamRequestHandler):
    """A mail server that keeps what it is sent."""

    mails: ClassVar[list[email.message.EmailMessage]] = []

    def handle(self) -> None:
        self._say("220 sink")
        while line := self.rfile.readline().decode().strip():
            match line.split(maxsplit=1)[0].upper():
                case "EHLO":
                    self._say("250-sink", "250 AUTH PLAIN LOGIN")
                case "AUTH":
                    self._say("235 welcome")
                case "DATA":
                    self._say("354 go on")
                    self._keep()
                    self._say("250 kept")
                case "QUIT":
                    self._say("221 bye")
                    return
                case _:
                    self._say("250 yes")

    def _keep(self) -> None:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        self.mails.append(email.message_from_bytes(b"".join(lines), policy=email.policy.default))  # type: ignore[arg-type]

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


class Refusing(Listener):
    """A webhook that says no."""

    def do_POST(self) -> None:  # noqa: N802  (the name that the server calls)
        self.send_response(403)
        self.end_headers()


@contextmanager
def serving(server: Any) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def emit(live: Live, event: str, *, resource: dict[str, str], related: tuple[dict[str, str], ...] = (), **payload: Any) -> None:
    body = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": resource,
        "related": list(related),
        "payload": payload,
    }
    live.ask("/events", [body])


def notify(live: Live, *arguments: str, **variables: str) -> tuple[int, str]:
    done = live.retrain("notify", *arguments, **variables)
    assert TOKEN not in done.stdout + done.stderr
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr).strip()


def received() -> dict[str, dict[str, str]]:
    """What the webhook was told, by kind."""
    told = [json.loads(body) for body in Listener.told]
    return {entry["kind"]: entry for entry in told}


def test_people_are_told_and_the_address_stays_secret(live: Live) -> None:
    code, said = notify(live, "list")
    assert code == 0
    assert said.startswith("No channel yet: retrain notify add slack --url-from-env VARIABLE.")
    kinds = {line.split()[0] for line in said.splitlines()[1:]}
    expected = {"failed", "rejected", "late", "success", "champion", "loses", "waiting", "stale", "fault", "drift", "performance"}
    assert kinds == expected
    with (
        serving(ThreadingHTTPServer(("127.0.0.1", 0), Listener)) as web,
        serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailServer)) as mail,
    ):
        refuse_what_cannot_be(live, web=web)
        hook = f"http://127.0.0.1:{web}/{TOKEN}"
        sink = f"mailto://sender:{TOKEN}@127.0.0.1:{mail}?from=retrain@example.org&to=team@example.org&mode=insecure"
        code, said = notify(live, "add", "webhook", "--url-from-env", "HOOK", "--on", "all", HOOK=hook)
        assert (code, said.split(";")[0]) == (0, "webhook: test message sent"), said
        assert received()["test"]["subject"] == "retrain: this channel works"
        code, said = notify(
            live, "add", "email", "--url-from-env", "MAIL", "--on", "failed,champion", "--name", "team", MAIL=sink
        )
        assert (code, said) == (0, "team: test message sent; is told of failed, champion"), said
        assert str(MailServer.mails[-1]["to"]) == "team@example.org"
        code, said = notify(live, "list")
        assert said.splitlines()[0] == "team (email): champion, failed"
        assert said.splitlines()[1].startswith("webhook (webhook): champion, drift, failed, ")

        every_kind_arrives(live)
        a_real_failure_has_a_link_to_its_run(live)

        Listener.told.clear()
        assert notify(live, "test", "webhook") == (0, "webhook: test message sent")
        assert set(received()) == {"test"}
        assert notify(live, "remove", "webhook")[0] == 0
        assert notify(live, "list") == (0, "team (email): champion, failed")
        code, said = notify(live, "test", "webhook")
        assert (code, said) == (2, "retrain: unknown channel 'webhook': channels are team")
        assert notify(live, "remove", "team")[0] == 0
    assert not [entry for entry in live.ask("/automations/filter", {}) if entry["name"].startswith("notify ")]
    assert live.ask("/block_documents/filter", {}) == []
    the_address_is_nowhere_in_the_open(live.home)


def refuse_what_cannot_be(live: Live, *, web: int) -> None:
    """A refusal stores nothing, and never shows the address."""
    wrong = {
        (
            "add",
            "pigeon",
            "--url-from-env",
            "HOOK",
        ): "retrain: unknown service 'pigeon' for retrain notify: choose email, sl",
        ("add", "webhook", "--url-from-env", "NOTHING"): "retrain: variable 'NOTHING' is empty or not set: ",
        (
            "add",
            "webhook",
            "--url-from-env",
            "HOOK",
            "--on",
            "faild",
        ): "retrain: unknown kind 'faild' for --on: choose champion",
        ("add", "webhook", "--url-from-env", "HOOK", "--name", "A b"): "retrain: --name is 'A b', expected lower-case letters",
        ("add", "slack", "--url-from-env", "HOOK"): "retrain: the address is none of slack: expected https://hooks.slack.com/",
        ("add", "teams", "--url-from-env", "HOOK"): "retrain: the address is none of teams: expected the address of a Workflow",
        ("add", "email", "--url-from-env", "HOOK"): "retrain: the address is none of email: expected mailtos://",
    }
    for arguments, expected in wrong.items():
        code, said = notify(live, *arguments, HOOK=f"http://127.0.0.1:{web}/{TOKEN}")
        assert (code, said[: len(expected)]) == (2, expected)
        assert len(said.splitlines()) == 1
    # Nobody listens there; and somebody does who says no.
    code, said = notify(live, "add", "webhook", "--url-from-env", "HOOK", HOOK=f"http://127.0.0.1:9/{TOKEN}")
    assert (code, said[:58]) == (2, "retrain: the test message to 'webhook' was not accepted: C")
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Refusing)) as refusing:
        code, said = notify(live, "add", "webhook", "--url-from-env", "HOOK", HOOK=f"http://127.0.0.1:{refusing}/{TOKEN}")
    assert (code, "was not accepted: it answered with status 403" in said) == (2, True), said
    assert live.ask("/block_documents/filter", {}) == []


def every_kind_arrives(live: Live) -> None:
    """Events of every kind, as Prefect, the flows and the monitoring emit them: each message is short and whole."""
    run = {"prefect.resource.id": RUN, "prefect.resource.name": "retrain-jena 2026-11-28 weekly"}
    named = {"prefect.resource.id": "retrain.model.jena", "prefect.resource.name": "jena"}
    findings = [{"subject": "temperature_degc", "verdict": "drift", "reason": "PSI 0.31 against Januaries, above 0.25"}]
    state = {"prefect.state-name": "Crashed", "prefect.state-message": LONG}
    emit(live, "prefect.flow-run.Crashed", resource=run | state, related=(DEPLOYMENT,))
    emit(live, "prefect.flow-run.Rejected", resource=run | state | {"prefect.state-name": "Rejected"}, related=(DEPLOYMENT,))
    emit(live, "prefect.flow-run.Late", resource=run)
    retrain = FLOW | {"prefect.resource.name": "retrain"}
    emit(live, "prefect.flow-run.Promoted", resource=run | state | {"prefect.state-name": "Promoted"}, related=(retrain,))
    waits = run | {"prefect.resource.name": "approve jena@6"}
    emit(live, "prefect.flow-run.Suspended", resource=waits, related=(FLOW | {"prefect.resource.name": "approve"},))
    emit(live, "retrain.champion", resource=named, champion="v6", before="v4", outcome="promoted", reason=LONG)
    emit(live, "retrain.champion.loses", resource=named, champion="v6", reason=LONG)
    stale = {"prefect.resource.id": "retrain.table.jena", "prefect.resource.name": "jena"}
    emit(live, "retrain.table.stale", resource=stale, newest="2026-11-01T00:00:00")
    for kind in ("fault", "drift", "performance"):
        emit(live, f"retrain.{kind}", resource=named, findings=findings)
    expected = {
        "failed": "Crashed: retrain-jena 2026-11-28 weekly",
        "rejected": "Data rejected: retrain-jena 2026-11-28 weekly",
        "late": "Late: retrain-jena 2026-11-28 weekly",
        "success": "Promoted: retrain-jena 2026-11-28 weekly",
        "waiting": "Waits for you: approve jena@6",
        "champion": "jena: v6 is champion, before v4",
        "loses": "jena: the champion loses to the naive baseline",
        "stale": "jena: no new data",
        "fault": "jena: fault of a sensor",
        "drift": "jena: drift",
        "performance": "jena: errors have grown",
    }
    wait_for(lambda: expected.keys() <= received().keys(), 90, lambda: (sorted(received()), live.ask("/events/filter", {})))
    messages = received()
    assert {kind: messages[kind]["subject"] for kind in expected} == expected
    for kind in expected:
        assert 0 < len(messages[kind]["subject"] + messages[kind]["text"]) < 180
        assert "\n" not in messages[kind]["text"]
    assert messages["champion"]["text"].startswith("Promoted v5: MAE 2.35 °C beats champion v4 by 0.06 °C <b>&</b> so")
    assert messages["champion"]["text"].endswith("…")
    assert messages["stale"]["text"] == "The newest reading is of 2026-11-01T00:00:00."
    assert messages["drift"]["text"] == "temperature_degc: PSI 0.31 against Januaries, above 0.25"
    # The mail has the same, for what its channel is told of.
    wait_for(lambda: len(MailServer.mails) >= 3, 60, lambda: MailServer.mails)
    subjects = sorted(str(mail["subject"]) for mail in MailServer.mails[1:])
    assert subjects == ["Crashed: retrain-jena 2026-11-28 weekly", "jena: v6 is champion, before v4"]

    # An approval that nobody gave has not failed.
    Listener.told.clear()
    unanswered = {"prefect.state-name": "Failed", "prefect.state-message": "The flow was paused and never resumed."}
    emit(live, "prefect.flow-run.Failed", resource=run | unanswered, related=(DEPLOYMENT,))


def a_real_failure_has_a_link_to_its_run(live: Live) -> None:
    failed = live.ended(live.start("ingest/ingest", data={"data": "mirror"}))
    wait_for(lambda: "failed" in received(), 60, lambda: Listener.told)
    (message,) = [json.loads(body) for body in Listener.told]
    assert message["subject"] == "Failed: ingest jena"
    assert message["text"] == failed["state"]["message"][: len(message["text"]) - 1] + message["text"][-1:]
    assert message["page"].endswith(failed["id"])
    wait_for(lambda: len(MailServer.mails) >= 4, 60, lambda: MailServer.mails)
    body = MailServer.mails[-1].get_body(("plain", "html"))
    assert body is not None
    assert failed["id"] in body.get_content()


def the_address_is_nowhere_in_the_open(home: Path) -> None:
    """It is encrypted in the database, and in no log of the service."""
    for path in [*home.glob("service/*.log"), *home.glob("prefect/*")]:
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
