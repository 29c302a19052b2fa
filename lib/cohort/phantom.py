"""The synthetic multiple sclerosis cohort: every subject made from a seed, written once as a BIDS dataset."""

import gzip
import hashlib
import json
import os
import shutil
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_all_start_methods, get_context, parent_process
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from lib.cohort.anatomy import make_anatomy
from lib.cohort.appearance import draw_appearance, render
from lib.cohort.painting import draw_blobs
from lib.cohort.subject import Subject
from lib.cohort.visibility import visible

NAME = "Synthetic multiple sclerosis cohort"
WHITE_MATTER = 1000  # stored intensity of white matter: rounding to integers is far below the noise


def make_subject(seed, subject, sessions=1, spacing_mm=1.0):
    """Make one subject: a list, by session, of Subject, Appearance and image (2, X, Y, Z) float32.

    The result depends on nothing but the arguments; sessions share anatomy, look-alikes and most lesions.
    """
    with threadpool_limits(1):
        anatomy = make_anatomy(spacing_mm, np.random.default_rng([seed, subject, 0]))
        scans = []
        for session in range(sessions):
            blobs = draw_blobs(anatomy, np.random.default_rng([seed, subject, 1]), session)
            rng = np.random.default_rng([seed, subject, 2, session])
            made, appearance = Subject.compose(anatomy, blobs), draw_appearance(blobs, rng)
            scans.append((made, appearance, render(made, appearance, rng)))
    return scans


def scan_files(folder, subject, session=None):
    """Paths of FLAIR, T1w, lesion mask and maps of a scan; subject and session count from 1, session None for a single one."""
    parts = [f"sub-{subject:03d}"] + ([] if session is None else [f"ses-{session}"])
    inside, stem = Path(*parts, "anat"), "_".join(parts)
    derived = Path(folder, "derivatives", "lesions", inside, f"{stem}_label-lesion_mask.nii.gz")
    maps = Path(folder, "derivatives", "maps", inside, f"{stem}_maps.npz")
    return Path(folder, inside, f"{stem}_FLAIR.nii.gz"), Path(folder, inside, f"{stem}_T1w.nii.gz"), derived, maps


def maps_file(flair):
    """The maps (`Subject.load`) beside a FLAIR image of the synthetic cohort; None if there are none: another scan."""
    for folder in Path(flair).parents:
        inside = Path(flair).parent.relative_to(folder)
        path = folder / "derivatives" / "maps" / inside / Path(flair).name.replace("_FLAIR.nii.gz", "_maps.npz")
        if path.exists():
            return path
    return None


def _subject_files(folder, subject, sessions):
    return [scan_files(folder, subject, name) for name in (range(1, sessions + 1) if sessions > 1 else [None])]


def _write(path, content):
    """Write bytes so that the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    os.replace(partial, path)


def _nifti(volume, affine):
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code="mni")
    image.set_sform(affine, code="mni")
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def _write_subject(folder, seed, subject, sessions, spacing_mm):
    """Write the scans of one subject (counted from 1). Returns how many."""
    files = _subject_files(folder, subject, sessions)
    for paths, scan in zip(files, make_subject(seed, subject, sessions, spacing_mm), strict=True):
        made, appearance, images = scan
        stored = np.where(images != 0, np.rint(images * WHITE_MATTER).clip(1), 0).astype(np.int16)
        drawn = {name: np.asarray(value).tolist() for name, value in vars(appearance).items() if name != "contrast"}
        _write(paths[3].with_suffix(".json"), json.dumps({"Appearance": drawn}, indent=1).encode())
        made.save(paths[3])
        brain = stored[0] != 0
        lesions = visible(stored[0] / stored[0][brain].std(), made.lesions & brain, brain)
        for path, volume in zip(paths, (*stored, lesions.astype(np.uint8)), strict=False):
            _write(path, _nifti(volume, made.affine))
    return sessions


def _settings(n_subjects, n_two_sessions, seed, spacing_mm):
    """What the scans depend on, with a digest of the code that makes them."""
    modules = (
        "noise",
        "cortex",
        "anatomy",
        "painting",
        "subject",
        "appearance",
        "acquisition",
        "visibility",
        "phantom",
    )
    code = b"".join(Path(__file__).with_name(f"{module}.py").read_bytes() for module in modules)
    return {
        "n_subjects": n_subjects,
        "n_two_sessions": n_two_sessions,
        "seed": seed,
        "spacing_mm": float(spacing_mm),
        "code": hashlib.sha256(code).hexdigest()[:16],
    }


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
    lesions = {**raw, "Name": f"{NAME}: lesion masks", "DatasetType": "derivative"}
    maps = {**raw, "Name": f"{NAME}: maps of tissue and lesions", "DatasetType": "derivative"}
    n, n_two = settings["n_subjects"], settings["n_two_sessions"]
    lines = ["participant_id\tn_sessions", *(f"sub-{i + 1:03d}\t{2 if i < n_two else 1}" for i in range(n))]
    _write(description, json.dumps(raw, indent=2).encode())
    for name, derived in (("lesions", lesions), ("maps", maps)):
        _write(folder / "derivatives" / name / description.name, json.dumps(derived, indent=2).encode())
    _write(folder / "participants.tsv", "\n".join([*lines, ""]).encode())


def make_cohort(folder, *, n_subjects, n_two_sessions, seed, spacing_mm=1.0, workers=2):
    """Write a cohort of FLAIR, T1w, lesion masks and maps as a BIDS dataset; the first n_two_sessions subjects have two sessions.

    Scans that are there already are kept; a cohort of other settings in the folder is replaced. The files depend on
    neither the number of workers nor the number of subjects. On grids coarser than 1 mm lesions keep their size
    in voxels and are fewer (3 mm: about 50 voxels a side, for quick runs).
    Returns the number of scans written. Raises ValueError on counts or spacing out of range and on a folder with other data.
    """
    if not 0 <= n_two_sessions <= n_subjects or n_subjects < 1:
        raise ValueError(
            f"{n_two_sessions} of {n_subjects} subjects with two sessions: ask for 1 or more, 0 to all of them"
        )
    if not 1 <= spacing_mm <= 4:
        raise ValueError(f"spacing_mm is {spacing_mm}: choose 1 to 4 mm")
    folder = Path(folder)
    _prepare(folder, _settings(n_subjects, n_two_sessions, seed, spacing_mm))
    jobs = []
    for subject in range(1, n_subjects + 1):
        sessions = 2 if subject <= n_two_sessions else 1
        if not all(path.exists() for scan in _subject_files(folder, subject, sessions) for path in scan):
            jobs.append((folder, seed, subject, sessions, spacing_mm))
    finished = _in_processes(jobs, workers) if workers > 1 and jobs else (_write_subject(*job) for job in jobs)
    return sum(tqdm(finished, total=len(jobs), desc="synthetic cohort", unit="subject"))


def _in_processes(jobs, workers):
    """Yield the results of _write_subject from single-threaded processes, as they come."""
    context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    context.set_forkserver_preload(["lib.cohort.phantom"])  # import the libraries once, not once a worker
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        for job in as_completed([pool.submit(_write_subject, *job) for job in jobs]):
            yield job.result()


def _start_worker():
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """A run that is killed takes its workers along: none of them goes on to write into the next run's cohort."""
    parent_process().join()
    os._exit(1)
