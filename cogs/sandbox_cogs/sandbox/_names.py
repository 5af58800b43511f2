"""What guilds are called."""

from __future__ import annotations

from sandbox_cogs._core import AnyBot
from sandbox_core.models import Sandbox


def guild_names(bot: AnyBot, sandbox: Sandbox) -> dict[str, str]:
    """Names of the sandbox's guilds, as far as the gateway told them."""
    guilds = (bot.get_guild(int(guild_id)) for guild_id in sandbox.guild_ids)
    return {str(guild.id): guild.name for guild in guilds if guild is not None}
