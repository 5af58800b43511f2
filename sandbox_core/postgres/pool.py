"""The pool of PostgreSQL connections, and the two ways to use a connection."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from sandbox_core.addresses import PostgresAddress
from sandbox_core.errors import DependencyFaulty, DependencyUnavailable, OutcomeUnknown
from sandbox_core.words import storable, storable_json

from . import login
from .errors import DEPENDENCY, OVERDUE, translating

_log = structlog.get_logger("sandbox.postgres")

# Quoted: asyncpg's classes are generic in its type stubs only.
Pool: TypeAlias = "asyncpg.Pool[Any]"
Connection: TypeAlias = "asyncpg.Connection[Any] | PoolConnectionProxy[Any]"

CONNECT_TIMEOUT = 2.0
"""The limit in seconds to get a connection, new or from the pool."""
COMMAND_TIMEOUT = 3.0
"""The limit in seconds for one statement: several may fail one after the other in a command's 10 s.

A few statements may need longer, such as dropping a schema; they have their own `timeout`.
"""
_CANCELLED_WITHIN = 0.5
# Less than a lease lasts; between two statements of ours are milliseconds. Each transaction sets it, because
# PgBouncer takes no such setting when a connection is opened.
_IDLE_AT_MOST_MS = 5_000
_PERHAPS_NOT_STORABLE = re.compile(r"\\u(?:0000|d[89a-f])")


async def create_pool(
    database: PostgresAddress | str,
    *,
    min_size: int = 1,
    max_size: int = 10,
    application_name: str = "discord-sandboxes",
    search_path: str | None = None,
    prepared_statements: bool = True,
) -> Pool:
    """Open a pool. Raises `DependencyUnavailable` when PostgreSQL is away, `LoginRefused` when it refuses.

    With `min_size=0` the first use of a connection raises these errors.
    `jsonb` is read and written as Python values. What PostgreSQL can't store in a text, NUL and halves of
    surrogate pairs, is written as U+FFFD. `search_path` is a schema name of this project. Set
    `prepared_statements` to False behind PgBouncer in transaction mode.
    """
    server_settings = {"application_name": application_name}
    if search_path is not None:
        server_settings["search_path"] = search_path
    address = PostgresAddress.of(database)
    with translating(where=address.where):
        pool = await _LocatedPool(
            address.where,
            connect=partial(_connect, address),
            min_size=min_size,
            max_size=max_size,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            loop=None,
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            timeout=CONNECT_TIMEOUT,
            command_timeout=COMMAND_TIMEOUT,
            statement_cache_size=100 if prepared_statements else 0,
            server_settings=server_settings,
            init=_prepare,
        )
    assert pool is not None  # noqa: S101 (by its type, awaiting asyncpg's pool could return None)
    return pool


class _LocatedPool(asyncpg.Pool):
    """A pool that knows the host and the port of its server."""

    def __init__(self, where: str, **options: Any) -> None:
        super().__init__(None, **options)
        self.where = where


def place_of(pool: Pool) -> str:
    """Return the host and the port of the pool's server, or "" when it is not known."""
    return str(getattr(pool, "where", ""))


async def _connect(address: PostgresAddress, _dsn: None, **options: Any) -> asyncpg.Connection[Any]:
    """Open a connection for the pool, which itself has no address."""
    return await login.connect(address, **options)


async def _prepare(connection: Connection) -> None:
    """Make every text and every JSON value storable on its way, whoever writes it.

    Arrays of text are sent as they are: only ids and names of ours are sent in them.
    """
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_json, decoder=json.loads, format="text"
    )
    for name in ("text", "varchar"):
        # In the binary format, which COPY needs.
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=_text, decoder=bytes.decode, format="binary"
        )


def _json(value: Any) -> str:
    text = json.dumps(value)
    return json.dumps(storable_json(value)) if _PERHAPS_NOT_STORABLE.search(text) else text


def _text(value: object) -> bytes:
    if not isinstance(value, str):
        # As asyncpg's own codec does, which has no cast from other types either.
        raise TypeError(f"expected str, got {type(value).__name__}")
    return storable(value).encode()


# The event loop itself has only weak references to tasks.
_releases: set[asyncio.Task[None]] = set()


def _release(pool: Pool, connection: PoolConnectionProxy[Any]) -> asyncio.Task[None]:
    """Return the connection to the pool, in a task whose error is always read.

    `Pool.release` only shields its work from a cancellation. Without the task asyncio would report a later
    error as never retrieved.
    """
    task = asyncio.get_running_loop().create_task(pool.release(connection), name="postgres-release")
    _releases.add(task)
    task.add_done_callback(_released)
    return task


def _released(task: asyncio.Task[None]) -> None:
    _releases.discard(task)
    if not task.cancelled():
        # The pool has dropped the connection.
        task.exception()


@asynccontextmanager
async def connected(pool: Pool) -> AsyncIterator[Connection]:
    """Yield a connection from the pool, for reading; driver errors in the body are translated."""
    with translating(where=place_of(pool)):
        connection = await pool.acquire(timeout=CONNECT_TIMEOUT)
        try:
            yield connection
        except asyncio.CancelledError:
            # The running statement ends on the server first. Do not wait long for a hanging server.
            await asyncio.wait({_release(pool, connection)}, timeout=_CANCELLED_WITHIN)
            raise
        except BaseException as error:
            stood = is_alive(connection)
            # After any error the pool must get its connection back first.
            released = _release(pool, connection)
            await asyncio.wait({released})
            if stood and _is_late(error) and released.exception() is None:
                # The connection is idle again, so the server has answered to the end of the statement.
                raise DependencyFaulty(DEPENDENCY, OVERDUE) from error
            raise
        else:
            # What was done is done, whatever becomes of the connection.
            await asyncio.wait({_release(pool, connection)})


def _is_late(error: BaseException) -> bool:
    cause = error.__cause__ if isinstance(error, DependencyUnavailable) else error
    return isinstance(cause, TimeoutError)


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """Yield a connection in a transaction, which commits at the end and rolls back on any error.

    The server ends it when this process stands still in it: its locks must not hold up the others.

    Raises `OutcomeUnknown` when PostgreSQL was asked to commit and its answer is lost. Then it has done it or
    not; a caller repeats only what is right in both cases.
    """
    committing = False
    try:
        async with connected(pool) as connection, connection.transaction():
            await connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = {_IDLE_AT_MOST_MS}")
            yield connection
            committing = True
    except DependencyUnavailable as error:
        if committing and not _is_refusal(error.__cause__):
            raise OutcomeUnknown(error.dependency, error.problem, error.where) from error
        raise


def _is_refusal(error: BaseException | None) -> bool:
    """Whether the server itself has said that the transaction failed."""
    # FATAL is about the session and not about the transaction.
    return isinstance(error, asyncpg.PostgresError) and error.severity == "ERROR"


def is_alive(connection: PoolConnectionProxy[Any]) -> bool:
    """Return whether a connection from the pool can still be used."""
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        # The pool itself has taken the connection back, because it was lost.
        return False
