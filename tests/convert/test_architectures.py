"""Networks of any shape stream exactly: in any blocks, from any start, as whole windows."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convert.flatbuffer import read_graphs
from convert.from_checkpoint import stream_spec
from convert.inspection import problems
from convert.stream_vs_window import WindowCheck, check_window
from convert.streaming_graph import (
    StreamingModule,
    WholeWindow,
    representative_samples,
    to_int8,
    window_to_tflite,
)
from convert.tensor_errors import check_streams
from convert.whole_window import window_spec
from edge.classifier import StreamingClassifier
from edge.frontend import Float32Array, FrontEnd, FrontEndConfig, front_end_hash
from edge.model.interpreter import Graphs, WindowGraph, open_graphs, open_model
from edge.model.modelfile import (
    FORMAT_VERSION,
    WINDOW_FORMAT_VERSION,
    Calibration,
    DecoderDefaults,
    Description,
    ModelFile,
    StreamSpec,
    model_of_bytes,
    pack_model,
)
from tests.synthetic import speech
from train.architecture import Attention, ModelConfig, Stage
from train.config import DataConfig, OptimiserConfig, RunConfig
from train.features.filterbank import mel_filterbank
from train.model.checkpoint import build_model

FRONT_END = FrontEndConfig(mels=16)
FILTERBANK = mel_filterbank(FRONT_END)
LABELS = ("de", "en", "other", "nonspeech")
HOP_FRAMES = 24  # a multiple of every stride below
WINDOW_S = 0.96
WINDOW_FRAMES = 96
SAMPLES = speech("en", "dora", 1, 4.0)
# Of as many frames as a window has: the newest reaches beyond its hop.
CLIPS = np.stack(
    [
        np.pad(speech(language, speaker, clip, WINDOW_S), (240, 0))
        for language in ("de", "en")
        for speaker in ("dora", "emil", "anna")
        for clip in range(4)
    ]
)

# Small networks that lie far apart, and of which each output says something: where the same ones
# are wanted each time.
SHAPES = (
    ModelConfig(FRONT_END.mels, (Stage(12, 3, 2, 6, 1, 1),), 8, 8),
    ModelConfig(FRONT_END.mels, (Stage(7, 5, 3, 9, 0, 4), Stage(12, 2, 2, 6, 2, 0)), 8, 8),
    ModelConfig(
        FRONT_END.mels,
        (Stage(4, 2, 1, 3, 2, 1), Stage(7, 3, 2, 6, 1, 2), Stage(12, 5, 2, 6, 0, 0)),
        8,
        8,
    ),
    ModelConfig(
        FRONT_END.mels,
        (Stage(12, 3, 2, 6, 1, 1), Stage(12, 3, 2, 6, 0, 0)),
        8,
        8,
        attention=Attention(2, 12, 2, 6, 16, past=4, ahead=2),
    ),
)

# Attention rounds more: a score that is a step apart moves all that it weighs.
CONVOLUTIONS = tuple(shape for shape in SHAPES if shape.attention is None)


@st.composite
def stages(draw: st.DrawFn) -> Stage:
    """One of the stages that `train` allows."""
    stride = draw(st.sampled_from([1, 2, 3]))
    kernel = draw(st.sampled_from([2, 3, 5]))
    return Stage(
        channels=draw(st.sampled_from([4, 7, 12])),
        kernel=kernel,
        stride=stride,
        entry_kernel=stride + (2 * stride if stride > 1 else draw(st.integers(1, 3))),
        blocks=draw(st.integers(0, 2)),
        delay=draw(st.integers(0, kernel - 1)),
    )


@st.composite
def attentions(draw: st.DrawFn) -> Attention:
    """A few layers of it."""
    layers, heads, width = (draw(st.integers(1, 2)), draw(st.sampled_from([1, 3])), 4)
    past, ahead = draw(st.integers(1, 6)), draw(st.integers(0, 3))
    return Attention(layers, draw(st.sampled_from([6, 9])), heads, width, 10, past, ahead)


@st.composite
def shapes(draw: st.DrawFn) -> ModelConfig:
    """A small network whose stride divides the hop."""
    found = tuple(draw(st.lists(stages(), min_size=1, max_size=3)))
    attention = draw(st.none() | attentions())
    shape = ModelConfig(
        FRONT_END.mels, found, draw(st.sampled_from([3, 8])), 8, attention=attention
    )
    while HOP_FRAMES % shape.stride:  # 3 x 3
        found = (*found[:-1], dataclasses.replace(found[-1], stride=1, entry_kernel=2))
        shape = dataclasses.replace(shape, stages=found)
        if HOP_FRAMES % shape.stride:
            shape = dataclasses.replace(shape, stages=found[:1])
    return shape


def converted(shape: ModelConfig, seed: int = 3) -> tuple[ModelFile, StreamingModule]:
    """A model file of a network that has learnt nothing, and the network in float."""
    module = drawn(shape, seed)
    clips = [frames_of(SAMPLES[:32_000]), *map(frames_of, CLIPS)]
    graph = to_int8(module, representative_samples(module, clips))
    return model_file(graph, FORMAT_VERSION, stream_spec(module, shape, (WINDOW_S,))), module


def whole_window(module: StreamingModule) -> ModelFile:
    """The same weights as one plain graph, which has seen what is said below and nothing else."""
    late_frames = module.trunk.config.late_frames(HOP_FRAMES)
    network = WholeWindow(module.trunk, module.head, late_frames)
    windows = [frames_of(clip) for clip in CLIPS]
    graph = window_to_tflite(network, (WINDOW_FRAMES, FRONT_END.mels), windows)
    spec = window_spec(FRONT_END, WINDOW_FRAMES, HOP_FRAMES)
    return model_file(graph, WINDOW_FORMAT_VERSION, spec)


def drawn(shape: ModelConfig, seed: int) -> StreamingModule:
    keras.utils.set_random_seed(seed)
    config = RunConfig(1, DataConfig(LABELS[:2], {}), FRONT_END, shape, OptimiserConfig(300))
    trunk, head = build_model(config)
    rng = np.random.default_rng(7)
    # Fresh normalisation does nothing: draw statistics, as training would have left them.
    for network in (trunk, head):
        network.set_weights(
            [w + 0.1 * rng.random(w.shape).astype(np.float32) for w in network.get_weights()]
        )
    return StreamingModule(trunk, head, HOP_FRAMES)


def model_file(graph: bytes, format_version: int, stream: StreamSpec) -> ModelFile:
    description = Description(
        format_version=format_version,
        name="drawn",
        front_end=FRONT_END,
        front_end_hash=front_end_hash(FRONT_END, FILTERBANK),
        stream=stream,
        calibration=Calibration({"1": 1.0}),
        decoder=DecoderDefaults(WINDOW_S),
    )
    data = pack_model(graph, LABELS, description, FILTERBANK)
    return model_of_bytes(Path("drawn.tflite"), data)


def frames_of(samples: Float32Array) -> Float32Array:
    return FrontEnd(FRONT_END, FILTERBANK).process(samples)


def answers(model: ModelFile, graphs: Graphs, blocks: list[Float32Array]) -> list[bytes]:
    """Probabilities of every window, to the bit."""
    classifier = StreamingClassifier(model, graphs, [WINDOW_S])
    hops = [hop for block in blocks for hop in classifier.process(block)]
    hops += classifier.flush()
    return [window.probabilities.tobytes() for hop in hops for window in hop]


@pytest.mark.slow
@settings(
    max_examples=3,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    shape=shapes(),
    ends=st.lists(st.integers(0, len(SAMPLES)), max_size=12).map(sorted),
)
def test_drawn_networks_stream_exactly(shape: ModelConfig, ends: list[int]) -> None:
    model, module = converted(shape)
    assert problems(read_graphs(model.graph)) == []
    graphs = open_graphs(model)
    # Any blocks.
    assert answers(model, graphs, np.split(SAMPLES, ends)) == answers(model, graphs, [SAMPLES])
    # Any start: once the receptive field has filled, only the audio counts.
    check = check_streams(model, graphs, [SAMPLES] * 3)
    assert check.compared > 100
    assert check.different == 0
    # Stream = window: in float, where nothing is rounded, as training sees a whole clip.
    frames = frames_of(SAMPLES)
    frames = frames[: len(frames) // HOP_FRAMES * HOP_FRAMES]
    streamed = np.concatenate([out["embeddings"] for _, out in module.stream(frames[None])], 1)
    whole = np.asarray(module.trunk(frames[None, :, None, :])[0])
    np.testing.assert_allclose(streamed, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("shape", CONVOLUTIONS)
def test_a_window_calibrated_apart_is_near(shape: ModelConfig) -> None:
    """A graph whose scales are its own is within one quantisation step of the scores on average.

    Over several networks: one whose weights happen to give scores a narrow range beside what goes
    into them may gather the roundings of several layers.
    """
    found: list[WindowCheck] = []
    for seed in range(1, 5):
        model, module = converted(shape, seed)
        window = whole_window(module)
        graph = open_model(window)
        assert isinstance(graph, WindowGraph)
        found.append(check_window(model, open_graphs(model), window, graph, CLIPS))
    assert all(apart.agreement >= 0.9 for apart in found)
    assert all(apart.mean_difference < 0.02 for apart in found)
    assert statistics.mean(apart.mean_steps for apart in found) < 1
    assert statistics.mean(apart.within_one_step for apart in found) > 0.75
    assert statistics.median(apart.largest_steps for apart in found) < 5


@pytest.mark.slow
def test_a_window_is_what_a_stream_says_of_it() -> None:
    """The same graph on a window alone, and in the midst of a stream: equal to the bit.

    A window that follows silence of a receptive field has the same past alone as in a stream
    of anything before that silence.
    """
    stage = Stage(channels=8, kernel=3, stride=2, entry_kernel=6, blocks=1, delay=1)
    shape = ModelConfig(FRONT_END.mels, (stage, dataclasses.replace(stage, kernel=5)), 8, 8)
    model, _ = converted(shape)
    graphs = open_graphs(model)
    hop = HOP_FRAMES * FRONT_END.hop_samples
    silent_hops = -(-shape.receptive_field_frames // HOP_FRAMES) + 1
    silence = np.zeros(silent_hops * hop, np.float32)
    window = SAMPLES[: round(WINDOW_S * 16_000)]
    before = speech("de", "emil", 0, 2.0)[: 5 * hop]
    alone = answers(model, graphs, [silence, window])
    amid = answers(model, graphs, [before, silence, window])
    assert alone[-1] == amid[-1]
    assert alone[0] != alone[-1]
