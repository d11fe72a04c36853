"""Model files: the shipped one is read, and whatever else comes along is a sentence."""

from __future__ import annotations

import dataclasses
import errno
import functools
import io
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import EdgelidError
from edge.frontend import front_end_hash
from edge.lessons import anchors as anchor_file
from edge.lessons.anchors import PROJECTION_MEMBER, ROWS_MEMBER
from edge.model import modelfile
from edge.model.modelfile import (
    DEFAULT_MODEL,
    DESCRIPTION_MEMBER,
    FILTERBANK_MEMBER,
    LABELS_MEMBER,
    ModelFile,
    model_of_bytes,
    pack_model,
    read_model,
    verified,
)

WHOLE = DEFAULT_MODEL.read_bytes()
MODEL = read_model(DEFAULT_MODEL)


def members() -> dict[str, bytes]:
    """The members of the shipped model."""
    with zipfile.ZipFile(DEFAULT_MODEL) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(changed: dict[str, bytes | None], graph: bytes = MODEL.graph) -> bytes:
    """The shipped model with some members replaced, or left out."""
    buffer = io.BytesIO()
    buffer.write(graph)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**members(), **changed}.items():
            if content is not None:
                archive.writestr(name, content)
    return buffer.getvalue()


def described(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The shipped model with another ``edgelid.json``."""
    values = json.loads(members()[DESCRIPTION_MEMBER])
    change(values)
    return packed({DESCRIPTION_MEMBER: json.dumps(values).encode()})


def setting(*path: str, to: object) -> Callable[[dict[str, Any]], None]:
    """Sets one value of ``edgelid.json``."""

    def change(values: dict[str, Any]) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = to

    return change


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def assert_is_a_sentence(message: str, about: Path) -> None:
    assert message.startswith(f"the model {str(about)!r} ")
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < len(str(about)) + 250


def refusal(data: bytes) -> str:
    """The sentence that a model of these bytes is refused with."""
    with pytest.raises(EdgelidError) as caught:
        model_of_bytes(Path("a model.tflite"), data)
    assert_is_a_sentence(str(caught.value), Path("a model.tflite"))
    return str(caught.value)


def refusal_of_file(path: Path) -> str:
    with pytest.raises(EdgelidError) as caught:
        read_model(path)
    assert_is_a_sentence(str(caught.value), path)
    return str(caught.value)


# --- the shipped model -----------------------------------------------------------------------


def test_the_shipped_model_is_read() -> None:
    assert MODEL.path == DEFAULT_MODEL
    assert MODEL.size_bytes == len(WHOLE) == DEFAULT_MODEL.stat().st_size
    assert set(MODEL.languages) == {"de", "en", "es", "fr", "it", "nl", "pt", "ru", "zh"}
    assert set(MODEL.labels) == {*MODEL.languages, "other", "nonspeech"}
    description = MODEL.description
    assert description.name == "edgelid-9"
    assert description.stream.windows_s == (1.0, 3.0, 10.0)
    assert description.front_end_hash == front_end_hash(description.front_end, MODEL.filterbank)
    assert MODEL.filterbank.shape == (description.front_end.mels, description.front_end.bins)


def test_it_is_a_flatbuffer_and_a_zip() -> None:
    assert MODEL.graph[4:8] == b"TFL3"
    assert WHOLE.startswith(MODEL.graph)
    assert WHOLE[len(MODEL.graph) :].startswith(b"PK\x03\x04")
    anchors = {anchor_file.DESCRIPTION_MEMBER, PROJECTION_MEMBER, ROWS_MEMBER}
    assert set(members()) == {LABELS_MEMBER, DESCRIPTION_MEMBER, FILTERBANK_MEMBER} | anchors
    assert members()[LABELS_MEMBER].decode().splitlines() == list(MODEL.labels)


def test_temperatures_come_by_length_and_are_interpolated() -> None:
    calibration = MODEL.description.calibration
    lengths = [float(length) for length in calibration.temperatures]
    assert lengths == sorted(lengths)
    values = list(calibration.temperatures.values())
    assert calibration.temperature(lengths[0]) == values[0]
    between = calibration.temperature((lengths[0] + lengths[1]) / 2)
    assert between == pytest.approx((values[0] + values[1]) / 2)
    assert calibration.temperature(0.1) == values[0]
    assert calibration.temperature(60.0) == values[-1]


def test_metrics_come_by_length() -> None:
    measured = described(
        setting("metrics", to={"accuracy_by_duration": {"1": 0.5, "10": 0.9, "3": 0.7}})
    )
    metrics = model_of_bytes(DEFAULT_MODEL, measured).description.metrics
    assert list(metrics["accuracy_by_duration"].items()) == [("1", 0.5), ("3", 0.7), ("10", 0.9)]


def test_packing_is_reproducible() -> None:
    again = pack_model(MODEL.graph, MODEL.labels, MODEL.description, MODEL.filterbank)
    twice = pack_model(MODEL.graph, MODEL.labels, MODEL.description, MODEL.filterbank)
    assert again == twice
    back = model_of_bytes(DEFAULT_MODEL, again)
    assert back.graph == MODEL.graph
    assert back.labels == MODEL.labels
    assert back.description == MODEL.description
    np.testing.assert_array_equal(back.filterbank, MODEL.filterbank)


def test_packing_does_not_depend_on_time_or_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = pack_model(MODEL.graph, MODEL.labels, MODEL.description, MODEL.filterbank)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    monkeypatch.chdir(tmp_path)
    assert pack_model(MODEL.graph, MODEL.labels, MODEL.description, MODEL.filterbank) == now


def test_packing_sets_the_hash_of_the_graph() -> None:
    description = dataclasses.replace(MODEL.description, graph_sha256="wrong")
    data = pack_model(MODEL.graph, MODEL.labels, description, MODEL.filterbank)
    assert model_of_bytes(DEFAULT_MODEL, data).description == MODEL.description


# --- files that cannot be read ---------------------------------------------------------------


def test_missing(tmp_path: Path) -> None:
    assert "does not exist" in refusal_of_file(tmp_path / "none.tflite")


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal_of_file(tmp_path)


def test_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.tflite")  # opening one would wait for a writer, perhaps for ever
    assert "no regular file" in refusal_of_file(tmp_path / "fifo.tflite")


def test_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be read" in refusal_of_file(tmp_path / "file" / "model.tflite")


def test_a_name_with_a_line_break(tmp_path: Path) -> None:
    refusal_of_file(tmp_path / "two\nlines.tflite")


def test_a_huge_file(tmp_path: Path) -> None:
    with open(tmp_path / "huge.tflite", "wb") as file:
        file.truncate(modelfile.MAX_FILE_BYTES + 1)
    assert "larger than 64 MiB" in refusal_of_file(tmp_path / "huge.tflite")


# --- bytes that are no model -----------------------------------------------------------------


def test_empty() -> None:
    assert "is empty" in refusal(b"")


@pytest.mark.parametrize("data", [b"\0", b"Ein Text.\n" * 100, b"PK\x05\x06" + bytes(18)])
def test_something_else(data: bytes) -> None:
    assert "no TFLite model" in refusal(data)


def test_random_bytes() -> None:
    assert "no TFLite model" in refusal(np.random.default_rng(0).bytes(100_000))


def test_random_bytes_behind_a_header() -> None:
    random = np.random.default_rng(1).bytes(100_000)
    assert "no edgelid metadata" in refusal(b"\x1c\0\0\0TFL3" + random)


def test_a_tflite_model_without_metadata() -> None:
    assert "no edgelid metadata" in refusal(MODEL.graph)


@pytest.mark.parametrize("left", [6, 8, 1_000, len(WHOLE) // 2, len(WHOLE) - 1_000, -30, -22, -1])
def test_truncated(left: int) -> None:
    refusal(WHOLE[:left])


def test_truncated_in_the_metadata() -> None:
    for left in range(len(MODEL.graph), len(WHOLE), 97):
        assert "truncated" in refusal(WHOLE[:left])


def test_cut_at_the_front() -> None:
    refusal(WHOLE[1:])
    refusal(WHOLE[:8] + WHOLE[1_000:])


def test_two_models_in_one() -> None:
    refusal(WHOLE + WHOLE)


# --- metadata that does not fit --------------------------------------------------------------


@pytest.mark.parametrize("name", [LABELS_MEMBER, DESCRIPTION_MEMBER, FILTERBANK_MEMBER])
def test_a_missing_member(name: str) -> None:
    assert "no edgelid metadata" in refusal(packed({name: None}))


@pytest.mark.parametrize("version", [0, 5, 1.5, "1", None, [], 1e300, "x" * 10_000, "a\nb"])
def test_another_format_version(version: object) -> None:
    assert "format version" in refusal(described(setting("format_version", to=version)))


def test_a_newer_format_is_refused_whatever_else_it_says() -> None:
    newer = packed({DESCRIPTION_MEMBER: b'{"format_version": 7, "graphs": []}'})
    assert "it has format version 7, and this edgelid reads 1" in refusal(newer)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", "{}", '"x"', "[" * 100_000, "\ud800", "\0"]
)
def test_a_damaged_description(text: str) -> None:
    refusal(packed({DESCRIPTION_MEMBER: text.encode(errors="surrogatepass")}))


def test_another_front_end_hash() -> None:
    assert "hash" in refusal(described(setting("front_end_hash", to="0" * 64)))


def test_a_front_end_that_was_changed() -> None:
    assert "hash" in refusal(described(setting("front_end", "low_hz", to=20.0)))


@pytest.mark.parametrize("key", list(json.loads(members()[DESCRIPTION_MEMBER])))
@pytest.mark.parametrize("value", [None, "x", [], {}, [[]], -1, "\x1b[2J"])
def test_values_of_the_wrong_type(key: str, value: object) -> None:
    if key in ("provenance", "metrics") and value in ({}, []):
        return  # there may be nothing in them
    if key in ("name", "licence") and value != "\x1b[2J":
        return  # anything is a name
    refusal(described(setting(key, to=value)))


@pytest.mark.parametrize("key", list(json.loads(members()[DESCRIPTION_MEMBER])))
def test_missing_values(key: str) -> None:
    refusal(described(lambda values: values.pop(key)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("front_end.hop_samples", 0),
        ("front_end.hop_samples", 401),
        ("front_end.hop_samples", 160.0),
        ("front_end.window_samples", -1),
        ("front_end.fft_samples", 100),
        ("front_end.fft_samples", "512"),
        ("front_end.sample_rate_hz", 8_000),
        ("front_end.mels", 10**30),
        ("front_end.floor", 0.0),
        ("front_end.floor", float("nan")),
        ("front_end.floor", float("inf")),
        ("front_end.floor", 1e-300),
        ("front_end.more", 1),
        ("stream.hop_frames", 0),
        ("stream.hop_frames", 17),
        ("stream.hop_frames", float("inf")),
        ("stream.hop_frames", 4 * 10**9),
        ("stream.receptive_field_frames", -1),
        ("stream.receptive_field_frames", 10**400),
        ("stream.embedding", 10**9),
        ("stream.stride_frames", 0),
        ("stream.stride_frames", -4),
        ("stream.embedding", 0),
        ("stream.states", [[1, 0]]),
        ("stream.states", [[-1, 1]]),
        ("stream.states", [[1]]),
        ("stream.states", 3),
        ("stream.windows_s", []),
        ("stream.windows_s", [0.0]),
        ("stream.windows_s", [float("nan")]),
        ("stream.windows_s", [3.0, 61.0]),
        ("calibration.temperatures", {}),
        ("calibration.temperatures", []),
        ("calibration.temperatures", {"3": 0.0}),
        ("calibration.temperatures", {"3": -1.0}),
        ("calibration.temperatures", {"3": float("nan")}),
        ("calibration.temperatures", {"3": 10**400}),
        ("calibration.temperatures", {"three": 1.0}),
        ("calibration.temperatures", {"nan": 1.0}),
        ("decoder.window_s", 0.0),
        ("decoder.window_s", 600.0),
        ("decoder.stay_s", 0.0),
        ("decoder.stay_s", float("inf")),
        ("decoder.confidence", -0.1),
        ("decoder.confidence", float("nan")),
        ("decoder.more", 1.0),
        ("metrics.accuracy_by_duration", [1, 2]),
        ("metrics.accuracy_by_duration", {"1": "good"}),
        ("metrics.accuracy_by_duration", {"1": "nan"}),
        ("metrics.accuracy_by_duration", {"1": 0.5, "3": "-inf"}),
        ("metrics.accuracy_by_duration", {"long": 0.9}),
        ("metrics.accuracy_by_duration", {" 1\n": 0.9}),
        ("metrics.measured_on", "\x1b[2J"),
        ("provenance.more", float("inf")),
        ("graph_sha256", "0" * 64),
        ("weights", -1),
        ("weights", 10**12),
        ("weights", "many"),
        ("first_scores", 3),
        ("first_scores", ["a"]),
        ("first_scores", [float("nan")]),
        ("licence", "two\nlines"),
        ("name", "\x1b]0;title\x07"),
    ],
)
def test_impossible_values(path: str, value: object) -> None:
    refusal(described(setting(*path.split("."), to=value)))


@pytest.mark.parametrize(
    "change",
    [
        {"windows_s": [0.5]},
        {"windows_s": [0.25, 0.4]},
        {"windows_s": [float("nan"), 0.5]},
        {"windows_s": [0.5, float("nan")]},
        {"windows_s": [0.4, 0.5]},  # which leaves out the one that it listens with
        {"receptive_field_frames": 40},
        {"states": [[1, 1]]},
    ],
)
def test_several_lengths_that_do_not_fit_each_other(change: dict[str, Any]) -> None:
    def several(values: dict[str, Any]) -> None:
        values["format_version"] = modelfile.LENGTHS_FORMAT_VERSION
        values["stream"] |= {"embedding": 0, "states": [], "stride_frames": 1}
        values["stream"]["delay_frames"] = 0
        values["stream"] |= {"receptive_field_frames": 50, "windows_s": [0.1, 0.3, 0.5]}
        values["decoder"]["window_s"] = 0.3

    # Without the change, only the graph is of another kind.
    good = modelfile.model_of_bytes(Path("m.tflite"), described(several))
    assert good.description.window_frames == (10, 50)

    def changed(values: dict[str, Any]) -> None:
        several(values)
        values["stream"] |= change

    refusal(described(changed))


@pytest.mark.parametrize(
    "field", ["hop_frames", "stride_frames", "receptive_field_frames", "embedding"]
)
def test_more_digits_than_a_float_has_room_for(field: str) -> None:
    """Fuzzing found the first of these, in a model of whole windows."""

    def change(values: dict[str, Any]) -> None:
        values["format_version"] = modelfile.WINDOW_FORMAT_VERSION
        values["stream"] |= {"embedding": 0, "states": [], "stride_frames": 1}
        values["stream"]["delay_frames"] = 0
        values["stream"] |= {"receptive_field_frames": 100, "windows_s": [1.0]}
        values["decoder"]["window_s"] = 1.0
        values["stream"][field] = 10**400

    refusal(described(change))


def test_a_damaged_graph() -> None:
    for at in (8, 1_000, len(MODEL.graph) - 1):
        graph = bytearray(MODEL.graph)
        graph[at] ^= 1
        assert "graph is damaged" in refusal(packed({}, bytes(graph)))


@pytest.mark.parametrize(
    "labels",
    [
        b"",
        b"de\n",
        b"de\nen\nde\n",
        b"\xff\xfe",
        b"de\nen\x1b[31m\n",
        b"de\n\x00\n",
        b"\n".join(b"l%d" % number for number in range(1_001)),
    ],
)
def test_labels_that_are_none(labels: bytes) -> None:
    refusal(packed({LABELS_MEMBER: labels}))


# --- the mel filterbank ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "filterbank",
    [
        MODEL.filterbank.T,
        MODEL.filterbank.astype(np.float64),
        MODEL.filterbank.astype(">f4"),
        MODEL.filterbank[:-1],
        MODEL.filterbank * 0,
        np.full_like(MODEL.filterbank, np.nan),
        np.full_like(MODEL.filterbank, np.inf),
        MODEL.filterbank - np.float32(1e-3),
        np.float32(1.0),
        np.array(["a"]),
        np.zeros(3, [("a", "f4"), ("b", "i8")]),
    ],
    ids=[
        "transposed",
        "float64",
        "big-endian",
        "short",
        "empty",
        "NaN",
        "infinite",
        "negative",
        "scalar",
        "text",
        "record",
    ],
)
def test_a_filterbank_that_does_not_fit(filterbank: np.ndarray) -> None:
    refusal(packed({FILTERBANK_MEMBER: npy(filterbank)}))


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    array = np.array([Payload()], dtype=object)
    assert "metadata is damaged" in refusal(packed({FILTERBANK_MEMBER: npy(array, True)}))
    assert not (tmp_path / "executed").exists()


def test_an_archive_of_arrays_is_no_array() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, filterbank=MODEL.filterbank)
    assert "metadata is damaged" in refusal(packed({FILTERBANK_MEMBER: buffer.getvalue()}))


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000000), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 257), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (536870912,), }",
        b"{'descr': '|V2147483647', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '<f4', 'shape': (64, 257), }",
        b"__import__('os').abort()",
        b"(" * 5_000,
        b"'",
        b"",
    ],
    ids=[
        "huge",
        "negative",
        "2 GiB",
        "an item of 2 GiB",
        "incomplete",
        "code",
        "nested",
        "open",
        "nothing",
    ],
)
def test_a_hostile_array_header(header: bytes) -> None:
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(1_000)
    data = packed({FILTERBANK_MEMBER: content})
    # numpy asks for what it does not fill; tracemalloc counts that, the machine does not.
    assert peak_bytes(lambda: refusal(data)) < 20 << 20


# --- the archive -----------------------------------------------------------------------------


@functools.cache
def with_big_member(name: str, size_bytes: int, method: int) -> bytes:
    buffer = io.BytesIO()
    buffer.write(MODEL.graph)
    with zipfile.ZipFile(buffer, "a") as archive:
        for other, content in members().items():
            if other != name:
                archive.writestr(other, content, zipfile.ZIP_DEFLATED)
        info = zipfile.ZipInfo(name)
        info.compress_type = method
        with archive.open(info, "w") as file:
            for _ in range(size_bytes >> 20):
                file.write(b" " * (1 << 20))
    return buffer.getvalue()


def peak_bytes(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", [LABELS_MEMBER, DESCRIPTION_MEMBER, FILTERBANK_MEMBER])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("honest", [True, False])
def test_a_member_that_unpacks_to_more_than_there_may_be(
    name: str, method: int, honest: bool
) -> None:
    bomb = with_big_member(name, 40 << 20, method)
    if not honest:  # a small size in the directory, which is all that can be asked beforehand
        bomb = bomb.replace((40 << 20).to_bytes(4, "little"), (1_000).to_bytes(4, "little"))
    assert peak_bytes(lambda: refusal(bomb)) < 20 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(method: int) -> None:
    buffer = io.BytesIO()
    buffer.write(MODEL.graph)
    with zipfile.ZipFile(buffer, "a", method) as archive:
        for name, content in members().items():
            archive.writestr(name, content)
    assert "compressed" in refusal(buffer.getvalue())


def test_an_encrypted_member() -> None:
    data = bytearray(WHOLE)
    directory = data.index(b"PK\x01\x02")
    data[directory + 8] |= 1  # general purpose flags
    refusal(bytes(data))


def test_paths_in_the_archive_lead_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is ever unpacked to disk; other members are not even read."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    before = sorted(tmp_path.rglob("*"))
    outside = str(tmp_path / "outside")
    evil = {"../evil": b"x", "../../labels.txt": b"x", outside: b"x", "C:\\evil": b"x"}
    assert same(model_of_bytes(DEFAULT_MODEL, packed({**evil})), MODEL)
    refusal(packed({LABELS_MEMBER: None, f"../{LABELS_MEMBER}": b"de\nen\n"}))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_of_too_many_members() -> None:
    """zipfile would make an object of each, half a kilobyte for every 46 bytes."""
    buffer = io.BytesIO(WHOLE)
    with zipfile.ZipFile(buffer, "a") as archive:
        for number in range(modelfile.MAX_MEMBERS):
            archive.writestr(f"{number}", b"")
    assert "too many members" in refusal(buffer.getvalue())


def same(first: ModelFile, second: ModelFile) -> bool:
    return (
        first.graph == second.graph
        and first.labels == second.labels
        and first.description == second.description
        and first.filterbank.tobytes() == second.filterbank.tobytes()
    )


def test_a_flipped_bit_anywhere_is_refused_or_without_effect() -> None:
    rng = np.random.default_rng(2)
    metadata = len(MODEL.graph)
    in_graph = rng.integers(0, metadata, 100)
    # Anchors come last, and are read by nothing but lessons: tests/edge/lessons damages them.
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as archive:
        anchors = archive.getinfo(anchor_file.DESCRIPTION_MEMBER).header_offset
    in_metadata = rng.integers(metadata, anchors, 500)
    in_directory = range(WHOLE.index(b"PK\x01\x02", metadata), len(WHOLE))
    harmless = 0
    for position in map(int, (*in_graph, *in_metadata, *in_directory)):
        data = bytearray(WHOLE)
        data[position] ^= 1 << int(rng.integers(8))
        try:
            damaged = model_of_bytes(DEFAULT_MODEL, bytes(data))
        except EdgelidError as error:
            assert_is_a_sentence(str(error), DEFAULT_MODEL)
        else:
            assert same(damaged, MODEL), position
            assert position > metadata, position  # dates and such of the archive
            harmless += 1
    assert harmless < 300  # those of anchors in the directory among them


# --- a card that fails -----------------------------------------------------------------------


class FailingCard(io.RawIOBase):
    """A file some of whose bytes cannot be read from the nth read of them on."""

    def __init__(self, data: bytes, bad: range, reads: int) -> None:
        self._file, self._bad, self._reads = io.BytesIO(data), bad, reads

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        place = self._file.tell()
        if place < self._bad.stop and place + len(buffer) > self._bad.start:
            self._reads -= 1
            if self._reads < 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._file.readinto(buffer)


@pytest.mark.parametrize(
    "bad",
    [
        range(len(MODEL.graph), len(MODEL.graph) + 1),
        range(len(WHOLE) - 1, len(WHOLE)),
    ],
    ids=["member", "directory"],
)
@pytest.mark.parametrize("reads", range(6))
def test_what_cannot_be_read_is_not_called_damaged(bad: range, reads: int) -> None:
    card = FailingCard(WHOLE, bad, reads)
    try:
        verified(DEFAULT_MODEL, io.BufferedReader(card), has_graph=False)
    except OSError as error:
        assert error.errno == errno.EIO
    else:
        assert card._reads >= 0  # it had been read by then


def test_places_that_do_not_exist_are_damage() -> None:
    """Files refuse to go there with the same kind of error."""
    damaged = bytearray(WHOLE)
    end = damaged.rfind(b"PK\5\6")
    damaged[end + 16 : end + 20] = b"\xff\xff\xff\x7f"  # where the directory begins
    with pytest.raises(EdgelidError, match="copy it again"):
        verified(DEFAULT_MODEL, io.BufferedReader(FailingCard(bytes(damaged), range(0), 0)), False)
