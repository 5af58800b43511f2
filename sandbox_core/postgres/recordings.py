"""The table `recordings`: which there are, whose, and who records them. Their events are in NATS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg

from .errors import translating
from .pool import Connection

CLAIMED_FOR = timedelta(seconds=15)
"""How long a process that is not heard of keeps a recording to itself."""

_OF_ROW = (
    "r.id, r.name, r.owner, r.sandbox_id, r.sandbox_name, r.status, r.began_at, r.ended_at, r.reason, "
    "r.source_birth, r.source_position, r.until_birth, r.until_position, r.events, r.bytes, r.missed, "
    "r.gaps, r.scrubbed"
)
_SELECT = f"SELECT {_OF_ROW}, coalesce(r.claimed_until > now(), false) AS claimed FROM recordings AS r"  # noqa: S608
_FORGOTTEN_AFTER = timedelta(minutes=10)


class RecordingStatus(StrEnum):
    """What is done with a recording."""

    RECORDING = "recording"
    STOPPING = "stopping"
    """Nothing new is recorded; what came before is."""
    IMPORTING = "importing"
    ENDED = "ended"
    DELETING = "deleting"
    """It is gone for everybody, and its events are being removed."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording."""

    id: UUID
    name: str
    owner: str
    sandbox_id: UUID | None
    sandbox_name: str
    """Whose events they are; "" for an imported one."""
    status: RecordingStatus
    began_at: datetime
    ended_at: datetime | None
    reason: str
    """Why it ended, when nobody asked for that."""
    source_birth: int
    source_position: int
    until_birth: int | None
    until_position: int | None
    events: int
    bytes: int
    """On disk."""
    missed: int
    """How many events, at most, had been removed before they could be recorded."""
    gaps: int
    """How often nobody knows how many were missed."""
    scrubbed: bool
    claimed: bool
    """Whether a process records it now."""


@dataclass(frozen=True, slots=True)
class Active:
    """A recording that is written now, and its sandbox."""

    recording: Recording
    runs: bool
    """Whether the sandbox still gets events."""
    credentials: int
    others_bytes: int
    """What the owner's other recordings have."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a recording has."""

    events: int = 0
    bytes: int = 0
    missed: int = 0
    gaps: int = 0


def _recording(row: asyncpg.Record) -> Recording:
    values: dict[str, Any] = {field: row[field] for field in Recording.__dataclass_fields__}
    values["status"] = RecordingStatus(values["status"])
    return Recording(**values)


async def lock_owner(connection: Connection, owner: str) -> None:
    """Let nobody else add to this owner's recordings until the transaction ends."""
    with translating():
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"recordings:{owner}"
        )


async def add(connection: Connection, recording: Recording) -> bool:
    """Add it; False when there is one of this name."""
    with translating():
        added = await connection.fetchval(
            """
            INSERT INTO recordings (
                id, name, owner, sandbox_id, sandbox_name, status, began_at, source_birth, source_position,
                scrubbed, claimed_until
            ) VALUES (
                $1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
                CASE WHEN $6::text = 'importing' THEN now() + interval '10 minutes' END
            )
            ON CONFLICT (name) WHERE status <> 'deleting' DO NOTHING RETURNING true
            """,
            recording.id,
            recording.name,
            recording.owner,
            recording.sandbox_id,
            recording.sandbox_name,
            recording.status.value,
            recording.began_at,
            recording.source_birth,
            recording.source_position,
            recording.scrubbed,
        )
    return added is not None


async def end_of(connection: Connection, recording_id: UUID) -> Recording | None:
    """Return the recording if somebody has stopped it; see `stop`."""
    with translating():
        row = await connection.fetchrow(
            f"{_SELECT} WHERE r.id = $1 AND r.status = 'stopping'",
            recording_id,
        )
    return None if row is None else _recording(row)


async def by_name(connection: Connection, name: str) -> Recording | None:
    """Return the recording of this name."""
    with translating():
        row = await connection.fetchrow(
            f"{_SELECT} WHERE r.name = $1 AND r.status <> 'deleting'",
            name,
        )
    return None if row is None else _recording(row)


async def select(connection: Connection, owner: str | None = None) -> list[Recording]:
    """Return the recordings, or one owner's, the newest first."""
    with translating():
        rows = await connection.fetch(
            f"{_SELECT} WHERE r.status <> 'deleting' AND ($1::text IS NULL OR r.owner = $1) "
            "ORDER BY r.began_at DESC, r.id",
            owner,
        )
    return [_recording(row) for row in rows]


async def claim(connection: Connection, process: str) -> list[Active]:
    """Take what nobody records, keep what this process has, and return both."""
    with translating():
        await connection.execute(
            """
            UPDATE recordings SET claimed_by = $1, claimed_until = now() + $2::interval
            WHERE status IN ('recording', 'stopping')
              AND (claimed_by = $1 OR claimed_until IS NULL OR claimed_until < now())
            """,
            process,
            CLAIMED_FOR,
        )
        rows = await connection.fetch(
            f"""
            SELECT {_OF_ROW},
                true AS claimed,
                coalesce(s.status = 'running' AND s.expires_at > now(), false) AS runs,
                coalesce(s.credentials_generation, 0) AS credentials,
                (SELECT coalesce(sum(o.bytes), 0)::bigint FROM recordings AS o
                 WHERE o.owner = r.owner AND o.id <> r.id AND o.status <> 'deleting') AS others_bytes
            FROM recordings AS r LEFT JOIN sandboxes AS s ON s.id = r.sandbox_id
            WHERE r.status IN ('recording', 'stopping') AND r.claimed_by = $1
            """,  # noqa: S608 (constants)
            process,
        )
    return [Active(_recording(row), row["runs"], row["credentials"], row["others_bytes"]) for row in rows]


async def leave(connection: Connection, process: str) -> None:
    """Let other processes go on with what this one has."""
    with translating():
        await connection.execute(
            "UPDATE recordings SET claimed_by = NULL, claimed_until = NULL "
            "WHERE claimed_by = $1 AND status IN ('recording', 'stopping')",
            process,
        )


async def record(
    connection: Connection, recording_id: UUID, progress: Progress, *, ended: str | None = None
) -> bool:
    """Note what it has, and with `ended` that it has ended, and why. False when it is gone, or has ended."""
    with translating():
        noted = await connection.fetchval(
            """
            UPDATE recordings SET events = $2, bytes = $3, missed = $4, gaps = $5,
                status = CASE WHEN $6::text IS NULL THEN status ELSE 'ended' END,
                ended_at = CASE WHEN $6::text IS NULL THEN ended_at ELSE now() END,
                reason = coalesce($6, reason),
                claimed_until = CASE
                    WHEN $6::text IS NOT NULL THEN NULL
                    WHEN status = 'importing' THEN now() + interval '10 minutes'
                    ELSE claimed_until
                END
            WHERE id = $1 AND status <> 'deleting' AND status <> 'ended'
            RETURNING true
            """,
            recording_id,
            progress.events,
            progress.bytes,
            progress.missed,
            progress.gaps,
            ended,
        )
    return noted is not None


async def stop(connection: Connection, recording_id: UUID, birth: int, position: int) -> bool:
    """Have it end behind this event; False when it is not recorded any more."""
    with translating():
        stopped = await connection.fetchval(
            "UPDATE recordings SET status = 'stopping', until_birth = $2, until_position = $3 "
            "WHERE id = $1 AND status = 'recording' RETURNING true",
            recording_id,
            birth,
            position,
        )
    return stopped is not None


async def delete(connection: Connection, recording_id: UUID) -> None:
    """Nobody sees it from now on; `forget` is for when its events are gone."""
    with translating():
        await connection.execute(
            "UPDATE recordings SET status = 'deleting', ended_at = now() WHERE id = $1", recording_id
        )


async def forget(connection: Connection) -> None:
    """Remove the rows of recordings that were deleted long enough ago: nobody writes to them any more."""
    with translating():
        await connection.execute(
            "DELETE FROM recordings WHERE status = 'deleting' AND ended_at < now() - $1::interval",
            _FORGOTTEN_AFTER,
        )


async def retire(connection: Connection, kept_for: timedelta) -> None:
    """Delete what is too old, and imports that were cut off."""
    with translating():
        await connection.execute(
            """
            UPDATE recordings SET status = 'deleting', ended_at = now()
            WHERE (status = 'ended' AND ended_at < now() - $1::interval)
               OR (status = 'importing' AND claimed_until < now())
            """,
            kept_for,
        )


async def ids(connection: Connection) -> tuple[set[UUID], set[UUID]]:
    """Return the ids of all recordings that are kept, and of those that are being deleted."""
    with translating():
        rows: Sequence[asyncpg.Record] = await connection.fetch(
            "SELECT id, status = 'deleting' AS deleting FROM recordings"
        )
    return (
        {row["id"] for row in rows if not row["deleting"]},
        {row["id"] for row in rows if row["deleting"]},
    )


async def used(connection: Connection, owner: str) -> tuple[int, int]:
    """Return how many recordings the owner has, and their bytes."""
    with translating():
        row = await connection.fetchrow(
            "SELECT count(*) AS number, coalesce(sum(bytes), 0)::bigint AS bytes FROM recordings "
            "WHERE owner = $1 AND status <> 'deleting'",
            owner,
        )
    return (0, 0) if row is None else (row["number"], row["bytes"])
