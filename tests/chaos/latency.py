"""Production's latency in a run with a fault, and in one without that went on at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHARES = (0.5, 0.99)
_FACTOR, _MILLISECONDS = 3.0, 25.0
"""Two runs of the same differ by less: the harness is one process, and the machine has other work as well. An
event that waits for a server that is away waits for seconds."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from Discord to stored."""

    events: int
    p50: float
    p99: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Latency:
        """Of these, in any order."""
        ordered = sorted(values)
        p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in SHARES)
        return cls(len(ordered), p50, p99, ordered[-1])


@dataclass(frozen=True, slots=True)
class Beside:
    """The same seconds in both runs."""

    fault: Latency
    without: Latency
    changing: Latency | None
    """With the fault, of the servers that changed sides; not judged."""
    load: float
    """Processes that ran or waited to run, in the last minute."""

    @property
    def within_noise(self) -> bool:
        """Whether the fault has not delayed production."""
        return self.fault.p99 <= max(self.without.p99 * _FACTOR, self.without.p99 + _MILLISECONDS)
