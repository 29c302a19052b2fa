"""Reference numbers: quantiles that a sample agrees with, and what is kept of the real scans."""

import sys

import numpy as np
import pandas as pd
import pytest

from lib.cohort.description import MIN_VOLUME_MM3, PROFILE
from lib.cohort.reference import (
    OF_LESIONS,
    OF_SCANS,
    QUANTILES,
    load_reference,
    main,
    reference_distances,
    reference_tables,
)


def measured(rng, n=400):
    """Lesions and scans of a cohort of three scans, the first two with images."""
    scan = np.repeat(["a", "b", "c"], [n // 2, n // 2, 5])
    lesions = pd.DataFrame({"scan": scan, "volume_mm3": np.exp(rng.normal(3, 1.2, len(scan)))})
    lesions = lesions.assign(ventricle_mm=rng.uniform(0, 40, len(scan)), flair=1.3, t1w=0.9, local_contrast=1.0)
    profiles = PROFILE["flair"] + PROFILE["t1w"]
    lesions[profiles] = 1.0
    lesions.loc[scan == "c", ["flair", "t1w", "local_contrast", *profiles]] = np.nan
    scans = pd.DataFrame({"scan": ["a", "b", "c"], "flair_noise_xy": [0.03, 0.04, np.nan]})
    scans[OF_SCANS] = rng.uniform(1, 2, (3, len(OF_SCANS)))
    return scans, lesions


def test_a_cohort_is_at_no_distance_from_its_own_quantiles_and_far_from_others():
    scans, lesions = measured(np.random.default_rng(0))
    quantiles, imaged, profile = reference_tables(scans, lesions)
    found = reference_distances(scans, lesions, quantiles).set_index("measure")
    assert found.loc["volume_mm3", "ks"] < 0.02
    assert found.loc["volume_mm3", "wasserstein_ln"] < 0.05
    assert found.loc["volume_mm3", "n"] == len(lesions)
    larger = reference_distances(scans, lesions.assign(volume_mm3=np.e * lesions["volume_mm3"]), quantiles)
    larger = larger.set_index("measure").loc["volume_mm3"]
    assert larger["wasserstein_ln"] == pytest.approx(1, abs=0.05)  # e times as large
    assert larger["ks"] == pytest.approx(0.323, abs=0.06)  # 2 Phi(1 / (2 * 1.2)) - 1
    assert imaged["scan"].tolist() == ["a", "b"]
    assert profile.groupby("scan")["lesions"].unique().map(list).to_dict() == {"a": [200], "b": [200]}
    assert set(quantiles.loc[quantiles["measure"] == "flair", "scan"]) == {"all", "a", "b"}


def test_a_cohort_without_lesions_has_no_distance():
    quantiles, _, _ = reference_tables(*measured(np.random.default_rng(0)))
    scans, lesions = measured(np.random.default_rng(1))
    found = reference_distances(scans, lesions[:0], quantiles).set_index("measure")
    assert found.loc["volume_mm3", ["n", "ks"]].isna().tolist() == [False, True]
    assert found.loc["load_ml", "ks"] < 1


def test_the_kept_tables_are_quantiles_of_30_scans():
    quantiles, scans, profile = load_reference()
    values = quantiles[QUANTILES].to_numpy()
    assert (np.diff(values, axis=1) >= 0).all()
    whole = quantiles[quantiles["scan"] == "all"].set_index("measure")
    assert whole.index.tolist() == [*OF_LESIONS, *OF_SCANS]
    assert whole.loc["load_ml", "n"] == 30
    assert whole.loc["volume_mm3", "q01"] == MIN_VOLUME_MM3
    assert set(scans["scan"]) == set(profile["scan"]) == set(quantiles["scan"]) - {"all"}


def test_the_kept_numbers_come_from_the_real_scans(real_scans, tmp_path, monkeypatch):
    """The command, on the masks of three patients and the images of one of them."""
    rows, source = [], real_scans / "open_ms_data" / "cross_sectional" / "MNI"
    for number in ("01", "02", "07"):
        (mask,) = (source / f"patient{number}").glob("GOLD*")
        images = [next((source / f"patient{number}").glob(f"{name}_*"), "") for name in ("FLAIR", "T1")]
        rows.append((f"ljubljana{number}", "", *images, mask))
    columns = ["subject", "session", "flair", "t1w", "lesions"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "real.tsv", sep="\t", index=False)
    monkeypatch.setattr(sys, "argv", ["reference", str(tmp_path / "real.tsv"), str(tmp_path / "numbers")])
    main()
    _, scans, profile = load_reference()
    for name, kept in (("scans", scans), ("profile", profile)):
        made = pd.read_csv(tmp_path / "numbers" / f"{name}.csv")
        kept = kept[kept["scan"] == "ljubljana07"].reset_index(drop=True)
        pd.testing.assert_frame_equal(made, kept, rtol=1e-3)
    assert len(pd.read_csv(tmp_path / "numbers" / "quantiles.csv")) == 2 + len(OF_LESIONS + OF_SCANS)
