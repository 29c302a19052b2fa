"""The gallery: a row a lesion, one scale a column, and what is missing is said in its place."""

import numpy as np
import pandas as pd
import pytest
from drawn import assert_fits_the_double_column, assert_says_the_unit

from lib.explorer.rows import TITLES, plot_gallery

SHAPE = (44, 44, 8)
PROFILE = pd.DataFrame({"distance_mm": [-0.5, 0.5, 1.5] * 2, "value": [2.0, 0.1, -0.2, -1.0, 0.0, 0.1]})
PROFILE["sequence"] = ["FLAIR"] * 3 + ["MPRAGE"] * 3
PLACES = ("all", "lesion", "rim", "rest")


def case(kind, level, **missing):
    rng, lesion, saliency = np.random.default_rng(0), np.zeros(SHAPE, bool), np.zeros(SHAPE)
    lesion[20:23, 21:24, 4] = True
    saliency[21, 22, 4], saliency[0, 0, 0] = level, 99  # the latter in another slice
    shares = [(name, place, level * size) for name, size in (("FLAIR", 3), ("MPRAGE", -1)) for place in PLACES]
    shares = pd.DataFrame(shares, columns=["sequence", "place", "share"])
    return {
        "kind": kind, "title": f"sub-001\n{kind} 7", "image": rng.normal(size=SHAPE), "lesion": lesion, "saliency": saliency,
        "spacing_mm": (1.0, 1.0, 1.0), "profile": PROFILE, "shares": shares.assign(fill="mean", score=level, hidden=-level),
        "of_kind": pd.DataFrame({"distance_mm": [-0.5, 0.5, 1.5], "mean": [1.5, 0.2, -0.1]}),
        "context": pd.DataFrame({"radius_mm": [0.0, 1.0, 2.0], "score": [0.2, 0.5, level / 10], "peak": [0.3, 0.6, 0.9]}),
    } | missing  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    """The axes of three lesions, of which the second has no map and the last no shares."""
    gone = {"saliency": "missing: no map", "profile": "missing: no map"}
    cases = [case("TP", 4.0), case("FN", 8.0, **gone), case("TN", -6.0, shares="missing: sees FLAIR alone")]
    fig = plot_gallery(cases, 0.7, "log-odds per range", "log-odds")
    assert_fits_the_double_column(fig)
    assert_says_the_unit(fig, "log-odds per range")
    return np.reshape(fig.axes[:15], (3, 5))


def test_a_page_of_eight_lesions_is_not_higher_than_a_page():
    assert_fits_the_double_column(plot_gallery([case("TP", 1.0)] * 8, 0.5))


def test_panels_show_what_they_are_given(rows):
    image, saliency, profile, context, shares = rows[0]
    np.testing.assert_array_equal(image.images[0].get_array(), case("TP", 4.0)["image"][:, :, 4].T)
    assert len(image.images) == 1 and len(image.collections) == len(saliency.collections) == 1  # the outline
    np.testing.assert_array_equal(saliency.images[1].get_array(), case("TP", 4.0)["saliency"][:, :, 4].T)
    np.testing.assert_array_equal(profile.lines[0].get_xydata(), PROFILE[["distance_mm", "value"]].iloc[:3])
    np.testing.assert_array_equal(profile.lines[2].get_ydata(), [1.5, 0.2, -0.1])
    np.testing.assert_array_equal(context.lines[0].get_ydata(), [0.7, 0.7])
    np.testing.assert_array_equal(context.lines[1].get_ydata(), [0.3, 0.6, 0.9])
    np.testing.assert_array_equal(context.lines[2].get_ydata(), [0.2, 0.5, 0.4])
    assert sorted({bar.get_width() for bar in shares.patches}) == [-4, 12]
    assert "sum 8.00" in shares.get_title()
    assert [ax.get_title().split("\n")[0] for ax in rows[0]] == [title.format("FLAIR") for title in TITLES]


def test_of_a_network_of_one_sequence_that_one_alone_is_named_and_has_a_profile():
    zero = PROFILE.assign(value=PROFILE["value"].where(PROFILE["sequence"] == "MPRAGE", 0.0))
    fig = plot_gallery([case("TP", 1.0, profile=zero)], 0.5, sequences=["MPRAGE"])
    named = [ax.get_title() for ax in fig.axes[:2]] + [text.get_text() for text in fig.legends[0].texts]
    assert named[:4] == ["MPRAGE", "saliency in MPRAGE", "MPRAGE", "mean of its kind in MPRAGE"]
    own, of_kind = (line.get_ydata().tolist() for line in fig.axes[2].lines[:2])
    assert (own, of_kind) == ([-1.0, 0.0, 0.1], [1.5, 0.2, -0.1])


def test_a_column_has_one_scale_and_the_last_panel_alone_is_labelled_below(rows):
    assert {ax.images[1].get_clim() for ax in rows[[0, 2], 1]} == {(-6, 6)}
    for column, drawn in ((2, [0, 2]), (3, [0, 1, 2]), (4, [0, 1])):
        axes = rows[drawn, column]
        assert len({ax.get_xlim() for ax in axes}) == len({ax.get_ylim() for ax in axes}) == 1
        assert [bool(ax.get_xlabel()) for ax in axes] == [False] * (len(axes) - 1) + [True]


def test_what_is_missing_is_said_in_its_place(rows):
    for row, column, said in ((1, 1, "no map"), (1, 2, "no map"), (2, 4, "sees FLAIR alone")):
        assert not rows[row, column].axison
        assert said in " ".join(text.get_text() for text in rows[row, column].texts)
        assert not rows[row, column].images and not rows[row, column].lines
