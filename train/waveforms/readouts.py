"""A compact model's head, which while it learns is two: what each says of a window counts half.

One learns from labels and from the large model's posteriors, which are of few people. The other
learns to say what the large model's decoder says of *every* language that Whisper knows, which is
as Whisper hears and not who the people are. They err apart. Behind training they are one head of
as many hidden units as both have.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from keras import ops

from edge.errors import EdgelidError
from edge.frontend import Float32Array
from train.architecture import ModelConfig
from train.model.network import Head
from train.waveforms.lessons import divergence, targets
from train.waveforms.whisper_languages import ROWS, classes_of

SHARE = 0.5  # of the second readout in the scores

Weights = list[Float32Array]  # of a head, in Keras' order


class Readouts:
    """Both readouts of a compact model.

    Parameters
    ----------
    shape : ModelConfig
        Of the model; `hidden` is that of both together.
    classes : int
    languages_hidden : int
        Hidden units of the second one; with none there is only the first.

    Attributes
    ----------
    own : Head
        The first: classes.
    languages : Head or None
        The second: classes, and behind them all rows of `train.waveforms.large.Large.languages`.
    joined : Head
        What :meth:`join` makes of them.
    """

    def __init__(self, shape: ModelConfig, classes: int, languages_hidden: int) -> None:
        if not 0 <= languages_hidden < shape.hidden:
            raise EdgelidError("languages_hidden must be less than the hidden units of the head")
        self._classes = classes
        first = replace(shape, hidden=shape.hidden - languages_hidden)
        self.own, self.joined = Head(first, classes), Head(shape, classes)
        self.languages = None
        built = [self.own, self.joined]
        if languages_hidden:
            second = replace(shape, hidden=languages_hidden)
            self.languages = Head(second, classes + ROWS)
            built.append(self.languages)
        for head in built:
            head(np.zeros((1, 2 * shape.embedding), np.float32))

    def begin(self, weights: Weights) -> None:
        """Take over a head that was joined, or the first readout alone.

        Raises
        ------
        EdgelidError
            If it has another number of hidden units.
        """
        hidden, first = weights[0].shape[1], self.own.hidden.units
        if hidden == first:
            self.own.set_weights(weights)
            return
        both = self.joined.hidden.units
        if self.languages is None or hidden != both:
            raise EdgelidError(
                f"the head to begin with has {hidden} hidden units, where the configuration says "
                f"{first} and {both - first}"
            )
        *inner, kernel, bias = weights
        scores = [kernel[:first] / (1 - SHARE), bias / (1 - SHARE)]
        self.own.set_weights([*(part[..., :first] for part in inner), *scores])
        kernels, biases = self.languages.get_weights()[-2:]
        kernels[:, : self._classes], biases[: self._classes] = kernel[first:] / SHARE, 0.0
        self.languages.set_weights([*(part[..., first:] for part in inner), kernels, biases])

    def join(self) -> Head:
        """One head that says what both say."""
        own = self.own.get_weights()
        if self.languages is None:
            self.joined.set_weights(own)
            return self.joined
        pairs = list(zip(own, self.languages.get_weights(), strict=True))
        inner = [np.concatenate(pair, axis=-1) for pair in pairs[:-2]]
        kernels, biases = (
            (first * (1 - SHARE), second[..., : self._classes] * SHARE)
            for first, second in pairs[-2:]
        )
        self.joined.set_weights([*inner, np.concatenate(kernels), sum(biases)])
        return self.joined


def unlike_rows(said: Any, told: Any, labels: Any, speaks: Any, classes: int) -> Any:
    """How far the second readout is from what it shall say: the divergence of its rows, and of its
    classes, which are sums of rows.

    Parameters
    ----------
    said : tensor, shape (batch, classes + ROWS)
    told : tensor, shape (batch, ROWS)
    labels : tensor, shape (batch,)
    speaks : tensor, shape (batch,), bool
        Where nobody does, the last class is right, and of rows nothing is known.
    classes : int
    """
    soft, _ = targets(classes_of(told, classes - 2), labels, speaks)
    rows = divergence(ops.softmax(told), said[:, classes:])
    summed = divergence(soft, said[:, :classes])
    return ops.mean(ops.cast(speaks, "float32") * rows + summed)
