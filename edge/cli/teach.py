"""``edgelid teach``: have the model learn the people and languages of a place."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.cli.options import MODEL_HELP, Parser, add_ear, complain, named_model, path, recording
from edge.cli.signals import stopped_by_signals
from edge.errors import EdgelidError
from edge.languages import code_of, language_name, meant
from edge.outputs.stdout import Output
from edge.system.native_stderr import threads_stderr_to_log

if TYPE_CHECKING:
    from edge.lessons.adapting import Brought
    from edge.lessons.book import Book
    from edge.model.modelfile import ModelFile
    from edge.teaching import Given, LessonExtractor

DEFAULT_LESSONS = "my-voices.edgelid"
SPEAK_S = 60.0


def add(commands: Any, common: Parser) -> None:
    """Add the command to the grammar."""
    teach = commands.add_parser(
        "teach", parents=[common], help="have the model learn the voices of a household"
    )
    teach.add_argument(
        "language", nargs="?", metavar="LANGUAGE", help="that is spoken: its code, such as de"
    )
    teach.add_argument(
        "files",
        nargs="*",
        type=recording,
        metavar="FILE",
        help="audio files, or folders of them (default: the microphone, for a minute of speech)",
    )
    teach.add_argument(
        "--lessons",
        type=path,
        metavar="FILE",
        help=f"to write to (default: what the configuration says, or {DEFAULT_LESSONS})",
    )
    teach.add_argument("--model", type=named_model, help=MODEL_HELP)
    teach.add_argument(
        "--config", type=path, metavar="FILE", help="settings, of which model and lessons are taken"
    )
    teach.add_argument("--device", help="microphone, by number or (part of) its name")
    add_ear(teach)
    change = teach.add_mutually_exclusive_group()
    change.add_argument("--list", action="store_true", help="what has been taught")
    change.add_argument(
        "--forget", metavar="LANGUAGE", help="delete what was taught of a language, or of `all`"
    )
    change.add_argument("--undo", action="store_true", help="delete the newest lesson")
    teach.set_defaults(run=run_teach)


def run_teach(options: argparse.Namespace, output: Output) -> int:
    """``edgelid teach``."""
    from edge.model.modelfile import read_model

    changes = options.list or options.forget is not None or options.undo
    if changes == (options.language is not None):
        raise EdgelidError(
            "give a language to teach, or one of --list, --forget and --undo, and not both."
        )
    if options.files and options.device is not None:
        raise EdgelidError("files and --device exclude each other: leave one out.")
    model_path, book_path = _places(options)
    model = read_model(model_path)
    if options.list:
        return _list(book_path, model, options.json, output)
    if changes:
        return _change(book_path, model, options, output)
    return _teach(book_path, model, options, output)


def _places(options: argparse.Namespace) -> tuple[Path, Path]:
    """Where the model and the book are."""
    from edge.config import FILE_VARIABLE
    from edge.model.modelfile import path_of
    from edge.outputs.settings import read_settings

    file = options.config
    if file is None and os.environ.get(FILE_VARIABLE):
        file = path(os.environ[FILE_VARIABLE])
    settings = read_settings(file, os.environ, {})
    model = path_of(options.model or settings.model)
    beside = Path() if file is None else file.parent
    return model, options.lessons or Path(settings.lessons or beside / DEFAULT_LESSONS)


def _teach(book_path: Path, model: ModelFile, options: argparse.Namespace, output: Output) -> int:
    from edge.config import gain_db
    from edge.lessons.book import MICROPHONE, RECORDING, check_language, read_book
    from edge.lessons.telling import brought_record
    from edge.model.interpreter import open_model
    from edge.system.atomic import check_writable
    from edge.teaching import LessonExtractor, lesson_of, teach

    (language,) = meant([options.language], model.labels)
    if language not in model.labels:
        language = code_of(language)
    check_language(language)
    check_writable(book_path)  # before anyone has spoken for a minute
    if book_path.exists():
        read_book(book_path, model)
    graphs = open_model(model)
    extractor = LessonExtractor(model, graphs, automatic_gain=gain_db(options.gain) is None)
    given = (
        _of_files(extractor, options)
        if options.files
        else [_of_microphone(extractor, language, options)]
    )
    origin = RECORDING if options.files else MICROPHONE
    lesson = lesson_of(language, origin, given)
    book, brought = teach(book_path, model, graphs, lesson)
    if options.json:
        output.record(
            {**_lesson_record(book, -1), "lessons": str(book_path), **brought_record(brought)}
        )
        return 0
    learnt, found = len(lesson.windows), sum(len(each.windows) for each in given)
    number = f"{learnt} of {found}" if learnt < found else f"{learnt}"
    output.line(
        f"learnt {number} windows of {language_name(language)}, from "
        f"{sum(each.heard_s for each in given):.0f} s; {book.windows} are in {book_path} now"
    )
    for line in _brought_lines(brought):
        output.line(line)
    return 0


def _of_files(extractor: LessonExtractor, options: argparse.Namespace) -> list[Given]:
    from edge.audio.formats import check_no_folder, find_recordings
    from edge.audio.mixing import Ear
    from edge.audio.sources import FileSource
    from edge.config import gain_db

    given = []
    for file in find_recordings(options.files):
        check_no_folder(file)
        ear = Ear(options.channel or None, gain_db(options.gain), math.inf)
        with FileSource(file, ear) as source:
            given.append(extractor.hear(source))
        if not given[-1].windows:
            complain(f"{str(file)!r} has no speech to learn from: it is left out.")
    return given


def _of_microphone(extractor: LessonExtractor, language: str, options: argparse.Namespace) -> Given:
    from edge.audio.microphone import MicrophoneSource
    from edge.config import gain_db

    device, channel, gain = options.device or None, options.channel or None, gain_db(options.gain)
    with (
        threads_stderr_to_log("PortAudio"),
        MicrophoneSource(device, channel, gain) as source,
        stopped_by_signals(source),
    ):
        complain(
            f"speak {language_name(language)} for a minute, as you do at home; what is said is not "
            f"kept. Listening to {source.description()}; Ctrl-C ends it, and nothing is learnt."
        )
        return extractor.hear(source, SPEAK_S)


def _change(book_path: Path, model: ModelFile, options: argparse.Namespace, output: Output) -> int:
    from edge.lessons.book import read_book, update_book

    read_book(book_path, model)  # there is nothing to forget where there is no book

    def change(book: Book) -> Book:
        if options.undo:
            if not book.lessons:
                raise EdgelidError(f"there is no lesson to undo in {str(book_path)!r}.")
            return book.undone()
        if options.forget == "all":
            return book.without(None)
        (language,) = meant([options.forget], book.languages)
        if language not in book.languages:
            raise EdgelidError(
                f"{language!r:.60} was never taught: `edgelid teach --list` tells what was."
            )
        return book.without(language)

    book = update_book(book_path, model, change)
    if options.json:
        output.record({"lessons": str(book_path), "windows": book.windows})
    else:
        output.line(f"{book.windows} windows in {len(book.lessons)} lessons are left.")
    return 0


def _list(book_path: Path, model: ModelFile, as_json: bool, output: Output) -> int:
    from edge.lessons.book import read_book

    book = read_book(book_path, model)
    for number in range(len(book.lessons)):
        if as_json:
            output.record(_lesson_record(book, number))
        else:
            output.line(_lesson_line(book, number))
    if not book.lessons and not as_json:
        output.line(f"nothing has been taught in {book_path}.")
    return 0


def _lesson_record(book: Book, number: int) -> dict[str, Any]:
    from edge.lessons.telling import time_of

    lesson = book.lessons[number]
    return {
        "language": lesson.language,
        "taught": time_of(lesson.taught_s).isoformat(),
        "from": lesson.origin,
        "windows": len(lesson.windows),
    }


def _lesson_line(book: Book, number: int) -> str:
    """A lesson, for people."""
    from edge.lessons.telling import time_of

    lesson = book.lessons[number]
    when = time_of(lesson.taught_s).strftime("%Y-%m-%d %H:%M")
    name = f"{lesson.language:<9} {language_name(lesson.language):<15}"
    return f"{when}  {name} {len(lesson.windows):4d} windows  {lesson.origin}"


def _brought_lines(brought: Brought) -> list[str]:
    """What lessons brought and cost, for people."""
    part = "" if brought.strength == 1.0 else f" (lessons count for {brought.strength:.0%})"
    return [
        f"errors on the voices taught    {brought.taught_before:5.1%} -> "
        f"{brought.taught_after:5.1%}  (each quarter by what the rest teaches){part}",
        f"errors on other people         {brought.others_before:5.1%} -> "
        f"{brought.others_after:5.1%}  (speech that the model file carries for this)",
    ]
