"""Patches and augmentation of the training, as a function of seed and step alone."""

import functools
import math

import numpy as np
import torch
from monai import transforms
from monai.data import set_track_meta
from monai.transforms.utils import generate_pos_neg_label_crop_centers
from torch.utils.data import Dataset, default_collate

from lib.cohort import Subject, crop, draw_appearance, render_patch, visible
from lib.scans import load_scan


class _Patches:
    """Patches of what a kind of source loads. sources: one a scan.  cached: scans that are kept in memory."""

    def __init__(self, sources, cached):
        self.sources = sources
        self.load = functools.lru_cache(cached)(self._load)

    def __len__(self):
        return len(self.sources)

    def draw(self, index, patch_size, n, generator):
        """n patches of a scan: list of image (2, P, P, P) and lesions (1, P, P, P), uint8."""
        scan, lesions, *places = self.load(index)
        starts = _starts(lesions.shape, places, patch_size, n, generator)
        return [self._patch(scan, lesions, start, (patch_size,) * 3, generator) for start in starts]

    def _load(self, index):
        """The scan, its lesions (X, Y, Z), and flat indices of their voxels and of healthy brain voxels."""
        scan = self._read(self.sources[index])
        lesions = scan.lesions
        return scan, lesions, np.flatnonzero(lesions), np.flatnonzero(scan.brain & ~lesions)


class ScanPatches(_Patches):
    """Patches of stored scans, with the intensities that they have; sources: rows of the scans table."""

    def _read(self, row):
        return load_scan(row)

    def _patch(self, scan, lesions, start, size, generator):
        return crop(scan.image, start, size), crop(lesions[None].view(np.uint8), start, size)


class SubjectPatches(_Patches):
    """Patches of synthetic subjects, each with an appearance drawn when it is asked for, and the lesions it shows.

    sources: files of `Subject.load`.  without: see `draw_appearance`.
    """

    def __init__(self, sources, cached, without=()):
        super().__init__(sources, cached)
        self.without = without

    def _read(self, file):
        return Subject.load(file)

    def _patch(self, subject, drawn, start, size, generator):
        appearance = draw_appearance(subject, generator, self.without)
        image = render_patch(subject, start, size, appearance, generator)
        brain = image.any(0)
        return image, visible(image[0], crop(drawn, start, size) & brain, brain)[None].view(np.uint8)


def _starts(shape, places, patch_size, n, generator):
    """First voxels of n patches, 4 around a lesion voxel to 1 around a healthy one (Spagnolo et al. 2024)."""
    padded = tuple(max(side, patch_size) for side in shape)
    if padded != shape:
        places = [np.ravel_multi_index(np.unravel_index(flat, shape), padded) for flat in places]
    centres = generate_pos_neg_label_crop_centers(
        (patch_size,) * 3, n, 0.8, padded, *places, rand_state=np.random.RandomState(generator.integers(2**31))
    )
    return [[int(c) - patch_size // 2 for c in centre] for centre in centres]


class PatchBatches(Dataset):
    """Batches of training patches: item `step` depends on the seed and the step alone.

    So training continues after an interruption as if it had not been interrupted, with any number of workers. Each
    batch takes `patches_per_scan` patches of each of `scans_per_step` scans of the source, drawn without replacement: an
    item is (image (B, 2, P, P, P) float32, lesions (B, 1, P, P, P) float32).  patch_sizes: values of P, each for an
    equal share of the steps, in turn.  any_direction: see `augmentation`.  Raises ValueError if there is no such size.
    """

    def __init__(self, source, *, steps, patch_sizes, scans_per_step, patches_per_scan, seed, any_direction=True):
        if not patch_sizes or not all(type(side) is int and side > 0 for side in patch_sizes):
            raise ValueError(f"patch_sizes {patch_sizes}: give voxels a side, such as [64, 80]")
        self.source, self.steps, self.seed, self.patch_sizes = source, steps, seed, patch_sizes
        self.scans_per_step, self.patches_per_scan = min(scans_per_step, len(source)), patches_per_scan
        self.transform = augmentation(any_direction)
        set_track_meta(False)

    def __len__(self):
        return self.steps

    def patch_size(self, step):
        """Voxels a side of the patches of a step."""
        return self.patch_sizes[step * len(self.patch_sizes) // self.steps]

    def __getitem__(self, step):
        if step >= self.steps:
            raise IndexError(step)
        generator = np.random.default_rng([self.seed, step])
        self.transform.set_random_state(seed=int(generator.integers(2**31)))
        patches = [
            self.transform({"image": torch.from_numpy(image), "lesions": torch.from_numpy(mask)})
            for index in generator.choice(len(self.source), self.scans_per_step, replace=False)
            for image, mask in self.source.draw(int(index), self.patch_size(step), self.patches_per_scan, generator)
        ]
        batch = default_collate(patches)
        return batch["image"].float(), batch["lesions"].float()


def augmentation(any_direction):
    """Augmentation (Spagnolo et al. 2024): flips, 90-degree rotations, affine of +-15 degrees and +-10 % scale,
    intensity scale and shift of +-0.1.

    any_direction: False leaves the quarter turns and the flips but that of left and right out, so that a network may learn
    where in an upright head it is.
    """
    both, planes = ["image", "lesions"], [(0, 1), (0, 2), (1, 2)] if any_direction else []
    return transforms.Compose([
        *[transforms.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3 if any_direction else 1)],
        *[transforms.RandRotate90d(both, prob=0.5, max_k=3, spatial_axes=plane) for plane in planes],
        transforms.RandAffined(
            both, prob=0.5, rotate_range=(math.radians(15),) * 3, scale_range=(0.1,) * 3,
            mode=("bilinear", "nearest"), padding_mode="zeros",
        ),
        transforms.RandScaleIntensityd("image", factors=0.1, prob=0.5),
        transforms.RandShiftIntensityd("image", offsets=0.1, prob=0.5),
    ])  # fmt: skip
