"""Raw scans as a table, a BIDS folder or a public data set gives them: nothing but FLAIR and T1w has to be there."""

from pathlib import Path

import pandas as pd

from lib.scans import bids_scans, check_rows, public_scans, read_cells, split_source

COLUMNS = ["subject", "session", "flair", "t1w", "lesions", "mask"]
NAMES = {"flair": "*_FLAIR.nii*", "t1w": "*_T1w.nii*"}


def raw_scans(source):
    """Scans of a table (subject, flair, t1w; session, lesions, mask if there are any), BIDS folder or public data set
    (`split_source`): COLUMNS, label and scan.

    mask: of the brain.  label: of lesions in `lesions`, "" if all that is not 0 is one.  Paths of a table count from its
    folder; empty cells are "".  Tables and names are those of `find_scans`, and so are the lesion masks of a BIDS folder.
    Raises ValueError that says what lacks, or which of several files may be meant.
    """
    name, source = split_source(source)
    if name:
        table = pd.DataFrame(public_scans(name, source, raw=True))
    elif not source.exists():
        raise ValueError(f"{source} does not exist: give a BIDS folder or a table of raw scans (TSV)")
    else:
        table = _of_folder(source.absolute()) if source.is_dir() else read_cells(source, COLUMNS)
    table = check_rows(table, source).reindex(columns=[*COLUMNS, "label", "scan"], fill_value="")
    if source.is_file():
        for name in COLUMNS[2:]:
            table[name] = [file and str((source.parent / Path(file).expanduser()).absolute()) for file in table[name]]
    return table


def _of_folder(source):
    folders = sorted([*source.glob("sub-*/anat"), *source.glob("sub-*/ses-*/anat")])
    if not folders:
        dicom = any(source.rglob("*.dcm")) or (source / "DICOMDIR").exists()
        what = f"is DICOM: convert it first (dcm2niix -z y -o nifti {source})" if dicom else "has no sub-*/[ses-*/]anat"
        raise ValueError(f"{source} {what}")
    for folder in folders:
        counts = {name: len([*folder.glob(pattern)]) for name, pattern in NAMES.items()}
        if set(counts.values()) != {1}:
            told = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise ValueError(f"{folder} has {told}: one of each is needed; list the files wanted in a table")
    return pd.DataFrame(bids_scans(source, choose=None))
