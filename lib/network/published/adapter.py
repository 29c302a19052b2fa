"""Any segmentation network as the one that is predicted and explained here: logits (N, 2, X, Y, Z) of background and
lesion for FLAIR and MPRAGE.

What a network takes and gives is said by three words: the sequences of its channels, whether its values are "logits" or
come out of a "sigmoid" or "softmax", and the class that is the lesion. Of several heads the first at full resolution
counts.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from lib.exact import check_network, like_model, n_channels
from lib.scans import SEQUENCES

OUTPUTS = ("logits", "sigmoid", "softmax")
PROBE = (96, 96, 96)  # voxels, for networks that take no smaller volume
LOGIT, LOG_ODDS = "logit", "log-odds of a probability"


class Adapter(nn.Module):
    """Logits (N, 2, X, Y, Z) of background and lesion, from a network of other channels, classes, heads or values.

    channels: which of `SEQUENCES` the network takes, in its order.  output: what it gives, one of OUTPUTS.
    lesion_class: the number of the class that is the lesion (of two, 1 if it is not given); the others are joined by
    logsumexp. For one channel, and for sigmoids, the logit of the background is 0.
    Probabilities are explained before their last sigmoid or softmax if the network calls one on what it returns, and
    else as log-odds, of probabilities no nearer to 0 and 1 than the precision of their numbers: `explained` says which.
    """

    def __init__(self, network, *, channels=SEQUENCES, output="logits", lesion_class=None):
        super().__init__()
        self.network, self.output, self.lesion_class, self.explained = network, output, lesion_class, LOGIT
        matrix = torch.tensor([[float(name == channel) for name in SEQUENCES] for channel in channels])
        picked = None if tuple(channels) == SEQUENCES else like_model(network, matrix[..., None, None, None])
        self.register_buffer("picked", picked, persistent=False)  # convolutions, which have exact gradients on windows
        self.register_buffer("beside", like_model(network, torch.eye(2)[:, 1:, None, None, None]), persistent=False)

    def forward(self, x):
        """(N, 2, X, Y, Z) FLAIR and MPRAGE -> logits (N, 2, X, Y, Z).  Raises ValueError if they are not to be had."""
        given = x if self.picked is None else F.conv3d(x, self.picked)
        with _Activations() as activations:
            found = _full_resolution(self.network(given), x.shape[2:])
        if self.output == "logits":
            return self._two(found)
        logits = activations.before(found)
        self.explained = LOG_ODDS if logits is None else LOGIT
        if self.output == "sigmoid":
            return self._with_background(self._lesion(_inside(found).logit() if logits is None else logits))
        if logits is None:
            rest, lesion = self._two(_inside(found).log()).split(1, 1)
            return self._with_background(lesion - rest)
        return self._two(logits)

    def _two(self, logits):
        """Logits of background and lesion, from those of any number of classes."""
        if logits.shape[1] == 1:
            return self._with_background(logits)
        if logits.shape[1] == 2 and self.lesion_class in (1, None):
            return logits
        lesion, number = self._lesion(logits), self.lesion_class
        others = torch.cat([logits[:, :number], logits[:, number + 1 :]], 1)
        return torch.cat([others if others.shape[1] == 1 else others.logsumexp(1, keepdim=True), lesion], 1)

    def _lesion(self, values):
        classes, number = values.shape[1], self.lesion_class
        if number is None and classes <= 2:
            number = classes - 1
        if number is None or number >= classes:
            raise ValueError(f"the network gives {classes} classes: say which is the lesion, lesion_class from 0 on")
        return values[:, number : number + 1]

    def _with_background(self, logit):
        return F.conv3d(logit, self.beside)


class MeanLogits(nn.Module):
    """The networks of one ensemble, such as folds, as one: the mean of their logits, as nnU-Net takes it."""

    def __init__(self, networks):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x):
        logits = torch.cat([network(x) for network in self.networks], 1)
        n_networks = len(self.networks)
        mean = torch.eye(logits.shape[1] // n_networks).repeat(1, n_networks) / n_networks
        return F.conv3d(logits, like_model(self, mean[..., None, None, None]))  # which has exact gradients on windows


class MeanProbability(nn.Module):
    """The networks of one ensemble as one: logits 0 and log-odds of the mean of their lesion probabilities.

    networks: of logits (N, 2, X, Y, Z).  No probability is rounded on the way.
    """

    explained = "log-odds of the mean probability"

    def __init__(self, networks):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x):
        logarithms = torch.cat([network(x).log_softmax(1) for network in self.networks], 1)
        background, lesion = (logarithms[:, kind::2].logsumexp(1, keepdim=True) for kind in range(2))
        return torch.cat([torch.zeros_like(lesion), lesion - background], 1)


def adapted(network, **options):
    """The network itself if it gives logits of background and lesion for FLAIR and MPRAGE, else its `Adapter`.

    options: of `Adapter`.  Raises ValueError (`check_network`) if what they say does not make it so.
    """
    usual = {"channels": SEQUENCES, "output": "logits", "lesion_class": None}
    channels, taken = options.get("channels", SEQUENCES), n_channels(network)
    if taken != len(channels):
        raise ValueError(
            f"the network takes {taken} channels in place of {', '.join(channels)}: say which of {', '.join(SEQUENCES)} "
            'they are, in its order, by "channels"'
        )
    if all(usual[name] == value for name, value in options.items()):
        try:
            check_network(network, PROBE)
            return network
        except ValueError:
            pass  # the adapter's own says it better
    network = Adapter(network, **options).eval()
    check_network(network, PROBE)
    return network


class _Activations(TorchFunctionMode):
    """What the sigmoids, and the softmaxes over classes, that are called meanwhile are called on."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name, dim = getattr(function, "__name__", ""), kwargs.get("dim", args[1] if len(args) > 1 else None)
        if args and (name == "sigmoid" or (name == "softmax" and dim in (1, -4))):
            self.seen.append((result, args[0]))
        return result

    def before(self, values):
        """What gave these values, before its activation; None if they are not what an activation gave."""
        return next((given for result, given in self.seen if result is values), None)


def _full_resolution(output, shape):
    """Of heads in a list, a dict or stacked (N, heads, C, X, Y, Z), the first on the grid of the input."""
    heads = list(output.values()) if isinstance(output, dict) else output
    if isinstance(heads, list | tuple):
        whole = [head for head in heads if isinstance(head, torch.Tensor) and head.shape[-3:] == shape]
        if not whole:
            found = ", ".join(str(tuple(getattr(head, "shape", ()))) for head in heads)
            raise ValueError(f"of the heads of the network, {found}, none is on the grid of the input")
        heads = whole[0]
    return heads[:, 0] if isinstance(heads, torch.Tensor) and heads.ndim == 6 else heads


def _inside(probability):
    edge = torch.finfo(probability.dtype).eps
    return probability.clamp(edge, 1 - edge)
