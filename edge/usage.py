"""Which languages are spoken where it listens, as far as it has heard.

Few languages are spoken in one place, again and again. So one that has been spoken is likelier to
come next than one that has not: how likely each is expected to be is the mean of a Dirichlet
distribution over the classes, which is even to begin with (MacKay and Peto 1995, "A hierarchical
Dirichlet language model"). What was heard long ago counts for less, and no language for so much
that a visitor's would not be heard.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge.model.modelfile import NONSPEECH, OTHER

# Chosen on development streams, see docs/experiments.md.
BEFOREHAND_S = 30.0  # of each class that count as heard before anything is
MOST_S = 120.0  # of a language that count besides
HALF_LIFE_S = 3600.0  # after which what was heard counts for half as much


class Usage:
    """How much of each language has been spoken.

    Parameters
    ----------
    labels : sequence of str
        Classes. What is `OTHER` may be any language, and is expected no more for having been heard.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._spoken_s = {label: 0.0 for label in self._labels if label not in (OTHER, NONSPEECH)}
        self.go_on()

    def go_on(self) -> None:
        """Go on with a stream whose time begins anew."""
        self._until_s = 0.0

    def add(self, label: str, start_s: float, end_s: float) -> None:
        """Take what a stretch of the stream was in, in their order."""
        kept = 0.5 ** ((end_s - self._until_s) / HALF_LIFE_S)
        self._until_s = end_s
        for language in self._spoken_s:
            self._spoken_s[language] *= kept
        if label in self._spoken_s:
            self._spoken_s[label] = min(self._spoken_s[label] + end_s - start_s, MOST_S)

    @property
    def weights(self) -> list[float]:
        """How much each class is to be expected beside the others, shape (classes,)."""
        return [BEFOREHAND_S + self._spoken_s.get(label, 0.0) for label in self._labels]
