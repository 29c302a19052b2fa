"""Context radii: of curves that jump where it is known, of noise of known size, of saliency of known extent."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.context.plateau import (
    lesion_plateaus,
    noise_sd,
    noisy_plateaus,
    overall_plateaus,
    plateau_radius,
    saliency_reach,
)

ISOTROPIC = (1.0, 1.0, 1.0)
RESAMPLING = {"n_resamples": 500}


def test_plateau_of_the_mean_curves_with_each_fill_and_growth(responses):
    table = pd.concat([responses(), responses(((2, 2), (2,)), "air"), responses(growth="dilation")])
    found = overall_plateaus(table, generator=np.random.default_rng(0), **RESAMPLING)
    found = found.set_index(["fill", "growth", "curve"])
    assert len(found) == 6
    for curve in ("fraction", "score"):
        assert found.loc[("mean", "euclidean", curve), ["step95", "low", "high"]].tolist() == [3, 2, 3]
        assert found.loc[("air", "euclidean", curve), ["step95", "low", "high"]].tolist() == [2, 2, 2]
        assert found.loc[("mean", "dilation", curve), ["step95", "lesions", "patients"]].tolist() == [3, 3, 2]


def test_plateau_interval_is_that_of_drawing_patients_one_by_one(responses):
    table = responses(((1, 4), (2,), (3, 3, 5), (6,), (2, 2)))
    found = overall_plateaus(table, n_resamples=1000, generator=np.random.default_rng(0)).set_index("curve")
    generator, literal = np.random.default_rng(1), []
    for _ in range(80):
        drawn = pd.concat([table[table["subject"] == s] for s in generator.choice(list("abcde"), 5)])
        curve = drawn.groupby("step")["score"].mean().to_numpy()
        plateau = curve[-2:].mean()  # a quarter of nine
        literal.append(next(step for step in range(9) if (curve[step:] >= 0.95 * plateau).all()))
    assert found.loc["score", ["low", "high"]].tolist() == pytest.approx(np.quantile(literal, [0.025, 0.975]), abs=1)


def test_one_patient_has_no_interval(responses):
    found = overall_plateaus(responses(((1, 2),)), generator=np.random.default_rng(0), **RESAMPLING)
    assert found[["low", "high"]].isna().all(axis=None) and found["step95"].tolist() == [2, 2]


def test_plateau_of_each_lesion_with_each_fill(responses):
    table = pd.concat([responses(), responses(((4, 5), (6,)), "air"), responses(growth="dilation")])
    found = lesion_plateaus(table.sample(frac=1, random_state=0)).sort_values(["subject", "label"])
    assert found["radius95_mm"].tolist() == [1, 2, 3] and found["air_mm"].tolist() == [4, 5, 6]


def scan(sd=(0.1, 0.3), shape=(30, 30, 30), seed=0):
    """Smooth anatomy with noise of a known standard deviation, and background."""
    x = np.linspace(0, np.pi, shape[0])[:, None, None]
    noise = np.random.default_rng(seed).normal(size=(2, *shape)) * np.reshape(sd, (2, 1, 1, 1))
    image = 1 + np.sin(x) + noise
    image[:, :3] = 0
    return image.astype(np.float32)


def test_noise_is_estimated_over_smooth_anatomy_and_not_in_the_background():
    np.testing.assert_allclose(noise_sd(scan()), (0.1, 0.3), rtol=0.03)
    interpolated = scan()
    interpolated[:, :, :, 1:-1:2] = (interpolated[:, :, :, :-2:2] + interpolated[:, :, :, 2::2]) / 2
    np.testing.assert_allclose(noise_sd(interpolated), (0.1, 0.3), rtol=0.15)
    assert noise_sd(np.zeros((2, 4, 4, 4))).tolist() == [0, 0]


class Surroundings(torch.nn.Module):
    """Lesion logit: a multiple of the FLAIR summed over a cube of 7 voxels a side."""

    def __init__(self, weight):
        super().__init__()
        self.convolution = torch.nn.Conv3d(2, 2, 7, padding=3, bias=False)
        with torch.no_grad():
            self.convolution.weight.zero_()
            self.convolution.weight[1, 0] = weight

    def forward(self, volume):
        return self.convolution(volume)


def noisy(image, n_copies=12, seed=0):
    lesion = np.zeros(image.shape[1:], bool)
    lesion[15, 15, 15] = True
    options = {"n_copies": n_copies, "generator": np.random.default_rng(seed)}
    return noisy_plateaus(Surroundings(0.005).eval(), image, lesion, range(9), ISOTROPIC, **options)


def test_radius_of_a_scan_without_noise_is_the_same_in_every_copy():
    flat = np.ones((2, 30, 30, 30), np.float32)
    assert set(noisy(flat)) == {5.0}  # the cube ends at 3 along axes and at 5.2 along diagonals


def test_radius_varies_with_the_noise_of_the_scan_and_the_copies_repeat_with_their_seed():
    image = scan(sd=(4.0, 0.1))
    original = image.copy()
    radii = noisy(image)
    assert len(radii) == 12 and len(set(radii)) > 1
    np.testing.assert_array_equal(radii, noisy(image))
    assert (noisy(image, seed=1) != radii).any()
    np.testing.assert_array_equal(image, original)


def test_saliency_reaches_to_the_last_shell_above_five_percent():
    lesion, brain = np.zeros((2, 40, 40, 40), bool)
    lesion[19:21, 20, 20] = True
    brain[:, :, 5:] = True
    voxels = np.argwhere(lesion)
    distance = (
        np.linalg.norm(np.indices(lesion.shape).reshape(3, -1).T[:, None] - voxels, axis=2).min(1).reshape(lesion.shape)
    )
    flair = np.where(distance <= 7, -0.06, 0) + np.where(distance <= 3, 1.06, 0)
    mprage = np.where(distance <= 7, 0.04, 0) - np.where(distance <= 3, 1.04, 0)
    flair[~brain] = 50  # what lies outside the brain does not count
    saliency = np.stack([flair, mprage])
    assert saliency_reach(saliency, lesion, brain, ISOTROPIC, 15).tolist() == [7, 3]
    np.testing.assert_array_equal(saliency_reach(saliency, lesion, brain, ISOTROPIC, 5), [np.nan, 3])
    assert np.isnan(saliency_reach(np.zeros_like(saliency), lesion, brain, ISOTROPIC, 15)).all()


def test_saliency_shells_are_means_in_mm():
    generator, spacing = np.random.default_rng(0), (1.0, 0.8, 2.0)
    lesion = np.zeros((24, 26, 14), bool)
    lesion[12, 12:14, 7] = True
    brain = generator.random(lesion.shape) < 0.9
    offsets = (np.indices(lesion.shape).reshape(3, -1).T[:, None] - np.argwhere(lesion)) * spacing
    distance = np.linalg.norm(offsets, axis=2).min(1).reshape(lesion.shape)
    saliency = generator.normal(size=(2, *lesion.shape)) * np.exp(-distance / 2.5)
    expected = []
    for values in np.abs(saliency):
        shells = [values[brain & (distance > k - 1) & (distance <= k)].mean() for k in range(11)]
        expected.append(max(k for k, mean in enumerate(shells) if mean >= 0.05 * max(shells)))
    assert saliency_reach(saliency, lesion, brain, spacing, 10).tolist() == expected


RADII = np.arange(1.0, 21.0)


@pytest.mark.parametrize(
    ("response", "fraction", "expected"),
    [
        (RADII >= 7, 0.95, 7),
        (np.minimum(RADII / 10, 1), 0.95, 10),
        (np.minimum(RADII / 10, 1), 0.5, 5),
        (1 - np.exp(-RADII / 2), 0.95, 6),  # 1 - exp(-3) = 0.9502, plateau within 1e-3 of 1
        (np.full(20, 3.0), 0.95, 1),
        (np.where(RADII == 2, 5.0, RADII >= 9), 0.95, 9),  # an early overshoot is not the plateau
        (1 + 0.2 * (RADII == 18) - 0.2 * (RADII == 19), 0.95, 1),  # the plateau's own scatter does not count
        (np.zeros(20), 0.95, np.nan),
        (-RADII, 0.95, np.nan),
    ],
)
def test_plateau_radius_of_known_curves(response, fraction, expected):
    assert plateau_radius(RADII, response, fraction) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("radius", "response"), [([], []), ([1, 2], [1]), ([2, 1], [1, 1])])
def test_plateau_needs_increasing_radii_with_responses(radius, response):
    with pytest.raises(ValueError, match="increasing radii"):
        plateau_radius(radius, response)
