"""Training: a loop that resumes where it stopped."""

import functools
import math

import torch
from pytorch_optimizer import SOAP
from threadpoolctl import threadpool_limits
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from lib.lesions import threshold_curve, threshold_scores
from lib.network.inference import predict
from lib.network.losses import build_loss
from lib.network.ranks import is_first, mean_over_ranks, shares_of_batches, together, turns
from lib.provenance import digest, write_atomically
from lib.scans import load_scan


def train_network(
    model, batches, validation_rows, checkpoint, *, settings, loss, learning_rate, weight_decay, validate_every, window,
    averaged_steps=0, workers=0,
):  # fmt: skip
    """Train with a loss (`losses.build`); returns tables of rows (loss, validation) with the best weights loaded into `model`.

    The optimiser is SOAP, Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2025, ICLR).
    batches: PatchBatches. validation_rows: scans whose mean Dice, at the thresholds that are best for it, picks the best
    weights, every `validate_every` steps and at the end. checkpoint: file from which an interrupted training of the same
    `settings` goes on; one of other settings is ignored. The learning rate warms up for 5 % of the steps and then falls
    along a cosine to 0. With `averaged_steps` it falls to a third and stays there for as many steps at the end, and what is
    validated and kept is then the mean of the weights after each of them (stochastic weight averaging, Izmailov et al.
    2018). Of several processes (`lib.ranks`) the first validates and writes, and gets the best weights.
    Raises ValueError if more steps are to be averaged than there are.
    """
    device = next(model.parameters()).device
    steps = len(batches)
    if not 0 <= averaged_steps <= steps:
        raise ValueError(f"averaged_steps {averaged_steps}: choose 0 to {steps}, the number of steps")
    criterion = build_loss(loss)
    model.to(memory_format=torch.channels_last_3d)  # a tenth faster on a CPU
    optimiser = SOAP(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    share = functools.partial(_rate, steps=steps, averaged_steps=averaged_steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    progress = {"settings": digest(settings), "step": 0, "best_dice": -1.0, "best": None, "loss": [], "validation": []}
    average = AveragedModel(model, use_buffers=True)
    parts = {"model": model, "average": average, "optimiser": optimiser, "schedule": schedule, "scaler": scaler}
    _resume(checkpoint, progress, parts)
    network, left = together(model), range(progress["step"], steps)
    options = {"batch_size": None, "num_workers": workers, "worker_init_fn": _one_thread}
    shares = shares_of_batches(DataLoader(batches, sampler=turns(left), **options), left, batches, device)
    threads, first = torch.get_num_threads(), is_first()
    torch.set_num_threads(max(1, threads - workers))  # the workers have one each
    bar = tqdm(shares, desc="training", initial=left.start, total=steps, mininterval=2, disable=not first)
    for images, lesions in bar:
        model.train()
        with torch.autocast(device.type, enabled=device.type == "cuda"):
            value = criterion(network(images.to(device)).float(), lesions.to(device))
        optimiser.zero_grad()
        scaler.scale(value).backward()
        scaler.step(optimiser)
        scaler.update()
        progress["step"] += 1
        rate = schedule.get_last_lr()[0]
        progress["loss"].append({"step": progress["step"], "loss": mean_over_ranks(value), "learning_rate": rate})
        schedule.step()
        averaging = progress["step"] > steps - averaged_steps
        if averaging:
            average.update_parameters(model)
        if first and (progress["step"] % validate_every == 0 or progress["step"] == steps):
            candidate = average.module if averaging else model
            scores = validation_scores(candidate, validation_rows, window)
            progress["validation"].append({"step": progress["step"], **scores})
            bar.set_postfix(Dice=f"{scores['dice']:.3f}")
            if scores["dice"] > progress["best_dice"]:
                weights = {name: value.detach().cpu().clone() for name, value in candidate.state_dict().items()}
                progress.update(best_dice=scores["dice"], best=weights)
            _save(checkpoint, progress, parts)
    torch.set_num_threads(threads)
    if first:
        model.load_state_dict(progress["best"])
    model.to(memory_format=torch.contiguous_format).eval()
    return progress["loss"], progress["validation"]


def validation_scores(model, rows, window):
    """Best mean Dice over scans, of all thresholds: row of `evaluation.threshold_curve`, as a dict."""
    model.eval()
    scans = (load_scan(row) for row in rows)
    curve = threshold_curve(threshold_scores(predict(model, scan.image, window=window), scan.lesions) for scan in scans)
    return curve.loc[curve["dice"].idxmax()].to_dict()


def _rate(step, steps, averaged_steps):
    """Share of the learning rate at a step."""
    warm, falling = max(1, round(0.05 * steps)), steps - averaged_steps
    floor = 1 / 3 if averaged_steps else 0
    cosine = 0.5 * (1 + math.cos(math.pi * min(step / max(falling, 1), 1)))
    return min((step + 1) / warm, floor + (1 - floor) * cosine)


def _one_thread(_):
    torch.set_num_threads(1)
    threadpool_limits(1)


def _resume(checkpoint, progress, parts):
    if not checkpoint.exists():
        return
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if saved["progress"]["settings"] != progress["settings"]:
        print(f"{checkpoint} is of other settings: training starts anew")
        return
    progress.update(saved["progress"])
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    print(f"training goes on from step {progress['step']}")


def _save(checkpoint, progress, parts):
    state = {"progress": progress} | {name: part.state_dict() for name, part in parts.items()}
    write_atomically(checkpoint, lambda file: torch.save(state, file))
