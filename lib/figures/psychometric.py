"""Figure of psychometric curves: detection of synthetic lesions against contrast, and where it is one half."""

import numpy as np
from matplotlib import colormaps

from lib.figures.style import DOUBLE_COLUMN_MM, SEQUENCE_COLOURS, label_panels, new_figure, rows_of, styled
from lib.statistics import detection_curve

NAMES = {"FLAIR": "FLAIR only", "MPRAGE": "MPRAGE only", "both": "FLAIR and MPRAGE"}
COLOURS = SEQUENCE_COLOURS | {"both": "black"}
SURROUNDINGS = {"deep white matter": "#117733", "beside cortex": "#ddaa33", "beside ventricle": "#aa4499"}
PARAMETERS = ["midpoint", "width", "guess", "lapse"]


@styled
def plot_psychometric(response, curves, smallest, real_contrast):
    """Detection against contrast by diameter and by surroundings, and the contrast and diameter at which it is one half.

    response, curves, smallest: tables 05_response, 05_psychometric and 05_smallest.  real_contrast: {"FLAIR": z,
    "MPRAGE": z}, median contrast of the annotated lesions, marked where the sequence is changed.
    """
    deep = curves["surroundings"] == next(iter(SURROUNDINGS))
    compared = curves["diameter_mm"].isin(curves.loc[~deep, "diameter_mm"])
    rows = 2 + compared.any()
    fig = new_figure(DOUBLE_COLUMN_MM, 58 * rows)
    parts = fig.subfigures(rows, 1)
    axes = _draw_curves(parts[0], curves[deep], response, "diameter_mm", diameter_colours(curves), real_contrast)
    if compared.any():
        axes += _draw_curves(parts[1], curves[compared], response, "surroundings", SURROUNDINGS, real_contrast)
    axes += _draw_half_levels(parts[-1], curves[deep], smallest, curves[compared])
    label_panels(axes)
    return fig


def diameter_colours(table):
    """Colour of each diameter of a table."""
    diameters = np.sort(table["diameter_mm"].unique())
    return dict(zip(diameters, colormaps["viridis"](np.linspace(0, 0.85, len(diameters))), strict=True))


def mark_real_contrast(ax, sequences, real_contrast):
    """Dotted lines at the contrast of the annotated lesions in the sequences that are changed."""
    for sequence, z in real_contrast.items():
        if sequences in (sequence, "both") and np.isfinite(z):  # NaN without an annotated lesion
            ax.axvline(z, color=SEQUENCE_COLOURS[sequence], lw=0.8, ls=":", label=f"annotated, {sequence}")


def _draw_curves(fig, curves, response, name, colours, real_contrast):
    """A panel for each choice of sequences, a curve for each value of the column `name`, and the observed shares."""
    axes = fig.subplots(1, 3, sharey=True)
    for ax, sequences in zip(axes, NAMES, strict=True):
        rows = rows_of(curves, sequences=sequences).to_dict("records")
        for shift, curve in zip(np.linspace(-0.04, 0.04, len(rows)), rows, strict=True):
            colour, value = colours[curve[name]], curve[name] if name == "surroundings" else f"{curve[name]:g} mm"
            x = np.linspace(curve["first"], curve["last"], 200)
            fitted = detection_curve(x, *(curve[parameter] for parameter in PARAMETERS))
            ax.plot(x, fitted, color=colour, label=f"{value}, n = {curve['n']}")
            points = rows_of(response, **{key: curve[key] for key in ("surroundings", "sequences", "diameter_mm")})
            place = points["contrast"] + shift
            ax.vlines(place, points["low_detected"], points["high_detected"], color=colour, lw=0.6)
            ax.plot(place, points["detected"], "o", ms=2, color=colour)
        mark_real_contrast(ax, sequences, real_contrast)
        ax.set(xlabel="contrast (z-score)", title=NAMES[sequences], ylim=(-0.03, 1.03))
    axes[0].set_ylabel("detected (fraction)")
    title = f"lesions of {curves['diameter_mm'].iloc[0]:g} mm" if name == "surroundings" else "deep white matter"
    fig.legend(*axes[2].get_legend_handles_labels(), loc="outside right center", title=title)
    return list(axes)


def _draw_half_levels(fig, curves, smallest, compared):
    """Panels of the contrast at which one half is detected against diameter and by surroundings, and of the diameter."""
    axes = contrast, size, *_ = fig.subplots(1, 2 + (len(compared) > 0))
    names = [name for name in SURROUNDINGS if (compared["surroundings"] == name).any()]
    for shift, (sequences, colour) in zip((-1, 0, 1), COLOURS.items(), strict=True):
        style = {"color": colour, "label": NAMES[sequences]}
        deep, small, here = (rows_of(table, sequences=sequences) for table in (curves, smallest, compared))
        _draw_intervals(contrast, deep["diameter_mm"] + 0.08 * shift, deep["contrast50"], deep, **style)
        _draw_intervals(size, small["contrast"] + 0.04 * shift, small["diameter50_mm"], small, **style)
        for place in axes[2:]:
            x = here["surroundings"].map(names.index) + 0.15 * shift
            _draw_intervals(place, x, here["contrast50"], here, ls="", **style)
    contrast.set(xlabel="diameter (mm)", ylabel="contrast at 50 % (z-score)")
    size.set(xlabel="contrast (z-score)", ylabel="diameter at 50 % (mm)")
    for place in axes[2:]:
        place.set_xticks(range(len(names)), [name.replace(" ", "\n", 1) for name in names])
        place.set(xlim=(-0.5, len(names) - 0.5), ylabel="contrast at 50 % (z-score)")
    title = "open: known only between\ntwo levels; arrow: 50 % lies\nbeyond what was tried"
    fig.legend(handles=contrast.get_legend_handles_labels()[0], loc="outside right center", title=title)
    return list(axes)


def _draw_intervals(ax, x, level, table, color, label, ls="-"):
    """Half levels with their intervals, up to the range that was tried: open dots where they are known only between two
    levels, an arrow where one half lies above or below the range."""
    level = level.astype(float)
    value, low, high = (part.clip(table["first"], table["last"]) for part in (level, table["low"], table["high"]))
    ax.vlines(x, low, high, color=color, lw=0.8)
    ax.plot(x.where(np.isfinite(level)), value, "o", ls=ls, ms=3, color=color, label=label)
    between = np.isfinite(level) & (table["bracket_low"] < table["bracket_high"])
    ax.plot(x[between], value[between], "o", ms=3, mfc="white", color=color)
    for marker, beyond in (("^", level == np.inf), ("v", level == -np.inf)):
        ax.plot(x[beyond], value[beyond], marker, ms=4, mfc="none", mew=0.8, color=color)
