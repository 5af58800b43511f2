"""Builds what the gateway says of a server from REST: Discord's documentation, "Guild Create"."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID

import msgspec

from ..sessions import intents as wanted
from ..sessions.protocol import RequestMembers
from ..tenants import Holder
from .asking import Asking
from .members import chunks


async def _nothing() -> None:
    return None


class GuildSnapshots:
    """See `sessions.service.Snapshots`; `bot_id` returns the bot's user id."""

    def __init__(
        self,
        asking: Asking,
        bot_id: Callable[[UUID], Awaitable[str]],
        learn: Callable[[str, Iterable[str]], None],
    ) -> None:
        """`learn` is told which channels a server has."""
        self._asking = asking
        self._bot_id = bot_id
        self._learn = learn

    async def guild_create(
        self, tenant: Holder, guild_id: str, *, intents: int, large_threshold: int
    ) -> bytes | None:
        """See `Snapshots`."""
        path, whose = f"/guilds/{guild_id}", tenant.sandbox_id
        ask = self._asking.get
        bot_id = await self._bot_id(whose)
        guild, channels, threads, member, events, sounds = await asyncio.gather(
            ask(path, whose, with_counts="true"),
            ask(f"{path}/channels", whose),
            ask(f"{path}/threads/active", whose),
            ask(f"{path}/members/{bot_id}", whose),
            ask(f"{path}/scheduled-events", whose) if intents & wanted.SCHEDULED_EVENTS else _nothing(),
            ask(f"{path}/soundboard-sounds", whose) if intents & wanted.EXPRESSIONS else _nothing(),
        )
        if guild is None or channels is None or member is None:
            return None
        self._learn(guild_id, [str(each["id"]) for each in channels])
        count = guild.pop("approximate_member_count", 1)
        guild.pop("approximate_presence_count", None)
        return msgspec.json.encode(
            {
                **guild,
                "unavailable": False,
                "joined_at": member.get("joined_at"),
                "member_count": count,
                "large": count > large_threshold,
                "members": [member],
                "channels": [_inside(each) for each in channels],
                "threads": (threads or {}).get("threads", []),
                "guild_scheduled_events": events or [],
                "soundboard_sounds": (sounds or {}).get("items", []),
                "voice_states": [],
                "presences": [],
                "stage_instances": [],
            }
        )

    async def members(self, tenant: Holder, asked: RequestMembers) -> list[bytes]:
        """See `Snapshots`."""
        return await chunks(self._asking, tenant.sandbox_id, asked)

    async def sounds(self, tenant: Holder, guild_id: str) -> bytes:
        """See `Snapshots`."""
        found = await self._asking.get(f"/guilds/{guild_id}/soundboard-sounds", tenant.sandbox_id)
        return msgspec.json.encode(
            {"guild_id": guild_id, "soundboard_sounds": (found or {}).get("items", [])}
        )


def _inside(channel: dict[str, Any]) -> dict[str, Any]:
    """A server's own list of channels does not name the server in each."""
    return {key: value for key, value in channel.items() if key != "guild_id"}
