"""Figures of merit of language identification, and how sure they are.

All are functions of the weights of the cuts: with weights of one they are the usual figures, and
with the counts of a bootstrap draw they are those of the draw. A thousand draws are then a few
matrix products.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.classifier import softmax
from edge.frontend import Float64Array

CALIBRATION_BINS = 15
P_TARGET = 0.5  # of the detection cost
DRAWS = 1000  # of the bootstrap
INTERVAL_PERCENT = (2.5, 97.5)
WILSON_Z = 1.959964  # of the normal distribution, at the same percentiles

IntArray = NDArray[np.int64]


def measures(
    probabilities: Float64Array, wanted: IntArray, weights: Float64Array
) -> dict[str, Float64Array]:
    """Figures of a closed set of languages.

    Parameters
    ----------
    probabilities : ndarray, shape (cuts, languages)
        Summing to one over the languages.
    wanted : ndarray, shape (cuts,)
        Index of the true language. Languages without cuts are left out of all means.
    weights : ndarray, shape (draws, cuts)

    Returns
    -------
    dict of str to ndarray, shape (draws,)
        ``accuracy`` over cuts, ``balanced_accuracy`` (mean of the languages' recalls),
        ``macro_f1``, ``cavg``, ``eer`` (of detection trials pooled over the languages: every cut
        is a trial of every language) and ``ece``. Without ``cavg`` and ``eer`` where there is one
        language, which there is nothing to tell from.
    """
    found = accuracies(probabilities, wanted, weights)
    if probabilities.shape[1] < 2:
        return found
    ratios = log_likelihood_ratios(probabilities)
    trials = wanted[:, None] == np.arange(probabilities.shape[1])  # (cuts, languages)
    return {
        **found,
        "cavg": average_cost(ratios, wanted, weights),
        "eer": equal_error_rate(
            ratios.ravel(), trials.ravel(), (np.repeat(row, trials.shape[1]) for row in weights)
        ),
    }


def accuracies(
    probabilities: Float64Array, wanted: IntArray, weights: Float64Array
) -> dict[str, Float64Array]:
    """Those of `measures` that also make sense where answers outside the languages are possible.

    Returns
    -------
    dict of str to ndarray, shape (draws,)
        ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``ece``.
    """
    confusion = confusions(probabilities, wanted, weights)  # (draws, true, answered)
    present = np.isin(np.arange(confusion.shape[1]), wanted)
    hits = np.einsum("dkk->dk", confusion)[:, present]
    true, answered = confusion.sum(axis=2)[:, present], confusion.sum(axis=1)[:, present]
    return {
        "accuracy": hits.sum(axis=1) / true.sum(axis=1),
        "balanced_accuracy": (hits / true).mean(axis=1),
        "macro_f1": (2 * hits / (true + answered)).mean(axis=1),
        "ece": calibration_errors(probabilities, wanted, weights),
    }


def confusions(
    probabilities: Float64Array, wanted: IntArray, weights: Float64Array
) -> Float64Array:
    """Weight of each pair of truth and answer, (draws, classes, classes)."""
    classes = probabilities.shape[1]
    pairs = np.eye(classes * classes)[wanted * classes + probabilities.argmax(axis=1)]
    return np.asarray(weights @ pairs).reshape(len(weights), classes, classes)


def log_likelihood_ratios(probabilities: Float64Array) -> Float64Array:
    """How much likelier a language is than the others together, whose priors are equal.

    Parameters
    ----------
    probabilities : ndarray, shape (cuts, languages)
        Of two languages at least.

    Returns
    -------
    ndarray, shape (cuts, languages)
        Natural logarithms (Brümmer and van Leeuwen 2006, "On calibration of language recognition
        scores").
    """
    languages = probabilities.shape[1]
    # Not one minus the probability, which has no digits left where that is near one.
    others = probabilities @ (1 - np.eye(languages)) / (languages - 1)
    ratios: Float64Array = np.log(probabilities + 1e-30) - np.log(others + 1e-30)
    return ratios


def average_cost(ratios: Float64Array, wanted: IntArray, weights: Float64Array) -> Float64Array:
    """Average detection cost of a closed set.

    Parameters
    ----------
    ratios : ndarray, shape (cuts, languages)
        Log-likelihood ratios.
    wanted : ndarray, shape (cuts,)
    weights : ndarray, shape (draws, cuts)

    Returns
    -------
    ndarray, shape (draws,)
        C_avg of the NIST Language Recognition Evaluation plans (2009, section 4; 2015), with
        C_miss = C_fa = 1: the mean over the N target languages of ``P_target P_miss(target) +
        sum over the others of (1 - P_target) / (N - 1) P_fa(target, other)``. A language is
        detected where its ratio exceeds the Bayes threshold, which is 0 at ``P_target`` 0.5.
        Languages without cuts are targets without misses of their own: both means go over the
        pairs that there are, which is the same where all languages have cuts.
    """
    languages = ratios.shape[1]
    detected = ratios > np.log((1 - P_TARGET) / P_TARGET)
    true = np.eye(languages)[wanted]  # (cuts, languages)
    present = true.any(axis=0)
    events = (true[:, :, None] * detected[:, None, :]).reshape(len(true), -1)
    rates = (weights @ events).reshape(len(weights), languages, languages)[:, present]
    rates /= (weights @ true)[:, present, None]  # (draws, true, detected)
    own = np.eye(languages, dtype=bool)[present]
    misses, alarms = 1 - rates[:, own], rates[:, ~own]
    return np.asarray(P_TARGET * misses.mean(axis=1) + (1 - P_TARGET) * alarms.mean(axis=1))


def equal_error_rate(
    scores: Float64Array, targets: NDArray[np.bool_], weights: Iterable[Float64Array]
) -> Float64Array:
    """Where the shares of misses and of false alarms are the same.

    Parameters
    ----------
    scores : ndarray, shape (trials,)
        Higher for targets.
    targets : ndarray of bool, shape (trials,)
        Both kinds must be there.
    weights : iterable of ndarray, shape (trials,)
        One a draw.

    Returns
    -------
    ndarray, shape (draws,)
        Interpolated between the two nearest thresholds.
    """
    order = np.argsort(-scores, kind="stable")
    # No threshold divides equal scores, and int8 gives many of them.
    last = np.append(np.diff(scores[order]) != 0, True)
    is_target = targets[order]
    rates = []
    for row in weights:
        accepted = np.cumsum(row[order] * is_target)[last]
        alarms = np.cumsum(row[order] * ~is_target)[last]
        miss = np.concatenate([[1.0], 1 - accepted / accepted[-1]])
        alarm = np.concatenate([[0.0], alarms / alarms[-1]])
        after = int(np.argmax(alarm >= miss))
        before = after - 1
        gap, next_gap = miss[before] - alarm[before], miss[after] - alarm[after]
        part = gap / (gap - next_gap)
        rates.append(alarm[before] + part * (alarm[after] - alarm[before]))
    return np.array(rates)


def calibration_errors(
    probabilities: Float64Array, wanted: IntArray, weights: Float64Array
) -> Float64Array:
    """Mean gap between confidence and accuracy, in equal bins of confidence.

    Parameters
    ----------
    probabilities : ndarray, shape (cuts, classes)
    wanted : ndarray, shape (cuts,)
    weights : ndarray, shape (draws, cuts)

    Returns
    -------
    ndarray, shape (draws,)
        Expected calibration error (Naeini et al. 2015), with 15 bins.
    """
    confidence, hit, bins = _confidence(probabilities, wanted)
    gaps = np.eye(CALIBRATION_BINS)[bins] * (hit - confidence)[:, None]  # (cuts, bins)
    return np.asarray(np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1))


def expected_calibration_error(probabilities: Float64Array, wanted: IntArray) -> float:
    """The same without weights.

    Parameters
    ----------
    probabilities : ndarray, shape (cuts, classes)
    wanted : ndarray, shape (cuts,)
    """
    return float(calibration_errors(probabilities, wanted, np.ones((1, len(wanted))))[0])


def reliability(probabilities: Float64Array, wanted: IntArray) -> list[dict[str, float]]:
    """Confidence and accuracy in each bin that holds any cuts, for a reliability diagram.

    Returns
    -------
    list of dict
        ``cuts``, mean ``confidence``, ``accuracy``.
    """
    confidence, hit, bins = _confidence(probabilities, wanted)
    return [
        {
            "cuts": int((bins == b).sum()),
            "confidence": round(float(confidence[bins == b].mean()), 4),
            "accuracy": round(float(hit[bins == b].mean()), 4),
        }
        for b in np.unique(bins)
    ]


def _confidence(
    probabilities: Float64Array, wanted: IntArray
) -> tuple[Float64Array, NDArray[np.bool_], IntArray]:
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return confidence, probabilities.argmax(axis=1) == wanted, bins


def fit_temperature(log_probabilities: Float64Array, wanted: IntArray) -> float:
    """Temperature of the least negative log-likelihood (Guo et al. 2017).

    Parameters
    ----------
    log_probabilities : ndarray, shape (n, classes)
        At temperature 1.
    wanted : ndarray, shape (n,)

    Returns
    -------
    float
        Between 0.2 and 10. Where nothing is wrong, 1: the loss only falls as everything is told as
        surer, and a few recordings without a fault do not show that the next ones have none.
    """
    if (log_probabilities.argmax(axis=1) == wanted).all():
        return 1.0
    # One parameter and a smooth, single-dipped loss: a fine grid needs no optimiser.
    grid = np.exp(np.linspace(np.log(0.2), np.log(10.0), 400))
    rows = np.arange(len(wanted))
    losses = [-np.mean(np.log(softmax(log_probabilities / t)[rows, wanted] + 1e-12)) for t in grid]
    return float(grid[int(np.argmin(losses))])


def bootstrap_weights(
    languages: Sequence[str], speakers: Sequence[str], seed: int, draws: int = DRAWS
) -> Float64Array:
    """How often each cut is in each draw of a bootstrap by speaker within language.

    Cuts of one speaker are alike: what would differ in another test set is its speakers. Of a
    language with a single speaker nothing can be said about others; its cuts are drawn one by
    one, and the interval is too narrow.

    Parameters
    ----------
    languages, speakers : sequence of str
        Of each cut.
    seed : int
    draws : int

    Returns
    -------
    ndarray, shape (draws, cuts)
        Counts. Every language is in every draw.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((draws, len(languages)))
    for language in sorted(set(languages)):
        cuts = np.flatnonzero(np.array(languages) == language)
        names, groups = np.unique(np.array(speakers)[cuts], return_inverse=True)
        if len(names) == 1:
            groups = np.arange(len(cuts))
        size = int(groups.max()) + 1
        counts = rng.multinomial(size, np.full(size, 1 / size), draws)  # (draws, groups)
        weights[:, cuts] = counts[:, groups]
    return weights


def interval(values: Float64Array) -> list[float]:
    """Percentile interval of 95 % of a figure's bootstrap draws, lower and upper end."""
    return [round(float(end), 4) for end in np.percentile(values, INTERVAL_PERCENT)]


def with_intervals(
    single: dict[str, Float64Array], drawn: dict[str, Float64Array]
) -> dict[str, Any]:
    """Figures, and under ``intervals`` those of their draws, rounded for a report."""
    return {
        **{name: round(float(values[0]), 4) for name, values in single.items()},
        "intervals": {name: interval(values) for name, values in drawn.items()},
    }


def wilson(share: float, trials: int) -> list[float]:
    """Interval of 95 % of a share of so many independent trials, lower and upper end.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    centre = share + WILSON_Z**2 / (2 * trials)
    spread = WILSON_Z * np.sqrt(share * (1 - share) / trials + WILSON_Z**2 / (4 * trials**2))
    scale = 1 + WILSON_Z**2 / trials
    return [round(float(end), 4) for end in ((centre - spread) / scale, (centre + spread) / scale)]


def moved(probabilities: Float64Array, others: Float64Array) -> float:
    """How much of a clip's probability is another class's, on average: from 0 to 1.

    It is half the sum of the differences (total variation), whose mean would shrink with the number
    of classes.

    Parameters
    ----------
    probabilities, others : ndarray, shape (clips, classes)
    """
    return float(np.abs(probabilities - others).sum(axis=1).mean() / 2)
