"""Several scans: what fails, what is kept."""

import numpy as np
import pandas as pd
import pytest
from heads import save

from lib.prepare import prepare_all, work
from lib.scans import find_scans


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
