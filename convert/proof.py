"""The proof that a conversion did not hurt, and the limits past which nothing is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from convert.parity import Agreement, Parity
from convert.tensors import StreamCheck, TensorError
from edge.errors import EdgelidError

SHOWN_TENSORS = 5  # the worst


@dataclass(frozen=True)
class Limits:
    """Past these, something is wrong with the graph and not merely with its precision.

    Attributes
    ----------
    min_agreement : float
        Share of clips with the same likeliest class.
    max_mean_difference : float
        Of the posteriors.
    max_accuracy_loss : float
        Of balanced accuracy, as far as it is certain: the small end of its interval.
    """

    min_agreement: float = 0.9
    max_mean_difference: float = 0.05
    max_accuracy_loss: float = 0.05


class NotProven(EdgelidError):
    """The converted model is not as good as the trained one.

    Attributes
    ----------
    proof : Proof
    """

    def __init__(self, reason: str, proof: Proof) -> None:
        super().__init__(reason)
        self.proof = proof


@dataclass(frozen=True)
class Proof:
    """What was found.

    Attributes
    ----------
    windows : dict of str to Agreement
        By window length in seconds; a Parity where the right answers are known.
    tensors : list of TensorError
        The worst first; of a model that streams.
    stream : StreamCheck or None
        None where nothing streams.
    limits : Limits
    """

    windows: dict[str, Agreement]
    tensors: list[TensorError]
    stream: StreamCheck | None
    limits: Limits

    def check(self) -> None:
        """Raise NotProven past the limits."""
        limits = self.limits
        for window, parity in self.windows.items():
            what = f"the converted model differs too much from the trained one at {window} s"
            # The other way round, a difference that is no number would pass.
            if not parity.agreement >= limits.min_agreement:
                found = f"same answer for {parity.agreement:.1%} of the clips, which must be "
                found += f"{limits.min_agreement:.1%}"
                option = "--min-agreement"
            elif not parity.mean_difference <= limits.max_mean_difference:
                found = f"mean posterior difference {parity.mean_difference:.3f}, which may be "
                found += f"{limits.max_mean_difference:g}"
                option = "--max-mean-difference"
            elif isinstance(parity, Parity) and not (
                -parity.interval[1] <= limits.max_accuracy_loss
            ):
                found = f"balanced accuracy lower by at least {-parity.interval[1]:.3f}, which "
                found += f"may be {limits.max_accuracy_loss:g}"
                option = "--max-accuracy-loss"
            else:
                continue
            raise NotProven(f"{what} ({found}: {option}); nothing was written", self)
        if self.stream is not None and self.stream.different:
            raise NotProven(
                f"the converted model answers differently by where a stream began "
                f"({self.stream.different} of {self.stream.compared} values); nothing was written",
                self,
            )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def table(self) -> list[str]:
        """As lines for people."""
        lines = []
        for window, parity in self.windows.items():
            lines.append(f"trained against converted, {window} s of held-out speech")
            lines += [f"  {row}" for row in parity.rows()]
        if self.tensors:
            lines.append("tensors that quantisation hurts most, signal to noise")
            lines += [
                f"  {tensor.name:<30} {tensor.snr_db:5.1f} dB, {tensor.clipped:.2%} clipped"
                for tensor in self.tensors[:SHOWN_TENSORS]
            ]
        if self.stream is not None:
            lines.append("stream against window")
            lines.append(
                f"  {'values that differ':<30} {self.stream.different} of {self.stream.compared}"
            )
        return lines
