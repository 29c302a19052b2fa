"""One page of one scan: its largest explained lesions with their maps, and a table of its lesions."""

import numpy as np
import pandas as pd

from lib import figures

PAGE_MM, LESION_MM, TITLES_MM = 255, 42, 24  # heights: of the page, of a lesion's maps, of what is above and below
ROW_MM, NOTE_MM = 4, 25  # of the table, and of its header and what stands below it
NOTE = (
    "Empty: not explained, or not measured; inf: not in the range tried. Peaks of the signed-maximum map. "
    "Green: all that is predicted; white: the lesion.\nPeriventricular: within 3 mm of the ventricles; juxtacortical: "
    "next to grey matter near the surface, that of the cerebellum too; as the scan itself shows them.\n"
    "For research, not for diagnosis."
)
COLUMNS = {
    "label": ("lesion", "{:.0f}"),
    "kind": ("kind", "{}"),
    "volume_mm3": ("volume\n(mm³)", "{:.0f}"),
    "place": ("place", "{}"),
    "mean_probability": ("mean\nprobability", "{:.2f}"),
    "peak_flair": ("FLAIR peak\n({unit})", "{:+.2f}"),
    "peak_mprage": ("MPRAGE peak\n({unit})", "{:+.2f}"),
    "context_radius_mm": ("context\nradius (mm)", "{:.0f}"),  # inf: its score does not reach the plateau
}
WIDTHS = (0.08, 0.1, 0.1, 0.24, 0.12, 0.12, 0.13, 0.11)


@figures.styled
def plot_sheet(title, image, prediction, cases, lesions, spacing_mm, unit=figures.MAP_UNIT):
    """A page of 183 x 255 mm.

    image: (2, X, Y, Z).  prediction: (X, Y, Z) bool.  cases: at most four explained lesions, dicts of kind, label,
    lesion (X, Y, Z) bool and saliency (2, X, Y, Z), one scale for all.  lesions: rows of `lesions.csv`, of which as
    many are shown as there is room for.  unit: of saliency.
    """
    fig = figures.new_figure(figures.DOUBLE_COLUMN_MM, PAGE_MM)
    fig.suptitle(title)
    rows = max(len(cases), 1)
    table_mm = PAGE_MM - rows * LESION_MM - TITLES_MM
    upper, lower = fig.subfigures(2, 1, height_ratios=(PAGE_MM - table_mm, table_mm))
    axes = upper.subplots(rows, 4, squeeze=False, width_ratios=(1.1, 1, 1, 1))
    limit = max((np.abs(case["saliency"]).max() for case in cases), default=1) or 1
    scale = figures.map_scale(limit)
    for row, case in zip(axes, cases or [None], strict=True):
        _draw_lesion(row, case, image, prediction, spacing_mm, scale)
    for ax, name in zip(axes[0], ("whole slice", "FLAIR", "saliency in FLAIR", "saliency in MPRAGE"), strict=True):
        ax.set_title(name)
    if cases:
        upper.colorbar(scale, ax=axes[:, 2:], label=f"signed maximum ({unit})", location="bottom", aspect=40, pad=0.02)
    _draw_table(lower.subplots(), lesions, table_mm, unit.replace("z-score", "z").replace(" per ", " / "))
    return fig


def _draw_lesion(row, case, image, prediction, spacing_mm, scale):
    """Whole slice and, about a lesion, FLAIR and both maps; without a case the slice with most of the prediction."""
    shown = prediction if case is None else case["lesion"]
    marked = shown if shown.any() else (image != 0).any(0)
    centre = figures.largest_slice(marked, "the scan")
    figures.draw_whole_slice(row[0], image, 0, centre[2], spacing_mm)
    figures.draw_outline(row[0], prediction[:, :, centre[2]], spacing_mm, figures.OUTLINE_COLOURS["predicted"])
    figures.mark_sides(row[0], 20)
    if case is None:
        for ax in row[1:]:
            ax.set_axis_off()
        row[2].text(0.5, 0.5, "no lesion of this scan is explained", ha="center", va="center", fontsize=6)
        return
    row[0].set_ylabel(f"{case['kind']} {case['label']}", color=figures.KIND_COLOURS[case["kind"]])
    for ax, channel, values in zip(row[1:], (0, 0, 1), (None, *case["saliency"]), strict=True):
        figures.draw_surroundings(ax, image[channel], centre, spacing_mm)
        if values is not None:
            figures.draw_map(ax, values[:, :, centre[2]], spacing_mm, scale)
        figures.draw_outline(ax, case["lesion"][:, :, centre[2]], spacing_mm, "white")
    figures.mark_sides(row[1], 10)


def _draw_table(ax, lesions, height_mm, unit):
    ax.set_axis_off()
    shown = lesions.head(int((height_mm - NOTE_MM) / ROW_MM))
    texts = [
        [
            "" if pd.isna(value) else text.format(value).replace("-", "\N{MINUS SIGN}")
            for value, (_, text) in zip(row, COLUMNS.values(), strict=True)
        ]
        for row in shown[list(COLUMNS)].itertuples(index=False)
    ]
    names = [name.format(unit=unit) for name, _ in COLUMNS.values()]
    if texts:
        table = ax.table(
            texts, colLabels=names, colWidths=WIDTHS, cellLoc="center", loc="upper center", edges="horizontal"
        )
        table.auto_set_font_size(False)
        table.set_fontsize(6)
        for (row, _), cell in table.get_celld().items():
            cell.set(linewidth=0.3, height=ROW_MM * (1.8 if row == 0 else 1) / height_mm)
    more = len(lesions) - len(shown)
    said = f"the largest {len(shown)} of {len(lesions)} lesions; all are in lesions.csv.\n" if more else ""
    said += NOTE if texts else "no lesion"
    ax.text(0.5, 0, said, transform=ax.transAxes, ha="center", va="bottom", fontsize=6)
