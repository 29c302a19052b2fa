"""The training of notebook 2, also by several processes (GPUs); the notebook then finds the finished checkpoint.

torchrun --nproc-per-node 2 -m lib.network.distributed build/paper/parameters/02_training.json
"""

import argparse
import json
from pathlib import Path

import torch

from lib.cohort import maps_file
from lib.network.architectures import build_network
from lib.network.patches import PatchBatches, ScanPatches, SubjectPatches
from lib.network.ranks import joined
from lib.network.training import train_network
from lib.network.weights import load_weights
from lib.provenance import code_digest, digest
from lib.run import Run
from lib.threads import fixed_threads

OF_BATCHES = ("steps", "patch_sizes", "scans_per_step", "patches_per_scan", "seed", "any_direction")
OF_TRAINING = ("loss", "learning_rate", "weight_decay", "validate_every", "window", "averaged_steps", "workers")


def starting_network(parameters, device):
    """The network of notebook 2 with its initial weights, those of its seed or given ones, and its architecture (of
    `build_network`).  parameters: of the notebook."""
    if parameters["initial"]:
        model, description = load_weights(parameters["initial"], device)
        return model.requires_grad_(True), description["architecture"]
    architecture = {"name": parameters["architecture"]} | _sizes(parameters)
    torch.manual_seed(parameters["seed"])
    return build_network(**architecture).to(device), architecture


def _sizes(parameters):
    """Arguments of `build_network` beside the name; strides are those between levels, also of a network whose first
    level has one of its own."""
    match parameters["architecture"]:
        case "dynunet":
            return {"channels": parameters["channels"], "strides": [1, *parameters["strides"]]}
        case "swinunetr":
            return {"feature_size": parameters["feature_size"]}
    return {"channels": parameters["channels"], "strides": parameters["strides"]}


def build_batches(parameters, rows):
    """The `PatchBatches` of notebook 2. rows: of the training scans, dicts."""
    files = [maps_file(row["flair"]) for row in rows]
    if parameters["fresh_appearance"] and all(files):
        source = SubjectPatches(files, parameters["cached_scans"], parameters["without"])
    else:
        source = ScanPatches(rows, parameters["cached_scans"])
    return PatchBatches(source, **{name: parameters[name] for name in OF_BATCHES})


def fit(run, model, batches, validation_rows):
    """`train_network` with the parameters of a run of notebook 2, from its checkpoint if there is one: that of another
    number of processes is as good."""
    initial, options = run.parameters["initial"], {name: run.parameters[name] for name in OF_TRAINING}
    settings = [run.parameters, digest(run.scans_file), code_digest(train_network), code_digest(build_network)]
    settings += [digest(Path(initial))] if initial else []
    with fixed_threads(run.parameters["threads"]):
        return train_network(model, batches, validation_rows, run.checkpoint, settings=settings, **options)


def main():
    parser = argparse.ArgumentParser(prog="python -m lib.network.distributed", description=__doc__.splitlines()[0])
    parser.add_argument("parameters", help="of notebook 2, as `make paper` writes them into <build>/parameters")
    run = Run("02_training", json.loads(Path(parser.parse_args().parameters).read_text()))
    rows = {split: table.to_dict("records") for split, table in run.scans().groupby("split")}
    batches = build_batches(run.parameters, rows["train"])
    with joined(run.parameters["device"]) as device:
        fit(run, starting_network(run.parameters, device)[0], batches, rows["validation"])


if __name__ == "__main__":
    main()
