r"""The commands of training from waveforms: parse, call one function, print.

    python -m train.waveforms pack train/configs/large.toml --corpus DIR --output PARTS
    python -m train.waveforms decode PARTS --output BANK
    python -m train.waveforms whisper model.bin --output whisper.npz
    python -m train.waveforms large train/configs/large.toml --bank BANK --start whisper.npz \
        --output large.npz
    python -m train.waveforms hear --bank BANK --teacher large.npz --output HEARING
    python -m train.waveforms graft train/configs/edgelid-9-large.toml --bank BANK \
        --start large.npz --weights model.bin --output grafted.npz
    python -m train.waveforms compact train/configs/compact.toml --bank BANK \
        --teacher large.npz --hearing HEARING --output compact.npz
    python -m train.waveforms inherit train/configs/edgelid-9-attention.toml --bank BANK \
        --teacher large.npz --start compact.npz --hearing FIRST --output start.npz
    python -m train.waveforms ceiling train/configs/large.toml --bank BANK --weights model.bin

The parts of a bank can be copied to a machine with an accelerator; the commands after it need no
corpus. ``KERAS_BACKEND=jax`` runs those that compute on JAX.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from edge.cli.options import Parser
from edge.errors import EdgelidError
from train.command import import_keras, run_program
from train.config import development_of, read_toml
from train.model.precision import AUTO, BFLOAT16, PRECISIONS
from train.waveforms.bank import CODED_SHARE

LAYERS = 4  # of Whisper base's encoder that the large model has


class _Parser(Parser):
    program = "python -m train.waveforms"


def parser() -> Parser:
    """The grammar of the commands."""
    top = _Parser(
        prog=_Parser.program,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    pack = commands.add_parser("pack", help="put the recordings of a corpus into a few files")
    pack.add_argument("config", type=Path)
    pack.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    pack.add_argument(
        "--also", type=Path, action="append", default=[], metavar="DIR", help="another corpus"
    )
    pack.add_argument("--output", type=Path, required=True, metavar="PARTS")
    pack.add_argument("--part-mb", type=float, default=50.0, help="of a file, at most (default 50)")
    pack.set_defaults(run_command=run_pack)
    decode = commands.add_parser("decode", help="make one array of samples of them")
    decode.add_argument("parts", type=Path)
    decode.add_argument("--output", type=Path, required=True, metavar="BANK")
    decode.add_argument(
        "--coded-share",
        type=float,
        default=CODED_SHARE,
        metavar="SHARE",
        help=f"of the training clips, a second time through a codec (default {CODED_SHARE:g})",
    )
    decode.set_defaults(run_command=run_decode)
    whisper = commands.add_parser("whisper", help="take the encoder out of Whisper's weights")
    whisper.add_argument("weights", type=Path, help="model.bin, model.safetensors or base.pt")
    whisper.add_argument("--output", type=Path, required=True, metavar="FILE.npz")
    whisper.add_argument("--layers", type=int, default=LAYERS, help=f"how many (default {LAYERS})")
    whisper.set_defaults(run_command=run_whisper)
    hear = commands.add_parser("hear", help="keep what the large model hears in a bank")
    hear.add_argument("--bank", type=Path, required=True, metavar="BANK")
    hear.add_argument("--teacher", type=Path, required=True, metavar="LARGE.npz")
    hear.add_argument("--output", type=Path, required=True, metavar="HEARING")
    hear.add_argument("--limit-s", type=float, default=1e9, help="stop after so long")
    _add_precision(hear, "float32 where a processor lacks bfloat16")
    hear.set_defaults(run_command=run_hear)
    average = commands.add_parser("average", help="weights between those of checkpoints")
    average.add_argument("before", type=Path, help="with which the runs began")
    average.add_argument("after", type=Path, nargs="+", help="what a run came to")
    average.add_argument("--share", type=float, nargs="+", required=True, help="of the way to each")
    average.add_argument("--output", type=Path, required=True, metavar="FILE.npz")
    average.set_defaults(run_command=run_average)
    grow = commands.add_parser("grow", help="add blocks that change nothing until they learn")
    grow.add_argument("checkpoint", type=Path)
    how = grow.add_mutually_exclusive_group(required=True)
    how.add_argument("--blocks", type=int, help="to be added to the last stage")
    how.add_argument("--ahead", type=int, help="frames that layers of attention wait for")
    grow.add_argument("--output", type=Path, required=True, metavar="FILE.npz")
    grow.set_defaults(run_command=run_grow)
    balance = commands.add_parser("balance", help="biases of the languages, on development speech")
    balance.add_argument("checkpoint", type=Path, help="of a compact model, or a large one")
    balance.add_argument("--bank", type=Path, required=True, metavar="BANK")
    balance.add_argument("--other", type=float, default=0.0, help="added to the score of `other`")
    balance.add_argument("--output", type=Path, required=True, metavar="FILE.npz")
    balance.set_defaults(run_command=run_balance)
    for name, what in (
        ("large", "fine-tune the large model"),
        ("compact", "distil the compact one"),
    ):
        fit = commands.add_parser(name, help=what)
        fit.add_argument("config", type=Path)
        fit.add_argument("--bank", type=Path, required=True, metavar="BANK")
        fit.add_argument("--start", type=Path, metavar="FILE.npz", help="weights to begin with")
        if name == "compact":
            fit.add_argument(
                "--hearing",
                type=Path,
                metavar="HEARING",
                help="what the teacher heard (default: it hears along)",
            )
            fit.add_argument("--teacher", type=Path, required=True, metavar="LARGE.npz")
        fit.add_argument(
            "--towers",
            type=int,
            default=1,
            help="parts of a batch that are computed side by side; on processors, as many as "
            "there are (default 1)",
        )
        _add_course(fit)
        fit.set_defaults(run_command=run_large if name == "large" else run_compact)
    graft = commands.add_parser(
        "graft", help="give the large model a narrow decoder, made of Whisper's"
    )
    graft.add_argument("config", type=Path)
    graft.add_argument("--bank", type=Path, required=True, metavar="BANK")
    graft.add_argument(
        "--start",
        type=Path,
        required=True,
        metavar="FILE.npz",
        help="checkpoint of a large model, or an encoder (`whisper`), which gets a head, too",
    )
    graft.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        required=True,
        help="Whisper's, of which the decoder is made; from those of further Whispers, and from "
        "large models, it learns, too",
    )
    graft.add_argument(
        "--windows", type=Path, metavar="DIR", help="keep what was heard there, to go on from it"
    )
    graft.add_argument("--output", type=Path, required=True, metavar="FILE.npz")
    graft.set_defaults(run_command=run_graft)
    teach = commands.add_parser("teach", help="let the large model learn from another Whisper")
    teach.add_argument("config", type=Path)
    teach.add_argument("--bank", type=Path, required=True, metavar="BANK")
    teach.add_argument("--start", type=Path, required=True, metavar="LARGE.npz")
    teach.add_argument("--weights", type=Path, required=True, help="Whisper's, all of them")
    _add_course(teach)
    teach.set_defaults(run_command=run_teach)
    detach = commands.add_parser(
        "detach", help="leave the encoder out of a large model's checkpoint: Whisper's own"
    )
    detach.add_argument("checkpoint", type=Path)
    detach.add_argument("--output", type=Path, required=True, metavar="FILE.npz")
    detach.set_defaults(run_command=run_detach)
    attach = commands.add_parser("attach", help="put it back, from Whisper's weights")
    attach.add_argument("checkpoint", type=Path)
    attach.add_argument("--weights", type=Path, required=True)
    attach.add_argument("--output", type=Path, required=True, metavar="FILE.npz")
    attach.set_defaults(run_command=run_attach)
    inherit = commands.add_parser(
        "inherit", help="begin a compact model that has the large one's layers of attention"
    )
    inherit.add_argument("config", type=Path)
    inherit.add_argument("--bank", type=Path, required=True, metavar="BANK")
    inherit.add_argument("--teacher", type=Path, required=True, metavar="LARGE.npz")
    inherit.add_argument(
        "--start", type=Path, metavar="FILE.npz", help="compact model with convolutions to begin"
    )
    inherit.add_argument(
        "--hearing",
        type=Path,
        required=True,
        metavar="FIRST",
        help="folder for what the first of the large model's layers hears",
    )
    inherit.add_argument("--hear-limit-s", type=float, default=1e9, help="hear for so long at most")
    inherit.add_argument(
        "--limit-s", type=float, default=540.0, help="the convolutions learn for so long (540)"
    )
    inherit.add_argument(
        "--towers", type=int, default=1, help="as of `compact`: as many as there are processors"
    )
    inherit.add_argument("--output", type=Path, required=True, metavar="FILE.npz")
    inherit.set_defaults(run_command=run_inherit)
    ceiling = commands.add_parser("ceiling", help="score linear heads on a teacher's own frames")
    ceiling.add_argument("config", type=Path)
    ceiling.add_argument("--bank", type=Path, required=True, metavar="BANK")
    ceiling.add_argument(
        "--weights", type=Path, required=True, help="model.bin, model.safetensors or base.pt"
    )
    ceiling.add_argument("--large", type=Path, metavar="LARGE.npz", help="score this one, too")
    ceiling.add_argument(
        "--per-language", type=int, default=150, help="training windows (default 150)"
    )
    ceiling.add_argument("--most", type=int, default=60, help="development windows a source")
    ceiling.add_argument("--json", type=Path, help="write all figures to this file")
    ceiling.set_defaults(run_command=run_ceiling)
    return top


def _add_course(command: argparse.ArgumentParser) -> None:
    """Add the options of a run that learns."""
    command.add_argument("--output", type=Path, required=True, metavar="FILE.npz")
    command.add_argument("--steps", type=int, help="instead of the configuration's")
    command.add_argument("--limit-s", type=float, default=1e9, help="end the run in this time")
    command.add_argument("--batch-scale", type=float, default=1.0, help="of the configuration's")
    command.add_argument("--evaluate-every-s", type=float, default=1e9)
    command.add_argument("--log-every", type=int, default=50, help="steps (default 50)")
    command.add_argument("--most", type=int, default=60, help="development windows a source")
    _add_precision(command, "float32 where there is no GPU")


def _add_precision(command: argparse.ArgumentParser, advice: str) -> None:
    # What suits a machine, AUTO, only TensorFlow can be asked.
    known = [name for name in PRECISIONS if name != AUTO]
    command.add_argument(
        "--precision", choices=known, default=BFLOAT16, help=f"{advice} (default {BFLOAT16})"
    )


def run_pack(options: argparse.Namespace) -> None:
    """``pack``."""
    from train.waveforms.bank import entries_of, write_bank

    _check_above_0("part_mb", options.part_mb)
    found = entries_of(options.corpus, development_of(options.config), None, options.also)
    print(f"{write_bank(found, options.output, round(options.part_mb * 1e6))} parts written")


def run_decode(options: argparse.Namespace) -> None:
    """``decode``."""
    from train.folder import make_place
    from train.waveforms.bank import check_parts, decode_bank

    if not 0 <= options.coded_share <= 1:
        raise EdgelidError("--coded-share must be between 0 and 1")
    files = sorted(options.parts.glob("part-*.npz"))
    if not files:
        raise EdgelidError(f"there are no parts of a bank in {options.parts}")
    check_parts(files)  # where there is no bank, no folder is left
    make_place(options.output / "samples.npy")
    segments = decode_bank(files, options.coded_share)
    segments.save(options.output)
    print(f"{len(segments.samples) / 16_000 / 3600:.1f} hours in {options.output}")


def run_whisper(options: argparse.Namespace) -> None:
    """``whisper``."""
    import numpy as np

    from edge.system.atomic import atomic_file
    from train.waveforms.published import read_encoder

    if options.layers < 1:
        raise EdgelidError("--layers must be at least 1")
    _check_output(options.output)
    arrays = read_encoder(options.weights, options.layers)
    with atomic_file(options.output) as file:
        np.savez(file, allow_pickle=False, **arrays)


def _check_output(file: Path, ending: str = ".npz") -> None:
    """Find out before the work whether its result can be kept, by a name that tells what it is."""
    if file.suffix != ending:
        raise EdgelidError(f"{file} must end in {ending}")
    from train.folder import make_place

    make_place(file)


def _check_above_0(name: str, number: float) -> None:
    """Raise EdgelidError unless an option is a number above 0, and a finite one."""
    if not 0 < number < math.inf:
        raise EdgelidError(f"--{name.replace('_', '-')} must be above 0 and finite")


def _check_course(options: argparse.Namespace) -> None:
    """Raise EdgelidError unless the options of `_add_course` make a run."""
    for name in ("limit_s", "batch_scale", "evaluate_every_s"):
        _check_above_0(name, getattr(options, name))
    for name in ("steps", "log_every", "most", "towers"):
        number = getattr(options, name, None)
        if number is not None and number < 1:
            raise EdgelidError(f"--{name.replace('_', '-')} must be at least 1")


def run_average(options: argparse.Namespace) -> None:
    """``average``."""
    import_keras()
    from train.model.checkpoint import load_checkpoint
    from train.waveforms.average import average_large, averaged
    from train.waveforms.checkpoint import is_large

    _check_output(options.output)
    if len(options.share) != len(options.after):
        raise EdgelidError("--share takes as many numbers as there are checkpoints after the first")
    if not all(map(math.isfinite, options.share)):
        raise EdgelidError("--share must be a number")
    if is_large(options.before):
        runs = list(zip(options.after, options.share, strict=True))
        average_large(options.before, runs, options.output)
        return
    after = [load_checkpoint(file) for file in options.after]
    before = load_checkpoint(options.before)
    averaged(before, list(zip(after, options.share, strict=True))).save(options.output)


def run_grow(options: argparse.Namespace) -> None:
    """``grow``."""
    import_keras()
    from train.model.checkpoint import load_checkpoint
    from train.waveforms.grow import farseeing, grown

    _check_output(options.output)
    checkpoint = load_checkpoint(options.checkpoint)
    found = (
        farseeing(checkpoint, options.ahead)
        if options.ahead is not None
        else grown(checkpoint, options.blocks)
    )
    found.save(options.output)


def run_balance(options: argparse.Namespace) -> None:
    """``balance``."""
    if not math.isfinite(options.other):
        raise EdgelidError("--other must be a finite number")
    import_keras()
    from train.model.checkpoint import load_checkpoint
    from train.waveforms.balance import balance_large, balanced
    from train.waveforms.bank import Segments
    from train.waveforms.checkpoint import is_large

    _check_output(options.output)
    segments = Segments.load(options.bank)
    if is_large(options.checkpoint):
        biases = balance_large(options.checkpoint, segments, options.other, options.output)
    else:
        found, biases = balanced(load_checkpoint(options.checkpoint), segments, options.other)
        found.save(options.output)
    print(", ".join(f"{language} {bias:+.2f}" for language, bias in biases.items()))


def run_hear(options: argparse.Namespace) -> None:
    """``hear``."""
    _check_above_0("limit_s", options.limit_s)
    import_keras()
    from train.waveforms.bank import Segments
    from train.waveforms.hearing import hear

    segments = Segments.load(options.bank)
    hear(segments, options.teacher, options.output, options.precision, options.limit_s)


def run_large(options: argparse.Namespace) -> None:
    """``large``."""
    _check_course(options)
    import_keras()
    from train.waveforms.bank import Segments
    from train.waveforms.large_fit import fit_large
    from train.waveforms.stepper import share_processors

    if options.towers > 1:
        share_processors(options.towers)
    if options.start is None:
        raise EdgelidError("the large model begins with Whisper's weights: give --start")
    _check_output(options.output)
    fit_large(read_toml(options.config), Segments.load(options.bank), options)


def run_compact(options: argparse.Namespace) -> None:
    """``compact``."""
    _check_course(options)
    import_keras()
    from train.waveforms.bank import Segments
    from train.waveforms.compact_fit import fit_compact
    from train.waveforms.stepper import share_processors

    if options.towers > 1:
        share_processors(options.towers)
    _check_output(options.output)
    fit_compact(read_toml(options.config), Segments.load(options.bank), options)


def run_graft(options: argparse.Namespace) -> None:
    """``graft``."""
    import_keras()
    from train.waveforms.bank import Segments
    from train.waveforms.graft import graft_decoder

    _check_output(options.output)
    graft_decoder(read_toml(options.config), Segments.load(options.bank), options)


def run_teach(options: argparse.Namespace) -> None:
    """``teach``."""
    _check_course(options)
    import_keras()
    from train.waveforms.bank import Segments
    from train.waveforms.teach import teach

    _check_output(options.output)
    teach(read_toml(options.config), Segments.load(options.bank), options)


def run_detach(options: argparse.Namespace) -> None:
    """``detach``."""
    import_keras()
    from train.waveforms.detached import detach

    _check_output(options.output)
    detach(options.checkpoint, options.output)


def run_attach(options: argparse.Namespace) -> None:
    """``attach``."""
    import_keras()
    from train.waveforms.detached import attach

    _check_output(options.output)
    attach(options.checkpoint, options.weights, options.output)


def run_inherit(options: argparse.Namespace) -> None:
    """``inherit``."""
    import_keras()
    from train.waveforms.bank import Segments
    from train.waveforms.inherit import inherit
    from train.waveforms.stepper import share_processors

    if options.towers > 1:
        share_processors(options.towers)
    _check_output(options.output)
    inherit(read_toml(options.config), Segments.load(options.bank), options)


def run_ceiling(options: argparse.Namespace) -> None:
    """``ceiling``."""
    import json

    import_keras()
    from edge.system.atomic import write_atomically
    from train.waveforms.bank import Segments
    from train.waveforms.ceiling import ceiling, table

    if min(options.per_language, options.most) < 1:
        raise EdgelidError("--per-language and --most must be at least 1")
    if options.json:
        _check_output(options.json, ".json")
    config, segments = read_toml(options.config), Segments.load(options.bank)
    sizes = options.per_language, options.most
    report = ceiling(config, segments, options.weights, options.large, *sizes)
    if options.json:
        write_atomically(options.json, (json.dumps(report, indent=1) + "\n").encode())
    print("\n".join(table(report)))


def main() -> int:
    """Run the command line; returns the exit status."""
    return run_program(parser(), None, "it can be run again")


if __name__ == "__main__":
    sys.exit(main())
