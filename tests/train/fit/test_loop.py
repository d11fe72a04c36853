"""Training learns, can be stopped at any step and goes on as if it had not been."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import train.fit.loop
from edge.errors import EdgelidError
from tests.synthetic import DEVELOPMENT, speech, write_audio, write_table
from train.cli import main
from train.config import RunConfig
from train.corpus.manifest import COLUMNS, open_manifest
from train.features.cache import prepare
from train.fit.development import DevelopmentSet
from train.fit.distillation import UNITS
from train.fit.loop import Beginning, fit
from train.fit.sampling import Batch
from train.fit.teacher import VERSION, clip_frames
from train.fit.trainer import Trainer
from train.fit.training_data import Corpus, Place, open_corpus
from train.model.checkpoint import Checkpoint, load_checkpoint

INTERRUPTED_AT = 27
KILLS = 8

Update = Callable[[Trainer, Sequence[Batch]], tuple[float, float, float]]


class Resumed(NamedTuple):
    """A run that was interrupted, and then not."""

    folder: Path
    losses: list[float]
    interrupted: Checkpoint  # ``last.npz`` as the interrupt left it
    best: Checkpoint
    handlers: tuple[Any, Any]  # of SIGTERM, before and after the interrupt


@pytest.fixture(scope="module")
def resumed(
    tiny_config: RunConfig, tiny_data: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> Resumed:
    run = tmp_path_factory.mktemp("resumed") / "a" / "b"
    losses: list[float] = []
    update: Update = train.fit.loop._update

    def recorded(trainer: Trainer, batch: Sequence[Batch]) -> tuple[float, float, float]:
        figures = update(trainer, batch)
        losses.append(figures[0])
        if len(losses) == INTERRUPTED_AT:
            signal.raise_signal(signal.SIGTERM)  # after the step, before the loop knows of it
        return figures

    handlers = [signal.getsignal(signal.SIGTERM)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.fit.loop, "_update", recorded)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny_config, run, tiny_data)
        handlers.append(signal.getsignal(signal.SIGTERM))
        interrupted = load_checkpoint(run / "last.npz")
        best = fit(tiny_config, run, tiny_data)
    return Resumed(run, losses, interrupted, best, (handlers[0], handlers[1]))


def test_learns(resumed: Resumed, tiny_config: RunConfig) -> None:
    losses = resumed.losses
    assert len(losses) == tiny_config.optimiser.steps
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) - 0.2
    assert resumed.best.scores["select"] >= 0.75


def test_an_interrupt_keeps_the_last_whole_step(resumed: Resumed) -> None:
    assert resumed.interrupted.step == INTERRUPTED_AT
    assert resumed.interrupted.scores == {}
    assert sorted(os.listdir(resumed.folder)) == ["best.npz", "data.sha256", "last.npz", "logs"]


@pytest.mark.parametrize("name", ["last.npz", "best.npz"])
def test_resumed_as_uninterrupted(resumed: Resumed, tiny_run: Path, name: str) -> None:
    """To the last bit: batches and dropout depend on the seed and the step alone."""
    one, other = load_checkpoint(resumed.folder / name), load_checkpoint(tiny_run / name)
    assert (one.step, one.scores) == (other.step, other.scores)
    assert one.arrays.keys() == other.arrays.keys()
    for key, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[key], err_msg=key)


def test_a_finished_run_is_not_trained_again(
    tiny_config: RunConfig, tiny_data: Corpus, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.fit.loop, "_update", None)
    before = (tiny_run / "last.npz").read_bytes()
    best = fit(tiny_config, tiny_run, tiny_data)
    assert best.scores == load_checkpoint(tiny_run).scores
    assert (tiny_run / "last.npz").read_bytes() == before


def test_interrupted_at_the_end_before_the_scores(
    tiny_config: RunConfig,
    tiny_data: Corpus,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last step was done, its evaluation was not: it is made up for."""
    last = load_checkpoint(tiny_run / "last.npz")
    dataclasses.replace(last, scores={}).save(tmp_path / "last.npz")
    monkeypatch.setattr(train.fit.loop, "_update", None)
    best = fit(tiny_config, tmp_path, tiny_data)
    assert best.step == tiny_config.optimiser.steps
    assert load_checkpoint(tmp_path / "last.npz").scores == last.scores


@pytest.mark.parametrize("name", ["last.npz", "best.npz"])
def test_the_folder_of_another_run(
    tiny_config: RunConfig, tiny_data: Corpus, tiny_run: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes((tiny_run / name).read_bytes())
    other = dataclasses.replace(tiny_config, seed=99)
    with pytest.raises(EdgelidError, match="holds a run of another configuration"):
        fit(other, tmp_path, tiny_data)
    assert (tmp_path / name).read_bytes() == (tiny_run / name).read_bytes()
    assert os.listdir(tmp_path) == [name]


def test_a_checkpoint_that_cannot_be_resumed(
    tiny_config: RunConfig, tiny_data: Corpus, tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "last.npz").write_bytes((tiny_run / "best.npz").read_bytes())
    with pytest.raises(EdgelidError, match="last checkpoint does not fit"):
        fit(tiny_config, tmp_path, tiny_data)


def test_a_damaged_checkpoint(
    tiny_config: RunConfig, tiny_data: Corpus, tiny_run: Path, tmp_path: Path
) -> None:
    data = (tiny_run / "last.npz").read_bytes()
    (tmp_path / "last.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(EdgelidError, match="is damaged"):
        fit(tiny_config, tmp_path, tiny_data)


def test_a_folder_that_cannot_be_made(
    tiny_config: RunConfig, tiny_data: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgelidError, match="cannot make the folder"):
        fit(tiny_config, tmp_path / "file" / "run", tiny_data)


def test_divergence(
    tiny_config: RunConfig, tiny_data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(self: Trainer, _: Any) -> tuple[float, float, float]:
        return float("nan"), 0.0, 0.0

    monkeypatch.setattr(Trainer, "step", diverge)
    with pytest.raises(EdgelidError, match="training diverged"):
        fit(tiny_config, tmp_path, tiny_data)
    assert sorted(os.listdir(tmp_path)) == ["data.sha256", "logs"]


def test_no_speaker_is_on_both_sides(tiny_data: Corpus) -> None:
    train_speakers = set(tiny_data.rows["speaker"][tiny_data.train])
    held_out = set(tiny_data.rows["speaker"][tiny_data.development])
    assert train_speakers
    assert held_out
    assert not train_speakers & held_out
    assert set(tiny_data.rows["source"][tiny_data.development]) == {DEVELOPMENT}
    assert set(tiny_data.rows["split"]) == {"train"}
    assert len(tiny_data.train) + len(tiny_data.development) == len(tiny_data.rows)


def manifest(folder: Path, tiny_corpus: Path, change: Callable[[list[str]], list[str]]) -> Path:
    """A corpus whose manifest has changed rows, with the audio of another."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for part in tiny_corpus.iterdir():
        if part.is_dir():
            (corpus / part.name).symlink_to(part)
    for name in ("noise", "rir"):
        (folder / name).symlink_to(tiny_corpus.parent / name)
    lines = (tiny_corpus / "manifest.tsv").read_text().splitlines()[1:]
    rows = [tuple(change(line.split("\t"))) for line in lines]
    write_table(corpus / "manifest.tsv", COLUMNS, rows)
    return corpus


def test_a_held_out_speaker_is_held_out_of_all_sources(
    tiny_config: RunConfig, tiny_corpus: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    def change(row: list[str]) -> list[str]:
        if row[4] == f"{DEVELOPMENT}-de-0" and row[0].endswith("/0.opus"):
            row[5] = "home"  # the same speaker in a source that is trained on
        return row

    corpus = open_corpus(tiny_config, Place((manifest(tmp_path, tiny_corpus, change),), tiny_cache))
    assert f"{DEVELOPMENT}-de-0" not in set(corpus.rows["speaker"][corpus.train])
    sources = set(corpus.rows["source"][corpus.development])
    assert sources == {DEVELOPMENT, "home"}


# Clips of a further corpus: language, split and speaker.
FURTHER = (
    ("de", "train", "robot-1"), ("sv", "train", "robot-2"), ("en", "test", "robot-3"),
    ("de", "train", "robot-1"),
)  # fmt: skip


def further_corpus(
    folder: Path, clips: tuple[tuple[str, str, str], ...] = FURTHER, name: str = "robot"
) -> Path:
    """A corpus without noise and room responses of its own."""
    rows = []
    for number, (language, split, speaker) in enumerate(clips):
        path = f"{language}/{name}/{number}.wav"
        write_audio(folder / path, speech(language, speaker, number, 0.8))
        target = "yes" if language != "sv" else "no"
        rows.append((path, language, split, target, speaker, "synthetic", "tts", "0.8", "", ""))
    write_table(folder / "manifest.tsv", COLUMNS, rows)
    return folder


def test_further_corpora(
    tiny_config: RunConfig, tiny_corpus: Path, tiny_cache: Path, tiny_data: Corpus, tmp_path: Path
) -> None:
    """What they have to train with is learnt from, and nothing else changes."""
    one = further_corpus(tmp_path / "one")
    two = further_corpus(tmp_path / "two", (("en", "train", "robot-9"),), "android")
    corpus = open_corpus(tiny_config, Place((tiny_corpus, one, two), tiny_cache))
    count = len(tiny_data.rows)
    assert corpus.rows[:count].equals(tiny_data.rows)
    added = ["de/robot/0.wav", "sv/robot/1.wav", "de/robot/3.wav", "en/android/0.wav"]
    assert corpus.rows["path"][count:].to_list() == added
    assert corpus.train.tolist() == [*tiny_data.train, *range(count, count + 4)]
    assert corpus.development.tolist() == tiny_data.development.tolist()
    rooms = [tiny_corpus.parent / "rir" / f"{name}.wav" for name in ("small", "hall")]
    alone = prepare(one, added[:3], tmp_path, tiny_config.front_end, 1, rooms, 1)
    for variant in (0, 1):
        for index in (0, count - 1):
            expected = tiny_data.features.clip(index, variant)
            np.testing.assert_array_equal(corpus.features.clip(index, variant), expected)
        for index in range(3):
            expected = alone.clip(index, variant)
            assert len(expected)
            np.testing.assert_array_equal(corpus.features.clip(count + index, variant), expected)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ((("en", "train", "field-en-0"),), "speaker field-en-0 is in test in one corpus and in tr"),
        ((("en", "test", "home-en-0"),), "speaker home-en-0 is in train in one corpus and in test"),
        ((("en", "dev", "home-en-0"),), "speaker home-en-0 is in train in one corpus and in dev"),
        ((("en", "test", "robot-1"),), "corpus .*further has no clips in its training split"),
    ],
)
def test_a_further_corpus_that_does_not_fit(
    tiny_config: RunConfig,
    tiny_corpus: Path,
    tmp_path: Path,
    clips: tuple[tuple[str, str, str], ...],
    message: str,
) -> None:
    further = further_corpus(tmp_path / "further", clips)
    with pytest.raises(EdgelidError, match=message):
        open_corpus(tiny_config, Place((tiny_corpus, further), tmp_path / "cache"))
    assert os.listdir(tmp_path) == ["further"]


def test_corpora_that_overlap(tiny_config: RunConfig, tiny_corpus: Path, tmp_path: Path) -> None:
    further = further_corpus(tmp_path / "one")
    with pytest.raises(EdgelidError, match=r"two of the corpora have a clip de/robot/0\.wav"):
        open_corpus(tiny_config, Place((tiny_corpus, further, further), tmp_path / "cache"))
    with pytest.raises(EdgelidError, match="two of the corpora have a clip de/home-de-0"):
        open_corpus(tiny_config, Place((tiny_corpus, tiny_corpus), tmp_path / "cache"))
    assert os.listdir(tmp_path) == ["one"]


def lone_speakers(tiny_corpus: Path, folder: Path, languages: set[str]) -> Path:
    """The corpus with one speaker to train with in some languages."""

    def change(row: list[str]) -> list[str]:
        if row[1] in languages and row[2] == "train" and row[5] != DEVELOPMENT:
            row[4] = f"alone-{row[1]}"
        return row

    return manifest(folder, tiny_corpus, change)


@pytest.mark.parametrize(
    ("languages", "named"), [({"en", "sv"}, "en"), ({"de", "en"}, "de, en"), ({"sv"}, "")]
)
def test_a_language_of_one_speaker(
    tiny_config: RunConfig,
    tiny_corpus: Path,
    tiny_cache: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    languages: set[str],
    named: str,
) -> None:
    """It is trained on, with a word about it; languages that are no class may be as they are."""
    corpus = lone_speakers(tiny_corpus, tmp_path, languages)
    with caplog.at_level(logging.WARNING):
        opened = open_corpus(tiny_config, Place((corpus,), tiny_cache))
    voices = set(opened.rows.select("language", "speaker")[opened.train].iter_rows())
    assert len(voices) == 9 - 2 * len(languages)
    expected = [f"only one speaker of {named}: the model may learn the voice"] if named else []
    assert caplog.messages == expected


def write_teacher(path: Path, corpus: Path, seed: int, scale: float = 1.0) -> Path:
    """What ``python -m train.fit.teacher`` writes, with embeddings of nothing."""
    clips = [clip for clip in open_manifest(corpus).clips() if clip.split == "train"]
    lengths = [clip_frames(clip) for clip in clips]
    np.savez(
        path,
        version=VERSION,
        frames=np.random.default_rng(seed).integers(-99, 99, (sum(lengths), 8), np.int8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        paths=np.array([clip.path for clip in clips]),
        scale=np.full(8, scale, np.float32),
        gain=np.ones(8, np.float32),
    )
    return path


@pytest.mark.slow
def test_two_corpora_and_their_teachers(
    tiny_toml: Path,
    tiny_corpus: Path,
    tiny_cache: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the command; then the run is told that its data have changed."""
    toml, further = tmp_path / "run.toml", further_corpus(tmp_path / "further")
    text = tiny_toml.read_text().replace("steps = 120\n", "steps = 2\nteacher_weight = 1.0\n")
    toml.write_text(text.replace("warmup_steps = 4", "warmup_steps = 1"))
    teachers = [
        write_teacher(tmp_path / "a.npz", tiny_corpus, 1),
        write_teacher(tmp_path / "b.npz", further, 2),
    ]

    def run(*more: Path) -> int:
        options = ["--run", tmp_path / "run", "--corpus", tiny_corpus, "--cache", tiny_cache]
        options += ["--workers", "1", "--also", further]
        options += [part for teacher in more for part in ("--teacher", teacher)]
        return main(["fit", str(toml), *map(str, options)])

    assert run(*teachers) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("best checkpoint: step 2, ")
    last = load_checkpoint(tmp_path / "run" / "last.npz")
    assert last.step == 2
    helpers = {k: array.shape for k, array in last.arrays.items() if k.startswith("helper/")}
    assert helpers == {"helper/0": (12, UNITS), "helper/1": (UNITS,)}
    assert last.arrays["helper/1"].any()  # it began with zeros, and was taught
    assert run(*teachers) == 0
    assert not [m for m in caplog.messages if "began with" in m]
    write_teacher(teachers[1], further, 3)
    assert run(*teachers) == 0
    (warning,) = [m for m in caplog.messages if "began with" in m]
    assert warning == (
        f"{tmp_path / 'run'} began with another corpus, noise or teacher: it goes on, but not as "
        "it would have"
    )
    capsys.readouterr()
    # What does not belong together is refused, and the run is left as it was.
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").glob("*.*")}
    assert run(teachers[0]) == 1
    assert "no teacher's embeddings of 'de/robot/0.wav'" in capsys.readouterr().err
    write_teacher(teachers[1], further, 3, scale=2.0)
    assert run(*teachers) == 1
    assert "have different projections" in capsys.readouterr().err
    assert run() == 1
    assert "learns from a teacher: give its file (--teacher)" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").glob("*.*")} == before


def with_data(config: RunConfig, **changes: Any) -> RunConfig:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"development": {"de": ["atic"]}}, "no training clips in de from atic"),
        ({"development": {"fr": ["attic"]}}, "no training clips in fr from attic"),
        ({"languages": ("de", "en", "fr")}, "no training speech in fr"),
        (
            {"development": {"de": ["attic", "home", "studio"]}},
            "no training speech in de",
        ),
    ],
)
def test_a_corpus_that_does_not_fit(
    tiny_config: RunConfig,
    tiny_corpus: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(EdgelidError, match=message):
        open_corpus(with_data(tiny_config, **changes), Place((tiny_corpus,), tmp_path))
    assert not os.listdir(tmp_path)  # said before any features were computed


def test_a_teacher_is_asked_for(tiny_config: RunConfig, tiny_corpus: Path, tmp_path: Path) -> None:
    plan = dataclasses.replace(tiny_config.optimiser, teacher_weight=1.0)
    config = dataclasses.replace(tiny_config, optimiser=plan)
    with pytest.raises(EdgelidError, match="--teacher"):
        open_corpus(config, Place((tiny_corpus,), tmp_path))


@pytest.mark.parametrize("development", [{}, {"sv": ["attic"]}])
def test_nothing_to_score(
    tiny_config: RunConfig, tiny_data: Corpus, development: dict[str, list[str]]
) -> None:
    config = with_data(tiny_config, development=development)
    languages = tiny_data.rows["language"][tiny_data.development]
    held_out = tiny_data.development[languages.is_in(list(development)).to_numpy()]
    with pytest.raises(EdgelidError, match="development speech holds no 1 s"):
        DevelopmentSet.of(config, tiny_data.rows, held_out, tiny_data.features)


def test_a_language_without_development_sources(
    tiny_config: RunConfig, tiny_data: Corpus, tiny_checkpoint: Checkpoint
) -> None:
    from train.fit.development import score
    from train.model.checkpoint import restore_model

    languages = tiny_data.rows["language"][tiny_data.development]
    held_out = tiny_data.development[(languages != "en").to_numpy()]
    development = DevelopmentSet.of(tiny_config, tiny_data.rows, held_out, tiny_data.features)
    scores = score(*restore_model(tiny_checkpoint), development)
    assert scores["by_language"].keys() == {0}
    assert 0 <= scores["select"] <= 1
    assert 0 <= scores["other"] <= 1


@pytest.mark.slow
def test_continuing_another_run(
    tiny_config: RunConfig, tiny_data: Corpus, tiny_run: Path, tmp_path: Path
) -> None:
    longer = dataclasses.replace(
        tiny_config, optimiser=dataclasses.replace(tiny_config.optimiser, steps=121)
    )
    best = fit(longer, tmp_path / "longer", tiny_data, Beginning(start=tiny_run))
    assert load_checkpoint(tmp_path / "longer" / "last.npz").step == 121
    assert best.step == 121
    before = load_checkpoint(tiny_run / "last.npz").arrays["raw/0"]
    after = load_checkpoint(tmp_path / "longer" / "last.npz").arrays["raw/0"]
    # One step of a schedule that is all but over: the same weights, a little moved.
    assert 0 < np.abs(after - before).max() < 1e-3


@pytest.mark.parametrize("change", ["plan", "model", "front end", "languages"])
def test_a_run_that_cannot_be_continued(
    tiny_config: RunConfig, tiny_data: Corpus, tiny_run: Path, tmp_path: Path, change: str
) -> None:
    optimiser = dataclasses.replace(tiny_config.optimiser, steps=120 if change == "plan" else 121)
    other = dataclasses.replace(tiny_config, optimiser=optimiser)
    if change == "model":
        other = dataclasses.replace(other, model=dataclasses.replace(other.model, hidden=18))
    elif change == "front end":
        front_end = dataclasses.replace(other.front_end, low_hz=other.front_end.low_hz + 1)
        other = dataclasses.replace(other, front_end=front_end)
    elif change == "languages":  # as many, in another order
        data = dataclasses.replace(other.data, languages=other.data.languages[::-1])
        other = dataclasses.replace(other, data=data)
    with pytest.raises(EdgelidError, match="cannot be continued"):
        fit(other, tmp_path / "other", tiny_data, Beginning(start=tiny_run))


@pytest.mark.slow
def test_saved_between_evaluations(
    tiny_config: RunConfig, tiny_data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what ends without warning does not cost hours."""
    plan = dataclasses.replace(tiny_config.optimiser, steps=5, evaluate_every_steps=3)
    config = dataclasses.replace(tiny_config, optimiser=plan)
    monkeypatch.setattr(train.fit.loop, "SAVE_EVERY_S", 0.0)
    saved = []
    save = Checkpoint.save

    def noted(checkpoint: Checkpoint, path: Path) -> None:
        saved.append((path.name, checkpoint.step, bool(checkpoint.scores)))
        save(checkpoint, path)

    monkeypatch.setattr(Checkpoint, "save", noted)
    fit(config, tmp_path, tiny_data)
    lasts = [(step, scored) for name, step, scored in saved if name == "last.npz"]
    assert lasts == [(1, False), (2, False), (3, True), (4, False), (5, True)]


def test_patience(
    tiny_config: RunConfig, tiny_data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after so many evaluations below the best one, and is not trained again."""
    plan = dataclasses.replace(tiny_config.optimiser, evaluate_every_steps=2, patience=2)
    config = dataclasses.replace(tiny_config, optimiser=plan)
    selected = iter([0.5, 0.6, 0.5, 0.6, 0.5, 0.4, 0.9])
    monkeypatch.setattr(train.fit.loop, "score", lambda *_: {"select": next(selected)})
    best = fit(config, tmp_path, tiny_data)
    assert best
    assert (best.step, best.scores) == (8, {"select": 0.6})
    assert load_checkpoint(tmp_path / "last.npz").step == 12
    monkeypatch.setattr(train.fit.loop, "_update", None)
    again = fit(config, tmp_path, tiny_data)
    assert again
    assert again.step == 8


def test_told_to_end(resumed: Resumed) -> None:
    """SIGTERM does what Ctrl-C does, and afterwards what it did before."""
    before, after = resumed.handlers
    assert resumed.interrupted.step == INTERRUPTED_AT
    assert before == after


def test_a_batch_that_cannot_be_divided(
    tiny_config: RunConfig, tiny_data: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="batch_clips must be a multiple of accumulation"):
        dataclasses.replace(tiny_config.optimiser, accumulation=3)


def test_curves(tiny_run: Path, tiny_config: RunConfig) -> None:
    """TensorBoard finds what happened."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tiny_run / "logs"), {"tensors": 0})
    found.Reload()
    tags = set(found.Tags()["tensors"])
    train_tags = {"loss", "teacher", "accuracy", "learning_rate", "clips_per_second", "wait_share"}
    assert {f"train/{tag}" for tag in train_tags} <= tags
    assert {"development/1s", "development/3s", "development/5s", "development/other"} <= tags
    steps = [event.step for event in found.Tensors("development/select")]
    every = tiny_config.optimiser.evaluate_every_steps
    assert steps == list(range(every, tiny_config.optimiser.steps + 1, every))


@pytest.mark.slow
def test_killed_at_any_moment(
    tiny_toml: Path, tiny_corpus: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    """The same command, again and again, ends in the very checkpoint of an undisturbed run."""
    toml = tmp_path / "run.toml"
    text = tiny_toml.read_text().replace("steps = 120\n", "steps = 400\npatience = 300\n")
    toml.write_text(text.replace("every_steps = 40", "every_steps = 8"))

    def start(run: Path) -> subprocess.Popen[bytes]:
        options = ["--corpus", tiny_corpus, "--cache", tiny_cache, "--workers", "1"]
        command = [sys.executable, "-m", "train.cli", "fit", toml, "--run", run, *options]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([str(part) for part in command], **quiet)  # type: ignore[call-overload]

    rng, disturbed = np.random.default_rng(KILLS), tmp_path / "disturbed"
    for _ in range(KILLS):
        step = load_checkpoint(disturbed / "last.npz").step if disturbed.exists() else 0
        process = start(disturbed)
        while process.poll() is None:
            time.sleep(0.02)
            with contextlib.suppress(EdgelidError):
                if load_checkpoint(disturbed / "last.npz").step > step:
                    break
        time.sleep(rng.uniform(0, 1))
        process.kill()
        process.wait()
    for run in (disturbed, tmp_path / "undisturbed"):
        assert start(run).wait(600) == 0
    for name in ("last.npz", "best.npz"):
        one, other = (load_checkpoint(tmp_path / r / name) for r in ("undisturbed", "disturbed"))
        assert (one.step, one.scores) == (other.step, other.scores)
        assert one.arrays.keys() == other.arrays.keys()
        for key, array in one.arrays.items():
            np.testing.assert_array_equal(array, other.arrays[key], err_msg=key)
