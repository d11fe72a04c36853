"""A training step that is a pure function, on TensorFlow or JAX, and the course of a run.

Only the taking of the gradient differs between the two (``KERAS_BACKEND``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

JAX = keras.backend.backend() == "jax"
BETA_1, BETA_2 = 0.9, 0.98  # of AdamW
CLIP_NORM = 5.0  # of the gradient
BATCH = 16  # that are computed at once, where nothing is learnt
LEARNT, NEW = 0, 1  # places of their shares of the learning rate


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The same function, compiled by whichever backend computes."""
    fast: Callable[..., Any]
    if JAX:
        import jax

        fast = jax.jit(function, **options)
    else:
        import tensorflow as tf

        fast = tf.function(function, autograph=False)
    return fast


def batched(call: Callable[..., Any], *arrays: np.ndarray) -> Any:
    """What a function of batches makes of all that there is.

    Parameters
    ----------
    call : callable
        From tensors in float32, (at most `BATCH`, ...), to one tensor or a tuple of them.
    *arrays : ndarray, shape (n, ...)

    Returns
    -------
    ndarray, or tuple of ndarray, shape (n, ...)
    """
    fast = compiled(call)
    found = [
        fast(*(x[i : i + BATCH].astype(np.float32) for x in arrays))
        for i in range(0, len(arrays[0]), BATCH)
    ]
    if isinstance(found[0], tuple):
        return tuple(np.concatenate([np.asarray(x) for x in p]) for p in zip(*found, strict=True))
    return np.concatenate([np.asarray(part) for part in found])


def with_values(model: Any, values: Any) -> Any:
    """A scope in which the model's variables have other values, which a compiler may vary."""
    return keras.StatelessScope(list(zip(model.variables, values, strict=True)))


def share_processors(towers: int) -> None:
    """Let TensorFlow compute so many parts of a batch side by side, each in one thread.

    To be called before anything is computed.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(towers)


class Stepper:
    """A pure training step: state and draw in, state and figures out.

    AdamW (Loshchilov and Hutter 2019) is written out, as Keras' own is no pure function on every
    backend.

    Parameters
    ----------
    models : list of keras.Model or keras.Layer
        What learns.
    loss : callable
        ``loss(outs, draw, constants) -> (loss, figures)`` where ``outs(i, *args)`` calls the i-th
        model in training.
    rates : callable
        From a variable to its peak learning rate.
    weight_decay : float
        Of matrices.
    decay : float
        Of the average of the weights.
    new : list of variable
        Those of what learns that have learnt nothing yet: :meth:`step` can give them a learning
        rate of their own.
    towers : int
        Parts of a batch that are computed side by side, on TensorFlow: without a GPU a thread for
        each is faster than all threads for every operation, one operation after another.
    """

    def __init__(
        self,
        models: list[Any],
        loss: Callable[..., Any],
        rates: Callable[[Any], float],
        weight_decay: float,
        decay: float,
        new: Sequence[Any] = (),
        towers: int = 1,
    ) -> None:
        self.models, self.loss, self.decay, self.towers = models, loss, decay, towers
        self.variables = [v for m in models for v in m.trainable_variables]
        self.counts = [len(m.trainable_variables) for m in models]
        self.rest = [len(m.non_trainable_variables) for m in models]
        self.norms = [_places_of_statistics(m) for m in models]
        self.rates = [rates(v) for v in self.variables]
        self.decays = [weight_decay if len(v.shape) > 1 else 0.0 for v in self.variables]
        self.new = [any(v is x for x in new) for v in self.variables]
        self.begin()
        self.compiled = compiled(self._step, **({"donate_argnums": (0,)} if JAX else {}))

    def begin(self) -> None:
        """Take the state from the models as they are."""
        self.state: dict[str, Any] = {
            "trained": [v.value + 0.0 for v in self.variables],
            "rest": [v.value + 0 for m in self.models for v in m.non_trainable_variables],
            "first": [ops.zeros_like(v.value) for v in self.variables],
            "second": [ops.zeros_like(v.value) for v in self.variables],
            "average": [v.value + 0.0 for v in self.variables],
            "step": ops.convert_to_tensor(0.0),
        }

    def _split(self, values: list[Any], counts: list[int]) -> list[list[Any]]:
        stops = np.cumsum(counts)
        return [list(values[b - n : b]) for b, n in zip(stops, counts, strict=True)]

    def _losses(self, trained: list[Any], rest: list[Any], draw: Any, constants: Any) -> Any:
        parts, others = self._split(trained, self.counts), self._split(rest, self.rest)

        def outs(i: int, *args: Any, **kwargs: Any) -> Any:
            out, others[i] = self.models[i].stateless_call(parts[i], others[i], *args, **kwargs)
            for norm, places in self.norms[i]:
                for place, seen in zip(places, norm.seen, strict=False):
                    others[i][place] += (1 - norm.momentum) * (seen - others[i][place])
                norm.seen = ()
            return out

        loss, figures = self.loss(outs, draw, constants)
        return loss, (figures, [v for o in others for v in o])

    def _gradients(self, state: dict[str, Any], draw: Any, constants: Any) -> Any:
        trained, rest = state["trained"], state["rest"]
        if JAX:
            import jax

            (_, told), gradients = jax.value_and_grad(self._losses, has_aux=True)(
                trained, rest, draw, constants
            )
            return gradients, told
        import tensorflow as tf

        found = []
        for i in range(self.towers):
            part = {k: v[i :: self.towers] for k, v in draw.items()} if self.towers > 1 else draw
            with tf.GradientTape() as tape:
                tape.watch(trained)
                loss, told = self._losses(trained, rest, part, constants)
            found.append((tape.gradient(loss, trained), told))
        return tf.nest.map_structure(lambda *values: sum(values) / len(values), *found)

    def _step(self, state: dict[str, Any], draw: Any, constants: Any, factor: Any) -> Any:
        gradients, (figures, rest) = self._gradients(state, draw, constants)
        norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in gradients))
        clipped = ops.minimum(1.0, CLIP_NORM / (norm + 1e-6))
        step = state["step"] + 1.0
        follow = ops.minimum(self.decay, (1 + step) / (10 + step))
        new: dict[str, Any] = {n: [] for n in ("trained", "first", "second", "average")}
        columns = ("trained", "first", "second", "average")
        told = (self.rates, self.decays, self.new)
        rows = zip(*(state[n] for n in columns), gradients, *told, strict=True)
        for weight, first, second, average, gradient, rate, decay, is_new in rows:
            gradient = gradient * clipped
            first = BETA_1 * first + (1 - BETA_1) * gradient
            second = BETA_2 * second + (1 - BETA_2) * ops.square(gradient)
            mean = first / (1 - BETA_1**step)
            deviation = ops.sqrt(second / (1 - BETA_2**step))
            move = mean / (deviation + 1e-7) + decay * weight
            weight = weight - rate * factor[NEW if is_new else LEARNT] * move
            average = average * follow + weight * (1 - follow)
            for name, value in zip(columns, (weight, first, second, average), strict=True):
                new[name].append(value)
        return new | {"rest": list(rest), "step": step}, {**figures, "norm": norm}

    def step(self, draw: Any, constants: Any, factor: float, new: float | None = None) -> Any:
        """Advance the state, at a share of the peak learning rates; returns figures.

        `new` is the share for the new variables, where it is another.
        """
        scale = ops.convert_to_tensor(
            np.array([factor, factor if new is None else new], np.float32)
        )
        self.state, figures = self.compiled(self.state, draw, constants, scale)
        return figures

    def settle(self, averaged: bool = True) -> None:
        """Put the (averaged) weights into the models."""
        values = self.state["average" if averaged else "trained"]
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)
        rest = [v for m in self.models for v in m.non_trainable_variables]
        for variable, value in zip(rest, self.state["rest"], strict=True):
            variable.assign(value)


def _places_of_statistics(model: Any) -> list[tuple[Any, list[int]]]:
    """Normalisations that leave moving their statistics to who trains, and where these are."""
    where = {id(v): i for i, v in enumerate(model.non_trainable_variables)}
    return [
        (norm, [where[id(norm.moving_mean)], where[id(norm.moving_variance)]])
        for norm in getattr(model, "norms", [])
    ]


def rate_factor(progress: float, warmup: float = 0.04) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine to a hundredth."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return float(0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * (progress - warmup) / (1 - warmup))))


class Clock:
    """Stops a run when its time is up, and says where it stands.

    Parameters
    ----------
    limit_s : float
    spent_s : float
        What a run that was stopped had spent before.
    """

    def __init__(self, limit_s: float, spent_s: float = 0.0) -> None:
        self.start, self.limit_s, self.latest_s = time.monotonic() - spent_s, limit_s, spent_s

    def progress(self, step: int, steps: float) -> float:
        """Share of the run that is over: of its steps or of its time, whichever is more."""
        return min(1.0, max(step / steps, self.spent_s / self.limit_s))

    def due(self, every_s: float) -> bool:
        """Whether so much time has passed since it was last due."""
        if self.spent_s - self.latest_s < every_s:
            return False
        self.latest_s = self.spent_s
        return True

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() - self.start > self.limit_s

    @property
    def spent_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start


def report(step: int, clock: Clock, clips: int, figures: dict[str, Any]) -> None:
    """Print where a run stands."""
    shown = {name: round(float(value), 4) for name, value in figures.items()}
    print(f"step {step} {clock.spent_s:.0f} s, {clips} clips:", shown, flush=True)
