# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 · Training
#
# Trains the paper's 3D U-Net, or one of the other two networks of its third version (`architecture`; size, number of steps and loss by
# profile), with the paper's patch sampling and augmentation, and keeps the weights with the best validation Dice. An
# interrupted training goes on from its last checkpoint, and so does one that several GPUs began (`torchrun -m lib.network.distributed`, see the README).
#
# **Reads** the scans and their split (notebook 1).
# **Writes** the weights (safetensors) with a JSON that describes them, the training curves as tables, and a figure.

# %%
from pathlib import Path

import pandas as pd

from lib.figures import plot_training
from lib.network import build_batches, fit, save_weights, starting_network
from lib.provenance import digest
from lib.run import Run

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
seed = 0
device = "cpu"
architecture = "unet"  # or "dynunet" (like nnU-Net), "swinunetr": networks that see the whole patch, slow to explain
channels = [16, 32, 64, 128]  # feature maps of each level; the paper's: 32, 64, 128, 256, 512 (dynunet: 16, 32, 64)
strides = [2, 2, 2]  # down-sampling between levels; the paper's: 2, 2, 2, 2 (dynunet: 2, 2)
feature_size = 12  # of a swinunetr, in place of channels and strides: a multiple of 12; MONAI's default: 24
patch_sizes = [96]  # voxels a side, the paper's; of several, each has an equal share of the steps, in turn
scans_per_step = 2
patches_per_scan = 1  # the paper's: 32
window = 96  # voxels, of the sliding window that predicts whole scans, as in the paper
mirrored = False  # whether notebook 3 predicts each patch also with left and right exchanged, and averages
initial = ""  # weights to go on from, with their architecture, such as weights/unet.safetensors; empty: random ones
steps = 700
averaged_steps = 0  # the last of them, at a steady learning rate, whose weights are averaged
loss = "instance_dice_ce"  # the paper's: "ndsc_focal"
learning_rate = 1e-2
weight_decay = 1e-5
validate_every = 175  # steps
cached_scans = 32  # scans kept in memory by each worker
fresh_appearance = True  # of the synthetic cohort: every patch has an appearance of its own, drawn when it is needed
without = []  # ingredients of that appearance that are not varied: tissue, lesions, distractors, acquisition
any_direction = False  # quarter turns and flips along any axis, as in the paper; otherwise left and right alone
workers = 1  # processes that prepare patches
threads = 2  # that compute the network, however many processors there are: the last digits of gradients depend on it

# %%
run = Run("02_training", globals())
rows = {split: table.to_dict("records") for split, table in run.scans().groupby("split")}
if missing := {"train", "validation"} - set(rows):
    raise ValueError(
        f"no scan is in the split {', '.join(missing)}: give it a share of the patients (01_data_split.fractions)"
    )
len(rows["train"]), len(rows["validation"])

# %% [markdown]
# ## The network

# %%
model, built = starting_network(run.parameters, device)
print(f"{sum(weight.numel() for weight in model.parameters()):,} weights")

# %% [markdown]
# ## Patches
# Each batch is a function of the seed and the step alone: lesion-centred and background patches 4 to 1, then flips, quarter turns
# (with `any_direction`), small affine transforms, and a random scale and shift of the intensities. Scans of the synthetic cohort keep maps of their tissue and lesions:
# from these, each patch is drawn with contrasts, noise, bias field, slices and distractors of its own.

# %%
batches = build_batches(run.parameters, rows["train"])
[tuple(patches.shape) for patches in batches[0]]

# %% [markdown]
# ## Training
# The paper's loss is 0.5 x normalised Dice + focal loss; Dice + cross-entropy (`dice_ce`) learns faster from few steps, and with the mean Dice of each
# lesion in its own surroundings (`instance_dice_ce`, Jaus et al. 2025) a small lesion counts as much as a large one. Weights that are
# averaged over the last steps (`averaged_steps`) may carry over better to scans of another kind (Cha et al. 2021). The optimiser, SOAP (Vyas et al. 2025),
# gets as far as AdamW in fewer steps. Validation is a sliding-window prediction of every validation scan, scored at the thresholds that are best for their mean Dice.

# %%
losses, validation = fit(run, model, batches, rows["validation"])

# %%
losses = run.save_table(pd.DataFrame(losses), "loss")
validation = run.save_table(pd.DataFrame(validation), "validation")
validation

# %% [markdown]
# ## The weights
# The thresholds are picked in notebook 3, on the validation scans.

# %%
best = validation.loc[validation["dice"].idxmax()]
save_weights(
    model, run.weights(), architecture=built, threshold=None, window=window, mirrored=mirrored, step=int(best["step"]),
    parameters=sum(weight.numel() for weight in model.parameters()), validation_dice=round(float(best["dice"]), 4), split=digest(run.scans_file), seed=seed,
    initial=digest(Path(initial)) if initial else None,
)  # fmt: skip

# %% [markdown]
# **Figure.** Training loss, validation nDSC and Dice (means over the validation scans) and F1 of their annotated
# lesions, at the thresholds that are best for Dice, and learning rate. The dashed line marks the weights that were kept.

# %%
run.save_figure(plot_training(losses, validation, len(rows["validation"])), "training")
