"""Tiny scans on disk, as rows of a scans table."""

import nibabel as nib
import numpy as np
import pytest

LAS = np.array([[-1.0, 0, 0, 5], [0, 1, 0, -6], [0, 0, 1, -7], [0, 0, 0, 1]])


@pytest.fixture
def write_scan(tmp_path):
    """Writes the files of one scan; `changes` replaces the array of a file. Returns its row of a scans table."""

    def write(subject, *, shape=(8, 9, 10), affine=LAS, seed=0, **changes):
        generator = np.random.default_rng(seed)
        brain = np.zeros(shape, bool)
        brain[2:-2, 2:-2, 2:-2] = True
        arrays = {
            "flair": np.where(brain, generator.normal(1, 2, shape), 0).astype(np.float32),
            "t1w": np.where(brain, generator.normal(5, 1, shape), 0).astype(np.float32),
            "lesions": np.zeros(shape, np.uint8),
        }
        arrays["lesions"][3:5, 3, 3] = 1
        row = {"scan": f"sub-{subject}", "subject": subject, "session": ""}
        for name, data in (arrays | changes).items():
            row[name] = str(tmp_path / f"{subject}_{name}.nii.gz")
            nib.save(nib.Nifti1Image(data, affine), row[name])
        return row

    return write
