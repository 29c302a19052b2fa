"""Lesions inserted into a scan: balls of extra signal with soft borders.

Images are (2, X, Y, Z): FLAIR and MPRAGE. Neither the input nor what lies outside the tissue changes.
"""

import numpy as np
from scipy import ndimage

EDGE_SD_MM = 0.7  # blur of a lesion's border, from FLAIR across the annotated borders of Lesjak et al. 2017, patient 07
SUBSAMPLES = 8  # points per voxel and axis at which a ball is sampled; even: none on the surface of one about a voxel


def insert_lesion(image, tissue, centre, diameter_mm, contrast, spacing_mm):
    """A ball of extra signal, added to the scan so that its texture and noise stay.

    tissue: where each channel has some, (2, X, Y, Z) bool.  contrast: added to (FLAIR, MPRAGE) in the middle of the ball.
    Other arguments and errors as of `soft_ball`, whose brain is where either has tissue.
    Returns the image and the mask (X, Y, Z) of the voxels at least half filled, before the blur.
    """
    share, box, mask = soft_ball(tissue.any(axis=0), centre, diameter_mm, spacing_mm)
    return add_contrast(image, tissue, share, box, contrast), mask


def soft_ball(brain, centre, diameter_mm, spacing_mm):
    """How much of a lesion's contrast each voxel takes, and which voxels are the lesion.

    brain: (X, Y, Z) bool.  centre: 3 voxel coordinates, fractions allowed. Each voxel takes the fraction of it that the
    ball fills (partial volume), blurred as borders of real lesions are: about half the contrast at the border, and less
    than all of it in the middle of a ball below 4 mm.
    Returns the shares in a box around the ball, the box (slices along X, Y, Z), and the mask (X, Y, Z) of the voxels at
    least half filled, before the blur.
    Raises ValueError if the centre is not in the brain or no voxel is half filled.
    """
    centre, spacing = np.asarray(centre, float), np.asarray(spacing_mm, float)
    nearest = tuple(np.round(centre).astype(int))
    if not (np.less(nearest, brain.shape).all() and min(nearest) >= 0 and brain[nearest]):
        raise ValueError(f"lesion centre {nearest} is not in the brain: choose a voxel of white matter")
    reach = (diameter_mm / 2 + 4 * EDGE_SD_MM) / spacing + 1
    low = np.maximum(np.floor(centre - reach), 0).astype(int)
    high = np.minimum(np.ceil(centre + reach) + 1, brain.shape).astype(int)
    box = tuple(map(slice, low, high))

    points = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
    axes = [((np.arange(*box[i].indices(n)) - centre[i])[:, None] + points).ravel() * spacing[i]
            for i, n in enumerate(brain.shape)]  # fmt: skip
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    inside = x**2 + y**2 + z**2 <= (diameter_mm / 2) ** 2
    filled = inside.reshape([n for size in high - low for n in (size, SUBSAMPLES)]).mean(axis=(1, 3, 5))
    mask = np.zeros_like(brain)
    mask[box] = (filled >= 0.5) & brain[box]
    if not mask.any():
        raise ValueError(f"a lesion of {diameter_mm} mm fills no voxel of {tuple(spacing_mm)} mm: make it larger")
    return ndimage.gaussian_filter(filled, EDGE_SD_MM / spacing, mode="constant"), box, mask


def add_contrast(image, tissue, share, box, contrast):
    """Image (2, X, Y, Z) with contrast of (FLAIR, MPRAGE) added to the tissue in a box of it as `soft_ball` shares it."""
    result, place = image.copy(), (slice(None), *box)
    result[place] += np.where(tissue[place], np.multiply.outer(contrast, share), 0)
    return result
