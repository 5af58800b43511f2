"""Tells other processes which guilds channels and interactions are of, in batches.

Nothing here is waited for on the event path. What can't be written in time is left out, and Discord is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import islice

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.redis.shared_channels import SharedChannels
from sandbox_core.routing import RouteTable
from sandbox_core.subjects import is_guild_id, is_snowflake

from .guilds import ChannelGuilds

_log = structlog.get_logger("sandbox.router")

_BATCH = 1000
_BATCH_SECONDS = 0.02
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 0.5
_MAX_QUEUED = 100_000
# What is shared is kept for a day.
_RENEW_SECONDS = 12 * 3600.0


class ChannelSharing:
    """Shares every interaction, the channels of guilds that have a route, and what was looked up.

    `table` gives the present routes, None while they are not known; `monotonic` is in seconds.
    """

    def __init__(
        self,
        shared: SharedChannels,
        guilds: ChannelGuilds,
        table: Callable[[], RouteTable | None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._guilds = guilds
        self._table = table
        self._monotonic = monotonic
        self._channels: dict[str, str] = {}
        self._interactions: dict[str, str] = {}
        self._shared_at: dict[str, float] = {}
        """When each guild's channels were shared."""
        self._seen: RouteTable | None = None
        self._grown = False
        self._wake = asyncio.Event()
        self._away = False
        guilds.tells = self

    def interaction(self, interaction_id: str, guild_id: str) -> None:
        """Share an interaction's guild."""
        if is_snowflake(interaction_id) and is_guild_id(guild_id) and len(self._interactions) < _MAX_QUEUED:
            self._interactions[interaction_id] = guild_id
            self._wake.set()

    def channels(self, guild_id: str, channel_ids: Iterable[str]) -> None:
        """A guild has these new channels; they are shared when the guild's others were."""
        if guild_id in self._shared_at:
            for channel_id in channel_ids:
                self.channel(channel_id, guild_id)
        else:
            self._grown = True

    def channel(self, channel_id: str, guild: str) -> None:
        """Share a channel's guild."""
        if is_snowflake(channel_id) and len(self._channels) < _MAX_QUEUED:
            self._channels[channel_id] = guild
            self._wake.set()

    async def run(self) -> None:
        """Write until cancelled. A batch that can't be written is left out: sharing only helps."""
        await tasks.repeat(
            self._turn,
            failed=lambda: _log.exception("channels_not_shared", dependency="Redis"),
            pause=_RETRY_SECONDS,
        )

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            self._look()
            return
        await asyncio.sleep(_BATCH_SECONDS)
        self._look()
        await self._write()

    def _look(self) -> None:
        """Queue the channels of guilds that have a route now and were not shared, or long ago."""
        table, now = self._table(), self._monotonic()
        due = [guild_id for guild_id, shared in self._shared_at.items() if now - shared >= _RENEW_SECONDS]
        if table is None or (table is self._seen and not self._grown and not due):
            return
        self._seen, self._grown = table, False
        for guild_id in due:
            del self._shared_at[guild_id]
        for guild_id, channel_ids in self._guilds.by_guild():
            if guild_id in table and guild_id not in self._shared_at and is_guild_id(guild_id):
                self._shared_at[guild_id] = now
                for channel_id in channel_ids:
                    self.channel(channel_id, guild_id)

    async def _write(self) -> None:
        interactions, channels = _batch(self._interactions), _batch(self._channels)
        if interactions or channels:
            try:
                await self._shared.keep(channels, interactions)
            except DependencyUnavailable as error:
                # First again, but for what was learned anew meanwhile.
                self._interactions = interactions | self._interactions
                self._channels = channels | self._channels
                if not self._away:
                    _log.warning("channels_not_shared", dependency=error.dependency, reason=error.reason)
                self._away = True
                await asyncio.sleep(_RETRY_SECONDS)
                return
            self._away = False
        if not self._interactions and not self._channels:
            self._wake.clear()


def _batch(queue: dict[str, str]) -> dict[str, str]:
    """Take the oldest entries out of the queue."""
    return {identity: queue.pop(identity) for identity in list(islice(queue, _BATCH))}
