"""Figures of notebook 4: what is drawn is what the tables say, at journal width, with units."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from drawn import assert_fits_the_double_column, assert_says_the_unit, lines
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import same_color

from lib.figures.saliency import ESTIMATE_COLOURS, MEASURES, plot_orders, plot_peaks, plot_profiles, plot_proxy
from lib.statistics.comparisons import pairwise_tests
from lib.statistics.kinds import KINDS

PANELS = [(method, sequence) for method in ("smoothgrad_max", "smoothgrad_mean") for sequence in ("FLAIR", "MPRAGE")]
PANELS.append(("grad_cam", "both"))
COUNTS = {"TP": 6, "FP": 5, "FN": 4, "TN": 6, "TN grey": 3}


def saliency(counts, panels=PANELS):
    rng = np.random.default_rng(3)
    rows = [
        (method, sequence, kind, str(i % 3), rng.normal(level, 1), 5.0 + i, (level + i) / 20)
        for method, sequence in panels
        for level, (kind, n) in enumerate(counts.items())
        for i in range(n)
    ]
    names = ["method", "sequence", "kind", "subject", "peak", "volume_mm3", "mean_probability"]
    return pd.DataFrame(rows, columns=names)


def compared(table):
    return pd.concat(
        pairwise_tests(rows, "peak", "kind", KINDS).assign(
            method=method, sequence=sequence, measure="peak", scaling="raw"
        )
        for (method, sequence), rows in table.groupby(["method", "sequence"])
    )


def profile():
    distance = np.arange(-2.5, 5)
    tables = []
    for panel, (method, sequence) in enumerate(PANELS):
        for k, kind in enumerate(KINDS[:3]):
            facts = {"method": method, "sequence": sequence, "kind": kind, "lesions": 4, "patients": 2}
            mean = np.cos(distance + k) * (panel + 1)
            facts |= {"distance_mm": distance, "mean": mean, "low": mean - 0.1, "high": mean + 0.2}
            tables.append(pd.DataFrame(facts))
    return pd.concat(tables)


def clustered():
    generator, rows = np.random.default_rng(0), []
    for sequence in ("FLAIR", "MPRAGE"):
        for measure in MEASURES:
            for scaling in ("raw", "scaled"):
                rows += [
                    (sequence, measure, scaling, a, b, generator.uniform(-1, 1)) for a, b in combinations(KINDS, 2)
                ]
    table = pd.DataFrame(rows, columns=["sequence", "measure", "scaling", "a", "b", "delta"])
    table = table.assign(method="smoothgrad_max", delta_low=table["delta"] - 0.1, delta_high=table["delta"] + 0.1)
    for name in ("difference", "adjusted"):
        value = generator.normal(size=len(table))
        table = table.assign(**{name: value, f"{name}_low": value - 0.2, f"{name}_high": value + 0.2})
    few = table[table["measure"] == "peak"]
    return pd.concat([table, few.assign(method="smoothgrad_few", difference=few["difference"] / 2)])


def matched():
    rows = [
        ("FLAIR", name, a, b, 0.1 * i)
        for name in ("volume", "volume and probability")
        for i, (a, b) in enumerate(combinations(KINDS, 2))
    ]
    table = pd.DataFrame(rows, columns=["sequence", "matched_on", "a", "b", "difference"])
    table.loc[table["b"] == "FN", "difference"] = np.nan  # no pair
    return table.assign(method="smoothgrad_max", low=table["difference"] - 0.3, high=table["difference"] + 0.3)


def peaks(panels=PANELS, **counts):
    table = saliency(counts, panels)
    return plot_peaks(table, compared(table))


FIGURES = {
    "peaks": lambda: peaks(**COUNTS),
    "profile": lambda: plot_profiles(profile()),
    "orders": lambda: plot_orders(saliency(COUNTS), clustered()),
    "proxy": lambda: plot_proxy(saliency(COUNTS), clustered(), matched()),
}


@pytest.fixture(scope="module")
def figures():
    return {name: draw() for name, draw in FIGURES.items()}


def dots(ax, colour=None):
    """Where the points (of a colour) lie, from the lowest y to the highest, (n, 2)."""
    (found,) = (one for one in ax.collections if isinstance(one, PathCollection))
    places = np.asarray(found.get_offsets())
    if colour:
        places = places[[same_color(face, colour) for face in found.get_facecolor()]]
    return places[places[:, 1].argsort()]


@pytest.mark.parametrize("name", FIGURES)
def test_fits_the_double_column_with_legible_type(figures, name):
    assert_fits_the_double_column(figures[name])


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("peaks", {"peak saliency (logit per z-score)", "peak saliency (a.u.)"}),
        ("profile", {"distance from lesion border (mm)", "mean saliency (logit per z-score)"}),
        ("proxy", {"volume (mm³)", "FLAIR peak (logit per z-score)"}),
    ],
)
def test_axes_carry_units(figures, name, units):
    labels = {label for ax in figures[name].axes for label in (ax.get_xlabel(), ax.get_ylabel())}
    assert units <= labels


@pytest.mark.parametrize(
    "draw",
    [
        lambda unit: plot_peaks(saliency(COUNTS), compared(saliency(COUNTS)), unit),
        lambda unit: plot_profiles(profile(), unit),
        lambda unit: plot_proxy(saliency(COUNTS), clustered(), matched(), unit),
    ],
    ids=["peaks", "profile", "proxy"],
)
def test_the_unit_is_that_of_the_network(draw):
    assert_says_the_unit(draw("log-odds per z-score"), "(log-odds per z-score)")


def test_peaks_are_those_of_the_table_and_n_is_shown(figures):
    table = saliency(COUNTS)
    ax = figures["peaks"].axes[0]
    here = table[(table["method"] == "smoothgrad_max") & (table["sequence"] == "FLAIR")]
    x, y = dots(ax).T
    for place, kind in enumerate(KINDS):
        assert sorted(y[x.round() == place]) == sorted(here.loc[here["kind"] == kind, "peak"])
    many = [place for place, kind in enumerate(KINDS) if COUNTS[kind] > 4]
    violins = [body.get_paths()[0].vertices[:, 0].mean() for body in ax.collections[: len(many)]]
    assert violins == pytest.approx(many, abs=0.01)
    medians = [line[0, 1] for line in ax.collections[-1].get_segments()]
    assert medians == pytest.approx(here.groupby("kind")["peak"].median()[list(KINDS)].tolist())
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["TP\n6 (3)", "FP\n5 (3)", "FN\n4 (3)", "TN\n6 (3)", "TN grey\n3 (3)"]


def test_sequences_of_one_method_share_their_scale(figures):
    flair, mprage = figures["peaks"].axes[:2]
    assert flair.get_ylim() == mprage.get_ylim()


def bars_of(fig, panel=0):
    return [text.get_text() for text in fig.axes[panel].child_axes[0].texts]


def test_significance_bars_show_the_given_holm_values_of_raw_peaks():
    table = saliency({"TP": 3, "FP": 3, "FN": 3}, PANELS[4:])
    tests = compared(table)
    p = {("TP", "FP"): 0.00005, ("TP", "FN"): 0.02, ("FP", "FN"): 0.5}
    tests["p_holm"] = [p.get(pair, np.nan) for pair in zip(tests["a"], tests["b"], strict=True)]
    other = pd.concat([tests.assign(scaling="scaled", p_holm=0.001), tests.assign(measure="contrast", p_holm=0.001)])
    assert sorted(bars_of(plot_peaks(table, pd.concat([tests, other])))) == ["*", "****", "ns"]


def test_grey_matter_is_compared_with_white_matter_alone(figures):
    assert len(bars_of(figures["peaks"])) == 6 + 1


def test_drawing_significance_bars_prints_nothing(capsys):
    peaks(PANELS[4:], TP=3, FP=3)
    assert capsys.readouterr().out == ""


def test_a_missing_kind_and_a_single_lesion_keep_their_places():
    fig = peaks(PANELS[:2], TP=6, FP=1, TN=2)
    labels = [label.get_text() for label in fig.axes[0].get_xticklabels()]
    assert labels == ["TP\n6 (3)", "FP\n1 (1)", "FN\n0 (0)", "TN\n2 (2)", "TN grey\n0 (0)"]
    assert len(bars_of(fig)) == 3  # no bar to the missing kind


def test_profile_lines_and_bands_are_those_of_the_table(figures):
    table = profile()
    for ax, (method, sequence) in zip(figures["profile"].axes, PANELS, strict=True):
        rows = table[(table["method"] == method) & (table["sequence"] == sequence)]
        for kind in KINDS[:3]:
            here = rows[rows["kind"] == kind]
            drawn = lines(ax)[f"{kind}, 4 lesions of 2 patients"]
            assert drawn == pytest.approx(here[["distance_mm", "mean"]].to_numpy())
        band = ax.collections[0].get_paths()[0].vertices[:, 1]
        first = rows[rows["kind"] == "TP"]
        assert (band.min(), band.max()) == pytest.approx((first["low"].min(), first["high"].max()))


def test_shells_of_few_lesions_are_not_drawn():
    table = profile()
    few = (table["kind"] == "FP") & (table["distance_mm"] < -1)
    fig = plot_profiles(table.assign(lesions=np.where(few, 1, 4)))
    for ax in fig.axes[: len(PANELS)]:
        drawn = lines(ax)
        assert drawn["FP, 4 lesions of 2 patients"][:, 0].min() == -0.5
        assert drawn["TP, 4 lesions of 2 patients"][:, 0].min() == -2.5


def test_insets_hold_what_lies_beyond_at_a_scale_of_its_own(figures):
    flair, *_, cam = figures["profile"].axes
    (inset,) = flair.child_axes
    drawn = lines(inset)["TP, 4 lesions of 2 patients"]
    table = profile().query("method == 'smoothgrad_max' and sequence == 'FLAIR' and kind == 'TP'")
    expected = table[table["distance_mm"] > 2]
    assert drawn == pytest.approx(expected[["distance_mm", "mean"]].to_numpy())
    assert not cam.child_axes


def test_orders_show_every_delta_with_its_interval_raw_and_scaled(figures):
    table, axes = clustered().query("method == 'smoothgrad_max'"), figures["orders"].axes
    assert [ax.get_title() for ax in axes[::6]] == ["FLAIR\npeak", "MPRAGE\npeak"]
    for ax, (sequence, measure) in zip(axes, [(s, m) for s in ("FLAIR", "MPRAGE") for m in MEASURES], strict=True):
        here = table[(table["sequence"] == sequence) & (table["measure"] == measure)]
        (bars,) = (one for one in ax.collections if isinstance(one, LineCollection))
        bars = sorted(bars.get_segments(), key=lambda bar: bar[0, 1])  # raw and scaled by turns
        for place, (scaling, colour) in enumerate((("raw", "black"), ("scaled", "white"))):
            one = here[here["scaling"] == scaling]
            np.testing.assert_array_equal(dots(ax, colour)[:, 0], one["delta"])
            ends = np.array([bar[:, 0] for bar in bars[place::2]])
            np.testing.assert_allclose(ends, one[["delta_low", "delta_high"]])
    assert [label.get_text() for label in axes[0].get_yticklabels()][:2] == ["TP over FP", "TP over FN"]
    (legend,) = figures["orders"].legends
    assert legend.get_title().get_text() == "n = 6 TP, 5 FP, 4 FN, 6 TN, 3 TN grey of 3 patients"


def test_proxy_shows_flair_peaks_and_each_estimate_of_the_difference(figures):
    size, probability, forest = figures["proxy"].axes
    table = saliency(COUNTS).query("method == 'smoothgrad_max' and sequence == 'FLAIR'")
    for kind in KINDS:
        here = table[table["kind"] == kind]
        np.testing.assert_array_equal(lines(size)[kind], here[["volume_mm3", "peak"]])
        np.testing.assert_array_equal(lines(probability)[kind], here[["mean_probability", "peak"]])
    raw = clustered().query("sequence == 'FLAIR' and measure == 'peak' and scaling == 'raw'")
    few, raw = (raw[raw["method"] == name] for name in ("smoothgrad_few", "smoothgrad_max"))
    np.testing.assert_array_equal(dots(forest, ESTIMATE_COLOURS["as many voxels of each"])[:, 0], few["difference"])
    np.testing.assert_array_equal(dots(forest, ESTIMATE_COLOURS["all lesions"])[:, 0], raw["difference"])
    np.testing.assert_array_equal(dots(forest, ESTIMATE_COLOURS["adjusted"])[:, 0], raw["adjusted"])
    for name in ("volume", "volume and probability"):
        expected = matched().query(f"matched_on == '{name}'")["difference"].dropna()  # nothing where there is no pair
        np.testing.assert_array_equal(dots(forest, ESTIMATE_COLOURS[f"pairs matched in {name}"])[:, 0], expected)


def test_proxy_of_a_network_of_t1w_alone_shows_the_peaks_in_it():
    tables = [table.copy() for table in (saliency(COUNTS), clustered(), matched())]
    tables[2] = pd.concat([tables[2].assign(difference=0.0, low=0.0, high=0.0), tables[2].assign(sequence="MPRAGE")])
    for table, names in zip(tables[:2], (["peak"], ["difference", "adjusted"]), strict=True):
        table.loc[table["sequence"] == "FLAIR", [name for name in table if name.startswith(tuple(names))]] = 0.0
    size, probability, forest = plot_proxy(*tables, "a unit", "MPRAGE").axes
    here = tables[0].query("method == 'smoothgrad_max' and sequence == 'MPRAGE' and kind == 'TP'")
    np.testing.assert_array_equal(lines(size)["TP"], here[["volume_mm3", "peak"]])
    np.testing.assert_array_equal(lines(probability)["TP"], here[["mean_probability", "peak"]])
    raw = tables[1].query(
        "sequence == 'MPRAGE' and measure == 'peak' and scaling == 'raw' and method == 'smoothgrad_max'"
    )
    np.testing.assert_array_equal(dots(forest, ESTIMATE_COLOURS["all lesions"])[:, 0], raw["difference"])
    pairs = tables[2].query("sequence == 'MPRAGE' and matched_on == 'volume'")["difference"].dropna()
    np.testing.assert_array_equal(dots(forest, ESTIMATE_COLOURS["pairs matched in volume"])[:, 0], pairs)
    labels = size.get_ylabel(), forest.get_xlabel()
    assert labels == ("MPRAGE peak (a unit)", "difference of MPRAGE peaks (a unit)")


def test_peaks_of_zero_are_drawn():
    table = saliency({"TP": 6, "FN": 1}).assign(peak=0.0)
    fig = plot_peaks(table, compared(table))
    assert (dots(fig.axes[0])[:, 1] == 0).all()


def test_differences_that_no_pair_of_kinds_has_are_said_to_be_none():
    numbers = dict.fromkeys(("difference", "adjusted"), np.nan)
    fig = plot_proxy(saliency({"TP": 2}), clustered().assign(**numbers), matched().assign(difference=np.nan))
    assert "no lesions" in fig.axes[2].texts[0].get_text()


def test_an_arrow_stands_where_an_interval_leaves_its_panel():
    def arrows(table):
        forest = plot_proxy(saliency(COUNTS), table, matched()).axes[2]
        return sorted(line.get_marker() for line in forest.lines if line.get_marker() in ("<", ">"))

    within = clustered()["difference"]
    inside = clustered().assign(adjusted=within, adjusted_low=within, adjusted_high=within)
    judged = inside.query(
        "method == 'smoothgrad_max' and sequence == 'FLAIR' and scaling == 'raw' and measure == 'peak'"
    )
    assert arrows(inside) == []
    assert arrows(inside.assign(adjusted_high=1e3)) == [">"] * len(judged)
    assert arrows(inside.assign(adjusted_low=-1e3)) == ["<"] * len(judged)
