import numpy as np
import pytest
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter
from scipy.special import erf

from lib.lesions.instances import STRUCTURE
from lib.synthetic.changes import BLEND_MM, move_lesion, place_next_to_grey_matter, remove_lesion, swap_sequences
from lib.synthetic.insertion import EDGE_SD_MM, add_contrast, insert_lesion, soft_ball

ISOTROPIC = (1.0, 1.0, 1.0)
LEVEL = np.array([0.3, 0.8])
NOISE = np.array([0.3, 0.2])
CONTRAST = (2.5, -1.5)


def ball(shape, centre, radius):
    return sum((g - c) ** 2 for g, c in zip(np.indices(shape), centre, strict=True)) <= radius**2


def scan(shape=(40, 40, 40), seed=0):
    """White matter with smooth noise of a known standard deviation, and 3 voxels of background on each side."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((2, *shape)), (0, 0.6, 0.6, 0.6), mode="wrap")
    image = (LEVEL + NOISE * (noise / noise.std()).T).T.astype(np.float32)
    brain = np.pad(np.ones([n - 6 for n in shape], bool), 3)
    image[:, ~brain] = 0
    return image, brain


def with_lesion(centre=(20, 20, 20), radius=3, seed=0):
    image, brain = scan(seed=seed)
    lesion = ball(brain.shape, centre, radius) & brain
    image[:, lesion] += np.array(CONTRAST, np.float32)[:, None]
    healthy = brain & ~lesion
    return image, lesion, healthy, brain


# insert_lesion


@pytest.mark.parametrize("spacing", [ISOTROPIC, (0.8, 1.0, 2.5)])
@pytest.mark.parametrize("diameter", [3.0, 8.0])
def test_added_signal_is_contrast_times_volume_of_ball(spacing, diameter):
    image, _ = scan()
    image[image != 0] = 0.5
    result, _ = insert_lesion(image, (20.3, 19.8, 20), diameter, CONTRAST, spacing)
    added = (result - image).sum(axis=(1, 2, 3)) * np.prod(spacing)
    np.testing.assert_allclose(added, np.array(CONTRAST) * np.pi * diameter**3 / 6, rtol=0.02)


def test_shares_do_not_depend_on_where_in_the_scan_the_ball_is():
    brain = np.ones((61, 61, 61), bool)
    (first, _, _), (second, _, _) = (
        soft_ball(brain, centre, 6.0, (3.0, 3.0, 3.0)) for centre in [(19, 18, 34), (11, 10, 10)]
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("size", [1.0, 0.5])
def test_alpha_is_ball_blurred_by_edge_and_voxel(size):
    image, brain = scan()
    image[image != 0] = 1.0
    result, _ = insert_lesion(image, (20, 20, 20), 10.0, (1.0, 0.0), (size, size, size))
    distance = np.arange(1, 15) * size
    sd = np.sqrt(EDGE_SD_MM**2 + size**2 / 12)  # a voxel is a box of variance size^2 / 12
    near, far = (5 - distance) / (sd * np.sqrt(2)), (5 + distance) / (sd * np.sqrt(2))
    tails = sd / (distance * np.sqrt(2 * np.pi)) * (np.exp(-(near**2)) - np.exp(-(far**2)))
    np.testing.assert_allclose(result[0, 21:35, 20, 20] - 1, (erf(near) + erf(far)) / 2 - tails, atol=0.02)
    assert result[0, 20, 20, 20] == pytest.approx(2, abs=1e-4)


def test_insertion_keeps_texture_and_everything_far():
    image, _ = scan()
    original = image.copy()
    result, mask = insert_lesion(image, (20, 20, 20), 6.0, CONTRAST, ISOTROPIC)
    np.testing.assert_array_equal(image, original)
    far = ~ball(image.shape[1:], (20, 20, 20), 3 + np.sqrt(3) * (4 * EDGE_SD_MM + 1))
    np.testing.assert_array_equal(result[:, far], image[:, far])
    flat = np.where(image != 0, np.float32(0.5), 0).astype(np.float32)
    added = insert_lesion(flat, (20, 20, 20), 6.0, CONTRAST, ISOTROPIC)[0] - flat
    np.testing.assert_allclose(result - image, added, atol=1e-6)
    assert mask[ball(mask.shape, (20, 20, 20), 2.5)].all() and not mask[~ball(mask.shape, (20, 20, 20), 3.5)].any()


def test_insertion_in_one_sequence_leaves_other_bit_identical():
    image, _ = scan()
    result, _ = insert_lesion(image, (20, 20, 20), 6.0, (0, -1.0), ISOTROPIC)
    np.testing.assert_array_equal(result[0], image[0])
    assert (result[1] < image[1]).any()


def test_insertion_at_border_leaves_background_zero():
    image, brain = scan()
    result, mask = insert_lesion(image, (4, 20, 20), 8.0, CONTRAST, ISOTROPIC)
    assert (result[:, ~brain] == 0).all()
    assert mask.any() and not (mask & ~brain).any()


def test_mask_has_volume_of_ball_with_anisotropic_spacing():
    image, _ = scan()
    spacing = (0.8, 1.0, 2.5)
    _, mask = insert_lesion(image, (20, 20, 20), 12.0, CONTRAST, spacing)
    assert mask.sum() * np.prod(spacing) == pytest.approx(np.pi * 12**3 / 6, rel=0.05)
    extent = [np.ptp(i) + 1 for i in np.nonzero(mask)]
    np.testing.assert_allclose(extent * np.array(spacing), 12, atol=2.5)


@pytest.mark.parametrize("centre", [(0, 20, 20), (-5, 20, 20), (20, 99, 20)])
def test_insertion_outside_brain_is_refused(centre):
    with pytest.raises(ValueError, match="not in the brain"):
        insert_lesion(scan()[0], centre, 5.0, CONTRAST, ISOTROPIC)


def test_insertion_below_voxel_size_is_refused():
    with pytest.raises(ValueError, match="0.5 mm"):
        insert_lesion(scan()[0], (20, 20, 20), 0.5, CONTRAST, ISOTROPIC)


def test_insertion_of_contrast_0_changes_nothing():
    image, _ = scan()
    result, mask = insert_lesion(image, (20.4, 20, 19.7), 6.0, (0.0, 0.0), ISOTROPIC)
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


def test_noise_inside_an_insertion_and_at_its_border_is_that_outside():
    """A ball about a voxel has the same share at both ends of any diameter: their difference is noise alone."""
    shells = {"core": (0, 4), "border": (4, 7), "outside": (10, 13)}
    differences = {name: [] for name in shells}
    distance = np.sqrt(((np.indices((27, 27, 27)) - 13) ** 2).sum(0))
    for seed in range(10):
        image, _ = scan(seed=seed)
        result, _ = insert_lesion(image, (20, 20, 20), 11.0, (3.0, -2.0), ISOTROPIC)
        window = result[:, 7:34, 7:34, 7:34]
        for name, (near, far) in shells.items():
            shell = (distance >= near) & (distance < far)
            differences[name].append((window - window[:, ::-1, ::-1, ::-1])[:, shell])
    sd = {name: np.concatenate(values, axis=1).std(axis=1) for name, values in differences.items()}
    np.testing.assert_allclose(sd["core"], sd["outside"], rtol=0.1)
    np.testing.assert_allclose(sd["border"], sd["outside"], rtol=0.05)


def test_border_of_an_insertion_is_no_steeper_than_the_blur_allows():
    flat = np.where(scan()[1], np.float32(1), 0) * np.ones((2, 1, 1, 1), np.float32)
    result, _ = insert_lesion(flat, (20, 20, 20), 10.0, (1.0, 0.0), ISOTROPIC)
    steepest = max(np.abs(np.diff(result[0, 5:35, 5:35, 5:35], axis=axis)).max() for axis in range(3))
    sd = np.sqrt(EDGE_SD_MM**2 + 1 / 12)
    assert steepest < erf(0.5 / (sd * np.sqrt(2))) + 0.01  # a flat edge, blurred, across one voxel


def test_contrast_is_added_as_shared():
    image, _ = scan()
    share = np.array([0.2, 1.0]).reshape(2, 1, 1)
    result = add_contrast(image, share, (slice(10, 12), slice(15, 16), slice(20, 21)), (2.0, -1.0))
    change = result - image
    np.testing.assert_allclose(change[:, 10:12, 15, 20], [[0.4, 2.0], [-0.2, -1.0]], atol=1e-6)
    assert np.count_nonzero(change) == 4


# remove_lesion


def test_removed_lesion_has_level_and_noise_of_surroundings():
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


def test_removed_lesion_has_smoothness_of_surroundings():
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


def test_fill_follows_gradient_of_intensity():
    image, lesion, healthy, brain = with_lesion()
    ramp = np.linspace(-1, 1, 40)[:, None, None] + np.zeros(brain.shape)
    image[0, brain] = ramp[brain]
    image[0, lesion] += 3
    result = remove_lesion(image, lesion, healthy, (0,), ISOTROPIC, np.random.default_rng(0))
    np.testing.assert_allclose(result[0, lesion], ramp[lesion], atol=0.25)
    assert np.corrcoef(result[0, lesion], ramp[lesion])[0, 1] > 0.8


def test_noise_follows_that_of_the_place():
    image, _ = scan()
    factor = np.where(np.arange(40) < 20, 0.4, 2)[:, None, None]
    image[0] = np.where(image[0] != 0, (image[0] - LEVEL[0]) * factor, 0)
    lesion = ball(image.shape[1:], (9, 20, 20), 4)
    result = remove_lesion(image, lesion, (image[0] != 0) & ~lesion, (0,), ISOTROPIC, np.random.default_rng(0))
    assert result[0, lesion].std() == pytest.approx(0.4 * NOISE[0], rel=0.3)


def test_halo_called_healthy_does_not_bias_fill():
    image, lesion, healthy, _ = with_lesion()
    distance = distance_transform_edt(~lesion)
    halo = (distance > 0) & (distance <= BLEND_MM)
    image[:, halo] += np.array(CONTRAST, np.float32)[:, None] / 2
    result = remove_lesion(image, lesion, healthy, (0, 1), ISOTROPIC, np.random.default_rng(0))
    np.testing.assert_allclose(result[:, lesion].mean(axis=1), LEVEL, atol=0.1)


def test_removal_reaches_as_far_in_mm_along_every_axis():
    image, lesion, healthy, _ = with_lesion()
    spacing = (1.0, 0.5, 2.0)
    result = remove_lesion(image, lesion, healthy, (0,), spacing, np.random.default_rng(0))
    near = distance_transform_edt(~lesion, sampling=spacing) < BLEND_MM
    np.testing.assert_array_equal(result[0] != image[0], near)


def test_removal_changes_only_named_channel_near_lesion():
    image, lesion, healthy, brain = with_lesion()
    original = image.copy()
    result = remove_lesion(image, lesion, healthy, (1,), ISOTROPIC, np.random.default_rng(0))
    np.testing.assert_array_equal(image, original)
    np.testing.assert_array_equal(result[0], image[0])
    far = distance_transform_edt(~lesion) >= BLEND_MM
    np.testing.assert_array_equal(result[1, far], image[1, far])
    assert (result[1, lesion] != image[1, lesion]).all()


def test_removal_spares_background_and_tissue_that_is_not_white():
    image, lesion, healthy, brain = with_lesion(centre=(5, 20, 20))
    grey = np.zeros_like(brain)
    grey[:, 24:] = True  # begins at the lesion's border
    image[:, grey & brain] = -1
    result = remove_lesion(image, lesion, healthy & ~grey, (0, 1), ISOTROPIC, np.random.default_rng(0))
    assert (result[:, ~brain] == 0).all()
    spared = grey & brain & (distance_transform_edt(~lesion) > 1)
    assert (result[:, spared] == -1).all()


def test_halo_between_lesion_and_white_matter_is_removed():
    image, lesion, healthy, _ = with_lesion(radius=4)
    distance = distance_transform_edt(~lesion)
    halo = (distance > 0) & (distance <= 2)
    image[:, halo] += np.array(CONTRAST, np.float32)[:, None] / 2
    result = remove_lesion(image, lesion, healthy & ~halo, (0, 1), ISOTROPIC, np.random.default_rng(0))
    left = (result[:, halo].mean(axis=1) - LEVEL) / CONTRAST
    assert (abs(left) < 0.15).all()


def test_partial_volume_at_border_of_healthy_tissue_does_not_bias_fill():
    image, lesion, healthy, brain = with_lesion()
    grey = np.zeros_like(brain)
    grey[:, 26:] = True
    image[:, :, 25] -= 1  # voxels called healthy, half grey matter
    image[:, ~brain] = 0
    result = remove_lesion(image, lesion, healthy & ~grey, (0, 1), ISOTROPIC, np.random.default_rng(0))
    np.testing.assert_allclose(result[:, lesion].mean(axis=1), LEVEL, atol=0.1)
    np.testing.assert_allclose(result[:, lesion].std(axis=1), NOISE, rtol=0.3)


def test_removal_is_repeatable():
    image, lesion, healthy, _ = with_lesion()
    results = [remove_lesion(image, lesion, healthy, (0,), ISOTROPIC, np.random.default_rng(s)) for s in (1, 1, 2)]
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


def test_removal_without_healthy_tissue_or_lesion_is_refused():
    image, lesion, healthy, _ = with_lesion()
    nothing = np.zeros_like(lesion)
    with pytest.raises(ValueError, match="no healthy voxel"):
        remove_lesion(image, lesion, nothing, (0,), ISOTROPIC, np.random.default_rng(0))
    with pytest.raises(ValueError, match="no voxel"):
        remove_lesion(image, nothing, healthy, (0,), ISOTROPIC, np.random.default_rng(0))


# swap_sequences


def test_swapped_lesion_has_the_contrast_of_the_other_sequence():
    image, lesion, healthy, _ = with_lesion()
    original = image.copy()
    result = swap_sequences(image, lesion, healthy, ISOTROPIC)
    np.testing.assert_array_equal(image, original)
    np.testing.assert_allclose(result[:, lesion].mean(axis=1), LEVEL + CONTRAST[::-1], atol=0.15)
    far = distance_transform_edt(~lesion) >= BLEND_MM
    np.testing.assert_array_equal(result[:, far], image[:, far])


def test_swapping_carries_each_texture_and_leaves_level_and_background():
    image, lesion, healthy, brain = with_lesion(centre=(5, 20, 20))
    result = swap_sequences(image, lesion, healthy, ISOTROPIC)
    assert (result[:, ~brain] == 0).all()
    for here, there in ((0, 1), (1, 0)):
        assert np.corrcoef(result[here, lesion], image[there, lesion])[0, 1] > 0.95
    ring = (distance_transform_edt(~lesion) > 1) & (distance_transform_edt(~lesion) < BLEND_MM) & brain
    np.testing.assert_allclose(result[:, ring].mean(axis=1), LEVEL, atol=0.1)


def test_swapping_twice_gives_the_lesion_back():
    image, lesion, healthy, _ = with_lesion()
    twice = swap_sequences(swap_sequences(image, lesion, healthy, ISOTROPIC), lesion, healthy, ISOTROPIC)
    np.testing.assert_allclose(twice[:, lesion], image[:, lesion], atol=1e-4)


# move_lesion and where to


def test_moved_lesion_carries_its_contrast_and_leaves_healthy_tissue():
    image, lesion, healthy, _ = with_lesion(centre=(13, 20, 20))
    result, moved = move_lesion(image, lesion, (14, 1, -2), healthy, ISOTROPIC, np.random.default_rng(0))
    np.testing.assert_array_equal(moved, ball(lesion.shape, (27, 21, 18), 3))
    np.testing.assert_allclose(result[:, moved].mean(axis=1), LEVEL + CONTRAST, atol=0.1)
    np.testing.assert_allclose(result[:, moved].std(axis=1), NOISE, rtol=0.25)
    np.testing.assert_allclose(result[:, lesion].mean(axis=1), LEVEL, atol=0.15)


def test_tissue_around_moved_lesion_keeps_its_level_and_noise():
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


def test_moving_to_border_leaves_background_zero():
    image, lesion, _, brain = with_lesion(centre=(20, 20, 20))
    result, _ = move_lesion(image, lesion, (13, 0, 0), ~lesion, ISOTROPIC, np.random.default_rng(0))
    assert (result[:, ~brain] == 0).all()


def test_moved_lesion_keeps_its_texture():
    image, lesion, healthy, _ = with_lesion(centre=(13, 20, 20))
    result, moved = move_lesion(image, lesion, (14, 0, 0), healthy, ISOTROPIC, np.random.default_rng(0))
    for channel in range(2):
        assert np.corrcoef(image[channel, lesion], result[channel, moved])[0, 1] > 0.95


def test_moving_changes_only_both_places():
    image, lesion, healthy, brain = with_lesion(centre=(13, 20, 20))
    grey = np.zeros_like(brain)
    grey[31:33] = True  # next to the moved lesion, which ends at x = 30
    result, moved = move_lesion(image, lesion, (14, 0, 0), healthy & ~grey, ISOTROPIC, np.random.default_rng(0))
    far = distance_transform_edt(~(lesion | moved)) >= BLEND_MM
    np.testing.assert_array_equal(result[:, far | grey], image[:, far | grey])
    assert (result[:, ~brain] == 0).all()


@pytest.mark.parametrize("offset", [(22, 0, 0), (35, 0, 0), (-30, 0, 0)])
def test_moving_out_of_brain_is_refused(offset):
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
