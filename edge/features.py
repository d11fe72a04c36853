"""Other people's features, streaming: what `librosa` and its like call a mel spectrogram and MFCC.

For networks that were trained elsewhere. Everything that a frame consists of is within its window,
so that it can be computed while someone speaks; what depends on a whole clip, such as its loudest
frame, has no place here. As in `edge.frontend`, the arithmetic is double precision, and any
partition of the audio into blocks gives the same frames.

Audio comes at 16 kHz; a network that wants another rate has it resampled on the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge.frontend import SAMPLE_RATE_HZ, Float32Array, Float64Array, FrontEnd, FrontEndConfig, Pace

SCALES = ("edgelid", "ln", "log10", "db", "amplitude_db", "linear")
WINDOWS = ("hann", "hamming", "blackman", "boxcar")
MEL_SCALES = ("slaney", "htk", "none")
NORMS = ("slaney", "none")
RATES_HZ = (4_000, 96_000)  # the lowest and the highest

# Of the resampler. It passes what soxr's "HQ", librosa's usual one, passes: up to 91 % of half of
# the lower rate; what would fold back is 120 dB lower (Kaiser 1974).
HALF_TAPS = 96
KAISER_BETA = 12.3
PASSED = 0.9565  # the middle of the slope
MAX_TAPS_BYTES = 4 << 20  # four times what rates of 11,025 Hz and its multiples need


@dataclass(frozen=True)
class ForeignConfig(FrontEndConfig):
    """Parameters of features that are not edgelid's.

    Attributes
    ----------
    sample_rate_hz : int
        That the audio is resampled to.
    scale : str
        ``edgelid``: ``log(1 + p / floor)``; ``ln`` and ``log10``: of ``p / reference``; ``db``: ten
        times the latter, and ``amplitude_db`` twenty times, of magnitudes; ``linear``: ``p``.
    floor : float
        The least that `p` is taken for, or, with `added`, what is added to it.
    reference : float
    added : bool
    power : float
        Exponent of the magnitudes that are summed in a band: 2, or 1.
    window : str
        One of `WINDOWS`.
    periodic : bool
        Whether the window is periodic, as for spectra, or symmetric.
    centred : bool
        Whether frame `t` has sample ``t * hop_samples`` in its middle, with silence before the
        first.
    mel : str
        ``slaney``, ``htk``, or ``none``: a band is a bin of the transform.
    norm : str
        ``slaney``, filters of equal area; or ``none``, of equal height.
    cepstra : int
        Coefficients of a discrete cosine transform of the bands; 0: the bands themselves.
    lifter : float
        See `librosa.feature.mfcc`; 0: none.
    mean, deviation : tuple of float
        That every feature has taken away and is then divided by: none, one for all, or one each.
    """

    scale: str = "db"
    reference: float = 1.0
    added: bool = False
    power: float = 2.0
    window: str = "hann"
    periodic: bool = True
    centred: bool = True
    mel: str = "slaney"
    norm: str = "slaney"
    cepstra: int = 0
    lifter: float = 0.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    @property
    def features(self) -> int:
        """Of a frame."""
        return self.cepstra or self.mels

    @property
    def lead_samples(self) -> int:
        """Silence before the first sample, at the features' rate."""
        if not self.centred:
            return 0
        # A window shorter than the transform lies in its middle.
        return self.fft_samples // 2 - (self.fft_samples - self.window_samples) // 2

    def check(self) -> None:
        """Refuse what cannot be.

        Raises
        ------
        ValueError
        """
        choices = (("scale", SCALES), ("window", WINDOWS), ("mel", MEL_SCALES), ("norm", NORMS))
        for name, known in choices:
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}")
        if not RATES_HZ[0] <= self.sample_rate_hz <= RATES_HZ[1]:
            raise ValueError(f"the sample rate must be {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
        up, _, half = _ratio(self.sample_rate_hz)
        if up * 2 * half * 8 > MAX_TAPS_BYTES:  # of double precision
            raise ValueError(
                f"to resample to {self.sample_rate_hz} Hz takes too much memory: train with a "
                "common rate, such as 16000, 22050 or 44100 Hz"
            )
        if self.power not in (1.0, 2.0):
            raise ValueError("power must be 1 or 2")
        if not (self.reference > 0 and math.isfinite(self.reference)):
            raise ValueError("the reference must be a number above 0")
        if not 0 <= self.cepstra <= self.mels:
            raise ValueError("there must be no more cepstra than mel bands")
        if not (self.lifter >= 0 and math.isfinite(self.lifter)):
            raise ValueError("lifter must be at least 0")
        for name in ("mean", "deviation"):
            values = getattr(self, name)
            if len(values) not in (0, 1, self.features) or not all(map(math.isfinite, values)):
                raise ValueError(f"{name} must be one number, or {self.features}")
        if not all(value > 0 for value in self.deviation):
            raise ValueError("the standard deviations must be above 0")


class ForeignFrontEnd(FrontEnd):
    """Turns blocks of samples into frames of other people's features.

    Parameters
    ----------
    config : ForeignConfig
    filterbank : ndarray, shape (mels, bins), float32
        As for :class:`edge.frontend.FrontEnd`.

    Raises
    ------
    ValueError
        If the filterbank does not fit the configuration or has an empty filter.
    """

    def __init__(self, config: ForeignConfig, filterbank: Float32Array) -> None:
        super().__init__(config, filterbank)
        self._foreign = config
        self._weights *= config.floor  # whose multiples the other ones are
        self._window = _window(config.window, config.window_samples, config.periodic)
        # Each filter's bins are summed by themselves: where a loud band is beside a silent one,
        # decibels show what the difference of two running sums leaves.
        order = np.argsort(self._starts)
        self._edges = 1 + np.stack([self._starts[order], self._stops[order]], axis=1).reshape(-1)
        self._back = np.argsort(order)
        self._cosines = _cosines(config)
        self._mean = np.array(config.mean or (0.0,))
        self._deviation = np.array(config.deviation or (1.0,))
        self._resampler = (
            None
            if config.sample_rate_hz == SAMPLE_RATE_HZ
            else FeatureResampler(config.sample_rate_hz)
        )
        self.reset()

    def reset(self) -> None:
        self._tail = np.zeros(self._foreign.lead_samples, np.float32)
        if self._resampler is not None:
            self._resampler.reset()

    @property
    def silence(self) -> Float32Array:
        """A frame of digital silence, shape (features,)."""
        frame: Float32Array = self._features(np.zeros((1, self._foreign.mels)))[0]
        return frame

    def missing_samples(self, frames: int) -> int:
        config = self._foreign
        missing = config.window_samples + (frames - 1) * config.hop_samples - len(self._tail)
        if self._resampler is None:
            return max(0, missing)
        return self._resampler.missing_samples(missing)

    def pace(self, frames: int) -> Pace:
        return _ForeignPace(self, frames)

    def mel_power(self, frames: Float64Array) -> Float64Array:
        """Power in bands, (n, mels), of windows of samples, (n, window_samples)."""
        config, count = self._foreign, len(frames)
        padded = np.zeros((count, config.fft_samples))
        np.multiply(frames, self._window, out=padded[:, : config.window_samples])
        spectrum = np.abs(np.fft.rfft(padded))
        # One more at the end, so that every edge is one of an element.
        width = self._weights.size + 1
        weighted = np.zeros((count, width))
        power = np.zeros((count, 1, 1 + config.bins))
        power[:, 0, 1:] = spectrum if config.power == 1.0 else spectrum * spectrum
        weighted[:, :-1] = (power * self._weights).reshape(count, -1)
        sums = np.add.reduceat(weighted, self._edges, axis=1)[:, ::2]
        bands: Float64Array = sums[:, self._back]
        return bands

    def log_mel(self, samples: Float32Array) -> Float32Array:
        """Frames of a stretch of audio at 16 kHz, without regard to what came before.

        Returns
        -------
        ndarray, shape (frames, features), float32
        """
        alone = ForeignFrontEnd.__new__(ForeignFrontEnd)
        alone.__dict__.update(self.__dict__)
        if self._resampler is not None:
            alone._resampler = FeatureResampler(self._foreign.sample_rate_hz)
        alone.reset()
        return alone.process(samples)

    def process(self, samples: Float32Array) -> Float32Array:
        config = self._foreign
        new = samples if self._resampler is None else self._resampler.process(samples)
        audio = np.concatenate([self._tail, new]).astype(np.float64)
        count = max(0, 1 + (len(audio) - config.window_samples) // config.hop_samples)
        self._tail = audio[count * config.hop_samples :].astype(np.float32)
        if count == 0:
            return np.empty((0, config.features), np.float32)
        strides = (config.hop_samples * audio.itemsize, audio.itemsize)
        windows = np.ndarray((count, config.window_samples), audio.dtype, audio, strides=strides)
        return self._features(self.mel_power(windows))

    def _features(self, power: Float64Array) -> Float32Array:
        """Of power in bands, (n, mels) to (n, features)."""
        values = _scaled(power, self._foreign)
        if self._foreign.cepstra:
            # Not a matrix product, whose order of summation depends on its shape.
            values = np.einsum("nm,km->nk", values, self._cosines)
        features: Float32Array = ((values - self._mean) / self._deviation).astype(np.float32)
        return features


@dataclass(frozen=True)
class _ForeignPace(Pace):
    """Of a rate of which a hop is no whole number of samples."""

    front_end: ForeignFrontEnd
    frames: int

    @property
    def samples(self) -> int:
        return self.front_end.missing_samples(self.frames)


def open_front_end(config: FrontEndConfig, filterbank: Float32Array) -> FrontEnd:
    """The front end of a configuration, edgelid's own or another.

    Raises
    ------
    ValueError
        As :class:`edge.frontend.FrontEnd`.
    """
    if isinstance(config, ForeignConfig):
        return ForeignFrontEnd(config, filterbank)
    return FrontEnd(config, filterbank)


def _scaled(power: Float64Array, config: ForeignConfig) -> Float64Array:
    if config.scale == "linear":
        return power
    if config.scale == "edgelid":
        return np.log(1 + power / config.floor)
    floored = power + config.floor if config.added else np.maximum(power, config.floor)
    if config.scale == "ln":
        return np.log(floored / config.reference)
    decades = np.log10(floored) - math.log10(config.reference)
    factor = {"log10": 1.0, "db": 10.0, "amplitude_db": 20.0}[config.scale]
    scaled: Float64Array = factor * decades
    return scaled


def _window(name: str, length: int, periodic: bool) -> Float64Array:
    """Sums of cosines (Harris 1978)."""
    terms = {
        "hann": (0.5, 0.5),
        "hamming": (0.54, 0.46),
        "blackman": (0.42, 0.5, 0.08),
        "boxcar": (1.0,),
    }[name]
    phase = 2 * np.pi * np.arange(length) / max(1, length if periodic else length - 1)
    total = np.zeros(length)
    for k, term in enumerate(terms):
        total += (-1) ** k * term * np.cos(k * phase)
    return total


def _cosines(config: ForeignConfig) -> Float64Array:
    """Orthonormal discrete cosine transform of the second type, (cepstra, mels), liftered."""
    k, m = np.arange(config.cepstra)[:, None], np.arange(config.mels)
    cosines = np.sqrt(2 / config.mels) * np.cos(np.pi * k * (m + 0.5) / config.mels)
    cosines[:1] /= np.sqrt(2)
    if config.lifter > 0:
        cosines *= 1 + config.lifter / 2 * np.sin(np.pi * (k + 1) / config.lifter)
    transform: Float64Array = cosines
    return transform


def _ratio(rate_hz: int) -> tuple[int, int, int]:
    """How many samples, at a rate, how many at 16 kHz become; and half the taps of each."""
    common = math.gcd(rate_hz, SAMPLE_RATE_HZ)
    half = math.ceil(HALF_TAPS / min(1.0, rate_hz / SAMPLE_RATE_HZ))
    return rate_hz // common, SAMPLE_RATE_HZ // common, half


class FeatureResampler:
    """Audio at 16 kHz, block by block, to another rate: a windowed sinc, one phase a sample.

    Parameters
    ----------
    rate_hz : int
    """

    def __init__(self, rate_hz: int) -> None:
        self._up, self._down, half = _ratio(rate_hz)
        passed = PASSED * min(1.0, rate_hz / SAMPLE_RATE_HZ)
        self._half = half
        # Of phase p, weights of the samples from half - 1 before to half behind, (up, 2 half).
        offsets = np.arange(1 - half, half + 1) - np.arange(self._up)[:, None] / self._up
        shape = np.i0(KAISER_BETA * np.sqrt(np.maximum(0, 1 - (offsets / half) ** 2)))
        self._taps = passed * np.sinc(passed * offsets) * shape / np.i0(KAISER_BETA)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._audio = np.zeros(self._half - 1)  # silence before the first sample
        self._first = 1 - self._half  # which sample of the stream that begins with
        self._next = 0  # sample to give

    def missing_samples(self, count: int) -> int:
        """Samples still to come until so many more can be given."""
        if count <= 0:
            return 0
        last = (self._next + count - 1) * self._down // self._up
        return max(0, last + self._half + 1 - (self._first + len(self._audio)))

    def process(self, samples: Float32Array) -> Float32Array:
        """Take the next samples and give those that they complete.

        Parameters
        ----------
        samples : ndarray, shape (n,), float32

        Returns
        -------
        ndarray, shape (m,), float32
        """
        audio = np.concatenate([self._audio, samples])
        known = self._first + len(audio) - self._half  # a sample must have so many behind it
        count = max(0, -(-known * self._up // self._down) - self._next)
        numbers = (self._next + np.arange(count)) * self._down
        places = numbers // self._up
        given = np.zeros(0, np.float32)
        if count:
            spans = np.lib.stride_tricks.sliding_window_view(audio, 2 * self._half)
            chosen = spans[places + 1 - self._half - self._first]
            given = np.einsum("ij,ij->i", chosen, self._taps[numbers % self._up])
            given = given.astype(np.float32)
        self._next += count
        following = self._next * self._down // self._up + 1 - self._half
        self._audio = audio[following - self._first :].copy()
        self._first = following
        return given


def audio_samples(config: FrontEndConfig, frames: int) -> int:
    """Samples at 16 kHz that bring so many frames of a stream from its start on."""
    if not isinstance(config, ForeignConfig):
        return config.window_samples + (frames - 1) * config.hop_samples
    wanted = config.window_samples + (frames - 1) * config.hop_samples - config.lead_samples
    if config.sample_rate_hz == SAMPLE_RATE_HZ:
        return max(0, wanted)
    # As its `missing_samples` says at the start, without its taps.
    up, down, half = _ratio(config.sample_rate_hz)
    return (wanted - 1) * down // up + half + 1 if wanted > 0 else 0


def most_samples(config: FrontEndConfig, frames: int) -> int:
    """The most samples at 16 kHz that any hop of so many frames needs."""
    first = audio_samples(config, frames)
    if not isinstance(config, ForeignConfig):
        return first
    hop = math.ceil(frames * config.hop_samples * SAMPLE_RATE_HZ / config.sample_rate_hz)
    return max(first, audio_samples(config, 1), hop) + 1


def samples_ahead(config: FrontEndConfig) -> int:
    """Samples at 16 kHz behind the end of a hop that have come, at the least, with its frame."""
    hop = config.hop_samples * SAMPLE_RATE_HZ / config.sample_rate_hz
    ahead = math.floor(audio_samples(config, 1) - hop)
    return ahead if hop.is_integer() else ahead - 1  # some frames need one sample less
