"""Compares ids from the stores with the table of sandboxes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sandbox_core.models import Sandbox

from .errors import translating
from .pool import Connection
from .sandboxes import COLUMNS, sandbox_from_row


@dataclass(frozen=True, slots=True)
class KnownIds:
    """The ids of live sandboxes, and the ids that only destroyed sandboxes have.

    An id in neither set never was a sandbox of this database.
    """

    live: frozenset[str]
    destroyed: frozenset[str]


async def known_ids(connection: Connection, ids: Collection[str]) -> KnownIds:
    """Look up ids: whole UUIDs, or short ids of 8 hex digits."""
    with translating():
        rows = await connection.fetch(
            """
            SELECT s.id::text AS id, s.status <> 'destroyed' AS live
            FROM sandboxes AS s WHERE s.id = ANY($1::text[]::uuid[])
            UNION ALL
            SELECT substr(s.schema_name, 9) AS id, s.status <> 'destroyed' AS live
            FROM sandboxes AS s WHERE s.schema_name = ANY($2::text[])
            """,
            [text for text in ids if len(text) == 36],
            [f"sandbox_{text}" for text in ids if len(text) == 8],
        )
    live = frozenset(row["id"] for row in rows if row["live"])
    return KnownIds(live, frozenset(row["id"] for row in rows) - live)


async def left_by(connection: Connection, found: str) -> UUID | None:
    """Return the destroyed sandbox with this UUID, or the last destroyed one with this short id."""
    whole = len(found) == 36
    with translating():
        sandbox_id: UUID | None = await connection.fetchval(
            """
            SELECT id FROM sandboxes
            WHERE status = 'destroyed' AND (id = $1::text::uuid OR schema_name = $2)
            ORDER BY destroyed_at DESC LIMIT 1
            """,
            found if whole else None,
            None if whole else f"sandbox_{found}",
        )
    return sandbox_id


async def mappings(connection: Connection) -> list[tuple[str, Sandbox]]:
    """Return the guilds mapped to destroyed sandboxes, each with its sandbox."""
    with translating():
        rows = await connection.fetch(
            f"""
            SELECT m.guild_id AS mapped, {COLUMNS}
            FROM sandbox_guild_mapping AS m JOIN sandboxes AS s ON s.id = m.sandbox_id
            WHERE s.status = 'destroyed'
            ORDER BY m.guild_id
            """  # noqa: S608 (a constant)
        )
    found = []
    for values in map(dict, rows):
        guild_id = values.pop("mapped")
        found.append((guild_id, sandbox_from_row(values)))
    return found


async def lost_mappings(connection: Connection, sandbox_id: UUID | None = None) -> list[tuple[str, Sandbox]]:
    """Return the guilds that by the audit log are registered with a running sandbox, but not mapped to it.

    `sandbox_id` limits it to one sandbox.
    """
    with translating():
        rows = await connection.fetch(
            f"""
            SELECT last.guild_id AS missing, {COLUMNS}
            FROM sandboxes AS s
            JOIN LATERAL (
                SELECT DISTINCT ON (a.details ->> 'guild_id')
                    a.details ->> 'guild_id' AS guild_id, a.event_type
                FROM sandbox_audit_log AS a
                WHERE a.sandbox_id = s.id AND a.event_type IN ('guild_registered', 'guild_unregistered')
                ORDER BY a.details ->> 'guild_id', a.created_at DESC, a.id DESC
            ) AS last ON last.event_type = 'guild_registered'
            WHERE s.status = 'running' AND ($1::uuid IS NULL OR s.id = $1) AND NOT EXISTS (
                SELECT 1 FROM sandbox_guild_mapping AS m
                WHERE m.sandbox_id = s.id AND m.guild_id = last.guild_id
            )
            ORDER BY s.name, last.guild_id
            """,  # noqa: S608 (a constant)
            sandbox_id,
        )
    found = []
    for values in map(dict, rows):
        guild_id = values.pop("missing")
        found.append((guild_id, sandbox_from_row(values)))
    return found
