"""The page of a prepared scan, by which a person checks it."""

import numpy as np

from lib.figures import DOUBLE_COLUMN_MM, SEQUENCE_COLOURS, draw_outline, draw_plane, new_figure, styled
from lib.prepare.volumes import to_array

LEVELS = (0.2, 0.35, 0.5, 0.65, 0.8)  # of the brain's extent, from below
BRAIN, TEMPLATE = "#ffb000", "#33bbee"
AROUND_MM = 15  # shown around the brain
TILE_MM = 20  # of the checkerboard
KEYS = {"mi_before_bits": "mutual information before (bits)", "mi_after_bits": "and after registration (bits)",
        "overlap_template": "overlap with the template (Dice)", "in_field": "template's brain in the image (share)",
        "brain_ml": "brain (ml)", "white_over_grey_flair": "white over grey matter, FLAIR",
        "white_over_grey_t1w": "white over grey matter, T1w", "fluid_flair": "fluid over brain, FLAIR"}  # fmt: skip


@styled
def plot_prepared(scan, found):
    """Brain and template outlined on FLAIR and T1w, checkerboards of both before and after, histograms, and the numbers.

    found: as `prepare_scan` returns it.
    """
    spacing, moved = found["brain"].GetSpacing(), found["moved"]
    place = np.argwhere(to_array(found["brain"]))
    around = np.divide(AROUND_MM, spacing).astype(int)
    box = tuple(map(slice, np.maximum(place.min(0) - around, 0), place.max(0) + around))
    images = {name: to_array(found["images"][name])[box] for name in ("FLAIR", "T1w")}
    brain, fitted = (to_array(one)[box] > 0 for one in (found["brain"], found["template"]["brain"]))
    before = images | {moved: to_array(found["before"])[box]}
    low, high = np.argwhere(brain).min(0), np.argwhere(brain).max(0)
    slices = [round(low[2] + share * (high[2] - low[2])) for share in LEVELS]
    fig = new_figure(DOUBLE_COLUMN_MM, 225)
    grid = fig.add_gridspec(5, 6, height_ratios=[1, 1, 1, 1, 1.1])
    boards = {"before": _checkerboard(before, spacing), "registered": _checkerboard(images, spacing)}
    for number, (name, image) in enumerate([*images.items(), *boards.items()]):
        top = np.percentile(image[brain], 99.5) * 1.15
        planes = [(image[:, :, z], brain[:, :, z], fitted[:, :, z], spacing[:2]) for z in slices]
        x = (low[0] + high[0]) // 2 + 10
        planes.append((image[x], brain[x], fitted[x], spacing[1:]))
        for column, (plane, inside, template, sides) in enumerate(planes):
            ax = fig.add_subplot(grid[number, column])
            ax.set(xticks=[], yticks=[])
            draw_plane(ax, plane, sides, cmap="gray", vmin=0, vmax=top)
            if number < 2:
                draw_outline(ax, template, sides, TEMPLATE)
                draw_outline(ax, inside, sides, BRAIN)
            if not column:
                ax.set_ylabel(name if number < 2 else f"FLAIR and T1w,\n{name}")
    ax = fig.add_subplot(grid[4, :3])
    for (name, image), colour in zip(images.items(), SEQUENCE_COLOURS.values(), strict=True):
        values = image[brain] / np.median(image[brain])
        ax.hist(values, bins=np.linspace(-0.2, 2.5, 109), histtype="step", color=colour, label=name, density=True)
    ax.set(xlabel="intensity in the brain over its median", ylabel="density of voxels")
    ax.legend()
    ax = fig.add_subplot(grid[4, 3:])
    ax.set_axis_off()
    record = found["record"]
    lines = [f"{text}: {record['Numbers'][name]:.4g}" for name, text in KEYS.items()]
    lines += [f"brain mask: {record['BrainMask']}; bias correction: {record['BiasCorrection']}"]
    lines += ["within all limits" if not record["Problems"] else "FAILED: " + "\n".join(record["Problems"])]
    ax.text(0, 1, "\n".join(lines), va="top", fontsize=6, wrap=True)
    fig.suptitle(
        f"{scan}, 1 mm on the axes of the {record['Reference']}. Orange: brain; blue: fitted template. Left is the patient's left"
    )
    return fig


def _checkerboard(images, spacing):
    """FLAIR and, in every other cube, T1w, each over its median where it is not dark."""
    flair, t1w = (
        image / np.median(image[image > np.percentile(image, 60)]) for image in (images["FLAIR"], images["T1w"])
    )
    tiles = sum(
        (np.arange(n) * side // TILE_MM).reshape([-1 if i == axis else 1 for i in range(3)])
        for axis, (n, side) in enumerate(zip(flair.shape, spacing, strict=True))
    )
    return np.where(tiles % 2 == 0, flair, t1w)
