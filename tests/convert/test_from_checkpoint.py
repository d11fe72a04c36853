"""A checkpoint becomes a model file that the runtime accepts, or nothing is written at all."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

import convert.cli
import convert.from_checkpoint
import convert.streaming_graph
from convert.from_checkpoint import _metrics, streams_of, temperature_of
from convert.from_checkpoint import convert as convert_checkpoint
from convert.held_out_audio import HeldOut, held_out_audio
from convert.parity import Parity, agreement
from convert.proof import Limits, NotProven, Proof
from convert.representative_audio import PER_LANGUAGE, choose
from convert.settings import HOP_FRAMES, WINDOWS_S
from convert.stream_vs_window import WindowCheck
from convert.streaming_graph import StreamingModule, representative_samples
from convert.tensor_errors import (
    StreamCheck,
    check_streams,
    samples_to_compare,
    tensor_errors,
)
from edge.classifier import StreamingClassifier, quantise
from edge.errors import EdgelidError
from edge.frontend import Float32Array, FrontEnd, front_end_hash
from edge.model.interpreter import open_graphs
from edge.model.modelfile import DEFAULT_MODEL, NONSPEECH, OTHER, ModelFile, read_model
from tests.conftest import Conversion
from tests.synthetic import DEVELOPMENT, speech
from train.config import RunConfig
from train.corpus.manifest import Clip, open_manifest
from train.features.filterbank import mel_filterbank
from train.features.noise import read_noise
from train.model.checkpoint import Checkpoint, restore_model
from train.model.network import pool


@pytest.fixture(scope="module")
def model(tiny_conversion: Conversion) -> ModelFile:
    return read_model(tiny_conversion.path)


@pytest.fixture(scope="module")
def flatbuffer(model: ModelFile) -> Any:
    """The graph itself: an interpreter shows the operators of one signature only."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model.graph, 0))


def names(enumeration: Any) -> dict[int, str]:
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


def test_only_the_model_is_left(tiny_conversion: Conversion) -> None:
    assert os.listdir(tiny_conversion.path.parent) == ["tiny.tflite"]


def test_describes_itself(
    model: ModelFile, tiny_conversion: Conversion, tiny_config: RunConfig
) -> None:
    description = model.description
    assert model.labels == tiny_config.data.labels == ("de", "en", OTHER, NONSPEECH)
    assert description.name == "tiny"
    assert description.front_end == tiny_config.front_end
    filterbank = mel_filterbank(tiny_config.front_end)
    np.testing.assert_array_equal(model.filterbank, filterbank)
    assert description.front_end_hash == front_end_hash(tiny_config.front_end, filterbank)
    stream = description.stream
    assert stream.hop_frames == HOP_FRAMES
    assert stream.stride_frames == tiny_config.model.stride
    assert stream.receptive_field_frames == tiny_config.model.receptive_field_frames
    assert stream.windows_s == WINDOWS_S
    assert description.stream == tiny_conversion.description.stream


def test_keeps_the_windows_in_order(tiny_conversion: Conversion) -> None:
    windows = [f"{window_s:g}" for window_s in WINDOWS_S]
    description = tiny_conversion.description
    assert list(description.calibration.temperatures) == windows
    assert list(tiny_conversion.proof.windows) == windows
    for name in ("accuracy_by_duration", "ece_by_duration"):
        assert list(description.metrics[name]) == windows


def test_tells_where_it_comes_from(
    model: ModelFile, tiny_corpus: Path, tiny_checkpoint: Checkpoint
) -> None:
    provenance = model.description.provenance
    assert provenance["training_steps"] == tiny_checkpoint.step
    ids = provenance["representative_clips"]
    speech_ids = [name for name in ids if not name.startswith(("noise/", "silence"))]
    by_path = {clip.path: clip for clip in open_manifest(tiny_corpus).clips()}
    clips = [by_path[name] for name in speech_ids]
    assert {clip.split for clip in clips} == {"train"}
    assert DEVELOPMENT not in {clip.source for clip in clips}
    counts = Counter(clip.language for clip in clips)
    assert counts == {"de": PER_LANGUAGE, "en": PER_LANGUAGE, "sv": 1}
    assert any(name.startswith("noise/") for name in ids)
    assert ids[-1] == "silence"
    for name in ("training_config_sha256", "weights_sha256", "representative_sha256"):
        assert len(provenance[name]) == 64


def test_int8_is_as_good(tiny_conversion: Conversion) -> None:
    for parity in tiny_conversion.proof.windows.values():
        assert isinstance(parity, Parity)
        assert parity.clips >= 4
        assert parity.agreement >= 0.9
        assert parity.mean_difference < 0.02
        low, high = parity.interval
        assert low <= parity.balanced_accuracy_difference <= high
        assert parity.mean_difference <= parity.largest_difference
        assert 0 <= parity.ece_converted < 1


def test_looks_into_the_graph(tiny_conversion: Conversion, tiny_config: RunConfig) -> None:
    proof = tiny_conversion.proof
    assert proof.stream is not None
    assert proof.stream.compared > 1000
    assert proof.stream.different == 0
    names = {error.name for error in proof.tensors}
    assert {"embeddings", "weights", "pooled", "scores", "input of s0_entry_t"} <= names
    assert len(names) == 4 + 4  # that of every temporal convolution
    ratios = [error.channel_snr_db for error in proof.tensors]
    assert ratios == sorted(ratios)
    assert all(error.channel_snr_db <= error.snr_db for error in proof.tensors)
    assert min(error.snr_db for error in proof.tensors) > 10
    # Six dB a bit: features themselves, which no layer has touched, lose nothing but rounding.
    assert next(e.snr_db for e in proof.tensors if e.name == "input of s0_entry_t") > 35


def test_errors_of_the_trunk_reach_the_scores(
    model: ModelFile, tiny_checkpoint: Checkpoint
) -> None:
    """What is pooled is what the converted trunk has made."""
    trunk, head = restore_model(tiny_checkpoint)
    trunk.embedding.set_weights([each / 2 for each in trunk.embedding.get_weights()])
    module = StreamingModule(trunk, head, HOP_FRAMES)
    frames = frames_of(model, 3.0)
    found = tensor_errors(
        module, model.graph, frames[None, : len(frames) // HOP_FRAMES * HOP_FRAMES]
    )
    errors = {error.name: error.snr_db for error in found}
    assert errors["input of s0_entry_t"] > 35
    assert max(errors["embeddings"], errors["pooled"]) < 10


def test_looks_into_the_weights(tiny_conversion: Conversion) -> None:
    weights = tiny_conversion.proof.weights
    names = ["s0_entry_t", "s0_b0_t", "s0_b0_p", "s1_entry_t", "s1_entry_p", "s1_b0_t", "s1_b0_p"]
    assert {error.name for error in weights} == {*names, "embed", "gate", "hidden", "scores"}
    worst = [error.channel_snr_db for error in weights]
    assert worst == sorted(worst)
    # Seven bits and a sign for each output; what shares its scale has some of them less.
    assert min(error.snr_db for error in weights) > 30
    assert worst[0] > 20


def test_a_window_in_float(tiny_conversion: Conversion) -> None:
    """That of the length that whole windows usually have."""
    apart = tiny_conversion.proof.apart
    assert list(apart) == ["3"]
    assert apart["3"].clips >= 4
    assert apart["3"].agreement >= 0.9
    assert apart["3"].mean_steps < 4
    assert 0 < apart["3"].within_one_step <= 1
    assert apart["3"].mean_steps <= apart["3"].largest_steps


def test_every_operator_is_int8(flatbuffer: Any) -> None:
    operators = {
        names(schema.BuiltinOperator)[code.builtinCode] for code in flatbuffer.operatorCodes
    }
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONCATENATION"} <= operators
    assert not operators & {"QUANTIZE", "DEQUANTIZE", "CAST", "CUSTOM", "WHILE", "CALL_ONCE"}
    assert len(flatbuffer.subgraphs) == 2  # step and head
    kinds = names(schema.TensorType)
    for graph in flatbuffer.subgraphs:
        types = Counter(kinds[tensor.type] for tensor in graph.tensors)
        assert types["INT8"] > 0
        assert set(types) <= {"INT8", "INT32"}  # biases and shapes are 32-bit


def test_states_keep_their_scale(model: ModelFile) -> None:
    interpreter = tf.lite.Interpreter(model_content=model.graph)
    step = interpreter.get_signature_runner("embed")
    inputs, outputs = step.get_input_details(), step.get_output_details()
    assert len(model.description.stream.states) == len(inputs) - 1 == 4
    for i, (frames, channels) in enumerate(model.description.stream.states):
        before, after = inputs[f"state_{i}"], outputs[f"state_{i}_next"]
        assert before["quantization"] == after["quantization"]
        assert tuple(before["shape"]) == tuple(after["shape"]) == (1, frames, 1, channels)


def frames_of(model: ModelFile, duration_s: float, clip: int = 0) -> np.ndarray:
    front_end = FrontEnd(model.description.front_end, model.filterbank)
    return front_end.process(speech("en", "dora", clip, duration_s))


def embeddings_from(model: ModelFile, frames: np.ndarray) -> np.ndarray:
    """int8 embeddings and weights, (n, embedding + 1), of a stream that starts with `frames`."""
    graphs, hop = open_graphs(model), model.description.stream.hop_frames
    rows = []
    for start in range(0, len(frames) - hop + 1, hop):
        embeddings, weights = graphs.step(quantise(frames[start : start + hop], graphs.frames))
        rows.append(np.concatenate([embeddings, weights[:, None]], axis=1))
    return np.concatenate(rows)


def test_embeddings_do_not_depend_on_where_the_stream_started(model: ModelFile) -> None:
    stream = model.description.stream
    frames = frames_of(model, 4.0)
    whole = embeddings_from(model, frames)
    assert len(np.unique(whole)) > 20
    filled = -(-stream.receptive_field_frames // stream.stride_frames)
    for skipped in (1, 2, 3, 5, 17):  # embeddings
        late = embeddings_from(model, frames[skipped * stream.stride_frames :])
        same = whole[skipped + filled : skipped + len(late)]
        np.testing.assert_array_equal(late[filled : filled + len(same)], same)


def test_windows_do_not_depend_on_the_blocks(model: ModelFile) -> None:
    samples = speech("de", "dora", 1, 6.0)
    classifier = StreamingClassifier(model, open_graphs(model), WINDOWS_S)

    def answers(blocks: list[np.ndarray]) -> list[bytes]:
        classifier.reset()
        windows = [found for block in blocks for found in classifier.process(block)]
        return [w.probabilities.tobytes() for found in windows for w in found]

    whole = answers([samples])
    assert len(whole) > 90
    rng = np.random.default_rng(6)
    for _ in range(3):
        ends = np.sort(rng.integers(0, len(samples), 40))
        assert answers(np.split(samples, ends)) == whole


def test_float_and_int8_agree_step_by_step(model: ModelFile, tiny_checkpoint: Checkpoint) -> None:
    """The streaming graph is the trained trunk, before and after quantisation."""
    trunk, head = restore_model(tiny_checkpoint)
    frames = frames_of(model, 2.0)
    frames = frames[: len(frames) // HOP_FRAMES * HOP_FRAMES]
    module = StreamingModule(trunk, head, HOP_FRAMES)
    streamed = np.concatenate([out["embeddings"] for _, out in module.stream(frames[None])], axis=1)
    whole = np.asarray(trunk(frames[None, :, None, :])[0])
    np.testing.assert_allclose(streamed, whole, rtol=1e-4, atol=1e-5)
    scale = open_graphs(model).embeddings
    int8 = (embeddings_from(model, frames)[:, :-1].astype(float) - scale.zero_point) * scale.scale
    assert np.abs(int8 - whole[0, :, 0]).mean() < 0.05 * whole.max()


def test_representative_samples_are_what_a_stream_sees(
    model: ModelFile, tiny_checkpoint: Checkpoint
) -> None:
    """Side by side or one after the other, to the length of each clip."""
    trunk, head = restore_model(tiny_checkpoint)
    module = StreamingModule(trunk, head, HOP_FRAMES)
    clips = [frames_of(model, 1.0), frames_of(model, 0.3, clip=1)]
    drawn = list(representative_samples(module, clips)())
    assert Counter(name for name, _ in drawn) == {"embed": 6 + 1, "head": 6 + 1}
    alone = list(representative_samples(module, clips[:1])())
    together = drawn[:2] + drawn[4:]  # in the first hop, the second clip has its turn as well
    for (name, one), (other_name, other) in zip(together, alone, strict=True):
        assert (name, one.keys()) == (other_name, other.keys())
        for key in one:
            np.testing.assert_allclose(one[key], other[key], rtol=1e-4, atol=1e-5)
    embeddings, weights, _ = trunk(clips[0][None, : 6 * HOP_FRAMES, None, :])
    last = [values["pooled"] for name, values in alone if name == "head"][-1]
    np.testing.assert_allclose(last, np.asarray(pool(embeddings, weights)), rtol=1e-4, atol=1e-5)


def test_ranges_are_of_streams_that_have_gone_on(
    model: ModelFile, tiny_checkpoint: Checkpoint
) -> None:
    """Seven hops of 0.16 s are the first second; a clip that is over by then has none to give."""
    module = StreamingModule(*restore_model(tiny_checkpoint), HOP_FRAMES)
    long, short = frames_of(model, 2.8), frames_of(model, 0.5, clip=1)

    def drawn(*clips: Float32Array) -> Counter[str]:
        return Counter(name for name, _ in representative_samples(module, clips)())

    assert drawn(long, short) == {"embed": 17 - 7, "head": 17 + 3}
    # Of short ones there would be next to nothing.
    assert drawn(long, *[short] * 4) == {"embed": 17 + 12, "head": 17 + 12}


@pytest.mark.slow
def test_equal_inputs_give_equal_bytes(
    tiny_conversion: Conversion,
    tiny_checkpoint: Checkpoint,
    tiny_corpus: Path,
    tmp_path: Path,
    short_streams: None,
) -> None:
    convert_checkpoint(tiny_checkpoint, tiny_corpus, tmp_path / "again.tflite", "tiny")
    again = (tmp_path / "again.tflite").read_bytes()
    assert again == tiny_conversion.path.read_bytes()


@pytest.fixture
def quantised(monkeypatch: pytest.MonkeyPatch, model: ModelFile) -> None:
    """Conversion without its slowest part: the graph is there already."""
    monkeypatch.setattr(convert.from_checkpoint, "to_int8", lambda *_: model.graph)


@pytest.mark.slow
def test_a_graph_that_is_not_the_model_is_not_written(
    quantised: None, tiny_checkpoint: Checkpoint, tiny_corpus: Path, tmp_path: Path
) -> None:
    scores = max(name for name in tiny_checkpoint.arrays if name.startswith("head/"))
    assert tiny_checkpoint.arrays[scores].ndim <= 2
    arrays = {
        name: array[..., ::-1] if name.startswith("head/") and array.shape[-1] == 4 else array
        for name, array in tiny_checkpoint.arrays.items()
    }
    other = dataclasses.replace(tiny_checkpoint, arrays=arrays)
    output = tmp_path / "tiny.tflite"
    output.write_bytes(DEFAULT_MODEL.read_bytes())
    with pytest.raises(EdgelidError, match=r"differs too much .*; nothing was written"):
        convert_checkpoint(other, tiny_corpus, output, "tiny")
    assert output.read_bytes() == DEFAULT_MODEL.read_bytes()
    assert os.listdir(tmp_path) == ["tiny.tflite"]


PARITY = Parity(100, 0.9, 0.05, 0.5, 0.1, 0.9, 0.9, -0.1, [-0.2, -0.05], 0.1, 0.1, 0.1, 1.0, 1.0)


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"agreement": 0.89}, "--min-agreement"),
        ({"agreement": float("nan")}, "--min-agreement"),
        ({"moved": 0.11}, "--max-mean-difference"),
        ({"moved": float("nan")}, "--max-mean-difference"),
        ({"interval": [-0.2, -0.06]}, "--max-accuracy-loss"),
    ],
)
def test_proofs_have_limits(change: dict[str, Any], option: str) -> None:
    streams = StreamCheck(1000, 0)
    Proof({"1": PARITY, "3": PARITY}, [], [], streams, {}, Limits()).check()
    worse = dataclasses.replace(PARITY, **change)
    proof = Proof({"1": PARITY, "3": worse}, [], [], streams, {}, Limits())
    with pytest.raises(NotProven, match=rf"at 3 s \(.*{option}\); nothing was written") as caught:
        proof.check()
    assert caught.value.proof is proof
    if not np.isnan(next(iter(change.values()))).any():
        moved = Limits(min_agreement=0.8, max_mean_difference=0.2, max_accuracy_loss=0.1)
        dataclasses.replace(proof, limits=moved).check()


@pytest.mark.parametrize("classes", [2, 11, 99])
def test_the_limit_of_a_difference_holds_for_any_number_of_classes(classes: int) -> None:
    """The same likeliest class, but a fifth of the probability moved."""
    trained, converted = np.full((2, 8, classes), 1e-9)
    trained[:, 0], converted[:, 0] = 0.8, 0.6
    trained[:, 1], converted[:, 1] = 0.2, 0.4
    found = agreement(np.log(trained), np.log(converted))
    assert found.moved == pytest.approx(0.2)
    assert found.mean_difference == pytest.approx(0.4 / classes, abs=1e-6)
    proof = Proof({"3": found}, [], [], None, {}, Limits())
    with pytest.raises(NotProven, match=r"0.200 of the probability moved to other classes"):
        proof.check()


def test_streams_that_depend_on_their_start_are_refused() -> None:
    with pytest.raises(NotProven, match=r"by where a stream began \(1 of 1000 values\)"):
        Proof({"3": PARITY}, [], [], StreamCheck(1000, 1), {}, Limits()).check()


@pytest.mark.parametrize(
    ("change", "option"),
    [({"agreement": 0.89}, "--min-agreement"), ({"moved": 0.11}, "--max-mean-diff")],
)
def test_streams_that_are_not_their_window_are_refused(change: dict[str, Any], option: str) -> None:
    check = WindowCheck(100, 0.9, 0.05, 0.5, 0.1, 0.4, 1.5, 9.0)
    Proof({"3": PARITY}, [], [], None, {"3": check}, Limits()).check()
    worse = dataclasses.replace(check, **change)
    with pytest.raises(NotProven, match=rf"from a window of 3 s in float \(.*{option}"):
        Proof({"3": PARITY}, [], [], None, {"3": worse}, Limits()).check()


@pytest.mark.parametrize("where", ["none/m.tflite", "file/m.tflite", "folder"])
def test_the_output_is_tried_first(
    tiny_checkpoint: Checkpoint,
    tiny_corpus: Path,
    tmp_path: Path,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(
        convert.from_checkpoint, "restore_model", None
    )  # the first thing that takes time
    with pytest.raises(EdgelidError, match="cannot write"):
        convert_checkpoint(tiny_checkpoint, tiny_corpus, tmp_path / where, "m")


def test_a_stride_that_does_not_divide_the_hop(
    tiny_checkpoint: Checkpoint, tiny_corpus: Path, tmp_path: Path
) -> None:
    config = tiny_checkpoint.config
    stage = dataclasses.replace(config.model.stages[0], stride=3, entry_kernel=9)
    shape = dataclasses.replace(config.model, stages=(stage,))
    config = dataclasses.replace(config, model=shape)
    with pytest.raises(EdgelidError, match="stride of 3 frames does not divide"):
        convert_checkpoint(
            dataclasses.replace(tiny_checkpoint, config=config),
            tiny_corpus,
            tmp_path / "m.tflite",
            "m",
        )


def test_a_corpus_without_held_out_speech(
    tiny_checkpoint: Checkpoint, tiny_corpus: Path, tmp_path: Path
) -> None:
    data = dataclasses.replace(tiny_checkpoint.config.data, development={})
    config = dataclasses.replace(tiny_checkpoint.config, data=data)
    with pytest.raises(EdgelidError, match="calibration is impossible"):
        convert_checkpoint(
            dataclasses.replace(tiny_checkpoint, config=config),
            tiny_corpus,
            tmp_path / "m.tflite",
            "m",
        )
    assert not os.listdir(tmp_path)


def test_short_clips_are_joined() -> None:
    """From all over them, and again where there are too few."""
    clips = np.repeat(np.arange(20, dtype=np.float32)[:, None], 3, axis=1)
    assert streams_of(clips, 4, 3)[:, 0].tolist() == [0, 6, 12, 19]
    found = streams_of(clips, 4, 7)
    assert found.shape == (4, 9)
    assert len({*found.ravel().tolist()}) == 12
    assert streams_of(clips, 8, 30).shape == (2, 30)
    again = streams_of(clips[:2], 8, 10)
    assert again.shape == (1, 12)
    assert {*again.ravel().tolist()} == {0.0, 1.0}


def test_streams_of_short_windows_are_compared(model: ModelFile) -> None:
    """Also where a window has fewer hops than a stream begins late by."""
    graphs = open_graphs(model)
    clips = np.stack([speech("de", "dora", i, 0.4) for i in range(8)])
    some = streams_of(clips, 8, samples_to_compare(model))
    classifier = StreamingClassifier(model, graphs, model.description.stream.windows_s)
    windows = sum(len(hop) for hop in (*classifier.process(some[0]), *classifier.flush()))
    found = check_streams(model, graphs, list(some))
    assert found.compared > len(some) * windows * len(model.labels)  # embeddings, too
    assert found.different == 0


def hostile(checkpoint: Checkpoint, factor: float = 1e4) -> Checkpoint:
    """The same function in float, with one channel of the embeddings so many times as large."""
    arrays = dict(checkpoint.arrays)
    channels = checkpoint.config.model.embedding
    kernel = next(k for k, v in arrays.items() if v.shape[-1:] == (channels,) and v.ndim == 4)
    bias = f"trunk/{int(kernel.partition('/')[2]) + 1}"
    assert arrays[bias].shape == (channels,)
    for name in (kernel, bias):
        arrays[name] = arrays[name] * np.r_[np.float32(factor), np.ones(channels - 1, np.float32)]
    hidden = arrays["head/0"].copy()  # (2 * channels, hidden): means, then deviations
    hidden[[0, channels]] /= np.float32(factor)
    arrays["head/0"] = hidden
    return dataclasses.replace(checkpoint, arrays=arrays)


@pytest.mark.slow
def test_weights_that_int8_cannot_hold_are_caught(
    tiny_checkpoint: Checkpoint,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    worse = hostile(tiny_checkpoint)
    frames = np.random.default_rng(1).uniform(0, 10, (2, 100, 1, 32)).astype(np.float32)
    scores = []
    for checkpoint in (tiny_checkpoint, worse):
        trunk, head = restore_model(checkpoint)
        scores.append(np.asarray(head(pool(*trunk(frames)[:2]))))
    np.testing.assert_allclose(*scores, rtol=1e-2, atol=1e-2)  # in float, nothing happened
    worse.save(tmp_path / "worse.npz")
    output = tmp_path / "m.tflite"
    arguments = [str(tmp_path / "worse.npz"), "-o", str(output), "--corpus", str(tiny_corpus)]
    assert convert.cli.main([*arguments, "--windows", "1"]) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert any(line.startswith("  agreement") for line in lines)
    # The other channels have been left next to none of the steps; nor has what undoes it later.
    activations = next(i for i, line in enumerate(lines) if line.startswith("activations"))
    assert "embeddings" in {line.split()[0] for line in lines[activations + 1 : activations + 4]}
    weights = next(i for i, line in enumerate(lines) if line.startswith("weights"))
    # Nought is left of a channel, and so as much error as weight: 0 dB, of either sign.
    assert re.fullmatch(r"  hidden +[\d.]+ +-?0\.0 \(input (0|12)\)", lines[weights + 1])
    assert "differs too much from the trained one" in captured.err.splitlines()[-1]
    assert os.listdir(tmp_path) == ["worse.npz"]


def test_a_converter_that_gives_up(
    tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Converter:
        target_spec: Any = type("Spec", (), {})()

        @staticmethod
        def from_saved_model(*_: object, **__: object) -> Converter:
            return Converter()

        def convert(self) -> bytes:
            raise RuntimeError("no kernel for it\nand a page of details")

    monkeypatch.setattr(convert.streaming_graph.tf.lite, "TFLiteConverter", Converter)
    module = StreamingModule(*restore_model(tiny_checkpoint), HOP_FRAMES)
    with pytest.raises(EdgelidError, match=r"could not convert the model: no kernel for it$"):
        convert.streaming_graph.to_int8(module, iter)  # type: ignore[arg-type]


def clip(number: int, language: str, speaker: str, duration_s: float, target: bool) -> Clip:
    path = f"{language}/{number}.wav"
    return Clip(path, language, "train", target, speaker, "home", "human", duration_s, "", "")


def test_chosen_clips_are_balanced() -> None:
    clips = [clip(i, "de", f"d{i % 50}", 1.0, True) for i in range(500)]
    clips += [clip(i, "en", "e0", 1.0, True) for i in range(2)]
    clips += [clip(i, "sv", "s0", 1.0, False) for i in range(9)]
    clips += [clip(9, "fr", "f0", 0.4, True)]  # too short to tell anything
    chosen = choose(clips, seed=1)
    assert Counter(c.language for c in chosen) == {"de": PER_LANGUAGE, "en": PER_LANGUAGE, "sv": 1}
    assert len({c.speaker for c in chosen if c.language == "de"}) == PER_LANGUAGE
    assert choose(clips[::-1], seed=1) != []
    assert choose(clips, seed=1) == chosen
    assert choose(clips, seed=2) != chosen


def test_held_out_audio(tiny_corpus: Path) -> None:
    clips = [c for c in open_manifest(tiny_corpus).clips() if c.source == DEVELOPMENT]
    noise_folder = tiny_corpus.parent / "noise"
    labels = ("de", "en", OTHER, NONSPEECH)
    noises = read_noise(noise_folder, "train")
    sets = held_out_audio(clips, tiny_corpus, noises, noise_folder, (1.0, 10.0), labels)
    assert list(sets) == [1.0, 10.0]
    for duration_s, held in sets.items():
        assert held.audio.shape == (len(held.wanted), 16_000 * duration_s)
        assert held.audio.dtype == np.float32
        assert set(held.wanted) == {0, 1, 2, 3}
        np.testing.assert_array_equal(held.spoken, held.wanted < 2)
    # Of the noises without speech, one lasts ten seconds.
    assert (sets[1.0].wanted == 3).sum() == 2
    assert (sets[10.0].wanted == 3).sum() == 1


def test_one_language_is_not_always_right() -> None:
    """Among one any answer would be: all classes are possible then."""
    scores = np.log([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.2, 0.3], [0.8, 0.1, 0.1]])
    wanted, is_german = np.array([0, 0, 0, 1]), np.array([True, True, True, False])
    held = HeldOut(np.zeros((4, 1), np.float32), wanted, is_german, is_german, ("",) * 4)
    alone = _metrics(scores, held, 1.0, ["de", OTHER, NONSPEECH])
    assert alone["macro_accuracy"] == pytest.approx(2 / 3, abs=1e-4)
    both = _metrics(scores, held, 1.0, ["de", NONSPEECH, "en"])
    assert both["macro_accuracy"] == 1.0  # `nonspeech` is no answer then


def test_sentences_calibrate_where_there_are_enough() -> None:
    """Words that the model has no idea of make it unsure of sentences only if these are few."""
    rng = np.random.default_rng(4)
    wanted = np.tile(np.arange(5), 60)  # three languages, `other`, `nonspeech`
    natural = (np.arange(300) < 150) & (wanted < 3)
    scores = rng.normal(size=(300, 5))
    known = natural | (wanted == 4)
    scores[known, wanted[known]] += 3.0
    audio, speakers = np.zeros((300, 1), np.float32), ("",) * 300
    held = HeldOut(audio, wanted, wanted < 3, natural, speakers)
    few = HeldOut(audio, wanted, wanted < 3, natural & (np.arange(300) < 90), speakers)
    every = HeldOut(audio, wanted, wanted < 3, np.zeros(300, bool), speakers)
    assert temperature_of(scores, held) < 0.8 * temperature_of(scores, every)
    assert temperature_of(scores, few) == temperature_of(scores, every)
