"""The record of a run for TensorBoard, step by step: ``tensorboard --logdir RUN``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

LOGS = "logs"  # in the folder of a run
EVERY_STEPS = 10


class Journal:
    """Writes curves.

    Parameters
    ----------
    run : Path
        Folder of the run; the curves are in its folder ``logs``.
    """

    def __init__(self, run: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(run / LOGS))

    def step(self, step: int, figures: dict[str, float]) -> None:
        """What a step was like; of some steps only."""
        if step % EVERY_STEPS == 0 or step == 1:
            self._write("train", step, figures)

    def scores(self, step: int, scores: dict[str, Any]) -> None:
        """What the development set said: by duration, and those of class ``other``."""
        numbers = {key: value for key, value in scores.items() if isinstance(value, float)}
        self._write("development", step, numbers)
        self._writer.flush()

    def close(self) -> None:
        """Write what is not yet written."""
        self._writer.close()

    def _write(self, group: str, step: int, values: dict[str, float]) -> None:
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(f"{group}/{name}", value, step=step)
