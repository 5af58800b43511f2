"""Facts about people and guilds, asked from Discord at the moment they are needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import discord

from cogs._core import AnyBot
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Actor, GuildAccess
from sandbox_core.settings import Settings

LOOKUP_SECONDS = 4.0
"""How long Discord may take to answer about one caller in one guild."""


async def actor_of(interaction: discord.Interaction[AnyBot], settings: Settings) -> Actor:
    """Who runs the command. `DISCORD_OWNER_IDS` decides who owns the bot; without it, the application does.

    Raises `DependencyUnavailable` when Discord has to be asked and does not answer.
    """
    user = interaction.user
    if settings.discord_owner_ids:
        is_owner = str(user.id) in settings.discord_owner_ids
    else:
        async with _discord_answers():
            is_owner = await interaction.client.is_owner(user)
    return Actor(str(user.id), user.display_name, is_owner)


async def guild_access(bot: AnyBot, guild_id: str, user_id: int) -> GuildAccess:
    """What `user_id` and the bot may do in a guild, from Discord's REST API and never from a cache.

    A role taken away a second ago counts: the answer decides where a server's live events go.
    Raises `DependencyUnavailable` when Discord does not answer.
    """
    async with _discord_answers():
        try:
            guild = await bot.fetch_guild(int(guild_id), with_counts=False)
        except (discord.NotFound, discord.Forbidden):
            # Discord answers so for a guild that the bot is not a member of, and for one that is not.
            return GuildAccess(guild_id, bot_is_member=False, caller_manages=False)
        try:
            member = await guild.fetch_member(user_id)
        except discord.NotFound:
            return GuildAccess(guild_id, bot_is_member=True, caller_manages=False, name=guild.name)
    manages = member.guild_permissions.manage_guild
    return GuildAccess(guild_id, bot_is_member=True, caller_manages=manages, name=guild.name)


@asynccontextmanager
async def _discord_answers() -> AsyncIterator[None]:
    """Turns Discord being away, slow or failing into `DependencyUnavailable`."""
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            yield
    except TimeoutError:
        raise DependencyUnavailable("Discord", f"no answer within {LOOKUP_SECONDS:g} seconds") from None
    except discord.HTTPException as error:
        raise DependencyUnavailable("Discord", f"it answered with status {error.status}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise DependencyUnavailable("Discord", "it can't be reached") from error
