"""Numbers and radial profiles taken from the maps of one lesion."""

import numpy as np
import pandas as pd

from lib.lesions import bounding_box, signed_distance, widened
from lib.scans import SEQUENCES

PERILESIONAL_MM = 3.0  # width of the shell around a lesion that is called perilesional
NUMBERS = ["method", "sequence", "peak", "peak_positive", "peak_negative", "mean_inside", "mean_perilesional"]
NUMBERS += ["contrast", "reach5_mm"]
PROFILE = ["distance_mm", "value", "method", "sequence"]
SHARE_LEFT = 0.05  # of the largest shell: below it saliency counts as gone


def measure_maps(maps, lesion, brain, spacing_mm, edges_mm):
    """Numbers of one lesion's maps, and their radial profile: two tables with a row a method and sequence (and shell).

    lesion, brain: (X, Y, Z) bool. peak is the value of largest magnitude with its sign, over the whole map; mean_inside
    averages over the lesion, mean_perilesional over the brain up to 3 mm around it, contrast is inside less
    perilesional. The profile averages over the brain in shells of signed distance from the lesion's border (edges_mm,
    increasing): distance_mm is the middle of the shell. reach5_mm: see `reach_mm`, of the shells' mean magnitude.
    """
    margin = np.ceil(max(edges_mm[-1], PERILESIONAL_MM) / np.asarray(spacing_mm)).astype(int) + 2
    box = widened(bounding_box(lesion), margin)
    inside, tissue = lesion[box], brain[box]
    distance = signed_distance(inside, spacing_mm)
    around = tissue & ~inside & (distance <= PERILESIONAL_MM)
    edges_mm = np.asarray(edges_mm, float)
    shell = np.digitize(distance, edges_mm) - 1
    valid = tissue & (shell >= 0) & (shell < len(edges_mm) - 1)
    shells, shell = np.unique(shell[valid], return_inverse=True)
    middle, outer = (edges_mm[shells] + edges_mm[shells + 1]) / 2, edges_mm[shells + 1]
    numbers, profiles = [], []
    for method, sequence, values in ((method, *one) for method, saliency in maps.items() for one in channels(saliency)):
        near, names = values[box], {"method": method, "sequence": sequence}
        high, low, mean_inside = float(values.max()), float(values.min()), float(near[inside].mean())
        mean_around = float(near[around].mean()) if around.any() else np.nan
        mean, magnitude = (np.bincount(shell, of[valid]) / np.bincount(shell) for of in (near, np.abs(near)))
        peaks = {"peak": high if high >= -low else low, "peak_positive": max(high, 0.0), "peak_negative": min(low, 0.0)}
        means = {"mean_inside": mean_inside, "mean_perilesional": mean_around, "contrast": mean_inside - mean_around}
        numbers.append(names | peaks | means | {"reach5_mm": reach_mm(outer, magnitude)})
        profiles.append(pd.DataFrame({"distance_mm": middle, "value": mean}).assign(**names))
    return pd.DataFrame(numbers), pd.concat(profiles, ignore_index=True)


def reach_mm(outer_mm, magnitude):
    """Smallest radius around the border beyond which the magnitude stays below 5 % of its largest value, in mm.

    outer_mm: (shells,), increasing, the outer radius of each shell (negative: inside the lesion); magnitude: (shells,).
    NaN where the last shell is not below, as the reach is beyond it, and for a map of zeros.
    """
    last = np.flatnonzero(magnitude >= SHARE_LEFT * magnitude.max())[-1]
    return max(float(outer_mm[last]), 0.0) if last < len(magnitude) - 1 else np.nan


def channels(saliency):
    """(sequence, (X, Y, Z)) of each channel of a map (C, X, Y, Z); "both" if it has one, as Grad-CAM++ does."""
    return zip(SEQUENCES if len(saliency) == 2 else ["both"], saliency, strict=True)
