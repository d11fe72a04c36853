"""Models of whole windows: converted, run by `edge`, and made of a network of the user's own."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import convert.cli
import convert.from_keras
import convert.output
import edge.cli
from convert.apart import Apart
from convert.from_keras import NetworkDescription, how_fed
from convert.inspection import inspect
from convert.own_network import Fed
from convert.streaming_graph import POOLING
from convert.whole_window import whole_windows, window_scores, windows_of_clips
from edge.bench import measure
from edge.bench.measure import Wanted
from edge.bench.table import table
from edge.classifier import StreamingClassifier
from edge.errors import EdgelidError
from edge.frontend import FrontEnd, FrontEndConfig
from edge.listener import Listener
from edge.model.interpreter import WindowGraph, open_graphs, open_model
from edge.model.modelfile import DEFAULT_MODEL, ModelFile, read_model
from tests.synthetic import speech, write_audio
from train.features.filterbank import mel_filterbank
from train.model.network import pool

PAGE = Path(__file__).parents[2] / "docs/converting.md"
LABELS = ("de", "en")


def recordings(folder: Path, each: int = 4) -> Path:
    """A few recordings of both languages."""
    for language in LABELS:
        for i in range(each):
            write_audio(folder / language / f"{i}.wav", speech(language, f"voice{i}", i, 1.5))
    return folder


# --- a checkpoint ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def converted(
    tiny_run: Path,
    tiny_corpus: Path,
    short_streams: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> ModelFile:
    path = tmp_path_factory.mktemp("window") / "tiny.tflite"
    arguments = [str(tiny_run), "-o", str(path), "--corpus", str(tiny_corpus)]
    assert convert.cli.main([*arguments, "--mode", "window", "--windows", "1"]) == 0
    return read_model(path)


def test_describes_a_window(converted: ModelFile) -> None:
    description = converted.description
    assert description.mode == "window"
    assert description.format_version == 2
    assert description.stream.windows_s == (1.0,)
    assert description.stream.receptive_field_frames == 100
    assert description.decoder.window_s == 1.0
    assert description.metrics["proof"]["windows"]["1"]["agreement"] >= 0.9
    assert description.metrics["proof"]["stream"] is None
    facts = inspect(converted)
    assert facts["mode"] == "window"
    assert facts["problems"] == []  # only a stream must be int8 alone
    assert facts["operators"]["CONV_2D"] > 0
    # Between the trunk and the head only: what is pooled is neither clipped nor rounded.
    floats = [layer for layer in facts["layers"] if layer["output_type"] == "FLOAT32"]
    assert {"SQUARE", "DIV", "SQRT"} <= {layer["operator"] for layer in floats}
    assert all(POOLING in layer["name"] or layer["operator"] == "DEQUANTIZE" for layer in floats)
    assert facts["states"] == []


def test_what_streams_is_asked_for_what_streams(converted: ModelFile) -> None:
    assert isinstance(open_model(converted), WindowGraph)
    with pytest.raises(EdgelidError, match=r"takes whole windows.*--mode stream\.$"):
        open_graphs(converted)


def test_the_window_slides(converted: ModelFile) -> None:
    """Each answer is that of its second alone, whatever the blocks."""
    samples = speech("en", "dora", 1, 2.5)
    graph = open_model(converted)
    classifier = StreamingClassifier(converted, graph, [1.0])
    whole = [hop[0] for hop in (*classifier.process(samples), *classifier.flush())]
    assert [round(w.end_s, 2) for w in whole[:2]] == [0.16, 0.32]
    assert whole[-1].end_s == pytest.approx(2.48)  # a frame reaches 15 ms beyond its hop
    assert whole[-1].end_s - whole[-1].start_s == pytest.approx(1.0)
    classifier.reset()
    blocks = np.split(samples, [7, 4000, 4001, 30_000])
    again = [hop[0] for block in blocks for hop in classifier.process(block)]
    again += [hop[0] for hop in classifier.flush()]
    assert [w.probabilities.tobytes() for w in again] == [w.probabilities.tobytes() for w in whole]
    hop = whole[9]  # ends with frame 160
    classifier.reset()
    alone = samples[60 * 160 : 159 * 160 + 400]
    last = [each[0] for each in (*classifier.process(alone), *classifier.flush())][-1]
    assert last.probabilities.tobytes() == hop.probabilities.tobytes()


def test_other_windows_are_refused(converted: ModelFile) -> None:
    with pytest.raises(EdgelidError, match="takes windows of 1 s only"):
        StreamingClassifier(converted, open_model(converted), [1.0, 3.0])


def test_listens(converted: ModelFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listener = Listener(converted, open_model(converted), converted.description.decoder)
    heard = list(listener.hear([speech("de", "dora", 0, 3.0)]))
    assert len(heard) > 18
    write_audio(tmp_path / "some.wav", speech("de", "dora", 0, 2.0))
    model = ["--model", str(converted.path)]
    assert edge.cli.main(["classify", "--json", *model, str(tmp_path / "some.wav")]) == 0
    assert json.loads(capsys.readouterr().out)["duration_s"] == 2.0
    assert edge.cli.main(["info", "--json", str(converted.path)]) == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "window"


@pytest.mark.slow
def test_what_it_costs_beside_a_stream(
    converted: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every hop that it is asked for, where the other one has its own."""
    monkeypatch.setattr(measure, "ROUNDS", 2)
    monkeypatch.setattr(measure, "PACED_S", 0.3)
    wanted = Wanted([DEFAULT_MODEL, converted.path], seconds=0.8, hops_ms=(160, 250, 5000))
    found = measure.measure(wanted, lambda words: None)
    modes = [(run["model"]["mode"], run["hop_ms"]) for run in found["runs"]]
    assert modes == [("stream", 160), ("window", 160), ("window", 250)]
    assert "choose multiples of 10 up to 1000." in found["left_out"][-1]
    for run in found["runs"][1:]:
        assert list(run["stages"]) == ["front_end", "window", "decoder", "rest"]
        assert run["recomputation"] is None
        # The first frame needs 25 ms, and not 10.
        assert run["whole"]["hops"] == 2 * int((800 - 15) // run["hop_ms"])
    assert max(map(len, table(found))) <= 80


@pytest.mark.slow
def test_float32_is_the_trained_network(
    tiny_run: Path,
    tiny_checkpoint: Any,
    tiny_corpus: Path,
    short_streams: None,
    tmp_path: Path,
) -> None:
    from train.model.checkpoint import restore_model

    path = tmp_path / "tiny.tflite"
    arguments = [str(tiny_run), "-o", str(path), "--corpus", str(tiny_corpus), "--windows", "1"]
    assert convert.cli.main([*arguments, "--mode", "window", "--type", "float32"]) == 0
    model = read_model(path)
    graph = open_model(model)
    assert isinstance(graph, WindowGraph)
    frames = np.random.default_rng(0).uniform(0, 9, (100, 32)).astype(np.float32)
    trunk, head = restore_model(tiny_checkpoint)
    wanted = np.asarray(head(pool(*trunk(frames[None, :, None, :])[:2])))[0]
    np.testing.assert_allclose(graph.scores(frames), wanted, rtol=1e-3, atol=1e-4)
    assert model.description.metrics["proof"]["windows"]["1"]["agreement"] == 1.0


def test_the_proof_hears_what_the_device_hears() -> None:
    """A recording of just a window's length is some frames too short: silence is not put there."""
    front_end = FrontEnd(FrontEndConfig(), mel_filterbank(FrontEndConfig()))
    clips = np.stack([speech("de", "voice0", 0, 1.0), speech("en", "voice1", 1, 1.0)])
    frames = np.stack([front_end.log_mel(clip) for clip in clips])
    assert frames.shape[1] < 100

    def network(windows: np.ndarray) -> np.ndarray:
        assert windows.shape[1] == 100
        return np.concatenate([windows[:, 0, 20:23], windows[:, -1, 20:23]], axis=1)

    found = window_scores(network, front_end, 100)(clips)
    wanted = np.concatenate([frames[:, 0, 20:23], frames[:, 99 - frames.shape[1], 20:23]], axis=1)
    np.testing.assert_allclose(found - found[:, :1], wanted - wanted[:, :1], atol=1e-4)


def test_what_is_shown_is_what_the_device_hears() -> None:
    """Of a clip shorter than a window, its repetition, not silence."""
    clip = np.arange(6, dtype=np.float32).reshape(3, 2)
    silence = np.full(2, -9, np.float32)
    wanted = np.concatenate([clip, clip[:2]])
    np.testing.assert_array_equal(whole_windows(clip, 5, silence), [wanted])
    np.testing.assert_array_equal(windows_of_clips([clip], 5, silence)[-1], wanted)
    assert not any((window == silence).any() for window in windows_of_clips([clip], 5, silence))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--type", "float32"], "for float32 add --mode window"),
        (["--type", "int4"], "4 bits are for the matrices of a large model"),
        (["--type", "int4", "--mode", "window"], "4 bits are for the matrices of a large model"),
        (["--mode", "window", "--windows", "1,3"], "give --windows one length"),
        (["--windows", "0.01"], "windows last 0.04 to 10 s"),
        (["--hop-ms", "20"], "does not divide a hop of 2"),
        (["--hop-ms", "1200"], "a hop of 1200 ms is longer than a window of 1 s"),
        (["--hop-ms", "15"], "not a whole number of frames"),
        (["--representative", "nowhere"], "no audio files to quantise with"),
    ],
)
def test_impossible_wishes(
    options: list[str],
    message: str,
    tiny_run: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "m.tflite"
    arguments = [str(tiny_run), "-o", str(output), "--corpus", str(tiny_corpus)]
    assert convert.cli.main([*arguments, *options]) == 1
    assert message in capsys.readouterr().err
    assert not os.listdir(tmp_path)


# --- a network of the user's own -------------------------------------------------------------


def network(frames: int = 50, mels: int = 16, classes: int = 2) -> keras.Model:
    """Untrained; of the shape (batch, frames, mels, 1) and with probabilities at its end."""
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((frames, mels, 1)),
            keras.layers.Conv2D(4, (5, mels), 2, activation="relu"),
            keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., int]:
    """Converts such a network: `own(description, option, ...)` is the exit status."""
    network().save(tmp_path / "own.keras")
    recordings(tmp_path / "recordings")

    def run(description: dict[str, Any], *options: str) -> int:
        (tmp_path / "own.json").write_text(json.dumps(description))
        arguments = [str(tmp_path / "own.keras"), "-o", str(tmp_path / "own.tflite")]
        arguments += ["--description", str(tmp_path / "own.json")]
        return convert.cli.main([*arguments, *options])

    return run


FITTING: dict[str, Any] = {"labels": list(LABELS), "front_end": {"mels": 16}}


def test_scores_come_before_the_softmax(own: Callable[..., int], tmp_path: Path) -> None:
    folder = ["--representative", str(tmp_path / "recordings")]
    assert own(FITTING, "--mode", "window", "--type", "float32", *folder) == 0
    graph = open_model(read_model(tmp_path / "own.tflite"))
    assert isinstance(graph, WindowGraph)
    frames = np.random.default_rng(0).uniform(0, 9, (50, 16)).astype(np.float32)
    scores = graph.scores(frames)  # logarithms of the probabilities
    wanted = np.asarray(network()(frames[None, :, :, None]))[0]
    assert abs(scores.sum() - 1) > 1e-3
    np.testing.assert_allclose(np.exp(scores) / np.exp(scores).sum(), wanted, rtol=1e-4)


def test_too_large_is_said_before_it_is_proven(
    own: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(convert.output, "MAX_FILE_BYTES", 1_000)
    monkeypatch.setattr(convert.from_keras, "_converted", lambda *_: Apart(bytes(2_000)))
    folder = ["--representative", str(tmp_path / "recordings")]
    assert own(FITTING, "--mode", "window", "--type", "float32", *folder) == 1
    assert "most that the device takes: try --type int8, or build a" in capsys.readouterr().err


def test_what_the_device_cannot_hold_is_refused_before_it_is_made(
    own: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a short hop of a plain spectrogram, a second has more filters than there is room for."""
    front_end = {"sr": 16_000, "n_fft": 1_000, "hop_length": 10, "mel": "none", "scale": "edgelid"}
    network(100, 501).save(tmp_path / "own.keras")
    monkeypatch.setattr(convert.from_keras, "_converted", None)
    folder = ["--mode", "window", "--representative", str(tmp_path / "recordings")]
    description = {"labels": list(LABELS), "front_end": front_end}
    assert own(description, *folder, "--hop-ms", "1000") == 1
    assert "larger than this device could hold" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("description", "options", "message"),
    [
        (FITTING, [], "takes whole windows: add --mode window"),
        (FITTING, ["--mode", "window"], "give --representative DIR"),
        (FITTING, ["--mode", "window", "--windows", "1"], "leave out --windows"),
        (FITTING, ["--mode", "window", "--type", "int4"], "4 bits are for the matrices of a large"),
        ({"labels": ["de"]}, None, "two or more"),
        ({"labels": ["de", "de"]}, None, "each named once"),
        ({"labels": ["de", "e n"]}, None, "without spaces"),
        ({"labels": "de en"}, None, "is not what belongs there"),
        ({"classes": ["de", "en"]}, None, "unknown setting 'classes'"),
        ({"labels": ["de", "en"]}, None, r"must be (batch, frames, 64)"),
        (FITTING | {"labels": ["de", "en", "fr"]}, None, "does not fit 3 labels"),
        (["de", "en"], None, "expected a table of settings"),
    ],
)
def test_descriptions_that_do_not_fit(
    description: Any,
    options: list[str] | None,
    message: str,
    own: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    everything = ["--mode", "window", "--representative", str(tmp_path / "recordings")]
    assert own(description, *(everything if options is None else options)) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "own.tflite").exists()


def test_networks_that_do_not_fit() -> None:
    told = NetworkDescription(LABELS, FrontEndConfig(mels=16))
    any_length = keras.Sequential(
        [keras.Input((None, 16)), keras.layers.GlobalMaxPooling1D(), keras.layers.Dense(2)]
    )
    with pytest.raises(EdgelidError, match="a fixed number of frames"):
        how_fed(any_length, told)
    assert how_fed(network(), told) == Fed((50, 16, 1), frames=50, turned=False)
    audio = keras.Sequential([keras.Input((16_000,)), keras.layers.Dense(2)])
    with pytest.raises(EdgelidError, match="looks like audio itself"):
        how_fed(audio, told)


def test_the_example_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands there; only the microphone is a file."""
    section = PAGE.read_text().partition("## A Keras network of your own")[2].partition("\n## ")[0]
    script = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    commands = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert script is not None
    assert commands is not None
    assert len(script[1].splitlines()) <= 24
    monkeypatch.chdir(tmp_path)
    recordings(Path("recordings"), each=8)  # of 9 windows a single tie would be too many
    exec(compile(script[1], "docs/converting.md", "exec"), {})
    converting, listening = commands[1].splitlines()
    program, *arguments = shlex.split(converting)
    assert program == "edgelid-convert"
    assert convert.cli.main(arguments) == 0
    assert "agreement" in capsys.readouterr().out
    program, *arguments = shlex.split(listening)
    assert program == "edgelid"
    assert edge.cli.main([*arguments, "--json", "--input", "recordings/de/0.wav"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["type"] == "segment"
    assert last["end_s"] == 1.5
