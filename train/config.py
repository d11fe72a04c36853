"""The configuration of a training run: one TOML file, read and checked once."""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edge.config import parse_toml
from edge.errors import EdgelidError
from edge.frontend import HOP_SAMPLES, SAMPLE_RATE_HZ, FrontEndConfig
from edge.model.modelfile import NONSPEECH, OTHER
from edge.system.regular import other_kind
from train.architecture import ModelConfig

T = TypeVar("T")

# Of the shipped models: what speech is made in, and what a yardstick answers in.
LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pt", "ru", "zh")

# Each clip of a batch is also scored by its first second and by random parts of up to two.
MIN_CLIP_S = 2.0

SEEDS = 2**32  # that Keras takes, from 0 on

MAX_BYTES = 1 << 20  # of a file: those that come along have 2,000


@dataclass(frozen=True)
class DataConfig:
    """What is trained on.

    Attributes
    ----------
    languages : tuple of str
        ISO 639 codes of the classes.
    development : dict of str to list of str
        For each language the sources held out for every decision (and never trained on), besides
        the manifest's split ``dev``.
    variants : int
        Waveform-augmented copies of every clip in the feature cache, besides the clean one.
    """

    languages: tuple[str, ...]
    development: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    variants: int = 4

    def __post_init__(self) -> None:
        if not self.languages or len(set(self.languages)) < len(self.languages):
            raise ValueError("languages must be one or more, each named once")
        if {OTHER, NONSPEECH} & set(self.languages):
            raise ValueError(f"{OTHER} and {NONSPEECH} are classes anyway: leave them out")
        if self.variants < 0:
            raise ValueError("variants must be at least 0")

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the model's scores."""
        return (*self.languages, OTHER, NONSPEECH)


@dataclass(frozen=True)
class OptimiserConfig:
    """How it is trained.

    Attributes
    ----------
    steps, batch_clips : int
        Length of the run, and clips a step, over all devices.
    accumulation : int
        Parts that each device computes one after the other, when its share of a batch is more
        than its memory holds.
    clip_s : float
        Length of the stretch of audio that each clip of a batch is.
    learning_rate, weight_decay : float
        Peak of the cosine schedule; AdamW's decoupled decay.
    learning_rate_clips : int, optional
        The batch that `learning_rate` was found with; another one has it scaled: see
        `train.fit.schedule`. By default it holds as it is.
    warmup_steps : int
        Linear warm-up.
    label_smoothing : float
        Probability mass spread over all classes.
    average_decay : float
        Of the exponential moving average of the weights, which is what gets evaluated and saved.
    evaluate_every_steps : int
        Development score and checkpoint.
    patience : int, optional
        Evaluations in a row below the best one that end the run.
    teacher_weight : float
        Of the loss on a teacher's units, against one for the classes; needs ``--teacher`` where
        it is not zero.
    class_gradient : float
        Share of the classes' gradient that reaches the trunk.
    """

    steps: int
    batch_clips: int = 64
    accumulation: int = 1
    clip_s: float = 4.0
    learning_rate: float = 2e-3
    learning_rate_clips: int | None = None
    weight_decay: float = 1e-3
    warmup_steps: int = 200
    label_smoothing: float = 0.1
    average_decay: float = 0.998
    evaluate_every_steps: int = 500
    patience: int | None = None
    teacher_weight: float = 0.0
    class_gradient: float = 1.0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_clips, self.evaluate_every_steps) < 1:
            raise ValueError("steps, batch_clips and evaluate_every_steps must be at least 1")
        for name in ("accumulation", "learning_rate_clips", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.batch_clips % self.accumulation:
            raise ValueError("batch_clips must be a multiple of accumulation")
        if self.clip_s < MIN_CLIP_S:
            raise ValueError(f"clip_s must be at least {MIN_CLIP_S:g}")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError("warmup_steps must be fewer than steps")
        if not self.learning_rate > 0 or min(self.weight_decay, self.teacher_weight) < 0:
            raise ValueError("learning_rate must be above 0, and no weight below it")
        if not 0 <= self.class_gradient <= 1:
            raise ValueError("class_gradient must be between 0 and 1")
        if not 0 <= self.label_smoothing < 1 or not 0 <= self.average_decay < 1:
            raise ValueError("label_smoothing and average_decay must be at least 0 and below 1")

    def part_clips(self, parts: int) -> int:
        """Clips of each part, where so many are a batch.

        Raises
        ------
        EdgelidError
            If it cannot be divided so.
        """
        if self.batch_clips % parts:
            raise EdgelidError(
                f"batch_clips is {self.batch_clips}, which must be a multiple of {parts}: the "
                "devices of all workers times accumulation"
            )
        return self.batch_clips // parts


@dataclass(frozen=True)
class RunConfig:
    """Everything a run depends on.

    Attributes
    ----------
    seed : int
        Of the weights, the batches and the augmentation.
    """

    seed: int
    data: DataConfig
    front_end: FrontEndConfig
    model: ModelConfig
    optimiser: OptimiserConfig

    def __post_init__(self) -> None:
        check_seed(self.seed)
        front_end = self.front_end
        if front_end.mels != self.model.mels:
            raise ValueError(
                f"the front end has {front_end.mels} mel bands and the model {self.model.mels}"
            )
        if (front_end.sample_rate_hz, front_end.hop_samples) != (SAMPLE_RATE_HZ, HOP_SAMPLES):
            raise ValueError(
                f"the front end's sample_rate_hz and hop_samples are always {SAMPLE_RATE_HZ} "
                f"and {HOP_SAMPLES}"
            )


def check_seed(seed: int) -> None:
    """Raise ValueError unless Keras takes it."""
    if not 0 <= seed < SEEDS:
        raise ValueError(f"seed must be at least 0 and below {SEEDS}")


def read_config(path: str | os.PathLike[str]) -> RunConfig:
    """Read a run's TOML file.

    Raises
    ------
    EdgelidError
        If it is missing, not TOML, or has unknown, missing or ill-typed keys.
    """
    file = Path(path)
    return from_dict(RunConfig, read_toml(file), str(file))


def read_toml(file: Path) -> dict[str, Any]:
    """Values of a TOML file, whatever they are.

    Raises
    ------
    EdgelidError
        If it is missing, no regular file, too large, or not TOML.
    """
    try:
        if (kind := other_kind(file.stat())) is not None:
            raise EdgelidError(f"cannot read the configuration {file}: it is {kind}")
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise EdgelidError(f"cannot read the configuration {file}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise EdgelidError(f"the configuration {file} is larger than {MAX_BYTES >> 20} MiB")
    try:
        return parse_toml(data)
    except ValueError as error:
        raise EdgelidError(f"the configuration {file} is not valid TOML: {error}") from error


def development_of(file: Path) -> dict[str, list[str]]:
    """Sources by language that a configuration, of any program, holds out for decisions.

    Raises
    ------
    EdgelidError
        If it cannot be read, or its table ``[data]`` does not fit.
    """
    return held_out_sources(read_toml(file), f"the configuration {file}")


def held_out_sources(config: Mapping[str, Any], where: str) -> dict[str, list[str]]:
    """The same of a configuration that was read, which errors name as `where`.

    Raises
    ------
    EdgelidError
        If its table ``[data]`` does not fit.
    """
    return from_dict(DataConfig, config.get("data", {}), f"{where}, data").development


def from_dict(kind: type[T], values: Any, where: str) -> T:
    """Build a dataclass from plain values, checking every name and type.

    Parameters
    ----------
    kind : type
        A dataclass of numbers, strings, dictionaries, dataclasses and tuples of them.
    values : dict
    where : str
        Named in errors.

    Raises
    ------
    EdgelidError
        Naming the key that does not fit.
    """
    if not isinstance(values, dict):
        raise EdgelidError(f"{where}: expected a table of settings, not {values!r}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise EdgelidError(f"{where}: unknown setting {name!r} (known: {', '.join(fields)})")
    for name, field in fields.items():
        if name not in values and _is_required(field):
            raise EdgelidError(f"{where}: the setting {name!r} is missing")
    settings = {k: _convert(hints[k], v, f"{where}, {k}") for k, v in values.items()}
    try:
        return kind(**settings)
    except ValueError as error:  # what a dataclass itself has against its values
        raise EdgelidError(f"{where}: {error}") from error


def _finite(value: float, where: str) -> float:
    """A number that can be computed with: TOML has nan and inf, and integers beyond any float."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise EdgelidError(f"{where}: must be a finite number")
    return number


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # of a type and None
        return None if value is None else _convert(arguments[0], value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(arguments[0], item, where) for item in value)
    if origin is list and isinstance(value, list):
        return [_convert(arguments[0], item, where) for item in value]
    if origin is dict and isinstance(value, dict):
        return {str(k): _convert(arguments[1], v, f"{where}, {k}") for k, v in value.items()}
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(value, where)
    if isinstance(hint, type) and isinstance(value, hint) and type(value) is hint:
        return value
    raise EdgelidError(f"{where}: {value!r} is not what belongs there ({hint})")
