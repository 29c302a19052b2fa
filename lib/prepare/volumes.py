"""Images between files, nibabel's affines and SimpleITK; grids, and images brought onto them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.affines import voxel_sizes

from lib.scans import write_nifti

sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # the same digits on any number of processors

TO_LPS = np.diag([-1.0, -1, 1, 1])  # nibabel's world points right, front and up, ITK's left, back and up
SHEAR = 0.01  # largest cosine between two axes
FWHM_PER_SD = 2.355  # of a Gaussian
SLICES = 8  # fewer along an axis are no volume
GIVEN_IN_VOXELS = 1e-3  # how far apart grids may be that are one
VOXEL_MM = 1.0  # of the prepared grid


def read_volume(file, empty=False):
    """Image of a NIfTI file, float32, its axes turned to RAS; empty: whether it may be 0 everywhere. Raises ValueError that
    names the file and says what to do."""
    file = Path(file)
    if file.is_dir() or file.suffix.lower() in (".dcm", ".ima"):
        raise ValueError(f"{file} is DICOM, or a folder of it: convert it first (dcm2niix -z y -o nifti {file})")
    if not file.exists():
        raise ValueError(f"{file} is missing; correct its path")
    try:
        image = nib.squeeze_image(nib.load(file))
        data = image.get_fdata(dtype=np.float32)
    except Exception as error:  # nibabel, gzip and zlib each raise their own kinds for a damaged file
        raise ValueError(f"{file} cannot be read ({' '.join(str(error).split())}); copy or convert it again") from None
    if data.ndim != 3 or min(data.shape) < SLICES:
        shape = "x".join(map(str, data.shape))
        raise ValueError(f"{file} is {shape}: give one 3D volume of {SLICES} slices or more along each axis")
    if not np.isfinite(data).all():
        raise ValueError(f"{file} has values that are not finite (NaN, infinite); set them to 0")
    axes = image.affine[:3, :3] / voxel_sizes(image.affine)
    if not np.isfinite(axes).all() or np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR:
        raise ValueError(f"{file} has axes that are not at right angles: {image.affine.tolist()}; resample it")
    if data.min() == data.max() and (data.any() or not empty):
        raise ValueError(f"{file} is {data.min():g} everywhere; give the image itself")
    turned = nib.as_closest_canonical(nib.Nifti1Image(data, image.affine))
    return from_array(turned.get_fdata(dtype=np.float32), turned.affine)


def read_mask(file, label=""):
    """Mask of a NIfTI file, 0 and 1: the voxels of a label, or with "" those above 0.5. There may be none: not every patient
    has lesions. Raises ValueError as `read_volume`."""
    mask = read_volume(file, empty=True)
    return sitk.BinaryThreshold(mask, label - 0.5, label + 0.5) if label else mask > 0.5


def from_array(array, affine):
    """SimpleITK's image of an array (X, Y, Z), float32, and an affine (4, 4) of nibabel without shear."""
    image, affine = sitk.GetImageFromArray(np.ascontiguousarray(array.T, dtype=np.float32)), TO_LPS @ affine
    spacing = voxel_sizes(affine)
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)  # ITK wants right angles to the last digits
    image.SetSpacing(spacing.tolist())
    image.SetDirection((left @ right).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def to_array(image):
    """Array (X, Y, Z) of SimpleITK's image."""
    return sitk.GetArrayFromImage(image).T


def volume_ml(image):
    """Volume in ml of the voxels of a mask, or of a stripped image, that are not 0."""
    return float(np.count_nonzero(to_array(image)) * np.prod(image.GetSpacing()) / 1000)


def affine_of(image):
    """Affine (4, 4) of nibabel of SimpleITK's image."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return TO_LPS @ affine


def write_volume(image, path, dtype=np.float32):
    """Write an image as NIfTI."""
    write_nifti(to_array(image).astype(dtype), affine_of(image), path)


def one_grid(image, other):
    """Whether two images have one grid."""
    corner = [size - 1 for size in image.GetSize()]
    apart = [
        np.subtract(other.TransformPhysicalPointToContinuousIndex(image.TransformIndexToPhysicalPoint(index)), index)
        for index in ([0, 0, 0], corner)
    ]
    return image.GetSize() == other.GetSize() and np.abs(apart).max() < GIVEN_IN_VOXELS


def isotropic_grid(image, side_mm=VOXEL_MM):
    """An empty image with voxels of side_mm along the axes of another, about the same centre; the other's own grid if it has them."""
    spacing, size = np.array(image.GetSpacing()), np.array(image.GetSize())
    if np.abs(spacing - side_mm).max() < GIVEN_IN_VOXELS:
        return sitk.Image(image) * 0
    new = np.ceil(size * spacing / side_mm - GIVEN_IN_VOXELS).astype(int)
    grid = sitk.Image(new.tolist(), sitk.sitkFloat32)
    grid.SetSpacing([side_mm] * 3)
    grid.SetDirection(image.GetDirection())
    centre = image.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist())
    half = np.reshape(image.GetDirection(), (3, 3)) @ ((new - 1) * side_mm / 2)
    grid.SetOrigin((centre - half).tolist())
    return grid


def on_grid(image, grid, transform=None, interpolator=sitk.sitkBSpline3):
    """An image on a grid by cubic B-splines, within the range of its values, 0 outside; transform: from points of the grid
    to points of the image. Where the grid is coarser the image is first smoothed to its voxels (Gaussian of that FWHM)."""
    if transform is None and one_grid(image, grid):
        return image
    values, smoothed = to_array(image), image
    for axis, (own, wanted) in enumerate(zip(image.GetSpacing(), grid.GetSpacing(), strict=True)):
        if wanted > 1.1 * own:
            sd = np.sqrt(wanted**2 - own**2) / FWHM_PER_SD
            smoothed = sitk.RecursiveGaussian(smoothed, sd, False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis)
    moved = sitk.Resample(smoothed, grid, transform or sitk.Transform(), interpolator, 0.0, sitk.sitkFloat32)
    return sitk.Clamp(moved, sitk.sitkFloat32, float(values.min()), float(values.max()))


def mask_on_grid(mask, grid, transform=None):
    """A mask on a grid by nearest neighbours: 0 and 1."""
    moved = sitk.Resample(mask > 0.5, grid, transform or sitk.Transform(), sitk.sitkNearestNeighbor, 0.0)
    return sitk.Cast(moved, sitk.sitkUInt8)
