"""A tiny run as notebooks 1 to 3 leave it, for tests that need its files and no notebook."""

import numpy as np
import pandas as pd
import torch

from lib.cohort.phantom import make_cohort
from lib.lesions.instances import label_instances, lesion_table
from lib.network.architectures import build_network
from lib.network.inference import predict
from lib.network.weights import load_weights, record_thresholds, save_weights
from lib.provenance import ROOT
from lib.run.parameters import defaults
from lib.run.paths import Run, save_table
from lib.scans.images import load_scan, with_digests
from lib.scans.maps import save_map
from lib.scans.table import find_scans

ARCHITECTURE = {"name": "unet", "channels": (4, 8, 16), "strides": (2, 2)}
WINDOW = 32
THRESHOLD_QUANTILE = 0.995  # of the probability in the first brain: an untrained network has no better threshold


def make_run(folder):
    """Two synthetic scans of 3 mm, an untrained network, its maps and lesion table.  Returns the `run.Run` of 00_explore."""
    places = {"build": str(folder / "build"), "figures": str(folder / "figures")}
    run = Run("00_explore", defaults(ROOT / "notebooks" / "00_explore.py") | places)
    make_cohort(run.cohort, n_subjects=2, n_two_sessions=0, seed=3, spacing_mm=3.0, workers=1)
    run.save_scans(with_digests(find_scans(run.cohort)).assign(split="test"))
    torch.manual_seed(8)
    save_weights(build_network(**ARCHITECTURE), run.weights(), architecture=ARCHITECTURE, window=WINDOW)
    model, threshold, tables = load_weights(run.weights())[0], None, []
    for row in run.scans().to_dict("records"):
        scan = load_scan(row)
        probability = predict(model, scan.image, window=WINDOW)
        threshold = threshold or float(np.quantile(probability[scan.brain], THRESHOLD_QUANTILE))
        predicted, annotated = map(label_instances, (probability >= threshold, scan.lesions))
        for name, values in (("pred_probseg", probability), ("pred_dseg", predicted), ("manual_dseg", annotated)):
            save_map(values, row["flair"], run.map(row["scan"], f"desc-{name}"))
        found = lesion_table(probability, scan.lesions, threshold, scan.affine)
        tables.append(found.assign(**{name: row[name] for name in ("scan", "subject", "session")}))
    record_thresholds(run.weights(), threshold, threshold)
    save_table(pd.concat(tables, ignore_index=True), run.figures / "03_lesions", {})
    return run
