"""Finding scans and splitting patients."""

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
    path = write_table(tmp_path, [first, first, second | {"lesions": ""}])
    with pytest.raises(ValueError, match="(?s)sub-02: no lesions file.*sub-01: listed more than once"):
        find_scans(path)


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "scans.tsv"
    path.write_text("subject\tflair\n01\ta.nii\n")
    with pytest.raises(ValueError, match="column missing: lesions, t1w"):
        find_scans(path)


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
