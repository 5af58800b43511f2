"""What Discord offers while a name or a server is typed; a help, never a check."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import aiohttp
import discord
import structlog
from discord import app_commands

from cogs._core import AnyBot
from cogs._deadline import within
from sandbox_core.errors import DependencyUnavailable

from ._access import guild_access
from ._text import choice_label

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

MAX_CHOICES = 25
"""As many choices as Discord shows."""
BUDGET_SECONDS = 2.0
"""Discord waits three seconds for choices."""
LOOKUPS_PER_KEYSTROKE = 10
MEMORY_SECONDS = 60.0
_MEMORY_LIMIT = 5000

Choices = list[app_commands.Choice[str]]
Interaction = discord.Interaction[AnyBot]

_log = structlog.get_logger("sandbox.discord")


async def _or_nothing(choices: Coroutine[Any, Any, Choices]) -> Choices:
    """The choices, or none: an empty list is what Discord shows best when something is away."""
    try:
        return await within(BUDGET_SECONDS, choices)
    except Exception as error:  # there is nobody to tell; the command itself reports the reason
        _log.debug("autocomplete_failed", error=type(error).__name__)
        return []


async def suggest_sandboxes(core: Core, interaction: Interaction, current: str) -> Choices:
    """Sandboxes whose name matches what was typed, the caller's own first. Never raises."""

    async def choices() -> Choices:
        found = await core.manager.suggest(current, owner_first=str(interaction.user.id))
        return [
            app_commands.Choice(name=choice_label(sandbox), value=sandbox.name)
            for sandbox in found[:MAX_CHOICES]
        ]

    return await _or_nothing(choices())


class GuildSuggestions:
    """Guilds that the bot is in and the caller may manage.

    Which guilds the bot is in comes from the gateway. Whether the caller manages one may need a request
    per guild, so the answers are remembered for a minute and few are asked for at a time; registering
    itself asks again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._memory: dict[tuple[int, int], tuple[bool, float]] = {}

    async def __call__(self, interaction: Interaction, current: str) -> Choices:
        """Choices for what was typed of a guild's name or id, this guild first. Never raises."""
        return await _or_nothing(self._choices(interaction, current.strip().casefold()))

    async def _choices(self, interaction: Interaction, typed: str) -> Choices:
        here = interaction.guild_id
        matching = [
            guild
            for guild in interaction.client.guilds
            if typed in guild.name.casefold() or str(guild.id).startswith(typed)
        ]
        matching.sort(key=lambda guild: (guild.id != here, guild.name.casefold()))
        user_id = interaction.user.id
        if here is not None:
            self._remember(here, user_id, interaction.permissions.manage_guild)
        unknown = [guild for guild in matching if self._recall(guild.id, user_id) is None]
        asked = unknown[:LOOKUPS_PER_KEYSTROKE]
        await asyncio.gather(*(self._ask(interaction.client, guild, user_id) for guild in asked))
        managed = [guild for guild in matching if self._recall(guild.id, user_id)]
        return [
            app_commands.Choice(name=f"{guild.name[:75]} ({guild.id})", value=str(guild.id))
            for guild in managed[:MAX_CHOICES]
        ]

    async def _ask(self, bot: AnyBot, guild: discord.Guild, user_id: int) -> None:
        if guild.owner_id is None:
            # After a resumed session only the guild's name is known: its roles have to be asked for.
            await self._ask_for_all(bot, guild, user_id)
            return
        try:
            member = guild.get_member(user_id) or await guild.fetch_member(user_id)
        except discord.NotFound:
            self._remember(guild.id, user_id, False)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            # One guild that can't be asked must not cost the others their place in the list.
            _log.debug("autocomplete_lookup_failed", guild_id=str(guild.id), error=type(error).__name__)
        else:
            self._remember(guild.id, user_id, member.guild_permissions.manage_guild)

    async def _ask_for_all(self, bot: AnyBot, guild: discord.Guild, user_id: int) -> None:
        try:
            access = await guild_access(bot, str(guild.id), user_id)
        except DependencyUnavailable as error:
            _log.debug("autocomplete_lookup_failed", guild_id=str(guild.id), error=error.reason)
        else:
            self._remember(guild.id, user_id, access.caller_manages)

    def _recall(self, guild_id: int, user_id: int) -> bool | None:
        manages, until = self._memory.get((guild_id, user_id), (False, 0.0))
        return manages if self._clock() < until else None

    def _remember(self, guild_id: int, user_id: int, manages: bool) -> None:
        if len(self._memory) >= _MEMORY_LIMIT:
            self._memory.clear()
        self._memory[guild_id, user_id] = (manages, self._clock() + MEMORY_SECONDS)
