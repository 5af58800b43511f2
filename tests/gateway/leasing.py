"""Processes that take leases on the real database, and run nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any
from uuid import UUID, uuid4

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.lease_trust import LeaseTrust
from sandbox_core.postgres.pool import Pool
from sandbox_core.sharding.lease_rows import ShardRows
from sandbox_core.sharding.lease_types import Before, Leases
from sandbox_core.sharding.leases import LeaseKeeper
from sandbox_core.sharding.other_leases import Latest, Lease

APPLICATION = 1_234_567_890_123_456_789
LEASE = 1.0
"""One that a test waits for to lapse."""
LASTING = 60.0
"""One that lapses in no test by itself, however slow the machine is."""


class Runs:
    """Takes note of what it is told to run."""

    def __init__(self) -> None:
        self.shards: dict[int, int] = {}
        self.before: dict[int, Before | None] = {}
        self.standby: Mapping[int, Before] = {}
        self.dropped: list[int] = []
        self.trust = LeaseTrust()
        self.lost: list[tuple[int, float]] = []
        """With the trust of that moment."""
        self.drains = True
        self.may_hand_over = asyncio.Event()
        self.may_hand_over.set()

    @property
    def running(self) -> frozenset[int]:
        return frozenset(self.shards)

    def begin(self, shard_id: int, shard_count: int, before: Before | None) -> None:
        self.shards[shard_id] = shard_count
        self.before[shard_id] = before

    def stand_by(self, standby: Mapping[int, Before], shard_count: int) -> None:
        self.standby = standby

    async def hand_over(self, shard_id: int) -> bool:
        await self.may_hand_over.wait()
        if self.drains:
            del self.shards[shard_id]
        return self.drains

    def lose(self, shard_id: int) -> None:
        self.lost.append((shard_id, self.trust.until))

    async def drop(self, shard_id: int) -> None:
        self.dropped.append(shard_id)
        del self.shards[shard_id]

    def shards_known(self, shard_count: int) -> None:
        pass


class Link:
    """The rows of one process, over a link that a test can cut."""

    def __init__(self, rows: ShardRows) -> None:
        self.cut = False
        self.where = rows.where
        self._rows = rows

    def _through(self) -> ShardRows:
        if self.cut:
            raise DependencyUnavailable("PostgreSQL", "connection refused")
        return self._rows

    async def agree(self, recommended: int) -> int:
        return await self._through().agree(recommended)

    async def prepare(self, shard_count: int) -> None:
        await self._through().prepare(shard_count)

    async def share(
        self, shard_count: int, *, may_take_lapsed: bool, taking: bool, orphaned: Collection[Lease] = ()
    ) -> Leases:
        return await self._through().share(
            shard_count, may_take_lapsed=may_take_lapsed, taking=taking, orphaned=orphaned
        )

    async def fix(
        self,
        shard_count: int,
        shard_ids: Collection[int],
        running: Collection[int],
        *,
        may_take_lapsed: bool,
        taking: bool,
        orphaned: Collection[Lease] = (),
    ) -> Leases:
        return await self._through().fix(
            shard_count,
            shard_ids,
            running,
            may_take_lapsed=may_take_lapsed,
            taking=taking,
            orphaned=orphaned,
        )

    async def latest(self, shard_count: int, shard_ids: Collection[int]) -> Mapping[int, Latest]:
        return await self._through().latest(shard_count, shard_ids)

    async def release(self, shard_count: int, shard_id: int) -> None:
        await self._through().release(shard_count, shard_id)

    async def leave(self) -> None:
        await self._through().leave()


class Told:
    """Takes note of takeovers, and tells those who listen."""

    def __init__(self) -> None:
        self.said: list[tuple[int, Mapping[int, int], float]] = []
        self.listeners: list[LeaseKeeper] = []

    async def tell(self, shard_count: int, epochs: Mapping[int, int], *, within: float = 0.0) -> None:
        self.said.append((shard_count, epochs, within))
        for keeper in self.listeners:
            await keeper.taken(shard_count, epochs)


class Process:
    """One process: its keeper and what that runs. Its clock can be put forward."""

    def __init__(
        self,
        pool: Pool,
        recommended: int = 4,
        *,
        shard_count: int | None = None,
        shard_ids: Collection[int] | None = None,
        lease: float = LEASE,
    ) -> None:
        self.id: UUID = uuid4()
        self.ahead = 0.0
        self.others_hold = False
        self.missing_on_nats: set[UUID] = set()
        self.runs = Runs()
        self.takeovers = Told()
        self.link = Link(ShardRows(pool, APPLICATION, self.id, lease=lease))
        self.keeper = LeaseKeeper(
            self.link,
            self.runs,
            recommended=recommended,
            shard_count=shard_count,
            shard_ids=shard_ids,
            anybody_else=self._anybody_else,
            takeovers=self.takeovers,
            is_gone=self._is_gone,
            trust=self.runs.trust,
            lease=lease,
            monotonic=lambda: time.monotonic() + self.ahead,
        )

    async def _anybody_else(self) -> bool:
        return self.others_hold

    async def _is_gone(self, process_id: UUID) -> bool:
        return process_id in self.missing_on_nats

    @property
    def shards(self) -> set[int]:
        return set(self.runs.shards)

    async def turn(self) -> None:
        await self.keeper.turn()
        # A hand-over goes on beside the turns.
        await asyncio.sleep(0)


def lasting(pool: Pool, recommended: int = 4, **settings: Any) -> Process:
    """A process whose leases lapse in no test by themselves."""
    return Process(pool, recommended, lease=LASTING, **settings)


async def turns(processes: Collection[Process], until: Callable[[], bool]) -> None:
    """Let processes take turns until it holds; no shard is ever run by two."""
    async with asyncio.timeout(60):
        while not until():
            for process in processes:
                await process.turn()
                everything = [shard for other in processes for shard in other.shards]
                assert len(everything) == len(set(everything)), [p.shards for p in processes]
            await asyncio.sleep(0.01)


async def let_lapse(pool: Pool, process: Process) -> None:
    """As if the database had not heard of the process for a whole lease."""
    past = "clock_timestamp() - interval '1 hour'"
    await pool.execute(f"UPDATE gateway_shards SET lease_until = {past} WHERE holder = $1", process.id)
    await pool.execute(f"UPDATE gateway_publishers SET seen_at = {past} WHERE process_id = $1", process.id)


async def lapsed(pool: Pool) -> None:
    """Return when nobody's lease holds any more."""
    async with asyncio.timeout(60):
        while not await pool.fetchval("SELECT bool_and(lease_until < clock_timestamp()) FROM gateway_shards"):
            await asyncio.sleep(0.01)
