"""The figure of a sweep and the numbers in it.

`plot` of a sweep file is a mapping

    x, x_label   a swept parameter, or "point": what each point changes, in words
    y, y_label   a column of the collected table
    hue, panel   columns that tell lines and panels apart (optional)
    compare      {column: kind, pairs: [[TP, FP], ...]}: Cliff's delta of each pair instead of the mean of y (optional)
    x_scale      linear (default) or log
"""

import numpy as np
import pandas as pd
import seaborn.objects as so
from matplotlib.lines import Line2D
from pandas.api.types import is_numeric_dtype

from lib.figures.context import CURVES, GROWTHS
from lib.figures.saliency import METHOD_LABELS
from lib.figures.style import (
    DOUBLE_COLUMN_MM,
    MAP_UNIT,
    draw_bands,
    label_panels,
    move_legend,
    new_chart,
    new_figure,
    new_panels,
    rows_of,
    styled,
)
from lib.statistics import bootstrap_cliffs_delta, bootstrap_mean, counted, kinds_of

NEEDED = {"x", "x_label", "y", "y_label"}
KNOWN = NEEDED | {"hue", "panel", "compare", "x_scale"}
PANEL_LABELS = METHOD_LABELS | {"smoothgrad_few": "SmoothGrad max, as many voxels of each"}
COLOURS = ["#0077bb", "#ee7733", "#009988", "#cc3311", "#aa3377", "#666666"]
MARKERS = ["o", "s", "D", "^", "v", "P"]
SIDES = ["04_saliency", "04_kinds", "04_profile", "05_response", "06_curve"]  # tables drawn side by side


def check_plot(plot, swept):
    """Raise ValueError if a plot of a sweep of these parameters lacks something or says something unknown."""
    if missing := NEEDED - set(plot):
        raise ValueError(f"plot needs {', '.join(sorted(missing))}")
    if unknown := set(plot) - KNOWN:
        raise ValueError(f"plot has {', '.join(sorted(unknown))}, known are {', '.join(sorted(KNOWN))}")
    if plot["x"] not in ("point", *swept):
        raise ValueError(f"plot: x is {plot['x']!r}, which is not swept (swept: {', '.join(swept)}; or point)")
    if "compare" in plot and ("hue" in plot or set(plot["compare"]) != {"column", "pairs"}):
        raise ValueError("plot: compare takes column and pairs, and the place of hue")


def sweep_numbers(table, plot, n_resamples=2000):
    """What the figure shows: one row for each x, panel and hue with value, low, high, lesions, patients.

    table: collected rows of a sweep. Rows with a `subject` are averaged, or compared, with 95 % intervals over patients;
    others are taken as they are, with their own columns low, high, lesions and patients where they have them.
    Raises ValueError if a column is missing, or several rows without a subject share a place.
    """
    groups = [plot[part] for part in ("panel", "x", "hue") if part in plot]
    wanted = [*groups, plot["y"], *([plot["compare"]["column"]] if "compare" in plot else [])]
    if absent := [name for name in wanted if name not in table]:
        raise ValueError(f"plot: no column {', '.join(absent)} in the table (has {', '.join(table)})")
    found = []
    for key, rows in table.groupby(groups, sort=False):
        place = dict(zip(groups, key, strict=True))
        found += [place | one for one in _summarise(rows, plot, n_resamples)]
    return pd.DataFrame(found)


def _summarise(rows, plot, n_resamples):
    y, options = plot["y"], {"n_resamples": n_resamples, "generator": np.random.default_rng(0)}
    if "compare" in plot:
        column, found = plot["compare"]["column"], []
        for a, b in plot["compare"]["pairs"]:
            pair = rows[rows[column].isin([a, b])].dropna(subset=[y])
            delta = bootstrap_cliffs_delta(pair, y, column, a, b, **options)
            found.append({"compared": f"{a} over {b}"} | _measured(delta, pair))
        return found
    if "subject" in rows:
        rows = rows.dropna(subset=[y])
        return [_measured([part[0] for part in bootstrap_mean(rows, [y], **options)], rows)]
    if len(rows) > 1:
        raise ValueError(f"plot: {len(rows)} rows of {y} at one place: narrow them by where, hue or panel")
    given = {"value": rows[y].item()} | dict.fromkeys(("low", "high", "lesions", "patients"), np.nan)
    return [given | {name: rows[name].item() for name in given if name in rows and name != "value"}]


def _measured(interval, rows):
    value, low, high = interval
    return {"value": value, "low": low, "high": high, "lesions": len(rows), "patients": rows["subject"].nunique()}


@styled
def plot_sweep(numbers, plot):
    """Value and 95 % interval against the swept parameter; points are rows of their own where that is not a number.

    numbers: as `sweep_numbers` gives them.
    """
    hue = "compared" if "compare" in plot else plot.get("hue", "shown")
    numbers = numbers.assign(shown=plot["y_label"])
    panels = list(numbers.groupby(plot["panel"], sort=False)) if "panel" in plot else [("", numbers)]
    numeric, points = is_numeric_dtype(numbers[plot["x"]]), numbers[plot["x"]].unique()
    hues = numbers[hue].nunique()
    fig = new_figure(DOUBLE_COLUMN_MM, 70 if numeric else 30 + len(points) * (2 + 2.5 * hues))
    along, across = "xy" if numeric else "yx"
    chart = new_chart(numbers, **{along: plot["x"], across: "value"}, color=hue, marker=hue).on(fig)
    chart = chart.facet(plot.get("panel"), order=[name for name, _ in panels])
    chart = chart.label(**{along: plot["x_label"], across: plot["y_label"]})
    chart = chart.scale(color=so.Nominal(COLOURS[:hues]), marker=so.Nominal(MARKERS[:hues]))
    interval = {f"{across}min": "low", f"{across}max": "high", "legend": False}
    if numeric:
        chart.add(so.Band(), **interval).add(so.Line()).plot()
        fig.axes[0].set_xscale(plot.get("x_scale", "linear"))
        fig.axes[0].set_xticks(points, [f"{point:g}" for point in points])
        fig.axes[0].minorticks_off()
    else:
        dodge = so.Dodge(by=["color"])
        chart.add(so.Range(linewidth=0.8), dodge, **interval).add(so.Dot(pointsize=3), dodge).plot()
    for ax, (name, rows) in zip(fig.axes, panels, strict=True):
        (ax.axhline if numeric else ax.axvline)(0, color="0.7", lw=0.6, zorder=0)
        ax.set_title(f"{PANEL_LABELS.get(name, name)}\n{_counts(rows)}".strip())
    kind = "bands" if numeric else "bars"
    move_legend(fig, loc="outside lower center", ncols=6, title=f"{kind}: 95 % intervals over patients")
    if len(panels) > 1:
        label_panels(fig.axes)
    return fig


def _counts(rows):
    """Lesions (of a comparison: of both groups) and patients at the points, as a title."""
    spans = {name: rows[name].agg(["min", "max"]) for name in ("lesions", "patients") if rows[name].notna().any()}
    texts = [
        f"{low:.0f} {name}" if low == high else f"{low:.0f} to {high:.0f} {name}" for name, (low, high) in spans.items()
    ]
    return f"n = {', '.join(texts)}" if texts else ""


@styled
def plot_side_by_side(tables, by):
    """What claims C3 to C7 rest on, a colour for each value of a swept parameter: FLAIR peaks by kind, and how much larger
    they are than those of MPRAGE; the radial profile; inserted lesions that are found; the context curves.

    tables: {name: collected rows} of SIDES.  by: their column of that parameter.
    """
    fig, axes = new_panels(118, 2, 3)
    saliency, differences, profile, response, curve = (tables[name] for name in SIDES)
    peaks = rows_of(saliency, method="smoothgrad_max", sequence="FLAIR")
    kinds, values = kinds_of(saliency), list(saliency[by].unique())
    colours = dict(zip(values, COLOURS, strict=False))
    shift = dict(zip(values, 0.25 * (np.arange(len(values)) - (len(values) - 1) / 2), strict=True))
    jitter = np.random.default_rng(0)
    for (value, kind), rows in peaks.groupby([by, "kind"]):
        place, style = kinds.index(kind) + shift[value], {"color": colours[value]}
        axes[0, 0].plot(place + jitter.uniform(-0.07, 0.07, len(rows)), rows["peak"], "o", ms=1.5, alpha=0.6, **style)
        axes[0, 0].hlines(rows["peak"].median(), place - 0.1, place + 0.1, lw=1.2, **style)
    for row in rows_of(differences, measure="absolute peak, FLAIR - MPRAGE").to_dict("records"):
        place, style = kinds.index(row["kind"]) + shift[row[by]], {"color": colours[row[by]]}
        axes[0, 1].vlines(place, row["low"], row["high"], lw=0.8, **style)
        axes[0, 1].plot(place, row["value"], "o", ms=3, **style)
    for ax, label in zip(axes[0], ("FLAIR peak saliency", "absolute peak, FLAIR \N{MINUS SIGN} MPRAGE"), strict=False):
        ax.axhline(0, color="0.7", lw=0.6, zorder=0)
        ax.set_xticks(range(len(kinds)), kinds)
        ax.set_ylabel(f"{label}\n({MAP_UNIT})")
    shells = rows_of(profile, method="smoothgrad_max", sequence="FLAIR", kind=kinds[0])
    draw_bands(axes[0, 2], shells, "distance_mm", "mean", by, colours)
    axes[0, 2].axhline(0, color="0.7", lw=0.6, zorder=0)
    axes[0, 2].set(xlabel="distance from lesion border (mm)", ylabel=f"mean FLAIR saliency, {kinds[0]}\n({MAP_UNIT})")
    deep = rows_of(response, surroundings="deep white matter", diameter_mm=response["diameter_mm"].max())
    for sequences, line in (("FLAIR", "-"), ("MPRAGE", "--")):
        draw_bands(axes[1, 0], rows_of(deep, sequences=sequences), "contrast", "detected", by, colours, ls=line)
    axes[1, 0].set(
        xlabel="contrast inserted (z-score)\nsolid: FLAIR only, dashed: MPRAGE only",
        ylabel=f"found, of {response['diameter_mm'].max():g} mm (fraction)",
    )
    near = rows_of(curve, fill="mean", growth="euclidean")
    for ax, (column, label) in zip(axes[1, 1:], CURVES.items(), strict=True):
        draw_bands(ax, near, "step", column, by, colours)
        ax.set(xlabel=GROWTHS["euclidean"], ylabel=label)
    for ax in axes[1]:
        ax.set_ylim(-0.03, 1.03)
    inset = axes[0, 2].inset_axes((0.42, 0.45, 0.56, 0.5))
    draw_bands(inset, shells[shells["distance_mm"] > 1], "distance_mm", "mean", by, colours)
    inset.axhline(0, color="0.7", lw=0.6, zorder=0)
    inset.set_title("beyond 1 mm", fontsize=6, pad=2)
    of_each = peaks.groupby([by, "kind"]).size()
    axes[0, 0].set_title(f"n = {of_each.min()} to {of_each.max()} of a kind")
    shown = [(axes[0, 1], rows_of(differences, kind=kinds[0])), (axes[0, 2], shells), (axes[1, 1], near)]
    for ax, rows in [*shown, (axes[1, 2], near)]:
        ax.set_title(_counts(rows))
    axes[1, 0].set_title(f"n = {counted(deep['n'].min(), 'inserted lesion')}")
    title = "a: each lesion and the median; b to f: mean, 95 % intervals over patients"
    handles = [Line2D([], [], color=colours[value], marker="o", ms=3, label=f"{value}") for value in values]
    fig.legend(handles=handles, loc="outside lower center", ncols=6, title=title)
    return fig
