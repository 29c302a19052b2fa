#!/usr/bin/env bash
# nnunetv2 2.8.1: along edges and in corners of a volume logits are rounded, to whole numbers at the last voxel, before they become probabilities.
#
# Tiles are weighted by a Gaussian and summed in half precision, on a CPU as on a GPU. The weight at a tile's corner is the smallest number that half precision has (6e-8), so a
# weighted logit there is a multiple of it, and divided by the weight a whole number. Where another tile has more weight nothing is seen of this; edges and corners of the
# volume lie in no other. A network that looks at each voxel alone and gives 4 times its value must get exactly these logits back from any tiling. Seen, in 64 x 64 x 64 voxels
# with tiles of 32: differences of up to 0.50 logits (0.12 in probability); 374 voxels differ by more than 0.1, all of them at most 3 voxels from two faces of the volume. Scans with air
# around the head hardly show it, crops of a brain may.
#
# Prints the differences; fails if they are gone or elsewhere.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'torch==2.13.0' 'numpy==2.4.6' 'nnunetv2==2.8.1'
cat >"$folder/predict.py" <<'PYTHON'
from types import SimpleNamespace

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

SIDE, TILE = 64, 32


class Pointwise(torch.nn.Module):
    def forward(self, image):
        return torch.cat([torch.zeros_like(image), 4 * image], 1)


predictor = nnUNetPredictor(use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
predictor.network, predictor.list_of_parameters, predictor.allowed_mirroring_axes = Pointwise(), [{}], None
predictor.configuration_manager = SimpleNamespace(patch_size=(TILE,) * 3)
predictor.label_manager = SimpleNamespace(num_segmentation_heads=2)
image = torch.randn(1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    logits = predictor.predict_sliding_window_return_logits(image)
error = (logits[1].float() - 4 * image[0]).abs()
probability = (logits.float().softmax(0)[1] - torch.sigmoid(4 * image[0])).abs()
place = torch.argwhere(error > 0.1)
from_faces = torch.minimum(place, SIDE - 1 - place).sort(1).values  # of each voxel, nearest face first
print(f"sums in {logits.dtype}; largest difference {error.max():.3f} logits, {probability.max():.3f} in probability")
print(f"{len(place)} of {error.numel()} voxels differ by more than 0.1, at most {from_faces[:, 1].max()} voxels from two faces of the volume")
assert error.max() > 0.4, "logits in the corners are no longer rounded"
assert from_faces[:, 1].max() < TILE / 4, "not along edges of the volume alone"
PYTHON
"$folder/env/bin/python" "$folder/predict.py"
