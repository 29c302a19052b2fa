"""Figures of the numbers taken from saliency maps: each function takes tables of notebook 4 and returns one figure."""

from contextlib import redirect_stdout
from io import StringIO
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
import seaborn.objects as so
import starbars
from matplotlib.collections import LineCollection
from matplotlib.ticker import MultipleLocator

from lib.figures import style
from lib.figures.style import KIND_COLOURS, MAP_UNIT, label_panels, move_legend, new_chart, rows_of, styled
from lib.statistics import counted, kinds_of

METHOD_LABELS = {"smoothgrad_max": "SmoothGrad max", "smoothgrad_mean": "SmoothGrad mean", "grad_cam": "Grad-CAM++"}
MEASURES = {
    "peak": "peak",
    "peak_positive": "positive peak",
    "peak_negative": "negative peak",
    "mean_inside": "mean inside",
    "mean_perilesional": "mean around",
    "contrast": "inside − around",
}
ESTIMATE_COLOURS = {"all lesions": "black", "as many voxels of each": "#6699cc", "adjusted": "#ddaa33"}
ESTIMATE_COLOURS["pairs matched in volume"] = "#bb5566"
ESTIMATE_COLOURS["pairs matched in volume and probability"] = "#004488"
ENLARGED_MM = 2
UNDER_PEAKS = (
    "n lesions (n patients) under each kind; black line: median. Mann-Whitney U, Holm-adjusted p: "
    "ns > 0.05, * ≤ 0.05, ** ≤ 0.01, *** ≤ 0.001, **** ≤ 0.0001"
)


def method_unit(method, unit=MAP_UNIT):
    """Unit of a method's values, where gradients are in `unit`."""
    return "a.u." if method == "grad_cam" else unit


def _new_method_panels(table, row_mm, rest_mm):
    """Figure and titled axes by (method, sequence): SmoothGrad in rows, sequences at one scale, Grad-CAM++ beside."""
    present = set(table["method"])
    rows = [method for method in ("smoothgrad_max", "smoothgrad_mean") if method in present]
    fig = style.new_figure(style.DOUBLE_COLUMN_MM, row_mm * max(len(rows), 1) + rest_mm)
    grid = fig.add_gridspec(max(len(rows), 1), 2 * bool(rows) + ("grad_cam" in present))
    axes = {}
    for row, method in enumerate(rows):
        axes[method, "FLAIR"] = fig.add_subplot(grid[row, 0])
        axes[method, "MPRAGE"] = fig.add_subplot(grid[row, 1], sharey=axes[method, "FLAIR"])
    if "grad_cam" in present:
        axes["grad_cam", "both"] = fig.add_subplot(grid[:, -1])
    return fig, axes


@styled
def plot_peaks(saliency, tests, unit=MAP_UNIT):
    """Distribution of the peak saliency of each kind of lesion, with Holm-adjusted tests between kinds.

    saliency, tests: tables 04_saliency and 04_tests, of which the raw peaks are shown; TN in grey matter is compared with TN in
    white matter alone. A kind without lesions leaves its place empty.
    """
    fig, axes = _new_method_panels(saliency, 66, 12)
    kinds = kinds_of(saliency)
    for (method, sequence), ax in axes.items():
        rows = rows_of(saliency, method=method, sequence=sequence).dropna(subset="peak")
        _draw_kinds(ax, rows, kinds)
        style.label_axis(ax.yaxis, "peak saliency", method_unit(method, unit), rows["peak"].abs().max())
    tall = {"grad_cam": 0.14 if len(axes) > 3 else 0.38}
    bars = {key: ax.inset_axes((0, 1, 1, tall.get(key[0], 0.38)), xlim=ax.get_xlim()) for key, ax in axes.items()}
    fig.supxlabel(UNDER_PEAKS, fontsize=6)
    label_panels(bars.values())
    fig.draw_without_rendering()  # the bars are spaced in pixels of the final layout
    shown = rows_of(tests, measure="peak", scaling="raw").dropna(subset="p_holm")
    shown = shown[(shown["b"] != "TN grey") | (shown["a"] == "TN")]
    for (method, sequence), ax in bars.items():
        ax.set(title=_title(method, sequence), ylim=(-1, 0))
        ax.axis("off")
        _draw_bars(ax, rows_of(shown, method=method, sequence=sequence), kinds, 6 / 72 * fig.dpi / ax.bbox.height)
    return fig


def _title(method, sequence):
    return METHOD_LABELS[method] + ("" if sequence == "both" else f", {sequence}")


def _draw_kinds(ax, rows, kinds):
    """Every lesion of each kind, their median, the violin of more than four values, and how many they are."""
    many = rows.groupby("kind")["peak"].transform("nunique") > 4
    sns.violinplot(
        rows[many], x="kind", y="peak", hue="kind", order=kinds, palette=KIND_COLOURS, legend=False, ax=ax,
        inner=None, cut=0, density_norm="width", width=0.85, alpha=0.3, saturation=1, linewidth=0,
    )  # fmt: skip
    chart = new_chart(rows, x="kind", y="peak", color="kind").on(ax)
    chart = chart.scale(x=so.Nominal(order=kinds), color=KIND_COLOURS).add(
        so.Dot(pointsize=2, artist_kws=style.ON_TOP), so.Jitter(0.3, seed=0), legend=False
    )
    chart.add(so.Dash(color="black", linewidth=1, width=0.6), so.Agg("median"), legend=False).plot()
    n = rows.groupby("kind").agg(lesions=("peak", "size"), patients=("subject", "nunique"))
    n = n.reindex(kinds, fill_value=0)
    ax.set_xticks(range(len(kinds)), [f"{k}\n{n.lesions[k]} ({n.patients[k]})" for k in kinds])
    ax.set(xlabel="", xlim=(-0.6, len(kinds) - 0.4))
    ax.axhline(0, color="0.7", lw=0.6, zorder=0)


def _draw_bars(ax, rows, kinds, text):
    """Bars of significance; text: height of the type in axes."""
    pairs = [(kinds.index(a), kinds.index(b), p) for a, b, p in rows[["a", "b", "p_holm"]].itertuples(index=False)]
    with redirect_stdout(StringIO()):  # starbars 3.1.1 prints its axis limits
        starbars.draw_annotation(pairs, ax=ax, fontsize=6, line_width=0.6, tip_length=0.05, text_distance=0.5 * text)
    ax.set_ylim(0, max([1] + [label.get_position()[1] + text for label in ax.texts]))


@styled
def plot_profiles(profile, unit=MAP_UNIT):
    """Mean saliency against the signed distance from the lesion border, with patient-bootstrap bands.  Table 04_profile.

    Shells in which fewer than half of the lesions of a kind have a voxel, deep inside as a rule, are left out. Inset in the panels of SmoothGrad: the shells beyond ENLARGED_MM at a scale of their own.
    """
    of_kind = profile.groupby(["method", "sequence", "kind"], dropna=False)["lesions"]
    profile = profile[2 * profile["lesions"] >= of_kind.transform("max")]
    fig, axes = _new_method_panels(profile, 56, 16)
    for (method, sequence), ax in axes.items():
        rows = rows_of(profile, method=method, sequence=sequence)
        _draw_profiles(ax, rows)
        ax.axvline(0, color="0.3", lw=0.6, ls="--", zorder=0)
        ax.annotate("inside", (-0.3, 1), xycoords=("data", "axes fraction"), ha="right", va="top", fontsize=6)
        ax.xaxis.set_major_locator(MultipleLocator(5))
        ax.set(xlabel="distance from lesion border (mm)", xlim=(np.fmin(rows["distance_mm"].min(), -4), None))
        style.label_axis(ax.yaxis, "mean saliency", method_unit(method, unit), rows["mean"].abs().max())
        ax.set_title(_title(method, sequence))
    for (method, sequence), ax in axes.items():  # once panels that share a scale have it
        far = rows_of(profile, method=method, sequence=sequence).query(f"distance_mm > {ENLARGED_MM}")
        if method != "grad_cam" and len(far):
            bottom, top = ax.get_ylim()
            inset = ax.inset_axes((0.55, 0.64 if -bottom < top else 0.13, 0.43, 0.25))
            _draw_profiles(inset, far)
            inset.set_title(f"beyond {ENLARGED_MM} mm", fontsize=6, pad=2)
    label_panels(axes.values())
    lines = {line.get_label(): line for ax in axes.values() for line in ax.get_legend_handles_labels()[0]}
    title = style.with_interval(profile["low"], "bands: 95 % patient bootstrap")
    fig.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=3, title=title)
    return fig


def _draw_profiles(ax, rows):
    for kind in kinds_of(rows):
        here = rows_of(rows, kind=kind)
        if len(here):
            n = counted(here["lesions"].max(), "lesion"), counted(here["patients"].max(), "patient")
            label = f"{kind}, {n[0]} of {n[1]}"
            style.draw_band(ax, here, "distance_mm", "mean", color=KIND_COLOURS[kind], label=label)
    ax.axhline(0, color="0.7", lw=0.6, zorder=0)


@styled
def plot_orders(saliency, clustered):
    """Cliff's delta of every pair of kinds in every measure of the signed-maximum map, raw and scaled.

    saliency, clustered: tables 04_saliency and 04_clustered.
    """
    rows = rows_of(clustered, method="smoothgrad_max")
    panel = rows["sequence"] + "\n" + rows["measure"].map(MEASURES)
    rows = rows.assign(pair=rows["a"] + " over " + rows["b"], panel=panel)
    pairs = list(rows["pair"].unique())
    fig = style.new_figure(style.DOUBLE_COLUMN_MM, 2 * (14 + 4 * len(pairs)) + 10)
    panels = [f"{sequence}\n{name}" for sequence in ("FLAIR", "MPRAGE") for name in MEASURES.values()]
    chart = new_chart(rows, x="delta", y="pair", color="scaling").facet("panel", wrap=len(MEASURES), order=panels)
    interval = {"xmin": "delta_low", "xmax": "delta_high", "legend": False}
    chart = chart.add(so.Range(color="0.5", linewidth=0.8), so.Dodge(), **interval)
    chart = chart.add(so.Dot(pointsize=2.2, edgecolor="black", edgewidth=0.6, artist_kws=style.ON_TOP), so.Dodge())
    chart = chart.scale(y=so.Nominal(order=pairs), color={"raw": "black", "scaled": "white"}).limit(x=(-1.1, 1.1))
    chart.label(x="", y="").on(fig).plot()
    for ax in fig.axes:
        ax.axvline(0, color="0.7", lw=0.6, zorder=0)
    label_panels(fig.axes[:: len(MEASURES)])
    said = style.with_interval(rows["delta_low"], "95 % patient-bootstrap interval")
    fig.supxlabel(f"Cliff's delta, {said}", fontsize=7)
    lesions = rows_of(saliency, method="smoothgrad_max", sequence="FLAIR")
    counts = lesions["kind"].value_counts().reindex(kinds_of(lesions), fill_value=0)
    n = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    title = f"n = {n} of {counted(lesions['subject'].nunique(), 'patient')}"
    move_legend(fig, loc="outside upper center", ncols=2, title=title)
    return fig


@styled
def plot_proxy(saliency, clustered, matched, unit=MAP_UNIT, sequence="FLAIR"):
    """Is the peak in a sequence more than a proxy of size and probability?  Tables 04_saliency, 04_clustered, 04_matched."""
    fig, (size, probability, forest) = style.new_panels(82, 1, 3, width_ratios=(3, 3, 4))
    few = rows_of(clustered, method="smoothgrad_few", sequence=sequence, measure="peak", scaling="raw")
    shown, clustered, matched = (
        rows_of(table, method="smoothgrad_max", sequence=sequence) for table in (saliency, clustered, matched)
    )
    for kind in kinds_of(shown):
        here = shown[shown["kind"] == kind]
        for ax, measure in ((size, "volume_mm3"), (probability, "mean_probability")):
            ax.plot(here[measure], here["peak"], "o", ms=2.2, color=KIND_COLOURS[kind], label=kind)
    size.set(xlabel="volume (mm³)", ylabel=f"{sequence} peak ({unit})")
    if style.has_data(size):
        size.set_xscale("log")
        size.xaxis.set_major_formatter("{x:g}")
    probability.set(xlabel="mean probability", xlim=(-0.03, 1.03))
    said = f"difference of {sequence} peaks ({unit})"
    _draw_differences(forest, rows_of(clustered, measure="peak", scaling="raw"), few, matched, said)
    narrow = {"columnspacing": 1, "handletextpad": 0.1}
    lows = pd.concat([clustered["difference_low"], matched["low"]])
    title = style.with_interval(lows, "lines: 95 % intervals over patients; arrow: beyond the panel")
    move_legend(fig, loc="outside lower right", ncols=2, title=title, **narrow)
    fig.legend(*size.get_legend_handles_labels(), loc="outside lower left", ncols=5, **narrow)
    return fig


def _draw_differences(ax, clustered, few, matched, label):
    """Difference of the mean peaks of two kinds: of all lesions, over as many voxels of each, adjusted, and of matched pairs.

    An arrow stands where an interval of the adjusted difference leaves the panel."""
    columns = ["a", "b", "difference", "low", "high"]
    tables = [matched[columns].assign(estimate="pairs matched in " + matched["matched_on"])]
    estimates = [("adjusted", clustered, "adjusted"), ("as many voxels of each", few, "difference")]
    for estimate, rows, name in [*estimates, ("all lesions", clustered, "difference")]:
        one = rows[["a", "b", name, f"{name}_low", f"{name}_high"]].set_axis(columns, axis=1)
        tables.insert(0, one.assign(estimate=estimate))
    table = pd.concat(tables).dropna(subset="difference")
    if table.empty:
        return
    pairs = list(clustered["a"] + " − " + clustered["b"])
    chart = new_chart(table.assign(pair=table["a"] + " − " + table["b"]), x="difference", y="pair", color="estimate")
    chart = chart.scale(y=so.Nominal(order=pairs), color=ESTIMATE_COLOURS).on(ax)
    chart = chart.add(so.Range(linewidth=0.8), so.Dodge(), xmin="low", xmax="high", legend=False)
    chart = chart.label(x=label, y="")
    chart.add(so.Dot(pointsize=2, artist_kws=style.ON_TOP), so.Dodge()).plot()
    ax.axvline(0, color="0.7", lw=0.6, zorder=0)
    shown = table.loc[table["estimate"] != "adjusted", columns[2:]].abs().max(axis=None)
    limit = np.fmax(shown, 1e-6)  # too few lesions have no difference
    ax.set(xlim=(-1.1 * limit, 1.1 * limit), ylim=(len(pairs) - 0.5, -0.5))
    edge = ax.get_xlim()[1]
    for bars in ax.findobj(LineCollection):
        for ((low, y), (high, _)), colour in zip(bars.get_segments(), cycle(bars.get_colors()), strict=False):
            for leaves, x, arrow in ((low < -edge, -edge, "<"), (high > edge, edge, ">")):
                if leaves:
                    ax.plot(x, y, arrow, color=colour, ms=2.5, mew=0, clip_on=False)
