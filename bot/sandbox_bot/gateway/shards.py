"""The shards this process runs, each in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import structlog

from sandbox_core import tasks
from sandbox_core.sharding import tuning
from sandbox_core.sharding.lease_parts import Before
from sandbox_core.sharding.succession import Succession

from ._private import shards_of, tell_shards
from .ports import RoutesFrames
from .shard import IdentifyTurns, MayConnect, Shard

_log = structlog.get_logger("sandbox.gateway")


class ShardSet:
    """Begins and ends shards. A shard that Discord refuses for good ends `failure`."""

    def __init__(
        self, client: RoutesFrames, turns: IdentifyTurns, may_connect: MayConnect, succession: Succession
    ) -> None:
        self._client = client
        self._turns = turns
        self._may_connect = may_connect
        self._succession = succession
        self._watched: set[int] = set()
        """Shards that others publish, of which a session is kept here."""
        self._unwatching: dict[int, asyncio.Task[None]] = {}
        self._shards: dict[int, Shard] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises what ended a shard that nobody ended."""

    @property
    def running(self) -> frozenset[int]:
        """The shards that are run here, connected or not."""
        return frozenset(self._tasks.keys() - self._watched)

    @property
    def trouble(self) -> str:
        """Which shards have no session on a standing connection, and why; "" when all have."""
        waiting = self._turns.waiting
        return "; ".join(
            f"shard {shard_id} {waiting.get(shard_id, shard.trouble)}"
            for shard_id, shard in sorted(self._shards.items())
            if not self._client.sessions.is_connected(shard_id) and shard_id not in self._watched
        )

    def begin(self, shard_id: int, shard_count: int, before: Before | None) -> None:
        """Connect the shard and keep it connected, or go on with what is watched; returns at once."""
        if shard_id in self._watched:
            self._watched.discard(shard_id)
            self._succession.go_on(shard_id, before)
            return
        self._connect(shard_id, shard_count)

    def watch(self, watched: Mapping[int, Before], shard_count: int) -> None:
        """Keep sessions of these shards, and what they bring, while others publish them."""
        for shard_id in self._watched - watched.keys():
            if shard_id not in self._unwatching:
                task = asyncio.create_task(self._unwatch(shard_id), name=f"unwatch-{shard_id}")
                self._unwatching[shard_id] = task
        for shard_id, before in watched.items():
            if shard_id not in self._tasks:
                self._watched.add(shard_id)
                self._succession.stand_by(shard_id)
                self._connect(shard_id, shard_count)
            self._succession.watch(shard_id, before)

    async def _unwatch(self, shard_id: int) -> None:
        try:
            await self.drop(shard_id)
        finally:
            del self._unwatching[shard_id]

    def _connect(self, shard_id: int, shard_count: int) -> None:
        self._turns.shard_count = shard_count
        shard = Shard(self._client, shard_id, self._turns, self._may_connect, self._on_socket)
        self._shards[shard_id] = shard
        self._start(shard_id, self._run(shard, shard_count))

    def settled(self, shard_count: int) -> None:
        """It is known for now which shards are run here."""
        tell_shards(self._client, self._shards.keys(), shard_count)

    async def hand_over(self, shard_id: int) -> bool:
        """End the shard so that another process can resume it where it ends here.

        False when its events are not acknowledged in time: then it goes on here.
        """
        await self._end(shard_id)
        if not await self._drained(shard_id):
            self._start(shard_id, self._shards[shard_id].run())
            return False
        await self._forget(shard_id, save=True)
        return True

    def lose(self, shard_id: int) -> None:
        """Another process has the shard's session: from now on nothing of it is published or saved here."""
        self._succession.forget(shard_id)
        self._client.sessions.of(shard_id).disown()

    async def drop(self, shard_id: int) -> None:
        """End the shard, which another process runs by now."""
        await self._end(shard_id)
        await self._forget(shard_id, save=False)

    async def stop(self) -> None:
        """Stop reading, and close every connection resumably; sessions stay known, for the drain."""
        await asyncio.gather(*(self._end(shard_id) for shard_id in list(self._tasks)))

    async def _run(self, shard: Shard, shard_count: int) -> None:
        await self._client.sessions.add(shard.id, shard_count, anew=shard.id in self._watched)
        await shard.run()

    def _start(self, shard_id: int, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"shard-{shard_id}")
        self._tasks[shard_id] = task
        task.add_done_callback(self._ended)

    def _on_socket(self, shard: Shard) -> None:
        # From its first connection on, which discord.py takes for granted in its shards.
        shards_of(self._client)[shard.id] = shard

    async def _end(self, shard_id: int) -> None:
        task = self._tasks.get(shard_id)
        if task is not None:
            await tasks.end(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self.failure.done():
            return
        self.failure.set_exception(task.exception() or RuntimeError("a shard ended by itself"))

    async def _drained(self, shard_id: int) -> bool:
        ledger = self._client.intake.ledger(shard_id)
        if ledger is None:
            return True
        try:
            async with asyncio.timeout(self._client.tuning.hand_over_within):
                # The ledger is on the event path, and pays for nobody's waiting.
                while ledger.lag:  # noqa: ASYNC110
                    await asyncio.sleep(tuning.DRAIN_LOOK)
        except TimeoutError:
            # They may be stored after the other process has looked, and their guilds' routes may change.
            _log.warning("not_handed_over_with_events_unacknowledged", shard=shard_id, events=ledger.lag)
            return False
        return True

    async def _forget(self, shard_id: int, *, save: bool) -> None:
        self._succession.forget(shard_id)
        await self._client.sessions.remove(shard_id, save=save)
        self._watched.discard(shard_id)
        shards_of(self._client).pop(shard_id, None)
        self._tasks.pop(shard_id, None)
        self._shards.pop(shard_id, None)
