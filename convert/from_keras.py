"""From a Keras network of the user to a model file: log-mel windows in, scores out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from convert.from_checkpoint import versions
from convert.parity import agreement
from convert.proof import Limits, Proof
from convert.representative_audio import Representative, of_folder, representative
from convert.settings import Settings
from convert.streaming_graph import window_to_tflite
from convert.whole_window import log_probabilities, window_spec, windows_of_clips
from edge.classifier import softmax
from edge.errors import EdgelidError
from edge.frontend import HOP_SAMPLES, Float32Array, FrontEnd, FrontEndConfig, front_end_hash
from edge.model.interpreter import WindowGraph, run_model
from edge.model.modelfile import (
    WINDOW_FORMAT_VERSION,
    Calibration,
    DecoderDefaults,
    Description,
    ModelFile,
    model_of_bytes,
    pack_model,
)
from edge.system.atomic import check_writable, write_atomically
from train.config import from_dict
from train.features.filterbank import mel_filterbank

log = logging.getLogger(__name__)

SEED = 0  # of the choice among the recordings
USUAL_FRONT_END = FrontEndConfig()


@dataclass(frozen=True)
class NetworkDescription:
    """What a Keras file does not say.

    Attributes
    ----------
    labels : tuple of str
        Classes in the order of the scores; `other` and `nonspeech` have their usual meaning.
    front_end : FrontEndConfig
        Whatever differs from edgelid's own.
    licence : str
        Of the network.
    """

    labels: tuple[str, ...]
    front_end: FrontEndConfig = USUAL_FRONT_END
    licence: str = "not told"

    def __post_init__(self) -> None:
        labels = self.labels
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise ValueError("labels must be two or more, each named once")
        if not all(label.isprintable() and label.split() == [label] for label in labels):
            raise ValueError("labels must be printable words without spaces")


def convert_network(
    network_file: Path, description_file: Path, output: Path, name: str, settings: Settings
) -> Proof:
    """Convert a Keras model to a model file of whole windows.

    Parameters
    ----------
    network_file : Path
        Keras model from (batch, frames, mels), with axes of length one anywhere, to (batch,
        classes). A softmax at its end is left out: what follows wants scores.
    description_file : Path
        JSON with the fields of :class:`NetworkDescription`.
    output : Path
        Model file to write.
    name : str
        What the model is called.
    settings : Settings
        Of mode ``window``, with recordings to quantise with and to prove on.

    Raises
    ------
    EdgelidError
        If anything is missing or damaged or does not fit, or (as NotProven) the converted model
        answers differently; nothing is written then.
    """
    recordings = _recordings(settings)
    check_writable(output)
    told = read_description(description_file)
    network, contents = load_network(network_file)
    shape = window_shape(network, told)
    frames = next(n for n in shape if n != 1)
    filterbank = mel_filterbank(told.front_end)
    files = of_folder(recordings, SEED)
    chosen = representative(files, FrontEnd(told.front_end, filterbank))
    windows = [window.reshape(shape) for window in windows_of_clips(chosen.frames, frames)]
    # Quantised with one half and proven on the other, as far as there are two.
    shown, held_out = windows[::2], windows[1::2]
    log.info("converting with %d windows", len(shown))
    graph = window_to_tflite(network, shape, None if settings.type == "float32" else shown)
    # The hop is told in frames of 10 ms; those of this front end may be others.
    hop_frames = round(settings.hop_frames * HOP_SAMPLES / told.front_end.hop_samples)
    spec = window_spec(told.front_end, frames, max(1, hop_frames))
    description = Description(
        format_version=WINDOW_FORMAT_VERSION,
        name=name,
        front_end=told.front_end,
        front_end_hash=front_end_hash(told.front_end, filterbank),
        stream=spec,
        calibration=Calibration({f"{spec.windows_s[0]:g}": 1.0}),
        decoder=DecoderDefaults(window_s=spec.windows_s[0]),
        provenance=_provenance(contents, chosen),
        licence=told.licence,
    )
    draft = model_of_bytes(output, pack_model(graph, told.labels, description, filterbank))
    proof = _proof(network, draft, held_out, settings.limits)
    proof.check()
    description = dataclasses.replace(description, metrics={"proof": proof.as_dict()})
    data = pack_model(graph, told.labels, description, filterbank)
    model_of_bytes(output, data)  # what the device will check
    write_atomically(output, data)
    return proof


def _recordings(settings: Settings) -> Path:
    """Folder of those to quantise with and to prove on.

    Raises
    ------
    EdgelidError
        If the settings are not those of a whole window with recordings.
    """
    if settings.mode != "window":
        raise EdgelidError("a network of your own takes whole windows: add --mode window")
    if settings.windows_s:
        raise EdgelidError("the network itself says how long its window is: leave out --windows")
    if settings.representative is None:
        raise EdgelidError(
            "a network of your own is quantised with your recordings: give --representative DIR"
        )
    return settings.representative


def _provenance(contents: bytes, chosen: Representative) -> dict[str, Any]:
    """Where the model comes from: the network, what made the graph, and the recordings."""
    return {
        "network_sha256": hashlib.sha256(contents).hexdigest(),
        **versions(),
        "representative_clips": list(chosen.ids),
        "representative_sha256": chosen.sha256,
    }


def _proof(network: Any, draft: ModelFile, held_out: list[Float32Array], limits: Limits) -> Proof:
    """The network against what it was converted to, on windows that it was not quantised with."""
    converted = run_model(draft, 1)
    assert isinstance(converted, WindowGraph)
    told = log_probabilities(network, np.stack(held_out))
    length = f"{draft.description.stream.windows_s[0]:g}"
    return Proof({length: agreement(told, _run(converted, held_out))}, [], [], None, {}, limits)


def _run(graph: WindowGraph, windows: list[Float32Array]) -> Any:
    return np.log(softmax(np.stack([graph.scores(window) for window in windows])) + 1e-30)


def read_description(path: Path) -> NetworkDescription:
    """Read the JSON beside a network.

    Raises
    ------
    EdgelidError
        If it is missing, no JSON, or has unknown, missing or ill-typed fields.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EdgelidError(f"cannot read the description {path}: {error.strerror}") from error
    except ValueError as error:
        raise EdgelidError(f"the description {path} is not JSON: {error}") from error
    return from_dict(NetworkDescription, values, str(path))


def load_network(path: Path) -> tuple[Any, bytes]:
    """Read a Keras model, without the softmax at its end.

    Returns
    -------
    keras.Model
    bytes
        Of the file.

    Raises
    ------
    EdgelidError
        If there is none, it is damaged, or it needs code to be run.
    """
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise EdgelidError(f"cannot read the network {path}: {error.strerror}") from error
    try:
        network = keras.saving.load_model(path, compile=False)
    # Foreign bytes: what the parsers of ZIP, JSON, HDF5 and Keras may raise is no closed list.
    except Exception as error:
        raise EdgelidError(
            f"{path} is not a Keras model that can be loaded, or is damaged"
        ) from error
    return _scores_only(network), contents


def _scores_only(network: Any) -> Any:
    last = network.layers[-1]
    if isinstance(last, keras.layers.Softmax):
        return keras.Model(network.inputs, last.input)
    if getattr(last, "activation", None) is keras.activations.softmax:
        last.activation = keras.activations.linear
    return network


def window_shape(network: Any, told: NetworkDescription) -> tuple[int, ...]:
    """Shape of a window as the network takes it, without the batch.

    Raises
    ------
    EdgelidError
        If it is not of frames and mel bands, or the scores are not of the labels.
    """
    taken, given = network.input_shape, network.output_shape
    mels = told.front_end.mels
    sizes = [n for n in taken[1:] if n != 1] if isinstance(taken, tuple) else []
    if len(sizes) != 2 or None in sizes or sizes[1] != mels:
        raise EdgelidError(
            f"the network takes {taken}, which must be (batch, frames, {mels}): a fixed number "
            "of frames, and as many mel bands as the description's front end"
        )
    if given[1:] != (len(told.labels),):
        raise EdgelidError(
            f"the network gives {given}, which does not fit {len(told.labels)} labels: "
            f"{', '.join(told.labels)}"
        )
    return tuple(int(n) for n in taken[1:])
