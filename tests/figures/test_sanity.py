import numpy as np
import pandas as pd
import pytest

from lib.errors import COEFFICIENTS, DETECTION
from lib.figures.sanity import SHOWN, nothing_judged, plot_errors, plot_leakage, plot_sanity
from lib.sanity.checks import add_means

LESIONS = (("a", "a_1", 1), ("a", "a_1", 2), ("b", "b_1", 1))


def table(by, groups, lesions=LESIONS):
    """A table of one check: rows of `by` with values that grow from lesion to lesion, and their means."""
    tables = [
        pd.DataFrame([(*group, 0.1 + 0.1 * n + 0.01 * i) for i, group in enumerate(groups)], columns=[*by, "value"])
        for n in range(len(lesions))
    ]
    tables = [
        one.assign(subject=subject, scan=scan, label=label)
        for one, (subject, scan, label) in zip(tables, lesions, strict=True)
    ]
    return add_means(tables, by, n_resamples=50, generator=np.random.default_rng(0))


def tables(lesions=LESIONS):
    where = [(region, of) for region in ("window", "within 3 mm") for of in ("magnitude", "signed")]
    modes, depths = ("cascading", "independent"), (1, 3, 5)
    drawn = [(mode, depth, f"conv{depth}", *rest) for mode in modes for depth in depths for rest in where]
    stable = [(maps, *rest) for maps in ("N, two seeds", "N and 2N") for rest in where]
    curves = [
        (order, mode, of, fraction)
        for order in ("SmoothGrad", "Grad-CAM++", "distance", "random")
        for mode in ("deletion", "insertion")
        for of in ("probability", "logit")
        for fraction in (0.01, 0.1, 1.0)
    ]
    explained = [
        (sequence, region, model)
        for sequence in ("FLAIR", "MPRAGE", "both")
        for region in ("window", "within 3 mm")
        for model in ("mask", "mask + distance", "any profile")
    ]
    maps = [(name, of) for name in ("SmoothGrad", "shuffled", "lesion mask") for of in ("infidelity", "relative")]
    return (
        table(["mode", "depth", "layer", "region", "of"], drawn, lesions),
        table(["maps", "region", "of"], stable, lesions),
        table(["map", "of"], maps, lesions),
        table(["order", "mode", "of", "fraction"], curves, lesions),
        table(["sequence", "region", "model"], explained, lesions),
    )


def mean(table, **names):
    rows = table[table["scan"] == "all"]
    for column, name in names.items():
        rows = rows[rows[column] == name]
    return rows["value"].to_numpy()


def lines(ax):
    return {line.get_label(): line.get_ydata() for line in ax.lines}


def test_every_panel_draws_the_means_of_its_table():
    drawn, stable, unfaithful, curves, explained = tables()
    fig = plot_sanity(drawn, stable, unfaithful, curves, explained)
    cascading, independent, infidelity, deletion, insertion, known = fig.axes
    letters = [ax.get_title(loc="left") for ax in fig.axes]
    assert letters == ["a", "", "b", "c", "", "d"]
    for ax, mode in ((cascading, "cascading"), (independent, "independent")):
        expected = mean(drawn, mode=mode, region="within 3 mm", of="signed")
        np.testing.assert_array_equal(lines(ax)["signed map, within 3 mm"], expected)
    start = mean(stable, maps="N, two seeds", region="window", of="magnitude")
    assert any(list(line.get_xdata()) == [0] and line.get_ydata() == start for line in cascading.lines)
    for ax, mode in ((deletion, "deletion"), (insertion, "insertion")):
        expected = mean(curves, mode=mode, order="Grad-CAM++", of="probability")
        np.testing.assert_array_equal(lines(ax)["Grad-CAM++"], expected)
    assert [label.get_text() for label in infidelity.get_xticklabels()] == ["SmoothGrad", "shuffled", "lesion\nmask"]
    heights = [line.get_ydata()[0] for line in infidelity.lines if len(line.get_ydata()) == 1]
    assert heights == pytest.approx(list(mean(unfaithful, of="relative")))
    assert sum(len(line.get_ydata()) == 3 for line in known.lines) == 3 * 3 * 2
    assert "3 lesions, 2 patients" in fig.get_supxlabel()


def test_one_lesion_has_no_interval_and_none_is_said():
    assert "1 lesion, 1 patient: mean, no intervals" in plot_sanity(*tables(LESIONS[:1])).get_supxlabel()
    fig = plot_sanity(*tables(()))
    assert [text.get_text() for text in fig.texts] == ["no lesions: nothing to show"]


def test_leakage_shows_the_share_and_both_changes_of_every_map():
    groups = [(name, of) for name in ("SmoothGrad", "Grad-CAM++", "lesion mask") for of in ("own", "others", "share")]
    leaked = table(["map", "of"], groups)
    share, change = (fig := plot_leakage(leaked, "log-odds")).axes
    for ax, expected in ((share, ["share"]), (change, ["own", "others"])):
        heights = sorted(line.get_ydata()[0] for line in ax.lines if line.get_marker() == "o")
        assert heights == pytest.approx(sorted(np.concatenate([mean(leaked, of=of) for of in expected])))
    assert "log-odds" in change.get_ylabel()
    assert "3 lesions, 2 patients" in fig.get_supxlabel()
    assert [text.get_text() for text in plot_leakage(leaked[:0], "logit").texts] == ["no lesions: nothing to show"]


SETS = ["probability", "saliency", "all three + saliency"]


@pytest.fixture
def detection():
    measures = {"AUC": 0.8, "AUC within patients": 0.7}
    measures |= {
        f"{rate}, {when}": value for rate, value in (("F1", 0.5), ("PPV", 0.6)) for when in ("before", "after")
    }
    rows = [(name, measure, value + 0.01 * n, value - 0.1, value + 0.1, 0.5, 0.02, 90, 7)
            for n, name in enumerate(SETS) for measure, value in measures.items()]  # fmt: skip
    return pd.DataFrame(rows, columns=DETECTION)


def of_all(n):
    return pd.DataFrame([(SETS[-1], f"x{i}", 0.1 * (i + 1)) for i in range(n)], columns=COEFFICIENTS)


FITTED = pd.DataFrame({"subject": [*"aab", *"bbb"]})


def test_every_set_has_its_auc_and_that_of_shuffled_kinds_and_its_rates(detection):
    a, b, _ = plot_errors(detection, of_all(3), FITTED).axes
    shown = [line.get_xdata() for line in a.lines if len(line.get_xdata()) == 3]
    expected = [[0.8, 0.81, 0.82], [0.5] * 3, [0.7, 0.71, 0.72], [0.5] * 3]
    np.testing.assert_allclose(shown, expected)
    assert [text.get_text() for text in a.get_yticklabels()] == ["probability", "saliency", "all three\n+ saliency"]
    assert len(b.lines) == 4
    assert a.get_legend().get_title().get_text() == "n = 90 lesions, 7 patients"


@pytest.mark.parametrize("n", [0, 3, SHOWN + 2])
def test_the_largest_coefficients_of_the_last_set_are_shown(detection, n):
    c = plot_errors(detection, of_all(n), FITTED).axes[2]
    assert [bar.get_width() for bar in c.patches] == pytest.approx([0.1 * (n - i) for i in range(min(n, SHOWN))])
    assert (f"{SHOWN} of {n}" in c.get_title()) == (n > SHOWN)
    assert c.get_title().endswith("\nn = 6 lesions,\n2 patients")
    assert [text.get_text() for text in c.texts] == ([] if n else ["the penalty leaves\nno predictor"])


def test_without_a_judgement_the_figure_says_why():
    (text,) = nothing_judged("nothing is judged, as it takes two: there is one").texts
    assert text.get_text() == "nothing is judged,\nas it takes two:\nthere is one"
