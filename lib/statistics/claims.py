"""The paper's claims judged on what a run found, from its tables alone.

    python -m lib.statistics.claims figures/demo [README.md]

writes `claims.csv` (one row a measure) and `claims.md` beside the tables, and puts the measures that the paper puts
somewhere, and what the sanity checks found, between the MARKERS of a Markdown file if one is given. What the paper says stands in `claims.yml`, how
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
from lib.statistics.documents import ARCHITECTURES, JUDGED, NOT_SWEPT, checks, markdown, summary
from lib.statistics.measures import FIND, annotated, measure
from lib.statistics.networks import collected_tables, measures_over_networks, network_readers
from lib.statistics.verdicts import NEEDS, judged

CLAIMS = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text())
POSITIVE, NEGATIVE = (0.0, np.inf), (-np.inf, 0.0)
MARGIN = 0.1  # on either side of a score or share that the paper gives
HALF_STEP_MM = 0.5  # on either side of a range of radii, which are multiples of 1 mm
MARKERS = "<!-- claims: written by make paper -->", "<!-- end of claims -->"


def ledger(read, networks=(), swept=tuple(CLAIMS)):
    """One row a measure: claim, statement, paper, measure, value, low, high, lesions, patients, unit, test, effect,
    expected_low, expected_high, holds, verdict (of the claim), text, notebook, file; with networks also their number,
    networks, and networks_value, networks_low, networks_high, networks_sd (between them), networks_effect,
    networks_holds, networks_verdict, networks_text.

    read: name of a table -> table of this run.  networks: such a function of each network (`network_readers`).  swept: the
    claims that these networks are judged by.
    """
    table = _measures(read)
    rows = _told(table).drop(columns=["digits", "bounds"])
    if networks:
        over = measures_over_networks(table, [_measures(read) for read in networks])
        over = _told(over, without="no common mean")
        over.loc[~over["claim"].isin(swept), ["text", "verdict"]] = NOT_SWEPT
        over = over[["value", "low", "high", "sd", "effect", "holds", "verdict", "text"]].add_prefix("networks_")
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
    """What a document holds between the MARKERS: the ledger in short, and what the sanity checks of the run in `figures`
    found.

    folder: that of the files, as seen from the document.
    """

    def parameter(table, name):
        return json.loads((figures / f"{table}.json").read_text())["parameters"][name]

    return f"{summary(table, folder, judge_architectures(figures))}\n\n{checks(_reader(figures), parameter, folder)}"


def main():
    parser = argparse.ArgumentParser(prog="python -m lib.statistics.claims", description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path)
    parser.add_argument("document", type=Path, nargs="?")
    given = parser.parse_args()
    table, architectures = judge(given.figures), judge_architectures(given.figures)
    _write(table, given.figures / "claims.csv")
    if architectures is not None:
        _write(architectures, given.figures / f"{JUDGED}.csv")
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
