"""Long recordings that change language, with exact labels, and how well a decoder follows them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from edge.classifier import StreamingClassifier, Window
from edge.decoder import Change, Decoder, Segment
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.languages import UNKNOWN
from edge.model.modelfile import NONSPEECH, OTHER, DecoderDefaults
from train.corpus.cuts import read_audio
from train.corpus.manifest import Clip
from train.features.cache import seed_of
from train.features.noise import NoiseClip

TURN_S = (4.0, 25.0)  # one speaker
PAUSE_S = (0.3, 2.0)  # between speakers
NOISE_S = (4.0, 10.0)  # now and then, instead of a pause
NOISE_SHARE = 0.15
SAME_LANGUAGE_SHARE = 0.35  # of the turns: another speaker of the same language
ROOM_TONE_RMS = 3e-4  # -70 dBFS: a recorder is never digitally silent
SPEECH_RMS = 0.05


@dataclass(frozen=True)
class Span:
    """What a stretch of a stream holds.

    Attributes
    ----------
    label : str
        A class; the pauses between two turns belong to neither and have no span.
    start_s, end_s : float
    """

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Stream:
    """A long recording with its truth.

    Attributes
    ----------
    samples : ndarray, shape (n,), float32
        16 kHz mono.
    spans : tuple of Span
        In order.
    """

    samples: Float32Array
    spans: tuple[Span, ...]


def make_stream(
    clips: Sequence[Clip],
    corpus: Path,
    noises: Sequence[NoiseClip],
    noise_folder: Path,
    labels: Sequence[str],
    duration_s: float,
    seed: int,
) -> Stream:
    """String clips of many speakers and languages together.

    Parameters
    ----------
    clips : sequence of Clip
        Speech to draw from.
    corpus, noise_folder : Path
    noises : sequence of NoiseClip
    labels : sequence of str
        Classes; clips of other languages become ``other``.
    duration_s : float
        About so long.
    seed : int

    Raises
    ------
    EdgelidError
        If there is speech of fewer than two classes.
    """
    voices: dict[str, dict[str, list[Clip]]] = {label: {} for label in classes_of(clips, labels)}
    for clip in clips:
        voices[_class_of(clip, labels)].setdefault(clip.speaker, []).append(clip)
    voices = {label: _enough_for_turns(speakers) for label, speakers in voices.items()}
    if len(voices) < 2:
        raise EdgelidError("a stream that changes language needs speech of two languages")
    quiet = [noise for noise in noises if not noise.has_speech]
    rng = seed_of("stream", seed)
    pieces: list[Float32Array] = []
    spans: list[Span] = []
    label = ""
    at = 0
    while at < duration_s * SAMPLE_RATE_HZ:
        gap, is_noise = _gap(quiet, noise_folder, rng)
        if is_noise:
            spans.append(_span(NONSPEECH, at, len(gap)))
        pieces.append(gap)
        at += len(gap)
        others = [name for name in sorted(voices) if name != label]
        if not label or rng.random() >= SAME_LANGUAGE_SHARE:
            label = others[rng.integers(len(others))]
        turn = _turn(voices[label], corpus, rng)
        spans.append(_span(label, at, len(turn)))
        pieces.append(turn)
        at += len(turn)
    samples = np.concatenate(pieces)
    tone = rng.standard_normal(len(samples)).astype(np.float32) * np.float32(ROOM_TONE_RMS)
    return Stream(np.clip(samples + tone, -1, 1), tuple(spans))


def classes_of(clips: Sequence[Clip], labels: Sequence[str]) -> set[str]:
    """Classes that there is speech of: a stream takes two."""
    return {_class_of(clip, labels) for clip in clips}


def _class_of(clip: Clip, labels: Sequence[str]) -> str:
    return clip.language if clip.language in labels else OTHER


def _span(label: str, at: int, samples: int) -> Span:
    return Span(label, at / SAMPLE_RATE_HZ, (at + samples) / SAMPLE_RATE_HZ)


def _gap(
    quiet: Sequence[NoiseClip], folder: Path, rng: np.random.Generator
) -> tuple[Float32Array, bool]:
    if not quiet or rng.random() >= NOISE_SHARE:
        return np.zeros(int(rng.uniform(*PAUSE_S) * SAMPLE_RATE_HZ), np.float32), False
    noise = read_audio(folder / quiet[int(rng.integers(len(quiet)))].path)
    length = min(len(noise), int(rng.uniform(*NOISE_S) * SAMPLE_RATE_HZ))
    start = int(rng.integers(0, len(noise) - length + 1))
    return noise[start : start + length], True


def _enough_for_turns(speakers: dict[str, list[Clip]]) -> dict[str, list[Clip]]:
    """The speakers of a class; as one, if none of them says enough for the shortest turn.

    Turns of two seconds would teach a decoder to jump.
    """
    most_s = max(sum(clip.duration_s for clip in clips) for clips in speakers.values())
    if most_s >= TURN_S[0]:
        return speakers
    return {"everybody": [clip for _, clips in sorted(speakers.items()) for clip in clips]}


def _turn(speakers: dict[str, list[Clip]], corpus: Path, rng: np.random.Generator) -> Float32Array:
    """Some seconds of one speaker, at a common level."""
    names = sorted(speakers)
    clips = speakers[names[rng.integers(len(names))]]
    wanted = int(rng.uniform(*TURN_S) * SAMPLE_RATE_HZ)
    pieces: list[Float32Array] = []
    for index in rng.permutation(len(clips)):
        pieces.append(read_audio(corpus / clips[index].path))
        if sum(map(len, pieces)) >= wanted:
            break
    turn = np.concatenate(pieces)[:wanted]
    return turn * np.float32(SPEECH_RMS / (np.sqrt(np.mean(np.square(turn))) + 1e-9))


@dataclass(frozen=True)
class StreamScore:
    """How a decoder followed streams.

    Attributes
    ----------
    changes : int
        True changes of language.
    median_delay_s, p95_delay_s : float
        From the beginning of the new language until it is announced; a change that is not
        announced before the next one counts with the time until then.
    missed : float
        Share of changes never announced.
    false_changes_per_hour : float
        Announcements of a language that is not being spoken, per hour of speech.
    error_rate : float
        Language diarisation error: share of the time of speech whose segment has another answer.
    unknown_share : float
        Share of the time of speech whose answer is ``unknown``; part of `error_rate`.
    median_border_error_s, p95_border_error_s : float
        How far the segments of a language begin and end from where it did, both ends of every
        turn of which any segment tells; None if there is none.
    """

    changes: int
    median_delay_s: float
    p95_delay_s: float
    missed: float
    false_changes_per_hour: float
    error_rate: float
    unknown_share: float
    median_border_error_s: float | None
    p95_border_error_s: float | None

    def as_dict(self) -> dict[str, float | None]:
        """Rounded, for reports."""
        return {
            name: None if value is None else round(float(value), 4)
            for name, value in asdict(self).items()
        }


# Of these measures, those that segments have without any changes.
OF_SEGMENTS = ("error_rate", "unknown_share", "median_border_error_s")


def windows_of(classifier: StreamingClassifier, stream: Stream) -> list[list[Window]]:
    """The windows of every hop, one a length of the classifier."""
    classifier.reset()
    return list(itertools.chain(classifier.process(stream.samples), classifier.flush()))


def decode(
    windows: Sequence[Sequence[Window]],
    labels: Sequence[str],
    settings: DecoderDefaults,
    hop_s: float,
    delay_s: float,
) -> tuple[list[Change], list[Segment]]:
    """All changes and segments of a stream.

    Parameters
    ----------
    windows : sequence of sequence of Window
        Of every hop: the decoder's, and if there is one, the short one to find borders by.
    labels : sequence of str
    settings : DecoderDefaults
    hop_s, delay_s : float
        Of the classifier.
    """
    decoder = Decoder(labels, settings, hop_s)
    changes: list[Change] = []
    segments: list[Segment] = []
    for hop in windows:
        decided = decoder.update(*hop)
        if decided is not None:
            if decided.change is not None:
                decided_s = decided.change.decided_s + delay_s
                changes.append(replace(decided.change, decided_s=decided_s))
            segments += decided.finished
    return changes, [*segments, *(decoder.finish(windows[-1][0].end_s) if windows else ())]


def score_streams(
    truth: Sequence[Sequence[Span]],
    found: Sequence[tuple[list[Change], list[Segment]]],
) -> StreamScore:
    """Compare decoded streams with their labels.

    Parameters
    ----------
    truth : sequence of sequence of Span
        One a stream.
    found : sequence of (changes, segments)
        In the same order.
    """
    delays: list[float] = []
    missed = false = 0
    speech_s = wrong_s = unknown_s = 0.0
    errors_s: list[float] = []
    for spans, (changes, segments) in zip(truth, found, strict=True):
        turns = _merged([span for span in spans if span.label != NONSPEECH])
        for turn, following in itertools.zip_longest(turns, turns[1:]):
            until_s = following.start_s if following else turn.end_s
            known_s = _announced(turn, until_s, changes, segments)
            missed += known_s is None
            delays.append((until_s if known_s is None else known_s) - turn.start_s)
        errors_s += _border_errors_s(turns, segments)
        false += sum(_is_false(change, turns) for change in changes)
        for span in spans:
            if span.label == NONSPEECH:
                continue
            speech_s += span.end_s - span.start_s
            for segment in segments:
                overlap_s = min(span.end_s, segment.end_s) - max(span.start_s, segment.start_s)
                if overlap_s > 0 and segment.language != span.label:
                    wrong_s += overlap_s
                    unknown_s += overlap_s * (segment.language == UNKNOWN)
    return StreamScore(
        changes=len(delays),
        median_delay_s=float(np.median(delays)),
        p95_delay_s=float(np.percentile(delays, 95)),
        missed=missed / len(delays),
        false_changes_per_hour=false / speech_s * 3600,
        error_rate=wrong_s / speech_s,
        unknown_share=unknown_s / speech_s,
        median_border_error_s=float(np.median(errors_s)) if errors_s else None,
        p95_border_error_s=float(np.percentile(errors_s, 95)) if errors_s else None,
    )


def _border_errors_s(turns: Sequence[Span], segments: Sequence[Segment]) -> list[float]:
    """How far the ends of each turn are from those of the segments that tell of it.

    Parameters
    ----------
    turns : sequence of Span
        Of speech; neighbours have other languages.
    segments : sequence of Segment

    Returns
    -------
    list of float
        Two of each turn that overlaps segments of its language: for its beginning the first of
        them counts, for its end the last.
    """
    errors_s: list[float] = []
    for turn in turns:
        told = [
            segment
            for segment in segments
            if segment.language == turn.label
            and min(segment.end_s, turn.end_s) > max(segment.start_s, turn.start_s)
        ]
        if told:
            errors_s += [abs(told[0].start_s - turn.start_s), abs(told[-1].end_s - turn.end_s)]
    return errors_s


def _merged(spans: Sequence[Span]) -> list[Span]:
    """Neighbouring turns of one language as one."""
    merged: list[Span] = []
    for span in spans:
        if merged and merged[-1].label == span.label:
            merged[-1] = Span(span.label, merged[-1].start_s, span.end_s)
        else:
            merged.append(span)
    return merged


def _announced(
    turn: Span, until_s: float, changes: Sequence[Change], segments: Sequence[Segment]
) -> float | None:
    """Stream time at which the language of a turn was the answer; None if it never was."""
    for segment in segments:
        if segment.language == turn.label and segment.start_s < turn.start_s < segment.end_s:
            before = [c for c in changes if c.decided_s <= turn.start_s]
            if before and before[-1].language == turn.label:
                return turn.start_s  # it was the answer already
    for change in changes:
        if change.language == turn.label and turn.start_s <= change.decided_s < until_s:
            return change.decided_s
    return None


def _is_false(change: Change, turns: Sequence[Span]) -> bool:
    """Whether a change names a language that is not the one being, or just having been, spoken."""
    if change.language in (UNKNOWN, NONSPEECH):
        return False
    spoken = [turn.label for turn in turns if turn.start_s <= change.decided_s]
    return not spoken or change.language != spoken[-1]


STAY_S = (10.0, 30.0, 100.0, 300.0)
CONFIDENCES = (
    0.6,
    0.7,
    0.8,
    0.9,
)  # below, an answer is more often wrong than a person takes it to be
# What is traded for what, in seconds of delay: a wrong announcement an hour, and having the wrong
# answer all the time. People forgive a program that thinks before it speaks, but not one that is
# not sure for half of the time.
SECONDS_PER_FALSE_CHANGE = 0.05
SECONDS_PER_ERROR_RATE = 40.0


def tune_decoder(
    classifier: StreamingClassifier, windows_s: Sequence[float], streams: Sequence[Stream]
) -> tuple[DecoderDefaults, StreamScore]:
    """Decoder settings that follow development streams best.

    Parameters
    ----------
    classifier : StreamingClassifier
        Calibrated.
    windows_s : sequence of float
        Its window lengths to choose from, in its order; it may have one more, a short one to find
        borders by.
    streams : sequence of Stream
        Of speech that the model was not trained on.

    Returns
    -------
    DecoderDefaults
    StreamScore
        With them.
    """
    truth = [stream.spans for stream in streams]
    heard = [windows_of(classifier, stream) for stream in streams]
    best: tuple[float, DecoderDefaults, StreamScore] | None = None
    for (index, window_s), stay_s, confidence in itertools.product(
        enumerate(windows_s), STAY_S, CONFIDENCES
    ):
        settings = DecoderDefaults(window_s, stay_s, confidence)
        chosen = (
            [(windows[index], *windows[len(windows_s) :]) for windows in hops] for hops in heard
        )
        times_s = classifier.hop_s, classifier.delay_s
        score = score_streams(
            truth, [decode(w, classifier.labels, settings, *times_s) for w in chosen]
        )
        cost = score.error_rate * SECONDS_PER_ERROR_RATE + score.median_delay_s
        cost += score.false_changes_per_hour * SECONDS_PER_FALSE_CHANGE
        if best is None or cost < best[0]:
            best = cost, settings, score
    assert best is not None
    return best[1], best[2]
