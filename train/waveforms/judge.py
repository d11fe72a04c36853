"""Scores on the speech held out for decisions, while training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from edge.errors import EdgelidError
from edge.frontend import FrontEndConfig
from train.waveforms.bank import Segments
from train.waveforms.draws import development_windows, macro_accuracy
from train.waveforms.sound import log_mel, samples_of
from train.waveforms.stepper import compiled, with_values

LENGTHS_S = (1.0, 3.0, 10.0)
MOST_PER_SPEAKER = 12  # windows


class _Together:
    """Models as one, for their variables."""

    def __init__(self, models: list[Any]) -> None:
        self.variables = [v for m in models for v in m.variables]


def select(score: dict[str, Any]) -> float:
    """The one number that picks a checkpoint."""
    return round(float(np.mean([v["macro"] for v in score.values()])), 4)


def whole(model: Any, filters: Any, front_end: FrontEndConfig) -> Callable[[Any], Any]:
    """From waveforms to scores of the large model, which hears each in one piece."""
    return lambda wave: model(log_mel(wave, front_end, filters))


def streamed(
    trunk: Any, head: Any, filters: Any, front_end: FrontEndConfig
) -> Callable[[Any], Any]:
    """From waveforms to scores of the compact model."""
    from train.model.network import pool

    def call(wave: Any) -> Any:
        frames = log_mel(wave, front_end, filters)
        stride = trunk.config.stride
        frames = ops.pad(frames, ((0, 0), (0, -frames.shape[1] % stride), (0, 0)))
        embeddings, weights = trunk.of_recording(frames, trunk.config.late_frames(stride))
        return head(pool(ops.cast(embeddings, "float32"), ops.cast(weights, "float32")))

    return call


class Judge:
    """Scores on the speech held out for decisions."""

    def __init__(self, segments: Segments, labels: list[str], most: int, batch: int = 64) -> None:
        self.labels, self.batch = labels, batch
        self.windows = {
            s: development_windows(
                segments, labels, samples_of(round(s * 100)), MOST_PER_SPEAKER, most
            )
            for s in LENGTHS_S
        }
        for s, (_, wanted, _) in self.windows.items():
            if not (wanted < len(labels) - 2).any():
                raise EdgelidError(
                    f"the bank has no {s:g} s of development speech in the languages by one speaker"
                )
        self._fast: Callable[..., Any] | None = None

    def waves(self, bank: Any, s: float) -> Any:
        """Batches of waveforms, at a common level."""
        starts = self.windows[s][0]
        samples = samples_of(round(s * 100))
        # Batches of one size, or each would be compiled; and none larger than all that there is.
        size = min(self.batch, len(starts))
        for i in range(0, len(starts), size):
            some = np.resize(starts[i : i + size], size)
            index = some[:, None] + np.arange(samples)[None]
            wave = ops.cast(ops.take(bank, index.astype(np.int32)), "float32") / 32768.0
            yield wave, min(size, len(starts) - i)

    def scores(self, call: Callable[[Any], Any], bank: Any, s: float) -> dict[str, Any]:
        """Macro accuracy of a function from waveforms to scores."""
        found = [np.asarray(call(w))[:n] for w, n in self.waves(bank, s)]
        _, labels, sources = self.windows[s]
        return macro_accuracy(np.concatenate(found), labels, sources, len(self.labels) - 2)

    def _compiled(self, models: list[Any], call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same function, compiled once for all weights that the models will ever have."""

        def pure(values: list[Any], wave: Any) -> Any:
            # One scope for all: scopes replace each other.
            with with_values(_Together(models), values):
                return call(wave)

        if self._fast is None:
            self._fast = compiled(pure)
        fast = self._fast
        return lambda wave: fast([v.value for m in models for v in m.variables], wave)

    def large(
        self, model: Any, filters: Any, front_end: FrontEndConfig, bank: Any
    ) -> dict[str, Any]:
        """Scores of the large model."""
        return self._all(self._compiled([model], whole(model, filters, front_end)), bank)

    def compact(
        self, trunk: Any, head: Any, filters: Any, front_end: FrontEndConfig, bank: Any
    ) -> dict[str, Any]:
        """Scores of the compact model."""
        call = streamed(trunk, head, filters, front_end)
        return self._all(self._compiled([trunk, head], call), bank)

    def _all(self, call: Callable[[Any], Any], bank: Any) -> dict[str, Any]:
        found = {f"{s:g}s": self.scores(call, bank, s) for s in self.windows}
        return {
            k: (v if k == "3s" else {x: v[x] for x in ("macro", "by_language", "n")})
            for k, v in found.items()
        }
