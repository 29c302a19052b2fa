"""The scans table (scan, subject, session, flair, t1w, lesions): find, check, load, split by patient."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import bids2table
import nibabel as nib
import numpy as np
import pandas as pd

from lib.lesions import label_instances

FILES = ["flair", "t1w", "lesions"]
SPLITS = ["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Scan:
    """One scan in RAS. image: (2, X, Y, Z) float32, FLAIR and MPRAGE, z-scored or as stored; brain, lesions: (X, Y, Z) bool.

    Two scans are equal only if they are the same object, so that a scan can be the key of a cache.
    """

    id: str
    image: np.ndarray
    brain: np.ndarray
    lesions: np.ndarray
    affine: np.ndarray

    @property
    def spacing_mm(self):
        return tuple(float(size) for size in nib.affines.voxel_sizes(self.affine))


def find_scans(source):
    """The scans table of a BIDS folder or of a TSV file: columns scan, subject, session ("" if none), flair, t1w, lesions.

    A BIDS folder holds `sub-*/[ses-*/]anat/*_FLAIR.nii[.gz]` and `*_T1w.nii[.gz]`, and lesion masks named
    `*_label-lesion_mask.nii[.gz]` anywhere under `derivatives/`. Paths in a TSV count from its own folder.
    Raises ValueError if nothing is found, a column is missing, or a scan is incomplete or listed twice.
    """
    source = Path(source)
    if not source.exists():
        raise ValueError(f"{source} does not exist: give a BIDS folder or a scans table (TSV)")
    table = _bids_scans(source) if source.is_dir() else _read_table(source)
    if table.empty:
        raise ValueError(f"{source}: no scan found; data/README.md says how scans are laid out")
    table["scan"] = (
        "sub-" + table["subject"] + table["session"].map(lambda session: f"_ses-{session}" if session else "")
    )
    problems = [
        f"scan {row.scan}: no {name} file; every scan needs FLAIR, T1w and lesion mask"
        for row in table.itertuples()
        for name in FILES
        if not getattr(row, name)
    ]
    problems += [
        f"scan {scan}: listed more than once" for scan in table.loc[table["scan"].duplicated(), "scan"].unique()
    ]
    if problems:
        raise ValueError(f"{source}:\n" + "\n".join(problems))
    return table.sort_values("scan", ignore_index=True)[["scan", "subject", "session", *FILES]]


def _bids_scans(folder):
    images = bids2table.index_dataset(folder).to_pandas()
    masks = [
        bids2table.parse_bids_entities(path) | {"path": str(path)}
        for path in sorted((folder / "derivatives").glob("**/*_label-lesion_mask.nii*"))
    ]
    scans = {}
    for row in images[images["suffix"].isin(["FLAIR", "T1w"])].itertuples() if len(images) else ():
        key = (row.sub, row.ses if isinstance(row.ses, str) else "")
        if str(row.path).endswith((".nii", ".nii.gz")) and row.datatype == "anat":
            scans.setdefault(key, {})["flair" if row.suffix == "FLAIR" else "t1w"] = str(Path(row.root, row.path))
    for mask in masks:
        scans.setdefault((mask["sub"], mask.get("ses") or ""), {})["lesions"] = mask["path"]
    rows = [{"subject": subject, "session": session, **files} for (subject, session), files in scans.items()]
    return pd.DataFrame(rows, columns=["subject", "session", *FILES]).fillna("")


def _read_table(path):
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    missing = {"subject", *FILES} - set(table.columns)
    if missing:
        raise ValueError(
            f"{path}: column missing: {', '.join(sorted(missing))} (tab-separated subject, session, flair, t1w, lesions)"
        )
    if "session" not in table:
        table["session"] = ""
    table["subject"] = table["subject"].str.removeprefix("sub-")
    table["session"] = table["session"].str.removeprefix("ses-").replace("n/a", "")
    for name in FILES:
        table[name] = [str(path.parent / file) if file else "" for file in table[name]]
    return table


def check_scans(table, workers=4):
    """Read every scan once. Returns one row a scan (lesions, lesion_volume_ml, brain_volume_ml, voxel_mm: its longest side) and a list of warnings.

    Raises ValueError with all problems together, each with its file and cure: missing or unreadable files, images that
    are not 3D, differ in grid or affine, hold values that are not finite or are constant, masks that are not binary,
    one file used for two scans.
    """
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(_check_scan, table.to_dict("records")))
    problems = [problem for result in results for problem in result[1]] + _shared_files(table)
    if problems:
        raise ValueError(f"{len(problems)} problem(s) in the scans:\n" + "\n".join(problems))
    identity = table[["scan", "subject", "session"]]
    return identity.join(pd.DataFrame([result[0] for result in results])), [
        text for result in results for text in result[2]
    ]


def _shared_files(table):
    files = table.melt(id_vars="scan", value_vars=FILES, value_name="file")
    shared = (
        files[files["file"].duplicated(keep=False)].groupby("file")["scan"].agg(lambda scans: ", ".join(sorted(scans)))
    )
    return [f"{file}: used more than once ({scans}); every scan needs its own files" for file, scans in shared.items()]


def _check_scan(row):
    """Facts of one scan, its problems (errors) and its warnings."""
    images, problems = {}, []
    for name in FILES:
        try:
            images[name] = nib.load(row[name])
            data = np.asanyarray(images[name].dataobj)
        except FileNotFoundError:
            problems.append(f"scan {row['scan']}: {row[name]} is missing; correct its path")
            continue
        except Exception as error:  # nibabel, gzip and zlib each raise their own kinds for a damaged file
            problems.append(f"scan {row['scan']}: {row[name]} cannot be read ({error}); copy or convert it again")
            continue
        problems += [f"scan {row['scan']}: {row[name]} {text}" for text in _image_problems(name, data)]
        images[name] = (images[name], data)
    if problems:
        return {}, problems, []
    (flair, flair_data), (_, t1w_data), (_, mask) = (images[name] for name in FILES)
    for name, label in (("t1w", "T1w"), ("lesions", "lesion mask")):
        other = images[name][0]
        if other.shape != flair.shape:
            sizes = ["x".join(map(str, shape)) for shape in (flair.shape, other.shape)]
            problems.append(
                f"scan {row['scan']}: FLAIR is {sizes[0]} but {label} is {sizes[1]}; resample {row[name]} to the FLAIR"
            )
        elif not np.allclose(other.affine, flair.affine, atol=1e-2):
            problems.append(
                f"scan {row['scan']}: {label} has another affine than FLAIR; register {row[name]} to the FLAIR"
            )
    if problems:
        return {}, problems, []
    brain, mask = (flair_data != 0) | (t1w_data != 0), mask != 0
    spacing = nib.affines.voxel_sizes(flair.affine)
    voxel_ml = float(np.prod(spacing)) / 1000
    facts = {
        "lesions": int(label_instances(mask).max()),
        "lesion_volume_ml": float(mask.sum() * voxel_ml),
        "brain_volume_ml": float(brain.sum() * voxel_ml),
        "voxel_mm": float(spacing.max()),
    }
    warnings = []
    if outside := int((mask & ~brain).sum()):
        warnings.append(
            f"scan {row['scan']}: {outside} of {int(mask.sum())} lesion voxels lie outside the brain; check {row['lesions']}"
        )
    if brain.mean() > 0.95:
        warnings.append(
            f"scan {row['scan']}: {brain.mean():.0%} of {row['flair']} is not 0; strip the skull and set the background to 0"
        )
    if np.abs(spacing - 1).max() > 0.1:
        size = " x ".join(f"{value:.2f}" for value in spacing)
        warnings.append(
            f"scan {row['scan']}: voxels of {size} mm; the published network expects 1 mm, resample {row['flair']}"
        )
    return facts, [], warnings


def _image_problems(name, data):
    if data.ndim != 3:
        return [f"has {data.ndim} dimensions; give a single 3D volume"]
    if not np.isfinite(data).all():
        return [f"has {int((~np.isfinite(data)).sum())} values that are not finite; replace them"]
    if name == "lesions":
        values = np.unique(data)
        return (
            []
            if set(values) <= {0, 1}
            else [f"is not a binary mask (values {values[:5]}...); set lesions to 1, the rest to 0"]
        )
    return [] if data.min() < data.max() else [f"is constant ({data.flat[0]}); give the image itself"]


def load_scan(row, normalised=True):
    """Scan of one row of the scans table, in RAS, each channel z-scored over its own non-zero voxels (background stays 0),
    or as it is stored."""
    images = [nib.as_closest_canonical(nib.load(row[name])) for name in FILES]
    raw = np.stack([image.get_fdata(dtype=np.float32) for image in images[:2]])
    lesions = np.asanyarray(images[2].dataobj) != 0
    return Scan(row["scan"], normalise(raw) if normalised else raw, (raw != 0).any(0), lesions, images[0].affine)


def normalise(image):
    """Each channel of (2, X, Y, Z) z-scored over its own non-zero voxels; background stays 0."""
    from monai.transforms import NormalizeIntensity  # importing it takes seconds

    return np.asarray(NormalizeIntensity(nonzero=True, channel_wise=True)(image))


def load_masks(row):
    """Lesions and brain, (X, Y, Z) bool, and affine (4, 4) of one row of the scans table, in RAS."""
    flair, t1w = (nib.as_closest_canonical(nib.load(row[name])) for name in FILES[:2])
    brain = (np.asanyarray(flair.dataobj) != 0) | (np.asanyarray(t1w.dataobj) != 0)
    return load_lesions(row)[0], brain, flair.affine


def load_lesions(row):
    """Lesions, (X, Y, Z) bool, and affine (4, 4) of one row of the scans table, in RAS."""
    lesions = nib.as_closest_canonical(nib.load(row["lesions"]))
    return np.asanyarray(lesions.dataobj) != 0, lesions.affine


def split_patients(load_ml, fractions, generator):
    """Split of each patient ("train", "validation", "test"), stratified by lesion load.

    load_ml: Series of lesion load by subject. fractions: share of each split; they sum to 1. Patients are dealt in
    the order of their load, shuffled within strata of as many patients as the smallest split takes to get one, so that
    every split spans the whole range of load. Raises ValueError if a split with a share would stay empty.
    """
    fractions = np.asarray(fractions, float)
    if fractions.shape != (3,) or (fractions < 0).any() or not np.isclose(fractions.sum(), 1):
        raise ValueError(f"fractions must be three shares that sum to 1, not {fractions.tolist()}")
    n, share = len(load_ml), fractions[fractions > 0].min()
    order = load_ml.sort_values(kind="stable").index.to_numpy()
    stratum = max(2, round(1 / share))
    for start in range(0, n, stratum):
        generator.shuffle(order[start : start + stratum])
    counts = np.zeros(3)
    splits = {}
    for position, subject in enumerate(order, start=1):
        chosen = int(np.argmax(np.where(fractions > 0, fractions * position - counts, -np.inf)))
        counts[chosen] += 1
        splits[subject] = SPLITS[chosen]
    if empty := [name for name, count, part in zip(SPLITS, counts, fractions, strict=True) if part > 0 and count == 0]:
        raise ValueError(
            f"{n} patients are too few for a split of {fractions.tolist()}: nobody is in {', '.join(empty)}"
        )
    return pd.Series(splits, name="split").reindex(load_ml.index)
