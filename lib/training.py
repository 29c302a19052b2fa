"""Training: patches and augmentation as a function of (seed, step), and a loop that resumes where it stopped."""

import functools
import math

import numpy as np
import torch
from monai import transforms
from monai.data import set_track_meta
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from lib.inference import predict
from lib.losses import NormalisedDiceFocalLoss
from lib.metrics import dice, normalised_dice
from lib.provenance import digest, write_atomically
from lib.scans import load_scan


class PatchBatches(Dataset):
    """Batches of training patches: item `step` depends on the seed and the step alone.

    So training continues after an interruption as if it had not been interrupted, with any number of workers. Each
    batch takes `patches_per_scan` patches of each of `scans_per_step` scans, drawn without replacement: an item is
    (image (B, 2, P, P, P) float32, lesions (B, 1, P, P, P) float32). Spagnolo et al. 2024: about 4 lesion-centred
    patches to 1 background patch.
    """

    def __init__(self, rows, *, steps, patch_size, scans_per_step, patches_per_scan, seed, cached_scans):
        self.rows, self.steps, self.seed = rows, steps, seed
        self.scans_per_step = min(scans_per_step, len(rows))
        self.transform = augmentation(patch_size, patches_per_scan)
        self.load = functools.lru_cache(cached_scans)(self._load)
        set_track_meta(False)

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        if step >= self.steps:
            raise IndexError(step)
        generator = np.random.default_rng([self.seed, step])
        self.transform.set_random_state(seed=int(generator.integers(2**31)))
        chosen = generator.choice(len(self.rows), self.scans_per_step, replace=False)
        patches = [patch for index in chosen for patch in self.transform(self.load(int(index)))]
        images, lesions = (
            torch.stack([torch.as_tensor(patch[key]) for patch in patches]) for key in ("image", "lesions")
        )
        return images.float(), lesions.float()

    def _load(self, index):
        scan = load_scan(self.rows[index])
        return {
            "image": torch.from_numpy(scan.image),
            "lesions": torch.from_numpy(scan.lesions[None].astype(np.uint8)),
            "lesion_indices": np.flatnonzero(scan.lesions),
            "healthy_indices": np.flatnonzero(scan.brain & ~scan.lesions),
        }


def augmentation(patch_size, patches_per_scan):
    """Patch sampling and augmentation (Spagnolo et al. 2024): flips, 90-degree rotations, affine of +-15 degrees and
    +-10 % scale, intensity scale and shift of +-0.1."""
    both, size = ["image", "lesions"], (patch_size,) * 3
    quarter_turns = [
        transforms.RandRotate90d(both, prob=0.5, max_k=3, spatial_axes=axes) for axes in ((0, 1), (0, 2), (1, 2))
    ]
    return transforms.Compose([
        transforms.RandCropByPosNegLabeld(
            both, "lesions", size, pos=4, neg=1, num_samples=patches_per_scan,
            fg_indices_key="lesion_indices", bg_indices_key="healthy_indices", allow_smaller=True,
        ),
        transforms.SpatialPadd(both, size),
        *[transforms.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)],
        *quarter_turns,
        transforms.RandAffined(
            both, prob=0.5, rotate_range=(math.radians(15),) * 3, scale_range=(0.1,) * 3,
            mode=("bilinear", "nearest"), padding_mode="zeros",
        ),
        transforms.RandScaleIntensityd("image", factors=0.1, prob=0.5),
        transforms.RandShiftIntensityd("image", offsets=0.1, prob=0.5),
    ])  # fmt: skip


def train(
    model, batches, validation_rows, checkpoint, *, settings, learning_rate, weight_decay, validate_every,
    validation_threshold, window, workers=0,
):  # fmt: skip
    """Train with the paper's loss; returns tables of rows (loss, validation) with the best weights loaded into `model`.

    batches: PatchBatches. validation_rows: scans whose mean nDSC picks the best weights, every `validate_every` steps
    and at the end. checkpoint: file from which an interrupted training of the same `settings` goes on; one of other
    settings is ignored. The learning rate warms up for 5 % of the steps and then falls along a cosine to 0.
    """
    device = next(model.parameters()).device
    steps = len(batches)
    criterion = NormalisedDiceFocalLoss()
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _warm_cosine(step, steps))
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    progress = {"settings": digest(settings), "step": 0, "best_ndsc": -1.0, "best": None, "loss": [], "validation": []}
    parts = {"model": model, "optimiser": optimiser, "schedule": schedule, "scaler": scaler}
    _resume(checkpoint, progress, parts)
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(progress["step"], steps),
        num_workers=workers,
        worker_init_fn=_one_thread,
    )
    bar = tqdm(loader, desc="training", initial=progress["step"], total=steps, mininterval=2)
    for images, lesions in bar:
        model.train()
        with torch.autocast(device.type, enabled=device.type == "cuda"):
            loss = criterion(model(images.to(device)).float(), lesions.to(device))
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        progress["step"] += 1
        rate = schedule.get_last_lr()[0]
        progress["loss"].append({"step": progress["step"], "loss": float(loss.detach()), "learning_rate": rate})
        schedule.step()
        if progress["step"] % validate_every == 0 or progress["step"] == steps:
            scores = validate(model, validation_rows, validation_threshold, window)
            progress["validation"].append({"step": progress["step"], **scores})
            bar.set_postfix(nDSC=f"{scores['ndsc']:.3f}")
            if scores["ndsc"] > progress["best_ndsc"]:
                weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
                progress.update(best_ndsc=scores["ndsc"], best=weights)
            _save(checkpoint, progress, parts)
    model.load_state_dict(progress["best"])
    model.eval()
    return progress["loss"], progress["validation"]


def validate(model, rows, threshold, window):
    """Mean nDSC and Dice over scans at one threshold."""
    model.eval()
    scores = []
    for row in rows:
        scan = load_scan(row)
        prediction = predict(model, scan.image, window=window) >= threshold
        scores.append((normalised_dice(prediction, scan.lesions), dice(prediction, scan.lesions)))
    ndsc, plain = np.mean(scores, axis=0)
    return {"ndsc": float(ndsc), "dice": float(plain)}


def _warm_cosine(step, steps):
    warm = max(1, round(0.05 * steps))
    return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _one_thread(_):
    torch.set_num_threads(1)


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
