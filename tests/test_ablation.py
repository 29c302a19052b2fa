"""The ablation's table in data/README.md is that of its results."""

import pandas as pd

from lib.provenance import ROOT


def test_the_readme_shows_the_committed_ablation():
    arms = pd.read_csv(ROOT / "figures" / "ablation" / "ablation.csv").groupby("arm", sort=False)
    means, sums = arms[["threshold", "dice", "dice_mean", "ndsc"]].mean(), arms[["tp", "fp", "fn"]].sum()
    text = (ROOT / "data" / "README.md").read_text()
    for arm in means.index:
        threshold, *scores = means.loc[arm]
        numbers = [f"{threshold:.3f}", *(f"{score:.2f}" for score in scores), *map(str, sums.loc[arm])]
        assert f"| {arm} | {' | '.join(numbers)} |" in text
