"""The paper's claims judged on what a run found, from its tables alone.

    python -m lib.statistics.claims figures/demo [README.md]

writes `claims.csv` (one row a measure) and `claims.md` beside the tables, and puts the table between the markers of a
Markdown file if one is given. One function a claim: it takes `read`, which returns a table of the run by name, and returns
measures. One rule judges every run: a measure holds if its whole 95 % interval lies where the paper says (a direction, a
range of radii, a score or share within `MARGIN`), is contradicted if none of it does, and is open otherwise. A claim is
reproduced if all its measures hold, not reproduced if one is contradicted, and inconclusive otherwise.
"""

import argparse
import re
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from lib.provenance import write_atomically
from lib.statistics.comparisons import bootstrap_cliffs_delta, pairwise_tests
from lib.statistics.intervals import bootstrap_mean

MARKERS = "<!-- claims: written by make paper -->", "<!-- end of claims -->"
N_RESAMPLES = 2000
BOOTSTRAP = "bootstrap of patients"


@dataclass
class Measure:
    """One number of a claim with its 95 % interval.

    expected: (low, high), where the paper's claim puts it; None if the number is only reported.
    """

    measure: str
    value: float
    low: float
    high: float
    lesions: int
    patients: int
    unit: str = ""
    test: str = BOOTSTRAP
    effect: str = ""
    expected: tuple[float, float] | None = None
    digits: int = 2

    @property
    def holds(self):
        """True, False, or None where the interval does not decide it or nothing is expected."""
        if self.expected is None or not np.isfinite([self.low, self.high]).all():
            return None
        low, high = self.expected
        inside, apart = low < self.low and self.high < high, self.high <= low or self.low >= high
        return True if inside else False if apart else None

    def __str__(self):
        beyond = {"inf": "not reached", "-inf": "below the range", "nan": "not measured"}
        texts = (f"{number:.{self.digits}f}" for number in (self.value, self.low, self.high))
        value, low, high = (beyond.get(text, text) for text in texts)
        unit = f" {self.unit}" if self.unit and np.isfinite(self.value) else ""
        interval = "" if np.isnan([self.low, self.high]).any() else f" ({low} to {high})"
        return f"{self.measure} {value}{unit}{interval}" + (f", {self.effect}" if self.effect else "")


POSITIVE, NEGATIVE = (0.0, np.inf), (-np.inf, 0.0)
MARGIN = 0.1  # on either side of a score or share that the paper gives
HALF_STEP_MM = 0.5  # on either side of a range of radii, which are multiples of 1 mm


def segmentation(read):
    metrics, lesions = read("03_metrics").set_index("metric"), len(read("03_annotated"))
    paper = {"Dice": 0.60, "nDSC": 0.71}
    return [
        _of_row(metrics.loc[name], name, lesions, expected=(value - MARGIN, value + MARGIN))
        for name, value in paper.items()
    ]


def detection(read):
    metrics, lesions = read("03_metrics").set_index("metric"), len(read("03_annotated"))
    counts = [_of_row(metrics.loc[name], name, lesions, digits=0) for name in ("TP", "FP", "FN")]
    paper = {"TPR": 0.79, "PPV": 0.63, "F1": 0.70}
    return counts + [
        _of_row(metrics.loc[name], name, lesions, expected=(value - MARGIN, value + MARGIN))
        for name, value in paper.items()
    ]


def sign_around_the_border(read):
    true = _saliency(read).query("kind == 'TP' and sequence == 'FLAIR'")
    ring = read("04_ring").query("method == 'smoothgrad_max' and sequence == 'FLAIR' and kind == 'TP'")
    ring = ring.set_index("quantity")
    lowest = f"lowest shell outside (middle at {ring.loc['ring_mm', 'value']:g} mm)"
    return [
        _mean(true, "mean_inside", "mean inside", expected=POSITIVE, digits=3),
        _mean(true, "mean_perilesional", "mean up to 3 mm outside", expected=NEGATIVE, digits=3),
        _of_row(ring.loc["zero_crossing_mm"], "mean changes sign at", len(true), unit="mm", digits=1),
        _of_row(ring.loc["ring"], lowest, len(true), digits=3),
    ]


def flair_against_mprage(read):
    keys = ["subject", "scan", "label"]
    true = _saliency(read).query("kind == 'TP'")
    peaks = true.pivot(index=keys, columns="sequence", values="peak").abs().reset_index()
    peaks["difference"] = peaks["FLAIR"] - peaks["MPRAGE"]
    larger = f"larger in FLAIR in {(peaks['difference'] > 0).sum()} of {len(peaks)} lesions"
    return [_mean(peaks, "difference", "absolute peak, FLAIR - MPRAGE", effect=larger, expected=POSITIVE, digits=3)]


def order_of_kinds(read):
    peaks, kinds = _saliency(read).query("sequence == 'FLAIR'"), ["TP", "FP", "FN", "TN"]
    tests = pairwise_tests(peaks, "peak", "kind", kinds).set_index(["a", "b"])
    measures = []
    for larger, smaller in pairwise(kinds):
        pair = peaks[peaks["kind"].isin([larger, smaller])]
        options = {"n_resamples": N_RESAMPLES, "generator": np.random.default_rng(0)}
        found = bootstrap_cliffs_delta(pair, "peak", "kind", larger, smaller, **options)
        test = f"{BOOTSTRAP}; Mann-Whitney, Holm p = {tests.loc[(larger, smaller), 'p_holm']:.2g}"
        count = len(pair), pair["subject"].nunique()
        measures.append(Measure(f"{larger} over {smaller}", *found, *count, test=test, expected=POSITIVE))
    return measures


def synthetic_lesions(read):
    effects, curves = read("05_effects").set_index("effect"), read("05_psychometric")
    deep = curves[curves["surroundings"] == "deep white matter"]
    size = (curves if len(deep) == len(curves) else curves.drop(deep.index))["diameter_mm"].max()
    measures = [
        Measure(f"{row.sequences} contrast that finds half of {size:g} mm lesions", row.contrast50, row.low, row.high,
                row.n, row.patients, unit="z-scores", digits=1)
        for row in deep[(deep["diameter_mm"] == size) & (deep["sequences"] != "both")].itertuples()
    ]  # fmt: skip
    expected = {
        "FLAIR - MPRAGE": ("share found, inserted in FLAIR only - MPRAGE only", POSITIVE),
        "deep white matter - beside cortex": ("share found, deep in white matter - beside cortex", POSITIVE),
        "FLAIR removed - MPRAGE removed": ("share still found, FLAIR removed - MPRAGE removed", NEGATIVE),
        "moved to grey matter - none": ("share still found, moved to grey matter - unchanged", NEGATIVE),
    }
    return measures + [
        _of_row(effects.loc[name], text, effects.loc[name, "lesions"], expected=where)
        for name, (text, where) in expected.items()
    ]


def context_radius(read):
    """Judged by the paper's fill in mm; with other fills, and in the paper's dilations, it is only reported."""
    paper = {"fraction": ("detected lesions", 6, 8), "score": ("mean score", 12, 15)}
    plateau = read("06_plateau")
    measures = []
    for row in plateau[(plateau["fill"] == "mean") | (plateau["curve"] == "score")].itertuples():
        text, low, high = paper[row.curve]
        unit = "mm" if row.growth == "euclidean" else "dilations"
        rest = "" if row.fill == "mean" else f", rest {row.fill}"
        judged = (low - HALF_STEP_MM, high + HALF_STEP_MM) if unit == "mm" and not rest else None
        measures.append(
            Measure(f"{text}{rest}", row.step95, row.low, row.high, row.lesions, row.patients,
                    unit=unit, expected=judged, digits=0)
        )  # fmt: skip
    return measures


CLAIMS = [
    ("C1", "Segmentation of the test set", "Dice 0.60, nDSC 0.71", segmentation, "03_evaluation", "03_metrics"),
    ("C2", "Lesions of the test set", "3050 TP, 1818 FP, 789 FN; TPR 0.79 (FNR 0.20), PPV 0.63 (FDR 0.37), F1 0.70",
     detection, "03_evaluation", "03_metrics"),
    ("C3", "FLAIR saliency inside and around a TP", "positive inside, negative in the neighbourhood",
     sign_around_the_border, "04_gradient_distributions", "04_saliency"),
    ("C4", "FLAIR against MPRAGE, TP", "larger absolute saliency in FLAIR", flair_against_mprage,
     "04_gradient_distributions", "04_saliency"),
    ("C5", "FLAIR peak saliency by kind (Cliff's delta)", "TP > FP > FN > TN, all pairs p < 0.001", order_of_kinds,
     "04_gradient_distributions", "04_saliency"),
    ("C6", "Synthetic and changed lesions", "FLAIR hyperintensity with healthy white matter around is needed",
     synthetic_lesions, "05_synthetic_lesions", "05_effects"),
    ("C7", "Perilesional tissue needed for 95 % of the plateau", "about 7 mm (6-8), plateau at 12-15 mm", context_radius, "06_context_radius",
     "06_plateau"),
]  # fmt: skip


def ledger(read):
    """One row a measure: claim, statement, paper, measure, value, low, high, lesions, patients, test, effect, expected_low,
    expected_high, holds, verdict (of the claim), text, notebook, file. read: name of a table -> DataFrame."""
    rows = []
    for claim, statement, paper, find, notebook, file in CLAIMS:
        measures = find(read)
        verdict = judge(measures)
        for one in measures:
            row = asdict(one)
            low, high = row.pop("expected") or (np.nan, np.nan)
            front = {"claim": claim, "statement": statement, "paper": paper}
            judged = {
                "expected_low": low,
                "expected_high": high,
                "holds": one.holds,
                "verdict": verdict,
                "text": str(one),
            }
            rows.append(front | row | judged | {"notebook": notebook, "file": file})
    return pd.DataFrame(rows).drop(columns=["digits"])


def judge(measures):
    """Verdict on a claim: see the rule at the head of this module. Measures that are only reported do not count."""
    holds = [one.holds for one in measures if one.expected is not None]
    return "not reproduced" if False in holds else "reproduced" if all(holds) else "inconclusive"


def markdown(table, folder):
    """The ledger in Markdown, one row a claim, with links to files; folder: of the files, as seen from the document."""
    lines = ["| claim | paper | this run | n | verdict | notebook, file |", "| --- | --- | --- | --- | --- | --- |"]
    for claim, rows in table.groupby("claim"):
        first = rows.iloc[0]
        counts = f"{rows['lesions'].max()} lesions, {rows['patients'].max()} patients"
        file = f"`{first['notebook']}` [{first['file']}.csv]({folder}{first['file']}.csv)"
        found = "; ".join(rows["text"])
        lines.append(
            f"| {claim} {first['statement']} | {first['paper']} | {found} | {counts} | **{first['verdict']}** | {file} |"
        )
    return "\n".join(lines)


def _saliency(read):
    return read("04_saliency").query("method == 'smoothgrad_max'")


def _of_row(row, name, lesions, **options):
    return Measure(name, *row[["value", "low", "high"]].astype(float), int(lesions), int(row["patients"]), **options)


def _mean(table, column, name, **options):
    """Measure of the mean of a column over the rows of a table (lesions or sites); NaN without any."""
    table = table.dropna(subset=[column])
    found = (np.nan,) * 3
    if len(table):
        intervals = bootstrap_mean(table, [column], n_resamples=N_RESAMPLES, generator=np.random.default_rng(0))
        found = [float(part[0]) for part in intervals]
    return Measure(name, *found, len(table), table["subject"].nunique(), **options)


def main():
    parser = argparse.ArgumentParser(prog="python -m lib.statistics.claims", description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path)
    parser.add_argument("document", type=Path, nargs="?")
    given = parser.parse_args()
    table = ledger(lambda name: pd.read_csv(given.figures / f"{name}.csv", dtype={"subject": str}))
    write_atomically(given.figures / "claims.csv", lambda file: table.to_csv(file, index=False, float_format="%.6g"))
    write_atomically(given.figures / "claims.md", lambda file: file.write_text(markdown(table, "") + "\n"))
    if given.document:
        start, end = MARKERS
        block = f"{start}\n{markdown(table, f'{given.figures.as_posix()}/')}\n{end}"
        text = re.sub(
            f"{re.escape(start)}.*{re.escape(end)}", lambda _: block, given.document.read_text(), flags=re.DOTALL
        )
        write_atomically(given.document, lambda file: file.write_text(text))


if __name__ == "__main__":
    main()
