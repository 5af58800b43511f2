"""The in-process route table: read in full, then kept current by PostgreSQL's notifications.

A notification only says which guild changed; its route is then read again. The table so moves from one
committed truth to the next, in whatever order notifications arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import asyncpg
import structlog

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Route
from sandbox_core.postgres import routes as route_rows
from sandbox_core.postgres.errors import unavailable
from sandbox_core.postgres.pool import Connection
from sandbox_core.postgres.processes import GatewayProcess, announce
from sandbox_core.routing import RouteTable

_log = structlog.get_logger("sandbox.routes")

_PAUSES = (0.05, 0.1, 0.25, 0.5, 1.0)
_ATTEMPTS_PER_LOG_LINE = 30
_LINK_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class RouteFollower:
    """Follows the routes over one PostgreSQL connection of its own.

    `heartbeat` is how often, in seconds, an idle link is tried; a link that does not answer within that
    time again counts as lost. `process` is announced with every heartbeat.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection[Any]]],
        *,
        process: GatewayProcess | None = None,
        heartbeat: float = 2.0,
    ) -> None:
        self._connect = connect
        self._process = process
        self._heartbeat = heartbeat
        self.table: RouteTable | None = None
        """The last table known; None before the first full read."""
        self.current = False
        """True while the link stands, and `table` is what PostgreSQL says."""
        self.trouble = ""
        """Why the table is not current, as a short sentence; "" while it is."""
        self.on_change: list[Callable[[], None]] = []
        """Called when `table` or `current` changed."""
        self._changed: set[str] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow; returns at once, whether PostgreSQL is there or not."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="route-follower")

    async def close(self) -> None:
        """Stop following; the last table stays."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def refresh(self, guild_ids: Collection[str]) -> None:
        """Return when the table shows what PostgreSQL now says of these guilds.

        Raises `DependencyUnavailable` when the link is down or goes down meanwhile.
        """
        if not self.current:
            raise DependencyUnavailable("PostgreSQL", "the route notifications are interrupted")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.update(guild_ids)
        self._waiting.append(done)
        self._wake.set()
        await done

    def apply(self, changes: Mapping[str, Route | None]) -> None:
        """Put committed changes into the table without the link; its next full read settles all."""
        if self.table is not None:
            self._set(self.table.with_changes(changes), current=self.current)

    async def _run(self) -> None:
        attempt = 0
        while True:
            try:
                connection = await self._connect()
            except _LINK_LOST as error:
                self._note(error)
                if attempt % _ATTEMPTS_PER_LOG_LINE == 0:
                    _log.warning("route_link_unavailable", dependency="PostgreSQL", reason=self.trouble)
            else:
                try:
                    await self._follow(connection)
                except _LINK_LOST as error:
                    self._note(error)
                    if self.current or attempt % _ATTEMPTS_PER_LOG_LINE == 0:
                        _log.warning("route_link_lost", dependency="PostgreSQL", reason=self.trouble)
                    if self.current:
                        attempt = 0
                finally:
                    self._lost()
                    # The server may be gone: a polite close would wait for it.
                    connection.terminate()
            await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
            attempt += 1

    def _note(self, error: BaseException) -> None:
        if isinstance(error, asyncpg.UndefinedTableError):
            self.trouble = "the migrations are not applied; `sandboxctl migrate` does it"
            return
        away = unavailable(error)
        self.trouble = type(error).__name__ if away is None else away.reason

    async def _follow(self, connection: asyncpg.Connection[Any]) -> None:
        connection.add_termination_listener(self._on_termination)
        await self._beat(connection)
        # Listening first: a change that commits during the full read is told afterwards.
        await connection.add_listener(route_rows.CHANNEL, self._on_notification)
        self._changed.clear()
        table = RouteTable(await route_rows.read_all(connection))
        self.trouble = ""
        self._set(table, current=True)
        _log.info("routes_loaded", guilds=len(table))
        while not connection.is_closed():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat):
                    await self._wake.wait()
            self._wake.clear()
            if self._changed or self._waiting:
                await self._read_changed(connection)
            elif not connection.is_closed():
                await self._beat(connection)
        raise ConnectionResetError("PostgreSQL closed the connection")

    async def _beat(self, connection: Connection) -> None:
        async with asyncio.timeout(self._heartbeat):
            if self._process is None:
                await connection.fetchval("SELECT 1")
            else:
                await announce(connection, self._process)

    async def _read_changed(self, connection: Connection) -> None:
        changed, self._changed = self._changed, set()
        waiting, self._waiting = self._waiting, []
        try:
            rows = await route_rows.read_many(connection, changed)
        except BaseException:
            # Nobody may wait for a read that never ended; `_lost` tells them.
            self._waiting[:0] = waiting
            raise
        if self.table is not None:
            self._set(self.table.with_changes(rows), current=True)
        for done in waiting:
            if not done.done():
                done.set_result(None)

    def _on_notification(self, connection: Connection, pid: int, channel: str, payload: Any) -> None:
        self._changed.add(str(json.loads(payload)["guild_id"]))
        self._wake.set()

    def _on_termination(self, connection: Connection) -> None:
        self._wake.set()

    def _lost(self) -> None:
        self._set(self.table, current=False)
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            if not done.done():
                done.set_exception(DependencyUnavailable("PostgreSQL", "the connection was lost"))

    def _set(self, table: RouteTable | None, *, current: bool) -> None:
        self.table = table
        self.current = current
        for listener in self.on_change:
            listener()
