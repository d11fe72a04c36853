"""Settings of a conversion."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from convert.proof import Limits
from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND
from edge.model.modelfile import MAX_WINDOW_S
from train.architecture import ModelConfig
from train.corpus.cuts import ITEM_S

WINDOWS_S = (1.0, 3.0, 10.0)
WINDOW_S = 3.0  # of a model of whole windows
HOP_FRAMES = 16  # 160 ms: two decisions where the usual runtime makes one
NOT_FOUR_BITS = "4 bits are for the matrices of a large model: give another --type"


@dataclass(frozen=True)
class Settings:
    """How to convert.

    Attributes
    ----------
    mode : str
        ``stream`` or ``window``.
    type : str
        ``int8``, or for whole windows ``float32``, or for large models ``int4``.
    windows_s : tuple of float
        Window lengths; those of the mode where there are none.
    hop_frames : int
        Feature frames between answers.
    representative : Path or None
        Folder of recordings to quantise with instead of the corpus's speech.
    limits : Limits
    floats : tuple of str
        Layers of a Keras network that stay float32 in int8.
    """

    mode: str = "stream"
    type: str = "int8"
    windows_s: tuple[float, ...] = ()
    hop_frames: int = HOP_FRAMES
    representative: Path | None = None
    limits: Limits = field(default_factory=Limits)
    floats: tuple[str, ...] = ()

    @property
    def lengths_s(self) -> tuple[float, ...]:
        """The window lengths to convert for."""
        return self.windows_s or (WINDOWS_S if self.mode == "stream" else (WINDOW_S,))

    def check(self, config: ModelConfig) -> None:
        """Refuse what is impossible with a network.

        Raises
        ------
        EdgelidError
        """
        if self.type == "int4":
            raise EdgelidError(NOT_FOUR_BITS)
        if self.mode == "stream" and self.type != "int8":
            raise EdgelidError("a model that streams is int8: for float32 add --mode window")
        if self.hop_frames < 1 or (self.mode == "stream" and self.hop_frames % config.stride):
            raise EdgelidError(
                f"the model's stride of {config.stride} frames does not divide a hop of "
                f"{self.hop_frames}: choose another --hop-ms, or train one whose stride does"
            )
        if self.mode == "window" and len(self.lengths_s) != 1:
            raise EdgelidError("a model of whole windows has one window: give --windows one length")
        shortest_s = config.stride / FRAMES_PER_SECOND
        longest_s = min(MAX_WINDOW_S, ITEM_S)  # held-out speech is not longer
        if not all(shortest_s <= window_s <= longest_s for window_s in self.lengths_s):
            raise EdgelidError(f"windows last {shortest_s:g} to {longest_s:g} s: see --windows")
        hop_s = self.hop_frames / FRAMES_PER_SECOND
        if self.mode == "stream" and hop_s > min(self.lengths_s):
            raise EdgelidError(
                f"a hop of {hop_s * 1000:g} ms is longer than a window of {min(self.lengths_s):g} "
                "s: what is said between two windows would not be heard; choose a shorter --hop-ms"
            )

    def fitted(self, config: ModelConfig) -> Settings:
        """The same, a whole window just as long as its embeddings."""
        if self.mode == "stream":
            return self
        frames = whole_embeddings(self.lengths_s[0], config.stride)
        return replace(self, windows_s=(frames / FRAMES_PER_SECOND,))


def whole_embeddings(window_s: float, stride_frames: int) -> int:
    """Frames of the embeddings that a window of a stream consists of."""
    return round(window_s * FRAMES_PER_SECOND / stride_frames) * stride_frames
