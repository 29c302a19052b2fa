"""The part of a scan around a lesion."""

from lib.lesions.instances import bounding_box


def patch_around(lesion, side):
    """Slices of the cube of `side` voxels around the middle of a lesion (X, Y, Z) bool, moved into the volume.

    All of an axis that is not longer, and of each if side is 0.  Raises ValueError if the lesion does not fit.
    """
    slices, box = [], bounding_box(lesion)
    if side and max(place.stop - place.start for place in box) > side:
        raise ValueError(
            f"a lesion is larger than the patch of {side} voxels: choose a larger patch, or 0 for the whole scan"
        )
    for place, size in zip(box, lesion.shape, strict=True):
        length = min(side or size, size)
        start = min(max((place.start + place.stop - length) // 2, 0), size - length)
        slices.append(slice(start, start + length))
    return tuple(slices)


def cut_patch(image, lesion, side):
    """image (2, X, Y, Z) and lesion (X, Y, Z) on the patch of `patch_around`."""
    return cut_labels(image, lesion, True, side)


def cut_labels(image, labels, label, side):
    """image (2, X, Y, Z) and labels (X, Y, Z) on the patch of `patch_around` of the lesion with one label."""
    part = patch_around(labels == label, side)
    return image[(slice(None), *part)], labels[part]
