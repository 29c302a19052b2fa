"""Raw scans as a table, a BIDS folder or a public data set gives them: nothing but FLAIR and T1w has to be there."""

from pathlib import Path

import pandas as pd

from lib.scans import public_scans, scan_names, split_source

COLUMNS = ["subject", "session", "flair", "t1w", "lesions", "mask"]
NAMES = {"flair": "*_FLAIR.nii*", "t1w": "*_T1w.nii*"}


def raw_scans(source):
    """Scans of a table (subject, flair, t1w; session, lesions, mask if there are any), BIDS folder or public data set
    (`split_source`): COLUMNS, label and scan.

    mask: of the brain.  label: of lesions in `lesions`, "" if all that is not 0 is one.  Paths of a table count from its
    folder; empty cells are "".  Raises ValueError that says what lacks.
    """
    name, source = split_source(source)
    if name:
        table = pd.DataFrame(public_scans(name, source, raw=True)).assign(mask="")
    elif not source.exists():
        raise ValueError(f"{source} does not exist: give a BIDS folder or a table of raw scans (TSV)")
    else:
        table = (_of_folder(source) if source.is_dir() else _of_table(source)).assign(label="")
    table["scan"] = scan_names(table)
    if odd := table.loc[~table["scan"].str.fullmatch(r"[\w.+-]+"), "scan"].tolist():
        raise ValueError(f"{source}: letters, digits, . + and - alone in subjects and sessions, not {', '.join(odd)}")
    if twice := table.loc[table["scan"].str.lower().duplicated(), "scan"].tolist():
        raise ValueError(f"{source}: listed more than once: {', '.join(twice)}")
    if bare := table.loc[(table[["subject", "flair", "t1w"]] == "").any(axis=1), "scan"].tolist():
        raise ValueError(f"{source}: subject, flair and t1w are needed: {', '.join(bare)}")
    return table.sort_values("scan", ignore_index=True)


def _of_table(source):
    try:
        table = pd.read_csv(source, sep=None, engine="python", dtype=str, encoding="utf-8-sig").fillna("")
    except ValueError as error:  # of Unicode and of pandas
        raise ValueError(f"{source} cannot be read as a table ({error}); save it as UTF-8, separated by tabs") from None
    table.columns = table.columns.str.strip().str.lower()
    if lacking := [name for name in ("subject", "flair", "t1w") if name not in table]:
        raise ValueError(f"{source}: column missing: {', '.join(lacking)}")
    table = table.reindex(columns=COLUMNS, fill_value="").apply(lambda cells: cells.str.strip())
    table["subject"] = table["subject"].str.removeprefix("sub-")
    table["session"] = table["session"].str.removeprefix("ses-")
    for name in COLUMNS[2:]:
        table[name] = [file and str((source.parent / Path(file).expanduser()).absolute()) for file in table[name]]
    return table


def _of_folder(source):
    folders = sorted([*source.glob("sub-*/anat"), *source.glob("sub-*/ses-*/anat")])
    if not folders:
        dicom = any(source.rglob("*.dcm")) or (source / "DICOMDIR").exists()
        what = f"is DICOM: convert it first (dcm2niix -z y -o nifti {source})" if dicom else "has no sub-*/[ses-*/]anat"
        raise ValueError(f"{source} {what}")
    rows = []
    for folder in folders:
        found = {name: sorted(folder.glob(pattern)) for name, pattern in NAMES.items()}
        if any(len(files) != 1 for files in found.values()):
            counts = ", ".join(f"{len(files)} {name}" for name, files in found.items())
            raise ValueError(f"{folder} has {counts}: one of each is needed; list the files wanted in a table")
        parts = list(folder.relative_to(source).parts[:-1])
        masks = sorted(source.glob(f"derivatives/*/{'/'.join(parts)}/anat/*_label-lesion_mask.nii*"))
        rows.append({
            "subject": parts[0].removeprefix("sub-"), "session": parts[1].removeprefix("ses-") if len(parts) > 1 else "",
            **{name: str(files[0].absolute()) for name, files in found.items()},
            "lesions": str(masks[0].absolute()) if len(masks) == 1 else "", "mask": "",
        })  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)
