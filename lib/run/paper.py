"""`make paper`: checks what is asked for, and hands the notebooks over to make, which runs those that are not up to date.

python -m lib.run.paper    settings are taken from the environment, as the Makefile hands them on
"""

import fcntl
import os
import subprocess
import sys
from contextlib import contextmanager

from lib.digits import other_machine
from lib.provenance import ROOT
from lib.run.paths import foreign_tables
from lib.run.settings import Settings, write_parameters

OF_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # of the make that called: it is not the one that runs the notebooks


@contextmanager
def one_at_a_time(folder):
    """Keep other runs from a folder. Raises ValueError if one is at work there.

    Processes that are started with ``close_fds=False``, or take the place of this one, hold the lock too: as long as one of
    them lives, even if this one is killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run is at work in {folder}: wait for it, or end it") from None
        os.set_inheritable(file.fileno(), True)
        yield


def check_weights(resolved):
    """Try the weights among resolved parameters, whether they have the layer, and the voxels of the scans, before anything runs.

    Raises CalledProcessError if they cannot be used."""
    names = ("weights", "initial")
    given = {f"{name}={values[name]}" for values in resolved.values() for name in names if values.get(name)}
    given |= {f"layer={values['layer']}" for values in resolved.values() if values.get("weights") and "layer" in values}
    if given:
        cohort, split = resolved["00_cohort"], resolved["01_data_split"]
        scans = [f"{name}={split[name]}" for name in ("data", "choose") if split["data"]]
        scans = scans or [f"spacing_mm={cohort['spacing_mm']}"]
        subprocess.run([sys.executable, "-m", "lib.network.loaded", *sorted(given), *scans], cwd=ROOT, check=True)


def main():
    try:
        settings = Settings.given()
        resolved = settings.parameters()
        on_gpu = any(values.get("device", "cpu") != "cpu" for values in resolved.values())
        if where := other_machine() or ("a GPU" if on_gpu else ""):
            print(f"this is {where}: last digits differ from those of x86-64 processors with AVX2", file=sys.stderr)
        with one_at_a_time(settings.build):
            write_parameters(resolved, settings.build)
            for notebook, tables in foreign_tables(settings.figures).items():
                print(f"{notebook} runs again: others wrote {', '.join(tables)}, or lesions changed", file=sys.stderr)
                (settings.build / f"{notebook}.ipynb").unlink(missing_ok=True)
            check_weights(resolved)
            if settings.scheduler:
                subprocess.run([sys.executable, "-m", "lib.run.workers", settings.scheduler], cwd=ROOT, check=True)
            chain = " ".join(path.stem for path in settings.notebooks)
            given = {"BUILD": settings.build, "FIGURES": settings.figures, "CHAIN": chain, "ONLY": settings.only}
            given["COHORT"] = "" if settings.data else "00_cohort"
            command = ["make", "--no-print-directory", f"--jobs={settings.jobs}", "chain"]
            environment = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
            os.execvpe("make", [*command, *(f"{name}={value}" for name, value in given.items())], environment)
    except ValueError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:  # it has said why
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
