"""Pairs of languages: how well a model does where only two are spoken, as in many homes.

Whoever gives ``--languages de,en`` has the model choose between these two.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from edge.classifier import class_mask, masked
from edge.frontend import Float64Array
from train.evaluation.metrics import interval
from train.evaluation.scores import Scored, draws_of


def pairs_report(
    everything: Scored, languages: Sequence[str], together: bool = False
) -> dict[str, Any]:
    """Accuracy where each pair of the languages is what may be spoken.

    Parameters
    ----------
    everything : Scored
        Answers with all classes possible.
    languages : sequence of str
        Those of the model.
    together : bool
        Whether two models have answered together. Which of two languages they hold for likelier
        is known then, but not what they leave to ``other``: each is masked before they are joined.

    Returns
    -------
    dict
        ``accuracy`` with its ``interval``, ``open`` and ``open_interval``: means over the pairs of
        which there are cuts. ``by_pair`` maps ``de,en`` to its ``cuts``, ``accuracy``, ``interval``
        and ``open``. All are means of the recalls of both languages. ``accuracy`` is how often the
        right one of the two is the likelier. ``open`` is how often it is the likeliest of all
        classes, masked as ``--languages`` does it: ``other`` and ``nonspeech`` are errors.
        Without the open ones where models answer together. Empty if there are cuts of one
        language alone.
    """
    spoken = [name for name in languages if name in {cut.language for cut in everything.cuts}]
    pairs = list(combinations(spoken, 2))
    if not pairs:
        return {}
    weights = np.concatenate([np.ones((1, len(everything.cuts))), draws_of(everything.cuts)])
    own = {name: np.array([cut.language == name for cut in everything.cuts]) for name in spoken}
    closed = np.stack([_recalls(_likelier(everything, pair), own, pair, weights) for pair in pairs])
    report: dict[str, Any] = {
        "accuracy": round(float(closed[:, 0].mean()), 4),
        "interval": interval(closed[:, 1:].mean(axis=0)),
        "by_pair": {
            ",".join(pair): {
                "cuts": int((own[pair[0]] | own[pair[1]]).sum()),
                "accuracy": round(float(values[0]), 4),
                "interval": interval(values[1:]),
            }
            for pair, values in zip(pairs, closed, strict=True)
        },
    }
    if not together:
        opened = np.stack([_recalls(_answered(everything, p), own, p, weights) for p in pairs])
        report["open"] = round(float(opened[:, 0].mean()), 4)
        report["open_interval"] = interval(opened[:, 1:].mean(axis=0))
        for pair, values in zip(pairs, opened, strict=True):
            report["by_pair"][",".join(pair)]["open"] = round(float(values[0]), 4)
    return report


def _likelier(scored: Scored, pair: tuple[str, str]) -> np.ndarray:
    """Which of the two is likelier, shape (cuts,), names."""
    one, other = (scored.log_probabilities[:, scored.labels.index(name)] for name in pair)
    return np.where(one >= other, *pair)


def _answered(scored: Scored, pair: tuple[str, str]) -> np.ndarray:
    """What a device with ``--languages`` of these two answers, shape (cuts,), names."""
    mask = class_mask(scored.labels, pair).tolist()
    rows = (masked(row, scored.labels, mask) for row in scored.probabilities.tolist())
    return np.array([scored.labels[int(np.argmax(row))] for row in rows])


def _recalls(
    answers: np.ndarray, own: dict[str, np.ndarray], pair: tuple[str, str], weights: Float64Array
) -> Float64Array:
    """Mean of the recalls of both languages, shape (draws,)."""
    recalls = []
    for name in pair:
        here = weights[:, own[name]]
        recalls.append(here @ (answers[own[name]] == name) / here.sum(axis=1))
    return np.asarray(np.mean(recalls, axis=0))
