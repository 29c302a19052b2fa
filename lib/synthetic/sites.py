"""Sites for synthetic lesions: deep in healthy white matter, beside the cortex, beside the ventricles."""

import numpy as np

from lib.lesions import brain_depth, cortex, depth, distance_to, ventricles

DEEP = "deep white matter"
SURROUNDINGS = ("beside cortex", "beside ventricle")
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
    candidates, sites = np.argwhere(candidate), []
    while len(sites) < n and len(candidates):
        site = candidates[generator.integers(len(candidates))]
        sites.append(site)
        apart = np.linalg.norm((candidates - site) * spacing_mm, axis=1)
        candidates = candidates[(apart >= 2 * margin_mm) & (apart > 0)]
    return np.array(sites, dtype=int).reshape(-1, 3)


def sites_by_surroundings(white, beside, n, *, margin_mm, beside_margin_mm, spacing_mm, generator):
    """Up to n `healthy_sites` in each kind of surroundings: {surroundings: (n, 3) int}.

    white: (X, Y, Z) bool.  beside: {surroundings: (X, Y, Z), distance to what a site is to be beside, or None}.  Sites
    have margin_mm of white matter where they are to be beside nothing, and beside_margin_mm otherwise.
    """
    inside_mm, found = depth(white, spacing_mm), {}
    for surroundings, beside_mm in beside.items():
        margin = margin_mm if beside_mm is None else beside_margin_mm
        found[surroundings] = healthy_sites(inside_mm, n, margin, spacing_mm, generator, beside_mm)
    return found


def structure_distances(surroundings, image, brain, lesions_any, grey, spacing_mm):
    """Distance in mm of each voxel from what a site is to be beside, {surroundings: (X, Y, Z)}: None for "deep white
    matter", which comes first.

    surroundings: names, of SURROUNDINGS.  image: (2, X, Y, Z) z-scored.  brain, lesions_any (annotated or predicted),
    grey: (X, Y, Z) bool.  Raises ValueError if a name is unknown.
    """
    if unknown := set(surroundings) - set(SURROUNDINGS):
        raise ValueError(f"surroundings {', '.join(sorted(unknown))}: choose from {', '.join(SURROUNDINGS)}")
    below_mm = brain_depth(brain, spacing_mm)
    known = {
        "beside cortex": lambda: cortex(grey, below_mm),
        "beside ventricle": lambda: ventricles(image, brain & ~lesions_any, below_mm),
    }
    return {DEEP: None} | {name: distance_to(known[name](), spacing_mm) for name in surroundings}
