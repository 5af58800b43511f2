"""Whose a channel is that this process was not told about: asked of the other processes and of Discord.

Events without a guild's id come on shard 0 for all shards, so the process that gets them is seldom the one
that knows their channel. What other processes noted is asked first, and Discord's REST API behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.subjects import is_snowflake

_log = structlog.get_logger("sandbox.router")

WITHIN = 2.0
"""Seconds after its arrival in which an event's owner has to be found."""
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


class Notes(Protocol):
    """What processes tell each other; see `OwnerNotes`. Raises `DependencyUnavailable`."""

    async def find(self, channel_id: str | None, interaction_id: str | None) -> str | None: ...

    async def keep(self, channels: Mapping[str, str], interactions: Mapping[str, str]) -> None: ...


class ChannelDirectory(Protocol):
    """Discord itself, asked about one channel."""

    async def owner(self, channel_id: str) -> str | None:
        """The channel's guild, `DIRECT`, or None when the bot may not know.

        Raises `DependencyUnavailable` when Discord does not say either way.
        """


class OwnerFinder:
    """Finds owners within a bounded time, with a bounded number of questions, and remembers them.

    An owner is a guild's id, or `DIRECT`. `monotonic` is in seconds.
    """

    def __init__(
        self, notes: Notes, metrics: RoutingMetrics, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.directory: ChannelDirectory | None = None
        """Who asks Discord; None where nobody can."""
        self.on_found: Callable[[str, str], None] = _nobody
        """Told each channel and its owner that other processes may not know yet."""
        self._notes = notes
        self._metrics = metrics
        self._monotonic = monotonic
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._not_accessible: OrderedDict[str, float] = OrderedDict()
        self._redis = asyncio.Semaphore(_REDIS_QUESTIONS)
        self._discord = asyncio.Semaphore(_DISCORD_QUESTIONS)
        self._next_question = 0.0

    def known(self, channel_id: str) -> str | None:
        """The channel's owner, if it was found before."""
        owner = self._owners.get(channel_id)
        if owner is not None:
            self._owners.move_to_end(channel_id)
        return owner

    def learn(self, channel_id: str, owner: str) -> None:
        """An event told the channel's owner."""
        if self._remember(channel_id, owner):
            self.on_found(channel_id, owner)

    async def find(
        self, channel_id: str | None, interaction_id: str | None, within: float = WITHIN
    ) -> str | None:
        """The owner, or None when nobody knows or nobody answers within so many seconds."""
        owner = None
        try:
            async with asyncio.timeout(within):
                owner = await self._ask(_checked(channel_id), _checked(interaction_id))
        except TimeoutError:
            _log.info("owner_not_found_in_time", channel_id=channel_id)
        if owner is None:
            self._metrics.attribution("none", "unknown")
        return owner

    async def _ask(self, channel_id: str | None, interaction_id: str | None) -> str | None:
        # Asked of both again until each has answered; of Redis even then where an interaction can come in.
        redis_answered = discord_answered = False
        for pause in _PAUSES:
            await asyncio.sleep(pause)
            if not redis_answered or interaction_id is not None:
                try:
                    owner = await self._noted(channel_id, interaction_id)
                except (DependencyUnavailable, TimeoutError):
                    self._metrics.attribution("redis", "error")
                else:
                    redis_answered = True
                    if owner is not None:
                        return owner
            if channel_id is None or self.directory is None:
                discord_answered = True
            elif not discord_answered:
                try:
                    owner = await self._told(channel_id, self.directory)
                except (DependencyUnavailable, TimeoutError):
                    self._metrics.attribution("discord", "error")
                else:
                    discord_answered = True
                    if owner is not None:
                        return owner
            if redis_answered and discord_answered and interaction_id is None:
                break
        return None

    async def _noted(self, channel_id: str | None, interaction_id: str | None) -> str | None:
        async with self._redis, asyncio.timeout(_REDIS_WITHIN):
            owner = await self._notes.find(channel_id, interaction_id)
        self._metrics.attribution("redis", "miss" if owner is None else "hit")
        if owner is not None and channel_id is not None:
            self._remember(channel_id, owner)
        return owner

    async def _told(self, channel_id: str, directory: ChannelDirectory) -> str | None:
        if self._not_accessible.get(channel_id, 0.0) > self._monotonic():
            return None
        async with self._discord:
            await self._turn()
            async with asyncio.timeout(_DISCORD_WITHIN):
                owner = await directory.owner(channel_id)
        self._metrics.attribution("discord", "miss" if owner is None else "hit")
        if owner is None:
            self._not_accessible[channel_id] = self._monotonic() + _NOT_ACCESSIBLE_SECONDS
            if len(self._not_accessible) > _KEPT:
                self._not_accessible.popitem(last=False)
        else:
            self.learn(channel_id, owner)
        return owner

    async def _turn(self) -> None:
        now = self._monotonic()
        wait = self._next_question - now
        self._next_question = max(self._next_question, now) + _DISCORD_SPACING
        if wait > 0:
            await asyncio.sleep(wait)

    def _remember(self, channel_id: str, owner: str) -> bool:
        """True when it was not known."""
        known = self._owners.get(channel_id)
        self._owners[channel_id] = owner
        self._owners.move_to_end(channel_id)
        if len(self._owners) > _KEPT:
            self._owners.popitem(last=False)
        return known != owner


def _checked(identity: str | None) -> str | None:
    # It goes into keys and addresses: what is no id is not asked about.
    return identity if identity is not None and is_snowflake(identity) else None


def _nobody(_channel_id: str, _owner: str) -> None:
    """No process is told."""
