"""Finding and explaining lesions of one scan: items of work (`workers.each`), which read and write files.

item: row of the scans table and rows of lesions in that scan, as of `workers.by_scan`.
"""

from functools import cache, partial

import numpy as np
import pandas as pd
import torch

from lib import kept
from lib.explanation import instances, lesion_maps, map_name, measure, saved_maps
from lib.maps import load_map
from lib.saliency import layer_activations
from lib.windows import predict_lesion


def find_instances(item, *, path, apart_mm, seed):
    """`explanation.instances` of rows of `lesions.lesion_table`; path: gives those of maps (`paths.Run.map`)."""
    row, lesions = item
    names = ("desc-pred_probseg", "desc-pred_dseg", "desc-manual_dseg")
    probability, predicted, annotated = (load_map(path(row["scan"], name)) for name in names)
    options = {"apart_mm": apart_mm, "seed": seed}
    return instances(pd.DataFrame(lesions), kept.scan(row), probability, predicted, annotated, **options)


def explain_instances(item, *, weights, device, folder, edges_mm, settings):
    """Numbers and radial profiles (`explanation.measure`) of the maps of lesions, two tables that begin with their facts.

    The lesions are of `find_instances`.  folder: where maps are kept, a folder a scan; those that are there are read.
    edges_mm: of the profile.  settings: of `explanation.lesion_maps`.  Adds mean_logit over the lesion, and
    whole_probability, the mean of its softmax.
    """
    row, lesions = item
    scan, model = kept.scan(row), kept.network(weights, device)[0]
    volume = torch.as_tensor(scan.image)[None]
    activations = cache(lambda: layer_activations(model, volume, settings["layer"]))
    tables = []
    for lesion in lesions:
        mask = np.zeros(scan.brain.shape, bool)
        mask.flat[lesion["where"]] = True
        compute = partial(_compute_maps, model, scan, mask, lesion, settings, activations)
        maps = saved_maps(folder / row["scan"], map_name(lesion), scan.affine, mask.shape, compute)
        logits = predict_lesion(model, volume, mask)
        facts = {name: value for name, value in lesion.items() if name != "where"}
        facts |= {"mean_logit": logits[:, 1].mean().item(), "whole_probability": logits.softmax(1)[:, 1].mean().item()}
        numbers, profile = measure(maps, mask, scan.brain, scan.spacing_mm, edges_mm)
        tables.append([table.assign(**facts)[[*facts, *table]] for table in (numbers, profile)])
    return [pd.concat(table, ignore_index=True) for table in zip(*tables, strict=True)]


def _compute_maps(model, scan, mask, lesion, settings, activations):
    identity = [lesion[name] for name in ("scan", "kind", "label")]
    return lesion_maps(model, scan.image, mask, **settings, identity=identity, activations=activations())
