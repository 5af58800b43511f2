"""Asks Discord what an event in a server would tell of it: its channels and people."""

from __future__ import annotations

import asyncio
from typing import Any

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Sandbox
from sandbox_core.settings import Settings
from sandbox_core.workbench.fixtures import Found

from ..discord_rest import DiscordRest, TokenError, discord_rest
from ._words import error_line

_PEOPLE = 100


async def guild_facts(settings: Settings, sandbox: Sandbox, guild_id: str) -> tuple[Found, str]:
    """Return what Discord says of the server, and why it said nothing; the second is "" when it did."""
    try:
        async with discord_rest(settings) as discord:
            found = await _ask(discord, sandbox, guild_id)
    except TokenError as error:
        return Found(guild_id=guild_id), str(error)
    except DependencyUnavailable as error:
        return Found(guild_id=guild_id), error_line(error)
    if found is None:
        return Found(guild_id=guild_id), "The bot is not in the server."
    return found, ""


async def _ask(discord: DiscordRest, sandbox: Sandbox, guild_id: str) -> Found | None:
    path = f"/guilds/{guild_id}"
    guild = await discord.get(f"{path}?with_counts=true")
    if guild is None:
        return None
    # The one who develops acts first, then the server's owner, then whoever Discord names.
    channels, threads, own, owner, others, bot, application = await asyncio.gather(
        discord.get(f"{path}/channels"),
        discord.get(f"{path}/threads/active"),
        discord.get(f"{path}/members/{sandbox.owner}"),
        discord.get(f"{path}/members/{guild['owner_id']}"),
        discord.get(f"{path}/members?limit={_PEOPLE}"),
        _own_member(discord, path),
        discord.get("/applications/@me"),
    )
    people: dict[str, Any] = {}
    for member in (own, owner, *(others or ())):
        if member is not None:
            people.setdefault(member["user"]["id"], member)
    return Found(
        guild_id=guild_id,
        guild=guild,
        channels=channels or (),
        threads=(threads or {}).get("threads", ()),
        members=tuple(people.values()),
        bot=bot,
        application=application,
    )


async def _own_member(discord: DiscordRest, path: str) -> Any:
    user = await discord.get("/users/@me")
    return None if user is None else await discord.get(f"{path}/members/{user['id']}")
