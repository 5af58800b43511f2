"""Facts about people and guilds, asked from Discord at the moment they are needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import discord

from sandbox_cogs._answers import is_discords
from sandbox_cogs._core import AnyBot
from sandbox_core.addresses import discord_where
from sandbox_core.errors import DependencyUnavailable, NotPermitted
from sandbox_core.models import Actor, GuildAccess
from sandbox_core.settings import Settings
from sandbox_core.validation import parse_guild_id

LOOKUP_SECONDS = 3.0
"""How long Discord may take to answer about one caller in one guild."""
CHECK_SECONDS = 2.0
"""How long it may take before an interaction is acknowledged, for which Discord gives three seconds."""

Interaction = discord.Interaction[AnyBot]


async def check_may_use(interaction: Interaction, settings: Settings) -> None:
    """Raise `NotPermitted` when the settings name developer roles and the caller may not use the commands.

    Without such roles Discord's own rules decide alone: Manage Server, or what the server's Integrations
    page says. Those rules can't add a role from here (only an administrator may), so with roles set the
    commands are shown to everybody, and this check is the rule: Manage Server, one of the roles, or being
    the bot's owner. Raises `DependencyUnavailable` when Discord has to be asked and does not answer.
    """
    if _may_use(interaction, settings) or await _is_owner(interaction, settings, CHECK_SECONDS):
        return
    roles = " or ".join(f"<@&{role_id}>" for role_id in settings.discord_dev_role_ids)
    raise NotPermitted("use these commands", f"members of this server with Manage Server or {roles}")


def may_use_unasked(interaction: Interaction, settings: Settings) -> bool:
    """As `check_may_use`, from what is known at once: an owner that Discord has to be asked for is not."""
    return _may_use(interaction, settings) or str(interaction.user.id) in settings.discord_owner_ids


def _may_use(interaction: Interaction, settings: Settings) -> bool:
    roles = settings.discord_dev_role_ids
    # In a direct message nobody has roles. The bot's notices there go to a sandbox's owner, and whoever
    # presses their buttons has to own it all the same.
    if not roles or interaction.guild_id is None or interaction.permissions.manage_guild:
        return True
    user = interaction.user
    # The ids as they came: `roles` leaves out what the cache lacks, and after a resumed session it is bare.
    return isinstance(user, discord.Member) and any(str(role_id) in roles for role_id in user._roles)


async def actor_of(interaction: Interaction, settings: Settings) -> Actor:
    """Who runs the command. `DISCORD_OWNER_IDS` decides who owns the bot; without it, the application does.

    Raises `DependencyUnavailable` when Discord has to be asked and does not answer.
    """
    user = interaction.user
    return Actor(str(user.id), user.display_name, await _is_owner(interaction, settings, LOOKUP_SECONDS))


async def _is_owner(interaction: Interaction, settings: Settings, seconds: float) -> bool:
    if settings.discord_owner_ids:
        return str(interaction.user.id) in settings.discord_owner_ids
    async with _discord_answers(seconds):
        return await interaction.client.is_owner(interaction.user)


async def access_to(interaction: Interaction, guild: str | None) -> GuildAccess:
    """`guild_access` of the caller in the guild with this id, or in the one they are in.

    Raises `InvalidInput` for what is no id.
    """
    guild_id = parse_guild_id(guild) if guild is not None else str(interaction.guild_id)
    return await guild_access(interaction.client, guild_id, interaction.user.id)


async def guild_access(bot: AnyBot, guild_id: str, user_id: int) -> GuildAccess:
    """What `user_id` and the bot may do in a guild, from Discord's REST API and never from a cache.

    A role taken away a second ago counts: the answer decides where a server's live events go.
    Raises `DependencyUnavailable` when Discord does not answer.
    """
    async with _discord_answers(LOOKUP_SECONDS):
        try:
            guild = await bot.fetch_guild(int(guild_id), with_counts=False)
        except (discord.NotFound, discord.Forbidden) as error:
            if not is_discords(error):
                raise
            # Discord answers so for a guild that the bot is not a member of, and for one that is not.
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
    """Turns Discord being away, slow or failing into `DependencyUnavailable`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DependencyUnavailable("Discord", f"no answer within {seconds:g} seconds") from None
    except discord.HTTPException as error:
        who = "it" if is_discords(error) else "a proxy"
        raise DependencyUnavailable("Discord", f"{who} answered with status {error.status}") from error
    except (aiohttp.ClientError, OSError) as error:
        where = discord_where(discord.http.Route.BASE)
        raise DependencyUnavailable("Discord", f"it can't be reached at {where}") from error
