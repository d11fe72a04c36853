"""What commands of training and conversion share: every failure is one sentence."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from edge.cli.options import Parser, path
from edge.errors import EdgelidError
from edge.outputs.stdout import printable, standard_output
from edge.system.atomic import check_writable
from edge.system.native_stderr import stderr_to_log

DEFAULT_CACHE = Path("~/.cache/edgelid/features")
BACKENDS = ("tensorflow", "jax")  # that `train.waveforms` computes with


def run_program(grammar: Parser, arguments: Sequence[str] | None, stopped: str) -> int:
    """Do what a command line says, whose help may not be lost on a full disk either.

    Parameters
    ----------
    grammar : Parser
        What it parses has ``run_command``, and ``stopped`` where Ctrl-C leaves something else.
    arguments : sequence of str or None
        Of the command line; None for those of this process.
    stopped : str
        As of `run`.

    Returns
    -------
    int
        The exit status.
    """
    options = argparse.Namespace(stopped=stopped)

    def work() -> None:
        grammar.parse_args(arguments, options)
        options.run_command(options)

    return run(grammar.program, work, lambda: str(options.stopped))


def run(program: str, work: Callable[[], None], stopped: str | Callable[[], str]) -> int:
    """Do the work of a command, and say on standard error what went wrong.

    Parameters
    ----------
    program : str
        Its name, before every message.
    work : callable
        Imports what it needs itself, so that a missing package can be named.
    stopped : str or callable
        What Ctrl-C leaves behind, or tells it.

    Returns
    -------
    int
        The exit status.
    """
    # For other processes too, whose words `import_tensorflow` does not turn away.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with standard_output():  # a full disk or a reader that has gone is no fault of the work
            work()
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except EdgelidError as error:
        message, status = str(error), error.status
    except ImportError as error:
        missing = error.name or error
        message, status = f'{missing} is missing: pip install "edgelid[edge,train]"', 1
    except KeyboardInterrupt:
        message, status = f"stopped; {stopped if isinstance(stopped, str) else stopped()}", 130
    else:
        return 0
    print(f"{program}: {printable(message)}", file=sys.stderr)
    return status


def add_corpus(command: argparse.ArgumentParser) -> None:
    """Add the options that tell where speech, noise and rooms are."""
    command.add_argument(
        "--corpus", type=path, help="manifest or folder of the corpus (default: $EDGELID_CORPUS)"
    )
    command.add_argument(
        "--sounds",
        type=path,
        metavar="DIR",
        help="folder that holds noise and rir (default: beside the corpus; else synthetic ones)",
    )


def check_model_output(output: Path) -> None:
    """Refuse to write a model over what edgelid did not write, before the work that makes it.

    Raises
    ------
    EdgelidError
        If there is such a file, or none can be written.
    """
    from edge.model.modelfile import is_model_file  # imports numpy, which `--help` should not

    check_writable(output)  # first: it says why what is there cannot be looked at
    if output.is_file() and output.stat().st_size and not is_model_file(output):
        raise EdgelidError(
            f"{output} exists, and is no model file of edgelid: give --output another name, "
            "or move it away; nothing was written"
        )


def import_tensorflow() -> None:
    """Import Keras and TensorFlow, and have them look for GPUs, without their words on stderr.

    They tell of the processor, and where there is no GPU of every library that one would need.
    """
    with stderr_to_log("TensorFlow"):
        import keras  # noqa: F401
        import tensorflow as tf

        tf.config.list_physical_devices("GPU")


def import_keras() -> None:
    """The same, but TensorFlow only where Keras computes with it.

    Raises
    ------
    EdgelidError
        If Keras is to compute with something that is not there, or that no command knows.
    """
    wanted = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if wanted not in BACKENDS:
        raise EdgelidError(f"KERAS_BACKEND is {wanted}: it must be {' or '.join(BACKENDS)}")
    try:
        with stderr_to_log("Keras"):
            import keras
    except ImportError as error:
        if wanted != "jax" or (error.name or "").partition(".")[0] not in ("jax", "jaxlib"):
            raise
        raise EdgelidError(
            f"KERAS_BACKEND is jax, and {error.name} is missing: pip install jax"
        ) from error
    if keras.backend.backend() == "tensorflow":
        import_tensorflow()


def languages_of(option: str | None, name: str = "--languages") -> tuple[str, ...]:
    """Codes of an option such as ``de, sv``.

    Raises
    ------
    EdgelidError
        If there is none in it.
    """
    if option is None:
        return ()
    found = tuple(code.strip() for code in option.split(",") if code.strip())
    if not found:
        raise EdgelidError(f"{name} must be codes, such as da,sv")
    return found
