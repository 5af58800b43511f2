"""The pool of PostgreSQL connections, and the two ways to use one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from sandbox_core.addresses import PostgresAddress

from . import login
from .errors import translating

# Quoted: asyncpg's classes are generic in its type stubs only.
Pool: TypeAlias = "asyncpg.Pool[Any]"
Connection: TypeAlias = "asyncpg.Connection[Any] | PoolConnectionProxy[Any]"

CONNECT_TIMEOUT = 2.0
"""Seconds to get a connection, new or from the pool."""
COMMAND_TIMEOUT = 3.0
"""Seconds one statement may take; several may fail in turn within the 10 s that a command has.

The few that may need longer, such as dropping a schema, are given a `timeout` of their own.
"""
_CANCELLED_WITHIN = 0.5


async def create_pool(
    database: PostgresAddress | str,
    *,
    min_size: int = 1,
    max_size: int = 10,
    application_name: str = "discord-sandboxes",
    search_path: str | None = None,
    prepared_statements: bool = True,
) -> Pool:
    """Open a pool. Raises `DependencyUnavailable` when PostgreSQL is away, `LoginRefused` when it says no.

    Where no connection is opened at once, whoever needs the first one is told.
    `jsonb` is read and written as Python values. `search_path` is a schema name of this project's own
    making. Set `prepared_statements` to False behind PgBouncer in transaction mode.
    """
    server_settings = {"application_name": application_name}
    if search_path is not None:
        server_settings["search_path"] = search_path
    with translating():
        # Awaiting asyncpg's pool is typed as if it could give nothing.
        pool: Pool | None = await asyncpg.create_pool(
            connect=partial(_connect, PostgresAddress.of(database)),
            min_size=min_size,
            max_size=max_size,
            timeout=CONNECT_TIMEOUT,
            command_timeout=COMMAND_TIMEOUT,
            statement_cache_size=100 if prepared_statements else 0,
            server_settings=server_settings,
            init=_prepare,
        )
    assert pool is not None  # noqa: S101
    return pool


async def _connect(address: PostgresAddress, _dsn: None, **options: Any) -> asyncpg.Connection[Any]:
    """What the pool calls for each connection; it has no address of its own."""
    return await login.connect(address, **options)


async def _prepare(connection: Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads, format="text"
    )


# The event loop itself holds tasks only weakly.
_releases: set[asyncio.Task[None]] = set()


def _release(pool: Pool, connection: PoolConnectionProxy[Any]) -> asyncio.Task[None]:
    """Give the connection back, in a task that always asks for what that raised.

    `Pool.release` only shields its work from a cancellation: what the work raises afterwards would be
    reported as never retrieved.
    """
    task = asyncio.get_running_loop().create_task(pool.release(connection), name="postgres-release")
    _releases.add(task)
    task.add_done_callback(_released)
    return task


def _released(task: asyncio.Task[None]) -> None:
    _releases.discard(task)
    if not task.cancelled():
        # Whoever waits for it is told too; the pool has dropped the connection.
        task.exception()


@asynccontextmanager
async def connected(pool: Pool) -> AsyncIterator[Connection]:
    """A connection from the pool, for reading; driver errors inside are translated."""
    with translating():
        connection = await pool.acquire(timeout=CONNECT_TIMEOUT)
        try:
            yield connection
        except asyncio.CancelledError:
            # What was under way ends on the server before it can do more; one that hangs is not waited for.
            await asyncio.wait({_release(pool, connection)}, timeout=_CANCELLED_WITHIN)
            raise
        except BaseException:
            # Whatever it is: the pool must have its connection back before it goes on.
            await asyncio.shield(_release(pool, connection))
            raise
        else:
            await asyncio.shield(_release(pool, connection))


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """A connection in a transaction that commits at the end and rolls back on any error."""
    async with connected(pool) as connection, connection.transaction():
        yield connection


def is_alive(connection: PoolConnectionProxy[Any]) -> bool:
    """True while a connection that was acquired from the pool can be used."""
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        # The pool has taken the connection back by itself, because it was lost.
        return False
