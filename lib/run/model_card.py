"""Ship the weights of a pretraining: the files, and a model card written from the tables of its evaluation.

python -m lib.run.model_card <folder of build/ and figures/> <weights folder> [<real scans that it was tested on>]
"""

import json
import shutil
import sys
from pathlib import Path

import jinja2
import pandas as pd

from lib.provenance import write_atomically
from lib.run import Settings

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


def write_card(build, figures, out, real=None):
    """Copy the weights of a finished run from `build` into `out`, with a README.md from the tables in `figures`, and in
    `real` for scans of patients."""
    source = build / "weights" / "unet.safetensors"
    weights = json.loads(source.with_suffix(".json").read_text())
    record = json.loads((figures / "02_loss.json").read_text())
    tests = {"Synthetic test scans, never seen": _tested(figures)}
    if real:
        tests["Scans of patients, never trained on"] = _tested(real)
    style = {"trim_blocks": True, "keep_trailing_newline": True, "undefined": jinja2.StrictUndefined}
    card = jinja2.Template(TEMPLATE.read_text(), **style).render(
        weights=weights, architecture=json.dumps(weights["architecture"]), record=record, used=record["parameters"],
        scans=pd.read_csv(figures / "01_split.csv").set_index("split").loc["train", "scans"], tests=tests,
    )  # fmt: skip
    for file in (source, source.with_suffix(".json")):
        write_atomically(out / file.name, lambda copy, file=file: shutil.copyfile(file, copy))
    write_atomically(out / "README.md", lambda file: file.write_text(card))


def _tested(figures):
    """Rows of the test scans of notebook 3, with their mean and sum, as dicts."""
    scans = pd.read_csv(figures / "03_scans.csv")
    total = scans.agg({"dice": "mean", "ndsc": "mean", "tp": "sum", "fp": "sum", "fn": "sum"})
    return [*scans.to_dict("records"), {"scan": "mean; sum", **total}]


if __name__ == "__main__":
    place, target, patients = sys.argv[1:]
    trained, tested = (Settings(profile="pretrain", data=data, out=place) for data in ("", patients))
    write_card(trained.build, trained.figures, Path(target), tested.figures if patients else None)
