"""The table `gateway_processes`: who publishes events at present.

A process is announced before it reads its first route, and from then on every two seconds. Whoever
changes a route and reads this table afterwards therefore either finds the process here, or the process
reads its routes later than the change.

The row also names the session that says so, which ends with the process: see `sessions`.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from .errors import translating
from .pool import Connection, Pool, connected
from .sessions import THIS_SESSION, told_pid

SEEN_WITHIN = 10.0
"""Seconds without a sign of life after which a process no longer counts as live."""
_FORGOTTEN_AFTER = 3600.0


@dataclass(frozen=True, slots=True)
class GatewayProcess:
    """One process that publishes events. `name` is for people: `host:pid`."""

    id: UUID
    name: str
    silent_for: float = field(default=0.0, compare=False)
    """Seconds since it was seen, when it was read from the table."""
    backend: int | None = field(default=None, compare=False)
    """The server's process id of its session, when it was read; None behind a pooler."""

    @classmethod
    def this(cls) -> GatewayProcess:
        """A new identity for the present process."""
        return cls(uuid4(), f"{socket.gethostname()}:{os.getpid()}")


async def announce(connection: Connection, process: GatewayProcess) -> float:
    """Say that the process lives; the database's time meanwhile, in seconds since the epoch.

    Driver errors pass: who holds the connection judges them.
    """
    moment: float = await connection.fetchval(
        f"""
        INSERT INTO gateway_processes (process_id, name, session)
        VALUES ($1, $2, {THIS_SESSION.format(pid="$3")})
        ON CONFLICT (process_id) DO UPDATE SET seen_at = now(), session = excluded.session
        RETURNING extract(epoch FROM clock_timestamp())::float8
        """,  # noqa: S608 (a constant)
        process.id,
        process.name,
        told_pid(connection),
    )
    return moment


class Processes:
    """Reads the table, and takes this process out of it.

    Every method raises `DependencyUnavailable` when PostgreSQL is away.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def live(self) -> list[GatewayProcess]:
        """The processes seen within the last ten seconds by the database's clock, the oldest first."""
        async with connected(self._pool) as connection:
            return await live(connection)

    async def leave(self, process: GatewayProcess) -> None:
        """The process publishes nothing more; rows of processes long gone go with it."""
        async with connected(self._pool) as connection:
            await connection.execute(
                """
                DELETE FROM gateway_processes
                WHERE process_id = $1 OR seen_at < now() - make_interval(secs => $2)
                    OR seen_at > now() + make_interval(secs => $2)
                """,
                process.id,
                _FORGOTTEN_AFTER,
            )


async def live(connection: Connection) -> list[GatewayProcess]:
    """As `Processes.live`, on a connection of the caller's."""
    with translating():
        rows = await connection.fetch(
            """
            SELECT process_id, name,
                greatest(extract(epoch FROM now() - seen_at), 0)::float8 AS silent_for,
                substring(session FROM '^[0-9.]+/([0-9]{1,9})/')::int AS backend
            FROM gateway_processes
            -- A time that is still to come was not written by a heartbeat.
            WHERE seen_at BETWEEN now() - make_interval(secs => $1) AND now() + make_interval(secs => $1)
            ORDER BY started_at, process_id
            """,
            SEEN_WITHIN,
        )
    return [GatewayProcess(row["process_id"], row["name"], row["silent_for"], row["backend"]) for row in rows]
