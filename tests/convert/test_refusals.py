"""What a conversion cannot use, or not write: one clear sentence, and no file."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf

import convert.from_checkpoint
from convert.cli import main
from convert.from_checkpoint import convert as convert_checkpoint
from convert.proof import Limits
from convert.settings import Settings
from convert.streaming_graph import window_to_tflite
from edge import __version__
from edge.errors import EdgelidError
from edge.model.modelfile import DEFAULT_MODEL, read_model
from tests.conftest import Conversion
from tests.synthetic import speech, write_audio
from train.model.checkpoint import Checkpoint


@pytest.fixture
def quantised(
    monkeypatch: pytest.MonkeyPatch, tiny_conversion: Conversion, short_streams: None
) -> None:
    """Conversion without its slowest part: the graph is there already."""
    graph = read_model(tiny_conversion.path).graph
    monkeypatch.setattr(convert.from_checkpoint, "to_int8", lambda *_: graph)


def test_a_full_disk(
    short_streams: None,
    tiny_checkpoint: Checkpoint,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    output = tmp_path / "m.tflite"
    shutil.copy(DEFAULT_MODEL, output)
    monkeypatch.setattr(os, "fsync", full)
    # What is quickest to convert.
    settings = Settings(mode="window", type="float32", windows_s=(1.0,))
    with pytest.raises(EdgelidError, match=r"cannot write .*: No space left on device"):
        convert_checkpoint(tiny_checkpoint, tiny_corpus, output, "m", settings)
    assert output.read_bytes() == DEFAULT_MODEL.read_bytes()
    assert os.listdir(tmp_path) == ["m.tflite"]


def test_no_room_for_temporary_files(tmp_path: Path) -> None:
    network = keras.Sequential([keras.Input((50, 16)), keras.layers.Flatten()])
    network.add(keras.layers.Dense(100))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(EdgelidError, match=r"cannot write its temporary files in .*TMPDIR"):
            window_to_tflite(network, (50, 16), None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_own_recordings(
    quantised: None, tiny_checkpoint: Checkpoint, tiny_corpus: Path, tmp_path: Path
) -> None:
    """Of any rate and number of channels, in any depth of folders."""
    own = tmp_path / "own"
    write_audio(own / "deep" / "down.wav", speech("de", "dora", 0, 1.0))
    stereo = np.stack([speech("en", "dora", 0, 3.0)] * 2, axis=1)
    soundfile.write(own / "stereo.flac", stereo, 48_000)
    (own / "notes.txt").write_text("no audio")
    output = tmp_path / "m.tflite"
    # Two recordings are too few to calibrate for others: how near it comes is not asked here.
    settings = Settings(representative=own, limits=Limits(min_agreement=0, max_mean_difference=1))
    convert_checkpoint(tiny_checkpoint, tiny_corpus, output, "m", settings)
    provenance = read_model(output).description.provenance
    clips = provenance["representative_clips"]
    assert clips[:2] == ["deep/down.wav", "stereo.flac"]
    assert clips[-1] == "silence"
    assert all(clip.startswith("noise/") for clip in clips[2:-1])
    assert (provenance["converter"], provenance["tensorflow"], provenance["keras"]) == (
        __version__,
        tf.__version__,
        keras.__version__,
    )


def saved(checkpoint: Checkpoint, path: Path, **description: object) -> Path:
    """A checkpoint whose description says something else."""
    checkpoint.save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    values = json.loads(str(arrays["description"])) | description
    np.savez(path, **(arrays | {"description": np.array(json.dumps(values))}))
    return path


@pytest.mark.parametrize("kind", ["newer", "torn", "foreign", "model", "labels", "empty"])
def test_checkpoints_of_no_use(
    kind: str,
    tiny_checkpoint: Checkpoint,
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "checkpoint.npz"
    message = "is not an edgelid checkpoint, or is damaged"
    if kind == "newer":
        saved(tiny_checkpoint, path, format_version=2)
        message = "has checkpoint format 2; this edgelid reads 1"
    elif kind == "torn":
        tiny_checkpoint.save(path)
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "foreign":
        np.savez(path, weights=np.zeros(3))
    elif kind == "model":
        shutil.copy(DEFAULT_MODEL, path)
    elif kind == "labels":
        data = dataclasses.replace(tiny_checkpoint.config.data, languages=("de", "en", "sv"))
        config = dataclasses.replace(tiny_checkpoint.config, data=data)
        dataclasses.replace(tiny_checkpoint, config=config).save(path)
        message = "the checkpoint's head weights do not fit its configuration"
    else:
        path.touch()
    arguments = [str(path), "-o", str(tmp_path / "m.tflite"), "--corpus", str(tiny_corpus)]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert os.listdir(tmp_path) == ["checkpoint.npz"]


def test_a_corpus_without_the_noise(
    tiny_checkpoint: Checkpoint, tiny_corpus: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_corpus, tmp_path / "data" / "corpus")
    (tmp_path / "data" / "noise").mkdir()  # without any, synthetic noise takes its place
    with pytest.raises(EdgelidError, match="cannot read the noise manifest"):
        convert_checkpoint(
            tiny_checkpoint, tmp_path / "data" / "corpus", tmp_path / "m.tflite", "m"
        )
    assert os.listdir(tmp_path) == ["data"]


def test_a_corpus_in_other_languages(
    tiny_checkpoint: Checkpoint, tiny_corpus: Path, tmp_path: Path
) -> None:
    lines = (tiny_corpus / "manifest.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "manifest.tsv").write_text("".join(x for x in lines if "\ten\t" not in x))
    with pytest.raises(EdgelidError, match="no training speech in en, which the model knows"):
        convert_checkpoint(tiny_checkpoint, tmp_path, tmp_path / "m.tflite", "m")
    assert os.listdir(tmp_path) == ["manifest.tsv"]


def test_audio_that_is_gone(tiny_checkpoint: Checkpoint, tiny_corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_corpus.parent, tmp_path / "data")
    for path in (tmp_path / "data" / "corpus" / "en").rglob("*.opus"):
        path.unlink()
    with pytest.raises(EdgelidError, match="does not exist"):
        convert_checkpoint(
            tiny_checkpoint, tmp_path / "data" / "corpus", tmp_path / "m.tflite", "m"
        )
    assert os.listdir(tmp_path) == ["data"]
