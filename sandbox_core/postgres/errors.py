"""Turns asyncpg's errors into this project's. No other module does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from asyncpg import exceptions as pg

from sandbox_core.errors import (
    DependencyFaulty,
    DependencyUnavailable,
    GuildAlreadyMapped,
    NameTaken,
    NotMigrated,
    SandboxError,
)

DEPENDENCY = "PostgreSQL"

# The first match decides. The sentences are ours: asyncpg's texts may contain hosts, users and databases.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "its host name can't be resolved"),
    (ConnectionRefusedError, "connection refused"),
    (TimeoutError, "no answer in time"),
    (OSError, "the connection was lost"),
    (pg.CannotConnectNowError, "it is starting up or shutting down"),
    (pg.OperatorInterventionError, "it is shutting down"),
    (pg.PostgresConnectionError, "the connection was lost"),
)

OVERDUE = "a statement took too long: another session may hold a lock on what it needs"

# It answers, and what it answers is this.
_FAULTY: tuple[tuple[type[BaseException], str], ...] = (
    (pg.QueryCanceledError, OVERDUE),
    (pg.InvalidAuthorizationSpecificationError, "it refused the login"),
    (pg.InvalidCatalogNameError, "the database does not exist"),
    (pg.TooManyConnectionsError, "it has no free connection"),
    (pg.DiskFullError, "its disk is full"),
    (pg.OutOfMemoryError, "it is out of memory"),
    (pg.InsufficientResourcesError, "it is out of resources"),
    (pg.PostgresSystemError, "it reports a fault of its system"),
    (pg.ReadOnlySQLTransactionError, "it takes no writes at present"),
    (pg.LockNotAvailableError, "another session holds a lock on what is needed"),
    (pg.TransactionRollbackError, "it is busy with a conflicting change"),
)

DRIVER_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises; the last one when the server has ended the connection and the loop has not seen it."""

# The pool itself takes a broken connection back.
_LOST = ("closed", "closing", "has been released back to the pool")


class ShortIdTakenError(Exception):
    """A live sandbox already has this short id. The error never leaves the core: a new id is tried."""


def unavailable(error: BaseException) -> DependencyUnavailable | None:
    """Return the error to raise when `error` means that PostgreSQL can't be used now, else None."""
    for kind, reason in _FAULTY:
        if isinstance(error, kind):
            return DependencyFaulty(DEPENDENCY, reason)
    for kind, reason in _AWAY:
        if isinstance(error, kind):
            return DependencyUnavailable(DEPENDENCY, reason)
    if isinstance(error, pg.UndefinedTableError | pg.UndefinedFunctionError):
        return NotMigrated()
    # asyncpg has the same class for a closed connection or pool and for wrong use by the caller. Only the
    # text shows the difference, and wrong use must stay visible as a fault of the program.
    if isinstance(error, asyncpg.InterfaceError) and any(words in str(error) for words in _LOST):
        return DependencyUnavailable(DEPENDENCY, "the connection was lost")
    if isinstance(error, asyncpg.InternalClientError) and "cannot switch to state" in str(error):
        return DependencyUnavailable(DEPENDENCY, "the connection was lost")
    return None


@contextmanager
def translating(*, name: str = "", guild_id: str = "", where: str = "") -> Iterator[None]:
    """Run driver calls, and turn their errors into errors of this project.

    `name` and `guild_id` are the values being written, for the errors about them; `where` is the server's
    host and port. Whatever the server answers, it is the server's answer; what asyncpg itself refuses passes
    unchanged.
    """
    try:
        yield
    except DependencyUnavailable as error:
        # Translated further in, where the place is not known.
        if error.dependency == DEPENDENCY:
            error.located(where)
        raise
    except asyncpg.UniqueViolationError as error:
        taken = _taken(error.constraint_name, name, guild_id)
        if taken is None and error.severity is not None:
            taken = _answered(error).located(where)
        if taken is None:
            raise
        raise taken from error
    except DRIVER_ERRORS as error:
        away = unavailable(error)
        if away is None:
            # Those that asyncpg makes by itself, with the same classes, have no severity.
            if not isinstance(error, asyncpg.PostgresError) or error.severity is None:
                raise
            away = _answered(error)
        raise away.located(where) from error


def _answered(error: asyncpg.PostgresError) -> DependencyFaulty:
    if isinstance(error, pg.InsufficientPrivilegeError):
        # This text has names of tables and schemas in it, and nothing of theirs.
        return DependencyFaulty(DEPENDENCY, f"the bot's role lacks a right: {error.args[0]}")
    # Its text may hold values; the code is enough to look it up.
    return DependencyFaulty(DEPENDENCY, f"it reports the error {error.sqlstate} ({type(error).__name__})")


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
