"""The table `sandbox_audit_log`: who changed what. It keeps the rows of destroyed sandboxes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from sandbox_core.models import Actor, AuditEntry, AuditEvent

from .errors import translating
from .pool import Connection


async def record(
    connection: Connection,
    sandbox_id: UUID,
    event: AuditEvent,
    *,
    actor: Actor,
    at: datetime,
    details: Mapping[str, Any],
) -> None:
    """Write one row. Call it in the transaction of the change."""
    await record_all(connection, sandbox_id, event, actor=actor, at=at, details=[details])


async def record_all(
    connection: Connection,
    sandbox_id: UUID,
    event: AuditEvent,
    *,
    actor: Actor,
    at: datetime,
    details: list[Mapping[str, Any]],
) -> None:
    """Write one row for each of `details`, in one statement."""
    with translating():
        await connection.executemany(
            """
            INSERT INTO sandbox_audit_log (sandbox_id, event_type, actor, details, created_at)
            VALUES ($1, $2, $3, $4, $5)
            """,
            [(sandbox_id, event.value, actor.signature, dict(detail), at) for detail in details],
        )


async def entries(connection: Connection, sandbox_id: UUID, *, limit: int = 100) -> list[AuditEntry]:
    """Return the newest `limit` rows about a sandbox, oldest first."""
    with translating():
        rows = await connection.fetch(
            """
            SELECT * FROM (
                SELECT id, sandbox_id, event_type::text AS event_type, actor, details, created_at
                FROM sandbox_audit_log
                WHERE sandbox_id = $1
                ORDER BY created_at DESC, id DESC
                LIMIT $2
            ) AS newest
            ORDER BY created_at, id
            """,
            sandbox_id,
            limit,
        )
    return [_entry(row) for row in rows]


async def details_for(
    connection: Connection, sandbox_id: UUID, event: AuditEvent, cause_id: str
) -> dict[str, Any] | None:
    """Return the details of the row that has this `cause_id`, or None: then nothing was done for it yet.

    Call it in the transaction of the change, with the sandbox's row locked.
    """
    with translating():
        details: dict[str, Any] | None = await connection.fetchval(
            """
            SELECT details FROM sandbox_audit_log
            WHERE sandbox_id = $1 AND event_type = $2 AND details ->> 'cause_id' = $3
            """,
            sandbox_id,
            event.value,
            cause_id,
        )
    return details


def _entry(row: asyncpg.Record) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        sandbox_id=row["sandbox_id"],
        event_type=AuditEvent(row["event_type"]),
        actor=row["actor"],
        details=row["details"],
        created_at=row["created_at"],
    )
