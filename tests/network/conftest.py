"""A small network, made-up scans and batches of their patches."""

import numpy as np
import pytest

from lib.network import patches, training
from lib.network.patches import PatchBatches, ScanPatches
from lib.scans.images import Scan


@pytest.fixture
def small():
    """Arguments of `build_network`."""
    return {"name": "unet", "channels": [4, 8], "strides": [2]}


@pytest.fixture
def rows(monkeypatch):
    """Three scans that `load_scan` makes instead of reading: a bright cube is the lesion."""

    def load(row):
        generator = np.random.default_rng(row["seed"])
        image = generator.normal(size=(2, 20, 20, 20)).astype(np.float32)
        lesions = np.zeros((20, 20, 20), bool)
        lesions[6:11, 8:13, 7:12] = True
        image[0][lesions] += 6
        return Scan(f"sub-{row['seed']}", image, np.ones_like(lesions), lesions, np.eye(4))

    for module in (patches, training):
        monkeypatch.setattr(module, "load_scan", load)
    return [{"seed": seed} for seed in range(3)]


@pytest.fixture
def batches():
    """Makes batches of 12 voxels a side from rows of scans, or from another source of patches."""

    def make(source, steps=6, seed=0, sides=(12,)):
        source = ScanPatches(source, cached=3) if isinstance(source, list) else source
        return PatchBatches(source, steps=steps, patch_sizes=sides, scans_per_step=2, patches_per_scan=2, seed=seed)

    return make
