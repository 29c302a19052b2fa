"""Work on many items (scans, lesions): computed in this process one by one, or on a Dask cluster.

python -m lib.run.workers tcp://127.0.0.1:8786    how many workers this scheduler has
"""

import pickle
import reprlib
import sys
import threading
import time
import uuid
from functools import partial
from pathlib import Path

from tqdm import tqdm

from lib.digits import BEFORE, FILE, KERNELS, LATE
from lib.provenance import ROOT, digest, write_atomically
from lib.threads import one_thread

CODE = digest(*sorted((ROOT / "lib").rglob("*.py")), FILE)  # as it was when this process started
TOGETHER = 8  # lesions of a scan, at most, in one item
SAID_S = 5  # an item that takes longer is told of, before the others begin
DEATHS = 20  # of workers that an item survives; each counts for every item that the worker was about to compute
SHORT = reprlib.Repr()
SHORT.maxdict, SHORT.maxtuple, SHORT.maxstring, SHORT.maxother = 10, 10, 60, 60
_one_at_a_time = threading.RLock()  # a network is changed while it is explained (hooks, frozen weights)


def compute_each(function, items, *, scheduler="", desc, sizes=None, kept=None):
    """[function(item) for item in items], computed in this process or on a Dask cluster; desc labels the progress bar.

    In this process the time that the first item took is said, and that of the others at its pace.
    sizes: voxels of each item where its time goes with them; the bar counts these then, and tells the time that is left.
    scheduler: address such as "tcp://127.0.0.1:8786"; "" for this process. Function and items are sent to the workers:
    give names and paths of scans and networks (`lib.network.loaded` reads them), not their contents. Every number is
    computed with one thread, so that results do not depend on where. The items of a worker that dies are given to
    others. An error of the function is raised with a note that names the item; it, or an interrupt, drops those not
    yet begun. Raises OSError if no scheduler answers, RuntimeError if a worker runs other code than this process or was
    started without the settings of `lib.digits`.
    kept: folder in which each result is kept as soon as it is there, and found if the same call is made again.
    """
    items, compute = list(items), partial(_compute, function, (CODE, KERNELS))
    files = [kept and Path(kept, f"{desc}-{number:06d}.pickle") for number in range(len(items))]
    results = [pickle.loads(file.read_bytes()) if file and file.exists() else None for file in files]
    missing = [number for number, file in enumerate(files) if not (file and file.exists())]
    unit, sizes = "voxel" if sizes else "it", sizes or [1] * len(items)
    left = sum(sizes[number] for number in missing)
    bar = tqdm(total=sum(sizes), initial=sum(sizes) - left, desc=desc, mininterval=2, unit=unit)

    def keep(number, result):
        results[number] = result
        if files[number]:
            write_atomically(files[number], lambda file: file.write_bytes(pickle.dumps(result)))
        bar.update(sizes[number])

    if not scheduler:
        with bar:
            for number in missing:
                started = time.perf_counter()
                keep(number, _naming(items[number], compute, items[number]))
                if number == missing[0] and (took := time.perf_counter() - started) > SAID_S:
                    rest = took * (left / sizes[number] - 1) / 60
                    bar.write(
                        f"{desc}: the first of {len(missing)} took {took:.0f} s, at that pace the rest {rest:.1f} minutes"
                    )
        return results
    from distributed import as_completed

    with bar, _connected(scheduler) as client:
        run, given = uuid.uuid4().hex, [items[number] for number in missing]
        futures = client.map(compute, given, key=[f"{desc}-{run}-{number:06d}" for number in missing])
        numbers = dict(zip(futures, missing, strict=True))
        del futures
        for future in as_completed(list(numbers), loop=client.loop):
            number = numbers.pop(future)  # a result is dropped by the cluster when it is here
            keep(number, _naming(items[number], future.result))
    return results


def group_by_scan(lesions, scans):
    """Items for which a scan is read and prepared once: [(row of the scans table, [row of a lesion in it, ...]), ...].

    lesions: dicts with a scan. scans: {scan: dict}. An item has at most `TOGETHER` lesions; all keep their order, if
    those of a scan follow one another.
    """
    found = {}
    for lesion in lesions:
        found.setdefault(lesion["scan"], []).append(lesion)
    parts = [(name, rows[at : at + TOGETHER]) for name, rows in found.items() for at in range(0, len(rows), TOGETHER)]
    return [(scans[name], rows) for name, rows in parts]


def _compute(function, asked, item):
    code, kernels = asked
    if code != CODE:
        raise RuntimeError("this worker runs other code of lib/ than the process that asks: restart the workers")
    if KERNELS == LATE != kernels:
        raise RuntimeError(f"this worker would compute other last digits: start workers after `{BEFORE}`")
    with _one_at_a_time, one_thread():
        return function(item)


def _naming(item, compute, *given):
    """compute(*given), whose error names the item."""
    try:
        return compute(*given)
    except Exception as error:
        error.add_note(f"The item was {SHORT.repr(item)}")
        raise


def _connected(scheduler):
    from distributed import Client

    def survive_deaths(dask_scheduler):
        dask_scheduler.allowed_failures = max(dask_scheduler.allowed_failures, DEATHS)

    client = Client(scheduler, set_as_default=False)
    client.run_on_scheduler(survive_deaths)
    if not client.nthreads():
        print(f"{scheduler} has no worker yet: waiting for one")
    return client


def main():
    address = sys.argv[1]
    try:
        with _connected(address) as client:
            print(f"{address}: {len(client.nthreads())} workers")
    except (OSError, ValueError) as error:
        sys.exit(f"{address}: {error}\nstart a Dask scheduler as the README says, or leave SCHEDULER out")


if __name__ == "__main__":
    main()
