"""The configuration of `edgelid listen`: one TOML file, the environment, the command line.

Whatever there is to say about a key stands here once, at its field of `Settings`: what is checked,
what `edgelid config show` prints, and what the environment may hold.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from edge.errors import EdgelidError
from edge.outputs.web.address import problem as address_problem

ENVIRONMENT_PREFIX = "EDGELID_"
FILE_VARIABLE = "EDGELID_CONFIG"
MQTT_PASSWORD_VARIABLE = "EDGELID_MQTT_PASSWORD"
# No misspelt keys: no keys at all, or of other programs of this project.
_OTHER_VARIABLES = frozenset({FILE_VARIABLE, MQTT_PASSWORD_VARIABLE, "EDGELID_CORPUS"})
STATE_FOLDER = Path("/var/lib/edgelid")  # which systemd makes when the service starts
OUTPUTS = ("text", "json", "none")

Check = Callable[[Any], str | None]  # what is wrong with a value, to put behind "must be"


def _between(lowest: int, highest: int) -> Check:
    expected = f"from {lowest} to {highest}"
    return lambda value: None if lowest <= value <= highest else expected


def _one_of(*allowed: str) -> Check:
    return lambda value: None if value in allowed else f"one of {', '.join(map(repr, allowed))}"


def _each_once(values: tuple[str, ...]) -> str | None:
    return None if len(set(values)) == len(values) and all(values) else "names, each given once"


def _key(default: Any, meaning: str, check: Check | None = None, path: bool = False) -> Any:
    metadata = {"meaning": meaning, "check": check, "path": path}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """What `edgelid listen` can be told; each field documents itself, see `documented`."""

    model: str = _key("", 'Model file; "" is the one that comes along.', path=True)
    languages: tuple[str, ...] = _key(
        (), 'The only languages to expect, as in ["de", "en"]; [] is all of the model.', _each_once
    )
    threads: int = _key(
        1, "Threads of the interpreter; 1 is best for small models.", _between(1, 64)
    )
    input: str = _key(
        "",
        '"" is the microphone, "-" raw PCM on standard input (signed 16 bit, little-endian); '
        "anything else is an audio file.",
        path=True,
    )
    device: str = _key("", 'Microphone, by number or part of its name; "" is the default one.')
    channel: int = _key(0, "Of the microphone; 0 is the mean of all.", _between(0, 1_024))
    rate: int = _key(16_000, "Of raw PCM, in Hz.", _between(1_000, 384_000))
    channels: int = _key(1, "Of raw PCM.", _between(1, 1_024))
    output: str = _key(
        "text",
        'What to write to standard output: "text", newline-delimited "json", or "none".',
        _one_of(*OUTPUTS),
    )
    log: str = _key(
        "",
        'File to append events to, as newline-delimited JSON; "" is none. Its folder must exist.',
        path=True,
    )
    log_file_bytes: int = _key(
        1_000_000,
        "Size at which the event log is renamed (PATH.1 is the newest) and begun anew.",
        _between(10_000, 1_000_000_000),
    )
    log_files: int = _key(
        5,
        "Files that the event log may consist of: all together, at most log_file_bytes times this.",
        _between(2, 1_000),
    )
    record_to: str = _key(
        "",
        'Folder to record everything that is heard to, for debugging; "" records nothing.',
        path=True,
    )
    record_mb: int = _key(
        100,
        "Megabytes (of 10^6 bytes) of recordings to keep, a minute taking 3.9; the oldest are "
        "deleted.",
        _between(8, 1_000_000),
    )
    record_in_service: bool = _key(
        False, "Whether `edgelid service install` may install a service that records."
    )
    web: str = _key(
        "",
        'Where to serve the web page, API and metrics: a port, "8080", for this device alone; or '
        'HOST:PORT, as in "0.0.0.0:8080", for its network, which then needs a token; "" is '
        "nowhere.",
        address_problem,
    )
    web_token_file: str = _key(
        "",
        "File of the token that the web page asks for; if there is none yet, it is made. "
        '"" is a new token at every start, told on standard error, and none on this device alone.',
        path=True,
    )
    on_change: str = _key(
        "",
        "Command to run, without a shell, when the language changes, for at most 10 s; in its "
        "arguments {language}, {previous}, {confidence}, {start_s}, {decided_s} and {time} are "
        'filled in. "" is none.',
    )
    mqtt: str = _key(
        "",
        'Broker to send state and events to: mqtt://HOST[:PORT][/PREFIX] or mqtts://; "" is none. '
        "The prefix of the topics is edgelid/ and the name of this machine, unless given.",
    )
    mqtt_user: str = _key("", 'User at the broker; "" is none.')
    mqtt_password_file: str = _key(
        "",
        'File whose one line is the password; "" is none, or that of the environment variable '
        f"{MQTT_PASSWORD_VARIABLE}.",
        path=True,
    )
    mqtt_ca_file: str = _key(
        "",
        'Certificates (PEM) of the authorities to trust for mqtts; "" is those of the system.',
        path=True,
    )


FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
_TYPES = get_type_hints(Settings)
_TYPE_NAMES = {
    str: "a text in quotes",
    int: "a whole number",
    bool: "true or false",
    tuple[str, ...]: "a list of texts",
}


class ConfigError(EdgelidError):
    """A configuration that cannot be used; trying again does not help.

    Attributes
    ----------
    problems : list of str
        One sentence each.
    """

    status = 78  # EX_CONFIG of sysexits.h, after which the service is not started again

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems[0] + (f" ({len(problems) - 1} more)" if problems[1:] else ""))
        self.problems = problems


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
    problems: list[str] = []
    values: dict[str, Any] = {}
    if file is not None:
        values.update(_from_file(file, problems))
    values.update(_from_environment(environment, problems))
    values.update(given)
    if problems:
        raise ConfigError(problems)
    return Settings(**values)


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
        If the model does not, a language is not the model's, or a folder is missing.
    """
    from edge.classifier import class_mask
    from edge.model.modelfile import DEFAULT_MODEL, read_model
    from edge.outputs.registry import check_outlets

    problems = []
    try:
        labels = read_model(Path(settings.model or DEFAULT_MODEL)).labels
        class_mask(labels, settings.languages or None)
    except EdgelidError as error:
        problems.append(f"{where}: {error}")
    folders = {
        "log": settings.log and Path(settings.log).parent,
        "record_to": settings.record_to,
        "web_token_file": settings.web_token_file and Path(settings.web_token_file).parent,
    }
    for key, folder in folders.items():
        if folder and not Path(folder).is_dir() and Path(folder) != STATE_FOLDER:
            problems.append(f"{where}: {key}: there is no folder {str(folder)!r}: make it.")
    problems += [f"{where}: {problem}" for problem in check_outlets(settings)]
    if problems:
        raise ConfigError(problems)


_HEADER = """\
# Configuration of `edgelid listen --config FILE`; `edgelid config check FILE` checks it.
# Paths are relative to this file. Environment variables override it (EDGELID_LOG for log, and so
# on; lists with commas), and options of the command line override both.
# [now]: applied by `systemctl reload edgelid` or SIGHUP, without losing audio."""


def documented() -> str:
    """A configuration file of the defaults that says what every key means."""
    parts = [_HEADER]
    for row in reference():
        mark = " [now]" if row["reload"] else ""
        meaning = textwrap.fill(
            row["meaning"] + mark, 96, initial_indent="# ", subsequent_indent="# "
        )
        parts.append(f"\n{meaning}\n{row['key']} = {_toml(row['default'])}")
    return "\n".join(parts)


def reference() -> list[dict[str, Any]]:
    """What there is to know of every key, in the order of the file."""
    return [
        {
            "key": name,
            "default": field.default,
            "meaning": field.metadata["meaning"],
            "environment": variable(name),
            "reload": name not in NEED_RESTART,
        }
        for name, field in FIELDS.items()
    ]


# What a reload leaves as it is: the stream goes on, from where it comes to where it goes.
NEED_RESTART = frozenset(
    {
        "input",
        "device",
        "channel",
        "rate",
        "channels",
        "output",
        "record_in_service",
        "web",
        "web_token_file",
        "on_change",
        "mqtt",
        "mqtt_user",
        "mqtt_password_file",
        "mqtt_ca_file",
    }
)


def variable(name: str) -> str:
    """The environment variable of a key."""
    return f"{ENVIRONMENT_PREFIX}{name.upper()}"


def nearest(name: str, known: list[str]) -> str:
    """What may have been meant, to end a sentence with."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"did you mean {close[0]!r}?" if close else ""


def _from_file(file: Path, problems: list[str]) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{file}: it cannot be read ({error.strerror}).")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{file}: it is not valid TOML ({' '.join(str(error).split())}).")
        return {}
    values = {}
    for name, value in table.items():
        if name not in FIELDS:
            problems.append(f"{file}: there is no key {name!r}: {nearest(name, list(FIELDS))}")
            continue
        if isinstance(value, list):
            value = tuple(value)
        if (problem := _problem(name, value)) is not None:
            problems.append(f"{file}: {name} must be {problem}, not {_toml(value)}.")
        elif FIELDS[name].metadata["path"] and value not in ("", "-"):
            values[name] = str(file.parent.absolute() / value)
        else:
            values[name] = value
    return values


def _from_environment(environment: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    variables = {variable(name): name for name in FIELDS}
    values = {}
    for found, text in environment.items():
        if found in _OTHER_VARIABLES or not found.startswith(ENVIRONMENT_PREFIX):
            continue
        if found not in variables:
            # Others may set variables of this prefix: Kubernetes does for a service of our name.
            if difflib.get_close_matches(found, variables, n=1, cutoff=0.9):
                problems.append(f"there is no {found}: {nearest(found, list(variables))}")
            continue
        name = variables[found]
        value = _parsed(_TYPES[name], text)
        if (problem := _problem(name, value)) is not None:
            problems.append(f"{found} must be {problem}, not {text!r}.")
        else:
            values[name] = value
    return values


def _parsed(kind: Any, text: str) -> Any:
    """A value of the environment, or the text where it is none."""
    if kind is int and text.strip().isdecimal():
        return int(text)
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower(), text)
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _problem(name: str, value: Any) -> str | None:
    kind = _TYPES[name]
    if kind == tuple[str, ...]:
        fits = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    else:
        fits = type(value) is kind  # true and false are no numbers
    if not fits:
        return _TYPE_NAMES[kind]
    if kind is str and "\0" in value:
        return "a text without zero bytes"
    check: Check | None = FIELDS[name].metadata["check"]
    return None if check is None else check(value)


def _toml(value: Any) -> str:
    if isinstance(value, (str, bool, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def changed(old: Settings, new: Settings) -> Iterator[str]:
    """Names of the settings that differ."""
    return (name for name in FIELDS if getattr(old, name) != getattr(new, name))
