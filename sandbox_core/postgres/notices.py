"""The table `sandbox_notices`: the sent notices, so that none is sent twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sandbox_core.models import Sandbox

from .errors import translating
from .pool import Connection
from .sandboxes import COLUMNS, sandbox_from_row


@dataclass(frozen=True, slots=True)
class Expiring:
    """A running sandbox near its expiry; `decided_at` is the time at which this expiry was set."""

    sandbox: Sandbox
    decided_at: datetime


async def expiring(connection: Connection, now: datetime, within: timedelta) -> list[Expiring]:
    """Return the running sandboxes that expire after `now`, but `within` this time."""
    with translating():
        rows = await connection.fetch(
            f"""
            SELECT {COLUMNS}, greatest(s.created_at, (
                SELECT max(a.created_at) FROM sandbox_audit_log AS a
                WHERE a.sandbox_id = s.id AND a.event_type = 'ttl_extended'
            )) AS decided_at
            FROM sandboxes AS s
            WHERE s.status = 'running' AND s.expires_at > $1 AND s.expires_at <= $2
            ORDER BY s.expires_at
            """,  # noqa: S608 (a constant)
            now,
            now + within,
        )
    found = []
    for values in map(dict, rows):
        decided_at = values.pop("decided_at")
        found.append(Expiring(sandbox_from_row(values), decided_at))
    return found


async def gone(
    connection: Connection, since: datetime, kind: str, unsure: Collection[UUID] = ()
) -> list[Sandbox]:
    """Return the sandboxes destroyed after `since` that were running before, and not by their owner.

    Those with a recorded notice of `kind` are left out, but for those of `unsure`.
    """
    with translating():
        rows = await connection.fetch(
            f"""
            SELECT {COLUMNS} FROM sandboxes AS s
            WHERE s.status = 'destroyed' AND s.destroyed_at > $1
              AND EXISTS (
                SELECT 1 FROM sandbox_audit_log AS a
                WHERE a.sandbox_id = s.id AND a.event_type = 'sandbox_destroying'
                  AND a.actor <> s.owner
                  -- Carried for the owner by a shell: `Actor.signature` ends so.
                  AND NOT starts_with(reverse(a.actor), reverse(' for ' || s.owner))
                  AND a.details ->> 'from' IN ('running', 'expired')
              )
              AND (s.id = ANY($3) OR NOT EXISTS (
                SELECT 1 FROM sandbox_notices AS n WHERE n.sandbox_id = s.id AND n.kind = $2
              ))
            ORDER BY s.destroyed_at
            """,  # noqa: S608 (a constant)
            since,
            kind,
            list(unsure),
        )
    return [sandbox_from_row(row) for row in rows]


async def claim(
    connection: Connection, sandbox_id: UUID, kinds: Sequence[str], about: datetime, at: datetime
) -> set[str]:
    """Record that these notices are being sent. Return those that were not recorded before.

    Call it in its own transaction, and send after its commit.
    """
    with translating():
        rows = await connection.fetch(
            """
            INSERT INTO sandbox_notices (sandbox_id, kind, about, created_at)
            SELECT $1, kind, $3, $4 FROM unnest($2::text[]) AS kind ORDER BY kind
            ON CONFLICT DO NOTHING
            RETURNING kind
            """,
            sandbox_id,
            list(kinds),
            about,
            at,
        )
    return {row["kind"] for row in rows}


async def recorded(
    connection: Connection, sandbox_id: UUID, kinds: Sequence[str], about: datetime, at: Collection[datetime]
) -> set[str]:
    """Return those of these notices that were recorded at one of these very moments."""
    with translating():
        rows = await connection.fetch(
            """
            SELECT kind FROM sandbox_notices
            WHERE sandbox_id = $1 AND kind = ANY($2) AND about = $3 AND created_at = ANY($4)
            """,
            sandbox_id,
            list(kinds),
            about,
            list(at),
        )
    return {row["kind"] for row in rows}


async def withdraw(connection: Connection, sandbox_id: UUID, kind: str, about: datetime) -> None:
    """Delete the record of a notice that was certainly not sent."""
    with translating():
        await connection.execute(
            "DELETE FROM sandbox_notices WHERE sandbox_id = $1 AND kind = $2 AND about = $3",
            sandbox_id,
            kind,
            about,
        )
