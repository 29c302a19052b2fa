"""Training by several processes that torchrun starts: each computes its share of every batch, as if it were one process."""

import os
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def joined(device):
    """Join the processes of torchrun, if it started this one. Yields the device of this process: with "cuda", a GPU each."""
    if "RANK" not in os.environ:
        yield device
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    # a long timeout, as the others wait while the first one validates
    dist.init_process_group("gloo" if device == "cpu" else "nccl", timeout=timedelta(days=1))
    try:
        yield device
    finally:
        dist.destroy_process_group()


def is_first():
    """Whether this process is the one that validates and writes: the first, or the only one."""
    return not dist.is_initialized() or dist.get_rank() == 0


def together(model):
    """The model as all processes train it: gradients are the mean of theirs. On GPUs batch normalisation sees the whole
    batch; on processors, for which PyTorch has no such layer, each process normalises its share and the first one's
    running means are kept."""
    if not dist.is_initialized():
        return model
    if next(model.parameters()).is_cuda:
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return DistributedDataParallel(model)


def turns(steps):
    """The steps whose batches this process prepares: processes take turns."""
    return steps[dist.get_rank() :: dist.get_world_size()] if dist.is_initialized() else steps


def shares_of_batches(loader, steps, batches, device):
    """Yield this process's share of the batch of each step: images (B, 2, P, P, P) and lesions (B, 1, P, P, P).

    loader: of the batches of `turns(steps)`. batches: the `PatchBatches` that it loads.
    Raises ValueError if a batch cannot be divided evenly, without which the mean of gradients is not that of the batch.
    """
    if not dist.is_initialized():
        yield from loader
        return
    n, world = batches.scans_per_step * batches.patches_per_scan, dist.get_world_size()
    if n % world:
        raise ValueError(f"{n} patches a step cannot be shared by {world} processes: choose a multiple of {world}")
    prepared = iter(loader)
    for turn, step in enumerate(steps):
        side = batches.patch_size(step)
        share, all_shares = torch.empty(n // world, 3, side, side, side, device=device), None
        if turn % world == dist.get_rank():
            all_shares = list(torch.cat(next(prepared), 1).to(device).chunk(world))
        dist.scatter(share, all_shares, src=turn % world)
        yield share[:, :2], share[:, 2:]


def mean_over_ranks(value):
    """Mean over the processes of a scalar tensor, as a float."""
    value = value.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return float(value)
