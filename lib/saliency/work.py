"""Finding and explaining the lesions of one scan: items of work (`run.compute_each`), which read and write files.

item: row of the scans table and rows of lesions in that scan, as of `run.group_by_scan`.
"""

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from lib.exact import predict_lesion, predict_lesions
from lib.lesions import healthy_volumes, instance_mask, patch_around, white_and_grey_matter
from lib.network import loaded_network, loaded_scan
from lib.provenance import code_digest, kept_folder
from lib.saliency.comparison import compare_methods
from lib.saliency.convergence import standard_errors
from lib.saliency.maps import (
    are_saved,
    lesion_generator,
    lesion_maps,
    map_name,
    numpy_generator,
    save_maps,
    saved_maps,
    scan_maps,
)
from lib.saliency.measures import NUMBERS, PROFILE, measure_maps
from lib.scans import load_labels, load_map

FACTS = ["scan", "subject", "session", "label", "kind", "voxels", "volume_mm3", "mean_probability", "mean_logit"]
FACTS += ["whole_probability"]
# `explain_instances` of none
NO_MAPS = [pd.DataFrame(columns=[*FACTS, *columns], dtype=float) for columns in (NUMBERS, PROFILE)]


def scan_instances(rows, scan, probability, predicted, annotated, *, apart_mm, seed):
    """What is explained of one scan: its lesions, and two healthy volumes of the shape of each that is to have them.

    rows: of `lesions.lesion_table`, with scan, and healthy (bool): whether it has healthy volumes.  probability,
    predicted, annotated: (X, Y, Z), the latter two label images.  A healthy volume lies in white ("TN") or grey matter
    ("TN grey"), more than apart_mm from labelled voxels, where seed, scan and label decide; it is left out where there
    is no room. It has the label of its lesion; those of FN are counted on from the last predicted one. Returns dicts of
    the columns of the row but healthy, kind, where (flat indices of voxels) and mean_probability.
    """
    marked, found = (predicted > 0) | (annotated > 0), []
    away = ndimage.distance_transform_edt(~marked, sampling=scan.spacing_mm) > apart_mm
    white, grey = white_and_grey_matter(scan.image, scan.brain, marked)
    for row in rows.itertuples(index=False):
        facts, lesion = row._asdict(), instance_mask(row, predicted, annotated)
        volumes = {(row.kind, row.label): lesion}
        if facts.pop("healthy"):
            label = row.label + (int(predicted.max()) if row.kind == "FN" else 0)
            generator = numpy_generator(seed, row.scan, label)
            healthy = healthy_volumes(lesion, {"TN": white & away, "TN grey": grey & away}, generator)
            volumes |= {(kind, label): mask for kind, mask in healthy.items()}
        for (kind, label), mask in volumes.items():
            where = {"where": np.flatnonzero(mask), "mean_probability": probability[mask].mean()}
            found.append(facts | {"kind": kind, "label": label} | where)
    return found


def find_instances(item, *, path, **options):
    """`scan_instances` of rows of `lesions.lesion_table`.  path: gives those of maps (`run.Run.map`)."""
    row, lesions = item
    probability = load_map(path(row["scan"], "desc-pred_probseg"))
    return scan_instances(pd.DataFrame(lesions), loaded_scan(row), probability, *load_labels(row, path), **options)


def explain_instances(item, *, weights, device, folder, edges_mm, settings, patch=0):
    """Numbers and radial profiles (`measure_maps`) of the maps of lesions, two tables that begin with their facts.

    The lesions are of `find_instances`.  folder: where maps are kept, a folder a lesion; those that are there are read,
    if they were made from the same images, voxels, weights, settings and code.
    edges_mm: of the profile.  settings: of `scan_maps`.  patch: side of the part of the scan around a lesion
    (`patch_around`) that the network is given, as if there were no more; 0: the whole scan.
    Adds mean_logit over the lesion, and whole_probability, the mean of its softmax. "smoothgrad_few" has no rows for a lesion of fewer voxels than it takes.
    """
    row, lesions = item
    model, description = loaded_network(weights, device)
    scan = loaded_scan(row, description)
    volume, masks, tables = torch.as_tensor(scan.image)[None], [], []
    made_from = [row["flair_digest"], row["t1w_digest"], description, settings, patch, code_digest(explain_instances)]
    for lesion in lesions:
        masks.append(np.zeros(scan.brain.shape, bool))
        masks[-1].flat[lesion["where"]] = True
    names = [map_name(lesion) for lesion in lesions]
    kept = [
        kept_folder(folder / name, made_from, lesion["where"].tolist())
        for name, lesion in zip(names, lesions, strict=True)
    ]
    missing = [number for number, one in enumerate(zip(kept, names, strict=True)) if not are_saved(*one)]
    identities = [[lesions[number][name] for name in ("scan", "kind", "label")] for number in missing]
    computed = _maps(model, scan.image, [masks[number] for number in missing], identities, settings, patch)
    parts = [patch_around(mask, patch) for mask in masks]
    of_parts = (
        predict_lesion(model, volume[(..., *part)], mask[part]) for part, mask in zip(parts, masks, strict=True)
    )
    logits = of_parts if patch else predict_lesions(model, volume, masks)
    for number, (lesion, mask, logit, *place) in enumerate(zip(lesions, masks, logits, kept, names, strict=True)):
        if number in missing:  # also if another has written it by now: the next of the computed maps is its own
            save_maps(next(computed), *place, scan.affine)
        maps = saved_maps(*place, scan.affine, mask.shape)
        if mask.sum() < settings["peak_voxels"]:
            del maps["smoothgrad_few"]
        facts = {name: value for name, value in lesion.items() if name != "where"}
        facts |= {"mean_logit": logit[:, 1].mean().item(), "whole_probability": logit.softmax(1)[:, 1].mean().item()}
        numbers, profile = measure_maps(maps, mask, scan.brain, scan.spacing_mm, edges_mm)
        tables.append([table.assign(**facts)[[*facts, *table]] for table in (numbers, profile)])
    return [pd.concat(table, ignore_index=True) for table in zip(*tables, strict=True)]


def _maps(model, image, masks, identities, settings, patch):
    """Yield the `scan_maps` of lesions, with a patch each on the part of the scan around it."""
    if not patch:
        yield from scan_maps(model, image, masks, identities=identities, **settings)
        return
    for mask, identity in zip(masks, identities, strict=True):
        part = patch_around(mask, patch)
        maps = lesion_maps(model, image[(slice(None), *part)], mask[part], identity=identity, **settings)
        outside = [(0, 0), *((side.start, size - side.stop) for side, size in zip(part, mask.shape, strict=True))]
        yield {method: np.pad(saliency, outside) for method, saliency in maps.items()}


def compare_lesion(facts, *, model, scene, seed, **options):
    """`compare_methods` of one lesion: facts with maps, mask and spacing_mm.

    facts: scan and label.  scene: function of these that gives image and baseline (2, X, Y, Z), labels (X, Y, Z) and
    spacing_mm.  options: of `compare_methods`.
    """
    name, label = facts["scan"], facts["label"]
    image, baseline, labels, spacing_mm = scene(name, label)
    volumes, mask = [torch.as_tensor(one)[None] for one in (image, baseline)], labels == label
    maps = compare_methods(model, volumes[0], mask, volumes[1], seed=[seed, name, label], **options)
    return facts | {"maps": maps, "mask": mask, "spacing_mm": spacing_mm}


def converge(item, *, model, scene, seed, **options):
    """`standard_errors` of one lesion, a table that ends with scan, label and method.

    item: of `compare_lesion`, and aggregate.  scene: as there.  options: of `standard_errors`.
    """
    one, aggregate = item
    name, label = one["scan"], one["label"]
    volume, generator = torch.as_tensor(scene(name, label)[0])[None], lesion_generator(seed, name, label)
    curve = standard_errors(model, volume, one["mask"], aggregate=aggregate, generator=generator, **options)
    return curve.assign(scan=name, label=label, method=f"SmoothGrad {aggregate}")
