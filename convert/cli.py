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

from train.command import run


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="edgelid-convert",
        description="Converts a training checkpoint to an int8 model file, and proves it.",
    )
    top.add_argument("checkpoint", type=Path, help="checkpoint, or folder of a training run")
    top.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL.tflite")
    top.add_argument("--corpus", type=Path, help="folder of the corpus (default: EDGELID_CORPUS)")
    top.add_argument("--json", action="store_true", help="print the proof as JSON")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parser().parse_args(arguments)
    logging.basicConfig(format="edgelid-convert: %(message)s")
    logging.getLogger("convert").setLevel(logging.INFO)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow's own converter still builds the interpreter that TensorFlow warns of.
    warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
    return run("edgelid-convert", lambda: run_convert(options), "nothing was written")


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


if __name__ == "__main__":
    sys.exit(main())
