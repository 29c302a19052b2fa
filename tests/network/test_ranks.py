"""Training by two processes on the CPU (gloo): the same batches, losses and weights as one process, and resumption."""

import os
import shutil
from unittest import mock

import numpy as np
import pytest
import torch
from pytorch_optimizer import SOAP
from torch import distributed as dist
from torch import multiprocessing, nn

from lib.network import training
from lib.network.patches import PatchBatches
from lib.network.ranks import is_first, joined, mean_over_ranks, shares_of_batches, together, turns
from lib.network.training import train_network, validation_scores
from lib.scans.images import Scan

STEPS = 6


class Bars:
    """A source of patches (see `ScanPatches`) of noise in which a bright bar is the lesion."""

    def __len__(self):
        return 3

    def draw(self, index, patch_size, n, generator):
        patches = []
        for _ in range(n):
            image = generator.normal(size=(2, *(patch_size,) * 3)).astype(np.float32)
            lesions = np.zeros((1, *(patch_size,) * 3), np.uint8)
            lesions[0, 2 + index : 5 + index, 3:6] = 1
            image[0][lesions[0] > 0] += 4
            patches.append((image, lesions))
        return patches


def batches(scans_per_step=2, patches_per_scan=2):
    size = {"patch_sizes": [12], "scans_per_step": scans_per_step, "patches_per_scan": patches_per_scan}
    return PatchBatches(Bars(), steps=STEPS, seed=0, **size)


def load_scan(row):
    (image, lesions), *_ = Bars().draw(row["seed"], 20, 1, np.random.default_rng(row["seed"]))
    return Scan("sub-1", image, np.ones((20, 20, 20), bool), lesions[0] > 0, np.eye(4))


def fit(folder, dies_at=None, optimiser=SOAP):
    """Train a network without batch normalisation; the second validation fails if `dies_at` is 2, and so on."""
    validate, calls = validation_scores, []

    def dying(*arguments):
        calls.append(1)
        if len(calls) == dies_at:
            raise RuntimeError("died")
        return validate(*arguments)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.PReLU(), nn.Conv3d(4, 2, 3, padding=1))
    options = {"settings": "a", "loss": "ndsc_focal", "learning_rate": 1e-2, "weight_decay": 0.0, "validate_every": 2}
    with mock.patch.multiple(training, load_scan=load_scan, validation_scores=dying, SOAP=optimiser):
        tables = train_network(model, batches(), [{"seed": 1}], folder / "training.ckpt", **options, window=12)
    return *tables, model.state_dict()


def join(rank, folder, work, arguments):
    """One of two processes that meet through a file, on the loopback address alone."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(work(folder, *arguments), folder / f"{rank}.pt")
    dist.destroy_process_group()


def by_two(folder, work, *arguments):
    """What work(folder, ...) returns in each of two processes."""
    multiprocessing.spawn(join, (folder, work, arguments), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def see_shares(folder, steps):
    prepared, everything = [], batches()

    class Watched:
        def __iter__(self):
            for step in turns(steps):
                prepared.append(step)
                yield everything[step]

    shares = [torch.cat(share, 1) for share in shares_of_batches(Watched(), steps, everything, "cpu")]
    with pytest.raises(ValueError, match="3 patches a step cannot be shared by 2 processes"):
        next(shares_of_batches([], range(1), batches(3, 1), "cpu"))
    return prepared, shares, mean_over_ranks(torch.tensor(float(dist.get_rank())))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Tables and weights of an uninterrupted training by two processes."""
    return by_two(tmp_path_factory.mktemp("two"), fit)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Checkpoint of two processes whose training died after two of the six steps."""
    folder = tmp_path_factory.mktemp("cut")
    with pytest.raises(multiprocessing.ProcessRaisedException, match="died"):
        by_two(folder, fit, 2)
    assert torch.load(folder / "training.ckpt")["progress"]["step"] == 2
    return folder / "training.ckpt"


def test_each_process_prepares_every_other_batch_and_computes_half_of_all(tmp_path):
    (first, first_shares, mean), (second, second_shares, other) = by_two(tmp_path, see_shares, range(1, 6))
    assert (first, second) == ([1, 3, 5], [2, 4])
    for step, parts in zip(range(1, 6), zip(first_shares, second_shares, strict=True), strict=True):
        assert torch.equal(torch.cat(parts), torch.cat(batches()[step], 1))
    assert mean == other == 0.5


def adam(parameters, *, max_precondition_dim, **options):
    """In place of SOAP, which takes directions in which there is no gradient but rounding for as good as others."""
    return torch.optim.AdamW(parameters, **options)


def test_two_processes_train_as_one_but_for_rounding(tmp_path):
    loss, validation, weights = fit(tmp_path, None, adam)
    (tmp_path / "two").mkdir()
    (found, found_validation, found_weights), (_, others_validation, _) = by_two(tmp_path / "two", fit, None, adam)
    assert [row["loss"] for row in found] == pytest.approx([row["loss"] for row in loss], rel=1e-5)
    assert [row["ndsc"] for row in found_validation] == pytest.approx([row["ndsc"] for row in validation], abs=1e-3)
    assert others_validation == []
    for name, expected in weights.items():
        torch.testing.assert_close(found_weights[name], expected, rtol=1e-4, atol=1e-5)


def test_an_interrupted_training_of_two_processes_ends_as_an_uninterrupted_one(two, checkpoint, tmp_path):
    shutil.copy(checkpoint, tmp_path)
    resumed, _ = by_two(tmp_path, fit)
    assert resumed[:2] == two[0][:2]
    for name, expected in two[0][2].items():
        assert torch.equal(resumed[2][name], expected)


def test_one_process_goes_on_with_the_checkpoint_of_two(two, checkpoint, tmp_path):
    shutil.copy(checkpoint, tmp_path)
    loss, _, _ = fit(tmp_path)
    assert [row["loss"] for row in loss] == pytest.approx([row["loss"] for row in two[0][0]], rel=1e-5)


def test_alone_there_is_nothing_to_share():
    model, steps, loaded = nn.Conv3d(2, 2, 1), range(2, 5), [1, 2, 3]
    assert together(model) is model
    assert is_first()
    assert turns(steps) == steps
    assert list(shares_of_batches(loaded, steps, None, "cpu")) == loaded
    assert mean_over_ranks(torch.tensor(2.5, requires_grad=True)) == 2.5
    with joined("cuda") as device:
        assert device == "cuda"
        assert not dist.is_initialized()
