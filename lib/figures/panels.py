"""Anatomical figures: axial slices in neurological convention, patient's left on the left, at print size.

Volumes are RAS, (X, Y, Z); images (2, X, Y, Z) hold the z-scored FLAIR and MPRAGE, background exactly 0.
"""

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from lib.figures.style import (
    DOUBLE_COLUMN_MM,
    KIND_COLOURS,
    MAP_UNIT,
    label_axis,
    map_scale,
    new_panels,
    power_of_ten,
    styled,
)
from lib.scans import SEQUENCES

OUTLINE_COLOURS = KIND_COLOURS | {"annotation": "white", "predicted": "#7dff9b"}  # on anatomy, which is dark or grey
FIELD_MM = 60
EDGE = [withStroke(linewidth=1.3, foreground="black", alpha=0.6)]  # keeps type and contours legible on any grey
BAR = {"location": "bottom", "aspect": 60, "pad": 0.02}


def draw_projections(fig, frequency, affine, brain):
    """Largest frequency (scans) along each axis, cropped to the brain, which is outlined; axes in mm, one scale.

    frequency: (X, Y, Z) int.  affine: (4, 4), RAS and along the axes.  brain: (X, Y, Z) bool.  Returns the three axes.
    """
    spacing, offset = np.diag(affine)[:3], affine[:3, 3]
    corners = np.argwhere(brain)
    corners = corners if len(corners) else np.array([[0, 0, 0], frequency.shape])
    low, high = corners.min(0) * spacing + offset - 5, corners.max(0) * spacing + offset + 5
    axes = fig.subplots(1, 3, width_ratios=(high - low)[[1, 0, 0]])
    directions = ("x (mm), left to right", "y (mm), posterior to anterior", "z (mm), inferior to superior")
    for ax, along, name in zip(axes, range(3), ("sagittal", "coronal", "axial"), strict=True):
        u, v = shown = np.delete(range(3), along)
        counts = np.ma.masked_equal(frequency.max(axis=along), 0)
        extent = np.repeat(offset[shown], 2) + _extent(counts, spacing[shown])
        place = {"origin": "lower", "extent": extent}
        drawn = ax.imshow(counts.T, cmap="magma_r", vmin=0, vmax=max(frequency.max(), 1), **place)
        edge = np.pad(brain.max(axis=along), 1)  # closed where the brain ends at the border of the volume
        place["extent"] = np.repeat(offset[shown] - spacing[shown], 2) + _extent(edge, spacing[shown])
        ax.contour(edge.T, levels=[0.5], colors="0.5", linewidths=0.6, **place)
        ax.set(xlim=(low[u], high[u]), ylim=(low[v], high[v]), xlabel=directions[u], ylabel=directions[v], title=name)
    ticks, label = MaxNLocator(6, integer=True), "largest count along the projection (scans)"
    fig.colorbar(drawn, ax=axes, label=label, ticks=ticks, shrink=0.7)
    return axes


def prepare_field(ax, centre_mm, size_mm):
    """Black field of size_mm (width, height) about centre_mm, without ticks."""
    limits = [(centre - size / 2, centre + size / 2) for centre, size in zip(centre_mm, size_mm, strict=True)]
    ax.set(xlim=limits[0], ylim=limits[1], xticks=[], yticks=[], aspect="equal", facecolor="black")
    ax.spines[:].set_visible(False)


def _extent(plane, spacing_mm):
    """Outer edges of an (X, Y) plane in mm, the centre of its first voxel being the origin."""
    return [edge for n, s in zip(plane.shape, spacing_mm, strict=False) for edge in (-0.5 * s, (n - 0.5) * s)]


def draw_plane(ax, plane, spacing_mm, **style):
    ax.imshow(plane.T, origin="lower", extent=_extent(plane, spacing_mm), **style)


def draw_map(ax, plane, spacing_mm, scale):
    """An (X, Y) plane of a saliency map in the colours of `map_scale`."""
    draw_plane(ax, plane, spacing_mm, cmap=scale.cmap, norm=scale.norm)


def draw_anatomy(ax, channel, z, spacing_mm):
    """Axial slice z of one channel, (X, Y, Z), in grey between percentiles 0.5 and 99.8 of its brain."""
    low, high = np.percentile(channel[channel != 0], (0.5, 99.8))
    draw_plane(ax, np.ma.masked_equal(channel[:, :, z], 0), spacing_mm, cmap="gray", vmin=low, vmax=high)


def draw_surroundings(ax, channel, centre, spacing_mm, size_mm=FIELD_MM):
    """Axial slice of one channel, (X, Y, Z), in a square field about the voxel centre (x, y, z)."""
    prepare_field(ax, np.multiply(centre[:2], spacing_mm[:2]), (size_mm, size_mm))
    draw_anatomy(ax, channel, int(centre[2]), spacing_mm)


def draw_whole_slice(ax, image, channel, z, spacing_mm):
    """Axial slice z of one channel of an image (2, X, Y, Z), in a field that holds its whole brain."""
    corners = np.argwhere((image != 0).any(axis=(0, 3))) * spacing_mm[:2]
    prepare_field(ax, (corners.min(0) + corners.max(0)) / 2, np.ptp(corners, axis=0) + 6)
    draw_anatomy(ax, image[channel], z, spacing_mm)


def draw_outline(ax, plane, spacing_mm, colour):
    if plane.any():
        line = {"levels": [0.5], "colors": [colour], "linewidths": 0.6}
        ax.contour(plane.T, origin="lower", extent=_extent(plane, spacing_mm), **line).set_path_effects(EDGE)


def write_on(ax, x, y, text, **style):
    """White type on the anatomy, at (x, y) in fractions of the axes."""
    ax.text(x, y, text, transform=ax.transAxes, color="white", fontsize=6, path_effects=EDGE, **style)


def mark_sides(ax, length_mm):
    """Patient's left and right, and a scale bar."""
    write_on(ax, 0.02, 0.98, "L", ha="left", va="top")
    write_on(ax, 0.98, 0.98, "R", ha="right", va="top")
    share = length_mm / np.ptp(ax.get_xlim())
    ax.plot([0.05, 0.05 + share], [0.04, 0.04], transform=ax.transAxes, color="white", lw=1.5, path_effects=EDGE)
    write_on(ax, 0.05, 0.065, f"{length_mm} mm", ha="left", va="bottom")


def largest_slice(mask, name):
    """Voxel at the middle of the mask's largest axial slice."""
    if not mask.any():
        raise ValueError(f"the mask of {name!r} is empty: give the voxels of its lesion")
    z = int(mask.sum(axis=(0, 1)).argmax())
    return *np.argwhere(mask[:, :, z]).mean(axis=0), z


def _matched(annotated, predicted):
    """(X, Y, Z) masks by kind, of label images: predicted instances on (TP) and off (FP) the annotation, annotated ones
    missed (FN); all that is predicted without annotation (None)."""
    prediction = predicted > 0
    if annotated is None:
        return {"predicted": prediction}
    annotation = annotated > 0
    hit = np.isin(predicted, np.unique(predicted[annotation])) & prediction
    found = np.isin(annotated, np.unique(annotated[prediction])) & annotation
    return {"annotation": annotation, "TP": hit, "FP": prediction & ~hit, "FN": annotation & ~found}


@styled
def plot_examples(cases):
    """Annotation and prediction on axial slices, one scan a row, with the surroundings of one voxel enlarged.

    cases: dicts of image (2, X, Y, Z), label images (X, Y, Z) of annotation (None: there is none) and prediction,
    centre (voxel x, y, z), spacing_mm, title.
    """
    shape, widths, names = (len(cases), 4), (1, 1, 1, 1.22), {}
    fig, axes = new_panels(52 * len(cases) + 10, *shape, letters=False, squeeze=False, width_ratios=widths)
    for row, case in zip(axes, cases, strict=True):
        spacing, z = case["spacing_mm"], int(case["centre"][2])
        for ax, channel in zip(row[:3], (0, 1, 0), strict=True):
            draw_whole_slice(ax, case["image"], channel, z, spacing)
        draw_surroundings(row[3], case["image"][0], case["centre"], spacing)
        masks = _matched(case["annotation"], case["prediction"])
        names |= dict.fromkeys(masks)
        for ax in row[2:]:
            for kind, mask in masks.items():
                draw_outline(ax, mask[:, :, z], spacing, OUTLINE_COLOURS[kind])
        corner = np.multiply(case["centre"][:2], spacing[:2]) - FIELD_MM / 2
        row[2].add_patch(Rectangle(corner, FIELD_MM, FIELD_MM, fill=False, edgecolor="0.8", lw=0.5, ls=":"))
        row[0].set_ylabel(case["title"])
        mark_sides(row[0], 20)
        mark_sides(row[3], 10)
    for ax, title in zip(axes[0], (*SEQUENCES, "FLAIR with contours", f"enlarged, {FIELD_MM} mm"), strict=True):
        ax.set_title(title)
    lines = [Line2D([], [], color=OUTLINE_COLOURS[name], lw=1.5) for name in names]
    style = {"loc": "outside lower center", "frameon": True, "facecolor": "0.2", "labelcolor": "white"}
    texts = ["FN (annotated, missed)" if name == "FN" else name for name in names]
    fig.legend(lines, texts, ncols=len(names), **style)
    return fig


@styled
def plot_saliency_maps(cases, unit=MAP_UNIT, sequence="FLAIR"):
    """Instance saliency over anatomy, one lesion a row: SmoothGrad of both sequences at one scale, Grad-CAM++.

    cases: dicts of kind, label, image and saliency (2, X, Y, Z), cam (X, Y, Z) or None, lesion (X, Y, Z) bool,
    spacing_mm.  sequence: below Grad-CAM++, which has one map for all that the network takes.
    Axial slice where the lesion is largest; every row shares the limits of its method, the largest value that is shown
    (or, where none is, the largest there is).
    """
    cams = any(case["cam"] is not None for case in cases)
    height = (34 if cams else 42) * len(cases) + 22
    fig, axes = new_panels(height, len(cases), 4 + cams, letters=False, squeeze=False)
    centres = [largest_slice(case["lesion"], case["label"]) for case in cases]
    limit, top = (_limit(cases, name, centres) for name in ("saliency", "cam"))
    signed, positive = map_scale(limit), map_scale(top, signed=False)
    for row, case, centre in zip(axes, cases, centres, strict=True):
        spacing, (flair, mprage) = case["spacing_mm"], case["saliency"]
        maps = (None, flair, None, mprage, case["cam"])
        below, scales = (0, 0, 1, 1, SEQUENCES.index(sequence)), (signed,) * 4 + (positive,)
        for ax, channel, values, scale in zip(row, below, maps, scales, strict=False):
            draw_surroundings(ax, case["image"][channel], centre, spacing)
            if values is not None:
                draw_map(ax, values[:, :, centre[2]], spacing, scale)
                peak = values.flat[np.abs(values).argmax()] / 10 ** power_of_ten(scale.norm.vmax)  # as its bar
                write_on(ax, 0.03, 0.03, f"peak {peak:+.2f}".replace("-", "−"))
            draw_outline(ax, case["lesion"][:, :, centre[2]], spacing, "white")
        if cams and case["cam"] is None:
            write_on(row[4], 0.5, 0.05, "not computed", ha="center")
        row[0].set_ylabel(f"{case['kind']}\n{case['label']}", color=KIND_COLOURS[case["kind"]])
        mark_sides(row[0], 10)
    titles = ("FLAIR", "SmoothGrad, FLAIR", "MPRAGE", "SmoothGrad, MPRAGE", "Grad-CAM++")
    for ax, title in zip(axes[0], titles, strict=False):
        ax.set_title(title)
    bar = fig.colorbar(signed, ax=axes[:, :4], **BAR).ax
    label_axis(bar.xaxis, "SmoothGrad saliency", unit, limit)
    bar.set_xlabel(bar.get_xlabel() + ", one scale for all rows")
    if cams:
        label_axis(fig.colorbar(positive, ax=axes[:, 4:], **BAR | {"aspect": 14}).ax.xaxis, "Grad-CAM++", "a.u.", top)
    return fig


def _limit(cases, name, centres):
    """Largest magnitude of the maps `name` of cases in the fields about centres; where these are empty, anywhere; else 1."""
    shown, anywhere = [0], [0]
    for case, (x, y, z) in zip(cases, centres, strict=True):
        if (values := case[name]) is not None:
            halves = (round(FIELD_MM / 2 / spacing) for spacing in case["spacing_mm"][:2])
            field = [slice(max(round(c) - h, 0), round(c) + h + 1) for c, h in zip((x, y), halves, strict=True)]
            shown.append(np.abs(values[..., *field, z]).max())
            anywhere.append(np.abs(values).max())
    return float(max(shown) or max(anywhere) or 1)


@styled
def plot_synthetic_panels(cases):
    """Inserted or changed lesions in FLAIR (above) and MPRAGE (below), at most six a band, with the network's score.

    cases: dicts of image (2, X, Y, Z), mask (X, Y, Z) bool, score (mean probability over the mask), spacing_mm, title.
    """
    bands = -(-len(cases) // 6)
    columns = -(-len(cases) // bands)
    height = bands * (2 * DOUBLE_COLUMN_MM / max(columns, 4) + 8)
    fig, axes = new_panels(height, 2 * bands, columns, letters=False, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for index, case in enumerate(cases):
        band, column = divmod(index, columns)
        centre = largest_slice(case["mask"], case["title"])
        for channel, ax in enumerate(axes[2 * band : 2 * band + 2, column]):
            ax.set_axis_on()
            draw_surroundings(ax, case["image"][channel], centre, case["spacing_mm"])
            draw_outline(ax, case["mask"][:, :, centre[2]], case["spacing_mm"], KIND_COLOURS["FP"])
            if column == 0:
                ax.set_ylabel(SEQUENCES[channel])
                mark_sides(ax, 10)
        axes[2 * band, column].set_title(f"{case['title']}\nscore {case['score']:.2f}")
    return fig
