"""The notebook runs from its first cell to its last, and what it registers is a version like any other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "tutorials" / "notebook.ipynb"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_notebook_registers_a_network_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**os.environ, "RETRAIN_HOME": str(tmp_path / "var"), "MPLBACKEND": "agg"}

    def retrain(*arguments: str) -> str:
        command = [sys.executable, "-m", "flows.cli.app", *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    retrain("ingest", "jena", "--data", "sample")
    for name in ("RETRAIN_HOME", "MPLBACKEND"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert [cell for cell in notebook.cells if cell.get("outputs")] == []  # what a run prints is not kept in the repository
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert "Warning" not in "".join(output.get("text", "") for output in outputs)
    printed = [output["text"] for output in outputs if output.get("name") == "stdout"]
    assert re.match(r"jena@[0-9a-f]{12}  sample +[\d,]+ rows up to 2009", printed[0])
    scored = next(text for text in printed if "'mae_degc'" in text)
    score = float(scored.split("'mae_degc': ")[1].split(",")[0])
    assert printed[-1] == "retrain show jena-sample@1\n"

    (version,) = json.loads(retrain("models", "--json"))
    assert (version["variant"], version["aliases"]) == ("my_gru", ["candidate"])
    assert version["metrics"]["mae_degc"] == pytest.approx(score, abs=1e-3)
    shown = retrain("show", "jena-sample@1")
    assert "trained in plain Keras, outside of the pipeline" in shown
    assert "Promoted v1" in retrain("promote", "jena-sample@1")
