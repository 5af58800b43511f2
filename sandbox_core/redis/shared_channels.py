"""What gateway processes tell each other about channels and interactions: the guild of each.

A channel never changes its guild and no id is given twice, so what stands here can be old and never wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sandbox_core import subjects
from sandbox_core.events import DIRECT

from .errors import translating

if TYPE_CHECKING:
    from redis.asyncio import Redis

CHANNEL_SECONDS = 24 * 3600
"""How long a channel's guild is kept."""
# An interaction's token is valid this long (Discord's developer documentation, "Receiving and Responding").
_INTERACTION_SECONDS = 15 * 60


class SharedChannels:
    """Reads and writes what is shared. Every method raises `DependencyUnavailable` when Redis is away.

    In place of a guild's id stands `DIRECT` for a channel of direct messages.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def find(self, channel_id: str | None, interaction_id: str | None) -> str | None:
        """The guild of the channel, or else of the interaction; None when neither was shared."""
        keys = [] if channel_id is None else [subjects.channel_guild_key(channel_id)]
        if interaction_id is not None:
            keys.append(subjects.interaction_guild_key(interaction_id))
        if not keys:
            return None
        with translating():
            values = await self._redis.mget(keys)
        for value in values:
            guild = str(value)
            # Whatever else stands there, nobody here wrote it.
            if guild == DIRECT or subjects.is_guild_id(guild):
                return guild
        return None

    async def keep(self, channels: Mapping[str, str], interactions: Mapping[str, str]) -> None:
        """Share these, in one round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        for channel_id, guild in channels.items():
            pipeline.set(subjects.channel_guild_key(channel_id), guild, ex=CHANNEL_SECONDS)
        for interaction_id, guild_id in interactions.items():
            pipeline.set(subjects.interaction_guild_key(interaction_id), guild_id, ex=_INTERACTION_SECONDS)
        with translating():
            await pipeline.execute()
