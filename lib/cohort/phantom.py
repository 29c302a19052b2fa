"""The synthetic multiple sclerosis cohort: every subject made from a seed, written once as a BIDS dataset."""

import gzip
import json
import os
import shutil
from _thread import start_new_thread
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_all_start_methods, get_context, parent_process
from pathlib import Path

import nibabel as nib
import numpy as np
from tqdm.auto import tqdm

from lib.cohort.anatomy import make_anatomy
from lib.cohort.appearance import draw_appearance, render
from lib.cohort.painting import draw_blobs, visible
from lib.cohort.subject import Subject
from lib.provenance import code_digest, write_atomically
from lib.threads import one_thread

NAME = "Synthetic multiple sclerosis cohort"
WHITE_MATTER = 1000  # stored intensity of white matter: rounding to integers is far below the noise


def make_subject(seed, subject, sessions=1, spacing_mm=1.0):
    """Make one subject: a list, by session, of `Subject`, its appearance and image (2, X, Y, Z) float32.

    The result depends on nothing but the arguments; sessions share anatomy, look-alikes and most lesions.
    """
    with one_thread():
        anatomy = make_anatomy(spacing_mm, np.random.default_rng([seed, subject, 0]))
        scans = []
        for session in range(sessions):
            blobs = draw_blobs(anatomy, np.random.default_rng([seed, subject, 1]), session)
            rng = np.random.default_rng([seed, subject, 2, session])
            made, appearance = Subject.compose(anatomy, blobs), draw_appearance(blobs, rng)
            scans.append((made, appearance, render(made, appearance, rng)))
    return scans


def scan_files(folder, subject, session=None):
    """Paths of FLAIR, T1w, lesion mask and maps of a scan; subject and session count from 1, None for a single one."""
    parts = [f"sub-{subject:03d}"] + ([] if session is None else [f"ses-{session}"])
    scan = Path(*parts, "anat", "_".join(parts))
    raw, lesions, maps = (Path(folder, kind, scan) for kind in ("", "derivatives/lesions", "derivatives/maps"))
    names = f"{raw}_FLAIR.nii.gz", f"{raw}_T1w.nii.gz", f"{lesions}_label-lesion_mask.nii.gz", f"{maps}_maps.npz"
    return [Path(name) for name in names]


def maps_file(flair):
    """The maps (`Subject.load`) beside a FLAIR image of the synthetic cohort; None if there are none: another scan."""
    flair = Path(flair)
    inside = [folder / "derivatives/maps" / flair.parent.relative_to(folder) for folder in flair.parents]
    paths = (folder / flair.name.replace("_FLAIR.nii.gz", "_maps.npz") for folder in inside)
    return next((path for path in paths if path.exists()), None)


def _write(path, content):
    write_atomically(path, lambda file: file.write_bytes(content))


def _nifti(volume, affine):
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code="mni")
    image.set_sform(affine, code="mni")
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def _write_subject(job):
    """Write scans of one subject. job: `scan_files` of each session, seed, subject, spacing_mm. Returns how many."""
    files, seed, subject, spacing_mm = job
    scans = make_subject(seed, subject, len(files), spacing_mm)
    for (*paths, maps), (made, appearance, images) in zip(files, scans, strict=True):
        stored = np.where(images != 0, np.rint(images * WHITE_MATTER).clip(1), 0).astype(np.int16)
        drawn = {name: np.asarray(value).tolist() for name, value in vars(appearance).items() if name != "contrast"}
        _write(maps.with_suffix(".json"), json.dumps({"Appearance": drawn}, indent=1).encode())
        made.save(maps)
        brain = stored[0] != 0
        lesions = visible(stored[0] / stored[0][brain].std(), made.lesions & brain, brain)
        for path, volume in zip(paths, (*stored, lesions.astype(np.uint8)), strict=True):
            _write(path, _nifti(volume, made.affine))
    return len(files)


def _prepare(folder, settings):
    """Clear a cohort of other settings out of folder and describe the one to come."""
    description = folder / "dataset_description.json"
    known = json.loads(description.read_text()) if description.exists() else {}
    if known.get("Name") != NAME and folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds files that are not a synthetic cohort: choose an empty folder")
    if known and known["GeneratedBy"][0]["Parameters"] != settings:
        for path in [*folder.glob("sub-*"), *folder.glob("derivatives/*")]:
            shutil.rmtree(path)
    made_by = [{"Name": "lib.cohort.make_cohort", "Parameters": settings}]
    raw = {"Name": NAME, "BIDSVersion": "1.10.0", "DatasetType": "raw", "GeneratedBy": made_by}
    _write(description, json.dumps(raw, indent=2).encode())
    for name, content in (("lesions", "lesion masks"), ("maps", "maps of tissue and lesions")):
        derived = raw | {"Name": f"{NAME}: {content}", "DatasetType": "derivative"}
        _write(folder / "derivatives" / name / description.name, json.dumps(derived, indent=2).encode())


def make_cohort(folder, *, n_subjects, n_two_sessions, seed, spacing_mm=1.0, workers=2):
    """Write a cohort of FLAIR, T1w, lesion masks and maps as BIDS; the first n_two_sessions subjects have two.

    Scans that are there already are kept; a cohort of other settings in the folder is replaced. The files depend on
    neither the number of workers (processes; 1: this one) nor that of subjects. On grids coarser than 1 mm lesions keep
    their size in voxels and are fewer (3 mm: about 50 voxels a side, for quick runs). Returns how many were written.
    Raises ValueError on counts or spacing out of range and on a folder with other data.
    """
    if not 0 <= n_two_sessions <= n_subjects or n_subjects < 1:
        asked = f"{n_two_sessions} of {n_subjects} subjects with two sessions"
        raise ValueError(f"{asked}: ask for 1 or more, 0 to all of them")
    if not 1 <= spacing_mm <= 4:
        raise ValueError(f"spacing_mm is {spacing_mm}: choose 1 to 4 mm")
    folder = Path(folder)
    settings = {"n_subjects": n_subjects, "n_two_sessions": n_two_sessions, "seed": seed}
    _prepare(folder, settings | {"spacing_mm": float(spacing_mm), "code": code_digest(make_subject)})
    jobs, participants = [], "participant_id\tn_sessions\n"
    for subject in range(1, n_subjects + 1):
        files = [scan_files(folder, subject, name) for name in ((1, 2) if subject <= n_two_sessions else (None,))]
        participants += f"sub-{subject:03d}\t{len(files)}\n"
        if not all(path.exists() for paths in files for path in paths):
            jobs.append((files, seed, subject, spacing_mm))
    _write(folder / "participants.tsv", participants.encode())
    context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    context.set_forkserver_preload(["lib.cohort.phantom"])  # import the libraries once, not once a worker
    with ProcessPoolExecutor(workers, context, start_new_thread, (_end_with_parent, ())) as pool:
        finished = (pool.map if workers > 1 else map)(_write_subject, jobs)
        return sum(tqdm(finished, total=len(jobs), desc="synthetic cohort", unit="subject"))


def _end_with_parent():
    """A run that is killed takes its workers along: none of them goes on to write into the next run's cohort."""
    parent_process().join()
    os._exit(1)
