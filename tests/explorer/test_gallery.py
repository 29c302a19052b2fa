"""The gallery of a run: which lesions it shows, with their own maps, curves and shares, and what it says of the rest."""

import numpy as np
import pandas as pd
import pytest

from lib.explorer import gallery
from lib.explorer.gallery import choose_lesions, gather_case, lesion_mask, main, write_gallery
from lib.explorer.session import PROFILE_EDGES_MM, Exploration
from lib.provenance import ROOT
from lib.run.parameters import defaults
from lib.run.paths import Run, save_table
from lib.saliency.maps import map_name
from lib.saliency.measures import measure_maps
from lib.saliency.work import find_instances
from lib.scans.maps import save_cut

APART = {"apart_mm": 3.0, "seed": 0}


@pytest.fixture(scope="module")
def run(explored_run, tmp_path_factory):
    """The tiny run as notebook 4 leaves it for a found and a missed lesion of its first scan and the healthy volumes of their shapes."""
    figures = str(tmp_path_factory.mktemp("gallery") / "figures")
    places = {"build": str(explored_run.build), "figures": figures}
    run = Run("03_evaluation", defaults(ROOT / "notebooks" / "03_evaluation.py") | places)
    save_table(explored_run.table("03_lesions"), run.figures / "03_lesions", {})
    scan, found = explored_run.scans().iloc[0].to_dict(), []
    for kind in ("TP", "FN"):
        lesions = run.table("03_lesions").query("scan == 'sub-001' and voxels <= 20")
        lesions = lesions[lesions["kind"] == kind].assign(healthy=True).to_dict("records")
        each = (find_instances((scan, [lesion]), path=run.map, **APART) for lesion in lesions)
        found += next(of_one for of_one in each if len(of_one) == 3)
    facts = [{name: value for name, value in one.items() if name != "where"} for one in found]
    table = pd.DataFrame(facts).assign(method="smoothgrad_max", sequence="FLAIR", peak=range(6))
    save_table(table, run.figures / "04_saliency", {"parameters": APART})
    profile = {
        "method": "smoothgrad_max",
        "sequence": "FLAIR",
        "kind": ["TP", "FN"],
        "distance_mm": 0.5,
        "mean": [1, 2],
    }
    save_table(pd.DataFrame(profile), run.figures / "04_profile", {})
    return run, found


@pytest.fixture(scope="module")
def exploration(run):
    return Exploration(run[0], data="", weights="", layer="", device="cpu", seed=0)


def test_lesions_near_the_median_of_their_kind_are_shown_of_other_patients_first():
    rows = [("TP", "a", peak) for peak in (1.0, 4.9, 5.0, 5.1)] + [
        ("TP", "b", 9.0),
        ("TN", "a", 1.0),
        ("TN grey", "a", 1.0),
    ]
    table = pd.DataFrame(rows, columns=["kind", "subject", "peak"]).assign(method="smoothgrad_max", sequence="FLAIR")
    other = table.assign(sequence="MPRAGE", peak=5.0)
    chosen = choose_lesions(pd.concat([table.iloc[::-1], other]))
    assert chosen[["kind", "subject", "peak"]].to_numpy().tolist() == [
        ["TP", "a", 5.0],
        ["TP", "b", 9.0],
        ["TN", "a", 1.0],
    ]


def test_a_network_of_t1w_alone_is_shown_in_it():
    peaks = {"FLAIR": [0.0, 0.0, 0.0], "MPRAGE": [-1.0, -3.0, -2.0]}
    table = pd.DataFrame({"kind": "TP", "method": "smoothgrad_max", "subject": [*"aab"]})
    table = pd.concat([table.assign(sequence=name, peak=values) for name, values in peaks.items()])
    assert choose_lesions(table, "MPRAGE")["peak"].tolist() == [-2.0, -1.0]


def test_the_voxels_of_every_kind_are_those_that_notebook_4_explained(run, exploration):
    run, found = run
    opened, table = exploration.open("sub-001", None), run.table("04_saliency")
    for (_, row), one in zip(table.iterrows(), found, strict=True):
        assert row["kind"] == one["kind"]
        np.testing.assert_array_equal(np.flatnonzero(lesion_mask(run, opened, row)), one["where"])


def test_a_lesion_has_its_own_map_profile_context_and_shares(run, exploration):
    run, found = run
    rows, profiles = run.table("04_saliency"), run.table("04_profile")
    opened = exploration.open("sub-001", None)
    values = np.random.default_rng(0).normal(size=(2, *opened.scan.brain.shape)).astype(np.float32) * opened.scan.brain
    name = map_name(rows.iloc[0])
    save_cut(values, opened.scan.affine, run.build / "saliency" / name / f"{name}_desc-smoothgradmax.nii.gz")
    scan = opened.scan
    for number, sequence in enumerate(["MPRAGE", "FLAIR"]):
        case = gather_case(exploration, rows.assign(sequence=sequence).iloc[0], profiles)
        np.testing.assert_array_equal(case["saliency"], values[1 - number])
        np.testing.assert_array_equal(case["image"], scan.image[1 - number])
    _, profile = measure_maps({"smoothgrad_max": values}, case["lesion"], scan.brain, scan.spacing_mm, PROFILE_EDGES_MM)
    pd.testing.assert_frame_equal(case["profile"], profile)
    assert case["of_kind"]["mean"].tolist() == [1]
    assert case["context"]["radius_mm"].tolist() == list(range(21))
    of_sequences = case["shares"][case["shares"]["place"] == "all"]
    assert of_sequences["share"].sum() == pytest.approx(
        (of_sequences["score"] - of_sequences["hidden"]).iloc[0], abs=1e-5
    )


def test_what_cannot_be_had_of_a_lesion_is_a_text(run, exploration, monkeypatch):
    def refuse(*_):
        raise ValueError("sees FLAIR alone")

    monkeypatch.setattr(Exploration, "shares", refuse)
    run, _ = run
    missed = run.table("04_saliency").query("kind == 'FN'").iloc[0]
    case = gather_case(exploration, missed, run.table("04_profile"))
    assert "desc-smoothgradmax" in case["saliency"] and case["profile"] == case["saliency"]
    assert case["shares"] == "missing: sees FLAIR alone"
    assert len(case["context"]) == 21


def test_the_gallery_is_written_and_goes_when_the_run_no_longer_has_what_it_needs(run, monkeypatch, capsys):
    run, _ = run
    monkeypatch.setattr(gallery, "LARGEST_RADIUS_MM", 1)
    path = write_gallery(run)
    assert path.read_bytes()[:4] == b"\x89PNG" and path.with_suffix(".pdf").exists()
    (run.figures / "04_profile.csv").unlink()
    monkeypatch.setattr(gallery, "Run", lambda *_: run)
    main()
    assert "no gallery: " in (said := capsys.readouterr().err) and "04_profile.csv is missing" in said
    assert not list(run.figures.glob("gallery.*"))
