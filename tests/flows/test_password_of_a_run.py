"""A run without a service starts a server of its own, which asks for the password too: other users of the host reach loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
from flows.runtime.authentication import CLIENT_VARIABLE, set_variables
set_variables()
import os
from flows.runtime.automations import ask
from flows.runtime.server import prefect_server
from storage.errors import SettingError
from storage.layout import Store
with prefect_server(Store.from_environment()) as api:
    print("with it:", ask(api, "/admin/version"))
    from prefect.client.orchestration import get_client
    with get_client(sync_client=True) as client:
        print("by Prefect's client:", client.api_healthcheck() or len(client.read_flows()))
    del os.environ[CLIENT_VARIABLE]
    try:
        ask(api, "/admin/version")
    except SettingError as error:
        print("without it:", error)
"""


def test_a_temporary_server_asks_for_the_password(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("a long password")
    file.chmod(0o600)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RETRAIN_", "PREFECT_", "MLFLOW_"))}
    variables = {**inherited, "RETRAIN_HOME": str(tmp_path / "home"), "RETRAIN_AUTH": f"team:{file}"}
    done = subprocess.run([sys.executable, "-c", CODE], env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert told["with it"].startswith("3.")
    assert told["by Prefect's client"] == "0"
    assert "it wants a user and password" in told["without it"]
