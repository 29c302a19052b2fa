"""Training: batches that depend on seed and step alone, resumption that changes nothing, the best weights kept."""

import numpy as np
import pytest
import torch
from pytorch_optimizer import SOAP

from lib.cohort.phantom import make_cohort
from lib.network import patches, training
from lib.network.architectures import build_network
from lib.network.losses import build_loss
from lib.network.patches import PatchBatches, ScanPatches, SubjectPatches
from lib.network.training import train_network, validation_scores
from lib.scans.images import Scan

SMALL = {"name": "unet", "channels": [4, 8], "strides": [2]}


@pytest.fixture
def rows(monkeypatch):
    """Three scans that `load_scan` makes instead of reading: a bright cube is the lesion."""

    def load(row):
        generator = np.random.default_rng(row["seed"])
        image = generator.normal(size=(2, 20, 20, 20)).astype(np.float32)
        lesions = np.zeros((20, 20, 20), bool)
        lesions[6:11, 8:13, 7:12] = True
        image[0][lesions] += 6
        return Scan(f"sub-{row['seed']}", image, np.ones_like(lesions), lesions, np.eye(4))

    for module in (patches, training):
        monkeypatch.setattr(module, "load_scan", load)
    return [{"seed": seed} for seed in range(3)]


def batches(rows, steps=6, seed=0):
    source = rows if isinstance(rows, SubjectPatches) else ScanPatches(rows, cached=3)
    return PatchBatches(source, steps=steps, patch_size=12, scans_per_step=2, patches_per_scan=2, seed=seed)


def fit(rows, checkpoint, steps=6, **changes):
    torch.manual_seed(0)
    model = build_network(**SMALL)
    options = {"settings": "a", "loss": "ndsc_focal", "learning_rate": 1e-2, "weight_decay": 0.0, "validate_every": 2}
    options |= {"window": 12} | changes
    tables = train_network(model, batches(rows, steps), rows[:1], checkpoint, **options)
    return model, *tables


def test_a_batch_depends_on_seed_and_step_alone(rows):
    forward = [batches(rows)[step] for step in range(3)]
    again = batches(rows)
    for step in (2, 0, 1):
        for one, other in zip(forward[step], again[step], strict=True):
            assert torch.equal(one, other)
    assert not torch.equal(forward[0][0], forward[1][0])
    assert not torch.equal(forward[0][0], batches(rows, seed=1)[0][0])


def test_patches_have_the_asked_size_and_mostly_hold_lesion(rows):
    images, lesions = zip(*(batches(rows, steps=40)[step] for step in range(40)), strict=True)
    assert images[0].shape == (4, 2, 12, 12, 12)
    assert lesions[0].shape == (4, 1, 12, 12, 12)
    with_lesion = torch.cat(lesions).flatten(1).any(1).float().mean()
    assert with_lesion > 0.75  # 4 of 5 are centred on a lesion, background patches may hold one too
    assert set(torch.cat(lesions).unique().tolist()) == {0.0, 1.0}


def test_image_and_lesions_are_transformed_together(rows):
    images, lesions = batches(rows)[0]
    inside = images[:, :1][lesions > 0].mean()
    assert inside > images[:, :1][lesions == 0].mean() + 4


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """Maps of two synthetic subjects on a 4 mm grid."""
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder, n_subjects=2, n_two_sessions=0, seed=0, spacing_mm=4.0, workers=1)
    return sorted(folder.glob("derivatives/maps/**/*.npz"))


def test_fresh_appearances_depend_on_seed_and_step_alone_and_hold_lesions(subjects):
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


def test_training_lowers_the_loss_and_keeps_the_best_weights(rows, tmp_path):
    model, loss, validation = fit(rows, tmp_path / "a.ckpt", steps=40, validate_every=10)
    values = [row["loss"] for row in loss]
    assert np.mean(values[-10:]) < 0.8 * np.mean(values[:10])
    best = max(row["dice"] for row in validation)
    assert validation_scores(model, rows[:1], 12)["dice"] == pytest.approx(best)


@pytest.mark.parametrize("averaged_steps", [0, 4])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(rows, tmp_path, monkeypatch, averaged_steps):
    whole, loss, validation = fit(rows, tmp_path / "whole.ckpt", averaged_steps=averaged_steps)
    validate, calls = validation_scores, []

    def dying(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*args)

    monkeypatch.setattr(training, "validation_scores", dying)
    with pytest.raises(KeyboardInterrupt):
        fit(rows, tmp_path / "cut.ckpt", averaged_steps=averaged_steps)
    resumed, loss_again, validation_again = fit(rows, tmp_path / "cut.ckpt", averaged_steps=averaged_steps)
    assert (loss, validation) == (loss_again, validation_again)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_averaged_weights_are_the_mean_of_those_after_each_of_the_last_steps(rows, tmp_path):
    averaged, loss, _ = fit(rows, tmp_path / "a.ckpt", averaged_steps=3, validate_every=6)
    rates = [row["learning_rate"] for row in loss]
    assert rates[3:] == pytest.approx([1e-2 / 3] * 3) and min(rates[:3]) > 1e-2 / 3
    torch.manual_seed(0)
    criterion, seen = build_loss("ndsc_focal"), []
    model = build_network(**SMALL).to(memory_format=torch.channels_last_3d)
    optimiser = SOAP(model.parameters(), weight_decay=0.0)
    for rate, (images, lesions) in zip(rates, map(batches(rows).__getitem__, range(6)), strict=True):
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        criterion(model(images), lesions).backward()
        optimiser.step()
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, torch.stack([weights[name] for weights in seen[3:]]).mean(0))


def test_more_averaged_steps_than_steps_are_refused(rows, tmp_path):
    with pytest.raises(ValueError, match="averaged_steps 7: choose 0 to 6"):
        fit(rows, tmp_path / "a.ckpt", averaged_steps=7)


def test_a_checkpoint_of_other_settings_is_not_used(rows, tmp_path, capsys):
    fit(rows, tmp_path / "a.ckpt")
    _, loss, _ = fit(rows, tmp_path / "a.ckpt", settings="b")
    assert "training starts anew" in capsys.readouterr().out
    assert [row["step"] for row in loss] == [1, 2, 3, 4, 5, 6]
