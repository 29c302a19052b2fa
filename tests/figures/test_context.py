"""Figures of the context experiment: lines, bands and marks are those of the tables, at journal width, with units."""

import numpy as np
import pandas as pd
import pytest
from drawn import assert_fits_the_double_column, lines

from lib.figures.context import FIELDS, PLACES, REACHES, plot_context, plot_fields, plot_fills, plot_radii

STEPS = np.arange(0, 6)
VARIANTS = [("mean", "euclidean"), ("mean", "dilation"), ("air", "euclidean"), ("blurred", "euclidean")]


def tables(plateau=3.0):
    responses, curve, overall = [], [], []
    for number, (fill, growth) in enumerate(VARIANTS):
        names = {"fill": fill, "growth": growth, "step": STEPS}
        score = STEPS / (6 + number)
        for scan, factor in (("sub-1", 0.9), ("sub-2", 1.1)):
            responses.append(pd.DataFrame(names | {"scan": scan, "label": 1, "score": score * factor}))
        numbers = {"lesions": 2, "patients": 2, "fraction": STEPS / 5, "low_fraction": 0.0, "high_fraction": 1.0}
        numbers |= {"score": score, "sd_score": 0.05, "low_score": score * 0.9, "high_score": score * 1.1}
        curve.append(pd.DataFrame(names | numbers))
        for name in ("fraction", "score"):
            first, last = (plateau + number, 1.5, 4.0 + number), (plateau + number + 1, 2.5, np.inf)
            overall.append((fill, growth, name, *first, *last, 0.8, 0.0))
    names = ["fill", "growth", "curve", "first", "low_first", "high_first", "last", "low_last", "high_last"]
    overall = pd.DataFrame(overall, columns=[*names, "plateau", "smallest"])
    return pd.concat(responses), pd.concat(curve), overall


def radii():
    generator, n = np.random.default_rng(0), 12
    names = ["radius95_mm", "reach5_flair_mm", "reach5_mprage_mm", *PLACES]
    lesions = pd.DataFrame(generator.uniform(5, 50, (n, len(names))), columns=names)
    lesions = lesions.assign(subject=[f"{i % 4}" for i in range(n)])
    numbers = {"lesions": n, "patients": 4, "rho": -0.25, "low": -0.5, "high": 0.125}
    limits = {
        "mean_difference": 1.5,
        "difference_low": 1.0,
        "difference_high": 2.0,
        "limit_low": -3.0,
        "limit_high": 6.0,
    }
    correlations = pd.DataFrame([{"with": name} | numbers for name in PLACES])
    agreement = pd.DataFrame([{"with": name} | numbers | limits for name in REACHES])
    return lesions, correlations, agreement


FIGURES = {
    "context": lambda: plot_context(*tables()),
    "fills": lambda: plot_fills(*tables()[1:]),
    "radii": lambda: plot_radii(*radii()),
}


@pytest.fixture(scope="module")
def figures():
    return {name: draw() for name, draw in FIGURES.items()}


@pytest.mark.parametrize("name", FIGURES)
def test_fits_the_double_column(figures, name):
    assert_fits_the_double_column(figures[name])


@pytest.mark.parametrize(
    ("name", "units"),
    [
        (
            "context",
            {"perilesional tissue kept (mm)", "18-connected dilations of the lesion", "mean lesion probability"},
        ),
        ("fills", {"perilesional tissue kept (mm)", "95 % of the plateau (mm)"}),
        ("radii", {"context radius (mm)", "lesion volume (mm³)", "FLAIR saliency's reach (mm)", "mean of both (mm)"}),
    ],
)
def test_axes_carry_units(figures, name, units):
    labels = {label for ax in figures[name].axes for label in (ax.get_xlabel(), ax.get_ylabel())}
    assert units <= labels


def test_curves_and_plateaus_in_mm_and_in_dilations(figures):
    responses, curve, _ = tables()
    for (left, right), growth, plateau in zip(
        np.reshape(figures["context"].axes, (2, 2)), ("euclidean", "dilation"), (3, 4), strict=True
    ):
        here = curve[(curve["fill"] == "mean") & (curve["growth"] == growth)]
        assert lines(left)["fraction, 95 % interval"][:, 1].tolist() == here["fraction"].tolist()
        assert lines(right)["mean, 95 % interval"][:, 1].tolist() == here["score"].tolist()
        unit = "mm" if growth == "euclidean" else "dilations"
        first = f"95 % of plateau first: {plateau} {unit} (1.5 to {plateau + 1})"
        last = f"for good: {plateau + 1} {unit} (2.5 to not reached)"
        for label, step in ((first, plateau), (last, plateau + 1)):
            assert lines(left)[label][:, 0].tolist() == lines(right)[label][:, 0].tolist() == [step] * 2
        one = responses[
            (responses["fill"] == "mean") & (responses["growth"] == growth) & (responses["scan"] == "sub-2")
        ]
        assert one["score"].tolist() in [np.asarray(line.get_ydata()).tolist() for line in right.get_lines()]


def test_censored_crossings_and_curves_without_variation_are_said_to_be():
    def names(plateau):
        return {name for name in lines(plot_context(*tables(plateau)).axes[0]) if "plateau" in name or "good" in name}

    assert names(np.nan) == {"95 % of plateau: no variation"}
    responses, curve, overall = tables(np.nan)
    flat = plot_context(responses, curve, overall.assign(plateau=0.0))
    assert "no plateau" in lines(flat.axes[0])
    assert "95 % of plateau first: at most 0 mm (1.5 to 4)" in names(0.0)
    assert names(np.inf) == {
        "95 % of plateau first: not reached (1.5 to 4)",
        "for good: not reached (2.5 to not reached)",
    }


NOWHERE = dict.fromkeys(("first", "low_first", "high_first", "last", "low_last", "high_last"), np.inf)


@pytest.mark.parametrize(
    "crossings",
    [
        NOWHERE,
        NOWHERE | {"first": 12.0, "low_first": 10.975, "last": 14.0, "low_last": 12.975},
        NOWHERE | {"first": 0.0, "low_first": 0.0, "last": 0.0, "low_last": 0.0},  # at most the smallest step
    ],
)
def test_radii_that_are_not_reached_leave_the_panels_their_width(figures, crossings):
    responses, curve, overall = tables()
    fig = plot_context(responses, curve, overall.assign(**crossings))
    assert_fits_the_double_column(fig)
    for ax, usual in zip(fig.axes, figures["context"].axes, strict=True):
        assert ax.get_position().bounds == pytest.approx(usual.get_position().bounds, abs=0.01)
        panel, legend = ax.get_window_extent(), ax.get_legend().get_window_extent()
        assert panel.x0 <= legend.x0 and legend.x1 <= panel.x1
        letter, n = (title.get_window_extent() for title in (ax._left_title, ax.title))
        assert letter.x1 < n.x0


def test_fills_are_told_apart_in_the_curves_and_plateaus(figures):
    fraction, score, plateau = figures["fills"].axes
    _, curve, overall = tables()
    for name in ("mean", "air", "blurred"):
        here = curve[(curve["fill"] == name) & (curve["growth"] == "euclidean")]
        assert lines(fraction)[name][:, 1].tolist() == here["fraction"].tolist()
        assert lines(score)[name][:, 1].tolist() == here["score"].tolist()
    drawn = [(line.get_marker(), *line.get_ydata()) for line in plateau.get_lines()]
    assert drawn[::2] == [("o", 3), ("o", 4), ("o", 5), ("o", 5), ("o", 5), ("o", 5)]  # no further than what was tried
    bars = [bar[:, 1].tolist() for bars in plateau.collections for bar in bars.get_segments()]
    assert bars[:4] == [[1.5, 4], [1.5, 4], [2.5, 5], [2.5, 5]]  # mean: first and for good, of both curves


def test_fills_not_reached_are_arrows_and_those_without_variation_are_left_out():
    assert {line.get_marker() for line in plot_fills(*tables(np.inf)[1:]).axes[2].get_lines()} == {"^"}
    assert not plot_fills(*tables(np.nan)[1:]).axes[2].get_lines()
    _, curve, overall = tables()
    overall.loc[overall["curve"] == "fraction", "last"] = np.inf  # the mean score after it is reached
    drawn = [line.get_marker() for line in plot_fills(curve, overall).axes[2].get_lines()]
    assert drawn == ["o", "o", "^", "o"] * 3


def test_radii_are_drawn_against_places_and_reaches(figures):
    lesions, _, _ = radii()
    axes = figures["radii"].axes
    for ax, name in zip(axes[:4], PLACES, strict=True):
        assert ax.get_lines()[0].get_xydata().tolist() == lesions[[name, "radius95_mm"]].to_numpy().tolist()
        assert ax.get_title("right") == "ρ −0.25 (−0.50 to 0.12)"
    for (scatter, difference), name in zip((axes[4:6], axes[6:8]), REACHES, strict=True):
        assert scatter.get_lines()[1].get_xydata().tolist() == lesions[["radius95_mm", name]].to_numpy().tolist()
        np.testing.assert_allclose(difference.get_lines()[0].get_ydata(), lesions[name] - lesions["radius95_mm"])
        assert [line.get_ydata()[0] for line in difference.get_lines()[1:]] == [1.5, -3.0, 6.0]


def test_radii_of_no_lesion_are_said_to_be_none():
    lesions, correlations, agreement = radii()
    fig = plot_radii(lesions.iloc[:0], correlations.assign(rho=np.nan), agreement)
    assert "no lesions" in fig.texts[0].get_text()


def test_lesions_without_a_radius_are_drawn_as_none():
    lesions, correlations, agreement = radii()
    fig = plot_radii(lesions.assign(radius95_mm=np.nan), correlations, agreement)
    assert "no lesions" in fig.axes[0].texts[0].get_text()


def test_what_one_patient_does_not_tell_is_said_to_be_missing():
    responses, curve, overall = tables()
    nothing = dict.fromkeys(("low_fraction", "high_fraction", "low_score", "high_score"), np.nan)
    left, right, *_ = plot_context(responses, curve.assign(patients=1, **nothing), overall).axes
    assert "fraction, no intervals: too few patients" in lines(left)
    assert right.get_title() == "n = 2 lesions, 1 patient"
    lesions, correlations, agreement = radii()
    none = {"lesions": 2, "rho": np.nan, "low": np.nan, "high": np.nan}
    fig = plot_radii(lesions, correlations.assign(**none), agreement.assign(**none | {"rho": 0.5}))
    assert [ax.get_title("right") for ax in fig.axes[3:5]] == ["no ρ, n = 2", "ρ 0.50, no interval"]


def test_a_network_that_sees_all_has_no_farthest_voxel():
    lesions = radii()[0].assign(**dict.fromkeys(FIELDS, 12.0))
    for field, said in ((12.0, False), (np.inf, True)):
        fig = plot_fields(tables()[1], lesions.assign(field_mm=field))
        assert ("all that the network is given" in [text.get_text() for text in fig.axes[1].texts]) is said
    fig = plot_fields(tables()[1], lesions.assign(most_flair_mm=np.nan))
    assert [text.get_text() for text in fig.axes[1].texts] == ["not within the radii tried"]
