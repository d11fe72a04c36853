"""What the commands of ``edgelid`` share: options, and how to complain."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from edge.model.modelfile import ModelFile


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence."""

    def error(self, message: str) -> NoReturn:
        """End with the status of wrong usage."""
        self.exit(2, f"edgelid: {' '.join(message.split())}: see `{self.prog} --help`.\n")


def model_options(threads: int | None = None) -> Parser:
    """Options of the commands that run a model."""
    model = Parser(add_help=False)
    model.add_argument("--model", type=Path, help="model file (default: the one that comes along)")
    model.add_argument(
        "--languages",
        type=names,
        metavar="de,en,...",
        help="the only languages to expect; speech in others is told as such",
    )
    model.add_argument(
        "--threshold",
        type=threshold,
        metavar="SHARE",
        help="how sure an answer has to be, from 0 to 1; below it is `unknown` (default: the "
        "model's)",
    )
    model.add_argument(
        "--second-opinion",
        metavar="MODEL",
        help="a large model to ask where the answer is not sure: a file, or `large` for the one "
        "that comes along",
    )
    model.add_argument(
        "--threads", type=int, default=threads, help="of the interpreter (default 1)"
    )
    return model


def model_of(options: argparse.Namespace) -> ModelFile:
    """The model file that the options name."""
    from edge.model.modelfile import DEFAULT_MODEL, read_model

    return read_model(options.model or DEFAULT_MODEL)


def names(text: str) -> list[str]:
    """A list of names, with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def lengths(text: str) -> tuple[float, ...]:
    """A list of seconds, with commas."""
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be seconds, such as 1,3,10") from error


def counts(text: str) -> tuple[int, ...]:
    """A list of whole numbers, with commas."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be whole numbers, such as 1,2,4") from error


def threshold(text: str) -> float:
    """How sure an answer has to be."""
    return _setting("threshold", text)


def share(text: str) -> float:
    """How much of a core second opinions may take."""
    return _setting("second_opinion_share", text)


def hold(text: str) -> float:
    """How long a language has to last."""
    return _setting("hold", text)


def _setting(name: str, text: str) -> float:
    from edge.config import checked

    try:
        return float(checked(name, text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def complain(sentence: str) -> None:
    """Tell a person what is wrong, on standard error."""
    if sys.stderr is not None:  # which `print` would take for standard output
        print(f"edgelid: {sentence}", file=sys.stderr)
