"""Finds a channel's guild when no local event named it: Redis, then Discord.

Events without a guild's id come on shard 0 for all shards, so the process that gets them is seldom the one
that knows their channel. What other processes shared is asked first, and Discord's REST API behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import structlog

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.redis.shared_channels import SharedChannels
from sandbox_core.subjects import is_snowflake

from .guilds import ChannelGuilds

_log = structlog.get_logger("sandbox.router")

WITHIN = 2.0
"""Seconds after its arrival in which an event's guild has to be found."""
# A channel that the bot may not see can become visible; until then it is not asked about again and again.
_NOT_ACCESSIBLE_SECONDS = 60.0
_KEPT = 50_000
# An interaction may be on its way from another process, and a server may come back.
_PAUSES = (0.0, 0.1, 0.2, 0.4, 0.8)
_REDIS_WITHIN = 0.5
_DISCORD_WITHIN = 0.8
_REDIS_QUESTIONS = 32
_DISCORD_QUESTIONS = 4
# Discord allows 50 requests a second in all (its developer documentation, "Rate Limits"): answering
# commands must not wait for questions.
_DISCORD_SPACING = 0.05


class ChannelDirectory(Protocol):
    """Discord itself, asked about one channel."""

    async def guild(self, channel_id: str) -> str | None:
        """The channel's guild, `DIRECT`, or None when the bot may not know.

        Raises `DependencyUnavailable` when Discord does not say either way.
        """


class ChannelLookup:
    """Asks within a bounded time, with a bounded number of questions; `guilds` remembers the answers.

    An answer is a guild's id, or `DIRECT`. `monotonic` is in seconds.
    """

    def __init__(
        self,
        shared: SharedChannels,
        guilds: ChannelGuilds,
        metrics: RoutingMetrics,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory: ChannelDirectory | None = None
        """Who asks Discord; None where nobody can."""
        self.guilds = guilds
        self._shared = shared
        self._metrics = metrics
        self._monotonic = monotonic
        self._not_accessible: OrderedDict[str, float] = OrderedDict()
        self._redis = asyncio.Semaphore(_REDIS_QUESTIONS)
        self._discord = asyncio.Semaphore(_DISCORD_QUESTIONS)
        self._next_question = 0.0

    async def find(
        self, channel_id: str | None, interaction_id: str | None, within: float = WITHIN
    ) -> str | None:
        """The guild, or None when nobody knows or nobody answers within so many seconds."""
        guild = None
        try:
            async with asyncio.timeout(within):
                guild = await self._ask(_checked(channel_id), _checked(interaction_id))
        except TimeoutError:
            _log.info("channel_not_found_in_time", channel_id=channel_id)
        if guild is None:
            self._metrics.attribution("none", "unknown")
        return guild

    async def _ask(self, channel_id: str | None, interaction_id: str | None) -> str | None:
        # Asked of both again until each has answered; of Redis even then where an interaction can come in.
        redis_answered = discord_answered = False
        for pause in _PAUSES:
            await asyncio.sleep(pause)
            if not redis_answered or interaction_id is not None:
                try:
                    guild = await self._asked_of_redis(channel_id, interaction_id)
                except (DependencyUnavailable, TimeoutError):
                    self._metrics.attribution("redis", "error")
                else:
                    redis_answered = True
                    if guild is not None:
                        return guild
            if channel_id is None or self.directory is None:
                discord_answered = True
            elif not discord_answered:
                try:
                    guild = await self._asked_of_discord(channel_id, self.directory)
                except (DependencyUnavailable, TimeoutError):
                    self._metrics.attribution("discord", "error")
                else:
                    discord_answered = True
                    if guild is not None:
                        return guild
            if redis_answered and discord_answered and interaction_id is None:
                break
        return None

    async def _asked_of_redis(self, channel_id: str | None, interaction_id: str | None) -> str | None:
        async with self._redis, asyncio.timeout(_REDIS_WITHIN):
            guild = await self._shared.find(channel_id, interaction_id)
        self._metrics.attribution("redis", "miss" if guild is None else "hit")
        if guild is not None and channel_id is not None:
            self.guilds.found(channel_id, guild, others_know=True)
        return guild

    async def _asked_of_discord(self, channel_id: str, directory: ChannelDirectory) -> str | None:
        if self._not_accessible.get(channel_id, 0.0) > self._monotonic():
            return None
        async with self._discord:
            await self._turn()
            async with asyncio.timeout(_DISCORD_WITHIN):
                guild = await directory.guild(channel_id)
        self._metrics.attribution("discord", "miss" if guild is None else "hit")
        if guild is None:
            self._not_accessible[channel_id] = self._monotonic() + _NOT_ACCESSIBLE_SECONDS
            if len(self._not_accessible) > _KEPT:
                self._not_accessible.popitem(last=False)
        else:
            self.guilds.found(channel_id, guild)
        return guild

    async def _turn(self) -> None:
        now = self._monotonic()
        wait = self._next_question - now
        self._next_question = max(self._next_question, now) + _DISCORD_SPACING
        if wait > 0:
            await asyncio.sleep(wait)


def _checked(identity: str | None) -> str | None:
    # It goes into keys and addresses: what is no id is not asked about.
    return identity if identity is not None and is_snowflake(identity) else None
