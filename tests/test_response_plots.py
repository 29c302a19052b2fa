"""Figures of responses: lines, bands and marks are those of the tables, at journal width, with units."""

import numpy as np
import pandas as pd
import pytest

from lib import response_plots


def response():
    rows = []
    for sequences in ("FLAIR", "MPRAGE", "both"):
        for diameter in (3.0, 6.0):
            for contrast in (0.0, 1.0, 2.0):
                p = diameter * contrast / (20 if sequences == "both" else 30)
                rows.append((diameter, contrast, sequences, 8, p, p / 2, p + 0.1, p / 3, p / 4, p / 2, 5 * p, -p))
    columns = ["diameter_mm", "contrast", "sequences", "n", "detected", "low_detected", "high_detected"]
    columns += ["score", "low_score", "high_score", "peak_flair", "peak_mprage"]
    return pd.DataFrame(rows, columns=columns)


def changes():
    rows = [
        (f"sub-{i % 3}", str(i % 3), i, change, score > 0.3, score, 5 * score, -score)
        for i in range(6)
        for change, score in (("none", 0.8 + i / 50), ("FLAIR removed", 0.1), ("moved to grey matter", 0.5 - i / 20))
    ]
    columns = ["scan", "subject", "label", "change", "detected", "score", "peak_flair", "peak_mprage"]
    return pd.DataFrame(rows, columns=columns)


def context(plateau=(3.0, 4.0)):
    radius = np.arange(1.0, 6.0)
    one = {"radius_mm": radius, "label": 1}
    lesions = pd.concat(
        pd.DataFrame(one | {"scan": s, "score": radius * k}) for s, k in (("sub-1", 0.1), ("sub-2", 0.2))
    )
    curve = pd.DataFrame({"radius_mm": radius, "lesions": 2, "patients": 2, "fraction": [0, 0, 0.5, 1, 1]})
    curve = curve.assign(low_fraction=0.0, high_fraction=1.0, score=radius * 0.15, sd_score=0.05)
    curve = curve.assign(low_score=radius * 0.1, high_score=radius * 0.2)
    table = pd.DataFrame({"scan": ["sub-1", "all", "all"], "label": ["1", "fraction", "score"]})
    return lesions, curve, table.assign(radius95_mm=[2.0, *plateau], low=[np.nan, 2.5, 3.0], high=[np.nan, 4.0, 5.0])


FIGURES = {
    "synthetic_response": lambda: response_plots.synthetic_response(response(), {"FLAIR": 1.2, "MPRAGE": 0.7}),
    "changes": lambda: response_plots.changes(changes(), np.random.default_rng(0)),
    "context": lambda: response_plots.context(*context()),
}


@pytest.fixture(scope="module")
def figures():
    return {name: draw() for name, draw in FIGURES.items()}


def lines(ax):
    return {line.get_label(): line.get_xydata() for line in ax.get_lines()}


@pytest.mark.parametrize("name", FIGURES)
def test_fits_the_double_column(figures, name):
    fig = figures[name]
    assert fig.get_size_inches()[0] * 25.4 == pytest.approx(183)
    box = fig.get_tightbbox()
    assert box.x0 >= -0.01 and box.x1 <= 183 / 25.4 + 0.01  # nothing is cut off at the sides


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("synthetic_response", {"contrast added to FLAIR (z-score)", "peak saliency (logit per z-score)"}),
        ("changes", {"detected (fraction)", "FLAIR peak saliency\n(logit per z-score)"}),
        ("context", {"perilesional tissue kept (mm from the lesion)", "detected lesions (fraction)"}),
    ],
)
def test_axes_carry_units(figures, name, units):
    labels = {label for ax in figures[name].axes for label in (ax.get_xlabel(), ax.get_ylabel())}
    assert units <= labels


def test_response_has_a_column_a_sequence_and_a_line_a_diameter(figures):
    table = response()
    axes = np.array(figures["synthetic_response"].axes).reshape(3, 3)
    for column, sequences in zip(axes.T, ("FLAIR", "MPRAGE", "both"), strict=True):
        for ax, quantity in zip(column[:2], ("detected", "score"), strict=True):
            rows = table[(table["sequences"] == sequences) & (table["diameter_mm"] == 6)]
            assert lines(ax)["diameter 6 mm"] == pytest.approx(rows[["contrast", quantity]].to_numpy())
    marks = [[x[0, 0] for name, x in lines(ax).items() if name.startswith("annotated")] for ax in axes[0]]
    assert marks == [[1.2], [0.7], [1.2, 0.7]]


def test_response_joins_the_contrasts_at_which_saliency_was_computed():
    table = response()
    table.loc[table["contrast"] == 1, ["peak_flair", "peak_mprage"]] = np.nan
    drawn = response_plots.synthetic_response(table).axes[6].get_lines()[0]
    assert np.asarray(drawn.get_xdata()).tolist() == [0.0, 2.0]


def test_response_without_saliency_has_no_empty_row():
    table = response().assign(peak_flair=np.nan, peak_mprage=np.nan)
    assert len(response_plots.synthetic_response(table).axes) == 6


def test_changes_pair_lesions_and_put_the_mean_inside_its_interval(figures):
    table = changes()
    score = figures["changes"].axes[1]
    first = table[table["label"] == 2].set_index("change")["score"]
    paired = [np.asarray(line.get_xdata()).tolist() for line in score.get_lines()]
    assert first[["none", "FLAIR removed", "moved to grey matter"]].tolist() in paired
    means = table.groupby("change")["score"].mean()
    drawn, bars = score.get_lines()[-1].get_xdata(), score.collections[0].get_segments()
    assert drawn == pytest.approx(means[["none", "FLAIR removed", "moved to grey matter"]])
    low, high = bars[2][:, 0]
    assert low < means["moved to grey matter"] < high


def test_context_curves_and_plateaus_are_those_of_the_tables(figures):
    left, right = figures["context"].axes
    lesions, curve, _ = context()
    assert lines(left)["fraction, 95 % interval"][:, 1].tolist() == curve["fraction"].tolist()
    assert lines(right)["mean, 95 % interval"][:, 1].tolist() == curve["score"].tolist()
    assert lines(left)["95 % of plateau: 3 mm (2.5 to 4.0)"][:, 0].tolist() == [3, 3]
    assert lines(right)["95 % of plateau: 4 mm (3.0 to 5.0)"][:, 0].tolist() == [4, 4]
    each = [np.asarray(line.get_ydata()).tolist() for line in right.get_lines()]
    assert lesions.loc[lesions["scan"] == "sub-2", "score"].tolist() in each


def test_context_without_a_plateau_marks_none():
    left, _ = response_plots.context(*context(plateau=(np.nan, 4.0))).axes
    assert not [name for name in lines(left) if "plateau" in name]
