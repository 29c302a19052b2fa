"""The paper's claims judged on what a run found, from its tables alone.

    python -m lib.statistics.claims figures/demo [README.md]

writes `claims.csv` (one row a measure) and `claims.md` beside the tables, and puts the table, and what the sanity checks
found, between the MARKERS of a Markdown file if one is given. What the paper says stands in `claims.yml`; here, one function a claim takes `read`,
which gives a table of the run by name, and finds its measures. One rule judges every run: a measure holds if its
whole 95 % interval lies where the paper says, is contradicted if none of it does, and is open otherwise, as it is
without variation (an interval without width) and with fewer than FEWEST patients. A claim is reproduced if all its
measures hold, not reproduced if one is contradicted, and inconclusive otherwise; without a lesion there is nothing to
judge. Where the folder has the sweep of networks (notebooks/sweeps/networks.yml) of this run, the same rule also judges
the mean over networks with its interval over networks and patients.
"""

import argparse
import json
import re
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lib.provenance import write_atomically
from lib.statistics.checks import checks
from lib.statistics.comparisons import bootstrap_cliffs_delta, pairwise_tests
from lib.statistics.intervals import bootstrap_mean
from lib.statistics.networks import measures_over_networks, network_readers
from lib.statistics.verdicts import judged

CLAIMS = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text())
POSITIVE, NEGATIVE = (0.0, np.inf), (-np.inf, 0.0)
MARGIN = 0.1  # on either side of a score or share that the paper gives
HALF_STEP_MM = 0.5  # on either side of a range of radii, which are multiples of 1 mm
MARKERS = "<!-- claims: written by make paper -->", "<!-- end of claims -->"
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
    lowest = f"lowest shell outside (middle at {ring.loc['ring_mm', 'value']:g} mm)"
    return [
        _mean(true, "mean_inside", "mean inside", effect=_other_kinds(kinds, "mean_inside")),
        _mean(true, "mean_perilesional", "mean up to 3 mm outside", effect=_other_kinds(kinds, "mean_perilesional")),
        _of_row(ring.loc["zero_crossing_mm"], "mean changes sign at", unit="mm", digits=1),
        _of_row(ring.loc["ring"], lowest, digits=3),
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
            measures.append(_measure(name, found, len(pair), patients, test=test))
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


FIND = {
    "C1": partial(metrics, counts=[], rates=["Dice", "nDSC", "nDSC, whole volume"]),
    "C2": partial(metrics, counts=["TP", "FP", "FN"], rates=["TPR", "PPV", "F1"]),
    "C3": sign_around_the_border,
    "C4": flair_against_mprage,
    "C5": order_of_kinds,
    "C6": synthetic_lesions,
    "C7": context_radius,
}


def ledger(read, networks=()):
    """One row a measure: claim, statement, paper, measure, value, low, high, lesions, patients, unit, test, effect,
    expected_low, expected_high, holds, verdict (of the claim), text, notebook, file; with networks also their number,
    networks, and networks_value, networks_low, networks_high, networks_sd (between them), networks_holds,
    networks_verdict, networks_text.

    read: name of a table -> table of this run.  networks: such a function of each network (`network_readers`).
    """
    table = _measures(read)
    rows = _told(table).drop(columns=["digits", "bounds"])
    if networks:
        over = _told(measures_over_networks(table, [_measures(read) for read in networks]))
        over = over[["value", "low", "high", "sd", "holds", "verdict", "text"]].add_prefix("networks_")
        rows = rows.join(over.assign(networks=len(networks)))
    return rows.join(pd.DataFrame.from_dict(CLAIMS, orient="index")[["notebook", "file"]], on="claim")


def _measures(read):
    """Measures of all claims as their functions find them, and those that are expected and not found, as NaN."""
    rows = []
    for claim, facts in CLAIMS.items():
        front = {"claim": claim, "statement": facts["statement"], "paper": facts["paper"]}
        found = FIND[claim](read)
        present = {one["measure"] for one in found}
        for name in (name for name in facts["expected"] if name not in present):
            unit = "mm" if isinstance(facts["expected"][name], list) else ""
            found.append(_measure(name, [np.nan] * 3, 0, 0, unit=unit))
        for one in found:
            low, high = _where(facts["expected"].get(one["measure"]), one["unit"]) or (np.nan, np.nan)
            bounds = facts.get("bounds", {}).get(one["unit"], (-np.inf, np.inf))
            rows.append(front | one | {"expected_low": low, "expected_high": high, "bounds": bounds})
    return pd.DataFrame(rows)


def _told(table):
    """Measures judged, and in words."""
    table = judged(table)
    return table.assign(text=[_text(**row) for row in table.to_dict("records")])


def markdown(table, folder):
    """The ledger in Markdown, one row a claim, with links to files; folder: of the files, as seen from the document."""
    over = "networks" in table
    first = f"mean of {table['networks'].iloc[0]} networks, SD between them | verdict | " if over else ""
    columns = f"| claim | paper | {first}this run | n | verdict | notebook, file |"
    lines = [columns, re.sub("[^|]+", " --- ", columns)]
    for claim, rows in table.groupby("claim"):
        one = rows.iloc[0]
        leading = f"{'; '.join(rows['networks_text'])} | **{one['networks_verdict']}** | " if over else ""
        verdict = one["verdict"] if over else f"**{one['verdict']}**"
        counts = f"{rows['lesions'].max()} lesions, {rows['patients'].max()} patients"
        file = f"`{one['notebook']}` [{one['file']}.csv]({folder}{one['file']}.csv)"
        found = f"{leading}{'; '.join(rows['text'])} | {counts} | {verdict} | {file}"
        lines.append(f"| {claim} {one['statement']} | {one['paper']} | {found} |")
    return "\n".join(lines)


def _measure(name, found, lesions, patients, *, unit="", test=BOOTSTRAP, effect="", digits=2):
    """One number of a claim with its 95 % interval, found: (value, low, high)."""
    value, low, high = map(float, found)
    numbers = {"value": value, "low": low, "high": high, "lesions": int(lesions), "patients": int(patients)}
    return {"measure": name} | numbers | {"unit": unit, "test": test, "effect": effect, "digits": digits}


def _of_row(row, name, **options):
    return _measure(name, (row.value, row.low, row.high), row.lesions, row.patients, **options)


def _mean(table, column, name, **options):
    """The mean of a column over the rows of a table (lesions or sites); NaN without any."""
    table = table.dropna(subset=[column])
    found = np.ravel(bootstrap_mean(table, [column], generator=np.random.default_rng(0)))
    return _measure(name, found, len(table), table["subject"].nunique(), digits=3, **options)


def _other_kinds(table, column):
    """Means of a column in what is no TP, which are not judged: "FP 2.40, FN 2.22, TN 2.07", of the kinds that are there."""
    means = table.groupby("kind")[column].mean()
    digits = 2 if means.abs().max() >= 0.1 else 3
    return ", ".join(f"{kind} {means[kind]:.{digits}f}" for kind in ("FP", "FN", "TN") if kind in means)


def _where(said, unit):
    """(low, high) of what is said in `expected` of claims.yml: of a range, for a measure in mm alone."""
    if isinstance(said, float):
        return said - MARGIN, said + MARGIN
    if isinstance(said, list):
        return (said[0] - HALF_STEP_MM, said[1] + HALF_STEP_MM) if unit == "mm" else None
    return {"positive": POSITIVE, "negative": NEGATIVE, None: None}[said]


def _text(measure, value, low, high, unit, effect, digits, **_):
    beyond = {"inf": "not reached", "-inf": "below the range", "nan": "not measured"}
    texts = [f"{number:.{digits}f}" for number in (value, low, high)]
    found, *interval = (beyond.get(text, text) for text in texts)
    found += f" {unit}" if unit and np.isfinite(value) else ""
    interval = "no variation" if low == high and np.isfinite(low) else " to ".join(interval)
    found += "" if np.isnan([low, high]).any() else f" ({interval})"
    return f"{measure} {found}" + (f", {effect}" if effect else "")


def judge(figures):
    """The ledger of the run in a folder, and over networks where it has their sweep."""
    return ledger(_reader(figures), network_readers(figures))


def _reader(figures):
    return cache(lambda name: pd.read_csv(figures / f"{name}.csv", dtype={"subject": str}))


def findings(table, figures, folder):
    """What a document holds between the MARKERS: the ledger, and what the sanity checks of the run in `figures` found.

    folder: that of the files, as seen from the document.
    """
    n_samples = json.loads((figures / "04_saliency.json").read_text())["parameters"]["n_samples"]
    return f"{markdown(table, folder)}\n\n{checks(_reader(figures), n_samples, folder)}"


def main():
    parser = argparse.ArgumentParser(prog="python -m lib.statistics.claims", description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path)
    parser.add_argument("document", type=Path, nargs="?")
    given = parser.parse_args()
    table = judge(given.figures)
    write_atomically(given.figures / "claims.csv", lambda file: table.to_csv(file, index=False, float_format="%.6g"))
    write_atomically(given.figures / "claims.md", lambda file: file.write_text(markdown(table, "") + "\n"))
    if given.document:
        (start, end), folder = MARKERS, f"{given.figures.as_posix()}/"
        block = f"{start}\n{findings(table, given.figures, folder)}\n{end}"
        text = re.sub(f"{start}.*{end}", lambda _: block, given.document.read_text(), flags=re.DOTALL)
        write_atomically(given.document, lambda file: file.write_text(text))


if __name__ == "__main__":
    main()
