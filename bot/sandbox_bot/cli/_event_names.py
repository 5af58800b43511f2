"""The names of servers and channels, for the lines of events."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.settings import Settings
from sandbox_core.workbench.summary import Names

from ..discord_rest import DiscordRest, TokenError, discord_rest

_PAGE = 200


async def names_of(settings: Settings, guild_ids: Collection[str] | None) -> Names:
    """Return the names in these servers; with None those of the bot's servers alone.

    Where Discord can't be asked, ids have to do.
    """
    names = Names()
    with suppress(TokenError, DependencyUnavailable):
        async with discord_rest(settings) as discord:
            for guild in await discord.get(f"/users/@me/guilds?limit={_PAGE}") or ():
                names.guilds[guild["id"]] = guild["name"]
            await asyncio.gather(*(_channels(discord, each, names) for each in guild_ids or ()))
    return names


async def _channels(discord: DiscordRest, guild_id: str, names: Names) -> None:
    channels, threads = await asyncio.gather(
        discord.get(f"/guilds/{guild_id}/channels"), discord.get(f"/guilds/{guild_id}/threads/active")
    )
    names.learn_channels(channels)
    names.learn_channels((threads or {}).get("threads"))
