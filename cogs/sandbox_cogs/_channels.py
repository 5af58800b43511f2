"""Asks Discord for the guild of a channel, for events that do not name their guild."""

from __future__ import annotations

import discord
from discord.http import HTTPClient

from sandbox_cogs._answers import NO_ANSWER, discord_away, is_discords
from sandbox_core.events import DIRECT

_DIRECT_CHANNELS = (discord.ChannelType.private.value, discord.ChannelType.group.value)


class RestChannels:
    """Look up channels with the bot's own HTTP client, which keeps Discord's rate limits."""

    def __init__(self, http: HTTPClient) -> None:
        self._http = http

    async def guild(self, channel_id: str) -> str | None:
        """Return the channel's guild, `DIRECT`, or None when the bot must not see the channel.

        Raises `DependencyUnavailable` when Discord gives no answer.
        """
        try:
            channel = await self._http.get_channel(int(channel_id))
        except (discord.Forbidden, discord.NotFound) as error:
            if not is_discords(error):
                raise discord_away(error) from error
            return None
        except (*NO_ANSWER, discord.DiscordException) as error:
            raise discord_away(error) from error
        guild_id = channel.get("guild_id")
        if guild_id is not None:
            return str(guild_id)
        return DIRECT if channel["type"] in _DIRECT_CHANNELS else None
