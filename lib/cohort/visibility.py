"""Which lesions a reader could see: those brighter in FLAIR than the brain around them. Only these are annotated in the cohort."""

import numpy as np
from scipy import ndimage

from lib.lesions import label_instances

LEAST_CONTRAST = 0.3  # standard deviations of FLAIR in the brain; measured on real lesions: data/README.md
SURROUNDINGS = 2.5  # voxels, standard deviation of the Gaussian that weighs the brain around a lesion


def local_contrasts(flair, lesions, brain):
    """Instances of a mask, and how much brighter than its surroundings each is.

    flair: (X, Y, Z), in units of its standard deviation in the brain, such as z-scores.  lesions, brain: (X, Y, Z) bool.  Returns labels of `label_instances` and,
    by label, (n + 1,), the mean over the instance of FLAIR less that of the brain around without lesions, a Gaussian-weighted
    mean (SD 2.5 voxels, to 8 voxels); -inf for label 0, which is none.
    """
    labels = label_instances(lesions)
    healthy = (brain & ~lesions).astype(np.float32)
    total, weight = (
        ndimage.gaussian_filter(part, SURROUNDINGS, truncate=3, mode="constant") for part in (flair * healthy, healthy)
    )
    around = total / np.maximum(weight, 1e-3)
    return labels, np.r_[-np.inf, ndimage.mean(flair - around, labels, np.arange(1, labels.max() + 1))]


def visible(flair, lesions, brain):
    """The instances of a mask, (X, Y, Z) bool, of a `local_contrasts` of 0.3 or more. Arguments as there."""
    labels, contrasts = local_contrasts(flair, lesions, brain)
    return (contrasts >= LEAST_CONTRAST)[labels]
