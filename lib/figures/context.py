"""Figures of the context experiment: response against the tissue kept, by what replaces the rest, and radii of lesions."""

import numpy as np
from matplotlib.lines import Line2D
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
    with_interval,
)
from lib.statistics import counted, lesions_and_patients

GROWTHS = {"euclidean": "perilesional tissue kept (mm)", "dilation": "18-connected dilations of the lesion"}
CURVES = {"fraction": "detected lesions (fraction)", "score": "mean lesion probability"}
FILL_COLOURS = {"mean": "black", "air": "#ee7733", "blurred": "#009988"}
PLACES = {
    "volume_mm3": "lesion volume (mm³)",
    "nearest_lesion_mm": "to the nearest lesion (mm)",
    "surface_mm": "to the brain's surface (mm)",
    "ventricle_mm": "to the ventricles (mm)",
}
FIELDS = {
    f"{name}_{sequence.lower()}_mm": (f"{share} of the saliency, {sequence}", colour)
    for name, share in (("half", "50 %"), ("most", "95 %"))
    for sequence, colour in SEQUENCE_COLOURS.items()
} | {"field_mm": ("seen at all, along an axis", "black")}
REACHES = {"reach5_flair_mm": "FLAIR", "reach5_mprage_mm": "MPRAGE"}


@styled
def plot_context(responses, curve, plateau):
    """Detection and score against the tissue kept, the rest being the mean: tables 06_context, 06_curve, 06_plateau."""
    fig, axes = new_panels(158, 2, 2, sharey="col")
    for pair, (growth, axis) in zip(axes, GROWTHS.items(), strict=True):
        here = rows_of(curve, fill="mean", growth=growth).sort_values("step")
        each = rows_of(responses, fill="mean", growth=growth)
        each = each.pivot(index="step", columns=["scan", "label"], values="score")
        pair[1].plot(each.index, each, color="0.8", lw=0.4, zorder=0)[0].set_label("each lesion")
        spread = [here["score"] - here["sd_score"], here["score"] + here["sd_score"]]
        pair[1].fill_between(here["step"], *spread, color="#ddaa33", alpha=0.25, linewidth=0, label="mean ± SD")
        for ax, name, text in zip(pair, CURVES, ("fraction", "mean"), strict=True):
            label = f"{text}, {with_interval(here[f'low_{name}'], '95 % interval')}"
            draw_band(ax, here, "step", name, color="black", marker="o", ms=2, label=label)
            _mark_crossings(ax, rows_of(plateau, fill="mean", growth=growth, curve=name).iloc[0])
            ax.set(
                xlabel=axis,
                ylabel=CURVES[name],
                ylim=(-0.03, 1.03),
                xlim=(0, None),
                title=f"n = {lesions_and_patients(here)}",
            )
            # one column: two are wider than a panel where a radius is not reached
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), handlelength=1.6, handletextpad=0.5)
    return fig


def _mark_crossings(ax, found):
    """Where a curve, of a row of 06_plateau, first reaches 95 % of its plateau, and from where on it stays there."""
    ax.axhline(0.95 * found["plateau"], color="0.6", lw=0.5, zorder=0)
    if np.isnan(found["first"]):
        ax.plot([], [], " ", label="95 % of plateau: no variation" if found["plateau"] > 0 else "no plateau")
        return
    for name, text, line in (("first", "95 % of plateau first", "--"), ("last", "for good", ":")):
        low, high = (f"{found[column]:g}" for column in (f"low_{name}", f"high_{name}"))
        said = f"{found[name]:g} mm" if found["growth"] == "euclidean" else counted(found[name], "dilation")
        said = "at most " + said if found[name] == found["smallest"] else said
        said = "inf" if np.isinf(found[name]) else said
        said += "" if low == "nan" else f" ({low} to {high})"
        style = {"color": "#004488", "ls": line, "lw": 0.9, "label": f"{text}: {said.replace('inf', 'not reached')}"}
        ax.axvline(found[name] if np.isfinite(found[name]) else np.nan, **style)


@styled
def plot_fills(curve, plateau):
    """Detection, score and 95 % of their plateau by what replaces the rest.  Tables 06_curve and 06_plateau."""
    curve, plateau = (rows_of(table, growth="euclidean") for table in (curve, plateau))
    fig, axes = new_panels(64, 1, 3, width_ratios=(4, 4, 3))
    names = [name for name in FILL_COLOURS if (plateau["fill"] == name).any()]
    top = curve["step"].max()
    for shift, name in zip(0.2 * (np.arange(len(names)) - (len(names) - 1) / 2), names, strict=True):
        rows = rows_of(plateau, fill=name)
        place = np.arange(len(rows)) + shift
        for end, dx, style in (("first", -0.04, {}), ("last", 0.04, {"mfc": "white"})):
            _draw_steps(axes[2], place + dx, rows[[end, f"low_{end}", f"high_{end}"]], top, FILL_COLOURS[name], style)
    for ax, (column, label) in zip(axes, CURVES.items(), strict=False):
        draw_bands(ax, curve, "step", column, "fill", FILL_COLOURS)
        ax.set(xlabel=GROWTHS["euclidean"], ylabel=label, ylim=(-0.03, 1.03), xlim=(0, None))
    axes[0].set_title(f"n = {lesions_and_patients(curve)}")
    axes[1].legend(title="in place of the rest", loc="lower right")
    axes[2].set_xticks(range(len(CURVES)), ["detected\nlesions", "mean\nprobability"])
    axes[2].set(xlim=(-0.5, 1.5), ylim=(0, None), ylabel="95 % of the plateau (mm)")
    handles = [Line2D([], [], color="black", marker="o", ls="", mfc=fill) for fill in ("black", "white")]
    axes[2].legend(handles, ["first", "for good"], loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return fig


def _draw_steps(ax, x, steps, top, colour, style):
    """Steps with their intervals (columns step, low, high), up to the largest tried; an arrow where one is not reached."""
    for place, (step, *interval) in zip(x, steps.to_numpy(float), strict=True):
        if np.isfinite(interval[0]):
            ax.vlines(place, *np.minimum(interval, top), color=colour, lw=1)
        if not np.isnan(step):
            shown = style if step < np.inf else {"marker": "^", "mfc": "none"}
            ax.plot(place, min(step, top), **{"marker": "o", "color": colour, "clip_on": False} | shown)


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
    n = {*correlations["lesions"], *found.loc[[*REACHES], "lesions"]}
    n = f"{min(n)} to " * (len(n) > 1) + counted(max(n), "lesion")
    fig.supxlabel(f"n = {n}, {counted(lesions['subject'].nunique(), 'patient')}", fontsize=6)
    return fig


@styled
def plot_fields(curve, lesions):
    """Mean score against the tissue kept, over how far saliency and network reach.  Tables 06_curve and 06_lesions."""
    if lesions.empty:
        return nothing_to_show()
    fig, (top, bottom) = new_panels(92, 2, 1, sharex=True, height_ratios=(3, 2))
    draw_bands(top, rows_of(curve, growth="euclidean"), "step", "score", "fill", FILL_COLOURS)
    top.set(ylabel="mean lesion probability", ylim=(-0.03, 1.03), title=f"n = {lesions_and_patients(curve)}")
    top.legend(title="in place of the rest", loc="lower right")
    for place, (name, (_, colour)) in enumerate(FIELDS.items()):
        radii = lesions[name].replace(np.inf, np.nan).dropna()
        if len(radii):
            bottom.hlines(place, radii.min(), radii.max(), color=colour, lw=1)
            bottom.plot(radii.median(), place, "o", ms=3.5, color=colour)
        else:
            text = "all that the network is given" if name == "field_mm" else "not within the radii tried"
            bottom.annotate(text, (0.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=6)
    bottom.set_yticks(range(len(FIELDS)), [label for label, _ in FIELDS.values()])
    bottom.set(xlabel="distance from the lesion (mm)", xlim=(0, None), ylim=(len(FIELDS) - 0.5, -0.5))
    bottom.set_title("median and range over lesions")
    return fig


def _write_rho(ax, row):
    """Correlation with its interval, at the right above the axes."""
    interval = f" ({row['low']:z.2f} to {row['high']:z.2f})" if np.isfinite(row["low"]) else ", no interval"
    text = f"ρ {row['rho']:z.2f}{interval}" if np.isfinite(row["rho"]) else f"no ρ, n = {row['lesions']:.0f}"
    ax.set_title(text.replace("-", "\N{MINUS SIGN}"), loc="right", fontsize=6)
