"""The table `sandboxes`. Every status change is a compare-and-set with the expected status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from sandbox_core.errors import NameTaken, OwnerLimitReached, TransitionNotAllowed
from sandbox_core.models import (
    Resetting,
    RestLevel,
    Sandbox,
    SandboxStatus,
    Share,
    ShareAccess,
    check_transition,
)
from sandbox_core.stored import Level, Stored

from .errors import ShortIdTakenError, translating
from .pool import Connection

# The status is sent as text: otherwise asyncpg would look up the enum on each new connection.
COLUMNS = """
    s.id, s.name, s.owner, s.status::text AS status, s.schema_name, s.created_at, s.expires_at,
    s.destroyed_at, s.last_activity_at, s.metadata, s.credentials_generation AS generation,
    s.credentials_key AS key_id, s.rest_level, s.template, s.resetting,
    ARRAY(
        SELECT g.guild_id FROM sandbox_guild_mapping AS g
        WHERE g.sandbox_id = s.id ORDER BY g.registered_at, g.guild_id
    ) AS guild_ids,
    ARRAY(
        SELECT ROW(m.store, m.bytes, m.items, m.measured_at, m.level, m.before, m.since)
        FROM sandbox_storage AS m WHERE m.sandbox_id = s.id ORDER BY m.store
    ) AS storage,
    ARRAY(
        SELECT ROW(c.user_id, c.access, coalesce(c.login, ''), c.user_name)
        FROM sandbox_shares AS c WHERE c.sandbox_id = s.id ORDER BY c.shared_at, c.user_id
    ) AS shares
"""
"""The columns of `sandboxes AS s` that `sandbox_from_row` reads."""


def sandbox_from_row(row: asyncpg.Record | Mapping[str, Any]) -> Sandbox:
    """Turn a row of `COLUMNS` into a `Sandbox`."""
    values: dict[str, Any] = dict(row)
    values["status"] = SandboxStatus(values["status"])
    values["guild_ids"] = tuple(values["guild_ids"])
    values["rest_level"] = RestLevel(values["rest_level"])
    values["resetting"] = Resetting(values["resetting"])
    values["storage"] = tuple(map(stored_from_row, values["storage"]))
    values["shares"] = tuple(map(_share_from_row, values["shares"]))
    return Sandbox(**values)


def stored_from_row(row: Iterable[Any]) -> Stored:
    """Turn store, bytes, items, moment, level, the level before and its moment into a `Stored`."""
    store, used, items, at, level, before, since = row
    return Stored(store, used, items, at, Level(level), Level(before), since)


def _share_from_row(row: Iterable[Any]) -> Share:
    user_id, access, login, user_name = row
    return Share(user_id, ShareAccess(access), login, user_name)


async def refuse(connection: Connection, name: str | None, *, owner: str, limit: int) -> None:
    """Raise `OwnerLimitReached` or `NameTaken` if `insert` would raise it now; `insert` decides."""
    with translating():
        await _refuse_owner(connection, owner, limit)
        taken = "SELECT true FROM sandboxes WHERE name = $1 AND status <> 'destroyed'"
        if name is not None and await connection.fetchval(taken, name):
            raise NameTaken(name)


async def _refuse_owner(connection: Connection, owner: str, limit: int) -> None:
    owned = await connection.fetch(
        "SELECT name FROM sandboxes WHERE owner = $1 AND status <> 'destroyed' ORDER BY created_at, name",
        owner,
    )
    if len(owned) >= limit:
        raise OwnerLimitReached(limit, [row["name"] for row in owned])


async def insert(
    connection: Connection, sandbox: Sandbox, *, limit: int, creator_session: str | None = None
) -> None:
    """Write a new row in a transaction; other creations of the same owner wait for its end.

    When `creator_session` is over and the sandbox is not running, its creation was abandoned.

    Raises `OwnerLimitReached` when the owner already has `limit` sandboxes, `NameTaken`, and
    `ShortIdTakenError` when a live sandbox has the short id, or an orphaned schema has its name.
    """
    with translating(name=sandbox.name):
        # Without the lock, two creations could both count before either has inserted.
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('sandbox owner ' || $1::text, 0))", sandbox.owner
        )
        await _refuse_owner(connection, sandbox.owner, limit)
        await connection.execute(
            """
            INSERT INTO sandboxes (
                id, name, owner, status, schema_name, created_at, expires_at, metadata,
                credentials_generation, credentials_key, template
            )
            VALUES ($1, $2, $3, $4::text::sandbox_status, $5, $6, $7, $8, $9, $10, $11)
            """,
            sandbox.id,
            sandbox.name,
            sandbox.owner,
            sandbox.status.value,
            sandbox.schema_name,
            sandbox.created_at,
            sandbox.expires_at,
            dict(sandbox.metadata),
            sandbox.generation,
            sandbox.key_id,
            sandbox.template,
        )
        await connection.execute(
            "INSERT INTO sandbox_creations (sandbox_id, session) VALUES ($1, $2)", sandbox.id, creator_session
        )
        if await connection.fetchval("SELECT sandbox_schema_exists($1)", sandbox.short_id):
            raise ShortIdTakenError


async def set_status(
    connection: Connection,
    sandbox_id: UUID,
    expected: SandboxStatus,
    target: SandboxStatus,
    *,
    at: datetime,
) -> Sandbox:
    """Change the status from `expected` to `target`; only one of several concurrent callers succeeds.

    Raises `TransitionNotAllowed` when the life cycle has no such transition, or the status is another one.
    """
    check_transition(expected, target)
    with translating():
        row = await connection.fetchrow(
            f"""
            UPDATE sandboxes AS s
            SET status = $3::text::sandbox_status,
                destroyed_at = CASE WHEN $3::text = 'destroyed' THEN $4::timestamptz ELSE s.destroyed_at END
            WHERE s.id = $1 AND s.status = $2::text::sandbox_status
            RETURNING {COLUMNS}
            """,  # noqa: S608 (a constant)
            sandbox_id,
            expected.value,
            target.value,
            at,
        )
        if row is None:
            current = await by_id(connection, sandbox_id)
            raise TransitionNotAllowed(current.status if current else SandboxStatus.DESTROYED, target)
        if expected is SandboxStatus.CREATING:
            await connection.execute("DELETE FROM sandbox_creations WHERE sandbox_id = $1", sandbox_id)
    return sandbox_from_row(row)


async def set_expiry(connection: Connection, sandbox_id: UUID, expires_at: datetime) -> None:
    """Change a sandbox's expiry."""
    with translating():
        await connection.execute("UPDATE sandboxes SET expires_at = $2 WHERE id = $1", sandbox_id, expires_at)


async def set_credentials(connection: Connection, sandbox_id: UUID, *, generation: int, key_id: str) -> None:
    """Change which credentials are the sandbox's present ones."""
    with translating():
        await connection.execute(
            "UPDATE sandboxes SET credentials_generation = $2, credentials_key = $3 WHERE id = $1",
            sandbox_id,
            generation,
            key_id,
        )


async def set_rest_level(connection: Connection, sandbox_id: UUID, level: RestLevel) -> None:
    """Change what a bot in the sandbox may do at Discord."""
    with translating():
        await connection.execute(
            "UPDATE sandboxes SET rest_level = $2 WHERE id = $1", sandbox_id, level.value
        )


async def running(connection: Connection) -> list[Sandbox]:
    """Return the running sandboxes."""
    with translating():
        rows = await connection.fetch(
            f"SELECT {COLUMNS} FROM sandboxes AS s WHERE s.status = 'running'"  # noqa: S608 (a constant)
        )
    return [sandbox_from_row(row) for row in rows]


async def with_credentials(connection: Connection) -> list[Sandbox]:
    """Return the sandboxes with credentials of their own, those that run and those that have ended."""
    with translating():
        rows = await connection.fetch(
            f"""
            SELECT {COLUMNS} FROM sandboxes AS s
            WHERE s.status IN ('running', 'expired', 'destroying') AND s.credentials_generation > 0
            """  # noqa: S608 (a constant)
        )
    return [sandbox_from_row(row) for row in rows]


async def without_credentials(connection: Connection, *, running: bool = False) -> set[UUID]:
    """Return the ids of the sandboxes that keep apart by convention; `running` leaves all others out."""
    with translating():
        rows = await connection.fetch(
            "SELECT id FROM sandboxes WHERE status <> 'destroyed' AND credentials_generation = 0"
            " AND (status = 'running' OR NOT $1)",
            running,
        )
    return {row["id"] for row in rows}


async def touch(connection: Connection, sandbox_id: UUID, at: datetime) -> None:
    """Set the time of the sandbox's last activity."""
    with translating():
        await connection.execute("UPDATE sandboxes SET last_activity_at = $2 WHERE id = $1", sandbox_id, at)


async def by_id(connection: Connection, sandbox_id: UUID, *, lock: bool = False) -> Sandbox | None:
    """Return one sandbox, live or destroyed. `lock` locks its row until the transaction ends."""
    with translating():
        if lock:
            # In its own statement, so that the row is read after the lock was taken.
            await connection.execute("SELECT 1 FROM sandboxes WHERE id = $1 FOR NO KEY UPDATE", sandbox_id)
        row = await connection.fetchrow(
            f"SELECT {COLUMNS} FROM sandboxes AS s WHERE s.id = $1",  # noqa: S608 (a constant)
            sandbox_id,
        )
    return None if row is None else sandbox_from_row(row)


async def held(connection: Connection, sandbox_id: UUID, *, store: str) -> Sandbox | None:
    """Return one sandbox, whose row nobody changes until the transaction ends.

    Others may hold it for other stores at the same time, and for the same one when this has ended.
    """
    with translating():
        await connection.execute("SELECT 1 FROM sandboxes WHERE id = $1 FOR SHARE", sandbox_id)
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('sandbox logins ' || $1::text || $2::text, 0))",
            store,
            str(sandbox_id),
        )
    return await by_id(connection, sandbox_id)


async def keeps_running(connection: Connection, sandbox_id: UUID) -> bool:
    """Return whether the sandbox is running, which nobody changes until the transaction ends."""
    with translating():
        running = await connection.fetchval(
            "SELECT status = 'running' FROM sandboxes WHERE id = $1 FOR SHARE", sandbox_id
        )
    return bool(running)


async def find_live(connection: Connection, *, name: str, sandbox_id: UUID | None) -> Sandbox | None:
    """Return the live sandbox with the name or short id `name`, or the id `sandbox_id`.

    A name has priority over an equal short id.
    """
    with translating():
        row = await connection.fetchrow(
            f"""
            SELECT {COLUMNS} FROM sandboxes AS s
            WHERE s.status <> 'destroyed'
              AND (s.name = $1 OR s.id = $2::uuid OR s.schema_name = 'sandbox_' || $1)
            ORDER BY s.name = $1 DESC
            LIMIT 1
            """,  # noqa: S608 (a constant)
            name,
            sandbox_id,
        )
    return None if row is None else sandbox_from_row(row)


async def last_destroyed(connection: Connection, *, name: str, sandbox_id: UUID | None) -> Sandbox | None:
    """Return the last destroyed sandbox with this id, name or short id."""
    with translating():
        row = await connection.fetchrow(
            f"""
            SELECT {COLUMNS} FROM sandboxes AS s
            WHERE s.status = 'destroyed'
              AND (s.name = $1 OR s.id = $2::uuid OR s.schema_name = 'sandbox_' || $1)
            ORDER BY s.name = $1 DESC, s.destroyed_at DESC
            LIMIT 1
            """,  # noqa: S608 (a constant)
            name,
            sandbox_id,
        )
    return None if row is None else sandbox_from_row(row)


async def live_names(connection: Connection, *, limit: int = 1000) -> list[str]:
    """Return the names of live sandboxes, newest first."""
    with translating():
        rows = await connection.fetch(
            "SELECT name FROM sandboxes WHERE status <> 'destroyed' ORDER BY created_at DESC LIMIT $1", limit
        )
    return [row["name"] for row in rows]


async def select(
    connection: Connection,
    *,
    owner: str | None = None,
    status: SandboxStatus | None = None,
    include_destroyed: bool = False,
    shared: bool = False,
) -> list[Sandbox]:
    """Return the sandboxes that match all filters, newest first.

    With `shared`, those that are shared with the owner count as the owner's.
    """
    with translating():
        rows = await connection.fetch(
            f"""
            SELECT {COLUMNS} FROM sandboxes AS s
            WHERE ($1::text IS NULL OR s.owner = $1 OR $4 AND EXISTS (
                SELECT FROM sandbox_shares AS c WHERE c.sandbox_id = s.id AND c.user_id = $1
            ))
              AND ($2::text IS NULL OR s.status = $2::text::sandbox_status)
              AND ($3 OR s.status <> 'destroyed')
            ORDER BY s.created_at DESC, s.name
            """,  # noqa: S608 (a constant)
            owner,
            None if status is None else status.value,
            include_destroyed or status is SandboxStatus.DESTROYED,
            shared,
        )
    return [sandbox_from_row(row) for row in rows]


async def matching(connection: Connection, text: str, *, owner_first: str, limit: int) -> list[Sandbox]:
    """Return live sandboxes with `text` in their name.

    The owner's come first, then those shared with them, then names that start with the text.
    """
    with translating():
        rows = await connection.fetch(
            f"""
            SELECT {COLUMNS} FROM sandboxes AS s
            WHERE s.status <> 'destroyed' AND position($1 IN s.name) > 0
            ORDER BY s.owner = $2 DESC, EXISTS (
                SELECT FROM sandbox_shares AS c WHERE c.sandbox_id = s.id AND c.user_id = $2
            ) DESC, position($1 IN s.name) = 1 DESC, s.name
            LIMIT $3
            """,  # noqa: S608 (a constant)
            text,
            owner_first,
            limit,
        )
    return [sandbox_from_row(row) for row in rows]
