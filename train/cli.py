"""The commands of edgelid-train: parse, call one function, print."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.cli.options import Parser, path
from edge.errors import EdgelidError
from train.command import (
    DEFAULT_CACHE,
    add_corpus,
    import_tensorflow,
    languages_of,
    run_program,
)
from train.corpus.importers import NAMES as IMPORTERS
from train.model.precision import AUTO, PRECISIONS

if TYPE_CHECKING:
    from train.fit.training_data import Place

DEFAULT_LOADERS = min(8, (os.cpu_count() or 1) - 1)
# Options of `evaluate` that only one of its two ways takes.
OF_CUTS = (
    "held_out", "durations", "per_language", "conditions", "streams", "yardstick", "second_opinion",
)  # fmt: skip
OF_HOUSEHOLDS = ("config", "households", "heard")


class _Parser(Parser):
    program = "edgelid-train"


def parser() -> Parser:
    """The grammar of the command line."""
    top = _Parser(
        prog=_Parser.program,
        description="Trains and evaluates language identification models.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = _Parser(add_help=False)
    add_corpus(common)
    features = _features_parser(common)

    prepare = commands.add_parser(
        "prepare", parents=[features], help="decode speech and compute its features, once"
    )
    prepare.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="compute on this Ray cluster: `auto` for the one at hand, `local` to start one here",
    )
    prepare.set_defaults(run_command=run_prepare)

    fit = commands.add_parser("fit", parents=[features], help="train, or go on training")
    fit.add_argument("--run", type=path, help="folder of the run's checkpoints")
    fit.add_argument(
        "--loaders",
        type=int,
        default=DEFAULT_LOADERS,
        help="processes that draw batches; 0 for a thread (default %(default)s)",
    )
    fit.add_argument(
        "--teacher",
        type=path,
        action="append",
        default=[],
        help="teacher's embeddings, from train.fit.teacher; one a corpus",
    )
    fit.add_argument(
        "--start",
        type=path,
        metavar="RUN",
        help="begin with the last state of this other run: a longer plan, or more data",
    )
    fit.add_argument(
        "--init",
        type=path,
        metavar="RUN",
        help="begin with the trunk of this other run or checkpoint, or `shipped`: other languages",
    )
    fit.add_argument(
        "--freeze",
        choices=("known", "trunk", "none"),
        help="with --init, what stays as it is: the trunk, or with it what the head knows already",
    )
    fit.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=AUTO,
        help="of the trunk's arithmetic (default: what the GPUs are good at; float32 without)",
    )
    fit.add_argument(
        "--dry-run", action="store_true", help="tell what it would cost, and write nothing"
    )
    fit.set_defaults(run_command=run_fit)

    evaluate = commands.add_parser(
        "evaluate", parents=[common], help="accuracy of a model file on cuts of speech"
    )
    evaluate.add_argument("model", type=path, help="model file")
    evaluate.add_argument(
        "--split", choices=("train", "dev", "test"), default="test", help="to score (default test)"
    )
    evaluate.add_argument(
        "--held-out",
        type=path,
        metavar="CONFIG",
        help="with --split dev, also the development sources of this configuration, synthetic "
        "speech apart",
    )
    evaluate.add_argument(
        "--durations", default="1,3,5,10", help="of speech, seconds (default %(default)s)"
    )
    evaluate.add_argument("--per-language", type=int, help="cuts at most (default: all)")
    evaluate.add_argument(
        "--conditions", help="noise, rooms, codecs: a list, such as clean,noise-10 (default: all)"
    )
    evaluate.add_argument(
        "--streams", type=int, default=4, help="to follow, of 5 minutes (default 4)"
    )
    evaluate.add_argument(
        "--yardstick", type=path, help="what train.evaluation.yardstick wrote, to compare with"
    )
    evaluate.add_argument(
        "--second-opinion",
        default="",
        metavar="MODEL",
        help="score both together: a large model is asked, too; a file, `large` or `xlarge`. "
        "It is also scored alone, as a ceiling",
    )
    evaluate.add_argument(
        "--personal",
        action="store_true",
        help="what lessons bring: simulated households teach the model, and are heard by it",
    )
    evaluate.add_argument(
        "--households", type=int, default=20, metavar="N", help="with --personal (default 20)"
    )
    evaluate.add_argument(
        "--heard",
        type=path,
        default=Path("~/.cache/edgelid/heard"),
        metavar="DIR",
        help="with --personal: where what was heard of the speech is kept (default %(default)s)",
    )
    evaluate.add_argument(
        "--config",
        type=path,
        metavar="RUN.toml",
        help="with --personal --split dev: the sources that this run held out are dev, too",
    )
    evaluate.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    evaluate.add_argument("--json", type=path, help="write the full report to this file")
    evaluate.add_argument("--html", type=path, help="write it with plots, for a browser")
    defaults = {name: evaluate.get_default(name) for name in (*OF_CUTS, *OF_HOUSEHOLDS)}
    evaluate.set_defaults(run_command=run_evaluate, defaults=defaults)
    _add_own(commands)
    _add_import(commands)
    _add_validate(commands)
    _add_split(commands)
    return top


def _add_own(commands: Any) -> None:
    own = commands.add_parser(
        "own", help="from recordings of your own to a model file: all steps, one after the other"
    )
    own.add_argument("recordings", type=path, help="folder with LANG/SPEAKER/... or LANG/*")
    own.add_argument("-o", "--output", type=path, required=True, metavar="MODEL.tflite")
    own.add_argument(
        "--languages", help="codes to learn, such as da,sv (default: all); others become `other`"
    )
    own.add_argument(
        "--importer",
        choices=IMPORTERS,
        default="folders",
        metavar="NAME",
        help=f"what the recordings are: {', '.join(IMPORTERS)} (default %(default)s)",
    )
    own.add_argument("--hours", type=float, help="to learn from, at most, of each language")
    own.add_argument(
        "--work", type=path, metavar="DIR", help="folder for the steps (default: MODEL.own)"
    )
    own.add_argument("--skip-bad", action="store_true", help="leave out what cannot be read")
    own.add_argument("--sounds", type=path, metavar="DIR", help="folder that holds noise and rir")
    own.add_argument("--cache", type=path, help="folder for features")
    own.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    own.add_argument("--dry-run", action="store_true", help="tell time and disk that it would take")
    own.set_defaults(run_command=run_own)


def _add_import(commands: Any) -> None:
    add = commands.add_parser(
        "import", help="write the manifest of a corpus or a folder of recordings"
    )
    add.add_argument("name", choices=IMPORTERS, metavar="NAME", help=", ".join(IMPORTERS))
    add.add_argument("root", type=path, help="folder that it was unpacked to, or of archives")
    add.add_argument("-o", "--output", type=path, required=True, metavar="MANIFEST.parquet")
    add.add_argument("--languages", help="a list of codes, such as de,sv (default: all)")
    add.add_argument(
        "--hours",
        type=float,
        help="of training clips, at most, of each language; from all speakers",
    )
    add.add_argument("--min-s", type=float, default=0.0, help="leave out clips shorter than that")
    add.add_argument(
        "--max-s", type=float, default=math.inf, help="leave out clips longer than that"
    )
    add.add_argument("--seed", type=int, default=0, help="of the draw for --hours")
    add.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out what is faulty, and list it in MANIFEST.parquet.faults.tsv",
    )
    add.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="threads that measure files"
    )
    add.set_defaults(run_command=run_import, stopped="nothing was written")


def _add_validate(commands: Any) -> None:
    validate = commands.add_parser("validate", help="find in advance what would ruin a run")
    validate.add_argument("manifest", type=path, help="manifest, or folder of the corpus")
    validate.add_argument("--sample", type=int, metavar="N", help="decode N clips (default: all)")
    validate.add_argument("--seed", type=int, default=0, help="of the sample")
    validate.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    validate.add_argument("--json", type=path, help="write the full report to this file")
    validate.add_argument("--plots", type=path, metavar="PNG", help="draw hours and lengths")
    validate.set_defaults(run_command=run_validate, stopped="nothing was written")


def _add_split(commands: Any) -> None:
    split = commands.add_parser("split", help="divide into train, dev and test by speakers")
    split.add_argument("manifest", type=path, help="manifest, or folder of the corpus")
    split.add_argument("-o", "--output", type=path, required=True, help="Parquet to write")
    split.add_argument(
        "--dev", type=float, default=0.1, help="share of each language's hours (default 0.1)"
    )
    split.add_argument("--test", type=float, default=0.1, help="the same")
    split.add_argument(
        "--by",
        choices=("speaker", "source"),
        default="speaker",
        help="what is never divided (default speaker)",
    )
    split.add_argument("--seed", type=int, default=0, help="of the draw")
    split.add_argument(
        "--afresh",
        action="store_true",
        help="divide all (default: what is in dev or test stays, train is divided)",
    )
    split.add_argument(
        "--promote",
        metavar="CODES",
        help="make these languages targets, and divide them alone: all other rows stay",
    )
    split.set_defaults(run_command=run_split, stopped="nothing was written")


def _features_parser(common: _Parser) -> _Parser:
    """What commands take that need features."""
    parser = _Parser(add_help=False, parents=[common])
    parser.add_argument("config", type=path, help="TOML file of the run")
    parser.add_argument(
        "--languages",
        help="codes to learn, such as da,sv (default: as the TOML file or corpus says)",
    )
    parser.add_argument(
        "--cache",
        type=path,
        default=DEFAULT_CACHE,
        help="folder for features (default %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes, for features"
    )
    parser.add_argument(
        "--also",
        type=path,
        action="append",
        default=[],
        metavar="CORPUS",
        help="manifest or folder of another corpus to learn from, such as train.synthesis.speech "
        "makes",
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out files that cannot be read, and say which"
    )
    return parser


def _place(options: argparse.Namespace, cluster: str | None = None) -> Place:
    """What the options of `_features_parser` say."""
    from train.corpus.manifest import corpus_dir
    from train.fit.training_data import Place

    if options.workers < 1:
        raise EdgelidError("--workers must be at least 1")
    return Place(
        (options.corpus or corpus_dir(), *options.also),
        options.cache.expanduser(),
        options.workers,
        options.sounds,
        options.skip_bad,
        cluster,
    )


def run_prepare(options: argparse.Namespace) -> None:
    """``edgelid-train prepare``."""
    # As Ctrl-C does: what is done stays, and no process is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    import_tensorflow()
    from train.fit.configuring import configured
    from train.fit.training_data import prepare_corpus

    place = _place(options, options.ray)
    config = configured(options.config, place.corpora, languages_of(options.languages))
    print(prepare_corpus(config, place))


def run_fit(options: argparse.Namespace) -> None:
    """``edgelid-train fit``."""
    if options.loaders < 0:
        raise EdgelidError("--loaders must be at least 0")
    if options.freeze and not options.init:
        raise EdgelidError("--freeze is about the trunk of another run: give it with --init")
    if options.init and options.start:
        raise EdgelidError("--start goes on with another run, --init begins anew: give one")
    if not options.run and not options.dry_run:
        raise EdgelidError("give the folder of the run (--run), or --dry-run")
    # Only now: these take seconds to import, and `--help` should not.
    import_tensorflow()
    from train.fit.configuring import configured
    from train.fit.loop import KNOWN, TRUNK, Beginning, fit
    from train.fit.training_data import open_corpus
    from train.model.precision import choose
    from train.model.shipped import resolved

    place, freeze, init = _place(options), options.freeze or "", resolved(options.init)
    config = configured(options.config, place.corpora, languages_of(options.languages), init)
    precision = choose(options.precision)
    if options.dry_run:
        from train.fit.dry_run import dry_run

        print("\n".join(dry_run(config, precision, freeze in (TRUNK, KNOWN)).lines()))
        return
    corpus = open_corpus(config, place, options.teacher)
    beginning = Beginning(options.start, init, freeze)
    best = fit(config, options.run, corpus, beginning, precision, options.loaders)
    if best:
        print(f"best checkpoint: step {best.step}, {json.dumps(best.scores)}")
    else:
        print("done: the chief has the checkpoints")


def run_evaluate(options: argparse.Namespace) -> None:
    """``edgelid-train evaluate``."""
    _check_ways(options)
    if options.personal:
        _evaluate_personal(options)
        return
    from edge.system.atomic import check_writable
    from train.config import development_of
    from train.corpus.manifest import corpus_dir
    from train.evaluation.evaluate import Evaluation, evaluate_model
    from train.evaluation.report import table, write_json

    try:
        durations_s = [float(part) for part in options.durations.split(",")]
    except ValueError as error:
        raise EdgelidError("--durations must be seconds, such as 1,3,10") from error
    for file in filter(None, (options.json, options.html)):
        check_writable(file)
    if options.html:
        # Before the work: should the package that plots be missing, that is said at once.
        from train.evaluation.html_report import write_html
    report = evaluate_model(
        Evaluation(
            model=options.model,
            corpus=options.corpus or corpus_dir(),
            split=options.split,
            durations_s=durations_s,
            per_language=options.per_language,
            conditions=options.conditions and options.conditions.split(","),
            streams=options.streams,
            yardstick=options.yardstick,
            workers=options.workers,
            sounds=options.sounds,
            second_opinion=options.second_opinion,
            held_out=options.held_out and development_of(options.held_out),
        )
    )
    if options.json:
        write_json(options.json, report)
    if options.html:
        write_html(options.html, report)
    print("\n".join(table(report)))


def run_own(options: argparse.Namespace) -> None:
    """``edgelid-train own``."""
    if options.workers < 1:
        raise EdgelidError("--workers must be at least 1")
    if options.output.suffix != ".tflite":
        raise EdgelidError(f"{options.output} must end in .tflite")
    from train.own import Own, foresee, make

    own = Own(
        recordings=options.recordings,
        output=options.output,
        work=options.work or options.output.with_suffix(".own"),
        importer=options.importer,
        languages=languages_of(options.languages),
        hours=options.hours,
        skip_bad=options.skip_bad,
        sounds=options.sounds,
        cache=options.cache,
        workers=options.workers,
    )
    print("\n".join(foresee(own) if options.dry_run else make(own)))


def _check_ways(options: argparse.Namespace) -> None:
    """Refuse options of the other way to evaluate: they would be ignored, and not missed."""
    others = OF_CUTS if options.personal else OF_HOUSEHOLDS
    given = (name for name in others if getattr(options, name) != options.defaults[name])
    if (name := next(given, None)) is not None:
        option = f"--{name.replace('_', '-')}"
        raise EdgelidError(
            f"{option} is not about households: leave it out, or --personal"
            if options.personal
            else f"{option} is about households: give it with --personal"
        )
    if options.config is not None and options.split != "dev":
        raise EdgelidError("--config is about decisions: give it with --split dev")


def _evaluate_personal(options: argparse.Namespace) -> None:
    from edge.system.atomic import check_writable
    from train.config import development_of
    from train.corpus.manifest import corpus_dir
    from train.evaluation.personal import Personal, evaluate_personal
    from train.evaluation.report import write_json

    if options.households < 1:
        raise EdgelidError("--households must be at least 1")
    for file in filter(None, (options.json, options.html)):
        check_writable(file)
    # Before the work: should the package that plots be missing, that is said at once.
    from train.evaluation.personal_report import table, write_html

    development = {} if options.config is None else development_of(options.config)
    report = evaluate_personal(
        Personal(
            options.model,
            options.corpus or corpus_dir(),
            options.split,
            options.sounds,
            development,
            options.households,
            options.heard,
        )
    )
    if options.json:
        write_json(options.json, report)
    if options.html:
        write_html(options.html, report)
    print("\n".join(table(report)))


def run_import(options: argparse.Namespace) -> None:
    """``edgelid-train import``."""
    if options.workers < 1:
        raise EdgelidError("--workers must be at least 1")
    # As Ctrl-C does: nothing is left.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)
    from train.corpus.importing import Selection, import_corpus, summary

    selection = Selection(
        languages=languages_of(options.languages) or None,
        hours=options.hours,
        min_s=options.min_s,
        max_s=options.max_s,
        seed=options.seed,
    )
    import_corpus(
        options.name,
        options.root,
        options.output,
        selection,
        skip_bad=options.skip_bad,
        workers=options.workers,
    )
    print("\n".join(summary(options.output)))


def run_validate(options: argparse.Namespace) -> None:
    """``edgelid-train validate``."""
    from edge.system.atomic import check_writable
    from train.corpus.validation import validate
    from train.corpus.validation_report import table
    from train.evaluation.report import write_json

    for file in filter(None, (options.json, options.plots)):
        check_writable(file)
    if options.plots:
        from train.corpus.plot import write_plot

        if options.plots.suffix.lower() != ".png":
            raise EdgelidError("--plots writes PNG: give a file that ends in .png")
    report = validate(options.manifest, options.sample, options.seed, options.workers)
    if options.json:
        write_json(options.json, report)
    if options.plots:
        write_plot(report, options.plots)
    print("\n".join(table(report)))
    if report["errors"]:
        names = ", ".join(row["code"] for row in report["errors"])
        raise EdgelidError(f"the corpus has errors to mend before training: {names}")


def run_split(options: argparse.Namespace) -> None:
    """``edgelid-train split``."""
    from train.corpus.manifest import check_output, read_rows, write_parquet
    from train.corpus.splitting import Wish, divide, promoted
    from train.corpus.splitting_report import table

    check_output(options.output)
    manifest = read_rows(options.manifest)
    only = languages_of(options.promote, "--promote")
    if only:
        manifest, only = promoted(manifest, only)
    wish = Wish(options.dev, options.test, options.by, options.seed, options.afresh, only)
    divided = divide(manifest, wish)
    write_parquet(divided.lazy(), options.output, manifest.root)
    print("\n".join(table(divided, wish)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    logging.basicConfig(format="edgelid-train: %(message)s")
    logging.getLogger("train").setLevel(logging.INFO)
    return run_program(parser(), arguments, "the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
