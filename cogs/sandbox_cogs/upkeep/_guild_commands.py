"""Removes what sandboxes have left of commands in servers, where no process of the endpoint does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aiohttp
import discord
import structlog
from discord.http import Route

from sandbox_cogs._core import AnyBot
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.guild_commands import Answer, GuildCommands, Json, ServerBusy
from sandbox_core.postgres.pool import Pool

_log = structlog.get_logger("sandbox.commands")

_PATH = "/applications/{application_id}/guilds/{guild_id}/commands"


class BotCommands:
    """`GuildCommandsRest` with the bot's own requests. Raises `DependencyUnavailable` without an answer."""

    def __init__(self, bot: AnyBot) -> None:
        self._bot = bot

    async def list(self, guild_id: str) -> Answer:
        """See `GuildCommandsRest`."""
        return await self._ask("GET", guild_id, params={"with_localizations": "true"})

    async def replace(self, guild_id: str, bodies: Sequence[Json]) -> Answer:
        """See `GuildCommandsRest`."""
        return await self._ask("PUT", guild_id, json=list(bodies))

    async def create(self, guild_id: str, body: Json) -> Answer:
        """See `GuildCommandsRest`."""
        return await self._ask("POST", guild_id, json=body)

    async def delete(self, guild_id: str, command_id: str) -> Answer:
        """See `GuildCommandsRest`."""
        return await self._ask("DELETE", guild_id, f"/{command_id}")

    async def _ask(self, method: str, guild_id: str, rest: str = "", **options: Any) -> Answer:
        route = Route(method, _PATH + rest, application_id=self._bot.application_id, guild_id=guild_id)
        try:
            return Answer(200, await self._bot.http.request(route, **options))
        except discord.HTTPException as error:
            return Answer(error.status, {"message": error.text, "code": error.code})
        except (aiohttp.ClientError, OSError) as error:
            raise DependencyUnavailable("Discord", "the connection was lost") from error


class LeftCommands:
    """Goes on with servers where something is due at two turns one after the other."""

    def __init__(self, bot: AnyBot, pool: Pool) -> None:
        self._guilds = GuildCommands(pool, BotCommands(bot))
        self._due: frozenset[str] = frozenset()

    async def turn(self) -> None:
        """Do one turn. The endpoint's processes need seconds; a turn comes after a minute.

        Raises `DependencyUnavailable`.
        """
        due = frozenset(await self._guilds.due()) & frozenset(await self._guilds.written())
        again, self._due = due & self._due, due
        for guild_id in sorted(again):
            try:
                brought = await self._guilds.reconcile(guild_id)
            except ServerBusy:
                continue
            if brought.refused is not None:
                status, code = brought.refused.status, brought.refused.code
                _log.warning("commands_left", guild_id=guild_id, status=status, code=code)
