"""Maps on the raw grid."""

import json

import nibabel as nib
import numpy as np
import pytest
from heads import rotation, save
from nibabel.affines import from_matvec

from lib.prepare import save_on_raw
from lib.prepare.volumes import affine_of, isotropic_grid, read_volume


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_map_lands_on_the_raw_grid(dtype, tmp_path):
    """A map that says where it is, x + 2 y + 3 z of the world, says so on the raw grid too, oblique and left-handed."""
    affine = from_matvec(rotation(30) @ np.diag([-0.8, 0.9, 3]), (10, -12, 3))
    raw = save(tmp_path / "raw.nii.gz", np.random.default_rng(0).random((24, 24, 9)).astype(np.float32), affine)
    scanner = nib.load(raw)
    for form in (scanner.set_qform, scanner.set_sform):
        form(affine, "scanner")
    nib.save(nib.Nifti1Image(scanner.get_fdata(dtype=np.float32), None, scanner.header), raw)
    grid = isotropic_grid(read_volume(raw))
    there = affine_of(grid)
    world = nib.affines.apply_affine(there, np.moveaxis(np.indices(grid.GetSize()), 0, -1))
    values = (world @ (1, 2, 3)).astype(np.float32) if dtype == np.float32 else (world[..., 2] > 12).astype(np.uint8)
    save(tmp_path / "map.nii.gz", np.stack([values, values], -1), there)
    (tmp_path / "flair.json").write_text(json.dumps({"RawFLAIR": str(raw), "Reference": "FLAIR"}))
    save_on_raw(tmp_path / "map.nii.gz", tmp_path / "flair.nii.gz", tmp_path / "out.nii.gz")
    out = nib.load(tmp_path / "out.nii.gz")
    assert out.shape == (24, 24, 9, 2)
    assert np.array_equal(out.affine, nib.load(raw).affine)
    assert (out.header["qform_code"], out.header["sform_code"]) == (1, 1)
    true = nib.affines.apply_affine(affine, (12, 12, 4)) @ (1, 2, 3)
    if dtype == np.float32:
        assert out.get_fdata()[12, 12, 4, 1] == pytest.approx(true, abs=1e-3)
    else:
        assert set(np.unique(out.dataobj)) == {0, 1}


def test_a_map_of_a_scan_that_was_not_prepared_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no record"):
        save_on_raw(tmp_path / "map.nii.gz", tmp_path / "flair.nii.gz", tmp_path / "out.nii.gz")
