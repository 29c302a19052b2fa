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

from lib.exact import TOLERANCE, accepted_probe, check_network, frozen, like_model, n_channels
from lib.scans import SEQUENCES

OUTPUTS = ("logits", "sigmoid", "softmax")
ALIASES = {"flair": "FLAIR", "mprage": "MPRAGE", "t1w": "MPRAGE", "t1": "MPRAGE"}  # of SEQUENCES
PROBE = (96, 96, 96)  # voxels, for networks that take no smaller volume
LARGE = 1e3  # times noise, for which logits are no probabilities
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
        found, logits, _ = self._values(x)
        if self.output == "logits":
            return self._two(found)
        self.explained = LOG_ODDS if logits is None else LOGIT
        if self.output == "sigmoid" or found.shape[1] == 1:
            return self._with_background(self._lesion(_inside(found).logit() if logits is None else logits))
        if logits is None:
            rest, lesion = self._two(_inside(found).log()).split(1, 1)
            return self._with_background(lesion - rest)
        return self._two(logits)

    def _values(self, x):
        """What the network gives at full resolution; what its last activation was called on, None if it ends in none; and
        the name of this activation, or ""."""
        given = x if self.picked is None else F.conv3d(x, self.picked)
        with _Activations() as activations:
            found = _full_resolution(self.network(given), x.shape[2:])
        return found, *activations.before(found)

    @torch.no_grad()
    def check_output(self):
        """Raise ValueError if what the network gives for noise, as it is and far larger, is not what `output` says."""
        with frozen(self):
            probe, _ = accepted_probe(self, PROBE)
            (found, _, name), (large, *_) = self._values(probe), self._values(-LARGE * probe)
        low, high = min(found.min(), large.min()).item(), max(found.max(), large.max()).item()
        adds_up = all((values.sum(1) - 1).abs().max() < TOLERANCE for values in (found, large))
        if self.output == "logits":
            if 0 <= low < high <= 1:
                word = "softmax" if adds_up and found.shape[1] > 1 else "sigmoid"
                raise ValueError(f'the network gives values from 0 to 1 alone: say "output": "{word}"')
        elif name not in ("", self.output):
            raise ValueError(f'the network ends in a {name}: say "output": "{name}"')
        elif not name and not 0 <= low <= high <= 1:
            raise ValueError(f'the network gives values from {low:.3g} to {high:.3g}: say "output": "logits"')
        elif self.output == "softmax" and found.shape[1] > 1 and not adds_up:
            raise ValueError('the probabilities do not add up to 1: say "output": "sigmoid", or return all classes')

    def _two(self, logits):
        """Logits of background and lesion, from those of any number of classes."""
        if logits.shape[1] == 1:
            return self._with_background(logits)
        if logits.shape[1] == 2 and self.lesion_class in (1, None):
            return logits
        lesion, number = self._lesion(logits), self.lesion_class
        others = [part for part in (logits[:, :number], logits[:, number + 1 :]) if part.shape[1]]
        others = others[0] if len(others) == 1 else torch.cat(others, 1)
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

    options: of `Adapter`; channels may be named as in `scan_channels`.  Raises ValueError (`check_network`) if what they
    say does not make it so.
    """
    usual = {"channels": SEQUENCES, "output": "logits", "lesion_class": None}
    if options.get("output", "logits") not in OUTPUTS:
        raise ValueError(f"output is {options['output']!r}: choose one of {', '.join(OUTPUTS)}")
    if "channels" in options:
        named, options = options["channels"], options | {"channels": scan_channels(options["channels"])}
        if not options["channels"]:
            raise ValueError(f"channels are {named!r}: give some of {', '.join(SEQUENCES)} (or T1w), each once")
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
    network.check_output()
    return network


def scan_channels(names):
    """The sequences of a scan that channels are, by their names; None if one is none of them, or is there twice."""
    wanted = tuple(ALIASES.get(name.lower()) for name in names) if all(isinstance(name, str) for name in names) else ()
    return wanted if wanted and None not in wanted and len(set(wanted)) == len(wanted) else None


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
            self.seen.append((result, _version(result), args[0], name))
        return result

    def before(self, values):
        """What gave these values, before its activation, and the name of that; None and "" if they are not what an
        activation gave, or were changed in place since."""
        seen = (entry[2:] for entry in self.seen if entry[0] is values and entry[1] == _version(values))
        return next(seen, (None, ""))


def _version(values):
    """How often a tensor was changed in place; 0 in inference mode, where nobody counts."""
    return 0 if values.is_inference() else values._version


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
