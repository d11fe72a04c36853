"""Adapting: from a book of lessons to a correction of the scores, and what that costs and brings.

A linear correction is fitted to the lessons and the anchors together, starting from the scores of
the model's own head and penalised for leaving them (`edge.lessons.fitting`). Its features are the
principal components of the pooled statistics that the anchors come with. How strong each part is
was chosen on development speech: see docs/experiments.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.errors import EdgelidError
from edge.frontend import Float64Array
from edge.lessons.anchors import Anchors, read_anchors
from edge.lessons.book import Book
from edge.lessons.correction import Correction
from edge.lessons.fitting import fit
from edge.model.interpreter import Graphs, Int8Array, WindowGraph
from edge.model.modelfile import NONSPEECH, OTHER, ModelFile

WINDOW_S = 3.0  # of lessons and of anchors
PENALTY = 0.2  # on weights of components whose variance is one
# Of all that is learnt from, where there are many lessons. The largest is taken that does not cost
# too much: fitting anew to more of the anchors keeps more of what lessons bring than scaling down
# what was fitted to few.
LESSONS_SHARES = (0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.03)
HALF_WINDOWS = 20.0  # of a language, with which it counts half as much as with any number
HALF_LANGUAGES = 0.5  # likewise, of what all languages taught count
FOLDS = 4
# A new language begins with the score of speech in no known one, less this: without lessons about
# it, that stays as likely as it was.
NEW_BELOW = 3.0
# What an update may cost, in errors on the anchors that are held out.
MAX_COST = 0.01
# How much of that lessons may take before they count for less: on development speech all others
# lose 0.9 points with it, and 1.2 if all of it may be taken.
AIMED_COST = 0.005
MAX_NEW_LANGUAGES = 20


@dataclass(frozen=True)
class Brought:
    """What lessons cost, and what they bring.

    Attributes
    ----------
    others_before, others_after : float
        Share of errors on other people's speech, the anchors that are held out. Those are
        balanced by class as far as their sources allow; a mean over classes would have the few of
        some count for too much.
    taught_before, taught_after : float
        The same on what was taught as a mean over its languages, a part at a time being left out
        of the lessons.
    strength : float
        How much lessons count beside other people's speech, of the most that they may.
    """

    others_before: float
    others_after: float
    taught_before: float
    taught_after: float
    strength: float

    @property
    def cost(self) -> float:
        """Errors on other people's speech that lessons add."""
        return self.others_after - self.others_before


@dataclass(frozen=True)
class Adapted:
    """What a model has learnt.

    Attributes
    ----------
    correction : Correction
    brought : Brought
    """

    correction: Correction
    brought: Brought


class TooDear(EdgelidError):
    """An update that would cost more than it may.

    Parameters
    ----------
    brought : Brought
    """

    def __init__(self, brought: Brought) -> None:
        super().__init__(
            f"these lessons would make the model worse: errors on other people's speech would go "
            f"from {brought.others_before:.1%} to {brought.others_after:.1%}, and on what was "
            f"taught from {brought.taught_before:.1%} to {brought.taught_after:.1%}; check the "
            "languages that were given, or give longer recordings."
        )
        self.brought = brought


def adapt(model: ModelFile, graphs: Graphs | WindowGraph, book: Book) -> Adapted:
    """Learn from lessons.

    Parameters
    ----------
    model : ModelFile
        With anchors.
    graphs : Graphs
        Of that model.
    book : Book
        For that model, with one lesson at least.

    Raises
    ------
    EdgelidError
        If the model carries no anchors, there are no lessons, or (as TooDear) they would cost too
        much.
    """
    if not book.lessons:
        raise EdgelidError("there are no lessons: `edgelid teach` gives some.")
    assert isinstance(graphs, Graphs), "books are for models that stream"
    return _Course(model, graphs, book, read_anchors(model)).adapted()


class _Course:
    """Everything that is learnt from."""

    def __init__(self, model: ModelFile, graphs: Graphs, book: Book, anchors: Anchors) -> None:
        self._model, self._anchors = model, anchors
        new = [language for language in book.languages if language not in model.labels]
        if len(new) > MAX_NEW_LANGUAGES:
            raise EdgelidError(f"a model can learn {MAX_NEW_LANGUAGES} new languages, no more.")
        self._labels = (*model.labels, *new)
        self._new = len(new)
        # Speech in a language that is not known was `other`; where there is no such class, what
        # is least like speech in another one.
        names = [label for label in (OTHER, NONSPEECH) if label in model.labels]
        self._beginning = model.labels.index(names[0]) if names else 0
        self._temperature = model.description.calibration.temperature(WINDOW_S)
        quantisation = graphs.scores
        scale = quantisation.scale / self._temperature

        def logits(scores: Int8Array) -> Float64Array:
            own = scale * (scores.astype(np.float64) - quantisation.zero_point)
            added = own[:, [self._beginning] * self._new] - NEW_BELOW
            return np.concatenate([own, added], axis=1)

        windows = np.concatenate([lesson.windows for lesson in book.lessons])
        taught = [self._labels.index(lesson.language) for lesson in book.lessons]
        counts = [len(lesson.windows) for lesson in book.lessons]
        self._classes = np.repeat(np.array(taught, np.int64), counts)
        self._features = _with_one(anchors.project(windows))
        self._logits = logits(np.stack([graphs.head(window) for window in windows]))
        # Parts of a lesson that follow one another: windows overlap, and neighbours are alike.
        self._folds = np.concatenate([np.arange(n) * FOLDS // n for n in counts])
        self._anchor_features = _with_one(anchors.components)
        self._anchor_logits = logits(anchors.scores)

    def adapted(self) -> Adapted:
        """Fit, and measure."""
        everything = np.ones(len(self._classes), bool)
        before = self._others(np.zeros((self._features.shape[1], len(self._labels))))
        for share in LESSONS_SHARES:
            fitted = self._fitted(everything, share)
            after = self._others(fitted)
            if after - before <= AIMED_COST:
                break
        taught_before = _errors(self._logits, self._classes)
        taught_after = _errors(self._logits + self._left_out(share), self._classes)
        brought = Brought(before, after, taught_before, taught_after, share / LESSONS_SHARES[0])
        if brought.cost > MAX_COST or taught_after > taught_before + MAX_COST:
            raise TooDear(brought)
        return Adapted(self._correction(fitted), brought)

    def _others(self, fitted: Float64Array) -> float:
        """Share of errors on the anchors that are held out."""
        held, anchors = self._anchors.held, self._anchors
        answers = (self._anchor_logits[held] + self._anchor_features[held] @ fitted).argmax(axis=1)
        return float((answers != anchors.classes[held]).mean())

    def _left_out(self, share: float) -> Float64Array:
        """What to add to the logits of lessons, each part by what the other parts teach."""
        corrections = np.zeros_like(self._logits)
        for fold in range(FOLDS):
            part = self._folds == fold
            if part.all() or not part.any():
                continue
            corrections[part] = self._features[part] @ self._fitted(~part, share)
        return corrections

    def _fitted(self, chosen: npt.NDArray[np.bool_], share: float) -> Float64Array:
        """Weights of the features, from some of the lessons; (1 + components, classes)."""
        own = ~self._anchors.held
        classes = np.concatenate([self._anchors.classes[own], self._classes[chosen]])
        weights = _lesson_weights(self._classes[chosen], share)
        rest = (1.0 - weights.sum()) / own.sum()
        free = np.ones((self._features.shape[1], len(self._labels)), bool)
        # A bias would make the languages of the household likelier whatever is heard. One that is
        # new has to find out how likely it is.
        free[0, : len(self._labels) - self._new] = False
        return fit(
            np.concatenate([self._anchor_features[own], self._features[chosen]]),
            np.concatenate([self._anchor_logits[own], self._logits[chosen]]),
            classes,
            np.concatenate([np.full(own.sum(), rest), weights]),
            PENALTY,
            free,
        )

    def _correction(self, fitted: Float64Array) -> Correction:
        """The same for windows as the head takes them."""
        scaled = self._temperature * fitted
        weights = self._anchors.projection @ scaled[1:]
        bias = scaled[0] - self._anchors.mean @ weights
        bias[len(bias) - self._new :] -= self._temperature * NEW_BELOW
        return Correction(self._labels, self._beginning, weights, bias)


def _lesson_weights(classes: npt.NDArray[np.int64], share: float) -> Float64Array:
    """How much each window of the lessons counts, balanced by language."""
    counts = np.bincount(classes)
    shares = counts / (counts + HALF_WINDOWS)  # of each language
    total = shares.sum()
    together = share * total / (total + HALF_LANGUAGES)
    weights: Float64Array = (shares / np.maximum(counts, 1) * together / total)[classes]
    return weights


def _with_one(components: Float64Array) -> Float64Array:
    """With a constant feature before them."""
    return np.concatenate([np.ones((len(components), 1)), components], axis=1)


def _errors(logits: Float64Array, classes: npt.NDArray[np.int64]) -> float:
    """Share of windows that are taken for another class, as a mean over the classes."""
    wrong = logits.argmax(axis=1) != classes
    return float(np.mean([wrong[classes == each].mean() for each in np.unique(classes)]))
