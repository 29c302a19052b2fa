"""Which predicted lesions are true (TP) and which false (FP): a classifier fitted on some patients, judged on others.

A table has a row a lesion: subject, kind (TP, FP, FN), drawn (bool: it has predictors and is judged) and weight (how many
lesions it stands for). Predictors: {name of a set: columns of the table}.
"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.statistics import draw_patients, percentile_interval

PENALTIES = np.logspace(-2, 0.5, 6)  # C of the classifier: inverse strength of the L1 penalty
MOST_FOLDS = 10  # one for each patient, where there are no more
WITHOUT, WITH = "all three", "all three + saliency"  # sets of predictors whose AUC is compared, where both are given
ADDED = "AUC, less that without saliency"
DETECTION = ["predictors", "measure", "value", "low", "high", "shuffled", "p", "lesions", "patients"]
MODELS = ["predictors", "C", "threshold", "offered", "used"]
COEFFICIENTS = ["predictors", "predictor", "coefficient"]


def reason_not_to_judge(fitted, tested):
    """Why no classifier can be fitted on one table and judged on another, in a sentence; "" if it can be."""
    drawn = [table.loc[table["drawn"], ["subject", "kind"]] for table in (fitted, tested)]
    patients = [one.groupby("kind")["subject"].nunique().reindex(["TP", "FP"], fill_value=0) for one in drawn]
    enough = (patients[0] > 1).all() and (patients[1] > 0).all()
    fitted = fitted[fitted["drawn"]]
    if enough and all(len(set(fitted["kind"][train])) == 2 for train in _training(fitted)):
        return ""
    counts = zip(("TP", "FP"), *patients, strict=True)
    said = " and ".join(f"{kind} of {fit} validation and {test} test patients" for kind, fit, test in counts)
    return f"nothing is judged, as it takes TP and FP of two validation patients or more and of a test patient: there are {said}"


def judge_predictors(fitted, tested, predictors, *, n_permutations, n_resamples, generator):
    """Classifiers of TP and FP with each set of predictors, fitted on one table and judged on the other.

    Returns the probability of a TP by each set of the drawn rows of the second, and three tables: DETECTION, with 95 %
    intervals over patients; MODELS; COEFFICIENTS that are not 0, of standardised predictors.
    AUC is over all pairs of a drawn TP and a drawn FP, each counted once, and over those of one patient; that of WITH less that of WITHOUT is ADDED, in
    the same resamples of patients. F1 and PPV are of all rows with their weights, before and after those are removed whose probability is
    below the threshold of `best_removal`. shuffled: mean AUC of n_permutations of the kinds within each patient, in both
    tables, with everything done anew; p: how often it was not below that of the true kinds. Where the penalty leaves no
    predictor, all probabilities are the same and the AUC of 0.5 is no measurement: interval and p are NaN.
    """
    drawn, judged = (table[table["drawn"]] for table in (fitted, tested))
    scores, thresholds, models, coefficients = {}, {}, [], []
    for name, columns in predictors.items():
        model, of_others = fit_classifier(drawn, columns)
        scores[name], thresholds[name] = _probability(model, judged[columns]), best_removal(fitted, of_others)
        weights, penalty = model[-1].coef_[0], model[-1].C
        models.append((name, penalty, thresholds[name], len(columns), np.count_nonzero(weights)))
        coefficients += [(name, *pair) for pair in zip(columns, weights, strict=True) if pair[1]]
    scores = pd.DataFrame(scores, index=judged.index)
    shuffled = _shuffled_aucs(drawn, judged, predictors, n_permutations, generator)
    seed = generator.integers(2**32)  # of the resamples: the same for all
    rows = _auc_rows(judged, scores, shuffled, n_resamples, seed) + _rate_rows(
        tested, scores >= pd.Series(thresholds), n_resamples, seed
    )
    tables = (rows, DETECTION), (models, MODELS), (coefficients, COEFFICIENTS)
    return scores, *(pd.DataFrame(found, columns=columns) for found, columns in tables)


def _auc_rows(judged, scores, shuffled, n_resamples, seed):
    true, subject, rows = _is_true(judged), judged["subject"].to_numpy(), []
    of_kind = [set(subject[kind]) for kind in (true, ~true)]
    for measure, within, chances in zip(("AUC", "AUC within patients"), (False, True), shuffled, strict=True):
        patients = len(set.intersection(*of_kind)) if within else min(map(len, of_kind))
        resampling = {"n_resamples": n_resamples, "generator": np.random.default_rng(seed)}
        values, resampled = resampled_aucs(scores.to_numpy().T, true, subject, within=within, **resampling)
        for name, value, of_patients, chance in zip(scores, values, resampled.T, chances.T, strict=True):
            told = np.isfinite(value) and scores[name].nunique() > 1
            p = (1 + (chance >= value).sum()) / (1 + len(chance)) if told else np.nan
            ends = percentile_interval(of_patients, patients) if told else (np.nan, np.nan)
            rows.append((name, measure, value, *ends, chance.mean(), p, len(judged), patients))
        if {WITHOUT, WITH} <= set(scores) and not within:
            less, more = (list(scores).index(name) for name in (WITHOUT, WITH))
            ends = percentile_interval(resampled[:, more] - resampled[:, less], patients)
            rows.append((WITH, ADDED, values[more] - values[less], *ends, np.nan, np.nan, len(judged), patients))
    return rows


def _rate_rows(tested, kept, n_resamples, seed):
    counts, rows = (len(tested), tested["subject"].nunique()), []
    for name in kept:
        resampling = {"n_resamples": n_resamples, "generator": np.random.default_rng(seed)}
        found = removal_rates(tested, kept[name], **resampling)
        rows += [(name, measure, *numbers, np.nan, np.nan, *counts) for measure, numbers in found.items()]
    return rows


def fit_classifier(drawn, columns):
    """Logistic regression with an L1 penalty of standardised predictors, and the probability of a TP of each row (a Series)
    by the classifier of the other folds.

    The penalty is that with the least deviance of these probabilities. Folds are of whole patients.  Raises ValueError if
    a classifier would see one kind alone.
    """
    x, true, folds = drawn[columns].to_numpy(float), _is_true(drawn), list(_training(drawn))
    found = np.empty((len(PENALTIES), len(x)))
    for probability, penalty in zip(found, PENALTIES, strict=True):
        for train in folds:
            probability[~train] = _probability(_classifier(penalty).fit(x[train], true[train]), x[~train])
    best = np.argmin([log_loss(true, probability) for probability in found])
    return _classifier(PENALTIES[best]).fit(x, true), pd.Series(found[best], drawn.index)


def best_removal(table, probability):
    """Threshold on the probability of a TP (Series of drawn rows) below which removing has the best F1; 0: nothing is removed.

    Of equals the lowest, which removes fewest.
    """
    tried = np.r_[0.0, np.unique(probability)]
    f1 = [_f1_and_ppv(_counts(table, probability >= threshold).sum(0))[0] for threshold in tried]
    return float(tried[np.nanargmax(f1)]) if np.isfinite(f1).any() else 0.0


def removal_rates(table, kept, *, n_resamples, generator):
    """{measure: (value, low, high)}: F1 and PPV of lesions before and after, and their difference, over patients.

    kept: bool Series of the drawn rows; all other rows are kept. A TP that is removed is an FN.
    """
    before, after = _counts(table, kept | True), _counts(table, kept)
    drawn = draw_patients(len(before), n_resamples, generator)
    found = {"before": [before.sum(0), drawn @ before], "after": [after.sum(0), drawn @ after]}
    found = {name: [_f1_and_ppv(counts) for counts in pair] for name, pair in found.items()}
    found["after - before"] = [last - first for first, last in zip(*found.values(), strict=True)]
    return {
        f"{rate}, {name}": (float(value[place]), *percentile_interval(resampled[:, place], len(before)))
        for place, rate in enumerate(("F1", "PPV"))
        for name, (value, resampled) in found.items()
    }


def resampled_aucs(scores, true, subject, *, within, n_resamples, generator):
    """AUC of several scores, (sets,), and in resamples of whole patients, (n_resamples, sets).

    scores: (sets, n).  true: (n,) bool.  subject: (n,).  within: only pairs of lesions of one patient. A resample needs
    only, for each pair of patients, how often a TP of the one is above an FP of the other (a half, where equal).
    """
    member = subject[:, None] == np.unique(subject)
    of_true, of_false = member[true].astype(float), member[~true].astype(float)
    gaps = (np.subtract.outer(score[true], score[~true]) for score in np.asarray(scores, float))
    won = np.stack([of_true.T @ ((np.sign(gap) + 1) / 2) @ of_false for gap in gaps])
    pairs = np.outer(of_true.sum(0), of_false.sum(0))
    drawn = draw_patients(len(pairs), n_resamples, generator)
    with np.errstate(invalid="ignore"):
        if within:
            won, pairs = np.diagonal(won, axis1=1, axis2=2), np.diagonal(pairs)
            return won.sum(1) / pairs.sum(), drawn @ won.T / (drawn @ pairs)[:, None]
        resampled = np.stack([((drawn @ one) * drawn).sum(1) for one in (*won, pairs)], axis=1)
        return won.sum((1, 2)) / pairs.sum(), resampled[:, :-1] / resampled[:, -1:]


def _shuffled_aucs(drawn, judged, predictors, n_permutations, generator):
    """AUC over all pairs and within patients, (2, permutations, sets), of classifiers of kinds shuffled within patients."""
    found = np.empty((2, n_permutations, len(predictors)))
    for number in range(n_permutations):
        fitted, tested = (_shuffled(table, generator) for table in (drawn, judged))
        models = (fit_classifier(fitted, columns)[0] for columns in predictors.values())
        scores = [_probability(model, tested[names]) for model, names in zip(models, predictors.values(), strict=True)]
        given = scores, _is_true(tested), tested["subject"].to_numpy()
        for within in (False, True):
            found[int(within), number], _ = resampled_aucs(*given, within=within, n_resamples=0, generator=generator)
    return found


def _shuffled(table, generator):
    kinds = table.groupby("subject")["kind"].transform(lambda kinds: generator.permutation(kinds.to_numpy()))
    return table.assign(kind=kinds)


def _counts(table, kept):
    """TP, FP and FN of each patient, (patients, 3), where drawn rows that are not kept (bool Series) are removed."""
    kept = kept.reindex(table.index, fill_value=True)
    after = table["kind"].where(kept, table["kind"].map({"TP": "FN"}))  # of a removed FP, nothing
    counts = table.groupby([table["subject"], after])["weight"].sum().unstack(fill_value=0.0)
    return counts.reindex(index=np.unique(table["subject"]), columns=["TP", "FP", "FN"], fill_value=0.0).to_numpy()


def _f1_and_ppv(counts):
    """From TP, FP and FN along the last axis; NaN without any."""
    tp, fp, fn = np.moveaxis(counts, -1, 0)
    with np.errstate(invalid="ignore"):
        return np.stack([2 * tp / (2 * tp + fp + fn), tp / (tp + fp)], axis=-1)


def _training(drawn):
    """The rows of the patients that the classifier of each fold is fitted on: (n,) bool each."""
    subject = drawn["subject"].to_numpy()
    for train, _ in GroupKFold(min(len(set(subject)), MOST_FOLDS)).split(subject, groups=subject):
        yield np.isin(np.arange(len(subject)), train)


def _is_true(table):
    return (table["kind"] == "TP").to_numpy()


def _classifier(penalty):
    regression = LogisticRegression(
        C=penalty, l1_ratio=1, solver="liblinear", intercept_scaling=10, random_state=0, max_iter=1000
    )
    return make_pipeline(StandardScaler(), regression)


def _probability(model, x):
    return model.predict_proba(np.asarray(x, float))[:, 1]
