"""Run one numbered notebook with papermill, with its parameters in <build>/parameters.

python -m lib.run.runner notebooks/02_training.py --build build/demo --figures figures/demo
"""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from lib.provenance import ROOT, digest, kept_folder, lib_files, run_record, versions, write_atomically, write_json
from lib.run.parameters import decisive

KEPT = "INSTANCE_SALIENCY_KEPT"  # of the environment of a kernel: folder of what it has computed
BESIDE = "04"  # notebooks from this number on run beside one another, and read what those before it wrote (Makefile)
INTERACTIVE = "00_explore"  # made for the screen: no part of the chain
NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.py") if path.stem != INTERACTIVE)


def run_notebook(notebook, build, figures):
    """Execute a notebook with its resolved parameters into `<build>/<name>.ipynb`.

    The executed notebook gets its name only when every cell has succeeded; one that failed is kept as
    `<name>.failed.ipynb`. What `Run.compute_each` has computed until then is kept, and used again if it was made from the
    same. Beside the tables, `provenance/<name>.json` records what was run, how long it took and what
    it wrote; outputs of an earlier execution that were not written again are removed.
    """
    import jupytext
    import papermill
    from traitlets.config import Config

    name = notebook.stem
    parameters = json.loads((build / "parameters" / f"{name}.json").read_text())
    running, failed = build / f"{name}.running.ipynb", build / f"{name}.failed.ipynb"
    failed.unlink(missing_ok=True)
    print(f"{name}: {running}", file=sys.stderr)
    started, kept = time.time(), build / "interrupted" / name
    os.environ[KEPT] = str(kept_folder(kept, *_made_from(notebook, parameters, build, figures)).absolute())
    with tempfile.TemporaryDirectory(prefix="kernel-") as own:  # of this kernel alone: others may run beside it
        source, config = Path(own, f"{name}.ipynb"), Config({"KernelManager": {"transport": "ipc", "ip": f"{own}/ipc"}})
        jupytext.write(jupytext.read(notebook), source)
        try:
            papermill.execute_notebook(
                source, running, parameters, kernel_name="python3", language="python", cwd=notebook.parent.resolve(),
                stdout_file=sys.stdout, stderr_file=sys.stderr, config=config, start_timeout=600,
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            os.replace(running, failed)
            sys.exit(f"{error}\n{name} failed; its cells up to the error are in {failed}")
    _write_provenance(name, parameters, figures, started)
    # What of lib/ the notebook uses, as a make rule that the next `make` includes.
    files = [os.path.relpath(file) for file in lib_files(notebook)]
    rule = f"{build / name}.ipynb: {' '.join(files)}\n" + "".join(f"{file}:\n" for file in files)
    write_atomically(build / "dependencies" / f"{name}.d", lambda file: file.write_text(rule))
    os.replace(running, build / f"{name}.ipynb")
    shutil.rmtree(kept)


def _made_from(notebook, parameters, build, figures):
    """What a notebook's results depend on: parameters, code, packages, the user's files, and what earlier notebooks wrote."""
    before = min(notebook.stem[:2], BESIDE)
    tables = [table for table in sorted(figures.glob("[0-9][0-9]_*.[cj]s*")) if table.name[:2] < before]  # and records
    files = [build / "inputs" / f"{notebook.stem}.json", build / "scans.csv", *sorted((build / "weights").glob("*"))]
    files = [file for file in files if file.is_file()]
    return decisive(parameters), versions(), notebook, *lib_files(notebook), *files, *tables


def _write_provenance(name, parameters, figures, started):
    mine = sorted(file for file in figures.glob(f"{name[:2]}_*") if file.is_file())
    for file in mine:
        if file.stat().st_mtime < started:
            file.unlink()
    record = run_record(name, parameters) | {
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(time.time() - started, 1),
        "peak_memory_gib": peak_memory_gib(resource.RUSAGE_CHILDREN),
        "tables": {file.name: digest(file) for file in mine if file.suffix == ".csv" and file.exists()},
    }
    write_json(figures / "provenance" / f"{name}.json", record)


def peak_memory_gib(who):
    """Largest memory of this process (RUSAGE_SELF), or of one that it started and that ended (RUSAGE_CHILDREN: of a
    notebook the kernel or its worker)."""
    unit = 2**30 if sys.platform == "darwin" else 2**20  # it counts bytes, others KiB
    return round(resource.getrusage(who).ru_maxrss / unit, 2)


def main():
    parser = argparse.ArgumentParser(prog="python -m lib.run.runner", description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    for folder in ("--build", "--figures"):
        parser.add_argument(folder, required=True, type=Path)
    given = parser.parse_args()
    if os.getsid(0) == os.getpid():  # a sweep's, which ends it by this signal, also where nohup and & ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run_notebook(given.notebook, given.build, given.figures)


if __name__ == "__main__":
    main()
