"""The synthetic cohort: made on a 3 mm grid, where a subject takes a fraction of a second."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lib import phantom
from lib.anatomy import make_anatomy, smooth_noise
from lib.rendering import (
    Spots,
    draw_lesions,
    draw_lookalikes,
    infratentorial,
    lesion_contrast,
    paint,
    render,
    site_probability,
)

SPACING_MM = 3.0


@pytest.fixture(scope="module")
def anatomies():
    return [make_anatomy(SPACING_MM, np.random.default_rng([5, i])) for i in range(6)]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    written = phantom.make_cohort(folder, n_subjects=2, n_two_sessions=1, seed=3, spacing_mm=SPACING_MM, workers=1)
    assert written == 3
    return folder


def nothing(anatomy):
    shape = anatomy.brain.shape
    return Spots(np.zeros(shape, np.float32), np.zeros(shape, np.int16), np.zeros((1, 2)))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scans(folder):
    return {path: content for path, content in contents(folder).items() if path.name.endswith(".nii.gz")}


def test_smooth_noise_has_unit_variance_and_the_length_asked_for():
    length = 4.0
    field = smooth_noise((80, 80, 80), length, np.random.default_rng(0))
    assert field.std() == pytest.approx(1, abs=0.1)
    lag = 4  # bumps of SD L correlate as exp(-lag² / 4 L²)
    measured = np.corrcoef(field[:-lag].ravel(), field[lag:].ravel())[0, 1]
    assert measured == pytest.approx(np.exp(-(lag**2) / (4 * length**2)), abs=0.05)


def test_tissue_fractions_sum_to_one_in_the_brain_and_to_zero_outside(anatomies):
    for anatomy in anatomies:
        total = anatomy.white + anatomy.grey + anatomy.fluid
        np.testing.assert_allclose(total, anatomy.brain, atol=1e-5)
        assert 1000 < anatomy.brain.sum() * SPACING_MM**3 / 1000 < 2300  # ml


def test_ventricles_hold_fluid_and_differ_between_subjects(anatomies):
    inside = [a.fluid[a.ventricle_mm < -2].mean() for a in anatomies]
    assert min(inside) > 0.8
    sizes = [int((a.ventricle_mm < 0).sum()) for a in anatomies]
    assert max(sizes) > 1.2 * min(sizes)


def test_painted_ball_has_its_volume_and_stays_in_tissue(anatomies):
    anatomy = anatomies[0]
    depth = ndimage.distance_transform_edt(anatomy.white > 0.95)
    site = np.array([np.unravel_index(depth.argmax(), depth.shape)])
    alpha, label = np.zeros(depth.shape, np.float32), np.zeros(depth.shape, np.int16)
    paint(anatomy, alpha, label, site, [60.0], np.eye(3)[None], np.zeros(depth.shape))
    assert alpha.sum() == pytest.approx(60, rel=0.25)
    assert (alpha >= 0.5).sum() == pytest.approx(60, rel=0.25)
    assert set(np.unique(label)) == {0, 1} and alpha[tuple(site[0])] == 1
    edge = np.argwhere(anatomy.brain)[:1]  # a voxel at the rim of the brain
    paint(anatomy, alpha, label, edge, [200.0], np.eye(3)[None], np.zeros(depth.shape))
    assert not alpha[~anatomy.brain].any()


def test_focal_lesions_favour_the_ventricles_and_keep_eight_percent_below_the_tentorium(anatomies):
    for anatomy in anatomies[:2]:
        weight, below = site_probability(anatomy), infratentorial(anatomy)
        assert weight[below].sum() / weight.sum() == pytest.approx(0.08, abs=1e-3)
        near, far = ((anatomy.ventricle_mm > low) & (anatomy.ventricle_mm < low + 5) & ~below for low in (2, 25))
        assert weight[near & (weight > 0)].mean() > 1.5 * weight[far & (weight > 0)].mean()


def test_lesions_lie_in_the_brain_and_mostly_in_white_matter(anatomies):
    for i, anatomy in enumerate(anatomies):
        lesions = draw_lesions(anatomy, np.random.default_rng(i)).alpha >= 0.5
        assert lesions.sum() > 20
        assert not lesions[~anatomy.brain].any()
        assert anatomy.white[lesions].mean() > 0.7
        assert anatomy.fluid[lesions].mean() < 0.1


def test_lesions_are_bright_on_flair_and_dark_on_mprage(anatomies):
    ratios = []
    for i, anatomy in enumerate(anatomies):
        lesions = draw_lesions(anatomy, np.random.default_rng(i))
        images = render(anatomy, lesions, nothing(anatomy), np.random.default_rng(i))
        mask = lesions.alpha >= 0.5
        around = ndimage.binary_dilation(mask, iterations=3) & (lesions.alpha == 0) & (anatomy.white > 0.9)
        ratios.append(images[:, mask].mean(axis=1) / images[:, around].mean(axis=1))
    flair, mprage = np.mean(ratios, axis=0)
    assert 1.1 < flair < 1.5
    assert 0.7 < mprage < 0.98


def test_lesion_contrasts_are_negatively_correlated_and_grow_with_size():
    rng = np.random.default_rng(0)
    volumes_mm3 = np.exp(rng.normal(3.27, 1.37, 4000))
    flair, mprage = lesion_contrast(volumes_mm3, rng).T
    assert -0.8 < np.corrcoef(flair, mprage)[0, 1] < -0.3
    assert np.corrcoef(np.log(volumes_mm3), flair)[0, 1] > 0.1
    assert np.corrcoef(np.log(volumes_mm3), mprage)[0, 1] < -0.1
    assert (flair > 0).all() and (mprage <= 0).all()


def test_a_lesion_adds_its_contrast_and_nothing_else(anatomies):
    anatomy = anatomies[0]
    lesions = draw_lesions(anatomy, np.random.default_rng(0))
    with_lesions = render(anatomy, lesions, nothing(anatomy), np.random.default_rng(4))
    without = render(anatomy, nothing(anatomy), nothing(anatomy), np.random.default_rng(4))
    reach = ndimage.binary_dilation(lesions.alpha > 0, iterations=4)  # thick slices spread a lesion along z
    np.testing.assert_array_equal(with_lesions[:, ~reach], without[:, ~reach])
    core = lesions.alpha > 0.9
    assert (with_lesions[0] - without[0])[core].mean() > 0.1
    assert (with_lesions[1] - without[1])[core].mean() < -0.03


def test_render_keeps_the_background_at_zero_and_the_brain_above(anatomies):
    anatomy = anatomies[1]
    images = render(anatomy, nothing(anatomy), nothing(anatomy), np.random.default_rng(0))
    assert not images[:, ~anatomy.brain].any()
    assert (images[:, anatomy.brain] > 0).all()


def test_lookalikes_are_painted_but_not_annotated():
    seed, subject = 0, 2
    anatomy = make_anatomy(SPACING_MM, np.random.default_rng([seed, subject, 0]))
    lookalikes = draw_lookalikes(anatomy, np.random.default_rng([seed, subject, 1]))
    lesions = draw_lesions(anatomy, np.random.default_rng([seed, subject, 2]))
    (_, annotated, _), *_ = phantom.make_subject(seed, subject, spacing_mm=SPACING_MM)
    false = (lookalikes.alpha >= 0.5) & (lesions.alpha < 0.5)
    assert false.sum() > 3
    assert not annotated[false].any()
    np.testing.assert_array_equal(annotated, lesions.alpha >= 0.5)


def test_sessions_share_the_anatomy_and_most_lesions():
    (first, early, _), (second, late, _) = phantom.make_subject(1, 1, sessions=2, spacing_mm=SPACING_MM)
    np.testing.assert_array_equal(first[0] != 0, second[0] != 0)
    assert (early & late).sum() > 0.9 * early.sum()
    assert late.sum() > early.sum()
    assert not np.array_equal(first, second)


def test_sessions_share_lesion_contrasts(anatomies):
    for anatomy in anatomies[:3]:
        first, second = (draw_lesions(anatomy, np.random.default_rng(9), session) for session in (0, 1))
        np.testing.assert_array_equal(first.contrast, second.contrast)


def test_subject_depends_on_seed_and_number_alone():
    again = [phantom.make_subject(7, 1, spacing_mm=SPACING_MM)[0] for _ in range(2)]
    np.testing.assert_array_equal(again[0][0], again[1][0])
    np.testing.assert_array_equal(again[0][1], again[1][1])
    for seed, subject in ((8, 1), (7, 2)):
        assert not np.array_equal(phantom.make_subject(seed, subject, spacing_mm=SPACING_MM)[0][0], again[0][0])


def test_files_are_complete_and_readable(cohort):
    found = sorted(str(path) for path in scans(cohort))
    stems = ("sub-001/ses-1/anat/sub-001_ses-1", "sub-001/ses-2/anat/sub-001_ses-2", "sub-002/anat/sub-002")
    expected = [f"{stem}_{kind}.nii.gz" for stem in stems for kind in ("FLAIR", "T1w")]
    assert found == sorted(expected + [f"derivatives/lesions/{stem}_label-lesion_mask.nii.gz" for stem in stems])
    for stem in stems:
        flair, t1w = (nib.load(cohort / f"{stem}_{kind}.nii.gz") for kind in ("FLAIR", "T1w"))
        mask = nib.load(cohort / f"derivatives/lesions/{stem}_label-lesion_mask.nii.gz")
        assert nib.aff2axcodes(flair.affine) == ("R", "A", "S")
        np.testing.assert_array_equal(flair.affine, t1w.affine)
        np.testing.assert_array_equal(flair.affine, mask.affine)
        np.testing.assert_allclose(flair.header.get_zooms(), SPACING_MM)
        flair, t1w, mask = (np.asarray(image.dataobj) for image in (flair, t1w, mask))
        np.testing.assert_array_equal(flair != 0, t1w != 0)
        assert set(np.unique(mask)) == {0, 1} and (flair[mask == 1] > 0).all()
    assert (cohort / "participants.tsv").read_text().splitlines()[1:] == ["sub-001\t2", "sub-002\t1"]
    assert (
        json.loads((cohort / "derivatives/lesions/dataset_description.json").read_text())["DatasetType"] == "derivative"
    )
    assert not [path for path in contents(cohort) if path.name.startswith(".")]


def test_rerun_remakes_only_what_is_missing(cohort):
    before = contents(cohort)
    settings = {"n_subjects": 2, "n_two_sessions": 1, "seed": 3, "spacing_mm": SPACING_MM, "workers": 1}
    assert phantom.make_cohort(cohort, **settings) == 0
    phantom.scan_files(cohort, 2)[1].unlink()
    assert phantom.make_cohort(cohort, **settings) == 1
    assert contents(cohort) == before


def test_files_depend_on_neither_workers_nor_number_of_subjects(cohort, tmp_path):
    phantom.make_cohort(tmp_path, n_subjects=3, n_two_sessions=1, seed=3, spacing_mm=SPACING_MM, workers=2)
    made = scans(tmp_path)
    assert len(made) == 12
    assert {path: made[path] for path in scans(cohort)} == scans(cohort)


def test_other_settings_replace_the_cohort(tmp_path):
    phantom.make_cohort(tmp_path, n_subjects=2, n_two_sessions=0, seed=1, spacing_mm=4.0, workers=1)
    old = scans(tmp_path)
    assert phantom.make_cohort(tmp_path, n_subjects=1, n_two_sessions=0, seed=2, spacing_mm=4.0, workers=1) == 1
    new = scans(tmp_path)
    assert len(new) == 3 and all(old[path] != new[path] for path in new)


def test_wrong_settings_and_foreign_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="3 of 2 subjects"):
        phantom.make_cohort(tmp_path, n_subjects=2, n_two_sessions=3, seed=0)
    with pytest.raises(ValueError, match="spacing_mm is 9"):
        phantom.make_cohort(tmp_path, n_subjects=2, n_two_sessions=0, seed=0, spacing_mm=9)
    (tmp_path / "sub-001").mkdir()
    with pytest.raises(ValueError, match="choose an empty folder"):
        phantom.make_cohort(tmp_path, n_subjects=1, n_two_sessions=0, seed=0, spacing_mm=4.0)
    assert (tmp_path / "sub-001").exists()
