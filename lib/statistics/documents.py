"""What a run found in Markdown: the ledger, whole and in short, with the row of claim C8, and the sanity checks."""

import re
from pathlib import Path

import numpy as np

ARCHITECTURES = {"unet": "U-Net", "dynunet": "nnU-Net", "swinunetr": "Swin UNETR"}  # of C8
JUDGED = "sweeps/architectures/claims_architectures"  # below the figures of a run
SAME = "The same for nnU-Net and Swin UNETR | shown for all three"  # C8, and the paper's word on it
EXPLAINED = ["C3", "C4", "C5", "C6", "C7"]  # claims that C8 is about
NOT_SWEPT = "not in the sweep"  # verdict over networks of a claim whose notebook the sweep has not run


def markdown(table, folder, architectures=None):
    """The whole ledger in Markdown, one row a claim, with links to files; folder: of the files, as seen from the document.

    architectures: of `judge_architectures`; with it there is a row of C8.
    """
    over = "networks" in table
    first = f"mean of {table['networks'].iloc[0]} networks, SD between them | verdict | " if over else ""
    lines = {}
    for claim, rows in table.groupby("claim"):
        one = rows.iloc[0]
        leading = "; ".join(dict.fromkeys(rows["networks_text"])) if over else ""
        leading += f" | {one['networks_verdict']} | " if over else ""
        file = f"`{one['notebook']}` {_link(one['file'], folder)}"
        found = f"{leading}{'; '.join(rows['text'])} | {lesions_and_patients(rows)} | {one['verdict']} | {file}"
        lines[claim] = f"| {claim} {one['statement']} | {one['paper']} | {found} |"
    if architectures is not None:
        verdict, text = same_of_all(architectures)
        leading = f"one training of each | {verdict} | " if over else ""
        found = f"{leading}{text} | {_counts_of_each(architectures)} | {verdict} | `architectures.yml` {_link(JUDGED, folder)}"
        lines["C8"] = f"| C8 {SAME} | {found} |"
    return _table(f"| claim | paper | {first}this run | n | verdict | notebook, file |", lines)


def summary(table, folder, architectures=None):
    """As `markdown`, of each claim the measures that the paper puts somewhere alone, without what is told beside them:
    over networks, or of this run where there are none."""
    over, lines = "networks" in table, {}
    title = f"mean of {table['networks'].iloc[0]} networks" if over else "this run"
    for claim, rows in table.groupby("claim"):
        one, told = rows.iloc[0], rows[rows["expected_low"].notna()]
        swept = over and one["networks_verdict"] != NOT_SWEPT
        prefix = "networks_" if swept else ""
        told = told[[f"{prefix}{name}" for name in ("low", "text", "effect")]].itertuples(index=False)
        found = [text if np.isnan(low) else text.removesuffix(f", {effect}") for low, text, effect in told]
        found = ("this run: " if over and not swept else "") + "; ".join(found)
        found += f" | **{one[f'{prefix}verdict']}** | {one['verdict']} | {lesions_and_patients(rows)} | "
        found += _link(one["file"], folder)
        lines[claim] = f"| {claim} {one['statement']} | {one['paper']} | {found} |"
    if architectures is not None:
        verdict, text = same_of_all(architectures)
        found = f"{text} | **{verdict}** | {verdict} | {_counts_of_each(architectures)} | {_link(JUDGED, folder)}"
        lines["C8"] = f"| C8 {SAME} | {found} |"
    return _table(f"| claim | paper | {title} (95 % interval) | verdict | this run alone | n | table |", lines)


def checks(read, parameter, folder):
    """What the sanity checks of a run found (notebooks 7 and 8), a paragraph of Markdown: how well maps predict the change
    of the score, and how exact so many copies make them.

    read: name of a table -> table.  parameter: names of a table and a parameter -> its value in the notebook that wrote it.
    folder: of the tables, as seen from the document. A sentence without a lesion is left out.
    """
    infidelity, error, n = read("07_infidelity"), read("08_convergence"), parameter("04_saliency", "n_samples")
    means = infidelity[(infidelity["scan"] == "all") & (infidelity["of"] == "relative")].set_index("map")
    error = 100 * error.loc[(error["copies"] == n) & (error["method"] == "SmoothGrad max"), "standard_error"]
    said = []
    if len(means):
        texts = means["value"].map("{:.2f}".format)
        texts += [
            f" ({low:.2f} to {high:.2f})" if low == low else "" for low, high in means[["low", "high"]].to_numpy()
        ]
        chance = 1 - 1 / parameter("07_infidelity", "n_perturbations")
        said.append(
            "The share of the change of the score under noise that a map at its best scale does not predict "
            f"([infidelity]({folder}07_infidelity.csv), 1 for a map of zeros, {chance:.2f} on average for one that tells nothing) is {texts['SmoothGrad']} for SmoothGrad "
            f"of the {parameter('07_infidelity', 'n_samples')} noisy copies of notebook 7, {texts['lesion mask']} for the bare lesion "
            f"mask and {texts['shuffled']} for the SmoothGrad map with its values in random places "
            f"({lesions_and_patients(means)})."
        )
    if len(error):
        said.append(
            f"With the {n} noisy copies of notebook 4 the [standard error]({folder}08_convergence.csv) of a "
            f"signed-maximum map, in the voxel where it is largest, is {error.min():.0f} to {error.max():.0f} % of the "
            f"map's largest magnitude ({counted(len(error), 'lesion')})."
        )
    return " ".join(["**Sanity checks.**", *said]) if said else ""


def counted(n, noun):
    """Number and noun: 1 lesion, 2 lesions."""
    return f"{n:.0f} {noun}{'' if n == 1 else 's'}"


def _link(file, folder):
    return f"[{Path(file).name}]({folder}{file}.csv)"


def lesions_and_patients(rows):
    """How many, in words: 12 lesions, 1 patient; the most of the columns `lesions` and `patients`."""
    return f"{counted(rows['lesions'].max(), 'lesion')}, {counted(rows['patients'].max(), 'patient')}"


def _counts_of_each(architectures):
    """Of the measures that C8 rests on, the fewest and most."""
    rows = architectures[architectures["claim"].isin(EXPLAINED) & architectures["expected_low"].notna()]
    fewest = rows[["lesions", "patients"]].min()
    most = lesions_and_patients(rows).split(", ")
    return ", ".join(f"{least:.0f} to {text}" for least, text in zip(fewest, most, strict=True))


def _table(columns, lines):
    return "\n".join([columns, re.sub("[^|]+", " --- ", columns), *(lines[claim] for claim in sorted(lines))])


def same_of_all(table):
    """Claim C8 of `judge_architectures`: verdict, and what it rests on in words.

    It is reproduced if every measure that the paper puts somewhere, of EXPLAINED, holds for all three networks or is
    contradicted for all, not reproduced if one holds for one network and is contradicted for another, and inconclusive
    otherwise.
    """
    judged = table[table["claim"].isin(EXPLAINED) & table["expected_low"].notna()]
    held = {name: rows["holds"].to_list() for name, rows in judged.groupby("measure", sort=False)}
    opposite = [name for name, of_each in held.items() if {True, False} <= set(of_each)]
    alike = [name for name, of_each in held.items() if of_each in ([True] * 3, [False] * 3)]
    verdict = "not reproduced" if opposite else "reproduced" if len(alike) == len(held) else "inconclusive"
    names = [name for name in ARCHITECTURES.values() if name in set(table["network"])]
    found = table.groupby(["claim", "network"])["verdict"].first().unstack()[names]
    texts = [f"{claim} {row.iloc[0] if row.nunique() == 1 else ' / '.join(row)}" for claim, row in found.iterrows()]
    said = [f"alike in {len(alike)}", f"opposite in {', '.join(opposite) or 'none'}"]
    said.append(f"open in {len(held) - len(alike) - len(opposite)}")
    measures = f"{len(held)} measures of {EXPLAINED[0]} to {EXPLAINED[-1]}: {', '.join(said)}"
    return verdict, f"{' / '.join(names)}: {'; '.join(texts)}; {measures}"
