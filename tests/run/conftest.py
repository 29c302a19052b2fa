"""Fixtures of the tests of runs."""

import sys

import pytest

from lib.run import stages

RUNNER = """
import json, sys
from pathlib import Path

notebook, build = Path(sys.argv[1]), Path(sys.argv[3])
_, head, cell = notebook.read_text().split("# %%")
parameters = json.loads((build / "parameters" / f"{notebook.stem}.json").read_text())
exec(cell, parameters)
(build / f"{notebook.stem}.ipynb").touch()
"""


@pytest.fixture
def plain_runner(tmp_path, monkeypatch):
    """Runs the cell after the parameters as plain Python: no kernel to wait for."""
    path = tmp_path / "runner.py"
    path.write_text(RUNNER)
    monkeypatch.setattr(stages, "RUNNER", (sys.executable, str(path)))
