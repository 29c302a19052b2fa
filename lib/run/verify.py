"""`make verify`: the default run computed anew, or a run made elsewhere, against the tables that are committed.

python -m lib.run.verify    the run is AGAINST, a folder of tables, as the Makefile hands it on; empty: computed anew

Prints a line a table that differs and a line a verdict, writes every number that differs to build/verify/differences.csv,
and ends with 0 if all cells of all tables are the same, 1 if numbers differ and no verdict does, 2 if a verdict differs
or a table cannot be compared.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd

from lib.provenance import ROOT, git_commit, write_atomically
from lib.run.paper import OF_MAKE

COMMITTED = Path("figures", "demo")  # of the default run
OUT = ROOT / "build" / "verify"
COLUMNS = ["table", "row", "column", "committed", "found", "difference", "relative"]


def compare_tables(committed, found):
    """Every cell of two tables (paths of CSV files) that differs: a table with COLUMNS but the first, row by row.

    Rows are compared in their order, columns by name. difference (found - committed) and relative (to the committed
    number) are NaN for texts.  Columns of the sweep of networks that one table has alone are left out.  Raises
    ValueError if other columns or numbers of rows differ.
    """
    ours, theirs = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in (committed, found))
    if bool(_of_networks(ours)) != bool(_of_networks(theirs)):
        ours, theirs = (table.drop(columns=_of_networks(table)) for table in (ours, theirs))
    if odd := set(ours) ^ set(theirs):
        raise ValueError(f"columns {', '.join(sorted(odd))} are in one of the two alone")
    if len(ours) != len(theirs):
        raise ValueError(f"{len(theirs)} rows, {len(ours)} committed")
    rows, columns = np.nonzero(ours.to_numpy() != theirs[list(ours)].to_numpy())
    names = np.array(list(ours), object)[columns]
    cells = pd.DataFrame({"row": rows + 2, "column": names})  # as a text editor counts lines
    cells["committed"], cells["found"] = (one[list(ours)].to_numpy()[rows, columns] for one in (ours, theirs))
    before, now = (pd.to_numeric(cells[name], errors="coerce") for name in ("committed", "found"))
    return cells.assign(difference=now - before, relative=((now - before) / before).abs())


def _of_networks(table):
    return [name for name in table if name.startswith("networks")]


def compare_runs(committed, found):
    """Tables of two folders compared: (cells that differ with COLUMNS, {table: why it cannot be compared}, tables in all)."""
    cells, refused = [], {}
    names = {path.name for folder in (committed, found) for path in folder.glob("*.csv")}
    for name in sorted(names):
        pair = committed / name, found / name
        if missing := [path for path in pair if not path.exists()]:
            refused[name] = "was not made" if missing[0] == pair[1] else "is not committed"
        elif pair[0].read_bytes() != pair[1].read_bytes():
            try:
                cells.append(compare_tables(*pair).assign(table=name))
            except ValueError as error:
                refused[name] = str(error)
    return pd.concat([pd.DataFrame(columns=COLUMNS), *cells])[COLUMNS], refused, len(names)


def verdicts(folder):
    """{claim: verdict} of a run; empty without a ledger."""
    ledger = folder / "claims.csv"
    table = pd.read_csv(ledger) if ledger.exists() else pd.DataFrame(columns=["claim", "verdict"])
    return table.groupby("claim")["verdict"].first().to_dict()


def _has_networks(folder):
    ledger = folder / "claims.csv"
    return ledger.exists() and bool(_of_networks(pd.read_csv(ledger, nrows=0)))


def report(committed, found):
    """Compare two folders of tables in words. Returns (lines, table of cells that differ, exit status)."""
    cells, refused, n_tables = compare_runs(committed, found)
    lines = [f"{name}: {why}" for name, why in refused.items()]
    for name, of_table in cells.groupby("table"):
        numbers = of_table.dropna(subset="relative")
        lines.append(f"{name}: {len(of_table)} cells differ" + _largest(numbers))
    if len({_has_networks(folder) for folder in (committed, found)}) == 2:
        lines.append(
            "claims.csv: compared without its columns networks*, which one run has alone: the sweep of networks is not "
            "computed anew"
        )
    changed = cells["table"].nunique()
    lines.append(f"{n_tables - changed - len(refused)} of {n_tables} tables identical")
    before, now = verdicts(committed), verdicts(found)
    flipped = {claim: (before.get(claim), now.get(claim)) for claim in sorted({*before, *now})}
    flipped = {claim: pair for claim, pair in flipped.items() if pair[0] != pair[1]}
    lines += [
        f"{claim}: {now or 'not judged'}, committed {was or 'not judged'}" for claim, (was, now) in flipped.items()
    ]
    lines.append(f"{len(before) - len(flipped)} of {len(before)} verdicts the same")
    return lines, cells, 2 if flipped or refused else int(changed > 0)


def _largest(numbers):
    if numbers.empty:
        return ""
    worst = numbers.loc[numbers["relative"].idxmax()]
    size = f"{worst['relative']:.1e} of it" if np.isfinite(worst["relative"]) else f"{worst['difference']:.3g}"
    return f", the largest by {size} ({worst['column']} in line {worst['row']}: {worst['found']}, committed {worst['committed']})"


def conditions(committed, found):
    """What the records of two folders say of commit and packages, where they differ: a list of texts."""
    records = [_record(folder) for folder in (committed, found)]
    before, now = (record.get("versions", {}) | {"commit": record.get("commit", "unknown")} for record in records)
    pairs = {name: (now.get(name, "not named"), before.get(name, "not named")) for name in {**before, **now}}
    return [f"made with {name} {one}, committed with {other}" for name, (one, other) in pairs.items() if one != other]


def _record(folder):
    file = folder / "03_metrics.json"
    return json.loads(file.read_text()) if file.exists() else {}


def take_committed(folder):
    """Write the tables of the last commit below a folder: (where, which they are); those that lie here without git."""
    words = ["git", "-C", str(ROOT), "archive", "--format=tar", "HEAD", str(COMMITTED)]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        return ROOT / COMMITTED, "as they lie here, outside a git checkout"
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / COMMITTED, f"of commit {git_commit()[:7]}"


def main():
    given, found = os.environ.get("RUN_AGAINST", ""), OUT / "figures" / "demo"
    if given:
        found = Path(given).expanduser()
        if not list(found.glob("0*.csv")):
            sys.exit(f"AGAINST={given}: there are no tables of a run; give a folder such as figures/demo")
    else:
        environment = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
        words = ["make", "--no-print-directory", "paper", "PROFILE=demo", f"OUT={OUT.relative_to(ROOT)}"]
        if status := subprocess.run(words, cwd=ROOT, env=environment, check=False).returncode:
            sys.exit(status)
    committed, where = take_committed(OUT / "committed")
    lines, cells, status = report(committed, found)
    differences = OUT / "differences.csv"
    write_atomically(differences, lambda file: cells.to_csv(file, index=False))
    print(f"tables in {found}, against those {where}", *conditions(committed, found), *lines, sep="\n")
    if status:
        print(f"every cell that differs: {differences.relative_to(ROOT)}")
    if not given:
        shutil.rmtree(OUT / "build")  # the next one is computed anew; its tables and figures stay
    sys.exit(status)


if __name__ == "__main__":
    main()
