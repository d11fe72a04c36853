"""The large model alone: what it says is what its graph says, in the classes of the compact one."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.own_description import filterbank_of, front_end_of
from edge.classifier import StreamingClassifier, masked, softmax
from edge.config import ListenSettings
from edge.errors import EdgelidError
from edge.features import open_front_end
from edge.frontend import Float32Array, FrontEnd
from edge.model.interpreter import WindowGraph, open_model, run_model
from edge.model.modelfile import SECOND_OPINIONS, ModelFile, pack_model, read_model
from edge.opinion.expert import Expert, ExpertFile, Span, check_labels


def test_a_model_of_whole_windows(window_path: str, speech: Float32Array) -> None:
    model = read_model(window_path)
    file = ExpertFile(window_path, model.labels)
    samples = speech[16_000 : 16_000 + file.span.samples(file.span.window_s)]
    graph = open_model(model)
    assert isinstance(graph, WindowGraph)
    frames = FrontEnd(model.description.front_end, model.filterbank).log_mel(samples)
    assert len(frames) == model.description.stream.receptive_field_frames
    opinion = file.open().asked(samples, 2.0, None)
    np.testing.assert_allclose(opinion.probabilities, softmax(graph.scores(frames)), rtol=1e-9)
    assert (opinion.end_s, opinion.window_s) == (2.0, file.span.window_s)
    assert opinion.end_s - opinion.start_s == pytest.approx(file.span.window_s)
    assert opinion.took_s > 0


def test_what_is_too_short_is_repeated(window_path: str, speech: Float32Array) -> None:
    model = read_model(window_path)
    graph = run_model(model, 1)
    assert isinstance(graph, WindowGraph)
    front_end = model.description.front_end
    samples = speech[16_000 : 16_000 + front_end.window_samples + 5 * front_end.hop_samples]
    heard = FrontEnd(front_end, model.filterbank).log_mel(samples)
    assert len(heard) == 6
    frames = np.concatenate([heard, heard, heard, heard[:2]])
    assert len(frames) == model.description.stream.receptive_field_frames
    opinion = ExpertFile(window_path, model.labels).open().asked(samples, 9.0, None)
    np.testing.assert_allclose(opinion.probabilities, softmax(graph.scores(frames)), rtol=1e-9)
    assert opinion.start_s == pytest.approx(9.0 - 6 * front_end.hop_samples / 16_000)
    silent = ExpertFile(window_path, model.labels).open().asked(samples[:0], 9.0, None)
    nothing = graph.scores(np.zeros_like(frames))
    np.testing.assert_allclose(silent.probabilities, softmax(nothing), rtol=1e-9)


@pytest.mark.parametrize(("frames", "heard"), [(25, 25), (10, 10), (40, 40), (50, 40), (4, 10)])
def test_a_window_as_long_as_the_speech(
    lengths_path: str, speech: Float32Array, frames: int, heard: int
) -> None:
    model = read_model(lengths_path)
    config, calibration = model.description.front_end, model.description.calibration
    hop_s = config.hop_samples / 16_000
    samples = speech[16_000 : 16_000 + config.window_samples + (frames - 1) * config.hop_samples]
    front_end = FrontEnd(config, model.filterbank)
    window = np.resize(front_end.log_mel(samples)[-heard:], (heard, config.mels))
    graph = open_model(model)
    assert isinstance(graph, WindowGraph)
    scores = graph.scores(window) / calibration.temperature(heard * hop_s)
    file = ExpertFile(lengths_path, model.labels)
    opinion = file.open().asked(samples, 9.0, None)
    np.testing.assert_allclose(opinion.probabilities, softmax(scores), rtol=1e-9)
    assert opinion.end_s - opinion.start_s == pytest.approx(min(frames, 40) * hop_s)
    assert opinion.window_s == file.span.window_s == pytest.approx(20 * hop_s)
    assert file.span.work(len(samples)) == pytest.approx(heard / 20)


@pytest.mark.parametrize(
    "values",
    [
        {"sr": 22_050, "n_fft": 2048, "hop_length": 512},
        {"sr": 44_100, "n_fft": 1024, "hop_length": 512, "center": False},
        {"sr": 48_000, "n_fft": 1200, "hop_length": 480},
        {"sr": 8_000, "n_fft": 256, "hop_length": 80},
        {"sr": 16_000, "n_fft": 512, "hop_length": 160},
    ],
    ids=lambda values: f"{values['sr']} Hz",
)
def test_as_much_as_is_wanted_is_heard_whatever_the_rate_of_the_features(
    window_path: str, values: dict[str, Any]
) -> None:
    config = front_end_of({**values, "n_mels": 20, "scale": "db"}, "here")
    span = Span.of(replace(read_model(window_path).description, front_end=config))
    front_end = open_front_end(config, filterbank_of(config))
    for frames in (1, 2, 3, 50, 129, 258):
        samples = span.samples(frames * config.hop_samples / config.sample_rate_hz)
        heard = len(front_end.log_mel(np.zeros(samples, np.float32)))
        assert heard == frames


def test_one_window_is_the_same_work_whatever_it_holds(window_path: str, expert_path: str) -> None:
    for path in (window_path, expert_path):
        span = ExpertFile(path, read_model(path).labels).span
        assert {span.work(samples) for samples in (0, 100, 16_000, 96_000)} == {1.0}


def test_a_model_that_streams(expert_path: str, model: ModelFile, speech: Float32Array) -> None:
    file = ExpertFile(expert_path, model.labels)
    samples = speech[160_000 : 160_000 + file.span.samples(file.span.window_s)]
    classifier = StreamingClassifier(model, run_model(model, 1), [file.span.window_s])
    windows = [*classifier.process(samples), *classifier.flush()]
    expert = file.open()
    for _ in range(2):  # each stretch by itself
        opinion = expert.asked(samples, 20.0, None)
        np.testing.assert_array_equal(opinion.probabilities, windows[-1][0].probabilities)


def test_the_languages_to_expect_mask_it_as_they_mask_the_compact_one(
    expert_path: str, model: ModelFile, speech: Float32Array
) -> None:
    expert = ExpertFile(expert_path, model.labels).open()
    samples = speech[160_000:208_000]
    unmasked = expert.asked(samples, 3.0, None)
    everything = unmasked.probabilities
    mask = [label in ("de", "en", "other", "nonspeech") for label in model.labels]
    expected = masked(everything.tolist(), model.labels, mask)
    found = expert.asked(samples, 3.0, ("de", "en"))
    np.testing.assert_array_equal(found.probabilities, expected)
    # As of a window, each of the others is told, too.
    assert unmasked.apart is None
    assert found.apart is not None
    np.testing.assert_array_equal(found.apart, everything)


def reordered(model: ModelFile, labels: tuple[str, ...]) -> ModelFile:
    return replace(model, labels=labels)


def test_it_answers_in_the_order_of_the_compact_model(
    window_path: str, speech: Float32Array
) -> None:
    model = read_model(window_path)
    samples = speech[16_000:20_000]
    turned = model.labels[::-1]
    one = Expert(model, run_model(model, 1), model.labels).asked(samples, 1.0, None)
    other = Expert(model, run_model(model, 1), turned).asked(samples, 1.0, None)
    np.testing.assert_array_equal(other.probabilities, one.probabilities[::-1])


def test_languages_that_only_it_knows_are_other(window_path: str, speech: Float32Array) -> None:
    model = reordered(read_model(window_path), ("de", "en", "other", "nonspeech"))
    samples = speech[16_000:20_000]
    everything = Expert(model, run_model(model, 1), model.labels).asked(samples, 1.0, None)
    fewer = Expert(model, run_model(model, 1), ("de", "other", "nonspeech"))
    de, en, other, nonspeech = everything.probabilities
    np.testing.assert_allclose(
        fewer.asked(samples, 1.0, None).probabilities, [de, other + en, nonspeech], rtol=1e-12
    )


def test_a_model_of_many_languages_needs_no_class_for_others(
    window_path: str, speech: Float32Array
) -> None:
    model = reordered(read_model(window_path), ("de", "sv", "nonspeech", "en"))
    samples = speech[16_000:20_000]
    everything = Expert(model, run_model(model, 1), model.labels).asked(samples, 1.0, None)
    de, sv, nonspeech, en = everything.probabilities
    fewer = Expert(model, run_model(model, 1), ("en", "de", "other", "nonspeech"))
    found = fewer.asked(samples, 1.0, None).probabilities
    np.testing.assert_allclose(found, [en, de, sv, nonspeech], rtol=1e-12)
    found = fewer.asked(samples, 1.0, ["de"]).probabilities
    np.testing.assert_allclose(found, [0, de, sv + en, nonspeech], rtol=1e-12)


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        (("de", "fr", "other", "nonspeech"), "'fr'"),
        (("de", "en", "other"), "'nonspeech'"),
        (("de", "en", "nonspeech"), "'other'"),
    ],
)
def test_models_that_do_not_fit_each_other(
    window_path: str, labels: tuple[str, ...], word: str
) -> None:
    with pytest.raises(EdgelidError, match=f"disagree about the class {word}: .*\\.$"):
        check_labels(read_model(window_path), labels)


def test_files_that_cannot_be_used(tmp_path: Path, window_path: str) -> None:
    labels = read_model(window_path).labels
    with pytest.raises(EdgelidError, match="does not exist"):
        ExpertFile(str(tmp_path / "none.tflite"), labels)
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(Path(window_path).read_bytes()[:-100])
    with pytest.raises(EdgelidError, match="truncated"):
        ExpertFile(str(broken), labels)


def test_a_graph_that_does_not_run_is_not_admitted(tmp_path: Path, window_path: str) -> None:
    model = read_model(window_path)
    graph = bytearray(model.graph)
    graph[len(graph) // 2 :] = bytes(len(graph) - len(graph) // 2)
    path = tmp_path / "odd.tflite"
    packed = pack_model(bytes(graph), model.labels, model.description, model.filterbank)
    path.write_bytes(packed)
    file = ExpertFile(str(path), model.labels)
    with pytest.raises(EdgelidError):
        file.open()


def test_a_configuration_knows_their_names() -> None:
    """Without importing what reads models."""
    (found,) = (each for each in fields(ListenSettings) if each.name == "second_opinion")
    assert found.metadata["words"] == tuple(SECOND_OPINIONS)


@pytest.mark.parametrize("name", SECOND_OPINIONS)
def test_the_models_that_come_along(
    model: ModelFile, speech: Float32Array, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("was tried")

    monkeypatch.setattr("edge.model.trust._try", refuse)
    file = ExpertFile(name, model.labels)
    opinion = file.open().asked(
        speech[48_000 : 48_000 + file.span.samples(file.span.window_s)], 6.0, None
    )
    assert model.labels[int(opinion.probabilities.argmax())] == "en"
