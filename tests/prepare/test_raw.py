"""Raw scans of tables and folders."""

from pathlib import Path

import pytest

from lib.prepare import raw_scans


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


def test_of_masks_with_other_pathology_the_label_of_lesions_is_told(tmp_path):
    for name in ("orig/FLAIR.nii.gz", "orig/3DT1.nii.gz", "wmh.nii.gz"):
        file = tmp_path / "training" / "Amsterdam" / "GE3T" / "100" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (row,) = raw_scans(f"wmh2017:{tmp_path}").to_dict("records")
    assert (row["scan"], row["label"], row["mask"]) == ("sub-Amsterdam100", 1, "")
    assert Path(row["lesions"]).name == "wmh.nii.gz"
