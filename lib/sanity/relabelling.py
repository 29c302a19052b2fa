"""Does a saliency map depend on what the labels taught? Maps of networks trained on true and on mirrored lesion masks.

The data randomisation test of Adebayo et al. 2018, "Sanity checks for saliency maps", NeurIPS. A network trained once
more on the true masks tells how far maps differ without any change of the labels.
"""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.network import PatchBatches, ScanPatches, build_network, train_network
from lib.provenance import digest
from lib.sanity.checks import correlate_maps, seeded_map
from lib.scans import FILES, load_lesions, save_map


def mirror_masks(rows, folder):
    """Rows of the scans table with their lesion masks mirrored left to right: as many lesions, as large, elsewhere.

    The mirrored masks are written to the folder (NIfTI, on the grid of the FLAIR).
    """
    mirrored = []
    for row in rows:
        path = Path(folder, f"{row['scan']}_desc-mirrored_mask.nii.gz")
        save_map(load_lesions(row)[0][::-1].astype(np.uint8), row["flair"], path)
        mirrored.append(row | {"lesions": str(path), "lesions_digest": digest(path)})
    return mirrored


def train_control(rows, validation_row, architecture, checkpoint, *, steps, patch_sizes, window, seed):
    """Network trained for a few steps on stored scans, and its nDSC on one scan; weights and patches are of the seed.

    rows: of the scans table.  architecture: of `build_network`.  checkpoint: see `train_network`.
    """
    sizes = {"steps": steps, "patch_sizes": patch_sizes, "scans_per_step": 2, "patches_per_scan": 1}
    batches = PatchBatches(ScanPatches(rows, cached=len(rows)), **sizes, seed=seed)
    made_from = [
        architecture,
        sizes,
        seed,
        [row[f"{name}_digest"] for row in (*rows, validation_row) for name in FILES],
    ]
    options = {"loss": "dice_ce", "learning_rate": 1e-2, "weight_decay": 1e-5, "validate_every": steps}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, given = build_network(**architecture), {"settings": made_from, "window": window}
        _, validation = train_network(model, batches, [validation_row], checkpoint, **given, **options)
    return model.requires_grad_(False), validation[-1]["ndsc"]


def compare_networks(reference, networks, image, lesion, where, **noise):
    """Rank correlation of a lesion's signed-maximum maps by every two of some networks: networks, region, of, value.

    reference: (2, *window), the map of "this run" under the same noise.  networks: {name: model} of one architecture.
    image: (2, X, Y, Z) z-scored.  lesion: (X, Y, Z) bool.  where: `regions` of its window.  noise: of `seeded_map`.
    """
    found = {name: seeded_map(model, image, lesion, **noise) for name, model in networks.items()}
    maps = {"this run": reference} | found
    tables = [correlate_maps(maps[a], maps[b], where).assign(networks=f"{a}, {b}") for a, b in combinations(maps, 2)]
    return pd.concat(tables)[["networks", "region", "of", "value"]]
