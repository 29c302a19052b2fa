"""Figures of the network's response to synthetic lesions and to changed ones."""

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from lib.figures.psychometric import NAMES, diameter_colours, mark_real_contrast
from lib.figures.style import KIND_COLOURS, MAP_UNIT, ON_TOP, draw_band, new_panels, rows_of, styled, with_interval
from lib.statistics import bootstrap_mean, counted

CHANGES = ("none", "FLAIR removed", "MPRAGE removed", "both removed", "sequences swapped", "moved to grey matter")
MEASURES = {
    "detected": "detected (fraction)",
    "score": "mean lesion probability",
    "peak_flair": "FLAIR peak saliency",
    "peak_mprage": "MPRAGE peak saliency",
}
HEIGHT_COLOURS = {"all": "black", "lower third": "#332288", "middle third": "#44aa99", "upper third": "#cc6677"}
DETECTED = ("TP", "predicted")  # kinds whose saliency is computed
PEAKS = {"peak_flair": ("-", "saliency in FLAIR"), "peak_mprage": ("--", "saliency in MPRAGE")}


@styled
def plot_response(response, real_contrast, unit=MAP_UNIT):
    """Score and saliency of inserted lesions against their contrast.  Table 05_response.

    real_contrast: {"FLAIR": z, "MPRAGE": z}, median contrast of the annotated lesions, marked where the sequence is changed.
    """
    peaks = (response["n_explained"] > 0).any()
    fig, axes = new_panels(50 * (1 + peaks) + 12, 1 + peaks, 3, sharex=True, sharey="row", squeeze=False)
    colours = diameter_colours(response)
    for column, sequences in zip(axes.T, NAMES, strict=True):
        rows = rows_of(response, sequences=sequences)
        explained = rows[rows["n_explained"] > 0]
        for diameter, here in rows.groupby("diameter_mm"):
            style = {"color": colours[diameter], "marker": "o", "ms": 2}
            draw_band(column[0], here, "contrast", "score", label=f"{diameter:g} mm", **style)
            here = rows_of(explained, diameter_mm=diameter)
            for name, (line, _) in PEAKS.items() if len(here) else ():
                draw_band(column[1], here, "contrast", name, ls=line, **style)
        for ax in column:
            mark_real_contrast(ax, sequences, real_contrast)
        column[-1].set(title=f"n = {explained['n_explained'].min()}", xlabel="contrast (z-score)")
        column[0].set_title(f"{NAMES[sequences]}, n = {rows['n'].min():.0f}")
    axes[0, 0].set(ylabel="mean lesion probability", ylim=(-0.03, 1.03))
    handles = axes[0, 2].get_legend_handles_labels()[0]
    if peaks:
        axes[1, 0].set_ylabel(f"peak saliency ({unit})")
        handles += [Line2D([], [], color="black", ls=line, label=label) for line, label in PEAKS.values()]
    title = f"diameter; {with_interval(response['low_score'], 'bands: 95 % intervals')}; n of each point"
    fig.legend(handles=handles, loc="outside lower center", ncols=5, title=title)
    return fig


@styled
def plot_places(recall):
    """Detected share of inserted lesions by place and height, a panel for each choice of sequences.  Table 05_places."""
    names = [name for name in NAMES if (recall["sequences"] == name).any()]
    fig, axes = new_panels(85, 1, len(names), sharey=True, squeeze=False)
    places, heights = list(recall["place"].unique()), list(HEIGHT_COLOURS)
    for ax, sequences in zip(axes[0], names, strict=True):
        for height, colour in HEIGHT_COLOURS.items():
            here = rows_of(recall, sequences=sequences, height=height)
            y = np.array([places.index(place) for place in here["place"]]) + 0.2 * (heights.index(height) - 1.5)
            ax.hlines(y, here["low"], here["high"], color=colour)
            ax.plot(here["value"], y, "o", color=colour, label=height, **ON_TOP)
            for place, n in zip(y, here["lesions"], strict=True):
                ax.text(1.06, place, n, color=colour, fontsize=6, va="center")
        contrasts = rows_of(recall, sequences=sequences)["contrasts"].iloc[0]
        ax.set(xlim=(-0.03, 1.2), xticks=[0, 0.5, 1], xlabel="detected (fraction)")
        ax.set_title(f"{NAMES[sequences]}\n{contrasts} z-scores")
    axes[0, 0].set_yticks(range(len(places)), [name.replace(" or ", "\nor ") for name in places])
    axes[0, 0].set_ylim(len(places) - 0.5, -0.5)
    title = f"height in the brain; numbers: lesions, of {counted(recall['patients'].max(), 'patient')}; "
    title += with_interval(recall["low"], "bars: 95 % intervals")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, title=title)
    return fig


@styled
def plot_changes(changes, generator, unit=MAP_UNIT):
    """Detection, score and peak saliency of lesions and healthy tissue before and after a change.  Table 05_changes.

    Lines: each of DETECTED; dots: means of each kind with their 95 % patient-bootstrap intervals, drawn from generator.
    Without saliency there are no panels of it.
    """
    measures = {name: label for name, label in MEASURES.items() if name not in PEAKS or changes[name].notna().any()}
    order = [name for name in CHANGES if (changes["change"] == name).any()]
    kinds = [kind for kind in KIND_COLOURS if (changes["kind"] == kind).any()]
    fig, axes = new_panels(85, 1, len(measures), sharey=True)
    intervals = []
    for number, kind in enumerate(kinds):
        lesions = rows_of(changes, kind=kind).astype(dict.fromkeys(measures, float))
        lesions = lesions.pivot(index=["subject", "scan", "label"], columns="change", values=list(measures))
        numbers = lesions.set_axis(range(lesions.shape[1]), axis=1).reset_index("subject")
        means = bootstrap_mean(numbers, range(lesions.shape[1]), generator=generator)
        means = pd.DataFrame(np.transpose(means), index=lesions.columns, columns=["value", "low", "high"])
        place = np.arange(len(order)) + 0.2 * (number - (len(kinds) - 1) / 2)
        intervals += [*means["low"]]
        for ax, name in zip(axes, measures, strict=True):
            if name != "detected" and kind in DETECTED:
                ax.plot(lesions[name].reindex(columns=order).T, place, color="0.75", lw=0.4)
            mean, style = means.loc[name].reindex(order), {"color": KIND_COLOURS[kind], "zorder": 3}
            ax.hlines(place, mean["low"], mean["high"], lw=1.2, **style)
            ax.plot(mean["value"], place, "o", label=kind, **style)
    for ax, (name, label) in zip(axes, measures.items(), strict=True):
        label += f"\n({unit})" if name in PEAKS else ""
        ax.set(xlabel=label, xlim=(-0.03, 1.03) if name in ("detected", "score") else None)
    counts = changes.groupby(["change", "kind"]).size().unstack(fill_value=0)[kinds]
    names = [f"{name}\nn = {', '.join(map(str, counts.loc[name]))}" for name in order]
    axes[0].set_yticks(range(len(order)), names)
    axes[0].set_ylim(len(order) - 0.5, -0.5)
    lines = " and ".join(kind for kind in DETECTED if kind in kinds) or "TP"
    n, said = counted(changes["subject"].nunique(), "patient"), with_interval(intervals, "95 % interval")
    title = f"n: of each kind, {n}; lines: each {lines}; dots: mean, {said}"
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(kinds), title=title)
    return fig
