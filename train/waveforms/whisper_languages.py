"""Whisper whole, as far as it tells languages: encoder, one step of the decoder, rows of tokens.

Asked for the first token behind ``<|startoftranscript|>``, Whisper names the language (Radford et
al. 2023, section 2.3), or says that nothing is spoken. That first step hears nothing but the
encoder: attention to itself has one place to attend to, and so is a product of two matrices, and
up to the first look at the audio all is the same for any audio. A step has one query; so keys and
values are never computed: a head's query goes through the keys' matrix once, and its mean of the
encoder's output through the values' (which is the same sum in another order).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from edge.errors import EdgelidError
from edge.model.modelfile import NONSPEECH, OTHER
from train.waveforms.decoder import FAR
from train.waveforms.whisper import Arrays, Encoder, normalised

HEAD_DIM = 64  # of all sizes of Whisper
# Tokens of the multilingual vocabulary, in its order from the first on (51,865 in all; a language
# that was added later is behind these).
START_TOKEN = 50_258
TOKENS = 51_865
_CODES = (  # its ``jw`` is ``jv`` in ISO 639-1
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th "
    "ur hr bg lt la mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr "
    "pa si km sn yo so af oc ka be tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt "
    "haw ln ha ba jv su"
)
LANGUAGES = tuple(_CODES.split())
ROWS = len(LANGUAGES) + 1  # and that nothing is spoken
NO_SPEECH_TOKEN = START_TOKEN + 1 + len(LANGUAGES) + 4
# Whisper was trained to say that nothing is spoken of whole half minutes. Of 3 s it does so too
# readily: without this, of one cut of development speech in ten, and of only every other of noise.
NO_SPEECH_BIAS = -3.0


class Parts(NamedTuple):
    """What is computed on the way through a layer of the decoder, all of it (batch, ...).

    Attributes
    ----------
    queries : tensor, shape (batch, heads, dim / heads)
        Scaled.
    values : tensor, shape (batch, heads, dim / heads)
        What each head found.
    attended : tensor, shape (batch, dim)
        Behind the look at the audio.
    hidden : tensor, shape (batch, 4 * dim)
        Of the feed-forward part, before its activation.
    output : tensor, shape (batch, dim)
    """

    queries: Any
    values: Any
    attended: Any
    hidden: Any
    output: Any


class Step(keras.layers.Layer):  # type: ignore[misc]
    """A layer of the decoder, in its first step.

    Parameters
    ----------
    dim, heads : int
    """

    def __init__(self, dim: int, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads

        def norm(name: str) -> Any:
            return keras.layers.LayerNormalization(epsilon=1e-5, name=name)

        self.own_norm, self.cross_norm, self.feed_norm = norm("sn"), norm("cn"), norm("fn")
        self.own = keras.layers.Dense(dim, name="own")
        self.query = keras.layers.Dense(dim, name="query")
        self.keys = [keras.layers.Dense(dim, use_bias=False, name=f"key_{i}") for i in range(heads)]
        self.values = [keras.layers.Dense(dim // heads, name=f"value_{i}") for i in range(heads)]
        self.out = keras.layers.Dense(dim, name="out")
        self.up = keras.layers.Dense(4 * dim, name="up")
        self.down = keras.layers.Dense(dim, name="down")
        for part in (self.own_norm, self.cross_norm, self.feed_norm, self.own, self.query):
            part.build((None, dim))
        for part in (self.out, self.up, *self.values):
            part.build((None, dim))
        for key in self.keys:
            key.build((None, dim // heads))
        self.down.build((None, 4 * dim))
        self.built = True

    def call(self, x: Any, heard: Any, within: Any | None = None) -> Any:
        """What comes of the token, shape (batch, dim), by the encoder's output.

        Parameters
        ----------
        x : tensor, shape (batch, dim)
        heard : tensor, shape (batch, tokens, dim)
        within : tensor, shape (batch, tokens), optional
            One for a token that it may look at, zero for another.
        """
        return self.parts(x, heard, within).output

    def parts(self, x: Any, heard: Any, within: Any | None = None) -> Parts:
        """The same, with all that is computed on the way."""
        x = x + self.own(self.own_norm(x))
        queries = ops.split(self.query(self.cross_norm(x)), self.heads, axis=-1)
        asked = ops.stack(
            [key(query) for key, query in zip(self.keys, queries, strict=True)], axis=1
        )  # (batch, heads, dim)
        scores = ops.matmul(asked, ops.transpose(heard, (0, 2, 1)))  # (batch, heads, tokens)
        if within is not None:
            scores = scores + (1 - within[:, None]) * FAR
        means = ops.matmul(ops.softmax(scores), heard)  # (batch, heads, dim)
        found = [value(means[:, i]) for i, value in enumerate(self.values)]
        x = x + self.out(ops.concatenate(found, axis=-1))
        hidden = self.up(self.feed_norm(x))
        output = x + self.down(ops.gelu(hidden, approximate=True))
        return Parts(ops.stack(queries, axis=1), ops.stack(found, axis=1), x, hidden, output)

    def load(self, arrays: Arrays, name: str) -> None:
        """Take over weights named as in :func:`train.waveforms.published.read_whisper`."""
        own, cross, feed = (f"{name}/{part}" for part in ("self_attention", "attention", "ffn"))
        for norm, part in (
            (self.own_norm, own),
            (self.cross_norm, cross),
            (self.feed_norm, feed),
        ):
            norm.set_weights(_norm(arrays, part))
        dim = len(arrays[f"{own}/linear_1/bias"])
        value, value_bias = (part[..., 2 * dim :] for part in _linear(arrays, f"{own}/linear_0"))
        out, out_bias = _linear(arrays, f"{own}/linear_1")
        self.own.set_weights([value @ out, value_bias @ out + out_bias])
        # The scale of the scores is in the query; a bias of the keys moves all scores alike.
        scale = np.float32((dim // self.heads) ** -0.5)
        self.query.set_weights([part * scale for part in _linear(arrays, f"{cross}/linear_0")])
        both, both_bias = _linear(arrays, f"{cross}/linear_1")  # (dim, 2 * dim): keys, values
        keys = np.split(both[:, :dim], self.heads, axis=1)
        values = np.split(both[:, dim:], self.heads, axis=1)
        biases = np.split(both_bias[dim:], self.heads)
        for layer, kernel in zip(self.keys, keys, strict=True):
            layer.set_weights([np.ascontiguousarray(kernel.T)])
        for layer, kernel, bias in zip(self.values, values, biases, strict=True):
            layer.set_weights([np.ascontiguousarray(kernel), bias])
        self.out.set_weights(_linear(arrays, f"{cross}/linear_2"))
        self.up.set_weights(_linear(arrays, f"{feed}/linear_0"))
        self.down.set_weights(_linear(arrays, f"{feed}/linear_1"))


class WhisperLanguages(keras.Model):  # type: ignore[misc]
    """Windows of log-mel frames to scores of languages, and of nothing being spoken.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Of :func:`train.waveforms.published.read_whisper`.
    languages : sequence of str
        Of `LANGUAGES`: classes of their own. The rest together is the class ``other``.
    precision : str
        Keras' policy, of the encoder.

    Attributes
    ----------
    labels : tuple of str
        In the order of the scores.
    mels : int

    Raises
    ------
    EdgelidError
        If the weights are not of a Whisper that knows these languages.
    """

    def __init__(
        self, arrays: Arrays, languages: Sequence[str] = LANGUAGES, precision: str = "float32"
    ) -> None:
        super().__init__(name="whisper")
        check_weights(arrays)
        dim, self.mels = arrays["encoder/conv1/weight"].shape[:2]
        heads = dim // HEAD_DIM
        self.encoder = _empty_encoder(arrays, precision)
        self.heard_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="heard_norm")
        steps = _count(arrays, "decoder")
        self.steps_ = [Step(dim, heads, name=f"step_{i}") for i in range(steps)]
        self.last_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="last_norm")
        others = [language for language in LANGUAGES if language not in languages]
        rows = [*languages, *others]
        self.languages = len(languages)
        self.labels = (*languages, *((OTHER,) if others else ()), NONSPEECH)
        self.rows = keras.layers.Dense(ROWS, name="rows")
        for norm in (self.heard_norm, self.last_norm):
            norm.build((None, dim))
        self.rows.build((None, dim))
        try:
            self._load(arrays, rows)
        except KeyError as error:
            raise EdgelidError(
                f"the weights lack {error.args[0]}: give all of Whisper's"
            ) from error
        except ValueError as error:
            raise EdgelidError("the weights do not fit each other: give Whisper's") from error
        self.built = True

    def _load(self, arrays: Arrays, rows: Sequence[str]) -> None:
        self.encoder.load(arrays)
        self.heard_norm.set_weights(_norm(arrays, "encoder"))
        self.last_norm.set_weights(_norm(arrays, "decoder"))
        for i, step in enumerate(self.steps_):
            step.load(arrays, f"decoder/layer_{i}")
        tokens = [START_TOKEN + 1 + LANGUAGES.index(language) for language in rows]
        embeddings = arrays["decoder/embeddings/weight"].astype(np.float32)
        bias = np.append(np.zeros(len(rows), np.float32), np.float32(NO_SPEECH_BIAS))
        self.rows.set_weights([embeddings[[*tokens, NO_SPEECH_TOKEN]].T, bias])
        places = arrays["decoder/position_encodings/encodings"].astype(np.float32)
        self.start = (embeddings[START_TOKEN] + places[0])[None]  # (1, dim)

    def call(self, log_mel: Any) -> Any:
        """Scores of windows, shape (batch, classes).

        Parameters
        ----------
        log_mel : tensor, shape (batch, frames, mels)
            ``log(1 + power / FLOOR)``; an even number of frames.
        """
        return self.classes(self.decoded(self.heard(log_mel)))

    def heard(self, log_mel: Any) -> Any:
        """What the decoder reads of windows, shape (batch, tokens, dim).

        Parameters
        ----------
        log_mel : tensor, shape (batch, frames, mels)
            ``log(1 + power / FLOOR)``; an even number of frames.
        """
        return self.heard_norm(ops.cast(self.encoder(normalised(log_mel)), "float32"))

    def decoded(self, heard: Any, within: Any | None = None) -> Any:
        """Scores of all rows, shape (batch, rows): classes of their own, other languages, silence.

        Parameters
        ----------
        heard : tensor, shape (batch, tokens, dim)
            What the encoder puts out, normalised.
        within : tensor, shape (batch, tokens), optional
            One for a token that the decoder may look at, zero for another.
        """
        x = self.begun(heard)
        for step in self.steps_:
            x = step(x, heard, within)
        return self.rows(self.last_norm(x))

    def heard_from(self, layers: int, tokens: Any) -> Any:
        """What the decoder reads, (batch, tokens, dim), of tokens of that many of the layers.

        Parameters
        ----------
        layers : int
        tokens : tensor, shape (batch, tokens, dim)
            Of Whisper's own layers, or of those of a model that began as these.
        """
        for layer in self.encoder.stack[layers:]:
            tokens = layer(tokens)
        return self.heard_norm(tokens)

    def classes(self, scores: Any) -> Any:
        """Scores of the classes, from those of all rows."""
        return classes_of(scores, self.languages)

    def begun(self, heard: Any) -> Any:
        """What the decoder begins with, for each window that was heard, shape (batch, dim)."""
        return ops.zeros_like(heard[:, 0]) + ops.convert_to_tensor(self.start)


def whole_encoder(arrays: Arrays) -> Encoder:
    """All layers of the encoder of a Whisper of any size.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Of :func:`train.waveforms.published.read_whisper`.

    Raises
    ------
    EdgelidError
        If the weights are not those of an encoder.
    """
    try:
        encoder = _empty_encoder(arrays)
        encoder.load(arrays)
    except KeyError as error:
        raise EdgelidError(f"the weights lack {error.args[0]}: give Whisper's") from error
    return encoder


def _empty_encoder(arrays: Arrays, precision: str = "float32") -> Encoder:
    """One of the size of the weights, which are not in it yet."""
    dim, mels = arrays["encoder/conv1/weight"].shape[:2]
    return Encoder(_count(arrays, "encoder"), dim, dim // HEAD_DIM, precision, mels)


def classes_of(scores: Any, languages: int) -> Any:
    """Scores of the classes, shape (batch, classes), from those of all rows.

    Parameters
    ----------
    scores : tensor, shape (batch, rows)
        Of the languages that are classes of their own, of others, if there are any, and of nothing
        being spoken.
    languages : int
        That are classes of their own.
    """
    rest = scores[:, languages:-1]
    if not rest.shape[1]:
        return scores
    loudest = ops.max(rest, axis=-1, keepdims=True)
    other = loudest + ops.log(ops.sum(ops.exp(rest - loudest), axis=-1, keepdims=True))
    return ops.concatenate([scores[:, :languages], other, scores[:, -1:]], axis=-1)


def check_weights(arrays: Arrays) -> None:
    """Refuse what is no Whisper of many languages.

    Raises
    ------
    EdgelidError
        If parts are missing, or of other shapes.
    """
    embeddings = arrays.get("decoder/embeddings/weight")
    if embeddings is None or "encoder/layer_norm/gamma" not in arrays:
        raise EdgelidError("the weights lack a decoder: give all of Whisper's, not the encoder's")
    if embeddings.shape[0] != TOKENS:
        raise EdgelidError(
            f"the weights know {embeddings.shape[0]} tokens, which must be {TOKENS}: give those of "
            "a multilingual Whisper before large-v3, such as base"
        )
    kinds = {name for name, array in arrays.items() if array.dtype.kind != "f" and array.ndim > 1}
    if kinds:
        raise EdgelidError("the weights are quantised already: give them in float16 or float32")


def _count(arrays: Arrays, side: str) -> int:
    """Layers of the encoder or the decoder."""
    layers = {name.split("/")[1] for name in arrays if name.startswith(f"{side}/layer_")}
    return len(layers - {"layer_norm"})


def _norm(arrays: Arrays, name: str) -> list[np.ndarray]:
    return [arrays[f"{name}/layer_norm/{part}"].astype(np.float32) for part in ("gamma", "beta")]


def _linear(arrays: Arrays, name: str) -> list[np.ndarray]:
    """Kernel, shape (in, out), and bias."""
    weight, bias = (arrays[f"{name}/{part}"].astype(np.float32) for part in ("weight", "bias"))
    return [np.ascontiguousarray(weight.T), bias]
