"""Figures of the network's response to changed input: synthetic lesions, changed lesions, perilesional context."""

import numpy as np
import pandas as pd
from matplotlib import colormaps

from lib.stats import bootstrap_mean
from lib.style import DOUBLE_COLUMN_MM, SEQUENCE_COLOURS, label_panels, new_figure, plot_band, styled

CHANGES = ("none", "FLAIR removed", "MPRAGE removed", "both removed", "moved to grey matter")
ADDED = {"FLAIR": "added to FLAIR", "MPRAGE": "taken from MPRAGE", "both": "added and taken"}


@styled
def synthetic_response(response, real_contrast=None):
    """Detection, score and saliency of inserted lesions against their contrast.  Table 05_response.

    real_contrast: {"FLAIR": z, "MPRAGE": z}, median contrast of the annotated lesions, marked where the sequence is changed.
    """
    quantities = [
        ("detected", "low_detected", "high_detected", "detected (fraction)"),
        ("score", "low_score", "high_score", "mean lesion probability"),
    ]
    peaks = response[["peak_flair", "peak_mprage"]].notna().any(axis=None)
    fig = new_figure(DOUBLE_COLUMN_MM, 48 * (2 + peaks) + 10)
    axes = fig.subplots(2 + peaks, 3, sharex=True, sharey="row", squeeze=False)
    diameters = np.sort(response["diameter_mm"].unique())
    colours = dict(zip(diameters, colormaps["viridis"](np.linspace(0, 0.85, len(diameters))), strict=True))
    for column, sequences in zip(axes.T, ("FLAIR", "MPRAGE", "both"), strict=True):
        rows = response[response["sequences"] == sequences].sort_values("contrast")
        for diameter, here in rows.groupby("diameter_mm"):
            style = {"color": colours[diameter], "marker": "o", "ms": 2}
            for ax, (name, low, high, _) in zip(column[:2], quantities, strict=True):
                plot_band(ax, here, "contrast", name, low, high, label=f"diameter {diameter:g} mm", **style)
            if peaks:
                explained = here.dropna(subset=["peak_flair", "peak_mprage"])
                column[2].plot(explained["contrast"], explained["peak_flair"], **style)
                column[2].plot(explained["contrast"], explained["peak_mprage"], ls="--", **style)
        for sequence, z in (real_contrast or {}).items():
            if sequences in (sequence, "both"):
                for ax in column:
                    ax.axvline(
                        z, color=SEQUENCE_COLOURS[sequence], lw=0.8, ls=":", label=f"annotated lesions, {sequence}"
                    )
        n = f"{rows['n'].min():.0f} per point" if len(rows) else "none"
        column[0].set_title(f"{'FLAIR and MPRAGE' if sequences == 'both' else sequences + ' only'}, n = {n}")
        column[-1].set_xlabel(f"contrast {ADDED[sequences]} (z-score)")
    for ax, (*_, name) in zip(axes[:2, 0], quantities, strict=True):
        ax.set_ylabel(name)
    for ax in axes[:2].flat:
        ax.set_ylim(-0.03, 1.03)
    handles, labels = axes[0, 2].get_legend_handles_labels()
    if peaks:
        axes[2, 0].set_ylabel("peak saliency (logit per z-score)")
        dashes = [axes[2, 0].plot([], [], color="black", ls=ls)[0] for ls in ("-", "--")]
        handles, labels = handles + dashes, [*labels, "saliency in FLAIR", "saliency in MPRAGE"]
    label_panels(axes.flat)
    fig.legend(handles, labels, loc="outside lower center", ncols=5, title="bands: 95 % intervals")
    return fig


@styled
def changes(changes, generator):
    """Detection, score and saliency of real lesions before and after a change.  Table 05_changes.

    Grey: each lesion; black: mean with its 95 % patient-bootstrap interval, drawn from generator.
    """
    columns = {
        "detected": "detected (fraction)",
        "score": "mean lesion probability",
        "peak_flair": "FLAIR peak saliency\n(logit per z-score)",
        "peak_mprage": "MPRAGE peak saliency\n(logit per z-score)",
    }
    order = [name for name in CHANGES if (changes["change"] == name).any()]
    lesions = changes.astype(dict.fromkeys(columns, float)).pivot(
        index=["subject", "scan", "label"], columns="change", values=list(columns)
    )
    numbers = lesions.set_axis(range(lesions.shape[1]), axis=1).reset_index("subject")
    means = bootstrap_mean(numbers, range(lesions.shape[1]), generator=generator)
    means = pd.DataFrame(dict(zip(("value", "low", "high"), means, strict=True)), index=lesions.columns)
    fig = new_figure(DOUBLE_COLUMN_MM, 62)
    axes = fig.subplots(1, 4, sharey=True)
    for name, ax in zip(columns, axes, strict=True):
        if name != "detected":
            ax.plot(lesions[name][order].to_numpy().T, range(len(order)), color="0.75", lw=0.4)
        here = means.loc[name].loc[order]
        ax.hlines(range(len(order)), here["low"], here["high"], color="black", lw=1.2, zorder=3)
        ax.plot(here["value"], range(len(order)), "o", color="black", zorder=3)
        ax.set_xlabel(columns[name])
    n = changes["change"].value_counts()
    axes[0].set(
        yticks=range(len(order)),
        yticklabels=[f"{name}\nn = {n[name]}" for name in order],
        ylim=(len(order) - 0.5, -0.5),
    )
    for ax in axes[:2]:
        ax.set_xlim(-0.03, 1.03)
    fig.supxlabel("grey: each lesion; black: mean and 95 % patient-bootstrap interval", fontsize=6)
    label_panels(axes)
    return fig


@styled
def context(lesions, curve, plateau):
    """Detection and score against the perilesional radius that is kept.  Tables 06_context, 06_curve, 06_plateau.

    plateau: its rows with scan "all" carry in `label` the column of curve they belong to, "fraction" or "score".
    """
    fig = new_figure(DOUBLE_COLUMN_MM, 66)
    left, right = fig.subplots(1, 2)
    fig.get_layout_engine().set(wspace=0.06)
    style = {"color": "black", "marker": "o", "ms": 2}
    plot_band(
        left, curve, "radius_mm", "fraction", "low_fraction", "high_fraction", **style, label="fraction, 95 % interval"
    )
    total = curve["lesions"].max()
    count = left.secondary_yaxis("right", functions=(lambda fraction: fraction * total, lambda n: n / total))
    count.set_ylabel(f"detected lesions (of {total:.0f} in {curve['patients'].max():.0f} patients)")
    left.set_ylabel("detected lesions (fraction)")

    for _, one in lesions.sort_values("radius_mm").groupby(["scan", "label"]):
        right.plot(one["radius_mm"], one["score"], color="0.8", lw=0.4, zorder=0)
    spread = [curve["score"] - curve["sd_score"], curve["score"] + curve["sd_score"]]
    right.fill_between(curve["radius_mm"], *spread, color="#ddaa33", alpha=0.25, linewidth=0, label="mean ± SD")
    plot_band(right, curve, "radius_mm", "score", "low_score", "high_score", **style, label="mean, 95 % interval")
    right.plot([], [], color="0.8", lw=0.4, label="each lesion")
    right.set_ylabel("mean lesion probability")

    whole = plateau[plateau["scan"] == "all"].set_index("label")
    for ax, name in ((left, "fraction"), (right, "score")):
        radius, low, high = whole.loc[name, ["radius95_mm", "low", "high"]]
        if np.isfinite(radius):
            label = f"95 % of plateau: {radius:g} mm ({low:.1f} to {high:.1f})"
            ax.axvline(radius, color="#004488", ls="--", lw=0.8, label=label)
        ax.set(xlabel="perilesional tissue kept (mm from the lesion)", ylim=(-0.03, 1.03), xlim=(0, None))
        ax.legend()
    label_panels((left, right))
    return fig
