"""Training: resumption that changes nothing, the best weights kept."""

import numpy as np
import pytest
import torch
from pytorch_optimizer import SOAP

from lib.network import training
from lib.network.architectures import build_network
from lib.network.losses import build_loss
from lib.network.training import train_network, validation_scores


@pytest.fixture
def fit(small, rows, batches):
    """Trains a small network on the rows: model, loss and validation."""

    def train(checkpoint, steps=6, sides=(12,), **changes):
        torch.manual_seed(0)
        model = build_network(**small)
        options = {"settings": "a", "loss": "ndsc_focal", "learning_rate": 1e-2, "weight_decay": 0.0}
        options |= {"validate_every": 2, "window": 12} | changes
        tables = train_network(model, batches(rows, steps, sides=sides), rows[:1], checkpoint, **options)
        return model, *tables

    return train


def test_training_lowers_the_loss_and_keeps_the_best_weights(fit, rows, tmp_path):
    model, loss, validation = fit(tmp_path / "a.ckpt", steps=40, validate_every=10)
    values = [row["loss"] for row in loss]
    assert np.mean(values[-10:]) < 0.8 * np.mean(values[:10])
    best = max(row["dice"] for row in validation)
    assert validation_scores(model, rows[:1], 12)["dice"] == pytest.approx(best)


@pytest.mark.parametrize("averaged_steps", [0, 4])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(fit, tmp_path, monkeypatch, averaged_steps):
    whole, loss, validation = fit(tmp_path / "whole.ckpt", averaged_steps=averaged_steps)
    validate, calls = validation_scores, []

    def dying(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*args)

    monkeypatch.setattr(training, "validation_scores", dying)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut.ckpt", averaged_steps=averaged_steps)
    resumed, loss_again, validation_again = fit(tmp_path / "cut.ckpt", averaged_steps=averaged_steps)
    assert (loss, validation) == (loss_again, validation_again)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_averaged_weights_are_the_mean_of_those_after_each_of_the_last_steps(fit, small, rows, batches, tmp_path):
    averaged, loss, _ = fit(tmp_path / "a.ckpt", averaged_steps=3, validate_every=6)
    rates = [row["learning_rate"] for row in loss]
    assert rates[3:] == pytest.approx([1e-2 / 3] * 3) and min(rates[:3]) > 1e-2 / 3
    torch.manual_seed(0)
    criterion, seen = build_loss("ndsc_focal"), []
    model = build_network(**small).to(memory_format=torch.channels_last_3d)
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


def test_more_averaged_steps_than_steps_are_refused(fit, tmp_path):
    with pytest.raises(ValueError, match="averaged_steps 7: choose 0 to 6"):
        fit(tmp_path / "a.ckpt", averaged_steps=7)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_damaged_checkpoint_is_said_and_not_used(fit, tmp_path, capsys, share):
    checkpoint = tmp_path / "a.ckpt"
    _, expected, _ = fit(checkpoint)
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    assert fit(checkpoint)[1] == expected
    assert "a.ckpt is damaged: training starts anew" in capsys.readouterr().out


def test_a_checkpoint_of_other_settings_is_not_used(fit, tmp_path, capsys):
    fit(tmp_path / "a.ckpt")
    _, loss, _ = fit(tmp_path / "a.ckpt", settings="b")
    assert "training starts anew" in capsys.readouterr().out
    assert [row["step"] for row in loss] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("change", "named"), [({"sides": (12, 15)}, "patch_sizes: a size is 15"), ({"window": 15}, "window is 15")]
)
def test_a_size_that_the_network_does_not_take_is_refused_before_the_first_step(fit, tmp_path, change, named):
    with pytest.raises(ValueError, match=f"{named}, but .* choose a multiple of its strides"):
        fit(tmp_path / "a.ckpt", **change)
