"""The table `sandbox_guild_mapping`: the guilds of each sandbox."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sandbox_core.models import Sandbox

from .errors import translating
from .pool import Connection
from .sandboxes import COLUMNS, sandbox_from_row


async def claim(
    connection: Connection, guild_id: str, sandbox_id: UUID, registered_by: str, at: datetime
) -> Sandbox | None:
    """Map the guild to the sandbox, unless it is mapped already. Return the sandbox that has it already.

    None means that the row is new. It waits for another transaction that maps the same guild.
    """
    while True:
        with translating(guild_id=guild_id):
            inserted = await connection.fetchval(
                """
                INSERT INTO sandbox_guild_mapping (guild_id, sandbox_id, registered_by, registered_at)
                VALUES ($1, $2, $3, $4)
                ON CONFLICT (guild_id) DO NOTHING
                RETURNING guild_id
                """,
                guild_id,
                sandbox_id,
                registered_by,
                at,
            )
        if inserted is not None:
            return None
        holder = await holder_of(connection, guild_id)
        # No sandbox has it when it was unmapped between the two statements. The loop repeats only when
        # that happens again.
        if holder is not None:
            return holder


async def holder_of(connection: Connection, guild_id: str) -> Sandbox | None:
    """Return the sandbox of this guild, in any status."""
    with translating():
        row = await connection.fetchrow(
            f"""
            SELECT {COLUMNS}
            FROM sandbox_guild_mapping AS m JOIN sandboxes AS s ON s.id = m.sandbox_id
            WHERE m.guild_id = $1
            """,  # noqa: S608 (a constant)
            guild_id,
        )
    return None if row is None else sandbox_from_row(row)


async def remove(connection: Connection, guild_id: str, sandbox_id: UUID) -> bool:
    """End one mapping. Return False when it does not exist."""
    with translating():
        removed = await connection.fetchval(
            "DELETE FROM sandbox_guild_mapping WHERE guild_id = $1 AND sandbox_id = $2 RETURNING guild_id",
            guild_id,
            sandbox_id,
        )
    return removed is not None


async def remove_all(connection: Connection, sandbox_id: UUID) -> list[str]:
    """End every mapping of a sandbox. Return the guilds, sorted."""
    with translating():
        rows = await connection.fetch(
            "DELETE FROM sandbox_guild_mapping WHERE sandbox_id = $1 RETURNING guild_id", sandbox_id
        )
    return sorted(row["guild_id"] for row in rows)
