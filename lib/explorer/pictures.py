"""Figures of one explained lesion: its map in three planes, its radial profile, its context curve, the shares of its score."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from lib import figures
from lib.scans import SEQUENCES

PLANES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}  # axes to the right, upwards and across
COLOURS = {**figures.SEQUENCE_COLOURS, "both": "black"}


def colour_scale(method, maps):
    """Colours of the maps {sequence: (X, Y, Z)} of one lesion, at one scale; symmetric around 0 if they are signed."""
    limit = max(np.abs(values).max() for values in maps.values()) or 1.0
    return figures.map_scale(limit, signed=method != "grad_cam")


@figures.styled
def plot_scale_bar(method, scale, unit=figures.MAP_UNIT):
    """The colours of `colour_scale` with their unit, as a strip."""
    fig = figures.new_figure(figures.SINGLE_COLUMN_MM, 12)
    _label(fig.colorbar(scale, cax=fig.subplots(), orientation="horizontal"), method, scale, unit)
    return fig


@figures.styled
def plot_curves(explained, context, threshold):
    """Radial profile and context curve of one lesion.  Arguments as of `plot_lesion`."""
    fig = figures.new_figure(figures.SINGLE_COLUMN_MM, 92)
    _draw_curves(*fig.subplots(2, 1), explained, context, threshold)
    return fig


@figures.styled
def plot_share_bars(shares, unit="logit"):
    """What each sequence, and each part of it, adds to the lesion's score.  shares: of `context.share_score`, in `unit`."""
    fig = figures.new_figure(figures.SINGLE_COLUMN_MM, 50)
    figures.draw_share_bars(fig.subplots(), shares, unit)
    return fig


@figures.styled
def plot_lesion(explained, context, threshold, shares):
    """One lesion explained: the map of each sequence in three planes through it, its radial profile, context curve, shares.

    explained: `session.Explained`.  context: of `context.context_response`.  threshold: of the probability.  shares: of
    `context.share_score`, None without.
    """
    scan, lesion, settings = explained.opened.scan, explained.lesion, explained.settings
    title = f"{scan.id}, {lesion['kind']} {lesion['label']}, {lesion['volume_mm3']:.0f} mm³"
    if settings.method != "grad_cam":
        title += f", N = {settings.n_samples}, noise {settings.noise_fraction:g} of the range"
    n, scale = len(explained.maps), colour_scale(settings.method, explained.maps)
    fig = figures.new_figure(figures.DOUBLE_COLUMN_MM, 60 + 46 * n)
    upper, lower = fig.subfigures(2, 1, height_ratios=(46 * n + 8, 52))
    axes, (*curves, bars) = upper.subplots(n, 3, squeeze=False), lower.subplots(1, 3)
    for row, (sequence, values) in zip(axes, explained.maps.items(), strict=True):
        below = explained.opened.sequences[0] if sequence == "both" else sequence
        channel = scan.image[SEQUENCES.index(below)]
        for ax, plane in zip(row, PLANES.values(), strict=True):
            _draw_map(ax, plane, channel, explained.mask, values, scan.spacing_mm, scale)
        row[0].set_ylabel(f"{below} below the map" if sequence == "both" else sequence)
    for ax, plane in zip(axes[0], PLANES, strict=True):
        ax.set_title(plane)
    upper.suptitle(title)
    _label(upper.colorbar(scale, ax=axes, aspect=40, pad=0.02), settings.method, scale, explained.opened.unit)
    _draw_curves(*curves, explained, context, threshold)
    if shares is None:
        bars.remove()
    else:
        figures.draw_share_bars(bars, shares, explained.opened.score_unit)
    figures.label_panels([axes[0, 0], *lower.axes])
    return fig


def _draw_map(ax, plane, channel, mask, values, spacing_mm, scale):
    """One plane through the middle of the lesion: anatomy, map and outline."""
    spacing = np.take(spacing_mm, plane)
    channel, mask, values = (volume.transpose(plane) for volume in (channel, mask, values))
    centre = np.argwhere(mask).mean(0).round().astype(int)
    figures.draw_surroundings(ax, channel, centre, spacing)
    figures.draw_map(ax, values[:, :, centre[2]], spacing, scale)
    figures.draw_outline(ax, mask[:, :, centre[2]], spacing, "white")
    for x, side in zip((0.04, 0.96), "PA" if plane[0] else "LR", strict=True):
        figures.write_on(ax, x, 0.97, side, ha="center", va="top")


def _draw_curves(near, far, explained, context, threshold):
    method, profile = explained.settings.method, explained.profile
    unit = figures.method_unit(method, explained.opened.unit)
    seen = profile[profile["sequence"].isin([*explained.opened.sequences, "both"])]
    for sequence, rows in seen.groupby("sequence", sort=False):
        near.plot(rows["distance_mm"], rows["value"], "o-", ms=2, color=COLOURS[sequence], label=sequence)
    near.axhline(0, color="0.7", lw=0.6, zorder=0)
    near.axvline(0, color="0.3", lw=0.6, ls="--", zorder=0)
    near.annotate("inside", (-0.3, 1), xycoords=("data", "axes fraction"), ha="right", va="top", fontsize=6)
    near.margins(y=0.15)  # room for the word above the curves
    near.set(xlabel="distance from lesion border (mm)", title=figures.METHOD_LABELS[method])
    figures.label_axis(near.yaxis, "mean saliency", unit, profile["value"].abs().max())
    far.axhline(threshold, color=figures.KIND_COLOURS["FN"], lw=0.8, ls="--", label=f"threshold {threshold:.6g}")
    far.plot(context["radius_mm"], context["peak"], color="0.6", label="largest over the lesion")
    far.plot(context["radius_mm"], context["score"], "o-", ms=2, color="black", label="mean over the lesion")
    far.set(
        xlabel="tissue kept around the lesion (mm)", ylabel="lesion probability", ylim=(-0.03, 1.03), xlim=(0, None)
    )
    for ax in (near, far):
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        ax.legend()


def _label(bar, method, scale, unit):
    text = figures.METHOD_LABELS[method] if method == "grad_cam" else "saliency"
    figures.label_axis(bar.long_axis, text, figures.method_unit(method, unit), scale.norm.vmax)
