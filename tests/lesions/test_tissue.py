"""Tissue masks on a ball-shaped brain and on a real scan; sampling of healthy volumes against the literal loop."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lib.lesions.tissue import healthy_volumes, sample_healthy, white_and_grey_matter, white_matter

CENTRE = np.linalg.norm(np.indices((64, 64, 64)) - 31.5, axis=0)
BRAIN = CENTRE < 28
VENTRICLE, WHITE, GREY = CENTRE < 6, (CENTRE >= 6) & (CENTRE < 19), (CENTRE >= 19) & (CENTRE < 25)
LESION = np.linalg.norm(np.indices((64, 64, 64)) - np.array([31, 31, 44])[:, None, None, None], axis=0) < 3


@pytest.fixture(scope="module")
def ball():
    """MPRAGE (z units) of CSF around grey around white matter, a bright vessel, a dark lesion, noise and bias."""
    mprage = np.select([VENTRICLE, WHITE, GREY], [-2.0, 0.8, -0.3], -2.0)
    mprage[LESION] = 0.2
    mprage[31:34, 31:34, 52:58] = 3.0
    mprage += 0.02 * (np.indices(mprage.shape)[0] - 31.5)  # a white-to-grey contrast from end to end
    mprage += np.random.default_rng(0).normal(0, 0.15, mprage.shape)
    return np.stack([np.zeros_like(mprage), np.where(BRAIN, mprage, 0)])


@pytest.fixture(scope="module")
def tissues(ball):
    return white_and_grey_matter(ball, BRAIN, LESION)


@pytest.mark.parametrize(("tissue", "truth"), [(0, WHITE & ~LESION), (1, GREY)])
def test_tissue_of_a_known_brain_is_found_in_spite_of_bias(tissues, tissue, truth):
    found = tissues[tissue]
    core = ndimage.binary_erosion(truth, iterations=2)
    assert (found & truth).sum() / found.sum() > 0.95
    assert (found & core).sum() / core.sum() > 0.9


def test_white_matter_keeps_one_voxel_from_lesions(ball):
    near = ndimage.binary_dilation(LESION, ndimage.generate_binary_structure(3, 2))
    assert not (white_matter(ball, BRAIN, LESION) & near).any()
    assert (white_matter(ball, BRAIN, LESION & False) & near).any()


def test_white_and_grey_matter_share_no_voxel(tissues):
    assert not (tissues[0] & tissues[1]).any()


def test_white_matter_is_the_first_of_both(ball, tissues):
    np.testing.assert_array_equal(tissues[0], white_matter(ball, BRAIN, LESION))


def test_the_first_classes_may_put_grey_matter_with_white():
    """Low contrast, and partial volume with fluid in a wide rim: the darkest of three Otsu classes splits the rim."""
    white, grey = CENTRE < 17, (CENTRE >= 17) & (CENTRE < 22)
    mprage = np.select([white, grey], [0.8, 0.2], np.interp(CENTRE, [22, 28], [0.2, -2.5]))
    mprage += 0.01 * np.indices(BRAIN.shape)[0] + np.random.default_rng(0).normal(0, 0.4, BRAIN.shape)
    image = np.stack([np.zeros(BRAIN.shape), np.where(BRAIN, mprage, 0)])
    found_white, found_grey = white_and_grey_matter(image, BRAIN, LESION & False)
    assert (found_white & grey).sum() < 0.05 * found_white.sum()
    assert (found_grey & white).sum() < 0.05 * found_grey.sum()


def test_white_matter_is_one_component_without_the_vessel(tissues):
    white, _ = tissues
    assert ndimage.label(white)[1] == 1
    assert not white[31:34, 31:34, 52:58].any()


CUT = BRAIN & ~((np.indices(BRAIN.shape)[0] >= 30) & (np.indices(BRAIN.shape)[1] >= 30))  # white matter at the surface


def test_white_matter_ends_two_voxels_below_the_brain_surface(ball):
    reached = np.flatnonzero(white_matter(ball, CUT, LESION)[:, 36:].any(axis=(1, 2)))
    assert reached.max() == 27  # of 29


def test_voxels_outside_the_brain_do_not_matter(ball):
    bright, dark = (white_and_grey_matter(np.where(CUT, ball, outside), CUT, LESION) for outside in (50, 0))
    np.testing.assert_array_equal(bright, dark)


def test_brain_without_intensities_is_refused(ball):
    with pytest.raises(ValueError, match="fewer than three MPRAGE intensities"):
        white_matter(ball, np.zeros_like(BRAIN), LESION)


def test_a_brain_that_is_one_lesion_has_no_healthy_tissue(ball):
    assert not np.any(white_and_grey_matter(ball, BRAIN, BRAIN))


def test_masks_of_another_shape_are_refused(ball):
    with pytest.raises(ValueError, match=r"lesions_any \(63, 64, 64\)"):
        white_matter(ball, BRAIN, LESION[1:])


@pytest.fixture(scope="module")
def patient(real_scans):
    """Ljubljana patient 07: z-scored FLAIR and MPRAGE, brain, lesions."""
    folder = real_scans / "open_ms_data" / "cross_sectional" / "MNI" / "patient07"
    read = [nib.as_closest_canonical(nib.load(next(folder.glob(name)))) for name in ("FLAIR*", "T1*", "GOLD*")]
    flair, mprage, lesions = (np.asarray(image.dataobj, np.float32) for image in read)
    brain = (flair != 0) & (mprage != 0)
    image = np.stack([np.where(x != 0, (x - x[x != 0].mean()) / x[x != 0].std(), 0) for x in (flair, mprage)])
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    return image[:, *box], brain[box], lesions[box] > 0


def test_white_and_grey_matter_of_a_real_scan_are_plausible(patient):
    image, brain, lesions = patient
    white, grey = white_and_grey_matter(*patient)
    assert 0.3 < white.sum() / brain.sum() < 0.5
    assert 0.25 < grey.sum() / brain.sum() < 0.5  # without the partial volume at its borders
    assert not (white & lesions).any()
    left, right = white[: len(white) // 2].sum(), white[len(white) // 2 :].sum()
    assert left == pytest.approx(right, rel=0.1)
    assert image[0][white].mean() < image[0][grey].mean() - 0.3  # the FLAIR, which the estimate does not use, agrees


L_SHAPE = np.zeros((7, 6, 5), bool)
L_SHAPE[1:4, 2, 2] = L_SHAPE[3, 3, 2] = True


def translations(lesion, allowed):
    """Every valid translation by the literal loop, as sets of voxels."""
    voxels, found = np.argwhere(lesion), set()
    for offset in np.ndindex(13, 11, 9):
        moved = voxels + offset - (6, 5, 4)
        if (moved >= 0).all() and (moved < lesion.shape).all() and allowed[tuple(moved.T)].all():
            found.add(tuple(map(tuple, moved.tolist())))
    return found


def test_every_valid_translation_is_sampled_alike():
    generator = np.random.default_rng(0)
    allowed = generator.random(L_SHAPE.shape) > 0.25
    valid = translations(L_SHAPE, allowed)
    assert 10 < len(valid) < 60
    counts = dict.fromkeys(valid, 0)
    for _ in range(20 * len(valid)):
        counts[tuple(map(tuple, np.argwhere(sample_healthy(L_SHAPE, allowed, generator)).tolist()))] += 1
    chi2 = sum((n - 20) ** 2 / 20 for n in counts.values())
    degrees = len(valid) - 1
    assert chi2 < degrees + 4 * np.sqrt(2 * degrees)


def test_no_place_gives_none():
    allowed = np.ones(L_SHAPE.shape, bool)
    allowed[::2] = False
    assert sample_healthy(L_SHAPE, allowed, np.random.default_rng(0)) is None


def test_lesion_that_fits_nowhere_else_stays():
    assert (sample_healthy(L_SHAPE, L_SHAPE, np.random.default_rng(0)) == L_SHAPE).all()


def test_a_healthy_volume_lies_in_each_tissue_that_has_room():
    allowed = np.zeros((2, 12, 12, 12), bool)
    allowed[0, :, :6], allowed[1, :2, 6:] = True, True
    lesion = np.zeros((12, 12, 12), bool)
    lesion[4:7, 4, 4] = True
    found = healthy_volumes(lesion, {"white": allowed[0], "grey": allowed[1]}, np.random.default_rng(0))
    assert list(found) == ["white"]  # two voxels do not hold three
    assert found["white"].sum() == 3
    assert allowed[0][found["white"]].all()


def test_empty_lesion_is_refused():
    with pytest.raises(ValueError, match="no voxel"):
        sample_healthy(L_SHAPE & False, L_SHAPE, np.random.default_rng(0))
