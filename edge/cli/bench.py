"""``edgelid bench`` and ``edgelid bench compare``: what listening costs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from edge.cli.options import Parser, counts, large_model, named_model, path
from edge.outputs.stdout import Output

# One command of two words: argparse could not tell a command within `bench` from a model file.
_BENCH_COMPARE = "bench compare"


def joined(words: Sequence[str]) -> list[str]:
    """The arguments, with a command of two words as one."""
    if [*words[:2]] == _BENCH_COMPARE.split():
        return [_BENCH_COMPARE, *words[2:]]
    return [*words]


def add(commands: Any, common: Parser) -> None:
    """Add the command to the grammar."""
    bench = commands.add_parser(
        "bench",
        parents=[common],
        help="measure what listening costs on this device",
        epilog="`edgelid bench compare A.json B.json` sets two of them side by side.",
    )
    bench.add_argument(
        "models",
        nargs="*",
        type=named_model,
        metavar="MODEL",
        help="files, or `large` or `xlarge`, side by side",
    )
    bench.add_argument("--input", type=path, metavar="FILE", help="audio file (default: a sample)")
    bench.add_argument(
        "--seconds",
        type=float,
        metavar="N",
        help="of audio in each pass (default: 60, or less on a slow device)",
    )
    bench.add_argument(
        "--threads",
        type=counts(64),
        default=(1,),
        metavar="1,2,4",
        help="threads of the interpreter, each",
    )
    bench.add_argument(
        "--hop-ms",
        type=counts(60_000),
        metavar="160,320",
        help="between answers, each; only for models of whole windows",
    )
    bench.add_argument(
        "--second-opinion",
        type=large_model,
        default="",
        metavar="MODEL",
        help="measure a large model beside the first, too: a file, `large` or `xlarge`",
    )
    bench.add_argument("--plot", type=path, metavar="FILE.png", help="draw the figures, too")
    bench.set_defaults(run=run_bench)

    compare = commands.add_parser(
        _BENCH_COMPARE,
        prog="edgelid bench compare",
        parents=[common],
        help="which differences of two benches are more than noise",
    )
    for name in ("one", "other"):
        compare.add_argument(
            name, type=path, metavar="FILE.json", help="from `edgelid bench --json`"
        )
    compare.set_defaults(run=run_bench_compare)


def run_bench(options: argparse.Namespace, output: Output) -> int:
    """``edgelid bench``."""
    from edge.bench.measure import SAMPLE, Wanted, measure
    from edge.bench.plot import check_plot, write_plot
    from edge.bench.progress import progress
    from edge.bench.table import table
    from edge.model.modelfile import path_of

    if options.plot is not None:
        check_plot(options.plot)
    wanted = Wanted(
        [path_of(model) for model in options.models or [""]],
        options.input or SAMPLE,
        options.seconds,
        options.threads,
        options.hop_ms,
        options.second_opinion,
    )
    with progress() as say:
        document = measure(wanted, say)
    if options.json:
        output.record(document)
    else:
        for line in table(document):
            output.line(line)
    if options.plot is not None:
        write_plot(document, options.plot)
    return 0


def run_bench_compare(options: argparse.Namespace, output: Output) -> int:
    """``edgelid bench compare``."""
    from edge.bench.compare import compare, comparison_table, read_bench

    found = compare(read_bench(options.one), read_bench(options.other))
    if options.json:
        output.record(found)
    else:
        for line in comparison_table(found, (str(options.one), str(options.other))):
            output.line(line)
    return 0
