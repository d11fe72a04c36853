"""``edgelid-train`` as it is typed: what it prints, what it returns, what it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import train.fit.loop
from tests.conftest import Conversion
from train.cli import main
from train.corpus.manifest import corpus_dir

ROOT = Path(__file__).parents[2]


def run(*code: str) -> subprocess.CompletedProcess[str]:
    """A new process that runs some Python."""
    return subprocess.run(
        [sys.executable, *code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize(
    "command", [[], ["fit"], ["evaluate"], ["import"], ["validate"], ["split"]]
)
def test_help_is_fast(command: list[str]) -> None:
    """It must not wait for TensorFlow."""
    done = run(
        "-c",
        "import sys\n"
        "from train.cli import main\n"
        f"try: main({[*command, '--help']})\n"
        "except SystemExit as end: print(end.code, {'tensorflow', 'numpy'} & {*sys.modules})",
    )
    assert "usage: edgelid-train" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 set()"


def test_no_model_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = run("-m", "train.cli", "evaluate", str(tmp_path / "none.tflite"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("edgelid-train: the model ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "missing", "whose"),
    [
        ([], "COMMAND", "edgelid-train"),
        (["own", "folder"], "-o/--output", "edgelid-train own"),
        (["fit"], "config", "edgelid-train fit"),
    ],
)
def test_wrong_usage_is_one_sentence(
    words: list[str], missing: str, whose: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"edgelid-train: the following arguments are required: {missing}: see `{whose} --help`.\n"
    )


def test_no_escape_sequence_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "no\x1b[31m"]) == 1
    message = capsys.readouterr().err
    assert "\x1b" not in message
    assert "no\\x1b[31m" in message


def test_home_is_home_in_every_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in ``--corpus=~/speech``, where no shell has made anything of it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for words in (["evaluate", "~/it"], ["validate", "~/it"], ["fit", "~/it", "--run", "run"]):
        assert main(words) == 1
        assert str(tmp_path / "it") in capsys.readouterr().err
    monkeypatch.setenv("EDGELID_CORPUS", "~/speech")
    assert corpus_dir() == tmp_path / "speech"


def test_a_missing_extra(tiny_toml: Path) -> None:
    done = run(
        "-c",
        "import sys\n"
        "sys.modules['keras'] = sys.modules['tensorflow'] = None\n"
        "from train.cli import main\n"
        f"sys.exit(main(['fit', {str(tiny_toml)!r}, '--run', 'run']))",
    )
    assert done.returncode == 1
    assert done.stderr == 'edgelid-train: keras is missing: pip install "edgelid[edge,train]"\n'


def fit(toml: Path, run: Path, corpus: Path, cache: Path, *more: str) -> int:
    options = ["--run", str(run), "--corpus", str(corpus), "--cache", str(cache), *more]
    return main(["fit", str(toml), *options])


def test_fit_goes_on_with_a_run(
    tiny_toml: Path,
    tiny_run: Path,
    tiny_corpus: Path,
    tiny_cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit(tiny_toml, tiny_run, tiny_corpus, tiny_cache) == 0
    out = capsys.readouterr().out
    assert out.startswith("best checkpoint: step ")
    assert "select" in json.loads(out.partition(", ")[2])


def test_interrupted(
    tiny_toml: Path,
    tiny_corpus: Path,
    tiny_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train.fit.loop, "_update", interrupt)
    assert fit(tiny_toml, tmp_path, tiny_corpus, tiny_cache) == 130
    assert capsys.readouterr().err.endswith("edgelid-train: stopped; the same command goes on\n")
    assert sorted(os.listdir(tmp_path)) == ["data.sha256", "last.npz", "logs"]


@pytest.mark.parametrize("workers", ["0", "-1"])
def test_no_workers(
    tiny_toml: Path, tmp_path: Path, workers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tiny_toml, tmp_path, tmp_path, tmp_path, "--workers", workers) == 1
    assert capsys.readouterr().err == "edgelid-train: --workers must be at least 1\n"
    assert not os.listdir(tmp_path)


def test_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path / "none.toml", tmp_path, tmp_path, tmp_path) == 1
    assert "cannot read the configuration" in capsys.readouterr().err


QUICK = ["--conditions", "clean", "--streams", "0", "--workers", "1"]


def test_evaluate(
    tiny_conversion: Conversion,
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    options = ["--corpus", str(tiny_corpus), "--durations", "3", *QUICK]
    files = ["--json", str(report), "--html", str(page)]
    assert main(["evaluate", str(tiny_conversion.path), *options, *files]) == 0
    assert capsys.readouterr().out.startswith("tiny (sha256 ")
    assert list(json.loads(report.read_text())["durations"]) == ["3"]
    assert page.read_text().startswith("<!doctype html>")
    assert sorted(os.listdir(tmp_path)) == ["report.html", "report.json"]


def test_no_plots_is_said_before_the_work(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = run(
        "-c",
        "import sys\n"
        "sys.modules['matplotlib'] = None\n"
        "from train.cli import main\n"
        f"sys.exit(main(['evaluate', 'none.tflite', '--html', {str(page)!r}]))",
    )
    assert done.returncode == 1
    assert (
        done.stderr == 'edgelid-train: matplotlib is missing: pip install "edgelid[edge,train]"\n'
    )
    assert not page.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--durations", "1,x"], "--durations must be seconds"),
        (["--durations", ""], "--durations must be seconds"),
        (["--durations", "20"], "at most 10 s"),
        (["--per-language", "0"], "at least one cut"),
        (["--json", "none/report.json"], "cannot write none/report.json"),
        (["--html", "none/report.html"], "cannot write none/report.html"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--conditions", "clean,storm"], "there is no condition storm"),
        (["--yardstick", "none.json"], "cannot read the yardstick none.json"),
        (["--personal", "--households", "0"], "--households must be at least 1"),
        (["--personal", "--households", "-1"], "--households must be at least 1"),
        (["--config", "a.toml"], "--config is about households: give it with --personal"),
        (["--heard", "heard"], "--heard is about households: give it with --personal"),
        (["--personal", "--held-out", "a.toml"], "--held-out is not about households: leave it"),
        (["--personal", "--per-language", "3"], "--per-language is not about households: leave"),
        (["--personal", "--config", "a.toml"], "--config is about decisions: give it with --split"),
    ],
)
def test_evaluate_in_one_sentence(
    tiny_conversion: Conversion,
    tiny_corpus: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, corpus = str(tiny_conversion.path), str(tiny_corpus)
    assert main(["evaluate", model, "--corpus", corpus, *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
