"""`make prepare`: every scan of a raw table or BIDS folder, with its page, the table of their numbers, and what passed as scans.tsv.

python -m lib.prepare.work    settings are taken from the environment, as the Makefile hands them on: DATA, OUT
"""

import json
import os
import resource
import shlex
import shutil
import sys
import time
from pathlib import Path

import pandas as pd
import SimpleITK as sitk
from tqdm.auto import tqdm

from lib.prepare.page import plot_prepared
from lib.prepare.raw import raw_scans
from lib.prepare.scan import prepare_scan
from lib.prepare.volumes import VOXEL_MM
from lib.provenance import ROOT, code_digest, digest, git_commit, run_record, write_atomically, write_json
from lib.run import peak_memory_gib, save_figure, save_table
from lib.scans import PUBLIC, split_source

NAME = "FLAIR and T1w prepared"
FILES = ["flair", "t1w", "lesions", "mask"]


def prepare_all(source, folder, side_mm=VOXEL_MM):
    """Prepare all scans of `source` (`raw_scans`) into a folder of BIDS derivatives. Returns `prepared.csv`: a row a scan.

    A scan of the same files, settings and code is not done again. One that fails, by an error or by its numbers, is said to
    have failed in `prepared.csv` and left out of `scans.tsv`; the others go on. Raises ValueError if the folder holds others'
    files or the scans of another source.
    """
    table, folder = raw_scans(source), Path(folder)
    _describe_dataset(*split_source(source), folder)
    rows = [_prepare_one(row, folder, side_mm) for row in tqdm(table.to_dict("records"), desc="prepare", unit="scan")]
    prepared = pd.DataFrame(rows)
    save_table(prepared, folder / "prepared", run_record("prepare", {"source": str(source), "side_mm": side_mm}))
    passed = [_files(folder, row) for row in rows if row["status"] == "passed"]
    scans = pd.DataFrame(passed, columns=["subject", "session", "flair", "t1w", "lesions"])
    write_atomically(folder / "scans.tsv", lambda file: scans.to_csv(file, sep="\t", index=False))
    return prepared


def _prepare_one(row, folder, side_mm):
    """Row of prepared.csv of one scan, whose files appear together at the end, or not at all."""
    place = folder / _place(row)
    known = {"scan": row["scan"], "subject": row["subject"], "session": row["session"]}
    try:
        files = {name: digest(Path(row[name])) if row[name] and Path(row[name]).is_file() else "" for name in FILES}
        made_from = digest(files, row, side_mm, code_digest(prepare_scan), sitk.Version_VersionString())
        kept = place / f"{row['scan']}_prepared.json"
        if kept.exists() and (record := json.loads(kept.read_text()))["made_from"] == made_from:
            return record["row"]
        begun, work = time.monotonic(), folder / f".{os.getpid()}-{row['scan']}"
        try:
            work.mkdir(parents=True)
            found = prepare_scan(row, work, side_mm)
            record = found["record"]
            save_figure(
                plot_prepared(row["scan"], found), work / f"{row['scan']}_page", {"commit": git_commit()} | record
            )
            known |= {"status": "failed" if record["Problems"] else "passed", "why": "; ".join(record["Problems"])}
            known |= record["Numbers"] | {"reference": record["Reference"], "brain_mask": record["BrainMask"]}
            known |= {"seconds": round(time.monotonic() - begun, 1), "peak_gib": peak_memory_gib(resource.RUSAGE_SELF)}
            write_json(work / kept.name, {"made_from": made_from, "inputs": files, "row": known} | record)
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            work.rename(place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except (ValueError, RuntimeError) as error:  # of files, of tools, of ITK
        known |= {"status": "failed", "why": " ".join(str(error).split())}
        shutil.rmtree(place, ignore_errors=True)
    tqdm.write(f"{known['scan']}: {known['status']}" + (f", {known['why']}" if known["why"] else ""))
    return known


def _place(row):
    """Where the files of a scan lie in the folder."""
    return Path(f"sub-{row['subject']}", *([f"ses-{row['session']}"] if row["session"] else []), "anat")


def _files(folder, row):
    """Row of scans.tsv, its paths counted from the folder. Names have their prefix, as a bare NA would be read as none."""
    stem = _place(row) / f"{row['scan']}_space-{row['reference']}"
    lesions = f"{stem}_label-lesion_mask.nii.gz"
    return {
        "subject": f"sub-{row['subject']}", "session": row["session"] and f"ses-{row['session']}",
        "flair": f"{stem}_desc-preproc_FLAIR.nii.gz", "t1w": f"{stem}_desc-preproc_T1w.nii.gz",
        "lesions": lesions if (folder / lesions).exists() else "",
    }  # fmt: skip


def _describe_dataset(name, source, folder):
    """Write dataset_description.json, with the terms of a public data set. Raises ValueError if the folder is not empty, or
    another source's."""
    description = folder / "dataset_description.json"
    known = json.loads(description.read_text()) if description.exists() else {}
    sources = [{"URL": source.absolute().as_uri() + (name and f"#{name}")}]
    if folder.exists() and any(folder.iterdir()) and known.get("SourceDatasets") != sources:
        raise ValueError(
            f"{folder} holds other files than those prepared from {source}: give another OUT, or remove it"
        )
    made_by = {"Name": "lib.prepare", "Version": git_commit(), "Container": {}}
    made_by["Description"] = f"SimpleITK {sitk.Version_VersionString()}"
    content = {"Name": NAME, "BIDSVersion": "1.10.0", "DatasetType": "derivative", "GeneratedBy": [made_by]}
    content["SourceDatasets"] = sources
    if name:
        content |= {"License": PUBLIC[name].licence, "HowToAcknowledge": PUBLIC[name].cite}
    write_json(description, content)


def main():
    given = os.environ.get("RUN_DATA", "")
    name, source = split_source(given)
    folder = Path(os.environ.get("RUN_OUT", ".")).expanduser() / "build" / f"prepared-{name or source.stem}"
    folder = folder if folder.is_absolute() else ROOT / folder
    try:
        if not given:
            raise ValueError("give the raw scans: make prepare DATA=<table, BIDS folder or public data set>")
        prepared = prepare_all(given, folder)
    except ValueError as error:
        sys.exit(str(error))
    failed = (prepared["status"] == "failed").sum()
    print(f"{len(prepared) - failed} of {len(prepared)} scans prepared: {folder}/prepared.csv", end="; ")
    print(f"then: make paper DATA={shlex.quote(f'{folder}/scans.tsv')}")
    sys.exit(int(failed > 0))


if __name__ == "__main__":
    main()
