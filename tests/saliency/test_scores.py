import pytest
from literal import PLACES, SHAPE, block, generator, literal, random_unet, relative_error, scan

from lib.saliency.gradients import smoothgrad
from lib.saliency.scores import logit_difference, probability


@pytest.mark.parametrize("score", [logit_difference, probability])
def test_other_scores_equal_the_literal_loop(score):
    model, volume, lesion = random_unet(), scan(), block(SHAPE, PLACES["middle"])
    expected = literal(model.eval(), volume, lesion, 2, "max", score)
    actual = smoothgrad(model, volume, lesion, n_samples=2, generator=generator(), score=score)
    assert relative_error(actual, expected) < 1e-5
