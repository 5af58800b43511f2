"""Which sandbox is meant when none is named, and what guilds are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.errors import SandboxNotNamed
from sandbox_core.models import Sandbox

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]


async def only_sandbox(core: Core, interaction: Interaction) -> str:
    """The id of the caller's only sandbox. Raises `SandboxNotNamed` when there is none, or several."""
    own = await core.manager.list(owner=str(interaction.user.id))
    if len(own) == 1:
        return str(own[0].id)
    raise SandboxNotNamed([sandbox.name for sandbox in own])


def guild_names(bot: AnyBot, sandbox: Sandbox) -> dict[str, str]:
    """Names of the sandbox's guilds, as far as the gateway told them."""
    guilds = (bot.get_guild(int(guild_id)) for guild_id in sandbox.guild_ids)
    return {str(guild.id): guild.name for guild in guilds if guild is not None}
