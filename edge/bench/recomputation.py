"""The usual sliding window, to compare with: all of it computed at every hop, same weights."""

from __future__ import annotations

import numpy as np

from edge.classifier import pool
from edge.frontend import Float32Array, FrontEnd
from edge.model.interpreter import Graphs, Int8Array, quantise
from edge.model.modelfile import ModelFile


class Recomputation:
    """Scores of windows of a model that streams, each computed from its audio alone.

    Parameters
    ----------
    model : ModelFile
    graphs : Graphs
        Of that model; used by one at a time.
    window_s : float
    """

    def __init__(self, model: ModelFile, graphs: Graphs, window_s: float) -> None:
        config, stream = model.description.front_end, model.description.stream
        self._graphs = graphs
        self._front_end = FrontEnd(config, model.filterbank)
        self._hop_frames, self._stride_frames = stream.hop_frames, stream.stride_frames
        # A window is known when these have followed it.
        self._late_hops = stream.late_hops
        self._embeddings = round(window_s / model.description.embedding_s)
        window_frames = self._embeddings * stream.stride_frames
        heard_frames = window_frames + stream.receptive_field_frames - stream.stride_frames
        self.window_hops = -(-window_frames // stream.hop_frames) + self._late_hops
        # What the first embeddings of the window have heard lies before it; what the last ones
        # have, behind it.
        self.context_hops = -(-heard_frames // stream.hop_frames)

    def scores(self, samples: Float32Array, hop: int, hops: int) -> Int8Array:
        """Scores of the window that ends with a hop of a stream.

        Parameters
        ----------
        samples : ndarray, shape (n,), float32
            The stream.
        hop : int
            From zero.
        hops : int
            To compute, up to this one and those that a late window waits for: `context_hops` give
            what the stream gives, bit for bit; `window_hops` take the window as if there were
            nothing before it. Where the stream has ended, silence follows, as in the stream.

        Returns
        -------
        ndarray, shape (classes,), int8
        """
        config = self._front_end.config
        last = hop + 1 + self._late_hops
        first = max(0, last - hops)
        hop_samples = self._hop_frames * config.hop_samples
        rest = config.window_samples - config.hop_samples
        self._graphs.reset()
        graphs = self._graphs
        heard = self._front_end.log_mel(samples[first * hop_samples : last * hop_samples + rest])
        whole = len(heard) // self._stride_frames * self._stride_frames
        frames = np.zeros(((last - first) * self._hop_frames, heard.shape[1]), np.float32)
        frames[:whole] = heard[:whole]
        steps = [
            graphs.step(each) for each in np.split(quantise(frames, graphs.frames), last - first)
        ]
        steps = steps[self._late_hops :]  # the first ones are of what was before
        x = np.concatenate([e for e, _ in steps])[-self._embeddings :].astype(np.int64)
        w = np.concatenate([w for _, w in steps])[-self._embeddings :].astype(np.int64)[:, None]
        x -= graphs.embeddings.zero_point  # (embeddings, channels)
        w -= graphs.weights.zero_point  # (embeddings, 1)
        sums = np.concatenate([w, w * x, w * x * x], axis=1).sum(axis=0)
        pooled = pool(sums, graphs.embeddings, graphs.weights)
        return graphs.head(quantise(pooled, graphs.pooled))
