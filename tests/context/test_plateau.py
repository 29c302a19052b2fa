"""Context radii: of curves that jump where it is known, of saliency of known extent."""

import numpy as np
import pandas as pd
import pytest
from torch import nn

from lib.context.plateau import (
    crossings,
    field_extent,
    lesion_plateaus,
    overall_plateaus,
    saliency_extent,
    saliency_reach,
)

ISOTROPIC = (1.0, 1.0, 1.0)
RESAMPLING = {"n_resamples": 500}


def test_plateau_of_the_mean_curves_with_each_fill_and_growth(responses):
    table = pd.concat([responses(), responses(((2, 2), (2,)), "air"), responses(growth="dilation")])
    found = overall_plateaus(table, generator=np.random.default_rng(0), **RESAMPLING)
    found = found.set_index(["fill", "growth", "curve"])
    assert len(found) == 6
    first, last = (["first", "low_first", "high_first"], ["last", "low_last", "high_last"])
    for curve in ("fraction", "score"):
        for columns in (first, last):
            assert found.loc[("mean", "euclidean", curve), columns].tolist() == [3, 2, 3]
            assert found.loc[("air", "euclidean", curve), columns].tolist() == [2, 2, 2]
        assert found.loc[("mean", "dilation", curve), ["first", "lesions", "patients"]].tolist() == [3, 3, 2]
        plateau = 1 if curve == "fraction" else 0.8
        smallest = found.loc[("mean", "dilation", curve), ["smallest", "plateau"]].tolist()
        assert smallest == pytest.approx([0, plateau])


def test_plateau_interval_is_that_of_drawing_patients_one_by_one(responses):
    table = responses(((1, 4), (2,), (3, 3, 5), (6,), (2, 2), (3,), (1,), (4, 4)))
    found = overall_plateaus(table, n_resamples=1000, generator=np.random.default_rng(0)).set_index("curve")
    generator, literal = np.random.default_rng(1), []
    for _ in range(120):
        drawn = pd.concat([table[table["subject"] == s] for s in generator.choice(list("abcdefgh"), 8)])
        curve = drawn.groupby("step")["score"].mean().to_numpy()
        plateau = curve[-2:].mean()  # a quarter of nine
        literal.append(next(step for step in range(9) if (curve[step:] >= 0.95 * plateau).all()))
    interval = found.loc["score", ["low_last", "high_last"]].tolist()
    assert interval == pytest.approx(np.quantile(literal, [0.006, 0.994]), abs=1)  # as far out as t of 8 patients


INTERVALS = ["low_first", "high_first", "low_last", "high_last"]


def test_one_patient_has_no_interval(responses):
    found = overall_plateaus(responses(((1, 2),)), generator=np.random.default_rng(0), **RESAMPLING)
    assert found[INTERVALS].isna().all(axis=None) and found["first"].tolist() == [2, 2]


def test_lesions_detected_at_every_step_tell_nothing(responses):
    found = overall_plateaus(responses([(0, 0)] * 8), generator=np.random.default_rng(0), **RESAMPLING)
    assert found[["first", "last", *INTERVALS]].isna().all(axis=None)


def test_variation_in_few_patients_has_no_interval(responses):
    """A lesion of one patient of eight is in 1 - (7 / 8)**8 = 66 % of the resamples, those of four in all but 0.4 %."""
    one, four = (
        overall_plateaus(responses([(3, 3)] * n + [(0, 0)] * (8 - n)), generator=np.random.default_rng(0), **RESAMPLING)
        for n in (1, 4)
    )
    assert one[INTERVALS].isna().all(axis=None) and one["first"].tolist() == [3, 3]
    assert four[INTERVALS].to_numpy().tolist() == [[3.0] * 4] * 2


def test_a_mean_that_falls_again_has_two_crossings_and_its_dip(responses):
    table = responses([(2,)] * 6)
    table.loc[table["step"].between(4, 5), "score"] = 0.4
    found = overall_plateaus(table, generator=np.random.default_rng(0), **RESAMPLING).set_index("curve").loc["score"]
    assert found[["first", "last", "dip", "dip_at"]].tolist() == pytest.approx([2, 6, 0.4, 4])
    assert found[INTERVALS].tolist() == [2, 2, 6, 6]


def test_plateau_of_each_lesion_with_each_fill(responses):
    table = pd.concat([responses(), responses(((4, 5), (6,)), "air"), responses(growth="dilation")])
    found = lesion_plateaus(table.sample(frac=1, random_state=0), ["air"]).sort_values(["subject", "label"])
    assert found["radius95_mm"].tolist() == [1, 2, 3] and found["air_mm"].tolist() == [4, 5, 6]
    assert found["last95_mm"].tolist() == [1, 2, 3]
    table.loc[(table["fill"] == "mean") & (table["step"] == 5), "score"] = 0.1
    found = lesion_plateaus(table, ["air"]).set_index(["subject", "label"])
    assert found["radius95_mm"].tolist() == [1, 2, 3] and found["last95_mm"].tolist() == [6, 6, 6]


def test_plateaus_of_no_lesion(responses):
    found = lesion_plateaus(responses().iloc[:0], ["air"])
    assert found.empty and {"subject", "scan", "label", "radius95_mm", "last95_mm", "air_mm"} <= {*found}


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


def test_a_share_of_the_saliency_lies_within_a_radius():
    lesion = np.zeros((21, 21, 21), bool)
    lesion[10, 10, 10] = True
    flair, mprage = np.zeros((2, 21, 21, 21))
    flair[10, 10, [10, 12, 15]] = 5, -4, 1  # 0.5, 0.9 and all of it within 0, 4 and 10 mm
    mprage[10, 13, 10], mprage[0, 0, 0] = 1, -2  # two thirds lie farther than 6 mm
    spacing, maps = (1.0, 1.0, 2.0), np.stack([flair, mprage])
    assert saliency_extent(maps, lesion, spacing, 12, 0.5)[0] == 0
    assert saliency_extent(maps, lesion, spacing, 12, 0.51)[0] == 4
    assert saliency_extent(maps, lesion, spacing, 12, 0.95)[0] == 10
    np.testing.assert_array_equal(saliency_extent(maps, lesion, spacing, 6, 0.3), [0, 3])
    np.testing.assert_array_equal(saliency_extent(maps, lesion, spacing, 6, 0.5), [0, np.nan])
    assert np.isnan(saliency_extent(np.zeros_like(maps), lesion, spacing, 6, 0.5)).all()


def test_the_theoretical_field_is_what_the_layers_allow():
    lesion = np.zeros((20, 20, 20), bool)
    lesion[8:11, 9, 17] = True
    layers = [nn.Conv3d(2, 2, (3, 7, 1), padding=(1, 3, 0)), nn.Conv3d(2, 2, (3, 3, 7), padding=(1, 1, 3))]
    model = nn.Sequential(*layers).eval()
    assert field_extent(model, lesion, (1.0, 1.0, 1.0)) == 4  # along Y: 3 + 1; along Z the volume ends after 2
    assert field_extent(model, lesion, (1.0, 1.0, 2.0)) == 6  # 3 voxels of 2 mm towards its beginning
    assert field_extent(model, lesion, (3.0, 1.0, 1.0)) == 6  # 1 + 1 voxels of 3 mm
    assert field_extent(nn.Sequential(*layers, nn.InstanceNorm3d(2)).eval(), lesion, (1.0, 1.0, 1.0)) == np.inf


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
NEVER = (np.nan, np.nan)


@pytest.mark.parametrize(
    ("response", "fraction", "crossed", "dip"),
    [
        (RADII >= 7, 0.95, (7, 7), NEVER),
        (np.minimum(RADII / 10, 1), 0.95, (10, 10), NEVER),
        (np.minimum(RADII / 10, 1), 0.5, (5, 5), NEVER),
        (1 - np.exp(-RADII / 2), 0.95, (6, 6), NEVER),  # 1 - exp(-3) = 0.9502, plateau within 1e-3 of 1
        (np.where(RADII == 2, 5.0, RADII >= 9), 0.95, (2, 9), (0, 3)),
        (np.interp(RADII, [1, 3, 8, 14, 20], [0.5, 1, 0.6, 1, 1]), 0.95, (3, 14), (0.6, 8)),  # what is shown harms
        (np.where(RADII < 13, 1, np.where(RADII < 16, 0.5, 1)), 0.95, (1, np.inf), (0.5, 13)),  # up to the last quarter
        (1 + 0.2 * (RADII == 18) - 0.2 * (RADII == 19), 0.95, (1, 1), NEVER),  # the plateau's own scatter
        (RADII, 0.95, (np.inf, np.inf), NEVER),  # not reached before the last quarter
        (RADII >= 16, 0.95, (np.inf, np.inf), NEVER),
        (np.full(20, 3.0), 0.95, NEVER, NEVER),  # without variation nothing is told
        (np.zeros(20), 0.95, NEVER, NEVER),
        (-RADII, 0.95, NEVER, NEVER),
    ],
)
def test_crossings_of_known_curves(response, fraction, crossed, dip):
    found = crossings(RADII, response, fraction)
    np.testing.assert_allclose([found["first"], found["last"]], crossed)
    np.testing.assert_allclose([found["dip"], found["dip_at"]], dip)
    assert found["plateau"] == np.mean(response[-5:])


def test_crossings_are_those_of_a_literal_search():
    generator = np.random.default_rng(0)
    for _ in range(200):
        response = generator.uniform(0.8, 1.05, 20) * np.minimum(RADII / generator.uniform(1, 18), 1)
        enough = [value >= 0.95 * response[15:].mean() for value in response[:15]]
        first = next((i for i in range(15) if enough[i]), None)
        last = next((i for i in range(15) if all(enough[i:])), None)
        found = crossings(RADII, response)
        assert found["first"] == (np.inf if first is None else RADII[first])
        assert found["last"] == (np.inf if last is None else RADII[last])
        between = response[slice(15 if first is None else first, last if last is not None else 15)]
        assert between.min() == found["dip"] if len(between) else np.isnan(found["dip"])


@pytest.mark.parametrize(("radius", "response"), [([], []), ([1, 2], [1]), ([2, 1], [1, 1])])
def test_crossings_need_increasing_radii_with_responses(radius, response):
    with pytest.raises(ValueError, match="increasing radii"):
        crossings(radius, response)
