"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the tests' networks are small: more threads only wait for one another


@pytest.fixture(scope="session")
def real_scans():
    """Folder of the real scans, from REAL_SCANS or ../shared/data beside the checkout; skips if there is none."""
    folder = Path(os.environ.get("REAL_SCANS", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real scans: no folder {folder}; set REAL_SCANS to one that holds open_ms_data")
    return folder


@pytest.fixture(scope="session")
def explored_run(tmp_path_factory):
    """The `paths.Run` of a tiny run as notebooks 1 to 3 leave it."""
    from tiny_run import make_run

    return make_run(tmp_path_factory.mktemp("explored"))
