"""The ceiling: what a linear head makes of a teacher's own frames, layer by layer.

No student can be expected to know more of languages than its teacher's frames say to such a head.
Every window is encoded alone, and pooled to the mean and deviation of each layer's frames; a head
is fitted to windows of training speech, as it came, and scored on the speech held out for
decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from edge.errors import EdgelidError
from edge.model.modelfile import NONSPEECH, OTHER
from train.waveforms.bank import Segments
from train.waveforms.draws import macro_accuracy
from train.waveforms.judge import LENGTHS_S, whole
from train.waveforms.large import large_front_end, load_large
from train.waveforms.linear import Linear
from train.waveforms.published import read_whisper
from train.waveforms.sound import filterbank, log_mel, samples_of
from train.waveforms.whisper import normalised
from train.waveforms.whisper_languages import whole_encoder
from train.waveforms.windows import Forward, Windows, held_out_windows, training_windows

Report = dict[str, Any]


def pooled(encoder: Any) -> Callable[[Any], Any]:
    """From waveforms to mean and deviation of each layer's frames, (batch, layers, 2 * dim)."""
    front_end = large_front_end()
    filters = ops.convert_to_tensor(filterbank(front_end))

    def call(wave: Any) -> Any:
        layers = encoder.outputs(normalised(log_mel(wave, front_end, filters)))
        parts = []
        for frames in layers:  # (batch, tokens, dim)
            x = ops.cast(frames, "float32")
            deviation = ops.sqrt(ops.var(x, axis=1) + 1e-5)
            parts.append(ops.concatenate([ops.mean(x, axis=1), deviation], axis=-1))
        return ops.stack(parts, axis=1)

    return call


def ceiling(
    config: dict[str, Any],
    segments: Segments,
    weights: Path,
    large: Path | None,
    per_language: int,
    most: int,
) -> Report:
    """Accuracy of linear heads on the frames of a Whisper, and of a large model of ours.

    Parameters
    ----------
    config : dict
        As ``train/configs/large.toml``.
    segments : Segments
        The decoded bank.
    weights : Path
        Whisper's, of any size, see `train.waveforms.published.read_whisper`.
    large : Path or None
        Checkpoint of a large model, which is also scored with its own head.
    per_language : int
        Training windows of each language and duration.
    most : int
        Development windows a source and duration.

    Returns
    -------
    dict
        ``windows`` has the numbers of windows by duration; ``rows`` what was scored, each with its
        name and, by duration, the figures of `train.waveforms.draws.macro_accuracy`, and the macro
        accuracy of speech of people and of machines (``natural``, ``synthetic``).
    """
    try:
        languages, seed = config["data"]["languages"], config["seed"]
        penalty = config["large"]["head_penalty"]
    except (KeyError, TypeError) as error:
        raise EdgelidError(
            "the configuration is not one of the large model: give train/configs/large.toml or "
            "one like it"
        ) from error
    labels = [*languages, OTHER, NONSPEECH]
    teachers: list[tuple[str, Any]] = [("Whisper", whole_encoder(read_whisper(weights)))]
    own = None
    if large is not None:
        own, known = load_large(large)
        if known != labels:
            raise EdgelidError(f"{large} and the configuration differ in their languages")
        teachers.append(("large model", own.encoder))
    rows: dict[str, dict[str, Any]] = {}
    counts = {}
    kinds = {f"{row['language']}/{row['source']}": row["kind"] for row in segments.rows}
    for s in LENGTHS_S:
        samples = samples_of(round(s * 100))
        fitted = training_windows(segments, labels, samples, per_language, seed)
        judged = held_out_windows(segments, labels, samples, most)
        counts[f"{s:g}"] = {"train": len(fitted.starts), "development": len(judged.starts)}

        def keep(name: str, scores: np.ndarray, s: float = s, judged: Windows = judged) -> None:
            rows.setdefault(name, {})[f"{s:g}"] = _figures(scores, judged, labels, kinds)

        for teacher, encoder in teachers:
            forward = Forward(segments, pooled(encoder))
            x = forward.values(fitted, samples, f"{teacher}, {s:g} s, train")
            z = forward.values(judged, samples, f"{teacher}, {s:g} s, development")
            for i in range(x.shape[1]):
                head = Linear.fit(x[:, i], fitted.labels, penalty)
                keep(f"{teacher}, layer {i + 1}", head.scores(z[:, i]))
        if own is not None:
            front_end = large_front_end()
            call = whole(own, ops.convert_to_tensor(filterbank(front_end)), front_end)
            keep(
                "large model, its own head", Forward(segments, call).values(judged, samples, "head")
            )
    return {
        "languages": list(languages),
        "windows": counts,
        "rows": [{"frames": name, "durations": found} for name, found in rows.items()],
    }


def _figures(
    scores: np.ndarray, judged: Windows, labels: Sequence[str], kinds: dict[str, str]
) -> dict[str, Any]:
    languages = len(labels) - 2
    found = macro_accuracy(scores, judged.labels, judged.sources, languages)
    found["by_language"] = {labels[k]: v for k, v in found["by_language"].items()}
    synthetic = np.array([kinds[source] == "tts" for source in judged.sources])
    for name, chosen in (("natural", ~synthetic), ("synthetic", synthetic)):
        if chosen.any():
            sources = [s for s, here in zip(judged.sources, chosen, strict=True) if here]
            some = macro_accuracy(scores[chosen], judged.labels[chosen], sources, languages)
            found[name] = some["macro"]
    return found


def table(report: Report) -> Iterator[str]:
    """The main figures, as Markdown."""
    durations = list(report["windows"])
    shown = [f"{s} s" for s in durations] + [f"natural, {s} s" for s in durations]
    yield "| frames of | " + " | ".join(shown) + " |"
    yield "|---|" + "---:|" * len(shown)
    for row in report["rows"]:
        cells = [row["durations"][s]["macro"] for s in durations]
        cells += [row["durations"][s].get("natural") for s in durations]
        texts = ("" if value is None else f"{100 * value:.1f} %" for value in cells)
        yield f"| {row['frames']} | " + " | ".join(texts) + " |"
    best = max(
        report["rows"], key=lambda row: np.mean([d["macro"] for d in row["durations"].values()])
    )
    yield ""
    yield f"| {best['frames']}, by source | " + " | ".join(f"{s} s" for s in durations) + " |"
    yield "|---|" + "---:|" * len(durations)
    for source in sorted({name for d in best["durations"].values() for name in d["by_source"]}):
        values = (best["durations"][s]["by_source"].get(source) for s in durations)
        texts = ("" if value is None else f"{100 * value:.0f} %" for value in values)
        yield f"| {source} | " + " | ".join(texts) + " |"
