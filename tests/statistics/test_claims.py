"""The claims ledger: measures read from the tables of a run, judged by a rule that does not know them."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import mannwhitneyu

from lib.errors.classifier import ADDED, DETECTION
from lib.provenance import ROOT, digest
from lib.statistics.claims import (
    CLAIMS,
    NEGATIVE,
    POSITIVE,
    findings,
    judge,
    judge_architectures,
    ledger,
    main,
)
from lib.statistics.documents import JUDGED, markdown, same_of_all, summary
from lib.statistics.kinds import KINDS, mean_by_kind
from lib.statistics.verdicts import holds


def saliency(kinds, flair, mprage, inside=1.002, around=-0.502):
    """Rows of 04_saliency: three lesions of each kind in each of six patients, with the peaks given for the kind."""
    rows = []
    for patient in range(6):
        for kind in kinds:
            for label in range(3):
                for sequence, peak in (("FLAIR", flair[kind]), ("MPRAGE", mprage)):
                    step = 0.01 * (label + patient)
                    rows.append(
                        (
                            f"{patient}",
                            f"sub-{patient}",
                            f"{kind}{label}",
                            kind,
                            sequence,
                            peak + 23 * step,
                            inside + step,
                            around - step,
                        )
                    )
    names = ["subject", "scan", "label", "kind", "sequence", "peak", "mean_inside", "mean_perilesional"]
    table = pd.DataFrame(rows, columns=names)
    return pd.concat([table.assign(method=method) for method in ("smoothgrad_max", "smoothgrad_few")])


def tables(**changes):
    """Tables of a run in which every claim of the paper holds."""
    rates = {
        "Dice": 0.6,
        "nDSC": 0.71,
        "nDSC, whole volume": 0.9,
        "F1": 0.7,
        "TPR": 0.79,
        "PPV": 0.63,
        "FDR": 0.37,
        "FNR": 0.2,
        "TP": 80,
        "FP": 40,
        "FN": 20,
    }
    effects = {
        "FLAIR - MPRAGE": 0.5,
        "deep white matter - beside cortex": 0.4,
        "deep white matter - beside ventricle": 0.0,
        "FLAIR removed - MPRAGE removed": -0.6,
        "sequences swapped - none": -1.0,
        "moved to grey matter - none": -0.5,
    }
    errors = {"AUC": 0.8, ADDED: 0.03, "F1, before": 0.7, "F1, after": 0.74, "F1, after - before": 0.04,
              "PPV, before": 0.62, "PPV, after": 0.78, "PPV, after - before": 0.16}  # fmt: skip
    curves = [
        ("deep white matter", "FLAIR", 5.0, 12, 4, 0.4, 0.0, 0.75, 0.25, 0.5),
        ("deep white matter", "MPRAGE", 5.0, 12, 4, np.inf, 2.7, np.inf, np.inf, np.inf),
        ("deep white matter", "FLAIR", 8.0, 12, 4, 1.0, 0.5, 1.5, 1.0, 1.0),
        ("beside cortex", "both", 5.0, 8, 4, 2.2, 2.0, 2.4, 2.2, 2.2),
        ("beside cortex", "FLAIR", 5.0, 8, 4, 2.9, 2.5, np.inf, 2.9, 2.9),
    ]
    plateau = [
        ("mean", "euclidean", "fraction", 7.0, 6.0, 8.0, 7.0, np.nan, np.nan),
        ("mean", "euclidean", "score", 13.0, 12.0, 14.0, 13.0, np.nan, np.nan),
        ("mean", "dilation", "fraction", 5.0, 4.0, 6.0, 5.0, np.nan, np.nan),
        ("air", "euclidean", "score", 20.0, 19.0, 21.0, 20.0, np.nan, np.nan),
    ]
    crossings = ["first", "low_first", "high_last", "last", "dip", "dip_at"]
    given = {
        "03_metrics": pd.DataFrame([(name, value, value - 0.05, value + 0.05, 8) for name, value in rates.items()],
                                   columns=["metric", "value", "low", "high", "patients"]),
        "03_annotated": pd.DataFrame({"scan": ["sub-1"] * 100}),
        "04_saliency": saliency(("TP", "FP", "FN", "TN"), {"TP": 4.0, "FP": 3.0, "FN": 2.0, "TN": 1.0}, -0.5),
        "04_ring": pd.DataFrame([("zero_crossing_mm", 1.2, 1.0, 1.4), ("ring_mm", 1.5, 1.5, 2.5), ("ring", -0.2, -0.3, -0.1)],
                                columns=["quantity", "value", "low", "high"]).assign(
                                    method="smoothgrad_max", sequence="FLAIR", kind="TP", lesions=12, patients=8),
        "05_effects": pd.DataFrame([(name, value, value - 0.1, value + 0.1, 12, 8) for name, value in effects.items()],
                                   columns=["effect", "value", "low", "high", "lesions", "patients"]).assign(
                                       kind=["inserted"] * 3 + ["TP"] * 3),
        "05_psychometric": pd.DataFrame(curves, columns=["surroundings", "sequences", "diameter_mm", "n", "patients",
                                                         "contrast50", "low", "high", "bracket_low", "bracket_high"]),
        "06_plateau": pd.DataFrame(plateau, columns=["fill", "growth", "curve", *crossings]).assign(smallest=0.0, plateau=0.9, lesions=60, patients=8),
        "08_sequences": pd.DataFrame([(fill, "all", "FLAIR - MPRAGE", share, share - 1, share + 1, 12, 8)
                                      for fill, share in (("mean", 6.0), ("air", 9.0))],
                                     columns=["fill", "place", "sequence", "share", "low", "high", "lesions", "patients"]),
        "09_detection": pd.DataFrame([(predictors, measure, value, value - 0.02, value + 0.02, 0.5, 0.02, 100, 8)
                                      for predictors in ("all three", "saliency", "all three + saliency")
                                      for measure, value in errors.items()], columns=DETECTION),
    }  # fmt: skip
    given["09_detection"].loc[given["09_detection"]["predictors"] == "all three + saliency", "value"] += 0.01
    unchanged = given["05_effects"].query("kind == 'TP'").assign(value=-0.25, low=-0.5, high=0.0)
    given["05_effects"] = pd.concat(
        [given["05_effects"], unchanged.assign(kind="FN"), unchanged.assign(kind="TN")], ignore_index=True
    )
    given |= changes
    kinds = mean_by_kind(given["04_saliency"], KINDS, n_resamples=500, generator=np.random.default_rng(0))
    return {"04_kinds": kinds} | given


def verdicts(given):
    return ledger(given.__getitem__).groupby("claim")["verdict"].first().to_dict()


def test_a_run_in_which_everything_is_as_in_the_paper_reproduces_it():
    assert set(verdicts(tables()).values()) == {"reproduced"}


def test_without_an_annotated_scan_claims_need_annotation_and_what_needs_none_is_told():
    given = tables(**{"04_saliency": saliency(("predicted", "TN"), {"predicted": 4.0, "TN": 1.0}, -0.5)})
    effects = given["05_effects"].query("kind in ['inserted', 'TP']").replace("TP", "predicted")
    given |= {"03_metrics": given["03_metrics"].head(0), "04_ring": given["04_ring"].head(0), "05_effects": effects}
    given["09_detection"] = given["09_detection"].head(0)
    rows = ledger(given.__getitem__)
    assert set(rows["verdict"]) == {"needs annotation"}
    held = rows[rows["holds"].notna()]
    assert held["measure"].str.startswith("share found").all() and held["holds"].all() and len(held) == 2
    found = rows.set_index("measure")["text"]
    assert found["Dice"] == "Dice needs annotation"
    assert found["mean score (predicted)"] == "mean score (predicted) 13 mm (12 to 14)"
    assert found["share still found, FLAIR removed - MPRAGE removed (predicted)"].endswith(" -0.60 (-0.70 to -0.50)")
    against = effects.assign(value=-effects["value"], low=-effects["high"], high=-effects["low"])
    assert verdicts(given | {"05_effects": against})["C6"] == "not reproduced"


def test_a_run_that_contradicts_a_claim_does_not_reproduce_it():
    reverse = saliency(("TP", "FP", "FN", "TN"), {"TP": 1.0, "FP": 2.0, "FN": 3.0, "TN": 4.0}, -9.0, inside=-1.0)
    plateau = tables()["06_plateau"].assign(first=2.0, low_first=1.0, high_last=3.0)
    found = verdicts(tables(**{"04_saliency": reverse, "06_plateau": plateau}))
    assert {claim for claim, verdict in found.items() if verdict == "not reproduced"} == {"C3", "C4", "C5", "C7"}


def test_a_claim_without_enough_patients_or_kinds_is_inconclusive():
    one = tables()["04_saliency"].query("scan == 'sub-0' and kind == 'TP'")
    found = verdicts(tables(**{"04_saliency": one}))
    assert found["C3"] == found["C4"] == found["C5"] == "inconclusive"
    effects = tables()["05_effects"]
    effects.loc[effects["effect"] == "moved to grey matter - none", ["value", "low", "high"]] = np.nan
    assert verdicts(tables(**{"05_effects": effects}))["C6"] == "inconclusive"


def test_synthetic_lesions_are_judged_by_effects_and_context_by_the_papers_fill_in_mm():
    """What is only reported does not change the verdict: half levels, fills, dilations; nor what is not in the ledger."""
    given, judged = tables(), {"FLAIR - MPRAGE", "deep white matter - beside cortex", "FLAIR removed - MPRAGE removed",
                               "moved to grey matter - none"}  # fmt: skip
    for effect, kind in given["05_effects"][["effect", "kind"]].to_numpy():
        reverse = given["05_effects"].copy()
        rows = (reverse["effect"] == effect) & (reverse["kind"] == kind)
        reverse.loc[rows, ["value", "low", "high"]] = -reverse.loc[rows, ["value", "high", "low"]].to_numpy()
        expected = "not reproduced" if effect in judged and kind in ("inserted", "TP") else "reproduced"
        assert verdicts(tables(**{"05_effects": reverse}))["C6"] == expected, (effect, kind)
    for row in given["06_plateau"].itertuples():
        far = given["06_plateau"].copy()
        far.loc[row.Index, ["first", "low_first", "high_last"]] = (30.0, 29.0, 31.0)
        expected = "not reproduced" if (row.fill, row.growth) == ("mean", "euclidean") else "reproduced"
        assert verdicts(tables(**{"06_plateau": far}))["C7"] == expected


def test_what_a_sequence_adds_to_the_score_stands_beside_the_gradients_and_is_not_judged():
    given = tables()
    rows = ledger(given.__getitem__).set_index("measure")
    assert rows.loc["Shapley value, FLAIR - MPRAGE", "text"] == (
        "Shapley value, FLAIR - MPRAGE 6.0 logit (5.0 to 7.0), 12 lesions, rest air 9.0"
    )
    other = given | {"08_sequences": given["08_sequences"].assign(unit="log-odds")}
    assert "6.0 log-odds (5.0 to 7.0)" in ledger(other.__getitem__)["text"].str.cat()
    reverse = given["08_sequences"].assign(share=-6.0, low=-7.0, high=-5.0)
    assert verdicts(given | {"08_sequences": reverse})["C4"] == "reproduced"


def test_a_network_of_one_sequence_has_nothing_to_compare_between_sequences():
    given = tables()["04_saliency"]
    alone = given.assign(peak=given["peak"].where(given["sequence"] == "FLAIR", 0.0))
    rows = ledger(tables(**{"04_saliency": alone}).__getitem__)
    assert (rows.loc[rows["claim"] == "C4", "verdict"] == "not applicable").all()
    found = rows.set_index("measure")
    of_mprage = next(name for name in found.index if name.startswith("MPRAGE contrast"))
    for name in ("inserted in FLAIR only - MPRAGE only", "FLAIR removed - MPRAGE removed", of_mprage):
        (row,) = found[found.index.str.endswith(name)].itertuples()
        assert np.isnan(row.value)
        assert "not applicable: the network takes one sequence" in row.text
    assert set(rows.loc[rows["claim"] == "C6", "verdict"]) == {"reproduced"}


def test_claims_about_flair_do_not_apply_to_a_network_that_does_not_take_it():
    given = tables()["04_saliency"]
    alone = given.assign(peak=given["peak"].where(given["sequence"] == "MPRAGE", 0.0))
    found = verdicts(tables(**{"04_saliency": alone}))
    assert [found[claim] for claim in ("C3", "C4", "C5")] == ["not applicable"] * 3


def test_half_levels_beyond_the_range_are_said_not_to_be_reached():
    rows = ledger(tables().__getitem__)
    text = rows.loc[rows["measure"].str.contains("half of"), "text"].tolist()
    assert text == [
        "FLAIR contrast that finds half of 5 mm lesions 0.40 z-scores (0.00 to 0.75), between 0.25 and 0.5",
        "MPRAGE contrast that finds half of 5 mm lesions not reached (2.70 to not reached)",
    ]


def context(**changed):
    """Verdict of C7 and text of the mean score, in which the columns of its plateau are changed."""
    plateau = tables()["06_plateau"]
    judged = (plateau["curve"] == "score") & (plateau["fill"] == "mean")
    plateau.loc[judged, list(changed)] = list(changed.values())
    rows = ledger(tables(**{"06_plateau": plateau}).__getitem__).query("claim == 'C7'").set_index("measure")
    return rows.loc["mean score", "verdict"], rows.loc["mean score", "text"]


def test_neither_end_of_a_dip_is_the_tissue_needed():
    dip = {"first": 3.0, "low_first": 2.0, "high_last": 14.0, "last": 14.0, "dip": 0.67, "dip_at": 8.0}
    text = "mean score 3 mm (2 to 14), falls again to 0.67 at 8, for good from 14"
    assert context(**dip) == ("inconclusive", text)  # 14 mm alone would be as in the paper, 3 mm alone would not
    assert context(**dip | {"last": np.inf})[1].endswith("at 8, not reached for good")


def test_censored_radii_and_curves_without_variation_are_said_to_be():
    at_most = {"first": 0.0, "low_first": 0.0, "high_last": 1.0, "last": 0.0}
    assert context(**at_most) == ("not reproduced", "mean score 0 mm (0 to 1), at most, being the smallest tried")
    beyond = {"first": np.inf, "low_first": 20.0, "high_last": np.inf, "last": np.inf}
    assert context(**beyond) == ("not reproduced", "mean score not reached (20 to not reached)")
    beyond["low_first"] = np.inf  # in no resample either: no lack of variation, but beyond all that was tried
    assert context(**beyond) == ("not reproduced", "mean score not reached (not reached to not reached)")
    none = dict.fromkeys(("first", "low_first", "high_last", "last"), np.nan)
    assert context(**none) == ("inconclusive", "mean score not measured, no variation")
    assert context(**none, plateau=0.0)[1] == "mean score not measured, no plateau"


@pytest.mark.parametrize("claim", CLAIMS)
def test_without_a_lesion_there_is_nothing_to_judge(claim):
    given = tables()
    given["03_metrics"][["value", "low", "high"]] = [1.0, 1.0, 1.0]  # Dice of two empty masks
    given["05_effects"] = given["05_effects"].assign(lesions=0, patients=0, value=np.nan, low=np.nan, high=np.nan)
    kept = {"03_metrics", "05_effects"}
    empty = {name: table if name in kept else table.iloc[:0].astype(object) for name, table in given.items()}
    rows = ledger(empty.__getitem__)
    rows = rows[rows["claim"] == claim]
    assert set(rows["verdict"]) == {"nothing to judge"}
    assert "**nothing to judge**" in summary(rows, "")


@pytest.mark.parametrize(("patients", "verdict"), [(1, "inconclusive"), (5, "inconclusive"), (6, "not reproduced")])
def test_fewer_patients_than_a_sign_test_needs_decide_nothing(patients, verdict):
    """Two-sided, of patients who all agree: 2 / 2**5 = 0.06 and 2 / 2**6 = 0.03."""
    plateau = tables()["06_plateau"].assign(patients=patients)
    plateau.loc[plateau["curve"] == "fraction", ["first", "low_first", "high_last"]] = (2.0, 1.0, 3.0)
    assert verdicts(tables(**{"06_plateau": plateau}))["C7"] == verdict


def test_what_does_not_vary_decides_nothing_and_says_so():
    plateau = tables()["06_plateau"]
    plateau.loc[plateau["curve"] == "fraction", ["first", "low_first", "high_last"]] = 2.0
    rows = ledger(tables(**{"06_plateau": plateau}).__getitem__).query("claim == 'C7'")
    assert set(rows["verdict"]) == {"inconclusive"}
    assert "detected lesions 2 mm (no variation)" in rows["text"].tolist()


def test_a_claim_without_one_of_its_measures_is_not_reproduced():
    plateau = tables()["06_plateau"].query("curve == 'score'")
    rows = ledger(tables(**{"06_plateau": plateau}).__getitem__).query("claim == 'C7'")
    assert set(rows["verdict"]) == {"inconclusive"} and "detected lesions not measured" in rows["text"].tolist()


@pytest.mark.parametrize(
    ("low", "high", "expected", "found"),
    [
        (0.1, 0.3, POSITIVE, True),
        (-0.1, 0.3, POSITIVE, None),
        (-0.3, -0.1, POSITIVE, False),
        (0.0, 0.0, POSITIVE, False),
        (-0.3, -0.1, NEGATIVE, True),
        (6, 8, (5.5, 8.5), True),
        (5, 7, (5.5, 8.5), None),
        (1, 30, (5.5, 8.5), None),
        (9, 11, (5.5, 8.5), False),
        (12, np.inf, (5.5, 8.5), False),
        (7, np.inf, (5.5, 8.5), None),
        (-np.inf, 3, (5.5, 8.5), False),
        (np.inf, np.inf, (5.5, 8.5), False),
        (np.nan, np.nan, (5.5, 8.5), None),
        (np.nan, 3, (5.5, 8.5), None),
        (0.1, 0.3, None, None),
    ],
)
def test_the_rule(low, high, expected, found):
    assert holds(low, high, expected) is found


def test_measures_say_what_the_tables_say():
    rows = ledger(tables().__getitem__).set_index("measure")
    assert rows.loc["TPR", "text"] == "TPR 0.79 (0.74 to 0.84)"
    assert rows.loc["TP", "text"] == "TP 80 lesions (80 to 80)"
    assert rows.loc["mean inside", "value"] == pytest.approx(
        1.002 + 0.01 * np.mean([label + patient for label in range(3) for patient in range(6)])
    )
    assert rows.loc["mean inside", ["lesions", "patients"]].tolist() == [18, 6]
    assert rows.loc["lowest shell outside", "value"] == -0.2
    ring = tables()["04_ring"]
    alone = ring.assign(
        value=ring["value"].where(ring["quantity"] != "ring")
    )  # of one patient, which has no other to choose it by
    found = ledger(tables(**{"04_ring": alone}).__getitem__).set_index("measure")
    assert found.loc["lowest shell outside", "effect"] == ""
    assert "larger in FLAIR in 18 of 18 lesions" in rows.loc["absolute peak, FLAIR - MPRAGE", "text"]
    steps = 0.23 * np.array([label + patient for label in range(3) for patient in range(6)])
    u, p = mannwhitneyu(4 + steps, 3 + steps)
    assert (
        f"Holm p = {3 * p:.2g}" in rows.loc["TP over FP", "test"]
    )  # the next after three pairs that are further apart
    assert rows.loc["TP over FP", "value"] == pytest.approx(2 * u / 18**2 - 1)
    assert rows.loc["mean changes sign at", "text"] == "mean changes sign at 1.2 mm (1.0 to 1.4)"
    inserted = rows.loc["share found, inserted in FLAIR only - MPRAGE only"]
    assert inserted[["value", "lesions", "patients"]].tolist() == [0.5, 12, 8]
    removed = "share still found, FLAIR removed - MPRAGE removed"
    assert rows.loc[removed, "text"] == f"{removed} -0.60 (-0.70 to -0.50), FN -0.25, TN -0.25"
    without = tables()["05_effects"].query("kind != 'TN'")
    rows = ledger(tables(**{"05_effects": without}).__getitem__).set_index("measure")
    assert rows.loc[removed, "text"] == f"{removed} -0.60 (-0.70 to -0.50), FN -0.25"
    assert "detected lesions 5 dilations (4 to 6)" in rows["text"].tolist()
    assert "mean score, rest air 20 mm (19 to 21)" in rows["text"].tolist()


def test_the_order_of_kinds_is_judged_over_as_many_voxels_of_each_lesion():
    """TP that are only larger: their peaks over all voxels are the highest, over as many voxels they are not."""
    given = tables()["04_saliency"]
    few = (given["method"] == "smoothgrad_few") & (given["kind"] == "TP") & (given["sequence"] == "FLAIR")
    rows = ledger(tables(**{"04_saliency": given.assign(peak=given["peak"] - 2.5 * few)}).__getitem__)
    rows = rows.set_index("measure")
    assert rows.loc["TP over FP", "high"] < 0
    assert rows.loc["TP over FP", "verdict"] == "not reproduced"
    assert rows.loc["TP over FP, all voxels", "value"] > 0.5
    assert np.isnan(rows.loc["TP over FP, all voxels", "expected_low"])


def test_patients_of_two_kinds_are_those_of_the_kind_that_has_fewer():
    given = tables()["04_saliency"]
    given = given[(given["kind"] != "FN") | given["subject"].isin(["0", "1"])]
    rows = ledger(tables(**{"04_saliency": given}).__getitem__).set_index("measure")
    assert rows.loc[["TP over FP", "FP over FN", "FN over TN"], "patients"].tolist() == [6, 2, 2]
    assert rows.loc["FN over TN", "holds"] is None


def test_nothing_but_dice_decides_how_well_the_test_set_is_segmented():
    low = tables()["03_metrics"]
    low.loc[low["metric"].str.startswith("nDSC"), ["value", "low", "high"]] = 0.1, 0.05, 0.15
    rows = ledger(tables(**{"03_metrics": low}).__getitem__).query("claim == 'C1'")
    assert set(rows["verdict"]) == {"reproduced"}
    assert [text.split(" 0.")[0] for text in rows["text"]] == ["Dice", "nDSC", "nDSC, whole volume"]


def test_other_kinds_are_told_beside_true_positives():
    rows = ledger(tables().__getitem__).set_index("measure")
    step = 0.01 * np.mean([label + patient for label in range(3) for patient in range(6)])
    inside, around = f"{1.002 + step:.2f}", f"{-0.502 - step:.2f}"
    assert rows.loc["mean inside", "effect"] == f"FP {inside}, FN {inside}, TN {inside}"
    assert rows.loc["mean up to 3 mm outside", "effect"] == f"FP {around}, FN {around}, TN {around}"
    mprage = np.mean([abs(-0.5 + 0.23 * (label + patient)) for label in range(3) for patient in range(6)])
    others = ", ".join(f"{k} {level + 23 * step - mprage:.2f}" for k, level in (("FP", 3), ("FN", 2), ("TN", 1)))
    found = rows.loc["absolute peak, FLAIR - MPRAGE", "text"]
    assert found.endswith(f", larger in FLAIR in 18 of 18 lesions, {others}")


def test_error_detection_is_judged_by_saliency_alone_and_what_it_adds_is_told():
    rows = ledger(tables().__getitem__).query("claim == 'C9'").set_index("measure")
    assert rows["holds"].to_list() == [True, True, None, None]
    said = "F1, after - before 0.04 (0.02 to 0.06), 0.70 to 0.74, with all three + saliency to 0.75"
    assert rows.loc["F1, after - before", "text"] == said
    assert rows.loc["AUC of saliency", "text"] == "AUC of saliency 0.80 (0.78 to 0.82), kinds shuffled 0.50, p = 0.02"
    assert rows.loc["AUC that saliency adds", "text"] == "AUC that saliency adds 0.04 (0.01 to 0.05), 0.80 without it"
    none = tables()["09_detection"].assign(value=0.0, low=0.0, high=0.0)  # nothing is removed
    assert verdicts(tables(**{"09_detection": none}))["C9"] == "inconclusive"


def test_a_claim_whose_notebook_has_not_run_is_left_out():
    given = {name: table for name, table in tables().items() if not name.startswith("09")}

    def read(name):
        if name not in given:
            raise FileNotFoundError(name)
        return given[name]

    assert set(ledger(read)["claim"]) == set(CLAIMS) - {"C9"}


def test_a_cell_of_the_table_holds_at_most_six_numbers():
    assert ledger(tables().__getitem__).groupby("claim").size().max() <= 6


def test_every_row_of_the_markdown_has_its_verdict_and_file():
    rows = ledger(tables().__getitem__)
    for text in markdown(rows, "figures/demo/").splitlines(), summary(rows, "figures/demo/").splitlines():
        assert len(text) == 2 + len(CLAIMS) and len({line.count("|") for line in text}) == 1
        assert all("reproduced" in line and "](figures/demo/0" in line for line in text[2:])


def test_in_short_a_claim_has_what_the_paper_puts_somewhere_and_nothing_beside_it():
    given = tables()
    row = {line.split()[1]: line for line in summary(ledger(given.__getitem__), "").splitlines()[2:]}
    assert "| TPR 0.79 (0.74 to 0.84); PPV" in row["C2"] and "lesions (80 to 80)" not in row["C2"]
    assert "larger in FLAIR in" not in row["C4"] and "Shapley" not in row["C4"]
    assert "rest air" not in row["C7"] and "dilations" not in row["C7"]
    context = given["06_plateau"].assign(first=np.nan, low_first=np.nan, high_last=np.nan)
    assert "not measured, no variation" in summary(ledger((given | {"06_plateau": context}).__getitem__), "")


def test_the_readme_shows_the_committed_default_run():
    folder = ROOT / "figures" / "demo"
    if not (folder / "claims.csv").exists():
        pytest.skip("needs figures/demo of `make paper`")
    assert findings(judge(folder), folder, "figures/demo/") in (ROOT / "README.md").read_text()


NAMES = {"unet": "U-Net", "dynunet": "nnU-Net", "swinunetr": "Swin UNETR"}
SWEEP = yaml.safe_load((ROOT / "notebooks" / "sweeps" / "architectures.yml").read_text())
FLAIR = "share found, inserted in FLAIR only - MPRAGE only"


def write(folder, given):
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in given.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")


def contradicting():
    """Tables in which lesions inserted in MPRAGE alone are found more often than those in FLAIR."""
    effects = tables()["05_effects"]
    effects.loc[effects["effect"] == "FLAIR - MPRAGE", ["value", "low", "high"]] = -0.5, -0.6, -0.4
    return tables(**{"05_effects": effects})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run and its sweep of architectures, of which the second contradicts a measure of C6."""
    place, points, parts = tmp_path_factory.mktemp("run"), [], {}
    write(place, tables())
    for name, given in {"unet": tables(), "dynunet": contradicting(), "swinunetr": tables()}.items():
        given = {table: given[table] for table in SWEEP["tables"] if table in given}
        write(place / name, given)
        point = {"point": f"architecture {name}", "02_training.architecture": name}
        files = {table: digest(place / name / f"{table}.csv") for table in given}
        points.append(point | {"folder": name, "tables": files})
        for table, rows in given.items():
            parts.setdefault(table, []).append(rows.assign(**point))
    write((place / JUDGED).parent, {name: pd.concat(rows) for name, rows in parts.items()})
    ((place / JUDGED).parent / "sweep.json").write_text(json.dumps({"points": points}))
    return place


@pytest.fixture(scope="module")
def judged(run):
    return judge_architectures(run)


def test_each_network_is_judged_by_the_code_that_judges_a_run(judged):
    assert list(dict.fromkeys(judged["network"])) == list(NAMES.values())
    alone = ledger(contradicting().__getitem__).set_index("measure").drop("Shapley value, FLAIR - MPRAGE")
    alone = alone[alone["claim"] != "C9"]  # whose notebook the sweep does not run
    here = judged[judged["network"] == "nnU-Net"].set_index("measure")
    numbers = ["value", "low", "high"]
    pd.testing.assert_frame_equal(here[numbers], alone[numbers], rtol=1e-4)
    assert here["verdict"].tolist() == alone["verdict"].tolist() and here.loc[FLAIR, "verdict"] == "not reproduced"


def holding(judged, *of_each):
    """The measure of C6 holds (True), is contradicted (False) or open (None) for each of the networks."""
    rows = (judged["measure"] == FLAIR).to_numpy()
    return judged.assign(holds=judged["holds"].where(~rows, pd.Series(of_each, judged.index[rows], object)))


@pytest.mark.parametrize(
    "of_each, verdict, said",
    [
        ((True, True, True), "reproduced", "12 measures of C3 to C7: alike in 12, opposite in none, open in 0"),
        ((False, False, False), "reproduced", "alike in 12, opposite in none, open in 0"),
        ((True, False, True), "not reproduced", f"alike in 11, opposite in {FLAIR}, open in 0"),
        ((True, False, None), "not reproduced", f"alike in 11, opposite in {FLAIR}, open in 0"),
        ((True, None, True), "inconclusive", "alike in 11, opposite in none, open in 1"),
    ],
)
def test_networks_are_compared_measure_by_measure(judged, of_each, verdict, said):
    found, text = same_of_all(holding(judged, *of_each))
    assert found == verdict and text.endswith(said)
    assert text.startswith("U-Net / nnU-Net / Swin UNETR: C1 reproduced; ")
    assert "C6 reproduced / not reproduced / reproduced; C7 reproduced" in text


def test_segmentation_is_told_and_not_compared(judged):
    alike = holding(judged, True, True, True)
    alike.loc[alike["claim"].isin(["C1", "C2"]) & (alike["network"] == "nnU-Net"), "holds"] = False
    assert same_of_all(alike)[0] == "reproduced"


def test_without_one_of_the_networks_nothing_is_the_same_of_all(judged):
    verdict, text = same_of_all(holding(judged, True, True, True).query("network != 'nnU-Net'"))
    assert verdict == "inconclusive" and text.startswith("U-Net / Swin UNETR: C1")


def test_the_ledger_has_one_row_more_with_the_sweep_and_is_as_before_without(run, judged, monkeypatch):
    (run / "document.md").write_text("<!-- claims: written by make paper -->\n<!-- end of claims -->")
    monkeypatch.setattr("lib.statistics.claims.checks", lambda *_: "checks")
    monkeypatch.setattr("sys.argv", ["claims", str(run), str(run / "document.md")])
    main()
    pd.testing.assert_frame_equal(
        pd.read_csv(run / f"{JUDGED}.csv")[["claim", "measure"]], judged[["claim", "measure"]]
    )
    before = markdown(ledger(tables().__getitem__), "").splitlines()
    assert not any("C8" in line for line in before) and "C8" not in (run / "claims.csv").read_text()
    *kept, row, last = (run / "claims.md").read_text().splitlines()
    assert [*kept, last] == before and row.count("|") == kept[0].count("|")
    assert row.startswith("| C8 The same for nnU-Net and Swin UNETR | ") and "| not reproduced |" in row
    assert f"({JUDGED}.csv)" in row and f"{JUDGED}.csv)" in (run / "document.md").read_text()


def test_a_sweep_of_another_training_is_left_out(run, tmp_path, capsys):
    (tmp_path / "sweeps").symlink_to(run / "sweeps")
    write(tmp_path, tables() | {"03_metrics": tables()["03_metrics"].assign(patients=7)})
    assert judge_architectures(tmp_path) is None and "left out" in capsys.readouterr().err


def test_the_sweep_collects_every_table_that_is_judged_but_what_is_only_reported():
    read = set()
    ledger(lambda name: read.add(name) or tables()[name])
    assert read - set(SWEEP["tables"]) == {"08_sequences", "09_detection"}  # claim C9 is not in it
