"""Maps of a prepared scan on the grid of its raw FLAIR.

python -m lib.prepare.back MAP.nii.gz PREPARED_FLAIR.nii.gz OUT.nii.gz
"""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from lib.prepare.volumes import from_array, read_volume, to_array
from lib.scans import save_map


def save_on_raw(map_file, prepared_flair, out):
    """Write a map, (X, Y, Z) or (X, Y, Z, C), of a prepared scan on the grid of its raw FLAIR, with its affine.

    Values are interpolated linearly, those of integers (masks, labels) taken from the nearest voxel; 0 outside the map, which
    may be cut. Raises ValueError if the scan was not prepared here.
    """
    side = Path(str(prepared_flair).removesuffix(".gz").removesuffix(".nii") + ".json")
    if not side.exists() or "RawFLAIR" not in (record := json.loads(side.read_text())):
        raise ValueError(
            f"{prepared_flair} has no record of `make prepare` beside it ({side.name}): give the prepared FLAIR"
        )
    source = nib.as_closest_canonical(nib.load(map_file))
    data, grid, to_map = np.asanyarray(source.dataobj), read_volume(record["RawFLAIR"]), sitk.Transform()
    if record["Reference"] != "FLAIR":  # points of the raw FLAIR to those of the T1w, on whose grid the map lies
        scan = side.name.partition("_space-")[0]
        to_map = sitk.ReadTransform(str(side.with_name(f"{scan}_from-FLAIR_to-T1w_mode-image_xfm.tfm"))).GetInverse()
    how = sitk.sitkNearestNeighbor if data.dtype.kind in "iub" else sitk.sitkLinear
    channels = data.reshape(*data.shape[:3], -1)
    moved = [
        sitk.Resample(from_array(channels[..., c], source.affine), grid, to_map, how, 0.0)
        for c in range(channels.shape[3])
    ]
    there = np.stack([to_array(one) for one in moved], axis=-1).reshape(*grid.GetSize(), *data.shape[3:])
    there = there.astype(data.dtype if how == sitk.sitkNearestNeighbor else np.float32)
    save_map(there, record["RawFLAIR"], out)


def main():
    try:
        save_on_raw(*sys.argv[1:])
    except (ValueError, TypeError) as error:
        sys.exit(f"{error}\n{__doc__}" if isinstance(error, TypeError) else str(error))


if __name__ == "__main__":
    main()
