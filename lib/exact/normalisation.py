"""Instance and group normalisation, with statistics that are held or follow from the values on the whole grid."""

from dataclasses import dataclass

import torch


def hold_statistics(node):
    """Let a `Node` that computes statistics over the grid take them as given: its name is then "normalise"."""
    given = node.given
    if node.name == "native_group_norm" and given["output"] == 0:
        groups = given["group"]
    elif node.name == "native_batch_norm" and given["training"] and given["output"] == 0:
        groups = node.shape[1]  # instance normalisation, and batch statistics of one volume
    else:
        return
    node.name, node.given = "normalise", {name: given[name] for name in ("input", "weight", "bias", "eps")}
    node.given["groups"] = groups


@dataclass
class Normalisation:
    """weight * (values - mean) / deviation + bias, with mean and deviation of each group of channels over the grid.

    weight, bias: (C,) or None.  Values that have mean 0 and deviation 1 are called normal.
    """

    weight: torch.Tensor | None
    bias: torch.Tensor | None
    groups: int
    eps: float

    def statistics(self, values):
        """Mean and deviation, (B, C, 1, 1, 1) each, of values (B, C, x, y, z) on the whole grid."""
        grouped = values.unflatten(1, (self.groups, -1))
        variance, mean = torch.var_mean(grouped, (2, 3, 4, 5), correction=0)
        return self._by_channel(mean, values), self._by_channel((variance + self.eps).sqrt(), values)

    def affine(self, normal):
        """The result, from normal values."""
        if self.weight is not None:
            normal = normal * self.weight.view(-1, 1, 1, 1)
        return normal if self.bias is None else normal + self.bias.view(-1, 1, 1, 1)

    def sensitivities(self, gradient, normal):
        """Derivatives (B, 2, groups) by the mean, counted in deviations, and by the logarithm of the deviation.

        gradient: at the result.  normal: values there."""
        sums = torch.stack([gradient.sum((2, 3, 4)), (gradient * normal).sum((2, 3, 4))], 1)
        if self.weight is not None:
            sums = sums * self.weight
        return -sums.unflatten(2, (self.groups, -1)).sum(3)

    def adjoint(self, gradient, deviation):
        """Gradient at the values, with their statistics held, from that at the result.  deviation: of `statistics`."""
        return gradient * self._slope(deviation)

    def whole_adjoint(self, gradient, deviation, normal, sensitivities):
        """The same on the whole grid, with what has these sensitivities to the statistics of the values."""
        means, deviations = (
            self._by_channel(one, normal) / deviation
            for one in (sensitivities * self.groups / normal[0].numel()).unbind(1)
        )
        return torch.addcmul(means, normal, deviations).addcmul_(gradient, self._slope(deviation))

    def _slope(self, deviation):
        return 1 / deviation if self.weight is None else self.weight.view(-1, 1, 1, 1) / deviation

    def _by_channel(self, of_groups, values):
        return of_groups.repeat_interleave(values.shape[1] // self.groups, 1)[..., None, None, None]
