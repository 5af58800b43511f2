"""Who owns the bot."""

from __future__ import annotations

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.settings import Settings

_OWNING_ROLES = frozenset({discord.TeamMemberRole.admin, discord.TeamMemberRole.developer})


def owner_ids_of(bot: AnyBot, settings: Settings) -> frozenset[str]:
    """The owners' user ids; none while the bot has not logged in and nobody said who they are.

    Without `DISCORD_OWNER_IDS` these are the owners that discord.py's `Bot.is_owner` knows, found without
    a request: the login itself asks for the application.
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
