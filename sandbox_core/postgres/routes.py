"""Reads the routes of running sandboxes from the view `sandbox_routes`."""

from __future__ import annotations

from collections.abc import Collection

from sandbox_core.models import Route

from .pool import Connection, Pool, connected

CHANNEL = "sandbox_routes"
"""The notification channel on which triggers name the guilds whose routes changed; see `channel`."""

MOMENT = "extract(epoch FROM clock_timestamp())::float8"
"""SQL for the database's time, in seconds since the epoch."""

_ALL = """
    SELECT guild_id, sandbox_id::text, extract(epoch FROM expires_at)::float8 AS expires_at
    FROM sandbox_routes
"""
_SOME = f"{_ALL} WHERE guild_id = ANY($1::text[])"


async def read_all(connection: Connection) -> dict[str, Route]:
    """Return every mapped guild's route. Driver errors pass: the follower and `RouteRows` handle them."""
    rows = await connection.fetch(_ALL)
    # Guilds of one sandbox share one `Route` object.
    made: dict[tuple[str, float], Route] = {}
    routes = {}
    for guild_id, sandbox_id, expires_at in rows:
        route = made.get((sandbox_id, expires_at))
        if route is None:
            route = made[sandbox_id, expires_at] = Route(sandbox_id, expires_at)
        routes[guild_id] = route
    return routes


async def read_many(connection: Connection, guild_ids: Collection[str]) -> dict[str, Route | None]:
    """Return the routes of these guilds; None for a guild that is mapped to no running sandbox."""
    rows = await connection.fetch(_SOME, list(guild_ids))
    routes: dict[str, Route | None] = dict.fromkeys(guild_ids)
    routes.update({row["guild_id"]: Route(row["sandbox_id"], row["expires_at"]) for row in rows})
    return routes


async def read_as_of(
    connection: Connection, guild_ids: Collection[str]
) -> tuple[dict[str, Route | None], float]:
    """Return the same as `read_many`, and the database's time just before the read."""
    # In its own statement: in one statement the time would be read after the snapshot was taken.
    as_of: float = await connection.fetchval(f"SELECT {MOMENT}")
    return await read_many(connection, guild_ids), as_of


class RouteRows:
    """Reads routes over the pool. Every method raises `DependencyUnavailable` when PostgreSQL is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read_as_of(self, guild_ids: Collection[str]) -> tuple[dict[str, Route | None], float]:
        """Return the routes of these guilds, and the database's time just before the read."""
        async with connected(self._pool) as connection:
            return await read_as_of(connection, guild_ids)

    async def read_all(self) -> tuple[dict[str, Route], float]:
        """Return every mapped guild's route, and the database's time just before the read."""
        async with connected(self._pool) as connection:
            _, as_of = await read_as_of(connection, ())
            return await read_all(connection), as_of
