"""Which sequence, and which tissue of it, a lesion's score is owed to: Shapley values over all coalitions of them."""

from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy.special import comb

from lib.exact import find_window, predict_lesion
from lib.lesions import signed_distance
from lib.saliency import class_logit
from lib.scans import SEQUENCES
from lib.statistics import bootstrap_mean

RIM_MM = 3.0
PLACES = ("lesion", "rim", "rest")
SHARES = ["fill", "sequence", "place", "share", "score", "hidden"]
DIFFERENCE = " - ".join(SEQUENCES)


def share_score(model, volume, lesion, spacing_mm, fills):
    """How much each sequence, and the lesion, its rim and the rest in each sequence, add to a lesion's score.

    The score is the mean lesion logit over the lesion's voxels. What is not shown is replaced, and the share of a part
    is its Shapley value: what it adds, on average over all orders in which parts are shown.
    volume: (1, 2, X, Y, Z).  lesion: (X, Y, Z) bool.  fills: {name: 0 or an image (2, X, Y, Z)} in place of the rest.
    Returns a table with SHARES: share in logits; place "all" for a whole sequence, of the two sequences alone, and with
    the first fill also those of PLACES (the rim: 3 mm around the lesion), of the six parts; score with all shown, hidden
    with all replaced. The shares of the two, and of the six, sum to score - hidden.
    Raises ValueError if the lesion is empty or fills the volume, or shapes differ.
    """
    place = np.digitize(signed_distance(lesion, spacing_mm), [0, RIM_MM], right=True)
    channel = np.arange(len(SEQUENCES))[:, None, None, None]
    games = [(name, ("all",), channel + 0 * place) for name in fills]
    games.insert(1, (next(iter(fills)), PLACES, channel * len(PLACES) + place))
    rows = []
    for name, places, owner in games:
        worth = coalition_scores(model, volume, lesion, owner, fills[name])
        ends = {"score": worth.flat[-1], "hidden": worth.flat[0]}
        for (sequence, part), share in zip(product(SEQUENCES, places), shapley_values(worth), strict=True):
            rows.append({"fill": name, "sequence": sequence, "place": part, "share": share} | ends)
    return pd.DataFrame(rows, columns=SHARES)


def coalition_scores(model, volume, lesion, owner, fill):
    """Mean lesion logit over a lesion's voxels with only some parts of the input shown: of all 2^n coalitions of n parts.

    volume: (1, 2, X, Y, Z).  lesion: (X, Y, Z) bool.  owner: (2, X, Y, Z), the part 0 to n - 1 that each value belongs
    to.  fill: number or image (2, X, Y, Z) where a part is not shown.  Returns (2,) * n, float64: index 1 along axis i
    where part i is shown. Equal to that of the whole volume, computed on the lesion's window.
    """
    n, part = owner.max() + 1, find_window(model, lesion, lesion.shape).within(lesion.shape)
    images = volume[0], torch.as_tensor(fill).to(volume).expand_as(volume)[0]
    kept, rest = (image[(slice(None), *part)] for image in images)
    owner = torch.from_numpy(owner[(slice(None), *part)]).to(volume.device)
    coalitions = torch.tensor(list(product((False, True), repeat=n)), device=volume.device)
    shown = (torch.where(coalition[owner], kept, rest) for coalition in coalitions)
    scores = class_logit(predict_lesion(model, shown, lesion[part]).double()).mean(1)
    return scores.reshape((2,) * n).cpu().numpy()


def shapley_values(worth):
    """Shapley value of each of n players (Shapley 1953): what it adds on average over all orders of joining.

    worth: (2,) * n, of every coalition: index 1 along axis i where player i is in it.  Returns (n,), which sum to the
    worth of all less that of none.
    """
    n = worth.ndim
    others = np.indices((2,) * (n - 1)).sum(0)  # how many are in before the player
    return np.array([(np.diff(worth, axis=i).squeeze(i) / (n * comb(n - 1, others))).sum() for i in range(n)])


def mean_shares(shares, unit="logit", **resampling):
    """Mean share of each sequence, and of the first less the second, over lesions, with 95 % intervals over patients.

    shares: rows of `share_score` with scan, subject and label.  resampling: n_resamples and generator, as of
    `bootstrap_mean`.  Returns rows fill, place, sequence (also DIFFERENCE), share, low, high, lesions, patients; and
    unit, where it is not the logit.
    """
    rows, names = [], [*SEQUENCES, DIFFERENCE]
    for (fill, place), here in shares.groupby(["fill", "place"], sort=False):
        each = here.pivot(index=["scan", "subject", "label"], columns="sequence", values="share").reset_index()
        each[DIFFERENCE] = each[SEQUENCES[0]] - each[SEQUENCES[1]]
        found = zip(names, *bootstrap_mean(each, names, **resampling), strict=True)
        rows += [(fill, place, *numbers, len(each), each["subject"].nunique()) for numbers in found]
    columns = ["fill", "place", "sequence", "share", "low", "high", "lesions", "patients"]
    means = pd.DataFrame(rows, columns=columns)
    return means if unit == "logit" else means.assign(unit=unit)
