"""Faults on purpose: the smoke chain is killed, starved and fed with damaged files; what it ends with is compared.

After each fault the same command is given again. `identical` says whether every table is then, byte for byte, that of a run
that nothing disturbed. What takes a fault for a user's error says so, and `said` holds its last line.

    python benchmarks/faults.py

Takes an hour on two cores, writes figures/faults/faults.csv, and keeps what is finished in build/faults/. Mounts of one's own
(the full disk, the folder that cannot be written) need Linux with user namespaces; elsewhere these rows say so.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import lib  # noqa: F401  before numpy: it chooses the kernels

# isort: split
import pandas as pd
import psutil

from lib.provenance import ROOT, digest, run_record, write_atomically
from lib.run import save_table

OF_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
KILLED = {  # what ends at once, by a part of its command line
    "all processes": "",
    "make": "make",
    "the notebook's runner": "lib.run.runner",
    "the notebook's kernel": "ipykernel",
}
DAMAGED = {  # what is cut in half after notebook 3, or while notebook 2 trains
    "probability map": ("03_evaluation", "derivatives/**/*probseg.nii.gz"),
    "saliency map": ("04_gradient_distributions", "saliency/*/*gradcam.nii.gz"),
    "checkpoint of the training": ("02_training", "training.ckpt"),
    "record of what a map was made from": ("03_evaluation", "derivatives/**/inputs.txt"),
    "resolved parameters": ("03_evaluation", "parameters/04_gradient_distributions.json"),
}


def environment():
    """Of every run: another number of threads would train another network."""
    return {name: value for name, value in os.environ.items() if name not in OF_MAKE} | {"OMP_NUM_THREADS": "1"}


def make(out, *words, **options):
    """Start `make paper` in the smoke profile, in a session of its own."""
    command = ["make", "--no-print-directory", "paper", "PROFILE=smoke", f"OUT={out}", *words]
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True} | options
    return subprocess.Popen(command, cwd=ROOT, env=environment(), **given)


def finish(out, *words):
    """Run `make paper` to its end. Returns its exit status and the last line that it said, but for make's own on a failure."""
    with make(out, *words) as process:
        said = process.communicate()[0]
    lines = [line for line in said.replace("\r", "\n").splitlines() if line.strip() and "*** [" not in line]
    return process.returncode, lines[-1] if lines else ""


def tables(out):
    """{table: digest} of the one run in a folder."""
    return {path.name: digest(path) for path in sorted(Path(out, "figures").glob("*/0*.csv"))}


def kill(process, what, generator):
    """End what is asked for among a make and all that it started; returns what was there to end."""
    family = [process, *process.children(recursive=True)]
    marked = [one for one in family if KILLED[what] in " ".join(_command(one))]
    for one in marked if not KILLED[what] else generator.sample(marked, min(1, len(marked))):
        one.kill()
    return bool(marked)


def _command(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def killed(out, expected, seed, wanted):
    """Chains that are killed at random moments and started again, until as many kills are done: a row for each kill."""
    generator, rows, chain = random.Random(seed), [], 0
    while len(rows) < wanted:
        chain += 1
        folder, of_chain = out / f"killed-{chain}", []
        while True:
            process = make(folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds, what = generator.uniform(2, 60), generator.choice(list(KILLED))
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                if kill(psutil.Process(process.pid), what, generator):
                    of_chain.append({"fault": f"kill -9 of {what}", "when": f"after {seconds:.1f} s"})
                process.wait()
                continue
            status, said = finish(folder)
            if "another run is at work" in said:  # what was started by a make that was killed
                time.sleep(5)
                continue
            break
        same = status == 0 and tables(folder) == expected
        rows += [row | {"status": status, "identical": same, "said": said} for row in of_chain]
        shutil.rmtree(folder)
    return rows


def damaged(out, expected):
    """One kept file cut in half each, and the notebooks behind it run again."""
    rows = []
    for what, (notebook, pattern) in DAMAGED.items():
        folder = out / "damaged"
        finish(folder, f"ONLY={notebook}")
        files = sorted((folder / "build" / "smoke").glob(pattern))
        for file in files:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        (folder / "build" / "smoke" / f"{notebook}.ipynb").unlink()
        status, said = finish(folder)
        same = status == 0 and tables(folder) == expected
        rows.append({"fault": f"{what} cut in half", "when": f"{len(files)} files, {notebook} run again"})
        rows[-1] |= {"status": status, "identical": same, "said": said}
        shutil.rmtree(folder)
    return rows


def starved(out, expected):
    """No room, or no right to write, in the folder; then the same command there with it."""
    faults = {"full disk (6 MB)": ("size=6m", "size=1g"), "read-only folder": ("ro", "rw")}
    rows, folder, kept = [], out / "starved", out / "kept"
    for what, (fault, relief) in faults.items():
        folder.mkdir(exist_ok=True)
        run = f"make --no-print-directory paper PROFILE=smoke OUT={folder}"
        script = f"mount -t tmpfs -o {fault} none {folder} && {{ {run}; echo status $?; "
        script += f"mount -o remount,{relief} {folder} && {run} && cp -r {folder} {kept}; }}"
        done = subprocess.run(
            [*OWN_MOUNTS, script], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
        )
        lines = [line for line in (done.stdout + done.stderr).replace("\r", "\n").splitlines() if line.strip()]
        reason = next((line for line in lines if "No space" in line or "Read-only" in line), lines[-1])
        first = next((line for line in lines if line.startswith("status")), "not mounted")
        same = done.returncode == 0 and tables(kept) == expected
        rows.append({"fault": what, "when": f"from the start, {first}", "status": done.returncode})
        rows[-1] |= {"identical": same, "said": reason.strip()}
        shutil.rmtree(kept, ignore_errors=True)
    return rows


def together(out, expected):
    """A second run in the folder of a first."""
    folder = out / "together"
    with make(folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        time.sleep(15)
        status, said = finish(folder, "SET=seed=1")
        first.wait()
    same = first.returncode == 0 and tables(folder) == expected
    shutil.rmtree(folder)
    return [
        {
            "fault": "two runs at once",
            "when": f"second status {status}",
            "status": first.returncode,
            "identical": same,
            "said": said,
        }
    ]


def exchanged(out, cohort, weights):
    """Other images under the same names: in another table of the same name, in place, by another path."""
    scans = pd.read_csv(cohort, dtype=str, keep_default_na=False)[["subject", "session", "flair", "t1w", "lesions"]]
    first, images = scans.iloc[:2], scans.iloc[2:4]
    second = images.assign(subject=first["subject"].to_numpy(), session=first["session"].to_numpy())
    given = f"WEIGHTS={weights}", "SET=04_gradient_distributions.n_per_kind=2"

    def run(folder, table):
        status, said = finish(out / folder, f"DATA={table}", *given)
        runs = sorted((out / folder / "figures").iterdir(), key=lambda run: (run / "claims.csv").stat().st_mtime)
        return status, said, {path.name: digest(path) for path in sorted(runs[-1].glob("0*.csv"))}

    def write(folder, table, copied=False):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for name in ("flair", "t1w", "lesions") if copied else ():
            places = [out / folder / f"{name}{number}.nii.gz" for number in range(len(table))]
            table = table.assign(**{name: list(map(str, map(shutil.copy, table[name], places)))})
        table.to_csv(out / folder / "scans.tsv", sep="\t", index=False)
        return out / folder / "scans.tsv"

    *_, of_first = run("clean-first", write("data, first", first))
    *_, of_second = run("clean-second", write("data, second", second))
    run("exchanged", write("mine", first, copied=True))
    faults = [
        ("another table of the same name and subjects", ("other", second, True), of_second),
        ("images exchanged in place", ("mine", second, True), of_second),
        ("paths corrected in the table", ("mine", first), of_first),
    ]
    rows = []
    for what, change, clean in faults:
        status, said, found = run("exchanged", write(*change))
        same = status == 0 and found == clean
        rows.append({"fault": what, "when": "between two runs", "status": status, "identical": same, "said": said})
    for folder in ("exchanged", "clean-first", "clean-second", "mine", "other", "data, first", "data, second"):
        shutil.rmtree(out / folder)
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "faults")
    parser.add_argument("--out", type=Path, default=ROOT / "figures" / "faults")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    undisturbed = given.work / "undisturbed"
    status, said = finish(undisturbed)
    assert status == 0, said
    expected, build = tables(undisturbed), undisturbed / "build" / "smoke"
    parts = {
        "together": lambda: together(given.work, expected),
        "starved": lambda: starved(given.work, expected),
        "damaged": lambda: damaged(given.work, expected),
        "exchanged": lambda: exchanged(given.work, build / "scans.csv", build / "weights" / "unet.safetensors"),
        "killed": lambda: killed(given.work, expected, given.seed, given.kills),
    }
    rows = []
    for name, part in parts.items():
        done = given.work / f"{name}.json"
        if not done.exists():
            text = json.dumps(part(), indent=1)
            write_atomically(done, lambda file, text=text: file.write_text(text))
        rows += json.loads(done.read_text())
        print(name, *(f"{row['fault']}, {row['when']}: {row['identical']}" for row in rows), sep="\n  ", flush=True)
    record = run_record("faults", {"kills": given.kills, "seed": given.seed, "profile": "smoke"})
    table = pd.DataFrame(rows)
    save_table(table.assign(said=table["said"].str.replace(str(given.work), "<folder>")), given.out / "faults", record)


if __name__ == "__main__":
    main()
