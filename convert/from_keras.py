"""From a Keras network of the user to a model file: log-mel windows in, scores out."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from convert.apart import Apart, Plan, convert_apart, mark_layers
from convert.flatbuffer import operator_name
from convert.from_checkpoint import versions
from convert.network_file import load_network
from convert.output import check_output, check_size, write_model
from convert.own_description import NetworkDescription, filterbank_of, read_description
from convert.own_network import (
    COLOURS,
    SIGMOIDS,
    Fed,
    Scores,
    as_scores,
    log_probabilities,
    output_key,
    plain,
    reason_of,
    single_input,
)
from convert.own_recordings import OwnRecordings, own_recordings
from convert.parity import Agreement, Judged, agreement, judged
from convert.proof import Limits, OwnProof
from convert.representative_audio import Representative
from convert.settings import NOT_FOUR_BITS, Settings
from convert.streaming_graph import save_graph, window_function
from convert.whole_window import whole_windows, window_spec, windows_of_clips
from edge.audio.formats import find_recordings
from edge.classifier import softmax
from edge.errors import EdgelidError
from edge.features import open_front_end
from edge.frontend import (
    HOP_SAMPLES,
    SAMPLE_RATE_HZ,
    Float32Array,
    FrontEnd,
    FrontEndConfig,
    front_end_hash,
)
from edge.model.interpreter import WINDOW_SIGNATURE, WindowGraph, open_model
from edge.model.modelfile import (
    TFLITE_IDENTIFIER,
    Calibration,
    DecoderDefaults,
    Description,
    ModelFile,
    model_of_bytes,
    pack_model,
    window_version,
)

log = logging.getLogger(__name__)

MEASURED_ON = "own recordings, held out"
SEED = 0  # of the choice among the recordings
LONGEST_FRAMES = 6_000  # a minute; an axis beyond that is of samples
NO_GRAPH = bytes(4) + TFLITE_IDENTIFIER
KIND_NOTES = {
    SIGMOIDS: ("one sigmoid a class: what they give is divided by its sum",),
}


def convert_network(
    network_file: Path, description_file: Path, output: Path, name: str, settings: Settings
) -> OwnProof:
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
    folder = _recordings(settings)
    check_output(output, [network_file, description_file, *find_recordings([folder])])
    told = read_description(description_file)
    filterbank = filterbank_of(told.front_end)
    network, contents = load_network(network_file)
    fed = how_fed(network, told)
    spec = window_spec(told.front_end, fed.frames, _hop_frames(settings, told.front_end))
    (window_s,) = spec.windows_s
    own = own_recordings(folder, told.labels, window_s, SEED)
    front_end = open_front_end(told.front_end, filterbank)
    shown = [front_end.log_mel(samples) for samples in own.representative()]
    chosen = Representative(shown, (*(each.name for each in own.shown), "silence"))
    windows = windows_of_clips(shown, fed.frames, front_end.silence)
    scores = as_scores(plain(network), fed, told.labels, windows)
    log.info("converting with %d windows of %d recordings", len(windows), len(own.shown))
    description = Description(
        format_version=window_version(told.front_end),
        name=name,
        front_end=told.front_end,
        front_end_hash=front_end_hash(told.front_end, filterbank),
        stream=spec,
        calibration=Calibration({f"{window_s:g}": 1.0}),
        decoder=DecoderDefaults(window_s=window_s),
        provenance=_provenance(contents, chosen),
        licence=told.licence,
    )

    # What the device would refuse of all but the graph, it refuses before the graph is made.
    model_of_bytes(output, pack_model(NO_GRAPH, told.labels, description, filterbank))
    apart = _converted(scores, windows, settings)
    smaller = "build a smaller network"
    check_size(
        apart.graph, smaller if settings.type == "int8" else f"try --type int8, or {smaller}"
    )

    def packed(described: Description) -> bytes:
        return pack_model(apart.graph, told.labels, described, filterbank)

    graph = _admitted(model_of_bytes(output, packed(description)), network)
    found = _compared(scores, graph, own, front_end, told.labels)
    notes = (*own.notes, *KIND_NOTES.get(scores.kind, ()))
    proof = _proof(f"{window_s:g}", found, notes, apart, settings.limits)
    proof.check()
    description = dataclasses.replace(description, metrics={"proof": proof.as_dict()})
    if isinstance(found, Judged):
        description.calibration.temperatures[f"{window_s:g}"] = found.temperature_converted
        description.metrics.update(
            measured_on=MEASURED_ON,
            accuracy_by_duration={f"{window_s:g}": round(found.accuracy_converted, 4)},
        )
    write_model(output, packed(description))
    return proof


def _hop_frames(settings: Settings, config: FrontEndConfig) -> int:
    """The hop is told in frames of 10 ms; those of this front end may be others."""
    hop_s = settings.hop_frames * HOP_SAMPLES / SAMPLE_RATE_HZ
    return max(1, round(hop_s * config.sample_rate_hz / config.hop_samples))


def _recordings(settings: Settings) -> Path:
    """Folder of those to quantise with and to prove on.

    Raises
    ------
    EdgelidError
        If the settings are not those of a whole window with recordings.
    """
    if settings.mode != "window":
        raise EdgelidError("a network of your own takes whole windows: add --mode window")
    if settings.type == "int4":
        raise EdgelidError(NOT_FOUR_BITS)
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


def _converted(scores: Scores, windows: list[Float32Array], settings: Settings) -> Apart:
    """The graph, made in a process of its own."""
    kinds = mark_layers(scores.network)
    unknown = sorted(set(settings.floats) - set(kinds))
    if unknown:
        raise EdgelidError(
            f"the network has no layer {', '.join(unknown)}: of --float, choose from "
            f"{', '.join(kinds)}"
        )
    limits = settings.limits
    plan = Plan(
        settings.type == "int8",
        limits.min_agreement,
        limits.max_mean_difference,
        settings.floats,
        kinds,
    )
    truth = log_probabilities(scores, windows)

    def save(folder: str) -> None:
        try:
            function = window_function(scores, windows[0].shape)
            save_graph(folder, [scores], {WINDOW_SIGNATURE: function})
        except EdgelidError:
            raise
        # Foreign layers: what they may raise when they are traced is no closed list.
        except Exception as error:
            raise EdgelidError(
                f"Keras cannot export the network, of {', '.join(dict.fromkeys(kinds.values()))} "
                f"({reason_of(error)}): save it without the layers that it names"
            ) from error

    return convert_apart(save, plan, windows, truth)


def _admitted(draft: ModelFile, network: Any) -> WindowGraph:
    """The graph as the device opens it.

    Raises
    ------
    EdgelidError
        If the device would refuse it.
    """
    try:
        graph = open_model(draft)
    except EdgelidError as error:
        said = str(error).partition("as its graph ")[2] or str(error)
        reason = re.sub(
            r"\(number (\d+)\)",
            lambda found: operator_name(int(found[1])),
            said.removesuffix(": convert it again."),
        )
        kinds = dict.fromkeys(type(layer).__name__ for layer in network.layers)
        raise EdgelidError(
            f"the device would refuse what this network of {', '.join(kinds)} becomes, as its "
            f"graph {reason}: build it of other layers; nothing was written"
        ) from error
    assert isinstance(graph, WindowGraph)
    return graph


def _compared(
    scores: Scores,
    graph: WindowGraph,
    own: OwnRecordings,
    front_end: FrontEnd,
    labels: tuple[str, ...],
) -> Agreement:
    """The network against what it was converted to, on files that it was not quantised with."""
    windows, of = [], []
    for each in own.held_out:
        for window in whole_windows(
            front_end.log_mel(each.samples), scores.fed.frames, front_end.silence
        ):
            windows.append(window)
            of.append(each)
    log.info(
        "comparing before and after over %d windows of %d other recordings",
        len(windows),
        len(own.held_out),
    )
    floats = log_probabilities(scores, windows)
    found = np.stack([graph.scores(window) for window in windows])
    converted = np.log(softmax(found) + 1e-30)
    if not own.labelled:
        return agreement(floats, converted)
    wanted = np.array([labels.index(str(each.label)) for each in of])
    return judged(floats, converted, wanted, [each.speaker for each in of])


def _proof(
    window: str, found: Agreement, notes: tuple[str, ...], apart: Apart, limits: Limits
) -> OwnProof:
    return OwnProof(
        {window: found},
        [],
        [],
        None,
        {},
        limits,
        notes=notes,
        floats=apart.floats,
        suffering=tuple(
            f"{each.name} (in float32, {each.moved:g} of the probability moves)"
            for each in apart.suffering
        ),
    )


def how_fed(network: Any, told: NetworkDescription) -> Fed:
    """How the network takes a window.

    Raises
    ------
    EdgelidError
        If its input is not of frames and mel bands, or its output not of the labels.
    """
    taken = single_input(network)
    shape, mels = taken[1:], told.front_end.features
    sizes = [n for n in (shape[:-1] if shape[-1:] == (COLOURS,) else shape) if n != 1]
    if len(sizes) == 1 and (sizes[0] is None or sizes[0] > LONGEST_FRAMES):
        raise EdgelidError(
            f"the network takes {taken}, which looks like audio itself: save the part that follows "
            "its features, and describe those (docs/converting.md)"
        )
    if len(sizes) != 2 or None in sizes or mels not in sizes:
        raise EdgelidError(
            f"the network takes {taken}, which must be (batch, frames, {mels}) or (batch, {mels}, "
            "frames): a fixed number of frames, and as many mel bands as the description's front "
            "end"
        )
    output_key(network, told.labels)
    turned = sizes[1] != mels or (sizes[0] == mels and told.bands_first)
    frames = sizes[0] if not turned else sizes[1]
    assert frames is not None
    return Fed(tuple(int(n) for n in shape if n is not None), int(frames), turned)
