"""What is kept in memory between items of work: the same object again, until a file changes."""

import os

import pytest
import torch

from lib import kept, phantom, unet
from lib.scans import find_scans, load_scan


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    phantom.make_cohort(folder, n_subjects=2, n_two_sessions=0, seed=0, spacing_mm=4.0, workers=1)
    return find_scans(folder).to_dict("records")


def test_a_scan_is_kept_until_another_is_wanted_or_a_file_changes(rows):
    first = kept.scan(rows[0])
    assert (first.image == load_scan(rows[0]).image).all()
    assert kept.scan(rows[0]) is first
    assert kept.scan(rows[1]).id == rows[1]["scan"]
    again = kept.scan(rows[0])
    os.utime(rows[0]["lesions"])
    assert kept.scan(rows[0]) is not again


def test_weights_written_anew_are_read_anew(tmp_path):
    path, architecture = tmp_path / "unet.safetensors", {"name": "unet", "channels": [2, 4], "strides": [2]}
    for _ in range(2):
        trained = unet.build(**architecture)
        unet.save_weights(trained, path, architecture=architecture)
        model, description = kept.network(path, "cpu")
        assert kept.network(path, "cpu")[0] is model
        for expected, found in zip(trained.parameters(), model.parameters(), strict=True):
            assert torch.equal(expected, found)
    unet.record_threshold(path, 0.25)
    assert kept.network(path, "cpu")[1] == description | {"threshold": 0.25}


def test_a_missing_file_is_named(rows, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.nii.gz"):
        kept.scan(rows[0] | {"flair": str(tmp_path / "none.nii.gz")})
    with pytest.raises(ValueError, match="none.safetensors is missing"):
        kept.network(tmp_path / "none.safetensors", "cpu")
