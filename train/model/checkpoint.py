"""Checkpoints: one ``.npz`` of arrays and a description, that nothing in can execute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edge.errors import EdgelidError
from edge.system.atomic import atomic_file
from edge.system.regular import check_regular
from train.config import RunConfig, from_dict
from train.model.network import Head, Trunk
from train.model.precision import FLOAT32, policy
from train.model.unreadable import UNREADABLE

FORMAT_VERSION = 1
DESCRIPTION = "description"
BEST, LAST = "best.npz", "last.npz"  # in the folder of a run


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, or a run that goes on.

    Attributes
    ----------
    config : RunConfig
    step : int
        Steps done.
    scores : dict
        Development scores when it was written.
    arrays : dict of str to ndarray
        ``trunk/N`` and ``head/N`` are the weights in Keras' order; a run that can be resumed has
        its optimiser and raw weights as well.
    """

    config: RunConfig
    step: int
    scores: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def save(self, path: Path) -> None:
        """Write atomically.

        Raises
        ------
        EdgelidError
            If the file cannot be written.
        """
        with atomic_file(path) as file:
            self.write(file)

    def biased(self, added: Mapping[str, float]) -> Checkpoint:
        """The same model with something added to the scores of some classes, not measured yet.

        Parameters
        ----------
        added : dict of str to float
            By label.
        """
        labels, arrays = self.config.data.labels, dict(self.arrays)
        shape = (len(labels),)
        (name,) = (k for k, v in arrays.items() if k.startswith("head/") and v.shape == shape)
        amounts = np.array([added.get(label, 0.0) for label in labels])
        arrays[name] = arrays[name] + amounts.astype(arrays[name].dtype)
        return replace(self, arrays=arrays, scores={})

    def write(self, file: BinaryIO) -> None:
        """Write into an open file."""
        description = {
            "format_version": FORMAT_VERSION,
            "config": asdict(self.config),
            "step": self.step,
            "scores": self.scores,
        }
        arrays = self.arrays | {DESCRIPTION: np.array(json.dumps(description))}
        np.savez(file, allow_pickle=False, **arrays)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, or the best one of a run's folder.

    Raises
    ------
    EdgelidError
        If there is none, or it is damaged, foreign, or of another version.
    """
    file = path / BEST if path.is_dir() else path
    return read_checkpoint(file, str(file))


def read_checkpoint(file: Path | BinaryIO, name: str) -> Checkpoint:
    """Read a checkpoint that errors call `name`.

    Raises
    ------
    EdgelidError
        As :func:`load_checkpoint`.
    """
    try:
        if isinstance(file, Path):
            check_regular(file)  # a pipe would be waited for
        with np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        description = json.loads(str(arrays.pop(DESCRIPTION)))
    except FileNotFoundError as error:
        raise EdgelidError(f"there is no checkpoint {name}") from error
    except UNREADABLE as error:
        raise EdgelidError(f"{name} is not an edgelid checkpoint, or is damaged") from error
    version = description.get("format_version") if isinstance(description, dict) else None
    if version != FORMAT_VERSION:
        raise EdgelidError(
            f"{name} has checkpoint format {version}; this edgelid reads {FORMAT_VERSION}"
        )
    step, scores = description.get("step"), description.get("scores")
    if not isinstance(step, int) or not isinstance(scores, dict):
        raise EdgelidError(f"{name} does not say which step it is of: it is damaged")
    config = from_dict(RunConfig, description.get("config"), name)
    return Checkpoint(config, step, scores, arrays)


def build_model(config: RunConfig, precision: str = FLOAT32) -> tuple[Trunk, Head]:
    """Trunk and head with fresh weights; the trunk computes in the given precision."""
    with policy(precision):
        trunk = Trunk(config.model)
    head = Head(config.model, len(config.data.labels))
    mels, stride = config.model.mels, config.model.stride
    trunk(np.zeros((1, 8 * stride, 1, mels), np.float32))
    head(np.zeros((1, 2 * config.model.embedding), np.float32))
    return trunk, head


def weights_of(trunk: Trunk, head: Head) -> dict[str, np.ndarray]:
    """Weights by the names that a checkpoint gives them."""
    parts: dict[str, Any] = {"trunk": trunk, "head": head}
    return {f"{k}/{i}": w for k, m in parts.items() for i, w in enumerate(m.get_weights())}


def restore_model(checkpoint: Checkpoint) -> tuple[Trunk, Head]:
    """Trunk and head with the weights of a checkpoint.

    Raises
    ------
    EdgelidError
        If the weights do not fit the configuration in the checkpoint.
    """
    trunk, head = build_model(checkpoint.config)
    parts: dict[str, Any] = {"trunk": trunk, "head": head}
    for prefix, model in parts.items():
        wanted = [w.shape for w in model.get_weights()]
        found = [checkpoint.arrays.get(f"{prefix}/{i}") for i in range(len(wanted))]
        if found[0] is None:
            raise EdgelidError(f"the checkpoint holds no finished model: give the run's {BEST}")
        if [None if f is None else f.shape for f in found] != wanted:
            raise EdgelidError(f"the checkpoint's {prefix} weights do not fit its configuration")
        model.set_weights(found)
    return trunk, head
