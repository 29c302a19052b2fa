"""The scans table (scan, subject, session, flair, t1w, lesions): found in a BIDS folder or a TSV file, split by patient."""

import codecs
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from lib.scans.bids import bids_scans
from lib.scans.images import FILES
from lib.scans.public import PUBLIC, public_scans, split_source

SPLITS = ["train", "validation", "test"]
NO_FILE = "no {} file; every scan needs FLAIR and T1w"
MASKS = "(lesion_?)?(masks?|labels?|annotations?|segmentations?)|lesion"  # columns that may be meant for lesions
EMPTY = ["n/a", "N/A", "#N/A", "NA", "NaN", "nan"]  # as BIDS, Excel, R and pandas write what is missing
BLANK = r"\s\u200b-\u200f\u2060\ufeff"  # with those of no width, which come along when a cell is copied
WRONG = "a subject or session must not hold slashes or blanks other than a space, nor be dots alone"
NAME = pa.Check.str_matches(rf"(?!\.+$)( |[^/\\{BLANK}])*$", error=WRONG)
SCHEMA = pa.DataFrameSchema(
    {
        "subject": pa.Column(
            str,
            [NAME, pa.Check.ne("", error="no subject (NA is read as none, sub-NA as a name)")],
            pa.Parser(lambda sub: sub.str.removeprefix("sub-")),
        ),
        "session": pa.Column(str, NAME, pa.Parser(lambda ses: ses.str.removeprefix("ses-")), default=""),
        **{name: pa.Column(str, pa.Check.ne("", error=NO_FILE.format(name))) for name in ("flair", "t1w")},
        "lesions": pa.Column(str, default=""),
    },
    checks=[
        pa.Check(lambda table: ~_alike(scan_names(table)).duplicated(), error="listed more than once, case aside"),
        pa.Check(
            lambda table: table["subject"].duplicated() | ~_alike(table["subject"]).duplicated(),
            error="a subject before is named alike, case aside; write one name, or names that differ in more",
        ),
    ],
    add_missing_columns=True,
)


def find_scans(source, choose=""):
    """The scans table of a BIDS folder, a table file or a public data set: columns scan, subject, session ("" if none),
    flair, t1w, lesions ("" where nobody has annotated the scan).

    A BIDS folder holds `sub-*/[ses-*/]anat/*_FLAIR.nii[.gz]` and `*_T1w.nii[.gz]`, and lesion masks named
    `*_label-lesion_mask.nii[.gz]`, mostly in `derivatives/`. choose: which of several that fit (`bids_scans`). A table is
    separated by tabs, semicolons or commas, in UTF-8 or UTF-16; its paths count from its own folder. A public data set has
    its name before its folder, as in mslesseg:/data/MSLesSeg (`public_scans`). Raises ValueError if nothing is found,
    several files fit, a table cannot be read or lacks a column, or a scan is incomplete or listed twice.
    """
    name, source = split_source(source)
    if not name and not source.exists():
        public = ", ".join(f"{name}:" for name in PUBLIC)
        raise ValueError(
            f"{source} does not exist: give a BIDS folder or a scans table (TSV), or the folder of a public data set"
            f" behind its name ({public})"
        )
    if choose and (name or source.is_file()):
        raise ValueError(
            f"choose={choose!r} is for BIDS folders, but {source} is {name or 'a table'}: list the files wanted in it"
        )
    if name:
        table = pd.DataFrame(public_scans(name, source), columns=[*SCHEMA.columns])
    elif source.is_dir():
        table = pd.DataFrame(bids_scans(source.absolute(), choose), columns=[*SCHEMA.columns])
    else:
        table = read_cells(source)
    table = check_rows(table, source)
    if source.is_file():
        table[FILES] = table[FILES].map(lambda file: file and str(source.parent / Path(file).expanduser()))
    return table[["scan", *SCHEMA.columns]]


def check_rows(table, source):
    """The rows of a source with bare names of subjects and sessions, scan before them, sorted by it; a session or lesions
    that lack are "". Raises ValueError with all problems: no scan, a column, name or file that lacks, names that are alike."""
    try:
        table = SCHEMA.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases.sort_values(["schema_context", "index"], kind="stable")
        if lacking := sorted(cases.loc[cases["check"] == "add_missing_has_default", "failure_case"]):
            lacking, expected = ", ".join(lacking), ", ".join(SCHEMA.columns)
            raise ValueError(f"{source}: column missing: {lacking} (tab-separated {expected})") from None
        problems = "scan " + scan_names(errors.data)[cases["index"]] + ": " + cases["check"].to_numpy()
        raise ValueError("\n".join([f"{source}:", *problems.unique()])) from None
    if table.empty:
        raise ValueError(f"{source}: no scan found; data/README.md says how scans are laid out")
    return table.assign(scan=scan_names(table)).sort_values("scan", ignore_index=True)


def scan_names(table):
    """Name of the scan in each row, such as sub-001 or sub-001_ses-1, from subject and session ("" if none)."""
    return "sub-" + table["subject"] + ("_ses-" + table["session"]).where(table["session"] != "", "")


def _alike(names):  # equal where a file system may take one for the other, such as A and a
    return names.str.normalize("NFC").str.lower()


def read_cells(file, columns=tuple(SCHEMA.columns)):
    """Cells of a table file as texts, without blanks around them; those of EMPTY are empty.

    columns: names of those that are read. Raises ValueError if it is no table, lists one of them twice, or has one that may
    be meant for lesions in place of it.
    """
    raw = file.read_bytes()
    utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = raw.decode("utf-16" if utf16 else "utf-8-sig")
        if "\0" in text:
            raise ValueError("no text")
        header = re.split(r"[\r\n]", text.strip())[0]
        separator = max("\t;,", key=header.count)
        cells = pd.read_csv(StringIO(text), sep=separator, header=None, dtype=str, keep_default_na=False)
        cells = cells.fillna("").replace(f"^[{BLANK}]+|[{BLANK}]+$", "", regex=True).replace(EMPTY, "")
        cells = cells[cells.ne("").any(axis=1)]
        if cells.empty:
            raise ValueError("it is empty")
    except ValueError as error:  # of Unicode and of pandas
        cure = "save it as text separated by tabs, in UTF-8"
        if isinstance(error, pd.errors.ParserError):
            cure = f"no row may have more cells than the first (quote one that holds {separator!r}); close every quote"
        raise ValueError(f"{file} cannot be read as a table ({str(error).strip()}); {cure}") from None
    cells.columns = [name.lower() for name in cells.iloc[0]]
    if "lesions" not in [*cells] and (
        meant := [name for name in cells if name not in columns and re.fullmatch(MASKS, name)]
    ):
        raise ValueError(
            f"{file}: column {meant[0]} is not read: name it lesions, or leave it out to explain scans without"
        )
    known = cells.iloc[1:, cells.columns.isin(columns)].reset_index(drop=True)
    if twice := ", ".join(known.columns[known.columns.duplicated()]):
        raise ValueError(f"{file}: column listed twice: {twice}; keep one")
    return known


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
