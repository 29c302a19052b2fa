"""Figures of the numbers taken from saliency maps: each function takes tables of notebook 4 and returns one figure."""

from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import starbars
from matplotlib.ticker import MultipleLocator

from lib.figures.style import (
    DOUBLE_COLUMN_MM,
    KIND_COLOURS,
    draw_band,
    label_axis,
    label_panels,
    new_figure,
    styled,
)
from lib.statistics import KINDS

METHOD_LABELS = {"smoothgrad_max": "SmoothGrad max", "smoothgrad_mean": "SmoothGrad mean", "grad_cam": "Grad-CAM++"}
METHOD_UNITS = {"smoothgrad_max": "logit per z-score", "smoothgrad_mean": "logit per z-score", "grad_cam": "a.u."}
MEASURES = {
    "peak": "peak",
    "peak_positive": "positive peak",
    "peak_negative": "negative peak",
    "mean_inside": "mean inside",
    "mean_perilesional": "mean around",
    "contrast": "inside − around",
}
ESTIMATE_COLOURS = ("black", "#ddaa33", "#bb5566", "#004488")
ENLARGED_MM = 2


def _method_axes(fig, table):
    """Axes by (method, sequence): SmoothGrad methods in rows, sequences in columns at one scale, Grad-CAM++ beside."""
    present = set(table["method"])
    rows = [method for method in ("smoothgrad_max", "smoothgrad_mean") if method in present]
    grid = fig.add_gridspec(max(len(rows), 1), 2 * bool(rows) + ("grad_cam" in present))
    axes = {}
    for row, method in enumerate(rows):
        axes[method, "FLAIR"] = fig.add_subplot(grid[row, 0])
        axes[method, "MPRAGE"] = fig.add_subplot(grid[row, 1], sharey=axes[method, "FLAIR"])
    if "grad_cam" in present:
        axes["grad_cam", "both"] = fig.add_subplot(grid[:, -1])
    return axes


def _panel_title(method, sequence):
    return METHOD_LABELS[method] if sequence == "both" else f"{METHOD_LABELS[method]}, {sequence}"


@styled
def plot_peaks(saliency, tests):
    """Distribution of the peak saliency of each kind of lesion, with Holm-adjusted tests between kinds.

    saliency, tests: tables 04_saliency and 04_tests, of which the raw peaks are shown; TN in grey matter is compared with TN in
    white matter alone. A kind without lesions leaves its place empty.
    """
    axes = _method_axes(
        fig := new_figure(DOUBLE_COLUMN_MM, 66 * max(saliency["method"].nunique() - 1, 1) + 12), saliency
    )
    for (method, sequence), ax in axes.items():
        rows = saliency[(saliency["method"] == method) & (saliency["sequence"] == sequence)].dropna(subset="peak")
        _draw_kinds(ax, rows)
        label_axis(ax.yaxis, "peak saliency", METHOD_UNITS[method], rows["peak"].abs().max())
    tall = {"grad_cam": 0.14 if len(axes) > 3 else 0.38}
    limits = (-0.6, len(KINDS) - 0.4)
    bars = {key: ax.inset_axes((0, 1, 1, tall.get(key[0], 0.38)), xlim=limits) for key, ax in axes.items()}
    fig.supxlabel(
        "n lesions (n patients) under each kind; black line: median. Mann-Whitney U, Holm-adjusted p: "
        "ns > 0.05, * ≤ 0.05, ** ≤ 0.01, *** ≤ 0.001, **** ≤ 0.0001",
        fontsize=6,
    )
    label_panels(bars.values())
    fig.draw_without_rendering()  # the bars are spaced in pixels of the final layout
    shown = tests[(tests["measure"] == "peak") & (tests["scaling"] == "raw")].dropna(subset="p_holm")
    shown = shown[(shown["b"] != "TN grey") | (shown["a"] == "TN")]
    for (method, sequence), ax in bars.items():
        rows = shown[(shown["method"] == method) & (shown["sequence"] == sequence)]
        ax.set(title=_panel_title(method, sequence), ylim=(-1, 0))
        ax.axis("off")
        _draw_bars(ax, rows, 6 / 72 * fig.dpi / ax.bbox.height)
    return fig


def _draw_kinds(ax, rows):
    """Violin, median and every lesion of each kind, and how many they are."""
    jitter = np.random.default_rng(0)
    for place, kind in enumerate(KINDS):
        values = rows.loc[rows["kind"] == kind, "peak"].to_numpy()
        if values.size > 4 and np.ptp(values) > 0:
            (body,) = ax.violinplot(values, [place], widths=0.85, showextrema=False)["bodies"]
            body.set(facecolor=KIND_COLOURS[kind], alpha=0.3)
        if values.size > 1:
            ax.hlines(np.median(values), place - 0.3, place + 0.3, color="black", zorder=3)
        ax.plot(place + jitter.uniform(-0.15, 0.15, values.size), values, "o", ms=1.5, color=KIND_COLOURS[kind])
    n = rows.groupby("kind").agg(lesions=("peak", "size"), patients=("subject", "nunique"))
    n = n.reindex(KINDS, fill_value=0)
    ax.set(xticks=range(len(KINDS)), xticklabels=[f"{k}\n{n.lesions[k]} ({n.patients[k]})" for k in KINDS])
    ax.set_xlim(-0.6, len(KINDS) - 0.4)
    ax.axhline(0, color="0.7", lw=0.6, zorder=0)


def _draw_bars(ax, rows, text):
    """Bars of significance; text: height of the type in axes."""
    pairs = [(KINDS.index(a), KINDS.index(b), p) for a, b, p in rows[["a", "b", "p_holm"]].itertuples(index=False)]
    with redirect_stdout(StringIO()):  # starbars 3.1.1 prints its axis limits
        starbars.draw_annotation(pairs, ax=ax, fontsize=6, line_width=0.6, tip_length=0.05, text_distance=0.5 * text)
    ax.set_ylim(0, max([1] + [label.get_position()[1] + text for label in ax.texts]))


@styled
def plot_profiles(profile):
    """Mean saliency against the signed distance from the lesion border, with patient-bootstrap bands.  Table 04_profile.

    Inset in the panels of SmoothGrad: the shells beyond ENLARGED_MM at a scale of their own.
    """
    axes = _method_axes(fig := new_figure(DOUBLE_COLUMN_MM, 56 * max(profile["method"].nunique() - 1, 1) + 16), profile)
    for (method, sequence), ax in axes.items():
        rows = profile[(profile["method"] == method) & (profile["sequence"] == sequence)]
        _draw_profiles(ax, rows)
        ax.axvline(0, color="0.3", lw=0.6, ls="--", zorder=0)
        ax.annotate("inside", (-0.3, 1), xycoords=("data", "axes fraction"), ha="right", va="top", fontsize=6)
        ax.xaxis.set_major_locator(MultipleLocator(5))
        ax.set(xlabel="distance from lesion border (mm)", xlim=(min(rows["distance_mm"].min(), -4), None))
        label_axis(ax.yaxis, "mean saliency", METHOD_UNITS[method], rows["mean"].abs().max())
        ax.set_title(_panel_title(method, sequence))
        far = rows[rows["distance_mm"] > ENLARGED_MM]
        if method != "grad_cam" and len(far):
            above = rows["mean"].max() > -rows["mean"].min()
            inset = ax.inset_axes((0.55, 0.64 if above else 0.13, 0.43, 0.25))
            _draw_profiles(inset, far)
            inset.set_title(f"beyond {ENLARGED_MM} mm", fontsize=6, pad=2)
    label_panels(axes.values())
    lines = {line.get_label(): line for ax in axes.values() for line in ax.get_legend_handles_labels()[0]}
    fig.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=3, title="bands: 95 % patient bootstrap")
    return fig


def _draw_profiles(ax, rows):
    for kind in KINDS:
        here = rows[rows["kind"] == kind].sort_values("distance_mm")
        if len(here):
            label = f"{kind}, {here['lesions'].max():.0f} lesions of {here['patients'].max():.0f} patients"
            draw_band(ax, here, "distance_mm", "mean", "low", "high", color=KIND_COLOURS[kind], label=label)
    ax.axhline(0, color="0.7", lw=0.6, zorder=0)


@styled
def plot_orders(clustered):
    """Cliff's delta of every pair of kinds in every measure of the signed-maximum map, raw and scaled.  Table 04_clustered."""
    rows = clustered[clustered["method"] == "smoothgrad_max"]
    pairs = list(dict.fromkeys(zip(rows["a"], rows["b"], strict=True)))
    fig = new_figure(DOUBLE_COLUMN_MM, 2 * (14 + 4 * len(pairs)) + 10)
    axes = fig.subplots(2, len(MEASURES), sharex=True, sharey=True)
    for line, sequence in zip(axes, ("FLAIR", "MPRAGE"), strict=True):
        for ax, (measure, name) in zip(line, MEASURES.items(), strict=True):
            here = rows[(rows["sequence"] == sequence) & (rows["measure"] == measure)]
            for scaling, offset, face in (("raw", -0.17, "black"), ("scaled", 0.17, "white")):
                one = here[here["scaling"] == scaling].set_index(["a", "b"]).reindex(pairs)
                place = np.arange(len(pairs)) + offset
                ax.hlines(place, one["delta_low"], one["delta_high"], color="0.5", lw=0.8)
                ax.plot(one["delta"], place, "o", ms=2.2, color="black", mfc=face, mew=0.6, label=scaling)
            ax.axvline(0, color="0.7", lw=0.6, zorder=0)
            ax.set(xlim=(-1.1, 1.1), ylim=(len(pairs) - 0.5, -0.5), title=f"{sequence}\n{name}")
            ax.set(yticks=range(len(pairs)), yticklabels=[f"{a} over {b}" for a, b in pairs])
    label_panels(axes[:, 0])
    fig.supxlabel("Cliff's delta, with 95 % patient-bootstrap interval", fontsize=7)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


@styled
def plot_proxy(saliency, clustered, matched):
    """Is the FLAIR peak more than a proxy of size and probability?  Tables 04_saliency, 04_clustered and 04_matched."""
    fig = new_figure(DOUBLE_COLUMN_MM, 82)
    size, probability, forest = fig.subplots(1, 3, width_ratios=(3, 3, 4))
    chosen = {"method": "smoothgrad_max", "sequence": "FLAIR"}
    shown, clustered, matched = (
        table[(table[list(chosen)] == list(chosen.values())).all(axis=1)] for table in (saliency, clustered, matched)
    )
    for kind in KINDS:
        here = shown[shown["kind"] == kind]
        style = {"marker": "o", "ls": "", "ms": 2.2, "color": KIND_COLOURS[kind], "label": kind}
        size.plot(here["volume_mm3"], here["peak"], **style)
        probability.plot(here["mean_probability"], here["peak"], **style)
    size.set(xscale="log", xlabel="volume (mm³)", ylabel="FLAIR peak (logit per z-score)")
    size.xaxis.set_major_formatter("{x:g}")
    probability.set(xlabel="mean probability", xlim=(-0.03, 1.03))
    _draw_differences(forest, clustered[(clustered["measure"] == "peak") & (clustered["scaling"] == "raw")], matched)
    fig.legend(*size.get_legend_handles_labels(), loc="outside lower left", ncols=5, columnspacing=1, handletextpad=0.1)
    fig.legend(
        *forest.get_legend_handles_labels(), loc="outside lower right", ncols=2, columnspacing=1, handletextpad=0.1
    )
    label_panels((size, probability, forest))
    return fig


def _draw_differences(ax, clustered, matched):
    """Difference of the mean peaks of two kinds: of all lesions, adjusted (may leave the panel), and of matched pairs."""
    pairs = list(zip(clustered["a"], clustered["b"], strict=True))
    estimates = {
        "all lesions": clustered[["a", "b", "difference", "difference_low", "difference_high"]],
        "adjusted": clustered[["a", "b", "adjusted", "adjusted_low", "adjusted_high"]],
    }
    for name, rows in matched.groupby("matched_on", sort=False):
        estimates[f"pairs matched in {name}"] = rows[["a", "b", "difference", "low", "high"]]
    for (name, table), offset, colour in zip(
        estimates.items(), np.linspace(-0.3, 0.3, len(estimates)), ESTIMATE_COLOURS, strict=True
    ):
        value, low, high = table.set_index(["a", "b"]).reindex(pairs).to_numpy(float).T
        place = np.arange(len(pairs)) + offset
        ax.hlines(place, low, high, color=colour, lw=0.8)
        ax.plot(value, place, "o", ms=2, color=colour, label=name if np.isfinite(value).any() else None)
    ax.axvline(0, color="0.7", lw=0.6, zorder=0)
    shown = [table.iloc[:, 2:].abs().max(axis=None) for name, table in estimates.items() if name != "adjusted"]
    limit = np.fmax.reduce([*shown, 1e-6])  # of what there is: too few lesions have no difference
    ax.set_xlim(-1.1 * limit, 1.1 * limit)
    ax.set(yticks=range(len(pairs)), yticklabels=[f"{a} − {b}" for a, b in pairs], ylim=(len(pairs) - 0.5, -0.5))
    ax.set_xlabel("difference of FLAIR peaks (logit per z-score)")
