"""Description of a model file, for ``edgelid info``."""

from __future__ import annotations

from typing import Any

from edge.languages import language_name
from edge.model.interpreter import Runtime
from edge.model.modelfile import ModelFile


def describe(model: ModelFile, runtime: Runtime) -> dict[str, Any]:
    """Facts of a model, once it has been built, so that they are true.

    Parameters
    ----------
    model : ModelFile
    runtime : Runtime
        That could run it.
    """
    description = model.description
    front_end, stream = description.front_end, description.stream
    frame_s = front_end.hop_samples / front_end.sample_rate_hz
    return {
        "path": str(model.path),
        "name": description.name,
        "format_version": description.format_version,
        "mode": description.mode,
        "size_bytes": model.size_bytes,
        "sha256": model.sha256,
        "labels": list(model.labels),
        "mels": front_end.mels,
        "front_end_hash": description.front_end_hash,
        "hop_s": round(stream.hop_frames * frame_s, 4),
        "embedding_s": round(description.embedding_s, 4),
        "receptive_field_s": round(stream.receptive_field_frames * frame_s, 4),
        "windows_s": list(stream.windows_s),
        "temperatures": description.calibration.temperatures,
        "decoder": vars(description.decoder),
        "metrics": description.metrics,
        "provenance": description.provenance,
        "licence": description.licence,
        "interpreter": str(runtime),
    }


def table(facts: dict[str, Any]) -> list[str]:
    """The facts that a person looks for, as lines."""
    languages = ", ".join(f"{label} ({language_name(label)})" for label in facts["labels"])
    rows = {
        "model": f"{facts['name']} (format {facts['format_version']}, {facts['licence']})",
        "file": f"{facts['path']}, {facts['size_bytes'] / 1000:.0f} kB",
        "sha256": facts["sha256"],
        "classes": languages,
        "front end": f"{facts['mels']} mel bands, hash {facts['front_end_hash'][:16]}",
        "hop": f"{facts['hop_s'] * 1000:.0f} ms",
        "receptive field": f"{facts['receptive_field_s']:.2f} s",
        "windows": ", ".join(f"{w:g} s" for w in facts["windows_s"]),
        "interpreter": facts["interpreter"],
    }
    lines = [f"{name:<16} {value}" for name, value in rows.items()]
    return lines + [f"{name:<16} {value}" for name, value in metric_rows(facts["metrics"])]


def metric_rows(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """Measured accuracy by duration, where the file has it."""
    by_duration = metrics.get("accuracy_by_duration", {})
    if not by_duration:
        return []
    text = ", ".join(f"{duration} s: {value:.1%}" for duration, value in by_duration.items())
    return [("macro accuracy", f"{text} ({metrics.get('measured_on', 'not told on what')})")]
