"""One answer for a whole recording, and which recordings there are."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.audio.formats import check_no_folder, find_recordings
from edge.audio.mixing import Ear
from edge.audio.sources import BLOCK_S, AudioSource
from edge.classifier import StreamingClassifier, Window
from edge.decoder import Segment
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.languages import UNKNOWN
from edge.model.interpreter import Graphs
from edge.model.modelfile import NONSPEECH, OTHER, ModelFile
from edge.offline import RecordingClassifier, classify_file, shares
from tests.edge.permissions import closed


class Audio(AudioSource):
    """A source of samples in memory."""

    name = "memory"
    rate_hz = SAMPLE_RATE_HZ

    def __init__(self, samples: Float32Array) -> None:
        self._samples = samples

    def blocks(self) -> Iterator[Float32Array]:
        size = round(BLOCK_S * SAMPLE_RATE_HZ)
        for start in range(0, len(self._samples), size):
            yield self._samples[start : start + size]

    def close(self) -> None:
        pass


@pytest.fixture
def classifier(model: ModelFile, graphs: Graphs) -> RecordingClassifier:
    return RecordingClassifier(model, graphs)


def windows_of(
    model: ModelFile, graphs: Graphs, samples: Float32Array, length_s: float
) -> list[Window]:
    """Every window of a length."""
    streaming = StreamingClassifier(model, graphs, [length_s])
    return [w for (w,) in (*streaming.process(samples), *streaming.flush())]


# --- answers ---------------------------------------------------------------------------------


def last_window(
    model: ModelFile, graphs: Graphs, samples: Float32Array, at_most_s: float
) -> Window:
    """The newest window, calibrated for what it hears."""
    heard_s = min(at_most_s, windows_of(model, graphs, samples, 10.0)[-1].end_s)
    return windows_of(model, graphs, samples, heard_s)[-1]


def test_a_short_recording_is_heard_again_behind_its_end(
    model: ModelFile, graphs: Graphs, classifier: RecordingClassifier, speech: Float32Array
) -> None:
    samples = speech[32_000:96_000]
    answer = classifier.classify(Audio(samples))
    heard_s = last_window(model, graphs, samples, 10.0).end_s
    windows = []
    told, step = samples[-2 * SAMPLE_RATE_HZ :], 4 * 160  # an embedding is of 40 ms
    for hearing in range(4):
        # A gap of at least 80 ms, until it begins a quarter of an embedding later than before.
        start = -(-(len(told) + 1280) // step) * step + hearing * step // 4
        told = np.concatenate([told, np.zeros(start - len(told), np.float32), samples])
        windows.append(last_window(model, graphs, told, heard_s))
    nonspeech = model.labels.index(NONSPEECH)
    weights = [1.0 - window.probabilities[nonspeech] for window in windows]
    expected = np.average([w.probabilities for w in windows], axis=0, weights=weights)
    assert list(answer.probabilities) == list(model.labels)
    found = np.array(list(answer.probabilities.values()))
    # Where a hearing ends within an embedding, half a one more or less counts.
    np.testing.assert_allclose(np.log(found), np.log(expected), atol=0.5)
    assert np.abs(found - expected).max() < 0.01
    assert answer.language == model.labels[found.argmax()]
    assert answer.confidence == answer.probabilities[answer.language]
    assert answer.duration_s == 4.0


def test_what_is_longer_than_the_longest_window_is_heard_once(
    model: ModelFile,
    graphs: Graphs,
    classifier: RecordingClassifier,
    speech: Float32Array,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths = []
    process = StreamingClassifier.process

    def listening(self: StreamingClassifier, samples: Float32Array) -> Iterator[list[Window]]:
        lengths.append(len(samples))
        return process(self, samples)

    monkeypatch.setattr(StreamingClassifier, "process", listening)
    classifier.classify(Audio(speech[:160_000]))
    assert sum(lengths) > 160_000 * 5
    lengths.clear()
    classifier.classify(Audio(speech[:160_001]))
    assert sum(lengths) == 160_001


def test_where_nobody_speaks_nothing_is_heard_again(
    classifier: RecordingClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "_again", None)
    assert classifier.classify(Audio(np.zeros(48_000, np.float32))).language == NONSPEECH


@pytest.mark.parametrize("seconds", [25.0, 20.0, 10.05])
def test_a_long_recording_is_the_mean_of_its_parts(
    model: ModelFile,
    graphs: Graphs,
    classifier: RecordingClassifier,
    speech: Float32Array,
    seconds: float,
) -> None:
    # From where speech begins: what precedes it has no share.
    samples = speech[round(1.1 * SAMPLE_RATE_HZ) :][: round(seconds * SAMPLE_RATE_HZ)]
    answer = classifier.classify(Audio(samples))
    chosen: list[Window] = []
    windows = windows_of(model, graphs, samples, 10.0)
    for window in windows:
        if window.end_s - (chosen[-1].end_s if chosen else 0.0) >= 10.0:
            chosen.append(window)
    if chosen[-1] is not windows[-1]:
        chosen.append(windows[-1])
    shares = np.diff([0.0, *(window.end_s for window in chosen)])
    nonspeech = model.labels.index(NONSPEECH)
    shares *= [1.0 - window.probabilities[nonspeech] for window in chosen]
    expected = sum(
        share * window.probabilities for share, window in zip(shares, chosen, strict=True)
    )
    np.testing.assert_allclose(
        list(answer.probabilities.values()), expected / shares.sum(), rtol=1e-9
    )
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)
    assert answer.duration_s == seconds


@pytest.mark.parametrize("samples", [1, 160, 1_000, 40_001])
def test_the_duration_is_that_of_all_samples(
    classifier: RecordingClassifier, speech: Float32Array, samples: int
) -> None:
    answer = classifier.classify(Audio(speech[:samples]))
    assert answer.duration_s == samples / SAMPLE_RATE_HZ
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)


def test_a_recording_does_not_depend_on_the_one_before(
    classifier: RecordingClassifier, speech: Float32Array
) -> None:
    first = classifier.classify(Audio(speech[:50_000]))
    classifier.classify(Audio(speech[200_000:300_123]))
    assert classifier.classify(Audio(speech[:50_000])) == first


def test_only_the_languages_asked_for(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    classifier = RecordingClassifier(model, graphs, ["de", "zh"])
    answer = classifier.classify(Audio(speech[:50_000]))
    possible = {label for label, probability in answer.probabilities.items() if probability > 0}
    assert possible == {"de", "zh", OTHER, NONSPEECH}
    everything = RecordingClassifier(model, graphs).classify(Audio(speech[:50_000]))
    for label in ("de", "zh", NONSPEECH):
        assert answer.probabilities[label] == everything.probabilities[label]


def test_a_model_that_does_not_know_nonspeech(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    labels = tuple("xx" if label == NONSPEECH else label for label in model.labels)
    classifier = RecordingClassifier(dataclasses.replace(model, labels=labels), graphs)
    answer = classifier.classify(Audio(speech[: 21 * SAMPLE_RATE_HZ]))
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)


def test_no_audio(classifier: RecordingClassifier) -> None:
    with pytest.raises(EdgelidError, match=r"^'memory' gave no audio: .*\.$"):
        classifier.classify(Audio(np.empty(0, np.float32)))


def test_a_file_is_what_its_samples_are(
    classifier: RecordingClassifier, speech: Float32Array, tmp_path: Path
) -> None:
    samples = speech[16_000:64_000]
    path = tmp_path / "speech.wav"
    soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
    assert classify_file(classifier, path) == classifier.classify(Audio(samples))


def test_a_folder_is_no_recording(classifier: RecordingClassifier, tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match=r"is a folder: give an audio file in it\.$"):
        classify_file(classifier, tmp_path)
    (found,) = find_recordings([tmp_path])
    with pytest.raises(EdgelidError, match=r"is a folder without any audio files: .*\.$"):
        check_no_folder(found)


def test_nor_is_a_folder_that_may_not_be_read(
    classifier: RecordingClassifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closed(tmp_path) as private:
        for path in (private, private / "a.wav"):
            (found,) = find_recordings([path])
            with pytest.raises(EdgelidError, match=r"may not be read: ask its owner"):
                check_no_folder(found)
                classify_file(classifier, found)
    assert not caplog.messages  # it is told once


def test_nor_is_a_name_that_is_too_long(classifier: RecordingClassifier) -> None:
    (found,) = find_recordings(["x" * 500])
    with pytest.raises(EdgelidError, match=r"cannot be opened \(File name too long\)"):
        classify_file(classifier, found)


# --- folders ---------------------------------------------------------------------------------


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_stand_for_the_audio_in_them_at_any_depth(tmp_path: Path) -> None:
    inside = [tmp_path / "b.wav", tmp_path / "a" / "z.FLAC", tmp_path / "c" / "d" / "x.opus"]
    touch(*inside, tmp_path / "notes.txt", tmp_path / "c" / "labels.json")
    (tmp_path / "folder.wav").mkdir()
    assert find_recordings([tmp_path]) == sorted(inside)


def test_files_stay_as_they_are_given(tmp_path: Path) -> None:
    touch(tmp_path / "folder" / "b.mp3", tmp_path / "folder" / "a.ogg", tmp_path / "speech.raw")
    given = [tmp_path / "speech.raw", tmp_path / "folder", tmp_path / "none.wav"]
    assert find_recordings(given) == [
        tmp_path / "speech.raw",
        tmp_path / "folder" / "a.ogg",
        tmp_path / "folder" / "b.mp3",
        tmp_path / "none.wav",
    ]


def test_contents_count_and_not_only_names(tmp_path: Path) -> None:
    touch(tmp_path / "by-name.m4a", tmp_path / "sub" / "letter.pdf", tmp_path / "noise")
    contents = {
        "riff": b"RIFF\x24\0\0\0WAVEfmt ",
        "voice.dat": b"\0\0\0\x18ftypM4A ",
        "sub/radio": b"OggS" + bytes(30),
        "sub/webm": b"\x1a\x45\xdf\xa3" + bytes(30),
        "memo": b"#!AMR\n" + bytes(30),
        "windows": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(30),
        "mp3": (b"\xff\xfb\x90\x64" + bytes(413)) * 3,
        "aac": (b"\xff\xf1\x50\x80\x08\x1f\xfc" + bytes(57)) * 3,
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "noise").write_bytes(np.random.default_rng(0).bytes(5_000))
    (tmp_path / "riff.avi.txt").write_bytes(b"RIFF\x24\0\0\0WEBPVP8 ")
    expected = [tmp_path / name for name in (*contents, "by-name.m4a")]
    assert find_recordings([tmp_path]) == sorted(expected)


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    """As are what AppleDouble puts beside each file."""
    touch(tmp_path / "a.wav", tmp_path / "._a.wav", tmp_path / ".trash" / "b.wav")
    assert find_recordings([tmp_path]) == [tmp_path / "a.wav"]
    assert find_recordings([tmp_path / "._a.wav"]) == [tmp_path / "._a.wav"]  # if asked for


def test_a_pipe_in_a_folder_is_not_opened(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "pipe")
    assert find_recordings([tmp_path]) == [tmp_path / "a.wav"]


def test_a_broken_link_in_a_folder_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    assert find_recordings([tmp_path]) == [tmp_path / "gone.wav"]


def test_an_empty_folder_stands_for_itself(tmp_path: Path) -> None:
    assert find_recordings([tmp_path]) == [tmp_path]


# --- about the speech, or not sure -------------------------------------------------------------


@pytest.fixture
def chinese(speech: Float32Array) -> Float32Array:
    """A turn of the sample, shape (n,)."""
    return speech[round(29.6 * SAMPLE_RATE_HZ) : round(37.65 * SAMPLE_RATE_HZ)]


def silence(seconds: float) -> Float32Array:
    """A recorder is never digitally silent."""
    noise = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE_HZ))
    return (noise * 3e-4).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 160, 1_600, 4_799])
def test_too_little_audio_is_unknown(
    classifier: RecordingClassifier, speech: Float32Array, samples: int
) -> None:
    answer = classifier.classify(Audio(speech[32_000 : 32_000 + samples]))
    assert answer.language == UNKNOWN
    assert answer.confidence == max(answer.probabilities.values())


def test_the_threshold(model: ModelFile, graphs: Graphs, chinese: Float32Array) -> None:
    sure = RecordingClassifier(model, graphs).classify(Audio(chinese))
    assert sure.language == "zh"
    for threshold, language in ((sure.confidence, "zh"), (sure.confidence + 1e-9, UNKNOWN)):
        answer = RecordingClassifier(model, graphs, threshold=threshold).classify(Audio(chinese))
        assert answer == dataclasses.replace(sure, language=language)


@pytest.mark.parametrize("zeros", [True, False])
def test_silence_does_not_outvote_speech(
    classifier: RecordingClassifier, chinese: Float32Array, zeros: bool
) -> None:
    alone = classifier.classify(Audio(chinese))
    quiet = silence(120.0) * (0 if zeros else 1)
    among = classifier.classify(Audio(np.concatenate([quiet, chinese, quiet])))
    assert among.language == alone.language == "zh"
    assert among.confidence == pytest.approx(alone.confidence, abs=0.1)
    assert among.speech_s == pytest.approx(8.05, abs=1.5)
    assert alone.speech_s == pytest.approx(8.05, abs=0.5)
    assert among.stretches == ()


@pytest.mark.parametrize("quiet_s", [(20.0, 0.0), (0.0, 20.0), (20.0, 20.0)])
def test_less_speech_than_a_window_is_as_sure_beside_silence(
    classifier: RecordingClassifier, speech: Float32Array, quiet_s: tuple[float, float]
) -> None:
    # Behind the words that sound Italian, see tests/sample.py.
    spanish = speech[round(12.0 * SAMPLE_RATE_HZ) : round(17.0 * SAMPLE_RATE_HZ)]
    alone = classifier.classify(Audio(spanish))
    before, behind = map(silence, quiet_s)
    among = classifier.classify(Audio(np.concatenate([before, spanish, behind])))
    assert among.language == alone.language == "es"
    assert among.confidence == pytest.approx(alone.confidence, abs=0.15)


def test_silence_is_no_speech(classifier: RecordingClassifier) -> None:
    answer = classifier.classify(Audio(silence(30.0)))
    assert (answer.language, answer.speech_s) == (NONSPEECH, 0.0)


def test_several_languages_are_told(
    classifier: RecordingClassifier, speech: Float32Array, chinese: Float32Array
) -> None:
    french = speech[round(19.56 * SAMPLE_RATE_HZ) : round(28.6 * SAMPLE_RATE_HZ)]
    answer = classifier.classify(Audio(np.concatenate([chinese, french])))
    told = [part for part in answer.stretches if part.language not in (NONSPEECH, UNKNOWN)]
    assert [part.language for part in told] == ["zh", "fr"]
    assert told[0].end_s == pytest.approx(8.05, abs=1.0)
    assert (answer.stretches[0].start_s, answer.stretches[-1].end_s) == (0.0, answer.duration_s)
    assert answer.language == UNKNOWN
    assert shares(answer.stretches) == pytest.approx({"fr": 0.53, "zh": 0.47}, abs=0.08)
    assert classifier.classify(Audio(chinese)).stretches == ()


def test_shares() -> None:
    stretches = [
        Segment(UNKNOWN, 0.0, 1.0, 0.3),
        Segment("de", 1.0, 4.0, 0.9),
        Segment(NONSPEECH, 4.0, 5.0, 0.9),
        Segment("en", 5.0, 10.0, 0.9),
        Segment("de", 10.0, 12.0, 0.9),
    ]
    assert shares(stretches) == {"de": 0.5, "en": 0.5}
    assert shares([]) == {}


# --- too quiet ---------------------------------------------------------------------------------


def at_peak(samples: Float32Array, peak_db: float, path: Path) -> Path:
    """A file of 16 bits with samples of that peak."""
    soundfile.write(path, samples * (10 ** (peak_db / 20) / np.abs(samples).max()), SAMPLE_RATE_HZ)
    return path


@pytest.mark.parametrize(("peak_db", "gain"), [(-50.0, 8), (-55.0, 16)])
def test_a_quiet_recording_is_heard_as_if_it_were_louder(
    classifier: RecordingClassifier,
    model: ModelFile,
    graphs: Graphs,
    chinese: Float32Array,
    tmp_path: Path,
    peak_db: float,
    gain: int,
) -> None:
    quiet = at_peak(chinese, peak_db, tmp_path / "quiet.wav")
    answer = classify_file(classifier, quiet)
    # As with a gain by hand, bit for bit.
    fixed = RecordingClassifier(model, graphs, automatic_gain=False)
    assert answer == classify_file(fixed, quiet, Ear(gain_db=20 * math.log10(gain)))
    assert answer != classify_file(fixed, quiet, Ear(gain_db=0))
    loud = classify_file(classifier, at_peak(chinese, -26.0, tmp_path / "loud.wav"))
    assert answer.language == loud.language == "zh"
    assert answer.confidence == pytest.approx(loud.confidence, abs=0.03)


def test_a_loud_recording_is_heard_as_it_is(
    classifier: RecordingClassifier,
    model: ModelFile,
    graphs: Graphs,
    chinese: Float32Array,
    tmp_path: Path,
) -> None:
    # That its beginning is quiet changes nothing.
    beginning = chinese[: 2 * SAMPLE_RATE_HZ] * 10 ** (-40 / 20)
    loud = at_peak(np.concatenate([beginning, chinese]), -20.0, tmp_path / "loud.wav")
    fixed = RecordingClassifier(model, graphs, automatic_gain=False)
    assert classify_file(classifier, loud) == classify_file(fixed, loud)
