"""The learning rate: from nothing to its peak, and down again along a cosine."""

from __future__ import annotations

import math

import keras

from train.config import OptimiserConfig


def peak_learning_rate(plan: OptimiserConfig) -> float:
    """Highest learning rate of a run, for its batch.

    A batch of k times the clips has gradients of the mean with 1/k of the variance. What Adam
    steps by is normalised by the root of their second moment, which noise dominates: there the
    rate goes with the root of k (Krizhevsky 2014; Hoffer et al. 2017; Malladi et al. 2022, for
    Adam). In proportion to k, the rule for SGD (Goyal et al. 2017), it would soon diverge.
    """
    return plan.learning_rate * math.sqrt(_ratio(plan))


def learning_rates(plan: OptimiserConfig) -> keras.optimizers.schedules.LearningRateSchedule:
    """Learning rate by step."""
    peak = peak_learning_rate(plan)
    return keras.optimizers.schedules.CosineDecay(
        peak / 100,
        plan.steps - plan.warmup_steps,
        warmup_target=peak,
        warmup_steps=plan.warmup_steps,
    )


def _ratio(plan: OptimiserConfig) -> float:
    return plan.batch_clips / (plan.learning_rate_clips or plan.batch_clips)
