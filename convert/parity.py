"""Proof that int8 did not hurt: the float model and the converted one on the same speech."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from edge.classifier import StreamingClassifier, softmax
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, Float64Array, FrontEnd
from train.development import logits
from train.model import Head, Trunk
from train.scoring import score_audio

# Below these, something is wrong with the graph and not merely with its precision.
MIN_AGREEMENT = 0.9
MAX_MEAN_DIFFERENCE = 0.05


@dataclass(frozen=True)
class Parity:
    """Float against int8.

    Attributes
    ----------
    clips : int
    agreement : float
        Share of clips with the same likeliest class.
    accuracy_float, accuracy_int8 : float
    mean_difference, largest_difference : float
        Of any posterior.
    """

    clips: int
    agreement: float
    accuracy_float: float
    accuracy_int8: float
    mean_difference: float
    largest_difference: float

    def rows(self) -> list[str]:
        """As lines for people."""
        return [f"{name.replace('_', ' '):<20} {value:.4g}" for name, value in asdict(self).items()]

    def check(self) -> None:
        """Raise EdgelidError if the converted model is not the trained one."""
        # The other way round, a difference that is no number would pass.
        if not (self.agreement >= MIN_AGREEMENT and self.mean_difference <= MAX_MEAN_DIFFERENCE):
            raise EdgelidError(
                f"the int8 model differs too much from the float one (same answer for "
                f"{self.agreement:.1%} of the clips, mean posterior difference "
                f"{self.mean_difference:.3f}); nothing was written"
            )


def float_log_probabilities(
    trunk: Trunk, head: Head, front_end: FrontEnd, clips: Float32Array
) -> Float64Array:
    """What the trained model says of recordings.

    Parameters
    ----------
    clips : ndarray, shape (clips, samples)

    Returns
    -------
    ndarray, shape (clips, classes)
    """
    frames = []
    for clip in clips:
        front_end.reset()
        frames.append(front_end.process(clip))
    stride = trunk.config.stride
    usable = len(frames[0]) // stride * stride
    duration_s = clips.shape[1] / SAMPLE_RATE_HZ
    scores = logits(trunk, head, np.stack(frames)[:, :usable], [duration_s])[0]
    return np.log(softmax(scores.astype(np.float64)))


def compare(
    trunk: Trunk,
    head: Head,
    front_end: FrontEnd,
    classifier: StreamingClassifier,
    clips: Float32Array,
    wanted: np.ndarray,
) -> tuple[Parity, Float64Array]:
    """Run both models.

    Parameters
    ----------
    trunk, head : keras.Model
        Trained.
    front_end : FrontEnd
    classifier : StreamingClassifier
        Of the converted model, uncalibrated, its window as long as the clips.
    clips : ndarray, shape (clips, samples)
    wanted : ndarray, shape (clips,)
        True classes.

    Returns
    -------
    Parity
    ndarray, shape (clips, classes)
        Log-probabilities of the converted model.
    """
    floats = float_log_probabilities(trunk, head, front_end, clips)
    ints = np.stack([score_audio(classifier, clip) for clip in clips])
    difference = np.abs(np.exp(floats) - np.exp(ints))
    return (
        Parity(
            clips=len(clips),
            agreement=float((floats.argmax(1) == ints.argmax(1)).mean()),
            accuracy_float=float((floats.argmax(1) == wanted).mean()),
            accuracy_int8=float((ints.argmax(1) == wanted).mean()),
            # Rounded, as the last digits of the float model vary with the processor's load.
            mean_difference=round(float(difference.mean()), 6),
            largest_difference=round(float(difference.max()), 4),
        ),
        ints,
    )
