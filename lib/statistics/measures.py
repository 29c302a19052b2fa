"""What a run found on each of the paper's claims, as numbers: one function a claim takes `read`, which gives a table of
the run by name, and finds its measures. It does not know what the paper says."""

from functools import partial
from itertools import pairwise

import numpy as np

from lib.statistics.comparisons import bootstrap_cliffs_delta, pairwise_tests
from lib.statistics.documents import counted
from lib.statistics.verdicts import NOT_APPLICABLE

BOOTSTRAP = "bootstrap of patients"


def annotated(read):
    """Whether a test scan has an annotation: only then there are metrics, and TP, FP and FN are told apart."""
    return len(read("03_metrics")) > 0


def metrics(read, counts, rates):
    if not annotated(read):
        return []
    table = read("03_metrics").assign(lesions=len(read("03_annotated"))).set_index("metric")
    return [
        *(_of_row(table.loc[name], name, unit="lesions", digits=0) for name in counts),
        *(_of_row(table.loc[name], name) for name in rates),
    ]


def sign_around_the_border(read):
    kinds = read("04_kinds").set_index(["measure", "kind"])
    ring = read("04_ring").query("method == 'smoothgrad_max' and sequence == 'FLAIR' and kind == 'TP'")
    ring = ring.set_index("quantity")
    if ring.empty:
        return []
    if "FLAIR" in _unseen(read):
        return [_not_applicable(name, ring["lesions"].max()) for name in ("mean inside", "mean up to 3 mm outside")]
    middle = f"its middle at {ring.loc['ring_mm', 'value']:g} mm" if np.isfinite(ring.loc["ring", "value"]) else ""
    return [
        _of_true(kinds.loc["mean_inside"], "mean inside"),
        _of_true(kinds.loc["mean_perilesional"], "mean up to 3 mm outside"),
        _of_row(ring.loc["zero_crossing_mm"], "mean changes sign at", unit="mm", digits=1),
        _of_row(ring.loc["ring"], "lowest shell outside", digits=3, effect=middle),
    ]


def flair_against_mprage(read):
    true = read("04_saliency").query("method == 'smoothgrad_max' and kind == 'TP'")
    if true.empty:
        return []
    name = "absolute peak, FLAIR - MPRAGE"
    peaks = true.pivot(index=["scan", "label"], columns="sequence", values="peak").abs()
    if _unseen(read):
        return [_not_applicable(name, len(peaks))]
    larger = f"larger in FLAIR in {(peaks['FLAIR'] > peaks['MPRAGE']).sum()} of {len(peaks)} lesions"
    judged = _of_true(read("04_kinds").set_index(["measure", "kind"]).loc[name], name, larger)
    return [judged, *_shares(read("08_sequences"))]


def _shares(sequences):
    """What FLAIR adds to the score beyond MPRAGE, with the mean in place of what is hidden, and beside it with other fills."""
    whole = sequences.query("place == 'all' and sequence == 'FLAIR - MPRAGE'")
    others = [f"rest {row.fill} {row.share:.1f}" for row in whole[1:].itertuples()]
    name, measures = "Shapley value, FLAIR - MPRAGE", []
    for row in whole[:1].rename(columns={"share": "value"}).itertuples():
        said = ", ".join([counted(row.lesions, "lesion"), *others])
        measures.append(_of_row(row, name, unit=getattr(row, "unit", "logit"), digits=1, effect=said))
    return measures


def order_of_kinds(read):
    """Judged over as many voxels of each lesion: a maximum over more is larger. Over all, as in the paper, it is
    reported. Patients are those of the kind that has fewer."""
    if not annotated(read):
        return []
    kinds, measures, flair = ["TP", "FP", "FN", "TN"], [], read("04_saliency").query("sequence == 'FLAIR'")
    for method, over in (("smoothgrad_few", ""), ("smoothgrad_max", ", all voxels")):
        peaks = flair[flair["method"] == method]
        p_holm = pairwise_tests(peaks, "peak", "kind", kinds).set_index(["a", "b"])["p_holm"]
        for larger, smaller in pairwise(kinds):
            pair = peaks[peaks["kind"].isin([larger, smaller])]
            found = bootstrap_cliffs_delta(pair, "peak", "kind", larger, smaller, generator=np.random.default_rng(0))
            test = f"{BOOTSTRAP}; Mann-Whitney, Holm p = {p_holm[larger, smaller]:.2g}"
            patients = min(pair.loc[pair["kind"] == kind, "subject"].nunique() for kind in (larger, smaller))
            name = f"{larger} over {smaller}{over}"
            if "FLAIR" in _unseen(read):
                measures.append(_not_applicable(name, len(pair)))
                continue
            measures.append(measure(name, found, len(pair), patients, test=test))
    return measures


def synthetic_lesions(read):
    curves, effects = read("05_psychometric"), read("05_effects").set_index(["effect", "kind"])
    changed = "TP" if annotated(read) else "predicted"
    deep = curves["surroundings"] == "deep white matter"
    size = (curves if deep.all() else curves[~deep])["diameter_mm"].max()
    halves = curves[deep & (curves["diameter_mm"] == size) & (curves["sequences"] != "both")]
    halves = halves.rename(columns={"contrast50": "value", "n": "lesions"})
    shares = {
        "share found, inserted in FLAIR only - MPRAGE only": ("FLAIR - MPRAGE", "inserted"),
        "share found, deep in white matter - beside cortex": ("deep white matter - beside cortex", "inserted"),
        _of("share still found, FLAIR removed - MPRAGE removed", read): ("FLAIR removed - MPRAGE removed", changed),
        _of("share still found, moved to grey matter - unchanged", read): ("moved to grey matter - none", changed),
    }
    measures, unseen = [], _unseen(read)
    for row in halves.itertuples():
        between = f"between {row.bracket_low:g} and {row.bracket_high:g}" if row.bracket_low < row.bracket_high else ""
        name = f"{row.sequences} contrast that finds half of {size:g} mm lesions"
        if row.sequences in unseen:
            measures.append(_not_applicable(name, row.lesions))
            continue
        measures.append(_of_row(row, name, unit="z-scores", effect=between))
    for name, (effect, kind) in shares.items():
        if unseen and "FLAIR" in name:
            measures.append(_not_applicable(name, effects.loc[(effect, kind), "lesions"]))
            continue
        beside = effects["value"].reindex([(effect, other) for other in ("FN", "TN") if kind == changed]).dropna()
        said = ", ".join(f"{other} {value:z.2f}" for (_, other), value in beside.items())
        measures.append(_of_row(effects.loc[(effect, kind)], name, effect=said))
    return measures


def context_radius(read):
    """Where the curve first reaches 95 % of its plateau, with an interval up to where it does so for good: a curve that
    falls in between does not tell how much tissue is needed. Judged with the paper's fill in mm; with other fills, and
    in the paper's dilations, it is only reported, as it is of predicted lesions, which may be TP or FP."""
    plateau, measures = read("06_plateau"), []
    plateau = plateau.rename(columns={"first": "value", "low_first": "low", "high_last": "high"})
    for row in plateau[(plateau["fill"] == "mean") | (plateau["curve"] == "score")].itertuples():
        name = _of({"fraction": "detected lesions", "score": "mean score"}[row.curve], read)
        name += "" if row.fill == "mean" else f", rest {row.fill}"
        unit = "mm" if row.growth == "euclidean" else "dilations"
        said = [("no variation" if row.plateau > 0 else "no plateau")] if np.isnan(row.value) else []
        said += ["at most, being the smallest tried"] if row.value == row.smallest else []
        if np.isfinite(row.dip):
            last = f"for good from {row.last:g}" if np.isfinite(row.last) else "not reached for good"
            said += [f"falls again to {row.dip:.2f} at {row.dip_at:g}", last]
        measures.append(_of_row(row, name, unit=unit, digits=0, effect=", ".join(said)))
    return measures


def error_detection(read):
    """Judged by what removing does that a classifier of saliency alone calls false; what saliency adds to probability,
    size and place is reported."""
    rows = read("09_detection").set_index(["predictors", "measure"])
    if rows.empty:
        return []
    alone, both, measures = rows.loc["saliency"], rows.loc["all three + saliency"], []
    for rate in ("F1", "PPV"):
        before, after = (alone.loc[f"{rate}, {when}", "value"] for when in ("before", "after"))
        said = f"{before:.2f} to {after:.2f}, with all three + saliency to {both.loc[f'{rate}, after', 'value']:.2f}"
        measures.append(_of_row(alone.loc[f"{rate}, after - before"], f"{rate}, after - before", effect=said))
    auc, without = alone.loc["AUC"], rows.loc[("all three", "AUC"), "value"]
    said = f"kinds shuffled {auc['shuffled']:.2f}, p = {auc['p']:.2g}"
    return [
        *measures,
        _of_row(auc, "AUC of saliency", effect=said),
        _of_row(
            both.loc["AUC, less that without saliency"], "AUC that saliency adds", effect=f"{without:.2f} without it"
        ),
    ]


def measure(name, found, lesions, patients, *, unit="", test=BOOTSTRAP, effect="", digits=2):
    """One number of a claim with its 95 % interval, found: (value, low, high)."""
    value, low, high = map(float, found)
    numbers = {"value": value, "low": low, "high": high, "lesions": int(lesions), "patients": int(patients)}
    return {"measure": name} | numbers | {"unit": unit, "test": test, "effect": effect, "digits": digits}


def _of(name, read):
    """Name of a measure of TP, or of the predicted lesions that stand for them without annotation: another measure."""
    return name if annotated(read) else f"{name} (predicted)"


def _unseen(read):
    """The sequences that the network does not take, whose maps are 0 everywhere."""
    peaks = read("04_saliency").query("method == 'smoothgrad_max'")
    return {sequence for sequence, values in peaks.groupby("sequence")["peak"] if not values.any()}


def _not_applicable(name, lesions):
    """Of a sequence, or a comparison of both, for a network that takes one alone."""
    return measure(name, [np.nan] * 3, lesions, 0, effect=f"{NOT_APPLICABLE}: the network takes one sequence")


def _of_row(row, name, **options):
    return measure(name, (row.value, row.low, row.high), row.lesions, row.patients, **options)


def _of_true(kinds, name, effect=""):
    """A measure of TP from rows of 04_kinds, by kind; those of the other kinds, which are not judged, beside it."""
    others = kinds["value"].reindex(["FP", "FN", "TN"]).dropna()
    digits = 2 if others.abs().max() >= 0.1 else 3
    effect = [effect, *(f"{kind} {value:.{digits}f}" for kind, value in others.items())]
    return _of_row(kinds.loc["TP"], name, effect=", ".join(filter(None, effect)), digits=3)


FIND = {
    "C1": partial(metrics, counts=[], rates=["Dice", "nDSC", "nDSC, whole volume"]),
    "C2": partial(metrics, counts=["TP", "FP", "FN"], rates=["TPR", "PPV", "F1"]),
    "C3": sign_around_the_border,
    "C4": flair_against_mprage,
    "C5": order_of_kinds,
    "C6": synthetic_lesions,
    "C7": context_radius,
    "C9": error_detection,
}
