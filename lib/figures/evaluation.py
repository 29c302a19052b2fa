"""Statistical figures: each function takes a run's tidy tables and returns one figure at print size."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from lib.figures.panels import draw_projections
from lib.figures.style import DOUBLE_COLUMN_MM, KIND_COLOURS, SPLIT_COLOURS, label_panels, new_figure, styled

COUNTS = ("TP", "FP", "FN")
SCORES = (("ndsc", "nDSC", "#004488"), ("dice", "Dice", "#bb5566"), ("f1", "lesion F1", "#ddaa33"))


@styled
def plot_split(scans, lesions, frequency, affine, brain=None):
    """Lesion load and lesion size in each split, and where the lesions lie.

    scans, lesions: tables 01_scans and 01_lesions.  frequency: (X, Y, Z) number of scans with a lesion in the voxel.
    affine: (4, 4), RAS and along the axes, in mm.  brain: (X, Y, Z) bool, outlined on the maps.
    """
    fig = new_figure(DOUBLE_COLUMN_MM, 116)
    upper, lower = fig.subfigures(2, 1, height_ratios=(5, 7))
    load, size = upper.subplots(1, 2)
    splits = [split for split in SPLIT_COLOURS if (scans["split"] == split).any()]
    bins = np.geomspace(lesions["volume_mm3"].min(), lesions["volume_mm3"].max() * 1.01, 25)
    jitter = np.random.default_rng(0)
    for place, split in enumerate(splits):
        colour, here = SPLIT_COLOURS[split], scans[scans["split"] == split]
        volumes = lesions.loc[lesions["split"] == split, "volume_mm3"]
        load.plot(place + jitter.uniform(-0.2, 0.2, len(here)), here["lesion_volume_ml"], "o", color=colour, alpha=0.8)
        load.hlines(here["lesion_volume_ml"].median(), place - 0.35, place + 0.35, color="black", zorder=3)
        share = np.full(len(volumes), 100 / max(len(volumes), 1))
        size.hist(
            volumes, bins, weights=share, histtype="step", color=colour, lw=1.2, label=f"{split}, n = {len(volumes)}"
        )
    counts = scans.groupby("split").agg(scans=("scan", "size"), patients=("subject", "nunique"))
    names = [f"{s}\n{counts.scans[s]} scans\n{counts.patients[s]} patients" for s in splits]
    load.set(xticks=range(len(splits)), xticklabels=names, xlim=(-0.6, len(splits) - 0.4), ylabel="lesion load (ml)")
    load.set_yscale("symlog", linthresh=0.1)  # a scan may have no lesion
    load.set_ylim(-0.02, max(2 * scans["lesion_volume_ml"].max(), 1))
    load.yaxis.set_major_formatter("{x:g}")
    size.set(xscale="log", xlabel="lesion volume (mm³)", ylabel="lesions of the split (%)")
    size.legend()
    maps = draw_projections(lower, frequency, affine, brain)
    label_panels([load, size, *maps])
    return fig


@styled
def plot_training(loss, validation):
    """Loss, validation scores with the best step, and learning rate.  Tables 02_loss and 02_validation."""
    fig = new_figure(DOUBLE_COLUMN_MM, 58)
    left, middle, right = fig.subplots(1, 3, width_ratios=(3, 3, 2))
    window = max(len(loss) // 50, 1)
    smooth = loss["loss"].rolling(window, center=True, min_periods=1).mean()
    left.plot(loss["step"], loss["loss"], color="0.75", lw=0.4, label="each step")
    left.plot(loss["step"], smooth, color="black", label=f"mean of {window} steps")
    left.set(xlabel="training step", ylabel="training loss")
    best = validation.loc[validation["dice"].idxmax()]
    for column, name, colour in SCORES:
        middle.plot(validation["step"], validation[column], "o-", ms=2, color=colour, label=name)
    middle.axvline(
        best["step"], color="0.6", lw=0.6, ls="--", label=f"best: step {best['step']:.0f}, Dice {best['dice']:.2f}"
    )
    middle.set(xlabel="training step", ylabel="validation score", ylim=(0, 1))
    right.plot(loss["step"], 1000 * loss["learning_rate"], color="black")
    right.set(xlabel="training step", ylabel="learning rate (10⁻³)", ylim=(0, None))
    left.legend(loc="upper right")
    middle.legend()
    for ax in (left, middle, right):
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    label_panels((left, middle, right))
    return fig


@styled
def plot_detection(detection, metrics, curve, threshold):
    """Detection against lesion volume, test metrics and the choice of the threshold.

    detection, metrics, curve: tables 03_detection (finite volume edges above 0), 03_metrics and 03_threshold.
    threshold: of `lesions.segment`, chosen on the validation scans; without a validation, curve has no row.
    """
    edges = detection[["volume_low_mm3", "volume_high_mm3"]]
    if not (np.isfinite(edges) & (edges > 0)).all(axis=None):
        raise ValueError(f"volume edges must be finite and above 0 mm³ for a log axis, got {edges.to_numpy().tolist()}")
    chosen_here = len(curve) > 0
    fig = new_figure(DOUBLE_COLUMN_MM, 62)
    left, middle, *right = fig.subplots(1, 2 + chosen_here, width_ratios=(4, 3, 3)[: 2 + chosen_here])
    low, high = edges.to_numpy(float).T
    centre = np.sqrt(low * high)
    fraction = detection["fraction"].to_numpy(float)
    above, below = detection["high"] - fraction, fraction - detection["low"]
    left.errorbar(
        centre, fraction, yerr=[below.clip(0), above.clip(0)], fmt="o-", color=KIND_COLOURS["TP"], elinewidth=0.8
    )
    left.hlines(fraction, low, high, color=KIND_COLOURS["TP"], lw=0.6)
    for x, n in zip(centre, detection["annotated"], strict=True):
        left.annotate(f"{n:.0f}", (x, 1.11), ha="center", va="center", fontsize=6, rotation=90)
    left.set_title("annotated lesions in each bin", fontsize=6)
    left.set(xscale="log", xlim=(low.min(), high.max()), ylim=(0, 1.2), yticks=np.linspace(0, 1, 6))
    left.set(xlabel="annotated lesion volume (mm³)", ylabel="detected lesions (fraction)")

    counts = metrics[metrics["metric"].isin(COUNTS)].set_index("metric")["value"]
    rates = metrics[~metrics["metric"].isin(COUNTS)].reset_index(drop=True)
    middle.hlines(rates.index, rates["low"], rates["high"], color="0.5", lw=1)
    middle.plot(rates["value"], rates.index, "o", color="black")
    for row, value in rates["value"].items():
        middle.annotate(f"{value:.2f}", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=6)
    middle.set(
        yticks=rates.index, yticklabels=rates["metric"], xlim=(0, 1), ylim=(len(rates) - 0.5, -0.5), xlabel="test value"
    )
    middle.set_title(", ".join(f"{name} {counts[name]:.0f}" for name in COUNTS if name in counts))

    for ax in right:
        for column, name, colour in SCORES:
            ax.plot(curve["threshold"], curve[column], "o-", ms=2, color=colour, label=name)
        ax.axvline(threshold, color="0.6", lw=0.6, ls="--", label=f"chosen: {threshold:.2f}")
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="threshold (lesion probability)", ylabel="validation score")
        ax.legend()
    label_panels((left, middle, *right))
    return fig
