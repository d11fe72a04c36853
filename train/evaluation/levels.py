"""What quiet input costs, with automatic gain and without: ``python -m train.evaluation.levels``.

Speech is brought to a peak as a microphone that is turned down has it: with the noise of the room
that is around it, the hiss of the microphone itself, which does not get quieter, and rounded to 16
bits. Then it is heard as `edgelid listen` and `edgelid classify` hear it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.classifier import StreamingClassifier
from edge.decoder import decoder_windows_s
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, Float64Array
from edge.model.interpreter import open_graphs
from edge.model.modelfile import DEFAULT_MODEL, NONSPEECH, ModelFile, read_model
from edge.offline import RecordingClassifier
from edge.system.atomic import check_writable
from train.command import add_corpus, run
from train.config import development_of
from train.corpus.cuts import SEED, Cut, balanced, cuts, load_cuts, read_audio
from train.corpus.manifest import DEV, Clip, corpus_dir, open_manifest
from train.evaluation.conditions import CLEAN, SPLIT, Sounds, disturb, find_sounds
from train.evaluation.evaluate import STREAM_S, clips_to_score
from train.evaluation.inference import Samples
from train.evaluation.report import write_json
from train.evaluation.streams import Stream, decode, make_stream, score_streams, windows_of
from train.features.cache import seed_of
from train.features.noise import read_noise
from train.features.synthetic_noise import sounds_of
from train.parallel.progress import bar

PEAKS_DB = (0, -20, -30, -40, -50, -55)
ROOM = "room"
PLACES = {CLEAN: CLEAN, ROOM: "noise-20"}  # and the condition that speech is put into
HISS_DB = -90.0  # RMS, of the microphone in the room: one bit of sixteen
PIECE_S = 3.0
NOISE_S = 20.0  # heard of each recording of noise, at most
PIECES = 3  # of an item, one behind the other
FULL_SCALE = 32_768.0


@dataclass(frozen=True)
class Piece:
    """Some seconds of speech.

    Attributes
    ----------
    language, key : str
    samples : ndarray, shape (n,), float32
    """

    language: str
    key: str
    samples: Float32Array


def recorded(
    samples: Float32Array,
    peak_db: float,
    key: str,
    hiss_db: float | None = None,
    peak: float | None = None,
) -> Float32Array:
    """Sound as a microphone gives it that brings it to a peak.

    Parameters
    ----------
    samples : ndarray, shape (n,), float32
    peak_db : float
    key : str
        That the hiss is drawn by.
    hiss_db : float or None
        RMS of the microphone's own noise; None for none.
    peak : float or None
        What is brought to that; the largest sample unless given.

    Returns
    -------
    ndarray, shape (n,), float32
        Of 16 bits.
    """
    peak = float(np.abs(samples).max()) if peak is None else peak
    loud = samples * np.float32(10 ** (peak_db / 20) / max(peak, 1e-9))
    if hiss_db is not None:
        hiss = seed_of("hiss", key).standard_normal(len(loud)).astype(np.float32)
        loud = loud + hiss * np.float32(10 ** (hiss_db / 20))
    rounded = np.clip(np.rint(loud * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1) / FULL_SCALE
    return np.asarray(rounded, np.float32)


def peak_of_turns(stream: Stream) -> float:
    """Peak of the middle one of those who speak in a stream: noise between them may be louder."""
    turns = [
        stream.samples[round(span.start_s * SAMPLE_RATE_HZ) : round(span.end_s * SAMPLE_RATE_HZ)]
        for span in stream.spans
        if span.label != NONSPEECH
    ]
    return float(np.median([np.abs(turn).max() for turn in turns]))


def pieces_of(clips: Sequence[Clip], root: Path, per_language: int | None) -> list[Piece]:
    """Pieces that follow one another in the items of all speakers."""
    found: list[Piece] = []
    for number in range(PIECES):
        some = cuts(clips, duration_s=PIECE_S * (number + 1), seed=SEED)
        if per_language is not None:
            some = balanced(some, per_language=per_language, seed=SEED)
        found += _last(some, root, number)
    return found


def _last(some: Sequence[Cut], root: Path, number: int) -> Iterator[Piece]:
    length = round(PIECE_S * SAMPLE_RATE_HZ)
    for cut, samples in zip(some, load_cuts(some, root), strict=True):
        yield Piece(cut.language, f"{cut.item_key}/{number}", samples[-length:])


class Hearing:
    """Hears with one model, with automatic gain or without.

    Parameters
    ----------
    model : ModelFile
        One that streams.
    automatic_gain : bool
    """

    def __init__(self, model: ModelFile, automatic_gain: bool) -> None:
        self._model = model
        graphs = open_graphs(model)
        self._recordings = RecordingClassifier(model, graphs, automatic_gain=automatic_gain)
        # Of one window each: what a stream says of a piece that it begins with.
        self._piece = StreamingClassifier(model, graphs, [PIECE_S], automatic_gain=automatic_gain)
        self._settings = model.description.decoder
        windows_s = decoder_windows_s(model, self._settings.window_s)
        self._stream = StreamingClassifier(model, graphs, windows_s, automatic_gain=automatic_gain)

    def classify(self, samples: Float32Array) -> Float64Array:
        """As `edgelid classify`, probabilities of shape (classes,)."""
        answer = self._recordings.classify(Samples(samples))
        return np.array([*answer.probabilities.values()])

    def listen(self, samples: Float32Array) -> Float64Array:
        """As `edgelid listen` that has just begun, probabilities of shape (classes,)."""
        self._piece.reset()
        hops = [*self._piece.process(samples), *self._piece.flush()]
        return hops[-1][0].probabilities

    def windows(self, samples: Float32Array) -> list[Float64Array]:
        """Probabilities of all windows of 3 s, or hardly less, each of shape (classes,)."""
        self._piece.reset()
        hops = [*self._piece.process(samples), *self._piece.flush()]
        return [hop[0].probabilities for hop in hops if hop[0].end_s > PIECE_S - self._piece.hop_s]

    def follow(self, streams: Sequence[Stream]) -> dict[str, float | None]:
        """How `edgelid listen` follows streams."""
        found = [
            decode(
                windows_of(self._stream, stream),
                self._model.labels,
                self._settings,
                self._stream.hop_s,
                self._stream.delay_s,
            )
            for stream in streams
        ]
        return score_streams([stream.spans for stream in streams], found).as_dict()


def taken_for_speech(
    probabilities: Sequence[Float64Array], labels: Sequence[str], confidence: float
) -> dict[str, float]:
    """Shares of windows of noise.

    Returns
    -------
    dict
        ``speech``, that are more likely to be of speech than not; ``sure``, that are taken for
        something else than noise with the confidence that an answer needs.
    """
    heard = np.stack(probabilities)
    nonspeech = labels.index(NONSPEECH)
    sure = (heard.argmax(axis=1) != nonspeech) & (heard.max(axis=1) >= confidence)
    return {
        "speech": round(float((heard[:, nonspeech] < 0.5).mean()), 4),
        "sure": round(float(sure.mean()), 4),
    }


def accuracy(
    pieces: Sequence[Piece],
    probabilities: Sequence[Float64Array],
    labels: Sequence[str],
    languages: Sequence[str],
) -> dict[str, float]:
    """Share of the pieces that are taken for what they are.

    Parameters
    ----------
    pieces : sequence of Piece
    probabilities : sequence of ndarray, shape (classes,)
        Of each.
    labels, languages : sequence of str
        The model's classes, and those of them that are languages.

    Returns
    -------
    dict
        ``languages``, where the model may choose among its languages; ``open``, among all classes.
    """
    heard = np.stack(probabilities)
    truth = np.array([labels.index(piece.language) for piece in pieces])
    closed = heard.copy()
    closed[:, [label not in languages for label in labels]] = 0.0
    return {
        "languages": round(float((closed.argmax(axis=1) == truth).mean()), 4),
        "open": round(float((heard.argmax(axis=1) == truth).mean()), 4),
    }


@dataclass(frozen=True)
class Levels:
    """What to measure.

    Attributes
    ----------
    model : Path
    corpus : Path
        Manifest, or the folder of a corpus.
    split : str
    held_out : Mapping or None
        As for `train.evaluation.evaluate.Evaluation`.
    sounds : Path or None
        Folder that holds ``noise`` and ``rir``.
    per_language : int or None
        Pieces of each language and place in an item, at most.
    streams : int
        Of five minutes.
    peaks_db : sequence of float
    """

    model: Path
    corpus: Path
    split: str = DEV
    held_out: Mapping[str, Sequence[str]] | None = None
    sounds: Path | None = None
    per_language: int | None = None
    streams: int = 4
    peaks_db: Sequence[float] = PEAKS_DB


@dataclass(frozen=True)
class Material:
    """What is brought to a level.

    Attributes
    ----------
    pieces : list of Piece
    streams : list of Stream
    noises : list of ndarray
        Without voices.
    sounds : Sounds
        Of the room.
    """

    pieces: list[Piece]
    streams: list[Stream]
    noises: list[Float32Array]
    sounds: Sounds

    @classmethod
    def of(cls, levels: Levels, model: ModelFile) -> Material:
        """What there is to measure with."""
        manifest = open_manifest(levels.corpus)
        clips = [
            clip
            for clip in clips_to_score(manifest, levels.split, levels.held_out)
            if clip.kind == "human"
        ]
        known = [clip for clip in clips if clip.language in model.languages]
        pieces = pieces_of(known, manifest.root, levels.per_language)
        if not pieces:
            raise EdgelidError(f"the split {levels.split} has no {PIECE_S:g} s of any speaker")
        folder = sounds_of(manifest.root, levels.sounds)
        noise, clips_of_noise = folder / "noise", read_noise(folder / "noise", SPLIT)
        streams = [
            make_stream(clips, manifest.root, clips_of_noise, noise, model.labels, STREAM_S, seed)
            for seed in range(levels.streams)
        ]
        heard = [
            read_audio(noise / clip.path, NOISE_S) for clip in clips_of_noise if not clip.has_speech
        ]
        long = [samples for samples in heard if len(samples) >= PIECE_S * SAMPLE_RATE_HZ]
        return cls(pieces, streams, long, find_sounds(folder))

    def in_place(self, samples: Float32Array, place: str, key: str) -> Float32Array:
        """Speech with what is around it."""
        return disturb(samples, PLACES[place], key, self.sounds)


def measure(levels: Levels) -> dict[str, Any]:
    """Accuracy by place, peak, and whether there is automatic gain.

    Raises
    ------
    EdgelidError
        If the model or the corpus cannot be read, there is no speech of that length, or sources
        are held out of another split than that of decisions.
    """
    if levels.held_out is not None and levels.split != DEV:
        raise EdgelidError("--held-out is about decisions: give it with --split dev")
    model = read_model(levels.model)
    material = Material.of(levels, model)
    hearings = {name: Hearing(model, name == "automatic") for name in ("none", "automatic")}
    rows = [
        {"place": place, "peak_db": peak_db, "gain": name}
        | of_pieces(hearing, material, place, peak_db, model)
        | of_streams(hearing, material, place, peak_db)
        | of_noise(hearing, material, place, peak_db, model)
        for place, peak_db in bar([(p, d) for p in PLACES for d in levels.peaks_db], "levels")
        for name, hearing in hearings.items()
    ]
    return {
        "model": model.description.name,
        "sha256": model.sha256,
        "split": levels.split,
        "pieces": len(material.pieces),
        "piece_s": PIECE_S,
        "streams": len(material.streams),
        "hiss_db": HISS_DB,
        "levels": rows,
    }


def of_pieces(
    hearing: Hearing, material: Material, place: str, peak_db: float, model: ModelFile
) -> dict[str, Any]:
    """How often pieces are taken for what they are."""
    heard = [
        recorded(material.in_place(each.samples, place, each.key), peak_db, each.key, _hiss(place))
        for each in material.pieces
    ]
    labels, languages = model.labels, model.languages
    return {
        how.__name__: accuracy(material.pieces, [*map(how, heard)], labels, languages)
        for how in (hearing.listen, hearing.classify)
    }


def of_streams(hearing: Hearing, material: Material, place: str, peak_db: float) -> dict[str, Any]:
    """How streams are followed, in which the middle one of the turns has that peak."""
    heard = [
        Stream(
            recorded(
                material.in_place(each.samples, place, f"stream/{seed}"),
                peak_db,
                f"stream/{seed}",
                _hiss(place),
                peak_of_turns(each),
            ),
            each.spans,
        )
        for seed, each in enumerate(material.streams)
    ]
    return {"streams": hearing.follow(heard)} if heard else {}


def of_noise(
    hearing: Hearing, material: Material, place: str, peak_db: float, model: ModelFile
) -> dict[str, Any]:
    """How much of noise is taken for speech; the microphone's own adds nothing to know."""
    if place != CLEAN or not material.noises:
        return {}
    heard = [
        window
        for noise in material.noises
        for window in hearing.windows(recorded(noise, peak_db, ""))
    ]
    confidence = model.description.decoder.confidence
    return {"noise": taken_for_speech(heard, model.labels, confidence)}


def _hiss(place: str) -> float | None:
    return HISS_DB if place == ROOM else None


def table(report: Mapping[str, Any]) -> Iterator[str]:
    """The figures as a table of Markdown."""
    yield (
        "| place | peak | `listen`, 3 s: none | automatic | `classify`, 3 s: none | automatic "
        "| streams, time in error: none | automatic |"
    )
    yield "|---|---:|" + "---:|" * 6
    by_gain: dict[tuple[str, float], dict[str, Any]] = {}
    for row in report["levels"]:
        by_gain.setdefault((row["place"], row["peak_db"]), {})[row["gain"]] = row
    for (place, peak_db), both in by_gain.items():
        cells = [
            f"{both[gain][how]['languages']:.1%}"
            for how in ("listen", "classify")
            for gain in ("none", "automatic")
        ]
        if report["streams"]:
            cells += [f"{both[g]['streams']['error_rate']:.1%}" for g in ("none", "automatic")]
        else:
            cells += ["", ""]
        yield f"| {place} | {peak_db:g} dB | {' | '.join(cells)} |"
    yield ""
    yield "| noise at a peak of | taken for speech: none | automatic | surely: none | automatic |"
    yield "|---|" + "---:|" * 4
    for (_, peak_db), both in by_gain.items():
        if "noise" in both["none"]:
            shares = [
                f"{both[gain]['noise'][what]:.1%}"
                for what in ("speech", "sure")
                for gain in ("none", "automatic")
            ]
            yield f"| {peak_db:g} dB | {' | '.join(shares)} |"


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluation.levels", description="What quiet input costs."
    )
    add_corpus(parser)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="model file")
    parser.add_argument("--split", choices=("dev", "test"), default=DEV)
    parser.add_argument(
        "--held-out",
        type=Path,
        metavar="CONFIG",
        help="with --split dev, also the development sources of this configuration",
    )
    parser.add_argument(
        "--peaks",
        type=_numbers,
        default=PEAKS_DB,
        metavar="DB,DB,...",
        help="to bring the speech to (default 0, -20, -30, -40, -50, -55)",
    )
    parser.add_argument("--per-language", type=int, help="pieces at most (default: all)")
    parser.add_argument("--streams", type=int, default=4, help="to follow, of 5 minutes")
    parser.add_argument("--json", type=Path, help="write the full report to this file")
    options = parser.parse_args(arguments)

    def work() -> None:
        if options.json:
            check_writable(options.json)
        report = measure(
            Levels(
                options.model,
                options.corpus or corpus_dir(),
                options.split,
                None if options.held_out is None else development_of(options.held_out),
                options.sounds,
                options.per_language,
                options.streams,
                options.peaks,
            )
        )
        if options.json:
            write_json(options.json, report)
        print("\n".join(table(report)))

    return run("train.evaluation.levels", work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
