"""Asks Discord whose a channel is, for events that do not name their guild."""

from __future__ import annotations

import aiohttp
import discord
from discord.http import HTTPClient

from sandbox_cogs._answers import is_discords
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.events import DIRECT

_DIRECT_CHANNELS = (discord.ChannelType.private.value, discord.ChannelType.group.value)


class RestChannels:
    """`GET /channels/{id}` by way of the bot's own HTTP client and its rate limits."""

    def __init__(self, http: HTTPClient) -> None:
        self._http = http

    async def guild(self, channel_id: str) -> str | None:
        """The channel's guild, `DIRECT`, or None when Discord does not let the bot see the channel.

        Raises `DependencyUnavailable` when Discord does not say either way.
        """
        try:
            channel = await self._http.get_channel(int(channel_id))
        except (discord.Forbidden, discord.NotFound) as error:
            if not is_discords(error):
                raise DependencyUnavailable("Discord", f"a proxy answered {error.status} for it") from error
            return None
        except (OSError, TimeoutError, aiohttp.ClientError, discord.DiscordException) as error:
            raise DependencyUnavailable("Discord", f"it can't be asked ({type(error).__name__})") from error
        guild_id = channel.get("guild_id")
        if guild_id is not None:
            return str(guild_id)
        return DIRECT if channel["type"] in _DIRECT_CHANNELS else None
