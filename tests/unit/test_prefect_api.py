"""A Prefect server that does not answer is one line, and those who ask again take it for what is away."""

from __future__ import annotations

import socket

import pytest

from flows.runtime import automations
from flows.runtime.automations import ask
from storage.errors import NoAnswerError, RetrainError


@pytest.mark.parametrize(("is_listening", "reason"), [(True, "timed out"), (False, "Connection refused")])
def test_a_server_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch, is_listening: bool, reason: str) -> None:
    monkeypatch.setattr(automations, "ANSWER_S", 0.2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if is_listening:
            server.listen()
        port = server.getsockname()[1]
        with pytest.raises(
            NoAnswerError, match=rf"Prefect's server at http://127\.0\.0\.1:{port}/api does not answer .*{reason}"
        ) as raised:
            ask(f"http://127.0.0.1:{port}/api", "/flows/filter", {})
    assert isinstance(raised.value, RetrainError)
    assert isinstance(raised.value, OSError)
    assert str(raised.value).endswith("see by `retrain status` whether it runs, and try again when the machine is less busy")
