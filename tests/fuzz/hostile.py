"""Model files that lie: each part of one changed, with everything that vouches for it put right."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.frontend import FrontEndConfig
from edge.model.modelfile import DESCRIPTION_MEMBER, FILTERBANK_MEMBER, LABELS_MEMBER

INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    16,
    127,
    -128,
    255,
    256,
    65_535,
    1 << 20,
    (1 << 31) - 1,
    -(1 << 31),
)
FLOATS = (0.0, -1.0, 1e-45, 1e-30, 0.5, 1e30, 3e38, float("nan"), float("inf"), -float("inf"))
VALUES = (*INTEGERS, *FLOATS, None, True, "", "x", "1", "\x1b[2J", "\ud800", [], {}, [[]], 10**400)
Bytes = Callable[[bytes], bytes]


@dataclasses.dataclass
class Parts:
    """A model file taken apart."""

    graph: bytes
    members: dict[str, bytes]

    @classmethod
    def of(cls, data: bytes) -> Parts:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
            end = min(info.header_offset for info in archive.infolist())
        return cls(data[:end], members)

    def joined(self) -> bytes:
        """A file whose hashes are right, as far as its parts can be understood."""
        members = dict(self.members)
        try:
            values = json.loads(members[DESCRIPTION_MEMBER])
            values["graph_sha256"] = hashlib.sha256(self.graph).hexdigest()
            names = {field.name for field in dataclasses.fields(FrontEndConfig)}
            if set(values["front_end"]) == names:
                array = np.lib.format.read_array(io.BytesIO(members[FILTERBANK_MEMBER]))
                parameters = json.dumps(values["front_end"], sort_keys=True).encode()
                contents = parameters + np.asarray(array, "<f4").tobytes()
                values["front_end_hash"] = hashlib.sha256(contents).hexdigest()
            members[DESCRIPTION_MEMBER] = json.dumps(values).encode()
        except Exception:  # then they stay wrong
            pass
        buffer = io.BytesIO()
        buffer.write(self.graph)
        with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()


def mutated(data: bytes, seed: int, anyhow: Bytes) -> bytes:
    """A relative of a model file.

    Parameters
    ----------
    data : bytes
        A model file, or what has become of one.
    seed : int
    anyhow : callable
        Changes bytes that nothing is known of.
    """
    chance = random.Random(seed)
    if chance.random() < 0.1:
        return anyhow(data)
    try:
        parts = Parts.of(data)
    except Exception:
        return anyhow(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        what = chance.random()
        if what < 0.5:
            parts.graph = changed_graph(parts.graph, chance)
        elif what < 0.6:
            parts.graph = anyhow(parts.graph)
        elif what < 0.8:
            content = parts.members.get(DESCRIPTION_MEMBER, b"{}")
            parts.members[DESCRIPTION_MEMBER] = changed_description(content, chance)
        elif what < 0.95:
            name = chance.choice((DESCRIPTION_MEMBER, FILTERBANK_MEMBER, LABELS_MEMBER))
            parts.members[name] = anyhow(parts.members.get(name, b""))
        else:
            at = len(parts.graph)
            whole = parts.joined()
            return whole[:at] + anyhow(whole[at:])
    return parts.joined()


def changed_description(content: bytes, chance: random.Random) -> bytes:
    """JSON with one value replaced, moved or left out."""
    try:
        values = json.loads(content)
        places = [(h, k) for h, k in _json_places(values) if k != "graph_sha256"]
        holder, key = chance.choice(places)
        if chance.random() < 0.1:
            del holder[key]
        elif isinstance(holder[key], list) and chance.random() < 0.5:
            holder[key] = holder[key] * chance.choice((2, 50))
        else:
            holder[key] = chance.choice(VALUES)
        return json.dumps(values).encode()
    except Exception:
        return content


def _json_places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value))
    found = []
    for key in keys:
        found.append((value, key))
        if isinstance(value[key], dict | list):
            found.extend(_json_places(value[key]))
    return found


def changed_graph(graph: bytes, chance: random.Random) -> bytes:
    """A well-formed flatbuffer with some field, list or operator changed."""

    def change(model: Any) -> None:
        for _ in range(chance.choice((1, 1, 2, 3))):
            _change(chance.choice(_places(model)), chance)

    try:
        return edited(graph, change)
    except Exception:  # the schema refuses some of it
        return graph


def edited(graph: bytes, change: Callable[[Any], object]) -> bytes:
    """A flatbuffer after a change to its tables, as the schema has them."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(graph, 0))
    change(model)
    builder = flatbuffers.Builder(len(graph))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _places(thing: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    """Fields of a graph's tables, and members of its lists."""
    if depth > 8:
        return []
    keys = list(vars(thing)) if hasattr(thing, "__dict__") else list(range(len(thing)))
    found = []
    for key in keys:
        value = getattr(thing, key) if isinstance(key, str) else thing[key]
        if value is None or isinstance(value, bytes | str):
            continue
        found.append((thing, key))
        if isinstance(value, list) or hasattr(value, "InitFromObj"):
            found.extend(_places(value, depth + 1))
    return found


def _change(place: tuple[Any, Any], chance: random.Random) -> None:
    holder, key = place
    value = getattr(holder, key) if isinstance(key, str) else holder[key]
    new = _instead(value, chance)
    if isinstance(key, str):
        setattr(holder, key, new)
    else:
        holder[key] = new


def _instead(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | np.integer):
        return int(value) + chance.choice((-1, 1)) if chance.random() < 0.4 else _integer(chance)
    if isinstance(value, float):
        return chance.choice(FLOATS)
    if isinstance(value, np.ndarray):
        array = value.copy()
        if array.size and chance.random() < 0.7:
            if array.dtype.kind == "f":
                array.flat[chance.randrange(array.size)] = chance.choice(FLOATS)
            else:
                bounds = np.iinfo(array.dtype)
                number = min(max(_integer(chance), bounds.min), bounds.max)
                array.flat[chance.randrange(array.size)] = number
            return array
        return chance.choice((array[:0], array[:-1], np.concatenate([array, array])))
    if isinstance(value, list) and value:
        items = list(value)
        first, second = chance.randrange(len(items)), chance.randrange(len(items))
        action = chance.randrange(3)
        if action == 0:
            items[first], items[second] = items[second], items[first]
        elif action == 1:
            del items[first]
        else:
            items.insert(second, items[first])
        return items
    return None if chance.random() < 0.5 else value


def _integer(chance: random.Random) -> int:
    return chance.choice(INTEGERS) if chance.random() < 0.7 else chance.randrange(200)
