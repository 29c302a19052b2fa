"""Maps as NIfTI: whole ones in the space of the input scan, and small ones cut to where they are not zero."""

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage

from lib.provenance import write_atomically

PLACE = [  # fields of a NIfTI header that say where an image lies
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
]


def save_map(array, like, path):
    """Write a map, (X, Y, Z) or (X, Y, Z, C), in RAS as NIfTI in the orientation, grid and affine of the scan file `like`,
    with its qform and sform."""
    reference = nib.load(like)
    to_input = ornt_transform(axcodes2ornt("RAS"), io_orientation(reference.affine))
    write_nifti(apply_orientation(np.asarray(array), to_input), reference.affine, path, reference.header)


def load_map(path):
    """Read a map that `save_map` wrote, in RAS: (X, Y, Z)."""
    return np.asanyarray(nib.as_closest_canonical(nib.load(path)).dataobj)


def load_labels(row, path):
    """Label images (X, Y, Z) of the predicted and the annotated instances of a scan, as notebook 3 wrote them; 0
    everywhere in place of the annotated ones where the scan has no annotation.

    row: of the scans table.  path: function of scan and description that gives the path of a map (`run.Run.map`).
    """
    predicted = load_map(path(row["scan"], "desc-pred_dseg"))
    annotated = load_map(path(row["scan"], "desc-manual_dseg")) if row["lesions"] else np.zeros_like(predicted)
    return predicted, annotated


def is_whole(path):
    """Whether a map is there and can be read to its end; one that cannot is to be computed again."""
    try:
        np.asanyarray(nib.load(path).dataobj)
    except Exception:  # nibabel, gzip and zlib each raise their own kinds for a damaged file
        return False
    return True


def save_cut(array, affine, path):
    """Write a map (C, X, Y, Z) in RAS as NIfTI (x, y, z, C), without loss cut to its box of non-zero values.

    The affine (4, 4) of the whole map is shifted to the box: viewers show it in its place. A map of zeros keeps a voxel.
    """
    box = ndimage.find_objects((array != 0).any(0).astype(np.uint8)) or [(slice(0, 1),) * 3]
    shifted = np.array(affine, float)
    shifted[:3, 3] = nib.affines.apply_affine(affine, [axis.start for axis in box[0]])
    write_nifti(np.moveaxis(array[(slice(None), *box[0])], 0, -1), shifted, path)


def load_cut(path, affine, shape):
    """Read a map that `save_cut` wrote into the whole grid again: (C, X, Y, Z), zero outside the box."""
    image = nib.load(path)
    start = np.rint(nib.affines.apply_affine(np.linalg.inv(affine), image.affine[:3, 3])).astype(int)
    values = np.moveaxis(image.get_fdata(dtype=np.float32), -1, 0)
    whole = np.zeros((len(values), *shape), np.float32)
    whole[(slice(None), *map(slice, start, start + values.shape[1:]))] = values
    return whole


def write_nifti(data, affine, path, like=None):
    """Write an array of voxels as they are to be stored, and their affine (4, 4) in mm.

    like: header of this affine whose qform, sform and codes are kept, if it is one of NIfTI; else the sform alone is written.
    """
    image = nib.Nifti1Image(data, affine)
    if isinstance(like, nib.Nifti1Header):
        image.header["pixdim"][:4] = like["pixdim"][:4]  # the first is of the qform too
        for field in PLACE:
            image.header[field] = like[field]
    image.header.set_xyzt_units("mm")
    write_atomically(path, lambda file: nib.save(image, file))
