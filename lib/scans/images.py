"""Loading scans: images in RAS, turned alike, z-scored or as stored, brain and lesions."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from lib.lesions import voxel_sides
from lib.provenance import digest

FILES = ["flair", "t1w", "lesions"]  # of a scan: columns of the scans table
SEQUENCES = ("FLAIR", "MPRAGE")  # the channels of an image, in their order


@dataclass(frozen=True, eq=False)  # a scan equals only itself, so that it can be the key of a cache
class Scan:
    """One scan in RAS. image: (2, X, Y, Z) float32, FLAIR and MPRAGE, z-scored, as stored, or as a network wants it; brain,
    lesions: (X, Y, Z) bool, the latter without a voxel where nobody has annotated the scan.  levels: what air, the mean
    of the brain and a z-score are in such an image (`network.published.Levels`); None of one that is z-scored."""

    id: str
    image: np.ndarray
    brain: np.ndarray
    lesions: np.ndarray
    affine: np.ndarray
    annotated: bool = True
    levels: tuple | None = None

    @property
    def tissue(self):
        """Where each channel holds tissue, (2, X, Y, Z) bool. Elsewhere is air, which is 0 of a z-scored image alone."""
        return self.image != 0 if self.levels is None else self.levels.tissue

    @property
    def spacing_mm(self):
        return tuple(voxel_sides(self.affine).tolist())


def with_digests(table):
    """The scans table with digests of the contents of the files (flair_digest, ...), by which results are kept; "" of
    an annotation that there is not."""
    digests = {name: [digest(Path(file)) if file else "" for file in table[name]] for name in FILES}
    return table.assign(**{f"{name}_digest": values for name, values in digests.items()})


def open_image(file):
    """Image of a file, its values not yet read, without the axes of length 1 that some tools write behind the third."""
    image = nib.load(file)
    return nib.squeeze_image(image) if image.ndim > 3 else image


def voxel_grid(file):
    """Numbers of voxels along X, Y, Z of an image in RAS, and their sides in mm; of its header alone."""
    image = open_image(file)
    order = np.argsort(nib.io_orientation(image.affine)[:, 0])
    return np.array(image.shape)[order], voxel_sides(image.affine)[order]


def load_scan(row, normalised=True):
    """Scan of one row of the scans table, in RAS, each channel z-scored over its own non-zero voxels (background stays 0),
    or as it is stored. Raises ValueError if a file is not the one of which the row has a digest (`with_digests`)."""
    flair, t1w = (_turn(row, name) for name in ("flair", "t1w"))
    raw = np.stack([image.get_fdata(dtype=np.float32) for image in (flair, t1w)])
    image = normalise(raw) if normalised else raw
    annotated = bool(row["lesions"])
    lesions = load_lesions(row)[0] if annotated else np.zeros(raw.shape[1:], bool)
    return Scan(row["scan"], image, (raw != 0).any(0), lesions, flair.affine, annotated)


def normalise(image):
    """Each channel of (2, X, Y, Z) z-scored over its own non-zero voxels; background stays 0."""
    from monai.transforms import NormalizeIntensity  # importing it takes seconds

    return np.asarray(NormalizeIntensity(nonzero=True, channel_wise=True)(image))


def load_masks(row):
    """Lesions and brain, (X, Y, Z) bool, and affine (4, 4) of one row of the scans table, in RAS."""
    scan = load_scan(row, normalised=False)
    return scan.lesions, scan.brain, scan.affine


def load_lesions(row):
    """Lesions, (X, Y, Z) bool, and affine (4, 4) of one row of the scans table, in RAS. The FLAIR may be empty."""
    lesions = _turn(row, "lesions")
    return np.asanyarray(lesions.dataobj) > 0.5, lesions.affine  # 0.9999 may be 1 that was rounded when it was stored


def _turn(row, name):
    """Image of a file of a scan in RAS, on the grid of the FLAIR: voxels of one index in the files stay together."""
    if row.get(f"{name}_digest") not in (None, digest(Path(row[name]))):
        raise ValueError(f"{row[name]} has changed since notebook 01_data_split read it: run that notebook again")
    image, affine = open_image(row[name]), nib.load(row["flair"] or row[name]).affine
    return type(image)(image.dataobj, affine, image.header).as_reoriented(nib.io_orientation(affine))
