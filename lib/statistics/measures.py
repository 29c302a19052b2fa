"""What a run found on each of the paper's claims, as numbers: one function a claim takes `read`, which gives a table of the
run by name, and finds its measures. It does not know what the paper says."""

from functools import partial
from itertools import pairwise

import numpy as np

from lib.statistics.comparisons import bootstrap_cliffs_delta, pairwise_tests
from lib.statistics.intervals import bootstrap_mean

BOOTSTRAP = "bootstrap of patients"


def metrics(read, counts, rates):
    table = read("03_metrics").assign(lesions=len(read("03_annotated"))).set_index("metric")
    return [_of_row(table.loc[name], name, digits=0 if name in counts else 2) for name in counts + rates]


def sign_around_the_border(read):
    flair = "method == 'smoothgrad_max' and sequence == 'FLAIR'"
    kinds, ring = read("04_saliency").query(flair), read("04_ring").query(f"{flair} and kind == 'TP'")
    true, ring = kinds[kinds["kind"] == "TP"], ring.set_index("quantity")
    if true.empty:
        return []
    ring["lesions"] = len(true)
    middle = f"its middle at {ring.loc['ring_mm', 'value']:g} mm"
    return [
        _mean(true, "mean_inside", "mean inside", effect=_other_kinds(kinds, "mean_inside")),
        _mean(true, "mean_perilesional", "mean up to 3 mm outside", effect=_other_kinds(kinds, "mean_perilesional")),
        _of_row(ring.loc["zero_crossing_mm"], "mean changes sign at", unit="mm", digits=1),
        _of_row(ring.loc["ring"], "lowest shell outside", digits=3, effect=middle),
    ]


def flair_against_mprage(read):
    rows, lesion = read("04_saliency").query("method == 'smoothgrad_max'"), ["subject", "scan", "kind", "label"]
    if not (rows["kind"] == "TP").any():
        return []
    peaks = rows.pivot(index=lesion, columns="sequence", values="peak").abs().reset_index()
    peaks["difference"] = peaks["FLAIR"] - peaks["MPRAGE"]
    true = peaks[peaks["kind"] == "TP"]
    effect = f"larger in FLAIR in {(true['difference'] > 0).sum()} of {len(true)} lesions"
    effect = ", ".join(filter(None, [effect, _other_kinds(peaks, "difference")]))
    return [_mean(true, "difference", "absolute peak, FLAIR - MPRAGE", effect=effect)]


def order_of_kinds(read):
    """Judged over as many voxels of each lesion: a maximum over more is larger. Over all, as in the paper, it is reported."""
    kinds, measures, flair = ["TP", "FP", "FN", "TN"], [], read("04_saliency").query("sequence == 'FLAIR'")
    for method, over in (("smoothgrad_few", ""), ("smoothgrad_max", ", all voxels")):
        peaks = flair[flair["method"] == method]
        p_holm = pairwise_tests(peaks, "peak", "kind", kinds).set_index(["a", "b"])["p_holm"]
        for larger, smaller in pairwise(kinds):
            pair = peaks[peaks["kind"].isin([larger, smaller])]
            found = bootstrap_cliffs_delta(pair, "peak", "kind", larger, smaller, generator=np.random.default_rng(0))
            test = f"{BOOTSTRAP}; Mann-Whitney, Holm p = {p_holm[larger, smaller]:.2g}"
            name, patients = f"{larger} over {smaller}{over}", pair["subject"].nunique()
            measures.append(measure(name, found, len(pair), patients, test=test))
    return measures


def synthetic_lesions(read):
    curves, effects = read("05_psychometric"), read("05_effects").set_index(["effect", "kind"])
    deep = curves["surroundings"] == "deep white matter"
    size = (curves if deep.all() else curves[~deep])["diameter_mm"].max()
    halves = curves[deep & (curves["diameter_mm"] == size) & (curves["sequences"] != "both")]
    halves = halves.rename(columns={"contrast50": "value", "n": "lesions"})
    shares = {
        "share found, inserted in FLAIR only - MPRAGE only": ("FLAIR - MPRAGE", "inserted"),
        "share found, deep in white matter - beside cortex": ("deep white matter - beside cortex", "inserted"),
        "share still found, FLAIR removed - MPRAGE removed": ("FLAIR removed - MPRAGE removed", "TP"),
        "share still found, moved to grey matter - unchanged": ("moved to grey matter - none", "TP"),
    }
    measures = []
    for row in halves.itertuples():
        between = f"between {row.bracket_low:g} and {row.bracket_high:g}" if row.bracket_low < row.bracket_high else ""
        name = f"{row.sequences} contrast that finds half of {size:g} mm lesions"
        measures.append(_of_row(row, name, unit="z-scores", effect=between))
    for name, (effect, kind) in shares.items():
        beside = effects["value"].reindex([(effect, other) for other in ("FN", "TN") if kind == "TP"]).dropna()
        said = ", ".join(f"{other} {value:z.2f}" for (_, other), value in beside.items())
        measures.append(_of_row(effects.loc[(effect, kind)], name, effect=said))
    return measures


def context_radius(read):
    """Judged by where the curve first reaches 95 % of its plateau, with the paper's fill in mm; with other fills, and in
    the paper's dilations, it is only reported. Where the curve falls again after that, it is for what is shown there, and
    where that ends is said beside: it is not how much tissue is needed."""
    plateau, measures = read("06_plateau"), []
    plateau = plateau.rename(columns={"first": "value", "low_first": "low", "high_first": "high"})
    for row in plateau[(plateau["fill"] == "mean") | (plateau["curve"] == "score")].itertuples():
        name = {"fraction": "detected lesions", "score": "mean score"}[row.curve]
        name += "" if row.fill == "mean" else f", rest {row.fill}"
        unit = "mm" if row.growth == "euclidean" else "dilations"
        said = ["no variation"] if np.isnan(row.value) else []
        said += ["at most, being the smallest tried"] if row.value == row.smallest else []
        if np.isfinite(row.dip):
            last = f"for good from {row.last:g}" if np.isfinite(row.last) else "not reached for good"
            said += [f"falls again to {row.dip:.2f} at {row.dip_at:g}", last]
        measures.append(_of_row(row, name, unit=unit, digits=0, effect=", ".join(said)))
    return measures


def measure(name, found, lesions, patients, *, unit="", test=BOOTSTRAP, effect="", digits=2):
    """One number of a claim with its 95 % interval, found: (value, low, high)."""
    value, low, high = map(float, found)
    numbers = {"value": value, "low": low, "high": high, "lesions": int(lesions), "patients": int(patients)}
    return {"measure": name} | numbers | {"unit": unit, "test": test, "effect": effect, "digits": digits}


def _of_row(row, name, **options):
    return measure(name, (row.value, row.low, row.high), row.lesions, row.patients, **options)


def _mean(table, column, name, **options):
    """The mean of a column over the rows of a table (lesions or sites); NaN without any."""
    table = table.dropna(subset=[column])
    found = np.ravel(bootstrap_mean(table, [column], generator=np.random.default_rng(0)))
    return measure(name, found, len(table), table["subject"].nunique(), digits=3, **options)


def _other_kinds(table, column):
    """Means of a column in what is no TP, which are not judged: "FP 2.40, FN 2.22, TN 2.07", of the kinds that are there."""
    means = table.groupby("kind")[column].mean()
    digits = 2 if means.abs().max() >= 0.1 else 3
    return ", ".join(f"{kind} {means[kind]:.{digits}f}" for kind in ("FP", "FN", "TN") if kind in means)


FIND = {
    "C1": partial(metrics, counts=[], rates=["Dice", "nDSC", "nDSC, whole volume"]),
    "C2": partial(metrics, counts=["TP", "FP", "FN"], rates=["TPR", "PPV", "F1"]),
    "C3": sign_around_the_border,
    "C4": flair_against_mprage,
    "C5": order_of_kinds,
    "C6": synthetic_lesions,
    "C7": context_radius,
}
