"""One look for every figure: journal column widths, type sizes (journal.mplstyle) and colour-blind-safe palettes."""

import math
from functools import wraps
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import rc_params_from_file
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize

MM_PER_INCH = 25.4
SINGLE_COLUMN_MM = 89
DOUBLE_COLUMN_MM = 183
KIND_COLOURS = {
    "predicted": "#690f87",
    "TP": "#0f8fd3",
    "FP": "#f0a000",
    "FN": "#cc3311",
    "TN": "#4a4a4a",
    "TN grey": "#a8a8a8",
}
SEQUENCE_COLOURS = {"FLAIR": "#004488", "MPRAGE": "#bb5566"}
GROUP_COLOURS = ("#0077bb", "#ee7733")  # the cohort that is described, scans beside it
SPLIT_COLOURS = {"train": "#77aadd", "validation": "#ddaa33", "test": "#882255"}
# Blue below zero, orange above; opacity grows with magnitude, so that anatomy shows where the map is near zero.
BELOW, ABOVE = [(0.35, 0.85, 1.0, 1.0), (0.0, 0.45, 0.95, 0.95)], [(0.9, 0.3, 0.0, 0.95), (1.0, 0.85, 0.2, 1.0)]
SALIENCY_MAP = LinearSegmentedColormap.from_list("saliency", [*BELOW, (0.5, 0.5, 0.5, 0.0), *ABOVE])
ACTIVATION_MAP = LinearSegmentedColormap.from_list("activation", [(0.5, 0.5, 0.5, 0.0), *ABOVE])
NOTHING = "no lesions: nothing to show"
MAP_UNIT = "logit per z-score"  # of saliency, unless the network is another's (`network.map_unit`)
ON_TOP = {"zorder": 3}  # of dots, above the bars of their intervals
STYLE = rc_params_from_file(Path(__file__).with_name("journal.mplstyle"), use_default_template=False)


def styled(draw):
    """Decorate a function that returns a figure: it draws in the journal style, whatever style the caller has set.

    What there is nothing to draw for says so: a panel, or the whole figure where all tables (or lists) are empty.
    """

    @wraps(draw)
    def drawn(*args, **kwargs):
        with plt.rc_context(STYLE):
            tables = [*args[:1], *(given for given in args[1:] if isinstance(given, pd.DataFrame | list))]
            fig = draw(*args, **kwargs) if any(map(len, tables)) or not tables else nothing_to_show()
            for ax in fig.axes:
                if ax.axison and not has_data(ax):
                    ax.text(0.5, 0.5, NOTHING.replace(": ", ":\n"), transform=ax.transAxes, ha="center", va="center")
            fig.draw_without_rendering()  # ticks take their style when they are first drawn
        return fig

    return drawn


def nothing_to_show(text=NOTHING):
    """Figure that says so."""
    fig = new_figure(DOUBLE_COLUMN_MM, 20)
    fig.text(0.5, 0.5, text, ha="center", va="center")
    return fig


@styled
def needs_annotation():
    """Figure that stands where one would be that compares with an annotation, which no scan has."""
    return nothing_to_show("needs annotation: no scan has a lesion mask")


def has_data(ax):
    """Whether anything with a finite place was drawn."""
    return np.isfinite(ax.dataLim.get_points()).all()


def new_figure(width_mm, height_mm, layout="constrained"):
    """Empty figure, closed to pyplot: a notebook shows it once, where a cell ends with it."""
    fig = plt.figure(figsize=(width_mm / MM_PER_INCH, height_mm / MM_PER_INCH), layout=layout)
    plt.close(fig)
    return fig


def map_scale(limit, signed=True):
    """Colours of a saliency map up to the magnitude `limit`: from -limit, or from 0 for a map without sign."""
    if signed:
        return ScalarMappable(Normalize(-limit, limit), SALIENCY_MAP)
    return ScalarMappable(Normalize(0, limit), ACTIVATION_MAP)


def label_panels(axes):
    """Bold letters a, b, c ... at the upper left of the axes, in their order."""
    for letter, ax in zip("abcdefghijklmnop", axes, strict=False):
        ax.set_title(letter, loc="left", fontsize=8, fontweight="bold")


def new_panels(height_mm, *shape, letters=True, **options):
    """Figure of double-column width and its axes as `Figure.subplots` gives them: with letters, or close to one another."""
    fig = new_figure(DOUBLE_COLUMN_MM, height_mm, "constrained" if letters else "compressed")
    axes = fig.subplots(*shape, **options)
    if letters:
        label_panels(np.ravel(axes))
    return fig, axes


def rows_of(table, **values):
    """Rows of a table that have these values."""
    return table[(table[list(values)] == list(values.values())).all(axis=1)]


def new_chart(table, **variables):
    """`seaborn.objects.Plot` in the style that matplotlib has now."""
    import seaborn.objects as so  # importing it takes a second

    return so.Plot(table, **variables).theme({name: plt.rcParams[name] for name in so.Plot.config.theme})


def move_legend(fig, **style):
    """Draw the legend that a chart left beside the figure anew, with these arguments of `Figure.legend`."""
    for legend in fig.get_figure(root=True).legends[-1:]:  # none, if there was nothing to draw
        fig.get_figure(root=True).legends.remove(legend)
        fig.legend(legend.legend_handles, [text.get_text() for text in legend.texts], **style)


def draw_band(ax, table, x, y, **style):
    """Line of column y against column x, and the band of its interval: columns low_y and high_y, or low and high."""
    table = table.sort_values(x)
    low, high = (table[end if end in table else f"{end}_{y}"] for end in ("low", "high"))
    (line,) = ax.plot(table[x], table[y], **style)
    ax.fill_between(table[x], low, high, color=line.get_color(), alpha=0.18, linewidth=0)


def draw_bands(ax, table, x, y, by, colours, label="{}", **style):
    """The band of each value of the column `by`, {value: colour}; label: with a place for the value."""
    for value in sorted(table[by].unique(), key=list(colours).index):
        draw_band(ax, rows_of(table, **{by: value}), x, y, color=colours[value], label=label.format(value), **style)


def with_interval(low, text):
    """`text`, which tells of intervals, or that there are none, where all their lower ends are NaN, as with one patient."""
    return text if np.isfinite(np.asarray(low, float)).any() else "no intervals: too few patients"


def power_of_ten(largest):
    """Power of ten in which values up to the largest are written: 0 unless that is far from 1."""
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    return power if abs(power) >= 3 else 0


def label_axis(axis, text, unit, largest):
    """Label an axis "text (unit)", with a power of ten in the unit where the largest value is far from 1."""
    if not (power := power_of_ten(largest)):
        axis.set_label_text(f"{text} ({unit})")
        return
    axis.set_major_formatter(lambda value, _: f"{value / 10**power:g}".replace("-", "\N{MINUS SIGN}"))
    axis.set_label_text(f"{text} ($10^{{{power}}}$ {unit})")
