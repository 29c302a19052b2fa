"""Where one run reads and writes: the only module that knows the names of its files."""

import json
import os
from functools import partial

import pandas as pd
from matplotlib import rc_context

from lib.figures import STYLE
from lib.provenance import ROOT, digest, run_record, write_atomically, write_json
from lib.run.parameters import defaults
from lib.run.runner import KEPT
from lib.run.workers import compute_each
from lib.scans import FILES
from lib.threads import keep_to_one_thread


class Run:
    """Files of one run, opened by a notebook.

    notebook: its name, such as "03_evaluation". values: its ``globals()``, from which the parameters are taken.
    Relative folders count from the project's root, so that JupyterLab, papermill and make agree. The process computes every
    number with one thread from then on, so that no table depends on how many processors there are.
    """

    def __init__(self, notebook, values):
        keep_to_one_thread()
        self.notebook = notebook
        self.parameters = {name: values[name] for name in defaults(ROOT / "notebooks" / f"{notebook}.py")}
        self.build = ROOT / values["build"]
        self.figures = ROOT / values["figures"]
        self.cohort = self.build / "cohort"
        self.scans_file = self.build / "scans.csv"
        self.checkpoint = self.build / "training.ckpt"

    def weights(self, given=""):
        """Weights that the user gave, or else those that this run trained."""
        return ROOT / given if given else self.build / "weights" / "unet.safetensors"

    def save_scans(self, table):
        """Write the scans table with its split, for the notebooks that follow."""
        write_atomically(self.scans_file, lambda file: table.to_csv(file, index=False))

    def scans(self):
        """Read the scans table with its split."""
        return read_table(self.scans_file, "01_data_split", dtype=str)

    def map(self, scan, description):
        """Path of a map in the space of a scan such as "sub-001_ses-1", named as BIDS derivatives are."""
        return self.build.joinpath("derivatives", *scan.split("_"), "anat", f"{scan}_{description}.nii.gz")

    def table(self, name):
        """Read a table that this or an earlier notebook wrote, such as "03_lesions".

        Raises FileNotFoundError if it is missing, ValueError if it was made from other scans or lesions than those of this
        run now.
        """
        path, writer = self.figures / f"{name}.csv", f"number {name[:2]}"
        table, record = read_table(path, writer), json.loads(path.with_suffix(".json").read_text())
        for what, now in self._made_from(name).items():
            if record.get(what, now) != now:
                raise ValueError(f"{path} was made before the {what} changed: run notebook {writer} again")
        return table

    def compute_each(self, function, items, **options):
        """`lib.run.workers.compute_each` on the run's Dask scheduler, if it has one.

        What is computed when `make` is interrupted, the next one does not compute again, if it has the same inputs: each
        desc stands once in a notebook.
        """
        places = {"scheduler": self.parameters.get("scheduler", ""), "kept": os.environ.get(KEPT)}
        return compute_each(function, items, **places, **options)

    def made_with(self, name):
        """Parameters of the notebook that wrote a table, such as "03_lesions"."""
        return json.loads((self.figures / f"{name}.json").read_text())["parameters"]

    def save_table(self, table, name):
        """Write `<number>_<name>.csv`, and beside it a JSON that says what made it. Returns the table."""
        save_table(table, self.figures / f"{self.notebook[:2]}_{name}", self._record())
        return table

    def save_figure(self, figure, name):
        """Write `<number>_<name>` as vector PDF and 300-dpi PNG, each carrying what made it. Returns the figure."""
        save_figure(figure, self.figures / f"{self.notebook[:2]}_{name}", self._record())
        return figure

    def _record(self):
        return run_record(self.notebook, self.parameters) | self._made_from(self.notebook)

    def _made_from(self, name):
        """Digests of what a notebook's tables are made from: the contents of all scans and their split; from number 04 on,
        which is where labels come from, the lesions.  name: of the notebook, or of a table."""
        found, lesions = {}, self.figures / "03_lesions.csv"
        if name > "01" and self.scans_file.exists():
            found["scans"] = digest(self.scans().drop(columns=FILES).values.tolist())
        return found | ({"lesions": digest(lesions)} if name > "04" and lesions.exists() else {})


def foreign_tables(figures):
    """{notebook: tables} of a run that its notebook has not written when it last ran (`lib.run.runner`), but somebody by
    hand, or that are of other lesions than 03_lesions."""
    found, lesions = {}, figures / "03_lesions.csv"
    for record in sorted((figures / "provenance").glob("*.json")):
        for name, written in json.loads(record.read_text()).get("tables", {}).items():
            table = figures / name
            made_from = json.loads(table.with_suffix(".json").read_text()).get("lesions") if table.exists() else None
            other = made_from and lesions.exists() and made_from != digest(lesions)
            if table.exists() and (digest(table) != written or other):
                found.setdefault(record.stem, []).append(name)
    return found


def save_table(table, path, record):
    """Write a table to `path`.csv, and the record of what made it (JSON-like) to `path`.json."""
    write_csv = partial(table.to_csv, index=False, float_format="%.6g", na_rep="NaN")
    write_atomically(path.with_suffix(".csv"), write_csv)
    write_json(path.with_suffix(".json"), record)


def save_figure(figure, path, record):
    """Write a figure to `path`.pdf and, at 300 dpi, `path`.png, each carrying the record of what made it."""
    text = json.dumps(record)
    for suffix, metadata in ((".pdf", {"Subject": text, "CreationDate": None}), (".png", {"Description": text})):
        with rc_context(STYLE):
            write_atomically(path.with_suffix(suffix), partial(figure.savefig, dpi=300, metadata=metadata))


def read_table(path, writer, dtype=None):
    """Read a table of a run, subjects and sessions as texts; writer: the notebook named if it is missing."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run notebook {writer} first, as `make paper` does")
    return pd.read_csv(path, dtype=dtype or {"subject": str, "session": str}, keep_default_na=False, na_values=["NaN"])
