"""Describing a cohort: where its lesions lie, how large they are, how they contrast, and how noisy its images are.

Real and synthetic scans are measured alike. Volumes are RAS (X, Y, Z); places are those of the ICBM-152 template in
world coordinates, for scans that are in MNI space.
"""

from functools import cache

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, from_matvec
from scipy import ndimage
from tqdm import tqdm

from lib.cohort.anatomy import infratentorial, template_maps
from lib.cohort.painting import local_contrasts
from lib.lesions import distance_to, label_instances, signed_distance, voxel_mm3, voxel_sides, white_matter, widened
from lib.scans import load_lesions, load_scan

MIN_VOLUME_MM3 = 3.0  # smaller lesions count for the load alone
PERIVENTRICULAR_MM = 3.0  # from the lateral ventricles to the nearest voxel of the lesion
JUXTACORTICAL_MM = 1.0  # from the cortex
PLACES = ("periventricular", "deep", "juxtacortical", "infratentorial")
NUCLEI_BOX_MM = ((-33, 33), (-40, 25), (-15, 20))  # grey matter in here is not cortex
SURROUNDINGS_MM = 5.0  # white matter up to here is what a lesion's contrast is measured against
BRIGHT = 1.3  # times white matter in FLAIR
DISTANCES_MM = np.arange(-3.5, 4)  # middles of the bins of signed distance from the border
FARTHEST_MM = 1000.0  # of a frequency map: scanners put every head near the same point
PROFILE = {name: [f"{name}_{middle:+.1f}_mm" for middle in DISTANCES_MM] for name in ("flair", "t1w")}


def instance_volumes(lesions, affine):
    """Volume of every annotated instance: table label, volume_mm3. lesions: (X, Y, Z) bool."""
    voxels = np.bincount(label_instances(lesions).ravel())[1:]
    return pd.DataFrame({"label": np.arange(1, len(voxels) + 1), "volume_mm3": voxels * voxel_mm3(affine)})


def measure_cohort(table, n_imaged=None):
    """Measure the scans of a table: rows of `measure_scan` of the scans and of their lesions, with column scan.

    The images of n_imaged scans (at least one; None: all that have any), spread over the table, are measured too.
    """
    with_images = table.index[table["flair"] != ""]
    n = len(with_images) if n_imaged is None else min(max(n_imaged, 1), len(with_images))
    with_images = with_images[np.linspace(0, len(with_images) - 1, n).round().astype(int)]
    scans, lesions = [], []
    for index, row in tqdm(table.iterrows(), total=len(table), desc="measuring", mininterval=2):
        scan = load_scan(row, normalised=False) if index in with_images else None
        parts = (scan.lesions, scan.affine, scan.image, scan.brain) if scan else load_lesions(row)
        facts, found = measure_scan(*parts)
        scans.append({"scan": row["scan"]} | facts)
        lesions.append(found.assign(scan=row["scan"]))
    return pd.DataFrame(scans), pd.concat(lesions, ignore_index=True)


def measure_scan(lesions, affine, image=None, brain=None):
    """Measures of one scan: a dict of the scan, and a table of its lesions of 3 mm3 or more.

    lesions, brain: (X, Y, Z) bool.  image: (2, X, Y, Z) FLAIR and T1w as stored, 0 without signal; None: the mask alone
    is measured. With images the table holds `measure_contrasts` and local_contrast (`local_contrasts`).
    The dict holds load_ml, lesions (their number), count_<place> and volume_<place> (shares), and with images means, SD
    and correlation of the contrasts, t1w_to_flair (mean darkening in T1w over mean brightening in FLAIR),
    `bright_lesion`, noise in plane and along z (`white_matter_noise`). What cannot be measured is NaN.
    """
    table = locate_lesions(lesions, affine)
    total = table["volume_mm3"].sum() or np.nan  # without lesions shares are NaN
    scan = {"load_ml": lesions.sum() * voxel_mm3(affine) / 1000, "lesions": len(table)}
    for place in PLACES:
        here = table["place"] == place
        scan |= {f"count_{place}": here.mean(), f"volume_{place}": table["volume_mm3"][here].sum() / total}
    if image is None:
        return scan, table
    box = ndimage.find_objects((brain | lesions).astype(np.uint8))[0]
    image, brain, lesions = image[(slice(None), *box)], brain[box], lesions[box]
    white = white_matter(image, brain, lesions)
    table = table.merge(measure_contrasts(image, lesions, white, voxel_sides(affine)), on="label")
    table["local_contrast"] = local_contrasts(image[0] / image[0][brain].std(), lesions, brain)[1][table["label"]]
    for name in ("flair", "t1w"):
        scan |= {f"{name}_mean": table[name].mean(), f"{name}_sd": table[name].std()}
    scan["contrast_r"] = table["flair"].corr(table["t1w"]) if len(table) > 2 else np.nan
    scan["t1w_to_flair"] = (1 - scan["t1w_mean"]) / (scan["flair_mean"] - 1)
    scan["bright_lesion"] = bright_lesion(image[0], brain, lesions, white, voxel_sides(affine))
    for name, channel in zip(("flair", "t1w"), image, strict=True):
        x, y, z = white_matter_noise(channel, white)
        scan |= {f"{name}_noise_xy": np.sqrt((x**2 + y**2) / 2), f"{name}_noise_z": z}
    return scan, table


def locate_lesions(lesions, affine):
    """Lesions of 3 mm3 or more: table label, volume_mm3, ventricle_mm, cortex_mm (nearest voxel) and place.

    The first rule that holds gives the place: infratentorial, most voxels in cerebellum or brainstem; periventricular,
    within 3 mm of the template's lateral ventricles; juxtacortical, within 1 mm of its cortex; deep, the rest.
    """
    inside = label_instances(lesions)
    points = apply_affine(affine, np.argwhere(inside))
    voxels = pd.DataFrame(template_distances(points).T, columns=["ventricle_mm", "cortex_mm"])
    groups = voxels.assign(below=infratentorial(*points.T)).groupby(inside[inside > 0])
    table = groups[["ventricle_mm", "cortex_mm"]].min().clip(lower=0)
    table.insert(0, "volume_mm3", groups.size() * voxel_mm3(affine))
    at_ventricle, at_cortex = table["ventricle_mm"] <= PERIVENTRICULAR_MM, table["cortex_mm"] <= JUXTACORTICAL_MM
    rules = [groups["below"].mean() >= 0.5, at_ventricle, at_cortex]
    table["place"] = np.select(rules, ["infratentorial", "periventricular", "juxtacortical"], "deep")
    return table[table["volume_mm3"] >= MIN_VOLUME_MM3].reset_index(names="label")


def template_distances(points_mm):
    """Distance in mm of points (n, 3) in MNI space to the template's ventricles, negative inside, and cortex (2, n)."""
    maps, origin = _template_distances()
    return np.stack([ndimage.map_coordinates(m, (points_mm - origin).T, order=1, mode="nearest") for m in maps])


@cache
def _template_distances():
    """Distances from the lateral ventricles and the cortex at 1 mm, (2, X, Y, Z), and the origin in mm."""
    (_, grey, _, _, ventricle_mm), origin = template_maps()
    cortex = grey > 0.5
    nuclei = np.subtract(NUCLEI_BOX_MM, origin[:, None]).astype(int)
    cortex[tuple(slice(*side) for side in nuclei)] = False
    return np.stack([ventricle_mm, ndimage.distance_transform_edt(~cortex).astype(np.float32)]), origin


def measure_contrasts(image, lesions, white, spacing_mm):
    """Mean FLAIR and T1w of every lesion, and both across its border, over the white matter within 5 mm (its mean = 1).

    image: (2, X, Y, Z), 0 without signal. white: (X, Y, Z) bool, healthy.  Table label, flair, t1w and one column a
    channel and bin of 1 mm of signed distance from the border, -4 to 4 mm (outside: white matter and what lies between
    it and lesions, other lesions left out). NaN where there is no white matter or no voxel.
    """
    labels, rows = label_instances(lesions), []
    tissue = ndimage.binary_closing(white | lesions, iterations=2)
    margin = np.ceil(SURROUNDINGS_MM / np.asarray(spacing_mm)).astype(int) + 1
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        box = widened(place, margin)
        lesion, channels = labels[box] == label, image[(slice(None), *box)]
        distance = signed_distance(lesion, spacing_mm)
        around = white[box] & (distance <= SURROUNDINGS_MM)
        level = channels[:, around].mean(axis=1) if around.any() else np.full(2, np.nan)
        counted = (tissue[box] & (labels[box] == 0) | lesion) & (np.abs(distance) < DISTANCES_MM[-1] + 0.5)
        bins = np.floor(distance[counted] - DISTANCES_MM[0] + 0.5).astype(int)
        n, *totals = (np.bincount(bins, of, len(DISTANCES_MM)) for of in (None, *channels[:, counted]))
        profiles = np.where(n, totals / np.maximum(n, 1), np.nan) / level[:, None]
        rows.append((label, *(channels[:, lesion].mean(axis=1) / level), *profiles.ravel()))
    columns = ["label", *PROFILE, *PROFILE["flair"], *PROFILE["t1w"]]
    return pd.DataFrame(rows, columns=columns, dtype=float).astype({"label": int})


def bright_lesion(flair, brain, lesions, white, spacing_mm):
    """Share of lesion among voxels within 5 mm of one that are bright, in FLAIR 1.3 times healthy white matter or more.

    It says how far brightness alone tells a lesion; NaN if no voxel is bright. All (X, Y, Z), all but flair bool.
    """
    level = flair[white].mean() if white.any() else np.nan
    bright = brain & (distance_to(lesions, spacing_mm) <= SURROUNDINGS_MM) & (flair >= BRIGHT * level)
    return lesions[bright].mean() if bright.any() else np.nan


def white_matter_noise(channel, white):
    """Noise of one channel (X, Y, Z) in white matter along x, y and z, as a share of the white-matter mean: (3,).

    Along each axis the second difference where all three voxels are white matter, NaN without any: 1.4826 times its
    median magnitude, scaled to the SD of white noise. Thick slices and interpolation make it smaller along their axis.
    """
    found = []
    for axis in range(3):
        values, inside = np.moveaxis(channel, axis, 0), np.moveaxis(white, axis, 0)
        difference = (values[:-2] - 2 * values[1:-1] + values[2:])[inside[:-2] & inside[1:-1] & inside[2:]]
        found.append(1.4826 * np.median(np.abs(difference)) / np.sqrt(6) if len(difference) else np.nan)
    return np.array(found) / (channel[white].mean() if white.any() else np.nan)


def border_profile(table):
    """Mean over lesions of both channels across the border: table distance_mm, flair, t1w, lesions (that reach it)."""
    means = {name: table[columns].mean().to_numpy() for name, columns in PROFILE.items()}
    return pd.DataFrame({"distance_mm": DISTANCES_MM} | means | {"lesions": table[PROFILE["flair"]].count().to_numpy()})


def nearest_positions(values, wanted):
    """Positions of the values nearest to each wanted one in turn, none taken twice; no fewer values than wanted."""
    values, chosen = np.asarray(values, float).copy(), []
    for target in wanted:
        chosen.append(int(np.nanargmin(np.abs(values - target))))
        values[chosen[-1]] = np.nan
    return chosen


def frequency_map(masks, grid_mm, names=None):
    """Number of scans with a lesion in each cell of a common grid in world coordinates.

    masks: iterable of (lesions, brain, affine) of each scan.  names: of the scans, for the error. Returns frequency
    (X, Y, Z) int, brain (X, Y, Z) bool (cells that are brain in at least half of the scans) and the affine (4, 4) of
    both. Scans are not registered here.  Raises ValueError if their common box is longer than FARTHEST_MM.
    """
    counts, low, high = np.zeros((2, 0, 0, 0), int), None, None
    for number, (lesions, brain, affine) in enumerate(masks):
        cells = [_cells(mask, affine, grid_mm) for mask in (lesions, brain)]
        here = np.concatenate(cells)
        ends = here.min(0), here.max(0) + 1
        before = (low, high) if number else (ends[0], ends[0])
        low, high = np.minimum(before[0], ends[0]), np.maximum(before[1], ends[1])
        if (longest := (high - low).max() * grid_mm) > FARTHEST_MM:
            name = f"scan {number + 1}" if names is None else list(names)[number]
            raise ValueError(
                f"{name} and the scans before it take {longest / 1000:.1f} m in world coordinates, more than heads do: "
                "correct the translation in the affine of the one that lies apart"
            )
        counts = np.pad(counts, [(0, 0), *zip(before[0] - low, high - before[1], strict=True)])
        for count, places in zip(counts, cells, strict=True):
            count[tuple((places - low).T)] += 1
    frequency, brains = counts
    return frequency, brains * 2 >= number + 1, from_matvec(grid_mm * np.eye(3), (low + 0.5) * grid_mm)


def _cells(mask, affine, grid_mm):
    """Distinct cells (n, 3) of the world grid that the voxels of a mask lie in."""
    cells = np.floor(apply_affine(affine, np.argwhere(mask)) / grid_mm).astype(np.int64)
    return pd.DataFrame(cells).drop_duplicates().to_numpy()
