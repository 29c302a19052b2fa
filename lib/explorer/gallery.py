"""The gallery of a finished run, with which its report begins: lesions of each kind, to be looked at before it is read.

    python -m lib.explorer.gallery    settings are taken from the environment, as the Makefile hands them on

writes `gallery.pdf` and `gallery.png` beside the run's figures. Maps are those of notebook 4; profile, context curve and
Shapley values of a lesion are computed as in the panel, since notebooks 6 and 8 take detected lesions alone.
"""

import sys

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.explorer.rows import plot_gallery
from lib.explorer.session import PROFILE_EDGES_MM, Explained, Exploration
from lib.lesions import instance_mask
from lib.run import Run, Settings, save_figure
from lib.saliency import find_instances, map_name, measure_maps
from lib.scans import SEQUENCES, load_cut
from lib.statistics import kinds_of

PER_KIND = 2
METHOD = "smoothgrad_max"
NOT_SHOWN = "TN grey"
LARGEST_RADIUS_MM = 20


def choose_lesions(saliency, sequence="FLAIR"):
    """Rows (scan, kind, label and what describes the lesion) of at most PER_KIND lesions of each kind, in the order of kinds.

    saliency: table 04_saliency.  Those whose peak in a sequence is nearest to the median of their kind, each of another
    patient before a patient has a second.
    """
    rows = saliency[(saliency["method"] == METHOD) & (saliency["sequence"] == sequence)].dropna(subset="peak")
    rows = rows.assign(away=(rows["peak"] - rows.groupby("kind")["peak"].transform("median")).abs())
    rows = rows.sort_values("away", kind="stable")
    rows = rows.assign(seat=rows.groupby(["kind", "subject"]).cumcount()).sort_values(["seat", "away"], kind="stable")
    chosen = {kind: of_kind.head(PER_KIND) for kind, of_kind in rows.groupby("kind")}
    shown = [chosen[kind] for kind in kinds_of(saliency) if kind in chosen and kind != NOT_SHOWN]
    return pd.concat([rows.head(0), *shown])


def lesion_mask(run, opened, row):
    """Voxels (X, Y, Z) bool of a row of 04_saliency; a healthy volume is found again, as notebook 4 found it."""
    if not row["kind"].startswith("TN"):
        return instance_mask(row, opened.predicted, opened.annotated)
    made = run.made_with("04_saliency")
    last, lesions = int(opened.predicted.max()), opened.lesions
    missed = row["label"] > last  # the shape is that of a lesion, of a missed one counted on from the last predicted
    label = row["label"] - last if missed else row["label"]
    lesion = lesions[((lesions["kind"] == "FN") == missed) & (lesions["label"] == label)].iloc[0]
    item = opened.row, [lesion.to_dict() | {"healthy": True}]
    found = find_instances(item, path=run.map, apart_mm=made["apart_mm"], seed=made["seed"])
    where = next(one["where"] for one in found if one["kind"] == row["kind"])
    mask = np.zeros(opened.scan.brain.shape, bool)
    mask.flat[where] = True
    return mask


def gather_case(exploration, row, profiles):
    """What `rows.plot_gallery` shows of a row of 04_saliency, in its sequence; what cannot be had is a text that says why.

    profiles: table 04_profile.
    """
    run, opened = exploration.run, exploration.open(row["scan"], None)
    scan, mask, name = opened.scan, lesion_mask(run, opened, row), map_name(row)
    sequence, shown = row["sequence"], SEQUENCES.index(row["sequence"])
    of_kind = profiles[(profiles[["method", "sequence", "kind"]] == [METHOD, sequence, row["kind"]]).all(axis=1)]
    title = f"{row['scan']}\n{row['kind']} {row['label']}, {row['volume_mm3']:.0f} mm³"
    case = {"kind": row["kind"], "title": title, "image": scan.image[shown].copy(), "lesion": mask, "of_kind": of_kind}
    path = run.build / "saliency" / name / f"{name}_desc-smoothgradmax.nii.gz"
    maps = load_cut(path, scan.affine, mask.shape) if path.exists() else f"missing: {path.name} of notebook 4"
    case |= {"spacing_mm": scan.spacing_mm, "saliency": maps, "profile": maps}
    if not isinstance(maps, str):
        given = {METHOD: maps}, mask, scan.brain, scan.spacing_mm, PROFILE_EDGES_MM
        case |= {"saliency": maps[shown].copy(), "profile": measure_maps(*given)[1]}
    explained = Explained(opened, row, None, mask, *[None] * 3)  # of which scan and mask are wanted here
    if patch := run.made_with("04_saliency").get("patch"):
        other = f"left out: notebook 4 gave the network {patch} voxels around the lesion, whose score is another"
        return case | {"context": other, "shares": other}
    case["context"] = _or_why(exploration.context, explained, LARGEST_RADIUS_MM)
    return case | {"shares": _or_why(exploration.shares, explained)}


def _or_why(function, *given):
    """What a function returns, or the text of its error."""
    try:
        return function(*given)
    except (ValueError, OSError, RuntimeError) as error:
        return f"missing: {error}"


def write_gallery(run):
    """Write the gallery of a run; returns the path of its PNG.

    Raises OSError if notebook 4 was not run or scans are missing, ValueError if tables are of other scans or there are no
    such weights.
    """
    exploration = Exploration(run, data="", weights="", layer="", device=run.parameters["device"], seed=0)
    sequences = exploration.sequences
    chosen, profiles = choose_lesions(run.table("04_saliency"), sequences[0]), run.table("04_profile")
    rows = tqdm(chosen.iterrows(), desc="gallery", total=len(chosen), mininterval=2)
    cases = [gather_case(exploration, row, profiles) for _, row in rows]
    figure = plot_gallery(cases, exploration.threshold, exploration.unit, exploration.score_unit, sequences)
    save_figure(figure, run.figures / "gallery", {"parameters": run.parameters})
    return run.figures / "gallery.png"


def main():
    try:
        run = Run("03_evaluation", Settings.given().parameters()["03_evaluation"])
    except ValueError as error:
        sys.exit(str(error))
    try:
        print(write_gallery(run))
    except (OSError, ValueError) as error:  # the report comes without
        for file in run.figures.glob("gallery.*"):
            file.unlink()
        print(f"no gallery: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
