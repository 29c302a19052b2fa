"""Networks trained on masks that do not belong to the scan, and how alike their maps are."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from literal import SHAPE, block, random_unet, scan

from lib.exact.windows import find_window
from lib.saliency.maps import lesion_generator
from lib.sanity.checks import regions, window_maps
from lib.sanity.relabelling import compare_networks, mirror_masks, train_control
from lib.scans.images import load_lesions, load_scan, with_digests

ARCHITECTURE = {"name": "unet", "channels": [4, 8], "strides": [2]}


@pytest.fixture
def rows(tmp_path):
    """Two scans stored LAS, with a bright lesion on the left."""
    generator, rows = np.random.default_rng(0), []
    affine = np.diag([-1.0, 1, 1, 1])
    for name in ("sub-1", "sub-2"):
        images = generator.normal(10, 1, (2, 24, 20, 20)).astype(np.float32)
        lesions = np.zeros((24, 20, 20), np.uint8)
        lesions[3:7, 6:10, 7:12] = 1
        images[0] += 8 * lesions
        files = {"flair": images[0], "t1w": images[1], "lesions": lesions}
        row = {"scan": name}
        for kind, data in files.items():
            row[kind] = str(tmp_path / f"{name}_{kind}.nii.gz")
            nib.save(nib.Nifti1Image(data, affine), row[kind])
        rows.append(row)
    return with_digests(pd.DataFrame(rows)).to_dict("records")


def test_mirrored_masks_are_those_of_the_other_side(rows, tmp_path):
    mirrored = mirror_masks(rows, tmp_path / "mirrored")
    for row, other in zip(rows, mirrored, strict=True):
        (true, affine), (found, its_affine) = load_lesions(row), load_lesions(other)
        assert np.argwhere(true)[:, 0].tolist() != np.argwhere(found)[:, 0].tolist()
        assert {tuple(voxel) for voxel in np.argwhere(found)} == {(23 - x, y, z) for x, y, z in np.argwhere(true)}
        np.testing.assert_array_equal(affine, its_affine)
        np.testing.assert_array_equal(load_scan(row).image, load_scan(other).image)


def control(rows, validation_row, folder, name, steps):
    options = {"steps": steps, "patch_sizes": [16], "window": 16, "seed": 0}
    return train_control(rows, validation_row, ARCHITECTURE, folder / f"{name}.ckpt", **options)


def test_a_network_learns_the_masks_that_it_is_given(rows, tmp_path):
    mirrored = mirror_masks(rows, tmp_path / "mirrored")
    _, on_true = control(rows, rows[0], tmp_path, "true", steps=120)
    _, on_mirrored = control(mirrored, rows[0], tmp_path, "mirrored", steps=120)
    assert on_true > 0.2 > 0.02 > on_mirrored


def test_a_control_depends_on_its_seed_alone_and_leaves_the_generator_as_it_was(rows, tmp_path):
    state = torch.random.get_rng_state()
    first, _ = control(rows, rows[0], tmp_path, "first", steps=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(7)
    again, _ = control(rows, rows[0], tmp_path, "again", steps=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_maps_of_one_network_are_alike_and_those_of_another_are_not():
    model, other = random_unet(seed=0), random_unet(seed=1)
    lesion, image = block(SHAPE, (10, 11, 12)), scan()[0]
    where = regions(lesion[find_window(model, lesion, SHAPE).within(SHAPE)], (1.0, 1.0, 1.0))
    options = {"n_samples": 1, "noise_fraction": 0.05, "seed": [0, "a", 1]}
    (reference,) = window_maps(
        model,
        torch.as_tensor(image)[None],
        lesion,
        copies=[1],
        noise_fraction=0.05,
        generator=lesion_generator(0, "a", 1),
    )
    found = compare_networks(reference, {"true": model, "mirrored": other}, image, lesion, where, **options)
    value = found.set_index(["networks", "region", "of"])["value"]
    assert value["this run, true"].to_numpy() == pytest.approx(1)
    assert abs(value["this run, mirrored", "window", "signed"]) < 0.5
    np.testing.assert_allclose(value["this run, mirrored"], value["true, mirrored"])
