"""Asks Discord for the rights of people in guilds, at the moment they are needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import discord

from sandbox_cogs._answers import NO_ANSWER, discord_away, is_discords
from sandbox_cogs._core import AnyBot
from sandbox_core.errors import NotPermitted
from sandbox_core.models import Actor, GuildAccess
from sandbox_core.settings import Settings
from sandbox_core.validation import parse_guild_id

LOOKUP_SECONDS = 3.0
"""The limit in seconds for Discord's answer about one caller in one guild."""
CHECK_SECONDS = 2.0
"""The limit in seconds before the acknowledgement, which Discord expects within three seconds."""

Interaction = discord.Interaction[AnyBot]


async def check_may_use(interaction: Interaction, settings: Settings) -> None:
    """Raise `NotPermitted` when the settings name developer roles and the caller may not use the commands.

    Without developer roles Discord's own rules decide: Manage Server, or the server's Integrations page.
    A bot can't add a role to those rules; only an administrator can. So with developer roles Discord shows
    the commands to everybody, and this check decides: it lets pass members with Manage Server or one of the
    roles, and the bot's owners. Raises `DependencyUnavailable` when it must ask Discord and gets no answer.
    """
    if _may_use(interaction, settings) or await _is_owner(interaction, settings, CHECK_SECONDS):
        return
    if interaction.guild_id is None and await _may_use_in_a_dev_guild(interaction, settings):
        return
    roles = " or ".join(f"<@&{role_id}>" for role_id in settings.discord_dev_role_ids)
    raise NotPermitted("use these commands", f"members of this server with Manage Server or {roles}")


def may_use_unasked(interaction: Interaction, settings: Settings) -> bool:
    """Return whether the caller may use the commands, without asking Discord.

    An owner of the bot who is known only to Discord gets False.
    """
    return _may_use(interaction, settings) or str(interaction.user.id) in settings.discord_owner_ids


def _may_use(interaction: Interaction, settings: Settings) -> bool:
    if not settings.discord_dev_role_ids:
        return True
    if interaction.guild_id is None:
        # A direct message has no roles or permissions: those in the dev guilds count.
        return False
    return interaction.permissions.manage_guild or _has_role(interaction.user, settings)


def _has_role(user: discord.User | discord.Member, settings: Settings) -> bool:
    # The raw ids: `roles` leaves out roles that are not in the cache, which is empty after a resume.
    return isinstance(user, discord.Member) and any(
        str(role_id) in settings.discord_dev_role_ids for role_id in user._roles
    )


async def _may_use_in_a_dev_guild(interaction: Interaction, settings: Settings) -> bool:
    """Ask Discord for the caller's rights in the dev guilds, for a button in a direct message."""
    async with _discord_answers(CHECK_SECONDS):
        for guild_id in settings.discord_dev_guild_ids:
            try:
                guild = await interaction.client.fetch_guild(int(guild_id), with_counts=False)
                member = await guild.fetch_member(interaction.user.id)
            except (discord.NotFound, discord.Forbidden) as error:
                if not is_discords(error):
                    raise
                continue
            if member.guild_permissions.manage_guild or _has_role(member, settings):
                return True
    return False


async def actor_of(interaction: Interaction, settings: Settings) -> Actor:
    """Return who runs the command, and whether they own the bot.

    `DISCORD_OWNER_IDS` names the bot's owners; without it, the application's owner or team counts.
    Raises `DependencyUnavailable` when it must ask Discord and gets no answer.
    """
    user = interaction.user
    return Actor(str(user.id), user.display_name, await _is_owner(interaction, settings, LOOKUP_SECONDS))


async def _is_owner(interaction: Interaction, settings: Settings, seconds: float) -> bool:
    if settings.discord_owner_ids:
        return str(interaction.user.id) in settings.discord_owner_ids
    async with _discord_answers(seconds):
        return await interaction.client.is_owner(interaction.user)


async def access_to(interaction: Interaction, guild: str | None) -> GuildAccess:
    """Return the caller's `guild_access` in the guild with this id, or in the guild of the interaction.

    Raises `InvalidInput` when the text is no id.
    """
    guild_id = parse_guild_id(guild) if guild is not None else str(interaction.guild_id)
    return await guild_access(interaction.client, guild_id, interaction.user.id)


async def guild_access(bot: AnyBot, guild_id: str, user_id: int) -> GuildAccess:
    """Return what `user_id` and the bot may do in a guild, from Discord's REST API and never from a cache.

    The answer decides where a server's live events go, so a role removed a second ago must count.
    Raises `DependencyUnavailable` when Discord does not answer.
    """
    async with _discord_answers(LOOKUP_SECONDS):
        try:
            guild = await bot.fetch_guild(int(guild_id), with_counts=False)
        except (discord.NotFound, discord.Forbidden) as error:
            if not is_discords(error):
                raise
            # Discord gives this answer for a guild without the bot, and for a guild that does not exist.
            return GuildAccess(guild_id, bot_is_member=False, caller_manages=False)
        try:
            member = await guild.fetch_member(user_id)
        except discord.NotFound as error:
            if not is_discords(error):
                raise
            return GuildAccess(str(guild.id), bot_is_member=True, caller_manages=False, name=guild.name)
    manages = member.guild_permissions.manage_guild
    return GuildAccess(str(guild.id), bot_is_member=True, caller_manages=manages, name=guild.name)


@asynccontextmanager
async def _discord_answers(seconds: float) -> AsyncIterator[None]:
    """Raise `DependencyUnavailable` when Discord is away, slow or failing."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise discord_away(seconds=seconds) from None
    except (discord.HTTPException, *NO_ANSWER) as error:
        raise discord_away(error) from error
