"""A tiny run as notebooks 1 to 3 leave it, for tests that need its files and no notebook."""

import numpy as np
import pandas as pd
import torch

from lib import inference, lesions, maps, phantom, scans, unet
from lib.parameters import defaults
from lib.paths import Run, save_table
from lib.provenance import ROOT

ARCHITECTURE = {"name": "unet", "channels": (4, 8, 16), "strides": (2, 2)}
WINDOW = 32
THRESHOLD_QUANTILE = 0.995  # of the probability in the first brain: an untrained network has no better threshold


def make_run(folder):
    """Two synthetic scans of 3 mm, an untrained network, its maps and lesion table.  Returns the `paths.Run` of 00_explore."""
    places = {"build": str(folder / "build"), "figures": str(folder / "figures")}
    run = Run("00_explore", defaults(ROOT / "notebooks" / "00_explore.py") | places)
    phantom.make_cohort(run.cohort, n_subjects=2, n_two_sessions=0, seed=3, spacing_mm=3.0, workers=1)
    run.save_scans(scans.find_scans(run.cohort).assign(split="test"))
    torch.manual_seed(8)
    unet.save_weights(unet.build(**ARCHITECTURE), run.weights(), architecture=ARCHITECTURE, window=WINDOW)
    model, threshold, tables = unet.load_weights(run.weights())[0], None, []
    for row in run.scans().to_dict("records"):
        scan = scans.load_scan(row)
        probability = inference.predict(model, scan.image, window=WINDOW)
        threshold = threshold or float(np.quantile(probability[scan.brain], THRESHOLD_QUANTILE))
        predicted, annotated = map(lesions.label_instances, (probability >= threshold, scan.lesions))
        for name, values in (("pred_probseg", probability), ("pred_dseg", predicted), ("manual_dseg", annotated)):
            maps.save_map(values, row["flair"], run.map(row["scan"], f"desc-{name}"))
        found = lesions.lesion_table(probability, scan.lesions, threshold, scan.affine)
        tables.append(found.assign(**{name: row[name] for name in ("scan", "subject", "session")}))
    unet.record_thresholds(run.weights(), threshold, threshold)
    save_table(pd.concat(tables, ignore_index=True), run.figures / "03_lesions", {})
    return run
