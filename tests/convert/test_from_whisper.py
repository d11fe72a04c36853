"""Whisper's weights to a model file that the device takes, alone and for second opinions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convert.from_whisper
from convert.from_whisper import Wanted, convert_whisper
from convert.parity import Parity
from convert.proof import Limits, Proof
from convert.whole_window import WINDOWS_A_CLIP
from edge.bench.measure import SAMPLE
from edge.errors import EdgelidError
from edge.frontend import FrontEnd, FrontEndConfig
from edge.model.modelfile import DEFAULT_MODEL, read_model
from edge.opinion.expert import ExpertFile
from tests.synthetic import speech, write_audio
from tests.tiny_whisper import ctranslate2, tiny_arrays
from train.corpus.cuts import read_audio
from train.features.filterbank import mel_filterbank
from train.fit.teacher import weights_dir
from train.waveforms.whisper_languages import LANGUAGES

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "edge/samples"
NINE = ("de", "en", "es", "fr", "it", "nl", "pt", "ru", "zh")


def wanted(weights: Path, output: Path, **changes: object) -> Wanted:
    given = {
        "languages": (),
        "corpus": Path("none"),
        "recordings": SAMPLES,
        "sounds": None,
        "limits": Limits(min_agreement=0.5),
        **changes,
    }
    return Wanted(weights, output, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whisper") / "model.bin"
    path.write_bytes(ctranslate2(tiny_arrays()))
    return path


@pytest.fixture(scope="module")
def converted(weights: Path) -> tuple[Path, Proof]:
    """Random weights, of all languages."""
    path = weights.with_name("tiny-whisper.tflite")
    return path, convert_whisper(wanted(weights, path))


def test_the_file_says_what_it_is(converted: tuple[Path, Proof]) -> None:
    path, proof = converted
    model = read_model(path)
    assert model.labels == (*LANGUAGES, "nonspeech")
    description = model.description
    assert (description.name, description.mode) == ("tiny-whisper", "window")
    assert description.stream.windows_s == (3.0,)
    assert "MIT" in description.licence
    assert description.metrics["proof"] == json.loads(json.dumps(proof.as_dict()))
    # Weights in 8 bits: the floats would take four times as much.
    parameters = sum(value.size for name, value in tiny_arrays().items() if "embed" not in name)
    assert path.stat().st_size < 2 * parameters


def test_int8_weights_say_what_the_floats_say(converted: tuple[Path, Proof]) -> None:
    (found,) = converted[1].windows.values()
    assert found.clips > 1
    assert found.mean_difference < 2e-3
    assert found.largest_difference < 0.2


def classified(*options: str | Path) -> dict[str, Any]:
    """What `edgelid classify` says of the sample."""
    command = [sys.executable, "-m", "edge.cli", "classify", "--json", *options]
    done = subprocess.run([*command, SAMPLE], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_alone_and_as_a_second_opinion(converted: tuple[Path, Proof]) -> None:
    path = converted[0]
    assert set(classified("--model", path)["probabilities"]) == {*LANGUAGES, "nonspeech"}
    answer = classified("--second-opinion", path)
    assert set(answer["probabilities"]) == {*read_model(DEFAULT_MODEL).labels}
    assert answer["second_opinions"] > 10


@pytest.mark.parametrize(
    ("data", "changes", "words"),
    [
        (b"nonsense", {}, "holds no weights of Whisper"),
        (None, {"languages": ["de", "xx"]}, "does not know xx"),
    ],
)
def test_what_cannot_be_converted(
    weights: Path, tmp_path: Path, data: bytes | None, changes: dict[str, object], words: str
) -> None:
    if data is not None:
        weights = tmp_path / "model.bin"
        weights.write_bytes(data)
    with pytest.raises(EdgelidError, match=words):
        convert_whisper(wanted(weights, tmp_path / "x.tflite", **changes))
    assert not (tmp_path / "x.tflite").exists()


def test_recordings_of_no_use(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is converted to be proven on them."""
    monkeypatch.setattr(convert.from_whisper, "float_window_to_tflite", None)
    write_audio(tmp_path / "click.wav", speech("de", "dora", 0, 0.01))
    write_audio(tmp_path / "silent.wav", np.zeros(16_000, np.float32))
    with pytest.raises(EdgelidError, match="silent or shorter than a frame of features: give rec"):
        convert_whisper(wanted(weights, tmp_path / "x.tflite", recordings=tmp_path))
    write_audio(tmp_path / "speech.wav", speech("de", "dora", 0, 1.0))
    front_end = FrontEnd(FrontEndConfig(), mel_filterbank(FrontEndConfig()))
    # A second fills a window of three by and by; silence would do so, too.
    assert len(convert.from_whisper._windows(tmp_path, front_end, 300)) == WINDOWS_A_CLIP


def test_not_over_what_is_converted(weights: Path, tmp_path: Path) -> None:
    before = weights.read_bytes()
    with pytest.raises(EdgelidError, match="is what is to be converted"):
        convert_whisper(wanted(weights, weights))
    diary = tmp_path / "x.tflite"
    diary.write_text("dear diary")
    with pytest.raises(EdgelidError, match="is no model file of edgelid"):
        convert_whisper(wanted(weights, diary))
    assert (weights.read_bytes(), diary.read_text()) == (before, "dear diary")


def test_a_link_stays_and_what_it_leads_to_is_written(weights: Path, tmp_path: Path) -> None:
    link, file = tmp_path / "link.tflite", tmp_path / "file.tflite"
    link.symlink_to(file)
    convert_whisper(wanted(weights, link))
    assert link.is_symlink() and read_model(file).labels[-1] == "nonspeech"


@pytest.mark.slow
def test_speech_of_a_corpus_calibrates_and_proves(
    weights: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    path = tmp_path / "two.tflite"
    changes = {"languages": ["English", "de"], "corpus": tiny_corpus, "recordings": None}
    proof = convert_whisper(wanted(weights, path, **changes))
    model = read_model(path)
    assert model.labels == ("en", "de", "other", "nonspeech")
    parity = proof.windows["3"]
    assert isinstance(parity, Parity)
    assert model.description.calibration.temperatures == {"3": parity.temperature_converted}
    assert set(model.description.metrics["accuracy_by_language"]) == {"de", "en"}


@pytest.mark.slow
def test_whisper_base_itself(tmp_path: Path) -> None:
    """By the command, for nine languages."""
    file = weights_dir() / "model.bin"
    if not file.exists():
        pytest.skip("needs Whisper's weights: python -m train.evaluation.whisper_stream once")
    path = tmp_path / "whisper-base.tflite"
    command = [sys.executable, "-m", "convert.cli", "whisper", file, "-o", path]
    command += ["--languages", "German,en,es,fr,it,nl,pt,ru,zh", "--representative", SAMPLES]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert read_model(path).labels == (*NINE, "other", "nonspeech")
    speech, model = read_audio(SAMPLE), read_model(DEFAULT_MODEL)
    expert = ExpertFile(str(path), model.labels).open()
    for at_s, language in ((3, "en"), (12, "es"), (22, "fr"), (31, "zh"), (45, "it"), (64, "en")):
        samples = speech[at_s * 16_000 : (at_s + 3) * 16_000 + 240]
        opinion = expert.asked(samples, 3.0, None)
        assert model.labels[int(opinion.probabilities.argmax())] == language
