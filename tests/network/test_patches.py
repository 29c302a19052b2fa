"""Patches: batches that depend on seed and step alone, from stored scans and from synthetic subjects."""

import pytest
import torch

from lib.cohort.phantom import make_cohort
from lib.network.patches import SubjectPatches


def test_a_batch_depends_on_seed_and_step_alone(rows, batches):
    forward = [batches(rows)[step] for step in range(3)]
    again = batches(rows)
    for step in (2, 0, 1):
        for one, other in zip(forward[step], again[step], strict=True):
            assert torch.equal(one, other)
    assert not torch.equal(forward[0][0], forward[1][0])
    assert not torch.equal(forward[0][0], batches(rows, seed=1)[0][0])


def test_patches_have_the_asked_size_and_mostly_hold_lesion(rows, batches):
    images, lesions = zip(*(batches(rows, steps=40)[step] for step in range(40)), strict=True)
    assert images[0].shape == (4, 2, 12, 12, 12)
    assert lesions[0].shape == (4, 1, 12, 12, 12)
    with_lesion = torch.cat(lesions).flatten(1).any(1).float().mean()
    assert with_lesion > 0.75  # 4 of 5 are centred on a lesion, background patches may hold one too
    assert set(torch.cat(lesions).unique().tolist()) == {0.0, 1.0}


def test_each_size_of_patches_has_its_share_of_the_steps(rows, batches):
    made = batches(rows, steps=5, sides=(8, 8, 12))
    assert [made[step][0].shape[-1] for step in range(5)] == [8, 8, 8, 8, 12]  # 5 x 2 / 3 steps of the smaller one


@pytest.mark.parametrize("sides", [[], [12, 0], [12.5]])
def test_sizes_that_are_none_are_refused(rows, batches, sides):
    with pytest.raises(ValueError, match=r"patch_sizes \[.*\]: give voxels a side"):
        batches(rows, sides=sides)


def test_image_and_lesions_are_transformed_together(rows, batches):
    images, lesions = batches(rows)[0]
    inside = images[:, :1][lesions > 0].mean()
    assert inside > images[:, :1][lesions == 0].mean() + 4


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """Maps of two synthetic subjects on a 4 mm grid."""
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder, n_subjects=2, n_two_sessions=0, seed=0, spacing_mm=4.0, workers=1)
    return sorted(folder.glob("derivatives/maps/**/*.npz"))


def test_fresh_appearances_depend_on_seed_and_step_alone_and_hold_lesions(subjects, batches):
    steps = [batches(SubjectPatches(subjects, cached=2), steps=20)[step] for step in range(20)]
    again = batches(SubjectPatches(subjects, cached=2))[3]
    assert torch.equal(steps[3][0], again[0]) and torch.equal(steps[3][1], again[1])
    assert not torch.equal(steps[0][0], steps[1][0])
    images, lesions = torch.cat([image for image, _ in steps]), torch.cat([mask for _, mask in steps])
    assert images.shape[1:] == (2, 12, 12, 12) and lesions.shape[1:] == (1, 12, 12, 12)
    assert lesions.flatten(1).any(1).float().mean() > 0.75
    inside = lesions[:, 0] > 0
    assert images[:, 0][inside].mean() > images[:, 0][~inside & (images[:, 0] != 0)].mean() + 0.5
    assert not (lesions[:, 0].bool() & (images == 0).all(1)).any()
