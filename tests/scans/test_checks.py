"""Checking the files of a scans table: facts, problems with their cures, warnings."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from lib.scans.checks import check_scans
from lib.scans.images import FILES, load_scan
from lib.scans.table import find_scans

LAS = np.array([[-1.0, 0, 0, 5], [0, 1, 0, -6], [0, 0, 1, -7], [0, 0, 0, 1]])


def test_facts_of_a_scan_are_in_ml(write_scan):
    row = write_scan("01", affine=np.diag([2.0, 1, 1, 1]))
    facts, warnings = check_scans(pd.DataFrame([row]))
    assert facts.loc[0, "lesions"] == 1
    assert facts.loc[0, "lesion_volume_ml"] == pytest.approx(2 * 2 / 1000)
    assert facts.loc[0, "brain_volume_ml"] == pytest.approx(4 * 5 * 6 * 2 / 1000)
    assert len(warnings) == 1
    assert "2 x 1 x 1 mm" in warnings[0]


def test_scans_without_annotation_are_checked_without_it(write_scan):
    bare = [write_scan(subject, seed=int(subject)) | {"lesions": ""} for subject in ("01", "02")]
    whole = [write_scan(subject, seed=int(subject)) for subject in ("01", "02")]
    facts, expected = (check_scans(pd.DataFrame(rows))[0] for rows in (bare, whole))
    assert facts[["lesions", "lesion_volume_ml"]].isna().all(axis=None)
    assert facts["brain_volume_ml"].tolist() == expected["brain_volume_ml"].tolist()
    with pytest.raises(ValueError, match="is missing"):
        check_scans(pd.DataFrame([bare[0] | {"t1w": "lost.nii.gz"}]))


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


def test_a_file_under_two_spellings_of_its_path_is_one_file(write_scan, tmp_path):
    first, second = write_scan("01"), write_scan("02")
    second["lesions"] = f"{tmp_path}/../{tmp_path.name}/01_lesions.nii.gz"
    with pytest.raises(ValueError, match="01_lesions.nii.gz: used more than once .sub-01, sub-02"):
        check_scans(pd.DataFrame([first, second]))


@pytest.mark.parametrize("name", ["t1w", "lesions"])
def test_images_of_different_size_are_refused_with_both_files(write_scan, name):
    data = np.random.default_rng(0).random((8, 9, 11))
    row = write_scan("01", **{name: np.round(data) if name == "lesions" else data})
    with pytest.raises(
        ValueError, match=f"01_{name}.nii.gz and FLAIR .*01_flair.nii.gz differ in size, 8x9x11 and 8x9x10"
    ):
        check_scans(pd.DataFrame([row]))


def move(row, name, affine):
    """Another affine for a file, the values kept."""
    nib.save(nib.Nifti1Image(nib.load(row[name]).get_fdata(dtype=np.float32), affine), row[name])


def rotated(degrees, affine, centre_mm):
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    turn[:3, 3] = centre_mm - turn[:3, :3] @ centre_mm
    return turn @ affine


def shifted(mm, affine=LAS):
    return affine + np.outer([mm, 0, 0, 0], [0, 0, 0, 1])


LARGE = np.diag([10.0, 10, 10, 1])  # a grid of 70 x 80 x 90 mm


@pytest.mark.parametrize("name", ["t1w", "lesions"])
@pytest.mark.parametrize(
    ("affine", "other", "apart"),
    [
        (LAS, shifted(0.02), None),
        (LAS, shifted(0.24), None),
        (LAS, shifted(0.3), "0.30 mm apart"),
        (LAS, np.eye(4), "1[0-9.]* mm apart"),
        (LAS, LAS @ np.diag([1, 1, -1, 1]), "18.00 mm apart"),  # upside down
        (LARGE, rotated(0.5, LARGE, np.zeros(3)), None),  # 0.9 mm at a corner of voxels of 10 mm
        (LARGE, LARGE * [1, 1, 1.04, 1], "3.60 mm apart"),
        (LAS, rotated(1, LAS, np.array([100.0, 0, 0])), "1.[0-9]* mm apart"),  # about a far point: a shift
    ],
)
def test_images_lie_apart_as_far_as_the_corners_of_their_grids(write_scan, name, affine, other, apart):
    row = write_scan("01", affine=affine)
    move(row, name, other)
    if apart is None:
        check_scans(pd.DataFrame([row]))
    else:
        with pytest.raises(ValueError, match=f"01_{name}.nii.gz and FLAIR .*01_flair.nii.gz lie up to {apart}"):
            check_scans(pd.DataFrame([row]))


def sheared(tangent):
    return np.eye(4) + np.outer([tangent, 0, 0, 0], [0, 1, 0, 0])


@pytest.mark.parametrize(
    ("affine", "said"),
    [
        (np.diag([0.0, 0, 0, 1]), "voxels of 0 x 0 x 0 mm"),
        (np.diag([1.0, 1, 0, 1]), "voxels of 1 x 1 x 0 mm"),
        (np.diag([1.0, np.nan, 1, 1]), "voxels of .*nan"),
        (np.diag([1.0, 1, np.inf, 1]), "voxels of .*"),
        (
            np.array([[1, 0, 0, np.nan], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            "voxels of 1 x 1 x 1 mm and the affine .*nan",
        ),
        (np.diag([0.001, 0.001, 0.001, 1]), "voxels of 0.001 x 0.001 x 0.001 mm"),  # metres
        (np.diag([1000.0, 1000, 1000, 1]), "voxels of 1e\\+03"),  # micrometres
        (sheared(0.1), "axes 5.7 degrees off right angles"),
        (np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "axes 90.0 degrees off right angles"),
    ],
)
def test_an_affine_without_a_grid_in_mm_is_refused_for_each_file(write_scan, affine, said):
    row = write_scan("01")
    for name in FILES:
        image = nib.load(row[name])
        header, data = image.header.copy(), np.asanyarray(image.dataobj)
        header["sform_code"], header["qform_code"] = 2, 0
        header["srow_x"], header["srow_y"], header["srow_z"] = affine[:3]
        nib.save(nib.Nifti1Image(data, None, header), row[name])
    with pytest.raises(ValueError) as error:
        check_scans(pd.DataFrame([row]))
    for name in FILES:
        assert re.search(f"01_{name}.nii.gz has {said}", str(error.value))


@pytest.mark.parametrize(
    "affine", [np.diag([-2.0, 3, 0.5, 1]), rotated(30, np.diag([2.0, 3, 0.5, 1]), np.zeros(3)), sheared(1e-4)]
)
def test_volumes_are_those_of_the_determinant(write_scan, affine):
    facts, _ = check_scans(pd.DataFrame([write_scan("01", affine=affine)]))
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    assert facts.loc[0, "lesion_volume_ml"] == pytest.approx(2 * abs(np.linalg.det(affine)) / 1000)
    assert facts.loc[0, "voxel_mm"] == pytest.approx(sides.max())


def brain_of(values, shape=(8, 9, 10), background=0.0):
    """An image whose brain holds these values, drawn again and again."""
    image = np.full(shape, background, np.float32)
    inside = image[2:-2, 2:-2, 2:-2]
    inside[:] = np.resize(values, inside.shape)
    return image


NORMAL = np.random.default_rng(1).normal(1000, 100, 120)


@pytest.mark.parametrize("name", ["flair", "t1w"])
@pytest.mark.parametrize(
    ("image", "said"),
    [
        (brain_of(1), "the value 1 in 100%"),  # a brain mask
        (brain_of(np.r_[np.ones(80), NORMAL[:40] / 3000]), "the value 1 in 67%"),  # a mask resampled by interpolation
        (brain_of([1, 2, 3]), "the value 1 in 33%"),  # tissue classes
        (brain_of(NORMAL, background=1000), "the value 1000 in 83%"),
        (brain_of(NORMAL, background=-1), "the value -1 in 83%"),
        (brain_of(0), "is 0 everywhere"),
        (brain_of(np.r_[1e30, NORMAL[1:]]), "reaches from .* to 1e\\+30 but 98 % of it lies in"),
        (brain_of(np.r_[-32768, NORMAL[1:]]), "reaches from -32768 to .*; clip its outliers"),
        (brain_of(NORMAL * 1e25), "has values from .*e\\+27 to .*; rescale it"),
        (brain_of(np.r_[np.nan, NORMAL[1:]]), "has 1 values that are not finite"),
        (brain_of(NORMAL, background=np.nan), "has 600 values that are not finite"),
        (brain_of(NORMAL).astype(float) * 1e300, "has 120 values that are not finite"),
        (brain_of(NORMAL).astype(np.complex64), "holds complex64; give an image of one number a voxel"),
        (np.zeros((8, 9, 10), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "holds .*; give an image of one number"),
        (np.stack([brain_of(NORMAL)] * 2, -1), "has 4 dimensions"),
        (brain_of(NORMAL)[0], "has 2 dimensions"),
    ],
)
def test_what_is_no_image_of_a_brain_is_refused_with_its_file(write_scan, name, image, said):
    with pytest.raises(ValueError, match=f"01_{name}.nii.gz (has )?{said}") as error:
        check_scans(pd.DataFrame([write_scan("01", **{name: image})]))
    assert "1 problem(s)" in str(error.value)


@pytest.mark.parametrize(
    "image",
    [
        brain_of(NORMAL - 1000),  # z-scored: negative voxels are brain
        brain_of(NORMAL / 1e6),
        brain_of(np.round(NORMAL / 10)).astype(np.uint8),
        brain_of(np.r_[1400.0, NORMAL[1:]]),  # a bright vessel
        brain_of(NORMAL)[..., None],
        brain_of(NORMAL)[..., None, None],
    ],
)
def test_an_image_of_a_brain_is_taken(write_scan, image):
    row = write_scan("01", flair=image)
    facts, _ = check_scans(pd.DataFrame([row]))
    assert facts.loc[0, "brain_volume_ml"] == pytest.approx(0.12)
    assert load_scan(row, normalised=False).image.shape == (2, 8, 9, 10)


MARKED = brain_of(np.r_[np.ones(10), np.zeros(110)])


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (MARKED * 0.7, "is not a binary mask .it holds 0.7.; set lesions to 1"),
        (MARKED * np.arange(10), "is not a binary mask .it holds 2, 3, 4, 5, 6, ..."),  # labelled lesions
        (brain_of(np.linspace(0, 1, 120)), "is not a binary mask .it holds 0.00840336, "),  # probabilities
        (MARKED * 255, "is not a binary mask .it holds 255"),
        (-MARKED, "is not a binary mask .it holds -1"),
        (brain_of(NORMAL), "is not a binary mask"),
        (brain_of(1), "covers 100% of the brain; mark lesions alone"),
        (1 - MARKED, "covers 5[0-9]*% of the brain"),  # lesions and the rest exchanged
        (MARKED * np.nan, "has 720 values that are not finite"),
    ],
)
def test_what_is_no_lesion_mask_is_refused_with_its_file(write_scan, mask, said):
    with pytest.raises(ValueError, match=f"01_lesions.nii.gz {said}") as error:
        check_scans(pd.DataFrame([write_scan("01", lesions=mask)]))
    assert "1 problem(s)" in str(error.value)


@pytest.mark.parametrize("one", [0.9999, 1.0000001])
def test_a_mask_rounded_when_it_was_stored_is_that_mask(write_scan, one):
    row = write_scan("01", lesions=np.where(MARKED > 0, one, 1e-7).astype(np.float32))
    assert check_scans(pd.DataFrame([row]))[0].loc[0, "lesion_volume_ml"] == pytest.approx(0.01)
    assert load_scan(row).lesions.sum() == 10


def test_a_mask_scaled_when_it_was_stored_is_that_mask(write_scan):
    row = write_scan("01")
    image = nib.Nifti1Image(MARKED, LAS)
    image.header.set_data_dtype(np.uint8)  # nibabel stores 255 and the slope 1 / 255
    nib.save(image, row["lesions"])
    assert nib.load(row["lesions"]).get_fdata().max() != 1
    assert check_scans(pd.DataFrame([row]))[0].loc[0, "lesion_volume_ml"] == pytest.approx(0.01)


def test_flair_and_mask_exchanged_are_both_named(write_scan):
    row = write_scan("01")
    row["flair"], row["lesions"] = row["lesions"], row["flair"]
    with pytest.raises(
        ValueError, match="(?s)01_lesions.nii.gz has the value 1 in 100%.*01_flair.nii.gz is not a binary mask"
    ):
        check_scans(pd.DataFrame([row]))


def test_one_image_given_twice_or_two_of_other_places_are_refused(write_scan):
    same = write_scan("01", flair=brain_of(NORMAL), t1w=brain_of(NORMAL))
    other = write_scan("02", t1w=np.roll(brain_of(NORMAL), 3, axis=0) * (np.arange(8)[:, None, None] > 4))
    with pytest.raises(ValueError, match="01_flair.nii.gz and .*01_t1w.nii.gz are the same image"):
        check_scans(pd.DataFrame([same]))
    with pytest.raises(ValueError, match="02_flair.nii.gz and .*02_t1w.nii.gz have .*% of the brain in common"):
        check_scans(pd.DataFrame([other]))


@pytest.mark.parametrize(
    "content",
    [b"/annex/objects/MD5E-s1--0.nii.gz\n", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", None],
)
def test_content_that_is_not_fetched_is_named_with_its_command(write_scan, content):
    row = write_scan("01")
    path = Path(row["t1w"])
    path.unlink()
    path.write_bytes(content) if content else path.symlink_to("../.git/annex/objects/x")
    with pytest.raises(ValueError, match="01_t1w.nii.gz is a link or pointer without its content; .*datalad get"):
        check_scans(pd.DataFrame([row]))


@pytest.mark.parametrize(
    ("qform", "sform", "said"),
    [
        ((LAS, 1), (LAS, 1), None),
        ((None, 0), (LAS, 4), None),
        ((LAS, 1), (None, 0), None),
        ((None, 0), (None, 0), "01_flair.nii.gz says nothing about its orientation"),
        ((shifted(7), 1), (LAS, 4), "01_flair.nii.gz has a qform 7.0 mm off its sform; sform is used"),
    ],
)
def test_a_header_that_leaves_the_place_open_is_a_warning(write_scan, qform, sform, said):
    row = write_scan("01")
    for name in FILES:
        image = nib.load(row[name])
        image.set_qform(*qform)
        image.set_sform(*sform)
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header), row[name])
    _, warnings = check_scans(pd.DataFrame([row]))
    assert len(warnings) == (said is not None)
    assert said is None or said in warnings[0]


@pytest.mark.parametrize(
    ("side_mm", "first", "said"),
    [
        (1, 0, r"100% of .*01_t1w.nii.gz \(1 ml\) is not 0; strip the skull"),  # noise around
        (19, 2, r"75% of .*01_t1w.nii.gz \(3704 ml\) is not 0; strip the skull"),  # a head, zero around
    ],
)
def test_the_file_that_is_not_stripped_is_named(write_scan, side_mm, first, said):
    noisy = np.random.default_rng(0).normal(200, 5, (8, 9, 10))
    noisy[:first] = 0
    affine = np.diag([side_mm] * 3 + [1.0])
    _, warnings = check_scans(pd.DataFrame([write_scan("01", t1w=noisy, affine=affine)]))
    found = [text for text in warnings if "strip" in text]
    assert len(found) == 1
    assert re.search(said, found[0])


def test_lesions_outside_the_brain_are_a_warning(write_scan):
    mask = np.zeros((8, 9, 10), np.uint8)
    mask[0, 0, 0] = mask[4, 4, 4] = 1
    _, warnings = check_scans(pd.DataFrame([write_scan("01", lesions=mask)]))
    assert "1 of 2 lesion voxels lie outside the brain" in warnings[0]


def test_white_matter_that_is_brighter_in_the_flair_is_told(write_scan):
    """A ball of 28 mm, white matter more than 10 mm below its surface: against cortex dark in FLAIR, bright in T1w."""
    axes, generator = np.ogrid[:34, :34, :34], np.random.default_rng(0)
    radius_mm = 2 * np.sqrt(sum((axis - 16.5) ** 2 for axis in axes))
    head, white = radius_mm < 28, radius_mm < 18
    flair, t1w = (
        np.where(head, generator.normal(np.where(white, inside, 100), 10), 0).astype(np.float32) for inside in (90, 130)
    )
    given = {"affine": np.diag([2.0, 2, 2, 1]), "lesions": np.zeros(head.shape, np.uint8), "shape": head.shape}
    right, swapped = (
        check_scans(pd.DataFrame([write_scan(name, flair=one, t1w=other, **given)]))[1]
        for name, one, other in (("01", flair, t1w), ("02", t1w, flair))
    )
    assert not any("swapped" in text for text in right)
    assert sum("are FLAIR and T1w swapped?" in text for text in swapped) == 1


def test_real_scans_do_not_look_swapped_until_they_are(real_scans):
    for patient in ("patient07", "patient19"):
        rows = find_scans(Path(f"ljubljana:{real_scans / 'open_ms_data' / 'cross_sectional' / 'MNI' / patient}"))
        assert not any("swapped" in text for text in check_scans(rows)[1])
        turned = rows.rename(columns={"flair": "t1w", "t1w": "flair"})
        assert any("swapped" in text for text in check_scans(turned)[1])
