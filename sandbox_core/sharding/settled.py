"""Before which moment everything that happened on a shard is stored.

Whoever stands by is told it, and need not keep what is older. It takes a proof: Discord sends a connection's
events in order, so when one has arrived after a look, everything that happened before the look had been
received; when it is acknowledged, and so all before it, that is stored. While no event comes nothing is
proved: the connection may hang. What a look saw says nothing of the next connection, which begins with a
replay.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sandbox_core.event_router import GatewayIntake, ShardLedger


@dataclass
class _Looks:
    """What was seen of one session on one connection: moments, and the sequence received last by then."""

    ledger: ShardLedger
    connection: int
    seen: deque[tuple[float, int]] = field(default_factory=deque)
    settled: float | None = None


class SettledMoments:
    """Looks once a turn.

    `connection` tells the number of the shard's connection, which is another one after each reconnect; 0
    while there is none, or while its replay goes on. `monotonic` is in seconds.
    """

    def __init__(
        self,
        intake: GatewayIntake,
        connection: Callable[[int], int],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._intake = intake
        self._connection = connection
        self._monotonic = monotonic
        self._looks: dict[int, _Looks] = {}

    def __call__(self) -> Mapping[int, float]:
        """By shard published here, before how many seconds everything that happened is stored."""
        now = self._monotonic()
        looks: dict[int, _Looks] = {}
        for shard_id in self._intake.shard_ids:
            ledger = self._intake.ledger(shard_id)
            if ledger is not None and not ledger.lost and self._intake.waiting(shard_id) is None:
                looks[shard_id] = self._look(shard_id, ledger, now)
        self._looks = looks
        return {n: now - look.settled for n, look in looks.items() if look.settled is not None}

    def _look(self, shard_id: int, ledger: ShardLedger, now: float) -> _Looks:
        connection = self._connection(shard_id)
        looks = self._looks.get(shard_id)
        if looks is None or looks.ledger is not ledger:
            looks = _Looks(ledger, connection)
        elif looks.connection != connection:
            looks = _Looks(ledger, connection, settled=looks.settled)
        if not connection:
            return looks
        seen = looks.seen
        while seen and ledger.acknowledged > seen[0][1]:
            looks.settled = seen.popleft()[0]
        if seen and seen[-1][1] == ledger.received:
            # Nothing came since: the next event proves it for this moment, too.
            seen.pop()
        seen.append((now, ledger.received))
        return looks
