"""Loading scans: orientation, z-scores, brain and lesions."""

import nibabel as nib
import numpy as np

from lib.scans.images import load_scan


def test_a_scan_is_loaded_in_ras_with_z_scores_and_zero_background(write_scan):
    row = write_scan("01")
    raw = nib.load(row["flair"]).get_fdata()
    scan = load_scan(row)
    assert nib.aff2axcodes(scan.affine) == ("R", "A", "S")
    for channel, name in zip(scan.image, ("flair", "t1w"), strict=True):
        values = nib.load(row[name]).get_fdata()
        expected = np.where(values != 0, (values - values[values != 0].mean()) / values[values != 0].std(), 0)
        np.testing.assert_allclose(channel, expected[::-1], atol=1e-5)
    np.testing.assert_array_equal(scan.brain, (raw != 0)[::-1])  # brain voxels below zero are brain
    assert (raw[raw != 0] < 0).any()
    assert scan.lesions.sum() == 2


def test_real_scans_are_found_and_loaded(real_scans):
    folder = real_scans / "open_ms_data" / "cross_sectional" / "MNI" / "patient07"
    names = {"flair": "FLAIR", "t1w": "T1", "lesions": "GOLD_STANDARD"}
    row = {name: str(next(folder.glob(f"{prefix}_*"))) for name, prefix in names.items()} | {"scan": "sub-07"}
    scan = load_scan(row)
    assert scan.image.shape == (2, 182, 218, 182)
    for channel in scan.image:
        assert abs(channel[scan.brain].mean()) < 1e-2
        assert channel[~scan.brain].max() == channel[~scan.brain].min() == 0
