"""``edgelid-convert`` as it is typed: what it prints, what it returns, what it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import convert.cli
import convert.from_checkpoint
from convert.cli import main
from tests.conftest import Conversion

ROOT = Path(__file__).parents[2]


def run(*code: str) -> subprocess.CompletedProcess[str]:
    """A new process that runs some Python."""
    return subprocess.run(
        [sys.executable, *code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


def test_help_is_fast() -> None:
    """It must not wait for TensorFlow."""
    done = run(
        "-c",
        "import sys\n"
        "from convert.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: print(end.code, {'tensorflow', 'numpy'} & {*sys.modules})",
    )
    assert "usage: edgelid-convert" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 set()"


@pytest.mark.parametrize(
    ("words", "missing", "whose"),
    [
        (["run"], "-o/--output", "edgelid-convert"),
        (["inspect"], "model", "edgelid-convert inspect"),
        (["whisper", "model.bin"], "-o/--output", "edgelid-convert whisper"),
    ],
)
def test_wrong_usage_is_one_sentence(
    words: list[str], missing: str, whose: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"edgelid-convert: the following arguments are required: {missing}: see `{whose} --help`.\n"
    )


def test_a_missing_extra(tmp_path: Path) -> None:
    done = run(
        "-c",
        "import sys\n"
        "sys.modules['keras'] = sys.modules['tensorflow'] = None\n"
        "from convert.cli import main\n"
        f"sys.exit(main([{str(tmp_path)!r}, '-o', 'm.tflite']))",
    )
    assert done.returncode == 1
    assert done.stderr == 'edgelid-convert: keras is missing: pip install "edgelid[edge,train]"\n'


@pytest.fixture
def converted(tiny_conversion: Conversion, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is done already."""

    def convert_checkpoint(*_: object) -> tuple[object, object]:
        return tiny_conversion.description, tiny_conversion.proof

    monkeypatch.setattr(convert.from_checkpoint, "convert", convert_checkpoint)


def test_prints_the_proof(
    converted: None, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_run), "-o", str(tmp_path / "m.tflite")]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line[0] != " "] == [
        f"{'trained against converted, held-out speech':<42}{'1 s':>19}{'3 s':>19}{'10 s':>19}",
        f"{'activations that int8 hurts most, dB':<42}"
        f"{'in all':>19}{'worst channel':>19}{'clipped':>19}",
        f"{'weights that int8 hurts most, dB':<42}{'in all':>19}{'worst channel':>19}",
        "stream against window, of one graph",
        f"{'stream against window, in float':<42}{'3 s':>19}",
    ]
    assert [len(line.split()) for line in out.splitlines() if "agreement" in line] == [4, 2]
    assert max(map(len, out.splitlines())) < 100


def test_prints_json(
    converted: None,
    tiny_run: Path,
    tmp_path: Path,
    tiny_conversion: Conversion,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(tiny_run), "-o", str(tmp_path / "m.tflite"), "--json"]) == 0
    proof = json.loads(capsys.readouterr().out)
    assert list(proof["windows"]) == ["1", "3", "10"]
    assert proof["windows"]["3"]["agreement"] == tiny_conversion.proof.windows["3"].agreement
    assert proof == json.loads(json.dumps(tiny_conversion.description.metrics["proof"]))


def test_damaged_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "best.npz").write_bytes(b"PK\x03\x04 and nothing more")
    assert main([str(tmp_path), "-o", str(tmp_path / "m.tflite")]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "is not an edgelid checkpoint, or is damaged" in captured.err


def test_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "-o", str(tmp_path / "m.tflite")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"edgelid-convert: there is no checkpoint {tmp_path / 'best.npz'}\n"
    assert not os.listdir(tmp_path)


def test_a_network_without_its_description(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "own.keras"), "-o", str(tmp_path / "m.tflite")]) == 1
    assert "tell its labels and its features with --description" in capsys.readouterr().err
    assert main([str(tmp_path), "-o", str(tmp_path / "m.tflite"), "--float", "a"]) == 1
    assert "--float is for a Keras network" in capsys.readouterr().err


def test_no_corpus(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "m.tflite"
    assert main([str(tiny_run), "-o", str(output), "--corpus", str(tmp_path)]) == 1
    assert "cannot read the manifest" in capsys.readouterr().err
    assert not os.listdir(tmp_path)


def test_interrupted(
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(convert.from_checkpoint, "convert", interrupt)
    assert main([str(tiny_run), "-o", str(tmp_path / "m.tflite")]) == 130
    assert capsys.readouterr().err == "edgelid-convert: stopped; nothing was written\n"
