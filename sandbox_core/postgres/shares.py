"""The table `sandbox_shares`: with whom a sandbox is shared, and each colleague's login to NATS."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sandbox_core.models import Share

from .errors import translating
from .pool import Connection


@dataclass(frozen=True, slots=True)
class GuestRow:
    """A colleague's login to NATS; without one `generation` is 0 and `password_hash` is ""."""

    sandbox_id: UUID
    login: str
    generation: int
    """The sandbox's credentials that it was made with."""
    password_hash: str


async def put(connection: Connection, sandbox_id: UUID, share: Share, *, at: datetime) -> None:
    """Share the sandbox with a colleague, or change what they may do."""
    with translating():
        await connection.execute(
            """
            INSERT INTO sandbox_shares AS s (sandbox_id, user_id, user_name, access, login, shared_at)
            VALUES ($1, $2, $3, $4, nullif($5, ''), $6)
            ON CONFLICT (sandbox_id, user_id) DO UPDATE
            SET user_name = excluded.user_name, access = excluded.access, login = excluded.login,
                nats_generation = NULL, nats_password_hash = NULL, shared_at = excluded.shared_at
            """,
            sandbox_id,
            share.user_id,
            share.user_name,
            share.access.value,
            share.login,
            at,
        )


async def remove(connection: Connection, sandbox_id: UUID, user_id: str) -> None:
    """Share the sandbox with this colleague no more."""
    with translating():
        await connection.execute(
            "DELETE FROM sandbox_shares WHERE sandbox_id = $1 AND user_id = $2", sandbox_id, user_id
        )


async def remove_all(connection: Connection, sandbox_id: UUID) -> None:
    """Share the sandbox with nobody."""
    with translating():
        await connection.execute("DELETE FROM sandbox_shares WHERE sandbox_id = $1", sandbox_id)


async def guests(connection: Connection, sandbox_id: UUID | None = None) -> list[GuestRow]:
    """Return the logins of the colleagues who may work in the sandbox, or in any."""
    with translating():
        rows = await connection.fetch(
            """
            SELECT sandbox_id, login, coalesce(nats_generation, 0) AS generation,
                   coalesce(nats_password_hash, '') AS password_hash
            FROM sandbox_shares WHERE login IS NOT NULL AND ($1::uuid IS NULL OR sandbox_id = $1)
            """,
            sandbox_id,
        )
    return [GuestRow(**row) for row in rows]


async def set_nats_login(
    connection: Connection, sandbox_id: UUID, login: str, *, generation: int, password_hash: str
) -> None:
    """Make this the only password of the colleague's login to NATS."""
    with translating():
        await connection.execute(
            """
            UPDATE sandbox_shares SET nats_generation = $3, nats_password_hash = $4
            WHERE sandbox_id = $1 AND login = $2
            """,
            sandbox_id,
            login,
            generation,
            password_hash,
        )
