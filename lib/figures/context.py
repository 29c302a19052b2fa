"""Figures of the context experiment: response against the tissue kept, by what replaces the rest, and radii of lesions."""

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from lib.figures.style import DOUBLE_COLUMN_MM, SEQUENCE_COLOURS, draw_band, label_panels, new_figure, styled

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
    """Detection and score against the tissue kept, in mm and in dilations; the rest is the mean.

    responses, curve, plateau: tables 06_context, 06_curve and 06_plateau.
    """
    responses, curve, plateau = (table[table["fill"] == "mean"] for table in (responses, curve, plateau))
    fig = new_figure(DOUBLE_COLUMN_MM, 116)
    axes = fig.subplots(2, 2, sharey="col")
    for (left, right), (growth, label) in zip(axes, GROWTHS.items(), strict=True):
        rows, here = responses[responses["growth"] == growth], curve[curve["growth"] == growth].sort_values("step")
        style = {"color": "black", "marker": "o", "ms": 2}
        n = f"n = {here['lesions'].max():.0f} lesions, {here['patients'].max():.0f} patients"
        draw_band(
            left, here, "step", "fraction", "low_fraction", "high_fraction", **style, label="fraction, 95 % interval"
        )
        for _, one in rows.sort_values("step").groupby(["scan", "label"]):
            right.plot(one["step"], one["score"], color="0.8", lw=0.4, zorder=0)
        spread = [here["score"] - here["sd_score"], here["score"] + here["sd_score"]]
        right.fill_between(here["step"], *spread, color="#ddaa33", alpha=0.25, linewidth=0, label="mean ± SD")
        draw_band(right, here, "step", "score", "low_score", "high_score", **style, label="mean, 95 % interval")
        right.plot([], [], color="0.8", lw=0.4, label="each lesion")
        for ax, name in ((left, "fraction"), (right, "score")):
            found = plateau[(plateau["growth"] == growth) & (plateau["curve"] == name)].iloc[0]
            if np.isfinite(found["step95"]):
                interval = f"{found['step95']:g} ({found['low']:.3g} to {found['high']:.3g})"
                ax.axvline(found["step95"], color="#004488", ls="--", lw=0.8, label=f"95 % of plateau: {interval}")
            ax.set(xlabel=label, ylabel=CURVES[name], ylim=(-0.03, 1.03), xlim=(0, None), title=n)
            ax.legend(loc="lower right")
    label_panels(axes.flat)
    return fig


@styled
def plot_fills(curve, plateau):
    """Detection and score against the tissue kept, by what replaces the rest, and where 95 % of the plateau is reached.

    curve, plateau: tables 06_curve and 06_plateau.
    """
    curve, plateau = (table[table["growth"] == "euclidean"] for table in (curve, plateau))
    fig = new_figure(DOUBLE_COLUMN_MM, 64)
    axes = fig.subplots(1, 3, width_ratios=(4, 4, 3))
    names = [name for name in FILL_COLOURS if (plateau["fill"] == name).any()]
    for name in names:
        here, colour = curve[curve["fill"] == name].sort_values("step"), FILL_COLOURS[name]
        for ax, column in zip(axes, CURVES, strict=False):
            draw_band(ax, here, "step", column, f"low_{column}", f"high_{column}", color=colour, label=name)
        rows = plateau[plateau["fill"] == name]
        place = np.arange(len(rows)) + 0.2 * (names.index(name) - (len(names) - 1) / 2)
        axes[2].vlines(place, rows["low"], rows["high"], color=colour, lw=1)
        axes[2].plot(place, rows["step95"], "o", color=colour, clip_on=False)
    for ax, label in zip(axes, CURVES.values(), strict=False):
        ax.set(xlabel=GROWTHS["euclidean"], ylabel=label, ylim=(-0.03, 1.03), xlim=(0, None))
    axes[1].legend(title="in place of the rest", loc="lower right")
    axes[2].set(xticks=range(len(CURVES)), xticklabels=["detected\nlesions", "mean\nprobability"], xlim=(-0.5, 1.5))
    axes[2].set(ylabel="95 % of the plateau (mm)", ylim=(0, None))
    axes[0].set_title(f"n = {curve['lesions'].max():.0f} lesions, {curve['patients'].max():.0f} patients")
    label_panels(axes)
    return fig


@styled
def plot_radii(lesions, correlations, agreement):
    """Context radius of each lesion against its size and place, and against the reach of its saliency.

    lesions, correlations, agreement: tables 06_lesions, 06_correlations and 06_agreement.
    """
    fig = new_figure(DOUBLE_COLUMN_MM, 115)
    upper, lower = fig.subplots(2, 4)
    found = correlations.set_index("with")
    for ax, (name, label) in zip(upper, PLACES.items(), strict=True):
        ax.vlines(lesions[name], lesions["radius95_low_mm"], lesions["radius95_high_mm"], color="0.75", lw=0.6)
        ax.plot(lesions[name], lesions["radius95_mm"], "o", ms=2.5, color="black", clip_on=False)
        ax.set(xlabel=label, ylim=(0, None))
        _write_rho(ax, found.loc[name])
    upper[0].set(xscale="log", ylabel="context radius (mm)")
    upper[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    upper[0].xaxis.set_major_formatter("{x:g}")
    upper[0].xaxis.set_minor_formatter(NullFormatter())
    found = agreement.set_index("with")
    for column, (name, sequence) in enumerate(REACHES.items()):
        (scatter, difference), one = lower[2 * column : 2 * column + 2], found.loc[name]
        difference_mm, top = lesions[name] - lesions["radius95_mm"], lesions[["radius95_mm", name]].max(axis=None)
        style = {"ms": 2.5, "color": SEQUENCE_COLOURS[sequence], "alpha": 0.6}
        scatter.plot([0, top], [0, top], color="0.7", lw=0.6)
        scatter.plot(lesions["radius95_mm"], lesions[name], "o", **style)
        scatter.set(xlabel="context radius (mm)", ylabel=f"{sequence} saliency's reach (mm)")
        _write_rho(scatter, one)
        difference.plot(lesions["radius95_mm"] + difference_mm / 2, difference_mm, "o", **style)
        difference.axhspan(one["difference_low"], one["difference_high"], color="0.85", zorder=0)
        for level, line in (("mean_difference", "-"), ("limit_low", "--"), ("limit_high", "--")):
            difference.axhline(one[level], color="black", lw=0.7, ls=line)
        difference.set(xlabel="mean of both (mm)", ylabel=f"{sequence} reach − radius (mm)")
    n = " to ".join(f"{n:g}" for n in sorted({*correlations["lesions"], *agreement["lesions"]}))
    fig.supxlabel(f"n = {n} lesions, {lesions['subject'].nunique()} patients", fontsize=6)
    label_panels([*upper, *lower])
    return fig


def _write_rho(ax, row):
    """Correlation with its interval, at the right above the axes."""
    text = f"ρ {row['rho']:z.2f} ({row['low']:z.2f} to {row['high']:z.2f})"
    ax.set_title(text.replace("-", "\N{MINUS SIGN}"), loc="right", fontsize=6)
