"""The paper's claims judged on what a run found, from its tables alone.

    python -m lib.statistics.claims figures/demo [README.md]

writes `claims.csv` (one row a measure) and `claims.md` beside the tables, and puts the table, and what the sanity
checks found, between the MARKERS of a Markdown file if one is given. What the paper says stands in `claims.yml`, how
the measures of a claim are found in `measures.py`. One rule judges every run: a measure holds if its whole 95 %
interval lies where the paper says, is contradicted if none of it does, and is open otherwise, as it is without
variation (an interval without width) and with fewer than FEWEST patients. A claim is reproduced if all its measures
hold, not reproduced if one is contradicted, and inconclusive otherwise; without a lesion there is nothing to judge.
Without an annotated test scan, claims whose measures need one say so in place of the latter two. A claim whose notebook
has not run is left out.
Where the folder has the sweep of networks (notebooks/sweeps/networks.yml) of this run, the same rule also judges the
mean over networks with its interval over networks and patients. Where it has that of architectures, the same measures
of each are judged in a table of the sweep, and compared in claim C8.
"""

import argparse
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lib.provenance import write_atomically
from lib.statistics.checks import checks, counted
from lib.statistics.measures import FIND, annotated, measure
from lib.statistics.networks import collected_tables, measures_over_networks, network_readers
from lib.statistics.verdicts import NEEDS, judged

CLAIMS = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text())
POSITIVE, NEGATIVE = (0.0, np.inf), (-np.inf, 0.0)
MARGIN = 0.1  # on either side of a score or share that the paper gives
HALF_STEP_MM = 0.5  # on either side of a range of radii, which are multiples of 1 mm
ARCHITECTURES = {"unet": "U-Net", "dynunet": "nnU-Net", "swinunetr": "Swin UNETR"}  # of C8
JUDGED = Path("sweeps", "architectures", "claims_architectures.csv")  # below the figures of a run
EXPLAINED = ["C3", "C4", "C5", "C6", "C7"]  # claims that C8 is about
NOT_SWEPT = "not in the sweep"  # verdict over networks of a claim whose notebook the sweep has not run
MARKERS = "<!-- claims: written by make paper -->", "<!-- end of claims -->"


def ledger(read, networks=(), swept=tuple(CLAIMS)):
    """One row a measure: claim, statement, paper, measure, value, low, high, lesions, patients, unit, test, effect,
    expected_low, expected_high, holds, verdict (of the claim), text, notebook, file; with networks also their number,
    networks, and networks_value, networks_low, networks_high, networks_sd (between them), networks_holds,
    networks_verdict, networks_text.

    read: name of a table -> table of this run.  networks: such a function of each network (`network_readers`).  swept: the
    claims that these networks are judged by.
    """
    table = _measures(read)
    rows = _told(table).drop(columns=["digits", "bounds"])
    if networks:
        over = measures_over_networks(table, [_measures(read) for read in networks])
        over = _told(over, without="no common mean")
        over.loc[~over["claim"].isin(swept), ["text", "verdict"]] = NOT_SWEPT
        over = over[["value", "low", "high", "sd", "holds", "verdict", "text"]].add_prefix("networks_")
        rows = rows.join(over.assign(networks=len(networks)))
    return rows.join(pd.DataFrame.from_dict(CLAIMS, orient="index")[["notebook", "file"]], on="claim")


def _swept(figures, sweep):
    """The claims whose table a sweep in figures/sweeps has collected."""
    collected = collected_tables(figures, sweep)
    return [claim for claim, facts in CLAIMS.items() if facts["file"] in collected]


def _measures(read):
    """Measures of all claims as their functions find them, and those that are expected and not found, as NaN; none of a
    claim whose tables are missing."""
    rows, lacking = [], "" if annotated(read) else NEEDS
    for claim, facts in CLAIMS.items():
        front = {"claim": claim, "statement": facts["statement"], "paper": facts["paper"]}
        try:
            found = FIND[claim](read)
        except FileNotFoundError:
            continue
        present = {one["measure"] for one in found}
        for name in (name for name in facts["expected"] if name not in present):
            unit = "mm" if isinstance(facts["expected"][name], list) else ""
            found.append(measure(name, [np.nan] * 3, 0, 0, unit=unit, effect=lacking))
        for one in found:
            low, high = _where(facts["expected"].get(one["measure"]), one["unit"]) or (np.nan, np.nan)
            bounds = facts.get("bounds", {}).get(one["unit"], (-np.inf, np.inf))
            rows.append(front | one | {"expected_low": low, "expected_high": high, "bounds": bounds})
    return pd.DataFrame(rows)


def _told(table, without="not measured"):
    """Measures judged, and in words; without: what is said where there is no value."""
    table = judged(table)
    return table.assign(text=[_text(without, **row) for row in table.to_dict("records")])


def markdown(table, folder, architectures=None):
    """The ledger in Markdown, one row a claim, with links to files; folder: of the files, as seen from the document.

    architectures: of `judge_architectures`; with it there is a row of C8.
    """
    over = "networks" in table
    first = f"mean of {table['networks'].iloc[0]} networks, SD between them | verdict | " if over else ""
    columns = f"| claim | paper | {first}this run | n | verdict | notebook, file |"
    lines = {}
    for claim, rows in table.groupby("claim"):
        one = rows.iloc[0]
        own, of_networks = one["verdict"], one["networks_verdict"] if over else NOT_SWEPT
        own, of_networks = (f"**{own}**", of_networks) if of_networks == NOT_SWEPT else (own, f"**{of_networks}**")
        leading = f"{'; '.join(dict.fromkeys(rows['networks_text']))} | {of_networks} | " if over else ""
        counts = f"{counted(rows['lesions'].max(), 'lesion')}, {counted(rows['patients'].max(), 'patient')}"
        file = f"`{one['notebook']}` [{one['file']}.csv]({folder}{one['file']}.csv)"
        found = f"{leading}{'; '.join(rows['text'])} | {counts} | {own} | {file}"
        lines[claim] = f"| {claim} {one['statement']} | {one['paper']} | {found} |"
    if architectures is not None:
        verdict, text = same_of_all(architectures)
        counts = f"{architectures['lesions'].max()} lesions, {architectures['patients'].max()} patients"
        file = f"`architectures.yml` [{JUDGED.name}]({folder}{JUDGED.as_posix()})"
        leading = f"one training of each | **{verdict}** | " if over else ""
        found = f"{leading}{text} | {counts} | {verdict if over else f'**{verdict}**'} | {file}"
        lines["C8"] = f"| C8 The same for nnU-Net and Swin UNETR | shown for all three | {found} |"
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
    counted = f"{len(held)} measures of {EXPLAINED[0]} to {EXPLAINED[-1]}: {', '.join(said)}"
    return verdict, f"{' / '.join(names)}: {'; '.join(texts)}; {counted}"


def _where(said, unit):
    """(low, high) of what is said in `expected` of claims.yml: of a range, for a measure in mm alone."""
    if isinstance(said, float):
        return said - MARGIN, said + MARGIN
    if isinstance(said, list):
        return (said[0] - HALF_STEP_MM, said[1] + HALF_STEP_MM) if unit == "mm" else None
    return {"positive": POSITIVE, "negative": NEGATIVE, None: None}[said]


def _text(without, measure, value, low, high, unit, effect, digits, **_):
    if effect == NEEDS:
        return f"{measure} {NEEDS}"
    beyond = {"inf": "not reached", "-inf": "below the range", "nan": without}
    texts = [f"{number:.{digits}f}" for number in (value, low, high)]
    found, *interval = (beyond.get(text, text) for text in texts)
    found += f" {unit}" if unit and np.isfinite(value) else ""
    interval = "no variation" if low == high and np.isfinite(low) else " to ".join(interval)
    found += "" if np.isnan([low, high]).any() else f" ({interval})"
    return f"{measure} {found}" + (f", {effect}" if effect else "")


def judge(figures):
    """The ledger of the run in a folder, and over networks where it has their sweep."""
    networks = list(network_readers(figures).values())
    return ledger(_reader(figures), networks, _swept(figures, "networks") if networks else ())


def judge_architectures(figures):
    """The ledger of each network of the sweep of architectures, after its name; None where the run has no such sweep."""
    found = network_readers(figures, "architectures", shared="03")  # its lesions are fewer from notebook 4 on
    rows = [ledger(found[name]).assign(network=text) for name, text in ARCHITECTURES.items() if name in found]
    rows = [of_one[of_one["claim"].isin(_swept(figures, "architectures"))] for of_one in rows]
    names = ["claim", "statement", "measure", "network", "value", "low", "high", "unit", "lesions", "patients"]
    names += ["expected_low", "expected_high", "holds", "verdict", "text"]
    return pd.concat(rows, ignore_index=True)[names] if rows else None


def _reader(figures):
    return cache(lambda name: pd.read_csv(figures / f"{name}.csv", dtype={"subject": str}))


def findings(table, figures, folder):
    """What a document holds between the MARKERS: the ledger, and what the sanity checks of the run in `figures` found.

    folder: that of the files, as seen from the document.
    """

    def copies(name):
        return json.loads((figures / f"{name}.json").read_text())["parameters"]["n_samples"]

    return f"{markdown(table, folder, judge_architectures(figures))}\n\n{checks(_reader(figures), copies, folder)}"


def main():
    parser = argparse.ArgumentParser(prog="python -m lib.statistics.claims", description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path)
    parser.add_argument("document", type=Path, nargs="?")
    given = parser.parse_args()
    table, architectures = judge(given.figures), judge_architectures(given.figures)
    _write(table, given.figures / "claims.csv")
    if architectures is not None:
        _write(architectures, given.figures / JUDGED)
    text = markdown(table, "", architectures) + "\n"
    write_atomically(given.figures / "claims.md", lambda file: file.write_text(text))
    if given.document:
        (start, end), folder = MARKERS, f"{given.figures.as_posix()}/"
        block = f"{start}\n{findings(table, given.figures, folder)}\n{end}"
        text = re.sub(f"{start}.*{end}", lambda _: block, given.document.read_text(), flags=re.DOTALL)
        write_atomically(given.document, lambda file: file.write_text(text))


def _write(table, path):
    write_atomically(path, lambda file: table.to_csv(file, index=False, float_format="%.6g"))


if __name__ == "__main__":
    main()
