"""Both models are trained on a small bank, kept, and converted."""

from __future__ import annotations

import argparse
import json
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import convert.cli
from edge.errors import EdgelidError
from edge.model.interpreter import WindowGraph, open_model
from edge.model.modelfile import MODELS, read_model
from tests import tiny_whisper
from tests.conftest import TINY
from tests.tiny_whisper import ctranslate2, tiny_arrays
from train.model.checkpoint import (
    Checkpoint,
    build_model,
    load_checkpoint,
    restore_model,
    weights_of,
)
from train.waveforms.bank import TRAIN, Segments, decode_bank, entries_of, write_bank
from train.waveforms.checkpoint import is_large, load_parts, save_parts, starting_weights
from train.waveforms.decoder import DecoderShape
from train.waveforms.grafting import SHARE
from train.waveforms.hearing import Hearing, fingerprint, hear, inside, token_places
from train.waveforms.judge import Judge
from train.waveforms.large import Large, large_front_end, load_large
from train.waveforms.listening import Listening, Student
from train.waveforms.sound import filterbank, log_mel
from train.waveforms.stepper import batched
from train.waveforms.teaching import Along, Kept
from train.waveforms.whisper import Encoder, normalised
from train.waveforms.whisper_languages import classes_of

HELD_OUT = {"de": ["attic"], "en": ["attic"], "sv": ["attic"]}
LARGE = """
seed = 1
[data]
languages = ["de", "en"]
[data.development]
de = ["attic"]
en = ["attic"]
sv = ["attic"]
[large]
layers = 1
steps = 2
batch_s = 24.0
lengths_s = [1.0, 3.0]
head_batches = 6
head_penalty = 0.5
encoder_rate = 1e-6
head_rate = 1e-5
"""
COMPACT = """
[compact]
steps = 3
batch = 16
clip_s = 2.0
windows_s = [1.0, 2.0]
rate = 1e-3
weight_decay = 0.01
label_smoothing = 0.05
average_decay = 0.9
[compact.weights]
frames = 1.0
evidence = 1.0
classes = 1.0
posteriors = 1.0
statistics = 1.0
"""


def options(**changes: Any) -> argparse.Namespace:
    usual = {
        "start": None,
        "teacher": None,
        "hearing": None,
        "steps": None,
        "limit_s": 1e9,
        "batch_scale": 1.0,
        "evaluate_every_s": 1e9,
        "log_every": 1,
        "most": 2,
        "precision": "float32",
        "towers": 1,
        "weights": None,
        "windows": None,
    }
    return argparse.Namespace(**usual | changes)


@pytest.fixture(scope="module")
def bank(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Segments:
    folder = tmp_path_factory.mktemp("bank")
    write_bank(entries_of(tiny_corpus, HELD_OUT, tiny_corpus.parent), folder)
    return decode_bank(sorted(folder.iterdir()), workers=1)


@pytest.fixture(scope="module")
def large(bank: Segments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a large model that began with random weights."""
    from train.waveforms.large_fit import fit_large

    keras.utils.set_random_seed(5)
    folder = tmp_path_factory.mktemp("large")
    encoder = Encoder(1, tiny_whisper.DIM, tiny_whisper.HEADS)
    layer = encoder.stack[0]
    start: dict[str, Any] = {}
    for name, conv in (("conv1", encoder.conv1), ("conv2", encoder.conv2)):
        kernel, bias = conv.get_weights()
        start |= {f"encoder/{name}/weight": kernel.transpose(2, 1, 0), f"encoder/{name}/bias": bias}
    attention, feed = "encoder/layer_0/self_attention", "encoder/layer_0/ffn"
    for name, norm in ((attention, layer.attention_norm), (feed, layer.feed_norm)):
        gamma, beta = norm.get_weights()
        start |= {f"{name}/layer_norm/gamma": gamma, f"{name}/layer_norm/beta": beta}
    for name, dense in (
        (f"{attention}/linear_0", layer.qkv),
        (f"{attention}/linear_1", layer.out),
        (f"{feed}/linear_0", layer.up),
        (f"{feed}/linear_1", layer.down),
    ):
        kernel, bias = dense.get_weights()
        start |= {f"{name}/weight": kernel.T, f"{name}/bias": bias}
    np.savez(folder / "start.npz", **start)
    given = options(start=folder / "start.npz", output=folder / "large.npz")
    fit_large(tomllib.loads(LARGE), bank, given)
    return folder / "large.npz"


def test_parts_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.waveforms.checkpoint.PART_BYTES", 100)
    arrays = {f"large/{i}": np.full(30, i, np.float32) for i in range(4)}
    told = {"config": {"data": {"languages": ["de"]}}}
    save_parts(tmp_path / "x.npz", arrays, told)
    assert len(list(tmp_path.iterdir())) == 4
    found, description = load_parts(tmp_path / "x.npz")
    assert description == told
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert is_large(tmp_path / "x-0.npz") and is_large(tmp_path / "x.npz")
    assert not is_large(tmp_path / "y.npz")


def four_parts(file: Path, value: float, count: int = 4) -> dict[str, np.ndarray]:
    """Of a checkpoint in which all numbers are the same."""
    arrays = {f"large/{i}": np.full(30, value, np.float32) for i in range(count)}
    save_parts(file, arrays, {"config": {"data": {"languages": ["de"]}}})
    return arrays


def test_a_smaller_checkpoint_leaves_nothing_of_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.waveforms.checkpoint.PART_BYTES", 100)
    four_parts(tmp_path / "x.npz", 1.0)
    np.savez(tmp_path / "x-y-3.npz", of="another")
    few = four_parts(tmp_path / "x.npz", 2.0, 2)
    names = {"x-0.npz", "x-1.npz", "x-y-3.npz"}
    assert {file.name for file in tmp_path.iterdir()} == names
    assert load_parts(tmp_path / "x.npz")[0].keys() == few.keys()


@pytest.mark.parametrize("lost", [1, 3])
def test_a_lost_part_is_noticed(lost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.waveforms.checkpoint.PART_BYTES", 100)
    four_parts(tmp_path / "x.npz", 1.0)
    (tmp_path / f"x-{lost}.npz").unlink()
    with pytest.raises(EdgelidError, match=f"x-{lost}.npz is missing: the checkpoint has 4 parts"):
        load_parts(tmp_path / "x.npz")


@pytest.mark.parametrize("number", [0, 2])
def test_parts_of_two_checkpoints_are_refused(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.waveforms.checkpoint.PART_BYTES", 100)
    four_parts(tmp_path / "x.npz", 1.0)
    four_parts(tmp_path / "y.npz", 2.0)
    (tmp_path / f"y-{number}.npz").replace(tmp_path / f"x-{number}.npz")
    with pytest.raises(EdgelidError, match="is of another checkpoint than"):
        load_parts(tmp_path / "x.npz")


def test_parts_without_a_count_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those that are shipped."""
    monkeypatch.setattr("train.waveforms.checkpoint.PART_BYTES", 100)
    arrays = four_parts(tmp_path / "x.npz", 1.0)
    for file in tmp_path.iterdir():
        with np.load(file) as archive:
            kept = {name: archive[name] for name in archive.files if name != "set"}
        if "description" in kept:
            told = json.loads(str(kept["description"]))
            del told["parts"]
            kept["description"] = np.array(json.dumps(told))
        np.savez(file, **kept)
    assert load_parts(tmp_path / "x.npz")[0].keys() == arrays.keys()


@pytest.mark.parametrize("data", [None, b"", b"nothing", b"PK\x03\x04 nothing"])
def test_there_must_be_weights_to_begin_with(data: bytes | None, tmp_path: Path) -> None:
    start = tmp_path / "start.npz"
    if data is not None:
        start.write_bytes(data)
    with pytest.raises(EdgelidError, match="is not there, or is neither a checkpoint of the large"):
        starting_weights(start)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 nothing", b"\0" * 100])
def test_damaged_parts_are_one_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x-0.npz").write_bytes(data)
    with pytest.raises(EdgelidError, match="damaged"):
        load_parts(tmp_path / "x.npz")
    with pytest.raises(EdgelidError, match="there is no checkpoint"):
        load_parts(tmp_path / "y.npz")


def test_features_are_whispers() -> None:
    """Its logarithm, its range of 80 dB below the loudest of the window, its scale."""
    power = np.random.default_rng(0).uniform(0, 1, (1, 20, 80)) ** 8
    log_mel = np.log(1 + power / large_front_end().floor).astype(np.float32)
    decades = np.log10(np.maximum(power, 1e-10))
    wanted = (np.maximum(decades, decades.max() - 8) + 4) / 4
    assert np.abs(np.asarray(normalised(log_mel)) - wanted).max() < 2e-3


def test_pooling_counts_what_the_mask_keeps() -> None:
    model = Large(1, 3, dim=16, heads=2)
    tokens = np.random.default_rng(1).normal(size=(2, 10, 16)).astype(np.float32)
    mask = np.zeros((2, 10), np.float32)
    mask[:, 2:7] = 1
    whole, part = model.pool(tokens, mask), model.pool(tokens[:, 2:7])
    np.testing.assert_allclose(np.asarray(whole), np.asarray(part), atol=1e-4)


@pytest.mark.parametrize("decoder", [None, DecoderShape((0, 1), 6, 2, 4, 8)])
def test_a_window_of_any_length_is_scored_as_a_batch_of_it(decoder: DecoderShape | None) -> None:
    model = Large(2, 3, dim=16, heads=2, decoder=decoder)
    rng = np.random.default_rng(2)
    model.set_weights([rng.normal(0, 0.3, w.shape) ** 2 + 0.1 for w in model.get_weights()])
    for frames in (20, 33, 100):
        log_mel = rng.uniform(0, 20, (1, frames, 80)).astype(np.float32)
        wanted = np.asarray(model(log_mel))
        np.testing.assert_allclose(np.asarray(model.one(log_mel)), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_large_learns_and_is_kept(large: Path) -> None:
    assert load_parts(large)[1]["scores"].keys() == {"1s", "3s", "10s"}
    model, _ = load_large(large)
    assert np.isfinite(np.asarray(model(np.zeros((1, 300, 80), np.float32)))).all()
    # The encoder learnt, by less than half precision tells; its first convolution comes first.
    with (
        np.load(large.with_name("start.npz")) as start,
        np.load(large.with_name("large.state.npz")) as state,
    ):
        begun, learnt = start["encoder/conv1/weight"].transpose(2, 1, 0), state["trained/0"]
    moved = np.abs(learnt - begun)
    assert 1e-7 < moved.max() < 1e-4
    assert np.mean(moved > 0) > 0.5


@pytest.mark.slow
def test_a_large_model_is_balanced(large: Path, bank: Segments, tmp_path: Path) -> None:
    from train.waveforms.balance import balance_large

    biases = balance_large(large, bank, -1.5, tmp_path / "even.npz")
    before, _ = load_large(large)
    after, labels = load_large(tmp_path / "even.npz")
    moved = np.asarray(after.scores.bias) - np.asarray(before.scores.bias)
    assert labels == ["de", "en", "other", "nonspeech"]
    np.testing.assert_allclose(moved, [*biases.values(), -1.5, 0.0], atol=2e-3)
    assert load_parts(tmp_path / "even.npz")[1]["scores"] == {}


@pytest.mark.slow
def test_a_large_model_that_is_too_large(
    large: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before it is heard and compared."""
    import convert.from_large
    import convert.output
    from convert.settings import Settings

    monkeypatch.setattr(convert.output, "MAX_FILE_BYTES", 1_000)
    monkeypatch.setattr(convert.from_large, "score_whole_windows", None)
    with pytest.raises(EdgelidError, match="most that the device takes: add --type int4, or train"):
        convert.from_large.convert_large(
            large, tiny_corpus, tmp_path / "large.tflite", "large", Settings("window"), None
        )
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_large_becomes_a_model_file(large: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    from convert.from_large import convert_large
    from convert.proof import Limits
    from convert.settings import Settings

    # Random weights answer by chance, and 8 bits move that: what they say is not the matter here.
    # The shipped model's proof, with weights that were learnt, is in its file.
    limits = Limits(min_agreement=0.0, max_mean_difference=1.0, max_accuracy_loss=1.0)
    settings = Settings("window", limits=limits)
    output = tmp_path / "large.tflite"
    proof = convert_large(large, tiny_corpus, output, "tiny-large", settings, None)
    model = read_model(output)
    assert model.description.mode == "window"
    assert model.labels == ("de", "en", "other", "nonspeech")
    assert 0 < proof.windows["3"].mean_difference < 0.5
    assert model.description.calibration.temperatures.keys() == proof.windows.keys()
    assert model.description.window_frames == (100, 1000)
    graph = open_model(model)
    assert isinstance(graph, WindowGraph)
    for frames in (100, 237, 1000):
        assert np.isfinite(graph.scores(np.zeros((frames, 80), np.float32))).all()
    assert output.stat().st_size < 6_000_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "takes whole windows: add --mode window"),
        (["--mode", "window", "--type", "float32"], "weights of 8 or 4 bits: give another --type"),
        (["--mode", "window", "--windows", "3"], "leave out --windows"),
        (["--mode", "window", "--hop-ms", "500"], "leave out --hop-ms"),
        (["--mode", "window", "--representative", "nowhere"], "leave out --representative"),
        (
            ["--mode", "window", "--type", "int4", "--representative", "nowhere"],
            "no audio files to quantise with",
        ),
    ],
)
def test_large_is_not_converted_otherwise(
    options: list[str],
    message: str,
    large: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "large.tflite"
    arguments = [str(large), "-o", str(output), "--corpus", str(tiny_corpus), *options]
    assert convert.cli.main(arguments) == 1
    assert message in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.slow
def test_large_becomes_a_model_file_of_4_bits(
    large: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    from convert.from_large import convert_large
    from convert.proof import Limits
    from convert.settings import Settings

    files, proofs = [], []
    for kind, recordings in (("int8", None), ("int4", None), ("int4", tiny_corpus)):
        limits = Limits(min_agreement=0.0, max_mean_difference=1.0, max_accuracy_loss=1.0)
        settings = Settings("window", kind, representative=recordings, limits=limits)
        files.append(tmp_path / f"{len(files)}.tflite")
        proofs.append(convert_large(large, tiny_corpus, files[-1], "tiny-large", settings, None))
    wide, narrow, own = (read_model(file) for file in files)
    trained, _ = load_large(large)
    numbers = sum(value.size for value in trained.get_weights())
    # Half of a byte is left of one, 2 come for each block of 128, and 12 of each output go.
    gone = 12 * trained.dim**2 * (1 / 2 - 2 / 128) + 12 * 9 * trained.dim
    for model in (narrow, own):
        assert model.description.weights == wide.description.weights == numbers
        assert model.graph_bytes == pytest.approx(wide.graph_bytes - gone, abs=3_000)
        assert len(model.description.provenance["representative_clips"]) > 10
    hashes = {model.description.provenance["representative_sha256"] for model in (narrow, own)}
    assert len(hashes) == 2
    assert narrow.graph != own.graph
    by_8_bits, *by_4_bits = (proof.windows["3"].mean_difference for proof in proofs)
    for difference in by_4_bits:  # from the model that was trained
        assert difference < 2 * by_8_bits
    for model in (narrow, own):
        graph = open_model(model)
        assert isinstance(graph, WindowGraph)
        for frames in (100, 237, 1000):
            assert np.isfinite(graph.scores(np.zeros((frames, 80), np.float32))).all()
        silent = graph.scores(np.zeros((300, 80), np.float32))
        np.testing.assert_allclose(silent, model.description.first_scores, atol=1e-3)


def compact_config() -> dict[str, Any]:
    tiny = TINY[: TINY.index("[optimiser]")].replace("variants = 1", "")
    return tomllib.loads(tiny + COMPACT)


@pytest.fixture(scope="module")
def hearing(large: Path, bank: Segments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hearing") / "all"
    hear(bank, large, folder, "float32", 1e9)
    return folder


@pytest.mark.slow
def test_the_teacher_hears_each_stretch_alone(large: Path, bank: Segments, hearing: Path) -> None:
    """Its tokens of a segment of the bank are those that it has for that sound by itself."""
    kept = Hearing.load(hearing, bank)
    rows = [i for i, row in enumerate(bank.rows) if row["role"] == TRAIN]
    i = max(rows, key=lambda i: bank.lengths[i])
    wave = bank.samples[bank.starts[i] :][: bank.lengths[i]][:64_080] / np.float32(32768)
    level = np.zeros((1, 64_240), np.float32)
    level[0, : len(wave)] = wave / (np.abs(wave).max() + 1e-4) * 0.5
    model, _ = load_large(large)
    filters = filterbank(large_front_end())
    alone = np.asarray(model.tokens(log_mel(level[:, :64_240], large_front_end(), filters)))[0]
    count = min(int(kept.counts[i]), 190)
    np.testing.assert_allclose(
        kept.tokens[kept.starts[i] :][:count].astype(np.float32), alone[:count], atol=0.02
    )


@pytest.mark.slow
def test_a_hearing_that_was_stopped_goes_on(
    large: Path, bank: Segments, hearing: Path, tmp_path: Path
) -> None:
    hear(bank, large, tmp_path / "h", "float32", 0.0)
    begun = Hearing.load(tmp_path / "h", bank)
    assert 0 < begun.counts.sum() < Hearing.load(hearing, bank).counts.sum()
    hear(bank, large, tmp_path / "h", "float32", 1e9)
    ended = Hearing.load(tmp_path / "h", bank)
    assert np.array_equal(ended.counts, Hearing.load(hearing, bank).counts)
    assert np.allclose(ended.tokens, Hearing.load(hearing, bank).tokens, atol=1e-3)


def test_a_hearing_of_another_bank_is_refused(bank: Segments, tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match="there is no hearing"):
        Hearing.load(tmp_path, bank)
    np.save(tmp_path / "tokens.npy", np.zeros((4, 2), np.float16))
    (tmp_path / "progress.json").write_text('{"bank": "1/1/1", "counts": [4]}')
    with pytest.raises(EdgelidError, match="another bank"):
        Hearing.load(tmp_path, bank)


def test_a_hearing_knows_its_teacher(bank: Segments, tmp_path: Path) -> None:
    told = {"bank": fingerprint(bank), "counts": [4]}
    np.save(tmp_path / "tokens.npy", np.zeros((4, 2), np.float16))
    file = tmp_path / "progress.json"
    file.write_text(json.dumps(told))
    Hearing.load(tmp_path, bank, "anybody")
    file.write_text(json.dumps(told | {"teacher": "one"}))
    Hearing.load(tmp_path, bank, "one")
    with pytest.raises(EdgelidError, match="was heard by another teacher"):
        Hearing.load(tmp_path, bank, "two")


def test_a_hearing_is_of_one_teacher(
    large: Path, bank: Segments, hearing: Path, tmp_path: Path
) -> None:
    from train.waveforms.compact_fit import fit_compact

    arrays, told = load_parts(large)
    other = tmp_path / "other.npz"
    save_parts(other, arrays | {"large/0": arrays["large/0"] * 1.1}, told)
    with pytest.raises(EdgelidError, match="was heard by another teacher"):
        hear(bank, other, hearing, "float32", 1e9)
    given = options(teacher=other, hearing=hearing, output=tmp_path / "compact.npz")
    with pytest.raises(EdgelidError, match="was heard by another teacher"):
        fit_compact(compact_config(), bank, given)


def test_tokens_follow_what_is_played() -> None:
    """Twice as fast, every second token; what precedes and follows the sound is outside."""
    draw = {
        "lead": np.array([640], np.int32),
        "rate": np.array([2.0], np.float32),
        "counts": np.array([3200], np.int32),
        "offset": np.array([320], np.int32),
        "first_token": np.array([100], np.int32),
    }
    place = np.asarray(token_places(draw, 8))[0].tolist()
    assert np.flatnonzero(np.asarray(inside(draw, 8))[0]).tolist() == [2, 3, 4, 5, 6]
    assert place[2:7] == [102, 104, 106, 108, 110]


@pytest.fixture(scope="module")
def compact(
    large: Path, bank: Segments, hearing: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Checkpoint of a compact model that began with random weights."""
    from train.waveforms.compact_fit import fit_compact

    file = tmp_path_factory.mktemp("compact") / "compact.npz"
    fit_compact(compact_config(), bank, options(teacher=large, hearing=hearing, output=file))
    return file


@pytest.mark.slow
def test_compact_learns_from_large(
    compact: Path,
    large: Path,
    bank: Segments,
    hearing: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from train.waveforms import compact_fit

    monkeypatch.setattr(compact_fit, "NEW_STEPS", 10)
    checkpoint = load_checkpoint(compact)
    trunk, _ = restore_model(checkpoint)
    assert checkpoint.step == 3
    assert all(np.isfinite(w).all() for w in trunk.get_weights())
    # Its normalisations have moved from where they began: zero and one.
    assert any(np.abs(norm.moving_mean.numpy()).max() > 1e-3 for norm in trunk.norms)
    # A run that begins with these weights changes none of them before its helpers are learnt: one
    # step at a hundredth of the rate is all that they have had.
    given = options(teacher=large, hearing=hearing, start=compact, output=tmp_path / "next.npz")
    given.steps = 1
    compact_fit.fit_compact(compact_config(), bank, given)
    again, _ = restore_model(load_checkpoint(tmp_path / "next.npz"))
    for ours, theirs in zip(trunk.trainable_variables, again.trainable_variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


@pytest.mark.slow
def test_a_teacher_that_hears_along_says_what_it_kept(
    large: Path, bank: Segments, hearing: Path
) -> None:
    """Of clips at their own speed and in their own voice, but for what it heard behind them."""
    from train.waveforms.compact_fit import run_config

    model, _ = load_large(large)
    config = compact_config()
    student = Student.of(run_config(config))
    said = []
    for teaching in (Kept(Hearing.load(hearing, bank)), Along(model, voices=False)):
        heard = Listening(student, bank, teaching)
        heard.begin_at(0, 1)
        draw = heard.draw(16)
        # From where the teacher's first stretch began, as a token knows its place in one.
        draw["starts"] -= draw["offset"]
        draw["offset"][:], draw["lead"][:], draw["rate"][:] = 0, 0, 1.0
        constants = heard.constants | {"teacher": [v.value for v in model.variables]}
        tokens, spoken = heard.lesson(heard.wave(draw, constants), draw, constants)
        said.append((np.asarray(tokens), np.asarray(spoken)[:, :, 0] > 0))
    (kept, spoken), (along, also) = said
    np.testing.assert_array_equal(spoken, also)
    assert spoken.any()
    ours, theirs = (x[spoken] - x[spoken].mean(axis=0) for x in (along, kept))
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    assert np.median(np.sum(ours * theirs, axis=1) / norms) > 0.9


@pytest.mark.slow
def test_a_teacher_that_hears_along_hears_company(large: Path, bank: Segments) -> None:
    """Of one draw, its tokens are others where somebody else speaks, and the same elsewhere."""
    from train.waveforms.compact_fit import run_config

    model, _ = load_large(large)
    told, found = run_config(compact_config()), []
    teaching = Along(model, voices=False)
    company, alone = (
        Listening(Student.of(told, **shares), bank, teaching)
        for shares in ({"second_voices": 0.5, "changes": 0.5}, {})
    )
    company.begin_at(0, 1)
    draw = company.draw(32)
    for heard in (company, alone):
        constants = heard.constants | {"teacher": [v.value for v in model.variables]}
        tokens, _ = heard.lesson(heard.wave(draw, constants), draw, constants)
        found.append(np.asarray(tokens))
    apart = np.abs(found[0] - found[1]).max(axis=-1) > 1e-3  # (clips, tokens)
    # Behind a turn another clip is heard, before it the clip as it was, but for second voices.
    token = np.arange(apart.shape[1])[None] // company.group
    behind = (token >= draw["turn"][:, None]) & (draw["next"] != np.arange(32))[:, None]
    assert behind.any() and apart[behind].mean() > 0.9
    by_itself = ~behind & (draw["second_gain"] == 0)[:, None]
    assert by_itself.any() and not apart[by_itself & (token < draw["turn"][:, None])].any()
    beside = ~behind & (draw["second_gain"] > 0)[:, None]
    assert apart[beside].any()


@pytest.mark.slow
def test_compact_learns_in_company(large: Path, bank: Segments, tmp_path: Path) -> None:
    from train.waveforms.compact_fit import fit_compact

    config = compact_config()
    shares = ("other_voices", "other_spectra", "second_voices", "changes")
    config["compact"] |= dict.fromkeys(shares, 0.5)
    given = options(teacher=large, output=tmp_path / "compact.npz", towers=2)
    fit_compact(config, bank, given)
    trunk, head = restore_model(load_checkpoint(tmp_path / "compact.npz"))
    assert all(np.isfinite(w).all() for w in [*trunk.get_weights(), *head.get_weights()])


def test_what_was_kept_knows_of_no_second_voices(
    large: Path, bank: Segments, hearing: Path, tmp_path: Path
) -> None:
    from train.waveforms.compact_fit import fit_compact

    config = compact_config()
    config["compact"]["second_voices"] = 0.5
    given = options(teacher=large, hearing=hearing, output=tmp_path / "compact.npz")
    with pytest.raises(EdgelidError, match="the teacher hears along"):
        fit_compact(config, bank, given)


@pytest.fixture(scope="module")
def speaking(large: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The large model with a decoder, whose weights are random."""
    keras.utils.set_random_seed(6)
    arrays, told = load_parts(large)
    bare, labels = load_large(large)
    sizes = {"steps": [0, 1], "width": 8, "heads": 2, "channels": 4, "feed": 12}
    shape = DecoderShape(**sizes | {"steps": (0, 1)})
    dim, heads = tiny_whisper.DIM, tiny_whisper.HEADS
    model = Large(1, len(labels), dim=dim, heads=heads, decoder=shape)
    count = len(bare.get_weights())
    model.set_weights([arrays[f"large/{i}"] for i in range(count)] + model.get_weights()[count:])
    told["config"]["large"]["decoder"] = sizes
    file = tmp_path_factory.mktemp("speaking") / "large.npz"
    save_parts(file, model.arrays(), told)
    return file


def languages_config() -> dict[str, Any]:
    """A compact model, half of whose head learns what the decoder says of languages."""
    config = compact_config()
    config["compact"]["languages_hidden"] = config["model"]["hidden"] // 2
    config["compact"]["weights"]["languages"] = 1.0
    return config


@pytest.mark.slow
def test_compact_learns_to_speak_of_languages(
    speaking: Path, bank: Segments, hearing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.waveforms import compact_fit
    from train.waveforms.compact_fit import fit_compact

    monkeypatch.setattr(compact_fit, "NEW_STEPS", 10)
    given: dict[str, Any] = {"teacher": speaking, "hearing": hearing}
    fit_compact(languages_config(), bank, options(output=tmp_path / "compact.npz", **given))
    checkpoint = load_checkpoint(tmp_path / "compact.npz")
    _, head = restore_model(checkpoint)
    hidden, half = checkpoint.config.model.hidden, checkpoint.config.model.hidden // 2
    *_, kernel, _ = head.get_weights()
    assert kernel.shape == (hidden, len(checkpoint.config.data.labels))
    assert np.abs(kernel[:half]).max() > 0.05 and np.abs(kernel[half:]).max() > 0.05
    # It is a checkpoint as any other, to go on from, too.
    given |= {"start": tmp_path / "compact.npz", "output": tmp_path / "next.npz", "steps": 1}
    fit_compact(languages_config(), bank, options(**given))
    _, again = restore_model(load_checkpoint(tmp_path / "next.npz"))
    np.testing.assert_allclose(again.get_weights()[-2][:half], kernel[:half], atol=2e-3)


@pytest.mark.slow
def test_what_is_new_learns_first_and_as_fast_whatever_the_batch(
    speaking: Path,
    bank: Segments,
    hearing: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from train.waveforms import compact_fit
    from train.waveforms.stepper import Stepper

    monkeypatch.setattr(compact_fit, "NEW_STEPS", 2)
    config = languages_config()
    told = compact_fit.run_config(config)
    start = Checkpoint(told, 1, {}, weights_of(*build_model(told)))
    start.save(tmp_path / "start.npz")
    steps: list[tuple[float, float | None]] = []
    kept = Stepper.step

    def step(
        self: Stepper, draw: Any, constants: Any, factor: float, new: float | None = None
    ) -> Any:
        steps.append((factor, None if new is None else new * self.rates[0]))
        # Helpers of frames, statistics and evidence, and the readout that no checkpoint has whole.
        assert sum(self.new) == 3 * 2 + self.counts[compact_fit.LANGUAGES]
        return kept(self, draw, constants, factor, new)

    monkeypatch.setattr(Stepper, "step", step)
    for scale in (1.0, 0.5):
        given = options(teacher=speaking, hearing=hearing, start=tmp_path / "start.npz", steps=1)
        given.output, given.batch_scale = tmp_path / f"at-{scale}.npz", scale
        compact_fit.fit_compact(config, bank, given)
    for alone, again, all_learn in (steps[:3], steps[3:]):
        for factor, rate in (alone, again):
            assert factor == 0 and rate == pytest.approx(compact_fit.NEW_RATE)
        assert all_learn[0] > 0 and all_learn[1] is None


def test_a_run_begins_with_a_model_of_its_own_network(
    large: Path, bank: Segments, hearing: Path, tmp_path: Path
) -> None:
    from train.waveforms.compact_fit import fit_compact, run_config

    told, start = run_config(compact_config()), tmp_path / "start.npz"
    given = options(teacher=large, hearing=hearing, start=start, output=tmp_path / "compact.npz")
    # As the last one of a run that goes on.
    Checkpoint(told, 1, {}, {"weights/0": np.zeros(1)}).save(start)
    with pytest.raises(EdgelidError, match="holds no finished model"):
        fit_compact(compact_config(), bank, given)
    other = replace(told, model=replace(told.model, embedding=8))
    Checkpoint(other, 1, {}, weights_of(*build_model(other))).save(start)
    with pytest.raises(EdgelidError, match="has another network than the configuration"):
        fit_compact(compact_config(), bank, given)


def test_a_model_is_judged_by_what_is_held_out(bank: Segments) -> None:
    labels = ["de", "en", "other", "nonspeech"]
    kept = np.array([row["role"] == TRAIN for row in bank.rows])
    rows = [row for row in bank.rows if row["role"] == TRAIN]
    less = Segments(bank.samples, bank.starts[kept], bank.lengths[kept], rows)
    with pytest.raises(EdgelidError, match="has no 1 s of development speech"):
        Judge(less, labels, 2)


def test_who_does_not_speak_of_languages_cannot_teach_it(
    large: Path, bank: Segments, hearing: Path, tmp_path: Path
) -> None:
    from train.waveforms.compact_fit import fit_compact

    given = options(teacher=large, hearing=hearing, output=tmp_path / "compact.npz")
    with pytest.raises(EdgelidError, match="has no decoder"):
        fit_compact(languages_config(), bank, given)
    config = languages_config()
    del config["compact"]["weights"]["languages"]
    with pytest.raises(EdgelidError, match="belong together"):
        fit_compact(config, bank, given)


@pytest.mark.slow
def test_a_compact_model_is_balanced(compact: Path, bank: Segments) -> None:
    from train.waveforms.balance import balanced

    before = load_checkpoint(compact)
    after, biases = balanced(before, bank, -1.0)
    pooled = np.ones((1, 2 * before.config.model.embedding), np.float32)
    (_, head), (_, even) = restore_model(before), restore_model(after)
    moved = np.asarray(even(pooled) - head(pooled))[0]
    np.testing.assert_allclose(moved, [*biases.values(), -1.0, 0.0], atol=1e-4)


def teach_config() -> dict[str, Any]:
    config = tomllib.loads(LARGE)
    weights = {"frames": 0.3, "languages": 1.0, "posteriors": 1.0}
    config["teach"] = {"steps": 12, "batch": 16, "clip_s": 2.0, "windows_s": [0.5, 2.0]}
    config["teach"] |= {"encoder_rate": 1e-4, "decoder_rate": 1e-2, "weights": weights}
    config["teach"]["encoder_waits"] = 0.5
    config["teach"] |= {"other_voices": 0.5, "second_voices": 0.5}
    return config


@pytest.mark.slow
def test_whisper_teaches_the_large_model(
    speaking: Path, bank: Segments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes nearer to what Whisper says of languages, rows and all."""
    from train.waveforms.teach import teach

    weights = tmp_path / "model.bin"
    weights.write_bytes(ctranslate2(tiny_arrays()))
    given = options(start=speaking, weights=weights, output=tmp_path / "taught.npz")
    teach(teach_config(), bank, given)
    said = [x for x in capsys.readouterr().out.splitlines() if x.startswith("step")]
    apart = [float(x.split("'languages': ")[1].split(",")[0]) for x in said]
    assert len(apart) == 12
    assert np.mean(apart[-4:]) < np.mean(apart[:4])
    arrays, told = load_parts(tmp_path / "taught.npz")
    assert told["scores"].keys() == {"1s", "3s", "10s"} and told["steps"] == 12
    before, _ = load_parts(speaking)
    assert {k: v.shape for k, v in arrays.items()} == {k: v.shape for k, v in before.items()}
    after, _ = load_large(tmp_path / "taught.npz")
    begun, _ = load_large(speaking)
    for name, learns in {"encoder": 1, "decoder": 1, "said": 1, "rows": 1, "scores": 0}.items():
        both = zip(
            getattr(after, name).get_weights(), getattr(begun, name).get_weights(), strict=True
        )
        assert any(not np.array_equal(x, y) for x, y in both) == learns, name

    # It goes on.
    teach(teach_config(), bank, options(**vars(given) | {"steps": 13}))
    said = [x for x in capsys.readouterr().out.splitlines() if x.startswith("step")]
    assert [line.split()[1] for line in said] == ["13"]
    # What was lost is made again, though it scores no better.
    (tmp_path / "taught-0.npz").unlink()
    teach(teach_config(), bank, options(**vars(given) | {"steps": 13}))
    assert load_parts(tmp_path / "taught.npz")[1]["steps"] == 13

    # With another Whisper, or whatever else, it would not be the same run.
    other = tmp_path / "other.bin"
    other.write_bytes(ctranslate2(tiny_arrays(1)))
    for change in ({"weights": other}, {"batch_scale": 2.0}):
        with pytest.raises(EdgelidError, match="damaged or of another run"):
            teach(teach_config(), bank, options(**vars(given) | change))

    still = teach_config()
    still["teach"] |= {"encoder_rate": 0.0, "steps": 2}
    teach(still, bank, options(**vars(given) | {"output": tmp_path / "still.npz"}))
    after, _ = load_large(tmp_path / "still.npz")
    for x, y in zip(after.encoder.get_weights(), begun.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)
    assert not np.array_equal(after.said.get_weights(), begun.said.get_weights())


@pytest.mark.slow
def test_whisper_teaches_who_has_a_decoder(large: Path, bank: Segments, tmp_path: Path) -> None:
    from train.waveforms.teach import teach

    given = options(start=large, weights=tmp_path / "none", output=tmp_path / "taught.npz")
    with pytest.raises(EdgelidError, match="no large model with a decoder"):
        teach(teach_config(), bank, given)
    config = teach_config()
    del config["teach"]["weights"]["frames"]
    with pytest.raises(EdgelidError, match="the setting 'frames' is missing"):
        teach(config, bank, given)
    del config["teach"]["clip_s"]
    with pytest.raises(EdgelidError, match="the setting 'clip_s' is missing"):
        teach(config, bank, given)


@pytest.mark.slow
def test_large_gets_a_decoder(
    large: Path, bank: Segments, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a random Whisper; and becomes a model file."""
    from convert.from_large import convert_large
    from convert.proof import Limits
    from convert.settings import Settings
    from train.waveforms.graft import graft_decoder

    monkeypatch.setattr("train.waveforms.asked.WINDOWS", {1.0: 128, 3.0: 64})
    weights = tmp_path / "model.bin"
    weights.write_bytes(ctranslate2(tiny_arrays()))
    monkeypatch.setattr("tests.tiny_whisper.DIM", 64)
    other = tmp_path / "other.bin"
    other.write_bytes(ctranslate2(tiny_arrays(1)))
    config = tomllib.loads(LARGE)
    given = options(
        start=large,
        weights=[weights, other],
        output=tmp_path / "grafted.npz",
        windows=tmp_path / "windows",
    )
    with pytest.raises(EdgelidError, match="nothing to graft"):
        graft_decoder(config, bank, given)
    decoder = {"steps": [0], "width": 8, "heads": 2, "channels": 8, "feed": 16}
    config["large"]["decoder"] = decoder
    with pytest.raises(EdgelidError, match="the setting 'epochs' is missing"):
        graft_decoder(config, bank, given)
    config["large"] |= {"epochs": 2, "decoder_rate": 1e-4}
    with pytest.raises(EdgelidError, match="neither a checkpoint of the large model"):
        graft_decoder(config, bank, options(**vars(given) | {"start": weights}))
    with pytest.raises(EdgelidError, match="differ in their languages"):
        data = config["data"] | {"languages": ["de", "sv"]}
        graft_decoder(config | {"data": data}, bank, given)
    for change, words in (
        ({"heads": 4}, "as many heads as Whisper: 2"),
        ({"steps": [0, 1]}, "those of Whisper: 0 to 0"),
        ({"feeds": 1}, "unknown setting 'feeds'"),
    ):
        with pytest.raises(EdgelidError, match=words):
            wrong = config["large"] | {"decoder": decoder | change}
            graft_decoder(config | {"large": wrong}, bank, given)
    graft_decoder(config, bank, given)
    grafted, labels = load_large(tmp_path / "grafted.npz")
    assert labels == ["de", "en", "other", "nonspeech"]
    before, _ = load_large(large)
    for ours, theirs in zip(
        grafted.encoder.get_weights(), before.encoder.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    # The decoder's part of the scores is, in the mean over what was heard, its teachers'.
    kept = [np.load(file) for file in sorted((tmp_path / "windows").glob("*.npz"))]
    states = np.concatenate([batched(grafted.decoder, some["tokens"]) for some in kept])
    rows = np.concatenate([some["rows"] for some in kept])
    scores = np.asarray(keras.ops.log_softmax(classes_of(rows, 2)))
    wanted = SHARE * (scores - scores.mean(axis=1, keepdims=True))
    added = grafted.scores.get_weights()[1] - (1 - SHARE) * before.scores.get_weights()[1]
    said = np.asarray(grafted.said(states)).mean(axis=0) + added
    np.testing.assert_allclose(said, wanted.mean(axis=0), atol=0.02)
    with pytest.raises(EdgelidError, match="a decoder already"):
        graft_decoder(config, bank, options(**vars(given) | {"start": tmp_path / "grafted.npz"}))
    # What has one may teach.
    by_two = vars(given) | {"weights": [weights, given.output], "output": tmp_path / "again.npz"}
    by_two["windows"] = None  # others are asked
    graft_decoder(config, bank, options(**by_two))
    for wrong, words in (
        ([given.output], "its weights come first"),
        ([weights, large], "no large model of the configuration's languages with a decoder"),
    ):
        with pytest.raises(EdgelidError, match=words):
            graft_decoder(config, bank, options(**by_two | {"weights": wrong}))

    limits = Limits(min_agreement=0.0, max_mean_difference=1.0, max_accuracy_loss=1.0)
    settings = Settings("window", limits=limits)
    output = tmp_path / "grafted.tflite"
    convert_large(given.output, tiny_corpus, output, "tiny-large", settings, None)
    graph = open_model(read_model(output))
    assert isinstance(graph, WindowGraph)
    window = np.random.default_rng(0).uniform(0, 20, (237, 80)).astype(np.float32)
    np.testing.assert_allclose(
        graph.scores(window), np.asarray(grafted.one(window[None]))[0], atol=0.5
    )


@pytest.mark.parametrize("command", ["compact", "large", "teach", "graft", "inherit"])
def test_what_the_configuration_holds_out_is_not_trained_on(command: str, bank: Segments) -> None:
    """Though the bank was packed with another one."""
    from train.waveforms.compact_fit import fit_compact
    from train.waveforms.graft import graft_decoder
    from train.waveforms.inherit import inherit
    from train.waveforms.large_fit import fit_large
    from train.waveforms.teach import teach

    config = {
        "compact": compact_config,
        "inherit": compact_config,
        "large": graft_config,
        "graft": graft_config,
        "teach": teach_config,
    }[command]()
    config["data"]["development"] = {"en": ["home"]}
    run = {
        "compact": fit_compact,
        "inherit": inherit,
        "large": fit_large,
        "graft": graft_decoder,
        "teach": teach,
    }[command]
    with pytest.raises(EdgelidError, match="the bank has home in en to train on"):
        run(config, bank, options())


def whispers_own(folder: Path) -> tuple[Path, Path]:
    """Weights of a tiny Whisper, and its encoder alone."""
    from train.waveforms.published import read_encoder

    weights, encoder = folder / "model.bin", folder / "encoder.npz"
    weights.write_bytes(ctranslate2(tiny_arrays()))
    np.savez(encoder, **read_encoder(weights, 1))
    return weights, encoder


def graft_config() -> dict[str, Any]:
    config = tomllib.loads(LARGE)
    decoder = {"steps": [0], "width": 8, "heads": 2, "channels": 8, "feed": 16}
    config["large"] |= {"decoder": decoder, "epochs": 2, "decoder_rate": 1e-4}
    return config


@pytest.mark.slow
def test_an_encoder_gets_a_head_and_a_decoder(
    bank: Segments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another width; and what was heard is kept, and found again."""
    from train.waveforms.detached import attach, detach
    from train.waveforms.graft import graft_decoder

    monkeypatch.setattr("train.waveforms.asked.WINDOWS", {1.0: 128, 3.0: 64})
    (weights, start), config, windows = whispers_own(tmp_path), graft_config(), tmp_path / "windows"
    given = options(
        start=start, weights=[weights], output=tmp_path / "grafted.npz", windows=windows
    )
    lacking = config | {"large": {k: v for k, v in config["large"].items() if k != "head_penalty"}}
    with pytest.raises(EdgelidError, match="the setting 'head_penalty' is missing"):
        graft_decoder(lacking, bank, given)
    graft_decoder(config, bank, given)
    found, _ = load_large(given.output)
    assert found.dim == tiny_whisper.DIM and not np.any(found.gate.get_weights()[0])
    assert np.ptp(found.scores.get_weights()[0]) > 0.01

    # The graph pools each channel at a spread of its own, and says the same.
    window = np.random.default_rng(0).uniform(0, 20, (236, 80)).astype(np.float32)[None]
    np.testing.assert_allclose(found.one(window), found(window), atol=1e-3)
    # Its encoder is Whisper's, so a checkpoint of the rest has all that was made.
    rest, whole = tmp_path / "rest.npz", tmp_path / "whole.npz"
    detach(given.output, rest)
    assert (tmp_path / "rest-0.npz").stat().st_size < 4_000_000
    with pytest.raises(EdgelidError, match="lacks its encoder"):
        load_large(rest)
    attach(rest, weights, whole)
    for a, b in zip(found.get_weights(), load_large(whole)[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    other = tmp_path / "other.bin"
    other.write_bytes(ctranslate2(tiny_arrays(1)))
    with pytest.raises(EdgelidError, match="is of another Whisper"):
        attach(rest, other, whole)
    with pytest.raises(EdgelidError, match="without its encoder"):
        attach(whole, weights, rest)
    with pytest.raises(EdgelidError, match="of a large model with a decoder"):
        detach(rest, whole)

    def refuse(*_: object) -> None:
        raise AssertionError("asked again")

    with monkeypatch.context() as patch:
        patch.setattr("train.waveforms.asked._asked", refuse)
        graft_decoder(config, bank, given)
    again, _ = load_large(given.output)
    for a, b in zip(found.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)
    with pytest.raises(EdgelidError, match="of other models, or of another bank"):
        graft_decoder(config | {"seed": 2}, bank, given)
    for name, value in (("OTHER_VOICES", 0.1), ("WINDOWS", {1.0: 64})):
        with monkeypatch.context() as patch, pytest.raises(EdgelidError, match="of other models"):
            patch.setattr(f"train.waveforms.asked.{name}", value)
            graft_decoder(config, bank, given)
    (windows / "windows-1s.npz").write_bytes(b"nothing")
    with pytest.raises(EdgelidError, match="is damaged"):
        graft_decoder(config, bank, given)
    np.savez(start, nothing=np.zeros(1))
    with pytest.raises(EdgelidError, match="nor an encoder of so many layers"):
        graft_decoder(config, bank, given)


@pytest.mark.slow
def test_a_large_model_learns_beside_whispers_matrices(
    bank: Segments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on when it was stopped; what it learnt is kept without Whisper's weights."""
    from train.waveforms.balance import balance_large
    from train.waveforms.detached import attach, detach
    from train.waveforms.graft import graft_decoder
    from train.waveforms.large_fit import fit_large

    monkeypatch.setattr("train.waveforms.asked.WINDOWS", {1.0: 64})
    (weights, start), config, begun = whispers_own(tmp_path), graft_config(), tmp_path / "begun.npz"
    config["large"] |= {"adapters": {"rank": 2, "first": 0}, "encoder_rate": 1e-2}
    config["large"] |= {"weight_decay": 0.0, "average_decay": 0.1, "other_voices": 0.5}
    graft_decoder(config, bank, options(start=start, weights=[weights], output=begun))
    given = {"start": begun, "output": tmp_path / "learnt.npz", "towers": 2}
    for lacking, said in (("head_rate", "'head_rate'"), ("adapters", "'rank'")):
        less = {k: v for k, v in config["large"].items() if k != lacking}
        less |= {"adapters": {"first": 0}} if lacking == "adapters" else {}
        with pytest.raises(EdgelidError, match=f"the setting {said} is missing"):
            fit_large(config | {"large": less}, bank, options(**given))
    # It is kept as it is in the end, whether or not that scores better.
    monkeypatch.setattr("train.waveforms.large_fit.select", lambda score: 0.0)
    fit_large(config, bank, options(steps=2, **given))
    arrays, told = load_parts(given["output"])
    assert sum(name.startswith("adapter/0/") for name in arrays) == 8
    assert told["steps"] == 2
    fit_large(config, bank, options(steps=3, **given))
    assert load_parts(given["output"])[1]["steps"] == 3

    balanced, rest, whole = (tmp_path / f"{name}.npz" for name in ("even", "rest", "whole"))
    balance_large(given["output"], bank, 0.0, balanced)
    detach(balanced, rest)
    attach(rest, weights, whole)
    moved = False
    for first, a, b in zip(
        *(load_large(file)[0].get_weights() for file in (begun, balanced, whole)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-3)
        moved |= bool(np.abs(a - first).max() > 1e-3 and a.ndim == 2)
    assert moved


@pytest.mark.slow
def test_what_an_encoder_in_full_precision_learns_is_attached(
    bank: Segments, tmp_path: Path
) -> None:
    from train.waveforms.detached import attach, detach
    from train.waveforms.large_fit import fit_large

    (weights, start), config = whispers_own(tmp_path), graft_config()
    with np.load(start) as archive:
        # What half precision makes of it is in the weights.
        np.savez(start, **{k: archive[k].astype(np.float32) * 1.00001 for k in archive.files})
    config["large"]["adapters"] = {"rank": 2, "first": 0}
    learnt, rest, attached = (tmp_path / f"{name}.npz" for name in ("learnt", "rest", "attached"))
    fit_large(config, bank, options(start=start, output=learnt, steps=1))
    detach(learnt, rest)
    attach(rest, weights, attached)
    both = (load_large(file)[0].get_weights() for file in (learnt, attached))
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on(
    large: Path,
    bank: Segments,
    hearing: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And comes to what it would have come to."""
    from train.waveforms import compact_fit, state

    config = compact_config()
    given: dict[str, Any] = {"teacher": large, "hearing": hearing, "towers": 2, "steps": 4}
    whole, stopped = (options(output=tmp_path / f"{name}.npz", **given) for name in "wc")
    compact_fit.fit_compact(config, bank, whole)

    def stop(step: int, *_: object) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(state, "report", stop)
        compact_fit.fit_compact(config, bank, stopped)
    capsys.readouterr()
    compact_fit.fit_compact(config, bank, stopped)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [line.split()[1] for line in said] == ["3", "4"]
    with np.load(tmp_path / "w.state.npz") as ours, np.load(tmp_path / "c.state.npz") as theirs:
        assert ours.files == theirs.files
        assert ours["run"][0] == theirs["run"][0] == 4
        assert ours["whose"] == theirs["whose"]
        for name in ours.files:
            if name not in ("run", "whose"):  # the former has the time, too
                np.testing.assert_allclose(ours[name], theirs[name], 1e-3, 1e-5, err_msg=name)
    # With another teacher, or whatever else, it would not be the same run.
    other, (arrays, told) = tmp_path / "other.npz", load_parts(large)
    save_parts(other, arrays | {"large/0": arrays["large/0"] * 1.1}, told)
    again = vars(stopped) | {"hearing": None}
    for change in ({"teacher": other}, {"batch_scale": 0.5}):
        with pytest.raises(EdgelidError, match="damaged or of another run"):
            compact_fit.fit_compact(config, bank, options(**again | change))
    with pytest.raises(EdgelidError, match="damaged or of another run"):
        compact_fit.fit_compact(config | {"seed": 4}, bank, stopped)


@pytest.mark.slow
def test_the_time_of_a_run_is_that_of_what_is_new_as_well(
    large: Path, bank: Segments, hearing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.waveforms.compact_fit import fit_compact, run_config
    from train.waveforms.stepper import Stepper

    told = run_config(compact_config())
    Checkpoint(told, 1, {}, weights_of(*build_model(told))).save(tmp_path / "start.npz")
    given = options(teacher=large, hearing=hearing, start=tmp_path / "start.npz", limit_s=1e-9)
    given.output, steps, kept = tmp_path / "c.npz", [], Stepper.step

    def step(self: Stepper, *arguments: Any) -> Any:
        steps.append(arguments)
        return kept(self, *arguments)

    monkeypatch.setattr(Stepper, "step", step)
    fit_compact(compact_config(), bank, given)
    assert len(steps) == 1


@pytest.fixture(scope="module")
def fitted(bank: Segments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of one step, with what it began with."""
    from train.waveforms.large_fit import fit_large

    folder = tmp_path_factory.mktemp("fitted")
    _, start = whispers_own(folder)
    fit_large(graft_config(), bank, options(start=start, output=folder / "l.npz", steps=1))
    return folder


@pytest.mark.slow
def test_the_state_of_another_run_is_not_gone_on_with(
    fitted: Path, bank: Segments, tmp_path: Path
) -> None:
    """Or it would be written under the new configuration, over weights of the old one."""
    from train.waveforms.large_fit import fit_large

    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    config, start = graft_config(), tmp_path / "encoder.npz"
    given: dict[str, Any] = {"start": start, "output": tmp_path / "l.npz"}
    kept = (tmp_path / "l-0.npz").read_bytes()
    changed = config | {"large": config["large"] | {"head_rate": 1e-3}}
    with pytest.raises(EdgelidError, match="damaged or of another run"):
        fit_large(changed, bank, options(steps=1, **given))
    with np.load(start) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(start, **arrays | {"encoder/conv1/bias": arrays["encoder/conv1/bias"] + 1})
    with pytest.raises(EdgelidError, match="damaged or of another run"):
        fit_large(config, bank, options(steps=1, **given))
    assert (tmp_path / "l-0.npz").read_bytes() == kept


@pytest.mark.slow
def test_a_large_model_that_was_lost_is_made_again(
    fitted: Path, bank: Segments, tmp_path: Path
) -> None:
    """Though it scores no better than what was lost."""
    from train.waveforms.large_fit import fit_large

    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    first = tmp_path / "l-0.npz"
    given = options(start=tmp_path / "encoder.npz", output=tmp_path / "l.npz", steps=1)
    first.write_bytes(first.read_bytes()[:-1000])
    fit_large(graft_config(), bank, given)
    assert load_parts(given.output)[1]["steps"] == 1


def test_the_seed_is_of_the_weights_as_well(bank: Segments, tmp_path: Path) -> None:
    from train.waveforms.large_fit import _Run

    (_, start), config = whispers_own(tmp_path), graft_config()
    found = []
    for seed in (1, 1, 2):
        run = _Run(config | {"seed": seed}, bank, options(start=start, output=tmp_path / "l.npz"))
        found.append(run._model.decoder.get_weights()[0])
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def test_the_shipped_large_model_was_proven() -> None:
    """int8 weights changed next to nothing of it."""
    model = read_model(MODELS / "edgelid-9-large.tflite")
    proof = model.description.metrics["proof"]["windows"]["3"]
    assert proof["agreement"] > 0.97
    assert proof["mean_difference"] < 0.005
    assert model.description.metrics["accuracy_by_duration"]["3"] > 0.9
