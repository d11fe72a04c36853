"""Agreement of the trained model and the converted one on the same speech."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from convert.held_out_audio import HeldOut
from edge.classifier import StreamingClassifier, softmax
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, Float64Array, FrontEnd
from train.evaluation.inference import score_audio
from train.evaluation.metrics import (
    accuracies,
    bootstrap_weights,
    expected_calibration_error,
    fit_temperature,
    interval,
    moved,
)
from train.fit.development import logits
from train.model.network import Head, Trunk

BOOTSTRAP_SEED = 0
LEAST_SKILL = 0.25  # of the way from chance to always right

# Log-probabilities of recordings, (clips, samples) to (clips, classes).
Score = Callable[[Float32Array], Float64Array]


@dataclass(frozen=True)
class Agreement:
    """The trained model, in float, against the converted one, for one window length.

    Attributes
    ----------
    clips : int
    agreement : float
        Share of clips with the same likeliest class.
    mean_difference, largest_difference : float
        Of any posterior.
    moved : float
        How much of a clip's probability is another class's, see
        `train.evaluation.metrics.moved`; on average.
    """

    clips: int
    agreement: float
    mean_difference: float
    largest_difference: float
    moved: float

    def rows(self) -> dict[str, str]:
        """Names and values for people."""
        rows = {}
        for name, value in asdict(self).items():
            text = f"{value[0]:.4g} to {value[1]:.4g}" if "interval" in name else f"{value:.4g}"
            rows[name.replace("_", " ")] = text
        return rows


@dataclass(frozen=True)
class Parity(Agreement):
    """The same, where it is known what the right answers are.

    Attributes
    ----------
    accuracy_trained, accuracy_converted : float
        Over all classes.
    balanced_accuracy_difference : float
        Converted less trained; a loss is negative.
    interval : list of float
        Of that, 95 %, from a bootstrap by speaker.
    ece_trained, ece_converted : float
        Expected calibration errors, each with a temperature of its own.
    ece_not_refitted : float
        Of the converted model with the temperature of the trained one.
    temperature_trained, temperature_converted : float
    """

    accuracy_trained: float
    accuracy_converted: float
    balanced_accuracy_difference: float
    interval: list[float]
    ece_trained: float
    ece_not_refitted: float
    ece_converted: float
    temperature_trained: float
    temperature_converted: float


@dataclass(frozen=True)
class Judged(Parity):
    """The same of a network that nothing is known of: it may have learnt from other features.

    Attributes
    ----------
    accuracy_interval : list of float
        Of the converted network's accuracy, 95 %, from a bootstrap by speaker.
    chance : float
        Accuracy of always giving the commonest answer.
    """

    accuracy_interval: list[float]
    chance: float

    @property
    def near_chance(self) -> bool:
        """Whether it may be guessing, or is hardly better."""
        skill = (self.accuracy_converted - self.chance) / max(1 - self.chance, 1e-9)
        return self.accuracy_interval[0] <= self.chance or skill < LEAST_SKILL


def trained_scores(trunk: Trunk, head: Head, front_end: FrontEnd, hop_frames: int) -> Score:
    """What the trained model says of recordings, as a stream that begins with each would."""

    def score(clips: Float32Array) -> Float64Array:
        frames = features(front_end, clips)
        stride = trunk.config.stride
        usable = frames.shape[1] // stride * stride
        duration_s = clips.shape[1] / SAMPLE_RATE_HZ
        scores = logits(trunk, head, frames[:, :usable], [duration_s], hop_frames)[0]
        return np.log(softmax(scores.astype(np.float64)))

    return score


def features(front_end: FrontEnd, clips: Float32Array) -> Float32Array:
    """Frames of recordings of one length, shape (clips, frames, mels)."""
    return np.stack([front_end.log_mel(clip) for clip in clips])


def compare(
    trained: Score, classifier: StreamingClassifier, held: HeldOut
) -> tuple[Parity, Float64Array]:
    """Run both models.

    Parameters
    ----------
    trained : callable
        Scores of the trained model.
    classifier : StreamingClassifier
        Of the converted model, uncalibrated, its window as long as the clips.
    held : HeldOut

    Returns
    -------
    Parity
    ndarray, shape (clips, classes)
        Log-probabilities of the converted model.
    """
    floats = trained(held.audio)
    converted = np.stack([score_audio(classifier, clip) for clip in held.audio])
    return parity(floats, converted, held.wanted, held.speakers), converted


def parity(
    floats: Float64Array, converted: Float64Array, wanted: np.ndarray, speakers: Sequence[str]
) -> Parity:
    """Compare log-probabilities of clips, both (clips, classes), that it is known what they say.

    Parameters
    ----------
    floats, converted : ndarray, shape (clips, classes)
    wanted : ndarray, shape (clips,)
        Class of each.
    speakers : sequence of str
        Of each.
    """
    weights = _draws(wanted, speakers)
    trained_accuracy, converted_accuracy = (
        accuracies(np.exp(scores), wanted, weights)["balanced_accuracy"]
        for scores in (floats, converted)
    )
    change = converted_accuracy - trained_accuracy
    temperatures = [round(fit_temperature(scores, wanted), 4) for scores in (floats, converted)]

    def calibration_error(scores: Float64Array, temperature: float) -> float:
        return round(expected_calibration_error(softmax(scores / temperature), wanted), 4)

    return Parity(
        **asdict(agreement(floats, converted)),
        accuracy_trained=float((floats.argmax(1) == wanted).mean()),
        accuracy_converted=float((converted.argmax(1) == wanted).mean()),
        balanced_accuracy_difference=round(float(change[0]), 4),
        interval=interval(change[1:]),
        ece_trained=calibration_error(floats, temperatures[0]),
        ece_not_refitted=calibration_error(converted, temperatures[0]),
        ece_converted=calibration_error(converted, temperatures[1]),
        temperature_trained=temperatures[0],
        temperature_converted=temperatures[1],
    )


def judged(
    floats: Float64Array, converted: Float64Array, wanted: np.ndarray, speakers: Sequence[str]
) -> Judged:
    """The same, and whether the network is any better than chance."""
    drawn = accuracies(np.exp(converted), wanted, _draws(wanted, speakers)[1:])["accuracy"]
    shares = np.bincount(wanted) / len(wanted)
    return Judged(
        **asdict(parity(floats, converted, wanted, speakers)),
        accuracy_interval=interval(drawn),
        chance=round(float(shares.max()), 4),
    )


def _draws(wanted: np.ndarray, speakers: Sequence[str]) -> Float64Array:
    """Weights of the clips: once each, then those of a bootstrap."""
    draws = bootstrap_weights([str(k) for k in wanted], speakers, BOOTSTRAP_SEED)
    return np.concatenate([np.ones((1, len(wanted))), draws])


def agreement(trained: Float64Array, converted: Float64Array) -> Agreement:
    """Compare log-probabilities of the same clips, both (clips, classes)."""
    difference = np.abs(np.exp(trained) - np.exp(converted))
    return Agreement(
        clips=len(trained),
        agreement=float((trained.argmax(1) == converted.argmax(1)).mean()),
        # Rounded, as the last digits of the float model vary with the processor's load.
        mean_difference=round(float(difference.mean()), 6),
        largest_difference=round(float(difference.max()), 4),
        moved=round(moved(np.exp(trained), np.exp(converted)), 6),
    )
