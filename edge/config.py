"""Reading and checking settings: one TOML file, the environment, the command line.

Whatever there is to say about a key is said once, where `key` makes it: what is checked, what
`edgelid config show` prints, and what the environment may hold. Those of listening are here, those
of outlets beside the outlets; `edge.outputs.settings` puts all of them together.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

from edge.errors import EdgelidError
from edge.system.regular import other_kind

ENVIRONMENT_PREFIX = "EDGELID_"
FILE_VARIABLE = "EDGELID_CONFIG"
# How alike a word has to be for us to take it for the one that was meant.
_ALIKE = 0.75
# No misspelt keys: no keys at all, or of other programs of this project.
_OTHER_VARIABLES = frozenset({FILE_VARIABLE, "EDGELID_CORPUS"})
_MAX_FILE_BYTES = 64 << 10  # the documented file has 4,000
_MAX_DOTS = 1_000  # in a line
LARGE_MODELS = "large", "xlarge"  # words for models that come along
STATE_FOLDER = Path("/var/lib/edgelid")  # which systemd makes when the service starts
AUTO = "auto"  # a value that is left to the program
# Which folder has to be there for a path: itself, or the one that it is in.
ITSELF, PARENT = "itself", "parent"

Check = Callable[[Any], str | None]  # what is wrong with a value, to put behind "must be"


def between(lowest: float, highest: float) -> Check:
    """Check for numbers, both bounds among them."""
    expected = f"from {lowest} to {highest}"
    return lambda value: None if lowest <= value <= highest else expected


def one_of(*allowed: str) -> Check:
    """Check for one of some words."""
    return lambda value: None if value in allowed else f"one of {', '.join(map(repr, allowed))}"


def auto_or(check: Check) -> Check:
    """Check for what may be left to the program."""

    def problem(value: Any) -> str | None:
        if value == AUTO:
            return None
        wrong = "a whole number" if isinstance(value, str) else check(value)
        return None if wrong is None else f'"{AUTO}" or {wrong}'

    return problem


def gain_db(gain: int | str | None) -> float | None:
    """A value of the key ``gain``, or none, as `edge.audio.mixing.Ear` takes it."""
    return gain if isinstance(gain, int) else None


def each_once(values: tuple[str, ...]) -> str | None:
    """Check for a list of names."""
    return None if len(set(values)) == len(values) and all(values) else "names, each given once"


def key(
    default: Any,
    meaning: str,
    check: Check | None = None,
    path: bool = False,
    words: tuple[str, ...] = (),
    folder: str = "",
    restart: bool = False,
) -> Any:
    """A field of settings.

    Parameters
    ----------
    default : value
    meaning : str
        For the file of settings; ends with a full stop.
    check : callable, optional
    path : bool
        Whether it is relative to the file of settings.
    words : tuple of str
        What is no path then.
    folder : str
        `ITSELF` or `PARENT`: which folder has to exist if it is set.
    restart : bool
        Whether a reload leaves it as it is.
    """
    metadata = {
        "meaning": meaning,
        "check": check,
        "path": path,
        "words": words,
        "folder": folder,
        "restart": restart,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Keys:
    """A part of the settings: a frozen dataclass whose fields are made with `key`.

    Attributes
    ----------
    variables : frozenset of str
        What else it takes from the environment: no misspelt keys.
    """

    variables: ClassVar[frozenset[str]] = frozenset()


@dataclass(frozen=True)
class ListenSettings(Keys):
    """What listening takes, wherever its answers go."""

    model: str = key(
        "",
        'Model: a file, or "large" or "xlarge" for one that comes along; "" is the compact one.',
        path=True,
        words=LARGE_MODELS,
    )
    languages: tuple[str, ...] = key(
        (),
        'The only languages to expect, as in ["de", "en"], speech in others being told as "other"; '
        "[] is all of the model.",
        each_once,
    )
    threshold: float = key(
        0.0,
        'How sure an answer has to be, from 0 to 1, or it is "unknown"; 0.0 is what the model file '
        "says.",
        between(0, 1),
    )
    hold: float = key(
        0.0,
        "Seconds that a language must last before it is announced. The one before is kept for as "
        "long while the answer is not sure. With more of them, events are fewer and come later.",
        between(0, 30),
    )
    second_opinion: str = key(
        "",
        'Large model to ask where the answer is not sure: a model file, or "large" or "xlarge" for '
        'one that comes along; "" asks none.',
        path=True,
        words=LARGE_MODELS,
    )
    second_opinion_share: float = key(
        0.25,
        "The most that second opinions may take of one processor core, in any minute.",
        between(0.01, 1),
    )
    lessons: str = key(
        "",
        "Lesson book, which `edgelid teach` writes: what the model has been taught of people and "
        'languages here; "" is none.',
        path=True,
    )
    learn: bool = key(
        False,
        "Whether what a second opinion is sure of becomes lessons by itself, in the book that is "
        "given; every start says so.",
    )
    threads: int = key(1, "Threads of the interpreter; 1 is best for small models.", between(1, 64))
    input: str = key(
        "",
        '"" is the microphone, "-" raw PCM on standard input (signed 16 bit, little-endian), '
        "rtsp://... or http://... (also rtsps and https) a stream of a network, which takes "
        "ffmpeg; anything else is an audio file.",
        path=True,
        restart=True,
    )
    device: str = key(
        "", 'Microphone, by number or part of its name; "" is the default one.', restart=True
    )
    channel: int = key(
        0, "The one to listen to; 0 is the mean of all.", between(0, 1_024), restart=True
    )
    gain: int | str = key(
        AUTO,
        'Decibels to amplify by; what is clipped then is lost. "auto" amplifies sound that is too '
        "quiet for the model, and no other.",
        auto_or(between(-60, 60)),
        restart=True,
    )
    rate: int = key(16_000, "Sample rate of raw PCM, in Hz.", between(1_000, 384_000), restart=True)
    channels: int = key(1, "Channels of raw PCM.", between(1, 1_024), restart=True)


K = TypeVar("K", bound=ListenSettings)

# No longer than any that is possible: Python takes offence at thousands of digits.
_NUMBER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_TYPE_NAMES = {
    str: "a text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple[str, ...]: "a list of texts",
    int | str: f'"{AUTO}" or a whole number',
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


def read(
    kind: type[K], file: Path | None, environment: Mapping[str, str], given: Mapping[str, Any]
) -> K:
    """Put settings together; see `edge.outputs.settings.read_settings`."""
    problems: list[str] = []
    values: dict[str, Any] = {}
    if file is not None:
        values.update(_from_file(kind, file, problems))
    values.update(_from_environment(kind, environment, problems))
    values.update(given)
    if problems:
        raise ConfigError(problems)
    fields = _fields(kind)
    for name, value in values.items():
        if fields[name].metadata["path"]:
            values[name] = os.path.expanduser(value)  # noqa: PTH111 - "" is no path
    return kind(**values)


def parsed(kind: type[Keys], name: str, text: str) -> Any:
    """The value of a key that someone has typed, held to the limits of the key.

    Raises
    ------
    ValueError
        If it is none, with what it must be.
    """
    wanted = get_type_hints(kind)[name]
    value = _parsed(wanted, text)
    if (problem := _problem(wanted, _fields(kind)[name], value)) is not None:
        raise ValueError(f"must be {problem}, not {text!r}")
    return value


def of_a_home(kind: type[Keys], file: Path) -> list[str]:
    """Names of the paths in a file of settings that begin with ``~``."""
    table = _table(file)
    return [
        name
        for name, field in _fields(kind).items()
        if field.metadata["path"] and str(table.get(name, "")).startswith("~")
    ]


def missing_folders(settings: ListenSettings) -> Iterator[str]:
    """What to say of each folder that a setting needs and that is not there."""
    for name, field in _fields(type(settings)).items():
        path = getattr(settings, name)
        if not field.metadata["folder"] or not path:
            continue
        folder = Path(path) if field.metadata["folder"] == ITSELF else Path(path).parent
        try:
            is_there = folder.is_dir()
        except OSError as error:
            yield f"{name}: {str(folder)!r} cannot be read ({error.strerror})."
            continue
        if not is_there and folder != STATE_FOLDER:
            yield f"{name}: there is no folder {str(folder)!r}: make it."


def _fields(kind: type[Keys]) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(kind)}


_HEADER = """\
# Configuration of `edgelid listen --config FILE`; `edgelid config check FILE` checks it.
# Paths are relative to this file, and ~ is home. Environment variables override it (EDGELID_LOG
# for log, and so on; lists with commas), and options of the command line override both.
# [now]: applied by `systemctl reload edgelid` or SIGHUP, without losing audio."""


def documented(kind: type[Keys]) -> str:
    """A configuration file of the defaults that says what every key means."""
    parts = [_HEADER]
    for row in reference(kind):
        mark = " [now]" if row["reload"] else ""
        meaning = textwrap.fill(
            row["meaning"] + mark, 96, initial_indent="# ", subsequent_indent="# "
        )
        parts.append(f"\n{meaning}\n{row['key']} = {_toml(row['default'])}")
    return "\n".join(parts)


def reference(kind: type[Keys]) -> list[dict[str, Any]]:
    """What there is to know of every key, in the order of the file."""
    return [
        {
            "key": name,
            "default": field.default,
            "meaning": field.metadata["meaning"],
            "environment": variable(name),
            "reload": not field.metadata["restart"],
        }
        for name, field in _fields(kind).items()
    ]


def need_restart(kind: type[Keys]) -> frozenset[str]:
    """Names of the keys that a reload leaves as they are."""
    return frozenset(name for name, field in _fields(kind).items() if field.metadata["restart"])


def variable(name: str) -> str:
    """The environment variable of a key."""
    return f"{ENVIRONMENT_PREFIX}{name.upper()}"


def foreign_environment() -> dict[str, str]:
    """The environment for programs that must not have our settings, nor our passwords."""
    return {k: v for k, v in os.environ.items() if not k.startswith(ENVIRONMENT_PREFIX)}


def nearest(name: str, known: list[str]) -> str:
    """What may have been meant, to end a sentence with."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE)
    return f"did you mean {close[0]!r}?" if close else "see `edgelid config show`."


def _from_file(kind: type[Keys], file: Path, problems: list[str]) -> dict[str, Any]:
    try:
        table = _table(file)
    except ConfigError as error:
        problems += error.problems
        return {}
    values, fields, types = {}, _fields(kind), get_type_hints(kind)
    for name, value in table.items():
        if name not in fields and isinstance(value, dict):
            problems.append(
                f"{file}: there is no section [{name}]: leave this line out, keys stand without."
            )
            continue
        if name not in fields:
            problems.append(f"{file}: there is no key {name!r}: {nearest(name, list(fields))}")
            continue
        if isinstance(value, list):
            value = tuple(value)
        written = value
        if types[name] is float and type(value) is int:
            value = float(value) if abs(value) < 1 << 63 else math.inf
        if (problem := _problem(types[name], fields[name], value)) is not None:
            problems.append(f"{file}: {name} must be {problem}, not {_toml(written)}.")
        elif (
            fields[name].metadata["path"]
            and value not in ("", "-", *fields[name].metadata["words"])
            and not _is_url(value)
        ):
            home = os.path.expanduser(value)  # noqa: PTH111 - no error where there is no home
            values[name] = str(file.parent.absolute() / home)
        else:
            values[name] = value
    return values


def _table(file: Path) -> dict[str, Any]:
    """What a file of TOML holds.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    try:
        if (kind := other_kind(file.stat())) is not None:
            raise ConfigError([f"{file}: it is {kind}."])
        with file.open("rb") as opened:
            data = opened.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{file}: it cannot be read ({error.strerror})."]) from error
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError([f"{file}: it is larger than {_MAX_FILE_BYTES >> 10} KiB."])
    try:
        return parse_toml(data)
    except ValueError as error:
        words = " ".join(str(error).split())
        raise ConfigError([f"{file}: it is not valid TOML ({words})."]) from error


def parse_toml(data: bytes) -> dict[str, Any]:
    """What a file of TOML holds, whoever wrote it.

    Raises
    ------
    ValueError
        If it is none, or more than the parser bears; its text says why.
    """
    text = data.decode("utf-8-sig")
    # The time that a key of many parts takes grows with their square.
    if any(line.count(".") > _MAX_DOTS for line in text.split("\n")):
        raise ValueError("a line has too many dots")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError("a number is too long, or a list too deep") from error


def _from_environment(
    kind: type[Keys], environment: Mapping[str, str], problems: list[str]
) -> dict[str, Any]:
    fields, types = _fields(kind), get_type_hints(kind)
    variables = {variable(name): name for name in fields}
    others = _OTHER_VARIABLES.union(*(getattr(base, "variables", ()) for base in kind.__mro__))
    values = {}
    for found, text in environment.items():
        if found in others or not found.startswith(ENVIRONMENT_PREFIX):
            continue
        if found not in variables:
            # Others may set variables of this prefix: Kubernetes does for a service of our name.
            if difflib.get_close_matches(found, variables, n=1, cutoff=0.9):
                problems.append(f"there is no {found}: {nearest(found, list(variables))}")
            continue
        name = variables[found]
        value = _parsed(types[name], text)
        if (problem := _problem(types[name], fields[name], value)) is not None:
            problems.append(f"{found} must be {problem}, not {text!r}.")
        else:
            values[name] = value
    return values


def _parsed(kind: Any, text: str) -> Any:
    """A value of the environment, or the text where it is none."""
    if kind in (int, int | str) and _NUMBER.fullmatch(text.strip()):
        return int(text)
    if kind is float:
        try:
            return float(text)
        except ValueError:
            return text
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower(), text)
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _is_url(text: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def _problem(kind: Any, field: dataclasses.Field[Any], value: Any) -> str | None:
    if kind == tuple[str, ...]:
        fits = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    else:
        fits = type(value) in (kind, *get_args(kind))  # true and false are no numbers
    if not fits:
        return _TYPE_NAMES[kind]
    if kind is str and "\0" in value:
        return "a text without zero bytes"
    check: Check | None = field.metadata["check"]
    return None if check is None else check(value)


def _toml(value: Any) -> str:
    try:
        if isinstance(value, (str, bool, tuple)):
            return json.dumps(value, ensure_ascii=False, default=str)
        return str(value)
    except ValueError:  # Python writes no number of thousands of digits
        return "so long a number"


def changed(old: K, new: K) -> Iterator[str]:
    """Names of the settings that differ."""
    return (name for name in _fields(type(old)) if getattr(old, name) != getattr(new, name))
