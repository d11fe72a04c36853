"""The trainer: the state of a run, and the step that advances it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edge.errors import EdgelidError
from train.config import RunConfig
from train.fit.distributed import Devices
from train.fit.sampling import Batch
from train.fit.schedule import learning_rates
from train.model.checkpoint import build_model
from train.model.network import Head, Trunk, pool
from train.model.precision import FLOAT16, FLOAT32

log = logging.getLogger(__name__)

PARTS, FROZEN, FIXED = "parts", "frozen", "fixed"  # what a state says of how it came about


class AdamW(keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW for gradients that are the same on all devices.

    Keras adds the gradients of all devices, and only after each has clipped its own. Here they
    come as the mean over the parts of a batch, so that clipping does not depend on the devices.
    """

    def _all_reduce_sum_gradients(self, gradients: Any) -> list[Any]:
        return list(gradients)


class Trainer:
    """The state of a run and the step that advances it.

    Parameters
    ----------
    config : RunConfig
    units : int
        Of the teacher; none without one.
    devices : Devices, optional
        By default the one there is.
    precision : str
        Of the trunk's arithmetic in training. Weights, pooling and head are float32.
    frozen : bool
        Whether the trunk stays as it is, and the head alone learns.
    fixed : sequence of bool, shape (classes,), optional
        Of a frozen trunk: classes whose scores stay as they are. Of the head, the last layer's
        rows of the others alone learn then.
    """

    def __init__(
        self,
        config: RunConfig,
        units: int,
        devices: Devices | None = None,
        precision: str = FLOAT32,
        frozen: bool = False,
        fixed: Sequence[bool] = (),
    ) -> None:
        keras.utils.set_random_seed(config.seed)
        self.config, self.frozen, self.fixed = config, frozen, np.array(fixed, bool)
        self.rows_alone = bool(self.fixed.any())
        self.devices = devices or Devices()
        self.accumulation = config.optimiser.accumulation
        self.parts = self.devices.replicas * self.accumulation
        self.averaged: tuple[Trunk, Head] | None = None
        with self.devices.strategy.scope():
            self._build(units, precision)
        run = self.devices.strategy.run
        self._compute = _graph(lambda *part: run(self._gradients, part))
        self._add = _graph(lambda one, other: run(tf.nest.map_structure, (tf.add, one, other)))
        self._apply = _graph(lambda found: run(self._update, (found,)))

    def _build(self, units: int, precision: str) -> None:
        config = self.config
        self.trunk, self.head = build_model(config, precision)
        learning: list[Any] = [self.head] if self.frozen else [self.trunk, self.head]
        self.norms = [norm for model in learning for norm in model.norms]
        if self.rows_alone:
            learning, self.norms = [self.head.scores], []
        self.variables = [v for model in learning for v in model.trainable_variables]
        self.helpers: list[Any] = []
        if units:
            # Of use in training only: from what the embeddings say to the units of the teacher.
            self.imitation = keras.layers.Dense(units, name="imitation")
            self.imitation.build((None, config.model.embedding))
            self.helpers = self.imitation.weights
            self.variables += self.imitation.trainable_variables
        self.learning_rates = learning_rates(config.optimiser)
        self.adam = AdamW(
            self.learning_rates, weight_decay=config.optimiser.weight_decay, clipnorm=5.0
        )
        self.adam.exclude_from_weight_decay(
            var_list=[v for v in self.variables if len(v.shape) == 1 or self.rows_alone]
        )
        # Small gradients vanish in float16, unless the loss is large.
        self.scaled = (
            keras.optimizers.LossScaleOptimizer(self.adam) if precision == FLOAT16 else None
        )
        self.optimiser = self.scaled or self.adam
        self.optimiser.build(self.variables)
        # All weights, the moving statistics of the normalisation included.
        self.weights = self.trunk.weights + self.head.weights
        self.averages = [tf.Variable(w.value, trainable=False) for w in self.weights]
        self.learnt = list(zip(self.averages, self.weights, strict=True))
        if self.frozen:
            self.learnt = self.learnt[len(self.trunk.weights) :]
        self.done = tf.Variable(0, trainable=False, dtype=tf.int64)  # steps

    def step(self, batches: Sequence[Batch]) -> tuple[Any, Any, Any]:
        """One update.

        Parameters
        ----------
        batches : sequence of Batch
            The parts that belong to this process, device by device.

        Returns
        -------
        tuple of tensor
            Both losses and the accuracy, over all parts.
        """
        first = self.devices.part_numbers(self.accumulation)[0]
        total = None
        for turn in range(self.accumulation):
            mine = [
                self._part(batches[i], first + i)
                for i in range(turn, len(batches), self.accumulation)
            ]
            found = self._compute(*self.devices.place(mine))
            total = found if total is None else self._add(total, found)
        figures = self._apply(total)
        loss, error, accuracy = (
            self.devices.strategy.experimental_local_results(figure)[0] for figure in figures
        )
        return loss, error, accuracy

    def _part(self, batch: Batch, number: int) -> tuple[Any, ...]:
        """One part, and the seed of its dropout: it depends on seed, step and part alone."""
        drawn = int(self.done.numpy()) * self.parts + number
        seed = np.array([self.config.seed, drawn], np.int64).astype(np.int32)  # large ones wrap
        return batch.frames, batch.labels, batch.masks, batch.targets, batch.known, seed

    def _gradients(
        self, frames: Any, labels: Any, masks: Any, targets: Any, known: Any, seed: Any
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Gradients, statistics of the normalisation, and figures of one part."""
        windows = tf.shape(masks)[1]
        with tf.GradientTape() as tape:
            model = self.config.model
            embeddings, weights = self.trunk.of_recording(
                frames, model.late_frames(model.stride), training=not self.frozen
            )
            embeddings = tf.cast(embeddings, tf.float32)
            weights = tf.cast(weights, tf.float32)
            # Classes of few speakers are soon told apart by their voices. The teacher's units are
            # not, so the trunk listens to them more.
            share = self.config.optimiser.class_gradient
            heard = share * embeddings + (1 - share) * tf.stop_gradient(embeddings)
            # Every window of a clip is pooled from the same embeddings.
            pooled = pool(
                tf.repeat(heard, windows, axis=0),
                tf.repeat(weights, windows, axis=0),
                tf.reshape(masks, (-1, tf.shape(masks)[2])),
            )
            scores = (
                self.head(pooled)
                if self.rows_alone
                else self.head(pooled, training=True, seed=seed)
            )
            truth = tf.repeat(labels, windows)
            smooth = self.config.optimiser.label_smoothing
            classes = scores.shape[-1]
            wanted = tf.one_hot(truth, classes) * (1 - smooth) + smooth / classes
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wanted, scores))
            error = tf.constant(0.0)
            if self.helpers:
                named = self.imitation(embeddings[:, :, 0])  # (batch, embeddings, units)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, named)
                error = tf.reduce_sum(losses * known) / (tf.reduce_sum(known) + 1.0)
            total = loss + self.config.optimiser.teacher_weight * error
            if self.scaled:
                total = self.scaled.scale_loss(total)
        gradients = tape.gradient(total, [v.value for v in self.variables])
        if self.rows_alone:  # kernel, shape (hidden, classes), and bias, shape (classes,)
            gradients = [tf.where(self.fixed, 0.0, gradient) for gradient in gradients]
        statistics = [value for norm in self.norms for value in norm.seen]
        hit = tf.equal(tf.argmax(scores, -1, tf.int32), truth)
        return gradients, statistics, [loss, error, tf.reduce_mean(tf.cast(hit, tf.float32))]

    def _update(self, found: tuple[list[Any], list[Any], list[Any]]) -> list[Any]:
        """One step with the sums over the parts of each device; returns the figures' means."""
        context = tf.distribute.get_replica_context()
        flat = [value / self.accumulation for value in tf.nest.flatten(found)]
        mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, flat)
        gradients, statistics, figures = tf.nest.pack_sequence_as(found, mean)
        self.optimiser.apply(gradients, self.variables)
        context.merge_call(self._follow, (statistics,))
        return list(figures)

    def _follow(self, strategy: Any, statistics: list[Any]) -> None:
        """Move the moving statistics, then the averages of all weights, on all devices."""
        update = strategy.extended.update
        update(self.done, lambda done: done.assign_add(1))
        moving = [
            (value, norm.momentum)
            for norm in self.norms
            for value in (norm.moving_mean.value, norm.moving_variance.value)
        ]
        for (variable, momentum), seen in zip(moving, statistics, strict=True):
            update(variable, _approach, (seen, momentum))
        # Early on the average follows closely, or it would remember the random start.
        steps = tf.cast(self.done, tf.float32)
        decay = tf.minimum(self.config.optimiser.average_decay, (1 + steps) / (10 + steps))
        for average, weight in self.learnt:
            update(average, _approach, (weight.value, decay))

    def averaged_model(self) -> tuple[Trunk, Head]:
        """Trunk and head with the averaged weights: the same ones each time."""
        if self.averaged is None:
            self.averaged = build_model(self.config)
        trunk, head = self.averaged
        values = [average.numpy() for average in self.averages]
        trunk.set_weights(values[: len(trunk.weights)])
        head.set_weights(values[len(trunk.weights) :])
        return trunk, head

    def begin_with(self, weights: Sequence[np.ndarray]) -> None:
        """Take over weights: those of the trunk, then those of the head."""
        for weight, average, value in zip(self.weights, self.averages, weights, strict=True):
            weight.assign(value)
            average.assign(value)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that a resumed run needs, besides the steps done."""
        named = self._variables() | self._scale()
        arrays = {name: np.asarray(variable.numpy()) for name, variable in named.items()}
        arrays |= {PARTS: np.array(self.parts), FROZEN: np.array(self.frozen)}
        return arrays | ({FIXED: self.fixed} if self.rows_alone else {})

    def restore(self, arrays: dict[str, np.ndarray], step: int) -> None:
        """Go on where :meth:`state` was taken.

        A run may go on with another precision or number of parts, though not as it would have.

        Raises
        ------
        EdgelidError
            If it is the state of another kind of run.
        """
        scale, variables = self._scale(), self._variables()
        extra = {n for n in arrays if n.startswith("scale/")} | {PARTS, FROZEN, FIXED}
        wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
        if {n: a.shape for n, a in arrays.items() if n not in extra} != wanted:
            raise EdgelidError(
                "the run's last checkpoint does not fit its configuration, or was made with "
                "another teacher: choose a new folder"
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])
        for name, variable in scale.items():
            if name in arrays:
                variable.assign(arrays[name])
        self.done.assign(step)
        parts = int(arrays.get(PARTS, 1))
        if parts != self.parts:
            log.warning(
                "each batch had %d part(s) and now has %d: it goes on, but not as it would have",
                parts,
                self.parts,
            )

    def _variables(self) -> dict[str, Any]:
        """What a state holds, by name."""
        kinds = {
            "raw": [w.value for w in self.weights],
            "average": self.averages,
            "helper": [w.value for w in self.helpers],
            "optimiser": [v.value for v in self.adam.variables],
        }
        return {f"{kind}/{i}": v for kind, some in kinds.items() for i, v in enumerate(some)}

    def _scale(self) -> dict[str, Any]:
        """The same of the scale of the loss."""
        if not self.scaled:
            return {}
        return {
            "scale/counter": self.scaled.step_counter.value,
            "scale/factor": self.scaled.dynamic_scale.value,
        }


def _graph(function: Any) -> Any:
    return tf.function(function, reduce_retracing=True, autograph=False)


def _approach(variable: Any, value: Any, momentum: Any) -> Any:
    # What does not change is followed to the bit: weights that stay as they are have averages, too.
    return variable.assign_add((value - variable) * (1.0 - momentum))
