"""The network to compare with: trained for a few steps, stopped, converted, set side by side."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convert.cli
import train.evaluation.tutorial_cnn
import train.fit.training_data
from edge.model.modelfile import DEFAULT_MODEL, read_model
from tests.conftest import Conversion
from tests.side_by_side import (
    Costs,
    Entry,
    ModelRecogniser,
    prices,
    side_by_side,
    table,
    whisper_macs,
)
from tests.synthetic import speech, write_audio
from train.fit.sampling import Batch, BatchSampler

pytestmark = pytest.mark.slow

STEPS = 4


@pytest.fixture(scope="module")
def arguments(tiny_toml: Path, tiny_corpus: Path, tiny_cache: Path) -> list[str]:
    where = ["--corpus", str(tiny_corpus), "--cache", str(tiny_cache), "--workers", "1"]
    return [str(tiny_toml), *where, "--steps", str(STEPS)]


@pytest.fixture(scope="module")
def trained(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose training was interrupted between its second step and its third."""
    output = tmp_path_factory.mktemp("tutorial") / "cnn.keras"
    drawn: list[int] = []

    class Interrupted(BatchSampler):
        def batches(self, first: int, last: int, *parts: Any) -> Iterator[list[Batch]]:
            for step in range(first, last):
                if step == 2 and not drawn.count(2):
                    drawn.append(step)
                    raise KeyboardInterrupt
                drawn.append(step)
                yield [self.batch(step)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.fit.training_data, "BatchSampler", Interrupted)
        patch.setattr(train.evaluation.tutorial_cnn, "SAVE_EVERY_STEPS", 2)
        assert train.evaluation.tutorial_cnn.main([*arguments, "--output", str(output)]) == 130
        assert os.listdir(output.parent) == ["cnn.partial.keras"]
        assert train.evaluation.tutorial_cnn.main([*arguments, "--output", str(output)]) == 0
    assert drawn == [0, 1, 2, 2, 3]
    return output


@pytest.fixture(scope="module")
def converted(trained: Path) -> Path:
    output = trained.with_name("cnn.tflite")
    files = ["--description", str(trained.with_suffix(".json"))]
    recordings = trained.with_suffix(".recordings")
    # The tiny corpus has one stretch of 3 s of each language, which is too little to prove on.
    for number in range(1, 4):
        for language in ("de", "en"):
            write_audio(
                recordings / f"{language}-{number:03}.wav", speech(language, "eva", number, 4.0)
            )
    files += ["--representative", str(recordings)]
    # After four steps its answers are near to a tie, which int8 may well turn.
    limits = ["--min-agreement", "0", "--max-mean-difference", "1"]
    options = [str(trained), "-o", str(output), "--mode", "window", *files, *limits]
    assert convert.cli.main(options) == 0
    return output


def test_leaves_what_conversion_needs(trained: Path) -> None:
    expected = ["cnn.json", "cnn.keras", "cnn.recordings"]
    assert sorted(os.listdir(trained.parent))[:3] == expected
    labels = json.loads(trained.with_suffix(".json").read_text())["labels"]
    assert labels == ["de", "en", "other", "nonspeech"]
    recordings = sorted(os.listdir(trained.with_suffix(".recordings")))
    assert [name[:2] for name in recordings] == ["de", "en"]


def test_other_plans_are_refused(
    trained: Path, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "cnn.keras"
    (tmp_path / "cnn.partial.keras").write_bytes(b"PK damaged")
    assert train.evaluation.tutorial_cnn.main([*arguments, "--output", str(output)]) == 1
    assert "damaged: delete it" in capsys.readouterr().err
    network = train.evaluation.tutorial_cnn.compiled(
        train.evaluation.tutorial_cnn.tutorial_network(300, 32, 4), 7
    )
    network.optimizer.build(network.trainable_variables)
    train.evaluation.tutorial_cnn.save_network(network, tmp_path / "cnn.partial.keras")
    assert train.evaluation.tutorial_cnn.main([*arguments, "--output", str(output)]) == 1
    assert "of other --steps" in capsys.readouterr().err
    assert not output.exists()


def test_side_by_side(tiny_conversion: Conversion, converted: Path, tiny_corpus: Path) -> None:
    """Of the tiny corpus the test split has one cut a language."""
    entries = [
        Entry(functools.partial(ModelRecogniser, path))
        for path in (tiny_conversion.path, converted)
    ]
    report = side_by_side(entries, tiny_corpus, per_language=5, timed_cuts=2)
    ours, other = report["recognisers"]
    assert report["cuts"] == 2
    assert [row["mode"] for row in (ours, other)] == ["stream", "window"]
    assert ours["sha256"] == read_model(tiny_conversion.path).sha256
    assert other["size_bytes"] == converted.stat().st_size
    for row in (ours, other):
        assert row["cuts"] == 2
        assert row["balanced_accuracy"] in (0.0, 0.5, 1.0)
        assert row["peak_memory_bytes"] >= row["memory_before_bytes"] > 0
        assert row["every_hop_ms_per_s"] > 0
    assert ours["times_the_first"]["every_hop_ms_per_s"] == 1.0
    assert ours["difference"] == {"difference": 0.0, "interval": [0.0, 0.0]}
    rows = [line for line in table(report) if line.startswith("|")][2:]
    assert [line.split("|")[1].strip().partition(",")[0] for line in rows] == [
        "tiny",
        "tiny",  # the first, recomputed
        "cnn",
    ]
    assert json.loads(json.dumps(report)) == report


def test_alone_and_streaming_by() -> None:
    recogniser = ModelRecogniser(DEFAULT_MODEL)
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, 48_000).astype(np.float32)
    assert np.exp(recogniser.log_probabilities(samples)).sum() == pytest.approx(1)
    # 3 s are 18 hops and 3/4; the first block of one does not complete an answer, nor does the end,
    # nor do hops whose answer would be about the time before.
    stream = read_model(DEFAULT_MODEL).description.stream
    late_hops = stream.delay_frames // stream.hop_frames
    assert len(recogniser.costs(samples).hops_ms) == 17 - late_hops


def test_prices() -> None:
    streaming = prices([Costs(6.0, [0.2, 0.4]), Costs(9.0, [0.3])])
    assert streaming["alone_ms"]["median_ms"] == 7.5
    assert streaming["every_window_ms_per_s"] == 2.5
    assert streaming["every_hop_ms_per_s"] == 1.875  # 0.3 ms every 0.16 s
    assert streaming["every_hop_anew_ms_per_s"] == 46.875
    anew = prices([Costs(8.0, [])])
    assert anew["hop_ms"] is None
    assert anew["every_hop_ms_per_s"] == anew["every_hop_anew_ms_per_s"] == 50.0


def test_whisper_macs() -> None:
    """One layer by hand: 1500 positions of 512, and a memory for the decoder to attend to."""
    layer = 1500 * (12 * 512 * 512 + 2 * 1500 * 512) + 1500 * 2 * 512 * 512
    entry = 3000 * 80 * 512 * 3 + 1500 * 512 * 512 * 3
    assert whisper_macs() == entry + 6 * layer
