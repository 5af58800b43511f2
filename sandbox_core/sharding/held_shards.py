"""The shards of this process, beside their leases: who had each before, who takes it, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable

from . import tuning
from .lease_types import Before, Leases, Runs

_log = structlog.get_logger("sandbox.gateway")


@dataclass
class HeldShard:
    """What is known of a shard besides its lease."""

    before: Before | None = None
    """Who had this process's shard before it."""
    taken_at: float | None = None
    """When another process said that it took the shard."""
    is_taken_over: bool = False
    """This process took it from another one, which may not know yet."""
    is_released: bool = False
    """It was given up since the last question, which may still have found it as ours."""
    handing_over: asyncio.Task[None] | None = None
    dropping: asyncio.Task[None] | None = None
    unvouched_closes: int = 0
    """How often in a row Discord closed its connection at once while its lease could not be vouched for."""

    @property
    def is_ending(self) -> bool:
        """It is handed over or dropped just now."""
        return self.handing_over is not None or self.dropping is not None


class HeldShards:
    """Has `runs` begin, drop and hand over shards. `release` frees the lease of one that was handed over."""

    def __init__(
        self, runs: Runs, release: Callable[[int], Awaitable[None]], monotonic: Callable[[], float]
    ) -> None:
        self._runs = runs
        self._release = release
        self._monotonic = monotonic
        self._shards: dict[int, HeldShard] = {}
        self._no_hand_over_until = 0.0

    def of(self, shard_id: int) -> HeldShard:
        """What is known of the shard."""
        return self._shards.setdefault(shard_id, HeldShard())

    @property
    def taken_over(self) -> list[int]:
        """The shards of this process that were taken from others."""
        return [shard_id for shard_id, shard in self._shards.items() if shard.is_taken_over]

    def asks(self) -> None:
        """A question begins: what is released from now on may still be found as ours by it."""
        for shard in self._shards.values():
            shard.is_released = False

    def note(self, leases: Leases, asked_at: float) -> Leases:
        """Note what the database says of each shard; returns it without what others took since."""
        for shard_id, found in leases.shards.items():
            if found.after is not None:
                self.of(shard_id).before = Before.of(found.after, asked_at)
            if found.is_taken_over:
                self.of(shard_id).is_taken_over = True
        taken = set()
        for shard_id, shard in self._shards.items():
            shard.unvouched_closes = 0
            # The database may have answered before somebody took what it says is ours.
            if shard.taken_at is not None and shard.taken_at < asked_at and leases.of(shard_id).epoch:
                shard.taken_at = None
            if shard.taken_at is not None:
                taken.add(shard_id)
            if not leases.of(shard_id).epoch or shard_id in taken:
                shard.before, shard.is_taken_over = None, False
        return leases.without(taken)

    def taken(self, shard_ids: Collection[int]) -> Collection[int]:
        """Another process says that it took these shards; returns those that were run here."""
        for shard_id in shard_ids:
            self.of(shard_id).taken_at = self._monotonic()
        lost = self._runs.running & set(shard_ids)
        for shard_id in lost:
            self._runs.lose(shard_id)
        for shard_id in lost:
            shard = self.of(shard_id)
            if not shard.is_ending:
                _log.warning("shard_lost", shard=shard_id, reason="another process says that it took it")
                shard.dropping = asyncio.create_task(self._drop(shard_id), name=f"drop-{shard_id}")
        return lost

    def begin(self, shard_ids: Collection[int], shard_count: int) -> None:
        """Run these shards, but for those that are run, end just now, or are others' by now."""
        for shard_id in sorted(set(shard_ids) - self._runs.running):
            shard = self.of(shard_id)
            if not shard.is_released and shard.taken_at is None and shard.handing_over is None:
                self._runs.begin(shard_id, shard_count, shard.before)

    async def drop(self, shard_ids: Collection[int], others: Collection[int]) -> None:
        """Run these shards no more: their leases are or were another process's."""
        to_drop = [n for n in self._runs.running & set(shard_ids) if not self.of(n).is_ending]
        for shard_id in to_drop:
            had = "has" if shard_id in others else "had"
            _log.warning("shard_lost", shard=shard_id, reason=f"another process {had} its lease")
        await asyncio.gather(*(self._runs.drop(shard_id) for shard_id in to_drop))

    @property
    def may_hand_over(self) -> bool:
        """One at a time, and not soon after one that failed."""
        is_handing_over = any(shard.handing_over is not None for shard in self._shards.values())
        return not is_handing_over and self._monotonic() >= self._no_hand_over_until

    def hand_over(self, shard_id: int) -> None:
        """Begin to give the shard up to whoever takes it."""
        self.of(shard_id).handing_over = asyncio.create_task(
            self._hand_over(shard_id), name=f"hand-over-{shard_id}"
        )

    async def close(self) -> None:
        """End what is under way."""
        ending = [task for shard in self._shards.values() for task in (shard.handing_over, shard.dropping)]
        await tasks.end(*(task for task in ending if task is not None))

    async def _drop(self, shard_id: int) -> None:
        try:
            await self._runs.drop(shard_id)
        finally:
            self.of(shard_id).dropping = None

    async def _hand_over(self, shard_id: int) -> None:
        _log.info("shard_given_up", shard=shard_id, reason="another process is to have it")
        shard = self.of(shard_id)
        try:
            if not await self._runs.hand_over(shard_id):
                self._no_hand_over_until = self._monotonic() + tuning.NO_HAND_OVER_FOR
                return
            await self._release(shard_id)
            shard.is_released = True
        except DependencyUnavailable as error:
            # It is still ours: the next turn runs it again.
            _log.warning(
                "shard_not_released", shard=shard_id, dependency=error.dependency, reason=error.reason
            )
        finally:
            shard.handing_over = None
