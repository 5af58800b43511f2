"""Sessions of PostgreSQL, by which others see at once that a process is gone.

When a process dies, its kernel closes its connections and the server ends their sessions. A session is named
by the server's start, its process id and its own start (`sandbox_session` in the migrations). Whether it is
over can be told only while the server has run since: a server that was started again, or another one that
took its place, says nothing of earlier sessions.

Behind a pooler such as PgBouncer a session is the pooler's and says nothing of its client. There the server's
process id is another one than the one that the client was told at its login, and no session is noted.
"""

from __future__ import annotations

from typing import Final

from .pool import Connection

THIS_SESSION: Final = "CASE WHEN pg_backend_pid() = {pid} THEN sandbox_session() END"
"""The present session, or NULL behind a pooler; `{pid}` stands for the parameter with `told_pid`."""


def told_pid(connection: Connection) -> int:
    """The server's process id as the connection was told at its login."""
    pid: int = connection.get_server_pid()
    return pid


async def this_session(connection: Connection) -> str | None:
    """The connection's session, for others to look up; None behind a pooler. Driver errors pass."""
    session: str | None = await connection.fetchval(
        f"SELECT {THIS_SESSION.format(pid='$1')}",
        told_pid(connection),
    )
    return session
