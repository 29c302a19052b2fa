"""Several scans: what fails, what is kept."""

import shlex

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from heads import blobs, save

from lib.prepare import prepare_all, scan, work
from lib.scans import find_scans, load_lesions

SIDE_MM = 3.0  # of the voxels of a small head


def test_a_scan_that_fails_does_not_stop_the_others_and_leaves_nothing(tmp_path):
    """Both fail here: one of one slice, one that is missing."""
    save(tmp_path / "one.nii.gz", np.ones((20, 20, 1), np.float32))
    (tmp_path / "raw.tsv").write_text("subject\tflair\tt1w\n1\tone.nii.gz\tone.nii.gz\n2\tno.nii\tno.nii\n")
    prepared = prepare_all(tmp_path / "raw.tsv", tmp_path / "out")
    assert prepared["status"].tolist() == ["failed", "failed"]
    assert "20x20x1" in prepared["why"][0] and "no.nii is missing" in prepared["why"][1]
    assert pd.read_csv(tmp_path / "out" / "scans.tsv", sep="\t").empty
    assert not [*(tmp_path / "out").rglob("*.nii.gz")]


def test_a_subject_named_like_a_session_has_a_place_of_its_own(tmp_path):
    """Of a_ses-b that is not the place of a, whose files stay when it fails."""
    (tmp_path / "raw.tsv").write_text("subject\tflair\tt1w\na_ses-b\tno.nii\tno.nii\n")
    prepare_all(tmp_path / "raw.tsv", tmp_path / "out")
    of_a = tmp_path / "out" / "sub-a" / "anat" / "sub-a_page.pdf"
    of_a.parent.mkdir(parents=True)
    of_a.touch()
    prepare_all(tmp_path / "raw.tsv", tmp_path / "out")
    assert of_a.exists()


def test_a_subject_or_session_named_na_is_one_for_make_paper_too(tmp_path, monkeypatch):
    passed = {"status": "passed", "why": "", "reference": "FLAIR"}
    monkeypatch.setattr(work, "_prepare_one", lambda row, folder, side_mm: row | passed)
    (tmp_path / "raw.tsv").write_text("subject\tsession\tflair\tt1w\nsub-NA\tses-NaN\ta.nii\tb.nii\n1\t\tc\td\n")
    prepared = prepare_all(tmp_path / "raw.tsv", tmp_path / "out")
    assert find_scans(tmp_path / "out" / "scans.tsv")["scan"].tolist() == ["sub-1", "sub-NA_ses-NaN"]
    assert prepared["scan"].tolist() == ["sub-1", "sub-NA_ses-NaN"]


def test_a_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / "raw.tsv").write_text("subject\tflair\tt1w\n1\ta.nii\tb.nii\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(ValueError, match="give another OUT"):
        prepare_all(tmp_path / "raw.tsv", tmp_path / "out")


def test_the_next_command_can_be_pasted(tmp_path, monkeypatch, capsys):
    (tmp_path / "raw.tsv").write_text("subject\tflair\tt1w\n1\tno.nii\tno.nii\n")
    monkeypatch.setenv("RUN_DATA", str(tmp_path / "raw.tsv"))
    monkeypatch.setenv("RUN_OUT", str(tmp_path / "my own's"))
    with pytest.raises(SystemExit):
        work.main()
    made = tmp_path / "my own's" / "build" / "prepared-raw"
    command = capsys.readouterr().out.strip().partition("then: ")[2]
    assert shlex.split(command) == ["make", "paper", f"DATA={made}/scans.tsv"]


def write_stripped(folder, mask):
    """A table of one scan, stripped and registered, with a mask of nothing as `mask`."""
    array, affine = blobs(spacing=SIDE_MM)
    brain = np.where(array > 0.4, array, 0)
    for name, values in {"flair": brain, "t1w": brain**2, "mask": np.zeros(array.shape, np.uint8)}.items():
        save(folder / f"{name}.nii.gz", values, affine)
    (folder / "raw.tsv").write_text(f"subject\tflair\tt1w\t{mask}\n1\tflair.nii.gz\tt1w.nii.gz\tmask.nii.gz\n")
    return folder / "raw.tsv"


def test_a_patient_without_lesions_keeps_the_empty_mask(tmp_path, monkeypatch):
    """Without page and template, which take long."""

    def find_brain(images, given):
        brain = sitk.Cast(images["FLAIR"] != 0, sitk.sitkUInt8)
        template = {"transform": sitk.Transform(), "in_field": 0.6}  # of a head as small as this
        return brain, "", template | dict.fromkeys(["brain", "white", "grey"], brain)

    monkeypatch.setattr(scan, "find_brain", find_brain)
    for name in ("plot_prepared", "save_figure"):
        monkeypatch.setattr(work, name, lambda *arguments: None)
    (row,) = prepare_all(write_stripped(tmp_path, "lesions"), tmp_path / "out", SIDE_MM).to_dict("records")
    assert (row["status"], row["lesions_raw_ml"], row["lesions_ml"]) == ("passed", 0, 0)
    (row,) = find_scans(tmp_path / "out" / "scans.tsv").to_dict("records")
    assert not load_lesions(row)[0].any()


def test_a_brain_mask_of_nothing_is_refused_by_name(tmp_path):
    (row,) = prepare_all(write_stripped(tmp_path, "mask"), tmp_path / "out", SIDE_MM).to_dict("records")
    assert row["status"] == "failed" and "mask.nii.gz is 0 everywhere in the FLAIR" in row["why"]
