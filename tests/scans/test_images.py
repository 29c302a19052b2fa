"""Loading scans: orientation, z-scores, brain and lesions."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from lib.scans.images import load_lesions, load_scan, with_digests


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


def test_a_scan_without_annotation_has_no_lesion_voxel_and_says_so(write_scan):
    row = write_scan("01")
    row = with_digests(pd.DataFrame([row | {"lesions": ""}])).loc[0]
    assert row["lesions_digest"] == ""
    bare, annotated = load_scan(row), load_scan(write_scan("01"))
    assert (bare.annotated, annotated.annotated) == (False, True)
    assert not bare.lesions.any()
    np.testing.assert_array_equal(bare.image, annotated.image)


OBLIQUE = Rotation.from_rotvec(np.radians([[0, 0, 44.99], [0, 0, 45.01]])).as_matrix()  # nearest to x, and to y


@pytest.mark.parametrize(("flair", "others"), [(0, 1), (1, 0)])
def test_all_images_of_a_scan_are_turned_as_its_flair_is(write_scan, flair, others):
    rng = np.random.default_rng(0)
    data = {name: rng.random((6, 6, 6)).astype(np.float32) for name in ("flair", "t1w")}
    data["lesions"] = np.round(rng.random((6, 6, 6))).astype(np.float32)
    row = write_scan("01", **data)
    for name, matrix in zip(data, OBLIQUE[[flair, others, others]], strict=True):
        nib.save(nib.Nifti1Image(data[name], nib.affines.from_matvec(matrix)), row[name])
    scan = load_scan(row, normalised=False)
    turned = nib.as_closest_canonical(nib.load(row["flair"]))
    orientation = nib.io_orientation(nib.load(row["flair"]).affine)
    np.testing.assert_array_equal(scan.affine, turned.affine)
    for found, name in zip((*scan.image, scan.lesions), data, strict=True):
        np.testing.assert_array_equal(found, nib.apply_orientation(data[name], orientation))
    lesions, affine = load_lesions(row)
    np.testing.assert_array_equal(lesions, scan.lesions)
    np.testing.assert_array_equal(affine, scan.affine)


def test_lesions_are_loaded_without_images(write_scan):
    row = write_scan("01")
    assert (load_lesions(row | {"flair": "", "t1w": ""})[0] == load_lesions(row)[0]).all()


def test_real_scans_are_found_and_loaded(real_scans):
    folder = real_scans / "open_ms_data" / "cross_sectional" / "MNI" / "patient07"
    names = {"flair": "FLAIR", "t1w": "T1", "lesions": "GOLD_STANDARD"}
    row = {name: str(next(folder.glob(f"{prefix}_*"))) for name, prefix in names.items()} | {"scan": "sub-07"}
    scan = load_scan(row)
    assert scan.image.shape == (2, 182, 218, 182)
    for channel in scan.image:
        assert abs(channel[scan.brain].mean()) < 1e-2
        assert channel[~scan.brain].max() == channel[~scan.brain].min() == 0
