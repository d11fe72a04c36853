"""The command ``edgelid``: parse, call one function, print.

Each command imports what it needs when it runs: the others start faster, and an interrupt while
numpy loads, which takes a second on the smallest devices, ends it like any other.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from edge import __version__
from edge.errors import EdgelidError
from edge.languages import language_name
from edge.outputs.stdout import Output, People, heard_records, probabilities_record, standard_output
from edge.system.native_stderr import log_stream

if TYPE_CHECKING:
    from edge.audio.sources import AudioSource
    from edge.model.modelfile import ModelFile
    from edge.outputs.monitor import Monitor
    from edge.outputs.settings import Settings
    from edge.outputs.sinks import Sinks
    from edge.outputs.terminal import TerminalView
    from edge.service.reload import ReloadingListener
    from edge.service.unit import Service


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence."""

    def error(self, message: str) -> NoReturn:
        """End with the status of wrong usage."""
        self.exit(2, f"edgelid: {' '.join(message.split())}: see `{self.prog} --help`.\n")


EVENT_SCHEMA = Path(__file__).parent / "schema" / "events.schema.json"

# One command of two words: argparse could not tell a command within `bench` from a model file.
_BENCH_COMPARE = "bench compare"


def _commands(words: Sequence[str]) -> list[str]:
    """The arguments, with a command of two words as one."""
    if [*words[:2]] == _BENCH_COMPARE.split():
        return [_BENCH_COMPARE, *words[2:]]
    return [*words]


def parser() -> Parser:
    """The grammar of the command line."""
    top = Parser(
        prog="edgelid", description="Tells which language is being spoken, on this device."
    )
    top.add_argument("--version", action="version", version=f"edgelid {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="newline-delimited JSON")
    common.add_argument("--verbose", action="store_true", help="say more on standard error")

    listen = commands.add_parser(
        "listen", parents=[common, _model_options()], help="follow the language of a stream"
    )
    listen.add_argument(
        "--config", type=Path, metavar="FILE", help="settings, see `edgelid config show`"
    )
    listen.add_argument("--input", metavar="FILE", help="audio file, or - for raw PCM on stdin")
    listen.add_argument("--device", help="microphone, by number or (part of) its name")
    listen.add_argument(
        "--channel", type=int, metavar="N", help="of the microphone (default: the mean of all)"
    )
    listen.add_argument("--rate", type=int, help="of raw PCM, Hz (default 16000)")
    listen.add_argument("--channels", type=int, help="of raw PCM (default 1)")
    listen.add_argument("--log", metavar="FILE", help="append events to a file, of bounded size")
    listen.add_argument(
        "--record-to", metavar="DIR", help="for debugging: record what is heard, the last 100 MB"
    )
    listen.add_argument(
        "--web", metavar="[HOST:]PORT", help="serve a web page, HTTP API and Prometheus metrics"
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
        type=_lengths,
        nargs="?",
        const=(),
        metavar="1,3,10",
        help="with --json, print the probabilities of every window; lengths in seconds "
        "(default: the model's)",
    )
    listen.set_defaults(run=run_listen)

    one = commands.add_parser(
        "classify",
        parents=[common, _model_options(threads=1)],
        help="one answer for each recording",
    )
    one.add_argument("files", nargs="+", metavar="FILE", help="audio files, or folders of them")
    one.set_defaults(run=run_classify)

    devices = commands.add_parser("devices", parents=[common], help="list the microphones")
    devices.set_defaults(run=run_devices)

    tell = commands.add_parser("info", parents=[common], help="describe a model file")
    tell.add_argument("model", nargs="?", type=Path, metavar="MODEL")
    tell.set_defaults(run=run_info)
    sheet = commands.add_parser(
        "report", parents=[common], help="what an event log tells of hours, days and weeks"
    )
    sheet.add_argument(
        "files", nargs="+", type=Path, metavar="EVENTS", help="event logs or --json streams"
    )
    sheet.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help=".html or .png"
    )
    sheet.set_defaults(run=run_report)

    schema = commands.add_parser(
        "schema", parents=[common], help="print the JSON Schema of the events"
    )
    schema.set_defaults(run=run_schema)
    _add_bench(commands, common)
    _add_config(commands, common)
    _add_service(commands, common)
    return top


def _model_options(threads: int | None = None) -> Parser:
    model = Parser(add_help=False)
    model.add_argument("--model", type=Path, help="model file (default: the one that comes along)")
    model.add_argument(
        "--languages", type=_names, metavar="de,en,...", help="the only languages to expect"
    )
    model.add_argument(
        "--threads", type=int, default=threads, help="of the interpreter (default 1)"
    )
    return model


def _add_config(commands: Any, common: Parser) -> None:
    config = commands.add_parser("config", help="the configuration file of `edgelid listen`")
    actions = config.add_subparsers(required=True, metavar="ACTION")
    show = actions.add_parser(
        "show", parents=[common], help="print one of the defaults, which explains every key"
    )
    show.set_defaults(run=run_config_show)
    check = actions.add_parser("check", parents=[common], help="say all that is wrong with one")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(run=run_config_check)


def _add_service(commands: Any, common: Parser) -> None:
    service = commands.add_parser("service", help="listen whenever the device is on, with systemd")
    actions = service.add_subparsers(required=True, metavar="ACTION")
    scope = Parser(add_help=False)
    of_whom = scope.add_mutually_exclusive_group()
    for name, meaning in (("user", "of this user"), ("system", "of the device (root's default)")):
        of_whom.add_argument(
            f"--{name}", dest="scope", action="store_const", const=name, help=f"service {meaning}"
        )
    install = actions.add_parser(
        "install", parents=[common, scope], help="write the unit, and start the service"
    )
    install.add_argument("--config", type=Path, required=True, metavar="FILE", help="its settings")
    install.add_argument("--dry-run", action="store_true", help="only print the unit")
    install.set_defaults(run=run_service_install)
    uninstall = actions.add_parser(
        "uninstall", parents=[common, scope], help="stop the service, and delete the unit"
    )
    uninstall.set_defaults(run=run_service_uninstall)
    status = actions.add_parser("status", parents=[common, scope], help="how the service is")
    status.set_defaults(run=run_service_status)


def _add_bench(commands: Any, common: Parser) -> None:
    bench = commands.add_parser(
        "bench",
        parents=[common],
        help="measure what listening costs on this device",
        epilog="`edgelid bench compare A.json B.json` sets two of them side by side.",
    )
    bench.add_argument(
        "models", nargs="*", type=Path, metavar="MODEL", help="model files, side by side"
    )
    bench.add_argument("--input", type=Path, metavar="FILE", help="audio file (default: a sample)")
    bench.add_argument(
        "--seconds",
        type=float,
        metavar="N",
        help="of audio in each pass (default: 60, or less on a slow device)",
    )
    bench.add_argument(
        "--threads", type=_counts, default=(1,), metavar="1,2,4", help="of the interpreter, each"
    )
    bench.add_argument(
        "--hop-ms",
        type=_counts,
        metavar="160,320",
        help="between answers, each: of models of whole windows; others have theirs",
    )
    bench.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the figures, too")
    bench.set_defaults(run=run_bench)

    compare = commands.add_parser(
        _BENCH_COMPARE,
        prog="edgelid bench compare",
        parents=[common],
        help="which differences of two benches are more than noise",
    )
    for name in ("one", "other"):
        compare.add_argument(name, type=Path, metavar="FILE.json", help="of edgelid bench --json")
    compare.set_defaults(run=run_bench_compare)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _lengths(text: str) -> tuple[float, ...]:
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be seconds, such as 1,3,10") from error


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be whole numbers, such as 1,2,4") from error


def run_listen(options: argparse.Namespace, output: Output) -> int:
    """``edgelid listen``."""
    from edge.audio.sources import paced
    from edge.config import FILE_VARIABLE
    from edge.outputs.registry import monitor_of
    from edge.outputs.settings import read_settings
    from edge.outputs.sinks import Sinks
    from edge.outputs.systemd_notify import Notifier
    from edge.service.reload import ReloadingListener

    file = options.config
    if file is None and os.environ.get(FILE_VARIABLE):
        file = Path(os.environ[FILE_VARIABLE])
    read = functools.partial(read_settings, file, os.environ, _given(options))
    settings = read()
    if options.windows is not None and settings.output != "json":
        raise EdgelidError("--windows is for programs: add --json.")
    listener = ReloadingListener(settings, options.windows)
    with _source(settings) as source, stopped_by_signals(source):
        viewed = settings.output == "text" and output.is_terminal
        monitor = monitor_of(settings, source, viewed)
        with (
            _view(output, monitor if viewed else None, listener.model.labels) as view,
            Sinks(settings, output, Notifier(), monitor) as sinks,
            reloaded_by_signal(listener, sinks, read if file is not None else None),
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


def _view(
    output: Output, monitor: Monitor | None, labels: tuple[str, ...]
) -> People | TerminalView:
    """What people see: lines, and on a terminal, which has a monitor, more than that."""
    if monitor is not None:
        try:
            from edge.outputs.terminal import TerminalView
        except ImportError as error:
            logging.getLogger(__name__).info("no live view: %s is missing", error.name)
        else:
            return TerminalView(output, monitor, labels)
    return People(output)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of the command line."""
    from edge.outputs.settings import FIELDS

    if options.languages == []:
        raise EdgelidError("--languages needs at least one language: leave it out for all.")
    if options.input == "":  # which a script that lost a name must not take for the microphone
        raise EdgelidError("the input '' does not exist: check the path.")
    given = {name: getattr(options, name, None) for name in FIELDS}
    given["output"] = "json" if options.json else None
    if given["model"] is not None:
        given["model"] = str(given["model"])
    if given["languages"] is not None:
        given["languages"] = tuple(given["languages"])
    return {name: value for name, value in given.items() if value is not None}


def _model(options: argparse.Namespace) -> ModelFile:
    from edge.model.modelfile import DEFAULT_MODEL, read_model

    return read_model(options.model or DEFAULT_MODEL)


def _source(settings: Settings) -> AudioSource:
    if not settings.input:
        from edge.audio.microphone import MicrophoneSource

        return MicrophoneSource(settings.device or None, settings.channel or None)
    from edge.audio.sources import FileSource, PcmSource

    if settings.device:
        raise EdgelidError("--input and --device exclude each other: leave one out.")
    if settings.channel:
        raise EdgelidError("--channel is for microphones: files are mixed down.")
    if settings.input != "-":
        return FileSource(settings.input)
    if sys.stdin is None:  # closed before the start
        raise EdgelidError("standard input is closed: pipe raw audio into it.")
    return PcmSource(sys.stdin.buffer, settings.rate, settings.channels)


def run_classify(options: argparse.Namespace, output: Output) -> int:
    """``edgelid classify``: goes on after a file that cannot be read, and fails at the end."""
    from edge.model.interpreter import open_model
    from edge.offline import RecordingClassifier, classify_file, find_recordings

    model = _model(options)
    classifier = RecordingClassifier(model, open_model(model, options.threads), options.languages)
    status = 0
    for path in find_recordings(options.files):
        try:
            answer = classify_file(classifier, path)
        except EdgelidError as error:
            status = 1
            if options.json:
                output.record({"path": str(path), "error": str(error)})
            complain(str(error))
            continue
        if options.json:
            values = list(answer.probabilities.values())
            output.record(
                {
                    "path": str(path),
                    "language": answer.language,
                    "confidence": round(answer.confidence, 4),
                    "probabilities": probabilities_record(model.labels, values),
                    "duration_s": round(answer.duration_s, 3),
                }
            )
        else:
            name = f"{answer.language:<9} {language_name(answer.language):<15}"
            output.line(f"{name} {answer.confidence:4.0%}  {answer.duration_s:7.1f} s  {path}")
    return status


def run_devices(options: argparse.Namespace, output: Output) -> int:
    """``edgelid devices``."""
    from edge.audio.devices import list_devices, what_opens

    devices = list_devices()
    if not devices:
        raise EdgelidError("there is no device that can record: plug in a microphone.")
    for device in devices:
        opens = what_opens(device)
        if options.json:
            told = [{"rate_hz": rate, "channels": channels} for rate, channels in opens.items()]
            output.record({**dataclasses.asdict(device), "opens": told})
        else:
            mark = "*" if device.is_default else " "
            output.line(
                f"{mark} {device.index:>3}  {device.name}  ({device.host_api}, "
                f"{device.max_input_channels} channels, {device.default_rate_hz} Hz)"
            )
            rates = ", ".join(f"{rate} Hz x {'/'.join(map(str, n))}" for rate, n in opens.items())
            output.line(f"       opens at {rates}" if opens else "       does not open now")
    return 0


def run_info(options: argparse.Namespace, output: Output) -> int:
    """``edgelid info``."""
    from edge.model.info import describe, table

    facts: dict[str, Any] = describe(_model(options))
    if options.json:
        output.record(facts)
    else:
        for line in table(facts):
            output.line(line)
    return 0


def run_report(options: argparse.Namespace, output: Output) -> int:
    """``edgelid report``."""
    from edge.outputs.report.words import facts
    from edge.outputs.report.write import report, summary

    found = report(options.files, options.output)
    if options.json:
        output.record(summary(found))
    else:
        told = ", ".join(f"{figure} {what}" for figure, what in facts(found))
        output.line(f"{options.output}: {told}.")
    return 0


def run_schema(options: argparse.Namespace, output: Output) -> int:
    """``edgelid schema``."""
    text = EVENT_SCHEMA.read_text(encoding="utf-8")
    if options.json:
        output.record(json.loads(text))
    else:
        output.write(text)
    return 0


def run_bench(options: argparse.Namespace, output: Output) -> int:
    """``edgelid bench``."""
    from edge.bench.measure import SAMPLE, Wanted, measure
    from edge.bench.plot import check_plot, write_plot
    from edge.bench.progress import progress
    from edge.bench.table import table
    from edge.model.modelfile import DEFAULT_MODEL

    if options.plot is not None:
        check_plot(options.plot)
    wanted = Wanted(
        options.models or [DEFAULT_MODEL],
        options.input or SAMPLE,
        options.seconds,
        options.threads,
        options.hop_ms,
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


def run_config_show(options: argparse.Namespace, output: Output) -> int:
    """``edgelid config show``."""
    from edge.outputs.settings import documented, reference

    if options.json:
        for row in reference():
            output.record(row)
    else:
        output.line(documented())
    return 0


def run_config_check(options: argparse.Namespace, output: Output) -> int:
    """``edgelid config check``: every problem, not only the first."""
    from edge.config import ConfigError
    from edge.outputs.settings import check_use, read_settings

    problems: list[str] = []
    try:
        check_use(read_settings(options.file, {}, {}), str(options.file))
    except ConfigError as error:
        problems = error.problems
    if options.json:
        output.record({"path": str(options.file), "problems": problems})
    elif not problems:
        output.line(f"{options.file}: nothing is wrong.")
    for problem in problems:
        complain(problem)
    return ConfigError.status if problems else 0


def run_service_install(options: argparse.Namespace, output: Output) -> int:
    """``edgelid service install``."""
    service = _service(options)
    if options.dry_run:
        text = service.unit(options.config)
        if options.json:
            output.record({"path": str(service.path), "unit": text})
        else:
            output.write(text)
        return 0
    _tell_done(options, output, service.install(options.config))
    return 0


def run_service_uninstall(options: argparse.Namespace, output: Output) -> int:
    """``edgelid service uninstall``."""
    _tell_done(options, output, _service(options).uninstall())
    return 0


def run_service_status(options: argparse.Namespace, output: Output) -> int:
    """``edgelid service status``: the exit status is that of ``systemctl status``."""
    from edge.service.unit import NOT_INSTALLED, NOT_RUNNING

    found = _service(options).status()
    if options.json:
        output.record(found)
    else:
        for key, value in found.items():
            output.line(f"{key:<20} {value}")
    if found["LoadState"] == "not-found":
        return NOT_INSTALLED
    return 0 if found["ActiveState"] in ("active", "reloading") else NOT_RUNNING


def _service(options: argparse.Namespace) -> Service:
    from edge.service.unit import Service, default_scope

    return Service(options.scope or default_scope())


def _tell_done(options: argparse.Namespace, output: Output, sentence: str) -> None:
    if options.json:
        output.record({"done": sentence})
    else:
        output.line(sentence)


class Stopped(Exception):
    """A signal asked for the end, and everything has been finished properly."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def stopped_by_signals(source: AudioSource) -> Iterator[None]:
    """End the source at SIGINT or SIGTERM, so that the last segment still comes out.

    A second signal kills at once.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        source.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise Stopped(received[0])


@contextmanager
def reloaded_by_signal(
    listener: ReloadingListener, sinks: Sinks, read: Callable[[], Settings] | None
) -> Iterator[None]:
    """Read the settings again at SIGHUP; without a file of them, that ends the program."""
    if read is None:
        yield
        return

    def read_again() -> Settings:
        sinks.reloading()
        return read()

    before = signal.signal(signal.SIGHUP, lambda *_: listener.reload(read_again))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def die_of(number: int) -> int:
    """End by a signal, so that shells and service managers see the true cause."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


def complain(sentence: str) -> None:
    """Tell a person what is wrong, on standard error."""
    if sys.stderr is not None:  # which `print` would take for standard output
        print(f"edgelid: {sentence}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        with standard_output() as output:
            words = sys.argv[1:] if arguments is None else arguments
            options = parser().parse_args(_commands(words))
            logging.basicConfig(
                level=logging.INFO if options.verbose else logging.WARNING,
                format="edgelid: %(message)s",
                stream=log_stream(),
            )
            return int(options.run(options, output))
    except EdgelidError as error:
        complain(str(error))
        return error.status
    except Stopped as stopped:
        return die_of(stopped.number)
    except KeyboardInterrupt:
        return die_of(signal.SIGINT)
    except BrokenPipeError:
        return die_of(signal.SIGPIPE)


if __name__ == "__main__":
    sys.exit(main())
