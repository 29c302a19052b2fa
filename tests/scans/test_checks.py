"""Checking the files of a scans table: facts, problems with their cures, warnings."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from lib.scans.checks import check_scans

LAS = np.array([[-1.0, 0, 0, 5], [0, 1, 0, -6], [0, 0, 1, -7], [0, 0, 0, 1]])


def test_facts_of_a_scan_are_in_ml(write_scan):
    row = write_scan("01", affine=np.diag([2.0, 1, 1, 1]))
    facts, warnings = check_scans(pd.DataFrame([row]))
    assert facts.loc[0, "lesions"] == 1
    assert facts.loc[0, "lesion_volume_ml"] == pytest.approx(2 * 2 / 1000)
    assert facts.loc[0, "brain_volume_ml"] == pytest.approx(4 * 5 * 6 * 2 / 1000)
    assert len(warnings) == 1
    assert "2 x 1 x 1 mm" in warnings[0]


def test_every_problem_is_reported_with_its_file_and_cure(write_scan, tmp_path):
    not_finite = np.ones((8, 9, 10), np.float32)
    not_finite[0, 0, 0] = np.nan
    rows = [
        write_scan("01", flair=np.ones((8, 9, 11), np.float32)),
        write_scan("02", t1w=not_finite),
        write_scan("03", lesions=np.full((8, 9, 10), 3, np.uint8)),
        write_scan("04", flair=np.ones((8, 9, 10, 2), np.float32)),
        write_scan("05"),
        write_scan("06"),
        write_scan("07"),
    ]
    rows[4]["t1w"] = str(tmp_path / "absent.nii.gz")
    rows[5]["lesions"] = rows[6]["lesions"]
    (tmp_path / "07_t1w.nii.gz").write_bytes(b"not a NIfTI file")
    with pytest.raises(ValueError) as error:
        check_scans(pd.DataFrame(rows))
    text = str(error.value)
    for expected in (
        "01_flair.nii.gz has the value 1 in 100%",
        "02_t1w.nii.gz has 1 values that are not finite",
        "03_lesions.nii.gz is not a binary mask",
        "04_flair.nii.gz has 4 dimensions",
        "absent.nii.gz is missing",
        "07_t1w.nii.gz cannot be read",
        "07_lesions.nii.gz: used more than once (sub-06, sub-07)",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((8, 9, 11), LAS, "01_t1w.nii.gz and FLAIR .*01_flair.nii.gz differ in size, 8x9x11 and 8x9x10"),
        ((8, 9, 10), np.eye(4), "T1w .*01_t1w.nii.gz and FLAIR .* lie up to 1[0-9.]* mm apart"),
    ],
)
def test_images_on_different_grids_are_refused(write_scan, shape, affine, message):
    row = write_scan("01")
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random(shape), affine), row["t1w"])
    with pytest.raises(ValueError, match=message):
        check_scans(pd.DataFrame([row]))


def test_lesions_outside_the_brain_are_a_warning(write_scan):
    mask = np.zeros((8, 9, 10), np.uint8)
    mask[0, 0, 0] = mask[4, 4, 4] = 1
    _, warnings = check_scans(pd.DataFrame([write_scan("01", lesions=mask)]))
    assert "1 of 2 lesion voxels lie outside the brain" in warnings[0]
