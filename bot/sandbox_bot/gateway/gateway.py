"""The gateway of one process: its shards, their leases, and the turns to identify."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import discord
import yarl

from sandbox_core import tasks
from sandbox_core.addresses import discord_where
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.contents import StoredContents
from sandbox_core.sharding import tuning
from sandbox_core.sharding.identify import IdentifyGate, StartLimit
from sandbox_core.sharding.identify_rows import IdentifyRows
from sandbox_core.sharding.lease_rows import ShardRows
from sandbox_core.sharding.leases import LeaseKeeper
from sandbox_core.sharding.peers import Peers, ShardHolders
from sandbox_core.sharding.settled import SettledMoments
from sandbox_core.sharding.succession import Succession

from .ports import GatewayClient
from .shards import ShardSet


class Gateway:
    """Runs the shards that are this process's: those of the settings, or its share by leases."""

    def __init__(
        self, client: GatewayClient, application_id: int, recommended: int, url: str, limit: StartLimit
    ) -> None:
        core, settings = client.sandbox_core, client.sandbox_core.settings
        self.url = yarl.URL(url)
        self.turns = IdentifyGate(IdentifyRows(core.pool, application_id), limit, lambda: start_limit(client))
        connected = client.sessions.is_connected
        contents = StoredContents(core.message_ids)
        self._succession = Succession(core.intake, contents, core.metrics, connected)
        self._shards = ShardSet(client, self.turns, self._may_connect, self._succession)
        count = settings.discord_shard_count
        holders = ShardHolders(
            core.nats,
            application_id,
            lambda: bool(self._shards.running),
            wanted=None if count is None else lambda: (count, self._keeper.wanted),
        )
        self._peers = Peers(core.nats, application_id, core.process.id, holders)
        self._keeper = LeaseKeeper(
            ShardRows(
                core.pool,
                application_id,
                core.process.id,
                lease=tuning.LEASE,
                name=core.process.name,
                settled=SettledMoments(core.intake, client.sessions.connection),
            ),
            self._shards,
            recommended=recommended,
            shard_count=settings.discord_shard_count,
            shard_ids=settings.discord_shard_ids,
            # Of other processes with fixed shards each has some of its own.
            anybody_else=holders.others if count is None else holders.plugins,
            takeovers=self._peers.takeovers,
            is_gone=self._peers.presence.is_gone,
            # A hand-over drains; while NATS is away that would only move the trouble.
            can_hand_over=lambda: core.nats.connected and not core.router.full,
            trust=core.publisher.trust,
        )
        client.sessions.lease_epoch = self._keeper.epoch
        client.sessions.stale_epoch = self._keeper.stale_epoch
        self._state = core.publishing
        self._state.begin(settings.discord_shard_count or recommended, self._keeper)
        self._keeping: asyncio.Task[None] | None = None
        self._left = False

    @classmethod
    async def ask(cls, client: GatewayClient, application_id: int) -> Gateway:
        """Ask Discord for what it tells before the first connection.

        Raises `discord.GatewayNotFound` when it refuses to.
        """
        recommended, url, limit = await client.http.get_bot_gateway()
        return cls(client, application_id, recommended, url, _limit(limit))

    @property
    def trouble(self) -> str:
        """Why a shard of this process has no session at the moment; "" when all have, or there are none."""
        return self._keeper.trouble or self._shards.trouble

    @property
    def standing_by(self) -> bool:
        """True when other processes have all the shards."""
        return self._keeper.standing_by

    async def run(self) -> None:
        """Run shards until cancelled or stopped.

        Raises `GatewayRefusedError` when Discord refuses one for good.
        """
        await self._peers.begin(self._keeper)
        self._keeping = asyncio.create_task(self._keeper.run(), name="shard-leases")
        await asyncio.wait({self._keeping, self._shards.failure}, return_when=asyncio.FIRST_COMPLETED)
        if self._shards.failure.done():
            self._shards.failure.result()
        if not self._keeping.cancelled():
            self._keeping.result()

    async def stop(self) -> None:
        """Stop reading and close resumably; the leases are kept for the drain. Twice is harmless."""
        self._keeper.stop_taking()
        await self._succession.close()
        await self._shards.stop()

    async def leave(self) -> None:
        """Give up the leases, after the drain: from now on other processes resume the sessions.

        A second call does nothing, also when the first was cut off.
        """
        if self._left or self._keeping is None or self._keeping.done():
            return
        self._left = True
        self._state.end()
        await tasks.end(self._keeping)
        await self._keeper.leave()
        await self._peers.close()

    async def _may_connect(self, shard_id: int, closed_at_once: bool) -> None:
        await self._keeper.may_connect(shard_id, closed_at_once=closed_at_once)


async def start_limit(client: GatewayClient) -> StartLimit:
    """What is left of the day's IDENTIFYs. Raises `DependencyUnavailable` when Discord does not tell."""
    try:
        return _limit((await client.http.get_bot_gateway())[2])
    except (discord.GatewayNotFound, OSError, TimeoutError, aiohttp.ClientError) as error:
        problem, where = f"it can't be asked ({type(error).__name__})", discord_where(discord.http.Route.BASE)
        raise DependencyUnavailable("Discord", problem, where) from error


def _limit(answer: Any) -> StartLimit:
    return StartLimit(
        answer["total"], answer["remaining"], answer["reset_after"] / 1000, answer["max_concurrency"]
    )
