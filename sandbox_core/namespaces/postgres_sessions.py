"""Ends the sessions of sandboxes' roles, and of their guests', in the sandboxes' database."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import timedelta

import asyncpg
import structlog

from sandbox_core.addresses import PostgresAddress
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.guests import ROLE_LENGTH, ROLES
from sandbox_core.postgres import Connection, Pool, connected, login
from sandbox_core.postgres.pool import CONNECT_TIMEOUT

_log = structlog.get_logger("sandbox.namespaces")

_ROUNDS = 50
"""The most looks for sessions that still run; the server ends one within milliseconds."""
_PAUSE = 0.02
_PLACE_WITHIN = 10.0
"""Seconds in which a login finds one of the role's connections free."""
_GRACE = timedelta(seconds=2)
"""How long after the limit of a statement its session is ended."""


async def logged_in(tenants: Pool, address: PostgresAddress, role: str) -> Connection:
    """Log in as the role. Where its workers have all of its connections, these are ended."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + _PLACE_WITHIN
    while True:
        try:
            return await login.connect(address, timeout=CONNECT_TIMEOUT)
        except DependencyUnavailable as error:
            crowded = isinstance(error.__cause__, asyncpg.TooManyConnectionsError)
            if not crowded or loop.time() > ends_at:
                raise
        await end_sessions(tenants, role, older=False, looks=0)


async def end_sessions(tenants: Pool, role: str, *, older: bool, looks: int = 2) -> None:
    """End those of the role and its guests, or of one guest's, until so many looks in a row find none.

    Two, for a session that began while the login was refused; none, to end those that there are and not wait.
    `older` leaves those alone that began with the present login.
    """
    async with connected(tenants) as connection:
        quiet = 0
        for _ in range(_ROUNDS):
            ended = await connection.fetchval(
                """
                SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity AS a
                JOIN pg_roles AS r ON r.oid = a.usesysid
                LEFT JOIN pg_shdescription AS d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
                WHERE r.rolname ~ $3 AND $1::text IN (r.rolname::text, left(r.rolname, $4))
                  AND a.pid <> pg_backend_pid()
                  AND (NOT $2 OR extract(epoch FROM a.backend_start)
                                 < substring(d.description FROM '; since ([0-9.]+)$')::float8)
                """,
                role,
                older,
                ROLES,
                ROLE_LENGTH,
            )
            quiet = 0 if ended else quiet + 1
            if quiet >= looks:
                return
            await asyncio.sleep(_PAUSE)


async def end_overdue(tenants: Pool, roles: Collection[str], *, longest: timedelta) -> list[str]:
    """End the sessions whose statement runs for longer than it may. Return their roles.

    Whoever keeps the limit is ended by the server before, and only the statement.
    """
    async with connected(tenants) as connection:
        rows = await connection.fetch(
            """
            SELECT a.usename::text AS role, pg_terminate_backend(a.pid) FROM pg_stat_activity AS a
            WHERE a.usename ~ $4 AND left(a.usename, $3) = ANY ($1) AND a.backend_type = 'client backend'
              AND a.state IN ('active', 'fastpath function call')
              AND a.query_start < clock_timestamp() - $2::interval
            """,
            list(roles),
            longest + _GRACE,
            ROLE_LENGTH,
            ROLES,
        )
    ended = [row["role"] for row in rows]
    for role in ended:
        _log.warning("sandbox_statement_ended", role=role, after=str(longest))
    return ended
