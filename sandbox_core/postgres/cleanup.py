"""The table `sandbox_cleanup`, and the query for due sandboxes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sandbox_core.models import EVENTS_DROPPED, EVENTS_DROPPED_SINCE, Sandbox

from .errors import translating
from .pool import Connection
from .sandboxes import COLUMNS, sandbox_from_row

_DUE = """
    (s.status = 'running' AND s.expires_at <= $1)
    OR s.status IN ('expired', 'destroying')
    OR (
        s.status IN ('pending', 'creating')
        AND (
            s.created_at <= $2
            OR (
                SELECT sandbox_session_is_over(creation.session)
                FROM sandbox_creations AS creation WHERE creation.sandbox_id = s.id
            )
        )
    )
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failed attempt to remove a sandbox."""

    step: str
    reason: str
    attempts: int
    """The number of failed attempts in a row."""
    next_attempt_at: datetime
    sandbox: Sandbox


async def due(
    connection: Connection, now: datetime, *, abandoned_before: datetime, limit: int
) -> list[Sandbox]:
    """Return the sandboxes to remove now, those with the fewest failures and the oldest expiry first.

    These are expired sandboxes, interrupted removals, and creations whose process is gone or that started
    before `abandoned_before`. Those in the pause after a failure are left out.
    """
    with translating():
        rows = await connection.fetch(
            f"""
            SELECT {COLUMNS} FROM sandboxes AS s
            LEFT JOIN sandbox_cleanup AS c ON c.sandbox_id = s.id
            WHERE ({_DUE}) AND (c.next_attempt_at IS NULL OR c.next_attempt_at <= $1)
            ORDER BY coalesce(c.attempts, 0), s.expires_at, s.id
            LIMIT $3
            """,  # noqa: S608 (constants)
            now,
            abandoned_before,
            limit,
        )
    return [sandbox_from_row(row) for row in rows]


async def is_due(connection: Connection, sandbox_id: UUID, now: datetime, abandoned_before: datetime) -> bool:
    """Return whether the sandbox must be removed now, also in the pause after a failure."""
    with translating():
        found = await connection.fetchval(
            f"SELECT true FROM sandboxes AS s WHERE s.id = $3 AND ({_DUE})",  # noqa: S608 (constants)
            now,
            abandoned_before,
            sandbox_id,
        )
    return found is not None


async def next_due(connection: Connection) -> datetime | None:
    """Return the earliest time at which a sandbox expires or a failed removal is tried again."""
    with translating():
        moment: datetime | None = await connection.fetchval(
            """
            SELECT least(
                (SELECT min(expires_at) FROM sandboxes WHERE status = 'running'),
                (
                    SELECT min(c.next_attempt_at)
                    FROM sandbox_cleanup AS c JOIN sandboxes AS s ON s.id = c.sandbox_id
                    WHERE s.status <> 'destroyed'
                )
            )
            """
        )
    return moment


async def step_done(connection: Connection, sandbox_id: UUID, step: str, at: datetime) -> None:
    """Record that one step of a removal is done."""
    with translating():
        await connection.execute(
            """
            INSERT INTO sandbox_cleanup (sandbox_id, steps)
            VALUES ($1, jsonb_build_object($2::text, $3::text))
            ON CONFLICT (sandbox_id) DO UPDATE SET steps = sandbox_cleanup.steps || excluded.steps
            """,
            sandbox_id,
            step,
            at.isoformat(),
        )


async def failed(
    connection: Connection, sandbox_id: UUID, *, step: str, reason: str, next_attempt_at: datetime
) -> bool:
    """Count a failed attempt. Return whether its step or reason differs from the last failure's."""
    with translating():
        before = await connection.fetchrow(
            "SELECT failed_step, reason FROM sandbox_cleanup WHERE sandbox_id = $1 FOR UPDATE", sandbox_id
        )
        await connection.execute(
            """
            INSERT INTO sandbox_cleanup (sandbox_id, attempts, failed_step, reason, next_attempt_at)
            VALUES ($1, 1, $2, $3, $4)
            ON CONFLICT (sandbox_id) DO UPDATE
            SET attempts = sandbox_cleanup.attempts + 1, failed_step = excluded.failed_step,
                reason = excluded.reason, next_attempt_at = excluded.next_attempt_at
            """,
            sandbox_id,
            step,
            reason,
            next_attempt_at,
        )
    return before is None or (before["failed_step"], before["reason"]) != (step, reason)


async def attempts(connection: Connection, sandbox_id: UUID) -> int:
    """Return the number of failed attempts in a row."""
    with translating():
        count = await connection.fetchval(
            "SELECT attempts FROM sandbox_cleanup WHERE sandbox_id = $1", sandbox_id
        )
    return int(count or 0)


async def failures(connection: Connection, *, at_least: int = 1) -> list[Failure]:
    """Return the unfinished removals that failed at least `at_least` times in a row."""
    with translating():
        rows = await connection.fetch(
            f"""
            SELECT {COLUMNS}, c.failed_step, c.reason, c.attempts, c.next_attempt_at
            FROM sandbox_cleanup AS c JOIN sandboxes AS s ON s.id = c.sandbox_id
            WHERE c.attempts >= $1 AND s.status <> 'destroyed'
            ORDER BY s.expires_at, s.id
            """,  # noqa: S608 (a constant)
            at_least,
        )
    return [
        Failure(
            step=values.pop("failed_step"),
            reason=values.pop("reason"),
            attempts=values.pop("attempts"),
            next_attempt_at=values.pop("next_attempt_at"),
            sandbox=sandbox_from_row(values),
        )
        for values in map(dict, rows)
    ]


async def forget(connection: Connection, sandbox_id: UUID) -> Mapping[str, str]:
    """Delete the row of a finished removal. Return its steps with their times."""
    with translating():
        steps: Mapping[str, str] | None = await connection.fetchval(
            "DELETE FROM sandbox_cleanup WHERE sandbox_id = $1 RETURNING steps", sandbox_id
        )
    return steps or {}


async def guilds_taken_away(connection: Connection, sandbox_id: UUID, reasons: Collection[str]) -> list[str]:
    """Return the guilds whose mappings ended for one of these reasons, from the audit log."""
    with translating():
        rows = await connection.fetch(
            """
            SELECT DISTINCT details ->> 'guild_id' AS guild_id FROM sandbox_audit_log
            WHERE sandbox_id = $1 AND event_type = 'guild_unregistered' AND details ->> 'reason' = ANY($2)
            ORDER BY 1
            """,
            sandbox_id,
            list(reasons),
        )
    return [row["guild_id"] for row in rows]


async def population(connection: Connection) -> dict[str, int]:
    """Return the number of sandboxes of each owner that are not destroyed."""
    with translating():
        found = await connection.fetch(
            "SELECT owner, count(*) AS sandboxes FROM sandboxes WHERE status <> 'destroyed' GROUP BY owner"
        )
    return {row["owner"]: row["sandboxes"] for row in found}


async def touch_many(connection: Connection, moments: Mapping[UUID, datetime]) -> None:
    """Move `last_activity_at` forward, never back, for many sandboxes in one statement."""
    with translating():
        await connection.execute(
            """
            UPDATE sandboxes AS s SET last_activity_at = greatest(s.last_activity_at, seen.at)
            FROM unnest($1::uuid[], $2::timestamptz[]) AS seen(id, at)
            WHERE s.id = seen.id
            """,
            list(moments),
            list(moments.values()),
        )


async def add_dropped(connection: Connection, dropped: Mapping[UUID, tuple[int, float]]) -> None:
    """Add to the sandboxes' numbers of dropped events, each with the moment of the first one."""
    with translating():
        await connection.execute(
            """
            UPDATE sandboxes AS s SET metadata = s.metadata || jsonb_build_object(
                $4::text, coalesce((s.metadata ->> $4)::bigint, 0) + lost.events,
                $5::text, coalesce((s.metadata ->> $5)::float8, lost.since)
            )
            FROM unnest($1::uuid[], $2::bigint[], $3::float8[]) AS lost(id, events, since)
            WHERE s.id = lost.id
            """,
            list(dropped),
            [events for events, _ in dropped.values()],
            [since for _, since in dropped.values()],
            EVENTS_DROPPED,
            EVENTS_DROPPED_SINCE,
        )
