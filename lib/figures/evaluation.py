"""Statistical figures: each function takes a run's tidy tables and returns one figure at print size."""

import numpy as np
import seaborn as sns
import seaborn.objects as so
from matplotlib.ticker import MaxNLocator

from lib.figures import style
from lib.figures.panels import draw_projections
from lib.figures.style import SPLIT_COLOURS, new_panels, styled
from lib.statistics import counted

COUNTS = ("TP", "FP", "FN")
SCORES = (("ndsc", "nDSC", "#004488"), ("dice", "Dice", "#bb5566"), ("f1", "lesion F1", "#ddaa33"))


@styled
def plot_split(scans, lesions, frequency, affine, brain):
    """Lesion load and lesion size in each split, and where the lesions lie.

    scans, lesions: tables 01_scans and 01_lesions.  frequency: (X, Y, Z) number of scans with a lesion in the voxel.
    affine: (4, 4), RAS and along the axes, in mm.  brain: (X, Y, Z) bool, outlined on the maps.
    """
    fig = style.new_figure(style.DOUBLE_COLUMN_MM, 116)
    upper, lower = fig.subfigures(2, 1, height_ratios=(5, 7))
    load, size = upper.subplots(1, 2)
    splits = [split for split in SPLIT_COLOURS if (scans["split"] == split).any()]
    chart = style.new_chart(scans, x="split", y="lesion_volume_ml", color="split").on(load)
    chart = chart.scale(x=so.Nominal(order=splits), color=SPLIT_COLOURS)
    chart = chart.add(so.Dot(pointsize=3, alpha=0.8), so.Jitter(0.4, seed=0), legend=False)
    chart.add(so.Dash(color="black", linewidth=1, width=0.7), so.Agg("median"), legend=False).plot()
    n = lesions["split"].value_counts().reindex(splits, fill_value=0)
    names = {split: f"{split}, n = {n[split]}" for split in splits}
    if len(lesions):
        sns.histplot(
            lesions.assign(split=lesions["split"].map(names)), x="volume_mm3", hue="split", hue_order=names.values(),
            palette=[SPLIT_COLOURS[split] for split in splits], stat="percent", common_norm=False,
            bins=np.geomspace(lesions["volume_mm3"].min(), lesions["volume_mm3"].max() * 1.01, 25),
            element="step", fill=False, linewidth=1.2, ax=size,
        )  # fmt: skip
        sns.move_legend(size, "best", title=None)
        size.set_xscale("log")
    counts = scans.groupby("split").agg(scans=("scan", "size"), patients=("subject", "nunique"))
    names = [f"{s}\n{counted(counts.scans[s], 'scan')}\n{counted(counts.patients[s], 'patient')}" for s in splits]
    load.set_xticks(range(len(splits)), names)
    load.set(xlabel="", xlim=(-0.6, len(splits) - 0.4), ylabel="lesion load (ml)")
    load.set_yscale("symlog", linthresh=0.1)  # a scan may have no lesion
    load.set_ylim(-0.02, max(2 * scans["lesion_volume_ml"].max(), 1))
    load.yaxis.set_major_formatter("{x:g}")
    size.set(xlabel="lesion volume (mm³)", ylabel="lesions of the split (%)")
    maps = draw_projections(lower, frequency, affine, brain)
    style.label_panels([load, size, *maps])
    return fig


@styled
def plot_training(loss, validation, n_scans):
    """Loss, scores of n validation scans with the best step, and learning rate.  Tables 02_loss and 02_validation."""
    fig, (left, middle, right) = new_panels(64, 1, 3, width_ratios=(3, 3, 2))
    window = max(len(loss) // 50, 1)
    smooth = loss["loss"].rolling(window, center=True, min_periods=1).mean()
    left.plot(loss["step"], loss["loss"], color="0.75", lw=0.4, label="each step")
    left.plot(loss["step"], smooth, color="black", label=f"mean of {window} steps")
    left.set(xlabel="training step", ylabel="training loss")
    best = validation.loc[validation["dice"].idxmax()]
    _draw_scores(middle, validation, "step", best["step"], f"best: step {best['step']:.0f}, Dice {best['dice']:.2f}")
    middle.set(xlabel="training step", ylabel=f"score of {counted(n_scans, 'validation scan')}", ylim=(0, 1))
    right.plot(loss["step"], 1000 * loss["learning_rate"], color="black")
    right.set(xlabel="training step", ylabel="learning rate (10⁻³)", ylim=(0, None))
    left.legend(loc="upper right")
    for ax in (left, middle, right):
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return fig


def _draw_scores(ax, table, x, chosen, label):
    for column, name, colour in SCORES:
        ax.plot(table[x], table[column], "o-", ms=2, color=colour, label=name)
    ax.axvline(chosen, color="0.6", lw=0.6, ls="--", label=label)
    over_the_letter = {"loc": "lower right", "bbox_to_anchor": (1, 1.09)}
    ax.legend(**over_the_letter, ncols=2, columnspacing=0.8, handlelength=1.6)


@styled
def plot_detection(detection, metrics, curve, threshold):
    """Detection against lesion volume, test metrics and the choice of the threshold.

    detection, metrics, curve: tables 03_detection (finite volume edges above 0), 03_metrics and 03_threshold.
    threshold: of `lesions.segment`, chosen on the validation scans; without a validation, curve has no row.
    """
    edges = detection[["volume_low_mm3", "volume_high_mm3"]]
    if not (np.isfinite(edges) & (edges > 0)).all(axis=None):
        raise ValueError(f"volume edges must be finite and above 0 mm³ for a log axis, got {edges.to_numpy().tolist()}")
    panels = 3 if len(curve) else 2
    fig, (left, middle, *right) = new_panels(68, 1, panels, width_ratios=(4, 3, 3)[:panels])
    low, high = edges.to_numpy(float).T
    centre, fraction, colour = np.sqrt(low * high), detection["fraction"].to_numpy(float), style.KIND_COLOURS["TP"]
    bars = [(fraction - detection["low"]).clip(0), (detection["high"] - fraction).clip(0)]
    left.errorbar(centre, fraction, yerr=bars, fmt="o", color=colour, elinewidth=0.8)
    for first in np.flatnonzero(high[:-1] == low[1:]):  # bins that touch: one without a lesion has no row
        left.plot(centre[first : first + 2], fraction[first : first + 2], color=colour)
    left.hlines(fraction, low, high, color=colour, lw=0.6)
    for x, n in zip(centre, detection["annotated"], strict=True):
        left.annotate(f"{n:.0f}", (x, 1.11), ha="center", va="center", fontsize=6, rotation=90)
    left.set_title("annotated lesions in each bin", fontsize=6)
    if style.has_data(left):
        left.set(xscale="log", xlim=(low.min(), high.max()))
    left.set(ylim=(-0.03, 1.2), yticks=np.linspace(0, 1, 6))
    left.set(xlabel="annotated lesion volume (mm³)", ylabel="detected lesions (fraction)")

    counts = metrics[metrics["metric"].isin(COUNTS)].set_index("metric")["value"]
    rates = metrics[~metrics["metric"].isin(COUNTS)].reset_index(drop=True)
    middle.hlines(rates.index, rates["low"], rates["high"], color="0.5", lw=1)
    middle.plot(rates["value"], rates.index, "o", color="black")
    for row, value in rates["value"].items():
        middle.annotate(f"{value:.2f}", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=6)
    middle.set_yticks(rates.index, rates["metric"])
    middle.set(xlim=(0, 1), ylim=(len(rates) - 0.5, -0.5), xlabel="test value")
    middle.set_title(", ".join(f"{name} {counts[name]:.0f}" for name in COUNTS if name in counts))

    for ax in right:
        _draw_scores(ax, curve, "threshold", threshold, f"chosen: {threshold:.6g}")
        ax.set(xscale="logit", ylim=(0, 1), xlabel="threshold (lesion probability)", ylabel="validation score")
        ax.set_xticks([0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999], minor=False)
        ax.set_xticks([], minor=True)
        ax.tick_params(axis="x", rotation=45)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlim(curve["threshold"].min(), curve["threshold"].max())
    return fig
