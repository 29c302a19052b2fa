"""What a synthetic scan is made of, before any appearance: maps of tissue and lesions, compact in memory and on disk."""

from dataclasses import dataclass

import numpy as np

from lib.cohort.painting import Blobs
from lib.provenance import write_atomically

FRACTIONS = ("white", "grey", "deep", "limbic", "below", "choroid", "coverage", "alpha")
NEAR_MM, STEPS_PER_MM = 12, 4  # ventricle distances are stored from -12 to 51 mm in quarters


@dataclass(frozen=True)
class Maps:
    """Maps of a part of a subject, (X, Y, Z) float32 each, label int: see `anatomy.Anatomy` and `painting.Blobs`."""

    white: np.ndarray
    grey: np.ndarray
    fluid: np.ndarray
    deep: np.ndarray
    limbic: np.ndarray
    below: np.ndarray
    choroid: np.ndarray
    coverage: np.ndarray
    ventricle_mm: np.ndarray
    alpha: np.ndarray
    label: np.ndarray
    spacing_mm: float


@dataclass(frozen=True)
class Subject:
    """A synthetic scan without its appearance.

    fractions: (8, X, Y, Z) uint8, of FRACTIONS in 255ths.  distance: (X, Y, Z) uint8, to the ventricles.
    label: (X, Y, Z) int16.  volume_mm3, family: (n + 1,), see `painting.Blobs`.  affine: (4, 4) voxel to world, RAS.
    """

    fractions: np.ndarray
    distance: np.ndarray
    label: np.ndarray
    volume_mm3: np.ndarray
    family: np.ndarray
    affine: np.ndarray

    @classmethod
    def compose(cls, anatomy, blobs):
        maps = [getattr(anatomy, name) for name in FRACTIONS[:-1]] + [blobs.alpha]
        fractions = np.stack([np.rint(255 * one.clip(0, 1)).astype(np.uint8) for one in maps])
        distance = np.rint((anatomy.ventricle_mm + NEAR_MM) * STEPS_PER_MM).clip(0, 255).astype(np.uint8)
        return cls(fractions, distance, blobs.label, blobs.volume_mm3, blobs.family, anatomy.affine)

    @property
    def shape(self):
        return self.distance.shape

    @property
    def spacing_mm(self):
        return float(self.affine[0, 0])

    @property
    def lesions(self):
        """Lesions, (X, Y, Z) bool: voxels of the brain that are lesion to `painting.BORDER` or more; annotated are the `visibility.visible`."""
        alpha, coverage = self.fractions[FRACTIONS.index("alpha")], self.fractions[FRACTIONS.index("coverage")]
        return Blobs(alpha / np.float32(255), self.label, self.volume_mm3, self.family).lesions & (coverage > 127)

    @property
    def brain(self):
        return self.fractions[FRACTIONS.index("coverage")] > 127

    def maps(self, start=(0, 0, 0), size=None, step=1):
        """Maps of a box of `size` voxels from voxel `start` on, which may reach beyond the scan; every `step`-th voxel."""
        size = self.shape if size is None else size
        fractions = crop(self.fractions, start, size, step).astype(np.float32) / 255
        part = dict(zip(FRACTIONS, fractions, strict=True))
        fluid = (np.clip(20 * part["coverage"] - 1, 0, 1) - part["white"] - part["grey"]).clip(0)
        distance = crop(self.distance, start, size, step).astype(np.float32) / STEPS_PER_MM - NEAR_MM
        label = crop(self.label, start, size, step)
        return Maps(**part, fluid=fluid, ventricle_mm=distance, label=label, spacing_mm=self.spacing_mm * step)

    def save(self, path):
        write_atomically(path, lambda file: np.savez_compressed(file, **vars(self)))

    @classmethod
    def load(cls, path):
        with np.load(path) as stored:
            return cls(**stored)


def crop(volume, start, size, step=1):
    """Box of (..., X, Y, Z) of `size` voxels from `start` on, every `step`-th voxel, 0 where it reaches beyond."""
    inside = tuple(
        slice(max(first, 0), min(first + n, side))
        for first, n, side in zip(start, size, volume.shape[-3:], strict=True)
    )
    before = [side.start - first for side, first in zip(inside, start, strict=True)]
    after = [n - (side.stop - side.start) - low for n, side, low in zip(size, inside, before, strict=True)]
    part = volume[(..., *inside)]
    if any(before) or any(after):
        part = np.pad(part, [(0, 0)] * (volume.ndim - 3) + list(zip(before, after, strict=True)))
    return part[(..., *(slice(None, None, step),) * 3)]
