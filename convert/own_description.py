"""The description of a network of the user's: its labels, and the features it was trained on.

Features may be named as edgelid names them, or as `librosa` does; what the names leave out has the
defaults of the one or the other.
"""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edge.errors import EdgelidError
from edge.features import SCALES, ForeignConfig
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, FrontEndConfig
from edge.model.modelfile import FLOORS, MAX_MEMBER_BYTES
from train.config import from_dict
from train.features.filterbank import mel_filterbank

USUAL_FRONT_END = FrontEndConfig()
OWN = {each.name for each in fields(FrontEndConfig)}
# librosa's names, and what they are called here.
LIBROSA = {
    "sr": "sample_rate_hz",
    "n_fft": "fft_samples",
    "hop_length": "hop_samples",
    "win_length": "window_samples",
    "n_mels": "mels",
    "fmin": "low_hz",
    "fmax": "high_hz",
    "n_mfcc": "cepstra",
}
OTHERS = {
    "amin": "floor",
    "offset": "floor",
    "ref": "reference",
    "center": "centred",
    "std": "deviation",
    "mel_scale": "mel",
    "preset": "",
    "htk": "",
    "top_db": "",
    "pad_mode": "",  # a stream has no edges to pad but its beginning
    "dct_type": "",
}
LIBROSA_RATE_HZ, LIBROSA_FFT, LIBROSA_HOP, LIBROSA_MELS = 22_050, 2_048, 512, 128
LIBROSA_FLOOR = 1e-10  # `amin` of power_to_db
ARRAY_HEADER_BYTES, FLOAT32_BYTES = 128, 4  # of filters in a model file
# What people call a normalisation of every clip by itself.
PER_CLIP = ("normalize", "normalise", "normalization", "normalisation", "cmvn", "cmn", "per_clip")
CLIP_REASON = (
    "depends on a whole clip, of which nobody knows the end while it is being spoken: retrain "
)


@dataclass(frozen=True)
class NetworkDescription:
    """What a Keras file does not say.

    Attributes
    ----------
    labels : tuple of str
        Classes in the order of the scores; `other` and `nonspeech` have their usual meaning.
    front_end : FrontEndConfig
        Whatever differs from edgelid's own, see :func:`front_end_of`.
    licence : str
        Of the network.
    bands_first : bool
        Whether the network takes (bands, frames); only asked for where both are as many.
    """

    labels: tuple[str, ...]
    front_end: FrontEndConfig = USUAL_FRONT_END
    licence: str = "not told"
    bands_first: bool = False

    def __post_init__(self) -> None:
        labels = self.labels
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise ValueError("labels must be two or more, each named once")
        if not all(label.isprintable() and label.split() == [label] for label in labels):
            raise ValueError("labels must be printable words without spaces")


def filterbank_of(config: FrontEndConfig) -> Float32Array:
    """The mel filters of a description.

    Raises
    ------
    EdgelidError
        If the front end is impossible.
    """
    where = "the description's front end"
    highest = config.sample_rate_hz / 2
    if isinstance(config, ForeignConfig):
        try:
            config.check()
        except ValueError as error:
            raise EdgelidError(f"{where}: {error}") from error
    elif config.sample_rate_hz != SAMPLE_RATE_HZ:
        raise EdgelidError(
            f"{where}: features at {config.sample_rate_hz} Hz are not edgelid's: say which scale "
            f"they have, one of {', '.join(SCALES)}"
        )
    if not 0 < config.hop_samples <= config.window_samples <= config.fft_samples:
        raise EdgelidError(
            f"{where}: a hop of {config.hop_samples}, a window of {config.window_samples} and a "
            f"transform of {config.fft_samples} samples must be above 0 and not shrink in this "
            "order"
        )
    if not 0 <= config.low_hz < config.high_hz <= highest:
        raise EdgelidError(
            f"{where}: bands from {config.low_hz:g} to {config.high_hz:g} Hz must lie between 0 "
            f"and {highest:g} Hz, half of the sample rate: say it (sr) if the recordings that the "
            "network learnt from had another"
        )
    if config.mels < 1 or config.mels > config.bins:
        raise EdgelidError(
            f"{where}: {config.mels} mel bands must be 1 to {config.bins}, the bins of a transform "
            f"of {config.fft_samples}"
        )
    if not FLOORS[0] <= config.floor <= FLOORS[1]:
        raise EdgelidError(f"{where}: floor {config.floor:g} must be above 0")
    _check_filter_bytes(config, where)
    with warnings.catch_warnings():  # librosa's, of empty filters
        warnings.simplefilter("ignore")
        filterbank = mel_filterbank(config)
    if not (filterbank > 0).any(axis=1).all():
        raise EdgelidError(
            f"{where}: {config.mels} mel bands are too many for a transform of "
            f"{config.fft_samples} samples, as some would be empty: give fewer mels, or a larger "
            "fft_samples"
        )
    return filterbank


def _check_filter_bytes(config: FrontEndConfig, where: str) -> None:
    """Refuse filters for which a model file has no room, before the work that makes one."""
    most = (MAX_MEMBER_BYTES - ARRAY_HEADER_BYTES) // FLOAT32_BYTES  # numbers
    if config.mels * config.bins <= most:
        return
    if isinstance(config, ForeignConfig) and config.mel == "none":
        largest = 2 * (math.isqrt(most) - 1) + 1
        remedy = f"of a plain spectrogram, n_fft may be {largest} at most"
    else:
        remedy = f"{config.bins} bins may have {most // config.bins} mel bands at most"
    raise EdgelidError(f"{where}: its filters are larger than a model file takes: {remedy}")


def read_description(path: Path) -> NetworkDescription:
    """Read the JSON beside a network.

    Raises
    ------
    EdgelidError
        If it is missing, no JSON, or has unknown, missing or ill-typed fields, or features that
        cannot be computed as someone speaks.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise EdgelidError(f"cannot read the description {path}: {error.strerror}") from error
    except ValueError as error:
        raise EdgelidError(f"the description {path} is not JSON: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("front_end"), dict):
        return from_dict(NetworkDescription, values, str(path))
    told = front_end_of(values["front_end"], f"{path}, front_end")
    rest = {name: value for name, value in values.items() if name != "front_end"}
    described = from_dict(NetworkDescription, rest, str(path))
    return NetworkDescription(described.labels, told, described.licence, described.bands_first)


def front_end_of(values: dict[str, Any], where: str) -> FrontEndConfig:
    """The front end that names and numbers describe.

    Parameters
    ----------
    values : dict
        Fields of :class:`edge.features.ForeignConfig`, or librosa's names.
    where : str
        Named in errors.

    Raises
    ------
    EdgelidError
        If a name is not known, a value does not fit, or what is described depends on a whole clip.
    """
    _refuse_clips(values, where)
    if set(values) <= OWN:
        return from_dict(FrontEndConfig, values, where)
    foreign = {each.name for each in fields(ForeignConfig)}
    known = sorted(foreign | set(LIBROSA) | set(OTHERS) - {"preset"})
    for name in values:
        if name not in known:
            raise EdgelidError(f"{where}: unknown setting {name!r} (known: {', '.join(known)})")
    librosa = bool(set(values) & set(LIBROSA))
    settings = _settings(values, where)
    if "scale" not in settings:
        if "cepstra" not in settings:
            raise EdgelidError(
                f"{where}: say which scale the features have, one of {', '.join(SCALES)}: db for "
                "librosa.power_to_db, ln for numpy.log, linear for none"
            )
        settings["scale"] = "db"  # as librosa.feature.mfcc
    if "floor" not in settings:
        if settings["scale"] in ("ln", "log10"):
            raise EdgelidError(
                f"{where}: say what keeps the logarithm of silence finite: amin, the least that a "
                "power is taken for, or offset, which was added to it"
            )
        if settings["scale"] in ("db", "amplitude_db"):
            squared = settings["scale"] == "db"
            settings["floor"] = LIBROSA_FLOOR if squared else LIBROSA_FLOOR**0.5
    # Of a plain spectrogram, and of None, the hop is librosa.stft's own; mel spectrograms have
    # another.
    of_stft = settings.get("mel") == "none" or values.get("hop_length", ...) is None
    for name, value in _defaults(settings, librosa, of_stft).items():
        settings.setdefault(name, value)
    config = from_dict(ForeignConfig, settings, where)
    if config.mel == "none":
        settings["mels"] = config.bins
        config = from_dict(ForeignConfig, settings, where)
    return config


def _settings(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The same by the names of :class:`edge.features.ForeignConfig`."""
    settings: dict[str, Any] = {}
    for name, value in values.items():
        own = LIBROSA.get(name, OTHERS.get(name, name))
        if own in settings:
            raise EdgelidError(f"{where}: {name} says again what another setting says")
        if own and not (value is None and own != "norm"):
            settings[own] = value
    if "offset" in values:
        settings["added"] = True
    if values.get("htk"):
        settings["mel"] = "htk"
    if settings.get("mel") == "linear":
        settings["mel"] = "none"
    if "norm" in settings and settings["norm"] is None:
        settings["norm"] = "none"
    for name in ("mean", "deviation"):
        if isinstance(settings.get(name), (int, float)):
            settings[name] = [settings[name]]
    if values.get("dct_type", 2) != 2:
        raise EdgelidError(f"{where}: dct_type must be 2")
    return settings


def _defaults(settings: dict[str, Any], librosa: bool, of_stft: bool) -> dict[str, Any]:
    if not librosa:
        return {"centred": False}
    rate = settings.get("sample_rate_hz", LIBROSA_RATE_HZ)
    fft = settings.get("fft_samples", LIBROSA_FFT)
    window = settings.get("window_samples", fft)
    half = rate / 2 if isinstance(rate, (int, float)) else 0
    quarter = window // 4 if isinstance(window, int) else LIBROSA_HOP
    return {
        "sample_rate_hz": rate,
        "fft_samples": fft,
        "window_samples": window,
        "hop_samples": quarter if of_stft else LIBROSA_HOP,
        "mels": LIBROSA_MELS,
        "low_hz": 0.0,
        "high_hz": half,
    }


def _refuse_clips(values: dict[str, Any], where: str) -> None:
    """Refuse features of which a part depends on what is still to be said.

    Raises
    ------
    EdgelidError
    """
    for name in ("ref", "reference"):
        if isinstance(values.get(name), str):
            raise EdgelidError(
                f"{where}: {name}={values[name]} {CLIP_REASON}with ref=1.0 and top_db=None, and "
                f'say "{name}": 1.0'
            )
    if values.get("top_db") is not None:
        raise EdgelidError(
            f"{where}: top_db, a distance to the loudest frame, {CLIP_REASON}with top_db=None, and "
            'say "top_db": null'
        )
    for name in values:
        if name.casefold() in PER_CLIP and values[name]:
            raise EdgelidError(
                f"{where}: {name} {CLIP_REASON}with the mean and the standard deviation of all "
                "training data, and give these as mean and std"
            )
    for name in ("mean", "std", "deviation"):
        if isinstance(values.get(name), str):
            raise EdgelidError(
                f"{where}: {name}={values[name]} {CLIP_REASON}with those of all training data, and "
                "give the numbers"
            )
