"""Describing a cohort: where its lesions lie, how large they are, how they contrast, and how noisy its images are.

Real and synthetic scans are measured by the same functions, so that their numbers can be compared. Volumes are RAS with
axes (X, Y, Z); places are those of the ICBM-152 template in world coordinates, for scans that are in MNI space.
"""

from functools import cache

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, voxel_sizes
from scipy import ndimage, stats
from tqdm import tqdm

from lib.cohort.anatomy import infratentorial, template_maps
from lib.cohort.visibility import local_contrasts
from lib.lesions import label_instances, signed_distance, white_matter
from lib.scans import load_lesions, load_scan

MIN_VOLUME_MM3 = 3.0  # smaller lesions count for the load alone
PERIVENTRICULAR_MM = 3.0  # from the lateral ventricles to the nearest voxel of the lesion
JUXTACORTICAL_MM = 1.0  # from the cortex
PLACES = ("periventricular", "deep", "juxtacortical", "infratentorial")
NUCLEI_BOX_MM = ((-33, 33), (-40, 25), (-15, 20))  # grey matter in here is not cortex
SURROUNDINGS_MM = 5.0  # white matter up to here is what a lesion's contrast is measured against
BRIGHT = 1.3  # times white matter in FLAIR
DISTANCES_MM = np.arange(-3.5, 4)  # middles of the bins of signed distance from the border
PROFILE = {name: [f"{name}_{middle:+.1f}_mm" for middle in DISTANCES_MM] for name in ("flair", "t1w")}


def instance_volumes(lesions, affine):
    """Volume of every annotated instance: table label, volume_mm3. lesions: (X, Y, Z) bool."""
    voxels = np.bincount(label_instances(lesions).ravel())[1:]
    return pd.DataFrame({"label": np.arange(1, len(voxels) + 1), "volume_mm3": voxels * np.prod(voxel_sizes(affine))})


def measure_cohort(table, n_imaged=None):
    """Measure the scans of a table: rows of `describe` of the scans and of their lesions, with column scan.

    The images of n_imaged scans (at least one; None: all that have any), spread over the table, are measured too.
    """
    with_images = table.index[table["flair"] != ""]
    n = len(with_images) if n_imaged is None else min(max(n_imaged, 1), len(with_images))
    with_images = with_images[np.linspace(0, len(with_images) - 1, n).round().astype(int)]
    scans, lesions = [], []
    for index, row in tqdm(table.iterrows(), total=len(table), desc="measuring", mininterval=2):
        if index in with_images:
            scan = load_scan(row, normalised=False)
            facts, found = measure_scan(scan.lesions, scan.affine, scan.image, scan.brain)
        else:
            facts, found = measure_scan(*load_lesions(row))
        scans.append({"scan": row["scan"]} | facts)
        lesions.append(found.assign(scan=row["scan"]))
    return pd.DataFrame(scans), pd.concat(lesions, ignore_index=True)


def measure_scan(lesions, affine, image=None, brain=None):
    """Measures of one scan: a dict of the scan, and a table of its lesions of 3 mm3 or more.

    lesions, brain: (X, Y, Z) bool.  image: (2, X, Y, Z) FLAIR and T1w as stored, 0 without signal; None: the mask alone
    is measured. With images the table holds the contrasts of `lesion_contrast` and local_contrast (`visibility.local_contrasts`).
    The dict holds load_ml, lesions (their number), count_<place> and volume_<place> (shares), and with images
    means, SD and correlation of the contrasts (see `lesion_contrast`), t1w_to_flair (mean darkening in T1w over mean
    brightening in FLAIR), bright_lesion (see there), noise in plane and along z (see `noise`). What cannot be measured is NaN.
    """
    table = locate_lesions(lesions, affine)
    total = table["volume_mm3"].sum()
    scan = {"load_ml": lesions.sum() * np.prod(voxel_sizes(affine)) / 1000, "lesions": len(table)}
    for place in PLACES:
        here = table.loc[table["place"] == place, "volume_mm3"]
        scan[f"count_{place}"] = len(here) / len(table) if len(table) else np.nan
        scan[f"volume_{place}"] = here.sum() / total if len(table) else np.nan
    if image is None:
        return scan, table
    box = ndimage.find_objects((brain | lesions).astype(np.uint8))[0]
    image, brain, lesions = image[(slice(None), *box)], brain[box], lesions[box]
    white = white_matter(image, brain, lesions)
    table = table.merge(measure_contrasts(image, lesions, white, voxel_sizes(affine)), on="label")
    table["local_contrast"] = local_contrasts(image[0] / image[0][brain].std(), lesions, brain)[1][table["label"]]
    bright = {"bright_lesion": bright_lesion(image[0], brain, lesions, white, voxel_sizes(affine))}
    return scan | _contrast_summary(table) | bright | _noise_summary(image, white), table


def locate_lesions(lesions, affine):
    """Lesions of 3 mm3 or more: table label, volume_mm3, ventricle_mm, cortex_mm (nearest voxel) and place.

    The first rule that holds gives the place: infratentorial, most voxels in cerebellum or brainstem; periventricular, within
    3 mm of the template's lateral ventricles; juxtacortical, within 1 mm of its cortex; deep, the rest.
    """
    inside = label_instances(lesions)
    points = apply_affine(affine, np.argwhere(inside))
    ventricle, cortex = template_distances(points)
    voxels = {
        "label": inside[inside > 0],
        "ventricle_mm": ventricle,
        "cortex_mm": cortex,
        "below": infratentorial(*points.T),
    }
    groups = pd.DataFrame(voxels).groupby("label")
    table = groups[["ventricle_mm", "cortex_mm"]].min().clip(lower=0)
    table.insert(0, "volume_mm3", groups.size() * np.prod(voxel_sizes(affine)))
    rules = [
        groups["below"].mean() >= 0.5,
        table["ventricle_mm"] <= PERIVENTRICULAR_MM,
        table["cortex_mm"] <= JUXTACORTICAL_MM,
    ]
    table["place"] = np.select(rules, ["infratentorial", "periventricular", "juxtacortical"], "deep")
    return table[table["volume_mm3"] >= MIN_VOLUME_MM3].reset_index()


def template_distances(points_mm):
    """Distance in mm of points (n, 3) in MNI space from the template's lateral ventricles (negative inside) and cortex: (2, n)."""
    maps, origin = _template_distances()
    return np.stack([ndimage.map_coordinates(m, (points_mm - origin).T, order=1, mode="nearest") for m in maps])


@cache
def _template_distances():
    """Distances from the lateral ventricles and the cortex at 1 mm, (2, X, Y, Z), and the origin in mm."""
    (_, grey, _, _, ventricle_mm), origin = template_maps()
    cortex = grey > 0.5
    nuclei = tuple(
        slice(*(np.array(side) - start).astype(int)) for side, start in zip(NUCLEI_BOX_MM, origin, strict=True)
    )
    cortex[nuclei] = False
    return np.stack([ventricle_mm, ndimage.distance_transform_edt(~cortex).astype(np.float32)]), origin


def measure_contrasts(image, lesions, white, spacing_mm):
    """Mean FLAIR and T1w of every lesion, and both across its border, over the white matter within 5 mm (its mean = 1).

    image: (2, X, Y, Z), 0 without signal. white: (X, Y, Z) bool, healthy.  Table label, flair, t1w and one column a channel and bin
    of 1 mm of signed distance from the border, -4 to 4 mm (outside: white matter and what lies between it and lesions,
    other lesions left out). NaN where there is no white matter or no voxel.
    """
    labels, rows = label_instances(lesions), []
    tissue = ndimage.binary_closing(white | lesions, iterations=2)
    margin = np.ceil(SURROUNDINGS_MM / np.asarray(spacing_mm)).astype(int) + 1
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        box = tuple(slice(max(side.start - m, 0), side.stop + m) for side, m in zip(place, margin, strict=True))
        lesion, channels = labels[box] == label, image[(slice(None), *box)]
        distance = signed_distance(lesion, spacing_mm)
        around = white[box] & (distance <= SURROUNDINGS_MM)
        level = channels[:, around].mean(axis=1) if around.any() else np.full(2, np.nan)
        flair, t1w = channels[:, lesion].mean(axis=1) / level
        counted = (tissue[box] & (labels[box] == 0) | lesion) & (np.abs(distance) < DISTANCES_MM[-1] + 0.5)
        bins = np.floor(distance[counted] - DISTANCES_MM[0] + 0.5).astype(int)
        n, *totals = (np.bincount(bins, of, len(DISTANCES_MM)) for of in (None, *channels[:, counted]))
        profiles = np.where(n, totals / np.maximum(n, 1), np.nan) / level[:, None]
        rows.append((label, flair, t1w, *profiles.ravel()))
    columns = ["label", "flair", "t1w", *PROFILE["flair"], *PROFILE["t1w"]]
    return pd.DataFrame(rows, columns=columns, dtype=float).astype({"label": int})


def bright_lesion(flair, brain, lesions, white, spacing_mm):
    """Share of lesion among the bright voxels near lesions: FLAIR at least 1.3 times that of healthy white matter, within 5 mm of a lesion.

    flair, brain, lesions, white: (X, Y, Z), all but the first bool. It says how far brightness alone tells a lesion. NaN if no voxel is bright.
    """
    if not (lesions.any() and white.any()):
        return np.nan
    near = brain & (ndimage.distance_transform_edt(~lesions, sampling=spacing_mm) <= SURROUNDINGS_MM)
    bright = near & (flair >= BRIGHT * flair[white].mean())
    return lesions[bright].mean() if bright.any() else np.nan


def white_matter_noise(channel, white):
    """Noise of one channel (X, Y, Z) in white matter along x, y and z, as a share of the white-matter mean: (3,).

    Along each axis the second difference, scaled so that white noise has its own SD there; robust (1.4826 times the median
    magnitude), where all three voxels are white matter. Thick slices and interpolation make it smaller along their axis.
    NaN where there is no such voxel.
    """
    found = []
    for axis in range(3):
        values, inside = np.moveaxis(channel, axis, 0), np.moveaxis(white, axis, 0)
        difference = (values[:-2] - 2 * values[1:-1] + values[2:])[inside[:-2] & inside[1:-1] & inside[2:]]
        found.append(1.4826 * np.median(np.abs(difference)) / np.sqrt(6) if len(difference) else np.nan)
    return np.array(found) / (channel[white].mean() if white.any() else np.nan)


def border_profile(table):
    """Mean over lesions of both channels across the border: rows distance_mm, flair, t1w, lesions (that reach so far)."""
    means = {name: table[columns].mean().to_numpy() for name, columns in PROFILE.items()}
    return pd.DataFrame({"distance_mm": DISTANCES_MM} | means | {"lesions": table[PROFILE["flair"]].count().to_numpy()})


def _contrast_summary(table):
    flair, t1w = table["flair"], table["t1w"]
    summary = {"flair_mean": flair.mean(), "flair_sd": flair.std(), "t1w_mean": t1w.mean(), "t1w_sd": t1w.std()}
    r = flair.corr(t1w) if len(table) > 2 else np.nan
    return summary | {"contrast_r": r, "t1w_to_flair": (1 - t1w.mean()) / (flair.mean() - 1)}


def _noise_summary(image, white):
    summary = {}
    for name, channel in zip(("flair", "t1w"), image, strict=True):
        x, y, z = white_matter_noise(channel, white)
        summary |= {f"{name}_noise_xy": np.sqrt((x**2 + y**2) / 2), f"{name}_noise_z": z}
    return summary


def ks_distance(values, reference):
    """Kolmogorov-Smirnov statistic between two samples or sets of quantiles; NaN if one is empty."""
    return stats.ks_2samp(values, reference).statistic if len(values) and len(reference) else np.nan


def nearest_positions(values, wanted):
    """Positions of the values nearest to each wanted one in turn, none taken twice; there must be as many values as wanted."""
    values, chosen = np.asarray(values, float).copy(), []
    for target in wanted:
        chosen.append(int(np.nanargmin(np.abs(values - target))))
        values[chosen[-1]] = np.nan
    return chosen


def frequency_map(masks, grid_mm):
    """Number of scans with a lesion in each cell of a common grid in world coordinates.

    masks: iterable of (lesions, brain, affine) of each scan. Returns frequency (X, Y, Z) int, brain (X, Y, Z) bool (the cells
    that are brain in at least half of the scans) and the affine (4, 4) of both. Scans are not registered here.
    """
    cells = [[_cells(mask, affine, grid_mm) for mask in (lesions, brain)] for lesions, brain, affine in masks]
    everywhere = np.concatenate([brain for _, brain in cells])
    low = everywhere.min(0)
    counts = np.zeros((2, *(everywhere.max(0) - low + 1)), int)
    for scan in cells:
        for count, places in zip(counts, scan, strict=True):
            inside = ((places >= low) & (places - low < count.shape)).all(1)
            count[tuple((places[inside] - low).T)] += 1
    affine = np.diag([grid_mm, grid_mm, grid_mm, 1.0])
    affine[:3, 3] = (low + 0.5) * grid_mm
    return counts[0], counts[1] * 2 >= len(cells), affine


def _cells(mask, affine, grid_mm):
    """Distinct cells (n, 3) of the world grid that the voxels of a mask lie in."""
    places = np.floor(apply_affine(affine, np.argwhere(mask)) / grid_mm).astype(np.int64)
    if not len(places):
        return places
    low = places.min(0)
    filled = np.zeros(np.ptp(places, axis=0) + 1, bool)
    filled[tuple((places - low).T)] = True
    return np.argwhere(filled) + low
