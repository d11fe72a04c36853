"""Settings of the runs from waveforms: tables of a configuration, read and checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from edge.errors import EdgelidError
from train.config import MIN_CLIP_S, check_seed, from_dict
from train.waveforms.decoder import DecoderShape

T = TypeVar("T")
WHERE = "the configuration"


@dataclass(frozen=True)
class CompactWeights:
    """How much each loss of a compact model counts; see `train.waveforms.compact_fit`."""

    frames: float
    evidence: float
    classes: float
    posteriors: float
    statistics: float
    languages: float | None = None

    def of(self, figures: Mapping[str, Any]) -> Any:
        """The loss that figures, by their names, make."""
        return sum(getattr(self, name) * value for name, value in figures.items())


@dataclass(frozen=True)
class CompactSettings:
    """``[compact]``: how a compact model learns.

    Attributes
    ----------
    steps, batch : int
        Length of the run, and clips a step.
    clip_s : float
    windows_s : tuple of float
        Lengths of the windows of a clip that are judged.
    rate, weight_decay : float
        Peak of the learning rate; AdamW's decoupled decay.
    label_smoothing, average_decay : float
    weights : CompactWeights
    temperature : float
        At which the teacher's posteriors are learnt.
    languages_hidden : int
        Of the head's hidden units, those that learn what the teacher says of languages.
    tts_weight, other_voices, other_spectra, second_voices, changes : float
        See `train.waveforms.listening.Student`.
    """

    steps: int
    batch: int
    clip_s: float
    windows_s: tuple[float, ...]
    rate: float
    weight_decay: float
    label_smoothing: float
    average_decay: float
    weights: CompactWeights
    temperature: float = 2.0
    languages_hidden: int = 0
    tts_weight: float = 0.6
    other_voices: float = 0.0
    other_spectra: float = 0.0
    second_voices: float = 0.0
    changes: float = 0.0

    def __post_init__(self) -> None:
        _check_lengths("windows_s", self.windows_s)
        for name in ("steps", "batch"):
            _check_count(name, getattr(self, name))
        # All that `train.config.OptimiserConfig` asks for, which has other names for these.
        if self.clip_s < MIN_CLIP_S:
            raise ValueError(f"clip_s must be at least {MIN_CLIP_S:g}")
        _check_above_0(self, "rate", "temperature")
        _check_least_0(self, "weight_decay", "tts_weight", "languages_hidden")
        _check_below_1(self, "label_smoothing", "average_decay")
        _check_shares(self, "other_voices", "other_spectra", "second_voices", "changes")
        if bool(self.languages_hidden) != (self.weights.languages is not None):
            raise ValueError(
                "languages_hidden, and languages of the weights, belong together: give both or "
                "neither"
            )


@dataclass(frozen=True)
class Adapters:
    """``[large.adapters]``: channels beside each matrix, and the first of the layers that learn."""

    rank: int
    first: int

    def __post_init__(self) -> None:
        _check_count("rank", self.rank)
        _check_least_0(self, "first")


@dataclass(frozen=True)
class LargeSizes:
    """Of ``[large]``: the sizes of a large model."""

    layers: int
    decoder: DecoderShape | None = None
    adapters: Adapters | None = None


@dataclass(frozen=True)
class LargeCourse:
    """Of ``[large]``: how a large model learns from labels.

    Attributes
    ----------
    steps : int
    batch_s : float
        Seconds of sound a step.
    lengths_s : tuple of float
        Of the windows, in turn.
    encoder_rate, head_rate : float
        Peaks of the learning rate.
    dropout, label_smoothing, weight_decay, average_decay : float
    tts_weight : float
        See `train.waveforms.draws.Drawer`.
    other_voices : float
        Share of the windows that get voices which nobody has.
    """

    steps: int
    batch_s: float
    lengths_s: tuple[float, ...]
    encoder_rate: float
    head_rate: float
    dropout: float = 0.1
    label_smoothing: float = 0.05
    weight_decay: float = 0.01
    average_decay: float = 0.998
    tts_weight: float = 0.6
    other_voices: float = 0.0

    def __post_init__(self) -> None:
        _check_lengths("lengths_s", self.lengths_s)
        _check_count("steps", self.steps)
        _check_above_0(self, "batch_s")
        _check_least_0(self, "encoder_rate", "head_rate", "weight_decay", "tts_weight")
        _check_below_1(self, "dropout", "label_smoothing", "average_decay")
        _check_shares(self, "other_voices")


@dataclass(frozen=True)
class LargeHead:
    """Of ``[large]``: to how many batches the head of an encoder is fitted, and how stiffly."""

    head_batches: int
    head_penalty: float

    def __post_init__(self) -> None:
        _check_count("head_batches", self.head_batches)
        _check_above_0(self, "head_penalty")


@dataclass(frozen=True)
class GraftedHead:
    """The same where windows were asked about anyway (``graft``)."""

    head_penalty: float

    def __post_init__(self) -> None:
        _check_above_0(self, "head_penalty")


@dataclass(frozen=True)
class Grafting:
    """Of ``[large]``: how a grafted decoder learns."""

    epochs: int
    decoder_rate: float

    def __post_init__(self) -> None:
        _check_count("epochs", self.epochs)


@dataclass(frozen=True)
class TeachWeights:
    """How much each loss counts; see `train.waveforms.large_lessons`."""

    frames: float
    languages: float
    posteriors: float

    def as_dict(self) -> dict[str, float]:
        """By their names."""
        return asdict(self)


@dataclass(frozen=True)
class TeachSettings:
    """``[teach]``: how a large model learns from a Whisper.

    Attributes
    ----------
    steps, batch : int
        Length of the run, and clips a step.
    clip_s : float
    windows_s : tuple of float
        Lengths of the windows of a clip.
    encoder_rate, decoder_rate : float
        Peaks of the learning rate.
    encoder_waits : float
        Share of the run until the decoder knows its new teacher.
    weights : TeachWeights
    weight_decay, average_decay : float
    other_voices, second_voices : float
        See `train.waveforms.listening.Student`.
    """

    steps: int
    batch: int
    clip_s: float
    windows_s: tuple[float, ...]
    encoder_rate: float
    decoder_rate: float
    encoder_waits: float
    weights: TeachWeights
    weight_decay: float = 0.0
    average_decay: float = 0.998
    other_voices: float = 0.0
    second_voices: float = 0.0

    def __post_init__(self) -> None:
        _check_lengths("windows_s", self.windows_s)
        for name in ("steps", "batch"):
            _check_count(name, getattr(self, name))
        _check_above_0(self, "clip_s")
        _check_least_0(self, "encoder_rate", "decoder_rate", "weight_decay")
        _check_below_1(self, "average_decay")
        _check_shares(self, "other_voices", "second_voices")
        if not 0 <= self.encoder_waits < 1:
            raise ValueError("encoder_waits must be at least 0 and below 1")


# Parts of one table.
LARGE: tuple[Any, ...] = (LargeSizes, LargeCourse, LargeHead, GraftedHead, Grafting)


def _check_count(name: str, count: int) -> None:
    if count < 1:
        raise ValueError(f"{name} must be at least 1")


def _check_above_0(settings: Any, *names: str) -> None:
    for name in names:
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name} must be above 0")


def _check_least_0(settings: Any, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < 0:
            raise ValueError(f"{name} must be at least 0")


def _check_below_1(settings: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(settings, name) < 1:
            raise ValueError(f"{name} must be at least 0 and below 1")


def _check_shares(settings: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"{name} must be between 0 and 1")


def _check_lengths(name: str, lengths_s: tuple[float, ...]) -> None:
    if not lengths_s or min(lengths_s) <= 0:
        raise ValueError(f"{name} must be one or more, each above 0")


def compact_settings(config: Mapping[str, Any]) -> CompactSettings:
    """``[compact]`` of a configuration.

    Raises
    ------
    EdgelidError
        If there is none, or a key is missing, unknown or ill-typed; as of all of these.
    """
    return from_dict(CompactSettings, _table(config, "compact"), f"{WHERE}, compact")


def teach_settings(config: Mapping[str, Any]) -> TeachSettings:
    """``[teach]`` of a configuration."""
    return from_dict(TeachSettings, _table(config, "teach"), f"{WHERE}, teach")


def large_settings(kind: type[T], config: Mapping[str, Any]) -> T:
    """A part of ``[large]`` of a configuration.

    Parameters
    ----------
    kind : type
        One of `LARGE`. The keys of the others may be there or not.
    config : mapping
    """
    told = _table(config, "large")
    mine = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    others = {field.name for part in LARGE for field in fields(part)} - mine
    # Keys that nobody knows are refused with its own.
    own = {name: value for name, value in told.items() if name not in others}
    return from_dict(kind, own, f"{WHERE}, large")


def _table(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table of a configuration of a run from waveforms."""
    if not {"seed", "data", name} <= config.keys() or type(config["seed"]) is not int:
        raise EdgelidError(
            f"the configuration is not one of this command: it needs seed, [data] and [{name}], as "
            f"those of train/configs with [{name}] have"
        )
    try:
        check_seed(config["seed"])
    except ValueError as error:
        raise EdgelidError(f"{WHERE}: {error}") from error
    told: Mapping[str, Any] = config[name]
    if not isinstance(told, Mapping):
        raise EdgelidError(f"the configuration has {name}, but no table [{name}]")
    return told
