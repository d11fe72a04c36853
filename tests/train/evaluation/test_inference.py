"""Batches give what cuts alone give, in the order asked for; failures come through as they are."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import train.evaluation.inference
from edge.classifier import StreamingClassifier
from edge.decoder import Segment
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, Float64Array
from edge.languages import UNKNOWN
from edge.model.interpreter import open_graphs
from edge.model.modelfile import NONSPEECH, read_model
from tests.conftest import Conversion
from tests.processes import is_running
from tests.waiting import wait_until
from train.corpus.cuts import SEED, Cut, cuts, load_cut, read_audio
from train.corpus.manifest import open_manifest
from train.evaluation.conditions import disturb, find_sounds
from train.evaluation.inference import (
    Samples,
    Scorer,
    Setup,
    StreamRecipe,
    Trial,
    Workers,
    score_audio,
    score_trials,
)
from train.evaluation.streams import make_stream
from train.features.noise import read_noise


@pytest.fixture(scope="module")
def setup(tiny_conversion: Conversion, tiny_corpus: Path) -> Setup:
    return Setup(
        tiny_conversion.path,
        tiny_corpus,
        find_sounds(tiny_corpus.parent),
        tiny_corpus.parent / "noise",
    )


def some_cuts(corpus: Path) -> list[Cut]:
    clips = [clip for clip in open_manifest(corpus).clips() if clip.split == "test"]
    return [cut for d in (1.0, 3.0, 10.0) for cut in cuts(clips, duration_s=d, seed=SEED)]


def alone(setup: Setup, samples: Float32Array) -> Float64Array:
    model = read_model(setup.model)
    window_s = len(samples) / SAMPLE_RATE_HZ
    return score_audio(StreamingClassifier(model, open_graphs(model), [window_s]), samples)


def test_trials_as_cuts_alone(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.evaluation.inference, "CUTS_A_JOB", 4)
    found = some_cuts(setup.corpus)
    trials = [Trial(cut, name) for name in ("noise-5", "clean") for cut in found]
    with Workers(setup, 1) as workers:
        scores = score_trials(workers, trials, "cuts")
        assert np.array_equal(score_trials(workers, trials[::-1], "cuts"), scores[::-1])
    for trial, row in zip(trials, scores, strict=True):
        samples = load_cut(trial.cut, setup.corpus)
        samples = disturb(samples, trial.condition, trial.cut.item_key, setup.sounds)
        assert np.array_equal(row, alone(setup, samples))


def test_windows_of_noise(setup: Setup) -> None:
    path = setup.sounds.noises[0]  # of 3 s
    scores = Scorer(setup).noise((path, 1.25))
    samples = read_audio(path)
    assert len(scores) == 2
    for row, start in zip(scores, (0, 20000), strict=True):
        assert np.array_equal(row, alone(setup, samples[start : start + 20000]))
    assert Scorer(setup).noise((path, 5.0)).shape == (0, 4)


def test_a_stream_is_followed_to_its_end(setup: Setup) -> None:
    clips = tuple(clip for clip in open_manifest(setup.corpus).clips() if clip.split == "test")
    folder = setup.corpus.parent / "noise"
    noises = tuple(read_noise(folder, "test"))
    truth, (changes, segments) = Scorer(setup).stream(StreamRecipe(clips, noises, 20.0, 5))
    labels = read_model(setup.model).labels
    stream = make_stream(clips, setup.corpus, noises, folder, labels, 20.0, 5)
    assert truth == stream.spans
    assert segments[0].start_s == 0
    for one, following in itertools.pairwise(segments):
        assert one.end_s == following.start_s
    assert segments[-1].end_s == pytest.approx(len(stream.samples) / SAMPLE_RATE_HZ, abs=0.2)
    told = {segment.language for segment in segments} - {NONSPEECH, UNKNOWN}
    assert told <= {change.language for change in changes}


def test_a_stream_is_divided_as_a_recording(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = tuple(clip for clip in open_manifest(setup.corpus).clips() if clip.split == "test")
    recipe = StreamRecipe(clips, (), 20.0, 5)
    labels = read_model(setup.model).labels
    stream = make_stream(clips, setup.corpus, (), setup.noise, labels, 20.0, 5)
    scorer = Scorer(setup)
    answer = scorer._recordings.classify(Samples(stream.samples))
    whole = Segment(answer.language, 0.0, answer.duration_s, answer.confidence)
    assert scorer.divided(recipe) == (stream.spans, ([], [*answer.stretches] or [whole]))
    several = (Segment("en", 0.0, 8.0, 0.9), Segment("de", 8.0, answer.duration_s, 0.8))
    for stretches, wanted in (((), [whole]), (several, [*several])):
        told = dataclasses.replace(answer, stretches=stretches)
        monkeypatch.setattr(scorer._recordings, "classify", lambda source, told=told: told)
        assert scorer.divided(recipe)[1] == ([], wanted)


@pytest.mark.parametrize("count", [1, 2])
def test_failures_come_through(setup: Setup, count: int, tmp_path: Path) -> None:
    (tmp_path / "torn.wav").write_bytes(b"RIFF")
    with (
        Workers(setup, count) as workers,
        pytest.raises(EdgelidError, match=r"torn\.wav") as error,
    ):
        workers.map(Scorer.noise, [(tmp_path / "torn.wav", 1.0)], "noise")
    assert "\n" not in str(error.value)


def test_a_process_that_dies(setup: Setup, tmp_path: Path) -> None:
    gone = dataclasses.replace(setup, model=tmp_path / "gone.tflite")
    with Workers(gone, 2) as workers, pytest.raises(EdgelidError, match="fewer --workers"):
        workers.map(Scorer.noise, [(setup.sounds.noises[0], 1.0)], "noise")


WAITING = """
import os, pickle, sys, time
from pathlib import Path
from train.evaluation.inference import Workers

def wait(scorer, job):
    Path(sys.argv[2], str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    with Workers(pickle.loads(Path(sys.argv[1]).read_bytes()), 2) as workers:
        workers.map(wait, range(2), "cuts")
"""


def test_processes_end_with_the_one_that_started_them(setup: Setup, tmp_path: Path) -> None:
    """Once they went on for as long as there was work, and then waited for more."""
    program, pickled, pids = tmp_path / "waiting.py", tmp_path / "setup", tmp_path / "pids"
    program.write_text(WAITING)
    pickled.write_bytes(pickle.dumps(setup))
    pids.mkdir()
    with subprocess.Popen([sys.executable, program, pickled, pids]) as started:
        wait_until(lambda: len([*pids.iterdir()]) == 2)
        started.kill()
    workers = [int(path.name) for path in pids.iterdir()]
    wait_until(lambda: not any(map(is_running, workers)))
