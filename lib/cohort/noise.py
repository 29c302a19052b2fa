"""Smooth random fields, of which anatomy, lesions and appearance of the synthetic cohort are drawn."""

import numpy as np

NEGLIGIBLE = 1e-20  # a weight that changes no float32 sum; the smallest, subnormal ones make products ten times slower


class SmoothNoise:
    """Smooth Gaussian random field of unit variance over a box of `shape` (X, Y, Z) voxels.

    White noise weights Gaussian bumps of standard deviation `length` (voxels), one every `length`.
    """

    def __init__(self, shape, length, rng):
        self.length = length
        self.knots = [np.arange(-3 * length, n + 3 * length, length, dtype=np.float32) for n in shape]
        self.values = rng.standard_normal([len(k) for k in self.knots], dtype=np.float32)

    def at(self, axes):
        """Values (x, y, z), float32, on the grid of three 1-d arrays of voxel coordinates."""
        field = self.values
        for places, knot in zip(axes, self.knots, strict=True):
            weights = np.exp(-0.5 * ((np.asarray(places, np.float32)[:, None] - knot) / self.length) ** 2)
            weights[weights < NEGLIGIBLE] = 0
            weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
            field = np.tensordot(field, weights, axes=(0, 1))  # the contracted axis returns as the last one
        return field


def smooth_noise(shape, length, rng):
    """`SmoothNoise` on every voxel of its box: (X, Y, Z) float32."""
    return SmoothNoise(shape, length, rng).at([np.arange(n) for n in shape])
