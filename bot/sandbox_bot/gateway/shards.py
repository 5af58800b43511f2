"""The shards this process runs, each in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from sandbox_core import tasks
from sandbox_core.sharding import tuning
from sandbox_core.sharding.identify import IdentifyGate
from sandbox_core.sharding.lease_types import Before
from sandbox_core.sharding.succession import Succession

from ._private import shards_of, tell_shards
from .ports import GatewayClient
from .shard import MayConnect, Shard

_log = structlog.get_logger("sandbox.gateway")


@dataclass
class _Run:
    """One shard that has a session here."""

    shard: Shard
    task: asyncio.Task[None]
    """Keeps it connected."""
    is_standby: bool
    """Another process publishes it, and its session is kept here."""
    ending: asyncio.Task[None] | None = None


class ShardSet:
    """Begins and ends shards. A shard that Discord refuses for good ends `failure`."""

    def __init__(
        self, client: GatewayClient, turns: IdentifyGate, may_connect: MayConnect, succession: Succession
    ) -> None:
        self._client = client
        self._turns = turns
        self._may_connect = may_connect
        self._succession = succession
        self._runs: dict[int, _Run] = {}
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises what ended a shard that nobody ended."""

    @property
    def running(self) -> frozenset[int]:
        """The shards that are run here, connected or not."""
        return frozenset(shard_id for shard_id, run in self._runs.items() if not run.is_standby)

    @property
    def trouble(self) -> str:
        """Which shards have no session on a standing connection, and why; "" when all have."""
        waiting = self._turns.waiting
        return "; ".join(
            f"shard {shard_id} {waiting.get(shard_id, run.shard.trouble)}"
            for shard_id, run in sorted(self._runs.items())
            if not self._client.sessions.is_connected(shard_id) and not run.is_standby
        )

    def begin(self, shard_id: int, shard_count: int, before: Before | None) -> None:
        """Connect the shard and keep it connected, or go on with one that stands by; returns at once."""
        run = self._runs.get(shard_id)
        if run is not None and run.is_standby:
            run.is_standby = False
            self._succession.go_on(shard_id, before)
            return
        self._connect(shard_id, shard_count, is_standby=False)

    def stand_by(self, standby: Mapping[int, Before], shard_count: int) -> None:
        """Keep sessions of these shards, and what they bring, while others publish them."""
        for shard_id, run in self._runs.items():
            is_ending = run.ending is not None and not run.ending.done()
            if run.is_standby and shard_id not in standby and not is_ending:
                run.ending = asyncio.create_task(self.drop(shard_id), name=f"end-standby-{shard_id}")
        for shard_id, before in standby.items():
            if shard_id not in self._runs:
                self._succession.stand_by(shard_id)
                self._connect(shard_id, shard_count, is_standby=True)
            self._succession.published_elsewhere(shard_id, before)

    def _connect(self, shard_id: int, shard_count: int, *, is_standby: bool) -> None:
        self._turns.shard_count = shard_count
        shard = Shard(self._client, shard_id, self._turns, self._may_connect, self._on_socket)
        task = self._start(shard_id, self._run(shard, shard_count, anew=is_standby))
        self._runs[shard_id] = _Run(shard, task, is_standby)

    def shards_known(self, shard_count: int) -> None:
        """It is known for now which shards are run here."""
        tell_shards(self._client, self._runs.keys(), shard_count)

    async def hand_over(self, shard_id: int) -> bool:
        """End the shard so that another process can resume it where it ends here.

        False when its events are not acknowledged in time: then it goes on here.
        """
        run = self._runs.get(shard_id)
        if run is not None:
            await tasks.end(run.task)
        if run is not None and not await self._drained(shard_id):
            run.task = self._start(shard_id, run.shard.run())
            return False
        await self._forget(shard_id, save=True)
        return True

    def lose(self, shard_id: int) -> None:
        """Another process has the shard's session: from now on nothing of it is published or saved here."""
        self._succession.forget(shard_id)
        self._client.sessions.of(shard_id).disown()

    async def drop(self, shard_id: int) -> None:
        """End the shard, which another process runs by now."""
        if shard_id in self._runs:
            await tasks.end(self._runs[shard_id].task)
        await self._forget(shard_id, save=False)

    async def stop(self) -> None:
        """Stop reading, and close every connection resumably; sessions stay known, for the drain."""
        await tasks.end(*(run.task for run in self._runs.values()))

    async def _run(self, shard: Shard, shard_count: int, *, anew: bool) -> None:
        await self._client.sessions.add(shard.id, shard_count, anew=anew)
        await shard.run()

    def _start(self, shard_id: int, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"shard-{shard_id}")
        task.add_done_callback(self._ended)
        return task

    def _on_socket(self, shard: Shard) -> None:
        # From its first connection on, which discord.py takes for granted in its shards.
        shards_of(self._client)[shard.id] = shard

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
        shards_of(self._client).pop(shard_id, None)
        self._runs.pop(shard_id, None)
