"""Places for synthetic lesions: deep in healthy white matter, beside the cortex, beside the ventricles."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_multiotsu

DEEP = "deep white matter"
VENTRICLE_MM = 20.0  # fluid deeper than this in the brain is ventricle; sulci are nearer to the surface
CORTEX_MM = 15.0  # grey matter nearer than this to the brain's surface is cortex; basal ganglia are deeper
GAP_MM = 2.0  # largest gap between a lesion and what it is beside: the layer of partial volume between tissues


def healthy_sites(inside_mm, n, margin_mm, spacing_mm, generator, beside_mm=None):
    """Up to n voxel centres, at least margin_mm inside white matter and 2 * margin_mm apart, drawn at random.

    inside_mm: (X, Y, Z), `depth` in white matter.  beside_mm: (X, Y, Z), distance to a structure that has to be within
    margin_mm + GAP_MM of a site: a ball of radius margin_mm then lies in white matter and nearly touches the structure.
    Returns (n, 3) int; fewer rows where there is no room for more.
    """
    candidate = inside_mm >= margin_mm
    if beside_mm is not None:
        candidate &= beside_mm <= margin_mm + GAP_MM
    candidates = np.argwhere(candidate)
    sites = []
    while len(sites) < n and len(candidates):
        site = candidates[generator.integers(len(candidates))]
        sites.append(site)
        apart = np.linalg.norm((candidates - site) * spacing_mm, axis=1)
        candidates = candidates[(apart >= 2 * margin_mm) & (apart > 0)]
    return np.array(sites, dtype=int).reshape(-1, 3)


def sites_by_surroundings(white, beside, n, *, margin_mm, beside_margin_mm, spacing_mm, generator):
    """Up to n `healthy_sites` in each kind of surroundings: {surroundings: (n, 3) int}.

    white: (X, Y, Z) bool.  beside: {surroundings: (X, Y, Z) bool or None} of `structures`.  Sites have margin_mm of white
    matter where they are to be beside nothing, and beside_margin_mm otherwise.
    """
    inside_mm, found = depth(white, spacing_mm), {}
    for surroundings, structure in beside.items():
        margin = margin_mm if structure is None else beside_margin_mm
        beside_mm = None if structure is None else distance_to(structure, spacing_mm)
        found[surroundings] = healthy_sites(inside_mm, n, margin, spacing_mm, generator, beside_mm)
    return found


def structures(surroundings, image, brain, lesions_any, grey, spacing_mm):
    """What a site is to be beside, {surroundings: (X, Y, Z) bool}: None for "deep white matter", which comes first.

    surroundings: names, of "beside cortex" and "beside ventricle".  image: (2, X, Y, Z) z-scored.  brain, lesions_any
    (annotated or predicted), grey: (X, Y, Z) bool.  Raises ValueError if a name is unknown.
    """
    below_mm = brain_depth(brain, spacing_mm)
    known = {
        "beside cortex": lambda: cortex(grey, below_mm),
        "beside ventricle": lambda: ventricles(image, brain & ~lesions_any, below_mm),
    }
    if unknown := set(surroundings) - set(known):
        raise ValueError(f"surroundings {', '.join(sorted(unknown))}: choose from {', '.join(known)}")
    return {DEEP: None} | {name: known[name]() for name in surroundings}


def place_distances(image, brain, lesions_any, spacing_mm):
    """Distance in mm of each voxel (X, Y, Z) from the surface of the brain and from the ventricles (infinite without any).

    Returns {"surface_mm", "ventricle_mm"}; arguments as of `structures`.
    """
    below_mm = brain_depth(brain, spacing_mm)
    found = ventricles(image, brain & ~lesions_any, below_mm)
    return {"surface_mm": below_mm, "ventricle_mm": distance_to(found, spacing_mm)}


def cortex(grey, below_mm):
    """Grey matter, (X, Y, Z) bool, at most CORTEX_MM below the surface of the brain (`brain_depth`)."""
    return grey & (below_mm <= CORTEX_MM)


def ventricles(image, tissue, below_mm):
    """The lateral ventricles and what is connected with them, (X, Y, Z) bool: fluid deep in the brain.

    image: (2, X, Y, Z) z-scored.  tissue: (X, Y, Z) bool, the brain without lesions.  below_mm: `brain_depth`.  Fluid is
    the darkest of three Otsu classes of the MPRAGE, and darker in FLAIR than half of the tissue; of what is more than
    VENTRICLE_MM below the surface, opened, the largest face-connected part. Empty where there is none.
    """
    flair, mprage = image
    dark = (mprage < threshold_multiotsu(mprage[tissue], 3)[0]) & (flair < np.median(flair[tissue]))
    fluid = ndimage.binary_opening(tissue & dark & (below_mm > VENTRICLE_MM))
    labels, n = ndimage.label(fluid)
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1 if n else fluid


def brain_depth(brain, spacing_mm):
    """`depth` in mm of each voxel of the brain (X, Y, Z) bool, its holes filled."""
    return depth(ndimage.binary_fill_holes(brain), spacing_mm)


def depth(mask, spacing_mm):
    """Distance in mm from each voxel of a mask (X, Y, Z) bool to the nearest voxel centre outside; 0 outside.

    What lies beyond the volume is outside.
    """
    found = np.zeros(mask.shape)
    if mask.any():
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        found[box] = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    return found


def distance_to(structure, spacing_mm):
    """Distance in mm from each voxel centre to the nearest of a structure (X, Y, Z) bool; infinite if it is empty."""
    if not structure.any():
        return np.full(structure.shape, np.inf)
    return ndimage.distance_transform_edt(~structure, sampling=spacing_mm)
