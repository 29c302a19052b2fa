"""How often 95 % intervals over few patients hold the truth: simulated lesions of simulated patients.

    python benchmarks/coverage.py [--simulations 6000] [--out figures/coverage]

writes coverage.csv, one row a statistic, method, intraclass correlation (icc), number of patients and of lesions a patient:
coverage with its Monte-Carlo standard error, false_exclusion (how often the interval leaves out 0 where 0 is true), median
width. Cells of 8 patients with 3 lesions have all simulations, others a sixth. Methods: percentiles of the patient
bootstrap; its standard error with Student's t; the expanded percentiles of `lib.statistics.percentile_interval`; the GEE of
`clustered_tests`; and, of five networks on the same patients, the interval of the first and that of `over_networks`.
"""

import argparse
from pathlib import Path

import lib  # noqa: F401  before numpy: it chooses the kernels

# isort: split
import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student_t

from lib.provenance import run_record
from lib.run import save_table
from lib.statistics import clustered_tests, draw_patients, over_networks, percentile_interval

RESAMPLES, CHUNK, NETWORKS = 2000, 250, 5
CELLS = [(5, 3), (8, 3), (8, 10), (20, 3), (35, 3)]  # patients, lesions of each a kind
ICC = [0.1, 0.5]
SHARE = 0.8  # of the lesions that are detected
LOAD, FALSE = (1.5, 0.8), (1.0, 0.8)  # mean and SD of the log of a patient's annotated lesions and false positives


def lesions(generator, shape, icc, kinds=1):
    """Normal values of lesions, variance 1, which share their patient's effect: (simulations, patients, kinds, lesions)."""
    simulations, patients, n = shape
    own = generator.normal(scale=np.sqrt(icc), size=(simulations, patients, 1, 1))
    return own + generator.normal(scale=np.sqrt(1 - icc), size=(simulations, patients, kinds, n))


def mean_of(values):
    """Mean of patients' lesions (simulations, patients, ...) as a function of patients' weights (R, patients)."""
    sums = values.reshape(*values.shape[:2], -1).mean(-1)
    return lambda weights: (weights @ sums.T) / weights.sum(1, keepdims=True)


def ratio_of(above, below):
    """Ratio of two sums over patients (simulations, patients)."""
    return lambda weights: (weights @ above.T) / (weights @ below.T)


def delta_of(values):
    """Cliff's delta of the first kind over the second."""
    a, b = values[:, :, 0], values[:, :, 1]
    pairs = np.sign(a[:, :, None, :, None] - b[:, None, :, None]).mean((-1, -2)).reshape(len(values), -1)

    def delta(weights):
        of_pairs = (weights[:, :, None] * weights[:, None]).reshape(len(weights), -1)
        return of_pairs @ pairs.T / weights.sum(1, keepdims=True) ** 2

    return delta


def mean(generator, shape, icc):
    return mean_of(lesions(generator, shape, icc)), 0.0


def difference(generator, shape, icc):
    values = lesions(generator, shape, icc, 2)
    return mean_of(values[:, :, 0] - values[:, :, 1]), 0.0


def volume(generator, shape, icc):
    return mean_of(np.exp(lesions(generator, shape, icc))), np.exp(0.5)


def share(generator, shape, icc):
    return mean_of(lesions(generator, shape, icc) < norm.ppf(SHARE)), SHARE


def share_difference(generator, shape, icc):
    found = (lesions(generator, shape, icc, 2) < norm.ppf(SHARE)).astype(float)
    return mean_of(found[:, :, 0] - found[:, :, 1]), 0.0


def delta(generator, shape, icc):
    return delta_of(lesions(generator, shape, icc, 2)), 0.0


def delta_shifted(generator, shape, icc):
    values = lesions(generator, shape, icc, 2) + np.array([1.0, 0.0])[:, None]
    return delta_of(values), 2 * norm.cdf(1 / np.sqrt(2)) - 1


def dice(generator, shape, _):
    return mean_of(generator.beta(6, 4, size=(*shape[:2], 1))), 0.6


def f1(generator, shape, icc):
    """Of the summed counts of patients with few to many lesions; icc: of the probit of their detection."""
    spread, size = np.sqrt(icc / (1 - icc)), shape[:2]
    detected = norm.cdf(norm.ppf(SHARE) * np.hypot(1, spread) + generator.normal(scale=spread, size=size))
    annotated = 1 + generator.poisson(generator.lognormal(*LOAD, size=size))
    tp, fp = generator.binomial(annotated, detected), generator.poisson(generator.lognormal(*FALSE, size=size))
    mean_annotated, mean_fp = 1 + np.exp(LOAD[0] + LOAD[1] ** 2 / 2), np.exp(FALSE[0] + FALSE[1] ** 2 / 2)
    return ratio_of(2.0 * tp, tp + fp + annotated), 2 * SHARE * mean_annotated / (
        mean_annotated * (1 + SHARE) + mean_fp
    )


STATISTICS = {
    "mean": mean,
    "difference of means": difference,
    "share": share,
    "difference of shares": share_difference,
    "Cliff's delta, none": delta,
    "Cliff's delta, one SD apart": delta_shifted,
    "mean Dice": dice,
    "F1": f1,
    "mean of lognormal volumes": volume,
}


def over_patients(generator, shape, icc, draw):
    """Intervals of a statistic by method, {method: (low, high)}, and its true value."""
    patients, (statistic, truth) = shape[1], draw(generator, shape, icc)
    value = statistic(np.ones((1, patients)))[0]
    resampled = statistic(draw_patients(patients, RESAMPLES, generator).astype(float))
    margin = student_t.ppf(0.975, patients - 1) * resampled.std(0) * np.sqrt(patients / (patients - 1))
    return {
        "percentile": np.quantile(resampled, [0.025, 0.975], axis=0),
        "Student's t": (value - margin, value + margin),
        "expanded percentile": percentile_interval(resampled, patients),
    }, truth


def networks_and_patients(generator, shape, icc, spread, statistic):
    """As `over_patients`, of five networks that differ by so many SD of a lesion; half the lesions' noise is theirs."""
    patients, found = shape[1], []
    common = lesions(generator, shape, icc, 2)
    own = generator.normal(scale=np.sqrt((1 - icc) / 2), size=(NETWORKS, *common.shape))
    shift = generator.normal(scale=spread, size=(NETWORKS, len(common), 1, 1)) * [1.0, 0.0]
    weights = draw_patients(patients, RESAMPLES, generator).astype(float)
    for of_network, of_kinds in zip(own, shift[..., None], strict=True):
        calculate = statistic(common + of_network + of_kinds)
        found.append((calculate(np.ones((1, patients)))[0], *percentile_interval(calculate(weights), patients)))
    values, lows, highs = np.moveaxis(found, 1, 0)
    return {"one network": (lows[0], highs[0]), "networks and patients": over_networks(values, lows, highs)[1:]}, 0.0


def of_gee(generator, shape, icc):
    """As `over_patients`: difference of two kinds in every patient by the GEE of `clustered_tests`."""
    ends, names = [], {"n_resamples": 2, "generator": generator}
    for values in lesions(generator, shape, icc, 2):
        subject, kind, _ = np.indices(values.shape)
        table = pd.DataFrame({"subject": subject.ravel(), "kind": kind.ravel(), "x": values.ravel()})
        found = clustered_tests(table, "x", "kind", [0, 1], **names)
        ends.append(found[["difference_low", "difference_high"]].to_numpy()[0])
    return {"GEE, Student's t": np.transpose(ends)}, 0.0


def cell(simulate, simulations, patients, n, icc, seed):
    """Rows of the table for one statistic, icc and number of patients and lesions."""
    generator, found = np.random.default_rng(seed), {}
    for _ in range(-(-simulations // CHUNK)):
        intervals, truth = simulate(generator, (CHUNK, patients, n), icc)
        for method, ends in intervals.items():
            found.setdefault(method, []).append(np.array(ends))
    for method, parts in found.items():
        low, high = np.concatenate(parts, axis=1)
        coverage = np.mean((low <= truth + 1e-9) & (high >= truth - 1e-9))
        yield {"method": method, "simulations": len(low), "truth": truth, "coverage": coverage,
               "standard_error": np.sqrt(coverage * (1 - coverage) / len(low)),
               "false_exclusion": np.nan if truth else 1 - coverage, "width": np.median(high - low)}  # fmt: skip


def simulated(simulations):
    simulate = {name: (lambda *given, draw=draw: over_patients(*given, draw)) for name, draw in STATISTICS.items()}
    simulate["difference of means, GEE"] = of_gee
    for spread in (0.0, 0.5):
        for name, statistic in (("mean of the first kind", lambda x: mean_of(x[:, :, 0])), ("Cliff's delta", delta_of)):
            simulate[f"{name}, networks {spread:g} SD apart"] = lambda *given, spread=spread, statistic=statistic: (
                networks_and_patients(*given, spread, statistic)
            )
    rows = []
    for name, one in simulate.items():
        for patients, n in CELLS:
            for icc in ICC:
                few = simulations if (patients, n) == (8, 3) else simulations // 6
                place = {"statistic": name, "icc": icc, "patients": patients, "lesions": n}
                rows += [place | row for row in cell(one, few, patients, n, icc, len(rows))]
        print(pd.DataFrame(rows).query("statistic == @name and patients == 8").to_string(), flush=True)
    return pd.DataFrame(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=6000)
    parser.add_argument("--out", type=Path, default=Path("figures/coverage"))
    given = parser.parse_args()
    record = run_record("benchmarks/coverage.py", {"simulations": given.simulations, "resamples": RESAMPLES})
    save_table(simulated(given.simulations), given.out / "coverage", record)


if __name__ == "__main__":
    main()
