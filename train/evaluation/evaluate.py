"""Evaluation of a model file: int8, through the very code that listens on the device."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
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
from train.corpus.manifest import (
    DEV,
    TEST,
    Clip,
    Manifest,
    check_files,
    clips_of,
    open_manifest,
)
from train.evaluation.budget import Cost, cost_of, cuts_by_budget, streams_by_budget
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
    POINTS,
    detection_curve,
    noise_report,
    operating_point,
    strangers_error_rate,
    threshold_rejecting,
)
from train.evaluation.pairs import pairs_report
from train.evaluation.scores import (
    Scored,
    among,
    compare,
    difference,
    draws_of,
    languages_report,
    open_report,
    open_summary,
    summary,
    trial_curve,
)
from train.evaluation.streams import OF_SEGMENTS, classes_of, score_streams
from train.evaluation.yardstick import Yardstick, read_yardstick
from train.features.noise import read_noise
from train.features.synthetic_noise import sounds_of
from train.fit.training_data import check_sources, divide

log = logging.getLogger(__name__)

CONDITION_S = 3.0  # of speech, in conditions other than clean and for the open set
STREAM_S = 300.0
HOME_S = 900.0  # of a stream of two languages: until it is known which they are, and on


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
        is what is scored, with the large model alone beside it; empty for none.
    held_out : Mapping or None
        Sources by language that were held out of training for decisions: with the split ``dev``
        all of their speech is scored, too.
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
    held_out: Mapping[str, Sequence[str]] | None = None

    def check(self) -> None:
        """Raise EdgelidError unless there is something to do."""
        if not self.durations_s or (self.per_language is not None and self.per_language < 1):
            raise EdgelidError("there is nothing to score: give a duration, and at least one cut")
        if self.workers < 1:
            raise EdgelidError("--workers must be at least 1")
        if self.streams < 0:
            raise EdgelidError("--streams must be at least 0")
        if self.held_out is not None and self.split != DEV:
            raise EdgelidError("--held-out is about decisions: give it with --split dev")

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
    synthetic : dict of float to list of Cut
        Synthetic speech of the split in these, if there is any.
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
    synthetic: dict[float, list[Cut]]
    strangers: list[Cut]
    conditions: list[str]
    sounds: Sounds
    manifest: Manifest
    noise: Path


# For the known cuts by condition and duration, and for the strangers, if there are any.
Answers = tuple[dict[tuple[str, float], Scored], Scored | None]


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
        has), ``pairs`` (of languages) and ``synthetic`` (speech made by machines, which
        no other figure is of). Of a model that streams, its first two figures, each of
        ``conditions`` and ``open_set`` have ``recordings``: the main figures of the same cuts as
        `edgelid classify` hears them. ``conditions``, ``open_set``, ``noise`` and ``streams`` are
        of one duration each; ``streams_of_two`` are of two languages each, as in a home. Of both
        kinds of streams ``recordings`` says how `edgelid classify` divides them.
        ``detection_curve`` is about which of several languages is spoken.
        ``ceiling`` has the large model alone, where one gives second opinions.

    Raises
    ------
    EdgelidError
        If the model, the corpus or its noise cannot be read, or the split has no speech of that
        length.
    """
    evaluation.check()
    model = read_model(evaluation.model)
    material = _material(evaluation, model)
    yardstick = None
    if evaluation.yardstick:
        yardstick = read_yardstick(evaluation.yardstick, material.manifest.root)
    evaluation = replace(evaluation, durations_s=tuple(material.known))
    if yardstick:
        _check_yardstick(yardstick, evaluation, material, model.languages)
    if evaluation.streams and len(classes_of(material.clips, model.labels)) < 2:
        log.warning(
            "all speech in split %s is of one class: no stream that changes language is followed",
            evaluation.split,
        )
        evaluation = replace(evaluation, streams=0)
    second = evaluation.second_opinion
    # Its faults are told before work begins.
    expert = ExpertFile(second, model.labels) if second else None
    cost = None if expert is None else cost_of(expert)
    setup = Setup(evaluation.model, material.manifest.root, material.sounds, material.noise, second)
    with Workers(setup, evaluation.workers) as workers:
        as_recordings: dict[tuple[str, float], Scored] = {}
        strangers_as_recordings: Scored | None = None
        does_stream = model.description.mode == "stream"
        if does_stream and expert is None:
            (scored, strangers), (as_recordings, strangers_as_recordings) = _score_both_ways(
                evaluation, material, model.labels, workers
            )
        else:
            scored, strangers = _score(evaluation, material, model.labels, workers)
        synthetic = _score_synthetic(material, model.labels, workers)
        noise = _score_noise(evaluation, material, workers)
        recipes, decoder = _recipes(evaluation, material), model.description.decoder
        streams = _follow(recipes, decoder, workers, "streams", does_stream)
        homes = _homes(recipes, material, model)
        of_two = _follow(homes, decoder, workers, "streams of two languages", does_stream)
        if cost is not None:
            score, what = Scorer.trials_by_large, "cuts, the large model alone"
            large, more = _score(evaluation, material, model.labels, workers, score, what)
            budget = _by_budget(evaluation, material, model, scored, large, workers, cost, recipes)
    base = evaluation.condition_s
    clean = scored[CLEAN, base]

    def duration(duration_s: float) -> dict[str, Any]:
        found = scored[CLEAN, duration_s]
        made = synthetic.get(duration_s)
        entry = _duration(found, made, model.languages, yardstick, together=bool(second))
        if recordings := as_recordings.get((CLEAN, duration_s)):
            entry["recordings"] = {
                "languages": summary(among(recordings, model.languages)),
                "open": open_summary(recordings),
            }
        return entry

    def condition(name: str) -> dict[str, Any]:
        entry = _condition(scored[name, base], clean, model.languages)
        if recordings := as_recordings.get((name, base)):
            entry["recordings"] = _condition(
                recordings, as_recordings[CLEAN, base], model.languages
            )
        return {"title": TITLES[name], **entry}

    report: dict[str, Any] = {
        **_origin(evaluation, material, model, yardstick),
        "condition_duration_s": base,
        "durations": {f"{d:g}": duration(d) for d in evaluation.durations_s},
        "conditions": {name: condition(name) for name in material.conditions},
    }
    if len(model.languages) > 1:
        report["detection_curve"] = trial_curve(among(clean, model.languages))
    threshold = model.description.decoder.confidence
    if strangers is not None:
        report["open_set"] = _open_set(clean, strangers, model.languages, threshold)
        if strangers_as_recordings is not None:
            report["open_set"]["recordings"] = _operating_points(
                as_recordings[CLEAN, base], strangers_as_recordings, model.languages, threshold
            )
    if noise:
        known = _confidence(clean, model.languages)
        heard = {
            kind: _confidence(Scored([], scores, model.labels), model.languages)
            for kind, scores in noise.items()
        }
        report["noise"] = noise_report(known, heard, threshold)
    if streams:
        report["streams"] = streams
    if of_two:
        report["streams_of_two"] = of_two
    if expert is not None:
        by_large = read_model(expert.path)
        report["ceiling"] = _ceiling(evaluation, by_large, large, more, model.languages)
        report["budget"] = budget
    return report


def _check_yardstick(
    yardstick: Yardstick, evaluation: Evaluation, material: _Material, languages: Sequence[str]
) -> None:
    """Refuse before the work what could not be compared after it."""
    yardstick.check_knows(languages)
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
        "bytes": model.size_bytes,
        "labels": list(model.labels),
        "split": evaluation.split,
        "manifest_sha256": hashlib.sha256(material.manifest.file.read_bytes()).hexdigest(),
        "seed": SEED,
        "per_language": evaluation.per_language,
        "bootstrap_draws": DRAWS,
        "yardstick": yardstick.name if yardstick else None,
        **({"second_opinion": evaluation.second_opinion} if evaluation.second_opinion else {}),
        **({} if evaluation.held_out is None else {"held_out": _plain(evaluation.held_out)}),
    }


def _plain(held_out: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {language: list(sources) for language, sources in held_out.items()}


def _duration(
    everything: Scored,
    synthetic: Scored | None,
    languages: Sequence[str],
    yardstick: Yardstick | None,
    together: bool,
) -> dict[str, Any]:
    """The figures of cuts of one length."""
    closed = among(everything, languages)
    # The cuts are known to be speech, and the yardstick knows no silence.
    entry = {"languages": languages_report(closed), "open": open_report(everything)}
    pairs = pairs_report(everything, languages, together)
    if pairs:
        entry["pairs"] = pairs
    if synthetic is not None:
        entry["synthetic"] = languages_report(among(synthetic, languages))
    compared = compare(closed, yardstick) if yardstick else None
    if compared:
        entry["yardstick"] = compared
    return entry


def _condition(scored: Scored, clean: Scored, languages: Sequence[str]) -> dict[str, Any]:
    closed = among(scored, languages)
    everything = open_summary(scored)
    return {
        **summary(closed),
        "from_clean": difference(closed, among(clean, languages)),
        "open": {name: everything[name] for name in ("accuracy", "balanced_accuracy", "ece")},
    }


def _material(evaluation: Evaluation, model: ModelFile) -> _Material:
    manifest = open_manifest(evaluation.corpus)
    every_clip = clips_to_score(manifest, evaluation.split, evaluation.held_out)
    clips = [clip for clip in every_clip if clip.kind == "human"]
    made = [
        clip for clip in every_clip if clip.kind != "human" and clip.language in model.languages
    ]
    found = {
        duration_s: _cuts(clips, duration_s, evaluation.per_language)
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
    synthetic = {
        duration_s: _cuts(made, duration_s, evaluation.per_language) for duration_s in known
    }
    condition_s = replace(evaluation, durations_s=tuple(known)).condition_s
    strangers = [cut for cut in found[condition_s] if cut.language not in model.labels]
    check_files([*clips, *made], manifest.root)
    folder = sounds_of(manifest.root, evaluation.sounds)
    sounds = find_sounds(folder)
    conditions = choose(evaluation.conditions, sounds)
    return _Material(
        clips, known, synthetic, strangers, conditions, sounds, manifest, folder / "noise"
    )


def clips_to_score(
    manifest: Manifest, split: str, held_out: Mapping[str, Sequence[str]] | None
) -> list[Clip]:
    """What the split has, and what else was held out of training."""
    if held_out is None:
        return manifest.where(pl.col("split") == split).clips()
    rows = manifest.rows.filter(pl.col("split") != TEST)
    check_sources(rows, held_out)
    return clips_of(rows[divide(rows, held_out)[1]])


def _cuts(clips: list[Clip], duration_s: float, per_language: int | None) -> list[Cut]:
    found = cuts(clips, duration_s=duration_s, seed=SEED)
    if per_language is None:
        return found
    return balanced(found, per_language=per_language, seed=SEED)


def _score(
    evaluation: Evaluation,
    material: _Material,
    labels: tuple[str, ...],
    workers: Workers,
    score: Callable[[Scorer, list[Trial]], Float64Array] = Scorer.trials,
    what: str = "cuts",
) -> Answers:
    """Answers for the known cuts and the strangers."""
    scores = score_trials(workers, _trials(evaluation, material), what, score)
    return _by_set(evaluation, material, labels, scores)


def _score_both_ways(
    evaluation: Evaluation, material: _Material, labels: tuple[str, ...], workers: Workers
) -> tuple[Answers, Answers]:
    """The same as streams begin, and as recordings, of cuts that are read and disturbed once."""
    trials = _trials(evaluation, material)
    scores = score_trials(workers, trials, "cuts", Scorer.trials_both_ways)
    begun, whole = (_by_set(evaluation, material, labels, scores[:, way]) for way in range(2))
    return begun, whole


def _sets(evaluation: Evaluation, material: _Material) -> list[tuple[str, float]]:
    """Conditions and durations of the known cuts."""
    base = evaluation.condition_s
    return [
        *((CLEAN, duration_s) for duration_s in evaluation.durations_s),
        *((name, base) for name in material.conditions if name != CLEAN),
    ]


def _trials(evaluation: Evaluation, material: _Material) -> list[Trial]:
    """Of all sets, one after another, and then of the strangers."""
    sets = _sets(evaluation, material)
    trials = [Trial(cut, name) for name, d in sets for cut in material.known[d]]
    return trials + [Trial(cut, CLEAN) for cut in material.strangers]


def _by_set(
    evaluation: Evaluation, material: _Material, labels: tuple[str, ...], scores: Float64Array
) -> Answers:
    """Scores of `_trials`, (trials, classes), divided again."""
    scored, at = {}, 0
    for name, duration_s in _sets(evaluation, material):
        found = material.known[duration_s]
        scored[name, duration_s] = Scored(found, scores[at : at + len(found)], labels)
        at += len(found)
    strangers = Scored(material.strangers, scores[at:], labels)
    return scored, strangers if material.strangers else None


def _score_synthetic(
    material: _Material, labels: tuple[str, ...], workers: Workers
) -> dict[float, Scored]:
    """Answers for synthetic speech, by the durations that it has."""
    found = {duration_s: some for duration_s, some in material.synthetic.items() if some}
    if not found:
        return {}
    trials = [Trial(cut, CLEAN) for some in found.values() for cut in some]
    scores = score_trials(workers, trials, "synthetic")
    parts = np.split(scores, np.cumsum([len(some) for some in found.values()])[:-1])
    return {
        duration_s: Scored(some, part, labels)
        for (duration_s, some), part in zip(found.items(), parts, strict=True)
    }


def _ceiling(
    evaluation: Evaluation,
    model: ModelFile,
    scored: dict[tuple[str, float], Scored],
    strangers: Scored | None,
    languages: Sequence[str],
) -> dict[str, Any]:
    """What the large model knows by itself, of the same cuts."""
    report: dict[str, Any] = {
        "model": model.description.name,
        "sha256": model.sha256,
        "durations": {},
    }
    for duration_s in evaluation.durations_s:
        found = scored[CLEAN, duration_s]
        pairs = pairs_report(found, languages)
        entry = {
            "languages": languages_report(among(found, languages)),
            **({"pairs": pairs} if pairs else {}),
        }
        report["durations"][f"{duration_s:g}"] = entry
    if strangers is not None:
        known = scored[CLEAN, evaluation.condition_s]
        threshold = model.description.decoder.confidence
        report["open_set"] = _operating_points(known, strangers, languages, threshold)
    return report


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
    recipes: Sequence[StreamRecipe],
    decoder: DecoderDefaults,
    workers: Workers,
    what: str,
    as_recordings: bool,
) -> dict[str, Any] | None:
    """How the decoder follows streams, and how they are divided as recordings."""
    if not recipes:
        return None
    followed = workers.map(Scorer.stream, recipes, what)
    score = score_streams([truth for truth, _ in followed], [found for _, found in followed])
    length_s = sum(truth[-1].end_s for truth, _ in followed)
    found = {
        "streams": len(followed),
        "minutes": round(length_s / 60, 2),
        "decoder": asdict(decoder),
        **score.as_dict(),
    }
    if as_recordings:
        divided = workers.map(Scorer.divided, recipes, f"{what}, as recordings")
        score = score_streams([truth for truth, _ in divided], [told for _, told in divided])
        measures = score.as_dict()
        found["recordings"] = {name: measures[name] for name in OF_SEGMENTS}
    return found


def _recipes(evaluation: Evaluation, material: _Material) -> list[StreamRecipe]:
    """Streams of all of the split's speech."""
    if not evaluation.streams:
        return []
    noises = tuple(read_noise(material.noise, SPLIT))
    return [
        StreamRecipe(tuple(material.clips), noises, STREAM_S, seed)
        for seed in range(evaluation.streams)
    ]


def _homes(
    recipes: Sequence[StreamRecipe], material: _Material, model: ModelFile
) -> list[StreamRecipe]:
    """As many streams of two of the model's languages each, one pair after another."""
    spoken = sorted({clip.language for clip in material.clips}.intersection(model.languages))
    pairs = list(itertools.combinations(spoken, 2))
    np.random.default_rng(SEED).shuffle(pairs)
    return [
        replace(
            recipe,
            clips=tuple(clip for clip in recipe.clips if clip.language in pair),
            duration_s=HOME_S,
        )
        for recipe, pair in zip(recipes, itertools.cycle(pairs), strict=False)
    ]


def _by_budget(
    evaluation: Evaluation,
    material: _Material,
    model: ModelFile,
    both: dict[tuple[str, float], Scored],
    large: dict[tuple[str, float], Scored],
    workers: Workers,
    cost: Cost,
    recipes: Sequence[StreamRecipe],
) -> dict[str, Any]:
    """What each model says alone, and what a share of a core brings on the way between them."""
    known = replace(material, strangers=[])
    score, what = Scorer.trials_by_compact, "cuts, the compact model alone"
    alone, _ = _score(evaluation, known, model.labels, workers, score, what)

    def curves(name: str, duration_s: float) -> dict[str, Any]:
        key = name, duration_s
        return cuts_by_budget(alone[key], both[key], large[key], model.languages, duration_s, cost)

    found: dict[str, Any] = {
        **cost.as_dict(),
        "durations": {f"{d:g}": curves(CLEAN, d) for d in evaluation.durations_s},
        "conditions": {name: curves(name, evaluation.condition_s) for name in material.conditions},
    }
    if recipes:
        compact = workers.map(Scorer.stream_by_compact, recipes, "streams, the compact model alone")
        found["streams"] = streams_by_budget(recipes, compact, workers, cost.large_share)
    return found


def _by_language(scored: Scored, languages: Sequence[str]) -> Float64Array:
    """Probabilities of the languages, all classes being possible, (cuts, languages)."""
    columns = [scored.labels.index(language) for language in languages]
    return np.asarray(scored.probabilities[:, columns])


def _confidence(scored: Scored, languages: Sequence[str]) -> Float64Array:
    """Probability of the likeliest language, all classes being possible, (cuts,)."""
    return np.asarray(_by_language(scored, languages).max(axis=1))


def _known(scored: Scored, languages: Sequence[str]) -> Float64Array:
    """Probability that it is one of the languages, whichever, (cuts,)."""
    return np.asarray(_by_language(scored, languages).sum(axis=1))


def _open_set(
    known: Scored, strangers: Scored, languages: Sequence[str], threshold: float
) -> dict[str, Any]:
    """How well other languages are kept out, at the decoder's threshold and others."""
    inside, outside = (_confidence(some, languages) for some in (known, strangers))
    accepted = outside >= threshold
    spoken = np.array([cut.language for cut in strangers.cuts])
    return {
        "known": len(inside),
        "strangers": len(outside),
        **_operating_points(known, strangers, languages, threshold),
        "equal_error_rate": strangers_error_rate(inside, outside),
        "by_language": {
            str(language): {
                "cuts": int((spoken == language).sum()),
                "accepted": round(float(accepted[spoken == language].mean()), 4),
            }
            for language in np.unique(spoken)
        },
        "curve": detection_curve(inside, outside),
    }


def _operating_points(
    known: Scored, strangers: Scored, languages: Sequence[str], threshold: float
) -> dict[str, Any]:
    """Those of `train.evaluation.open_set.POINTS`.

    By the confidence, as answers are, and by how likely it is that any of the languages is
    spoken: a model may well know that without knowing which.
    """
    by_confidence = [_confidence(some, languages) for some in (known, strangers)]
    together = [_known(some, languages) for some in (known, strangers)]
    weights = draws_of(known.cuts), draws_of(strangers.cuts)
    points = (
        (threshold, by_confidence),
        (threshold_rejecting(by_confidence[0]), by_confidence),
        (threshold_rejecting(together[0]), together),
    )
    return {
        name: operating_point(at, inside, outside, *weights)
        for name, (at, (inside, outside)) in zip(POINTS, points, strict=True)
    }
