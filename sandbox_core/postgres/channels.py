"""The names of notification channels, which a database has only once for all of its schemas."""

from __future__ import annotations

from .pool import Connection


async def channel(connection: Connection, base: str) -> str:
    """The installation's own channel. Driver errors pass: who holds the connection judges them."""
    name: str = await connection.fetchval("SELECT sandbox_channel($1)", base)
    return name
