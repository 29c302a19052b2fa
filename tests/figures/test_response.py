"""Figures of responses: lines, bands and marks are those of the tables, at journal width, with units."""

import numpy as np
import pandas as pd
import pytest
from drawn import assert_fits_the_double_column, assert_says_the_unit, lines

from lib.figures.response import plot_changes, plot_places, plot_response


def response():
    rows = []
    for sequences in ("FLAIR", "MPRAGE", "both"):
        for diameter in (3.0, 6.0):
            for contrast in (0.0, 1.0, 2.0):
                p = diameter * contrast / (20 if sequences == "both" else 30)
                row = {"diameter_mm": diameter, "contrast": contrast, "sequences": sequences, "n": 8, "n_explained": 4}
                row |= {"score": p / 3, "low_score": p / 4, "high_score": p / 2}
                row |= {"peak_flair": 5 * p, "low_peak_flair": 4 * p, "high_peak_flair": 6 * p}
                rows.append(row | {"peak_mprage": -p, "low_peak_mprage": -2 * p, "high_peak_mprage": -p / 2})
    return pd.DataFrame(rows)


def changes():
    rows = [
        (f"sub-{i % 3}", str(i % 3), i, kind, change, score > 0.3, score, 5 * score, -score)
        for kind, factor in (("TP", 1), ("FN", 0.3), ("TN", 0.1))
        for i in range(6)
        for change, score in (
            ("none", factor * (0.8 + i / 50)),
            ("FLAIR removed", 0.1),
            ("moved to grey matter", factor * (0.5 - i / 20)),
        )
    ]
    columns = ["scan", "subject", "label", "kind", "change", "detected", "score", "peak_flair", "peak_mprage"]
    table = pd.DataFrame(rows, columns=columns)
    table.loc[table["kind"] != "TP", ["peak_flair", "peak_mprage"]] = np.nan
    return table


def recall():
    rows = [
        (sequences, "0.75, 1", place, height, 0.1 * i + 0.2 * j, 0.05 * i, 0.4 + 0.1 * i + 0.2 * j, 3 + i, 4)
        for sequences in ("FLAIR", "both")
        for i, place in enumerate(("all", "periventricular", "deep or infratentorial"))
        for j, height in enumerate(("all", "lower third", "upper third"))
    ]
    names = ["sequences", "contrasts", "place", "height", "value", "low", "high", "lesions", "patients"]
    return pd.DataFrame(rows, columns=names)


FIGURES = {
    "places": lambda: plot_places(recall()),
    "synthetic_response": lambda: plot_response(response(), {"FLAIR": 1.2, "MPRAGE": 0.7}),
    "changes": lambda: plot_changes(changes(), np.random.default_rng(0)),
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
        ("synthetic_response", {"contrast (z-score)", "peak saliency (logit per z-score)"}),
        ("places", {"detected (fraction)"}),
        ("changes", {"detected (fraction)", "FLAIR peak saliency\n(logit per z-score)"}),
    ],
)
def test_axes_carry_units(figures, name, units):
    labels = {label for ax in figures[name].axes for label in (ax.get_xlabel(), ax.get_ylabel())}
    assert units <= labels


def test_the_unit_is_that_of_the_network():
    unit = "log-odds per z-score"
    for figure in (plot_response(response(), {}, unit), plot_changes(changes(), np.random.default_rng(0), unit)):
        assert_says_the_unit(figure, f"({unit})")


def test_response_has_a_column_a_sequence_and_a_line_a_diameter(figures):
    table = response()
    axes = np.array(figures["synthetic_response"].axes).reshape(2, 3)
    for column, sequences in zip(axes.T, ("FLAIR", "MPRAGE", "both"), strict=True):
        rows = table[(table["sequences"] == sequences) & (table["diameter_mm"] == 6)]
        assert lines(column[0])["6 mm"] == pytest.approx(rows[["contrast", "score"]].to_numpy())
        flair, mprage = column[1].get_lines()[2:4]  # of 6 mm
        assert flair.get_ydata().tolist() == rows["peak_flair"].tolist()
        assert mprage.get_ydata().tolist() == rows["peak_mprage"].tolist() and mprage.get_linestyle() == "--"
    marks = [[x[0, 0] for name, x in lines(ax).items() if name.startswith("annotated")] for ax in axes[0]]
    assert marks == [[1.2], [0.7], [1.2, 0.7]]
    assert [ax.get_title() for ax in axes[:, 0]] == ["FLAIR only, n = 8", "n = 4"]


def test_response_joins_the_contrasts_at_which_saliency_was_computed():
    table = response()
    table.loc[table["contrast"] == 1, "n_explained"] = 0
    drawn = plot_response(table, {}).axes[3].get_lines()[0]
    assert np.asarray(drawn.get_xdata()).tolist() == [0.0, 2.0]


def test_response_without_saliency_has_no_empty_row():
    assert len(plot_response(response().assign(n_explained=0), {}).axes) == 3


def test_places_have_a_panel_for_each_choice_of_sequences_and_a_dot_for_each_height(figures):
    first, second = figures["places"].axes
    assert [ax.get_title() for ax in (first, second)] == [
        "FLAIR only\n0.75, 1 z-scores",
        "FLAIR and MPRAGE\n0.75, 1 z-scores",
    ]
    shown = lines(second)
    assert shown["all"][:, 0] == pytest.approx([0, 0.1, 0.2]) and shown["upper third"][:, 0] == pytest.approx(
        [0.4, 0.5, 0.6]
    )
    assert len(shown["middle third"]) == 0
    assert [text.get_text() for text in first.texts[:3]] == ["3", "4", "5"]
    assert [text.get_text() for text in plot_places(recall()[:0]).texts] == ["no lesions: nothing to show"]


def test_changes_pair_lesions_and_put_the_mean_inside_its_interval(figures):
    table = changes().query("kind == 'TP'")
    score, order = figures["changes"].axes[1], ["none", "FLAIR removed", "moved to grey matter"]
    first = table[table["label"] == 2].set_index("change")["score"]
    paired = {tuple(line.get_xdata()): tuple(line.get_ydata()) for line in score.get_lines()}
    assert paired[tuple(first[order])] == tuple(lines(score)["TP"][:, 1])  # through the heights of their dots
    means = table.groupby("change")["score"].mean()
    drawn, bars = lines(score)["TP"][:, 0], score.collections[0].get_segments()
    assert drawn == pytest.approx(means[order])
    low, high = bars[2][:, 0]
    assert low < means["moved to grey matter"] < high


def test_missed_lesions_and_healthy_tissue_stand_beside_without_saliency(figures):
    table, (detected, score, *peaks) = changes(), figures["changes"].axes
    for kind in ("TP", "FN", "TN"):
        means = table[table["kind"] == kind].groupby("change")["score"].mean()
        assert lines(score)[kind][:, 0] == pytest.approx(means[["none", "FLAIR removed", "moved to grey matter"]])
        assert np.ptp(lines(detected)[kind][:, 1] - np.arange(3)) < 1e-9  # side by side
    assert all(np.isnan(lines(ax)[kind][:, 0]).all() for ax in peaks for kind in ("FN", "TN"))
    assert detected.get_yticklabels()[0].get_text() == "none\nn = 6, 6, 6"


def test_changes_that_were_not_explained_have_no_panel_of_saliency():
    changes = pd.DataFrame(
        {"subject": ["a", "b"] * 2, "scan": "s", "label": 1, "kind": "TP", "detected": True, "score": 0.5}
    )
    changes = changes.assign(change=["none"] * 2 + ["FLAIR removed"] * 2, peak_flair=np.nan, peak_mprage=np.nan)
    fig = plot_changes(changes, np.random.default_rng(0))
    assert [ax.get_xlabel() for ax in fig.axes] == ["detected (fraction)", "mean lesion probability"]
