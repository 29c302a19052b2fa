"""Reference numbers of real scans, kept as small tables in data/reference/, and how far a cohort is from them.

python -m lib.cohort.reference my_scans.tsv data/reference

The scans table is that of data/README.md; scans whose flair and t1w are empty are measured on their mask alone.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from lib.cohort.description import PLACES, border_profile, ks_distance, measure_cohort
from lib.provenance import ROOT
from lib.scans import FILES

FOLDER = ROOT / "data" / "reference"
OF_LESIONS = ["volume_mm3", "ventricle_mm", "flair", "t1w", "local_contrast"]
OF_SCANS = ["load_ml", "lesions", *(f"{share}_{place}" for share in ("count", "volume") for place in PLACES)]
LOGARITHMIC = {"volume_mm3"}  # measures with a Wasserstein distance, of their natural logarithm
QUANTILES = [f"q{percent:02d}" for percent in range(1, 100)]


def load_reference():
    """The tables that are kept: quantiles, scans, profile (see `reference_tables`)."""
    return tuple(pd.read_csv(FOLDER / f"{name}.csv") for name in ("quantiles", "scans", "profile"))


def reference_tables(scans, lesions):
    """Tables of numbers of many scans and lesions, from the rows of `cohort.measure`.

    quantiles: rows measure, scan ("all", or that of the contrasts of one scan), n, q01 ... q99. scans: contrast and noise of
    the scans that have images. profile: rows of `cohort.profile` of each such scan.
    """
    rows = [("all", name, lesions[name]) for name in OF_LESIONS] + [("all", name, scans[name]) for name in OF_SCANS]
    imaged = scans.dropna(subset="flair_noise_xy")
    groups = [(scan, lesions[lesions["scan"] == scan]) for scan in imaged["scan"]]
    rows += [(scan, name, rows_of_scan[name]) for scan, rows_of_scan in groups for name in ("flair", "t1w")]
    quantiles = pd.DataFrame([_quantiles(*row) for row in rows])
    profile = pd.concat([border_profile(rows_of_scan).assign(scan=scan) for scan, rows_of_scan in groups])
    return quantiles, imaged.drop(columns=OF_SCANS[2:]), profile


def _quantiles(scan, measure, values):
    values = values.dropna()
    found = np.quantile(values, np.arange(1, 100) / 100) if len(values) else np.full(99, np.nan)
    return {"measure": measure, "scan": scan, "n": len(values)} | dict(zip(QUANTILES, found, strict=True))


def reference_distances(scans, lesions, quantiles):
    """How far the scans and lesions of a cohort are from the reference quantiles, a row a measure.

    Returns measure, n, median, n_reference, median_reference, ks (Kolmogorov-Smirnov statistic, 0 the same to 1 apart, against
    the 99 quantiles) and wasserstein_ln (of the natural logarithm of the lesion volume).
    """
    rows = []
    for row in quantiles[quantiles["scan"] == "all"].itertuples():
        values = (lesions if row.measure in OF_LESIONS else scans)[row.measure].dropna()
        reference = pd.Series(row[-len(QUANTILES) :], dtype=float).dropna()
        logs = row.measure in LOGARITHMIC and len(values) and len(reference)
        rows.append(
            {"measure": row.measure, "n": len(values), "median": values.median()}
            | {"n_reference": row.n, "median_reference": reference.median()}
            | {"ks": ks_distance(values, reference)}
            | {"wasserstein_ln": stats.wasserstein_distance(np.log(values), np.log(reference)) if logs else np.nan}
        )
    return pd.DataFrame(rows)


def main():
    source, folder = map(Path, sys.argv[1:])
    table = pd.read_csv(source, sep="\t", dtype=str, keep_default_na=False).assign(scan=lambda table: table["subject"])
    for name in FILES:
        table[name] = [str(source.parent / file) if file else "" for file in table[name]]
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in zip(("quantiles", "scans", "profile"), reference_tables(*measure_cohort(table)), strict=True):
        found.to_csv(folder / f"{name}.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
