"""What lesions of one scan owe to the tissue around them: items of work (`run.compute_each`), which read files.

item: row of the scans table and rows of predicted lesions in that scan, as of `run.group_by_scan`.
path: function of scan and description that gives the path of a map (`run.Run.map`).
patch: side of the part of a scan around a lesion that the network is given; 0: the whole scan.
"""

import numpy as np
import pandas as pd
import torch

from lib.context.fills import FILLS, fill_images
from lib.context.plateau import field_extent, saliency_extent, saliency_reach
from lib.context.response import CURVE, context_response
from lib.context.shares import share_score
from lib.lesions import cut_labels, patch_around, place_distances
from lib.network import loaded_network, loaded_scan
from lib.saliency import lesion_generator, smoothgrad
from lib.scans import load_map, load_scan

FACTS = ["scan", "subject", "session", "label", "voxels"]
PLACES = ["scan", "label", "volume_mm3", "nearest_lesion_mm", "surface_mm", "ventricle_mm"]
REACHES = ["reach5_flair_mm", "reach5_mprage_mm"]
EXTENTS = {"half": 0.5, "most": 0.95}  # shares of the summed magnitude of a map
FIELDS = [*(f"{name}_{sequence}_mm" for name in EXTENTS for sequence in ("flair", "mprage")), "field_mm"]
NO_RESPONSES = pd.DataFrame(columns=[*FACTS, *CURVE, "step", "radius_mm", "detected", "score"], dtype=float)  # of none
NO_PLACES = pd.DataFrame(columns=[*PLACES, *REACHES, *FIELDS], dtype=float)


def hide_surroundings(item, *, weights, device, path, variants, steps, threshold, window, patch=0):
    """`context_response` of lesions, one table that begins with FACTS, fill and growth.

    variants: (fill of `FILLS`, growth) of each curve.
    """
    row, lesions = item
    scan, predicted, model = _scan(row, path, weights, device)
    stored, marked = load_scan(row, normalised=False).image, (predicted > 0) | scan.lesions
    rest = fill_images({fill for fill, _ in variants}, scan, stored, marked)
    volume, tables = torch.as_tensor(scan.image)[None], []
    for lesion in lesions:
        given = model, volume, predicted == lesion["label"], steps, scan.spacing_mm, threshold
        for fill, growth in variants:
            names = {name: lesion[name] for name in FACTS} | {"fill": fill, "growth": growth}
            found = context_response(*given, growth=growth, fill=rest[fill], window=window, patch=patch)
            tables.append(found.drop(columns="peak").assign(**names)[[*names, *found.columns.drop("peak")]])
    return pd.concat(tables, ignore_index=True)


def measure_places(item, *, weights, device, path, farthest_mm, noise, seed, patch=0):
    """One row a lesion: where it lies, how far its saliency reaches (`saliency_reach`, and `saliency_extent` of EXTENTS),
    and how far the network can look (`field_extent`).

    noise: n_samples, noise_fraction and statistics of `smoothgrad`.  Returns rows with PLACES, REACHES and FIELDS.
    """
    (row, lesions), rows = item, []
    scan, predicted, model = _scan(row, path, weights, device)
    distances = place_distances(scan.image, scan.brain, (predicted > 0) | scan.lesions, scan.spacing_mm)
    volume = torch.as_tensor(scan.image)[None]
    for found in lesions:
        lesion, generator = predicted == found["label"], lesion_generator(seed, row["scan"], found["label"])
        part = patch_around(lesion, patch)
        saliency = smoothgrad(model, volume[(..., *part)], lesion[part], **noise, generator=generator).cpu().numpy()
        reach = saliency_reach(saliency, lesion[part], scan.brain[part], scan.spacing_mm, farthest_mm)
        facts = {name: found[name] for name in ("scan", "label", "volume_mm3", "nearest_lesion_mm")}
        facts |= {name: distance[lesion].min() for name, distance in distances.items()}
        given = saliency, lesion[part], scan.spacing_mm, farthest_mm
        extents = np.concatenate([saliency_extent(*given, share) for share in EXTENTS.values()])
        extents = np.append(extents, field_extent(model, lesion[part], scan.spacing_mm))
        rows.append(facts | dict(zip([*REACHES, *FIELDS], [*reach, *extents], strict=True)))
    return pd.DataFrame(rows)


def share_lesion(facts, *, model, scan_of, scene, patch):
    """`share_score` of one lesion by each of FILLS, a table that ends with the facts.

    facts: scan, subject and label.  scan_of: function of scan that gives the scan as the network takes it and as stored,
    and its predicted labels (X, Y, Z).  scene: as of `saliency.compare_lesion`.
    """
    name, label = facts["scan"], facts["label"]
    scan, stored, everywhere = scan_of(name)
    fills = fill_images(FILLS, scan, stored.image, (everywhere > 0) | scan.lesions)
    fills = {fill: cut_labels(values, everywhere, label, patch)[0] for fill, values in fills.items()}
    image, _, labels, _ = scene(name, label)
    found = share_score(model, torch.as_tensor(image)[None], labels == label, scan.spacing_mm, fills)
    return found.assign(**facts)


def _scan(row, path, weights, device):
    """The scan, its predicted labels (X, Y, Z), and the network."""
    model, description = loaded_network(weights, device)
    return loaded_scan(row, description), load_map(path(row["scan"], "desc-pred_dseg")), model
