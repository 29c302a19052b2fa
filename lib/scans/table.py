"""The scans table (scan, subject, session, flair, t1w, lesions): found in a BIDS folder or a TSV file, split by patient."""

from pathlib import Path

import bids2table
import numpy as np
import pandas as pd

FILES = ["flair", "t1w", "lesions"]
SPLITS = ["train", "validation", "test"]


def find_scans(source):
    """The scans table of a BIDS folder or of a TSV file: columns scan, subject, session ("" if none), flair, t1w, lesions.

    A BIDS folder holds `sub-*/[ses-*/]anat/*_FLAIR.nii[.gz]` and `*_T1w.nii[.gz]`, and lesion masks named
    `*_label-lesion_mask.nii[.gz]` anywhere under `derivatives/`. Paths in a TSV count from its own folder.
    Raises ValueError if nothing is found, a column is missing, or a scan is incomplete or listed twice.
    """
    source = Path(source)
    if not source.exists():
        raise ValueError(f"{source} does not exist: give a BIDS folder or a scans table (TSV)")
    table = _bids_scans(source) if source.is_dir() else _read_table(source)
    if table.empty:
        raise ValueError(f"{source}: no scan found; data/README.md says how scans are laid out")
    table["scan"] = (
        "sub-" + table["subject"] + table["session"].map(lambda session: f"_ses-{session}" if session else "")
    )
    problems = [
        f"scan {row.scan}: no {name} file; every scan needs FLAIR, T1w and lesion mask"
        for row in table.itertuples()
        for name in FILES
        if not getattr(row, name)
    ]
    problems += [
        f"scan {scan}: listed more than once" for scan in table.loc[table["scan"].duplicated(), "scan"].unique()
    ]
    if problems:
        raise ValueError(f"{source}:\n" + "\n".join(problems))
    return table.sort_values("scan", ignore_index=True)[["scan", "subject", "session", *FILES]]


def _bids_scans(folder):
    images = bids2table.index_dataset(folder).to_pandas()
    masks = [
        bids2table.parse_bids_entities(path) | {"path": str(path)}
        for path in sorted((folder / "derivatives").glob("**/*_label-lesion_mask.nii*"))
    ]
    scans = {}
    for row in images[images["suffix"].isin(["FLAIR", "T1w"])].itertuples() if len(images) else ():
        key = (row.sub, row.ses if isinstance(row.ses, str) else "")
        if str(row.path).endswith((".nii", ".nii.gz")) and row.datatype == "anat":
            scans.setdefault(key, {})["flair" if row.suffix == "FLAIR" else "t1w"] = str(Path(row.root, row.path))
    for mask in masks:
        scans.setdefault((mask["sub"], mask.get("ses") or ""), {})["lesions"] = mask["path"]
    rows = [{"subject": subject, "session": session, **files} for (subject, session), files in scans.items()]
    return pd.DataFrame(rows, columns=["subject", "session", *FILES]).fillna("")


def _read_table(path):
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    missing = {"subject", *FILES} - set(table.columns)
    if missing:
        raise ValueError(
            f"{path}: column missing: {', '.join(sorted(missing))} (tab-separated subject, session, flair, t1w, lesions)"
        )
    if "session" not in table:
        table["session"] = ""
    table["subject"] = table["subject"].str.removeprefix("sub-")
    table["session"] = table["session"].str.removeprefix("ses-").replace("n/a", "")
    for name in FILES:
        table[name] = [str(path.parent / file) if file else "" for file in table[name]]
    return table


def split_patients(load_ml, fractions, generator):
    """Split of each patient ("train", "validation", "test"), stratified by lesion load.

    load_ml: Series of lesion load by subject. fractions: share of each split; they sum to 1. Patients are dealt in
    the order of their load, shuffled within strata of as many patients as the smallest split takes to get one, so that
    every split spans the whole range of load. Raises ValueError if a split with a share would stay empty.
    """
    fractions = np.asarray(fractions, float)
    if fractions.shape != (3,) or (fractions < 0).any() or not np.isclose(fractions.sum(), 1):
        raise ValueError(f"fractions must be three shares that sum to 1, not {fractions.tolist()}")
    n, share = len(load_ml), fractions[fractions > 0].min()
    order = load_ml.sort_values(kind="stable").index.to_numpy()
    stratum = max(2, round(1 / share))
    for start in range(0, n, stratum):
        generator.shuffle(order[start : start + stratum])
    counts = np.zeros(3)
    splits = {}
    for position, subject in enumerate(order, start=1):
        chosen = int(np.argmax(np.where(fractions > 0, fractions * position - counts, -np.inf)))
        counts[chosen] += 1
        splits[subject] = SPLITS[chosen]
    if empty := [name for name, count, part in zip(SPLITS, counts, fractions, strict=True) if part > 0 and count == 0]:
        raise ValueError(
            f"{n} patients are too few for a split of {fractions.tolist()}: nobody is in {', '.join(empty)}"
        )
    return pd.Series(splits, name="split").reindex(load_ml.index)
