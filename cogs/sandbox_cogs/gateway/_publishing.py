"""Publishes the shards of somebody else's bot, each as long as no other process does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from sandbox_core import tasks
from sandbox_core.nats.contents import StoredContents
from sandbox_core.sharding import tuning
from sandbox_core.sharding.host_shards import HostShards
from sandbox_core.sharding.lease_rows import ShardRows
from sandbox_core.sharding.leases import LeaseKeeper
from sandbox_core.sharding.peers import Peers, ShardHolders
from sandbox_core.sharding.publishers import Kind
from sandbox_core.sharding.settled import SettledMoments
from sandbox_core.sharding.succession import Succession

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

_log = structlog.get_logger("sandbox.gateway")


class Publishing:
    """Holds the leases of the shards that the bot has sessions of, and stands by where others hold them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._connections: dict[int, int] = {}
        """By shard, the number of its connection; 0 while it has none, or while its replay goes on."""
        self._made = 0
        self._wanted: set[int] = set()
        contents = StoredContents(core.message_ids)
        self._succession = Succession(core.intake, contents, core.metrics, self._is_connected)
        self._keeping: _Keeping | None = None

    @property
    def trouble(self) -> str:
        """Why it can't be known who publishes the bot's shards; "" when it is."""
        if self._keeping is None:
            return "not connected to Discord"
        return self._keeping.keeper.trouble

    @property
    def standing_by(self) -> bool:
        """True when other processes publish all of the bot's shards."""
        return self._keeping is not None and self._keeping.keeper.standing_by

    def session(self, shard_id: int, shard_count: int, application_id: int) -> None:
        """The bot has a session of the shard, of which nothing has been taken yet."""
        if shard_id not in self._wanted:
            self._core.intake.stand_by(shard_id)
        elif self._core.intake.waiting(shard_id) is None:
            self._core.metrics.gateway_gaps.inc()
            _log.error("session_lost", shard=shard_id, consequence="events in between may be missing")
        self.resumed(shard_id)
        self._wanted.add(shard_id)
        if self._keeping is None:
            self._keeping = _Keeping(
                self._core, application_id, shard_count, self._succession, self._connection
            )
        self._keeping.keeper.want(self._wanted)

    def disconnected(self, shard_id: int) -> None:
        """The shard's connection ended; its session may well go on."""
        self._connections[shard_id] = 0

    def resumed(self, shard_id: int) -> None:
        """The shard's session goes on, and what was missed has come."""
        self._made += 1
        self._connections[shard_id] = self._made

    def _connection(self, shard_id: int) -> int:
        return self._connections.get(shard_id, 0)

    def _is_connected(self, shard_id: int) -> bool:
        return self._connection(shard_id) > 0

    async def drained(self) -> None:
        """Return when everything that is to be published here is stored."""
        while any(self._is_undecided(shard_id) for shard_id in self._wanted):  # noqa: ASYNC110
            await asyncio.sleep(tuning.DRAIN_LOOK)
        await self._core.router.idle()

    @property
    def kept(self) -> int:
        """Events that are to be published here as soon as that is certain."""
        waiting = [self._core.intake.waiting(n) for n in self._wanted if self._is_undecided(n)]
        return sum(len(frames.frames) for frames in waiting if frames is not None)

    async def leave(self) -> None:
        """Another process may publish the shards from now on."""
        if self._keeping is not None:
            await self._keeping.end()
        await self._succession.close()
        for shard_id in self._wanted:
            self._core.intake.forget(shard_id)

    def _is_undecided(self, shard_id: int) -> bool:
        others = {} if self._keeping is None else self._keeping.keeper.waits_for
        return self._core.intake.waiting(shard_id) is not None and shard_id not in others


class _Keeping:
    """The leases, from the first session on."""

    def __init__(
        self,
        core: Core,
        application_id: int,
        shard_count: int,
        succession: Succession,
        connection: Callable[[int], int],
    ) -> None:
        self._core = core
        shards = HostShards(succession)
        holders = ShardHolders(
            core.nats,
            application_id,
            lambda: bool(shards.running),
            plugin=lambda: (shard_count, shards.running),
            wanted=lambda: (shard_count, self.keeper.wanted - shards.running),
        )
        self._peers = Peers(core.nats, application_id, core.process.id, holders)
        rows = ShardRows(
            core.pool,
            application_id,
            core.process.id,
            lease=tuning.LEASE,
            kind=Kind.PLUGIN,
            name=core.process.name,
            settled=SettledMoments(core.intake, connection),
        )
        self.keeper = LeaseKeeper(
            rows,
            shards,
            recommended=shard_count,
            shard_count=shard_count,
            shard_ids=(),
            anybody_else=holders.others,
            at_once=False,
            takeovers=self._peers.takeovers,
            is_gone=self._peers.presence.is_gone,
            trust=core.publisher.trust,
        )
        core.publishing.begin(shard_count, self.keeper)
        self._task = asyncio.create_task(self._keep(), name="sandbox-leases")

    async def _keep(self) -> None:
        await self._peers.begin(self.keeper)
        await tasks.repeat(
            self.keeper.run, failed=lambda: _log.exception("leases_not_kept"), pause=tuning.AFTER_FAILURE
        )

    async def end(self) -> None:
        self.keeper.stop_taking()
        await tasks.end(self._task)
        self._core.publishing.end()
        try:
            async with asyncio.timeout(tuning.LEAVE_WITHIN):
                await self.keeper.leave()
                await self._peers.close()
        except TimeoutError:
            _log.warning("leases_not_released", dependency="PostgreSQL", lapse_in=tuning.LEASE)
