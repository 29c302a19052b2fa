"""Lesions that the noise of a scan invents: predicted under one realisation of it and not under another."""

import numpy as np
import pandas as pd
from scipy.stats import median_abs_deviation

from lib.statistics import draw_patients, percentile_interval

APART = 2  # voxels: neighbours share noise where a scan was interpolated or smoothed
PREDICTIONS = 2  # of each scan


def noise_sd(image, white):
    """Standard deviation of the noise of each sequence, (2,), in the image's unit.

    image: (2, X, Y, Z).  white: (X, Y, Z) bool, healthy white matter. Of the differences of its voxels that lie APART
    along an axis, the median absolute deviation, scaled to the standard deviation of a normal distribution, over the
    root of 2. White matter changes little over so few voxels; fine texture of it counts as noise. NaN where no two
    voxels lie so.
    """
    differences = [[], []]
    for axis in range(3):
        near, far = np.moveaxis(white, axis, 0)[:-APART], np.moveaxis(white, axis, 0)[APART:]
        for found, channel in zip(differences, np.moveaxis(image, axis + 1, 1), strict=True):
            found.append((channel[APART:] - channel[:-APART])[near & far])
    joined = map(np.concatenate, differences)
    deviations = [median_abs_deviation(one, scale="normal") if one.size else np.nan for one in joined]
    return np.array(deviations) / np.sqrt(2)


def add_noise(image, tissue, sd, generator):
    """Image (2, X, Y, Z), float32, with white Gaussian noise of standard deviations (2,) where tissue (2, X, Y, Z) is."""
    noise = generator.standard_normal(image.shape, dtype=np.float32)
    return np.where(tissue, image + np.asarray(sd, np.float32)[:, None, None, None] * noise, image)


def count_invented(first, second, voxel_mm3, edges_mm3):
    """Lesions of two predictions of one scan, and those of either that have no voxel in common with the other.

    first, second: (X, Y, Z) int, label images.  edges_mm3: increasing volumes that part small from large lesions.
    Returns rows volume_mm3 ("all", then by size, such as "5 to 20"), predicted, invented, summed over both predictions.
    """
    edges = [f"{edge:g}" for edge in edges_mm3]
    between = [f"{low} to {high}" for low, high in zip(edges, edges[1:], strict=False)]
    names = [f"up to {edges[0]}", *between, f"above {edges[-1]}"]
    parts = []
    for labels, other in ((first, second), (second, first)):
        voxels, common = (
            np.bincount(one.ravel(), minlength=labels.max() + 1) for one in (labels, labels * (other > 0))
        )
        parts.append(pd.DataFrame({"volume_mm3": voxels[1:] * voxel_mm3, "invented": common[1:] == 0}))
    lesions = pd.concat(parts)
    lesions["volume_mm3"] = pd.cut(lesions["volume_mm3"], [0, *edges_mm3, np.inf], labels=names)
    counts = lesions.groupby("volume_mm3", observed=False)["invented"].agg(predicted="size", invented="sum")
    counts.index = counts.index.astype(object)
    return pd.concat([counts.sum().to_frame("all").T, counts]).rename_axis("volume_mm3").reset_index()


def invented_table(counts, *, n_resamples, generator):
    """Rows of `count_invented` of all scans, with subject and scan, then of scan "all" their sums; both with what is made
    of them: `each`, the lesions that one prediction invents, and `per_100`, those of 100 predicted lesions.

    Those of all scans have patient-bootstrap 95 % intervals: low_each, high_each and so on.
    """
    numbers = ["predicted", "invented", "scans"]
    counts = counts.assign(scans=1)
    drawn, parts = draw_patients(counts["subject"].nunique(), n_resamples, generator), [counts]
    for volume, rows in counts.groupby("volume_mm3", sort=False):
        sums = rows.groupby("subject")[numbers].sum()
        low, high = percentile_interval(_rates(drawn @ sums.to_numpy()), len(sums))
        total = {"subject": "all", "scan": "all", "volume_mm3": volume} | sums.sum().to_dict()
        total |= {"low_each": low[0], "high_each": high[0], "low_per_100": low[1], "high_per_100": high[1]}
        parts.append(pd.DataFrame([total | {"patients": len(sums)}]))
    table = pd.concat(parts, ignore_index=True)
    table["each"], table["per_100"] = _rates(table[numbers].to_numpy(float)).T
    intervals = [f"{end}{name}" for name in ("each", "per_100") for end in ("", "low_", "high_")]
    return table.reindex(columns=[*counts, *intervals, "patients"])


def _rates(sums):
    """Invented lesions a prediction and of 100 predicted ones: (n, 2) of sums (n, 3)."""
    predicted, invented, scans = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([invented / (PREDICTIONS * scans), 100 * invented / predicted], 1)
