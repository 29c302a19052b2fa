"""Anatomical figures: axial slices in neurological convention, patient's left on the left, at print size.

Volumes are RAS, (X, Y, Z); images (2, X, Y, Z) hold the z-scored FLAIR and MPRAGE, background exactly 0.
"""

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from lib.figures.style import (
    ACTIVATION_MAP,
    DOUBLE_COLUMN_MM,
    KIND_COLOURS,
    SALIENCY_MAP,
    label_axis,
    new_figure,
    styled,
)
from lib.lesions import label_instances
from lib.scans import SEQUENCES

ANNOTATION_COLOUR = "white"
FIELD_MM = 60
EDGE = [withStroke(linewidth=1.3, foreground="black", alpha=0.6)]  # keeps type and contours legible on any grey


def draw_projections(fig, frequency, affine, brain=None):
    """Largest frequency (scans) along each axis, cropped to the brain and outlined if it is given; axes in mm, one scale.

    frequency: (X, Y, Z) int.  affine: (4, 4), RAS and along the axes.  brain: (X, Y, Z) bool.  Returns the three axes.
    """
    spacing, offset = np.diag(affine)[:3], affine[:3, 3]
    field = frequency > 0 if brain is None else brain
    corners = np.argwhere(field) if field.any() else np.array([[0, 0, 0], frequency.shape])
    low, high = corners.min(0) * spacing + offset - 5, corners.max(0) * spacing + offset + 5
    planes = ((1, 2, 0, "sagittal"), (0, 2, 1, "coronal"), (0, 1, 2, "axial"))
    axes = fig.subplots(1, 3, width_ratios=[high[u] - low[u] for u, *_ in planes])
    directions = ("x (mm), left to right", "y (mm), posterior to anterior", "z (mm), inferior to superior")
    for ax, (u, v, along, name) in zip(axes, planes, strict=True):
        centres = [np.arange(frequency.shape[a]) * spacing[a] + offset[a] for a in (u, v)]
        extent = [
            edge
            for a, c in zip((u, v), centres, strict=True)
            for edge in (c[0] - spacing[a] / 2, c[-1] + spacing[a] / 2)
        ]
        counts = np.ma.masked_equal(frequency.max(axis=along), 0)
        drawn = ax.imshow(counts.T, origin="lower", extent=extent, cmap="magma_r", vmin=0, vmax=max(frequency.max(), 1))
        if brain is not None:
            ax.contour(*centres, brain.max(axis=along).T, levels=[0.5], colors="0.5", linewidths=0.6)
        ax.set(xlim=(low[u], high[u]), ylim=(low[v], high[v]), xlabel=directions[u], ylabel=directions[v], title=name)
    fig.colorbar(
        drawn,
        ax=axes,
        label="largest count along the projection (scans)",
        ticks=MaxNLocator(6, integer=True),
        shrink=0.7,
    )
    return axes


def prepare_field(ax, centre_mm, size_mm):
    """Black field of size_mm (width, height) about centre_mm, without ticks."""
    (x, y), (width, height) = centre_mm, size_mm
    ax.set(
        xlim=(x - width / 2, x + width / 2), ylim=(y - height / 2, y + height / 2), xticks=[], yticks=[], aspect="equal"
    )
    ax.set_facecolor("black")
    ax.spines[:].set_visible(False)


def _extent(plane, spacing_mm):
    """Outer edges of an (X, Y) plane in mm, the centre of its first voxel being the origin."""
    return [edge for n, s in zip(plane.shape, spacing_mm, strict=False) for edge in (-0.5 * s, (n - 0.5) * s)]


def draw_plane(ax, plane, spacing_mm, **style):
    ax.imshow(plane.T, origin="lower", extent=_extent(plane, spacing_mm), **style)


def draw_anatomy(ax, channel, z, spacing_mm):
    """Axial slice z of one channel, (X, Y, Z), in grey between percentiles 0.5 and 99.8 of its brain."""
    low, high = np.percentile(channel[channel != 0], (0.5, 99.8))
    plane = np.ma.masked_equal(channel[:, :, z], 0)
    draw_plane(ax, plane, spacing_mm, cmap="gray", vmin=low, vmax=high)


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
    x, y = np.argwhere(mask[:, :, z]).mean(axis=0)
    return x, y, z


def _matched(annotation, prediction):
    """(X, Y, Z) masks by kind: predicted instances on (TP) and off (FP) the annotation, annotated ones missed (FN)."""
    predicted, annotated = label_instances(prediction), label_instances(annotation)
    hit = np.isin(predicted, np.unique(predicted[annotation])) & prediction
    found = np.isin(annotated, np.unique(annotated[prediction])) & annotation
    return {"TP": hit, "FP": prediction & ~hit, "FN": annotation & ~found}


@styled
def plot_examples(cases):
    """Annotation and prediction on axial slices, one scan a row, with the surroundings of one voxel enlarged.

    cases: dicts of image (2, X, Y, Z), annotation and prediction (X, Y, Z) bool,
    centre (voxel x, y, z), spacing_mm, title.
    """
    fig = new_figure(DOUBLE_COLUMN_MM, 52 * len(cases) + 10, "compressed")
    axes = fig.subplots(len(cases), 4, squeeze=False, width_ratios=(1, 1, 1, 1.22))
    for row, case in zip(axes, cases, strict=True):
        spacing, z = case["spacing_mm"], int(case["centre"][2])
        corners = np.argwhere((case["image"] != 0).any(axis=(0, 3))) * spacing[:2]
        middle, size = (corners.min(0) + corners.max(0)) / 2, np.ptp(corners, axis=0) + 6
        zoom = np.multiply(case["centre"][:2], spacing[:2])
        for ax, channel in zip(row, (0, 1, 0, 0), strict=True):
            prepare_field(ax, middle, size) if ax is not row[3] else prepare_field(ax, zoom, (FIELD_MM, FIELD_MM))
            draw_anatomy(ax, case["image"][channel], z, spacing)
        for ax in row[2:]:
            draw_outline(ax, case["annotation"][:, :, z], spacing, ANNOTATION_COLOUR)
            for kind, mask in _matched(case["annotation"], case["prediction"]).items():
                draw_outline(ax, mask[:, :, z], spacing, KIND_COLOURS[kind])
        row[2].add_patch(
            Rectangle(zoom - FIELD_MM / 2, FIELD_MM, FIELD_MM, fill=False, edgecolor="0.8", lw=0.5, ls=":")
        )
        row[0].set_ylabel(case["title"])
        mark_sides(row[0], 20)
        mark_sides(row[3], 10)
    for ax, title in zip(axes[0], (*SEQUENCES, "FLAIR with contours", f"enlarged, {FIELD_MM} mm"), strict=True):
        ax.set_title(title)
    names = {"annotation": "annotation", "TP": "TP", "FP": "FP", "FN": "FN (annotated, missed)"}
    lines = [Line2D([], [], color=KIND_COLOURS.get(name, ANNOTATION_COLOUR), lw=1.5) for name in names]
    fig.legend(
        lines, names.values(), loc="outside lower center", ncols=4, frameon=True, facecolor="0.2", labelcolor="white"
    )
    return fig


@styled
def plot_saliency_maps(cases):
    """Instance saliency over anatomy, one lesion a row: SmoothGrad of both sequences at one scale, Grad-CAM++.

    cases: dicts of kind, label, image and saliency (2, X, Y, Z), cam (X, Y, Z) or None, lesion (X, Y, Z) bool,
    spacing_mm.
    Axial slice where the lesion is largest; every row shares the limits of its method, the largest value that is shown
    (or, where none is, the largest there is).
    """
    cams = any(case["cam"] is not None for case in cases)
    fig = new_figure(DOUBLE_COLUMN_MM, (34 if cams else 42) * len(cases) + 22, "compressed")
    axes = fig.subplots(len(cases), 4 + cams, squeeze=False)
    centres = [largest_slice(case["lesion"], case["label"]) for case in cases]
    limit = _limit([case["saliency"] for case in cases], centres, cases)
    top = _limit([case["cam"] for case in cases], centres, cases)
    signed = ScalarMappable(Normalize(-limit, limit), SALIENCY_MAP)
    positive = ScalarMappable(Normalize(0, top), ACTIVATION_MAP)
    for row, case, (x, y, z) in zip(axes, cases, centres, strict=True):
        spacing = case["spacing_mm"]
        maps = [None, case["saliency"][0], None, case["saliency"][1], case["cam"]]
        for ax, channel, values, scale in zip(row, (0, 0, 1, 1, 0), maps, (signed,) * 4 + (positive,), strict=False):
            prepare_field(ax, (x * spacing[0], y * spacing[1]), (FIELD_MM, FIELD_MM))
            draw_anatomy(ax, case["image"][channel], z, spacing)
            if values is not None:
                draw_plane(ax, values[:, :, z], spacing, cmap=scale.cmap, norm=scale.norm)
                write_on(ax, 0.03, 0.03, f"peak {values.flat[np.abs(values).argmax()]:+.2g}".replace("-", "−"))
            draw_outline(ax, case["lesion"][:, :, z], spacing, "white")
        if cams and case["cam"] is None:
            write_on(row[4], 0.5, 0.05, "not computed", ha="center")
        row[0].set_ylabel(f"{case['kind']}\n{case['label']}", color=KIND_COLOURS[case["kind"]])
        mark_sides(row[0], 10)
    for ax, title in zip(
        axes[0], ("FLAIR", "SmoothGrad, FLAIR", "MPRAGE", "SmoothGrad, MPRAGE", "Grad-CAM++"), strict=False
    ):
        ax.set_title(title)
    bar = {"location": "bottom", "aspect": 60, "pad": 0.02}
    fig.colorbar(signed, ax=axes[:, :4], label="SmoothGrad saliency (logit per z-score), one scale for all rows", **bar)
    if cams:
        colour_bar = fig.colorbar(positive, ax=axes[:, 4:], **{**bar, "aspect": 14})
        label_axis(colour_bar.ax.xaxis, "Grad-CAM++", "a.u.", top)
    return fig


def _limit(maps, centres, cases):
    """Largest magnitude of maps (..., X, Y, Z) in the fields that are drawn about centres; where these are empty, anywhere; else 1.

    A map may be None.
    """
    given = [
        (one, at, case["spacing_mm"]) for one, at, case in zip(maps, centres, cases, strict=True) if one is not None
    ]
    shown = max((_shown(*one) for one in given), default=0.0)
    return shown or max((float(np.abs(one).max()) for one, *_ in given), default=0.0) or 1.0


def _shown(values, centre, spacing_mm):
    """Largest magnitude of values (..., X, Y, Z) in the field that is drawn about centre."""
    half = [round(FIELD_MM / 2 / s) for s in spacing_mm[:2]]
    (x, y), z = (round(c) for c in centre[:2]), centre[2]
    field = values[..., max(x - half[0], 0) : x + half[0] + 1, max(y - half[1], 0) : y + half[1] + 1, z]
    return float(np.abs(field).max())


@styled
def plot_synthetic_panels(cases):
    """Inserted or changed lesions in FLAIR (above) and MPRAGE (below), at most six a band, with the network's score.

    cases: dicts of image (2, X, Y, Z), mask (X, Y, Z) bool, score (mean probability over the mask), spacing_mm, title.
    """
    bands = -(-len(cases) // 6)
    columns = -(-len(cases) // bands)
    cell = DOUBLE_COLUMN_MM / max(columns, 4)
    fig = new_figure(DOUBLE_COLUMN_MM, bands * (2 * cell + 8), "compressed")
    axes = fig.subplots(2 * bands, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for index, case in enumerate(cases):
        band, column = divmod(index, columns)
        x, y, z = largest_slice(case["mask"], case["title"])
        spacing = case["spacing_mm"]
        for channel, ax in enumerate(axes[2 * band : 2 * band + 2, column]):
            ax.set_axis_on()
            prepare_field(ax, (x * spacing[0], y * spacing[1]), (FIELD_MM, FIELD_MM))
            draw_anatomy(ax, case["image"][channel], z, spacing)
            draw_outline(ax, case["mask"][:, :, z], spacing, KIND_COLOURS["FP"])
            if column == 0:
                ax.set_ylabel(SEQUENCES[channel])
                mark_sides(ax, 10)
        axes[2 * band, column].set_title(f"{case['title']}\nscore {case['score']:.2f}")
    return fig
