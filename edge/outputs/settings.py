"""All that `edgelid listen` can be told: its own keys, and those of every outlet.

This is the one list of the outlets: each stands in the bases of `Settings` by its own settings,
which say what it takes, and which module checks and opens it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge import config
from edge.config import ITSELF, PARENT, ConfigError, Keys, ListenSettings, between, key, one_of
from edge.errors import EdgelidError
from edge.languages import meant
from edge.outputs.hook_settings import HookSettings
from edge.outputs.mqtt_settings import MqttSettings
from edge.outputs.outlet_settings import OutletSettings
from edge.outputs.web.settings import WebSettings
from edge.system.atomic import check_writable

OUTPUTS = ("text", "json", "none")


@dataclass(frozen=True)
class OutputSettings(Keys):
    """What `edge.outputs.sinks` takes itself: standard output, event log and recordings."""

    output: str = key(
        "text",
        'What to write to standard output: "text", newline-delimited "json", or "none".',
        one_of(*OUTPUTS),
        restart=True,
    )
    log: str = key(
        "",
        'File to append events to, as newline-delimited JSON; "" is none. Its folder must exist.',
        path=True,
        folder=PARENT,
    )
    log_file_bytes: int = key(
        1_000_000,
        "Size at which the event log is renamed (PATH.1 is the newest) and begun anew.",
        between(10_000, 1_000_000_000),
    )
    log_files: int = key(
        5,
        "Files that the event log may consist of: all together, at most log_file_bytes times this.",
        between(2, 1_000),
    )
    record_to: str = key(
        "",
        'Folder to record everything that is heard to, for debugging; "" records nothing.',
        path=True,
        folder=ITSELF,
    )
    record_mb: int = key(
        100,
        "Megabytes (of 10^6 bytes) of recordings to keep, a minute taking 3.9; the oldest are "
        "deleted.",
        between(8, 1_000_000),
    )
    record_in_service: bool = key(
        False,
        "Whether `edgelid service install` may install a service that records.",
        restart=True,
    )


# An outlet is added here. The last comes first in the file of settings.
@dataclass(frozen=True)
class Settings(MqttSettings, HookSettings, WebSettings, OutputSettings, ListenSettings):
    """What `edgelid listen` can be told; each field documents itself, see `documented`."""


FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
# What a reload leaves as it is: the stream goes on, from where it comes to where it goes.
NEED_RESTART = config.need_restart(Settings)


def _outlets() -> Iterator[type[OutletSettings]]:
    for base in reversed(Settings.__bases__):
        if issubclass(base, OutletSettings):
            yield base


# In the order in which they are opened.
OUTLETS = tuple(sorted(_outlets(), key=lambda kind: kind.looks_on))


def read_settings(
    file: Path | None, environment: Mapping[str, str], given: Mapping[str, Any]
) -> Settings:
    """Put the settings together: the command line before the environment before the file.

    Parameters
    ----------
    file : Path or None
        Paths in it are relative to its folder.
    environment : mapping of str to str
        ``EDGELID_LOG`` and so on; lists with commas.
    given : mapping of str to value
        On the command line.

    Raises
    ------
    ConfigError
        If anything does not fit, with a sentence for each.
    """
    return config.read(Settings, file, environment, given)


def documented() -> str:
    """A configuration file of the defaults that says what every key means."""
    return config.documented(Settings)


def reference() -> list[dict[str, Any]]:
    """What there is to know of every key, in the order of the file."""
    return config.reference(Settings)


def contradictions(settings: Settings) -> Iterator[str]:
    """What does not go together."""
    if settings.input and settings.device:
        yield "input and device exclude each other: leave one out."
    if settings.learn and not (settings.lessons and settings.second_opinion):
        yield (
            "learn needs a second opinion to learn from, and lessons to write to: give "
            "second_opinion and lessons (--second-opinion and --lessons)."
        )
    if settings.second_opinion:
        from edge.model.modelfile import path_of
        from edge.opinion.expert import check_another

        try:
            check_another(settings.second_opinion, path_of(settings.model))
        except EdgelidError as error:
            yield str(error)


def is_live(settings: Settings) -> bool:
    """Whether audio comes when it likes: from a microphone, a pipe or a network."""
    return settings.input in ("", "-") or "://" in settings.input


def check_use(settings: Settings, where: str) -> None:
    """Find out whether the settings fit this device, as far as that shows without listening.

    Parameters
    ----------
    settings : Settings
    where : str
        Named in errors.

    Raises
    ------
    ConfigError
        If the model does not, a language is not the model's, settings contradict each other, the
        input cannot be read, a folder is missing, a file cannot be written, or an outlet finds
        fault with its own.
    """
    problems = [*contradictions(settings)]
    checks = (_check_model, _check_lessons, _check_input, _check_writing)
    for check in (*checks, *_outlet_checks(settings)):
        try:
            check(settings)
        except ConfigError as error:
            problems += error.problems
        except EdgelidError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError([f"{where}: {problem}" for problem in problems])


def _check_model(settings: Settings) -> None:
    from edge.classifier import class_mask
    from edge.model.modelfile import path_of, read_without_graph
    from edge.opinion.expert import ExpertFile

    model = read_without_graph(path_of(settings.model))
    labels = model.labels
    begun = os.path.exists(settings.lessons)  # noqa: PTH110 - no error where it may not be seen
    if settings.lessons and (begun or not settings.learn):
        from edge.lessons.book import read_book

        new = read_book(settings.lessons, model).languages
        labels = (*labels, *(language for language in new if language not in labels))
    class_mask(labels, meant(settings.languages, labels) or None)
    if settings.second_opinion:
        ExpertFile(settings.second_opinion, labels)


def _check_lessons(settings: Settings) -> None:
    """Whether what is learnt can be kept; a book that is there is read with the model."""
    if settings.learn and settings.lessons and not _is_of_a_service(settings.lessons):
        check_writable(Path(settings.lessons))


def _check_input(settings: Settings) -> None:
    from edge.audio.ffmpeg import INSTALL, find_ffmpeg
    from edge.audio.mixing import Ear, Mixer
    from edge.audio.network import is_url, shown_url
    from edge.audio.sources import FileSource

    if settings.input == "":
        return
    ear = Ear(settings.channel or None)
    if settings.input == "-":
        Mixer("standard input", settings.rate, settings.channels, ear)
    elif is_url(settings.input):
        shown_url(settings.input)
        if find_ffmpeg() is None:
            raise EdgelidError(f"the input {shown_url(settings.input)!r} needs ffmpeg: {INSTALL}.")
    else:
        with FileSource(settings.input) as source:
            Mixer(source.name, source.rate_hz, source.channels, ear)


def _check_writing(settings: Settings) -> None:
    """What is not there, or not ours to write; a service may be writing it at the moment."""
    from edge.outputs.eventlog import check_log

    problems = [*config.missing_folders(settings)]
    if not problems and settings.log and not _is_of_a_service(settings.log):
        check_log(Path(settings.log))
    if settings.record_to and not _is_of_a_service(settings.record_to):
        folder = Path(settings.record_to)
        if not problems and folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            problems.append(f"record_to: {str(folder)!r} cannot be written: check its permissions.")
    if problems:
        raise ConfigError(problems)


def _is_of_a_service(path: str) -> bool:
    """Whether a user of its own writes there, and whoever checks the settings need not."""
    return Path(path).is_relative_to(config.STATE_FOLDER)


def _outlet_checks(settings: Settings) -> Iterator[Callable[[Settings], None]]:
    for kind in OUTLETS:
        if kind.asked_for(settings):
            yield kind.work().check
