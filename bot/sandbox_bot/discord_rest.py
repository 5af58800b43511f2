"""Asks Discord's REST API, for the command line, whether the bot is in a guild and what a user may do there.

Facts from Discord's developer documentation: resources "Guild" (Get Guild, Get Guild Member), topics
"Permissions" and "Reference" (User Agent, authentication).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from sandbox_core.addresses import discord_where
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import GuildAccess
from sandbox_core.settings import Settings
from sandbox_core.validation import parse_guild_id

from . import __version__

_API = "https://discord.com/api/v10"
_WITHIN = 5.0
_ADMINISTRATOR = 1 << 3
_MANAGE_GUILD = 1 << 5


class TokenError(Exception):
    """Discord can't be asked with the bot's token; the text says why."""


class TokenMissingError(TokenError):
    """No token is set."""


class TokenRefusedError(TokenError):
    """Discord refuses the token."""

    def __init__(self) -> None:
        super().__init__("Discord refused the token: set DISCORD_TOKEN to the bot's current token.")


class DiscordRest:
    """Sends requests with the bot's token; made by `discord_rest`."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    async def get(self, path: str) -> Any:
        """Return the JSON at `path`, or None when Discord shows the bot nothing (403, 404).

        Raises `TokenRefusedError`, or `DependencyUnavailable` when Discord is away, slow or failing.
        """
        try:
            async with asyncio.timeout(_WITHIN), self._session.get(f"{self._base}{path}") as answer:
                if answer.content_type != "application/json":
                    # Not Discord's own answer: a proxy's page, which says nothing of tokens and guilds.
                    raise self._away(f"a proxy before it answered with status {answer.status}")
                if answer.status == 401:
                    raise TokenRefusedError
                if answer.status in {403, 404}:
                    return None
                if answer.status != 200:
                    raise self._away(f"it answered with status {answer.status}")
                return await answer.json()
        except TimeoutError:
            raise self._away(f"no answer within {_WITHIN:g} s") from None
        except ValueError as error:
            raise self._away("its JSON can't be read") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._away(f"it can't be reached ({type(error).__name__})") from error

    def _away(self, problem: str) -> DependencyUnavailable:
        return DependencyUnavailable("Discord", problem, discord_where(self._base))

    async def access(self, guild_id: str, user_id: str | None) -> GuildAccess:
        """Return what the bot, and `user_id` if given, may do in a guild now."""
        cleaned = parse_guild_id(guild_id)
        guild = await self.get(f"/guilds/{cleaned}")
        if guild is None:
            return GuildAccess(cleaned, bot_is_member=False, caller_manages=False)
        manages = user_id is not None and await self._manages(guild, user_id)
        return GuildAccess(
            str(guild["id"]), bot_is_member=True, caller_manages=manages, name=str(guild["name"])
        )

    async def _manages(self, guild: Any, user_id: str) -> bool:
        if guild["owner_id"] == user_id:
            return True
        member = await self.get(f"/guilds/{guild['id']}/members/{user_id}")
        if member is None:
            return False
        # The role with the guild's own id is @everyone.
        held = {guild["id"], *member["roles"]}
        permissions = 0
        for role in guild["roles"]:
            if role["id"] in held:
                permissions |= int(role["permissions"])
        return bool(permissions & (_ADMINISTRATOR | _MANAGE_GUILD))


@asynccontextmanager
async def discord_rest(settings: Settings) -> AsyncIterator[DiscordRest]:
    """Open a client with the bot's token. Raises `TokenMissingError` when there is none."""
    if settings.discord_token is None:
        raise TokenMissingError("DISCORD_TOKEN is not set.")
    headers = {
        "Authorization": f"Bot {settings.discord_token.get_secret_value()}",
        "User-Agent": f"DiscordBot (sandboxctl, {__version__})",
    }
    async with aiohttp.ClientSession(headers=headers) as session:
        yield DiscordRest(session, settings.discord_api_url or _API)
