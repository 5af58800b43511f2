"""Judges what is said over NATS of shards that were taken: whoever may publish there can say it.

The database knows. It is asked before a shard is given up, so that a message that nobody meant changes
nothing. It does not answer a process that is cut off from it, for which takeovers are told at all. Then:

- As long as this process's leases hold by the database's own clock, nobody can have taken its shards.
- After that, and without leases, what is said is believed, as a taker may be publishing. Whoever lies then
  costs a process its shards until the database is back: what it would save by its earlier epoch is refused
  in any case, and with a message that is true it would publish to a side that has changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import structlog

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.strangers import Seldom
from sandbox_core.tasks import within

from . import tuning
from .certainty import Certainty
from .other_leases import Latest

_log = structlog.get_logger("sandbox.gateway")


class KnowsHolders(Protocol):
    """Tells who has which shard; see `ShardRows`."""

    async def latest(self, shard_count: int, shard_ids: Collection[int]) -> Mapping[int, Latest]: ...


class Hearsay:
    """Judges it for one process. `epoch` tells that of its confirmed lease on a shard, 0 without one."""

    def __init__(
        self,
        rows: KnowsHolders,
        certainty: Certainty,
        epoch: Callable[[int], int],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rows = rows
        self._certainty = certainty
        self._epoch = epoch
        self._known: dict[int, int] = {}
        """By shard the latest epoch that was told truly. Takers say it in every turn."""
        self._untrue = Seldom(_log, "takeover_untrue", monotonic=monotonic)

    async def believed(self, shard_count: int, epochs: Mapping[int, int]) -> Collection[int]:
        """Return which of these shards are another process's, of which these epochs are told."""
        told = {
            n: epoch
            for n, epoch in epochs.items()
            if n < shard_count and epoch > max(self._epoch(n), self._known.get(n, 0))
        }
        if not told:
            return ()
        try:
            latest = await within(
                tuning.TAKEOVER_LOOKED_UP_WITHIN, self._rows.latest(shard_count, told), name="takeover-lookup"
            )
        except (DependencyUnavailable, TimeoutError):
            believed = {n for n in told if not self._is_certain(n)}
        else:
            believed = {n for n, epoch in told.items() if self._is_true(n, epoch, latest.get(n))}
            self._known |= {n: told[n] for n in believed}
        if told.keys() - believed:
            self._untrue.say(shards=sorted(told.keys() - believed))
        return believed

    def _is_certain(self, shard_id: int) -> bool:
        return self._epoch(shard_id) > 0 and self._certainty.nobody_else_can_have_them

    def _is_true(self, shard_id: int, epoch: int, latest: Latest | None) -> bool:
        # Epochs only grow. One that is told truly has been reached. A turn may have taken the shard since.
        if latest is None or latest.epoch < epoch or epoch <= self._epoch(shard_id):
            return False
        return not latest.is_ours or latest.epoch != self._epoch(shard_id)
