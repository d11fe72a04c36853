"""The commands of training from waveforms: one sentence where something is wrong."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from train.waveforms.__main__ import main
from train.waveforms.bank import TRAIN, Entry, write_bank

NEEDS_LITTLE = """
import sys
for name in ("tensorflow", "polars", "librosa", "tqdm", "matplotlib"):
    sys.modules[name] = None
import train.waveforms.compact_fit, train.waveforms.large_fit, train.waveforms.bank
import train.waveforms.teach
"""

COURSE = ["{0}/none.toml", "--bank", "{0}", "--start", "{0}/s.npz", "--output", "{0}/l.npz"]
PACK = ["pack", "{0}/none.toml", "--corpus", "{0}", "--output", "{0}/p"]
BALANCE = ["balance", "{0}/a.npz", "--bank", "{0}", "--output", "{0}/l.npz"]
HEAR = ["hear", "--bank", "{0}", "--teacher", "{0}/a.npz", "--output", "{0}/h"]


def said(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["train.waveforms", *arguments])
    return main()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["decode", "{0}", "--output", "{0}/bank"], "there are no parts of a bank"),
        (["whisper", "{0}/none.bin", "--output", "{0}/w.npz"], "cannot read the weights"),
        (["whisper", "{0}", "--layers", "0", "--output", "{0}/w.npz"], "must be at least 1"),
        (["pack", "{0}/none.toml", "--corpus", "{0}", "--output", "{0}/p"], "cannot read"),
        (["pack", "{0}/bad.toml", "--corpus", "{0}", "--output", "{0}/p"], "is not valid TOML"),
        (["large", "{0}/none.toml", "--bank", "{0}", "--output", "{0}/l.npz"], "give --start"),
        (["large", *COURSE, "--limit-s", "0"], "--limit-s must be above 0"),
        (["large", *COURSE, "--batch-scale", "nan"], "--batch-scale must be above 0"),
        (["large", *COURSE, "--batch-scale", "inf"], "--batch-scale must be above 0 and finite"),
        ([*PACK, "--part-mb", "nan"], "--part-mb must be above 0 and finite"),
        ([*PACK, "--part-mb", "inf"], "--part-mb must be above 0 and finite"),
        ([*PACK, "--part-mb", "0"], "--part-mb must be above 0 and finite"),
        (["decode", "{0}", "--output", "{0}/b", "--coded-share", "nan"], "--coded-share must be b"),
        (["decode", "{0}", "--output", "{0}/b", "--coded-share=-3"], "between 0 and 1"),
        ([*BALANCE, "--other", "nan"], "--other must be a finite number"),
        ([*HEAR, "--limit-s", "nan"], "--limit-s must be above 0 and finite"),
        (["compact", *COURSE, "--teacher", "{0}", "--steps", "0"], "--steps must be at least 1"),
        (["teach", *COURSE, "--weights", "{0}", "--log-every", "0"], "--log-every must be at"),
        (
            ["average", *["{0}/a.npz"] * 2, "--share", "1", "2", "--output", "{0}/c.npz"],
            "as many numbers as there are",
        ),
        (
            ["average", *["{0}/a.npz"] * 2, "--share", "nan", "--output", "{0}/c.npz"],
            "--share must be a number",
        ),
        (["detach", "{0}/a.npz", "--output", "{0}/b.txt"], "b.txt must end in .npz"),
        (["detach", "{0}/a.npz", "--output", "{0}/bad.toml/b.npz"], "cannot make the folder"),
    ],
)
def test_one_sentence(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.toml").write_text("= 1")
    assert said([text.format(tmp_path) for text in arguments], monkeypatch) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("output", "words"),
    [("file", "cannot make the folder"), ("bank", "samples.npy: it is a folder")],
)
def test_a_bank_that_cannot_be_kept_is_not_decoded(
    output: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "bank" / "samples.npy").mkdir(parents=True)
    write_bank([Entry(TRAIN, "de", "attic", "p", "human", b"no sound")], tmp_path / "parts")
    given = ["decode", str(tmp_path / "parts"), "--output", str(tmp_path / output)]
    assert said(given, monkeypatch) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_wrong_usage_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        said(["detach", "before.npz"], monkeypatch)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "python -m train.waveforms: the following arguments are required: --output: "
        "see `python -m train.waveforms detach --help`.\n"
    )


@pytest.mark.parametrize(
    "arguments", [["teach", *COURSE, "--weights", "{0}"], ["hear", *COURSE[1:3], *COURSE[5:]]]
)
def test_a_precision_that_nobody_knows_is_one_sentence(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for unknown in ("bf16", "auto"):
        given = [text.format(tmp_path) for text in [*arguments, "--precision", unknown]]
        with pytest.raises(SystemExit):
            said(given, monkeypatch)
        error = capsys.readouterr().err
        assert f"--precision: invalid choice: '{unknown}'" in error and "mixed_bfloat16" in error
        assert error.count("\n") == 1


def test_tensorflow_says_nothing_of_the_machine(tmp_path: Path) -> None:
    """Nor of libraries of GPUs: the sentence stands alone in a process of its own, too."""
    command = ["-m", "train.waveforms", "detach", "none", "--output", str(tmp_path / "x.npz")]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 1
    assert done.stderr == "python -m train.waveforms: there is no checkpoint none-0.npz\n"


def test_a_bank_of_nothing_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.toml"
    config.write_text("")
    given = ["--bank", str(tmp_path / "none"), "--output", str(tmp_path / "l.npz")]
    start = ["--start", str(tmp_path / "w.npz")]
    assert said(["large", str(config), *given, *start], monkeypatch) == 1
    assert "there is no decoded bank" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX (pip install jax)")
def test_the_accelerators_machine_needs_little() -> None:
    """Neither TensorFlow, where JAX computes, nor what reads a corpus."""
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", NEEDS_LITTLE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
