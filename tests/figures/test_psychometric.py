"""The figure of psychometric curves draws what the tables hold, and an arrow where one half is not reached."""

import numpy as np
import pandas as pd
import pytest
from drawn import assert_fits_the_double_column, lines

from lib.figures.psychometric import PARAMETERS, plot_psychometric
from lib.statistics.psychometric import detection_curve

DEEP, CORTEX = "deep white matter", "beside cortex"


def tables(places=(DEEP, CORTEX)):
    response, curves, smallest = [], [], []
    for place in places:
        for sequences in ("FLAIR", "MPRAGE", "both"):
            for diameter in (3.0, 5.0, 8.0) if place == DEEP else (5.0,):
                midpoint = 4.0 if sequences == "MPRAGE" else 6 / diameter
                for contrast in (0.0, 1.0, 2.0, 3.0):
                    p = detection_curve(contrast, midpoint, 0.3, 0, 0)
                    response.append((place, sequences, diameter, contrast, p, max(p - 0.1, 0), min(p + 0.2, 1)))
                half = (np.inf, 2.5, np.inf) if sequences == "MPRAGE" else (midpoint, midpoint - 0.2, midpoint + 0.4)
                bracket = (half[0], half[0]) if diameter != 5 else (half[0] - 0.5, half[0] + 0.5)
                curves.append((place, sequences, diameter, 32, *half, *bracket, 0.0, 3.0, midpoint, 0.3, 0, 0))
            for contrast in (1.0, 2.0, 3.0):
                half = (-np.inf,) * 3 if sequences == "both" else (9 - 2 * contrast, 3.0, 8.0)
                smallest.append((sequences, contrast, *half, half[0], half[0], 3.0, 8.0))
    response = pd.DataFrame(response, columns=["surroundings", "sequences", "diameter_mm", "contrast", "detected",
                                               "low_detected", "high_detected"])  # fmt: skip
    names = ["contrast50", "low", "high", "bracket_low", "bracket_high", "first", "last", *PARAMETERS]
    curves = pd.DataFrame(curves, columns=["surroundings", "sequences", "diameter_mm", "n", *names])
    smallest = pd.DataFrame(smallest, columns=["sequences", "contrast", "diameter50_mm", *names[1:7]])
    return response, curves, smallest.drop_duplicates()


@pytest.fixture(scope="module")
def figure():
    return plot_psychometric(*tables(), {"FLAIR": 1.2, "MPRAGE": 0.7})


def test_fits_the_double_column(figure):
    assert_fits_the_double_column(figure)
    labels = {label for ax in figure.axes for label in (ax.get_xlabel(), ax.get_ylabel())}
    assert {"contrast (z-score)", "detected (fraction)", "diameter (mm)", "diameter at 50 % (mm)"} <= labels


def test_curves_and_points_are_those_of_the_tables(figure):
    response, curves, _ = tables()
    by_diameter, by_surroundings = figure.axes[2], figure.axes[5]  # both sequences
    curve = curves.query("surroundings == @DEEP and sequences == 'both' and diameter_mm == 8").iloc[0]
    drawn = lines(by_diameter)["8 mm, n = 32"]
    assert (drawn[0, 0], drawn[-1, 0]) == (0, 3)  # no further than what was tried
    np.testing.assert_allclose(drawn[:, 1], detection_curve(drawn[:, 0], *curve[PARAMETERS]))
    assert {"deep white matter, n = 32", "beside cortex, n = 32"} <= set(lines(by_surroundings))
    points = response.query("surroundings == @CORTEX and sequences == 'both'")
    shares = [line.get_ydata().tolist() for line in by_surroundings.get_lines() if line.get_marker() == "o"]
    assert points["detected"].tolist() in shares
    bars = [part for bars in by_surroundings.collections for part in bars.get_segments()]
    assert any(bar[:, 1] == pytest.approx(points[["low_detected", "high_detected"]].iloc[2]) for bar in bars)
    marks = [x[0, 0] for name, x in lines(by_diameter).items() if name.startswith("annotated")]
    assert marks == [1.2, 0.7]


def test_half_levels_beyond_the_range_are_arrows_at_its_end(figure):
    contrast, size, place = figure.axes[6:9]
    _, curves, _ = tables()
    flair = curves.query("surroundings == @DEEP and sequences == 'FLAIR'")
    np.testing.assert_allclose(lines(contrast)["FLAIR only"][:, 1], flair["contrast50"])
    up = [line.get_xydata() for line in contrast.get_lines() if line.get_marker() == "^" and len(line.get_xydata())]
    down = [line.get_xydata() for line in size.get_lines() if line.get_marker() == "v" and len(line.get_xydata())]
    assert len(up) == 1 and (up[0][:, 1] == 3).all() and len(up[0]) == 3  # MPRAGE, every diameter
    assert len(down) == 1 and (down[0][:, 1] == 3).all()  # both sequences, every contrast
    assert [text.get_text() for text in place.get_xticklabels()] == ["deep\nwhite matter", "beside\ncortex"]
    assert np.isfinite([bar for bars in contrast.collections for bar in bars.get_segments()]).all()


def test_half_levels_known_only_between_two_levels_are_open_dots(figure):
    contrast, size, _ = figure.axes[6:9]
    flair, both = (
        line.get_xydata()
        for line in contrast.get_lines()
        if line.get_markerfacecolor() == "white" and len(line.get_xydata())
    )
    assert (flair[0, 1], both[0, 1]) == (1.2, 1.2) and len(flair) == len(both) == 1  # of 5 mm
    assert not any(line.get_markerfacecolor() == "white" and len(line.get_xydata()) for line in size.get_lines())


def test_without_other_surroundings_their_panels_are_left_out():
    assert len(plot_psychometric(*tables((DEEP,)), {"FLAIR": 1.2, "MPRAGE": 0.7}).axes) == 5
