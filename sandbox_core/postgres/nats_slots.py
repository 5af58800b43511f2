"""The table `nats_slots`: which sandbox has which account of the sandboxes' NATS server, and its login."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from .errors import translating
from .pool import Connection


@dataclass(frozen=True, slots=True)
class SlotRow:
    """A slot that a sandbox has. Without a login `generation` is 0 and `password_hash` is ""."""

    slot: int
    sandbox_id: UUID
    generation: int
    password_hash: str
    until: datetime | None
    at_most_until: datetime | None


_COLUMNS = (
    "slot, sandbox_id, coalesce(generation, 0) AS generation, coalesce(password_hash, '') AS password_hash, "
    "until, at_most_until"
)


async def take(
    connection: Connection, sandbox_id: UUID, slots: Collection[int], *, at: datetime, rest: timedelta
) -> int | None:
    """Return the sandbox's slot, a free one of `slots` if it has none yet; None when no slot is free.

    A slot that was given back less than `rest` ago is not free yet. No two sandboxes get the same one.
    """
    with translating():
        await connection.execute(
            "INSERT INTO nats_slots (slot) SELECT unnest($1::integer[]) ON CONFLICT (slot) DO NOTHING",
            sorted(slots),
        )
        present: int | None = await connection.fetchval(
            "SELECT slot FROM nats_slots WHERE sandbox_id = $1", sandbox_id
        )
        if present is not None:
            return present
        taken: int | None = await connection.fetchval(
            """
            UPDATE nats_slots SET sandbox_id = $1, freed_at = NULL
            WHERE slot = (
                SELECT slot FROM nats_slots
                WHERE sandbox_id IS NULL AND slot = ANY($2::integer[])
                    AND (freed_at IS NULL OR freed_at <= $3)
                ORDER BY freed_at NULLS FIRST, slot
                LIMIT 1
                FOR UPDATE SKIP LOCKED
            )
            RETURNING slot
            """,
            sandbox_id,
            sorted(slots),
            at - rest,
        )
    return taken


async def of_sandbox(connection: Connection, sandbox_id: UUID) -> SlotRow | None:
    """Return the sandbox's slot and login."""
    with translating():
        row = await connection.fetchrow(
            f"SELECT {_COLUMNS} FROM nats_slots WHERE sandbox_id = $1",  # noqa: S608 (a constant)
            sandbox_id,
        )
    return None if row is None else SlotRow(**row)


async def taken(connection: Connection) -> list[SlotRow]:
    """Return every slot that a sandbox has."""
    with translating():
        rows = await connection.fetch(
            f"SELECT {_COLUMNS} FROM nats_slots WHERE sandbox_id IS NOT NULL ORDER BY slot"  # noqa: S608 (a constant)
        )
    return [SlotRow(**row) for row in rows]


async def set_login(
    connection: Connection,
    sandbox_id: UUID,
    *,
    generation: int,
    password_hash: str,
    until: datetime,
    at_most_until: datetime,
) -> bool:
    """Make this the sandbox's only login. False when it has no slot, or a login of a later generation."""
    with translating():
        done = await connection.fetchval(
            """
            UPDATE nats_slots
            SET generation = $2, password_hash = $3, until = $4, at_most_until = $5
            WHERE sandbox_id = $1 AND coalesce(generation, 0) <= $2
            RETURNING true
            """,
            sandbox_id,
            generation,
            password_hash,
            until,
            at_most_until,
        )
    return bool(done)


async def clear_login(connection: Connection, sandbox_id: UUID) -> None:
    """Take the sandbox's login away; it keeps its slot."""
    with translating():
        await connection.execute(
            """
            UPDATE nats_slots
            SET generation = NULL, password_hash = NULL, until = NULL, at_most_until = NULL
            WHERE sandbox_id = $1
            """,
            sandbox_id,
        )


async def free(connection: Connection, sandbox_id: UUID, *, at: datetime) -> None:
    """Give the sandbox's slot back."""
    with translating():
        await connection.execute(
            """
            UPDATE nats_slots
            SET sandbox_id = NULL, freed_at = $2,
                generation = NULL, password_hash = NULL, until = NULL, at_most_until = NULL
            WHERE sandbox_id = $1
            """,
            sandbox_id,
            at,
        )
