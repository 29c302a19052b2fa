"""Figures that compare explainers: maps of one lesion, what noisy copies buy, and shares of sequences in a score."""

import numpy as np
from matplotlib.ticker import PercentFormatter

from lib.figures.panels import draw_map, draw_outline, draw_surroundings, largest_slice, mark_sides, write_on
from lib.figures.style import ON_TOP, SEQUENCE_COLOURS, map_scale, new_panels, rows_of, styled, with_interval
from lib.scans import SEQUENCES
from lib.statistics import counted, lesions_and_patients

FIELD_MM = 36
SHARE_BARS = {"all": 0.0, "lesion": 1.0, "rim": 1.8, "rest": 2.6}  # places of a sequence's bars, from its first


@styled
def plot_methods(maps, image, lesion, spacing_mm, sequence="FLAIR"):
    """Maps of one lesion by method over FLAIR (above) and MPRAGE (below), each method at its own scale.

    maps: {method: (2, X, Y, Z), or (1, X, Y, Z) for both sequences}.  image: (2, X, Y, Z).  lesion: (X, Y, Z) bool.
    sequence: below the maps for both, one that the network takes.
    """
    fig, axes = new_panels(74, 2, 1 + len(maps), letters=False)
    centre = largest_slice(lesion, "the lesion")
    z = centre[2]
    for name, column in zip((None, *maps), axes.T, strict=True):
        planes = maps[name][..., z] if name else (None, None)
        rows = (0, 1) if len(planes) == 2 else (SEQUENCES.index(sequence),)
        limit = np.abs(planes).max() if name else 1
        for row, plane in zip(rows, planes, strict=True):
            draw_surroundings(column[row], image[row], centre, spacing_mm, FIELD_MM)
            if name:
                draw_map(column[row], plane, spacing_mm, map_scale(limit or 1))
            draw_outline(column[row], lesion[:, :, z], spacing_mm, "white")
        for row in {0, 1}.difference(rows):
            column[row].set_axis_off()
        if name:
            write_on(column[rows[0]], 0.04, 0.04, f"1 = {limit:.2g}" if limit else "0 in the slice")
        column[0].set_title((name or "scan").replace(" ", "\n"))
    for ax, sequence in zip(axes[:, 0], SEQUENCES, strict=True):
        ax.set_ylabel(sequence)
    mark_sides(axes[0, 0], 10)
    fig.colorbar(
        map_scale(1), ax=axes, location="bottom", aspect=60, pad=0.02,
        label="value as a fraction of the method's largest magnitude in the slice, which is written in its panel",
    )  # fmt: skip
    return fig


@styled
def plot_convergence(table, tolerance):
    """Standard error of SmoothGrad maps against the number of noisy copies.

    table: columns scan, label, method, copies, standard_error.  tolerance: of the standard error, marked.
    """
    names = list(table["method"].unique())
    fig, axes = new_panels(62, 1, len(names), sharey=True, squeeze=False)
    for name, ax in zip(names, axes[0], strict=True):
        curves = rows_of(table, method=name).pivot(index="copies", columns=["scan", "label"], values="standard_error")
        ax.plot(curves.index, curves, color="0.7", lw=0.6)[0].set_label("each lesion")
        median = curves.median(axis=1)
        ax.plot(median.index, median, color="black", lw=1.5, label=f"median of {counted(curves.shape[1], 'lesion')}")
        root = median.iloc[-1] * np.sqrt(median.index[-1] / median.index)
        ax.plot(median.index, root, color="#004488", ls=":", label=r"$\propto 1/\sqrt{N}$")
        ax.axhline(tolerance, color="#cc3311", ls="--", lw=0.8, label=f"tolerance {tolerance:.0%}")
        ax.set(xscale="log", yscale="log", xlabel="noisy copies N", title=name)
        ax.set_xticks([n for n in (2, 5, 10, 20, 50, 100, 200) if n <= curves.index[-1]])
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.minorticks_off()
        ax.legend()
    first = axes[0, 0]
    low, high = first.get_ylim()
    first.set_yticks([level for level in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if low <= level <= high])
    first.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    first.yaxis.set_minor_formatter("")
    first.set_ylabel("largest standard error of a voxel\n(% of the map's largest magnitude)")
    return fig


@styled
def plot_shares(shares, means, unit="logit"):
    """Shapley values of lesions by sequence, by what is put in place of the rest (a), and by place (b).

    shares, means: tables 08_shares and 08_sequences; b shows the first fill. Dots: lesions; black: mean with interval.
    """
    fig, axes = new_panels(66, 1, 2, sharey=True)
    first, places = shares["fill"].iloc[0], [place for place in shares["place"].unique() if place != "all"]
    panels = {
        "fill": (shares["fill"].unique(), {"place": "all"}, "in place of what is hidden", "whole sequences"),
        "place": (places, {"fill": first}, "part of the sequence", f"by place, in place of the rest: {first}"),
    }
    for ax, (column, (names, chosen, label, title)) in zip(axes, panels.items(), strict=True):
        for shift, (sequence, colour) in zip((-0.18, 0.18), SEQUENCE_COLOURS.items(), strict=True):
            for at, name in enumerate(names):
                dots, mean = (rows_of(table, sequence=sequence, **chosen | {column: name}) for table in (shares, means))
                x = at + shift + (np.linspace(-0.1, 0.1, len(dots)) if len(dots) > 1 else 0.0)
                ax.plot(
                    x, dots["share"], "o", ms=2, mew=0, alpha=0.5, color=colour, label=sequence if at == 0 else None
                )
                ends = [mean["share"] - mean["low"], mean["high"] - mean["share"]]
                ax.errorbar([at + shift], mean["share"], ends, fmt="_", ms=9, color="black", lw=1, **ON_TOP)
        ax.axhline(0, color="0.7", lw=0.6, zorder=0)
        ax.set_xticks(range(len(names)), names)
        ax.set(xlabel=label, title=title)
    axes[0].set_ylabel(f"Shapley value ({unit})")
    title = f"n = {lesions_and_patients(means)}\nblack: mean, "
    axes[0].legend(title=title + with_interval(means["low"], "95 % interval"))
    return fig


def draw_share_bars(ax, shares, unit="logit"):
    """Shapley values of one lesion's score: a bar a sequence, and thinner ones of the lesion, its rim and the rest in it.

    shares: of `context.share_score` with one fill.  Above the bars stands what the two of the sequences sum to, and the
    six thinner ones too: the score less that of the filled scan.
    """
    ticks = {}
    for top, (sequence, colour) in zip((0, 3.7), SEQUENCE_COLOURS.items(), strict=True):
        for row in rows_of(shares, sequence=sequence).itertuples():
            y, whole = top + SHARE_BARS[row.place], row.place == "all"
            ticks[y] = sequence if whole else row.place
            bar = ax.barh(y, row.share, 1 if whole else 0.6, color=colour, alpha=1 if whole else 0.5)
            ax.bar_label(bar, [f"{row.share:+.2f}".replace("-", "\N{MINUS SIGN}")], padding=2, fontsize=6)
    score, hidden, fill = shares[["score", "hidden", "fill"]].iloc[0]
    said = f"sum {score - hidden:.2f} = {score:.2f} - ({hidden:.2f})"
    ax.set_title(said.replace("-", "\N{MINUS SIGN}"), fontsize=6, pad=2)
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.axvline(0, color="0.3", lw=0.6)
    ax.margins(x=0.3)  # room for the numbers
    ax.set(ylim=(6.8, -0.6))
    ax.set_xlabel(f"Shapley value ({unit}); in sum\nthe score less that of the\nscan filled with its {fill}")
