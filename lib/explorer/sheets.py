"""What a finished run found, lesion by lesion: one table, one page a scan, and maps that any viewer shows.

    python -m lib.explorer.sheets    settings are taken from the environment, as the Makefile hands them on

writes `lesions.csv` and `lesions/<scan>.pdf` beside the figures, and for every explained lesion into `lesions/<scan>/`
of the build folder its signed-maximum map of each sequence and its mask, on the grid of the FLAIR.
"""

import shutil
import sys
from functools import partial

import numpy as np
import pandas as pd

from lib.explorer.page import plot_sheet
from lib.lesions import brain_depth, cortex, instance_mask, lesion_places, white_and_grey_matter
from lib.network import load_weights, map_unit
from lib.provenance import write_atomically
from lib.run import Run, Settings, compute_each, save_figure
from lib.saliency import map_name
from lib.scans import load_cut, load_labels, load_scan, save_map

SHOWN = 4  # lesions with their maps on a page
KEYS = ["scan", "kind", "label"]
COLUMNS = [*KEYS[:1], "subject", "session", *KEYS[1:], "volume_mm3", "place", "mean_probability", "peak_probability"]
COLUMNS += ["peak_flair", "peak_mprage", "context_radius_mm", "map"]


def collect_lesions(run):
    """Rows of 03_lesions with what later notebooks measured: COLUMNS without place, and map: whether it was explained.

    peak_flair, peak_mprage: of the signed maximum (notebook 4), logit per z-score; context_radius_mm: where the
    lesion's score first reaches 95 % of its plateau (notebook 6), inf: nowhere in the range tried. NaN: not measured.
    """
    found = run.table("03_lesions")
    if (run.figures / "04_saliency.csv").exists():
        peaks = run.table("04_saliency").query("method == 'smoothgrad_max'")
        peaks = peaks.pivot_table("peak", KEYS, "sequence").rename(
            columns={"FLAIR": "peak_flair", "MPRAGE": "peak_mprage"}
        )
        found = found.merge(peaks.reset_index(), on=KEYS, how="left")
    if (run.figures / "06_lesions.csv").exists():
        radii = run.table("06_lesions").rename(columns={"radius95_mm": "context_radius_mm"})
        found = found.merge(radii[["scan", "label", "context_radius_mm"]], on=["scan", "label"], how="left")
        found.loc[found["kind"] == "FN", "context_radius_mm"] = np.nan  # its label counts in the annotation
    found = found.reindex(columns=[*dict.fromkeys([*found, *COLUMNS])])
    return found.assign(map=found["peak_flair"].notna())


def describe_scan(item, *, path, saliency, maps, pages, record, unit):
    """Place of each lesion of a scan; writes its page, and maps and masks of its explained lesions. Returns its rows.

    item: row of the scans table, rows of `collect_lesions`.  path: of a map (`run.Run.map`).  saliency: folder of
    notebook 4.  maps, pages: folders that are written.  record: of what made them.  unit: of saliency.
    """
    row, lesions = item
    scan, labels = load_scan(row), load_labels(row, path)
    marked = (labels[0] > 0) | (labels[1] > 0)
    _, grey = white_and_grey_matter(scan.image, scan.brain, marked)
    cortical = cortex(grey, brain_depth(scan.brain, scan.spacing_mm))
    given = scan.image, scan.brain, cortical, marked, scan.spacing_mm
    found = [lesion_places(of_kind, *given) for of_kind in labels]
    shutil.rmtree(maps / row["scan"], ignore_errors=True)  # those of lesions that are no more
    lesions["place"] = [found[row.kind == "FN"][row.label] for row in lesions.itertuples()]
    lesions = lesions.sort_values("volume_mm3", ascending=False, kind="stable")
    cases = []
    for lesion in lesions[lesions["map"]].itertuples():
        name = map_name(lesion._asdict())
        mask = instance_mask(lesion, *labels)
        values = load_cut(saliency / name / f"{name}_desc-smoothgradmax.nii.gz", scan.affine, mask.shape)
        for part, array in (("FLAIR", values[0]), ("MPRAGE", values[1]), ("mask", mask.astype(np.uint8))):
            save_map(array, row["flair"], maps / row["scan"] / f"{name}_{part}.nii.gz")
        if len(cases) < SHOWN:
            cases.append({"kind": lesion.kind, "label": lesion.label, "lesion": mask, "saliency": values})
    counts = ", ".join(f"{n} {kind}" for kind, n in lesions["kind"].value_counts().items()) or "no lesion"
    predicted_ml = lesions.loc[lesions["kind"] != "FN", "volume_mm3"].sum() / 1000
    title = f"{row['scan']}: {counts}; {predicted_ml:.1f} ml of lesions predicted"
    page = plot_sheet(title, scan.image, labels[0] > 0, cases, lesions, scan.spacing_mm, unit)
    save_figure(page, pages / row["scan"], record)
    return lesions[COLUMNS]


def write_sheets(run):
    """Write all of a finished run; returns the path of `lesions.csv`. Raises FileNotFoundError without notebook 3, whose
    weights are used, and ValueError without these."""
    lesions, scans = collect_lesions(run), run.scans()
    made = run.made_with("03_lesions")
    tested = scans[scans["split"] == "test"].to_dict("records")
    items = [(row, lesions[lesions["scan"] == row["scan"]].copy()) for row in tested]
    unit = map_unit(load_weights(run.weights(made["weights"]))[1])
    folders = {"saliency": run.build / "saliency", "maps": run.build / "lesions", "pages": run.figures / "lesions"}
    describe = partial(describe_scan, path=run.map, **folders, record={"parameters": made}, unit=unit)
    table = pd.concat(compute_each(describe, items, desc="lesions"), ignore_index=True)
    path = run.figures / "lesions.csv"
    write_atomically(path, lambda file: table.to_csv(file, index=False, float_format="%.6g"))
    return path


def main():
    try:
        settings = Settings.given()
        print(write_sheets(Run("03_evaluation", settings.parameters()["03_evaluation"])))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
