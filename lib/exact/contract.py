"""What is asked of a network before its logits are predicted or explained, tried on a few small windows."""

from functools import lru_cache
from weakref import ref

import torch

from lib.exact.graph import frozen, held_by, like_model, n_channels

# (X, Y, Z), tried in turn: networks want multiples of their strides, and some more than one voxel at their deepest level.
SIZES = [(32, 32, 32), (64, 32, 32), *((side,) * 3 for side in (48, 54, 64, 80, 96))]
LARGE = (0.4, 0.2, 0.1, 0.05, 0)  # powers of the largest number: factors of a probe, smaller where values overflow
A_PATCH = 1000  # voxels at least, in which no logits add up to 1 by chance
TOLERANCE = 1e-2  # of two calls on one input, and of probabilities that add up to 1: also in half precision


def check_network(model, shape, operations=()):
    """Once for each network and shape: does it give logits of background and lesion on the grid of its channels?

    shape: (X, Y, Z) that the network is used on; it is tried where smaller windows are not accepted.  operations: their
    names, where they are known: a network that now computes something else is tried again.
    Returns whether a call changes nothing that the network holds: several may then run at the same time.
    Raises ValueError, which says what was found and what to do, if the network does not take (1, C, X, Y, Z), gives
    anything but a tensor (1, 2, X, Y, Z), probabilities, values that are not finite, or others at every call.
    """
    return _checked(ref(model), (repr(model), *operations), tuple(shape))


@lru_cache(64)
def _checked(network, _, shape):
    model = network()
    with frozen(model), torch.no_grad():
        probe, logits = accepted_probe(model, shape)
        before = held_by(model)
        again, of_other = model(probe.clone()), _of_large(model, probe)
        after = held_by(model)
    if not logits.isfinite().all():
        raise ValueError("the network gives NaN or infinite values for normal noise: its weights are not usable")
    if (again - logits).abs().max() > TOLERANCE * logits.abs().max():
        raise ValueError(
            "the network gives other values when it is called again on the same input: "
            "switch off its dropout, or what else is random in it, in evaluation mode"
        )
    if found := _probabilities(logits, of_other):
        raise ValueError(f"the network gives {found}, for logits are explained")
    same = (one is other and version == now for (one, version), (other, now) in zip(before, after, strict=False))
    return len(before) == len(after) and all(same)


def usable(logits):
    """Logits (B, 2, ...) of a scan, as they are: what `check_network` found may have changed since.

    Raises ValueError if one is NaN or infinite, or if those of a whole patch are probabilities, or their logarithms.
    """
    if not logits.isfinite().all():
        raise ValueError(
            "the network gives NaN or infinite values for this scan: its weights, or the scan, are not usable"
        )
    lesion = logits[:, 1]
    if lesion.numel() >= A_PATCH and lesion.max() - lesion.min() > TOLERANCE:
        for values, what in ((logits, "softmax"), (logits.exp(), "log-softmax")):
            if values.min() >= 0 and (values.sum(1) - 1).abs().max() < TOLERANCE:
                raise ValueError(
                    f"the network now gives probabilities: end it before its {what}, for logits are explained"
                )
    return logits


def of_each(logits, copies):
    """Logits (B, 2, ...) of copies (B, C, ...) that were passed together, as they are.  ValueError if they are not as many."""
    if len(logits) != len(copies):
        raise ValueError(
            f"the network gives {len(logits)} results for {len(copies)} volumes together: "
            "let it treat each volume of a batch alone, x in place of x[:1]"
        )
    return logits


def accepted_probe(model, shape):
    """The first probe (1, C, X, Y, Z) that the network accepts and answers on its own grid, and the answer.  shape: of
    `check_network`.  Raises ValueError if there is none."""
    mismatch = failure = None
    channels = n_channels(model)
    for size in [*SIZES, shape]:
        noise = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))
        probe = like_model(model, noise)
        try:
            output = model(probe.clone())
        except Exception as error:  # whatever a stranger's network raises
            said = " ".join(str(error).split())
            scan = "FLAIR and MPRAGE as two channels of a scan" if channels == 2 else f"a scan of {channels} channels"
            failure = f"the network does not take {tuple(probe.shape)}, {scan}: {said}"
            continue
        if found := _no_logits(output, probe):
            raise ValueError(f"the network gives {found}")
        if output.shape == (1, 2, *size):
            return probe, output
        mismatch = mismatch or f"{tuple(output.shape)} for an input of {tuple(probe.shape)}"
    if mismatch:
        raise ValueError(f"the network gives {mismatch}: pad its convolutions or its output to the grid of the input")
    raise ValueError(failure)


def _of_large(model, probe):
    """Output for a probe turned round and as large as gives finite values: whatever the weights, logits are then no
    probabilities."""
    for power in LARGE:
        output = model(-(torch.finfo(probe.dtype).max ** power) * probe)
        if output.isfinite().all():
            break
    return output


def _no_logits(output, probe):
    """What an output is, and what to do, if no other size of the input can make logits of it; else None."""
    if isinstance(output, dict):
        return f"a dict of {', '.join(map(str, output))}: wrap it in a module that returns the logits among them"
    if isinstance(output, list | tuple):
        return (
            f"a {type(output).__name__} of {len(output)}: wrap it in a module that returns the logits, mostly the first"
        )
    if not isinstance(output, torch.Tensor):
        return f"a {type(output).__name__}: wrap it in a module that returns logits as a tensor"
    shape = tuple(output.shape)
    if not output.is_floating_point():
        return f"values of {output.dtype}: end it before logits become labels"
    if output.device != probe.device:
        return f"values on {output.device} for an input on {probe.device}: keep both on one device"
    if output.ndim == 6:
        return f"stacked heads, {shape}: return the first, output[:, 0], or switch deep supervision off"
    if output.ndim != 5 or len(output) != 1 or output.shape[-1] == 2:
        return f"{shape} for an input of {tuple(probe.shape)}: return logits with the axes (N, 2, X, Y, Z)"
    if shape[1] == 1:
        return (
            f"one channel, {shape}: return that of the background too, torch.cat([torch.zeros_like(logit), logit], 1)"
        )
    if shape[1] != 2:
        return f"{shape[1]} channels, {shape}: return background and lesion, other classes joined by torch.logsumexp"
    return None


def _probabilities(*outputs):
    """What to leave out if the outputs (1, 2, X, Y, Z) of two different inputs are probabilities or their logarithms."""

    def add_up(values):
        return (values.sum(1) - 1).abs().max() < TOLERANCE

    if all(add_up(values.exp()) for values in outputs):
        return "logarithms of probabilities: end it before its log-softmax"
    if all(values.min() >= 0 and values.max() <= 1 for values in outputs):
        if all(map(add_up, outputs)):
            return 'probabilities that add up to 1: end it before its softmax, or say "output": "softmax"'
        if outputs[0].min() < outputs[0].max():
            return 'values from 0 to 1 alone: end it before its sigmoid, or say "output": "sigmoid"'
    return None
