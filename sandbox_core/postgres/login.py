"""Opens a connection, and explains a refused login."""

from __future__ import annotations

import os
import ssl
from typing import Any, TypeAlias

import asyncpg
from asyncpg import exceptions as pg

from sandbox_core.addresses import PostgresAddress
from sandbox_core.errors import DependencyUnavailable, LoginRefused

from .errors import DEPENDENCY, DRIVER_ERRORS, unavailable

# Quoted: asyncpg's classes are generic in its type stubs only.
_Connection: TypeAlias = "asyncpg.Connection[Any]"

# The first match decides. https://www.postgresql.org/docs/current/errcodes-appendix.html
_PROBLEMS: tuple[tuple[type[BaseException], str], ...] = (
    (pg.InvalidPasswordError, "the password is wrong, or there is no such role"),
    (pg.InvalidCatalogNameError, "there is no such database"),
    (pg.InsufficientPrivilegeError, "the role may not connect to the database"),
    (ssl.SSLCertVerificationError, "the server's TLS certificate can't be verified"),
    (ssl.SSLError, "TLS can't be agreed on"),
    (pg.ClientConfigurationError, "the options for TLS can't be used"),
)
# All of these have the same error class. A server with messages in another language matches none.
_WORDS: tuple[tuple[str, str], ...] = (
    ("no encryption", "pg_hba.conf does not let it in without TLS"),
    ("SSL off", "pg_hba.conf does not let it in without TLS"),
    ("pg_hba.conf", "pg_hba.conf does not let it in from here"),
    ("does not exist", "there is no such role"),
    ("not permitted to log in", "the role may not log in"),
)
_NO_TLS = "rejected SSL upgrade"


async def connect(address: PostgresAddress, **options: Any) -> _Connection:
    """Connect; `options` are asyncpg's.

    Raises `LoginRefused` when the server refuses the login, `DependencyUnavailable` when no server answers,
    and otherwise the driver's error.
    """
    try:
        connection: _Connection = await asyncpg.connect(**address.arguments(), **options)
        return connection
    except DRIVER_ERRORS as error:
        problem = _problem(error, address)
        if problem is None:
            away = unavailable(error)
            if isinstance(error, ConnectionError) and _NO_TLS in str(error):
                away = DependencyUnavailable(DEPENDENCY, "what answers there is not PostgreSQL")
            if away is None:
                raise
            raise away.located(address.where) from error
        raise LoginRefused(
            DEPENDENCY,
            where=address.where,
            user=address.who,
            problem=problem,
            setting=address.variable,
        ) from error


def _problem(error: Exception, address: PostgresAddress) -> str | None:
    """Return why the login was refused; None when the error has another reason."""
    if isinstance(error, pg.InvalidAuthorizationSpecificationError) and not isinstance(
        error, pg.InvalidPasswordError
    ):
        said = str(error)
        return next((words for known, words in _WORDS if known in said), "the server does not let it in")
    if isinstance(error, ConnectionError) and _NO_TLS in str(error):
        if address.tls_optional:
            # A PostgreSQL without TLS would have said so, and asyncpg would have gone on in clear.
            return None
        return "sslmode asks for TLS, and the server has none"
    if isinstance(error, pg.InvalidPasswordError) and not (address.password or os.environ.get("PGPASSWORD")):
        return "the server asks for a password, and the address gives none"
    for kind, problem in _PROBLEMS:
        if isinstance(error, kind):
            return problem
    if isinstance(error, FileNotFoundError | PermissionError):
        # For a unix socket it means that no server listens.
        return None if any(each.is_socket for each in address.endpoints) else "a file for TLS can't be read"
    return None
