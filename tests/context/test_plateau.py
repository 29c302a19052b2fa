"""Context radii: of curves that jump where it is known, of noise of known size, of saliency of known extent."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from lib.context.plateau import lesion_plateaus, noise_sd, noisy_plateaus, overall_plateaus, saliency_reach
from lib.statistics.correlation import bland_altman, bootstrap_spearman, weighted_spearman

ISOTROPIC = (1.0, 1.0, 1.0)
RESAMPLING = {"n_resamples": 500}


def responses(jumps=((1, 2), (3,)), fill="mean", growth="euclidean"):
    """Lesions of patients a, b, ...: scores that jump to their plateau at the steps given."""
    rows = []
    for subject, own in zip("abcdefgh", jumps, strict=False):
        for label, jump in enumerate(own, start=1):
            for step in range(9):
                score = 0.8 if step >= jump else 0.2
                rows.append((subject, subject, label, fill, growth, step, float(step), score > 0.5, score))
    names = ["scan", "subject", "label", "fill", "growth", "step", "radius_mm", "detected", "score"]
    return pd.DataFrame(rows, columns=names)


def test_plateau_of_the_mean_curves_with_each_fill_and_growth():
    table = pd.concat([responses(), responses(((2, 2), (2,)), "air"), responses(growth="dilation")])
    found = overall_plateaus(table, generator=np.random.default_rng(0), **RESAMPLING)
    found = found.set_index(["fill", "growth", "curve"])
    assert len(found) == 6
    for curve in ("fraction", "score"):
        assert found.loc[("mean", "euclidean", curve), ["step95", "low", "high"]].tolist() == [3, 2, 3]
        assert found.loc[("air", "euclidean", curve), ["step95", "low", "high"]].tolist() == [2, 2, 2]
        assert found.loc[("mean", "dilation", curve), ["step95", "lesions", "patients"]].tolist() == [3, 3, 2]


def test_plateau_interval_is_that_of_drawing_patients_one_by_one():
    table = responses(((1, 4), (2,), (3, 3, 5), (6,), (2, 2)))
    found = overall_plateaus(table, n_resamples=1000, generator=np.random.default_rng(0)).set_index("curve")
    generator, literal = np.random.default_rng(1), []
    for _ in range(80):
        drawn = pd.concat([table[table["subject"] == s] for s in generator.choice(list("abcde"), 5)])
        curve = drawn.groupby("step")["score"].mean().to_numpy()
        plateau = curve[-2:].mean()  # a quarter of nine
        literal.append(next(step for step in range(9) if (curve[step:] >= 0.95 * plateau).all()))
    assert found.loc["score", ["low", "high"]].tolist() == pytest.approx(np.quantile(literal, [0.025, 0.975]), abs=1)


def test_one_patient_has_no_interval():
    found = overall_plateaus(responses(((1, 2),)), generator=np.random.default_rng(0), **RESAMPLING)
    assert found[["low", "high"]].isna().all(axis=None) and found["step95"].tolist() == [2, 2]


def test_plateau_of_each_lesion_with_each_fill():
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


def lesions(n=60, seed=0):
    generator = np.random.default_rng(seed)
    table = pd.DataFrame(
        {"subject": [f"{i % 8}" for i in range(n)], "radius": generator.integers(2, 12, n).astype(float)}
    )
    return table.assign(size=table["radius"] ** 3 + generator.normal(0, 200, n), reach=table["radius"] + 1.5)


def test_rank_correlation_is_spearmans_with_ties_and_leaves_out_what_is_missing():
    table = lesions()
    table.loc[3, "size"], table.loc[7, "size"] = np.nan, np.inf
    found = bootstrap_spearman(table, "radius", ["size", "reach"], generator=np.random.default_rng(0), **RESAMPLING)
    found = found.set_index("with")
    kept = table.drop(index=[3, 7])
    assert found.loc["size", "rho"] == pytest.approx(spearmanr(kept["radius"], kept["size"]).statistic)
    assert found.loc["size", ["lesions", "patients"]].tolist() == [58, 8]
    assert found.loc["size", "low"] < found.loc["size", "rho"] < found.loc["size", "high"]
    assert found.loc["reach", ["rho", "low", "high"]].tolist() == pytest.approx([1, 1, 1])


def test_interval_of_the_correlation_is_wider_where_lesions_of_a_patient_are_alike():
    generator = np.random.default_rng(2)
    alone = pd.DataFrame({"x": generator.normal(size=80), "y": generator.normal(size=80)})
    clustered = alone.iloc[:8].loc[np.repeat(np.arange(8), 10)].reset_index(drop=True)
    widths = []
    for table in (alone, clustered):
        table = table.assign(subject=np.repeat(list("abcdefgh"), 10))
        found = bootstrap_spearman(table, "x", ["y"], generator=np.random.default_rng(0), **RESAMPLING)
        widths.append((found["high"] - found["low"]).item())
    assert widths[1] > 1.8 * widths[0]


def test_weighted_spearman_is_that_of_the_repeated_sample():
    generator = np.random.default_rng(1)
    x, y = generator.integers(0, 6, 20), generator.integers(0, 6, 20)  # with ties
    times = generator.integers(0, 4, (5, 20))
    literal = [spearmanr(np.repeat(x, n), np.repeat(y, n)).statistic for n in times]
    np.testing.assert_allclose(weighted_spearman(x, y, times), literal)
    assert np.isnan(weighted_spearman(x, 0 * y, times)).all()


def test_too_few_lesions_have_no_correlation():
    found = bootstrap_spearman(lesions(2), "radius", ["size"], generator=np.random.default_rng(0), **RESAMPLING)
    assert found[["rho", "low", "high"]].isna().all(axis=None) and found["lesions"].item() == 2


def test_agreement_has_the_mean_difference_and_its_limits():
    table = lesions()
    table["other"] = table["radius"] + np.where(np.arange(60) % 2, 3.0, -1.0)
    found = bland_altman(
        table, "radius", ["reach", "other"], generator=np.random.default_rng(0), **RESAMPLING
    ).set_index("with")
    names = ["mean_difference", "difference_low", "difference_high", "limit_low", "limit_high"]
    assert found.loc["reach", names].tolist() == pytest.approx([1.5] * 5)
    sd = np.sqrt(4 * 60 / 59)
    assert found.loc["other", ["mean_difference", "limit_low", "limit_high"]].tolist() == pytest.approx(
        [1, 1 - 1.96 * sd, 1 + 1.96 * sd]
    )
    rho = spearmanr(table["radius"], table["other"]).statistic
    assert found.loc["other", "rho"] == pytest.approx(rho)
