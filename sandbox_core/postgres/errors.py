"""Turns asyncpg's errors into this project's. No other module does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from asyncpg import exceptions as pg

from sandbox_core.errors import (
    DependencyUnavailable,
    GuildAlreadyMapped,
    NameTaken,
    NotMigrated,
    SandboxError,
)

DEPENDENCY = "PostgreSQL"

# The first match decides. The sentences are ours: asyncpg's texts may contain hosts, users and databases.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "its host name can't be resolved"),
    (ConnectionRefusedError, "connection refused"),
    (TimeoutError, "no answer in time"),
    (OSError, "the connection was lost"),
    (pg.QueryCanceledError, "no answer in time"),
    (pg.CannotConnectNowError, "it is starting up or shutting down"),
    (pg.OperatorInterventionError, "it is shutting down"),
    (pg.PostgresConnectionError, "the connection was lost"),
    (pg.InvalidAuthorizationSpecificationError, "it refused the login"),
    (pg.InvalidCatalogNameError, "the database does not exist"),
    (pg.TooManyConnectionsError, "it has no free connection"),
    (pg.DiskFullError, "its disk is full"),
    (pg.InsufficientResourcesError, "it is out of resources"),
    (pg.PostgresSystemError, "it reports a fault of its system"),
    (pg.ReadOnlySQLTransactionError, "it takes no writes at present"),
    (pg.LockNotAvailableError, "it is busy with a conflicting change"),
    (pg.TransactionRollbackError, "it is busy with a conflicting change"),
)

# The pool itself takes a broken connection back.
_LOST = ("closed", "closing", "has been released back to the pool")


class ShortIdTakenError(Exception):
    """A live sandbox already has this short id. The error never leaves the core: a new id is tried."""


def unavailable(error: BaseException) -> DependencyUnavailable | None:
    """Return the error to raise when `error` means that PostgreSQL can't be used now, else None."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return DependencyUnavailable(DEPENDENCY, reason)
    if isinstance(error, pg.UndefinedTableError | pg.UndefinedFunctionError):
        return NotMigrated()
    # asyncpg has the same class for a closed connection or pool and for wrong use by the caller. Only the
    # text shows the difference, and wrong use must stay visible as a fault of the program.
    if isinstance(error, asyncpg.InterfaceError) and any(words in str(error) for words in _LOST):
        return DependencyUnavailable(DEPENDENCY, "the connection was lost")
    # asyncpg's error when the server ended an idle connection and the loop has not seen that yet.
    if isinstance(error, asyncpg.InternalClientError) and "cannot switch to state" in str(error):
        return DependencyUnavailable(DEPENDENCY, "the connection was lost")
    return None


@contextmanager
def translating(*, name: str = "", guild_id: str = "") -> Iterator[None]:
    """Run driver calls, and turn their errors into errors of this project.

    `name` and `guild_id` are the values being written, for the errors about them. Whatever the server
    answers, it is the server's answer; what asyncpg itself refuses passes unchanged.
    """
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        taken = _taken(error.constraint_name, name, guild_id)
        if taken is None and error.severity is not None:
            taken = DependencyUnavailable(DEPENDENCY, f"it answered with the error {error.sqlstate}")
        if taken is None:
            raise
        raise taken from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        away = unavailable(error)
        if away is None:
            # Those that asyncpg makes by itself, with the same classes, have no severity.
            if not isinstance(error, asyncpg.PostgresError) or error.severity is None:
                raise
            # Its text may hold values; the code is enough to look it up.
            away = DependencyUnavailable(DEPENDENCY, f"it answered with the error {error.sqlstate}")
        raise away from error


def _taken(constraint: str | None, name: str, guild_id: str) -> SandboxError | ShortIdTakenError | None:
    match constraint:
        case "uq_sandboxes_name_live":
            return NameTaken(name)
        case "uq_sandboxes_schema_live":
            return ShortIdTakenError()
        case "pk_sandbox_guild_mapping":
            return GuildAlreadyMapped(guild_id, None)
        case _:
            return None
