"""What the commands of ``edgelid`` share: options, and how to complain."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from edge.errors import EdgelidError
from edge.outputs.stdout import printable

MODEL_HELP = "a file, or `large` or `xlarge` for one that comes along (default: the compact one)"
SHARE_ALONE = "--second-opinion-share needs --second-opinion: add it, or leave this out."


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence.

    Attributes
    ----------
    program : str
        Before every complaint.
    hint : str
        What to do with words that it does not know; empty for nothing to say.
    words : sequence of str
        What it was given.
    """

    program = "edgelid"
    hint = ""
    words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Complain of what a command does not know as this command, which has help of its own."""
        self.words = args or ()
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            is_word = self.hint and not unknown[0].startswith("-")
            self.error(
                f"unrecognized arguments: {' '.join(unknown)}"
                + (f": {self.hint}" if is_word else "")
            )
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """End with the status of wrong usage."""
        sentence = printable(" ".join(message.split()))
        file = next((w for w in self.words if w.startswith("-") and os.path.lexists(w)), None)
        if file is not None:  # as where a shell has filled in *
            sentence += printable(f": the file {file} is given as ./{file}")
        self.exit(2, f"{self.program}: {sentence}: see `{self.prog} --help`.\n")


def model_options(threads: int | None = None) -> Parser:
    """Options of the commands that run a model."""
    model = Parser(add_help=False)
    model.add_argument("--model", type=named_model, help=MODEL_HELP)
    model.add_argument(
        "--languages",
        type=names,
        metavar="de,en,...",
        help="the only languages to expect; all other speech is `other`",
    )
    model.add_argument(
        "--threshold",
        type=_threshold,
        metavar="SHARE",
        help="how sure an answer has to be, from 0 to 1; below it is `unknown` (default: the "
        "model's)",
    )
    model.add_argument(
        "--threads",
        type=setting("threads"),
        default=threads,
        metavar="N",
        help="threads of the interpreter (default 1)",
    )
    return model


def add_ear(command: argparse.ArgumentParser) -> None:
    """Add the options that tell how to listen to what has channels and a level."""
    command.add_argument(
        "--channel",
        type=setting("channel"),
        metavar="N",
        help="the channel to listen to (default: the mean of all)",
    )
    add_gain(command)


def add_gain(command: argparse.ArgumentParser) -> None:
    """Add the option of the commands that may amplify."""
    command.add_argument(
        "--gain",
        type=setting("gain"),
        metavar="DB",
        help="decibels to amplify by, 0 for none (default: auto, which amplifies what is too "
        "quiet)",
    )


def add_hold(command: argparse.ArgumentParser, default: float | None) -> None:
    """Add the option that tells how patient to be with what is followed."""
    command.add_argument(
        "--hold",
        type=setting("hold"),
        default=default,
        metavar="SECONDS",
        help="announce a language only once it has lasted so long, and keep the one before for so "
        "long while the answer is not sure (default 0)",
    )


def add_second_opinion(command: argparse.ArgumentParser) -> None:
    """Add the option of the commands that can ask a second model."""
    command.add_argument(
        "--second-opinion",
        type=large_model,
        metavar="MODEL",
        help="a large model to ask where the answer is not sure: a file, or `large` or `xlarge` "
        "for one that comes along",
    )


def add_second_opinion_share(command: argparse.ArgumentParser) -> None:
    """Add the option of the commands that ask it while audio goes on."""
    command.add_argument(
        "--second-opinion-share",
        type=setting("second_opinion_share"),
        metavar="SHARE",
        help="the most that second opinions may take of one processor core (default 0.25)",
    )


def add_lessons(command: argparse.ArgumentParser) -> None:
    """Add the option of the commands that can be taught."""
    command.add_argument(
        "--lessons",
        type=path,
        metavar="FILE",
        help="what the model was taught here, by `edgelid teach`",
    )


def named_model(text: str) -> str:
    """The word for a model that comes along, or a path; ``./large`` is a path."""
    from edge.config import LARGE_MODELS

    name = str(path(text))
    return f"./{name}" if name in LARGE_MODELS and text != name else name


def model_path(options: argparse.Namespace) -> Path:
    """The model file that the options name."""
    from edge.model.modelfile import path_of

    return path_of(options.model or "")


def path(text: str) -> Path:
    """A path; an empty one, as of a script that lost a name, would be the folder one is in."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty: check the path")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user: it is a name like any other
        return Path(text)


def recording(text: str) -> Path:
    """The path of a recording, or a folder of them; streams are for `edgelid listen`."""
    if text == "-" or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is a stream, and no file: follow it with `edgelid listen --input`"
        )
    return path(text)


def large_model(text: str) -> str:
    """The path of a model to ask, or the word for one that comes along; "" is none."""
    return named_model(text) if text else text


def setting(name: str) -> Callable[[str], Any]:
    """A setting of `edgelid listen`, held to the limits that it has in a file of them."""

    def value(text: str) -> Any:
        from edge.config import parsed
        from edge.outputs.settings import Settings

        try:
            return parsed(Settings, name, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return value


def _threshold(text: str) -> float:
    """The setting; 0 is the least there is, as in a file of settings it is the model's own."""
    value: float = setting("threshold")(text)
    return value or sys.float_info.min


def names(text: str) -> list[str]:
    """A list of names, with commas.

    Raises
    ------
    EdgelidError
        If it has none.
    """
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise EdgelidError("--languages needs at least one language: leave it out for all.")
    return found


def lengths(text: str) -> tuple[float, ...]:
    """A list of seconds, with commas."""
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be seconds, such as 1,3,10") from error


def counts(highest: int) -> Callable[[str], tuple[int, ...]]:
    """A list of whole numbers from 1 on, with commas."""

    def values(text: str) -> tuple[int, ...]:
        try:
            found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
        except ValueError as error:
            raise argparse.ArgumentTypeError("must be whole numbers, such as 1,2,4") from error
        if not all(1 <= number <= highest for number in found):
            raise argparse.ArgumentTypeError(f"must be from 1 to {highest}, not {text!r}")
        return found

    return values


def complain(sentence: str) -> None:
    """Tell a person what is wrong, on standard error.

    Raises
    ------
    BrokenPipeError
        If its reader has gone. Whatever else it cannot be written for, such as a full disk, changes
        neither what is done nor how it ends.
    """
    if sys.stderr is None:  # which `print` would take for standard output
        return
    try:
        print(f"edgelid: {printable(sentence)}", file=sys.stderr)
    except BrokenPipeError:
        raise
    except OSError:
        _forget(sys.stderr)


def _forget(stream: TextIO) -> None:
    """Let what could not be written go nowhere, or the end would fail of trying it once more."""
    kept, null = os.dup(stream.fileno()), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    stream.flush()
    os.dup2(kept, stream.fileno())
    os.close(null)
    os.close(kept)


class Log(logging.StreamHandler[TextIO]):
    """Where messages go; one that cannot be written, as on a full disk, is no fault of ours."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - a name of logging's
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


class Messages(logging.Formatter):
    """What is logged, for a terminal."""

    def __init__(self) -> None:
        super().__init__("edgelid: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
