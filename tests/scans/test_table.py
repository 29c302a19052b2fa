"""Finding scans and splitting patients."""

import codecs
import re
import zipfile
from io import BytesIO

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from lib.scans.checks import check_scans
from lib.scans.images import FILES
from lib.scans.table import SPLITS, find_scans, split_patients


def write_table(folder, rows):
    path = folder / "scans.tsv"
    pd.DataFrame(rows).drop(columns="scan").to_csv(path, sep="\t", index=False)
    return path


def test_a_table_is_found_with_paths_relative_to_its_folder(write_scan, tmp_path):
    row = write_scan("07")
    for name in FILES:
        row[name] = row[name].removeprefix(f"{tmp_path}/")
    table = find_scans(write_table(tmp_path, [row | {"subject": "sub-07", "session": "n/a"}]))
    assert table.loc[0, ["scan", "subject", "session"]].tolist() == ["sub-07", "07", ""]
    assert check_scans(table)[0].loc[0, "lesions"] == 1


def test_a_bids_folder_is_found_with_and_without_sessions(tmp_path):
    expected = []
    for subject, session in (("01", ""), ("02", "1"), ("02", "2")):
        name = f"sub-{subject}" + (f"_ses-{session}" if session else "")
        for base in (tmp_path, tmp_path / "derivatives" / "lesions"):
            anat = base.joinpath(*name.split("_"), "anat")
            anat.mkdir(parents=True)
            kinds = ("FLAIR", "T1w") if base == tmp_path else ("label-lesion_mask",)
            for kind in kinds:
                nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4)), anat / f"{name}_{kind}.nii.gz")
        expected.append((name, subject, session))
    (tmp_path / "dataset_description.json").write_text('{"Name": "test", "BIDSVersion": "1.10.0"}')
    table = find_scans(tmp_path)
    assert list(table[["scan", "subject", "session"]].itertuples(index=False, name=None)) == expected
    for row in table.itertuples():
        assert row.flair.endswith(f"{row.scan}_FLAIR.nii.gz")
        assert row.t1w.endswith(f"{row.scan}_T1w.nii.gz")
        assert row.lesions.endswith(
            f"derivatives/lesions/{'/'.join(row.scan.split('_'))}/anat/{row.scan}_label-lesion_mask.nii.gz"
        )


def test_incomplete_and_repeated_scans_are_reported_together(write_scan, tmp_path):
    first, second = write_scan("01"), write_scan("02")
    path = write_table(tmp_path, [first, first, second | {"t1w": ""}])
    with pytest.raises(ValueError, match="(?s)sub-02: no t1w file.*sub-01: listed more than once"):
        find_scans(path)


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "scans.tsv"
    path.write_text("subject\tflair\n01\ta.nii\n")
    with pytest.raises(ValueError, match="column missing: t1w"):
        find_scans(path)


EMPTY = ["n/a", "N/A", "NA", "NaN", "nan", "#N/A"]
MASKS = ["lesion", "mask", "masks", "lesion_mask", "annotation", "label"]
TEXT = "subject\tsession\tflair\tt1w\tlesions\n007\t1\tMüller/f.nii\tm/t 1.nii\tm/l.nii\n"


@pytest.mark.parametrize(
    "raw",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),  # Excel's "Unicode text"
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.replace("\t", ";").encode(),
        TEXT.replace("\t", ",").encode("utf-8-sig"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace("\t", " \t ").replace("\n", "  \n").encode(),
        re.sub("[^\t\n]+", '"\\g<0>"', TEXT).encode(),
        TEXT.replace("flair", "FLAIR").replace("t1w", "T1w").replace("subject", "Subject").encode(),
        (TEXT + "\t\t\t\t\n\n").encode(),
        TEXT.replace("\n", "\t\n").encode(),
        TEXT.replace("007\t1", "sub-007\tses-1").encode(),
        TEXT.replace("007", "\u200b 007\u200b").replace("l.nii", "l.nii\ufeff\xa0").encode(),
        TEXT.replace("lesions\n", "lesions\tage\n").replace("l.nii\n", "l.nii\t41\n").encode(),
    ],
)
def test_a_table_is_read_as_tools_write_it(tmp_path, raw):
    (tmp_path / "scans.tsv").write_bytes(raw)
    (row,) = find_scans(tmp_path / "scans.tsv").to_dict("records")
    paths = {"flair": "Müller/f.nii", "t1w": "m/t 1.nii", "lesions": "m/l.nii"}
    expected = {"scan": "sub-007_ses-1", "subject": "007", "session": "1"}
    assert row == expected | {name: str(tmp_path / path) for name, path in paths.items()}


@pytest.mark.parametrize(
    "raw",
    [
        TEXT.replace("\tlesions", "").replace("\tm/l.nii", ""),
        TEXT.replace("\tm/l.nii", ""),
        *(TEXT.replace("m/l.nii", none) for none in ["", *EMPTY]),
    ],
)
def test_a_scan_without_annotation_is_one_with_an_empty_path(tmp_path, raw):
    (tmp_path / "scans.tsv").write_text(raw)
    (row,) = find_scans(tmp_path / "scans.tsv").to_dict("records")
    assert row["lesions"] == ""
    assert row["t1w"] == str(tmp_path / "m/t 1.nii")


def workbook():
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xl/worksheets/sheet1.xml", np.random.default_rng(0).bytes(200))
    return content.getvalue()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "cannot be read as a table"),
        (b"\n\n", "cannot be read as a table"),
        (b"\t\t\n", "cannot be read as a table .it is empty"),
        (TEXT.encode("cp1252"), "cannot be read as a table .*in UTF-8"),
        (TEXT.encode("utf-16-le"), "cannot be read as a table .*in UTF-8"),  # without its mark
        (workbook(), "cannot be read as a table .*in UTF-8"),
        ((TEXT + "1\t2\t3\t4\t5\t6\n").encode(), "Expected 5 fields in line 3, saw 6"),
        (TEXT.split("\n")[0].encode(), "no scan found"),
        (TEXT.split("\n")[1].encode(), "column missing: flair, subject, t1w"),
        *(
            (TEXT.replace("lesions", name).encode(), f"column {name} is not read: name it lesions, or leave")
            for name in MASKS
        ),
        (TEXT.replace("t1w", "flair").encode(), "column listed twice: flair"),
        (TEXT.replace("t1w", "FLAIR ").encode(), "column listed twice: flair"),
        (TEXT.replace("m/t 1.nii", "n/a").encode(), "scan sub-007_ses-1: no t1w file"),
        ((TEXT + " sub-007\t1 \ta\tb\tc\n").encode(), "scan sub-007_ses-1: listed more than once"),
        ((TEXT + "007_ses-1\t\ta\tb\tc\n").encode(), "scan sub-007_ses-1: listed more than once"),
        ((TEXT + "1\t2\t3\t4\t5\t6\n").encode(), "more cells than the first .quote one that holds '.t'"),
        (
            TEXT.replace("\t", ",").replace("m/t 1", "m/t, 1").encode(),
            "more cells than the first .quote one that holds ','",
        ),
        (TEXT.replace("m/l.nii", '"m/l.nii').encode(), "EOF inside string.*close every quote"),
        *((TEXT.replace("m/t 1.nii", none).encode(), "sub-007_ses-1: no t1w file") for none in EMPTY),
        (TEXT.replace("007", "").encode(), "no subject"),
        (TEXT.replace("007", "NA").encode(), "no subject .*sub-NA as a name"),
        *(
            (TEXT.replace("007", name).encode(), "must not hold slashes")
            for name in ("a/b", "..", ".", "0\u200b7", "0\xa07")
        ),
        (TEXT.replace("1\tM", "..\tM").encode(), "nor be dots alone"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused_with_its_name(tmp_path, raw, said):
    (tmp_path / "scans.tsv").write_bytes(raw)
    with pytest.raises(ValueError, match=f"scans.tsv(?s:.*){said}"):
        find_scans(tmp_path / "scans.tsv")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["A\t1", "a\t1"], "listed more than once"),
        (["A\t1", "a\t2"], "sub-a_ses-2: a subject before is named alike"),
        (["A\tM0", "A\tm0"], "sub-A_ses-m0: listed more than once"),
        (["Zo\u00eb\t1", "Zoe\u0308\t2"], "a subject before is named alike"),
    ],
)
def test_names_whose_files_would_collide_are_refused(tmp_path, names, said):
    (tmp_path / "scans.tsv").write_text(TEXT.split("\n")[0] + "".join(f"\n{name}\ta\tb\tc" for name in names))
    with pytest.raises(ValueError, match=said):
        find_scans(tmp_path / "scans.tsv")


@pytest.mark.parametrize(
    ("name", "scan"),
    [
        *((f"07\t{none}", "sub-07") for none in EMPTY),
        ("sub-NA\tNAN1", "sub-NA_ses-NAN1"),
        ("M\u00fc.1 b\t..2", "sub-M\u00fc.1 b_ses-..2"),
    ],
)
def test_what_is_missing_is_empty_and_names_that_look_alike_it_are_kept(tmp_path, name, scan):
    (tmp_path / "scans.tsv").write_text(TEXT.split("\n")[0] + f"\n{name}\ta\tb\tc")
    assert find_scans(tmp_path / "scans.tsv")["scan"].iloc[0] == scan


def test_a_choice_among_the_files_of_a_table_is_refused(write_scan, tmp_path):
    with pytest.raises(ValueError, match="choose='acq-3D' is for BIDS folders"):
        find_scans(write_table(tmp_path, [write_scan("01")]), "acq-3D")


def test_patients_are_split_as_asked_and_every_split_spans_the_load():
    load = pd.Series(np.arange(40.0), index=[f"{i:02d}" for i in range(40)])
    split = split_patients(load, [0.5, 0.25, 0.25], np.random.default_rng(0))
    assert split.value_counts().to_dict() == {"train": 20, "validation": 10, "test": 10}
    for name in SPLITS:
        members = load[split == name]
        assert members.min() < 8
        assert members.max() > 31
    again = split_patients(load, [0.5, 0.25, 0.25], np.random.default_rng(0))
    assert split.equals(again)
    assert not split.equals(split_patients(load, [0.5, 0.25, 0.25], np.random.default_rng(1)))


def test_all_patients_can_go_to_the_test_split():
    load = pd.Series([1.0, 2.0, 3.0], index=["a", "b", "c"])
    assert set(split_patients(load, [0, 0, 1], np.random.default_rng(0))) == {"test"}


def test_an_impossible_split_is_refused():
    load = pd.Series([1.0, 2.0], index=["a", "b"])
    with pytest.raises(ValueError, match="2 patients are too few"):
        split_patients(load, [0.5, 0.25, 0.25], np.random.default_rng(0))
    with pytest.raises(ValueError, match="sum to 1"):
        split_patients(load, [0.5, 0.5, 0.5], np.random.default_rng(0))
