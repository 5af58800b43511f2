"""The members that a client asks for (op 8), in events of at most a thousand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec

from sandbox_core.subjects import is_snowflake

from ..sessions.protocol import RequestMembers
from .asking import Asking

_PAGE = _CHUNK = 1000
_NAMED_AT_MOST = 100
_AT_ONCE = 4

Ask = Callable[..., Awaitable[Any]]


async def chunks(asking: Asking, sandbox_id: UUID, asked: RequestMembers) -> list[bytes]:
    """Return the `d` of each GUILD_MEMBERS_CHUNK. Raises `DependencyUnavailable`."""
    path = f"/guilds/{int(asked.guild_id)}/members"

    async def ask(path: str, **query: str) -> Any:
        return await asking.get(path, sandbox_id, **query)

    missing: list[str] = []
    if asked.user_ids is not None:
        members, missing = await _named(ask, path, asked.user_ids)
    elif asked.query:
        members = await ask(f"{path}/search", query=asked.query, limit=_some(asked.limit)) or []
    elif asked.limit:
        members = await ask(path, limit=_some(asked.limit)) or []
    else:
        members = await _all(ask, path)
    parts = [members[start : start + _CHUNK] for start in range(0, len(members), _CHUNK)] or [[]]
    return [
        msgspec.json.encode(
            {
                "guild_id": str(asked.guild_id),
                "members": part,
                "chunk_index": number,
                "chunk_count": len(parts),
                **({"not_found": missing} if asked.user_ids is not None else {}),
                # Nobody's presence can be asked for.
                **({"presences": []} if asked.presences else {}),
                **({} if asked.nonce is None else {"nonce": asked.nonce}),
            }
        )
        for number, part in enumerate(parts)
    ]


def _some(limit: int) -> str:
    """Return Discord's limit for a part of the members."""
    return str(min(max(limit, 1), 100))


async def _all(ask: Ask, path: str) -> list[Any]:
    found: list[Any] = []
    after = "0"
    while True:
        page = await ask(path, limit=str(_PAGE), after=after) or []
        found += page
        if len(page) < _PAGE:
            return found
        after = page[-1]["user"]["id"]


async def _named(ask: Ask, path: str, user_ids: str | int | list[str | int]) -> tuple[list[Any], list[str]]:
    named = user_ids if isinstance(user_ids, list) else [user_ids]
    wanted = [each for each in dict.fromkeys(map(str, named)) if is_snowflake(each)][:_NAMED_AT_MOST]
    few = asyncio.Semaphore(_AT_ONCE)

    async def one(user_id: str) -> Any:
        async with few:
            return await ask(f"{path}/{user_id}")

    found = await asyncio.gather(*(one(each) for each in wanted))
    missing = [user_id for user_id, member in zip(wanted, found, strict=True) if member is None]
    return [member for member in found if member is not None], missing
