"""Asks Discord about servers, for commands that register them."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_core.models import GuildAccess
from sandbox_core.settings import Settings

from ..discord_rest import TokenMissingError, TokenRefusedError, discord_rest
from ._exit import usage


async def guild_accesses(
    settings: Settings, guild_ids: Sequence[str], user_id: str | None
) -> list[GuildAccess]:
    """Return what the bot and `user_id` may do in these guilds; without guilds Discord is not asked.

    Raises `CommandFailed` when there is no token or Discord refuses it.
    """
    if not guild_ids:
        return []
    try:
        async with discord_rest(settings) as discord:
            return [await discord.access(guild_id, user_id) for guild_id in guild_ids]
    except TokenMissingError as error:
        raise usage(
            "DISCORD_TOKEN is not set, so Discord can't be asked whether the bot is in that server. "
            "Set it, or let the operator (no --owner) vouch for it with --unchecked."
        ) from error
    except TokenRefusedError as error:
        raise usage(str(error)) from error
