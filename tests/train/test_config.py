"""Configurations are read as they are written, and what does not fit is said in a sentence."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest

import train
from edge.errors import EdgelidError
from train.config import RunConfig, from_dict, read_config

FOLDER = Path(train.__file__).parent / "configs"
STUDENTS = ("compact", "edgelid-9-taught", "edgelid-9-deep")
# These have synthetic voices to learn from that the others hold out.
NEWEST = ("edgelid-9-attention", "edgelid-9-company")
LARGE = (
    "large",
    "edgelid-9-large",
    "edgelid-9-xlarge",
    "edgelid-9-xlarge-second",
    "edgelid-9-xlarge-speakers",
    "edgelid-9-xlarge-speakers-second",
    "edgelid-9-xlarge-heard",
)
OF_WAVEFORMS = (*STUDENTS, *NEWEST, *LARGE)  # train.waveforms reads more in them
OF_THE_CORPUS = ("own", "own-few")  # see tests/train/fit/test_configuring.py
CONFIGS = sorted(
    path for path in FOLDER.glob("*.toml") if path.stem not in (*OF_WAVEFORMS, *OF_THE_CORPUS)
)
BY_MANIFEST = {"finetune-malayalam": {"ml"}}  # languages whose manifest divides their one source


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations(path: Path) -> None:
    config = read_config(path)
    assert config.data.labels == (*config.data.languages, "other", "nonspeech")
    # Held out are whole sources of each language, or else what the manifest says.
    held_out = set(config.data.development)
    assert not held_out or set(config.data.languages) - held_out == BY_MANIFEST.get(
        path.stem, set()
    )


def test_configurations_of_waveforms_hold_out_the_same() -> None:
    pytest.importorskip("tensorflow", reason="needs the extra `train`")
    from train.waveforms.compact_fit import run_config
    from train.waveforms.large import decoder_shape

    *students, newest, last, large, grafted, xlarge, second, third, fourth, fifth = (
        tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
        for name in (*STUDENTS, *NEWEST, *LARGE)
    )
    assert decoder_shape(large) is None and decoder_shape(grafted) is not None
    assert grafted["data"] == xlarge["data"] == newest["data"] == last["data"]
    assert decoder_shape(xlarge) is not None
    # Runs of one model are added up.
    assert len({run["seed"] for run in (xlarge, second, third, fourth, fifth)}) == 5
    for run in (second, third, fourth, fifth):
        assert run["data"] == xlarge["data"]
        assert decoder_shape(run) == decoder_shape(xlarge)
        assert run["large"]["layers"] == xlarge["large"]["layers"]
    assert last["model"] == newest["model"]
    labels = (*large["data"]["languages"], "other", "nonspeech")
    for student in (*students, newest, last):
        assert run_config(student).data.labels == labels
    assert all(student["data"] == large["data"] for student in students)
    # What the newest decides by, its teacher has not heard either.
    for language, sources in newest["data"]["development"].items():
        assert set(sources) <= set(large["data"]["development"][language])


def test_there_are_shipped_configurations() -> None:
    assert CONFIGS


def test_a_byte_order_mark_is_no_error(tiny_toml: Path, tmp_path: Path) -> None:
    marked = tmp_path / "marked.toml"
    marked.write_bytes(b"\xef\xbb\xbf" + tiny_toml.read_bytes())
    assert read_config(marked) == read_config(tiny_toml)


def test_survives_json(tiny_config: RunConfig) -> None:
    """A checkpoint keeps its configuration as JSON."""
    assert from_dict(RunConfig, json.loads(json.dumps(asdict(tiny_config))), "") == tiny_config


def test_whole_numbers_are_numbers(tiny_toml: Path, tmp_path: Path) -> None:
    config = read_config(changed(tiny_toml, tmp_path, "learning_rate = 0.01", "learning_rate = 1"))
    assert config.optimiser.learning_rate == 1.0
    assert isinstance(config.optimiser.learning_rate, float)


def changed(tiny_toml: Path, tmp_path: Path, old: str, new: str) -> Path:
    """A copy of the configuration with one thing changed."""
    text = tiny_toml.read_text()
    assert text.count(old) == 1
    file = tmp_path / "run.toml"
    file.write_text(text.replace(old, new))
    return file


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 3", "seed = 3\nspeed = 4", r"unknown setting 'speed' \(known: seed, data,"),
        ("seed = 3", "", "setting 'seed' is missing"),
        ("seed = 3", "seed = '3'", "seed: '3' is not what belongs there"),
        ("seed = 3", "seed = 3.0", "seed: 3.0 is not what belongs there"),
        ("seed = 3", "seed = true", "seed: True is not what belongs there"),
        ("seed = 3", "seed = -1", "seed must be at least 0 and below 4294967296"),
        ("seed = 3", "seed = 4294967296", "seed must be at least 0 and below 4294967296"),
        ("clip_s = 2.0", "clip_s = nan", "clip_s: must be a finite number"),
        ("learning_rate = 0.01", "learning_rate = inf", "learning_rate: must be a finite number"),
        ("learning_rate = 0.01", f"learning_rate = {'9' * 400}", "must be a finite number"),
        ("learning_rate = 0.01", "learning_rate = true", "learning_rate: True is not"),
        ("learning_rate = 0.01", "learning_rate = 0", "learning_rate must be above 0"),
        ("[front_end]\nmels = 32", "", "'front_end' is missing"),
        ("[front_end]\nmels = 32", "[[front_end]]\nmels = 32", "expected a table of settings, not"),
        ("[front_end]\nmels = 32", "[front_end]\nmels = 64", "64 mel bands and the model 32"),
        ("[front_end]\nmels = 32", "[front_end]\nmels = 32\nhop_samples = 80", "always 16000"),
        ('["de", "en"]', '"de"', "languages: 'de' is not what belongs there"),
        ('["de", "en"]', '["de", 1]', "languages: 1 is not what belongs there"),
        ('["de", "en"]', '["de", "de"]', "each named once"),
        ('["de", "en"]', "[]", "one or more"),
        ('["de", "en"]', '["de", "other"]', "classes anyway"),
        ("variants = 1", "variants = -1", "variants must be at least 0"),
        ('sv = ["attic"]', 'sv = "attic"', "development, sv: 'attic' is not"),
        ("clip_s = 2.0", "clip_s = 1.5", "clip_s must be at least 2"),
        ("steps = 120\n", "steps = 0\n", "steps, batch_clips and .* must be at least 1"),
        ("warmup_steps = 4", "warmup_steps = 120", "warmup_steps must be fewer than steps"),
        ("embedding = 12", "embedding = 0", "model: mels, embedding and hidden must be at least"),
        ("hidden = 16", "hidden = 0", "model: mels, embedding and hidden must be at least 1"),
        ("dropout = 0.02", "dropout = 1.0", "model: dropout must be at least 0 and below 1"),
        ("average_decay = 0.8", "average_decay = 1.0", "average_decay must be"),
        ("blocks = 1, delay = 1", "blocks = 1", "stages: the setting 'delay' is missing"),
        ("blocks = 1, delay = 1", "blocks = 1, delay = 3", "delay below its kernel"),
        ("blocks = 1, delay = 1", "blocks = -1, delay = 1", "blocks must be at least 0"),
        ("seed = 3", "seed =", "is not valid TOML"),
    ],
)
def test_one_sentence(tiny_toml: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    file = changed(tiny_toml, tmp_path, old, new)
    with pytest.raises(EdgelidError, match=message) as failure:
        read_config(file)
    assert str(file) in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("entry_kernel", [2, 4, 5, 8])
def test_the_phase_of_a_strided_layer(tiny_toml: Path, tmp_path: Path, entry_kernel: int) -> None:
    stage = "kernel = 5, stride = 2, entry_kernel = "
    with pytest.raises(EdgelidError, match="entry_kernel"):
        read_config(changed(tiny_toml, tmp_path, f"{stage}6", f"{stage}{entry_kernel}"))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match=r"cannot read the configuration .*No such file"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(EdgelidError, match=r"cannot read the configuration .*a folder"):
        read_config(tmp_path)
    os.mkfifo(tmp_path / "fifo.toml")  # opening it would wait for a writer
    for file in (tmp_path / "fifo.toml", Path("/dev/zero")):
        with pytest.raises(EdgelidError, match=f"cannot .* {file}: it is no regular file"):
            read_config(file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed = " + "9" * 5_000, "is not valid TOML: a number is too long, or a list too deep"),
        ("seed = " + "[" * 900, "is not valid TOML: "),
        ("seed = " + "[" * 50_000, "is not valid TOML: a number is too long, or a list too deep"),
        ("a" + ".a" * 100_000 + " = 1", "is not valid TOML: a line has too many dots"),
        ("#" * (1 << 20) + "#", "is larger than 1 MiB"),
    ],
    ids=["number", "deep", "deepest", "dots", "size"],
)
def test_what_a_reader_of_toml_cannot_take(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(EdgelidError, match=words) as failure:
        read_config(file)
    assert "\n" not in str(failure.value)


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(EdgelidError, match="not valid TOML"):
        read_config(tmp_path / "run.toml")
