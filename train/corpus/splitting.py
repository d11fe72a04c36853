"""Splitting into train, dev and test by whole speakers or whole sources.

A unit is what stays together: a speaker, or a source with all sources that its speakers are also
in. Units go to dev and test in an order drawn from their names, so neither the order of the rows
nor other units matter to it: first so that every source of a language gives its share, then so
that the language does. Lengths are whole milliseconds, whose sums are exact in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from edge.errors import EdgelidError
from train.corpus.importers.languages import from_code
from train.corpus.manifest import DEV, SPLITS, TEST, TRAIN, Manifest, repeated_paths

SPEAKER, SOURCE = "speaker", "source"
HELD_OUT = (TEST, DEV)  # where there are too few units for both, test comes first


@dataclass(frozen=True)
class Wish:
    """What is wanted.

    Attributes
    ----------
    dev, test
        Shares of the seconds of each language, between 0 and 1.
    by
        ``speaker`` or ``source``: what stays whole. Speakers do in both.
    seed
        Draws which.
    afresh
        Divide all rows. If not, rows in dev or test stay, and whatever unit they are of follows.
    only
        Languages, as a manifest calls them, to divide: whatever is in others stays. All, if there
        are none.
    """

    dev: float
    test: float
    by: str = SPEAKER
    seed: int = 0
    afresh: bool = False
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.afresh and self.only:
            raise EdgelidError("--afresh divides all rows, and --promote those of some languages")
        if not (self.dev >= 0 and self.test >= 0 and self.dev + self.test < 1):
            raise EdgelidError("--dev and --test must be at least 0, and together below 1")

    @property
    def shares(self) -> dict[str, float]:
        """By split."""
        return {TRAIN: 1 - self.dev - self.test, DEV: self.dev, TEST: self.test}


def promoted(manifest: Manifest, codes: Sequence[str]) -> tuple[Manifest, tuple[str, ...]]:
    """Make languages targets.

    Parameters
    ----------
    manifest
        From `train.corpus.manifest.read_rows`.
    codes
        Of these languages, in any form.

    Returns
    -------
    Manifest
    tuple of str
        The languages, as the manifest calls them.

    Raises
    ------
    EdgelidError
        If it has no speech in one of them.
    """
    there = set(manifest.rows["language"].cast(pl.String))
    languages = tuple(from_code(code) or code for code in codes)
    if missing := sorted(set(languages) - there):
        raise EdgelidError(
            f"--promote: {manifest.file} has no speech in {', '.join(missing)}: it has "
            f"{', '.join(sorted(there))}"
        )
    is_one = pl.col("language").cast(pl.String).is_in(list(languages))
    rows = manifest.rows.with_columns(pl.col("target") | is_one)
    return Manifest(manifest.file, manifest.root, rows), languages


def divide(manifest: Manifest, wish: Wish) -> pl.DataFrame:
    """Assign splits.

    Parameters
    ----------
    manifest
        From `train.corpus.manifest.read_rows`: speakers may still be in several splits.
    wish

    Returns
    -------
    DataFrame
        Its rows in their order, with other splits.

    Raises
    ------
    EdgelidError
        If there is no clip, a path comes twice, or a unit is in dev and in test already.
    """
    rows = manifest.rows
    if not len(rows):
        raise EdgelidError(f"the manifest {manifest.file} lists no clip")
    for path in repeated_paths(rows):
        raise EdgelidError(f"the manifest {manifest.file} lists {path} twice")
    key = _units(rows) if wish.by == SOURCE else pl.Series(rows[SPEAKER].cast(pl.String))
    table = rows.with_columns(key.alias("unit"))
    if wish.afresh:
        table = table.with_columns(pl.lit(TRAIN).cast(pl.Enum(SPLITS)).alias("split"))
    else:
        _check_held_out(table, wish.by)
    splits = _Division(table, wish).run()
    return (
        table.drop("split")
        .join(splits, on="unit", how="left", maintain_order="left")
        .select(rows.columns)
    )


def _units(rows: pl.DataFrame) -> pl.Series:
    """For each row the least name of the sources that its source shares speakers with."""
    names = rows.select(pl.col(SOURCE, SPEAKER).cast(pl.String))
    pairs = names.unique()
    sources, speakers = (pairs[name].unique().sort() for name in (SOURCE, SPEAKER))
    source, speaker = (
        pairs[name].cast(pl.Enum(all_)).to_physical().to_numpy().astype(np.int64)
        for name, all_ in ((SOURCE, sources), (SPEAKER, speakers))
    )
    size = len(sources) + len(speakers)
    graph = coo_array((np.ones(len(pairs)), (source, len(sources) + speaker)), (size, size))
    part = connected_components(graph, directed=False)[1][: len(sources)]
    least = pl.DataFrame({SOURCE: sources, "part": part}).with_columns(
        pl.col(SOURCE).min().over("part").alias("unit")
    )
    return names.join(least, on=SOURCE, how="left", maintain_order="left")["unit"]


def _check_held_out(table: pl.DataFrame, by: str) -> None:
    held = table.filter(pl.col("split") != TRAIN).unique(["unit", "split"])
    for unit in held.filter(pl.col("unit").is_duplicated())["unit"].sort():
        raise EdgelidError(
            f"the {by} {unit} is in dev and in test already: mend the manifest, or divide all "
            "rows with --afresh"
        )


class _Cells:
    """Parts of a corpus that each want their share in a split: languages, or their sources.

    Parameters
    ----------
    weights
        Columns ``index`` of the unit, ``language``, ``source`` and ``ms``.
    keys
        Columns that tell the cells apart.
    units
        How many there are.
    shares
        By split.
    """

    def __init__(
        self, weights: pl.DataFrame, keys: list[str], units: int, shares: dict[str, float]
    ) -> None:
        cell = pl.struct(keys).rank("dense").cast(pl.Int64) - 1
        entries = (
            weights.with_columns(cell.alias("cell"))
            .group_by("index", "cell")
            .agg(pl.col("ms").sum())
            .sort("index", "cell")
        )
        self.of: list[list[tuple[int, int]]] = [[] for _ in range(units)]  # (cell, ms) of a unit
        for index, number, ms in entries.iter_rows():
            self.of[index].append((number, ms))
        self.total = entries.group_by("cell").agg(pl.col("ms").sum()).sort("cell")["ms"].to_list()
        self.lack = {
            name: [round(share * ms) for ms in self.total] for name, share in shares.items()
        }

    def take(self, unit: int, split: str) -> None:
        """Count a unit to a split."""
        for cell, ms in self.of[unit]:
            self.lack[split][cell] -= ms

    def gain(self, unit: int, split: str) -> int:
        """By how much shares would come closer to the wish with a unit, in milliseconds."""
        lack = self.lack[split]
        return sum(abs(lack[cell]) - abs(lack[cell] - ms) for cell, ms in self.of[unit])


class _Division:
    """Units on their way into splits.

    Parameters
    ----------
    table
        Rows with the column ``unit``.
    wish
    """

    def __init__(self, table: pl.DataFrame, wish: Wish) -> None:
        weights = table.group_by("unit", pl.col("language", "source").cast(pl.String)).agg(
            (pl.col("seconds") * 1000).round().cast(pl.Int64).sum().alias("ms")
        )
        units = table.group_by("unit").agg(pl.col("split").max())  # not train, if any is not
        keys = [_draw(name, wish.seed) for name in units["unit"]]
        self._units = units.with_columns(pl.Series("key", keys)).sort("key").with_row_index("index")
        weights = weights.join(self._units.select("unit", "index"), on="unit")
        shares = {split: wish.shares[split] for split in HELD_OUT}
        self._wanted = [split for split in HELD_OUT if shares[split]]
        self._languages = _Cells(weights, ["language"], len(units), shares)
        self._strata = _Cells(weights, ["language", "source"], len(units), shares)
        languages = range(len(self._languages.total))
        self._held = {split: [0 for _ in languages] for split in SPLITS}  # units, by language
        self._members: list[list[int]] = [[] for _ in languages]  # units, by language
        self._split = self._units["split"].cast(pl.String).to_list()
        if wish.only:
            is_only = pl.col("language").is_in(list(wish.only)).all().over("index")
            free = set(weights.filter(is_only)["index"])
        else:
            free = set(self._units["index"])
        self._free = free  # units that may move
        for unit, split in enumerate(self._split):
            self._count(unit, split, 1)
            for language, _ in self._languages.of[unit]:
                self._members[language].append(unit)

    def run(self) -> pl.DataFrame:
        """Splits of all units, columns ``unit`` and ``split``."""
        for cells in (self._strata, self._languages):
            self._fill(cells)
        for language in range(len(self._members)):
            for split in self._wanted:
                if not self._held[split][language]:
                    self._take_nearest(language, split, forced=True)
        for language in range(len(self._members)):
            for split in self._wanted:
                while self._take_nearest(language, split, forced=False):
                    pass
        return self._units.select("unit", pl.Series("split", self._split, pl.Enum(SPLITS)))

    def _fill(self, cells: _Cells) -> None:
        """Take every unit that fits into what a split lacks, in the order drawn."""
        for unit, split in enumerate(self._split):
            if split == TRAIN and unit in self._free:
                cell = cells.of[unit][0][0]
                neediest = sorted(self._wanted, key=lambda name: -cells.lack[name][cell])
                for wanted in neediest:
                    lack = cells.lack[wanted]
                    fits = all(ms <= lack[number] for number, ms in cells.of[unit])
                    if fits and self._can_spare(unit, wanted):
                        self._move(unit, wanted)
                        break

    def _take_nearest(self, language: int, split: str, *, forced: bool) -> bool:
        """Take the unit of a language that comes nearest to what a split lacks, if there is one.

        If `forced`, even though the share ends up further from the wish: better a large test than
        none. Returns whether there was one.
        """
        lack = self._languages.lack[split][language]
        free = [
            (abs(lack - ms), unit)
            for unit in self._members[language]
            if self._split[unit] == TRAIN and unit in self._free
            for number, ms in self._languages.of[unit]
            if number == language
        ]
        for _, unit in sorted(free):
            if forced:
                possible = all(self._held[TRAIN][n] > 1 for n, _ in self._languages.of[unit])
            else:
                possible = self._languages.gain(unit, split) > 0 and self._can_spare(unit, split)
            if possible:
                self._move(unit, split)
                return True
        return False

    def _can_spare(self, unit: int, split: str) -> bool:
        """Whether train keeps one unit of each language, and one for each split without any."""
        others = [self._held[other] for other in self._wanted if other != split]
        return all(
            self._held[TRAIN][language] > 1 + sum(not held[language] for held in others)
            for language, _ in self._languages.of[unit]
        )

    def _move(self, unit: int, split: str) -> None:
        self._count(unit, TRAIN, -1)
        self._split[unit] = split
        self._count(unit, split, 1)

    def _count(self, unit: int, split: str, change: int) -> None:
        for language, _ in self._languages.of[unit]:
            self._held[split][language] += change
        if split != TRAIN:
            for cells in (self._languages, self._strata):
                cells.take(unit, split)


def _draw(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
