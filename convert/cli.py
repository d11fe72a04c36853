"""The commands of edgelid-convert: parse, call one function, print."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edge.cli.options import Parser, path
from edge.errors import EdgelidError
from edge.outputs.stdout import Output, printable
from train.command import add_corpus, import_tensorflow, run_program

if TYPE_CHECKING:
    from convert.proof import Limits, Proof
    from convert.settings import Settings

ON_FILES = ("inspect", "diff", "anchors")  # what is done with model files


class _Parser(Parser):
    program = "edgelid-convert"


def parser() -> Parser:
    """The grammar of a conversion."""
    top = _Parser(
        prog=_Parser.program,
        description="Converts a training checkpoint to an int8 model file, and proves it.",
        epilog="`edgelid-convert whisper WEIGHTS` converts Whisper itself, `edgelid-convert "
        "inspect MODEL` tells what is in a model file, `edgelid-convert diff A B` how two of "
        "them differ, and `edgelid-convert anchors MODEL` adds what lessons are held to.",
    )
    top.add_argument(
        "checkpoint", type=path, help="checkpoint, folder of a training run, or .keras file"
    )
    top.add_argument("-o", "--output", type=path, required=True, metavar="MODEL.tflite")
    add_corpus(top)
    top.add_argument(
        "--mode",
        choices=("stream", "window"),
        default="stream",
        help="every frame computed once (default), or one plain graph of a whole window",
    )
    top.add_argument(
        "--type",
        choices=("int8", "float32", "int4"),
        default="int8",
        help="of the graph (default int8); float32 for whole windows only, int4 for the matrices "
        "of a large model",
    )
    top.add_argument(
        "--windows",
        type=_seconds,
        default=(),
        metavar="1,3,10",
        help="window lengths in seconds (default: 1,3,10, or of a whole window 3)",
    )
    top.add_argument(
        "--hop-ms", type=int, default=160, help="milliseconds between answers (default 160)"
    )
    top.add_argument(
        "--representative",
        type=path,
        metavar="DIR",
        help="your own recordings, to quantise with instead of the corpus's speech",
    )
    top.add_argument(
        "--description",
        type=path,
        metavar="FILE.json",
        help="labels and front end of a Keras model of your own",
    )
    top.add_argument(
        "--float",
        dest="floats",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="LAYER,LAYER",
        help="layers of a Keras model that stay float32 in int8",
    )
    _add_limits(top)
    top.set_defaults(run_command=run_convert)
    return top


def _add_limits(command: argparse.ArgumentParser) -> None:
    limits = command.add_argument_group("limits", "past which nothing is written")
    limits.add_argument(
        "--min-agreement",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="of clips that get the same answer as before (default 0.9)",
    )
    limits.add_argument(
        "--max-mean-difference",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="of a clip's probability that moves to other classes, on average (default 0.1)",
    )
    limits.add_argument(
        "--max-accuracy-loss",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="of accuracy, from before to after (default 0.05)",
    )
    command.add_argument("--json", action="store_true", help="print the proof as JSON")


def _seconds(text: str) -> tuple[float, ...]:
    try:
        return tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be seconds, such as 1,3,10") from error


def inspection_parser() -> Parser:
    """The grammar of what is done with model files."""
    top = _Parser(prog=_Parser.program)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON, with every tensor")
    inspect = commands.add_parser("inspect", parents=[common], help="what is in a model file")
    inspect.add_argument("model", type=path, help="model file")
    inspect.set_defaults(run_command=run_inspect)
    diff = commands.add_parser("diff", parents=[common], help="how two model files differ")
    diff.add_argument("models", type=path, nargs=2, metavar="MODEL", help="model files")
    diff.set_defaults(run_command=run_diff)
    anchors = commands.add_parser(
        "anchors",
        parents=[common],
        help="add what lessons on the device are held to (edgelid teach)",
    )
    anchors.add_argument("model", type=path, help="model file that streams")
    anchors.add_argument(
        "-o", "--output", type=path, metavar="MODEL", help="to write (default: the same file)"
    )
    add_corpus(anchors)
    anchors.add_argument(
        "--config",
        type=path,
        metavar="RUN.toml",
        help="of the training run: what it held out for development is left out",
    )
    anchors.set_defaults(run_command=run_anchors)
    return top


def whisper_parser() -> Parser:
    """The grammar of a conversion of Whisper."""
    top = _Parser(prog=_Parser.program)
    whisper = top.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "whisper", help="Whisper itself, for all of its languages"
    )
    whisper.add_argument(
        "weights", type=path, help="CTranslate2's model.bin, model.safetensors, or OpenAI's .pt"
    )
    whisper.add_argument("-o", "--output", type=path, required=True, metavar="MODEL.tflite")
    whisper.add_argument(
        "--languages",
        type=lambda text: [part.strip() for part in text.split(",") if part.strip()],
        default=[],
        metavar="de,sv,...",
        help="classes of their own, the rest is `other` (default: all 99)",
    )
    add_corpus(whisper)
    whisper.add_argument(
        "--representative",
        type=path,
        metavar="DIR",
        help="your own recordings to prove it on, instead of the corpus's speech",
    )
    _add_limits(whisper)
    whisper.set_defaults(run_command=run_whisper)
    return top


def grammar_of(arguments: Sequence[str]) -> Parser:
    """The grammar that some arguments are of."""
    # Conversion has no name of its own: it was there first.
    command = arguments[0] if arguments else ""
    if command == "whisper":
        return whisper_parser()
    return inspection_parser() if command in ON_FILES else parser()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(format="edgelid-convert: %(message)s")
    logging.getLogger("convert").setLevel(logging.INFO)
    # TensorFlow's own converter still builds the interpreter that TensorFlow warns of.
    warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
    return run_program(grammar_of(arguments), arguments, "nothing was written")


def run_convert(options: argparse.Namespace) -> None:
    """Convert, and print the proof."""
    # Only now: these take seconds to import, and `--help` should not.
    import_tensorflow()
    from convert.settings import Settings
    from edge.frontend import FRAMES_PER_SECOND

    hop_frames, rest = divmod(options.hop_ms * FRAMES_PER_SECOND, 1000)
    if rest or hop_frames < 1:
        raise EdgelidError(f"--hop-ms {options.hop_ms} is not a whole number of frames of 10 ms")
    settings = Settings(
        mode=options.mode,
        type=options.type,
        windows_s=options.windows,
        hop_frames=int(hop_frames),
        representative=options.representative,
        limits=_limits(options),
        floats=options.floats,
    )
    _prove(options, lambda: _proof(options, settings))


def run_whisper(options: argparse.Namespace) -> None:
    """``edgelid-convert whisper``."""
    import_tensorflow()
    from convert.from_whisper import Wanted, convert_whisper
    from train.corpus.manifest import corpus_dir

    wanted = Wanted(
        weights=options.weights,
        output=options.output,
        languages=options.languages,
        corpus=options.corpus or corpus_dir(),
        recordings=options.representative,
        sounds=options.sounds,
        limits=_limits(options),
    )
    _prove(options, lambda: convert_whisper(wanted))


def _limits(options: argparse.Namespace) -> Limits:
    from convert.proof import Limits

    return Limits(options.min_agreement, options.max_mean_difference, options.max_accuracy_loss)


def _prove(options: argparse.Namespace, convert: Callable[[], Proof]) -> None:
    """Convert, and print the proof, also where it fails."""
    from convert.proof import NotProven

    try:
        proof = convert()
    except NotProven as refused:
        _print_proof(refused.proof, options.json)
        raise
    _print_proof(proof, options.json)


def _proof(options: argparse.Namespace, settings: Settings) -> Proof:
    name = options.output.name.removesuffix(".tflite")
    if options.description is not None:
        from convert.from_keras import convert_network

        return convert_network(
            options.checkpoint, options.description, options.output, name, settings
        )
    if options.checkpoint.suffix in (".keras", ".h5", ".hdf5"):
        raise EdgelidError(
            f"{options.checkpoint} is a Keras network: tell its labels and its features with "
            "--description FILE.json (docs/converting.md)"
        )
    if options.floats:
        raise EdgelidError("--float is for a Keras network: leave it out")
    from convert.from_checkpoint import convert
    from train.corpus.manifest import corpus_dir
    from train.model.checkpoint import load_checkpoint
    from train.waveforms.checkpoint import is_large

    corpus = options.corpus or corpus_dir()
    if is_large(options.checkpoint):
        from convert.from_large import convert_large

        return convert_large(
            options.checkpoint, corpus, options.output, name, settings, options.sounds
        )
    checkpoint = load_checkpoint(options.checkpoint)
    return convert(checkpoint, corpus, options.output, name, settings, options.sounds)[1]


def _print_proof(proof: Proof, as_json: bool) -> None:
    _tell(json.dumps(proof.as_dict()) if as_json else "\n".join(proof.table()))


def _tell(text: str) -> None:
    """Print what may be longer than a buffer, whose writing finds out about a full disk.

    Names in files may hold what a terminal would obey.
    """
    Output(sys.stdout).write(printable(text) + "\n")


def run_inspect(options: argparse.Namespace) -> None:
    """``edgelid-convert inspect``: fails after telling of a model that is not int8 alone."""
    from convert.inspection import inspect, inspection_table
    from edge.model.modelfile import read_model

    facts = inspect(read_model(options.model))
    _tell(json.dumps(facts) if options.json else "\n".join(inspection_table(facts)))
    if facts["problems"]:
        raise EdgelidError(
            f"{options.model} does not stream in int8 alone: {'; '.join(facts['problems'])}"
        )


def run_diff(options: argparse.Namespace) -> None:
    """``edgelid-convert diff``."""
    from convert.inspection import difference, difference_table, inspect
    from edge.model.modelfile import read_model

    first, second = (inspect(read_model(file)) for file in options.models)
    found = difference(first, second)
    _tell(json.dumps(found) if options.json else "\n".join(difference_table(found)))


def run_anchors(options: argparse.Namespace) -> None:
    """``edgelid-convert anchors``."""
    from convert.anchors import add_anchors
    from train.config import development_of
    from train.corpus.manifest import corpus_dir

    development = {} if options.config is None else development_of(options.config)
    added = add_anchors(
        options.model,
        options.output or options.model,
        options.corpus or corpus_dir(),
        options.sounds,
        development,
    )
    if options.json:
        print(json.dumps(dataclasses.asdict(added)))
        return
    by_class = ", ".join(f"{name} {count}" for name, count in added.classes.items())
    print(f"{added.anchors} anchors ({added.held} held out): {by_class}")
    print(f"the model file now has {added.size_bytes / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
