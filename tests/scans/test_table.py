"""Finding, checking, loading and splitting scans."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from lib.scans.checks import check_scans
from lib.scans.images import load_scan
from lib.scans.table import FILES, SPLITS, find_scans, split_patients

LAS = np.array([[-1.0, 0, 0, 5], [0, 1, 0, -6], [0, 0, 1, -7], [0, 0, 0, 1]])


def write_scan(folder, subject, *, shape=(8, 9, 10), affine=LAS, seed=0, **changes):
    """Files of one scan; `changes` replaces the array of a file. Returns its row of a scans table."""
    generator = np.random.default_rng(seed)
    brain = np.zeros(shape, bool)
    brain[2:-2, 2:-2, 2:-2] = True
    arrays = {
        "flair": np.where(brain, generator.normal(1, 2, shape), 0).astype(np.float32),
        "t1w": np.where(brain, generator.normal(5, 1, shape), 0).astype(np.float32),
        "lesions": np.zeros(shape, np.uint8),
    }
    arrays["lesions"][3:5, 3, 3] = 1
    row = {"scan": f"sub-{subject}", "subject": subject, "session": ""}
    for name, data in (arrays | changes).items():
        row[name] = str(folder / f"{subject}_{name}.nii.gz")
        nib.save(nib.Nifti1Image(data, affine), row[name])
    return row


def write_table(folder, rows):
    path = folder / "scans.tsv"
    pd.DataFrame(rows).drop(columns="scan").to_csv(path, sep="\t", index=False)
    return path


def test_a_table_is_found_with_paths_relative_to_its_folder(tmp_path):
    row = write_scan(tmp_path, "07")
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


def test_incomplete_and_repeated_scans_are_reported_together(tmp_path):
    first, second = write_scan(tmp_path, "01"), write_scan(tmp_path, "02")
    path = write_table(tmp_path, [first, first, second | {"lesions": ""}])
    with pytest.raises(ValueError, match="(?s)sub-02: no lesions file.*sub-01: listed more than once"):
        find_scans(path)


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "scans.tsv"
    path.write_text("subject\tflair\n01\ta.nii\n")
    with pytest.raises(ValueError, match="column missing: lesions, t1w"):
        find_scans(path)


def test_facts_of_a_scan_are_in_ml(tmp_path):
    row = write_scan(tmp_path, "01", affine=np.diag([2.0, 1, 1, 1]))
    facts, warnings = check_scans(pd.DataFrame([row]))
    assert facts.loc[0, "lesions"] == 1
    assert facts.loc[0, "lesion_volume_ml"] == pytest.approx(2 * 2 / 1000)
    assert facts.loc[0, "brain_volume_ml"] == pytest.approx(4 * 5 * 6 * 2 / 1000)
    assert len(warnings) == 1
    assert "2.00 x 1.00 x 1.00 mm" in warnings[0]


def test_every_problem_is_reported_with_its_file_and_cure(tmp_path):
    not_finite = np.ones((8, 9, 10), np.float32)
    not_finite[0, 0, 0] = np.nan
    rows = [
        write_scan(tmp_path, "01", flair=np.ones((8, 9, 11), np.float32)),
        write_scan(tmp_path, "02", t1w=not_finite),
        write_scan(tmp_path, "03", lesions=np.full((8, 9, 10), 3, np.uint8)),
        write_scan(tmp_path, "04", flair=np.ones((8, 9, 10, 2), np.float32)),
        write_scan(tmp_path, "05"),
        write_scan(tmp_path, "06"),
        write_scan(tmp_path, "07"),
    ]
    rows[4]["t1w"] = str(tmp_path / "absent.nii.gz")
    rows[5]["lesions"] = rows[6]["lesions"]
    (tmp_path / "07_t1w.nii.gz").write_bytes(b"not a NIfTI file")
    with pytest.raises(ValueError) as error:
        check_scans(pd.DataFrame(rows))
    text = str(error.value)
    for expected in (
        "01_flair.nii.gz is constant",
        "02_t1w.nii.gz has 1 values that are not finite",
        "03_lesions.nii.gz is not a binary mask",
        "04_flair.nii.gz has 4 dimensions",
        "absent.nii.gz is missing",
        "07_t1w.nii.gz cannot be read",
        "07_lesions.nii.gz: used more than once (sub-06, sub-07)",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((8, 9, 11), LAS, "FLAIR is 8x9x10 but T1w is 8x9x11"),
        ((8, 9, 10), np.eye(4), "T1w has another affine than FLAIR"),
    ],
)
def test_images_on_different_grids_are_refused(tmp_path, shape, affine, message):
    row = write_scan(tmp_path, "01")
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random(shape), affine), row["t1w"])
    with pytest.raises(ValueError, match=message):
        check_scans(pd.DataFrame([row]))


def test_lesions_outside_the_brain_are_a_warning(tmp_path):
    mask = np.zeros((8, 9, 10), np.uint8)
    mask[0, 0, 0] = mask[4, 4, 4] = 1
    _, warnings = check_scans(pd.DataFrame([write_scan(tmp_path, "01", lesions=mask)]))
    assert "1 of 2 lesion voxels lie outside the brain" in warnings[0]


def test_a_scan_is_loaded_in_ras_with_z_scores_and_zero_background(tmp_path):
    row = write_scan(tmp_path, "01")
    raw = nib.load(row["flair"]).get_fdata()
    scan = load_scan(row)
    assert nib.aff2axcodes(scan.affine) == ("R", "A", "S")
    for channel, name in zip(scan.image, ("flair", "t1w"), strict=True):
        values = nib.load(row[name]).get_fdata()
        expected = np.where(values != 0, (values - values[values != 0].mean()) / values[values != 0].std(), 0)
        np.testing.assert_allclose(channel, expected[::-1], atol=1e-5)
    np.testing.assert_array_equal(scan.brain, (raw != 0)[::-1])  # brain voxels below zero are brain
    assert (raw[raw != 0] < 0).any()
    assert scan.lesions.sum() == 2


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


def test_real_scans_are_found_and_loaded(real_scans):
    folder = real_scans / "open_ms_data" / "cross_sectional" / "MNI" / "patient07"
    names = {"flair": "FLAIR", "t1w": "T1", "lesions": "GOLD_STANDARD"}
    row = {name: str(next(folder.glob(f"{prefix}_*"))) for name, prefix in names.items()} | {"scan": "sub-07"}
    scan = load_scan(row)
    assert scan.image.shape == (2, 182, 218, 182)
    for channel in scan.image:
        assert abs(channel[scan.brain].mean()) < 1e-2
        assert channel[~scan.brain].max() == channel[~scan.brain].min() == 0
