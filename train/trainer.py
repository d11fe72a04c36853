"""The state of a training run, and the step that advances it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edge.errors import EdgelidError
from train.checkpoint import build_model
from train.config import RunConfig
from train.model import Head, Trunk, pool


class Trainer:
    """The state of a run and the step that advances it.

    Parameters
    ----------
    config : RunConfig
    units : int
        Of the teacher; none without one.
    """

    def __init__(self, config: RunConfig, units: int) -> None:
        keras.utils.set_random_seed(config.seed)
        self.config = config
        self.trunk, self.head = build_model(config)
        plan = config.optimiser
        schedule = keras.optimizers.schedules.CosineDecay(
            plan.learning_rate / 100,
            plan.steps - plan.warmup_steps,
            warmup_target=plan.learning_rate,
            warmup_steps=plan.warmup_steps,
        )
        self.optimiser = keras.optimizers.AdamW(
            schedule, weight_decay=plan.weight_decay, clipnorm=5.0
        )
        self.variables = self.trunk.trainable_variables + self.head.trainable_variables
        self.helpers: list[Any] = []
        if units:
            # Of use in training only: from what the embeddings say to the units of the teacher.
            self.imitation = keras.layers.Dense(units, name="imitation")
            self.imitation.build((None, config.model.embedding))
            self.helpers = self.imitation.weights
            self.variables += self.imitation.trainable_variables
        self.optimiser.exclude_from_weight_decay(
            var_list=[v for v in self.variables if len(v.shape) == 1]
        )
        self.optimiser.build(self.variables)
        # All weights, the running statistics of the normalisation included.
        self.weights = self.trunk.weights + self.head.weights
        self.averages = [tf.Variable(w.value, trainable=False) for w in self.weights]
        self.step = tf.function(self._step, reduce_retracing=True)

    def _step(
        self, frames: Any, labels: Any, masks: Any, targets: Any, known: Any
    ) -> tuple[Any, Any, Any]:
        """One update with a :class:`Batch`; returns both losses and the accuracy."""
        windows = tf.shape(masks)[1]
        self._seed_dropout()
        with tf.GradientTape() as tape:
            embeddings, weights, _ = self.trunk(frames[:, :, None, :], training=True)
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
            scores = self.head(pooled, training=True)
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
        gradients = tape.gradient(total, self.variables)
        self.optimiser.apply_gradients(zip(gradients, self.variables, strict=True))
        # Early on the average follows closely, or it would remember the random start.
        steps = tf.cast(self.optimiser.iterations, tf.float32)
        decay = tf.minimum(self.config.optimiser.average_decay, (1 + steps) / (10 + steps))
        for average, weight in zip(self.averages, self.weights, strict=True):
            average.assign(decay * average + (1 - decay) * weight.value)
        hit = tf.equal(tf.argmax(scores, -1, tf.int32), truth)
        return loss, error, tf.reduce_mean(tf.cast(hit, tf.float32))

    def _seed_dropout(self) -> None:
        """Make dropout depend on the seed and the step alone, as the batches do."""
        if self.config.model.dropout:
            state = self.head.dropout.seed_generator.state
            seed = tf.stack(
                [tf.cast(self.config.seed, state.dtype), tf.cast(self.done, state.dtype)]
            )
            state.assign(seed)

    @property
    def done(self) -> Any:
        """Steps done, a scalar variable."""
        return self.optimiser.iterations

    def averaged_model(self) -> tuple[Trunk, Head]:
        """Trunk and head with the averaged weights."""
        trunk, head = build_model(self.config)
        values = [average.numpy() for average in self.averages]
        trunk.set_weights(values[: len(trunk.weights)])
        head.set_weights(values[len(trunk.weights) :])
        return trunk, head

    def state(self) -> dict[str, np.ndarray]:
        """Everything that a resumed run needs."""
        arrays = {f"raw/{i}": np.asarray(w.value) for i, w in enumerate(self.weights)}
        arrays |= {f"average/{i}": a.numpy() for i, a in enumerate(self.averages)}
        arrays |= {f"helper/{i}": np.asarray(w.value) for i, w in enumerate(self.helpers)}
        return arrays | {
            f"optimiser/{i}": np.asarray(v.value) for i, v in enumerate(self.optimiser.variables)
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on where :meth:`state` was taken.

        Raises
        ------
        EdgelidError
            If it is the state of another kind of run.
        """
        parts = {
            "raw": self.weights,
            "average": self.averages,
            "helper": self.helpers,
            "optimiser": self.optimiser.variables,
        }
        variables = {f"{k}/{i}": v for k, part in parts.items() for i, v in enumerate(part)}
        wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
        if {name: array.shape for name, array in arrays.items()} != wanted:
            raise EdgelidError(
                "the run's last checkpoint does not fit its configuration, or was made with "
                "another teacher: choose a new folder"
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])
