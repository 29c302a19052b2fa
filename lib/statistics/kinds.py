"""Kinds of lesions compared in every measure of their maps, as measured and after scaling each scan."""

import numpy as np
import pandas as pd

from lib.statistics.comparisons import clustered_tests, pairwise_tests
from lib.statistics.intervals import bootstrap_mean

KINDS = ("TP", "FP", "FN", "TN", "TN grey")  # TN: in white matter
MEASURES = ("peak", "peak_positive", "peak_negative", "mean_inside", "mean_perilesional", "contrast")
NAMES = ["method", "sequence", "measure", "scaling"]


def kinds_of(table):
    """KINDS that instances of a table can have. Those of scans without annotation are "predicted", which leads; where
    no other is known, TP, FP and FN are not among them."""
    found = set(table["kind"])
    if "predicted" not in found:
        return KINDS
    return ("predicted", *(KINDS if found & {"TP", "FP", "FN"} else KINDS[3:]))


def scale_scans(saliency):
    """The table 04_saliency with MEASURES divided by one number a scan and method: how strong its FLAIR peaks are.

    That number is the median over the instances of a scan of |FLAIR peak| (of the one peak of Grad-CAM++), each divided
    by the median of its kind over all scans, so that a scan is not strong because more of its instances are of a strong
    kind. It is about 1, the same for both sequences, and resists single instances. Where it is 0 the scan has NaN.
    """
    one = saliency[saliency["sequence"] != "MPRAGE"]
    one = one.assign(peak=one["peak"].abs())
    ratio = one["peak"] / one.groupby(["method", "kind"])["peak"].transform("median").replace(0, np.nan)
    scale = ratio.groupby([one["method"], one["scan"]]).median().replace(0, np.nan).rename("scale")
    scaled = saliency.join(scale, on=["method", "scan"])
    return scaled.assign(**{name: scaled[name] / scaled["scale"] for name in MEASURES})


def mean_by_kind(saliency, kinds, **resampling):
    """What claims C3 and C4 say of TP, for every kind: means over lesions with 95 % intervals over patients.

    saliency: table 04_saliency; of the signed-maximum map, mean_inside and mean_perilesional of FLAIR, and the absolute
    peak of FLAIR less that of MPRAGE.  resampling: n_resamples and generator. Returns one row a kind and measure:
    kind, measure, value, low, high, lesions, patients.
    """
    rows, tables = saliency[saliency["method"] == "smoothgrad_max"].set_index(["scan", "kind", "label"]), []
    flair, mprage = (rows[rows["sequence"] == name] for name in ("FLAIR", "MPRAGE"))
    columns = ["mean_inside", "mean_perilesional", "absolute peak, FLAIR - MPRAGE"]
    flair = flair.assign(**{columns[-1]: flair["peak"].abs() - mprage["peak"].abs()})
    for kind in kinds:
        here = flair[flair.index.get_level_values("kind") == kind]
        if len(here):
            found = zip(("value", "low", "high"), bootstrap_mean(here, columns, **resampling), strict=True)
            patients = here[columns].notna().groupby(here["subject"]).any().sum()
            counts = {"lesions": here[columns].count().to_numpy(), "patients": patients.to_numpy()}
            tables.append(pd.DataFrame({"kind": kind, "measure": columns} | dict(found) | counts))
    names = ["kind", "measure", "value", "low", "high", "lesions", "patients"]
    return pd.concat(tables) if tables else pd.DataFrame(columns=names)


def compare_kinds(saliency, kinds, *, covariates, n_resamples, generator):
    """Every pair of kinds in every measure, raw and scaled: tables of `pairwise_tests` and of `clustered_tests`.

    saliency: table 04_saliency, with the covariates. Measures other than the peak are compared for the signed-maximum
    map, which alone does not fall with the size of a lesion. Rows begin with method, sequence, measure, scaling.
    """
    options = {"covariates": covariates, "n_resamples": n_resamples, "generator": generator}
    both = pd.concat({"raw": saliency, "scaled": scale_scans(saliency)}, names=["scaling"]).reset_index("scaling")
    long = both.melt([name for name in both if name not in MEASURES], MEASURES, "measure", "value")
    long = long[(long["method"] == "smoothgrad_max") | (long["measure"] == "peak")]
    if long.empty:
        found = pairwise_tests(long, "value", "kind", []), clustered_tests(long, "value", "kind", [], **options)
        return tuple(table.reindex(columns=[*NAMES, *table]) for table in found)
    groups = long.groupby(["scaling", *NAMES[:-1]])
    tests = groups.apply(pairwise_tests, "value", "kind", kinds)
    clustered = groups.apply(clustered_tests, "value", "kind", kinds, **options)
    return tuple(table.droplevel(-1).reset_index()[[*NAMES, *table]] for table in (tests, clustered))


def order_kinds(clustered):
    """Order of each pair of kinds, raw and scaled, and whether it depends on the scaling.

    clustered: of `compare_kinds`. Order of a and b: ">" or "<" where the 95 % interval of Cliff's delta over patients
    excludes 0, "open" otherwise. Returns method, sequence, measure, a, b, raw, scaled, depends.
    """
    order = np.select([clustered["delta_low"] > 0, clustered["delta_high"] < 0], [">", "<"], "open")
    table = clustered.assign(order=order).pivot(index=[*NAMES[:-1], "a", "b"], columns="scaling", values="order")
    table = table.reindex(columns=["raw", "scaled"])
    return table.assign(depends=table["raw"] != table["scaled"]).reset_index().rename_axis(columns=None)
