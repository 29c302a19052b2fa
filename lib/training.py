"""Training: patches and augmentation as a function of (seed, step), and a loop that resumes where it stopped."""

import functools
import math

import numpy as np
import torch
from monai import transforms
from monai.data import set_track_meta
from monai.transforms.utils import generate_pos_neg_label_crop_centers
from pytorch_optimizer import SOAP
from threadpoolctl import threadpool_limits
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from lib import losses, ranks
from lib.appearance import draw_appearance, render_patch
from lib.evaluation import threshold_curve, threshold_scores
from lib.inference import predict
from lib.provenance import digest, write_atomically
from lib.scans import load_scan
from lib.subject import Subject, crop
from lib.visibility import visible


class ScanPatches:
    """Patches of stored scans, with the intensities that they have.

    rows: of the scans table.  cached: scans that are kept in memory.
    """

    def __init__(self, rows, cached):
        self.rows = rows
        self.load = functools.lru_cache(cached)(self._load)

    def __len__(self):
        return len(self.rows)

    def _load(self, index):
        scan = load_scan(self.rows[index])
        return scan, *_places(scan.lesions, scan.brain)

    def draw(self, index, patch_size, n, generator):
        """n patches of a scan: list of image (2, P, P, P) and lesions (1, P, P, P), uint8."""
        scan, *places = self.load(index)
        return [
            (
                crop(scan.image, start, (patch_size,) * 3),
                crop(scan.lesions[None].view(np.uint8), start, (patch_size,) * 3),
            )
            for start in _starts(scan.lesions.shape, places, patch_size, n, generator)
        ]


class SubjectPatches:
    """Patches of synthetic subjects, each with an appearance of its own, drawn when it is asked for.

    files: of `Subject.load`.  cached: subjects that are kept in memory.  without: see `appearance.draw_appearance`.
    """

    def __init__(self, files, cached, without=()):
        self.files, self.without = files, without
        self.load = functools.lru_cache(cached)(self._load)

    def __len__(self):
        return len(self.files)

    def _load(self, index):
        subject = Subject.load(self.files[index])
        lesions = subject.lesions
        return subject, lesions, *_places(lesions, subject.brain)

    def draw(self, index, patch_size, n, generator):
        """n patches of a subject: list of image (2, P, P, P) and the lesions that it shows (1, P, P, P), uint8."""
        subject, drawn, *places = self.load(index)
        size, patches = (patch_size,) * 3, []
        for start in _starts(subject.shape, places, patch_size, n, generator):
            appearance = draw_appearance(subject, generator, self.without)
            image = render_patch(subject, start, size, appearance, generator)
            brain = image.any(0)
            lesions = visible(image[0], crop(drawn, start, size) & brain, brain)
            patches.append((image, lesions[None].view(np.uint8)))
        return patches


def _places(lesions, brain):
    """Flat indices of lesion voxels and of healthy brain voxels."""
    return np.flatnonzero(lesions), np.flatnonzero(brain & ~lesions)


def _starts(shape, places, patch_size, n, generator):
    """First voxels of n patches, 4 around a lesion voxel to 1 around a healthy one (Spagnolo et al. 2024)."""
    padded = tuple(max(side, patch_size) for side in shape)
    centres = generate_pos_neg_label_crop_centers(
        (patch_size,) * 3, n, 0.8, padded, *(_in_shape(flat, shape, padded) for flat in places),
        rand_state=np.random.RandomState(generator.integers(2**31)),
    )  # fmt: skip
    return [[int(c) - patch_size // 2 for c in centre] for centre in centres]


def _in_shape(flat, shape, padded):
    """Flat indices into a volume of `shape` as those into one padded at its far ends."""
    return flat if shape == padded else np.ravel_multi_index(np.unravel_index(flat, shape), padded)


class PatchBatches(Dataset):
    """Batches of training patches: item `step` depends on the seed and the step alone.

    So training continues after an interruption as if it had not been interrupted, with any number of workers. Each
    batch takes `patches_per_scan` patches of each of `scans_per_step` scans of the source, drawn without replacement: an
    item is (image (B, 2, P, P, P) float32, lesions (B, 1, P, P, P) float32).  any_direction: see `augmentation`.
    """

    def __init__(self, source, *, steps, patch_size, scans_per_step, patches_per_scan, seed, any_direction=True):
        self.source, self.steps, self.seed, self.patch_size = source, steps, seed, patch_size
        self.scans_per_step, self.patches_per_scan = min(scans_per_step, len(source)), patches_per_scan
        self.transform = augmentation(any_direction)
        set_track_meta(False)

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        if step >= self.steps:
            raise IndexError(step)
        generator = np.random.default_rng([self.seed, step])
        self.transform.set_random_state(seed=int(generator.integers(2**31)))
        chosen = generator.choice(len(self.source), self.scans_per_step, replace=False)
        images, lesions = [], []
        for index in chosen:
            for image, mask in self.source.draw(int(index), self.patch_size, self.patches_per_scan, generator):
                patch = self.transform({"image": torch.from_numpy(image), "lesions": torch.from_numpy(mask)})
                images.append(torch.as_tensor(patch["image"]))
                lesions.append(torch.as_tensor(patch["lesions"]))
        return torch.stack(images).float(), torch.stack(lesions).float()


def augmentation(any_direction=True):
    """Augmentation (Spagnolo et al. 2024): flips, 90-degree rotations, affine of +-15 degrees and +-10 % scale,
    intensity scale and shift of +-0.1.

    any_direction: False leaves the quarter turns and the flips but that of left and right out, so that a network may learn
    where in an upright head it is.
    """
    both = ["image", "lesions"]
    quarter_turns = [
        transforms.RandRotate90d(both, prob=0.5, max_k=3, spatial_axes=axes) for axes in ((0, 1), (0, 2), (1, 2))
    ]
    return transforms.Compose([
        *[transforms.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3 if any_direction else 1)],
        *(quarter_turns if any_direction else []),
        transforms.RandAffined(
            both, prob=0.5, rotate_range=(math.radians(15),) * 3, scale_range=(0.1,) * 3,
            mode=("bilinear", "nearest"), padding_mode="zeros",
        ),
        transforms.RandScaleIntensityd("image", factors=0.1, prob=0.5),
        transforms.RandShiftIntensityd("image", offsets=0.1, prob=0.5),
    ])  # fmt: skip


def train(
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
    criterion = losses.build(loss)
    model.to(memory_format=torch.channels_last_3d)  # a tenth faster on a CPU
    optimiser = SOAP(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    share = functools.partial(_rate, steps=steps, averaged_steps=averaged_steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    progress = {"settings": digest(settings), "step": 0, "best_dice": -1.0, "best": None, "loss": [], "validation": []}
    average = AveragedModel(model, use_buffers=True)
    parts = {"model": model, "average": average, "optimiser": optimiser, "schedule": schedule, "scaler": scaler}
    _resume(checkpoint, progress, parts)
    network, left = ranks.together(model), range(progress["step"], steps)
    options = {"batch_size": None, "num_workers": workers, "worker_init_fn": _one_thread}
    shares = ranks.shares(DataLoader(batches, sampler=ranks.turns(left), **options), left, batches, device)
    threads, first = torch.get_num_threads(), ranks.is_first()
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
        progress["loss"].append({"step": progress["step"], "loss": ranks.mean(value), "learning_rate": rate})
        schedule.step()
        averaging = progress["step"] > steps - averaged_steps
        if averaging:
            average.update_parameters(model)
        if first and (progress["step"] % validate_every == 0 or progress["step"] == steps):
            candidate = average.module if averaging else model
            scores = validate(candidate, validation_rows, window)
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


def validate(model, rows, window):
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
