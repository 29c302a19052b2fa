"""Ship the weights of a pretraining: the files, and a model card written from the tables of its evaluation.

python -m lib.network.model_card <build folder> <figures folder> <weights folder> [<figures folder of real scans>]
"""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd

from lib.provenance import write_atomically

CARD = """# Weights of a 3D U-Net for white-matter lesions in multiple sclerosis

`unet.safetensors` (weights) and `unet.json` (architecture, normalisation, threshold and outline): written by `make pretrain`, loaded by
`lib.network.load_weights`. `make paper DATA=<scans>` uses them unless it is told to train (`TRAIN=yes`).

**Input** FLAIR and MPRAGE, 1 mm isotropic, co-registered, skull-stripped, z-scored over the brain; **output** background and lesion logits.
**Network** `{architecture}`, {parameters:,} weights. **Threshold** A lesion reaches a probability of {threshold}
somewhere and is outlined at {outline}: the threshold with the best mean of Dice and lesion F1 on synthetic validation scans, the highest of those that are as
good to three decimals. How it is picked, that weights are averaged and predictions mirrored was decided after the scans of patients below had been seen; optimiser
and learning rate were picked on 14 synthetic scans (subjects 65 to 78 of seed 100), with the scores on patients beside them. **Prediction** In patches of {window} voxels{mirrored}.

## Trained on

{train} scans of the synthetic cohort alone (data/README.md): ICBM-152 anatomy, warped; every patch with a random appearance of its own. No scan of a
patient was used for training, or to pick weights or the threshold. The ranges of the appearances, and the shapes and places of lesions, were set around figures
measured on public scans, the scans of patients below among them, and were changed after looking at the errors of earlier networks on these: they are
tests of the weights, not of the design of the cohort.

{start}{steps} steps of {batch} patches of {patch_size} voxels a side, loss `{loss}`, optimiser SOAP, learning rate {learning_rate}, seed {seed}{averaged}; the weights of step {step}
had the best validation Dice, {validation_dice}. Commit {commit}; torch {torch}, monai {monai}.

## Tested on

{tests}

Lesions are 18-connected instances; a predicted one that touches the annotation is a TP, any other an FP.

## Not for

Diagnosis, treatment or any decision about a patient. Counts and volumes of lesions in research without a check by a reader. Other sequences, scans that
are not skull-stripped, or resolutions far from 1 mm. Its errors on a data set of yours are unknown until you measure them: `make paper DATA=<scans>` does.
"""
AVERAGED = "; over the last {} the rate is a third of that, and the weights after each are averaged"
MIRRORED = ", each also with left and right exchanged"


def scans_table(figures):
    """Markdown table of the test scans of notebook 3, with their mean and sum."""
    scans = pd.read_csv(figures / "03_scans.csv", dtype={"subject": str, "session": str})
    lines = ["| scan | Dice | nDSC | lesion F1 | TP | FP | FN |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for row in scans.itertuples():
        lines.append(_line(row.scan, row.dice, row.ndsc, row.tp, row.fp, row.fn))
    counts = scans[["tp", "fp", "fn"]].sum()
    lines.append(_line("mean; sum", scans["dice"].mean(), scans["ndsc"].mean(), *counts))
    return "\n".join(lines)


def _line(name, dice, ndsc, tp, fp, fn):
    f1 = 2 * tp / max(2 * tp + fp + fn, 1)
    return f"| {name} | {dice:.2f} | {ndsc:.2f} | {f1:.2f} | {tp:.0f} | {fp:.0f} | {fn:.0f} |"


def write_card(build, figures, out, real=None):
    """Copy the weights of a finished run from `build` into `out`, with a README.md from the tables in `figures`, and in
    `real` for scans of patients."""
    source = build / "weights" / "unet.safetensors"
    description = json.loads(source.with_suffix(".json").read_text())
    record = json.loads((figures / "02_loss.json").read_text())
    used, split = record["parameters"], pd.read_csv(figures / "01_split.csv").set_index("split")
    tests = f"Synthetic test scans, never seen:\n\n{scans_table(figures)}"
    if real:
        tests += f"\n\nScans of patients, never trained on:\n\n{scans_table(real)}"
    start = f"From earlier weights (digest {description['initial']}): " if description["initial"] else ""
    card = CARD.format(
        start=start,
        architecture=json.dumps(description["architecture"]), parameters=description["parameters"],
        window=description["window"], mirrored=MIRRORED if description["mirrored"] else "", threshold=description["threshold"], outline=description["outline"], train=split.loc["train", "scans"], steps=used["steps"],
        averaged=AVERAGED.format(used["averaged_steps"]) if used["averaged_steps"] else "",
        batch=used["scans_per_step"] * used["patches_per_scan"], patch_size=used["patch_size"], loss=used["loss"],
        learning_rate=used["learning_rate"], seed=used["seed"], step=description["step"],
        validation_dice=description["validation_dice"], commit=record["commit"], torch=record["versions"]["torch"],
        monai=record["versions"]["monai"], tests=tests,
    )  # fmt: skip
    for file in (source, source.with_suffix(".json")):
        write_atomically(out / file.name, lambda copy, file=file: shutil.copyfile(file, copy))
    write_atomically(out / "README.md", lambda file: file.write_text(card))


if __name__ == "__main__":
    write_card(*map(Path, sys.argv[1:]))
