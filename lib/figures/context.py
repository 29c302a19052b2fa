"""Figures of the context experiment: response against the tissue kept, by what replaces the rest, and radii of lesions."""

import numpy as np
from matplotlib.ticker import LogLocator

from lib.figures.style import (
    SEQUENCE_COLOURS,
    draw_band,
    draw_bands,
    has_data,
    new_panels,
    nothing_to_show,
    rows_of,
    styled,
)

GROWTHS = {"euclidean": "perilesional tissue kept (mm)", "dilation": "18-connected dilations of the lesion"}
CURVES = {"fraction": "detected lesions (fraction)", "score": "mean lesion probability"}
FILL_COLOURS = {"mean": "black", "air": "#ee7733", "blurred": "#009988"}
PLACES = {
    "volume_mm3": "lesion volume (mm³)",
    "nearest_lesion_mm": "to the nearest lesion (mm)",
    "surface_mm": "to the brain's surface (mm)",
    "ventricle_mm": "to the ventricles (mm)",
}
REACHES = {"reach5_flair_mm": "FLAIR", "reach5_mprage_mm": "MPRAGE"}


@styled
def plot_context(responses, curve, plateau):
    """Detection and score against the tissue kept, the rest being the mean: tables 06_context, 06_curve, 06_plateau."""
    fig, axes = new_panels(116, 2, 2, sharey="col")
    for pair, (growth, label) in zip(axes, GROWTHS.items(), strict=True):
        here = rows_of(curve, fill="mean", growth=growth).sort_values("step")
        each = rows_of(responses, fill="mean", growth=growth)
        each = each.pivot(index="step", columns=["scan", "label"], values="score")
        pair[1].plot(each.index, each, color="0.8", lw=0.4, zorder=0)[0].set_label("each lesion")
        spread = [here["score"] - here["sd_score"], here["score"] + here["sd_score"]]
        pair[1].fill_between(here["step"], *spread, color="#ddaa33", alpha=0.25, linewidth=0, label="mean ± SD")
        for ax, name, text in zip(pair, CURVES, ("fraction", "mean"), strict=True):
            style = {"color": "black", "marker": "o", "ms": 2, "label": f"{text}, 95 % interval"}
            draw_band(ax, here, "step", name, **style)
            found = rows_of(plateau, fill="mean", growth=growth, curve=name).iloc[0]
            if np.isfinite(found["step95"]):
                interval = f"{found['step95']:g} ({found['low']:.3g} to {found['high']:.3g})"
                ax.axvline(found["step95"], color="#004488", ls="--", lw=0.8, label=f"95 % of plateau: {interval}")
            ax.set(xlabel=label, ylabel=CURVES[name], ylim=(-0.03, 1.03), xlim=(0, None), title=_count(here))
            ax.legend(loc="lower right")
    return fig


def _count(curve):
    return f"n = {curve['lesions'].max():.0f} lesions, {curve['patients'].max():.0f} patients"


@styled
def plot_fills(curve, plateau):
    """Detection, score and 95 % of their plateau by what replaces the rest.  Tables 06_curve and 06_plateau."""
    curve, plateau = (rows_of(table, growth="euclidean") for table in (curve, plateau))
    fig, axes = new_panels(64, 1, 3, width_ratios=(4, 4, 3))
    names = [name for name in FILL_COLOURS if (plateau["fill"] == name).any()]
    for shift, name in zip(0.2 * (np.arange(len(names)) - (len(names) - 1) / 2), names, strict=True):
        rows = rows_of(plateau, fill=name)
        place = np.arange(len(rows)) + shift
        axes[2].vlines(place, rows["low"], rows["high"], color=FILL_COLOURS[name], lw=1)
        axes[2].plot(place, rows["step95"], "o", color=FILL_COLOURS[name], clip_on=False)
    for ax, (column, label) in zip(axes, CURVES.items(), strict=False):
        draw_bands(ax, curve, "step", column, "fill", FILL_COLOURS)
        ax.set(xlabel=GROWTHS["euclidean"], ylabel=label, ylim=(-0.03, 1.03), xlim=(0, None))
    axes[0].set_title(_count(curve))
    axes[1].legend(title="in place of the rest", loc="lower right")
    axes[2].set_xticks(range(len(CURVES)), ["detected\nlesions", "mean\nprobability"])
    axes[2].set(xlim=(-0.5, 1.5), ylim=(0, None), ylabel="95 % of the plateau (mm)")
    return fig


@styled
def plot_radii(lesions, correlations, agreement):
    """Context radius of each lesion against its size, its place and its saliency's reach.

    Tables 06_lesions, 06_correlations and 06_agreement.
    """
    if lesions.empty:
        return nothing_to_show()
    fig, axes = new_panels(115, 2, 4)
    found = correlations.set_index("with")
    for ax, (name, label) in zip(axes[0], PLACES.items(), strict=True):
        ax.vlines(lesions[name], lesions["radius95_low_mm"], lesions["radius95_high_mm"], color="0.75", lw=0.6)
        ax.plot(lesions[name], lesions["radius95_mm"], "o", ms=2.5, color="black", clip_on=False)
        ax.set(xlabel=label, ylim=(0, None))
        _write_rho(ax, found.loc[name])
    axes[0, 0].set_ylabel("context radius (mm)")
    if has_data(axes[0, 0]):
        axes[0, 0].set_xscale("log")
        axes[0, 0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[0, 0].xaxis.set_major_formatter("{x:g}")
        axes[0, 0].xaxis.set_minor_formatter("")
    found, radius = agreement.set_index("with"), lesions["radius95_mm"]
    for (scatter, difference), (name, sequence) in zip(axes[1].reshape(2, 2), REACHES.items(), strict=True):
        reach, one, top = lesions[name], found.loc[name], lesions[["radius95_mm", name]].max(axis=None)
        style = {"marker": "o", "ls": "", "ms": 2.5, "color": SEQUENCE_COLOURS[sequence], "alpha": 0.6}
        scatter.plot([0, top], [0, top], color="0.7", lw=0.6)
        scatter.plot(radius, reach, **style)
        scatter.set(xlabel="context radius (mm)", ylabel=f"{sequence} saliency's reach (mm)")
        _write_rho(scatter, one)
        difference.plot(radius + (reach - radius) / 2, reach - radius, **style)
        difference.axhspan(one["difference_low"], one["difference_high"], color="0.85", zorder=0)
        for level, line in (("mean_difference", "-"), ("limit_low", "--"), ("limit_high", "--")):
            difference.axhline(one[level], color="black", lw=0.7, ls=line)
        difference.set(xlabel="mean of both (mm)", ylabel=f"{sequence} reach − radius (mm)")
    n = " to ".join(f"{n:g}" for n in sorted({*correlations["lesions"], *agreement["lesions"]}))
    fig.supxlabel(f"n = {n} lesions, {lesions['subject'].nunique()} patients", fontsize=6)
    return fig


def _write_rho(ax, row):
    """Correlation with its interval, at the right above the axes."""
    text = f"ρ {row['rho']:z.2f} ({row['low']:z.2f} to {row['high']:z.2f})"
    ax.set_title(text.replace("-", "\N{MINUS SIGN}"), loc="right", fontsize=6)
