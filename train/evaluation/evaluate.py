"""Evaluation of a model file: int8, through the very code that listens on the device."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from edge.errors import EdgelidError
from edge.frontend import Float64Array
from edge.model.modelfile import DecoderDefaults, ModelFile, read_model
from edge.opinion.expert import ExpertFile
from train.corpus.cuts import SEED, Cut, balanced, cuts
from train.corpus.manifest import Clip, Manifest, check_files, open_manifest
from train.evaluation.conditions import CLEAN, SPLIT, TITLES, Sounds, choose, find_sounds
from train.evaluation.inference import (
    Scorer,
    Setup,
    StreamRecipe,
    Trial,
    Workers,
    score_trials,
)
from train.evaluation.metrics import DRAWS
from train.evaluation.open_set import (
    detection_curve,
    noise_report,
    operating_point,
    strangers_error_rate,
    threshold_rejecting,
)
from train.evaluation.scores import (
    Scored,
    among,
    compare,
    difference,
    draws_of,
    languages_report,
    open_report,
    summary,
    trial_curve,
)
from train.evaluation.streams import score_streams
from train.evaluation.yardstick import Yardstick, read_yardstick
from train.features.noise import read_noise
from train.features.synthetic_noise import sounds_of

log = logging.getLogger(__name__)

CONDITION_S = 3.0  # of speech, in conditions other than clean and for the open set
STREAM_S = 300.0


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate.

    Attributes
    ----------
    model : Path
        Model file.
    corpus : Path
        Manifest, or the folder of a corpus.
    split : str
    durations_s : sequence of float
        Of speech.
    per_language : int or None
        Cuts of each language and duration, and windows of each kind of noise, at most.
    conditions : sequence of str or None
        Besides clean, of `train.evaluation.conditions.TITLES`; None for all.
    streams : int
        Long recordings to follow.
    yardstick : Path or None
        Report of `train.evaluation.yardstick` to compare with.
    workers : int
        Processes.
    sounds : Path or None
        Folder that holds ``noise`` and ``rir``: see `train.features.synthetic_noise`.
    second_opinion : str
        Large model that is asked, too, as in `edgelid classify` and `edgelid listen`, which then
        is what is scored; empty for none.
    """

    model: Path
    corpus: Path
    split: str = "test"
    durations_s: Sequence[float] = (1.0, 3.0, 5.0, 10.0)
    per_language: int | None = None
    conditions: Sequence[str] | None = None
    streams: int = 4
    yardstick: Path | None = None
    workers: int = 1
    sounds: Path | None = None
    second_opinion: str = ""

    def check(self) -> None:
        """Raise EdgelidError unless there is something to do."""
        if not self.durations_s or (self.per_language is not None and self.per_language < 1):
            raise EdgelidError("there is nothing to score: give a duration, and at least one cut")
        if self.workers < 1:
            raise EdgelidError("--workers must be at least 1")
        if self.streams < 0:
            raise EdgelidError("--streams must be at least 0")

    @property
    def condition_s(self) -> float:
        """Duration of the cuts that conditions and the open set are tested with."""
        return CONDITION_S if CONDITION_S in self.durations_s else max(self.durations_s)


@dataclass(frozen=True)
class _Material:
    """What an evaluation is made on.

    Attributes
    ----------
    clips : list of Clip
        Human speech of the split.
    known : dict of float to list of Cut
        In the model's languages, by duration.
    strangers : list of Cut
        In no language of the model, as long as the conditions are tested with.
    conditions : list of str
    sounds : Sounds
    manifest : Manifest
    noise : Path
        Folder of the noise.
    """

    clips: list[Clip]
    known: dict[float, list[Cut]]
    strangers: list[Cut]
    conditions: list[str]
    sounds: Sounds
    manifest: Manifest
    noise: Path


def evaluate_model(evaluation: Evaluation) -> dict[str, Any]:
    """Score a model file on a split of a corpus.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    dict
        ``durations`` maps a duration to reports: ``languages`` (the model restricted to its
        languages), ``open`` (all classes possible) and ``yardstick`` (on the cuts that it
        has). ``conditions``, ``open_set``, ``noise`` and ``streams`` are of one duration each.

    Raises
    ------
    EdgelidError
        If the model, the corpus or its noise cannot be read, or the split has no speech of that
        length.
    """
    evaluation.check()
    model = read_model(evaluation.model)
    yardstick = read_yardstick(evaluation.yardstick) if evaluation.yardstick else None
    material = _material(evaluation, model)
    evaluation = replace(evaluation, durations_s=tuple(material.known))
    if yardstick:
        _check_yardstick(yardstick, evaluation, material)
    second = evaluation.second_opinion
    if second:  # its faults are told before work begins
        ExpertFile(second, model.labels)
    setup = Setup(evaluation.model, material.manifest.root, material.sounds, material.noise, second)
    with Workers(setup, evaluation.workers) as workers:
        scored, strangers = _score(evaluation, material, model.labels, workers)
        noise = _score_noise(evaluation, material, workers)
        streams = _follow(evaluation, material, model.description.decoder, workers)
    base = evaluation.condition_s
    clean = scored[CLEAN, base]
    report: dict[str, Any] = {
        **_origin(evaluation, material, model, yardstick),
        "condition_duration_s": base,
        "durations": {
            f"{duration_s:g}": _duration(scored[CLEAN, duration_s], model.languages, yardstick)
            for duration_s in evaluation.durations_s
        },
        "conditions": {
            name: _condition(name, scored[name, base], clean, model.languages)
            for name in material.conditions
        },
        "detection_curve": trial_curve(among(clean, model.languages)),
    }
    known = _confidence(clean.log_probabilities, model)
    if strangers is not None:
        report["open_set"] = _open_set(known, clean.cuts, strangers, material.strangers, model)
    if noise:
        heard = {kind: _confidence(scores, model) for kind, scores in noise.items()}
        report["noise"] = noise_report(known, heard, model.description.decoder.confidence)
    if streams:
        report["streams"] = streams
    return report


def _check_yardstick(yardstick: Yardstick, evaluation: Evaluation, material: _Material) -> None:
    every_cut = [cut for found in material.known.values() for cut in found]
    if not any(map(yardstick.has, every_cut)):
        raise EdgelidError(
            f"the yardstick {evaluation.yardstick} has none of these cuts: "
            "let train.evaluation.yardstick score the same split of the same corpus"
        )


def _origin(
    evaluation: Evaluation, material: _Material, model: ModelFile, yardstick: Yardstick | None
) -> dict[str, Any]:
    """What has been scored on what."""
    return {
        "model": model.description.name,
        "sha256": model.sha256,
        "bytes": evaluation.model.stat().st_size,
        "labels": list(model.labels),
        "split": evaluation.split,
        "manifest_sha256": hashlib.sha256(material.manifest.file.read_bytes()).hexdigest(),
        "seed": SEED,
        "per_language": evaluation.per_language,
        "bootstrap_draws": DRAWS,
        "yardstick": yardstick.name if yardstick else None,
        **({"second_opinion": evaluation.second_opinion} if evaluation.second_opinion else {}),
    }


def _duration(
    everything: Scored, languages: Sequence[str], yardstick: Yardstick | None
) -> dict[str, Any]:
    """The figures of cuts of one length."""
    closed = among(everything, languages)
    # The cuts are known to be speech, and the yardstick knows no silence.
    entry = {"languages": languages_report(closed), "open": open_report(everything)}
    compared = compare(closed, yardstick) if yardstick else None
    if compared:
        entry["yardstick"] = compared
    return entry


def _condition(
    name: str, scored: Scored, clean: Scored, languages: Sequence[str]
) -> dict[str, Any]:
    closed = among(scored, languages)
    everything = open_report(scored)
    return {
        "title": TITLES[name],
        **summary(closed),
        "from_clean": difference(closed, among(clean, languages)),
        "open": {name: everything[name] for name in ("accuracy", "balanced_accuracy", "ece")},
    }


def _material(evaluation: Evaluation, model: ModelFile) -> _Material:
    manifest = open_manifest(evaluation.corpus)
    clips = manifest.where(pl.col("split") == evaluation.split, pl.col("kind") == "human").clips()
    found = {
        duration_s: _cuts_of(clips, duration_s, evaluation.per_language)
        for duration_s in evaluation.durations_s
    }
    known = {
        duration_s: [cut for cut in each if cut.language in model.languages]
        for duration_s, each in found.items()
    }
    missing = [f"{duration_s:g}" for duration_s, each in known.items() if not each]
    if len(missing) == len(known):
        raise EdgelidError(
            f"split {evaluation.split} has no {missing[0]} s of speech of any speaker in the "
            "model's languages"
        )
    if missing:
        log.warning(
            "nobody in split %s speaks for %s s: nothing is scored at that length",
            evaluation.split,
            ", ".join(missing),
        )
    known = {duration_s: each for duration_s, each in known.items() if each}
    condition_s = replace(evaluation, durations_s=tuple(known)).condition_s
    strangers = [cut for cut in found[condition_s] if cut.language not in model.labels]
    check_files(clips, manifest.root)
    folder = sounds_of(manifest.root, evaluation.sounds)
    sounds = find_sounds(folder)
    conditions = choose(evaluation.conditions, sounds)
    return _Material(clips, known, strangers, conditions, sounds, manifest, folder / "noise")


def _cuts_of(clips: list[Clip], duration_s: float, per_language: int | None) -> list[Cut]:
    found = cuts(clips, duration_s=duration_s, seed=SEED)
    if per_language is None:
        return found
    return balanced(found, per_language=per_language, seed=SEED)


def _score(
    evaluation: Evaluation, material: _Material, labels: tuple[str, ...], workers: Workers
) -> tuple[dict[tuple[str, float], Scored], Float64Array | None]:
    """Answers for the known cuts by condition and duration, and for the strangers."""
    base = evaluation.condition_s
    sets = [(CLEAN, duration_s) for duration_s in evaluation.durations_s]
    sets += [(name, base) for name in material.conditions if name != CLEAN]
    trials = [Trial(cut, name) for name, d in sets for cut in material.known[d]]
    trials += [Trial(cut, CLEAN) for cut in material.strangers]
    scores = score_trials(workers, trials, "cuts")
    scored, at = {}, 0
    for name, duration_s in sets:
        found = material.known[duration_s]
        scored[name, duration_s] = Scored(found, scores[at : at + len(found)], labels)
        at += len(found)
    return scored, scores[at:] if material.strangers else None


def _score_noise(
    evaluation: Evaluation, material: _Material, workers: Workers
) -> dict[str, Float64Array]:
    """Answers for windows of noise and music, by the kinds that are long enough for any."""
    folder = material.noise
    clips = [clip for clip in read_noise(folder, SPLIT) if not clip.has_speech]
    jobs = [(folder / clip.path, evaluation.condition_s) for clip in clips]
    found: dict[str, list[Float64Array]] = {}
    for clip, scores in zip(clips, workers.map(Scorer.noise, jobs, "noise"), strict=True):
        if len(scores):
            found.setdefault(clip.kind, []).append(scores)
    return {kind: np.concatenate(s)[: evaluation.per_language] for kind, s in found.items()}


def _follow(
    evaluation: Evaluation, material: _Material, decoder: DecoderDefaults, workers: Workers
) -> dict[str, Any] | None:
    """How the decoder follows streams of the split's speech."""
    if not evaluation.streams:
        return None
    noises = read_noise(material.noise, SPLIT)
    recipes = [
        StreamRecipe(tuple(material.clips), tuple(noises), STREAM_S, seed)
        for seed in range(evaluation.streams)
    ]
    followed = workers.map(Scorer.stream, recipes, "streams")
    score = score_streams([truth for truth, _ in followed], [found for _, found in followed])
    length_s = sum(truth[-1].end_s for truth, _ in followed)
    return {
        "streams": len(followed),
        "minutes": round(length_s / 60, 2),
        "decoder": asdict(decoder),
        **score.as_dict(),
    }


def _confidence(log_probabilities: Float64Array, model: ModelFile) -> Float64Array:
    """Probability of the likeliest language, all classes being possible, (cuts,)."""
    columns = [model.labels.index(language) for language in model.languages]
    return np.asarray(np.exp(log_probabilities[:, columns]).max(axis=1))


def _open_set(
    known: Float64Array,
    known_cuts: Sequence[Cut],
    scores: Float64Array,
    stranger_cuts: Sequence[Cut],
    model: ModelFile,
) -> dict[str, Any]:
    strangers = _confidence(scores, model)
    decoder = model.description.decoder.confidence
    weights = draws_of(known_cuts), draws_of(stranger_cuts)
    accepted = strangers >= decoder
    languages = np.array([cut.language for cut in stranger_cuts])
    return {
        "known": len(known),
        "strangers": len(strangers),
        "at_decoder_confidence": operating_point(decoder, known, strangers, *weights),
        "at_10_percent_rejected": operating_point(
            threshold_rejecting(known), known, strangers, *weights
        ),
        "equal_error_rate": strangers_error_rate(known, strangers),
        "by_language": {
            str(language): {
                "cuts": int((languages == language).sum()),
                "accepted": round(float(accepted[languages == language].mean()), 4),
            }
            for language in np.unique(languages)
        },
        "curve": detection_curve(known, strangers),
    }
