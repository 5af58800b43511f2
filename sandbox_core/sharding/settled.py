"""Before which moment everything that happened on a shard is stored.

Whoever stands by is told it, and need not keep what is older. It takes a proof: Discord sends a shard's
events in order, so when one arrives, everything that happened before the last look was received. When all
that had been received is acknowledged, too, it is stored. While no event comes nothing is proved: the
connection may hang.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sandbox_core.event_router import GatewayIntake, ShardLedger


@dataclass
class _Looks:
    """What was seen of one session."""

    ledger: ShardLedger
    at: float
    received: int
    proofs: deque[tuple[float, int]] = field(default_factory=deque)
    """A moment, and the sequence up to which all that happened before it was received."""
    settled: float | None = None


class SettledMoments:
    """Looks once a turn. `connected` tells whether the shard's session is established and has caught up.

    `monotonic` is in seconds.
    """

    def __init__(
        self,
        intake: GatewayIntake,
        connected: Callable[[int], bool],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._intake = intake
        self._connected = connected
        self._monotonic = monotonic
        self._looks: dict[int, _Looks] = {}

    def __call__(self) -> Mapping[int, float]:
        """By shard published here, before how many seconds everything that happened is stored."""
        now = self._monotonic()
        ago: dict[int, float] = {}
        shard_ids = self._intake.shard_ids
        for shard_id in self._looks.keys() - set(shard_ids):
            del self._looks[shard_id]
        for shard_id in shard_ids:
            ledger = self._intake.ledger(shard_id)
            if ledger is None or ledger.lost or self._intake.waiting(shard_id) is not None:
                self._looks.pop(shard_id, None)
                continue
            looks = self._looks.get(shard_id)
            if looks is None or looks.ledger is not ledger:
                self._looks[shard_id] = _Looks(ledger, now, ledger.received)
                continue
            if self._connected(shard_id) and ledger.received > looks.received:
                looks.proofs.append((looks.at, ledger.received))
            looks.at, looks.received = now, ledger.received
            while looks.proofs and ledger.acknowledged >= looks.proofs[0][1]:
                looks.settled = looks.proofs.popleft()[0]
            if looks.settled is not None:
                ago[shard_id] = now - looks.settled
        return ago
