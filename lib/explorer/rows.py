"""The figure of the gallery: one lesion a row, in the order in which one looks, from the scan to what the network made of it."""

from textwrap import fill

import numpy as np
from matplotlib.lines import Line2D

from lib import figures
from lib.scans import SEQUENCES

FIELD_MM = 40
FARTHEST_MM = 8  # of the profile
TITLES = ("{}", "saliency in {}", "radial profile", "tissue shown", "Shapley values")
LINES = [("mean of its kind in {}", {"color": "black", "ls": ":"})]
LINES += [("largest over the lesion", {"color": "0.6"}), ("mean over it", {"color": "black", "marker": "o", "ms": 1.5})]
LINES += [("threshold of detection", {"color": figures.KIND_COLOURS["FN"], "ls": "--", "lw": 0.8})]


@figures.styled
def plot_gallery(cases, threshold, unit=figures.MAP_UNIT, score_unit="logit", sequences=SEQUENCES):
    """One sequence, saliency in it, radial profile, probability against the tissue shown and Shapley values of each lesion.

    cases: dicts of kind, title, image (X, Y, Z) of the sequence, lesion (X, Y, Z) bool, spacing_mm, of_kind (table
    04_profile of its kind in the sequence), and for each further panel what it shows, or a text that says why it is missing: saliency
    (X, Y, Z), profile (of `saliency.measure_maps`), context (of `context.context_response`), shares (of
    `context.share_score`).  threshold: of the probability.  unit, score_unit: of saliency, and of the score.
    sequences: that the network sees, the first of which is shown; profiles are of these alone.
    Maps have one scale, and so have the panels of a column.
    """
    fig = figures.new_figure(figures.DOUBLE_COLUMN_MM, 24 * len(cases) + 28)
    fig.get_layout_engine().set(h_pad=0.015, w_pad=0.02, hspace=0, wspace=0)
    axes = fig.subplots(len(cases), len(TITLES), squeeze=False, width_ratios=(6, 6, 7, 7, 11))
    centres = [figures.largest_slice(case["lesion"], case["title"]) for case in cases]
    maps = [(case["saliency"], z) for case, (*_, z) in zip(cases, centres, strict=True)]
    limit = max((np.abs(values[..., z]).max() for values, z in maps if not isinstance(values, str)), default=0) or 1
    scale = figures.map_scale(limit)
    for row, case, centre in zip(axes, cases, centres, strict=True):
        _draw_lesion(row[0], case, centre)
        row[0].set_ylabel(case["title"], color=figures.KIND_COLOURS[case["kind"]], fontsize=6)
        drawn = {
            "saliency": (_draw_lesion, case, centre, scale),
            "profile": (_draw_profile, case["profile"], case["of_kind"], unit, sequences),
            "context": (_draw_context, case["context"], threshold),
            "shares": (figures.draw_share_bars, case["shares"], score_unit),
        }
        for ax, (name, (draw, *given)) in zip(row[1:], drawn.items(), strict=True):
            if isinstance(case[name], str):
                ax.set_axis_off()
                ax.text(0.5, 0.5, fill(case[name], 26), transform=ax.transAxes, ha="center", va="center", fontsize=6)
            else:
                draw(ax, *given)
    for column in axes.T[2:]:
        _at_one_scale([ax for ax in column if ax.axison])
    for ax, title in zip(axes[0], TITLES, strict=True):
        ax.set_title(f"{title.format(sequences[0])}\n{ax.get_title()}".strip())
    figures.mark_sides(axes[0, 0], 10)
    bar = axes[-1, 0].inset_axes((0, -0.2, 2.1, 0.08))
    bar.set_in_layout(False)  # it lies where the columns beside have their labels
    fig.colorbar(scale, cax=bar, orientation="horizontal", label=f"signed maximum\n({unit})")
    named = [(name, {"color": figures.SEQUENCE_COLOURS[name]}) for name in sequences] + LINES
    lines = [Line2D([], [], **style) for _, style in named]
    fig.legend(lines, [name.format(sequences[0]) for name, _ in named], loc="outside lower right", ncols=3)
    return fig


def _draw_lesion(ax, case, centre, scale=None):
    """The scan about the lesion with its outline and, at a scale, its map."""
    figures.draw_surroundings(ax, case["image"], centre, case["spacing_mm"], FIELD_MM)
    if scale:
        figures.draw_map(ax, case["saliency"][:, :, centre[2]], case["spacing_mm"], scale)
    figures.draw_outline(ax, case["lesion"][:, :, centre[2]], case["spacing_mm"], "white")


def _draw_profile(ax, profile, of_kind, unit, sequences):
    for sequence in sequences:
        rows = profile[profile["sequence"] == sequence]
        ax.plot(rows["distance_mm"], rows["value"], "o-", ms=1.5, color=figures.SEQUENCE_COLOURS[sequence])
    ax.plot(of_kind["distance_mm"], of_kind["mean"], ls=":", color="black")
    ax.axhline(0, color="0.7", lw=0.6, zorder=0)
    ax.axvline(0, color="0.3", lw=0.6, ls="--", zorder=0)
    ax.set(xlim=(None, FARTHEST_MM), xlabel="distance from\nlesion border (mm)")
    ax.set_ylabel(f"mean saliency\n({unit})", fontsize=6)


def _draw_context(ax, context, threshold):
    ax.axhline(threshold, color=figures.KIND_COLOURS["FN"], lw=0.8, ls="--")
    ax.plot(context["radius_mm"], context["peak"], color="0.6")
    ax.plot(context["radius_mm"], context["score"], "o-", ms=1.5, color="black")
    ax.set(ylim=(-0.05, 1.05), xlabel="tissue kept around\nthe lesion (mm)")
    ax.set_ylabel("probability", fontsize=6)


def _at_one_scale(axes):
    """Give axes below one another the same limits, and the last of them alone the labels below."""
    for name in ("xlim", "ylim") if axes else ():
        first, last = np.transpose([getattr(ax, f"get_{name}")() for ax in axes])
        for ax in axes:
            ax.set(**{name: (first.min(), last.max())})
    for ax in axes[:-1]:
        ax.set_xlabel("")
        ax.tick_params(labelbottom=False)
