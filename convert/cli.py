"""The command ``edgelid-convert``: parse, call one function, print."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from edge.errors import EdgelidError
from train.command import run


def parser() -> argparse.ArgumentParser:
    """The grammar of a conversion."""
    top = argparse.ArgumentParser(
        prog="edgelid-convert",
        description="Converts a training checkpoint to an int8 model file, and proves it.",
        epilog="`edgelid-convert inspect MODEL` tells what is in a model file, and "
        "`edgelid-convert diff A B` how two of them differ.",
    )
    top.add_argument("checkpoint", type=Path, help="checkpoint, or folder of a training run")
    top.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL.tflite")
    top.add_argument("--corpus", type=Path, help="folder of the corpus (default: EDGELID_CORPUS)")
    top.add_argument("--json", action="store_true", help="print the proof as JSON")
    top.set_defaults(run_command=run_convert)
    return top


def inspection_parser() -> argparse.ArgumentParser:
    """The grammar of what is done with model files."""
    top = argparse.ArgumentParser(prog="edgelid-convert")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON, with every tensor")
    inspect = commands.add_parser("inspect", parents=[common], help="what is in a model file")
    inspect.add_argument("model", type=Path)
    inspect.set_defaults(run_command=run_inspect)
    diff = commands.add_parser("diff", parents=[common], help="how two model files differ")
    diff.add_argument("models", type=Path, nargs=2, metavar="MODEL")
    diff.set_defaults(run_command=run_diff)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Conversion has no name of its own: it was there first.
    on_files = bool(arguments) and arguments[0] in ("inspect", "diff")
    options = (inspection_parser() if on_files else parser()).parse_args(arguments)
    logging.basicConfig(format="edgelid-convert: %(message)s")
    logging.getLogger("convert").setLevel(logging.INFO)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow's own converter still builds the interpreter that TensorFlow warns of.
    warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
    return run("edgelid-convert", lambda: options.run_command(options), "nothing was written")


def run_convert(options: argparse.Namespace) -> None:
    """Convert, and print the proof."""
    # Only now: these take seconds to import, and `--help` should not.
    from convert.convert import convert
    from train.checkpoint import load_checkpoint
    from train.manifest import corpus_dir

    name = options.output.name.removesuffix(".tflite")
    corpus = options.corpus or corpus_dir()
    _, proofs = convert(load_checkpoint(options.checkpoint), corpus, options.output, name)
    if options.json:
        print(json.dumps({k: dataclasses.asdict(p) for k, p in proofs.items()}))
    else:
        for window, proof in proofs.items():
            print(f"float against int8, {window} s of held-out speech")
            print("\n".join(f"  {row}" for row in proof.rows()))


def run_inspect(options: argparse.Namespace) -> None:
    """``edgelid-convert inspect``: fails after telling of a model that is not int8 alone."""
    from convert.inspection import inspect, inspection_table
    from edge.modelfile import read_model

    facts = inspect(read_model(options.model))
    print(json.dumps(facts) if options.json else "\n".join(inspection_table(facts)))
    if facts["problems"]:
        raise EdgelidError(
            f"{options.model} does not stream in int8 alone: {'; '.join(facts['problems'])}"
        )


def run_diff(options: argparse.Namespace) -> None:
    """``edgelid-convert diff``."""
    from convert.inspection import difference, difference_table, inspect
    from edge.modelfile import read_model

    first, second = (inspect(read_model(path)) for path in options.models)
    found = difference(first, second)
    print(json.dumps(found) if options.json else "\n".join(difference_table(found)))


if __name__ == "__main__":
    sys.exit(main())
