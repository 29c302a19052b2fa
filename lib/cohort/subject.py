"""What a synthetic scan is made of, before any appearance: maps of tissue and lesions, small in memory and on disk."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from lib.cohort.painting import Blobs
from lib.provenance import write_atomically

FRACTIONS = ("white", "grey", "deep", "limbic", "below", "choroid", "coverage", "alpha")
NEAR_MM, STEPS_PER_MM = 12, 4  # ventricle distances are stored from -12 to 51 mm in quarters


@dataclass(frozen=True)
class Subject:
    """A synthetic scan without its appearance."""

    fractions: np.ndarray  # (8, X, Y, Z) uint8, of FRACTIONS in 255ths
    distance: np.ndarray  # (X, Y, Z) uint8, to the ventricles
    label: np.ndarray  # (X, Y, Z) int16; it, volume_mm3 and family as in `Blobs`
    volume_mm3: np.ndarray
    family: np.ndarray
    affine: np.ndarray  # (4, 4) voxel to world, RAS

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
        """Voxels of the brain, (X, Y, Z) bool, that are lesion to BORDER or more; those `visible` are annotated."""
        alpha = self.fractions[FRACTIONS.index("alpha")] / np.float32(255)
        return Blobs(alpha, self.label, self.volume_mm3, self.family).lesions & self.brain

    @property
    def brain(self):
        return self.fractions[FRACTIONS.index("coverage")] > 127

    def maps(self, start=(0, 0, 0), size=None, step=1):
        """Maps of a box of `size` voxels from voxel `start` on, which may reach beyond the scan; every `step`-th voxel.

        Returns a namespace: white to ventricle_mm of `Anatomy`, alpha and label of `Blobs`, spacing_mm.
        """
        size = self.shape if size is None else size
        fractions = crop(self.fractions, start, size, step).astype(np.float32) / 255
        maps = SimpleNamespace(**dict(zip(FRACTIONS, fractions, strict=True)), spacing_mm=self.spacing_mm * step)
        maps.fluid = (np.clip(20 * maps.coverage - 1, 0, 1) - maps.white - maps.grey).clip(0)
        maps.ventricle_mm = crop(self.distance, start, size, step).astype(np.float32) / STEPS_PER_MM - NEAR_MM
        maps.label = crop(self.label, start, size, step)
        return maps

    def save(self, path):
        write_atomically(path, lambda file: np.savez_compressed(file, **vars(self)))

    @classmethod
    def load(cls, path):
        with np.load(path) as stored:
            return cls(**stored)


def crop(volume, start, size, step=1):
    """Box of (..., X, Y, Z) of `size` voxels from `start` on, every `step`-th voxel, 0 where it reaches beyond."""
    low, high, sides = np.array(start), np.add(start, size), volume.shape[-3:]
    part = volume[(..., *map(slice, low.clip(0), np.minimum(high, sides)))]
    beyond = np.stack([-low, high - sides], axis=1).clip(0)
    if beyond.any():
        part = np.pad(part, [(0, 0)] * (volume.ndim - 3) + beyond.tolist())
    return part[..., ::step, ::step, ::step]
