"""What second opinions bring for how much of a core: from the compact model alone to the large one.

Shares are of one core of a Raspberry Pi 4, where an answer of the large model takes what it should
by its size (see `edge.opinion.expert`): the same figures everywhere.

Cuts are asked about in the order in which the compact model is unsure of them, as many as a share
affords while such speech goes on; the rest has the compact model's answer. Streams are followed
by the very code that listens, with budgets that it keeps itself; an answer comes when it would
there, and, in a row of its own, at once, as on a machine that is fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.frontend import SAMPLE_RATE_HZ, Float64Array
from edge.model.modelfile import read_model
from edge.opinion.expert import ExpertFile, Span
from train.evaluation.inference import Budgeted, Followed, Scorer, StreamRecipe, Workers
from train.evaluation.metrics import accuracies, interval
from train.evaluation.scores import Scored, among, draws_of
from train.evaluation.streams import score_streams

ASKED = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of the cuts
SHARES = (0.03, 0.1, 0.25, 1.0)  # of a core, for streams


@dataclass(frozen=True)
class Cost:
    """What the large model takes of a Raspberry Pi 4.

    Attributes
    ----------
    answer_s : float
        Of processor time, for an answer about a window as it listens.
    span : Span
        What answers are about.
    large_share : float
        Of a core, if it listens alone.
    """

    answer_s: float
    span: Span
    large_share: float

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {
            "answer_s": self.answer_s,
            "window_s": self.span.window_s,
            "longest_s": self.span.longest_s,
            "large_share": self.large_share,
        }

    def of_cut(self, duration_s: float) -> float:
        """Processor time in seconds for all the speech of a recording, as `classify` asks."""
        span, whole = self.span, int(duration_s // self.span.longest_s)
        rest_s = duration_s - whole * span.longest_s
        parts_s = [span.longest_s] * whole + ([rest_s] if rest_s > 0 else [])
        return self.answer_s * sum(span.work(span.samples(part_s)) for part_s in parts_s)


def cost_of(file: ExpertFile) -> Cost:
    """Of a large model.

    Raises
    ------
    EdgelidError
        If it cannot be read.
    """
    description = read_model(file.path).description
    hop_s = file.span.window_s  # of a model that streams, a window is computed once
    if description.mode == "window":
        hop_s = description.stream.hop_frames * description.front_end.hop_samples / SAMPLE_RATE_HZ
    return Cost(file.nominal_s, file.span, file.nominal_s / hop_s)


def cuts_by_budget(
    compact: Scored,
    both: Scored,
    large: Scored,
    languages: Sequence[str],
    duration_s: float,
    cost: Cost,
) -> dict[str, Any]:
    """Accuracy of cuts of one length and condition.

    Parameters
    ----------
    compact, both, large : Scored
        Answers for the same cuts by each model alone, and by both together.
    languages : sequence of str
        Among which they choose.
    duration_s : float
        Of the cuts.
    cost : Cost

    Returns
    -------
    dict
        ``curve``, a list with ``asked`` (share of the cuts), ``share`` (of a core),
        ``balanced_accuracy`` and its ``interval``; and ``large``, the same of the large model
        alone, which answers all the time.
    """
    sure = compact.probabilities.max(axis=1)
    order = np.argsort(sure, kind="stable")
    alone, together = (among(some, languages).log_probabilities for some in (compact, both))
    weights = np.concatenate([np.ones((1, len(sure))), draws_of(compact.cuts)])

    def point(log_probabilities: Float64Array, share: float) -> dict[str, Any]:
        scored = Scored(compact.cuts, log_probabilities, tuple(languages))
        found = accuracies(scored.probabilities, scored.wanted, weights)["balanced_accuracy"]
        return {
            "share": round(share, 4),
            "balanced_accuracy": round(float(found[0]), 4),
            "interval": interval(found[1:]),
        }

    curve = []
    for asked in ASKED:
        count = round(asked * len(order))
        mixed = alone.copy()
        mixed[order[:count]] = together[order[:count]]
        share = count / len(order) * cost.of_cut(duration_s) / duration_s
        curve.append({"asked": asked, **point(mixed, share)})
    always = point(among(large, languages).log_probabilities, cost.large_share)
    return {"curve": curve, "large": always}


def streams_by_budget(
    recipes: Sequence[StreamRecipe], compact: Sequence[Followed], workers: Workers, large_s: float
) -> list[dict[str, Any]]:
    """How streams are followed, the less a budget allows the earlier.

    Parameters
    ----------
    recipes : sequence of StreamRecipe
    compact : sequence of Followed
        By the compact model alone.
    workers : Workers
        Of both models.
    large_s : float
        Share of a core of the large model alone.

    Returns
    -------
    list of dict
        ``by`` (``compact``, ``both`` or ``large``), ``budget`` (None but for both), ``at_once``
        (whether answers took no time), ``share`` (of a core, that second opinions have taken),
        ``answers_a_minute`` and :class:`train.evaluation.streams.StreamScore`.
    """
    jobs = [(recipe, share) for share in SHARES for recipe in recipes]
    found = workers.map(Scorer.budgeted, jobs, "streams by budget")
    at_once = workers.map(Scorer.at_once, recipes, "streams, with answers at once")
    large = workers.map(Scorer.stream_by_large, recipes, "streams, the large model alone")
    count = len(recipes)
    rows = [_row("compact", list(compact), 0.0)]
    for number, share in enumerate(SHARES):
        rows.append(_both(found[number * count : (number + 1) * count], share))
    rows.append(_both(at_once, 1.0) | {"at_once": True})
    return [*rows, _row("large", large, large_s)]


def _both(found: Sequence[Budgeted], budget: float) -> dict[str, Any]:
    followed = [each.followed for each in found]
    length_s = sum(spans[-1].end_s for spans, _ in followed)
    row = _row("both", followed, sum(each.took_s for each in found) / length_s)
    answers = sum(each.answers for each in found) * 60 / length_s
    return {**row, "budget": budget, "answers_a_minute": round(answers, 2)}


def _row(by: str, followed: Sequence[Followed], share: float) -> dict[str, Any]:
    score = score_streams([truth for truth, _ in followed], [found for _, found in followed])
    return {
        "by": by,
        "budget": None,
        "at_once": False,
        "share": round(share, 4),
        "answers_a_minute": None,
        **score.as_dict(),
    }
