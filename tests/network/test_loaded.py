"""What is kept in memory between items of work: the same object again, until a file changes."""

import os
from functools import lru_cache

import nibabel as nib
import numpy as np
import pytest
import torch

from lib.network.architectures import build_network
from lib.network.loaded import loaded_network, loaded_scan, own_scan
from lib.network.weights import record_thresholds, save_weights
from lib.scans.images import load_scan
from lib.scans.table import FILES


@pytest.fixture
def rows(tmp_path):
    generator = np.random.default_rng(0)
    rows = [{"scan": scan} | {name: str(tmp_path / f"{scan}_{name}.nii.gz") for name in FILES} for scan in "ab"]
    for path in (row[name] for row in rows for name in FILES):
        nib.save(nib.Nifti1Image(generator.integers(0, 2, (5, 4, 3)).astype(np.int16), np.eye(4)), path)
    return rows


def test_a_scan_is_kept_until_another_is_wanted_or_a_file_changes(rows):
    first = loaded_scan(rows[0])
    assert (first.image == load_scan(rows[0]).image).all()
    assert loaded_scan(rows[0]) is first
    assert loaded_scan(rows[1]).id == rows[1]["scan"]
    again = loaded_scan(rows[0])
    os.utime(rows[0]["lesions"])
    assert loaded_scan(rows[0]) is not again


def test_voxels_of_another_size_than_the_network_s_are_refused(rows):
    description = {"spacing_mm": [1.0, 1.0, 0.7]}
    with pytest.raises(ValueError, match="scan a: its voxels are 1.00 x 1.00 x 1.00 mm, those of the network"):
        loaded_scan(rows[0], description)
    with pytest.raises(ValueError, match="resample the scan"):
        own_scan(load_scan(rows[0], normalised=False), description)  # as the explorer opens it
    assert loaded_scan(rows[0], {"spacing_mm": [1.0] * 3}) is not loaded_scan(rows[0])


def test_what_is_derived_from_a_kept_scan_can_be_kept_too(rows):
    derived = lru_cache(1)(lambda scan: [scan.image.sum()])
    first = derived(loaded_scan(rows[0]))
    assert derived(loaded_scan(rows[0])) is first
    os.utime(rows[0]["flair"])
    assert derived(loaded_scan(rows[0])) is not first


def test_weights_written_anew_are_read_anew(tmp_path):
    path, architecture = tmp_path / "unet.safetensors", {"name": "unet", "channels": [2, 4], "strides": [2]}
    for _ in range(2):
        trained = build_network(**architecture)
        save_weights(trained, path, architecture=architecture, window=16)
        model, description = loaded_network(path, "cpu")
        assert loaded_network(path, "cpu")[0] is model
        for expected, found in zip(trained.parameters(), model.parameters(), strict=True):
            assert torch.equal(expected, found)
    record_thresholds(path, 0.25, 0.2)
    assert loaded_network(path, "cpu")[1] == description | {"threshold": 0.25, "outline": 0.2}


def test_a_missing_file_is_named(rows, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.nii.gz"):
        loaded_scan(rows[0] | {"flair": str(tmp_path / "none.nii.gz")})
    with pytest.raises(ValueError, match="none.safetensors is missing"):
        loaded_network(tmp_path / "none.safetensors", "cpu")
