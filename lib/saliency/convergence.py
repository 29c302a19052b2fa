"""How many noisy copies a SmoothGrad map needs: its standard error over copies, and when to stop."""

from contextlib import closing

import pandas as pd
import torch

from lib.exact import find_window
from lib.saliency.gradients import copy_maps


def smoothgrad_until(model, volume, lesion, *, tolerance, n_samples=50, **options):
    """`smoothgrad` that stops as soon as the standard error of the map is at most `tolerance`.

    The standard error is the largest over all voxels and both channels, as a fraction of the map's largest magnitude;
    it needs two copies, and n_samples is the most that are used. The copies are the first of those of `smoothgrad`,
    whatever the batch size.
    Returns the map (2, X, Y, Z), the number of copies used and the standard error reached: above the tolerance if
    n_samples were not enough.
    """
    with closing(copy_maps(model, volume, lesion, n_samples=n_samples, **options)) as maps:
        for state in _running_means(maps):
            if state[-1] <= tolerance:
                break
    n_used, mean, error = state
    return find_window(model, lesion, volume.shape[2:]).paste(mean, volume.shape[2:]), n_used, error


def standard_errors(model, volume, lesion, *, n_samples, **options):
    """Standard error of the map as in `smoothgrad_until`, after each copy: table copies (from 2), standard_error."""
    maps = copy_maps(model, volume, lesion, n_samples=n_samples, **options)
    rows = [(copies, error) for copies, _, error in _running_means(maps) if copies > 1]
    return pd.DataFrame(rows, columns=["copies", "standard_error"])


def _running_means(maps):
    """After each map (Welford's recurrence): their number, mean, and relative standard error."""
    mean, squares = 0, 0
    for number, values in enumerate(maps, 1):
        deviation = values - mean
        mean = mean + deviation / number
        squares = squares + deviation * (values - mean)
        variance = squares.max() / (number - 1) if number > 1 else torch.tensor(torch.inf)
        largest = mean.abs().max().clamp_min(torch.finfo(mean.dtype).tiny)
        yield number, mean, float((variance / number).sqrt() / largest)
