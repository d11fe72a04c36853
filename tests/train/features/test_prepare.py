"""`edgelid-train prepare`: killed, stopped, and started again; bad files; where things lie."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from edge.errors import EdgelidError
from edge.frontend import FrontEndConfig
from tests.processes import group
from tests.synthetic import DEVELOPMENT, speech, write_audio
from tests.waiting import PATIENCE_S, wait_until
from train.cli import main
from train.config import RunConfig
from train.corpus.manifest import open_manifest, thinned, write_parquet
from train.features.cache import prepare
from train.features.filterbank import mel_filterbank
from train.fit.training_data import Corpus, Place, open_corpus

ROOT = Path(__file__).parents[3]
CLIPS = 3  # of a shard here

CONFIG = FrontEndConfig(mels=24)
# What needs no package that is slow to import, so that it can be killed often.
DRIVER = """
import sys
from pathlib import Path
import numpy as np
import train.features.cache
from edge.frontend import FrontEndConfig

if __name__ == "__main__":
    folder, cache = map(Path, sys.argv[1:])
    train.features.cache.CLIPS = 3
    train.features.cache.mel_filterbank = lambda config: np.load(folder / "filterbank.npy")
    paths = sorted(path.name for path in folder.glob("?.wav"))
    train.features.cache.prepare(
        folder, paths, cache, FrontEndConfig(mels=24), 2, [folder / "room.wav"], 2
    )
"""


def contents(cache: Path) -> dict[str, bytes]:
    """All files of a cache, but for the lock and what is being written."""
    found = (p for p in cache.rglob("*") if p.is_file() and p.name != "lock")
    return {str(p.relative_to(cache)): p.read_bytes() for p in found if p.name[0] != "."}


def partial_files(cache: Path) -> list[Path]:
    return list(cache.rglob(".*"))


def start(arguments: Sequence[str | Path]) -> subprocess.Popen[str]:
    """A process, which begins a group of its own."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def wait_for_orphans(leader: int) -> None:
    """Wait until all of a group's processes have ended."""
    wait_until(lambda: not group(leader))


def disturb(
    arguments: Sequence[str | Path], cache: Path, kind: signal.Signals, rng: random.Random, at: int
) -> subprocess.Popen[str]:
    """Start it, and send a signal some moment after it has completed `at` shards."""
    process = start(arguments)
    while process.poll() is None and len(list(cache.rglob("*.json"))) < at:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.2))
    process.send_signal(kind)
    process.wait(PATIENCE_S)
    return process


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    for number in range(9):
        write_audio(folder / f"{number}.wav", speech("de", "anna", number, 1.0))
    write_audio(folder / "room.wav", speech("de", "anna", 9, 0.1))
    np.save(folder / "filterbank.npy", mel_filterbank(CONFIG))
    return folder


@pytest.mark.slow
def test_killed_at_any_moment(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command again makes the very shards of one that nobody disturbed."""
    monkeypatch.setattr("train.features.cache.CLIPS", CLIPS)
    paths = sorted(path.name for path in audio.glob("?.wav"))
    prepare(audio, paths, tmp_path / "whole", CONFIG, 2, [audio / "room.wav"], 1)
    whole = contents(tmp_path / "whole")
    assert len(whole) == 2 * 3 * 3
    driver, cache = tmp_path / "driver.py", tmp_path / "cache"
    driver.write_text(DRIVER)
    command = [driver, audio, cache]
    rng = random.Random(0)
    for at in (0, 2):
        process = disturb(command, cache, signal.SIGKILL, rng, at)
        wait_for_orphans(process.pid)
        assert contents(cache).items() <= whole.items()
    process = start(command)
    assert process.wait(PATIENCE_S) == 0, process.stderr and process.stderr.read()
    assert contents(cache) == whole
    assert partial_files(cache) == []
    wait_for_orphans(process.pid)


def prepare_command(toml: Path, corpus: Path, cache: Path) -> list[str | Path]:
    code = (
        f"import sys, train.features.cache; train.features.cache.CLIPS = {CLIPS}; "
        "from train.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    return ["-c", code, "prepare", toml, "--corpus", corpus, "--cache", cache, "--workers", "2"]


@pytest.mark.slow
def test_the_command_is_killed_ten_times(
    tiny_toml: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    assert start(prepare_command(tiny_toml, tiny_corpus, whole)).wait(PATIENCE_S) == 0
    expected = contents(whole)
    assert len(expected) > 40
    cache, rng = tmp_path / "cache", random.Random(1)
    command = prepare_command(tiny_toml, tiny_corpus, cache)
    for at in range(0, 20, 2):
        process = disturb(command, cache, signal.SIGKILL, rng, at)
        wait_for_orphans(process.pid)
        assert contents(cache).items() <= expected.items()
    assert start(command).wait(PATIENCE_S) == 0
    assert contents(cache) == expected
    assert partial_files(cache) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_the_command_is_stopped(
    tiny_toml: Path, tiny_corpus: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    command = prepare_command(tiny_toml, tiny_corpus, tmp_path)
    process = disturb(command, tmp_path, kind, random.Random(2), 3)
    assert process.returncode == 130
    assert process.stderr is not None
    last = process.stderr.read().splitlines()[-1]
    assert last == "edgelid-train: stopped; the same command goes on"
    wait_for_orphans(process.pid)
    assert start(command).wait(PATIENCE_S) == 0
    assert partial_files(tmp_path) == []


def copied(tiny_corpus: Path, folder: Path, sounds: bool = True) -> Path:
    """The corpus at another place, whose files and manifest can be changed."""
    corpus = shutil.copytree(tiny_corpus, folder / "corpus")
    for name in ("noise", "rir") if sounds else ():
        (folder / name).symlink_to(tiny_corpus.parent / name)
    return corpus


def run(toml: Path, corpus: Path, cache: Path, *more: str | Path) -> int:
    options = ["--corpus", corpus, "--cache", cache, "--workers", "1", *more]
    return main(["prepare", str(toml), *map(str, options)])


def test_what_it_prints(
    tiny_toml: Path,
    tiny_corpus: Path,
    tiny_cache: Path,
    tiny_data: Corpus,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And it finds what training has computed, as the other way round."""
    assert run(tiny_toml, tiny_corpus, tiny_cache) == 0
    printed = capsys.readouterr()
    clips = len(tiny_data.rows)
    assert printed.out.startswith(f"{clips} clips (0 of them without a frame), 0.0 h, 2 variants: ")
    assert "features:" not in printed.err


def test_bad_files(
    tiny_toml: Path,
    tiny_config: RunConfig,
    tiny_corpus: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is learnt from them, if they are left out at all."""
    corpus = copied(tiny_corpus, tmp_path)
    bad = [
        next(corpus.glob("de/home-de-0/*.wav")),
        next(corpus.glob(f"en/{DEVELOPMENT}-en-0/*.opus")),
    ]
    for path in bad:
        path.write_bytes(b"no audio")
    assert run(tiny_toml, corpus, tmp_path / "cache") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("edgelid-train: some audio cannot be read (files: 2): mend it, or give")
    named = caplog.messages[-1].splitlines()[1:]
    assert sorted(map(str, bad)) == sorted(line.split("'")[1] for line in named)
    assert run(tiny_toml, corpus, tmp_path / "cache", "--skip-bad") == 0
    assert "(2 of them without a frame)" in capsys.readouterr().out
    opened = open_corpus(tiny_config, Place((corpus,), tmp_path / "cache", skip_bad=True))
    used = opened.rows["path"][[*opened.train, *opened.development]]
    assert len(used) == len(opened.rows) - 2
    assert not {str(path.relative_to(corpus)) for path in bad} & set(used)
    with pytest.raises(EdgelidError, match="files: 2"):
        open_corpus(tiny_config, Place((corpus,), tmp_path / "cache"))


def test_a_language_of_bad_files_alone(
    tiny_config: RunConfig, tiny_corpus: Path, tmp_path: Path
) -> None:
    """Left out, they would leave a class that is never learnt, and nobody told."""
    corpus = copied(tiny_corpus, tmp_path)
    manifest = open_manifest(corpus)
    kept = manifest.rows.filter(pl.col("split") == "train", pl.col("language") == "de")
    for path in kept["path"]:
        (corpus / path).write_bytes(b"no audio")
    words = r"no training speech in de: what can be read of the corpus has en"
    with pytest.raises(EdgelidError, match=words):
        open_corpus(tiny_config, Place((corpus,), tmp_path / "cache", skip_bad=True))


def test_a_manifest_and_sounds_elsewhere(
    tiny_config: RunConfig, tiny_corpus: Path, tiny_cache: Path, tiny_data: Corpus, tmp_path: Path
) -> None:
    """A Parquet manifest, audio in the folder that it names, and noise in a third place."""
    manifest = open_manifest(tiny_corpus)
    file = tmp_path / "manifests" / "mine.parquet"
    file.parent.mkdir()
    write_parquet(manifest.rows.lazy(), file, tiny_corpus)
    place = Place((file,), tiny_cache, sounds=tiny_corpus.parent)
    corpus = open_corpus(tiny_config, place)
    assert corpus.digest() == tiny_data.digest()


def test_the_split_for_development(
    tiny_config: RunConfig, tiny_corpus: Path, tiny_cache: Path, tiny_data: Corpus, tmp_path: Path
) -> None:
    """Instead of whole sources, or besides them."""
    from tests.train.fit.test_loop import manifest, with_data

    plain = with_data(tiny_config, development={})
    with pytest.raises(EdgelidError, match=r"no development speech, .* edgelid-train split"):
        open_corpus(plain, Place((tiny_corpus,), tiny_cache))

    def change(row: list[str]) -> list[str]:
        if row[4] in (f"{DEVELOPMENT}-de-0", f"{DEVELOPMENT}-en-0"):
            row[2] = "dev"
        return row

    divided = manifest(tmp_path, tiny_corpus, change)
    corpus = open_corpus(plain, Place((divided,), tiny_cache))
    rows = corpus.rows[corpus.development]
    assert set(rows["split"]) == {"dev"}
    assert set(rows["language"]) == {"de", "en"}
    assert f"{DEVELOPMENT}-sv-0" in set(corpus.rows["speaker"][corpus.train])
    both = open_corpus(tiny_config, Place((divided,), tiny_cache))
    assert both.development.tolist() == tiny_data.development.tolist()


def test_nothing_but_speech(
    tiny_config: RunConfig,
    tiny_corpus: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    corpus = copied(tiny_corpus, tmp_path / "alone", sounds=False)
    opened = open_corpus(tiny_config, Place((corpus,), tmp_path / "cache"))
    assert "synthetic ones" in caplog.text
    assert len({noise.kind for noise in opened.noises}) == 5
    (batch,) = next(opened.sampler(tiny_config).batches(0, 1))
    assert np.isfinite(batch.frames).all()


def test_thinned(tiny_corpus: Path) -> None:
    rows = open_manifest(tiny_corpus).rows
    assert thinned(rows, 1000).equals(rows)
    few = thinned(rows, 10)
    assert set(few["language"]) == set(rows["language"])
    assert few.group_by("language").len()["len"].max() <= 12
    # Those who stay keep all that they said.
    kept = rows.join(few.select("speaker").unique(), "speaker", "semi")
    assert kept.height == few.height
