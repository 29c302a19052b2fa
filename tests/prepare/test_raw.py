"""Raw scans of tables and folders."""

from pathlib import Path

import pandas as pd
import pytest

from lib.prepare import raw_scans
from lib.scans import find_scans

TEXT = "subject\tflair\tt1w\tlesions\n1\ta.nii\tb.nii\tc.nii\n"


def make_bids(folder, *masks):
    """A folder of one scan, with masks at these paths in it."""
    for file in ("sub-1/anat/sub-1_FLAIR.nii.gz", "sub-1/anat/sub-1_T1w.nii.gz", *masks):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def test_scans_are_read_from_tables_and_folders(tmp_path):
    (tmp_path / "raw.tsv").write_text("subject\tflair\tt1w\nsub-2\tf.nii\tt.nii\n1\ta.nii\tb.nii\n")
    table = raw_scans(tmp_path / "raw.tsv")
    assert table["scan"].tolist() == ["sub-1", "sub-2"]
    assert table["flair"][0] == str(tmp_path / "a.nii")
    assert table["mask"].tolist() == ["", ""]
    anat = tmp_path / "bids" / "sub-1" / "ses-2" / "anat"
    anat.mkdir(parents=True)
    for name in ("FLAIR", "T1w"):
        (anat / f"sub-1_ses-2_{name}.nii.gz").touch()
    assert raw_scans(tmp_path / "bids")["scan"].tolist() == ["sub-1_ses-2"]
    (anat / "sub-1_ses-2_run-2_T1w.nii.gz").touch()
    with pytest.raises(ValueError, match="1 flair, 2 t1w"):
        raw_scans(tmp_path / "bids")


@pytest.mark.parametrize(
    "mask",
    [
        "sub-1/anat/sub-1_label-lesion_mask.nii.gz",
        "derivatives/lesions/sub-1/anat/sub-1_label-lesion_mask.nii.gz",
        "derivatives/sub-1/sub-1_desc-rater1_label-lesion_mask.nii",
        "",
    ],
)
def test_the_lesion_mask_of_a_folder_is_the_one_that_make_paper_takes(mask, tmp_path):
    make_bids(tmp_path, *([mask] if mask else []))
    assert raw_scans(tmp_path)["lesions"].tolist() == [str(tmp_path / mask) if mask else ""]
    assert find_scans(tmp_path)["lesions"].tolist() == raw_scans(tmp_path)["lesions"].tolist()


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        (["lesions/sub-1/anat/sub-1_desc-1_label-lesion_mask", "lesions/sub-1/anat/sub-1_desc-2_label-lesion_mask"], "2 lesions files fit"),
        (["one/sub-1/anat/sub-1_label-lesion_mask", "two/sub-1/anat/sub-1_label-lesion_mask"], "2 lesions files fit"),
        (["lst/sub-1/anat/sub-1_lesions"], "no lesions file.*but there is derivatives/lst"),
    ],
)  # fmt: skip
def test_masks_that_may_be_meant_are_not_passed_over(masks, said, tmp_path):
    make_bids(tmp_path, *(f"derivatives/{mask}.nii.gz" for mask in masks))
    with pytest.raises(ValueError, match=f"sub-1: {said}(?s:.*)scans table") as raised:
        raw_scans(tmp_path)
    assert "choose" not in str(raised.value)  # make prepare has no such setting


@pytest.mark.parametrize(
    "raw",
    [
        TEXT.encode(),
        TEXT.encode("utf-16"),
        TEXT.replace("\t", ";").encode("utf-8-sig"),
        (TEXT + "\t\t\t\n").encode(),
        TEXT.replace("\n1", "\nsub-1 b").encode(),
        TEXT.replace("\n1", "\nsub-NA").encode(),
        TEXT.replace("c.nii", "n/a").encode(),
    ],
)
def test_a_table_that_make_paper_reads_is_read(raw, tmp_path):
    (tmp_path / "raw.tsv").write_bytes(raw)
    names = ["scan", "subject", "session", "flair", "t1w", "lesions"]
    pd.testing.assert_frame_equal(raw_scans(tmp_path / "raw.tsv")[names], find_scans(tmp_path / "raw.tsv")[names])


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (TEXT.replace("lesions", "lesion"), "column lesion is not read: name it lesions"),
        (TEXT + "2\ta\tb\tc\td\n", "no row may have more cells"),
        (TEXT.replace("c.nii", "c.nii\td.nii"), "no row may have more cells"),
        (TEXT.replace("lesions", "flair"), "column listed twice: flair"),
        ("subject\tsession\tflair\tt1w\nA\t1\tb\tc\na\t2\td\te\n", "a subject before is named alike"),
        (TEXT.replace("b.nii", ""), "sub-1: no t1w file"),
        (TEXT.replace("\n1", "\na/b"), "must not hold slashes"),
        (TEXT.split("\n")[0], "no scan found"),
    ],
)
def test_a_table_that_make_paper_refuses_is_refused(raw, said, tmp_path):
    (tmp_path / "raw.tsv").write_text(raw)
    for read in (raw_scans, find_scans):
        with pytest.raises(ValueError, match=said):
            read(tmp_path / "raw.tsv")


def test_a_mask_beside_no_lesions_is_one_of_the_brain(tmp_path):
    (tmp_path / "raw.tsv").write_text(TEXT.replace("lesions", "Mask"))
    (row,) = raw_scans(tmp_path / "raw.tsv").to_dict("records")
    assert (row["lesions"], row["mask"]) == ("", str(tmp_path / "c.nii"))


def test_of_masks_with_other_pathology_the_label_of_lesions_is_told(tmp_path):
    for name in ("orig/FLAIR.nii.gz", "orig/3DT1.nii.gz", "wmh.nii.gz"):
        file = tmp_path / "training" / "Amsterdam" / "GE3T" / "100" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (row,) = raw_scans(f"wmh2017:{tmp_path}").to_dict("records")
    assert (row["scan"], row["label"], row["mask"]) == ("sub-Amsterdam100", 1, "")
    assert Path(row["lesions"]).name == "wmh.nii.gz"
