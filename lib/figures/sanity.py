"""Figures of the checks of saliency maps, and of what they know of errors."""

from itertools import product

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lib.figures.style import (
    DOUBLE_COLUMN_MM,
    KIND_COLOURS,
    ON_TOP,
    SEQUENCE_COLOURS,
    SINGLE_COLUMN_MM,
    draw_bands,
    label_panels,
    new_figure,
    new_panels,
    nothing_to_show,
    rows_of,
    styled,
    with_interval,
)
from lib.statistics import counted, lesions_and_patients

REGION_COLOURS = {"window": "#228833", "within 3 mm": "#aa3377"}
REGION_LINES = ("depth", "value", "region", REGION_COLOURS)
MAPS = {"magnitude": ("|map|", "-", "o"), "signed": ("signed map", "--", "s")}
ORDER_COLOURS = {"SmoothGrad": "#004488", "Grad-CAM++": "#ddaa33", "distance": "#bb5566", "random": "0.5"}
CHANNEL_COLOURS = SEQUENCE_COLOURS | {"both": ORDER_COLOURS["Grad-CAM++"]}
CHANNEL_NAMES = {"FLAIR": "SmoothGrad, FLAIR", "MPRAGE": "SmoothGrad, MPRAGE", "both": "Grad-CAM++"}
RATES = {"F1": ("#004488", "o", -0.15), "PPV": ("#ddaa33", "s", 0.15)}
AUCS = {"AUC": ("black", "o", -0.15, "all pairs")}
AUCS["AUC within patients"] = ("#aa3377", "s", 0.15, "pairs of one patient")
SHOWN = 12  # largest coefficients of a classifier
AROUND = 6  # size of an open dot, in points: a filled one of the same value is seen in it


@styled
def plot_sanity(randomisation, stability, infidelity, curves, explained):
    """Weight randomisation, infidelity, deletion and insertion, and what the mask explains: tables of `sanity.add_means`.

    Tables without a lesion leave the panels empty, and the figure says so.
    """
    fig = new_figure(DOUBLE_COLUMN_MM, 136)
    (a, b), (c, d) = fig.subfigures(2, 2, width_ratios=(2, 1))
    first = _randomisation(a, randomisation, stability), _infidelity(b, infidelity)
    label_panels([*first, _curves(c, curves), _explained(d, explained)])
    text = "no lesion was selected: nothing to check"
    if len(curves):
        said = with_interval(infidelity["low"], "95 % patient-bootstrap interval")
        text = f"{lesions_and_patients(rows_of(curves, scan='all'))}: mean, {said}; grey dots: each lesion"
    fig.supxlabel(text, fontsize=6)
    return fig


@styled
def plot_leakage(table, unit):
    """Off-target share of each map, and the changes of the lesion's own and of the others' mean logits.  Table 07_leakage."""
    fig = new_figure(SINGLE_COLUMN_MM, 62)
    axes = share, change = fig.subplots(1, 2)
    names = list(table["map"].unique())
    for place, name in enumerate(names):
        colour = ORDER_COLOURS.get(name, "black")
        _draw_dots(share, rows_of(table, map=name, of="share"), place, colour, colour)
        _draw_dots(change, rows_of(table, map=name, of="own"), place - 0.15, colour, colour)
        _draw_dots(change, rows_of(table, map=name, of="others"), place + 0.15, colour, "white")
    for ax in axes:
        ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
        ax.set_xlim(-0.5, len(names) - 0.5)
        ax.axhline(0, color="0.7", lw=0.6, zorder=0)
    share.set_ylabel("off-target share")
    change.set_ylabel(f"change of the mean {unit}")
    label_panels(axes)
    text = f"{lesions_and_patients(rows_of(table, scan='all'))}; filled: own change, open: others', magnitudes summed"
    fig.supxlabel(text, fontsize=6)
    return fig


def _randomisation(fig, table, stability):
    """Rank correlation against the layer drawn anew; at 0 that of two maps of the trained network under other noise."""
    axes = fig.subplots(1, 2, sharey=True)
    means = rows_of(table, scan="all")
    noise = rows_of(stability, scan="all", maps="N, two seeds").assign(depth=0)
    for ax, mode in zip(axes, ("cascading", "independent"), strict=True):
        for of, (name, line, marker) in MAPS.items():
            look = {"ls": line, "marker": marker}
            draw_bands(ax, rows_of(means, mode=mode, of=of), *REGION_LINES, label=name + ", {}", **look)
            draw_bands(ax, rows_of(noise, of=of), *REGION_LINES, label="_", mfc="white", **look)
        ax.axhline(0, color="0.7", lw=0.6, zorder=0)
        ax.set(ylim=(-1.05, 1.05), xticks=[0, *sorted(means["depth"].unique())], title=mode)
    axes[0].set(xlabel="layers drawn anew, from the output", ylabel="Spearman's ρ with the\ntrained network's map")
    axes[1].set(xlabel="layer drawn anew (1: at the output)")
    _add_legend(fig, axes[0].get_legend_handles_labels()[0], ncols=4)
    return axes[0]


def _add_legend(fig, handles, **style):
    if handles:
        fig.legend(handles=handles, loc="outside lower center", columnspacing=1.2, handlelength=1.8, **style)


def _infidelity(fig, table):
    """Relative infidelity of each map."""
    ax, table = fig.subplots(), rows_of(table, of="relative")
    names = list(table["map"].unique())
    for place, name in enumerate(names):
        _draw_dots(ax, rows_of(table, map=name), place, "black", "black")
    ax.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names])
    ax.set(xlim=(-0.5, 2.5), ylim=(-0.03, 1.05), ylabel="infidelity (1: a map of zeros)", title="score change by noise")
    return ax


def _curves(fig, table):
    """Mean lesion probability against the fraction of the window's tissue that is deleted or inserted."""
    axes = fig.subplots(1, 2, sharey=True)
    means = rows_of(table, scan="all", of="probability")
    for ax, mode, done in zip(axes, ("deletion", "insertion"), ("deleted", "inserted"), strict=True):
        draw_bands(ax, rows_of(means, mode=mode), "fraction", "value", "order", ORDER_COLOURS)
        ax.set(xscale="log", ylim=(-0.03, 1.03), title=mode, xlabel=f"fraction of the window's tissue {done}")
    axes[0].set_ylabel("mean lesion probability")
    _add_legend(fig, axes[0].get_legend_handles_labels()[0], ncols=4, title="order of the voxels")
    return axes[0]


def _explained(fig, table):
    """R^2 of what the mask knows, by sequence; filled: within 3 mm, open: the whole window."""
    ax, models, sequences = fig.subplots(), list(table["model"].unique()), list(table["sequence"].unique())
    places = dict(zip(product(sequences, REGION_COLOURS), np.linspace(-0.34, 0.34, 2 * len(sequences)), strict=True))
    for (sequence, region, model), rows in table.groupby(["sequence", "region", "model"]):
        place, colour = models.index(model) + places[sequence, region], CHANNEL_COLOURS[sequence]
        _draw_dots(ax, rows, place, colour, "white" if region == "window" else colour)
    ax.set_xticks(range(len(models)), [name.replace(" + ", "\n+ ") for name in models])
    ax.set(xlim=(-0.5, 2.5), ylim=(-0.03, 1.03), ylabel="R² of the map", title="what the mask explains")
    handles = [Line2D([], [], marker="o", ls="", color=CHANNEL_COLOURS[s], label=CHANNEL_NAMES[s]) for s in sequences]
    _add_legend(fig, handles, ncols=2, title="open: window, filled: within 3 mm")
    return ax


def _draw_dots(ax, rows, place, colour, face):
    """Each lesion's value, and the mean with its interval."""
    each, mean = rows[rows["scan"] != "all"], rows[rows["scan"] == "all"]
    ax.plot([place] * len(each), each["value"], ".", ms=2, color="0.65", zorder=1)
    ax.vlines(place, mean["low"], mean["high"], color=colour)
    ax.plot([place] * len(mean), mean["value"], "o", color=colour, mfc=face)


@styled
def plot_errors(detection, coefficients, fitted):
    """AUC of each set of predictors (a), F1 and PPV before and after removing (b), coefficients of the last set (c).

    detection, coefficients: tables 09_detection and 09_coefficients.  fitted: rows of 09_lesions that classifiers saw.
    """
    fig, (a, b, c) = new_panels(72, 1, 3, width_ratios=(1, 1, 0.8))
    names = list(detection["predictors"].unique())
    _draw_aucs(a, detection, names)
    _draw_rates(b, detection, names)
    for ax in (a, b):
        ax.set_yticks(range(len(names)), [name.replace(" + ", "\n+ ") for name in names] if ax is a else [])
        ax.set(ylim=(len(names) - 0.5, -0.5))
    used = rows_of(coefficients, predictors=names[-1]).sort_values("coefficient", key=np.abs, ascending=False)
    shown = used.head(SHOWN)
    colours = np.where(shown["coefficient"] > 0, KIND_COLOURS["TP"], KIND_COLOURS["FP"])
    c.barh(range(len(shown)), shown["coefficient"], color=colours)
    c.plot([0, 0], [-0.5, SHOWN - 0.5], color="0.3", lw=0.6)
    c.set_yticks(range(len(shown)), shown["predictor"])
    c.xaxis.set_major_locator(MaxNLocator(3))
    if used.empty:
        c.text(0.5, 0.5, "the penalty leaves\nno predictor", transform=c.transAxes, ha="center", va="center")
    n = f"{counted(len(fitted), 'lesion')},\n{counted(fitted['subject'].nunique(), 'patient')}"
    of_all = f", {len(shown)} of {len(used)}" if len(used) > len(shown) else ""
    c.set(ylim=(SHOWN - 0.5, -0.5), xlabel="coefficient per SD\n(> 0: towards TP)")
    c.set_title(names[-1].replace(" + ", "\n+ ") + of_all + f"\nn = {n}")
    return fig


@styled
def nothing_judged(reason):
    """Figure that says why there is none."""
    return nothing_to_show(reason.replace(": ", ":\n").replace(", as", ",\nas"))


def _draw_aucs(ax, detection, names):
    for measure, (colour, marker, shift, label) in AUCS.items():
        rows = rows_of(detection, measure=measure).set_index("predictors").loc[names]
        y = np.arange(len(names)) + shift
        ax.hlines(y, rows["low"], rows["high"], color=colour)
        ax.plot(rows["value"], y, marker, color=colour, label=label, **ON_TOP)
        ax.plot(rows["shuffled"], y, marker, color=colour, mfc="white", ms=AROUND, label="_")
    ax.axvline(0.5, color="0.7", lw=0.6, zorder=0)
    ax.set(xlabel="AUC, TP against FP\nopen: kinds shuffled")
    ax.legend(title=f"n = {lesions_and_patients(rows)}", loc="lower left", bbox_to_anchor=(0.06, 1))


def _draw_rates(ax, detection, names):
    for rate, (colour, marker, shift) in RATES.items():
        before, after = (
            rows_of(detection, measure=f"{rate}, {when}").set_index("predictors").loc[names]
            for when in ("before", "after")
        )
        y = np.arange(len(names)) + shift
        ax.hlines(y, after["low"], after["high"], color=colour)
        ax.plot(before["value"], y, marker, color=colour, mfc="white", ms=AROUND, label=f"{rate} as predicted")
        ax.plot(after["value"], y, marker, color=colour, label=f"{rate} after removing", **ON_TOP)
    ax.set(xlabel="F1, PPV\nof the test scans' lesions")
    narrow = {"ncols": 2, "columnspacing": 0.8, "handletextpad": 0.3}
    ax.legend(title=f"n = {lesions_and_patients(after)}", loc="lower left", bbox_to_anchor=(0.06, 1), **narrow)
