"""Reference numbers of real scans, kept as small tables in data/reference/, and how far a cohort is from them.

python -m lib.cohort.reference my_scans.tsv data/reference    (a scans table of data/README.md; flair, t1w may be empty)
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from lib.cohort.description import PLACES, border_profile, measure_cohort
from lib.provenance import ROOT
from lib.scans import FILES

OF_LESIONS = ["volume_mm3", "ventricle_mm", "flair", "t1w", "local_contrast"]
OF_SCANS = ["load_ml", "lesions", *(f"{share}_{place}" for share in ("count", "volume") for place in PLACES)]
QUANTILES = [f"q{percent:02d}" for percent in range(1, 100)]


def load_reference():
    """The tables that are kept: quantiles, scans, profile (see `reference_tables`)."""
    return tuple(pd.read_csv(ROOT / "data" / "reference" / f"{name}.csv") for name in ("quantiles", "scans", "profile"))


def reference_tables(scans, lesions):
    """Tables of numbers of many scans and lesions, from the rows of `measure_cohort`.

    quantiles: rows measure, scan ("all", or that of the contrasts of one scan), n, q01 ... q99. scans: contrast and
    noise of the scans that have images. profile: rows of `border_profile` of each such scan.
    """
    imaged = scans.dropna(subset="flair_noise_xy")
    groups = {scan: lesions[lesions["scan"] == scan] for scan in imaged["scan"]}
    samples = [("all", name, (lesions if name in OF_LESIONS else scans)[name]) for name in OF_LESIONS + OF_SCANS]
    samples += [(scan, name, rows[name]) for scan, rows in groups.items() for name in ("flair", "t1w")]
    quantiles = [(name, scan, of.count(), *of.quantile(np.arange(1, 100) / 100)) for scan, name, of in samples]
    quantiles = pd.DataFrame(quantiles, columns=["measure", "scan", "n", *QUANTILES])
    profile = pd.concat([border_profile(rows).assign(scan=scan) for scan, rows in groups.items()])
    return quantiles, imaged.drop(columns=OF_SCANS[2:]), profile


def reference_distances(scans, lesions, quantiles):
    """How far the scans and lesions of a cohort are from the reference quantiles, a row a measure.

    Returns measure, n, median, n_reference, median_reference, ks (Kolmogorov-Smirnov statistic, 0 the same to 1 apart,
    against the 99 quantiles) and wasserstein_ln (Wasserstein distance of the natural logarithm of the lesion volume).
    """
    rows = []
    for row in quantiles[quantiles["scan"] == "all"].itertuples():
        values = (lesions if row.measure in OF_LESIONS else scans)[row.measure].dropna()
        reference = pd.Series(row[-len(QUANTILES) :], dtype=float).dropna()
        ks = logs = np.nan
        if len(values) and len(reference):
            ks = stats.ks_2samp(values, reference).statistic
            if row.measure == "volume_mm3":
                logs = stats.wasserstein_distance(np.log(values), np.log(reference))
        rows.append((row.measure, len(values), values.median(), row.n, reference.median(), ks, logs))
    columns = ["measure", "n", "median", "n_reference", "median_reference", "ks", "wasserstein_ln"]
    return pd.DataFrame(rows, columns=columns)


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
