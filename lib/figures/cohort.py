"""Figures of a cohort: its scans, and its lesions and images beside the reference numbers of real scans.

`groups` are measured scans by name, {name: (scans, lesions)} as `cohort.measure_cohort` returns them; colours follow that order.
"""

import numpy as np
import pandas as pd
import seaborn as sns
import seaborn.objects as so
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from nibabel.affines import voxel_sizes

from lib.cohort import OF_LESIONS, PLACES, QUANTILES, border_profile
from lib.figures.panels import draw_anatomy, mark_sides, prepare_field
from lib.figures.style import DOUBLE_COLUMN_MM, GROUP_COLOURS, new_chart, new_figure, new_panels, rows_of, styled
from lib.scans import SEQUENCES
from lib.statistics import counted

OUTLINE_COLOUR = "#ffb000"
SHORT = dict(zip(PLACES, ("periv.", "deep", "juxtac.", "infrat."), strict=True))
SHARES = np.arange(1, 100) / 100
DISTRIBUTIONS = {
    "volume_mm3": "lesion volume (mm³)",
    "load_ml": "lesion load (ml)",
    "lesions": "number of lesions",
    "ventricle_mm": "distance from the lateral ventricles (mm)",
}
RELATIONS = {
    "t1w_to_flair": "MPRAGE dark-\nening / FLAIR\nbrightening",
    "contrast_r": "correlation\nof MPRAGE\nwith FLAIR",
    "bright_lesion": "lesion share\nof bright\nvoxels",
}
NOISE = {
    f"{name}_noise_{end}": f"{sequence}\n{direction}"
    for name, sequence in (("flair", "FLAIR"), ("t1w", "MPRAGE"))
    for end, direction in (("xy", "in plane"), ("z", "along z"))
}


@styled
def plot_cohort_slices(cases, levels_mm):
    """Axial slices of scans, two scans a row: FLAIR above, MPRAGE with outlines of the lesions below, at the same world z.

    cases: dicts of image (2, X, Y, Z), lesions (X, Y, Z) bool, affine, title, drawn in turn to the left and to the right.
    """
    n = len(levels_mm)
    corners = [np.argwhere((case["image"][0] != 0).any(axis=2)) * voxel_sizes(case["affine"])[:2] for case in cases]
    field = np.max([np.ptp(corner, axis=0) for corner in corners], axis=0) + 4
    sides = min(len(cases), 2)
    cell_mm, bands = (DOUBLE_COLUMN_MM - 7 * sides) / (sides * n), -(-len(cases) // 2)
    fig = new_figure(DOUBLE_COLUMN_MM, 2 * bands * cell_mm * field[1] / field[0] + 8)
    fig.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    widths = [*[1] * n, *[0.1, *[1] * n] * (sides - 1)]
    grid = fig.add_gridspec(2 * bands, len(widths), width_ratios=widths)
    for number, case in enumerate(cases):
        (band, side), spacing = divmod(number, 2), voxel_sizes(case["affine"])
        middle = (corners[number].min(0) + corners[number].max(0)) / 2
        for column, level in enumerate(levels_mm):
            z = round((level - case["affine"][2, 3]) / case["affine"][2, 2])
            z = min(max(z, 0), case["image"].shape[3] - 1)
            for channel in range(2):
                ax = fig.add_subplot(grid[2 * band + channel, side * (n + 1) + column])
                prepare_field(ax, middle, field)
                draw_anatomy(ax, case["image"][channel], z, spacing)
                if channel and (plane := case["lesions"][:, :, z]).any():
                    x, y = (np.arange(size) * step for size, step in zip(plane.shape, spacing, strict=False))
                    ax.contour(x, y, plane.T, levels=[0.5], colors=[OUTLINE_COLOUR], linewidths=0.4)
                if column == 0:
                    ax.set_ylabel(f"{case['title']}\n{SEQUENCES[0]}" if channel == 0 else SEQUENCES[1])
                if number == channel == column == 0:
                    mark_sides(ax, 50)
                if band == channel == 0:
                    ax.set_title(f"z = {level:g} mm".replace("-", "−"))
    return fig


@styled
def plot_cohort_distributions(groups, quantiles, distances):
    """Size, load, number and place of the lesions: cumulative over lesions or scans, shares by place.

    quantiles: of `cohort.reference_tables`. distances: rows of `cohort.reference_distances` of the first group.
    """
    fig, axes = new_panels(122, 2, 3)
    for ax, (measure, label) in zip(axes.flat, DISTRIBUTIONS.items(), strict=False):
        _cumulative(ax, groups, quantiles, distances, measure, label)
        if measure != "ventricle_mm":
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
    _shares(axes[1, 1], groups, quantiles, distances, "count", "number")
    _shares(axes[1, 2], groups, quantiles, distances, "volume", "volume")
    _add_legend(fig, {name: len(scans) for name, (scans, _) in groups.items()})
    return fig


@styled
def plot_cohort_contrasts(groups, reference, distances):
    """Both sequences across the border, contrast of the lesions in both sequences and their relation, noise.

    reference: tables quantiles, scans and profile of `cohort.reference_tables`. distances: as in `plot_cohort_distributions`.
    """
    quantiles, scans, profiles = reference
    fig, axes = new_panels(122, 2, 3)
    _profiles(axes[0, 0], groups, profiles)
    _cumulative(axes[0, 1], groups, quantiles, distances, "flair", "FLAIR, lesion / white matter")
    _cumulative(axes[0, 2], groups, quantiles, distances, "t1w", "MPRAGE, lesion / white matter")
    _joint(axes[1, 0], groups, scans)
    _points(axes[1, 1], groups, scans, RELATIONS, "one value a scan")
    _points(axes[1, 2], groups, scans, NOISE, "noise SD / white matter")
    _add_legend(fig, _imaged(groups))
    return fig


def _coloured(groups):
    return zip(GROUP_COLOURS, groups.values(), strict=False)


def _add_legend(fig, n_scans):
    lines = [Line2D([], [], color=colour, lw=1.5) for colour in (*GROUP_COLOURS[: len(n_scans)], "black")]
    names = [f"{name}, {counted(n, 'scan')}" for name, n in n_scans.items()]
    fig.legend(lines, [*names, "reference (n in brackets)"], loc="outside lower center", ncols=3)


def _cumulative(ax, groups, quantiles, distances, measure, label):
    """Cumulative share of lesions or scans; of the reference solid over all, dotted for single scans."""
    for row in rows_of(quantiles, measure=measure).itertuples():
        one = row.scan != "all"
        ax.plot(row[-len(QUANTILES) :], SHARES, color="black", lw=0.6 if one else 1.2, ls=":" if one else "-")
    for colour, (scans, lesions) in _coloured(groups):
        sns.ecdfplot(lesions if measure in OF_LESIONS else scans, x=measure, color=colour, ax=ax)
    found = distances.set_index("measure").loc[measure]
    ax.set_title(f"KS {found.ks:.2f}, n = {found.n:.0f} ({found.n_reference:.0f})", fontsize=6)
    ax.set(xlabel=label, ylim=(0, 1), ylabel=f"cumulative share of {'lesions' if measure in OF_LESIONS else 'scans'}")


def _shares(ax, groups, quantiles, distances, share, name):
    """Share of a scan's lesions at each place: median and quartiles over scans."""
    reference, ks = (table.set_index("measure") for table in (quantiles[quantiles["scan"] == "all"], distances))
    measures = [f"{share}_{place}" for place in PLACES]
    boxes = [(colour, group[0][measures].quantile([0.25, 0.5, 0.75])) for colour, group in _coloured(groups)]
    boxes.append(("black", reference.loc[measures, ["q25", "q50", "q75"]].T))
    for offset, (colour, box) in zip(np.linspace(-0.2, 0.2, len(boxes)), boxes, strict=True):
        at = np.arange(len(PLACES)) + offset
        ax.vlines(at, box.iloc[0], box.iloc[2], color=colour, lw=1.5)
        ax.plot(at, box.iloc[1], "o", color=colour)
    ticks = [f"{SHORT[place]}\nKS {ks.ks[measure]:.2f}" for place, measure in zip(PLACES, measures, strict=True)]
    ax.set(xticks=range(len(PLACES)), xticklabels=ticks, ylim=(-0.02, 1.02), ylabel=f"share of the {name} of lesions")
    ax.set_title(f"n = {ks.n[measures[0]]:.0f} ({ks.n_reference[measures[0]]:.0f}) scans", fontsize=6)


def _profiles(ax, groups, reference):
    """Mean FLAIR and (dashed) MPRAGE of the lesions of one scan by signed distance, a line a scan; thick: mean over all lesions."""
    for name, dashes in (("flair", "-"), ("t1w", "--")):
        for _, rows in reference.groupby("scan"):
            ax.plot("distance_mm", name, data=rows, marker="o", ls=dashes, color="black", lw=0.8, ms=2, zorder=3)
        for colour, (_, lesions) in _coloured(groups):
            for _, rows in lesions.groupby("scan"):
                ax.plot("distance_mm", name, data=border_profile(rows), color=colour, lw=0.4, alpha=0.4, ls=dashes)
            ax.plot("distance_mm", name, data=border_profile(lesions), color=colour, lw=1.5, ls=dashes)
    ax.axvline(0, color="0.3", lw=0.6, ls=":", zorder=0)
    ax.set(xlabel="distance from the lesion border (mm)", ylabel="FLAIR, MPRAGE (dashed) / white matter")
    ax.set_title(f"n = {next(iter(_imaged(groups).values()))} ({reference['scan'].nunique()}) scans", fontsize=6)


def _joint(ax, groups, reference):
    """Contrast of every lesion in both sequences; ellipses of two SD of each reference scan, from its moments."""
    for colour, (_, lesions) in _coloured(groups):
        ax.plot(lesions["flair"], lesions["t1w"], "o", ms=1.5, color=colour, mew=0, alpha=0.5)
    for row in reference.itertuples():
        covariance = row.contrast_r * row.flair_sd * row.t1w_sd
        values, vectors = np.linalg.eigh([[row.flair_sd**2, covariance], [covariance, row.t1w_sd**2]])
        angle = np.degrees(np.arctan2(*vectors[::-1, 1]))
        width, height = 4 * np.sqrt(values[::-1])
        ax.add_patch(Ellipse((row.flair_mean, row.t1w_mean), width, height, angle=angle, fill=False, lw=0.8, zorder=3))
    ax.set(xlabel="FLAIR, lesion / white matter", ylabel="MPRAGE, lesion / white matter")
    _, lesions = next(iter(groups.values()))
    ax.set_title(f"n = {lesions['flair'].count()} lesions; ellipses: 2 SD", fontsize=6)


def _points(ax, groups, reference, measures, label):
    """One point a scan and measure: groups to the left, reference to the right of its place."""
    tables = {name: scans for name, (scans, _) in groups.items()} | {"reference": reference}
    table = pd.concat(tables, names=["of"]).reset_index("of").melt("of", list(measures))
    colours = dict(zip(tables, (*GROUP_COLOURS[: len(groups)], "black"), strict=True))
    chart = new_chart(table, x="variable", y="value", color="of").scale(color=colours).label(y=label).on(ax)
    chart.add(so.Dot(pointsize=2.5), so.Dodge(), so.Jitter(0.1, seed=0), legend=False).plot()
    ax.axhline(0, color="0.7", lw=0.6, zorder=0)
    ax.set_xticks(range(len(measures)), measures.values())
    ax.set(xlabel="", xlim=(-0.5, len(measures) - 0.5))
    ax.set_title(f"n = {next(iter(_imaged(groups).values()))} ({len(reference)}) scans", fontsize=6)


def _imaged(groups):
    """Scans of each group whose images were measured."""
    return {name: scans["flair_noise_xy"].count() for name, (scans, _) in groups.items()}
