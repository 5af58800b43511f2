"""Reading the routes of running sandboxes, from the view `sandbox_routes`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..models import Route

if TYPE_CHECKING:
    import asyncpg

CHANNEL = "sandbox_routes"
"""The notification channel on which triggers tell which guild's route changed."""

_ALL = "SELECT guild_id, sandbox_id::text, extract(epoch FROM expires_at)::float8 AS expires_at FROM sandbox_routes"
_SOME = f"{_ALL} WHERE guild_id = ANY($1::text[])"


async def read_all(connection: asyncpg.Connection | asyncpg.Pool) -> dict[str, Route]:
    """Every mapped guild's route."""
    rows = await connection.fetch(_ALL)
    return {row["guild_id"]: Route(row["sandbox_id"], row["expires_at"]) for row in rows}


async def read_many(
    connection: asyncpg.Connection | asyncpg.Pool, guild_ids: Iterable[str]
) -> dict[str, Route | None]:
    """The routes of these guilds; None for a guild that is mapped to no running sandbox."""
    wanted = list(guild_ids)
    rows = await connection.fetch(_SOME, wanted)
    routes: dict[str, Route | None] = dict.fromkeys(wanted)
    routes.update({row["guild_id"]: Route(row["sandbox_id"], row["expires_at"]) for row in rows})
    return routes
