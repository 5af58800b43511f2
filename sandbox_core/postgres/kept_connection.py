"""One connection of the pool, kept for as long as its user needs the same one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from asyncpg.pool import PoolConnectionProxy

from sandbox_core.errors import DependencyUnavailable

from .errors import translating
from .pool import CONNECT_TIMEOUT, Pool, is_alive, place_of

_log = structlog.get_logger("sandbox.postgres")

Prepare = Callable[["PoolConnectionProxy[Any]"], Awaitable[None]]


async def _as_it_is(_connection: PoolConnectionProxy[Any]) -> None:
    pass


class KeptConnection:
    """Acquires the connection when it is needed; one that was lost is replaced then.

    `prepare` is awaited with each that is acquired, and `restore` before one is given back that still stands.
    The pool resets what it gets back, which also ends the session's locks.
    """

    def __init__(self, pool: Pool, *, prepare: Prepare = _as_it_is, restore: Prepare = _as_it_is) -> None:
        self._pool = pool
        self._prepare = prepare
        self._restore = restore
        self._connection: PoolConnectionProxy[Any] | None = None

    @property
    def standing(self) -> PoolConnectionProxy[Any] | None:
        """The connection that is kept, unless it was lost."""
        connection = self._connection
        return connection if connection is not None and is_alive(connection) else None

    async def get(self) -> PoolConnectionProxy[Any]:
        """The connection. Raises `DependencyUnavailable` when PostgreSQL is away."""
        if self.standing is None:
            await self.give_back()
            with translating(where=place_of(self._pool)):
                self._connection = connection = await self._pool.acquire(timeout=CONNECT_TIMEOUT)
                await self._prepare(connection)
            return connection
        return self.standing

    async def give_back(self) -> None:
        """Keep none any more; harmless without one."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            with translating():
                try:
                    if is_alive(connection):
                        await self._restore(connection)
                finally:
                    await self._pool.release(connection)
        except Exception as error:
            # Any error: what it was kept for is done.
            reason = error.reason if isinstance(error, DependencyUnavailable) else type(error).__name__
            _log.info("kept_connection_lost", reason=reason)
