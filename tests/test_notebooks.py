"""The whole chain, `make paper` in the smoke profile, and checks of what it wrote."""

import json
import os
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from lib.digits import KERNELS
from lib.exact.windows import predict_lesion
from lib.lesions.instances import label_instances
from lib.network.weights import load_weights
from lib.provenance import ROOT
from lib.run.runner import NOTEBOOKS
from lib.saliency.maps import METHODS, lesion_maps, saved_maps
from lib.scans.images import load_scan
from lib.scans.maps import load_map

FIGURES = {
    "00_slices", "00_distributions", "00_contrasts",
    "01_cohort", "02_training", "03_detection", "03_examples", "04_maps", "04_peaks", "04_orders", "04_proxy", "04_profile",
    "05_psychometric", "05_places", "05_response", "05_inserted", "05_changes", "05_panels", "06_context", "06_fills", "06_radii", "06_fields",
    "07_sanity", "07_leakage", "08_methods", "08_convergence", "08_shares", "09_errors",
}  # fmt: skip
TABLES = {
    "00_scans", "00_lesions", "00_distances",
    "01_scans", "01_split", "01_lesions", "02_loss", "02_validation", "03_threshold", "03_lesions", "03_annotated",
    "03_scans", "03_metrics", "03_detection",
    "04_saliency", "04_kinds", "04_tests", "04_clustered", "04_orders", "04_matched", "04_profile", "04_ring",
    "05_contrast", "05_insertions", "05_response", "05_psychometric", "05_smallest", "05_places", "05_invented", "05_changes", "05_effects",
    "06_context", "06_curve", "06_plateau", "06_lesions", "06_correlations", "06_agreement",
    "07_randomisation", "07_labels", "07_stability", "07_areas", "07_curves", "07_infidelity", "07_explained", "07_leakage",
    "08_agreement", "08_concentration", "08_convergence", "08_shares", "08_sequences",
    "09_lesions", "09_models", "09_coefficients", "09_detection",
}  # fmt: skip


def make(folder, *words, verb="paper"):
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    # two notebooks at a time and other tests beside them: more threads only wait for one another
    environment["OMP_NUM_THREADS"] = "1"
    command = ["make", verb, "PROFILE=smoke", f"OUT={folder}", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """Folder of a finished smoke run."""
    folder = tmp_path_factory.mktemp("paper")
    done = make(folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def table(paper):
    def read(name):
        path = paper / "figures" / "smoke" / f"{name}.csv"
        return pd.read_csv(path, dtype={"subject": str, "session": str}, keep_default_na=False, na_values=["NaN"])

    return read


@pytest.fixture
def scans(paper):
    table = pd.read_csv(paper / "build" / "smoke" / "scans.csv", dtype=str, keep_default_na=False)
    return {row["scan"]: row for row in table.to_dict("records")}


def map_path(paper, scan, description):
    return paper.joinpath("build/smoke/derivatives", *scan.split("_"), "anat", f"{scan}_{description}.nii.gz")


def test_every_figure_and_table_is_there_with_its_record(paper):
    folder = paper / "figures" / "smoke"
    assert {path.stem for path in folder.glob("*.pdf")} == {path.stem for path in folder.glob("*.png")} == FIGURES
    assert {path.stem for path in folder.glob("0*.csv")} == {path.stem for path in folder.glob("0*.json")} == TABLES
    assert {path.stem for path in (folder / "provenance").iterdir()} == {path.stem for path in NOTEBOOKS}
    for path in folder.glob("0*.json"):
        record = json.loads(path.read_text())
        assert record["notebook"].startswith(path.name[:2])
        assert record["parameters"]["build"].endswith("build/smoke")
        assert record["versions"]["kernels"] == KERNELS


def test_a_second_make_runs_no_notebook_and_an_edit_of_parameters_only_what_depends_on_it(paper):
    again = make(paper)
    assert again.returncode == 0
    assert "Executing" not in again.stderr
    changed = make(paper, "SET=06_context_radius.n_lesions=3")
    assert changed.returncode == 0
    assert changed.stderr.count("running.ipynb") == 1
    assert "06_context_radius" in changed.stderr


SWEEP = """
name: lesions
question: Does the score depend on how many lesions are shown?
grid: {n_lesions: [3, 5]}
table: 06_context
where: radius_mm == 0 and fill == 'mean' and growth == 'euclidean'
plot: {x: n_lesions, x_label: lesions, y: score, y_label: mean lesion probability}
"""


def test_a_sweep_takes_over_what_the_run_has_executed(paper, table, tmp_path):
    """One of the two points is the run itself; only the last notebook of the other is executed."""
    file = tmp_path / "lesions.yml"
    file.write_text(SWEEP)
    done = make(paper, f"SWEEP={file}", "JOBS=1", verb="sweep")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 points, 1 notebooks to run" in done.stderr
    swept = pd.read_csv(paper / "figures/smoke/sweeps/lesions/sweep.csv", dtype={"subject": str})
    points = {n: rows["score"].tolist() for n, rows in swept.groupby("n_lesions")}
    assert {n: len(scores) for n, scores in points.items()} == {3: 3, 5: 5}
    shown = table("06_context").query("radius_mm == 0 and fill == 'mean' and growth == 'euclidean'")
    assert shown["score"].tolist() in points.values()
    again = make(paper, f"SWEEP={file}", verb="sweep")
    assert "2 points, 0 notebooks to run" in again.stderr


def test_the_report_of_the_run_reads_offline(paper, read_offline):
    done = make(paper, verb="report")
    assert done.returncode == 0, done.stderr[-3000:]
    folder = paper / "figures" / "smoke"
    assert read_offline(folder / "report.html") == {
        "requests": [],
        "errors": [],
        "broken_links": [],
        "empty_images": [],
    }
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
    assert "no gallery" not in done.stderr
    assert (folder / "gallery.pdf").exists()


def test_an_unknown_parameter_stops_before_anything_runs(paper):
    refused = make(paper, "SET=n_lesion=3")
    assert refused.returncode != 0
    assert "'n_lesion'; did you mean 'n_lesions'?" in refused.stderr
    assert "Executing" not in refused.stderr


def test_sessions_of_a_patient_share_a_split(table):
    scans = table("01_scans")
    assert (scans.groupby("subject").size() > 1).any()
    assert (scans.groupby("subject")["split"].nunique() == 1).all()
    assert table("01_split")["scans"].sum() == len(scans)
    assert table("01_split")["lesions"].sum() == len(table("01_lesions"))


def test_every_scan_is_described_before_the_split(table):
    described, split = table("00_scans"), table("01_scans")
    assert described["scan"].tolist() == split["scan"].tolist()
    np.testing.assert_allclose(described["load_ml"], split["lesion_volume_ml"], rtol=1e-4)
    assert table("00_lesions").groupby("scan").size().sum() == described["lesions"].sum() > 0
    assert table("00_distances")["ks"].between(0, 1).all()


def test_the_best_weights_are_those_that_were_saved(paper, table):
    _, description = load_weights(paper / "build/smoke/weights/unet.safetensors")
    validation, curve = table("02_validation"), table("03_threshold")
    best = validation.loc[validation["dice"].idxmax()]
    assert description["validation_dice"] == pytest.approx(best["dice"], abs=1e-4)
    chosen = (curve["threshold"] - description["threshold"]).abs().idxmin()
    means = (curve["dice"] + curve["f1"]) / 2
    assert means[chosen] == pytest.approx(means.max(), abs=1e-3)
    assert description["outline"] == min(description["threshold"], 0.5)


def test_counts_agree_between_tables_and_with_the_maps(paper, table, scans):
    found, per_scan = table("03_lesions"), table("03_scans")
    counts = (
        found.groupby(["scan", "kind"]).size().unstack(fill_value=0).reindex(columns=["TP", "FP", "FN"], fill_value=0)
    )
    expected = per_scan.set_index("scan")[["tp", "fp", "fn"]]
    np.testing.assert_array_equal(counts.reindex(expected.index, fill_value=0), expected)
    metrics = table("03_metrics").set_index("metric")["value"]
    assert metrics[["TP", "FP", "FN"]].to_list() == expected.sum().to_list()
    for scan in per_scan["scan"]:
        image, reference = nib.load(map_path(paper, scan, "desc-pred_dseg")), nib.load(scans[scan]["flair"])
        assert image.shape == reference.shape
        np.testing.assert_array_equal(image.affine, reference.affine)
        predicted = found[(found["scan"] == scan) & found["kind"].isin(["TP", "FP"])]
        assert set(np.unique(image.dataobj)) - {0} == set(predicted["label"])


def test_a_saved_saliency_map_is_what_the_library_computes(paper, table, scans):
    row = table("04_saliency").query("kind == 'TP' and method == 'smoothgrad_max' and sequence == 'FLAIR'").iloc[0]
    scan = load_scan(scans[row["scan"]])
    labels = load_map(map_path(paper, row["scan"], "desc-pred_dseg"))
    model, _ = load_weights(paper / "build/smoke/weights/unet.safetensors")
    settings = json.loads((paper / "figures/smoke/04_saliency.json").read_text())["parameters"]
    settings = {name: settings[name] for name in ("n_samples", "noise_fraction", "layer", "peak_voxels", "seed")}
    identity = [row["scan"], row["kind"], int(row["label"])]
    expected = lesion_maps(model, scan.image, labels == row["label"], **settings, identity=identity)
    name = "{}_label-{}{:03d}".format(*identity)
    found = saved_maps(paper / "build/smoke/saliency" / name, name, scan.affine, scan.brain.shape)
    for method in METHODS:
        torch.testing.assert_close(
            torch.as_tensor(found[method]), torch.as_tensor(expected[method]), rtol=1e-4, atol=1e-6
        )
    assert row["peak"] == pytest.approx(
        expected["smoothgrad_max"][0].flat[np.abs(expected["smoothgrad_max"][0]).argmax()], rel=1e-4
    )


def test_true_negatives_have_the_size_of_their_lesion(table):
    saliency, found = table("04_saliency").drop_duplicates(["scan", "kind", "label"]), table("03_lesions")
    predicted = found[found["kind"] != "FN"].groupby("scan")["label"].max()
    missed = found["kind"] == "FN"
    found["label"] += np.where(missed, found["scan"].map(predicted).fillna(0), 0)
    negatives = saliency[saliency["kind"] == "TN"].merge(found, on=["scan", "label"], suffixes=("", "_lesion"))
    assert len(negatives) == (saliency["kind"] == "TN").sum() > 0
    assert (negatives["voxels"] == negatives["voxels_lesion"]).all()
    assert negatives["kind_lesion"].nunique() > 1
    positives = saliency[saliency["kind"] == "TP"]
    assert negatives["mean_probability"].mean() < positives["mean_probability"].mean()


def test_context_ends_at_the_prediction_with_all_tissue(paper, table, scans):
    """At the largest radius everything the network sees is shown: the score is that of the unmasked scan."""
    context = table("06_context")
    row = context.sort_values("radius_mm").iloc[-1]
    scan, labels = load_scan(scans[row["scan"]]), load_map(map_path(paper, row["scan"], "desc-pred_dseg"))
    model, _ = load_weights(paper / "build/smoke/weights/unet.safetensors")
    logits = predict_lesion(model, torch.as_tensor(scan.image)[None], labels == row["label"])
    assert row["score"] == pytest.approx(logits.softmax(1)[0, 1].mean().item(), abs=0.02)
    assert label_instances(labels == row["label"]).max() == 1


def test_errors_are_judged_where_the_validation_patients_have_both_kinds(paper, tmp_path):
    """With a lower threshold than the best, at which the tiny network invents lesions in both of them."""
    build, figures = tmp_path / "build/smoke", tmp_path / "figures/smoke"
    shutil.copytree(paper / "build/smoke", build)
    shutil.copytree(paper / "figures/smoke", figures)
    changes = {
        "weights/unet.json": {"threshold": 0.5},
        "parameters/09_error_detection.json": {"build": str(build), "figures": str(figures)},
    }
    for name, changed in changes.items():
        (build / name).write_text(json.dumps(json.loads((build / name).read_text()) | changed))
    notebook = str(ROOT / "notebooks" / "09_error_detection.py")
    command = [sys.executable, "-m", "lib.run.runner", notebook, "--build", str(build), "--figures", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = pd.read_csv(figures / "09_detection.csv").set_index(["predictors", "measure"])["value"]
    assert len(found.unstack()) == len(pd.read_csv(figures / "09_models.csv")) == 6
    metrics = pd.read_csv(figures / "03_metrics.csv").set_index("metric")["value"]
    assert found["saliency"][["F1, before", "PPV, before"]].to_list() == pytest.approx(metrics[["F1", "PPV"]].to_list())
    lesions = pd.read_csv(figures / "09_lesions.csv", dtype={"subject": str})
    sums = lesions.groupby(["split", "subject", "kind"])["weight"].agg(["sum", "size"])
    np.testing.assert_allclose(sums["sum"], sums["size"], rtol=1e-4)
    assert not set(lesions.query("split == 'test'")["subject"]) & set(lesions.query("split == 'validation'")["subject"])
    assert (
        lesions.loc[lesions["drawn"], "TP by saliency"].notna().sum()
        == (lesions.query("drawn")["split"] == "test").sum()
        > 0
    )


def test_given_weights_are_used_and_every_scan_is_a_test_scan(paper, tmp_path):
    """The user's way: a scans table and weights trained before. Nobody has annotated the second scan."""
    source = pd.read_csv(paper / "build" / "smoke" / "scans.csv", dtype=str, keep_default_na=False).head(2)
    source.loc[1, "lesions"] = ""
    mine = tmp_path / "mine.tsv"
    source[["subject", "session", "flair", "t1w", "lesions"]].to_csv(mine, sep="\t", index=False)
    shutil.copytree(paper / "build/smoke/weights", tmp_path / "weights")
    given = f"DATA={mine}", f"WEIGHTS={tmp_path / 'weights/unet.safetensors'}"
    fewer = "SET=n_lesions=1 04_gradient_distributions.n_per_kind=2 06_context_radius.n_lesions=3"
    done = make(tmp_path, *given, fewer)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (folder,) = (tmp_path / "figures").glob("smoke-mine-*")
    assert set(pd.read_csv(folder / "01_scans.csv")["split"]) == {"test"}
    assert {path.stem[:2] for path in folder.glob("0*.csv")} == {"00", "01", "03", "04", "05", "06", "07", "08", "09"}
    tables = {
        name: pd.read_csv(folder / f"{name}.csv") for name in ("03_lesions", "03_scans", "04_saliency", "06_lesions")
    }
    bare, annotated = source["scan"].iloc[[1, 0]]
    kinds = tables["03_lesions"].groupby("scan")["kind"].unique()
    assert list(kinds[bare]) == ["predicted"] and not set(kinds[annotated]) & {"predicted"}
    assert tables["03_scans"]["scan"].tolist() == [annotated]
    assert "predicted" in set(tables["04_saliency"].query("scan == @bare")["kind"])
    assert bare in set(tables["06_lesions"]["scan"])
    assert "needs annotation" not in set(pd.read_csv(folder / "claims.csv")["verdict"])
    again = make(tmp_path, *given, fewer)
    assert (again.returncode, again.stderr.count("running.ipynb")) == (0, 0)
