"""The score of one lesion as a function that any attribution method of captum can explain."""

import re
import warnings

import torch
from captum.attr import Deconvolution, DeepLift, GuidedBackprop
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from lib.exact import at_voxels, copied, find_window, lesion_voxels, like_model, of_each
from lib.saliency.scores import class_logit

SUMS, PRODUCTS = {"add", "sub", "rsub", "neg", "clone"}, {"mul", "div"}  # pointwise, but linear (in one factor)
UNTAGGED = {"_prelu_kernel", "hardswish", "glu", "log_sigmoid_forward", "rrelu_with_noise", "_softmax", "_log_softmax"}
EXACT, NEAR = 0.01, 0.05  # of the score above its baseline, that attributions may miss: by a rule, by steps


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
        self.model = _leaky(copied(model)).eval().requires_grad_(False)
        for module in self.modules():
            if isinstance(module, tuple(SUPPORTED_NON_LINEAR)):  # captum changes the gradient of its whole input tensor
                module.register_forward_pre_hook(lambda _, inputs: tuple(values.clone() for values in inputs))

    def forward(self, windows):
        logits = of_each(self.model(windows.clone()), windows)
        return self.score(at_voxels(logits, self.voxels, self.window)).mean(1)

    def attribute(self, method, volume, **options):
        """Attribution (2, X, Y, Z) of a volume (1, 2, X, Y, Z), zero outside the window.

        method: a captum method that explains this score.  options: of its `attribute`; tensors among them, such as
        baselines, have the shape of the window.
        Raises ValueError where GuidedBackprop or Deconvolution would return the plain gradient of an activation, and
        where attributions of DeepLift do not add up to the score above that of the baseline. A method that only
        approaches that sum, such as IntegratedGradients, warns.
        """
        rule = getattr(method, "attribution_method", method)  # inside NoiseTunnel
        rule = getattr(rule, "guided_backprop", rule)  # inside GuidedGradCam
        window = self.window.crop(like_model(self.model, volume)).clone().requires_grad_()
        if isinstance(rule, GuidedBackprop | Deconvolution) and (names := _activations(self.model, window, {nn.ReLU})):
            raise ValueError(f"{_no_rule(rule, names)} and would return plain gradients there: choose another method")
        if not method.has_convergence_delta():
            return self.window.paste(method.attribute(window, **options)[0].detach(), self.shape)
        try:
            values, missed = method.attribute(window, **options | {"return_convergence_delta": True})
        except (RuntimeError, TypeError) as error:
            if not (found := re.search(r"used more than once|(\w+)'> has no rule", str(error))):
                raise
            names = found[1] or "a module that is used again"
            raise ValueError(f"{_no_rule(rule, names)}: choose another method") from error
        if options.get("nt_type", "smoothgrad") == "smoothgrad":  # others of NoiseTunnel are squares and variances
            self._check_sum(rule, window, values.detach(), missed.mean().item())
        return self.window.paste(values[0].detach(), self.shape)

    def _check_sum(self, rule, window, values, missed):
        """Raise or warn if attributions miss what they add up to, the score above its baseline."""
        total = values.sum().item()
        scale = max(abs(total - missed), EXACT * values.abs().sum().item())  # where both signs cancel
        if abs(missed) <= (EXACT if isinstance(rule, DeepLift) else NEAR) * scale:
            return
        said = f"add up to {total:.3g}, but the score above its baseline is {total - missed:.3g}"
        said += f" ({abs(missed) / scale:.0%} off)"
        if isinstance(rule, DeepLift):
            names = _activations(self.model, window, SUPPORTED_NON_LINEAR) or "a step of this network"
            raise ValueError(f"{_no_rule(rule, names)}: attributions {said}; choose another method")
        warnings.warn(f"attributions of {type(rule).__name__} {said}: give it more steps or samples", stacklevel=3)


def _no_rule(rule, names):
    return f"{type(rule).__name__} has no rule for {names}"


class _Activations(TorchDispatchMode):
    """Notes activations in the operations that run, of what depends on an input, but for those of known modules."""

    def __init__(self, given, known):
        super().__init__()
        self.dependent, self.known, self.running, self.names = WeakTensorKeyDictionary({given: True}), known, [], set()

    def enter(self, module, inputs):
        self.running.append(module)

    def leave(self, module, inputs, outputs):
        self.running.pop()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        results, name = operation(*args, **(kwargs or {})), operation.overloadpacket.__name__.rstrip("_")
        given, made = ([v for v in tree_leaves(x) if isinstance(v, torch.Tensor)] for x in ((args, kwargs), results))
        if dependent := sum(value in self.dependent for value in given):
            self.dependent.update(dict.fromkeys(made, True))
            linear = name in SUMS or (name in PRODUCTS and dependent == 1)
            curved = torch.Tag.pointwise in operation.tags and made[0].is_floating_point() and not linear
            module = self.running[-1]
            if (curved or name in UNTAGGED) and type(module) not in self.known:
                self.names.add(f"the function {name.strip('_')}" if list(module.children()) else type(module).__name__)
        return results


def _activations(model, windows, known):
    """Names of the activations in a forward pass, but for those of known types of modules; "" without any."""
    seen = _Activations(windows, known)
    enter, leave = register_module_forward_pre_hook(seen.enter), register_module_forward_hook(seen.leave)
    with enter, leave, torch.no_grad(), seen:
        model(windows)
    return ", ".join(sorted(seen.names))


def _leaky(module):
    """The module with LeakyReLU in place of every PReLU of one slope: the same function."""
    if isinstance(module, nn.PReLU) and module.num_parameters == 1:
        return nn.LeakyReLU(module.weight.item())
    for name, child in module.named_children():
        setattr(module, name, _leaky(child))
    return module
