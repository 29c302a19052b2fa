"""The score of one lesion as a function that any attribution method of captum can explain."""

import copy

from captum.attr import Deconvolution, DeepLift, GuidedBackprop
from torch import nn

from lib.exact import at_voxels, find_window, lesion_voxels, like_model
from lib.saliency.scores import class_logit


class LesionScore(nn.Module):
    """Mean score over a lesion's voxels, (B, 2, *window.shape) -> (B,), on the lesion's exact window.

    The lesion is a fixed set of voxels, whatever the network would outline in a changed input. The network is a frozen
    copy in evaluation mode, in which a PReLU of one slope is the same function as a LeakyReLU, which DeepLift knows.

        target = LesionScore(model, lesion, volume.shape[2:])
        attribution = target.attribute(IntegratedGradients(target), volume, n_steps=20)

    lesion: (X, Y, Z) bool, not empty.  shape: (X, Y, Z) of the volume.  score: of `lib.saliency.scores`.
    """

    def __init__(self, model, lesion, shape, score=class_logit):
        super().__init__()
        self.voxels, self.window = lesion_voxels(lesion, shape), find_window(model, lesion, shape)
        self.shape, self.score = tuple(shape), score
        self.model = _leaky(copy.deepcopy(model)).eval().requires_grad_(False)

    def forward(self, windows):
        return self.score(at_voxels(self.model(windows), self.voxels, self.window)).mean(1)

    def attribute(self, method, volume, **options):
        """Attribution (2, X, Y, Z) of a volume (1, 2, X, Y, Z), zero outside the window.

        method: a captum method that explains this score.  options: of its `attribute`; tensors among them, such as
        baselines, have the shape of the window.
        Raises ValueError if the method would take an activation of the network for a linear layer.
        """
        rule = getattr(method, "attribution_method", method)  # inside NoiseTunnel
        unknown = {type(module) for module in self.modules() if type(module).__module__ == nn.ReLU.__module__}
        if isinstance(rule, GuidedBackprop | Deconvolution):
            unknown -= {nn.ReLU}
        else:
            unknown &= {nn.PReLU} if isinstance(rule, DeepLift) else set()
        if names := ", ".join(sorted(kind.__name__ for kind in unknown)):
            name = type(rule).__name__
            raise ValueError(
                f"{name} has no rule for {names} and would return plain gradients there: choose another method"
            )
        window = self.window.crop(like_model(self.model, volume)).clone().requires_grad_()
        return self.window.paste(method.attribute(window, **options)[0].detach(), self.shape)


def _leaky(module):
    """The module with LeakyReLU in place of every PReLU of one slope: the same function."""
    if isinstance(module, nn.PReLU) and module.num_parameters == 1:
        return nn.LeakyReLU(module.weight.item())
    for name, child in module.named_children():
        setattr(module, name, _leaky(child))
    return module
