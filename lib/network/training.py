"""Training: a loop that resumes where it stopped."""

import functools
import math
import pickle

import torch
from pytorch_optimizer import SOAP
from threadpoolctl import threadpool_limits
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from lib.lesions import threshold_curve, threshold_scores
from lib.network.architectures import check_side
from lib.network.inference import predict
from lib.network.losses import build_loss
from lib.network.ranks import is_first, mean_over_ranks, shares_of_batches, together, turns
from lib.provenance import digest, write_atomically
from lib.scans import load_scan


def train_network(
    model, batches, validation_rows, checkpoint, *, settings, loss, learning_rate, weight_decay, validate_every, window,
    averaged_steps=0, workers=0,
):  # fmt: skip
    """Train with a loss of `build_loss`; loads the best weights into `model` and returns rows of (loss, validation).

    The optimiser is SOAP, Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2025, ICLR).
    batches: PatchBatches. validation_rows: scans whose mean Dice, at the thresholds that are best for it, picks the best
    weights, every `validate_every` steps and at the end. checkpoint: file from which an interrupted training of the same
    `settings` goes on; one of other settings is ignored. The learning rate warms up for 5 % of the steps and then falls
    along a cosine to 0. With `averaged_steps` it falls to a third and stays there for as many steps at the end, and what is
    validated and kept is then the mean of the weights after each of them (stochastic weight averaging, Izmailov et al.
    2018). Of several processes (`ranks.py`) the first validates and writes, and gets the best weights.
    Last digits depend on the number of threads (`fixed_threads`). Raises ValueError if more steps are to be averaged than
    there are, and if the network takes no patch of one of the sizes or of the window.
    """
    device, steps = next(model.parameters()).device, len(batches)
    for side in batches.patch_sizes:
        check_side(model, side, "patch_sizes: a size")
    check_side(model, window, "window")
    if not 0 <= averaged_steps <= steps:
        raise ValueError(f"averaged_steps {averaged_steps}: choose 0 to {steps}, the number of steps")
    criterion, on_gpu = build_loss(loss), device.type == "cuda"
    model.to(memory_format=torch.channels_last_3d)  # a tenth faster on a CPU
    # tables of relative positions (2197 rows in a Swin UNETR) have no eigenbasis: it would take longer than the gradients
    optimiser = SOAP(model.parameters(), lr=learning_rate, weight_decay=weight_decay, max_precondition_dim=2048)
    schedule = LambdaLR(optimiser, functools.partial(_rate, steps=steps, averaged_steps=averaged_steps))
    scaler = torch.amp.GradScaler(device.type, enabled=on_gpu)
    average = AveragedModel(model, use_buffers=True)
    parts = {"model": model, "average": average, "optimiser": optimiser, "schedule": schedule, "scaler": scaler}
    progress = _resume(checkpoint, digest(settings), parts)
    network, left, first = together(model), range(progress["step"], steps), is_first()
    loader = DataLoader(batches, None, sampler=turns(left), num_workers=workers, worker_init_fn=_one_thread)
    shares = shares_of_batches(loader, left, batches, device)
    bar = tqdm(shares, desc="training", initial=left.start, total=steps, mininterval=2, disable=not first)
    for step, (images, lesions) in enumerate(bar, left.start + 1):
        model.train()
        with torch.autocast(device.type, enabled=on_gpu):
            value = criterion(network(images.to(device)).float(), lesions.to(device))
        optimiser.zero_grad()
        scaler.scale(value).backward()
        scaler.step(optimiser)
        scaler.update()
        rate = schedule.get_last_lr()[0]
        progress["step"] = step
        progress["loss"].append({"step": step, "loss": mean_over_ranks(value), "learning_rate": rate})
        schedule.step()
        averaging = step > steps - averaged_steps
        if averaging:
            average.update_parameters(model)
        if first and (step % validate_every == 0 or step == steps):
            candidate = average.module if averaging else model
            scores = validation_scores(candidate, validation_rows, window)
            progress["validation"].append({"step": step, **scores})
            bar.set_postfix(Dice=f"{scores['dice']:.3f}")
            if scores["dice"] > progress["best_dice"]:
                weights = {name: value.detach().cpu().clone() for name, value in candidate.state_dict().items()}
                progress.update(best_dice=scores["dice"], best=weights)
            state = {"progress": progress} | {name: part.state_dict() for name, part in parts.items()}
            write_atomically(checkpoint, functools.partial(torch.save, state))
    if first:
        model.load_state_dict(progress["best"])
    model.to(memory_format=torch.contiguous_format).eval()
    return progress["loss"], progress["validation"]


def validation_scores(model, rows, window):
    """Best mean Dice over scans, of all thresholds: row of `threshold_curve`, as a dict."""
    model.eval()
    scores = []
    for scan in map(load_scan, rows):
        scores.append(threshold_scores(predict(model, scan.image, window=window), scan.lesions, scan.brain))
    curve = threshold_curve(scores)
    return curve.loc[curve["dice"].idxmax()].to_dict()


def _rate(step, steps, averaged_steps):
    """Share of the learning rate at a step."""
    warm, falling = max(1, round(0.05 * steps)), steps - averaged_steps
    floor = 1 / 3 if averaged_steps else 0
    cosine = 0.5 * (1 + math.cos(math.pi * min(step / max(falling, 1), 1)))
    return min((step + 1) / warm, floor + (1 - floor) * cosine)


def _one_thread(_):
    threadpool_limits(1)  # of torch itself workers have one anyway


def _resume(checkpoint, settings, parts):
    """The progress kept in the checkpoint, with the parts as they were then; that of a beginning if there is none."""
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        saved = None
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
        saved = None
        print(f"{checkpoint} is damaged: training starts anew")
    if saved and saved["progress"]["settings"] == settings:
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        print(f"training goes on from step {saved['progress']['step']}")
        return saved["progress"]
    if saved:
        print(f"{checkpoint} is of other settings: training starts anew")
    return {"settings": settings, "step": 0, "best_dice": -1.0, "best": None, "loss": [], "validation": []}
