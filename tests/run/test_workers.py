"""Items of work in this process and on a real Dask cluster: the same results, deaths survived, errors that name the item."""

import os
import pickle
import signal
import threading
import time
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from lib.cohort.phantom import make_cohort
from lib.digits import LATE, PINNED
from lib.network.architectures import build_network
from lib.network.loaded import loaded_network, loaded_scan
from lib.network.weights import save_weights
from lib.network.work import evaluate_scan, predict_scan
from lib.run import workers
from lib.run.workers import compute_each, group_by_scan
from lib.saliency.maps import lesion_maps
from lib.scans.images import with_digests
from lib.scans.maps import load_map
from lib.scans.table import find_scans


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes; the scheduler itself gives an item up at the first death."""
    from dask import config
    from distributed import LocalCluster

    options = {"threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    with config.set({"distributed.scheduler.allowed-failures": 0}):
        cluster = LocalCluster(processes=True, n_workers=2, **options)
    with cluster:
        yield cluster


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Rows of a tiny cohort, and the file of an untrained network."""
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder / "bids", n_subjects=2, n_two_sessions=1, seed=0, spacing_mm=4.0, workers=1)
    torch.manual_seed(0)
    architecture, weights = {"name": "unet", "channels": [4, 8], "strides": [2]}, folder / "unet.safetensors"
    save_weights(build_network(**architecture), weights, architecture=architecture, window=16)
    return with_digests(find_scans(folder / "bids")).to_dict("records"), weights


class Folder:
    """Paths of maps, as `run.Run.map` gives them."""

    def __init__(self, folder):
        self.folder = folder

    def map(self, scan, description):
        return self.folder / scan / f"{scan}_{description}.nii.gz"  # a folder each, which is emptied for other inputs


def explain_scan(row, *, weights, path, dying=()):
    """Predict, evaluate and explain one scan, after the death of this process if there is a file that asks for it."""
    die_once(row["scan"], dying)
    probability = load_map(predict_scan(row, weights=weights, device="cpu", path=path))
    outline, threshold = (float(np.quantile(probability, share)) for share in (0.999, 0.9995))
    tables = evaluate_scan(row, threshold=threshold, outline=outline, path=path, instances={})
    lesion = load_map(path(row["scan"], "desc-pred_dseg")) == 1
    options = {
        "n_samples": 5,
        "noise_fraction": 0.05,
        "peak_voxels": 2,
        "layer": "model.0.conv",
        "seed": 0,
        "identity": [row["scan"]],
    }
    found = lesion_maps(loaded_network(weights, "cpu")[0], loaded_scan(row).image, lesion, **options)
    return *tables, pd.DataFrame({name: values.ravel()[values.ravel() != 0][:50] for name, values in found.items()})


def die_once(item, dying):
    for file in dying:
        if Path(file).name.startswith(str(item)) and Path(file).exists():
            Path(file).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
    return item


def slow(item, folder):
    time.sleep(0.1)
    Path(folder, str(item)).touch()


def unlucky(item):
    if item["scan"] == "sub-013":
        raise ValueError("no luck")
    return item["scan"]


@pytest.fixture(scope="module")
def expected(inputs, tmp_path_factory):
    """Tables computed in this process with two threads."""
    rows, weights = inputs
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    work = partial(explain_scan, weights=weights, path=Folder(tmp_path_factory.mktemp("here")).map)
    tables = compute_each(work, rows, desc="here")
    torch.set_num_threads(before)
    assert len(tables) == 3
    return tables


def test_a_worker_that_was_started_without_the_settings_is_refused(monkeypatch):
    monkeypatch.setattr(workers, "KERNELS", LATE)
    assert compute_each(abs, [-1], desc="both without") == [1]
    compute = partial(workers._compute, abs, (workers.CODE, PINNED))  # as a process with the settings asks for it
    with pytest.raises(RuntimeError, match="other last digits: start workers after `export"):
        compute(-1)


@pytest.mark.parametrize(("n_workers", "deaths"), [(1, 0), (2, 0), (2, 1)])
def test_the_tables_are_the_same_to_the_last_digit_wherever_they_are_computed(
    cluster, inputs, expected, tmp_path, n_workers, deaths
):
    rows, weights = inputs
    dying = [tmp_path / f"{row['scan']}-dies" for row in rows[1 : 1 + deaths]]
    for file in dying:
        file.touch()
    cluster.scale(n_workers)
    work = partial(explain_scan, weights=weights, path=Folder(tmp_path).map, dying=dying)
    found = compute_each(work, rows, scheduler=cluster.scheduler_address, desc="scans")
    for tables, others in zip(expected, found, strict=True):
        for table, other in zip(tables, others, strict=True):
            assert len(table)
            pd.testing.assert_frame_equal(table, other, check_exact=True)
    assert not any(file.exists() for file in dying)


def compute_or_die(task, dying=()):
    """One (name, function, item) of `lesion_work`."""
    name, function, item = task
    die_once(name, dying)
    return function(item)


def tasks(work, folder):
    """All items of work of notebooks 4 to 6, with maps in this folder."""
    explain, instances = work["explain instances"]
    work = work | {"explain instances": (partial(explain, folder=folder), instances)}
    return [(name, function, item) for name, (function, items) in work.items() for item in items]


@pytest.fixture(scope="module")
def expected_lesions(work, tmp_path_factory):
    """Folder of maps, and results computed in this process."""
    folder = tmp_path_factory.mktemp("here")
    return folder, compute_each(compute_or_die, tasks(work, folder), desc="here")


def assert_same(one, other):
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        np.testing.assert_equal(one, other)


@pytest.mark.parametrize(("n_workers", "deaths"), [(1, 0), (2, 0), (2, 1)])
def test_the_work_of_notebooks_4_to_6_is_the_same_to_the_last_digit_wherever_it_is_done(
    cluster, work, expected_lesions, tmp_path, n_workers, deaths
):
    here, expected = expected_lesions
    dying = [
        tmp_path / f"{name}-dies" for name in ("explain instances", "predict changes", "measure places")[: 3 * deaths]
    ]
    for file in dying:
        file.touch()
    cluster.scale(n_workers)
    given = tasks(work, tmp_path / "maps")
    assert max(len(pickle.dumps(item)) for _, _, item in given) < 10_000
    compute = partial(compute_or_die, dying=dying)
    assert_same(expected, compute_each(compute, given, scheduler=cluster.scheduler_address, desc="lesions"))
    assert not any(file.exists() for file in dying)
    names = {file.relative_to(here) for file in here.rglob("*.nii.gz")}
    assert names == {file.relative_to(tmp_path / "maps") for file in tmp_path.rglob("*.nii.gz")}
    for name in names:
        assert np.array_equal(nib.load(here / name).dataobj, nib.load(tmp_path / "maps" / name).dataobj)


def test_items_hold_lesions_of_one_scan_in_order_and_few_of_them():
    lesions = [{"scan": name, "label": label} for name in "ab" for label in range(11)]
    items = group_by_scan(lesions, {"a": {"scan": "a"}, "b": {"scan": "b"}})
    assert [row["scan"] for row, _ in items] == list("aabb")
    assert [len(rows) for _, rows in items] == [8, 3, 8, 3]
    assert [one for _, rows in items for one in rows] == lesions
    assert all(one["scan"] == row["scan"] for row, rows in items for one in rows)


def test_an_item_that_kills_its_workers_is_given_up_and_named(cluster, tmp_path, monkeypatch):
    from distributed import Client, KilledWorker

    monkeypatch.setattr(workers, "DEATHS", 0)
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
    (tmp_path / "deadly").touch()
    with pytest.raises(KilledWorker) as caught:
        compute_each(
            partial(die_once, dying=[tmp_path / "deadly"]), ["deadly"], scheduler=cluster.scheduler_address, desc="one"
        )
    assert "deadly" in caught.value.__notes__[-1]


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_an_error_is_raised_as_it_is_and_names_its_item(cluster, where):
    scheduler = cluster.scheduler_address if where == "cluster" else ""
    items = [{"scan": f"sub-{number:03d}", "where": np.arange(1000)} for number in range(20)]
    with pytest.raises(ValueError, match="no luck") as caught:
        compute_each(unlucky, items, scheduler=scheduler, desc="scans")
    assert "sub-013" in caught.value.__notes__[-1]
    assert len(caught.value.__notes__[-1]) < 200


def test_results_are_in_the_order_of_the_items_whatever_the_order_of_the_keys(cluster):
    items = [{"scan": str(number)} for number in range(120)]
    found = compute_each(unlucky, iter(items), scheduler=cluster.scheduler_address, desc="numbers")
    assert found == [str(number) for number in range(120)]


def test_an_interrupt_drops_the_items_not_yet_begun(cluster, tmp_path, monkeypatch):
    from distributed import Client

    class Interrupted(workers.tqdm):
        def update(self, n=1):
            super().update(n)
            if self.n == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(workers, "tqdm", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        compute_each(partial(slow, folder=tmp_path), range(200), scheduler=cluster.scheduler_address, desc="slow")
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        for _ in range(100):
            if not (left := client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))):
                break
            time.sleep(0.1)
    assert not left
    assert len(list(tmp_path.iterdir())) < 200


def test_workers_with_other_code_are_refused(cluster, monkeypatch):
    monkeypatch.setattr(workers, "CODE", "edited since")
    with pytest.raises(RuntimeError, match="restart the workers"):
        compute_each(str, [1], scheduler=cluster.scheduler_address, desc="numbers")


def test_no_two_items_are_computed_at_once_in_one_process():
    running, most = set(), []

    def work(item):
        running.add(item)
        time.sleep(0.001)
        most.append(len(running))
        running.remove(item)

    threads = [
        threading.Thread(target=compute_each, args=(work, range(first, first + 20)), kwargs={"desc": "numbers"})
        for first in (0, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 40


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    from distributed import config

    monkeypatch.setitem(config["distributed"]["comm"]["timeouts"], "connect", "1s")
    with pytest.raises(OSError, match="tcp://127.0.0.1:9"):
        compute_each(str, [1], scheduler="tcp://127.0.0.1:9", desc="numbers")


def test_a_cluster_on_this_machine_listens_on_the_loopback_address_alone(cluster):
    this = psutil.Process()
    sockets = [socket for process in [this, *this.children(recursive=True)] for socket in process.net_connections()]
    listening = [socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN]
    assert len(listening) >= 3  # the scheduler and two workers
    assert set(listening) == {"127.0.0.1"}


def test_the_bar_counts_voxels_where_sizes_are_given(capsys):
    assert compute_each(abs, [-1, -2], desc="explaining", sizes=[9700, 3]) == [1, 2]
    assert "9703/9703" in capsys.readouterr().err


def note(item, folder):
    Path(folder, f"{item}-{time.monotonic_ns()}").touch()
    if item == "bad" and not Path(folder, "mended").exists():
        raise ValueError("no luck")
    return {"of": item}


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_results_that_are_kept_are_not_computed_again(where, request, tmp_path):
    scheduler = request.getfixturevalue("cluster").scheduler_address if where == "cluster" else ""
    (seen := tmp_path / "seen").mkdir()
    call = partial(compute_each, partial(note, folder=seen), scheduler=scheduler, desc="notes", kept=tmp_path / "kept")
    with pytest.raises(ValueError, match="no luck"):
        call(["bad"])
    assert call(["good", "fine"]) == [{"of": "good"}, {"of": "fine"}]
    (seen / "mended").touch()
    assert call(["good", "fine", "bad"]) == [{"of": "good"}, {"of": "fine"}, {"of": "bad"}]
    assert sorted(file.name.split("-")[0] for file in seen.iterdir()) == ["bad", "bad", "fine", "good", "mended"]
