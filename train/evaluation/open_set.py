"""Open-set figures: how well a confidence keeps out other languages, noise and music."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge.frontend import Float64Array
from train.evaluation.metrics import equal_error_rate, interval

MAX_REJECTED = 0.1  # of known speech, at the second operating point
CURVE_POINTS = 200
# Where a report says how much is let in and kept out, in this order, and what reports call it.
POINTS = {
    "at_decoder_confidence": "the decoder's confidence",
    "at_10_percent_rejected": "10 % of known speech rejected",
    "known_at_10_percent_rejected": "the same, all languages together",
}


def detection_curve(known: Float64Array, strangers: Float64Array) -> list[list[float]]:
    """What each threshold on the confidence lets in and keeps out.

    Parameters
    ----------
    known, strangers : ndarray, shape (n,)
        Confidences.

    Returns
    -------
    list of [threshold, rejected, accepted]
        Share of known speech below the threshold, and share of strangers not below it, at
        thresholds from the lowest to the highest, at most 200.
    """
    thresholds = np.unique(np.concatenate([known, strangers]))
    if len(thresholds) > CURVE_POINTS:
        chosen = np.linspace(0, len(thresholds) - 1, CURVE_POINTS).round().astype(int)
        thresholds = thresholds[chosen]
    return [
        [round(float(value), 4) for value in (t, np.mean(known < t), np.mean(strangers >= t))]
        for t in thresholds
    ]


def operating_point(
    threshold: float,
    known: Float64Array,
    strangers: Float64Array,
    known_weights: Float64Array,
    stranger_weights: Float64Array,
) -> dict[str, Any]:
    """Shares at one threshold, with their intervals.

    Parameters
    ----------
    threshold : float
    known, strangers : ndarray, shape (n,)
        Confidences.
    known_weights, stranger_weights : ndarray, shape (draws, n)
        Of the bootstrap. The threshold stays where it is.
    """
    rejected, accepted = known < threshold, strangers >= threshold
    return {
        "threshold": round(threshold, 4),
        "known_rejected": round(float(rejected.mean()), 4),
        "strangers_accepted": round(float(accepted.mean()), 4),
        "intervals": {
            "known_rejected": interval(_shares(rejected, known_weights)),
            "strangers_accepted": interval(_shares(accepted, stranger_weights)),
        },
    }


def threshold_rejecting(known: Float64Array, share: float = MAX_REJECTED) -> float:
    """The highest threshold that rejects at most this share of known speech."""
    ordered = np.sort(known)
    return float(ordered[min(int(share * len(ordered)), len(ordered) - 1)])


def strangers_error_rate(known: Float64Array, strangers: Float64Array) -> float:
    """Where as many strangers are accepted as known speech is rejected."""
    scores = np.concatenate([known, strangers])
    rates = equal_error_rate(scores, np.arange(len(scores)) < len(known), np.ones((1, len(scores))))
    return round(float(rates[0]), 4)


def noise_report(
    known: Float64Array, noise: Mapping[str, Float64Array], threshold: float
) -> dict[str, Any]:
    """How many windows of noise and music are taken for a language.

    Parameters
    ----------
    known : ndarray, shape (n,)
        Confidences of known speech.
    noise : mapping of str to ndarray, shape (windows,)
        Confidences by kind of noise.
    threshold : float
        What ``called_a_language`` is measured at.
    """
    together = np.concatenate(list(noise.values()))
    return {
        "windows": len(together),
        "called_a_language": round(float(np.mean(together >= threshold)), 4),
        "by_kind": {
            kind: {
                "windows": len(values),
                "called_a_language": round(float(np.mean(values >= threshold)), 4),
            }
            for kind, values in sorted(noise.items())
        },
        "equal_error_rate": strangers_error_rate(known, together),
        "curve": detection_curve(known, together),
    }


def _shares(events: np.ndarray, weights: Float64Array) -> Float64Array:
    return np.asarray(weights @ events / weights.sum(axis=1))
