"""Figures of one explained lesion: its map in three planes, its radial profile and its context curve."""

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from lib.figures import (
    ACTIVATION_MAP,
    DOUBLE_COLUMN_MM,
    KIND_COLOURS,
    METHOD_LABELS,
    METHOD_UNITS,
    SALIENCY_MAP,
    SEQUENCE_COLOURS,
    SINGLE_COLUMN_MM,
    draw_outline,
    draw_plane,
    label_axis,
    label_panels,
    new_figure,
    prepare_field,
    styled,
    write_on,
)

FIELD_MM = 60
PLANES = {
    "axial": (0, 1),
    "coronal": (0, 2),
    "sagittal": (1, 2),
}  # the axes that are shown; a slice lies along the third
SIDES = {"axial": "LR", "coronal": "LR", "sagittal": "PA"}
COLOURS = {**SEQUENCE_COLOURS, "both": "black"}


def colour_scale(method, maps):
    """Colours of the maps {sequence: (X, Y, Z)} of one lesion, at one scale; symmetric around 0 if they are signed."""
    limit = max(np.abs(values).max() for values in maps.values()) or 1.0
    if method == "grad_cam":
        return ScalarMappable(Normalize(0, limit), ACTIVATION_MAP)
    return ScalarMappable(Normalize(-limit, limit), SALIENCY_MAP)


@styled
def plot_scale_bar(method, scale):
    """The colours of `colour_scale` with their unit, as a strip."""
    fig = new_figure(SINGLE_COLUMN_MM, 12)
    _label(fig.colorbar(scale, cax=fig.subplots(), orientation="horizontal"), method, scale)
    return fig


@styled
def plot_curves(method, profile, context, threshold):
    """Radial profile and context curve of one lesion.  Arguments as of `lesion`; context may be None."""
    fig = new_figure(SINGLE_COLUMN_MM, 92)
    upper, lower = fig.subplots(2, 1)
    _draw_profile(upper, method, profile)
    _draw_context(lower, context, threshold)
    return fig


@styled
def plot_lesion(title, image, mask, spacing_mm, method, maps, profile, context, threshold):
    """One lesion explained: the map of each sequence in three planes through it, its radial profile and context curve.

    image: (2, X, Y, Z) FLAIR and MPRAGE, background 0.  mask: (X, Y, Z) bool, outlined.  maps: {sequence: (X, Y, Z)}.
    profile: of `explanation.measure`, one method.  context: of `context.context_response`.  threshold: of the probability.
    """
    fig = new_figure(DOUBLE_COLUMN_MM, 60 + 46 * len(maps))
    upper, lower = fig.subfigures(2, 1, height_ratios=(46 * len(maps) + 8, 52))
    axes, scale = upper.subplots(len(maps), 3, squeeze=False), colour_scale(method, maps)
    centre = np.argwhere(mask).mean(0).round().astype(int)
    for row, (sequence, values) in zip(axes, maps.items(), strict=True):
        for ax, plane in zip(row, PLANES, strict=True):
            channel = image[int(sequence == "MPRAGE")]
            _draw_map(ax, plane, centre, channel, mask, values, scale, spacing_mm)
        row[0].set_ylabel("FLAIR below the map" if sequence == "both" else sequence)
    for ax, plane in zip(axes[0], PLANES, strict=True):
        ax.set_title(plane)
    upper.suptitle(title)
    _label(upper.colorbar(scale, ax=axes, aspect=40, pad=0.02), method, scale)
    curves = lower.subplots(1, 2)
    _draw_profile(curves[0], method, profile)
    _draw_context(curves[1], context, threshold)
    label_panels([axes[0, 0], *curves])
    return fig


def _draw_map(ax, plane, centre, channel, mask, values, scale, spacing_mm):
    """One plane through the voxel `centre`: anatomy, map and outline of the lesion."""
    shown = PLANES[plane]
    along = 3 - sum(shown)
    spacing = [spacing_mm[axis] for axis in shown]
    channel_plane, mask_plane, map_plane = (volume.take(centre[along], along) for volume in (channel, mask, values))
    low, high = np.percentile(channel[channel != 0], (0.5, 99.8))
    prepare_field(ax, [centre[axis] * spacing_mm[axis] for axis in shown], (FIELD_MM, FIELD_MM))
    draw_plane(ax, np.ma.masked_equal(channel_plane, 0), spacing, cmap="gray", vmin=low, vmax=high)
    draw_plane(ax, map_plane, spacing, cmap=scale.cmap, norm=scale.norm)
    draw_outline(ax, mask_plane, spacing, "white")
    for x, side in zip((0.04, 0.96), SIDES[plane], strict=True):
        write_on(ax, x, 0.97, side, ha="center", va="top")


def _draw_profile(ax, method, profile):
    for sequence, rows in profile.groupby("sequence", sort=False):
        ax.plot(rows["distance_mm"], rows["value"], "o-", ms=2, color=COLOURS[sequence], label=sequence)
    ax.axhline(0, color="0.7", lw=0.6, zorder=0)
    ax.axvline(0, color="0.3", lw=0.6, ls="--", zorder=0)
    ax.annotate("inside", (-0.3, 1), xycoords=("data", "axes fraction"), ha="right", va="top", fontsize=6)
    ax.margins(y=0.15)  # room for the word above the curves
    ax.set(xlabel="distance from lesion border (mm)", title=METHOD_LABELS[method])
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    label_axis(ax.yaxis, "mean saliency", METHOD_UNITS[method], profile["value"].abs().max())
    ax.legend()


def _draw_context(ax, context, threshold):
    ax.axhline(threshold, color=KIND_COLOURS["FN"], lw=0.8, ls="--", label=f"threshold {threshold:.2f}")
    if context is not None:
        ax.plot(context["radius_mm"], context["peak"], color="0.6", label="largest over the lesion")
        ax.plot(context["radius_mm"], context["score"], "o-", ms=2, color="black", label="mean over the lesion")
    ax.set(xlabel="tissue kept around the lesion (mm)", ylabel="lesion probability", ylim=(-0.03, 1.03), xlim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.legend()


def _label(bar, method, scale):
    axis = bar.ax.xaxis if bar.orientation == "horizontal" else bar.ax.yaxis
    label_axis(
        axis, METHOD_LABELS[method] if method == "grad_cam" else "saliency", METHOD_UNITS[method], scale.norm.vmax
    )
