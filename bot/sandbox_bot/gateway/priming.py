"""Resuming a session that another process began.

After a RESUME Discord sends no READY, and discord.py knows neither its user nor its guilds. What it needs
for names is asked from Discord's REST API and told to it as a READY of our own, which is not routed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import discord
import msgspec
from discord.gateway import DiscordWebSocket
from discord.http import Route

from sandbox_core.events import Frame
from sandbox_core.models import ResumePoint, shard_of

_GUILDS_PER_PAGE = 200


class _Invalid(msgspec.Struct):
    d: bool = False


_invalid = msgspec.json.Decoder(_Invalid).decode


def resumable(frame: Frame) -> bool:
    """What an INVALID SESSION (op 9) says: True when the session may still be resumed."""
    return _invalid(frame.raw).d


async def prime(client: discord.Client, socket: DiscordWebSocket, point: ResumePoint) -> None:
    """Give discord.py its state for a shard that it has never seen a READY of.

    Raises `discord.HTTPException` when Discord refuses to tell.
    """
    shard_id, count = socket.shard_id or 0, socket.shard_count or 1
    guilds = [guild async for guild in _guilds(client) if shard_of(guild["id"], count) == shard_id]
    ready = {
        "t": "READY",
        "s": point.sequence,
        "op": 0,
        "d": {
            "user": await client.http.request(Route("GET", "/users/@me")),
            "guilds": guilds,
            "session_id": point.session_id,
            "resume_gateway_url": point.resume_url,
            "application": {"id": str(client.application_id), "flags": 0},
            "shard": [shard_id, count],
        },
    }
    await DiscordWebSocket.received_message(socket, json.dumps(ready))


async def _guilds(client: discord.Client) -> AsyncIterator[Any]:
    after: int | None = None
    while True:
        page = await client.http.get_guilds(_GUILDS_PER_PAGE, after=after, with_counts=False)
        for guild in page:
            yield guild
        if len(page) < _GUILDS_PER_PAGE:
            return
        after = int(page[-1]["id"])
