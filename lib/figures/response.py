"""Figures of the network's response to synthetic lesions and to changed ones."""

import pandas as pd

from lib.figures.psychometric import NAMES, diameter_colours, mark_real_contrast
from lib.figures.style import DOUBLE_COLUMN_MM, draw_band, label_panels, new_figure, styled
from lib.statistics import bootstrap_mean

CHANGES = ("none", "FLAIR removed", "MPRAGE removed", "both removed", "sequences swapped", "moved to grey matter")


@styled
def plot_response(response, real_contrast):
    """Score and saliency of inserted lesions against their contrast.  Table 05_response.

    real_contrast: {"FLAIR": z, "MPRAGE": z}, median contrast of the annotated lesions, marked where the sequence is changed.
    """
    peaks = (response["n_explained"] > 0).any()
    fig = new_figure(DOUBLE_COLUMN_MM, 50 * (1 + peaks) + 12)
    axes = fig.subplots(1 + peaks, 3, sharex=True, sharey="row", squeeze=False)
    colours = diameter_colours(response)
    for column, sequences in zip(axes.T, NAMES, strict=True):
        rows = response[response["sequences"] == sequences].sort_values("contrast")
        for diameter, here in rows.groupby("diameter_mm"):
            style = {"color": colours[diameter], "marker": "o", "ms": 2}
            draw_band(
                column[0], here, "contrast", "score", "low_score", "high_score", label=f"{diameter:g} mm", **style
            )
            explained = here[here["n_explained"] > 0]
            for name, line in (("peak_flair", "-"), ("peak_mprage", "--")) if len(explained) else ():
                draw_band(column[1], explained, "contrast", name, f"low_{name}", f"high_{name}", ls=line, **style)
        for ax in column:
            mark_real_contrast(ax, sequences, real_contrast)
        column[0].set_title(f"{NAMES[sequences]}, n = {rows['n'].min():.0f}")
        if peaks:
            column[1].set_title(f"n = {rows.loc[rows['n_explained'] > 0, 'n_explained'].min()}")
        column[-1].set_xlabel("contrast (z-score)")
    axes[0, 0].set(ylabel="mean lesion probability", ylim=(-0.03, 1.03))
    handles, labels = axes[0, 2].get_legend_handles_labels()
    if peaks:
        axes[1, 0].set_ylabel("peak saliency (logit per z-score)")
        dashes = [axes[1, 0].plot([], [], color="black", ls=ls)[0] for ls in ("-", "--")]
        handles, labels = handles + dashes, [*labels, "saliency in FLAIR", "saliency in MPRAGE"]
    label_panels(axes.flat)
    fig.legend(
        handles, labels, loc="outside lower center", ncols=5, title="diameter; bands: 95 % intervals; n of each point"
    )
    return fig


@styled
def plot_changes(changes, generator):
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
    fig = new_figure(DOUBLE_COLUMN_MM, 70)
    axes = fig.subplots(1, 4, sharey=True)
    for name, ax in zip(columns, axes, strict=True):
        if name != "detected":
            ax.plot(lesions[name][order].to_numpy().T, range(len(order)), color="0.75", lw=0.4)
        here = means.loc[name].loc[order]
        ax.hlines(range(len(order)), here["low"], here["high"], color="black", lw=1.2, zorder=3)
        ax.plot(here["value"], range(len(order)), "o", color="black", zorder=3)
        ax.set_xlabel(columns[name])
    counts = changes["change"].value_counts()
    axes[0].set(
        yticks=range(len(order)),
        yticklabels=[f"{name}\nn = {counts[name]}" for name in order],
        ylim=(len(order) - 0.5, -0.5),
    )
    for ax in axes[:2]:
        ax.set_xlim(-0.03, 1.03)
    n = changes["subject"].nunique()
    fig.supxlabel(f"{n} patients; grey: each lesion; black: mean and 95 % patient-bootstrap interval", fontsize=6)
    label_panels(axes)
    return fig
