"""Names of guilds."""

from __future__ import annotations

import asyncio

import aiohttp
import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.models import Sandbox
from sandbox_core.settings import Settings
from sandbox_core.words import storable

_ASK_WITHIN = 1.0
_MOST_ASKED = 10
_MEMBER = "sandbox:member"


async def guild_names(
    interaction: discord.Interaction[AnyBot], sandbox: Sandbox, settings: Settings
) -> dict[str, str]:
    """Return the names of the sandbox's guilds that the gateway has sent, by id.

    The sandbox's owner, its colleagues and the bot's owners see all names, other callers only those of their
    own guilds: the name of a guild may be a secret of its members.
    """
    bot = interaction.client
    known = [bot.get_guild(int(guild_id)) for guild_id in sandbox.guild_ids]
    guilds = [guild for guild in known if guild is not None]
    caller = str(interaction.user.id)
    if caller not in {sandbox.owner, *settings.discord_owner_ids} and sandbox.share_of(caller) is None:
        # Live updates show the same interaction again, and ask only once.
        member: dict[int, bool] = interaction.extras.setdefault(_MEMBER, {})
        asked = [guild for guild in guilds if guild.id not in member][:_MOST_ASKED]
        answers = await asyncio.gather(*(_is_member(guild, interaction.user.id) for guild in asked))
        member.update((guild.id, answer) for guild, answer in zip(asked, answers, strict=True))
        guilds = [guild for guild in guilds if member.get(guild.id)]
    return {str(guild.id): storable(guild.name) for guild in guilds}


async def _is_member(guild: discord.Guild, user_id: int) -> bool:
    if guild.get_member(user_id) is not None:
        return True
    try:
        async with asyncio.timeout(_ASK_WITHIN):
            await guild.fetch_member(user_id)
    except (discord.HTTPException, aiohttp.ClientError, OSError):
        # Discord says no, or nothing: the id is shown without the name.
        return False
    return True
