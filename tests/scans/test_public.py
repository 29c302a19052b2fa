"""Public data sets by name: true file names in small trees, what is refused, and the few real files there are."""

from pathlib import Path

import pytest

from lib.provenance import ROOT
from lib.scans import FILES, PUBLIC, check_scans, find_scans, public_scans, split_source

LJUBLJANA = [f"{name}_regtoMNI.nii.gz" for name in (
    "FLAIR_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4", "T1_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4",
    "GOLD_STANDARD_N4_noneck_reduced_winsor_regtoFLAIR",
)]  # fmt: skip
MSSEG = [
    "Preprocessed_Data/FLAIR_preprocessed.nii.gz",
    "Preprocessed_Data/T1_preprocessed.nii.gz",
    "Masks/Consensus.nii.gz",
]
WMH = ["orig/FLAIR.nii.gz", "orig/3DT1.nii.gz", "wmh.nii.gz"]


def isbi(scan, mask="mask1"):
    files = [f"{scan[:-3]}/preprocessed/{scan}_{kind}_pp.nii" for kind in ("flair", "mprage")]
    return files + [f"{scan[:-3]}/masks/{scan}_{mask}.nii"] * (mask != "")


def shifts(scan, number):
    return [f"{scan}/{kind.lower()}/{number}_{kind}_isovox.nii.gz" for kind in ("FLAIR", "T1", "gt")]


def mslesseg(scan, stem):
    return [f"{scan}/{stem}_{kind}.nii.gz" for kind in ("FLAIR", "T1", "MASK")]


# scan: its FLAIR, T1w and, if there is one, mask; what lies beside them
TREES = {
    "ljubljana": (
        {"sub-patient07": [f"cross_sectional/MNI/patient07/{file}" for file in LJUBLJANA]},
        ["cross_sectional/MNI/patient07/T1POST_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz",
         "cross_sectional/MNI/patient07/T2_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz",
         "cross_sectional/raw/patient07/FLAIR.nii.gz", "longitudinal/raw/patient07/study1_FLAIR.nii.gz"],
    ),
    "mslesseg": (
        {"sub-P1_ses-T1": mslesseg("train/P1/T1", "P1_T1"), "sub-P1_ses-T2": mslesseg("train/P1/T2", "P1_T2"),
         "sub-P54": mslesseg("test/P54", "P54"), "sub-P55": mslesseg("test/P55", "P55")[:2]},
        ["train/P1/T1/P1_T1_T2.nii.gz", "train/P1/T2/P1_T2_T2.nii.gz", "test/P54/P54_T2.nii.gz"],
    ),
    "isbi2015": (
        {"sub-training01_ses-01": isbi("training01_01"), "sub-training01_ses-02": isbi("training01_02"),
         "sub-test01_ses-01": isbi("test01_01", mask="")},
        ["training01/masks/training01_01_mask2.nii", "training01/preprocessed/training01_01_t2_pp.nii",
         "training01/orig/training01_01_flair.nii.gz"],
    ),
    "isbi2015-rater2": ({"sub-training01_ses-01": isbi("training01_01", "mask2")}, ["training01/masks/training01_01_mask1.nii"]),
    "msseg2016": (
        {"sub-Training0107": [f"Training/Center_01/Patient_07/{file}" for file in MSSEG],
         "sub-Testing0307": [f"Testing/Center_03/Patient_07/{file}" for file in MSSEG[:2]]},
        ["Training/Center_01/Patient_07/Raw_Data/FLAIR.nii.gz", "Training/Center_01/Patient_07/Masks/ManualSegmentation_1.nii.gz"],
    ),
    "shifts": (
        {"sub-best_ses-evalin25": shifts("best/eval_in", 25), "sub-best_ses-train25": shifts("best/train", 25),
         "sub-ljubljanadevout4": shifts("ljubljana/dev_out", 4), "sub-mssegtrain4": shifts("msseg/train", 4)},
        ["best/train/fg_mask/25_isovox_fg_mask.nii.gz", "best/train/t2/25_T2_isovox.nii.gz"],
    ),
    "wmh2017": (
        {"sub-Utrecht0": [f"training/Utrecht/0/{file}" for file in WMH],
         "sub-Amsterdam160": [f"test/Amsterdam/Philips_VU .PETMR_01./160/{file}" for file in WMH]},
        ["training/Utrecht/0/pre/FLAIR.nii.gz", "training/Utrecht/0/orig/T1.nii.gz",
         "additional_annotations/observer_o3/training/Utrecht/0/result.nii.gz"],
    ),
}  # fmt: skip


def plant(folder, files):
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def scans_of(rows, folder):
    """{scan: its files, as counted from the folder}."""
    return {
        f"sub-{row['subject']}" + (row["session"] and f"_ses-{row['session']}"): [
            Path(row[kind]).relative_to(folder).as_posix() for kind in FILES if row[kind]
        ]
        for row in rows
    }


@pytest.mark.parametrize("name", PUBLIC)
def test_scans_are_found_by_their_true_names_beside_all_else(name, tmp_path):
    scans, others = TREES[name]
    plant(tmp_path, [*others, *(file for files in scans.values() for file in files)])
    rows = public_scans(name, tmp_path, raw=True)
    assert scans_of(rows, tmp_path) == scans
    assert {row["label"] for row in rows} == {1 if name == "wmh2017" else ""}
    if not PUBLIC[name].raw:
        assert scans_of(find_scans(f"{name}:{tmp_path}").to_dict("records"), tmp_path) == scans


def test_a_part_of_a_data_set_is_enough(tmp_path):
    plant(tmp_path, mslesseg("train/P1/T1", "P1_T1") + mslesseg("train/P2/T1", "P2_T1"))
    assert find_scans(f"mslesseg:{tmp_path}/train/P2")["scan"].tolist() == ["sub-P2_ses-T1"]


@pytest.mark.parametrize(
    ("name", "files", "complaint"),
    [("ljubljana", ["longitudinal/raw/patient12/study1_FLAIR.nii.gz"], "changed between two scans.*cross_sectional/MNI"),
     ("msseg2016", ["training/013/flair_time01_on_middle_space.nii.gz"], "MSSEG-2.*new lesions alone"),
     ("msseg2016", ["Training/Center_01/Patient_07/Raw_Data/FLAIR.nii.gz"], "not skull-stripped.*make prepare"),
     ("isbi2015", ["training01/orig/training01_01_flair.nii.gz"], "not registered.*make prepare"),
     ("ljubljana", ["cross_sectional/coregistered/patient07/FLAIR.nii.gz"], "not skull-stripped.*make prepare"),
     ("mslesseg", ["P1.nii.gz"], "expects train/{subject}/{session}/.*figshare"),
     ("mslesseg", mslesseg("train/P1/T1", "P1_T1")[:2], "sub-P1_ses-T1: no lesions file"),
     ("mslesseg", mslesseg("test/P54", "P54")[::2], "sub-P54: no t1w file"),
     ("mslesseg", [*mslesseg("test/P54", "P54"), *mslesseg("copy/test/P54", "P54")], "P54_FLAIR.nii.gz and .*P54_FLAIR"),
     ("wmh2017", [f"training/Utrecht/0/{file}" for file in WMH], "skulls on.*make prepare DATA=wmh2017:")],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_folder_and_the_reason(name, files, complaint, tmp_path):
    plant(tmp_path, files)
    with pytest.raises(ValueError, match=f"(?s){complaint}") as error:
        find_scans(f"{name}:{tmp_path}")
    assert str(tmp_path) in str(error.value)


def test_a_folder_that_is_not_there_and_a_choice_of_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="/nowhere is no folder: shifts expects .*zenodo"):
        find_scans("shifts:/nowhere")
    with pytest.raises(ValueError, match="choose='acq-3D' is for BIDS folders, .* is mslesseg"):
        find_scans(f"mslesseg:{tmp_path}", "acq-3D")
    with pytest.raises(ValueError, match="msseg2021:/data does not exist: .*ljubljana:, mslesseg:"):
        find_scans("msseg2021:/data")


@pytest.mark.parametrize(
    ("source", "expected"),
    [("shifts:/a b", ("shifts", "/a b")), ("/here/shifts:there", ("shifts", "/here/there")), ("/here/shifts:/there", ("shifts", "/there")),
     ("isbi2015-rater2:x", ("isbi2015-rater2", "x")), ("/data/bids", ("", "/data/bids")), ("a:b", ("", "a:b"))],
)  # fmt: skip
def test_a_name_is_told_from_a_path(source, expected):
    assert split_source(source) == (expected[0], Path(expected[1]))


@pytest.mark.parametrize(
    ("source", "scan"),
    [
        ("mslesseg:MSLesSeg/train/P18", "sub-P18_ses-T1"),
        ("ljubljana:open_ms_data/cross_sectional/MNI/patient07", "sub-patient07"),
    ],
)
def test_real_scans_pass_every_check(source, scan, real_scans):
    name, folder = split_source(real_scans / source)
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    table = find_scans(real_scans / source)
    assert table["scan"].tolist() == [scan]
    facts, warnings = check_scans(table)
    assert facts.loc[0, "lesions"] > 0
    assert not [text for text in warnings if "strip" in text]


def test_the_documentation_tells_masks_terms_and_sources_of_each():
    text = (ROOT / "data" / "README.md").read_text()
    for name, data in PUBLIC.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}:` |")]
        if name != "isbi2015-rater2":
            assert all(words in row for words in (data.masks, data.licence, data.cite, data.get)), row
