"""The tables `sandbox_storage` and `sandbox_storage_turns`: what sandboxes store, and who measures it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sandbox_core.models import Sandbox
from sandbox_core.stored import Stored

from .errors import translating
from .pool import Connection
from .sandboxes import COLUMNS, sandbox_from_row, stored_from_row


async def begin(connection: Connection, store: str, now: datetime, every: timedelta) -> datetime | None:
    """Take the turn to measure this store. Return None for that, or else when a later turn may begin."""
    with translating():
        mine = await connection.fetchval(
            """
            INSERT INTO sandbox_storage_turns AS t (store, begun_at) VALUES ($1, $2)
            ON CONFLICT (store) DO UPDATE SET begun_at = excluded.begun_at
            -- A moment that is still to come is of a clock that was wrong.
            WHERE t.begun_at <= $2 - $3::interval OR t.begun_at > $2 + $3::interval
            RETURNING true
            """,
            store,
            now,
            every,
        )
        if mine:
            return None
        begun: datetime | None = await connection.fetchval(
            "SELECT begun_at FROM sandbox_storage_turns WHERE store = $1", store
        )
    return (begun or now) + every


async def go_on(connection: Connection, store: str, now: datetime) -> None:
    """Keep the turn: measuring takes longer than the time until others may begin."""
    with translating():
        await connection.execute(
            "UPDATE sandbox_storage_turns SET begun_at = $2 WHERE store = $1", store, now
        )


async def running(connection: Connection) -> list[Sandbox]:
    """Return the running sandboxes."""
    with translating():
        rows = await connection.fetch(
            f"SELECT {COLUMNS} FROM sandboxes AS s WHERE s.status = 'running' ORDER BY s.id"  # noqa: S608
        )
    return [sandbox_from_row(row) for row in rows]


async def record(connection: Connection, found: Sequence[tuple[UUID, Stored]]) -> None:
    """Write measurements of one store, in one statement; those of destroyed sandboxes go."""
    stored = [each for _, each in found]
    with translating():
        await connection.execute(
            """
            INSERT INTO sandbox_storage AS m
                (sandbox_id, store, bytes, items, measured_at, level, before, since)
            SELECT v.* FROM unnest(
                $1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[],
                $6::text[], $7::text[], $8::timestamptz[]
            ) AS v (sandbox_id, store, bytes, items, measured_at, level, before, since)
            JOIN sandboxes AS s ON s.id = v.sandbox_id AND s.status = 'running'
            ON CONFLICT (sandbox_id, store) DO UPDATE
            SET bytes = excluded.bytes, items = excluded.items, measured_at = excluded.measured_at,
                level = excluded.level, before = excluded.before, since = excluded.since
            -- A process that was frozen meanwhile knows less.
            WHERE m.measured_at < excluded.measured_at
            """,
            [sandbox_id for sandbox_id, _ in found],
            [each.store for each in stored],
            [each.bytes for each in stored],
            [each.items for each in stored],
            [each.measured_at for each in stored],
            [each.level.value for each in stored],
            [each.before.value for each in stored],
            [each.since for each in stored],
        )
        await connection.execute(
            "DELETE FROM sandbox_storage AS m USING sandboxes AS s "
            "WHERE s.id = m.sandbox_id AND s.status = 'destroyed'"
        )


async def crossed(connection: Connection, kind: str, unsure: Collection[UUID] = ()) -> list[Sandbox]:
    """Return the running sandboxes that have crossed a limit, in whichever direction.

    Those with a recorded notice `kind:store:level` of that are left out, but for those of `unsure`.
    """
    with translating():
        rows = await connection.fetch(
            f"""
            SELECT {COLUMNS} FROM sandboxes AS s
            WHERE s.status = 'running' AND EXISTS (
                SELECT FROM sandbox_storage AS m
                WHERE m.sandbox_id = s.id AND m.since IS NOT NULL AND (s.id = ANY ($2) OR NOT EXISTS (
                    SELECT FROM sandbox_notices AS n WHERE n.sandbox_id = s.id AND n.about = m.since
                      AND n.kind = concat_ws(':', $1::text, m.store, m.level)
                ))
            )
            ORDER BY s.id
            """,  # noqa: S608 (a constant)
            kind,
            list(unsure),
        )
    return [sandbox_from_row(row) for row in rows]


async def full_of(connection: Connection, owner: str) -> list[tuple[str, Stored]]:
    """Return the names of this owner's sandboxes that are full, each with what it stores."""
    with translating():
        rows = await connection.fetch(
            """
            SELECT s.name, m.store, m.bytes, m.items, m.measured_at, m.level, m.before, m.since
            FROM sandbox_storage AS m JOIN sandboxes AS s ON s.id = m.sandbox_id
            WHERE s.owner = $1 AND s.status = 'running' AND m.level = 'full' ORDER BY s.name, m.store
            """,
            owner,
        )
    return [(name, stored_from_row(values)) for name, *values in rows]


async def sums(connection: Connection) -> dict[str, int]:
    """Return the bytes that all sandboxes together store, by store."""
    with translating():
        rows = await connection.fetch(
            """
            SELECT m.store, sum(m.bytes)::bigint AS bytes
            FROM sandbox_storage AS m JOIN sandboxes AS s ON s.id = m.sandbox_id
            WHERE s.status <> 'destroyed' GROUP BY m.store
            """
        )
    return {row["store"]: row["bytes"] for row in rows}
