"""The proof that a conversion did not hurt, and the limits past which nothing is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from convert.parity import Agreement, Judged, Parity
from convert.stream_vs_window import WindowCheck
from convert.tensor_errors import StreamCheck, TensorError
from convert.weight_errors import WeightError
from edge.errors import EdgelidError

SHOWN_TENSORS = 5  # the worst
# Of the table: three windows fit a hundred characters.
NAME_CELLS, VALUE_CELLS = 42, 19


@dataclass(frozen=True)
class Limits:
    """Past these, something is wrong with the graph and not merely with its precision.

    Attributes
    ----------
    min_agreement : float
        Share of clips with the same likeliest class.
    max_mean_difference : float
        Of a clip's posteriors: how much of its probability is another class's, see
        `train.evaluation.metrics.moved`.
    max_accuracy_loss : float
        Of balanced accuracy, as far as it is certain: the small end of its interval.
    """

    min_agreement: float = 0.9
    max_mean_difference: float = 0.1
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
        Activations, the worst first; of a model that streams.
    weights : list of WeightError
        The worst first; of a model that streams.
    stream : StreamCheck or None
        None where nothing streams.
    apart : dict of str to WindowCheck
        The stream against a graph of the whole window in float, by window length in seconds; empty
        where nothing streams.
    limits : Limits
    """

    windows: dict[str, Agreement]
    tensors: list[TensorError]
    weights: list[WeightError]
    stream: StreamCheck | None
    apart: dict[str, WindowCheck]
    limits: Limits

    def check(self) -> None:
        """Raise NotProven past the limits."""
        for window, parity in self.windows.items():
            self._check_agreement(
                parity, f"the converted model differs too much from the trained one at {window} s"
            )
        for window, check in self.apart.items():
            self._check_agreement(
                check,
                f"the stream differs too much from a window of {window} s in float",
            )
        if self.stream is not None and self.stream.different:
            raise NotProven(
                f"the converted model answers differently by where a stream began "
                f"({self.stream.different} of {self.stream.compared} values); nothing was written",
                self,
            )

    def _check_agreement(self, found: Agreement, what: str) -> None:
        limits = self.limits
        # The other way round, a difference that is no number would pass.
        if not found.agreement >= limits.min_agreement:
            reason = f"same answer for {found.agreement:.1%} of the clips, which must be "
            reason += f"{limits.min_agreement:.1%}"
            option = "--min-agreement"
        elif not found.moved <= limits.max_mean_difference:
            reason = f"{found.moved:.3f} of the probability moved to other classes, which may be "
            reason += f"{limits.max_mean_difference:g}"
            option = "--max-mean-difference"
        elif isinstance(found, Parity) and not -found.interval[1] <= limits.max_accuracy_loss:
            reason = f"balanced accuracy lower by at least {-found.interval[1]:.3f}, which "
            reason += f"may be {limits.max_accuracy_loss:g}"
            option = "--max-accuracy-loss"
        else:
            return
        raise NotProven(f"{what} ({reason}: {option}); nothing was written", self)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def table(self) -> list[str]:
        """As lines for people."""
        lines = _side_by_side(
            "trained against converted, held-out speech",
            {f"{window} s": agreement.rows() for window, agreement in self.windows.items()},
        )
        if self.tensors:
            lines += _row(
                "activations that int8 hurts most, dB", ["in all", "worst channel", "clipped"]
            )
            for tensor in self.tensors[:SHOWN_TENSORS]:
                worst = f"{tensor.channel_snr_db:.1f} ({tensor.channel})"
                values = [f"{tensor.snr_db:.1f}", worst, f"{tensor.clipped:.2%}"]
                lines += _row(f"  {tensor.name}", values)
        if self.weights:
            lines += _row("weights that int8 hurts most, dB", ["in all", "worst channel"])
            for kernel in self.weights[:SHOWN_TENSORS]:
                worst = f"{kernel.channel_snr_db:.1f} ({kernel.channel})"
                lines += _row(f"  {kernel.name}", [f"{kernel.snr_db:.1f}", worst])
        if self.stream is not None:
            lines.append("stream against window, of one graph")
            lines += _row("  values compared", [str(self.stream.compared)])
            lines += _row("  values that differ", [str(self.stream.different)])
        if self.apart:
            lines += _side_by_side(
                "stream against window, in float",
                {f"{window} s": check.rows() for window, check in self.apart.items()},
            )
        return lines


@dataclass(frozen=True)
class OwnProof(Proof):
    """Of a network of the user's.

    Attributes
    ----------
    notes : tuple of str
        What a reader should know of the recordings and of what the network was taken for.
    floats : tuple of str
        Layers of an int8 graph that stayed float32.
    suffering : tuple of str
        What would help where it differs too much.
    """

    notes: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()
    suffering: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise NotProven past the limits, with what would help."""
        try:
            super().check()
        except NotProven as refused:
            if not self.suffering:
                raise
            words = str(refused).removesuffix("; nothing was written")
            raise NotProven(
                f"{words}; int8 hurts {' and '.join(self.suffering)}: give --float "
                f"{','.join(name.partition(' ')[0] for name in self.suffering)} to leave them in "
                "float32, or --type float32; nothing was written",
                self,
            ) from refused

    def table(self) -> list[str]:
        """As lines for people, with a summary."""
        lines = super().table()
        if self.floats:
            lines.append(f"in float32, for which 8 bits are too few: {', '.join(self.floats)}")
        return lines + [f"note: {note}" for note in (*self.notes, *self.warnings())]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return super().as_dict() | {"warnings": self.warnings()}

    def warnings(self) -> list[str]:
        """What makes the model useless though it was converted faithfully."""
        return [
            f"NEAR CHANCE: right for {found.accuracy_converted:.0%} of the held-out windows, where "
            f"always giving the commonest answer is right for {found.chance:.0%}. A network that "
            "was better in training hears other features here: name them in the description "
            "(docs/converting.md)"
            for found in self.windows.values()
            if isinstance(found, Judged) and found.near_chance
        ]


def _side_by_side(title: str, columns: dict[str, dict[str, str]]) -> list[str]:
    """Lines of a table whose columns have the same rows."""
    lines = _row(title, list(columns))
    for name in next(iter(columns.values())):
        lines += _row(f"  {name}", [column[name] for column in columns.values()])
    return lines


def _row(name: str, values: list[str]) -> list[str]:
    return [f"{name:<{NAME_CELLS}}" + "".join(f"{value:>{VALUE_CELLS}}" for value in values)]
