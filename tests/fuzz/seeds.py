"""The models that fuzzing starts from: of every kind, and small.

``python -m tests.fuzz.seeds`` writes them anew, which needs TensorFlow.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
MODELS = CORPUS / "model"
AUDIO = CORPUS / "audio"
STREAM_SEED = MODELS / "seed-stream.tflite"
WINDOW_SEED = MODELS / "seed-window.tflite"
LENGTHS_SEED = MODELS / "seed-lengths.tflite"  # takes windows of 10 to 40 frames


def main() -> int:
    """Write all seeds."""
    import keras
    import numpy as np

    from convert.streaming_graph import (
        any_window_function,
        any_window_to_tflite,
        window_to_tflite,
    )
    from edge.model.modelfile import (
        LENGTHS_FORMAT_VERSION,
        WINDOW_FORMAT_VERSION,
        Calibration,
        DecoderDefaults,
        Description,
        StreamSpec,
        pack_model,
    )
    from tests.convert.test_architectures import FILTERBANK, FRONT_END, LABELS, converted
    from train.architecture import ModelConfig, Stage

    MODELS.mkdir(parents=True, exist_ok=True)
    stage = Stage(channels=4, kernel=2, stride=2, entry_kernel=6, blocks=1, delay=0)
    model, _ = converted(ModelConfig(FRONT_END.mels, (stage,), 3, 8))
    written = pack_model(model.graph, model.labels, model.description, model.filterbank)
    STREAM_SEED.write_bytes(written)

    frames, mels = 20, FRONT_END.mels
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((frames, mels)),
            layers.Conv1D(4, 3, 2, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(len(LABELS)),
        ]
    )
    rng = np.random.default_rng(0)
    windows = [rng.random((frames, mels), np.float32) for _ in range(4)]
    graph = window_to_tflite(network, (frames, mels), windows)
    window_s = frames * FRONT_END.hop_samples / FRONT_END.sample_rate_hz
    description = Description(
        format_version=WINDOW_FORMAT_VERSION,
        name="seed",
        front_end=FRONT_END,
        front_end_hash=model.description.front_end_hash,
        stream=StreamSpec(16, 1, frames, (window_s,), 0, ()),
        calibration=Calibration({f"{window_s:g}": 1.0}),
        decoder=DecoderDefaults(window_s=window_s),
    )
    WINDOW_SEED.write_bytes(pack_model(graph, LABELS, description, FILTERBANK))

    open_ended = keras.Sequential(
        [
            keras.Input((None, mels)),
            layers.Conv1D(4, 3, padding="same", activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(len(LABELS)),
        ]
    )
    graph = any_window_to_tflite(open_ended, any_window_function(open_ended, mels))
    windows_s = tuple(
        frames * FRONT_END.hop_samples / FRONT_END.sample_rate_hz for frames in (10, 20, 40)
    )
    several = replace(
        description,
        format_version=LENGTHS_FORMAT_VERSION,
        stream=StreamSpec(16, 1, 40, windows_s, 0, ()),
        calibration=Calibration({f"{length_s:g}": 1.0 + length_s for length_s in windows_s}),
    )
    LENGTHS_SEED.write_bytes(pack_model(graph, LABELS, several, FILTERBANK))
    return 0


if __name__ == "__main__":
    sys.exit(main())
