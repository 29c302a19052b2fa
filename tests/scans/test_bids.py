"""Finding the scans of a BIDS folder: which file is taken, what is said of those that cannot be."""

import pytest

from lib.scans.bids import bids_scans

MASK = "derivatives/lesions/sub-01/anat/sub-01_label-lesion_mask.nii.gz"
WHOLE = ["sub-01/anat/sub-01_FLAIR.nii.gz", "sub-01/anat/sub-01_T1w.nii.gz", MASK]


@pytest.fixture
def make_folder(tmp_path):
    """Makes a folder, named as people name them, that holds empty files of these names."""

    def make(names):
        folder = tmp_path / "my study [v1.2]"
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        return folder

    return make


def taken(folder, choose=""):
    """The one row of a folder, with paths in it."""
    (row,) = bids_scans(folder, choose)
    return [row[kind].removeprefix(f"{folder}/") for kind in ("flair", "t1w", "lesions")]


@pytest.mark.parametrize(
    "others",
    [
        ["sub-01/anat/sub-01_ce-gadolinium_T1w.nii.gz"],
        ["sub-01/anat/sub-01_space-MNI152NLin2009cAsym_T1w.nii.gz", "sub-01/anat/sub-01_space-MNI_FLAIR.nii.gz"],
        ["sub-01/anat/sub-01_part-phase_T1w.nii.gz"],
        ["sub-01/anat/sub-01_run-1_T1w.nii.gz", "sub-01/anat/sub-01_run-2_T1w.nii.gz"],
        ["sub-01/anat/sub-01_T1w.json", "sub-01/anat/._sub-01_T1w.nii.gz", "sub-01/anat/sub-01_T1w.old.nii.gz"],
        ["derivatives/fmriprep/sub-01/anat/sub-01_T1w.nii.gz", "derivatives/fmriprep/sub-01/anat/sub-01_dseg.nii.gz"],
        ["derivatives/lesions/sub-01/anat/sub-01_label-lesion_desc-rater1_mask.nii.gz"],
        ["derivatives/atlas/tpl-MNI_label-lesion_mask.nii.gz", "sourcedata/sub-01/anat/sub-01_T1w.nii.gz"],
    ],
)
def test_the_plain_file_is_taken(make_folder, others):
    assert taken(make_folder(WHOLE + others)) == WHOLE


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["sub-01/anat/sub-01_acq-2D_T1w.nii.gz", "sub-01/anat/sub-01_acq-3D_T1w.nii.gz"], "2 t1w files fit"),
        (["sub-01/anat/sub-01_acq-2D_T1w.nii.gz", "sub-01/anat/sub-01_acq-2D_ce-gad_T1w.nii.gz"], "2 t1w files fit"),
        (["sub-01/anat/sub-01_T1w.nii", "sub-01/anat/sub-01_T1w.nii.gz"], "2 t1w files fit"),
        (["sub-01/anat/sub-01_run-1_FLAIR.nii.gz", "sub-01/anat/sub-01_run-2_FLAIR.nii.gz"], "2 flair files fit"),
        ([MASK, MASK.replace("lesions", "lst")], "2 lesions files fit"),
        ([MASK.replace("label", f"desc-rater{n}_label") for n in (1, 2)], "2 lesions files fit"),
        ([MASK, "sub-01/anat/sub-01_label-lesion_mask.nii.gz"], "2 lesions files fit"),
        ([MASK.replace("label", "desc-manual_label"), MASK.replace("lesions", "samseg")], "2 lesions files fit"),
        ([MASK.replace("_label", "_acq-3D_label"), MASK.replace("lesions", "lesions/auto")], "2 lesions files fit"),
        ([MASK.replace("lesions/", ""), MASK.replace("label", "desc-x_label")], "2 lesions files fit"),
    ],
)
def test_several_files_that_fit_are_refused_with_their_names_and_the_choice(make_folder, files, said):
    kind = "T1w" if "t1w" in said else "FLAIR" if "flair" in said else "mask"
    folder = make_folder([name for name in WHOLE if f"_{kind}" not in name] + files)
    with pytest.raises(ValueError, match="scan sub-01: " + said) as error:
        bids_scans(folder)
    for expected in (*files, 'SET="choose='):
        assert expected in str(error.value)


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        ("acq-3D,derivatives/manual,desc-rater1", ["FLAIR", "acq-3D_T1w", "manual", "rater1"]),
        ("acq-2D, desc-rater10", ["FLAIR", "acq-2D_T1w", "manual", "rater10"]),
        ("acq-2D,derivatives/lst", ["FLAIR", "acq-2D_T1w", "lst"]),
        ("derivatives/preproc,derivatives/lst", ["desc-brain_FLAIR", "desc-brain_T1w", "lst"]),
        ("derivatives/preproc,desc-rater1", ["desc-brain_FLAIR", "desc-brain_T1w", "rater1"]),
        ("acq-2D,derivatives/lst/", ["FLAIR", "acq-2D_T1w", "lst"]),
        (" /derivatives/lst/ , acq-2D,", ["FLAIR", "acq-2D_T1w", "lst"]),
        ("acq-2D,derivatives/my masks/", ["FLAIR", "acq-2D_T1w", "my masks"]),
    ],
)
def test_a_choice_of_entity_folder_and_rater_is_kept_to(make_folder, choose, expected):
    anat = "sub-01/anat/sub-01"
    folder = make_folder(
        [f"{anat}_FLAIR.nii.gz", f"{anat}_acq-3D_T1w.nii.gz", f"{anat}_acq-2D_T1w.nii.gz"]
        + [f"derivatives/preproc/{anat}_desc-brain_{suffix}.nii.gz" for suffix in ("FLAIR", "T1w")]
        + [f"derivatives/manual/{anat}_label-lesion_desc-rater{n}_mask.nii.gz" for n in (1, 10)]
        + [f"derivatives/{name}/{anat}_label-lesion_mask.nii.gz" for name in ("lst", "my masks")]
    )
    flair, t1w, lesions = taken(folder, choose)
    assert expected[0] in flair
    assert expected[1] in t1w
    assert all(f"{part}" in lesions for part in expected[2:])


@pytest.mark.parametrize("choose", ["acq-3d", "derivatives/les", "acq-2D acq-3D"])
def test_a_choice_that_no_file_has_is_refused(make_folder, choose):
    with pytest.raises(ValueError, match=f"choose has {choose}, which no FLAIR, T1w or lesion mask has .*commas"):
        bids_scans(make_folder(WHOLE), choose)


@pytest.mark.parametrize("choose", ["sub-01", "sub-01/", "ses-1", "acq-3D, sub-01"])
def test_a_choice_of_scans_is_refused_with_the_cure(make_folder, choose):
    with pytest.raises(ValueError, match="choose has s[^,]*, but is for files, .* scans table"):
        bids_scans(make_folder(WHOLE + SECOND), choose)


RERUN = ["sub-01/anat/sub-01_run-1_T1w.nii.gz", "sub-01/anat/sub-01_run-2_T1w.nii.gz"]
SECOND = [name.replace("01", "02") for name in WHOLE]


def test_a_choice_leaves_scans_as_they_are_that_have_nothing_to_choose_from(make_folder):
    first, second = bids_scans(make_folder([WHOLE[0], WHOLE[2], *RERUN, *SECOND]), "run-2")
    assert first["t1w"].endswith("sub-01_run-2_T1w.nii.gz")
    assert second["t1w"].endswith("sub-02_T1w.nii.gz")


@pytest.mark.parametrize(
    ("files", "choose", "said"),
    [
        (
            [SECOND[0], SECOND[2], "sub-02/anat/sub-02_run-1_T1w.nii.gz"],
            "run-2",
            "no t1w file, .*run-2, .*sub-02_run-1",
        ),
        (
            [*SECOND, MASK.replace("lesions", "lst")],
            "derivatives/lst",
            "no lesions file, .*derivatives/lst, .*/lesions/sub",
        ),
    ],
)
def test_a_choice_that_one_scan_does_not_offer_names_that_scan(make_folder, files, choose, said):
    with pytest.raises(ValueError, match=f"scan sub-02: {said}") as error:
        bids_scans(make_folder([WHOLE[0], WHOLE[2], *RERUN[1:], *files]), choose)
    assert "scan sub-01" not in str(error.value)


OTHER_MASKS = [
    "derivatives/prepared/sub-01/anat/sub-01_desc-brain_mask.nii.gz",
    "sub-01/anat/sub-01_mod-T1w_defacemask.nii.gz",
]


@pytest.mark.parametrize("others", [[], *([name] for name in OTHER_MASKS)])
def test_a_scan_without_a_file_like_a_lesion_mask_has_no_annotation(make_folder, others):
    first, second = bids_scans(make_folder([*WHOLE[:2], *others, *SECOND]))
    assert first["lesions"] == ""
    assert second["lesions"].endswith(SECOND[2])


@pytest.mark.parametrize(
    "name",
    [
        "derivatives/lesions/sub-01/anat/sub-01_dseg.nii.gz",
        "derivatives/lesions/sub-01/anat/sub-01_desc-lesion_mask.nii.gz",
        "derivatives/lst-ai/sub-01/anat/space-flair_seg-lst.nii.gz",
        "derivatives/lesions/sub-01/anat/sub-01_label-WMH_mask.nii.gz",
        "derivatives/samseg/sub-01/anat/sub-01_desc-samseg_probseg.nii.gz",
        "sub-01/anat/sub-01_lesionmask.nii.gz",
    ],
)
def test_a_mask_of_another_name_is_named_with_what_was_looked_for(make_folder, name):
    with pytest.raises(ValueError) as error:
        bids_scans(make_folder([*WHOLE[:2], name]))
    assert f"scan sub-01: no lesions file, *_label-lesion_mask.nii[.gz], but there is {name}" in str(error.value)
    assert "rename the files, or list them in a scans table" in str(error.value)
    assert "to explain scans without annotation beside such files, list FLAIR and T1w alone" in str(error.value)


def anat(entities):
    """A file of sub-01; masks as in MASK."""
    name = f"sub-01/anat/sub-01_{entities}.nii.gz"
    return "derivatives/lesions/" + name if name.endswith("mask.nii.gz") else name


@pytest.mark.parametrize(
    ("images", "mask", "choose"),
    [
        (["run-1_FLAIR", "run-1_T1w"], "run-2", ""),
        (["acq-3D_FLAIR", "T1w"], "acq-2D", ""),
        (["acq-3D_FLAIR", "acq-MPRAGE_T1w"], "acq-2D", ""),
        (["FLAIR", "run-2_FLAIR", "T1w"], "run-2", ""),
        (["FLAIR", "T1w", "ce-gad_T1w"], "ce-gad", ""),
        (["run-1_FLAIR", "run-2_FLAIR", "run-1_T1w", "run-2_T1w"], "run-2", "run-1"),
        (["acq-3D_run-1_FLAIR", "run-1_T1w"], "acq-3D_run-2", ""),
    ],
)
def test_a_mask_of_another_acquisition_is_not_taken(make_folder, images, mask, choose):
    mask = anat(f"{mask}_label-lesion_mask")
    with pytest.raises(ValueError, match="no lesions file, .*acq/ce/rec/run as in FLAIR or T1w, but there is") as error:
        bids_scans(make_folder([*map(anat, images), mask]), choose)
    assert mask in str(error.value)


@pytest.mark.parametrize(
    ("images", "mask", "choose"),
    [
        (["acq-3D_FLAIR", "acq-MPRAGE_T1w"], "", ""),
        (["acq-3D_FLAIR", "acq-MPRAGE_T1w"], "acq-3D", ""),
        (["run-1_FLAIR", "run-2_T1w"], "run-2", ""),
        (["FLAIR", "T1w"], "acq-manual", ""),
        (["run-01_FLAIR", "run-01_T1w"], "run-1", ""),
        (["FLAIR", "run-2_FLAIR", "T1w", "run-2_T1w"], "run-2", "run-2"),
        (["space-MNI_FLAIR", "T1w"], "space-T1w_desc-x", ""),
    ],
)
def test_a_mask_that_may_be_of_an_image_is_taken(make_folder, images, mask, choose):
    mask = anat(f"{mask}_label-lesion_mask".lstrip("_"))
    assert taken(make_folder([*map(anat, images), mask]), choose)[2] == mask


def test_of_masks_of_two_runs_that_of_the_images_is_taken(make_folder):
    masks = [anat(f"run-{n}_label-lesion_mask") for n in (1, 2)]
    assert taken(make_folder([anat("run-1_FLAIR"), anat("T1w"), *masks]))[2] == masks[0]


def test_every_scan_with_a_problem_is_named_the_first_with_their_files(make_folder):
    folder = make_folder([f"sub-{n:03d}/ses-1/anat/sub-{n:03d}_ses-1_FLAIR.nii.gz" for n in range(1, 41)])
    with pytest.raises(ValueError, match="40 scan") as error:
        bids_scans(folder)
    text = str(error.value)
    assert "scan sub-010_ses-1: no t1w file" in text
    assert "scan sub-011_ses-1" not in text
    assert "and 30 more: sub-011_ses-1 sub-012_ses-1" in text


def test_linked_folders_are_followed_each_once(make_folder, tmp_path):
    store = make_folder(WHOLE).rename(tmp_path / "store")
    folder = tmp_path / "linked"
    (folder / "derivatives").mkdir(parents=True)
    (folder / "sub-01").symlink_to(store / "sub-01")
    (folder / "derivatives" / "lesions").symlink_to(store / "derivatives" / "lesions")
    (store / "derivatives" / "lesions" / "inputs").symlink_to(folder)  # as BIDS apps keep their input: a circle
    assert taken(folder) == WHOLE


def test_files_that_are_not_fetched_are_found_and_subdatasets_that_are_not_installed_are_hinted_at(make_folder):
    folder = make_folder(WHOLE[:2])
    (folder / ".gitmodules").touch()
    with pytest.raises(ValueError, match="datalad get -n -r"):
        bids_scans(folder)
    (folder / MASK).parent.mkdir(parents=True)
    (folder / MASK).symlink_to("../../.git/annex/objects/x.nii.gz")
    assert taken(folder) == WHOLE
