"""The model file: a TFLite flatbuffer with a ZIP of metadata behind it.

Read with distrust: a model may come from anywhere. Nothing in it is executed but the graph, and
nothing is run before everything it says of itself has been checked.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import zipfile
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from edge.errors import EdgelidError
from edge.features import ForeignConfig
from edge.frontend import Float32Array, FrontEndConfig, front_end_hash
from edge.model.parts import files_of, open_files
from edge.system.regular import other_kind

FORMAT_VERSION = 1  # of models that stream
WINDOW_FORMAT_VERSION = 2  # of those that take a whole window, which older releases do not know
FOREIGN_FORMAT_VERSION = 3  # the same, of features that are not edgelid's
LENGTHS_FORMAT_VERSION = 4  # of those that take a window of any length between two
DESCRIPTION_MEMBER = "edgelid.json"
LABELS_MEMBER = "labels.txt"
FILTERBANK_MEMBER = "mel_filterbank.npy"
TFLITE_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TFLite flatbuffer
MAX_FILE_BYTES = 64 << 20  # far more than any model for this device; keeps mistakes out of memory
MAX_MEMBER_BYTES = 4 << 20
BLOCK_BYTES = 1 << 16  # in memory at once, of what is read to be verified
MAX_MEMBERS = 64  # of the ZIP, of which three are read
MAX_WINDOW_S = 60.0
MAX_LABELS = 1_000
MAX_COUNT = 1 << 20  # of frames or channels; a minute has fewer samples
MAX_WORK_BYTES = 128 << 20  # of features or of embeddings, where the metadata say how many
FLOORS = (1e-20, 1e20)  # beyond these, features would be no numbers

_DIRECTORY_ENTRY = b"PK\x01\x02"

OTHER = "other"  # speech in none of the model's languages
NONSPEECH = "nonspeech"  # noise, music, silence

MODELS = Path(__file__).parents[1] / "models"
DEFAULT_MODEL = MODELS / "edgelid-9.tflite"
# For second opinions, by the names that options call them.
SECOND_OPINIONS = {name: MODELS / f"edgelid-9-{name}.tflite" for name in ("large", "xlarge")}


@dataclass(frozen=True)
class Quantisation:
    """Affine int8 quantisation: ``real = scale * (q - zero_point)``."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class StreamSpec:
    """How the graphs are fed.

    Attributes
    ----------
    hop_frames : int
        Feature frames a step takes; of a model of whole windows, those between two windows.
    stride_frames : int
        Feature frames an embedding advances by; divides `hop_frames`. A model of whole windows
        has 1: its windows can end at any frame.
    receptive_field_frames : int
        Feature frames an embedding depends on; of a model of whole windows, those of the longest.
    windows_s : tuple of float
        Window lengths the model was made and calibrated for. A model of whole windows has one, or
        takes all lengths from the shortest of these to the longest.
    embedding : int
        Channels of an embedding; a model of whole windows shows none, and has 0.
    states : tuple of (int, int)
        Frames and channels of each state.
    delay_frames : int
        Feature frames that the newest embedding lags behind the newest frame: so much it waits to
        hear what follows. A whole number of hops.
    """

    hop_frames: int
    stride_frames: int
    receptive_field_frames: int
    windows_s: tuple[float, ...]
    embedding: int
    states: tuple[tuple[int, int], ...]
    delay_frames: int = 0

    @property
    def late_hops(self) -> int:
        """The delay in hops."""
        return self.delay_frames // self.hop_frames


@dataclass(frozen=True)
class Calibration:
    """What turns scores into probabilities.

    Attributes
    ----------
    temperatures : dict of str to float
        Divisor of the scores by window length, such as ``{"3": 1.4}`` (Guo et al. 2017).
    """

    temperatures: dict[str, float]

    def temperature(self, window_s: float) -> float:
        """Temperature for a window, interpolated between the calibrated lengths."""
        points = sorted((float(k), v) for k, v in self.temperatures.items())
        lengths, values = zip(*points, strict=True)
        return float(np.interp(window_s, lengths, values))


@dataclass(frozen=True)
class DecoderDefaults:
    """Defaults of :class:`edge.decoder.Decoder`, tuned on development streams.

    Attributes
    ----------
    window_s : float
        Window the decoder listens to.
    stay_s : float
        Expected time between changes of language.
    confidence : float
        Smoothed probability below which the answer is ``unknown``.
    """

    window_s: float = 3.0
    stay_s: float = 30.0
    confidence: float = 0.6


@dataclass(frozen=True)
class Description:
    """Contents of ``edgelid.json``.

    Attributes
    ----------
    format_version : int
    name : str
    front_end : FrontEndConfig
    front_end_hash : str
    stream : StreamSpec
    calibration : Calibration
    decoder : DecoderDefaults
    graph_sha256 : str
        Of the flatbuffer, set by :func:`pack_model`.
    weights : int
        How many numbers were learnt; 0 in older files, whose graphs have a byte for each.
    first_scores : tuple of float
        What a graph of whole windows made of zeros, the usual window long, when it was converted:
        an interpreter that computes something else does not know its operators. Empty if not told.
    provenance : dict
        Versions, hashes and the ids of the clips that the conversion used.
    metrics : dict
        Measured on this very file.
    licence : str
    """

    format_version: int
    name: str
    front_end: FrontEndConfig
    front_end_hash: str
    stream: StreamSpec
    calibration: Calibration
    decoder: DecoderDefaults
    graph_sha256: str = ""
    weights: int = 0
    first_scores: tuple[float, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    licence: str = "Apache-2.0"

    @property
    def mode(self) -> str:
        """Kind of model.

        ``stream`` computes every frame once, in the graphs ``embed`` and ``head``; ``window``
        recomputes a whole window at every hop, in the graph ``window``.
        """
        return "stream" if self.format_version == FORMAT_VERSION else "window"

    @property
    def embedding_s(self) -> float:
        """Time from one embedding to the next."""
        samples = self.stream.stride_frames * self.front_end.hop_samples
        return samples / self.front_end.sample_rate_hz

    @property
    def delay_s(self) -> float:
        """How much more has been heard by a hop than is known."""
        samples = self.stream.delay_frames * self.front_end.hop_samples
        return samples / self.front_end.sample_rate_hz

    @property
    def window_frames(self) -> tuple[int, int]:
        """Fewest and most feature frames that a window of a model of whole windows may have."""
        frames_per_second = self.front_end.sample_rate_hz / self.front_end.hop_samples
        most = self.stream.receptive_field_frames
        if self.format_version != LENGTHS_FORMAT_VERSION:
            return most, most
        return round(min(self.stream.windows_s) * frames_per_second), most


@dataclass(frozen=True)
class ModelFile:
    """A verified model file.

    Attributes
    ----------
    path : Path
    graph : bytes
        The flatbuffer; empty where nobody needs it in memory.
    graph_bytes : int
    labels : tuple of str
        Classes in the order of the scores.
    description : Description
    filterbank : ndarray, shape (mels, bins), float32
    size_bytes : int
    sha256 : str
        Of the whole file.
    """

    path: Path
    graph: bytes
    graph_bytes: int
    labels: tuple[str, ...]
    description: Description
    filterbank: Float32Array
    size_bytes: int
    sha256: str

    @property
    def languages(self) -> tuple[str, ...]:
        """The labels that are languages."""
        return tuple(label for label in self.labels if label not in (OTHER, NONSPEECH))


def read_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read and verify a model file.

    Parameters
    ----------
    path : path-like
        Of the file, which may lie there in parts, see `edge.model.parts`.

    Returns
    -------
    ModelFile

    Raises
    ------
    EdgelidError
        If it is missing, unreadable, too large, no TFLite file, truncated, without or with
        damaged metadata, of another format version, or its parts do not fit together.
    """
    return _read(Path(path), has_graph=True)


def read_without_graph(path: str | os.PathLike[str]) -> ModelFile:
    """The same, with a graph that is verified and not kept: that of a large model is large.

    Raises
    ------
    EdgelidError
        As :func:`read_model`.
    """
    return _read(Path(path), has_graph=False)


def _read(file: Path, has_graph: bool) -> ModelFile:
    try:
        with open_files(files_to_read(file)) as data:
            return verified(file, data, has_graph)
    except OSError as error:
        raise EdgelidError(f"the model {str(file)!r} cannot be read ({error.strerror}).") from error


def bytes_of(model: ModelFile) -> bytes:
    """The whole file, or its parts joined.

    Raises
    ------
    EdgelidError
        If it cannot be read, or is not what it was when the model was.
    """
    name = repr(str(model.path))
    try:
        with open_files(files_to_read(model.path)) as file:
            data = file.read()
    except OSError as error:
        raise EdgelidError(f"the model {name} cannot be read ({error.strerror}).") from error
    if hashlib.sha256(data).hexdigest() != model.sha256:
        raise EdgelidError(f"the model {name} has changed meanwhile: try again.")
    return data


def path_of(name: str) -> Path:
    """Where a model is: one of `SECOND_OPINIONS`, a file of that name, or `DEFAULT_MODEL`."""
    return SECOND_OPINIONS.get(name) or (Path(name) if name else DEFAULT_MODEL)


def files_to_read(path: Path) -> list[Path]:
    """The files that a model file consists of.

    Raises
    ------
    EdgelidError
        If they are missing, no files, or too large.
    """
    name = repr(str(path))
    if (part := re.fullmatch(r"(.+\.tflite)\.\d", path.name)) is not None:
        whole = str(path.with_name(part[1]))
        begins = os.path.exists(f"{whole}.0")  # noqa: PTH110 - no error where it may not be seen
        if begins and not is_model_file(path):  # or it is a whole one of such a name
            raise EdgelidError(f"{name} is a part of a model: give {whole!r}.")
    try:
        files = files_of(path)
        found = [part.stat() for part in files]
    except FileNotFoundError as error:
        raise EdgelidError(f"the model {name} does not exist: check the path.") from error
    except OSError as error:
        raise EdgelidError(f"the model {name} cannot be read ({error.strerror}).") from error
    except ValueError as error:  # a zero byte in the name
        raise EdgelidError(f"the model {name} cannot be read ({error}).") from error
    for status in found:
        if (kind := other_kind(status)) is not None:
            raise EdgelidError(f"the model {name} is {kind}: give a .tflite file.")
    if sum(status.st_size for status in found) > MAX_FILE_BYTES:
        raise EdgelidError(
            f"the model {name} is larger than {MAX_FILE_BYTES >> 20} MiB: "
            "give a file that edgelid-convert wrote."
        )
    return files


def is_model_file(path: Path) -> bool:
    """Whether a file is one that edgelid wrote as a model file, whatever else is right or wrong."""
    try:
        status = path.stat()
        if other_kind(status) is not None or status.st_size > MAX_FILE_BYTES:
            return False
        with open(path, "rb") as file:
            if file.read(8)[4:] != TFLITE_IDENTIFIER:
                return False
            if _occurrences(file, _DIRECTORY_ENTRY) > MAX_MEMBERS:
                return False
            return DESCRIPTION_MEMBER in zipfile.ZipFile(file).namelist()
    except Exception:  # foreign bytes, as in `_parse`
        return False


def model_of_bytes(file: Path, data: bytes) -> ModelFile:
    """Verify the contents of a model file.

    Parameters
    ----------
    file : Path
        Named in errors.
    data : bytes

    Raises
    ------
    EdgelidError
        As :func:`read_model`.
    """
    return verified(file, io.BytesIO(data), has_graph=True)


def verified(file: Path, data: BinaryIO, has_graph: bool) -> ModelFile:
    """Verify the contents of a model file, wherever they lie.

    Parameters
    ----------
    file : Path
        Named in errors.
    data : file
        Opened to read, in bytes.
    has_graph : bool
        Whether the graph is kept.

    Raises
    ------
    EdgelidError
        As :func:`read_model`.
    OSError
        If it cannot be read.
    """
    try:
        return _parse(file, data, has_graph)
    except _Unfit as error:
        raise EdgelidError(f"the model {str(file)!r} cannot be used, as {error}.") from error


class _Unfit(Exception):
    """What is wrong with the contents of a model file, and what to do."""


class _Source:
    """A file that keeps in mind that it could not be read: zipfile takes that for damage.

    Parameters
    ----------
    data : file
        Opened to read, in bytes.

    Attributes
    ----------
    failure : OSError or None
        Of the first read that failed. Places that do not exist are the archive's own fault.
    """

    def __init__(self, data: BinaryIO) -> None:
        self.failure: OSError | None = None
        self.seek, self.tell, self.seekable = data.seek, data.tell, data.seekable
        self._data = data

    def read(self, count: int = -1) -> bytes:
        try:
            return self._data.read(count)
        except OSError as error:
            self.failure = self.failure or error
            raise


def _parse(file: Path, data: BinaryIO, has_graph: bool) -> ModelFile:
    size_bytes = data.seek(0, os.SEEK_END)
    if size_bytes == 0:
        raise _Unfit("it is empty (0 bytes): copy it again")
    data.seek(4)
    if data.read(4) != TFLITE_IDENTIFIER:
        raise _Unfit("it is no TFLite model: give a file that edgelid-convert wrote")
    # zipfile makes an object of every entry, and a file of this size has room for a million.
    if _occurrences(data, _DIRECTORY_ENTRY) > MAX_MEMBERS:
        raise _Unfit("its metadata have too many members: give a file that edgelid-convert wrote")
    source = _Source(data)
    try:
        archive = zipfile.ZipFile(source)
        values = json.loads(read_member(archive, DESCRIPTION_MEMBER))
        json.dumps(values, allow_nan=False)  # `edgelid info --json` has to
        labels = tuple(read_member(archive, LABELS_MEMBER).decode().split())
        filterbank = read_array(read_member(archive, FILTERBANK_MEMBER))
    except _Unfit:
        raise
    # Foreign bytes: what the parsers of ZIP, deflate, JSON and numpy may raise is no closed list.
    except Exception as error:
        if source.failure is not None:
            raise source.failure from None
        if isinstance(error, (zipfile.BadZipFile, KeyError)):
            reason = "it is truncated, or carries no edgelid metadata: copy it again"
            raise _Unfit(reason) from error
        raise _Unfit("its metadata is damaged: copy it again") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if version not in range(FORMAT_VERSION, LENGTHS_FORMAT_VERSION + 1):
        raise _Unfit(
            f"it has format version {version!r:.40}, and this edgelid reads {FORMAT_VERSION} to "
            f"{LENGTHS_FORMAT_VERSION}: get one that was made for this release"
        )
    try:
        description = _description(values)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _Unfit("its metadata is incomplete or ill-typed: convert it again") from error
    # The flatbuffer ends where the first member begins. A damaged one can crash an interpreter.
    graph_bytes = min(member.header_offset for member in archive.infolist())
    graph = _start(data, graph_bytes) if has_graph else b""
    digest = hashlib.sha256(graph).hexdigest() if has_graph else _sha256(data, graph_bytes)
    if digest != description.graph_sha256:
        raise _Unfit("its graph is damaged: copy it again")
    _check(description, labels, filterbank)
    return ModelFile(
        path=file,
        graph=graph,
        graph_bytes=graph_bytes,
        labels=labels,
        description=description,
        filterbank=filterbank,
        size_bytes=size_bytes,
        sha256=_sha256(data, size_bytes),
    )


def _start(data: BinaryIO, size: int) -> bytes:
    data.seek(0)
    return data.read(max(0, size))


def _sha256(data: BinaryIO, size: int) -> str:
    """Of so many bytes from the start."""
    digest = hashlib.sha256()
    data.seek(0)
    while size > 0 and (block := data.read(min(size, BLOCK_BYTES))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


def _occurrences(data: BinaryIO, wanted: bytes) -> int:
    """How often some bytes occur that do not overlap themselves."""
    count, before = 0, b""
    data.seek(0)
    while block := data.read(BLOCK_BYTES):
        block = before + block
        count += block.count(wanted)
        before = block[1 - len(wanted) :]
    return count


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member of a model file's ZIP, of bounded size; what is wrong with it, it raises."""
    info = archive.getinfo(name)
    # The other methods unpack whole blocks, of any size, before zipfile can cut them off.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _Unfit(f"its member {name} is compressed in a way that edgelid does not write")
    # The size in the directory may be a lie: no more is unpacked than may be there.
    with archive.open(info) as file:
        content = file.read(MAX_MEMBER_BYTES + 1)
    if len(content) > MAX_MEMBER_BYTES:
        raise _Unfit(f"its member {name} is larger than {MAX_MEMBER_BYTES >> 20} MiB")
    return content


def read_array(content: bytes) -> npt.NDArray[Any]:
    """An array in numpy's format, which unlike `numpy.load` takes no archive and no pickle."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not the version that numpy writes for such an array")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    # numpy makes room for what the header claims before it looks whether it is there.
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError("not as long as its header says")
    file.seek(0)
    array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _description(values: dict[str, Any]) -> Description:
    stream = values["stream"]
    metrics = dict(values["metrics"])
    for name in metrics:
        if name.endswith("_by_duration"):
            metrics[name] = _by_length(metrics[name])
    return Description(
        format_version=int(values["format_version"]),
        name=str(values["name"]),
        front_end=_front_end(int(values["format_version"]), values["front_end"]),
        front_end_hash=str(values["front_end_hash"]),
        stream=StreamSpec(
            hop_frames=_count(stream["hop_frames"]),
            stride_frames=_count(stream["stride_frames"]),
            receptive_field_frames=_count(stream["receptive_field_frames"]),
            windows_s=tuple(float(w) for w in stream["windows_s"]),
            embedding=_count(stream["embedding"]),
            states=tuple((_count(f), _count(c)) for f, c in stream["states"]),
            delay_frames=_count(stream.get("delay_frames", 0)),  # older files know of none
        ),
        calibration=Calibration(_by_length(values["calibration"]["temperatures"])),
        decoder=DecoderDefaults(
            **{k: float(v) for k, v in _complete(DecoderDefaults, values["decoder"]).items()}
        ),
        graph_sha256=str(values["graph_sha256"]),
        weights=_count(values.get("weights", 0), 2 * MAX_FILE_BYTES),
        first_scores=tuple(float(score) for score in values.get("first_scores", ())),
        provenance=dict(values["provenance"]),
        metrics=metrics,
        licence=str(values["licence"]),
    )


def _front_end(version: int, values: dict[str, Any]) -> FrontEndConfig:
    if version != FOREIGN_FORMAT_VERSION:
        return FrontEndConfig(**_complete(FrontEndConfig, values))
    values = dict(_complete(ForeignConfig, values))
    for name in ("mean", "deviation"):
        values[name] = tuple(float(value) for value in values[name])
    return ForeignConfig(**values)


def window_version(config: FrontEndConfig) -> int:
    """Format version of a model of whole windows of such features."""
    return FOREIGN_FORMAT_VERSION if isinstance(config, ForeignConfig) else WINDOW_FORMAT_VERSION


def _count(value: Any, most: int = MAX_COUNT) -> int:
    """A whole number that arithmetic with floats takes: JSON's have any number of digits."""
    number = int(value)
    if not 0 <= number <= most:
        raise ValueError("no number of frames, channels or weights")
    return number


def _complete(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Values for all the fields of a dataclass: its defaults are for new models, not for these."""
    if set(values) != {each.name for each in fields(kind)}:
        raise ValueError(f"not the fields of {kind.__name__}")
    return values


def _by_length(values: dict[str, Any]) -> dict[str, float]:
    """Figures by seconds, the shortest first: as strings, 10 would come before 3."""
    if not all(length.isprintable() for length in values):  # which numbers can be, with spaces
        raise ValueError("lengths that cannot be printed")
    figures = {length: float(values[length]) for length in sorted(values, key=float)}
    # As strings, they pass for JSON; as the floats that they become, they are none.
    if not all(math.isfinite(figure) for figure in figures.values()):
        raise ValueError("figures that are not finite")
    return figures


def _check(description: Description, labels: tuple[str, ...], filterbank: Float32Array) -> None:
    config, stream = description.front_end, description.stream
    if not 2 <= len(labels) <= MAX_LABELS or len(set(labels)) != len(labels):
        raise _Unfit(f"its labels are fewer than two, more than {MAX_LABELS}, or repeat")
    shown = (description.name, description.licence, str(description.metrics.get("measured_on")))
    if not all(text.isprintable() for text in (*labels, *shown)):
        raise _Unfit("its labels or its name are not printable")
    if not all(type(v) is type(d) for v, d in _with_defaults(config)):
        raise _Unfit("its front end has parameters of the wrong type")
    if filterbank.dtype != np.float32 or filterbank.shape != (config.mels, config.bins):
        raise _Unfit("its mel filterbank does not fit its front end")
    if not (
        np.isfinite(filterbank).all()
        and (filterbank >= 0).all()
        and (filterbank > 0).any(axis=1).all()
    ):
        raise _Unfit("its mel filterbank has empty or invalid filters")
    if not 0 < config.hop_samples <= config.window_samples <= config.fft_samples:
        raise _Unfit("its front end has impossible sizes")
    lowest, highest = FLOORS
    foreign = isinstance(config, ForeignConfig)
    if not lowest <= config.floor <= highest or (
        config.sample_rate_hz != FrontEndConfig.sample_rate_hz and not foreign
    ):
        raise _Unfit("its front end has an impossible floor, or a rate other than 16 kHz")
    if isinstance(config, ForeignConfig):
        try:
            config.check()
        except ValueError as error:
            raise _Unfit(f"its front end is impossible ({error})") from error
    if front_end_hash(config, filterbank) != description.front_end_hash:
        raise _Unfit("its front end does not match its hash")
    if (
        stream.stride_frames < 1
        or stream.hop_frames < 1
        or stream.hop_frames % stream.stride_frames
    ):
        raise _Unfit("its hop is not a whole number of embeddings")
    if description.mode == "window":
        _check_window(description)
    elif stream.embedding < 1 or not all(f >= 0 and c > 0 for f, c in stream.states):
        raise _Unfit("its stream has impossible sizes")
    decoder = description.decoder
    embedding_s = description.embedding_s
    windows_s = (*stream.windows_s, decoder.window_s)
    if not stream.windows_s or not all(embedding_s <= w <= MAX_WINDOW_S for w in windows_s):
        raise _Unfit(f"its window lengths are not between {embedding_s:g} and {MAX_WINDOW_S:g} s")
    _check_work(stream, config, embedding_s)
    if not 0 < decoder.stay_s < math.inf or not 0 <= decoder.confidence <= 1:
        raise _Unfit("its decoder has impossible settings")
    temperatures = description.calibration.temperatures
    lengths_s = [float(length) for length in temperatures]
    if not lengths_s or not all(0 < v < 1e3 for v in (*lengths_s, *temperatures.values())):
        raise _Unfit("its calibration temperatures are missing or not positive")


def _check_work(stream: StreamSpec, config: FrontEndConfig, embedding_s: float) -> None:
    """Refuse what would take the memory of the device before any graph is run."""
    value_bytes = 8  # of double precision
    # Of every frame of a hop, its spectrum and, where all filters overlap, all their weights.
    front_end = stream.hop_frames * (config.fft_samples + config.mels * (config.bins + 1))
    embeddings = math.ceil(MAX_WINDOW_S / embedding_s) * (1 + 2 * stream.embedding)
    if max(front_end, embeddings) * value_bytes > MAX_WORK_BYTES:
        raise _Unfit("its hop, front end or embeddings are larger than this device could hold")
    frames = MAX_WINDOW_S * config.sample_rate_hz / config.hop_samples
    if not stream.stride_frames <= stream.receptive_field_frames <= frames:
        raise _Unfit("its receptive field is shorter than its stride, or longer than a minute")
    if stream.delay_frames % stream.hop_frames or stream.delay_frames > frames:
        raise _Unfit("its delay is not a whole number of hops, or longer than a minute")


def _check_window(description: Description) -> None:
    config, stream = description.front_end, description.stream
    if stream.stride_frames != 1 or stream.embedding or stream.states or stream.delay_frames:
        raise _Unfit("it takes whole windows, and has parts of a stream")
    window_s = stream.receptive_field_frames * config.hop_samples / config.sample_rate_hz
    windows_s = stream.windows_s
    longest_s = max(windows_s, default=math.nan)
    if not abs(longest_s - window_s) <= 1e-6:
        raise _Unfit("it takes whole windows, of another length than it says")
    if description.format_version != LENGTHS_FORMAT_VERSION:
        if len(windows_s) != 1:
            raise _Unfit("it takes whole windows, of another length than it says")
    elif len(windows_s) < 2 or not min(windows_s) <= description.decoder.window_s <= longest_s:
        raise _Unfit("it takes windows of several lengths, and names no shortest and longest")


def _with_defaults(config: FrontEndConfig) -> list[tuple[Any, Any]]:
    return list(zip(asdict(config).values(), asdict(type(config)()).values(), strict=True))


def pack_model(
    graph: bytes, labels: tuple[str, ...], description: Description, filterbank: Float32Array
) -> bytes:
    """The bytes of a model file; equal inputs give equal bytes.

    Parameters
    ----------
    graph : bytes
        TFLite flatbuffer.
    labels : tuple of str
    description : Description
    filterbank : ndarray, shape (mels, bins), float32
    """
    description = replace(description, graph_sha256=hashlib.sha256(graph).hexdigest())
    array = io.BytesIO()
    np.save(array, np.asarray(filterbank, np.float32), allow_pickle=False)
    members = {
        LABELS_MEMBER: "\n".join(labels).encode() + b"\n",
        DESCRIPTION_MEMBER: json.dumps(asdict(description), indent=1, sort_keys=True).encode(),
        FILTERBANK_MEMBER: array.getvalue(),
    }
    return _packed(graph, members)


def with_members(data: bytes, members: dict[str, bytes]) -> bytes:
    """The bytes of a model file with further members, in place of any of these names.

    Parameters
    ----------
    data : bytes
        Of a model file that has been verified.
    members : dict of str to bytes
    """
    archive = zipfile.ZipFile(io.BytesIO(data))
    graph = data[: min(member.header_offset for member in archive.infolist())]
    kept = {name: archive.read(name) for name in archive.namelist() if name not in members}
    return _packed(graph, {**kept, **members})


def _packed(graph: bytes, members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    buffer.write(graph)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            # A fixed date: the time of writing is no part of a model.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
