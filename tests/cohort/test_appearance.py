"""Appearances: what they add, what they keep, patches that look like the scan they are cut from, on a 3 mm grid; and each step
of the acquisition alone against what it must do."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from lib.cohort.appearance import (
    FAINT_IN_MPRAGE,
    INGREDIENTS,
    acquire,
    draw_appearance,
    lesion_contrasts,
    render,
    render_patch,
)
from lib.cohort.painting import LESION, draw_blobs
from lib.cohort.subject import Subject

PLAIN = {
    "shift_mm": np.zeros(3), "blur_mm": np.zeros(2), "slice_mm": np.zeros(2), "slice_axis": 2, "noise": np.zeros(2),
    "noise_mm": np.zeros(2),
}  # fmt: skip


def acquired(image, **changes):
    return acquire(image.copy(), 1.0, SimpleNamespace(**PLAIN | changes), np.random.default_rng(0))


@pytest.fixture(scope="module")
def subjects(anatomies):
    blobs = [draw_blobs(anatomy, np.random.default_rng(seed)) for seed, anatomy in enumerate(anatomies[:4])]
    return [Subject.compose(*parts) for parts in zip(anatomies, blobs, strict=False)]


def plain(subject, rng):
    """An appearance without anything that spreads over neighbours, noise, bias field or gamma."""
    drawn, zero = draw_appearance(subject, rng, without=["distractors"]), np.zeros(2)
    left_out = {"regional": 0.0, "gamma": np.ones(2), "shift_mm": np.zeros(3)}
    left_out |= dict.fromkeys(("below", "noise", "noise_mm", "bias", "blur_mm", "slice_mm"), zero)
    return SimpleNamespace(**vars(drawn) | left_out)


def test_lesion_contrasts_are_negatively_correlated_and_the_mprage_grows_with_size():
    rng = np.random.default_rng(0)
    volumes_mm3 = np.exp(rng.normal(3.27, 1.37, 4000))
    flair, mprage = lesion_contrasts(volumes_mm3, 0.4, 0.4, rng).T
    assert -0.8 < np.corrcoef(flair, mprage)[0, 1] < -0.3
    assert abs(np.corrcoef(np.log(volumes_mm3), flair)[0, 1]) < 0.1  # the image's is left to partial volume
    assert np.corrcoef(np.log(volumes_mm3), mprage)[0, 1] < -0.1
    assert (flair > 0).all() and (mprage <= 0).all()
    near = np.abs(np.log(volumes_mm3 / 22)) < 0.3
    expected = 0.4 * (1 - 0.8 * FAINT_IN_MPRAGE)  # those lesions show 20 % of it on average
    assert -mprage[near].mean() / flair[near].mean() == pytest.approx(expected, rel=0.1)


def test_a_contrast_agent_makes_its_share_of_lesions_bright_in_mprage():
    mprage = lesion_contrasts(np.full(4000, 50.0), 0.4, 0.4, np.random.default_rng(0), enhancing=0.3)[:, 1]
    assert (mprage > 0).mean() == pytest.approx(0.3, abs=0.03) and mprage.max() <= 0.3


def test_the_ratio_of_both_contrasts_varies_and_is_recorded():
    rng = np.random.default_rng(0)
    lesions = SimpleNamespace(family=np.full(60, LESION), volume_mm3=rng.lognormal(2.8, 1.25, 60))
    drawn = [draw_appearance(lesions, rng) for _ in range(200)]
    ratios = np.array([one.t1_ratio for one in drawn])
    assert ratios.min() < 0.15 and ratios.max() > 0.75
    actual = np.array([-one.contrast[:, 1].sum() / one.contrast[:, 0].sum() for one in drawn])
    plain_scans = np.array([not one.vessels.any() for one in drawn])  # no contrast agent
    assert np.corrcoef(ratios[plain_scans], actual[plain_scans])[0, 1] > 0.9


def test_a_lesion_adds_its_contrast_and_nothing_else(subjects):
    factors = []
    for subject in subjects:
        look = plain(subject, np.random.default_rng(1))
        without = SimpleNamespace(**vars(look) | {"contrast": np.zeros_like(look.contrast)})
        images = [render(subject, one, np.random.default_rng(2)) for one in (look, without)]
        maps = subject.maps()
        outside = maps.alpha == 0
        np.testing.assert_array_equal(images[0][:, outside], images[1][:, outside])
        inside = (maps.alpha > 0.9) & subject.lesions
        added = (images[0] - images[1])[:, inside]
        factors.append((added / look.contrast[maps.label[inside]].T)[0])
    assert np.median(np.concatenate(factors)) == pytest.approx(1, abs=0.15)  # a lesion is uneven inside


def test_lesions_are_bright_on_flair_and_dark_on_mprage(subjects):
    ratios = []
    for subject in subjects:
        maps, mask = subject.maps(), subject.lesions
        around = ndimage.binary_dilation(mask, iterations=3) & (maps.alpha == 0) & (maps.white > 0.9)
        for seed in range(6):
            rng = np.random.default_rng(seed)
            images = render(subject, draw_appearance(subject, rng), rng)
            ratios.append(images[:, mask].mean(axis=1) / images[:, around].mean(axis=1))
    flair, mprage = np.mean(ratios, axis=0)
    assert 1.3 < flair < 1.6  # median over all lesion voxels of three scans 1.37 to 1.55 (data/README.md)
    assert 0.7 < mprage < 0.98


def test_a_patch_looks_like_the_whole_scan_it_is_cut_from(subjects):
    for seed, subject in enumerate(subjects):
        look = plain(subject, np.random.default_rng(seed))
        whole = render(subject, look, np.random.default_rng(3))
        inside = whole[0] != 0
        scores = (whole - whole[:, inside].mean(1)[:, None, None, None]) / whole[:, inside].std(1)[:, None, None, None]
        start, size = (-3, 10, 8), (24, 20, 16)
        patch = render_patch(subject, start, size, look, np.random.default_rng(3))
        part = scores[:, 0:21, 10:30, 8:24]
        assert not patch[:, :3].any()
        both = (patch[0, 3:] != 0) & inside[0:21, 10:30, 8:24]
        for one, other in zip(patch[:, 3:][:, both], part[:, both], strict=True):
            assert np.corrcoef(one, other)[0, 1] > 0.9  # smooth fields are drawn anew for a patch
            assert one.mean() == pytest.approx(other.mean(), abs=0.15)
            assert one.std() == pytest.approx(other.std(), rel=0.15)


def test_patches_are_z_scored_by_the_scan_as_it_is_acquired(subjects):
    """Blurred, in thick slices and noisy: against the whole scan of the same appearance, z-scored as scans are."""
    ratios = []
    for seed in range(12):
        subject = subjects[seed % len(subjects)]
        look = draw_appearance(subject, np.random.default_rng(seed), without=["distractors"])
        look.blur_mm, look.slice_mm, look.slice_axis = np.array([1.5, 1.2]), np.array([6.0, 4.5]), seed % 3
        look.shift_mm, look.noise = np.full(3, 0.7), np.array([0.05, 0.03])
        whole = render(subject, look, np.random.default_rng(seed))
        size = np.rint(0.8 * np.array(subject.shape)).astype(int)
        start = (subject.shape - size) // 2
        box = (slice(None), *map(slice, start, start + size))
        patch, part = render_patch(subject, start, size, look, np.random.default_rng(seed)), whole[box]
        ratios.append(
            [
                p[p != 0].std() / (w[w != 0].std() / all_of_it[all_of_it != 0].std())
                for p, w, all_of_it in zip(patch, part, whole, strict=True)
            ]
        )
    assert np.median(ratios, axis=0) == pytest.approx(
        [1, 1], abs=0.03
    )  # a patch may be drawn with a much brighter spot


def test_a_patch_beside_the_brain_is_empty(subjects):
    rng = np.random.default_rng(0)
    patch = render_patch(subjects[0], (-4, -4, -4), (8, 8, 8), draw_appearance(subjects[0], rng), rng)
    assert patch.shape == (2, 8, 8, 8) and not patch.any()


def test_background_is_zero_and_brain_is_not(subjects):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        images = render(subjects[0], draw_appearance(subjects[0], rng), rng)
        np.testing.assert_array_equal(images[0] != 0, images[1] != 0)
        assert not images[:, subjects[0].maps().coverage == 0].any()
        assert (images[:, subjects[0].maps().coverage > 0.9] > 0).all()


def test_an_ingredient_left_out_does_not_vary(subjects):
    drawn = [draw_appearance(subjects[0], np.random.default_rng(seed), without=INGREDIENTS) for seed in range(2)]
    for name in ("grey", "fluid", "gamma", "bias", "noise", "t1_ratio", "cut"):
        np.testing.assert_array_equal(*(getattr(one, name) for one in drawn))
    assert not drawn[0].choroid.any() and not drawn[0].vessels.any() and not drawn[0].residue
    assert not drawn[0].contrast[subjects[0].family != LESION].any()
    with pytest.raises(ValueError, match="'bias'"):
        draw_appearance(subjects[0], np.random.default_rng(0), without=["bias"])


def test_same_generator_same_image(subjects):
    def image(seed):
        rng = np.random.default_rng(seed)
        return render_patch(subjects[1], (5, 5, 5), (16, 16, 16), draw_appearance(subjects[1], rng), rng)

    np.testing.assert_array_equal(image(0), image(0))
    assert not np.array_equal(image(0), image(1))


@pytest.fixture
def image():
    return np.random.default_rng(1).uniform(1, 2, (2, 24, 24, 24)).astype(np.float32)


def test_without_anything_the_image_stays(image):
    np.testing.assert_allclose(acquired(image), image, rtol=1e-6)


def test_rician_noise_has_its_mean_and_deviation():
    sd, flat = 0.2, np.full((2, 40, 40, 40), 2.0, np.float32)
    for length in (0.0, 0.7):
        noisy = acquired(flat, noise=np.array([sd, 0.0]), noise_mm=np.array([length, 0.0]))
        assert noisy[0].mean() == pytest.approx(np.sqrt(4 + sd**2), rel=2e-3)  # for a signal far above the noise
        assert noisy[0].std() == pytest.approx(sd, rel=0.05)
        np.testing.assert_array_equal(noisy[1], flat[1])
    background = acquired(np.zeros_like(flat), noise=np.array([sd, 0.0]))
    assert background[0].mean() == pytest.approx(sd * np.sqrt(np.pi / 2), rel=0.02)  # Rayleigh


@pytest.mark.parametrize("axis", [0, 2])
def test_thick_slices_keep_what_is_constant_along_them_and_blur_along_their_axis_alone(axis):
    ramp = np.moveaxis(np.broadcast_to(np.arange(24.0)[:, None, None], (24, 24, 24)), 0, axis)
    across = np.moveaxis(np.broadcast_to(np.arange(24.0)[:, None, None], (24, 24, 24)), 0, 1)
    image = np.stack([ramp, across]).astype(np.float32)
    sliced = acquired(image, slice_mm=np.array([4.0, 4.0]), slice_axis=axis)
    inside = np.moveaxis(sliced[0], axis, 0)[5:19]
    np.testing.assert_allclose(inside, np.broadcast_to(np.arange(5.0, 19.0)[:, None, None], inside.shape), atol=1e-3)
    np.testing.assert_allclose(sliced[1], across, rtol=1e-5)


def test_shift_and_blur_are_those_of_scipy(image):
    shift, blur = np.array([0.4, -0.6, 0.2]), np.array([0.7, 0.3])
    expected = ndimage.shift(image[0], shift, order=1, mode="nearest"), image[1]
    expected = [ndimage.gaussian_filter(part, sd, truncate=3) for part, sd in zip(expected, blur, strict=True)]
    np.testing.assert_allclose(acquired(image, shift_mm=shift, blur_mm=blur), expected, rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_averages_of_their_voxels_interpolated_between_their_middles(axis, image):
    thickness, n = 3, image.shape[1]
    sliced = acquired(image, slice_mm=np.array([thickness, 0.0]), slice_axis=axis)
    volume = np.moveaxis(image[0], axis, 0)
    middles = range(0, n + thickness, thickness)
    slices = [volume[max(m - 1, 0) : m + 2].mean(axis=0) if m <= n else np.zeros_like(volume[0]) for m in middles]
    for voxel in range(n):
        first, share = divmod(voxel, thickness)
        share /= thickness
        expected = (1 - share) * slices[first] + share * slices[first + 1]
        np.testing.assert_allclose(np.moveaxis(sliced[0], axis, 0)[voxel], expected, rtol=1e-5)
    np.testing.assert_array_equal(sliced[1], image[1])


def test_a_shift_moves_flair_alone(image):
    shifted = acquired(image, shift_mm=np.array([0.5, 0.0, 0.0]))
    np.testing.assert_allclose(shifted[0, 1:], (image[0, 1:] + image[0, :-1]) / 2, rtol=1e-5)
    np.testing.assert_array_equal(shifted[1], image[1])
