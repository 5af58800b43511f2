"""Suggests sandboxes, servers and templates while the caller types; a help, never a check."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import aiohttp
import discord
import structlog
from discord import app_commands

from sandbox_cogs._answers import is_discords
from sandbox_cogs._core import AnyBot
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.events.table import CONNECTION_EVENTS
from sandbox_core.tasks import within
from sandbox_core.templates import NONE
from sandbox_core.words import storable
from sandbox_core.workbench.fixtures import names

from ._access import guild_access
from ._text import choice_label

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

MAX_CHOICES = 25
"""The most choices that Discord shows."""
BUDGET_SECONDS = 2.0
"""Seconds to find choices; Discord waits three."""
LIST_SECONDS = 1.0
"""Seconds that the suggestions wait for the list of all guilds."""
RETRY_SECONDS = 10.0
MOST_LISTED = 1000
"""The most guilds to list; Discord sends up to 200 in one answer."""
LOOKUPS_PER_KEYSTROKE = 10
FAR_LOOKUPS_PER_KEYSTROKE = 3
"""The same for guilds of other processes' shards: each takes two requests."""
MEMORY_SECONDS = 60.0
_MEMORY_LIMIT = 5000

Choices = list[app_commands.Choice[str]]
Interaction = discord.Interaction[AnyBot]

_log = structlog.get_logger("sandbox.discord")


async def _or_nothing(choices: Coroutine[Any, Any, Choices]) -> Choices:
    """Return the choices, or none after a failure: Discord shows an empty list better than an error."""
    try:
        return await within(BUDGET_SECONDS, choices)
    except Exception as error:  # the command itself reports the reason
        _log.debug("autocomplete_failed", error=type(error).__name__)
        return []


async def leave_to_others() -> NoReturn:
    """Send no answer at all: another process answers.

    discord.py sends what an autocomplete returns, and logs what it raises. So this ends the task, which
    belongs to this interaction alone.
    """
    raise asyncio.CancelledError


async def suggest_sandboxes(core: Core, interaction: Interaction, current: str) -> Choices:
    """Return sandboxes whose name matches the typed text, the caller's own first. Never raises."""

    async def choices() -> Choices:
        found = await core.manager.suggest(current, owner_first=str(interaction.user.id))
        return [
            app_commands.Choice(name=choice_label(sandbox), value=sandbox.name)
            for sandbox in found[:MAX_CHOICES]
        ]

    return await _or_nothing(choices())


async def suggest_templates(core: Core, current: str) -> Choices:
    """Return templates whose name contains the typed text, and `none`. Never raises."""

    async def choices() -> Choices:
        typed = current.strip().casefold()
        names = [name for name in [*await core.manager.templates(), NONE] if typed in name.casefold()]
        return [app_commands.Choice(name=name, value=name) for name in names[:MAX_CHOICES]]

    return await _or_nothing(choices())


def suggest_event_types(current: str) -> Choices:
    """Return the types that a sandbox can get and that have the typed text; first what begins with it."""
    typed = current.strip().upper().replace(" ", "_")
    found = [each for each in names() if typed in each and each not in CONNECTION_EVENTS]
    found.sort(key=lambda each: (not each.startswith(typed), each))
    return [app_commands.Choice(name=each, value=each) for each in found[:MAX_CHOICES]]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A guild of the bot; `guild` is discord.py's object, None when another process runs its shard."""

    id: int
    name: str
    guild: discord.Guild | None = None

    def fits(self, typed: str) -> bool:
        """Return whether its name contains the typed text, or its id starts with it."""
        return typed in self.name.casefold() or str(self.id).startswith(typed)


class GuildsElsewhere:
    """The guilds of all shards, from Discord's REST API: other processes may run most of the shards."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: tuple[_Candidate, ...] = ()
        self._fresh_until = -math.inf
        self._turn = asyncio.Lock()

    async def known(self, bot: AnyBot) -> tuple[_Candidate, ...]:
        """Return the guilds, at most a minute old, or the last known ones while Discord fails."""
        async with self._turn:
            if self._clock() >= self._fresh_until:
                self._fresh_until = self._clock() + await self._ask(bot)
        return self._known

    async def _ask(self, bot: AnyBot) -> float:
        """Ask Discord once. Return for how many seconds not to ask again."""
        try:
            self._known = await within(LIST_SECONDS, self._list(bot))
        except (TimeoutError, discord.HTTPException, aiohttp.ClientError, OSError) as error:
            # The guilds of this process are still suggested.
            _log.debug("guilds_not_listed", error=type(error).__name__)
            return RETRY_SECONDS
        return MEMORY_SECONDS

    async def _list(self, bot: AnyBot) -> tuple[_Candidate, ...]:
        guilds = bot.fetch_guilds(limit=MOST_LISTED, with_counts=False)
        return tuple([_Candidate(guild.id, storable(guild.name)) async for guild in guilds])


class GuildSuggestions:
    """Suggests the bot's guilds that the caller may manage.

    The bot's guilds come from the gateway, and with several shards also from Discord's list. To know whether
    the caller manages a guild may take requests, so the answers are remembered for a minute and only a few
    guilds are asked for at a time. The registration asks again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._memory: dict[tuple[int, int], tuple[bool, float]] = {}
        self._elsewhere = GuildsElsewhere(clock)

    async def __call__(self, interaction: Interaction, current: str) -> Choices:
        """Return guilds whose name or id matches the typed text, this guild first. Never raises."""
        return await _or_nothing(self._choices(interaction, current.strip().casefold()))

    async def _choices(self, interaction: Interaction, typed: str) -> Choices:
        here, user_id = interaction.guild_id, interaction.user.id
        candidates = await self._candidates(interaction.client)
        matching = [each for each in candidates.values() if each.fits(typed)]
        matching.sort(key=lambda each: (each.id != here, each.name.casefold()))
        if here is not None:
            self._remember(here, user_id, interaction.permissions.manage_guild)
        unknown = [each for each in matching if self._recall(each.id, user_id) is None]
        near = [each for each in unknown if each.guild is not None][:LOOKUPS_PER_KEYSTROKE]
        far = [each for each in unknown if each.guild is None][:FAR_LOOKUPS_PER_KEYSTROKE]
        await asyncio.gather(*(self._ask(interaction.client, each, user_id) for each in (*near, *far)))
        managed = [each for each in matching if self._recall(each.id, user_id)]
        return [
            app_commands.Choice(name=f"{each.name[:75]} ({each.id})", value=str(each.id))
            for each in managed[:MAX_CHOICES]
        ]

    async def _candidates(self, bot: AnyBot) -> dict[int, _Candidate]:
        found: dict[int, _Candidate] = {}
        if (bot.shard_count or 1) > 1:
            found = {each.id: each for each in await self._elsewhere.known(bot)}
        return found | {guild.id: _Candidate(guild.id, storable(guild.name), guild) for guild in bot.guilds}

    async def _ask(self, bot: AnyBot, candidate: _Candidate, user_id: int) -> None:
        guild = candidate.guild
        if guild is None or guild.owner_id is None:
            # After a resumed session only a guild's name is known: ask Discord for its roles.
            await self._ask_for_all(bot, candidate.id, user_id)
            return
        try:
            member = guild.get_member(user_id) or await guild.fetch_member(user_id)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            if isinstance(error, discord.NotFound) and is_discords(error):
                self._remember(guild.id, user_id, False)
                return
            # A failure for one guild must not remove the others from the list.
            _log.debug("autocomplete_lookup_failed", guild_id=str(guild.id), error=type(error).__name__)
        else:
            self._remember(guild.id, user_id, member.guild_permissions.manage_guild)

    async def _ask_for_all(self, bot: AnyBot, guild_id: int, user_id: int) -> None:
        try:
            access = await guild_access(bot, str(guild_id), user_id)
        except DependencyUnavailable as error:
            _log.debug("autocomplete_lookup_failed", guild_id=str(guild_id), error=error.reason)
        else:
            self._remember(guild_id, user_id, access.caller_manages)

    def _recall(self, guild_id: int, user_id: int) -> bool | None:
        manages, until = self._memory.get((guild_id, user_id), (False, 0.0))
        return manages if self._clock() < until else None

    def _remember(self, guild_id: int, user_id: int, manages: bool) -> None:
        if len(self._memory) >= _MEMORY_LIMIT:
            self._memory.clear()
        self._memory[guild_id, user_id] = (manages, self._clock() + MEMORY_SECONDS)
