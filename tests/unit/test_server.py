"""A temporary server of Prefect that does not come up is told in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.runtime import server
from storage.errors import RetrainError

NOWHERE = "http://127.0.0.1:9/api/health"


def test_a_server_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process,
        pytest.raises(RetrainError, match="ended with code 3 as it started"),
    ):
        server._wait_for(process, health=NOWHERE, home=tmp_path)


def test_a_server_that_never_answers_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server, "START_S", 0.3)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        with pytest.raises(RetrainError, match=r"did not answer within 0\.3 s"):
            server._wait_for(process, health=NOWHERE, home=tmp_path)
        process.kill()
