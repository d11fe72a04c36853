"""Comparison of a stream with a plain graph of its window, in float or calibrated apart.

The two share no code but that of the layers: states and exact sums here, one graph with its own
pooling there. What is left between them is the rounding of either.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from convert.parity import Agreement, agreement, features
from edge.classifier import StreamingClassifier, softmax
from edge.frontend import Float32Array, Float64Array, FrontEnd
from edge.model.interpreter import Graphs, WindowGraph
from edge.model.modelfile import ModelFile
from train.evaluation.inference import score_audio


@dataclass(frozen=True)
class WindowCheck(Agreement):
    """Scores of a stream and of its window, in quantisation steps of the stream's scores.

    Attributes
    ----------
    within_one_step : float
        Share of the scores.
    mean_steps, largest_steps : float
    """

    within_one_step: float
    mean_steps: float
    largest_steps: float


def check_window(
    model: ModelFile, graphs: Graphs, window: ModelFile, graph: WindowGraph, clips: Float32Array
) -> WindowCheck:
    """Score clips both ways.

    Parameters
    ----------
    model : ModelFile
        That streams, uncalibrated.
    graphs : Graphs
        Of it.
    window : ModelFile
        The same network as a whole window, uncalibrated.
    graph : WindowGraph
        Of it.
    clips : ndarray, shape (clips, samples)
    """
    spec, config = window.description.stream, window.description.front_end
    window_s = spec.windows_s[0]
    # Just as many frames as the window has, so that both begin with the same one.
    samples = (spec.receptive_field_frames - 1) * config.hop_samples + config.window_samples
    missing = max(0, samples - clips.shape[1])
    clips = np.pad(clips[:, :samples], ((0, 0), (missing, 0)))
    frames = features(FrontEnd(config, window.filterbank), clips)
    classifier = StreamingClassifier(model, graphs, [window_s])
    streamed = np.stack([score_audio(classifier, clip) for clip in clips])
    whole = np.log(softmax(np.stack([graph.scores(each) for each in frames])) + 1e-30)
    # Log-probabilities are scores but for a constant, which leaves with their mean.
    steps = np.abs(_centred(streamed) - _centred(whole)) / graphs.scores.scale
    return WindowCheck(
        **asdict(agreement(streamed, whole)),
        within_one_step=round(float((steps <= 1).mean()), 4),
        mean_steps=round(float(steps.mean()), 3),
        largest_steps=round(float(steps.max()), 2),
    )


def _centred(scores: Float64Array) -> Float64Array:
    """Scores (clips, classes) about their mean over the classes."""
    centred: Float64Array = scores - scores.mean(axis=1, keepdims=True)
    return centred
