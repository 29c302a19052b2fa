import numpy as np
import pytest
from brains import ball
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter

from lib.lesions.instances import STRUCTURE
from lib.synthetic.changes import BLEND_MM, move_lesion, place_next_to_grey_matter, remove_lesion, swap_sequences

ISOTROPIC = (1.0, 1.0, 1.0)
LEVEL = np.array([0.3, 0.8])
NOISE = np.array([0.3, 0.2])
CONTRAST = (2.5, -1.5)


@pytest.fixture
def with_lesion(scan):
    """Builds a scan with a lesion: image, lesion, healthy tissue, brain."""

    def build(centre=(20, 20, 20), radius=3, seed=0):
        image, brain = scan(seed=seed, level=LEVEL, sd=NOISE)
        lesion = ball(brain.shape, centre, radius) & brain
        image[:, lesion] += np.array(CONTRAST, np.float32)[:, None]
        return image, lesion, brain & ~lesion, brain

    return build


# remove_lesion


def test_removed_lesion_has_level_and_noise_of_surroundings(with_lesion):
    inside, rims = [], []
    for seed in range(30):
        image, lesion, healthy, _ = with_lesion(radius=5, seed=seed)
        result = remove_lesion(image, lesion, healthy, (0, 1), ISOTROPIC, np.random.default_rng(1000 + seed))
        distance = distance_transform_edt(~lesion)
        inside.append(result[:, lesion])
        rims.append(result[:, (distance > 1) & (distance < BLEND_MM)])
    for values in np.concatenate(inside, axis=1), np.concatenate(rims, axis=1):
        np.testing.assert_allclose(values.mean(axis=1), LEVEL, atol=0.04)
        np.testing.assert_allclose(values.std(axis=1), NOISE, rtol=0.05)


def test_removed_lesion_has_smoothness_of_surroundings(scan):
    def correlation(values, inside, axis):
        values, inside = np.moveaxis(values, axis, 0), np.moveaxis(inside, axis, 0)
        pairs = inside[1:] & inside[:-1]
        return np.corrcoef(values[1:][pairs], values[:-1][pairs])[0, 1]

    image, brain = scan()
    smooth = gaussian_filter(np.random.default_rng(0).standard_normal(brain.shape), (0.3, 0.7, 1.2))
    image[0, brain] = smooth[brain] / smooth.std()
    lesion = ball(brain.shape, (20, 20, 20), 9)
    result = remove_lesion(image, lesion, brain & ~lesion, (0,), ISOTROPIC, np.random.default_rng(1))
    for axis in range(3):
        expected = correlation(image[0], brain & ~lesion, axis)
        assert correlation(result[0], lesion, axis) == pytest.approx(expected, abs=0.1)


def test_fill_follows_gradient_of_intensity(with_lesion):
    image, lesion, healthy, brain = with_lesion()
    ramp = np.linspace(-1, 1, 40)[:, None, None] + np.zeros(brain.shape)
    image[0, brain] = ramp[brain]
    image[0, lesion] += 3
    result = remove_lesion(image, lesion, healthy, (0,), ISOTROPIC, np.random.default_rng(0))
    np.testing.assert_allclose(result[0, lesion], ramp[lesion], atol=0.25)
    assert np.corrcoef(result[0, lesion], ramp[lesion])[0, 1] > 0.8


def test_noise_follows_that_of_the_place(scan):
    image, _ = scan()
    factor = np.where(np.arange(40) < 20, 0.4, 2)[:, None, None]
    image[0] = np.where(image[0] != 0, (image[0] - LEVEL[0]) * factor, 0)
    lesion = ball(image.shape[1:], (9, 20, 20), 4)
    result = remove_lesion(image, lesion, (image[0] != 0) & ~lesion, (0,), ISOTROPIC, np.random.default_rng(0))
    assert result[0, lesion].std() == pytest.approx(0.4 * NOISE[0], rel=0.3)


def test_halo_called_healthy_does_not_bias_fill(with_lesion):
    image, lesion, healthy, _ = with_lesion()
    distance = distance_transform_edt(~lesion)
    halo = (distance > 0) & (distance <= BLEND_MM)
    image[:, halo] += np.array(CONTRAST, np.float32)[:, None] / 2
    result = remove_lesion(image, lesion, healthy, (0, 1), ISOTROPIC, np.random.default_rng(0))
    np.testing.assert_allclose(result[:, lesion].mean(axis=1), LEVEL, atol=0.1)


def test_removal_reaches_as_far_in_mm_along_every_axis(with_lesion):
    image, lesion, healthy, _ = with_lesion()
    spacing = (1.0, 0.5, 2.0)
    result = remove_lesion(image, lesion, healthy, (0,), spacing, np.random.default_rng(0))
    near = distance_transform_edt(~lesion, sampling=spacing) < BLEND_MM
    np.testing.assert_array_equal(result[0] != image[0], near)


def test_removal_changes_only_named_channel_near_lesion(with_lesion):
    image, lesion, healthy, brain = with_lesion()
    original = image.copy()
    result = remove_lesion(image, lesion, healthy, (1,), ISOTROPIC, np.random.default_rng(0))
    np.testing.assert_array_equal(image, original)
    np.testing.assert_array_equal(result[0], image[0])
    far = distance_transform_edt(~lesion) >= BLEND_MM
    np.testing.assert_array_equal(result[1, far], image[1, far])
    assert (result[1, lesion] != image[1, lesion]).all()


def test_removal_spares_background_and_tissue_that_is_not_white(with_lesion):
    image, lesion, healthy, brain = with_lesion(centre=(5, 20, 20))
    grey = np.zeros_like(brain)
    grey[:, 24:] = True  # begins at the lesion's border
    image[:, grey & brain] = -1
    result = remove_lesion(image, lesion, healthy & ~grey, (0, 1), ISOTROPIC, np.random.default_rng(0))
    assert (result[:, ~brain] == 0).all()
    spared = grey & brain & (distance_transform_edt(~lesion) > 1)
    assert (result[:, spared] == -1).all()


def test_halo_between_lesion_and_white_matter_is_removed(with_lesion):
    image, lesion, healthy, _ = with_lesion(radius=4)
    distance = distance_transform_edt(~lesion)
    halo = (distance > 0) & (distance <= 2)
    image[:, halo] += np.array(CONTRAST, np.float32)[:, None] / 2
    result = remove_lesion(image, lesion, healthy & ~halo, (0, 1), ISOTROPIC, np.random.default_rng(0))
    left = (result[:, halo].mean(axis=1) - LEVEL) / CONTRAST
    assert (abs(left) < 0.15).all()


def test_partial_volume_at_border_of_healthy_tissue_does_not_bias_fill(with_lesion):
    image, lesion, healthy, brain = with_lesion()
    grey = np.zeros_like(brain)
    grey[:, 26:] = True
    image[:, :, 25] -= 1  # voxels called healthy, half grey matter
    image[:, ~brain] = 0
    result = remove_lesion(image, lesion, healthy & ~grey, (0, 1), ISOTROPIC, np.random.default_rng(0))
    np.testing.assert_allclose(result[:, lesion].mean(axis=1), LEVEL, atol=0.1)
    np.testing.assert_allclose(result[:, lesion].std(axis=1), NOISE, rtol=0.3)


def test_removal_is_repeatable(with_lesion):
    image, lesion, healthy, _ = with_lesion()
    results = [remove_lesion(image, lesion, healthy, (0,), ISOTROPIC, np.random.default_rng(s)) for s in (1, 1, 2)]
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


def test_removal_without_healthy_tissue_or_lesion_is_refused(with_lesion):
    image, lesion, healthy, _ = with_lesion()
    nothing = np.zeros_like(lesion)
    with pytest.raises(ValueError, match="no healthy voxel"):
        remove_lesion(image, lesion, nothing, (0,), ISOTROPIC, np.random.default_rng(0))
    with pytest.raises(ValueError, match="no voxel"):
        remove_lesion(image, nothing, healthy, (0,), ISOTROPIC, np.random.default_rng(0))


# swap_sequences


def test_swapped_lesion_has_the_contrast_of_the_other_sequence(with_lesion):
    image, lesion, healthy, _ = with_lesion()
    original = image.copy()
    result = swap_sequences(image, lesion, healthy, ISOTROPIC)
    np.testing.assert_array_equal(image, original)
    np.testing.assert_allclose(result[:, lesion].mean(axis=1), LEVEL + CONTRAST[::-1], atol=0.15)
    far = distance_transform_edt(~lesion) >= BLEND_MM
    np.testing.assert_array_equal(result[:, far], image[:, far])


def test_swapping_carries_each_texture_and_leaves_level_and_background(with_lesion):
    image, lesion, healthy, brain = with_lesion(centre=(5, 20, 20))
    result = swap_sequences(image, lesion, healthy, ISOTROPIC)
    assert (result[:, ~brain] == 0).all()
    for here, there in ((0, 1), (1, 0)):
        assert np.corrcoef(result[here, lesion], image[there, lesion])[0, 1] > 0.95
    ring = (distance_transform_edt(~lesion) > 1) & (distance_transform_edt(~lesion) < BLEND_MM) & brain
    np.testing.assert_allclose(result[:, ring].mean(axis=1), LEVEL, atol=0.1)


def test_swapping_twice_gives_the_lesion_back(with_lesion):
    image, lesion, healthy, _ = with_lesion()
    twice = swap_sequences(swap_sequences(image, lesion, healthy, ISOTROPIC), lesion, healthy, ISOTROPIC)
    np.testing.assert_allclose(twice[:, lesion], image[:, lesion], atol=1e-4)


# move_lesion and where to


def test_moved_lesion_carries_its_contrast_and_leaves_healthy_tissue(with_lesion):
    image, lesion, healthy, _ = with_lesion(centre=(13, 20, 20))
    result, moved = move_lesion(image, lesion, (14, 1, -2), healthy, ISOTROPIC, np.random.default_rng(0))
    np.testing.assert_array_equal(moved, ball(lesion.shape, (27, 21, 18), 3))
    np.testing.assert_allclose(result[:, moved].mean(axis=1), LEVEL + CONTRAST, atol=0.1)
    np.testing.assert_allclose(result[:, moved].std(axis=1), NOISE, rtol=0.25)
    np.testing.assert_allclose(result[:, lesion].mean(axis=1), LEVEL, atol=0.15)


def test_tissue_around_moved_lesion_keeps_its_level_and_noise(with_lesion):
    before, after = [], []
    for seed in range(15):
        image, lesion, healthy, _ = with_lesion(centre=(13, 20, 20), radius=4, seed=seed)
        result, moved = move_lesion(image, lesion, (14, 0, 0), healthy, ISOTROPIC, np.random.default_rng(0))
        distance = distance_transform_edt(~moved)
        ring = (distance > 1) & (distance < BLEND_MM)
        before.append(image[:, ring])
        after.append(result[:, ring])
    before, after = np.concatenate(before, axis=1), np.concatenate(after, axis=1)
    np.testing.assert_allclose(after.mean(axis=1), LEVEL, atol=0.03)
    np.testing.assert_allclose(after.std(axis=1), before.std(axis=1), rtol=0.06)


def test_moving_to_border_leaves_background_zero(with_lesion):
    image, lesion, _, brain = with_lesion(centre=(20, 20, 20))
    result, _ = move_lesion(image, lesion, (13, 0, 0), ~lesion, ISOTROPIC, np.random.default_rng(0))
    assert (result[:, ~brain] == 0).all()


def test_moved_lesion_keeps_its_texture(with_lesion):
    image, lesion, healthy, _ = with_lesion(centre=(13, 20, 20))
    result, moved = move_lesion(image, lesion, (14, 0, 0), healthy, ISOTROPIC, np.random.default_rng(0))
    for channel in range(2):
        assert np.corrcoef(image[channel, lesion], result[channel, moved])[0, 1] > 0.95


def test_moving_changes_only_both_places(with_lesion):
    image, lesion, healthy, brain = with_lesion(centre=(13, 20, 20))
    grey = np.zeros_like(brain)
    grey[31:33] = True  # next to the moved lesion, which ends at x = 30
    result, moved = move_lesion(image, lesion, (14, 0, 0), healthy & ~grey, ISOTROPIC, np.random.default_rng(0))
    far = distance_transform_edt(~(lesion | moved)) >= BLEND_MM
    np.testing.assert_array_equal(result[:, far | grey], image[:, far | grey])
    assert (result[:, ~brain] == 0).all()


@pytest.mark.parametrize("offset", [(22, 0, 0), (35, 0, 0), (-30, 0, 0)])
def test_moving_out_of_brain_is_refused(offset, with_lesion):
    image, lesion, healthy, _ = with_lesion(centre=(13, 20, 20))
    with pytest.raises(ValueError, match="out of the brain"):
        move_lesion(image, lesion, offset, healthy, ISOTROPIC, np.random.default_rng(0))


def valid_offsets(lesion, white, grey):
    """All offsets, by trying every one."""
    voxels, found = np.argwhere(lesion), set()
    for offset in np.ndindex(*(2 * n for n in lesion.shape)):
        offset = np.array(offset) - lesion.shape
        target = voxels + offset
        if (target < 0).any() or (target >= lesion.shape).any() or not white[tuple(target.T)].all():
            continue
        moved = np.zeros_like(lesion)
        moved[tuple(target.T)] = True
        if (binary_dilation(moved, STRUCTURE) & grey).any():
            found.add(tuple(offset.tolist()))
    return found


def test_place_next_to_grey_matter_draws_every_valid_offset():
    lesion = np.zeros((9, 8, 14), bool)
    lesion[2, 2, 1] = lesion[3, 2, 1] = lesion[3, 3, 2] = True
    white = np.random.default_rng(0).random(lesion.shape) < 0.8
    white[..., 0] = white[..., -1] = white[0] = white[-1] = white[:, 0] = white[:, -1] = False
    grey = ~white & (np.random.default_rng(1).random(lesion.shape) < 0.2)
    expected = valid_offsets(lesion, white & ~binary_dilation(lesion, STRUCTURE, iterations=4), grey)
    generator = np.random.default_rng(2)
    drawn = {place_next_to_grey_matter(lesion, white, grey, generator) for _ in range(12 * len(expected))}
    assert len(expected) > 5
    assert drawn == expected


def test_no_place_next_to_grey_matter_is_none():
    lesion = ball((12, 12, 12), (6, 6, 6), 1)
    assert place_next_to_grey_matter(lesion, ~lesion, np.zeros_like(lesion), np.random.default_rng(0)) is None
