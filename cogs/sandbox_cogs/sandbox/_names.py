"""Names of guilds."""

from __future__ import annotations

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.models import Sandbox
from sandbox_core.settings import Settings


def guild_names(
    interaction: discord.Interaction[AnyBot], sandbox: Sandbox, settings: Settings
) -> dict[str, str]:
    """Return the names of the sandbox's guilds that the gateway has sent, by id.

    The sandbox's owner and the bot's owners see all names, other callers only those of their own guilds: the
    name of a guild may be a secret of its members.
    """
    bot, caller_id = interaction.client, interaction.user.id
    sees_all = str(caller_id) in {sandbox.owner, *settings.discord_owner_ids}
    guilds = (bot.get_guild(int(guild_id)) for guild_id in sandbox.guild_ids)
    return {
        str(guild.id): guild.name
        for guild in guilds
        if guild is not None
        and (sees_all or guild.id == interaction.guild_id or guild.get_member(caller_id) is not None)
    }
