"""Finds the bot's owners."""

from __future__ import annotations

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.settings import Settings

_OWNING_ROLES = frozenset({discord.TeamMemberRole.admin, discord.TeamMemberRole.developer})


def owner_ids_of(bot: AnyBot, settings: Settings) -> frozenset[str]:
    """Return the user ids of the bot's owners; empty before the login when no setting names them.

    Without `DISCORD_OWNER_IDS` they are the owners that discord.py's `Bot.is_owner` knows. This needs no
    request, because the login already fetched the application.
    """
    if settings.discord_owner_ids:
        return frozenset(settings.discord_owner_ids)
    if bot.owner_id:
        return frozenset({str(bot.owner_id)})
    if bot.owner_ids:
        return frozenset(str(owner_id) for owner_id in bot.owner_ids)
    application = bot.application
    if application is None:
        return frozenset()
    if application.team is None:
        return frozenset({str(application.owner.id)})
    return frozenset(str(member.id) for member in application.team.members if member.role in _OWNING_ROLES)
