"""Numbers of the values of a map in a region: first order and texture, as radiomics has them."""

from itertools import product

import numpy as np

# to a neighbour: 13, one of each direction
STEPS = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]
FIRST_ORDER = ("mean", "SD", "skewness", "kurtosis", "minimum", "p10", "median", "p90", "maximum")
TEXTURE = ("contrast", "dissimilarity", "homogeneity", "correlation", "energy", "entropy")


def first_order(values):
    """{FIRST_ORDER: number} of values (n,). Skewness and kurtosis (3 of a normal distribution) are 0 where all are equal."""
    values = np.asarray(values, float)
    mean, sd = values.mean(), values.std()
    standard = (values - mean) / (sd or 1)
    quantiles = np.quantile(values, (0, 0.1, 0.5, 0.9, 1))
    numbers = mean, sd, (standard**3).mean(), (standard**4).mean(), *quantiles
    return dict(zip(FIRST_ORDER, map(float, numbers), strict=True))


def texture(values, region, bin_width):
    """{TEXTURE: number} of the grey levels of neighbours in a region: of the co-occurrence matrix of levels (Haralick 1973).

    values: (X, Y, Z).  region: (X, Y, Z) bool.  bin_width: of a level, in the unit of the values; one level ends at 0, so
    that signs are not mixed; 0: all are of one level.  Pairs of the 26 neighbours in the region are taken together, both
    ways round. homogeneity is the inverse difference moment, energy the angular second moment, entropy that of the matrix
    in bits (Image Biomarker Standardisation Initiative, Zwanenburg 2020); correlation is 1 where all levels are equal. A
    region without two neighbours has the texture of one level.
    """
    levels = np.floor(values / bin_width) if bin_width else np.zeros(np.shape(values))
    one, other = np.concatenate([_neighbours(levels, region, step) for step in STEPS], axis=1)
    if not len(one):
        one = other = np.zeros(1)
    difference = one - other
    pairs, counts = np.unique([np.r_[one, other], np.r_[other, one]], axis=1, return_counts=True)
    share = counts / counts.sum()
    mean = share @ pairs[0]
    variance = share @ (pairs[0] - mean) ** 2
    numbers = {
        "contrast": (difference**2).mean(),
        "dissimilarity": np.abs(difference).mean(),
        "homogeneity": (1 / (1 + difference**2)).mean(),
        "correlation": share @ ((pairs[0] - mean) * (pairs[1] - mean)) / variance if variance else 1.0,
        "energy": (share**2).sum(),
        "entropy": -share @ np.log2(share),
    }
    return {name: float(numbers[name]) for name in TEXTURE}


def _neighbours(levels, region, step):
    """Levels of the two of each pair of voxels of the region that are a step apart, (2, pairs)."""
    first = tuple(slice(max(-s, 0), size - max(s, 0)) for s, size in zip(step, levels.shape, strict=True))
    second = tuple(slice(max(s, 0), size - max(-s, 0)) for s, size in zip(step, levels.shape, strict=True))
    both = region[first] & region[second]
    return np.stack([levels[first][both], levels[second][both]])
