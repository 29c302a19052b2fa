"""The scans table (scan, subject, session, flair, t1w, lesions): found in a BIDS folder or a TSV file, split by patient."""

from pathlib import Path

import bids2table
import numpy as np
import pandas as pd
import pandera.pandas as pa

from lib.scans.images import FILES

SPLITS = ["train", "validation", "test"]
NO_FILE = "no {} file; every scan needs FLAIR, T1w and lesion mask"
SCHEMA = pa.DataFrameSchema(
    {
        "subject": pa.Column(str, None, pa.Parser(lambda sub: sub.str.removeprefix("sub-"))),
        "session": pa.Column(str, None, pa.Parser(lambda ses: ses.replace("^ses-|^n/a$", "", regex=True)), default=""),
        **{name: pa.Column(str, pa.Check.ne("", error=NO_FILE.format(name))) for name in FILES},
    },
    checks=pa.Check(lambda table: ~table.duplicated(["subject", "session"]), error="listed more than once"),
    add_missing_columns=True,
)


def find_scans(source):
    """The scans table of a BIDS folder or of a TSV file: columns scan, subject, session ("" if none), flair, t1w, lesions.

    A BIDS folder holds `sub-*/[ses-*/]anat/*_FLAIR.nii[.gz]` and `*_T1w.nii[.gz]`, and lesion masks named
    `*_label-lesion_mask.nii[.gz]` anywhere under `derivatives/`. Paths in a TSV count from its own folder.
    Raises ValueError if nothing is found, a column is missing, or a scan is incomplete or listed twice.
    """
    source = Path(source)
    if not source.exists():
        raise ValueError(f"{source} does not exist: give a BIDS folder or a scans table (TSV)")
    table = _bids_scans(source) if source.is_dir() else pd.read_csv(source, sep="\t", dtype=str, keep_default_na=False)
    try:
        table = SCHEMA.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases.sort_values(["schema_context", "index"], kind="stable")
        if lacking := sorted(cases.loc[cases["check"] == "add_missing_has_default", "failure_case"]):
            lacking, expected = ", ".join(lacking), ", ".join(SCHEMA.columns)
            raise ValueError(f"{source}: column missing: {lacking} (tab-separated {expected})") from None
        problems = "scan " + _scan_names(errors.data)[cases["index"]] + ": " + cases["check"].to_numpy()
        raise ValueError("\n".join([f"{source}:", *problems.unique()])) from None
    if table.empty:
        raise ValueError(f"{source}: no scan found; data/README.md says how scans are laid out")
    if source.is_file():
        table[FILES] = table[FILES].map(lambda file: str(source.parent / file))
    return table.assign(scan=_scan_names(table)).sort_values("scan", ignore_index=True)[["scan", *SCHEMA.columns]]


def _scan_names(table):
    return "sub-" + table["subject"] + ("_ses-" + table["session"]).where(table["session"] != "", "")


def _bids_scans(folder):
    wanted = "datatype == 'anat' and suffix in ['FLAIR', 'T1w'] and ext in ['.nii', '.nii.gz']"
    images = bids2table.index_dataset(folder).to_pandas().query(wanted)
    masks = sorted((folder / "derivatives").glob("**/*_label-lesion_mask.nii*"))
    masks = pd.DataFrame([bids2table.parse_bids_entities(path) | {"file": str(path)} for path in masks])
    files = pd.concat([images.assign(file=images["root"].str.cat(images["path"], sep="/")), masks]).fillna({"ses": ""})
    table = files.groupby(["sub", "ses", "suffix"])["file"].last().unstack(fill_value="")
    table = table.reindex(columns=["FLAIR", "T1w", "mask"], fill_value="").set_axis(FILES, axis=1)
    return table.rename_axis(["subject", "session"]).reset_index()


def split_patients(load_ml, fractions, generator):
    """Split of each patient ("train", "validation", "test"), stratified by lesion load.

    load_ml: Series of lesion load by subject. fractions: share of each split; they sum to 1. Patients are dealt in
    the order of their load, shuffled within strata of as many patients as the smallest split takes to get one, so that
    every split spans the whole range of load. Raises ValueError if a split with a share would stay empty.
    """
    fractions = np.asarray(fractions, float)
    if fractions.shape != (3,) or (fractions < 0).any() or not np.isclose(fractions.sum(), 1):
        raise ValueError(f"fractions must be three shares that sum to 1, not {fractions.tolist()}")
    n, stratum = len(load_ml), max(2, round(1 / fractions[fractions > 0].min()))
    order = load_ml.sort_values(kind="stable").index.to_numpy()
    for start in range(0, n, stratum):
        generator.shuffle(order[start : start + stratum])
    splits = []
    for position in range(1, n + 1):
        behind = fractions * position - [splits.count(name) for name in SPLITS]
        splits.append(SPLITS[np.where(fractions > 0, behind, -np.inf).argmax()])
    if empty := ", ".join(name for name, part in zip(SPLITS, fractions, strict=True) if part and name not in splits):
        raise ValueError(f"{n} patients are too few for a split of {fractions.tolist()}: nobody is in {empty}")
    return pd.Series(splits, order, name="split").reindex(load_ml.index)
