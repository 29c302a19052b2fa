"""Figures of one lesion: one colour scale, planes through the lesion, curves at their numbers."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.explorer.pictures import PLANES, colour_scale, plot_curves, plot_lesion, plot_scale_bar, plot_share_bars
from lib.explorer.session import Explained, Settings
from lib.scans.images import Scan

SHAPE = (40, 44, 36)
SPACING_MM = (1.0, 2.0, 1.5)
PROFILE = pd.DataFrame(
    {
        "distance_mm": [-0.5, 0.5, 1.5] * 2,
        "value": [0.3, 0.1, -0.02, -0.1, 0.0, 0.01],
        "sequence": ["FLAIR"] * 3 + ["MPRAGE"] * 3,
    }
)
CONTEXT = pd.DataFrame({"radius_mm": [0.0, 1.0, 2.0], "score": [0.2, 0.6, 0.8], "peak": [0.4, 0.9, 1.0]})

SHARES = pd.DataFrame(
    [("FLAIR", "all", 9.0), ("MPRAGE", "all", -2.0)]
    + [("FLAIR", "lesion", 6.0), ("FLAIR", "rim", 1.0), ("FLAIR", "rest", 2.5)]
    + [("MPRAGE", "lesion", -1.5), ("MPRAGE", "rim", -0.5), ("MPRAGE", "rest", -0.5)],
    columns=["sequence", "place", "share"],
).assign(fill="mean", score=3.0, hidden=-4.0)


@pytest.fixture(scope="module")
def case():
    mask = np.zeros(SHAPE, bool)
    mask[20:23, 11:14, 24:27] = True
    maps = {"FLAIR": np.zeros(SHAPE), "MPRAGE": np.zeros(SHAPE)}
    maps["FLAIR"][21, 12, 25], maps["MPRAGE"][5, 5, 5] = -0.4, 0.1
    image = np.random.default_rng(0).normal(50, 5, (2, *SHAPE))
    scan = Scan("sub-01", image, (image != 0).all(0), mask, np.diag([*SPACING_MM, 1]))
    lesion = pd.Series({"kind": "TP", "label": 3, "volume_mm3": 81.0})
    settings = Settings("smoothgrad_max", 10, 0.05)
    return Explained(
        SimpleNamespace(scan=scan, unit="log-odds per z-score", score_unit="log-odds", sequences=["FLAIR", "MPRAGE"]),
        lesion, settings, mask, maps, None, PROFILE,
    )  # fmt: skip


def with_grad_cam(case):
    profile = PROFILE.iloc[:3].assign(sequence="both")
    maps = {"both": np.abs(case.maps["FLAIR"])}
    return case._replace(settings=Settings("grad_cam", 10, 0.05), maps=maps, profile=profile)


def test_signed_maps_share_one_scale_symmetric_around_zero(case):
    scale = colour_scale("smoothgrad_max", case.maps)
    assert (scale.norm.vmin, scale.norm.vmax) == (-0.4, 0.4)
    assert scale.cmap(scale.norm(0.0))[3] < 0.01  # where the map is 0 the anatomy shows
    activation = colour_scale("grad_cam", {"both": np.array([0.0, 3.0])})
    assert (activation.norm.vmin, activation.norm.vmax) == (0, 3)
    nothing = colour_scale("smoothgrad_mean", {"FLAIR": np.zeros(3)})
    assert nothing.norm.vmin < nothing.norm.vmax


def test_planes_go_through_the_middle_of_the_lesion_at_true_proportions(case):
    image, maps = case.opened.scan.image, case.maps
    fig = plot_lesion(case, CONTEXT, 0.5, SHARES)
    panels = [ax for ax in fig.axes if len(ax.images) == 2]
    assert len(panels) == 6
    expected = {"axial": maps["FLAIR"][:, :, 25], "coronal": maps["FLAIR"][:, 12], "sagittal": maps["FLAIR"][21]}
    for ax, (plane, values) in zip(panels, expected.items(), strict=False):
        assert ax.get_title() == plane
        np.testing.assert_array_equal(ax.images[1].get_array(), values.T)
        axes = PLANES[plane]
        left, right, bottom, top = ax.images[1].get_extent()
        assert right - left == pytest.approx(SHAPE[axes[0]] * SPACING_MM[axes[0]])
        assert top - bottom == pytest.approx(SHAPE[axes[1]] * SPACING_MM[axes[1]])
        middle = [21 * 1.0, 12 * 2.0, 25 * 1.5]
        assert np.mean(ax.get_xlim()) == pytest.approx(middle[axes[0]])
        assert np.mean(ax.get_ylim()) == pytest.approx(middle[axes[1]])
    np.testing.assert_array_equal(panels[3].images[0].get_array(), image[1][:, :, 25].T)


def test_the_title_says_what_is_explained_and_how(case):
    titles = [plot_lesion(one, CONTEXT, 0.5, None).subfigs[0].get_suptitle() for one in (case, with_grad_cam(case))]
    assert titles[0] == "sub-01, TP 3, 81 mm³, N = 10, noise 0.05 of the range"
    assert titles[1] == "sub-01, TP 3, 81 mm³"


def test_curves_are_drawn_at_their_numbers_with_units(case):
    fig = plot_curves(case, CONTEXT, 0.5)
    upper, lower = fig.axes
    assert upper.get_ylabel() == "mean saliency (log-odds per z-score)"  # of the network that explains
    assert lower.get_ylabel() == "lesion probability"
    for ax in (upper, lower):
        assert "(mm" in ax.get_xlabel()
    drawn = {line.get_label(): line.get_xydata() for ax in (upper, lower) for line in ax.lines}
    np.testing.assert_array_equal(drawn["MPRAGE"], PROFILE[["distance_mm", "value"]].iloc[3:])
    np.testing.assert_array_equal(drawn["mean over the lesion"], CONTEXT[["radius_mm", "score"]])
    np.testing.assert_array_equal(drawn["threshold 0.5"][:, 1], [0.5, 0.5])


def test_of_a_network_of_t1w_alone_it_lies_below_grad_cam_and_has_the_only_profile(case):
    alone = case._replace(opened=SimpleNamespace(**vars(case.opened) | {"sequences": ["MPRAGE"]}))
    axial = plot_lesion(with_grad_cam(alone), CONTEXT, 0.5, None).axes[0]
    np.testing.assert_array_equal(axial.images[0].get_array(), case.opened.scan.image[1][:, :, 25].T)
    assert axial.get_ylabel() == "MPRAGE below the map"
    for one, names in ((alone, ["MPRAGE"]), (with_grad_cam(alone), ["both"])):
        near = plot_curves(one, CONTEXT, 0.5).axes[0]
        assert [text.get_text() for text in near.get_legend().get_texts()] == names


def test_a_threshold_near_one_is_not_written_as_one(case):
    labels = [line.get_label() for line in plot_curves(case, CONTEXT, 0.99999386).axes[1].lines]
    assert "threshold 0.999994" in labels


def test_the_colours_carry_the_unit_of_their_method(case):
    scale = colour_scale("smoothgrad_max", case.maps)
    (ax,) = plot_scale_bar("smoothgrad_max", scale).axes
    assert ax.get_xlabel() == "saliency (logit per z-score)"
    activation = colour_scale("grad_cam", {"both": np.array([2.5e-5])})
    (ax,) = plot_scale_bar("grad_cam", activation).axes
    assert ax.get_xlabel() == "Grad-CAM++ ($10^{-5}$ a.u.)"


def test_bars_are_as_long_as_the_shares_and_say_what_they_sum_to(case):
    (ax,) = plot_share_bars(SHARES, "log-odds").axes
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == ["FLAIR", "lesion", "rim", "rest", "MPRAGE", "lesion", "rim", "rest"]
    drawn = {bar.get_y() + bar.get_height() / 2: bar.get_width() for bar in ax.patches}
    of = SHARES.set_index(["sequence", "place"])["share"]
    expected = [of[sequence][place] for sequence in ("FLAIR", "MPRAGE") for place in ("all", "lesion", "rim", "rest")]
    assert [drawn[place] for place in sorted(drawn)] == expected
    np.testing.assert_allclose(sorted(drawn), ax.get_yticks())
    assert ax.get_title() == "sum 7.00 = 3.00 \N{MINUS SIGN} (\N{MINUS SIGN}4.00)"
    assert "(log-odds)" in ax.get_xlabel() and "score less" in ax.get_xlabel()
    assert len(plot_lesion(case, CONTEXT, 0.5, SHARES).axes) == len(plot_lesion(case, CONTEXT, 0.5, None).axes) + 1
