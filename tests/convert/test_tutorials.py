"""Networks as tutorials build them: each converts, is admitted by the device, and answers alike.

They are trained for a moment on tones that rise or fall, so that there is something to lose.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import convert.apart
import convert.cli
from convert.own_description import filterbank_of, front_end_of
from edge.classifier import StreamingClassifier
from edge.features import open_front_end
from edge.model.interpreter import open_model
from edge.model.modelfile import read_model
from tests.synthetic import speech, write_audio

pytestmark = pytest.mark.slow

LABELS = ("de", "en")
FRAMES, MELS = 100, 32
OWN = {"mels": MELS}
# As in any tutorial with `librosa`: 1 s at 22.05 kHz, bands before frames.
LIBROSA = {"sr": 22_050, "n_fft": 2048, "hop_length": 512, "n_mels": 64, "scale": "db", "ref": 1.0}
LIBROSA_FRAMES = 40
CEPSTRA = {"sr": 16_000, "n_fft": 512, "hop_length": 256, "n_mels": 40, "n_mfcc": 20}
CEPSTRA_FRAMES = 58


def sequence(*parts: Any, shape: tuple[int, ...] = (FRAMES, MELS)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *parts])


def functional(build: Callable[[Any], Any], shape: tuple[int, ...] = (FRAMES, MELS)) -> keras.Model:
    taken = keras.Input(shape)
    return keras.Model(taken, build(taken))


def picture(*parts: Any) -> keras.Model:
    return sequence(layers.Reshape((FRAMES, MELS, 1)), *parts)


def end(activation: str | None = "softmax") -> Any:
    return layers.Dense(2, activation=activation)


def statistics(x: Any) -> Any:
    mean = ops.mean(x, axis=1)
    return ops.concatenate([mean, ops.sqrt(ops.var(x, axis=1) + 1e-5)], axis=-1)


def block(x: Any) -> Any:
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x))
    return layers.LayerNormalization()(x + layers.Dense(x.shape[-1])(layers.Dense(32, "gelu")(x)))


def front(x: Any) -> Any:
    return layers.Conv1D(16, 5, 4, activation="relu")(x)


def residual(x: Any) -> Any:
    y = layers.BatchNormalization()(layers.Conv1D(16, 3, padding="same")(x))
    return layers.ReLU()(x + y)


def squeezed(x: Any) -> Any:
    gate = layers.Dense(16, "sigmoid")(layers.Dense(4, "relu")(ops.mean(x, axis=1)))
    return x * ops.expand_dims(gate, 1)


def attentive(x: Any) -> Any:
    weight = ops.softmax(layers.Dense(1)(layers.Dense(8, "tanh")(x)), axis=1)
    return ops.sum(weight * x, axis=1)


def instance(x: Any) -> Any:
    return (x - ops.mean(x, axis=1, keepdims=True)) / ops.sqrt(
        ops.var(x, axis=1, keepdims=True) + 1e-5
    )


def conv_2d(filters: int) -> list[Any]:
    return [layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D()]


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "2-D CNN, flattened": lambda: picture(*conv_2d(8), *conv_2d(8), layers.Flatten(), end()),
    "2-D CNN, averaged": lambda: picture(
        *conv_2d(8), *conv_2d(16), layers.GlobalAveragePooling2D(), end()
    ),
    "2-D CNN, normalised input": lambda: picture(
        layers.BatchNormalization(), *conv_2d(8), layers.GlobalMaxPooling2D(), end(None)
    ),
    "1-D CNN": lambda: sequence(
        layers.Conv1D(16, 5, 2, activation="relu"), layers.GlobalMaxPooling1D(), end()
    ),
    "dilated 1-D CNN (TCN)": lambda: functional(
        lambda x: end()(
            layers.GlobalAveragePooling1D()(
                layers.Conv1D(16, 3, dilation_rate=4, padding="causal", activation="relu")(front(x))
            )
        )
    ),
    "depthwise separable": lambda: sequence(
        layers.SeparableConv1D(16, 5, 2, activation="relu"),
        layers.GlobalAveragePooling1D(),
        end(),
    ),
    "residual": lambda: functional(
        lambda x: end()(layers.GlobalAveragePooling1D()(residual(front(x))))
    ),
    "squeeze and excitation": lambda: functional(
        lambda x: end()(layers.GlobalAveragePooling1D()(squeezed(front(x))))
    ),
    "x-vector (statistics pooling)": lambda: functional(lambda x: end()(statistics(front(x)))),
    "attentive pooling": lambda: functional(lambda x: end()(attentive(front(x)))),
    "instance normalisation": lambda: functional(lambda x: end()(statistics(front(instance(x))))),
    "two attention blocks": lambda: functional(
        lambda x: end()(layers.GlobalAveragePooling1D()(block(block(front(x)))))
    ),
    "GRU": lambda: functional(lambda x: end()(layers.GRU(12)(front(x)))),
    "LSTM": lambda: functional(lambda x: end()(layers.LSTM(12)(front(x)))),
    "bidirectional GRU": lambda: functional(
        lambda x: end()(layers.Bidirectional(layers.GRU(8))(front(x)))
    ),
    "CRNN": lambda: picture(
        layers.Conv2D(8, 3, activation="relu", padding="same"),
        layers.MaxPooling2D((4, 4)),
        layers.Reshape((25, 64)),
        layers.LSTM(12),
        end(),
    ),
    "recurrence of steps": lambda: functional(
        lambda x: end()(statistics(layers.SimpleRNN(8, return_sequences=True)(front(x))))
    ),
    "multi-layer perceptron": lambda: sequence(
        layers.Flatten(), layers.Dense(32, "relu"), layers.Dropout(0.3), end()
    ),
    "noise and shifts in training": lambda: picture(
        layers.GaussianNoise(0.2),
        layers.RandomTranslation(0.1, 0.0),
        *conv_2d(8),
        layers.GlobalMaxPooling2D(),
        end(),
    ),
    "half precision": lambda: sequence(
        layers.Conv1D(16, 5, 2, activation="relu", dtype="mixed_float16"),
        layers.GlobalMaxPooling1D(),
        end(),
    ),
    "network in a network": lambda: functional(
        lambda x: keras.Sequential([keras.Input((2,)), layers.Softmax()])(
            sequence(
                layers.Conv1D(16, 5, 2, activation="relu"),
                layers.GlobalMaxPooling1D(),
                layers.Dense(2),
            )(x)
        )
    ),
    "average of two branches": lambda: functional(
        lambda x: (
            (
                ops.softmax(layers.Dense(2)(statistics(front(x))))
                + ops.softmax(layers.Dense(2)(layers.GlobalMaxPooling1D()(front(x))))
            )
            / 2
        )
    ),
    "sigmoids": lambda: functional(lambda x: end("sigmoid")(layers.GlobalMaxPooling1D()(front(x)))),
    "one sigmoid": lambda: functional(
        lambda x: layers.Dense(1, "sigmoid")(layers.GlobalMaxPooling1D()(front(x)))
    ),
    "swish and GELU": lambda: functional(
        lambda x: end()(
            layers.GlobalAveragePooling1D()(
                layers.Conv1D(16, 3, activation="gelu")(
                    layers.Conv1D(16, 5, 4, activation="silu")(x)
                )
            )
        )
    ),
    "librosa's decibels, bands first": lambda: sequence(
        layers.Reshape((64, LIBROSA_FRAMES, 1)),
        layers.Rescaling(1 / 40, 0.5),
        *conv_2d(8),
        layers.GlobalMaxPooling2D(),
        end(),
        shape=(64, LIBROSA_FRAMES),
    ),
    "MFCC": lambda: sequence(
        layers.Normalization(mean=[0.0] * 20, variance=[900.0] * 20),
        layers.Conv1D(16, 5, 2, activation="relu"),
        layers.GlobalMaxPooling1D(),
        end(),
        shape=(CEPSTRA_FRAMES, 20),
    ),
}
FRONT_ENDS = {"librosa's decibels, bands first": LIBROSA, "MFCC": CEPSTRA}


@dataclass(frozen=True)
class Material:
    """Recordings in a folder, and more to train on."""

    folder: Path
    clips: dict[str, list[np.ndarray]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("own")
    for label in LABELS:
        for i in range(12):
            write_audio(folder / label / f"{i}.wav", speech(label, f"voice{i}", i, 1.5))
    clips = {label: [speech(label, f"other{i}", i, 1.5) for i in range(24)] for label in LABELS}
    return Material(folder, clips)


@pytest.fixture(autouse=True)
def _converted_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a process of its own, which loads TensorFlow anew each time.

    `test_tutorial_cnn.py` converts as the command does.
    """
    monkeypatch.setattr(convert.apart, "_run", lambda folder: convert.apart.main(str(folder)))


def fitted(network: Any, front_end: dict[str, Any], material: Material) -> Any:
    """The network after some steps on the same features as the device will compute."""
    config = front_end_of(front_end, "here")
    features = open_front_end(config, filterbank_of(config))
    shape = network.input_shape[1:]
    frames = max(n for n in shape if n is not None and n != config.features)
    windows, wanted = [], []
    for number, label in enumerate(LABELS):
        for clip in material.clips[label]:
            found = features.log_mel(clip)[-frames:]
            windows.append(found if shape[0] == frames else found.T)
            wanted.append(number)
    one = network.output_shape[-1] == 1
    last = network.layers[-1]
    logits = getattr(getattr(last, "activation", None), "__name__", "") == "linear"
    loss = (
        keras.losses.BinaryCrossentropy()
        if one
        else keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    )
    network.compile(keras.optimizers.Adam(0.01), loss)
    network.fit(np.stack(windows), np.array(wanted), epochs=8, batch_size=16, verbose=0)
    return network


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_what_the_device_has_no_operator_for(
    kind: str, material: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It converts; but what is written is tried before as the device tries it."""
    network = sequence(
        layers.Reshape((FRAMES, 8, 4, 1)),
        layers.Conv3D(2, 3, 2, activation="relu"),
        layers.GlobalAveragePooling3D(),
        end(),
    )
    network.save(tmp_path / "own.keras")
    (tmp_path / "own.json").write_text(json.dumps({"labels": LABELS, "front_end": OWN}))
    output = tmp_path / "own.tflite"
    arguments = [
        *(str(tmp_path / "own.keras"), "--description", str(tmp_path / "own.json")),
        *("--mode", "window", "--type", kind, "--representative", str(material.folder)),
        *("--output", str(output)),
    ]
    assert convert.cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert "the device would refuse what this network of Reshape, Conv3D, GlobalAvera" in error
    assert "its graph has an operator CONV_3D that edgelid does not admit" in error
    assert "Traceback" not in error
    assert not output.exists()


# In float32 little can go wrong, but for what is rewritten on the way.
IN_FLOAT32 = (
    "x-vector (statistics pooling)",
    "two attention blocks",
    "GRU",
    "CRNN",
    "half precision",
    "MFCC",
)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "int8") for name in NETWORKS), *((name, "float32") for name in IN_FLOAT32)],
)
def test_converts(
    name: str,
    kind: str,
    material: Material,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    keras.utils.set_random_seed(4)
    front_end = FRONT_ENDS.get(name, OWN)
    network = fitted(NETWORKS[name](), front_end, material)
    network.save(tmp_path / "own.keras")
    (tmp_path / "own.json").write_text(json.dumps({"labels": LABELS, "front_end": front_end}))
    output = tmp_path / "own.tflite"
    arguments = [
        *(str(tmp_path / "own.keras"), "--description", str(tmp_path / "own.json")),
        *("--mode", "window", "--type", kind, "--representative", str(material.folder)),
        *("--output", str(output), "--json"),
    ]
    assert convert.cli.main(arguments) == 0
    proof = json.loads(capsys.readouterr().out)
    (found,) = proof["windows"].values()
    # For tests.convert.tutorial_table, by `--junitxml`.
    facts = {**found, "bytes": output.stat().st_size, "floats": proof["floats"]}
    record_property("proof", json.dumps(facts))
    assert found["mean_difference"] < (0.025 if kind == "int8" else 1e-3)
    assert found["chance"] == pytest.approx(0.5, abs=0.05)
    assert found["accuracy_converted"] > found["accuracy_trained"] - 0.1
    model = read_model(output)
    classifier = StreamingClassifier(
        model, open_model(model), [model.description.stream.windows_s[0]]
    )
    heard = [*classifier.process(speech("de", "dora", 1, 2.5)), *classifier.flush()]
    assert len(heard) > 10
    assert all(np.isfinite(each[0].probabilities).all() for each in heard)
