"""One page of one scan: its largest explained lesions with their maps, and a table of its lesions."""

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from lib.figures import panels
from lib.figures.style import DOUBLE_COLUMN_MM, KIND_COLOURS, SALIENCY_MAP, new_figure, styled

PAGE_MM = 255
ROWS = 24  # of the table
NOTE = (
    "Empty: not explained, or not measured. Peaks of the signed-maximum map. Green: all that is predicted; white: the "
    "lesion.\nPeriventricular: within 3 mm of the ventricles; juxtacortical: next to grey matter near the surface, that of "
    "the cerebellum too; as the scan itself shows them.\nFor research, not for diagnosis."
)
COLUMNS = {
    "label": ("lesion", "{:.0f}"),
    "kind": ("kind", "{}"),
    "volume_mm3": ("volume\n(mm³)", "{:.0f}"),
    "place": ("place", "{}"),
    "mean_probability": ("mean\nprobability", "{:.2f}"),
    "peak_flair": ("FLAIR peak\n(logit / z)", "{:+.2f}"),
    "peak_mprage": ("MPRAGE peak\n(logit / z)", "{:+.2f}"),
    "context_radius_mm": ("context\nradius (mm)", "{:.0f}"),
}
WIDTHS = (0.08, 0.1, 0.1, 0.24, 0.12, 0.12, 0.13, 0.11)


@styled
def plot_sheet(title, image, prediction, cases, lesions, spacing_mm):
    """A page of 183 x 255 mm.

    image: (2, X, Y, Z).  prediction: (X, Y, Z) bool.  cases: at most four explained lesions, dicts of kind, label,
    lesion (X, Y, Z) bool and saliency (2, X, Y, Z), one scale for all.  lesions: rows of `lesions.csv`, the first ROWS
    are shown.
    """
    fig = new_figure(DOUBLE_COLUMN_MM, PAGE_MM)
    fig.suptitle(title)
    upper, lower = fig.subfigures(2, 1, height_ratios=(max(len(cases), 1) * 36 + 16, 200 - 36 * max(len(cases), 1)))
    axes = upper.subplots(max(len(cases), 1), 4, squeeze=False, width_ratios=(1.1, 1, 1, 1))
    limit = max((np.abs(case["saliency"]).max() for case in cases), default=1) or 1
    scale = ScalarMappable(Normalize(-limit, limit), SALIENCY_MAP)
    for row, case in zip(axes, cases or [None], strict=True):
        _draw_lesion(row, case, image, prediction, spacing_mm, scale)
    for ax, name in zip(axes[0], ("whole slice", "FLAIR", "saliency in FLAIR", "saliency in MPRAGE"), strict=True):
        ax.set_title(name)
    if cases:
        upper.colorbar(scale, ax=axes[:, 2:], label="signed maximum (logit per z-score)", **panels.BAR | {"aspect": 40})
    _draw_table(lower.subplots(), lesions)
    return fig


def _draw_lesion(row, case, image, prediction, spacing_mm, scale):
    """Whole slice and, about a lesion, FLAIR and both maps; without a case the slice with most of the prediction."""
    shown = prediction if case is None else case["lesion"]
    marked = shown if shown.any() else (image != 0).any(0)
    centre = panels.largest_slice(marked, "the scan")
    corners = np.argwhere((image != 0).any(axis=(0, 3))) * spacing_mm[:2]
    panels.prepare_field(row[0], (corners.min(0) + corners.max(0)) / 2, np.ptp(corners, axis=0) + 6)
    panels.draw_anatomy(row[0], image[0], int(centre[2]), spacing_mm)
    panels.draw_outline(row[0], prediction[:, :, centre[2]], spacing_mm, KIND_COLOURS["predicted"])
    panels.mark_sides(row[0], 20)
    if case is None:
        for ax in row[1:]:
            ax.set_axis_off()
        panels.write_on(row[0], 0.5, 0.05, "no lesion of this scan is explained", ha="center")
        return
    row[0].set_ylabel(f"{case['kind']} {case['label']}", color=KIND_COLOURS[case["kind"]])
    for ax, channel, values in zip(row[1:], (0, 0, 1), (None, *case["saliency"]), strict=True):
        panels.draw_surroundings(ax, image[channel], centre, spacing_mm)
        if values is not None:
            panels.draw_plane(ax, values[:, :, centre[2]], spacing_mm, cmap=scale.cmap, norm=scale.norm)
        panels.draw_outline(ax, case["lesion"][:, :, centre[2]], spacing_mm, "white")
    panels.mark_sides(row[1], 10)


def _draw_table(ax, lesions):
    ax.set_axis_off()
    shown = lesions.head(ROWS)
    texts = [
        [
            "" if pd.isna(value) else text.format(value).replace("-", "\N{MINUS SIGN}")
            for value, (_, text) in zip(row, COLUMNS.values(), strict=True)
        ]
        for row in shown[list(COLUMNS)].itertuples(index=False)
    ]
    names = [name for name, _ in COLUMNS.values()]
    if texts:
        table = ax.table(
            texts, colLabels=names, colWidths=WIDTHS, cellLoc="center", loc="upper center", edges="horizontal"
        )
        table.auto_set_font_size(False)
        table.set_fontsize(6)
        for (row, _), cell in table.get_celld().items():
            cell.set(linewidth=0.3, height=(1.8 if row == 0 else 1) / (ROWS + 3.5))
    more = len(lesions) - len(shown)
    said = f"the largest {len(shown)} of {len(lesions)} lesions; all are in lesions.csv. " if more else ""
    said += NOTE if texts else "no lesion"
    ax.text(0.5, 0, said, transform=ax.transAxes, ha="center", va="bottom", fontsize=6)
