"""Scores of cuts of speech by a model, and the figures they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.classifier import softmax
from edge.frontend import Float64Array
from train.corpus.cuts import Cut
from train.evaluation.inference import TINY
from train.evaluation.metrics import (
    accuracies,
    bootstrap_weights,
    confusions,
    interval,
    log_likelihood_ratios,
    measures,
    reliability,
    with_intervals,
)
from train.evaluation.open_set import detection_curve
from train.evaluation.yardstick import Yardstick

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Scored:
    """A model's answers for cuts of one duration.

    Attributes
    ----------
    cuts : list of Cut
    log_probabilities : ndarray, shape (cuts, classes), float64
    labels : tuple of str
        Classes.
    """

    cuts: list[Cut]
    log_probabilities: Float64Array
    labels: tuple[str, ...]

    @property
    def wanted(self) -> np.ndarray:
        """Index of the true class of each cut, shape (cuts,)."""
        return np.array([self.labels.index(cut.language) for cut in self.cuts])

    @property
    def probabilities(self) -> Float64Array:
        """Shape (cuts, classes)."""
        return np.asarray(np.exp(self.log_probabilities))

    def take(self, chosen: Sequence[int]) -> Scored:
        """Some of the cuts."""
        some = [self.cuts[i] for i in chosen]
        return Scored(some, self.log_probabilities[list(chosen)], self.labels)


def among(scored: Scored, labels: Sequence[str]) -> Scored:
    """The same answers where it is known that one of some classes is right.

    That is not what ``--languages`` does, which leaves it open whether there is speech, and in
    which language: see `edge.classifier.masked`.

    Parameters
    ----------
    scored : Scored
    labels : sequence of str
        The classes that stay possible, and the only ones of the result.
    """
    columns = [scored.labels.index(label) for label in labels]
    scores = scored.log_probabilities[:, columns]
    return Scored(scored.cuts, np.log(softmax(scores) + TINY), tuple(labels))


def draws_of(found: Sequence[Cut]) -> Float64Array:
    """Bootstrap weights of cuts, by speaker within language, (draws, cuts)."""
    return bootstrap_weights(
        [cut.language for cut in found],
        [f"{cut.source}/{cut.speaker}" for cut in found],
        BOOTSTRAP_SEED,
    )


def languages_report(scored: Scored) -> dict[str, Any]:
    """Figures of cuts whose answers are all languages.

    Returns
    -------
    dict
        Those of `train.evaluation.metrics.measures` with ``intervals``, numbers of ``cuts`` and
        ``speakers``; the same ``by_source``, and accuracy ``by_language``; ``confusion`` (rows
        are truth) and ``reliability``.
    """
    probabilities, wanted = scored.probabilities, scored.wanted
    draws = draws_of(scored.cuts)
    languages = [cut.language for cut in scored.cuts]
    sources = np.array([cut.source for cut in scored.cuts])
    return {
        **summary(scored),
        "by_language": {
            language: _recall(scored, draws, scored.labels.index(language))
            for language in sorted(set(languages))
        },
        "by_source": {
            str(source): summary(scored.take(np.flatnonzero(sources == source).tolist()))
            for source in np.unique(sources)
        },
        "confusion": _confusion(scored),
        "reliability": reliability(probabilities, wanted),
    }


def open_report(scored: Scored) -> dict[str, Any]:
    """Figures with all classes possible: an answer ``other`` or ``nonspeech`` is an error."""
    return {
        **open_summary(scored),
        "confusion": _confusion(scored),
        "reliability": reliability(scored.probabilities, scored.wanted),
    }


def open_summary(scored: Scored) -> dict[str, Any]:
    """The same without answers by language and by confidence."""
    probabilities, wanted = scored.probabilities, scored.wanted
    return {
        "cuts": len(wanted),
        **with_intervals(
            accuracies(probabilities, wanted, np.ones((1, len(wanted)))),
            accuracies(probabilities, wanted, draws_of(scored.cuts)),
        ),
    }


def summary(scored: Scored) -> dict[str, Any]:
    """Figures of cuts whose answers are all languages, without groups."""
    probabilities, wanted = scored.probabilities, scored.wanted
    return {
        "languages": sorted({cut.language for cut in scored.cuts}),
        "cuts": len(wanted),
        "speakers": len({(cut.source, cut.speaker) for cut in scored.cuts}),
        **with_intervals(
            measures(probabilities, wanted, np.ones((1, len(wanted)))),
            measures(probabilities, wanted, draws_of(scored.cuts)),
        ),
    }


def difference(scored: Scored, reference: Scored) -> dict[str, Any]:
    """How far balanced accuracy is from that of the same cuts in another condition.

    Returns
    -------
    dict
        ``difference`` and its ``interval``, of draws that are the same for both.
    """
    weights = np.concatenate([np.ones((1, len(scored.cuts))), draws_of(scored.cuts)])
    here, there = (
        accuracies(some.probabilities, some.wanted, weights)["balanced_accuracy"]
        for some in (scored, reference)
    )
    return {
        "difference": round(float(here[0] - there[0]), 4),
        "interval": interval((here - there)[1:]),
    }


def _recall(scored: Scored, draws: Float64Array, language: int) -> dict[str, Any]:
    wanted = scored.wanted
    own = wanted == language
    hit = scored.log_probabilities.argmax(axis=1)[own] == language
    speakers = {(scored.cuts[i].source, scored.cuts[i].speaker) for i in np.flatnonzero(own)}
    return {
        "cuts": int(own.sum()),
        "speakers": len(speakers),
        "accuracy": round(float(hit.mean()), 4),
        "interval": interval(draws[:, own] @ hit / draws[:, own].sum(axis=1)),
    }


def _confusion(scored: Scored) -> dict[str, dict[str, int]]:
    """Cuts of each language by answer; answers that do not occur are left out."""
    wanted = scored.wanted
    counts = confusions(scored.probabilities, wanted, np.ones((1, len(wanted))))[0].astype(int)
    return {
        scored.labels[truth]: {
            scored.labels[answer]: int(counts[truth, answer])
            for answer in np.flatnonzero(counts[truth])
        }
        for truth in np.unique(wanted)
    }


def trial_curve(scored: Scored) -> list[list[float]]:
    """Detection-error trade-off of the trials of all languages, two at least, pooled."""
    ratios = log_likelihood_ratios(scored.probabilities)
    trials = scored.wanted[:, None] == np.arange(len(scored.labels))
    return detection_curve(ratios[trials], ratios[~trials])


def compare(scored: Scored, yardstick: Yardstick) -> dict[str, Any] | None:
    """Both recognisers on the cuts that the yardstick has; None if there are none.

    Parameters
    ----------
    scored : Scored
        Among the languages.
    yardstick : Yardstick
    """
    common = [i for i, cut in enumerate(scored.cuts) if yardstick.has(cut)]
    if not common:
        return None
    ours = scored.take(common)
    theirs = Scored(ours.cuts, yardstick.log_probabilities(ours.cuts, scored.labels), scored.labels)
    return {
        "cuts": len(common),
        "model": languages_report(ours),
        "yardstick": languages_report(theirs),
    }
