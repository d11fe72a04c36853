"""What commands of training and conversion share."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.cli.options import Parser
from train.command import run_program


@pytest.mark.parametrize("module", ["train.cli", "train.waveforms", "convert.cli"])
def test_help_that_cannot_be_written_is_an_error(module: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"],
            cwd=Path(__file__).parents[2],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "standard output cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        ("foo", "KERAS_BACKEND is foo: it must be tensorflow or jax"),
        ("torch", "KERAS_BACKEND is torch: it must be tensorflow or jax"),
        ("jax", "KERAS_BACKEND is jax, and jax is missing: pip install jax"),
    ],
)
def test_what_keras_cannot_compute_with_is_one_sentence(backend: str, words: str) -> None:
    program = "import sys; sys.modules['jax'] = None; from train.command import import_keras, run"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; sys.exit(run('it', import_keras, ''))"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"it: {words}\n"


def interrupted(_: argparse.Namespace) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("words", "left"), [(["make"], "nothing is lost"), (["undo"], "all is lost")]
)
def test_ctrl_c_says_what_its_command_leaves(
    words: list[str], left: str, capsys: pytest.CaptureFixture[str]
) -> None:
    grammar = Parser()
    commands = grammar.add_subparsers()
    commands.add_parser("make").set_defaults(run_command=interrupted)
    commands.add_parser("undo").set_defaults(run_command=interrupted, stopped="all is lost")
    assert run_program(grammar, words, "nothing is lost") == 130
    assert capsys.readouterr().err == f"edgelid: stopped; {left}\n"
