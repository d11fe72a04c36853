"""What lessons bring: simulated households that teach a model and then are heard by it.

A household is a few voices of different languages, drawn from the speakers with enough speech. Each
teaches for a while, and what it says afterwards is heard. Everyone else is heard, too: speakers of
the languages of the household, and all others. What is counted are windows that are taken for
another class, all classes being possible, as a mean over voices or classes.

Everything goes through the code of the device: `edge.lessons` learns, its correction is added to
the scores of the int8 model.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from edge.classifier import SPEECH
from edge.errors import EdgelidError
from edge.lessons.adapting import TooDear, adapt
from edge.lessons.book import RECORDING, Book, Lesson
from edge.lessons.correction import Correction
from edge.model.interpreter import Int8Array, open_graphs
from edge.model.modelfile import NONSPEECH, OTHER, read_model
from train.corpus.cuts import read_audio
from train.corpus.manifest import DEV, TEST, clips_of, open_manifest
from train.evaluation.conditions import CLEAN, find_sounds
from train.evaluation.voices import (
    CONDITIONS,
    LENGTHS_S,
    MAIN_S,
    MOST_S,
    SEED,
    Hearing,
    Voice,
    Windows,
    hear,
)
from train.features.noise import read_noise
from train.features.synthetic_noise import sounds_of
from train.fit.training_data import check_sources, divide
from train.parallel.progress import bar

CACHE = Path("~/.cache/edgelid/heard")
TAUGHT_S = (30.0, 60.0, 120.0)
JUDGED_S = 60.0  # taught, with which targets are judged
MOST_LOST = 0.01  # by all other speech
MOST_PROCESSOR_S, MOST_MB = 5.0, 150.0  # to adapt to `LESSONS` windows
LESSONS = 1_000
SAME, OTHERS = "same languages, not taught", "all others"  # what else is heard
REST_S = 30.0  # what a voice must say after it has taught
HOUSEHOLDS = 20
PEOPLE = (2, 3, 4)
ROUNDS = 20
WRONG_SHARE = 0.2
NEW_LANGUAGE_S = (60.0, 120.0, 720.0)


@dataclass(frozen=True)
class Personal:
    """What to evaluate.

    Attributes
    ----------
    model : Path
        Model file with anchors.
    corpus : Path
        Manifest, or the folder of a corpus.
    split : str
        ``test``, or ``dev``, which is for decisions.
    sounds : Path or None
        Folder that holds ``noise`` and ``rir``.
    development : dict of str to list of str
        Sources that count as ``dev``, too: they must be in no anchor.
    households : int
    cache : Path
        Folder where what was heard of the speech is kept.
    """

    model: Path
    corpus: Path
    split: str = TEST
    sounds: Path | None = None
    development: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    households: int = HOUSEHOLDS
    cache: Path = CACHE


class Judge:
    """Counts errors of a model, as it is or taught.

    Parameters
    ----------
    labels : tuple of str
        Of the model.
    correction : Correction, optional
    """

    def __init__(self, labels: tuple[str, ...], correction: Correction | None = None) -> None:
        self.labels = labels if correction is None else correction.labels
        self._correction = correction

    def answers(self, windows: Windows) -> np.ndarray:
        """Classes, shape (windows,)."""
        if not len(windows.pooled):  # of somebody who says less than a window
            return np.zeros(0, int)
        scores, correction = windows.scores, self._correction
        if correction is not None:
            added = len(correction.labels) - scores.shape[1]
            begun = [scores, *[scores[:, [correction.beginning]]] * added]
            pooled = windows.pooled.astype(np.float64)
            scores = np.concatenate(begun, axis=1) + pooled @ correction.weights + correction.bias
        classes: np.ndarray = scores.argmax(axis=1)
        return classes

    def wrong(self, language: str, windows: Windows) -> np.ndarray:
        """Which windows of a language are taken for something else."""
        label = language if language in self.labels else OTHER
        return np.asarray(self.answers(windows) != self.labels.index(label))


def mean_by_class(wrong: Mapping[str, Sequence[np.ndarray]]) -> float | None:
    """Share of errors, as a mean over the classes; None where nothing was heard."""
    shares = [
        float(np.concatenate(parts).mean()) for parts in wrong.values() if sum(map(len, parts))
    ]
    return float(np.mean(shares)) if shares else None


class Evaluation:
    """Everything that is heard, and what is made of it.

    Parameters
    ----------
    settings : Personal

    Raises
    ------
    EdgelidError
        If the model carries no anchors, or there are too few speakers with enough speech.
    """

    def __init__(self, settings: Personal) -> None:
        self._settings = settings
        self.model = read_model(settings.model)
        self._graphs = open_graphs(self.model)
        manifest = open_manifest(settings.corpus)
        folder = sounds_of(manifest.root, settings.sounds)
        self._hearing = Hearing(self.model, self._graphs, find_sounds(folder))
        self._noise = folder / "noise"
        clips = clips_of(_rows(manifest.rows, settings))
        needed_s = min(TAUGHT_S) + REST_S
        cache = settings.cache.expanduser()
        self.voices = hear(self._hearing, clips, manifest.root, needed_s, cache)
        self._by_taught = {taught_s: self._able(taught_s) for taught_s in TAUGHT_S}

    def _able(self, taught_s: float) -> list[Voice]:
        """Who can teach for so long, and say something afterwards."""
        return [
            voice
            for voice in self.voices
            if voice.language in self.model.languages and voice.said_s >= taught_s + REST_S
        ]

    def report(self) -> dict[str, Any]:
        """All of it."""
        report: dict[str, Any] = {
            "model": self.model.description.name,
            "sha256": self.model.sha256,
            "split": self._settings.split,
            "households": {f"{t:g}": self.households(t) for t in TAUGHT_S},
            "wrong_labels": self.households(JUDGED_S, WRONG_SHARE),
            "rounds": self.rounds(),
            "new_languages": self.new_languages(),
            "music": self.music(),
            "cost": self.cost(),
        }
        return {**report, "targets": targets(report)}

    def _drawn(self, taught_s: float) -> Iterator[list[Voice]]:
        able = self._by_taught[taught_s]
        if len({voice.language for voice in able}) < max(PEOPLE):
            return
        chance = random.Random(SEED)
        for _ in range(self._settings.households):
            people, home = chance.choice(PEOPLE), list[Voice]()
            for voice in chance.sample(able, len(able)):
                if len(home) < people and voice.language not in {v.language for v in home}:
                    home.append(voice)
            yield home

    def _learnt(self, lessons: Sequence[Lesson]) -> tuple[Judge, float]:
        """With lessons, or without where they are refused; and how much is applied."""
        book = Book.of_model(self.model)
        for lesson in lessons:
            if len(lesson.windows):
                book = book.with_lesson(lesson)
        if not book.lessons:
            return Judge(self.model.labels), 0.0
        try:
            adapted = adapt(self.model, self._graphs, book)
        except TooDear:
            return Judge(self.model.labels), 0.0
        return Judge(self.model.labels, adapted.correction), adapted.brought.strength

    def households(self, taught_s: float, wrong_share: float = 0.0) -> dict[str, Any] | None:
        """Errors without and with lessons; None where too few people speak for long enough."""
        before, chance = Judge(self.model.labels), np.random.default_rng(SEED)
        rows: dict[str, list[list[float]]] = defaultdict(list)
        strengths = []
        for home in bar(list(self._drawn(taught_s)), f"{taught_s:g} s taught"):
            lessons = [voice.lesson(voice.language, 0, taught_s) for voice in home]
            if wrong_share:
                lessons = [*_mislabelled(lessons, self.model.languages, wrong_share, chance)]
            after, strength = self._learnt(lessons)
            strengths.append(strength)
            for name, errors in self._errors(home, taught_s, before, after):
                rows[name].append(errors)
        if not strengths:
            return None
        return {
            "households": len(strengths),
            "voices": len(self._by_taught[taught_s]),
            "refused": sum(strength == 0 for strength in strengths),
            "strength": round(float(np.mean(strengths)), 3),
            **{
                name: np.round(np.mean(errors, axis=0), 4).tolist() for name, errors in rows.items()
            },
        }

    def _errors(
        self, home: Sequence[Voice], taught_s: float, before: Judge, after: Judge
    ) -> Iterator[tuple[str, list[float]]]:
        """Names of measures, and errors without and with lessons."""

        def pair(groups: Sequence[tuple[str, Windows]], by_voice: bool) -> list[float] | None:
            both = []
            for judge in (before, after):
                wrong: dict[str, list[np.ndarray]] = defaultdict(list)
                for i, (language, windows) in enumerate(groups):
                    wrong[str(i) if by_voice else language].append(judge.wrong(language, windows))
                both.append(mean_by_class(wrong))
            return None if both[0] is None or both[1] is None else [both[0], both[1]]

        def rest(voice: Voice, condition: str, length_s: float) -> Windows:
            windows = voice.heard[condition, length_s]
            return windows.where(windows.start_s >= taught_s).apart(length_s)

        languages = {voice.language for voice in home}
        others = [voice for voice in self.voices if voice not in home]
        heard = [(v.language, v.heard[CLEAN, MAIN_S].apart(MAIN_S), v.target) for v in others]
        found = {
            f"taught, {length_s:g} s": pair(
                [(v.language, rest(v, CLEAN, length_s)) for v in home], True
            )
            for length_s in LENGTHS_S
        }
        found |= {
            f"taught, {MAIN_S:g} s, {condition}": pair(
                [(v.language, rest(v, condition, MAIN_S)) for v in home], True
            )
            for condition in CONDITIONS[1:]
        }
        found[SAME] = pair(
            [(name, windows) for name, windows, _ in heard if name in languages], False
        )
        found[OTHERS] = pair([(name, windows) for name, windows, _ in heard], False)
        yield from ((name, errors) for name, errors in found.items() if errors is not None)

    def rounds(self) -> list[dict[str, float]]:
        """Errors after each of many short lessons, as a mean over a few households."""
        before = Judge(self.model.labels)
        able_s = max((t for t in TAUGHT_S if [*self._drawn(t)]), default=None)
        if able_s is None:
            return []
        homes = [*self._drawn(able_s)][:3]
        per_round: list[dict[str, list[float]]] = [defaultdict(list) for _ in range(ROUNDS)]
        for home in bar(homes, "rounds"):
            lessons: list[Lesson] = []
            # What is said after `able_s` is tested, so nobody's last lesson may reach into it.
            step_s = able_s / math.ceil(ROUNDS / len(home))
            for number in range(ROUNDS):
                voice = home[number % len(home)]
                turn = number // len(home)
                lessons.append(voice.lesson(voice.language, turn * step_s, (turn + 1) * step_s))
                after, _ = self._learnt(lessons)
                for name, (_, errors) in self._errors(home, able_s, before, after):
                    per_round[number][name].append(errors)
        return [
            {name: round(float(np.mean(errors)), 4) for name, errors in one.items()}
            for one in per_round
        ]

    def new_languages(self) -> dict[str, Any]:
        """How often a language that is taught anew is found, and how often where it is not."""
        known = [voice for voice in self.voices if voice.target]
        found: dict[str, Any] = {}
        strangers: dict[str, list[Voice]] = defaultdict(list)
        for voice in self.voices:
            if not voice.target and voice.language not in self.model.labels:
                strangers[voice.language].append(voice)
        for language, voices in bar(sorted(strangers.items()), "new languages"):
            for taught_s in NEW_LANGUAGE_S:
                row = self._new_language(language, voices, known, taught_s)
                if row is not None:
                    found.setdefault(language, {})[f"{taught_s:g}"] = row
        return found

    def _new_language(
        self, language: str, voices: Sequence[Voice], known: Sequence[Voice], taught_s: float
    ) -> dict[str, Any] | None:
        lessons, rest, left_s = [], list[Windows](), taught_s
        for voice in sorted(voices, key=lambda v: -v.said_s):
            windows = voice.heard[CLEAN, MAIN_S]
            own_s = min(left_s, max(0.0, voice.said_s - REST_S), 0.7 * voice.said_s)
            if own_s >= MAIN_S:
                lessons.append(voice.lesson(language, 0, own_s))
                left_s -= own_s
            rest.append(windows.where(windows.start_s >= own_s).apart(MAIN_S))
        if left_s > taught_s / 4 or not lessons:
            return None
        judge, strength = self._learnt(lessons)
        before = Judge(self.model.labels)
        if strength == 0.0:
            return {"refused": True}
        new = judge.labels.index(language)
        answers = np.concatenate([judge.answers(windows) for windows in rest])
        errors = {}
        for name, one in (("before", before), ("after", judge)):
            wrong: dict[str, list[np.ndarray]] = defaultdict(list)
            for voice in known:
                windows = voice.heard[CLEAN, MAIN_S].apart(MAIN_S)
                wrong[voice.language].append(one.wrong(voice.language, windows))
            errors[name] = mean_by_class(wrong)
        return {
            "taught_s": round(taught_s - left_s, 1),
            "found": round(float((answers == new).mean()), 4),
            "known_before": errors["before"],
            "known_after": errors["after"],
            "strength": strength,
        }

    def music(self) -> dict[str, Any]:
        """What becomes of music that is taught as a language."""
        nonspeech = self.model.labels.index(NONSPEECH)
        pooled, total = list[Int8Array](), 0
        recordings = [
            noise
            for split in ("test", "train")
            for noise in read_noise(self._noise, split)
            if "music" in noise.kind
        ]
        for noise in recordings:
            samples = read_audio(self._noise / noise.path, 60.0)
            windows = self._hearing.windows(samples)[LENGTHS_S.index(MAIN_S)]
            if not len(windows.pooled):
                continue
            temperature = self.model.description.calibration.temperature(MAIN_S)
            logits = windows.scores / temperature
            likely = np.exp(logits - logits.max(axis=1, keepdims=True))
            silence = likely[:, nonspeech] / likely.sum(axis=1)
            total += len(silence)
            pooled += list(windows.pooled[silence < SPEECH])
        row: dict[str, Any] = {"windows": total, "taken_for_speech": len(pooled)}
        homes = [*self._drawn(min(TAUGHT_S))][:5]
        if pooled and homes:
            spoilt = Lesson(self.model.languages[0], 0.0, RECORDING, np.stack(pooled[:120]))
            before, rows = Judge(self.model.labels), defaultdict[str, list[list[float]]](list)
            for home in homes:
                lessons = [voice.lesson(voice.language, 0, min(TAUGHT_S)) for voice in home]
                after, _ = self._learnt([*lessons, spoilt])
                for name, errors in self._errors(home, min(TAUGHT_S), before, after):
                    rows[name].append(errors)
            row |= {n: np.round(np.mean(errors, axis=0), 4).tolist() for n, errors in rows.items()}
        return row

    def cost(self) -> dict[str, float]:
        """Time to adapt to so many windows, and the memory that takes beside what is there."""
        able = self._by_taught[min(TAUGHT_S)]
        lessons = [voice.lesson(voice.language, 0, MOST_S) for voice in able]
        book = Book.of_model(self.model)
        for lesson in lessons:
            room = LESSONS - book.windows
            if room > 0 and len(lesson.windows):
                book = book.with_lesson(dataclasses.replace(lesson, windows=lesson.windows[:room]))
        if not book.lessons:
            return {}
        began_s = time.process_time()
        with contextlib.suppress(TooDear):
            adapt(self.model, self._graphs, book)
        return {
            "windows": book.windows,
            "processor_s": round(time.process_time() - began_s, 2),
            "memory_mb": round(_needed_mb(lambda: adapt(self.model, self._graphs, book)), 1),
        }


def _needed_mb(work: Callable[[], object]) -> float:
    """What work takes of memory at most: arrays of numpy are counted, too."""
    tracemalloc.start()
    try:
        with contextlib.suppress(TooDear):
            work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def targets(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What lessons are meant to reach, what they reach, and whether that is enough.

    Parameters
    ----------
    report : dict
        The rest of it; where too few people speak for long enough, there is less to judge.

    Returns
    -------
    list of dict
        ``measure`` and ``target`` in words, ``before`` and ``after`` as shares of errors (or what
        it took, as ``after``), and whether it is ``met``.
    """
    found: list[dict[str, Any]] = []

    def judge(measure: str, target: str, pair: Sequence[float], most: float) -> None:
        before, after = pair
        row = {"measure": measure, "target": target, "before": before, "after": after}
        found.append({**row, "met": after <= most + 1e-9})

    part, spoilt = report["households"].get(f"{JUDGED_S:g}"), report["wrong_labels"]
    if part:
        pair = part[f"taught, {MAIN_S:g} s"]
        judge("the voices taught", "halved", pair, pair[0] / 2)
        pair = part.get(SAME, (0.0, 0.0))
        judge("others who speak the same languages", "not worse", pair, pair[0])
        pair = part[OTHERS]
        judge("all other speech", "at most 1 point lost", pair, pair[0] + MOST_LOST)
    if spoilt:
        pair = spoilt[f"taught, {MAIN_S:g} s"]
        judge(f"{WRONG_SHARE:.0%} of the labels wrong", "not worse", pair, pair[0])
    cost = report["cost"]
    if cost:
        limits = (("processor_s", MOST_PROCESSOR_S, "s of a core"), ("memory_mb", MOST_MB, "MB"))
        for name, most, unit in limits:
            measure, target = f"to adapt to {cost['windows']} windows, {unit}", f"under {most:g}"
            row = {"measure": measure, "target": target, "before": None, "after": cost[name]}
            found.append({**row, "met": cost[name] < most})
    return found


def _rows(rows: pl.DataFrame, settings: Personal) -> pl.DataFrame:
    if settings.split != DEV:
        return rows.filter(pl.col("split") == settings.split)
    rows = rows.filter(pl.col("split") != TEST)
    check_sources(rows, settings.development)
    _, held = divide(rows, settings.development)
    return rows[held]


def _mislabelled(
    lessons: Sequence[Lesson], languages: Sequence[str], share: float, chance: np.random.Generator
) -> Iterator[Lesson]:
    """With a share of the windows under another language of the model."""
    for lesson in lessons:
        wrong = chance.random(len(lesson.windows)) < share
        yield dataclasses.replace(lesson, windows=lesson.windows[~wrong])
        others = [language for language in languages if language != lesson.language]
        claimed = chance.integers(len(others), size=len(lesson.windows))
        for i in np.unique(claimed[wrong]):
            windows = lesson.windows[wrong & (claimed == i)]
            yield dataclasses.replace(lesson, language=others[i], windows=windows)


def evaluate_personal(settings: Personal) -> dict[str, Any]:
    """What lessons bring to simulated households; see the module.

    Raises
    ------
    EdgelidError
        If the model carries no anchors, or there are too few speakers with enough speech.
    """
    evaluation = Evaluation(settings)
    report = evaluation.report()
    if not any(report["households"].values()):
        raise EdgelidError(
            f"no {len(PEOPLE)} speakers of different languages in the split {settings.split} say "
            f"{min(TAUGHT_S) + REST_S:g} s each: give another corpus"
        )
    return report
