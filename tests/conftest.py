"""Fixtures shared by the tests."""

import os
import sys
from pathlib import Path

import pytest
import torch

from lib import stages

torch.set_num_threads(1)  # the tests' networks are small: more threads only wait for one another

RUNNER = """
import json, sys
from pathlib import Path

notebook, build = Path(sys.argv[1]), Path(sys.argv[3])
_, head, cell = notebook.read_text().split("# %%")
parameters = json.loads((build / "parameters" / f"{notebook.stem}.json").read_text())
exec(cell, parameters)
(build / f"{notebook.stem}.ipynb").touch()
"""


@pytest.fixture(scope="session")
def real_scans():
    """Folder of the real scans, from REAL_SCANS or ../shared/data beside the checkout; skips if there is none."""
    folder = Path(os.environ.get("REAL_SCANS", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real scans: no folder {folder}; set REAL_SCANS to one that holds open_ms_data")
    return folder


@pytest.fixture
def plain_runner(tmp_path, monkeypatch):
    """Runs the cell after the parameters as plain Python: no kernel to wait for."""
    path = tmp_path / "runner.py"
    path.write_text(RUNNER)
    monkeypatch.setattr(stages, "RUNNER", (sys.executable, str(path)))
