"""``edgelid listen``: follow the language of a stream."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from edge.cli.options import (
    SHARE_ALONE,
    Parser,
    add_ear,
    add_hold,
    add_lessons,
    add_second_opinion,
    add_second_opinion_share,
    complain,
    lengths,
    model_options,
    path,
    setting,
)
from edge.cli.signals import reloaded_by_signal, stopped_by_signals
from edge.errors import EdgelidError
from edge.outputs.stdout import Output, People, heard_records
from edge.system.native_stderr import threads_stderr_to_log

if TYPE_CHECKING:
    from edge.audio.sources import AudioSource
    from edge.outputs.monitor import Monitor
    from edge.outputs.settings import Settings
    from edge.outputs.terminal import TerminalView


def add(commands: Any, common: Parser) -> None:
    """Add the command to the grammar."""
    listen = commands.add_parser(
        "listen", parents=[common, model_options()], help="follow the language of a stream"
    )
    listen.add_argument(
        "--config", type=path, metavar="FILE", help="settings, see `edgelid config show`"
    )
    listen.add_argument(
        "--input",
        metavar="FILE",
        help="audio file, - for raw PCM on stdin, or rtsp://... or http://...",
    )
    listen.add_argument("--device", help="microphone, by number or (part of) its name")
    add_ear(listen)
    for name, meaning in (
        ("rate", "Hz of raw PCM (default 16000)"),
        ("channels", "channels of raw PCM (default 1)"),
    ):
        listen.add_argument(f"--{name}", type=setting(name), metavar="N", help=meaning)
    add_hold(listen, None)
    add_second_opinion(listen)
    add_second_opinion_share(listen)
    add_lessons(listen)
    listen.add_argument(
        "--learn",
        action="store_true",
        default=None,
        help="learn from what a second opinion is sure of (off by default)",
    )
    listen.add_argument("--log", metavar="FILE", help="append events to a file, of bounded size")
    listen.add_argument(
        "--record-to", metavar="DIR", help="for debugging: record what is heard, the last 100 MB"
    )
    listen.add_argument(
        "--web",
        type=setting("web"),
        metavar="[HOST:]PORT",
        help="serve a web page, HTTP API and Prometheus metrics",
    )
    listen.add_argument(
        "--on-change", metavar="'CMD {language}'", help="run a command when the language changes"
    )
    listen.add_argument(
        "--mqtt", metavar="URL", help="send state and events to a broker: mqtts://HOST[/PREFIX]"
    )
    listen.add_argument(
        "--realtime", action="store_true", help="read a file no faster than it would play"
    )
    listen.add_argument(
        "--windows",
        type=lengths,
        nargs="?",
        const=(),
        metavar="1,3,10",
        help="with --json, print the probabilities of every window; lengths in seconds "
        "(default: the model's)",
    )
    listen.hint = "give a recording with --input FILE, or to `edgelid classify`"
    listen.set_defaults(run=run_listen)


def run_listen(options: argparse.Namespace, output: Output) -> int:
    """``edgelid listen``."""
    from edge.audio.sources import paced
    from edge.config import FILE_VARIABLE, ConfigError
    from edge.outputs.registry import monitor_of
    from edge.outputs.settings import contradictions, read_settings
    from edge.outputs.sinks import Sinks
    from edge.outputs.systemd_notify import Notifier
    from edge.service.reload import ReloadingListener, learning_sentence

    file = options.config
    if file is None and os.environ.get(FILE_VARIABLE):
        file = path(os.environ[FILE_VARIABLE])
    read = functools.partial(read_settings, file, os.environ, _given(options))
    settings = read()
    if options.windows is not None and settings.output != "json":
        raise EdgelidError("--windows is for programs: add --json.")
    if problems := [*contradictions(settings)]:
        raise ConfigError(problems)
    for problem in _in_vain(options, settings):
        raise EdgelidError(problem)
    if settings.learn:
        complain(learning_sentence(settings))
    listener = ReloadingListener(settings, options.windows, options.realtime)
    with (
        contextlib.closing(listener),
        _quiet(settings),
        _source(settings) as source,
        stopped_by_signals(source),
    ):
        if not settings.input:
            _tell_start(source)
        viewed = settings.output == "text" and output.is_terminal
        monitor = monitor_of(settings, source, viewed)
        if monitor is not None:
            monitor.taught = lambda: listener.taught
        with (
            _view(output, monitor if viewed else None) as view,
            Sinks(settings, output, Notifier(), listener.model.labels, monitor) as sinks,
            reloaded_by_signal(
                listener, sinks, read if file is not None or settings.lessons else None
            ),
        ):
            blocks = sinks.audio(paced(source.blocks()) if options.realtime else source.blocks())
            for heard in listener.hear(blocks, sinks.apply):
                sinks.heard(heard, listener.model.labels)
                if settings.output == "text":
                    view.show(heard)
                lengths_s = listener.windows_s
                wanted = [window for window in heard.windows if window.length_s in lengths_s]
                told = dataclasses.replace(heard, windows=wanted)
                for record in heard_records(told, listener.model.labels, bool(wanted)):
                    sinks.record(record)
    return 0


def _quiet(settings: Settings) -> AbstractContextManager[None]:
    """What keeps PortAudio's threads from printing among our lines."""
    return contextlib.nullcontext() if settings.input else threads_stderr_to_log("PortAudio")


def _tell_start(source: AudioSource) -> None:
    """Say which microphone is heard, and how to end that, whoever reads standard output."""
    from edge.audio.microphone import MicrophoneSource

    if isinstance(source, MicrophoneSource):
        complain(f"listening to {source.description()}; {_how_to_end()}.")


def _how_to_end() -> str:
    if sys.stdin is not None and sys.stdin.isatty():
        return "Ctrl-C ends it"
    return f"`kill {os.getpid()}` ends it"


def _view(output: Output, monitor: Monitor | None) -> People | TerminalView:
    """What people see: lines, and on a terminal, which has a monitor, more than that."""
    if monitor is not None:
        try:
            from edge.outputs.terminal import TerminalView
        except ImportError as error:
            logging.getLogger(__name__).info("no live view: %s is missing", error.name)
        else:
            return TerminalView(output, monitor)
    return People(output)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of the command line."""
    from edge.outputs.settings import FIELDS

    if options.input == "":  # which a script that lost a name must not take for the microphone
        raise EdgelidError("the input '' does not exist: check the path.")
    given = {name: getattr(options, name, None) for name in FIELDS}
    given["output"] = "json" if options.json else None
    if given["lessons"] is not None:
        given["lessons"] = str(given["lessons"])
    if given["languages"] is not None:
        given["languages"] = tuple(given["languages"])
    return {name: value for name, value in given.items() if value is not None}


def _in_vain(options: argparse.Namespace, settings: Settings) -> Iterator[str]:
    """What is wrong with options that nothing would come of."""
    if (options.rate is not None or options.channels is not None) and settings.input != "-":
        yield "--rate and --channels are those of raw PCM: add --input -, or leave them out."
    if options.second_opinion_share is not None and not settings.second_opinion:
        yield SHARE_ALONE


def _source(settings: Settings) -> AudioSource:
    from edge.config import gain_db

    gain = gain_db(settings.gain)
    if not settings.input:
        from edge.audio.microphone import MicrophoneSource

        return MicrophoneSource(settings.device or None, settings.channel or None, gain)
    from edge.audio.level import SPAN_S
    from edge.audio.mixing import Ear
    from edge.audio.network import NetworkSource, is_url
    from edge.audio.sources import FileSource, PcmSource

    ear = Ear(settings.channel or None, gain, SPAN_S)
    if is_url(settings.input):
        return NetworkSource(settings.input, ear)
    if settings.input != "-":
        return FileSource(settings.input, ear)
    if sys.stdin is None:  # closed before the start
        raise EdgelidError("standard input is closed: pipe raw audio into it.")
    return PcmSource(sys.stdin.buffer, settings.rate, settings.channels, ear)
