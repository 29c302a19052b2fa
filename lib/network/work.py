"""Predicting and evaluating one scan: items of work, which read and write files.

row: of the scans table, a dict.  path: function of scan and description that gives the path of a map (`Run.map`).
"""

from functools import partial

import pandas as pd

from lib.lesions import annotated_table, label_instances, lesion_table, scan_metrics, segment, threshold_scores
from lib.network.inference import predict
from lib.network.loaded import loaded_network, loaded_scan
from lib.network.weights import prediction_settings
from lib.provenance import code_digest, kept_folder
from lib.scans import is_whole, load_map, save_map


def predict_scan(row, *, weights, device, path):
    """Write the lesion probability of a scan as the map "desc-pred_probseg", unless it is there, made from the same
    images, weights and code. Returns its path."""
    (model, description), found = loaded_network(weights, device), path(row["scan"], "desc-pred_probseg")
    settings, images = prediction_settings(description), [row["flair_digest"], row["t1w_digest"]]
    kept_folder(found.parent, images, description["digest"], settings, code_digest(predict_scan))
    if not is_whole(found):
        save_map(predict(model, loaded_scan(row, description).image, **settings), row["flair"], found)
    return found


def scan_scores(row, *, path, instances):
    """`threshold_scores` of a scan whose probability map is there.  instances: arguments of `label_instances`."""
    scan = loaded_scan(row)
    label = partial(label_instances, **instances, affine=scan.affine)
    return threshold_scores(load_map(path(row["scan"], "desc-pred_probseg")), scan.lesions, scan.brain, label)


def evaluate_scan(row, *, threshold, outline, path, instances):
    """Lesions of a scan whose probability map is there; writes its instances, "desc-pred_dseg" and "desc-manual_dseg".

    threshold, outline: of `segment`.  instances: arguments of `label_instances`, which are those of the tables; what
    they leave out is no lesion, predicted or annotated.  Returns `lesion_table`, `annotated_table` and `scan_metrics`
    (one row), each a table that begins with scan, subject and session. Without annotation the latter two have no row,
    and there is no "desc-manual_dseg".
    """
    scan, probability = loaded_scan(row), load_map(path(row["scan"], "desc-pred_probseg"))
    label = partial(label_instances, **instances, affine=scan.affine)
    labels = [label(mask) for mask in (segment(probability, threshold, outline, label), scan.lesions)]
    for found, source in zip(labels[: 1 + scan.annotated], ("pred", "manual"), strict=False):
        save_map(found, row["flair"], path(row["scan"], f"desc-{source}_dseg"))
    given = threshold, scan.affine, outline, label
    scores = scan_metrics(*(found > 0 for found in labels), scan.brain, label)
    scores = pd.DataFrame([scores]).head(int(scan.annotated))
    found = lesion_table(probability, scan.lesions if scan.annotated else None, *given)
    tables = found, annotated_table(probability, scan.lesions, *given), scores
    for table in tables:
        for place, name in enumerate(("scan", "subject", "session")):
            table.insert(place, name, row[name])
    return list(tables)
