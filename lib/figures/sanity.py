"""The figure of the checks of saliency maps."""

from itertools import product

import numpy as np
from matplotlib.lines import Line2D

from lib.figures.style import DOUBLE_COLUMN_MM, SEQUENCE_COLOURS, draw_band, label_panels, new_figure, styled

REGION_COLOURS = {"window": "#228833", "within 3 mm": "#aa3377"}
ORDER_COLOURS = {"SmoothGrad": "#004488", "Grad-CAM++": "#ddaa33", "distance": "#bb5566", "random": "0.5"}
CHANNEL_COLOURS = SEQUENCE_COLOURS | {"both": ORDER_COLOURS["Grad-CAM++"]}
CHANNEL_NAMES = {"FLAIR": "SmoothGrad, FLAIR", "MPRAGE": "SmoothGrad, MPRAGE", "both": "Grad-CAM++"}
BELOW = {"loc": "outside lower center", "columnspacing": 1.2, "handlelength": 1.8}


@styled
def plot_sanity(randomisation, stability, infidelity, curves, explained):
    """Weight randomisation, infidelity, deletion and insertion, and what the mask explains: tables of `sanity.add_means`.

    Tables without a lesion leave the panels empty, and the figure says so.
    """
    fig = new_figure(DOUBLE_COLUMN_MM, 136)
    (a, b), (c, d) = fig.subfigures(2, 2, width_ratios=(2, 1))
    first = [
        _randomisation(a, randomisation, stability),
        _infidelity(b, infidelity),
        _curves(c, curves),
        _explained(d, explained),
    ]
    label_panels(first)
    if len(curves):
        lesions, patients = curves.loc[curves["scan"] == "all", ["lesions", "patients"]].max()
        text = f"{lesions:.0f} lesions, {patients:.0f} patients: mean and 95 % patient-bootstrap interval; grey dots: each lesion"
    else:
        text = "no lesion was selected: nothing to check"
    fig.supxlabel(text, fontsize=6)
    return fig


def _randomisation(fig, table, stability):
    """Rank correlation against the layer drawn anew; at 0 that of two maps of the trained network under other noise."""
    axes = fig.subplots(1, 2, sharey=True)
    means = table[table["scan"] == "all"].sort_values("depth")
    noise = stability[(stability["scan"] == "all") & (stability["maps"] == "N, two seeds")].assign(depth=0)
    curves = means.groupby(["region", "of"], sort=False).groups
    for ax, mode in zip(axes, ("cascading", "independent"), strict=True):
        for region, of in curves:
            here = means[(means["mode"] == mode) & (means["region"] == region) & (means["of"] == of)]
            start = noise[(noise["region"] == region) & (noise["of"] == of)]
            name, line, marker = ("|map|", "-", "o") if of == "magnitude" else ("signed map", "--", "s")
            style = {"color": REGION_COLOURS[region], "ls": line, "marker": marker}
            draw_band(ax, here, "depth", "value", "low", "high", **style, label=f"{name}, {region}")
            ax.plot(start["depth"], start["value"], **style, mfc="white", label="_")
        ax.axhline(0, color="0.7", lw=0.6, zorder=0)
        ax.set(ylim=(-1.05, 1.05), xticks=[0, *means["depth"].unique()], title=mode)
    axes[0].set(xlabel="layers drawn anew, from the output", ylabel="Spearman's ρ with the\ntrained network's map")
    axes[1].set(xlabel="layer drawn anew (1: at the output)")
    if curves:
        fig.legend(*axes[0].get_legend_handles_labels(), **BELOW, ncols=4)
    return axes[0]


def _infidelity(fig, table):
    """Relative infidelity of each map."""
    ax, table = fig.subplots(), table[table["of"] == "relative"]
    names = list(table["map"].unique())
    for place, name in enumerate(names):
        _dots(ax, table[table["map"] == name], place, "black", "black")
    ax.set(xticks=range(len(names)), xticklabels=[name.replace(" ", "\n") for name in names], ylim=(-0.03, 1.05))
    ax.set(xlim=(-0.5, 2.5), ylabel="infidelity (1: a map of zeros)", title="score change by noise")
    return ax


def _curves(fig, table):
    """Mean lesion probability against the fraction of the window's tissue that is deleted or inserted."""
    axes = fig.subplots(1, 2, sharey=True)
    means = table[(table["scan"] == "all") & (table["of"] == "probability")].sort_values("fraction")
    orders = list(table["order"].unique())
    for ax, mode, done in zip(axes, ("deletion", "insertion"), ("deleted", "inserted"), strict=True):
        for order in orders:
            here = means[(means["mode"] == mode) & (means["order"] == order)]
            draw_band(ax, here, "fraction", "value", "low", "high", color=ORDER_COLOURS[order], label=order)
        ax.set(xscale="log", ylim=(-0.03, 1.03), title=mode, xlabel=f"fraction of the window's tissue {done}")
    axes[0].set_ylabel("mean lesion probability")
    if orders:
        fig.legend(*axes[0].get_legend_handles_labels(), **BELOW, ncols=4, title="order of the voxels")
    return axes[0]


def _explained(fig, table):
    """R^2 of what the mask knows, by sequence; filled: within 3 mm, open: the whole window."""
    ax, models, sequences = fig.subplots(), list(table["model"].unique()), list(table["sequence"].unique())
    places = list(product(sequences, REGION_COLOURS))
    for offset, (sequence, region) in zip(np.linspace(-0.34, 0.34, len(places)), places, strict=True):
        for place, model in enumerate(models):
            rows = table[(table["model"] == model) & (table["sequence"] == sequence) & (table["region"] == region)]
            colour = CHANNEL_COLOURS[sequence]
            _dots(ax, rows, place + offset, colour, "white" if region == "window" else colour)
    ax.set(xticks=range(len(models)), xticklabels=[name.replace(" + ", "\n+ ") for name in models], ylim=(-0.03, 1.03))
    ax.set(xlim=(-0.5, 2.5), ylabel="R² of the map", title="what the mask explains")
    handles = [
        Line2D([], [], marker="o", ls="", color=CHANNEL_COLOURS[name], label=CHANNEL_NAMES[name]) for name in sequences
    ]
    if handles:
        fig.legend(handles=handles, **BELOW, ncols=2, title="open: window, filled: within 3 mm")
    return ax


def _dots(ax, rows, place, colour, face):
    """Each lesion's value, and the mean with its interval."""
    each, mean = rows[rows["scan"] != "all"], rows[rows["scan"] == "all"]
    ax.plot(np.full(len(each), place), each["value"], ".", ms=2, color="0.65", zorder=1)
    ax.vlines(place, mean["low"], mean["high"], color=colour)
    ax.plot(np.full(len(mean), place), mean["value"], "o", color=colour, mfc=face)
