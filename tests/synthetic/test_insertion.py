import numpy as np
import pytest
from brains import ball
from scipy.special import erf

from lib.synthetic.insertion import EDGE_SD_MM, add_contrast, insert_lesion, soft_ball

ISOTROPIC = (1.0, 1.0, 1.0)
CONTRAST = (2.5, -1.5)


@pytest.mark.parametrize("spacing", [ISOTROPIC, (0.8, 1.0, 2.5)])
@pytest.mark.parametrize("diameter", [3.0, 8.0])
def test_added_signal_is_contrast_times_volume_of_ball(spacing, diameter, scan):
    image, _ = scan()
    image[image != 0] = 0.5
    result, _ = insert_lesion(image, image != 0, (20.3, 19.8, 20), diameter, CONTRAST, spacing)
    added = (result - image).sum(axis=(1, 2, 3)) * np.prod(spacing)
    np.testing.assert_allclose(added, np.array(CONTRAST) * np.pi * diameter**3 / 6, rtol=0.02)


def test_shares_do_not_depend_on_where_in_the_scan_the_ball_is():
    brain = np.ones((61, 61, 61), bool)
    (first, _, _), (second, _, _) = (
        soft_ball(brain, centre, 6.0, (3.0, 3.0, 3.0)) for centre in [(19, 18, 34), (11, 10, 10)]
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("size", [1.0, 0.5])
def test_alpha_is_ball_blurred_by_edge_and_voxel(size, scan):
    image, brain = scan()
    image[image != 0] = 1.0
    result, _ = insert_lesion(image, image != 0, (20, 20, 20), 10.0, (1.0, 0.0), (size, size, size))
    distance = np.arange(1, 15) * size
    sd = np.sqrt(EDGE_SD_MM**2 + size**2 / 12)  # a voxel is a box of variance size^2 / 12
    near, far = (5 - distance) / (sd * np.sqrt(2)), (5 + distance) / (sd * np.sqrt(2))
    tails = sd / (distance * np.sqrt(2 * np.pi)) * (np.exp(-(near**2)) - np.exp(-(far**2)))
    np.testing.assert_allclose(result[0, 21:35, 20, 20] - 1, (erf(near) + erf(far)) / 2 - tails, atol=0.02)
    assert result[0, 20, 20, 20] == pytest.approx(2, abs=1e-4)


def test_insertion_keeps_texture_and_everything_far(scan):
    image, _ = scan()
    original = image.copy()
    result, mask = insert_lesion(image, image != 0, (20, 20, 20), 6.0, CONTRAST, ISOTROPIC)
    np.testing.assert_array_equal(image, original)
    far = ~ball(image.shape[1:], (20, 20, 20), 3 + np.sqrt(3) * (4 * EDGE_SD_MM + 1))
    np.testing.assert_array_equal(result[:, far], image[:, far])
    flat = np.where(image != 0, np.float32(0.5), 0).astype(np.float32)
    added = insert_lesion(flat, flat != 0, (20, 20, 20), 6.0, CONTRAST, ISOTROPIC)[0] - flat
    np.testing.assert_allclose(result - image, added, atol=1e-6)
    assert mask[ball(mask.shape, (20, 20, 20), 2.5)].all() and not mask[~ball(mask.shape, (20, 20, 20), 3.5)].any()


def test_insertion_in_one_sequence_leaves_other_bit_identical(scan):
    image, _ = scan()
    result, _ = insert_lesion(image, image != 0, (20, 20, 20), 6.0, (0, -1.0), ISOTROPIC)
    np.testing.assert_array_equal(result[0], image[0])
    assert (result[1] < image[1]).any()


def test_insertion_at_border_leaves_background_zero(scan):
    image, brain = scan()
    result, mask = insert_lesion(image, image != 0, (4, 20, 20), 8.0, CONTRAST, ISOTROPIC)
    assert (result[:, ~brain] == 0).all()
    assert mask.any() and not (mask & ~brain).any()


def test_air_that_is_not_zero_stays_in_each_sequence_as_it_is(scan):
    image, brain = scan()
    tissue = np.stack([brain, brain])
    tissue[1, :10] = False
    image[~tissue] = -2.5
    result, _ = insert_lesion(image, tissue, (10, 20, 20), 8.0, CONTRAST, ISOTROPIC)
    assert (result[~tissue] == -2.5).all()
    assert (result[0, 7:10, 20, 20] > image[0, 7:10, 20, 20]).all()
    assert (result[1, 10:13, 20, 20] < image[1, 10:13, 20, 20]).all()


def test_mask_has_volume_of_ball_with_anisotropic_spacing(scan):
    image, _ = scan()
    spacing = (0.8, 1.0, 2.5)
    _, mask = insert_lesion(image, image != 0, (20, 20, 20), 12.0, CONTRAST, spacing)
    assert mask.sum() * np.prod(spacing) == pytest.approx(np.pi * 12**3 / 6, rel=0.05)
    extent = [np.ptp(i) + 1 for i in np.nonzero(mask)]
    np.testing.assert_allclose(extent * np.array(spacing), 12, atol=2.5)


@pytest.mark.parametrize("centre", [(0, 20, 20), (-5, 20, 20), (20, 99, 20)])
def test_insertion_outside_brain_is_refused(centre, scan):
    with pytest.raises(ValueError, match="not in the brain"):
        insert_lesion(scan()[0], scan()[0] != 0, centre, 5.0, CONTRAST, ISOTROPIC)


def test_insertion_below_voxel_size_is_refused(scan):
    with pytest.raises(ValueError, match="0.5 mm"):
        insert_lesion(scan()[0], scan()[0] != 0, (20, 20, 20), 0.5, CONTRAST, ISOTROPIC)


def test_insertion_of_contrast_0_changes_nothing(scan):
    image, _ = scan()
    result, mask = insert_lesion(image, image != 0, (20.4, 20, 19.7), 6.0, (0.0, 0.0), ISOTROPIC)
    np.testing.assert_array_equal(result, image)
    assert mask.any()


@pytest.mark.parametrize("spacing", [ISOTROPIC, (0.7, 1.0, 1.3)])
@pytest.mark.parametrize("diameter", [2.0, 3.0, 5.0, 8.0])
@pytest.mark.parametrize("centre", [(20, 20, 20), (20.5, 20.2, 19.6)])
def test_shares_of_a_ball_add_up_to_its_volume(centre, diameter, spacing):
    share, box, _ = soft_ball(np.ones((40, 40, 40), bool), centre, diameter, spacing)
    assert share.sum() * np.prod(spacing) == pytest.approx(4 / 3 * np.pi * (diameter / 2) ** 3, rel=0.02)
    assert share.max() <= 1
    places = np.meshgrid(*(np.arange(side.start, side.stop) for side in box), indexing="ij")
    middle = [(share * place).sum() / share.sum() for place in places]
    np.testing.assert_allclose(middle, centre, atol=0.06)  # partial volume keeps the place below the voxel


def test_noise_inside_an_insertion_and_at_its_border_is_that_outside(scan):
    """A ball about a voxel has the same share at both ends of any diameter: their difference is noise alone."""
    shells = {"core": (0, 4), "border": (4, 7), "outside": (10, 13)}
    differences = {name: [] for name in shells}
    distance = np.sqrt(((np.indices((27, 27, 27)) - 13) ** 2).sum(0))
    for seed in range(10):
        image, _ = scan(seed=seed)
        result, _ = insert_lesion(image, image != 0, (20, 20, 20), 11.0, (3.0, -2.0), ISOTROPIC)
        window = result[:, 7:34, 7:34, 7:34]
        for name, (near, far) in shells.items():
            shell = (distance >= near) & (distance < far)
            differences[name].append((window - window[:, ::-1, ::-1, ::-1])[:, shell])
    sd = {name: np.concatenate(values, axis=1).std(axis=1) for name, values in differences.items()}
    np.testing.assert_allclose(sd["core"], sd["outside"], rtol=0.1)
    np.testing.assert_allclose(sd["border"], sd["outside"], rtol=0.05)


def test_border_of_an_insertion_is_no_steeper_than_the_blur_allows(scan):
    flat = np.where(scan()[1], np.float32(1), 0) * np.ones((2, 1, 1, 1), np.float32)
    result, _ = insert_lesion(flat, flat != 0, (20, 20, 20), 10.0, (1.0, 0.0), ISOTROPIC)
    steepest = max(np.abs(np.diff(result[0, 5:35, 5:35, 5:35], axis=axis)).max() for axis in range(3))
    sd = np.sqrt(EDGE_SD_MM**2 + 1 / 12)
    assert steepest < erf(0.5 / (sd * np.sqrt(2))) + 0.01  # a flat edge, blurred, across one voxel


def test_contrast_is_added_as_shared(scan):
    image, _ = scan()
    share = np.array([0.2, 1.0]).reshape(2, 1, 1)
    result = add_contrast(image, image != 0, share, (slice(10, 12), slice(15, 16), slice(20, 21)), (2.0, -1.0))
    change = result - image
    np.testing.assert_allclose(change[:, 10:12, 15, 20], [[0.4, 2.0], [-0.2, -1.0]], atol=1e-6)
    assert np.count_nonzero(change) == 4
