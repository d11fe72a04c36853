"""The dry run: what a run will cost, counted, or measured on a few steps of noise."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from edge.frontend import FRAMES_PER_SECOND
from train.architecture import ModelConfig
from train.config import RunConfig
from train.fit.distillation import UNITS
from train.fit.distributed import cluster_of_environment, local_devices
from train.fit.sampling import WINDOWS, Batch
from train.fit.trainer import Trainer
from train.model.attention import FEW_FRAMES
from train.model.precision import FLOAT32

WARM_UP_STEPS, TIMED_STEPS = 2, 3
# Of each weight in memory: itself, its gradient, its average and AdamW's two moments.
COPIES = 5
MEGABYTE = 1e6


@dataclass(frozen=True)
class Plan:
    """What is known of a run.

    Attributes
    ----------
    devices : tuple of str
        Of this process.
    workers, parts, part_clips : int
        Processes, parts of a batch over all of them, and clips in each.
    trunk, head, teacher : int
        Parameters; those of the teacher's layer are of use in training only.
    macs_per_s : float
        Multiply-accumulates of the trunk per second of audio.
    weights_mb, activations_mb : float
        Estimated memory: all weights with what the optimiser keeps of them, and what one part
        leaves behind on its way forward.
    resident_mb : float
        Most that this process had in main memory, measured.
    step_s : float
        Measured, on noise that is there already.
    """

    precision: str
    devices: tuple[str, ...]
    workers: int
    parts: int
    part_clips: int
    trunk: int
    head: int
    teacher: int
    macs_per_s: float
    weights_mb: float
    activations_mb: float
    resident_mb: float
    steps: int
    step_s: float

    def lines(self) -> list[str]:
        """For a person to read."""
        return [
            f"devices      {', '.join(self.devices)}; {self.workers} worker(s); {self.precision}",
            f"batch        {self.parts} part(s) of {self.part_clips} clips",
            f"parameters   trunk {self.trunk:,}, head {self.head:,}"
            + (f"; in training also {self.teacher:,} for the teacher" if self.teacher else ""),
            f"trunk        {self.macs_per_s / 1e6:.1f} million multiply-accumulates per second of "
            "audio",
            f"memory       about {self.weights_mb:.0f} MB of weights and optimiser and "
            f"{self.activations_mb:.0f} MB of activations on each device (estimated); "
            f"{self.resident_mb:.0f} MB resident at most (measured)",
            f"time         {self.steps} steps of {self.step_s:.2f} s: about "
            f"{self.steps * self.step_s / 3600:.2f} h (estimated from {TIMED_STEPS} steps of "
            "noise; without features, evaluations and other workers)",
        ]


def dry_run(config: RunConfig, precision: str, frozen: bool) -> Plan:
    """Take a few steps with noise, and count; nothing is written, and no corpus is needed.

    Raises
    ------
    EdgelidError
        If the batch cannot be divided, or ``TF_CONFIG`` is not understood.
    """
    cluster = cluster_of_environment()
    workers = len(cluster.addresses) if cluster else 1
    devices = local_devices()
    accumulation = config.optimiser.accumulation
    parts = workers * devices.replicas * accumulation
    clips = config.optimiser.part_clips(parts)
    units = UNITS if config.optimiser.teacher_weight else 0
    trainer = Trainer(config, units, devices, precision, frozen)
    batches = [_noise(config, clips, n) for n in devices.part_numbers(accumulation)]
    for _ in range(WARM_UP_STEPS):
        trainer.step(batches)
    began_s = time.perf_counter()
    for _ in range(TIMED_STEPS):
        [float(figure) for figure in trainer.step(batches)]
    step_s = (time.perf_counter() - began_s) / TIMED_STEPS
    trunk, head = (_count(model.weights) for model in (trainer.trunk, trainer.head))
    teacher = _count(trainer.helpers)
    frames = int(config.optimiser.clip_s * FRAMES_PER_SECOND)
    size = 4 if precision == FLOAT32 else 2
    activations = 0 if frozen else clips * size * activation_count(config.model, frames)
    gpus = tf.config.list_physical_devices("GPU")
    return Plan(
        precision=precision,
        devices=tuple(g.name for g in gpus) or (f"CPU ({os.cpu_count()} cores)",),
        workers=workers,
        parts=parts,
        part_clips=clips,
        trunk=trunk,
        head=head,
        teacher=teacher,
        macs_per_s=config.model.macs_per_frame() * FRAMES_PER_SECOND,
        weights_mb=COPIES * 4 * (trunk + head + teacher) / MEGABYTE,
        activations_mb=activations / MEGABYTE,
        resident_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE,
        steps=config.optimiser.steps,
        step_s=step_s,
    )


def activation_count(model: ModelConfig, frames: int) -> int:
    """Values that the gradients of a clip need of the trunk.

    Of a block: the input with its state, what the two convolutions and the two normalisations
    say, and the sum with the input. Of a layer of attention: queries, what the heads hear, keys and
    values (of a few frames, those in reach of each), weights, both sums and the hidden channels.
    """
    count, rate, width = 0, frames, model.mels
    for number, stage in enumerate(model.stages):
        entered = rate * width
        rate //= stage.stride
        # The stem has one convolution and normalisation, at its output's width.
        between = 0 if number == 0 else 2 * rate * width
        count += entered + between + 3 * rate * stage.channels
        count += stage.blocks * 6 * rate * stage.channels
        width = stage.channels
    if (shape := model.attention) is not None:
        inner, reach = shape.heads * shape.head_width, shape.past + shape.ahead
        copies, weighed = (reach + 1, reach + 1) if rate <= FEW_FRAMES else (1, reach + rate)
        each = 2 * inner * (1 + copies) + shape.heads * weighed + 2 * shape.width + shape.feed
        count += rate * (shape.width + shape.layers * each)
    return count + rate * model.embedding


def _noise(config: RunConfig, clips: int, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    frames = int(config.optimiser.clip_s * FRAMES_PER_SECOND)
    embeddings = frames // config.model.stride
    return Batch(
        rng.normal(size=(clips, frames, config.model.mels)).astype(np.float32),
        rng.integers(0, len(config.data.labels), clips).astype(np.int32),
        np.ones((clips, WINDOWS, embeddings), np.float32),
        rng.integers(0, UNITS, (clips, embeddings)).astype(np.int32),
        np.ones((clips, embeddings), np.float32),
    )


def _count(weights: list[tf.Variable]) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)
