import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lib.context.fills import BLUR_MM, air_level, blurred_tissue, check_names, fill_images
from lib.network import own_scan
from lib.network.published.normalisation import BOX, HEAD, RANGE
from lib.scans import Scan

SHAPE = (40, 36, 30)


def stored(mean=(100.0, 400.0), sd=(20.0, 60.0), seed=0):
    """A scan as it is stored, background 0, and z-scored over its brain."""
    brain = np.pad(np.ones([n - 8 for n in SHAPE], bool), 4)
    noise = np.random.default_rng(seed).normal(size=(2, *SHAPE)).clip(-3, 3)
    raw = np.where(brain, np.reshape(mean, (2, 1, 1, 1)) + np.reshape(sd, (2, 1, 1, 1)) * noise, 0)
    image = np.zeros_like(raw)
    for scores, values in zip(image, raw, strict=True):
        scores[brain] = (values[brain] - values[brain].mean()) / values[brain].std()
    return image.astype(np.float32), raw, brain


def test_air_is_the_z_score_of_the_stored_intensity_0():
    image, raw, brain = stored()
    expected = [-values[brain].mean() / values[brain].std() for values in raw]
    np.testing.assert_allclose(air_level(image, raw), expected)
    raw[0][np.unravel_index(np.where(brain, raw[0], np.inf).argmin(), SHAPE)] = -1  # ringing: one voxel below 0
    assert air_level(image, raw)[0] == pytest.approx(expected[0], rel=0.01)


def test_air_of_a_scan_stored_without_its_mean_is_the_darkest_of_the_brain():
    image, raw, brain = stored(mean=(0.5, 400.0))
    level = air_level(image, raw)
    assert level[0] == image[0].min() and level[1] == pytest.approx(-400 / 60, rel=0.02)


def test_fills_replace_the_brain_alone():
    image, raw, brain = stored()
    scan = Scan("a", image, brain, np.zeros_like(brain), np.eye(4))
    made = fill_images(["mean", "air", "blurred"], scan, raw, scan.lesions)
    assert list(made) == ["mean", "air", "blurred"] and (made["mean"] == 0).all()
    for name in ("air", "blurred"):
        assert made[name].shape == image.shape and made[name].dtype == image.dtype
        assert (made[name][:, ~brain] == 0).all()
    np.testing.assert_allclose(
        made["air"][:, brain], np.repeat(air_level(image, raw)[:, None], brain.sum(), 1), rtol=1e-6
    )


@pytest.mark.parametrize("normalisation", [HEAD, BOX, RANGE])
def test_fills_of_an_image_as_a_network_wants_it_are_those_of_the_stored_scan(normalisation):
    """Its mean and its air become what any voxel of that intensity becomes."""
    _, raw, brain = stored()
    brain[:, :9, :9] = False  # the box of the brain holds air
    raw = np.where(brain, raw, 0).astype(np.float32)
    raw[1, 4:6] = 0  # of the brain, where the MPRAGE has none
    tissue = raw != 0
    raw[:, 20, 20, 20] = [values[where].mean() for values, where in zip(raw, tissue, strict=True)]
    scan = own_scan(Scan("a", raw, brain, np.zeros_like(brain), np.eye(4)), {"normalisation": normalisation})
    made = fill_images(["mean", "air", "blurred"], scan, raw, scan.lesions)
    for name, image in made.items():  # air stays what it is, which is not 0 in a box that is z-scored
        np.testing.assert_array_equal(image[~tissue], scan.image[~tissue], err_msg=name)
        spread = [np.ptp(values[where]) for values, where in zip(image, tissue, strict=True)]
        assert (max(spread) < 1e-3) == (name != "blurred")
    blurred = [values[where].mean() for values, where in zip(made["blurred"], tissue, strict=True)]
    np.testing.assert_allclose(blurred, scan.levels.mean, atol=0.05)
    np.testing.assert_allclose(made["mean"][:, 20, 20, 20], scan.image[:, 20, 20, 20], atol=1e-3)
    slope, start = np.polyfit(raw[1][tissue[1]], scan.image[1][tissue[1]], 1)
    np.testing.assert_allclose(made["air"][1][tissue[1]], 0 if normalisation == RANGE else start, atol=1e-3)
    assert scan.levels.z_score[1] == pytest.approx(slope * raw[1][tissue[1]].std(), rel=0.02)


def test_blur_is_the_normalised_convolution_of_the_healthy_brain():
    image, _, brain = stored()
    lesions = np.zeros_like(brain)
    lesions[12:15, 12:15, 12:15] = True
    scan = Scan("a", image, brain, lesions, np.diag([1.0, 2.0, 1.0, 1.0]))
    found, healthy = blurred_tissue(scan, lesions), brain & ~lesions
    sd = BLUR_MM / np.array([1.0, 2.0, 1.0])
    sums = gaussian_filter(np.where(healthy, image[1], 0).astype(float), sd, mode="constant", truncate=5)
    weights = gaussian_filter(healthy.astype(float), sd, mode="constant", truncate=5)
    np.testing.assert_allclose(found[1][brain], (sums / weights)[brain], atol=0.01)


def test_blur_keeps_a_flat_brain_and_loses_a_lesion():
    image, _, brain = stored()
    flat = np.where(brain, np.float32(0.7), np.float32(0)) * np.ones((2, 1, 1, 1), np.float32)
    lesion = np.zeros_like(brain)
    lesion[18:21, 16:19, 14:17] = True
    flat[0, lesion] += 3
    scan = Scan("a", flat, brain, lesion, np.eye(4))
    marked = blurred_tissue(scan, lesion)
    np.testing.assert_allclose(marked[:, brain], 0.7, rtol=1e-4)
    assert blurred_tissue(scan, lesion & False)[0][brain].max() < 0.75


def test_unknown_fill_is_refused():
    check_names(["mean", "air", "blurred"])
    with pytest.raises(ValueError, match="fill water: choose from mean, air, blurred"):
        check_names(["water"])
