"""Warnings of what spoils the figures of a bench."""

from __future__ import annotations

from typing import Any

BUSY_CORES = 0.1  # of others, over the whole measurement
STOLEN_CORES = 0.02
WAITING_SHARE = 0.1  # of the time flat out
SLOWED_SHARE = 0.9  # of the frequency before


def warnings(document: dict[str, Any]) -> list[str]:
    """Sentences about the machine's state while it was measured.

    Parameters
    ----------
    document : dict
        Of :func:`edge.bench.measure.measure`; what is None in it gives no reason to warn.
    """
    load, before, after = (document[key] for key in ("load", "state_before", "state_after"))
    found = []
    if (load["others_cores"] or 0) > BUSY_CORES:
        found.append(
            f"other programs kept {load['others_cores']:.2f} cores busy meanwhile: end them, and "
            "measure again."
        )
    if (load["stolen_cores"] or 0) > STOLEN_CORES:
        found.append(
            f"the host of this virtual machine withheld {load['stolen_cores']:.2f} cores: these "
            "figures are those of a busy host."
        )
    waiting = max(_waiting_share(run) for run in document["runs"])
    if waiting > WAITING_SHARE:
        found.append(
            f"listening flat out had to wait {waiting:.0%} of the time: trust processor time, "
            "not the clock on the wall."
        )
    held = [name for state in (before, after) for name in state["throttling"] or ()]
    if held:
        names = ", ".join(name.replace("_", " ") for name in dict.fromkeys(held))
        found.append(f"the processor is held back ({names}): see to its power and its cooling.")
    events = [state["throttle_events"] for state in (before, after)]
    if None not in events and events[1] > events[0]:
        found.append("the processor slowed down for its temperature: see to its cooling.")
    highest = [max(state["frequencies_hz"] or [0]) for state in (before, after)]
    if highest[1] < SLOWED_SHARE * highest[0]:
        found.append(
            f"the frequency fell from {highest[0] / 1e6:.0f} to {highest[1] / 1e6:.0f} MHz: see "
            "what governs it."
        )
    return found


def _waiting_share(run: dict[str, Any]) -> float:
    """Of the time flat out; several threads hide it."""
    whole = run["whole"]
    return float(1 - whole["cpu_ms_per_audio_s"] / whole["wall_ms_per_audio_s"])
