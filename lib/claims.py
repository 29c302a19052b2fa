"""The paper's claims beside what a run found, taken from its tables.

    python -m lib.claims figures/demo [README.md]

writes `claims.csv` and `claims.md` beside the tables, and puts the table between the markers of a Markdown file if one is
given. One function a claim: it takes `read`, which returns a table of the run by name, and returns a text.
"""

import argparse
import re
from pathlib import Path

import pandas as pd

from lib.provenance import write_atomically

MARKERS = "<!-- claims: written by make paper -->", "<!-- end of claims -->"


def segmentation(read):
    metrics = read("03_metrics").set_index("metric")
    return ", ".join(f"{name} {_interval(metrics.loc[name])}" for name in ("Dice", "nDSC"))


def detection(read):
    metrics = read("03_metrics").set_index("metric")
    counts = ", ".join(f"{metrics.loc[name, 'value']:.0f} {name}" for name in ("TP", "FP", "FN"))
    return f"{counts}; " + ", ".join(
        f"{name} {_interval(metrics.loc[name])}" for name in ("TPR", "FDR", "FNR", "F1", "PPV")
    )


def sign_around_the_border(read):
    shells = read("04_profile").query("method == 'smoothgrad_max' and sequence == 'FLAIR' and kind == 'TP'")
    shells = shells.rename(columns={"mean": "value"}).set_index("distance_mm")
    inside, outside = shells[shells.index < 0], shells[shells.index > 0]
    lowest = outside["value"].idxmin()
    return (
        f"TP, FLAIR, mean in shells of 1 mm: {_interval(inside.iloc[-1], '+.3f')} logit per z-score just inside the border; "
        f"lowest outside {_interval(outside.loc[lowest], '+.3f')}, at {lowest:g} mm"
    )


def flair_against_mprage(read):
    rows = _peaks(read, "TP").pivot(index=["scan", "label"], columns="sequence", values="peak").abs()
    return (
        f"TP: median absolute peak {rows['FLAIR'].median():.3f} in FLAIR, {rows['MPRAGE'].median():.3f} in MPRAGE; larger "
        f"in FLAIR in {(rows['FLAIR'] > rows['MPRAGE']).sum()} of {len(rows)} lesions"
    )


def order_of_kinds(read):
    peaks = read("04_saliency").query("method == 'smoothgrad_max' and sequence == 'FLAIR'")
    medians = peaks.groupby("kind")["peak"].median().sort_values(ascending=False)
    tests = read("04_tests").query("method == 'smoothgrad_max' and sequence == 'FLAIR'")["p_holm"].dropna()
    order = " > ".join(f"{kind} {value:.3f}" for kind, value in medians.items())
    return f"median FLAIR peak {order}; {(tests < 0.001).sum()} of {len(tests)} pairs differ at Holm p < 0.001"


def synthetic_lesions(read):
    response = read("05_response")
    strongest = response[response["contrast"] == response["contrast"].max()]
    detected = (strongest["detected"] * strongest["n"]).groupby(strongest["sequences"]).sum()
    n = strongest.groupby("sequences")["n"].sum()
    texts = [f"{name} {detected[name]:.0f} of {n[name]:.0f}" for name in ("FLAIR", "MPRAGE", "both")]
    changes = read("05_changes").groupby("change")["detected"].agg(["sum", "size"])
    after = [f"{name} {row['sum']:.0f} of {row['size']:.0f}" for name, row in changes.iterrows() if name != "none"]
    return (
        f"inserted at {strongest['contrast'].max():g} z-scores, detected: {', '.join(texts)}; "
        f"detected lesions still detected after: {', '.join(after)}"
    )


def context(read):
    overall = read("06_plateau").query("scan == 'all'").set_index("label").rename(columns={"radius95_mm": "value"})
    texts = {"fraction": "detected lesions", "score": "mean score"}
    return "95 % of the plateau at " + ", ".join(
        f"{_interval(overall.loc[name], '.0f')} mm ({text})" for name, text in texts.items()
    )


CLAIMS = [
    ("C1", "Segmentation of the test set", "Dice 0.60, nDSC 0.71", segmentation, "03_evaluation", "03_metrics"),
    ("C2", "Lesions of the test set", "3050 TP, 1818 FP, 789 FN; TPR 79 %, FDR 37 %, FNR 20 %, F1 0.70, PPV 0.63",
     detection, "03_evaluation", "03_lesions"),
    ("C3", "FLAIR saliency inside and around a lesion", "positive inside, negative in the neighbourhood",
     sign_around_the_border, "04_gradient_distributions", "04_profile"),
    ("C4", "FLAIR against MPRAGE", "larger absolute saliency in FLAIR", flair_against_mprage,
     "04_gradient_distributions", "04_saliency"),
    ("C5", "Peak saliency by kind", "TP > FP > FN > TN, all pairs p < 0.001", order_of_kinds,
     "04_gradient_distributions", "04_peaks"),
    ("C6", "Synthetic lesions", "FLAIR hyperintensity with healthy white matter around is needed", synthetic_lesions,
     "05_synthetic_lesions", "05_response"),
    ("C7", "Perilesional tissue needed", "about 7 mm, plateau at 12-15 mm", context, "06_context_radius", "06_context"),
]  # fmt: skip


def claims_table(read):
    """Table claim, statement, paper, this_run, notebook, file: one row a claim. read: name of a table -> DataFrame."""
    rows = [(claim, what, paper, find(read), notebook, file) for claim, what, paper, find, notebook, file in CLAIMS]
    return pd.DataFrame(rows, columns=["claim", "statement", "paper", "this_run", "notebook", "file"])


def markdown(table, folder):
    """The table in Markdown, with links to notebooks and files; folder: of the files, as seen from the document."""
    lines = ["| claim | paper | this run | notebook | file |", "| --- | --- | --- | --- | --- |"]
    for row in table.itertuples():
        suffix = "png" if row.file in ("04_profile", "04_peaks", "05_response", "06_context") else "csv"
        file = f"{row.file}.{suffix}"
        lines.append(
            f"| {row.claim} {row.statement} | {row.paper} | {row.this_run} | `{row.notebook}` | [{file}]({folder}{file}) |"
        )
    return "\n".join(lines)


def _peaks(read, kind):
    return read("04_saliency").query("method == 'smoothgrad_max' and kind == @kind")


def _interval(row, form=".2f"):
    return f"{row['value']:{form}} ({row['low']:{form}} to {row['high']:{form}})"


def main():
    parser = argparse.ArgumentParser(prog="python -m lib.claims", description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path)
    parser.add_argument("document", type=Path, nargs="?")
    given = parser.parse_args()
    table = claims_table(lambda name: pd.read_csv(given.figures / f"{name}.csv", dtype={"subject": str}))
    write_atomically(given.figures / "claims.csv", lambda file: table.to_csv(file, index=False))
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
