"""The synthetic cohort: made on a 3 mm grid, where a subject takes a fraction of a second."""

import json
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import psutil
import pytest

from lib.cohort.painting import visible
from lib.cohort.phantom import make_cohort, make_subject, maps_file, scan_files
from lib.cohort.subject import Subject
from lib.provenance import ROOT

SPACING_MM = 3.0


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    written = make_cohort(folder, n_subjects=2, n_two_sessions=1, seed=3, spacing_mm=SPACING_MM, workers=1)
    assert written == 3
    return folder


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scans(folder):
    return {path: content for path, content in contents(folder).items() if path.name.endswith(".nii.gz")}


def test_sessions_share_the_anatomy_and_differ_in_appearance():
    (early, look, first), (late, other_look, second) = make_subject(1, 1, sessions=2, spacing_mm=SPACING_MM)
    np.testing.assert_array_equal(early.fractions[:4], late.fractions[:4])
    assert look.t1_ratio != other_look.t1_ratio
    assert not np.array_equal(first, second)


def test_subject_depends_on_seed_and_number_alone():
    again = [make_subject(7, 1, spacing_mm=SPACING_MM)[0] for _ in range(2)]
    np.testing.assert_array_equal(again[0][2], again[1][2])
    np.testing.assert_array_equal(again[0][0].lesions, again[1][0].lesions)
    for seed, subject in ((8, 1), (7, 2)):
        assert not np.array_equal(make_subject(seed, subject, spacing_mm=SPACING_MM)[0][2], again[0][2])


def test_files_are_complete_and_readable(cohort):
    found = sorted(str(path) for path in scans(cohort))
    stems = ("sub-001/ses-1/anat/sub-001_ses-1", "sub-001/ses-2/anat/sub-001_ses-2", "sub-002/anat/sub-002")
    expected = [f"{stem}_{kind}.nii.gz" for stem in stems for kind in ("FLAIR", "T1w")]
    assert found == sorted(expected + [f"derivatives/lesions/{stem}_label-lesion_mask.nii.gz" for stem in stems])
    for stem in stems:
        flair, t1w = (nib.load(cohort / f"{stem}_{kind}.nii.gz") for kind in ("FLAIR", "T1w"))
        mask = nib.load(cohort / f"derivatives/lesions/{stem}_label-lesion_mask.nii.gz")
        assert nib.aff2axcodes(flair.affine) == ("R", "A", "S")
        np.testing.assert_array_equal(flair.affine, t1w.affine)
        np.testing.assert_array_equal(flair.affine, mask.affine)
        np.testing.assert_allclose(flair.header.get_zooms(), SPACING_MM)
        flair, t1w, mask = (np.asarray(image.dataobj) for image in (flair, t1w, mask))
        np.testing.assert_array_equal(flair != 0, t1w != 0)
        assert set(np.unique(mask)) == {0, 1} and (flair[mask == 1] > 0).all()
        subject = Subject.load(maps_file(cohort / f"{stem}_FLAIR.nii.gz"))
        brain = flair != 0
        np.testing.assert_array_equal(mask == 1, visible(flair / flair[brain].std(), subject.lesions & brain, brain))
        drawn = json.loads((cohort / f"derivatives/maps/{stem}_maps.json").read_text())["Appearance"]
        assert 0 < drawn["t1_ratio"] < 1
    assert maps_file(cohort.parent / "sub-001_FLAIR.nii.gz") is None
    assert (cohort / "participants.tsv").read_text().splitlines()[1:] == ["sub-001\t2", "sub-002\t1"]
    assert (
        json.loads((cohort / "derivatives/lesions/dataset_description.json").read_text())["DatasetType"] == "derivative"
    )
    assert not [path for path in contents(cohort) if path.name.startswith(".")]


def test_rerun_remakes_only_what_is_missing(cohort):
    before = contents(cohort)
    settings = {"n_subjects": 2, "n_two_sessions": 1, "seed": 3, "spacing_mm": SPACING_MM, "workers": 1}
    assert make_cohort(cohort, **settings) == 0
    scan_files(cohort, 2)[1].unlink()
    assert make_cohort(cohort, **settings) == 1
    assert contents(cohort) == before


def test_files_depend_on_neither_workers_nor_number_of_subjects(cohort, tmp_path):
    make_cohort(tmp_path, n_subjects=3, n_two_sessions=1, seed=3, spacing_mm=SPACING_MM, workers=2)
    made = scans(tmp_path)
    assert len(made) == 12
    assert {path: made[path] for path in scans(cohort)} == scans(cohort)


def test_other_settings_replace_the_cohort(tmp_path):
    make_cohort(tmp_path, n_subjects=2, n_two_sessions=0, seed=1, spacing_mm=4.0, workers=1)
    old = scans(tmp_path)
    assert make_cohort(tmp_path, n_subjects=1, n_two_sessions=0, seed=2, spacing_mm=4.0, workers=1) == 1
    new = scans(tmp_path)
    assert len(new) == 3 and all(old[path] != new[path] for path in new)


def test_wrong_settings_and_foreign_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="3 of 2 subjects"):
        make_cohort(tmp_path, n_subjects=2, n_two_sessions=3, seed=0)
    with pytest.raises(ValueError, match="spacing_mm is 9"):
        make_cohort(tmp_path, n_subjects=2, n_two_sessions=0, seed=0, spacing_mm=9)
    (tmp_path / "sub-001").mkdir()
    with pytest.raises(ValueError, match="choose an empty folder"):
        make_cohort(tmp_path, n_subjects=1, n_two_sessions=0, seed=0, spacing_mm=4.0)
    assert (tmp_path / "sub-001").exists()


def test_a_run_that_is_killed_takes_its_workers_along(tmp_path):
    script = tmp_path / "make.py"
    script.write_text(
        "from lib.cohort import make_cohort\n"
        "if __name__ == '__main__':\n"
        f"    make_cohort({str(tmp_path / 'cohort')!r}, n_subjects=1000, n_two_sessions=0, seed=0, spacing_mm={SPACING_MM})\n"
    )
    run = subprocess.Popen([sys.executable, script], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    try:
        while not list(tmp_path.glob("cohort/sub-*")):
            assert run.poll() is None
            time.sleep(0.1)
        started = psutil.Process(run.pid).children(recursive=True)
    finally:
        run.kill()
        run.wait()
    assert len(started) >= 2
    assert psutil.wait_procs(started, timeout=20)[1] == []
