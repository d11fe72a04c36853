"""The data of a run: manifests, features, noise, and what a teacher heard."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from edge.errors import EdgelidError
from train.config import RunConfig
from train.corpus.manifest import DEV, TEST, TRAIN, Manifest, divided_speakers, open_manifest
from train.features.cache import CachedFeatures, prepare
from train.features.filterbank import band_centres_hz
from train.features.noise import NoiseClip, read_noise
from train.features.synthetic_noise import sounds_of
from train.fit.distillation import Teacher
from train.fit.sampling import BatchSampler

log = logging.getLogger(__name__)

DIGESTED_ROWS = 100_000  # turned into text at a time


@dataclass(frozen=True)
class Corpus:
    """All that training reads, decoded and cached.

    Attributes
    ----------
    rows : DataFrame
        Clips to learn from and held out, of all corpora, as in a manifest.
    features : CachedFeatures
        In the order of `rows`.
    train, development : ndarray, shape (clips,), int64
        Which rows to learn from, and which are held out.
    noises : list of NoiseClip
    noise_features : CachedFeatures
    teacher : Teacher or None
        Of the clips to learn from.
    """

    rows: pl.DataFrame
    features: CachedFeatures
    train: np.ndarray
    development: np.ndarray
    noises: list[NoiseClip]
    noise_features: CachedFeatures
    teacher: Teacher | None

    def sampler(self, config: RunConfig) -> BatchSampler:
        """What draws batches of the clips to learn from."""
        return BatchSampler(
            config,
            self.rows[self.train],
            self.features.take(self.train),
            self.noises,
            self.noise_features,
            band_centres_hz(config.front_end),
            self.teacher,
        )

    def digest(self) -> str:
        """Changes with the clips, their lengths, the noises and the teacher's units."""
        digest = hashlib.sha256(repr(self.noises).encode())
        for part in self.rows.iter_slices(DIGESTED_ROWS):
            digest.update(part.write_csv().encode())
        tables = [self.train, self.development]
        tables += [self.features.lengths, self.features.speeds, self.noise_features.lengths]
        if self.teacher:
            tables += [self.teacher.units, self.teacher.starts, self.teacher.lengths]
        for table in tables:
            digest.update(np.ascontiguousarray(table).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Place:
    """Where audio and features are, and who computes what is missing.

    Attributes
    ----------
    corpora : tuple of Path
        Manifests, or the folders of corpora with a ``manifest.tsv``.
    cache : Path
        Folder for feature caches.
    workers : int
        Processes.
    sounds : Path or None
        Folder that holds ``noise`` and ``rir``: see `train.features.synthetic_noise`.
    skip_bad : bool
        Leave out files that cannot be read.
    cluster : str or None
        Address of a Ray cluster that computes.
    """

    corpora: tuple[Path, ...]
    cache: Path
    workers: int = 1
    sounds: Path | None = None
    skip_bad: bool = False
    cluster: str | None = None


def open_corpus(config: RunConfig, place: Place, teachers: Sequence[Path] = ()) -> Corpus:
    """Read manifests and compute, or find, the features.

    Parameters
    ----------
    config : RunConfig
    place : Place
    teachers : sequence of Path, optional
        Embeddings that ``python -m train.fit.teacher`` wrote, one a corpus.

    Raises
    ------
    EdgelidError
        If anything is missing or does not fit.
    """
    parts = read_manifests(place.corpora)
    rows = pl.concat([part.rows for part in parts])
    check_sources(rows, config.data.development)
    train, development = divide(rows, config.data.development)
    if not len(development):
        raise EdgelidError(
            "the corpus has no development speech, which tells what has been learnt: run "
            "edgelid-train split, or name whole sources in [data.development]"
        )
    _check_languages(rows[train], config.data.languages, "the corpus has")
    _warn_of_lone_speakers(rows[train], config.data.languages)
    if config.optimiser.teacher_weight and not teachers:
        raise EdgelidError("this configuration learns from a teacher: give its file (--teacher)")
    taught = Teacher.load(teachers, rows[train]) if teachers else None
    features, noises, noise_features = _prepare(config, place, parts)
    # Of what could not be read, or is shorter than a frame, nothing can be learnt.
    whole = features.lengths.min(axis=0) > 0
    if taught:
        taught = taught.take(np.flatnonzero(whole[train]))
    train, development = train[whole[train]], development[whole[development]]
    _check_languages(rows[train], config.data.languages, "what can be read of the corpus has")
    return Corpus(rows, features, train, development, noises, noise_features, taught)


def prepare_corpus(config: RunConfig, place: Place) -> str:
    """Compute the features of corpora, and of the noise; returns a line about them."""
    parts = read_manifests(place.corpora)
    features, _, noise = _prepare(config, place, parts)
    clips = features.lengths.shape[1]
    bad = int((features.lengths[0] == 0).sum())
    hours = sum(float(part.rows["seconds"].sum()) for part in parts) / 3600
    files = {*features.files.files, *noise.files.files}
    gigabytes = sum(file.stat().st_size for file in files) / 1e9
    return (
        f"{clips} clips ({bad} of them without a frame), {hours:.1f} h, {features.variants} "
        f"variants: {len(files)} shards, {gigabytes:.2f} GB"
    )


def _prepare(
    config: RunConfig, place: Place, parts: Sequence[Manifest]
) -> tuple[CachedFeatures, list[NoiseClip], CachedFeatures]:
    """Features of the corpora, joined, and the noise with its features."""
    sounds = sounds_of(parts[0].root, place.sounds, place.cache)
    rooms = [sounds / "rir" / clip.path for clip in read_noise(sounds / "rir", TRAIN)]
    noises = read_noise(sounds / "noise", TRAIN)
    features = CachedFeatures.join(
        [
            prepare(
                part.root,
                part.rows["path"],
                place.cache,
                config.front_end,
                config.data.variants,
                rooms,
                place.workers,
                skip_bad=place.skip_bad,
                cluster=place.cluster,
            )
            for part in parts
        ]
    )
    noise_features = prepare(
        sounds / "noise",
        [clip.path for clip in noises],
        place.cache,
        config.front_end,
        0,
        [],
        place.workers,
    )
    return features, noises, noise_features


def read_manifests(corpora: Sequence[Path]) -> list[Manifest]:
    """What each corpus has to learn from, and to decide on.

    Raises
    ------
    EdgelidError
        If a manifest cannot be read, one has nothing to learn from, two have the same clip, or a
        speaker is in one split here and in another there.
    """
    whole = [open_manifest(corpus) for corpus in corpora]
    parts = [manifest.where(pl.col("split") != TEST) for manifest in whole]
    rows = pl.concat([part.rows.select("path") for part in parts])
    # A clip's path is its name everywhere.
    twice = rows.filter(~pl.col("path").is_first_distinct())
    if len(twice):
        raise EdgelidError(
            f"two of the corpora have a clip {twice['path'][0]}: rename one's folders"
        )
    for speaker, splits in divided_speakers(pl.concat(m.rows for m in whole)).iter_rows():
        raise EdgelidError(
            f"the speaker {speaker} is in {splits[0]} in one corpus and in {splits[1]} in another: "
            "keep each speaker in one split"
        )
    for corpus, part in zip(corpora, parts, strict=True):
        if not (part.rows["split"] == TRAIN).any():
            raise EdgelidError(f"the corpus {corpus} has no clips in its training split")
    return parts


def _check_languages(rows: pl.DataFrame, languages: Sequence[str], what_has: str) -> None:
    """Refuse what would be a class that nothing is drawn of."""
    learnt = rows["language"].unique().to_list()
    if missing := sorted(set(languages) - set(learnt)):
        has = ", ".join(sorted(learnt)) or "none"
        raise EdgelidError(
            f"no training speech in {', '.join(missing)}: {what_has} {has}; choose others with "
            "--languages, or in the configuration"
        )


def _warn_of_lone_speakers(rows: pl.DataFrame, languages: Sequence[str]) -> None:
    voices = rows.group_by("language").agg(pl.col("speaker").n_unique())
    counts = dict(voices.iter_rows())
    lone = [language for language in languages if counts[language] == 1]
    if lone:
        log.warning("only one speaker of %s: the model may learn the voice", ", ".join(lone))


def check_sources(rows: pl.DataFrame, development: Mapping[str, Sequence[str]]) -> None:
    """Refuse a misspelt source, which would silently be trained on."""
    for language, sources in development.items():
        known = rows.filter(pl.col("language") == language)["source"].unique().to_list()
        unknown = sorted(set(sources) - set(known))
        if unknown:
            raise EdgelidError(
                f"the corpus has no training clips in {language} from {', '.join(unknown)}: "
                "correct [data.development] of the configuration"
            )


def divide(
    rows: pl.DataFrame, development: Mapping[str, Sequence[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Which clips to learn from, and which to hold out.

    Held out are the speakers of the split ``dev`` and of the development sources, with whatever
    else they recorded.

    Returns
    -------
    train, development : ndarray, shape (clips,), int64
        Rows, in their order.
    """
    held_out = pl.col("split") == DEV
    for language, sources in development.items():
        source = pl.col("source").cast(pl.String).is_in(list(sources))
        held_out |= (pl.col("language") == language) & source
    speakers = rows.filter(held_out).select("speaker").unique()
    found = rows.select("speaker").with_row_index("row")
    train, development_rows = (
        found.join(speakers, "speaker", how)["row"].sort().to_numpy().astype(np.int64)
        for how in ("anti", "semi")
    )
    return train, development_rows
