"""What each ingredient of the synthetic cohort buys on scans of patients: the same short training without it.

Every arm trains one network on the maps of a cohort (`make pretrain` leaves one in build/pretrain/cohort) with one ingredient
of the appearance held at the middle of its range, or, in the last arm, on the stored images with one appearance a scan.
Weights are averaged over the last third of the steps, so that less hangs on the last one. Thresholds are picked on synthetic
validation scans; the scans of patients are only tested on. `dice_mean` is the mean Dice over all thresholds, which does not
depend on those that were picked. One training and one seed an arm: differences of a few hundredths of Dice mean nothing.

    python benchmarks/ablation.py build/pretrain/cohort my_scans.tsv --steps 400 --out figures/ablation

Finished arms are kept and not run again; an interrupted training goes on.
"""

import argparse
import json
from pathlib import Path

import lib  # noqa: F401  before numpy: it chooses the kernels

# isort: split
import pandas as pd
import torch

from lib.cohort import INGREDIENTS, maps_file
from lib.lesions import best_threshold, lesion_rates, scan_metrics, segment, threshold_curve, threshold_scores
from lib.network import PatchBatches, ScanPatches, SubjectPatches, build_network, predict, train_network
from lib.provenance import code_digest, run_record, write_atomically
from lib.scans import find_scans, load_scan

ARCHITECTURE = {"name": "unet", "channels": [16, 32, 64, 128], "strides": [2, 2, 2]}
ARMS = {"all ingredients": ()} | {f"without {name}": (name,) for name in INGREDIENTS}
ONE_APPEARANCE = "one appearance a scan"
VALIDATION_SCANS, PATCH, WINDOW = 4, 96, 96


def run_arm(name, cohort, patients, steps, out):
    """Train one arm and test it: table of rows arm, scan, threshold, outline, dice, ndsc, tp, fp, fn, f1, dice_mean."""
    rows = find_scans(cohort).to_dict("records")
    validation, train = rows[:VALIDATION_SCANS], rows[VALIDATION_SCANS:]
    if name == ONE_APPEARANCE:
        source = ScanPatches(train, len(train))
    else:
        source = SubjectPatches([maps_file(row["flair"]) for row in train], len(train), ARMS[name])
    batches = PatchBatches(
        source, steps=steps, patch_sizes=[PATCH], scans_per_step=2, patches_per_scan=1, seed=0, any_direction=False
    )
    torch.manual_seed(0)
    model = build_network(**ARCHITECTURE)
    train_network(
        model, batches, validation, out / f"{name}.ckpt", settings=[name, steps, code_digest(train_network)],
        loss="instance_dice_ce", learning_rate=1e-2, weight_decay=1e-5, validate_every=max(steps // 3, 1), window=WINDOW,
        averaged_steps=steps // 3, workers=1,
    )  # fmt: skip
    scans = [load_scan(row) for row in validation]
    scores = (threshold_scores(predict(model, scan.image, window=WINDOW), scan.lesions, scan.brain) for scan in scans)
    best = best_threshold(threshold_curve(scores))
    threshold, outline = best["threshold"], best["outline"]
    tested = []
    for row in find_scans(patients).to_dict("records"):
        scan = load_scan(row)
        probability = predict(model, scan.image, window=WINDOW)
        found = scan_metrics(segment(probability, threshold, outline), scan.lesions, scan.brain)
        found["f1"] = lesion_rates(found["tp"], found["fp"], found["fn"])["F1"]
        found["dice_mean"] = threshold_scores(probability, scan.lesions, scan.brain)[:, 0].mean()
        tested.append({"arm": name, "scan": row["scan"], "threshold": threshold, "outline": outline, **found})
    return pd.DataFrame(tested)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("patients", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("figures/ablation"))
    options = parser.parse_args()
    record, file = (
        run_record("benchmarks/ablation.py", {"steps": options.steps} | ARCHITECTURE),
        options.out / "ablation.csv",
    )
    done = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["arm"])
    for arm in [*ARMS, ONE_APPEARANCE]:
        if arm not in set(done["arm"]):
            tested = run_arm(arm, options.cohort, options.patients, options.steps, Path("build/ablation"))
            done = pd.concat([done, tested], ignore_index=True)
            write_atomically(file, lambda path, table=done: table.to_csv(path, index=False, float_format="%.4g"))
            write_atomically(
                file.with_suffix(".json"), lambda path: path.write_text(json.dumps(record, indent=1) + "\n")
            )
    columns = ["dice", "dice_mean", "ndsc", "f1", "tp", "fp", "fn"]
    print(done.groupby("arm", sort=False)[columns].mean().round(2).to_string())
