"""Networks of a whole window: their inputs, scores and description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convert.parity import Score, features
from edge.classifier import filled, softmax
from edge.frontend import Float32Array, Float64Array, FrontEnd, FrontEndConfig
from edge.model.modelfile import StreamSpec

WINDOWS_A_CLIP = 4


def window_spec(config: FrontEndConfig, frames: int, hop_frames: int) -> StreamSpec:
    """How a graph of whole windows is fed."""
    return StreamSpec(
        hop_frames=hop_frames,
        stride_frames=1,
        receptive_field_frames=frames,
        windows_s=(frames * config.hop_samples / config.sample_rate_hz,),
        embedding=0,
        states=(),
    )


def windows_of_clips(
    clips: Sequence[Float32Array], frames: int, silence: Float32Array
) -> list[Float32Array]:
    """Windows that a stream of each clip goes through while it fills, and after that.

    As on the device, what is too short is repeated until it fills the window.

    Parameters
    ----------
    clips : sequence of ndarray, shape (n, mels)
        Of one without frames there are no windows.
    frames : int
        Of a window.
    silence : ndarray, shape (mels,)
        A frame of it.
    """
    return [
        filled(clip[:end], frames, silence)
        for clip in clips
        for end in np.linspace(0, len(clip), WINDOWS_A_CLIP + 1).astype(int)[1:]
        if end > 0
    ]


def whole_windows(frames: Float32Array, length: int, silence: Float32Array) -> list[Float32Array]:
    """Windows of a clip as a stream has them that is older than a window: as many as differ enough.

    Parameters
    ----------
    frames : ndarray, shape (n, mels)
    length : int
        Frames of a window.
    silence : ndarray, shape (mels,)
        A frame of it, for a clip without any; what is shorter is repeated.
    """
    more = len(frames) - length
    if more <= 0:
        return [filled(frames, length, silence)]
    count = min(WINDOWS_A_CLIP, 1 + 2 * WINDOWS_A_CLIP * more // length)
    ends = np.linspace(len(frames), length, count).astype(int)
    return [frames[end - length : end] for end in ends]


def window_scores(network: Any, front_end: FrontEnd, frames: int) -> Score:
    """What a float network says of recordings: of the window that each ends with, as on the device.

    A recording of just a window's length lacks a frame or two. What is put in their place is no
    trifle: Whisper base gives another answer to every fifth window that begins with two frames of
    silence.
    """

    def score(clips: Float32Array) -> Float64Array:
        heard = features(front_end, clips)
        windows = np.stack([filled(clip, frames, front_end.silence) for clip in heard])
        return log_probabilities(network, windows)

    return score


def one_window_scores(function: Any, front_end: FrontEnd, fewest: int) -> Score:
    """What a float network of windows of any length says of recordings: of all of each.

    Parameters
    ----------
    function : callable
        From :func:`convert.streaming_graph.any_window_function`.
    front_end : FrontEnd
    fewest : int
        Frames of the shortest window, up to which a recording is repeated.
    """

    def score(clips: Float32Array) -> Float64Array:
        found = []
        for frames in features(front_end, clips):
            window = filled(frames, max(fewest, len(frames)), front_end.silence)
            found.append(np.asarray(function({"frames": window[None]})["scores"]))
        return np.log(softmax(np.concatenate(found).astype(np.float64)) + 1e-30)

    return score


def log_probabilities(network: Any, windows: Float32Array) -> Float64Array:
    """Of windows, (windows, frames, mels) to (windows, classes)."""
    scores = np.concatenate([np.asarray(network(window[None])) for window in windows])
    return np.log(softmax(scores.astype(np.float64)) + 1e-30)
