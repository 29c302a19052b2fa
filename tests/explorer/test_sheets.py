"""What a run found, lesion by lesion: rows of the table are those of the notebooks, maps lie on the FLAIR with their lesion."""

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from lib.explorer.page import plot_sheet
from lib.explorer.sheets import collect_lesions, write_sheets
from lib.run.paths import Run, save_table
from lib.saliency.maps import map_name
from lib.scans.images import load_scan
from lib.scans.maps import load_map, save_cut


@pytest.fixture(scope="module")
def run(explored_run, tmp_path_factory):
    """The tiny run with few lesions of its first scan, of which one is explained and has a context radius."""
    figures = tmp_path_factory.mktemp("sheets") / "figures"
    run = Run("00_explore", explored_run.parameters | {"figures": str(figures)})
    found = explored_run.table("03_lesions")
    found = found[found["scan"] == "sub-001"].groupby("kind").head(2)
    save_table(found, figures / "03_lesions", {"parameters": {"weights": str(run.weights())}})
    lesion = found[found["kind"] == "TP"].iloc[0]
    healthy = lesion[["scan", "label"]].to_dict() | {
        "kind": "TN",
        "method": "smoothgrad_max",
        "sequence": "FLAIR",
        "peak": 9.0,
    }
    peaks = [
        healthy | {"kind": "TP", "sequence": name, "peak": peak} for name, peak in (("FLAIR", 2.0), ("MPRAGE", -1.0))
    ]
    save_table(pd.DataFrame([healthy, *peaks]), figures / "04_saliency", {})
    save_table(
        pd.DataFrame([{"scan": "sub-001", "label": lesion["label"], "radius95_mm": 4.0}]), figures / "06_lesions", {}
    )
    scan = load_scan(run.scans().iloc[0])
    values = np.random.default_rng(0).normal(size=(2, *scan.brain.shape)).astype(np.float32) * scan.brain
    name = map_name(lesion)
    save_cut(values, scan.affine, run.build / "saliency" / name / f"{name}_desc-smoothgradmax.nii.gz")
    return run, lesion, values


def test_a_lesion_has_the_numbers_that_notebooks_measured_of_it_and_no_other(run):
    run, lesion, _ = run
    table = collect_lesions(run)
    own = table[(table["kind"] == "TP") & (table["label"] == lesion["label"])]
    assert own[["peak_flair", "peak_mprage", "context_radius_mm"]].to_numpy().tolist() == [[2.0, -1.0, 4.0]]
    assert own["map"].all()
    rest = table.drop(own.index)
    assert rest[["peak_flair", "peak_mprage", "context_radius_mm"]].isna().all(axis=None) and not rest["map"].any()


def test_every_scan_has_a_page_and_every_explained_lesion_its_map_and_mask_on_the_flair(run):
    run, lesion, values = run
    path = write_sheets(run)
    table = pd.read_csv(path, dtype={"subject": str})
    assert len(table) == len(run.table("03_lesions"))
    assert table["volume_mm3"].is_monotonic_decreasing
    assert table["place"].notna().all()
    assert {file.name for file in (run.figures / "lesions").glob("*.pdf")} == {"sub-001.pdf", "sub-002.pdf"}
    folder, name = run.build / "lesions" / "sub-001", map_name(lesion)
    mask = load_map(run.map("sub-001", "desc-pred_dseg")) == lesion["label"]
    for part, expected in (("FLAIR", values[0]), ("MPRAGE", values[1]), ("mask", mask)):
        file = folder / f"{name}_{part}.nii.gz"
        np.testing.assert_array_equal(load_map(file), expected)
        assert nib.load(file).shape == nib.load(run.scans().loc[0, "flair"]).shape
    assert len(list(folder.iterdir())) == 3


def test_that_no_lesion_is_explained_is_said_where_nothing_stands(run):
    run, _, _ = run
    scan, lesions = load_scan(run.scans().iloc[0]), collect_lesions(run).assign(place="")
    page = plot_sheet("", scan.image, np.zeros(scan.brain.shape, bool), [], lesions, scan.spacing_mm)
    page.canvas.draw()
    (said,) = (text for text in page.findobj(plt.Text) if text.get_text() == "no lesion of this scan is explained")
    others = [text for text in page.findobj(plt.Text) if text is not said and text.get_text()]
    shown = [ax for ax in page.axes if ax.axison]  # the slice
    box = said.get_window_extent()
    assert len(shown) == 1 and any("mm" in text.get_text() for text in shown[0].texts)
    assert not any(box.overlaps(other.get_window_extent()) for other in (*others, *shown))
    assert box.x0 >= 0 and box.x1 <= page.bbox.x1


def test_without_maps_and_radii_the_table_is_that_of_notebook_3(run, tmp_path):
    run, _, _ = run
    bare = Run("00_explore", run.parameters | {"figures": str(tmp_path)})
    save_table(run.table("03_lesions"), tmp_path / "03_lesions", {})
    table = collect_lesions(bare)
    assert table[["peak_flair", "peak_mprage", "context_radius_mm"]].isna().all(axis=None)
    assert table["label"].tolist() == run.table("03_lesions")["label"].tolist()


def test_the_unit_is_that_of_the_weights_of_notebook_3(run, tmp_path):
    run, _, _ = run
    other = Run("00_explore", run.parameters | {"figures": str(tmp_path)})
    record = {"parameters": {"weights": str(tmp_path / "others.safetensors")}}
    save_table(run.table("03_lesions"), tmp_path / "03_lesions", record)
    with pytest.raises(ValueError, match="others.safetensors is missing"):
        write_sheets(other)
