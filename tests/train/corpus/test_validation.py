"""Every kind of defect, planted in a small corpus, is found under its name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
import soxr

from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from tests.synthetic import write_audio, write_table
from train.cli import main
from train.corpus.audio_checks import draw
from train.corpus.manifest import COLUMNS
from train.corpus.problems import ERROR, KINDS
from train.corpus.validation import validate
from train.corpus.validation_report import table

CLIPS = 3  # of a speaker


class Tree:
    """A corpus of noise in two languages, two sources and five speakers each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[dict[str, str]] = []
        for language in ("de", "en"):
            for source in ("home", "studio"):
                self.speaker(language, "train", source, f"{source}-a")
                self.speaker(language, "train", source, f"{source}-b")
            self.speaker(language, "test", "home", "home-t")

    def speaker(
        self,
        language: str,
        split: str,
        source: str = "home",
        name: str = "x",
        clips: int = CLIPS,
        seconds: float = 1.0,
    ) -> None:
        """Add clips of a speaker."""
        for number in range(clips):
            path = f"{language}/{name}-{source}/{number}.wav"
            self.write(path, noise(path, seconds))
            self.rows.append(
                {
                    "path": path,
                    "language": language,
                    "split": split,
                    "target": "yes",
                    "speaker": f"{language}-{name}",
                    "source": source,
                    "kind": "human",
                    "seconds": f"{seconds:.2f}",
                    "licence": "CC0-1.0",
                    "origin": "made here",
                }
            )

    def write(self, path: str, samples: Float32Array, rate_hz: int = SAMPLE_RATE_HZ) -> None:
        """Write a file anew."""
        if rate_hz == SAMPLE_RATE_HZ and samples.ndim == 1:
            write_audio(self.root / path, samples)
        else:
            soundfile.write(self.root / path, samples, rate_hz, subtype="PCM_16")

    def path(self, number: int, language: str = "de", split: str = "train") -> str:
        """Path of a clip."""
        found = [r["path"] for r in self.rows if (r["language"], r["split"]) == (language, split)]
        return found[number]

    def copy(self, source: str, target: str) -> None:
        """Let a clip have the audio of another."""
        shutil.copy(self.root / source, self.root / target)

    def manifest(self) -> Path:
        """Write the manifest."""
        rows = [tuple(row[name] for name in COLUMNS) for row in self.rows]
        write_table(self.root / "manifest.tsv", COLUMNS, rows)
        return self.root / "manifest.tsv"


def noise(name: str, seconds: float = 1.0) -> Float32Array:
    rng = np.random.default_rng(list(name.encode()))
    return rng.normal(0, 0.05, round(seconds * SAMPLE_RATE_HZ)).astype(np.float32)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def findings(tree: Tree) -> dict[str, dict[str, object]]:
    report = validate(tree.manifest(), None, 0, workers=1)
    found = {row["code"]: row for row in (*report["errors"], *report["warnings"])}
    found.pop("undivided")  # no tree is: see tests/train/corpus/test_held_out.py
    return found


def test_a_sound_corpus(tree: Tree) -> None:
    assert findings(tree) == {}


def missing(tree: Tree) -> str:
    (tree.root / tree.path(1)).unlink()
    return tree.path(1)


def empty(tree: Tree) -> str:
    (tree.root / tree.path(1)).write_bytes(b"")
    return tree.path(1)


def no_samples(tree: Tree) -> str:
    tree.write(tree.path(1), np.zeros(0, np.float32))
    return tree.path(1)


def undecodable(tree: Tree) -> str:
    (tree.root / tree.path(1)).write_text("no such clip")
    return tree.path(1)


def repeated(tree: Tree) -> str:
    tree.rows.append(tree.rows[0])
    return tree.rows[0]["path"]


def audio(change: Callable[[Float32Array], Float32Array]) -> Callable[[Tree], str]:
    """Change the samples of a clip."""

    def plant(tree: Tree) -> str:
        tree.write(tree.path(1), change(noise(tree.path(1))).astype(np.float32))
        return tree.path(1)

    return plant


def telephone(tree: Tree) -> str:
    tree.write(tree.path(1), noise("telephone", 0.5), 8000)
    return tree.path(1)


def divided(tree: Tree) -> str:
    tree.rows[0]["split"] = "test"
    return tree.rows[0]["speaker"]


def copied(*target: str) -> Callable[[Tree], str]:
    def plant(tree: Tree) -> str:
        tree.copy(tree.path(0), tree.path(2, *target))
        return tree.path(2, *target)

    return plant


def short(tree: Tree) -> str:
    tree.write(tree.path(1), noise("short", 0.3))
    next(r for r in tree.rows if r["path"] == tree.path(1))["seconds"] = "0.30"
    return tree.path(1)


def french(*speakers: tuple[str, str, str, int, float]) -> Callable[[Tree], str]:
    """A third language, of speakers (split, source, name, clips, seconds of each)."""

    def plant(tree: Tree) -> str:
        for split, source, name, clips, seconds in speakers:
            tree.speaker("fr", split, source, name, clips, seconds)
        return "fr"

    return plant


TEST = ("test", "home", "t", 1, 1.0)
PLANTS: list[tuple[str, Callable[[Tree], str]]] = [
    ("missing", missing),
    ("empty", empty),
    ("empty", no_samples),
    ("undecodable", undecodable),
    ("repeated-path", repeated),
    ("shorter", audio(lambda x: x[:-800])),
    ("divided-speaker", divided),
    ("copy-across-splits", copied("de", "test")),
    ("copy-across-languages", copied("en")),
    ("silent", audio(np.zeros_like)),
    ("constant", audio(lambda x: np.full_like(x, 0.2))),
    ("untrained-language", french(TEST)),
    ("quiet", audio(lambda x: x / 1000)),
    ("clipped", audio(lambda x: np.clip(20 * x, -1, 1))),
    ("offset", audio(lambda x: x + 0.3)),
    ("copy", copied()),
    ("longer", audio(lambda x: np.concatenate([x, x[:8000]]))),
    ("low-rate", telephone),
    ("narrowband", audio(lambda x: soxr.resample(x[:8000], 8000, 16000))),
    ("short", short),
    ("one-speaker", french(TEST, ("train", "home", "a", 2, 1.0), ("train", "web", "a", 2, 1.0))),
    ("one-source", french(TEST, ("train", "home", "a", 2, 1.0), ("train", "home", "b", 2, 1.0))),
    (
        "dominant-speaker",
        french(TEST, ("train", "home", "a", 3, 1.0), ("train", "web", "b", 2, 1.0)),
    ),
    ("few-hours", french(TEST, ("train", "home", "a", 1, 0.5), ("train", "web", "b", 1, 0.5))),
    ("lacks-split", french(("train", "home", "a", 2, 1.0), ("train", "web", "b", 2, 1.0))),
]


@pytest.mark.parametrize(("code", "plant"), PLANTS)
def test_a_planted_defect(tree: Tree, code: str, plant: Callable[[Tree], str]) -> None:
    name = plant(tree)
    found = findings(tree)
    assert set(found) == {code}
    examples = [example["name"] for example in found[code]["examples"]]  # type: ignore[attr-defined]
    assert name in examples
    assert found[code]["count"] == (2 if code.startswith("copy") else 1)


def test_any_rate_and_channels_will_do(tree: Tree) -> None:
    sides = [noise(side, 3.0) for side in ("left", "right")]
    tree.write(tree.path(1), np.stack(sides, axis=1), 48_000)
    assert findings(tree) == {}


def test_every_kind_is_planted() -> None:
    # Those of held-out speech are planted in tests/train/corpus/test_held_out.py.
    held_out = {"one-language", "nothing-held-out", "undivided", "undividable"}
    held_out |= {"unheard", "short-held-out"}
    assert {code for code, _ in PLANTS} == set(KINDS) - held_out


def test_audio_is_the_same_in_another_format(tree: Tree) -> None:
    tree.rows[1]["path"] = "de/other.flac"
    samples, _ = soundfile.read(tree.root / tree.path(0), dtype="int16")
    soundfile.write(tree.root / "de/other.flac", samples, SAMPLE_RATE_HZ, subtype="PCM_16")
    assert set(findings(tree)) == {"copy"}


def test_a_language_that_is_no_target_may_be_poor(tree: Tree) -> None:
    tree.speaker("fr", "train")
    for row in tree.rows[-CLIPS:]:
        row["target"] = "no"
    assert findings(tree) == {}


def test_why_a_file_cannot_be_decoded(tree: Tree) -> None:
    undecodable(tree)
    (example,) = findings(tree)["undecodable"]["examples"]  # type: ignore[misc]
    assert "is not audio that libsndfile" in example["detail"]


def test_processes_find_the_same(tree: Tree) -> None:
    copied("en")(tree)
    undecodable(tree)
    manifest = tree.manifest()
    assert validate(manifest, None, 0, workers=2) == validate(manifest, None, 0, workers=1)


def test_what_is_not_decoded_is_still_looked_for(tree: Tree) -> None:
    for number in range(5):
        (tree.root / tree.path(number)).unlink()
    report = validate(tree.manifest(), 3, 0, workers=1)
    assert (report["decoded"], report["errors"][0]["count"]) == (3, 5)
    assert "30 files looked for; 3 of 30 clips decoded: what" in " ".join(table(report))


def clips(**pairs: int) -> pl.DataFrame:
    rows = [(language, source) for language, count in pairs.items() for source in ("a", "b")
            for _ in range(count)]  # fmt: skip
    frame = pl.DataFrame(rows, ["language", "source"], orient="row")
    return frame.with_row_index("path")


def test_a_draw_has_the_shares_of_all() -> None:
    everything = clips(de=800, en=190, fr=10)
    drawn = draw(everything, 200, seed=1)
    counts = dict(drawn.group_by("language").len().iter_rows())
    assert len(drawn) == drawn["path"].n_unique() == 200
    assert abs(counts["de"] - 160) <= 3
    assert abs(counts["en"] - 38) <= 3
    assert drawn["path"].is_sorted()
    assert drawn.equals(draw(everything, 200, seed=1))
    assert not drawn.equals(draw(everything, 200, seed=2))


def test_a_draw_has_every_language_and_source() -> None:
    drawn = draw(clips(de=5000, fr=1), 10, seed=0)
    assert drawn.select("language", "source").n_unique() == 4


def test_a_draw_of_more_than_all() -> None:
    everything = clips(de=3)
    assert draw(everything, 100, seed=0).equals(everything)


def test_the_command(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    copied("de", "test")(tree)
    report, plot = tree.root / "report.json", tree.root / "report.png"
    options = [str(tree.manifest()), "--workers", "1", "--json", str(report), "--plots", str(plot)]
    assert main(["validate", *options]) == 1
    out, err = capsys.readouterr()
    assert err.endswith("errors to mend before training: copy-across-splits\n")
    assert max(map(len, out.splitlines())) <= 80
    assert f"- {tree.path(0)}: same as {tree.path(2, 'de', 'test')} (de, test)" in out
    document = json.loads(report.read_text())
    assert document["languages"]["de"]["hours"]["test"] == pytest.approx(CLIPS / 3600)
    assert sum(document["languages"]["de"]["lengths"]) == 5 * CLIPS
    assert plot.read_bytes().startswith(b"\x89PNG")
    (tree.root / tree.path(2, "de", "test")).unlink()
    tree.rows = [row for row in tree.rows if row["path"] != tree.path(2, "de", "test")]
    audio(lambda x: x + 0.3)(tree)
    assert main(["validate", str(tree.manifest().parent), "--workers", "1"]) == 0
    told = capsys.readouterr()
    assert "no errors" in told.out
    assert told.err == ""  # no terminal, no bar


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sample", "0"], "--sample must be at least 1"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--json", "none/x.json"], "cannot write none/x.json"),
        (["--plots", "x.svg"], "--plots writes PNG"),
    ],
)
def test_in_one_sentence(
    tree: Tree, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(tree.manifest()), *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_no_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path / "manifest.tsv", COLUMNS, [])
    assert main(["validate", str(tmp_path)]) == 1
    assert capsys.readouterr().err.endswith("lists no clip\n")


def test_errors_have_an_advice() -> None:
    for kind in KINDS.values():
        assert kind.advice.endswith(".")
    assert KINDS["copy-across-splits"].severity == KINDS["copy-across-languages"].severity == ERROR
