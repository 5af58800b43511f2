"""Builds the database's address for dbmate.

dbmate's driver reads addresses and libpq's variables in its own way. So this module first connects as the bot
does, and then gives dbmate all values of that connection. A refused login or an absent server gets the bot's
own error text.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from sandbox_core.addresses import PostgresAddress
from sandbox_core.postgres import login
from sandbox_core.postgres.errors import translating

_CONNECT_WITHIN = 10.0
# libpq's variables for values that an address leaves out. Our address has all values, and dbmate's driver
# refuses some of these variables.
_SETTLED = frozenset(
    {
        "PGCHANNELBINDING",
        "PGCONNECT_TIMEOUT",
        "PGDATABASE",
        "PGHOST",
        "PGHOSTADDR",
        "PGPASSFILE",
        "PGPASSWORD",
        "PGPORT",
        "PGREQUIREAUTH",
        "PGSERVICE",
        "PGSERVICEFILE",
        "PGSSLMODE",
        "PGTARGETSESSIONATTRS",
        "PGUSER",
    }
)
_FILES = ("sslcert", "sslkey", "sslrootcert")
_VERIFYING = ("verify-ca", "verify-full")


async def environment_for(address: PostgresAddress, schema: str) -> dict[str, str]:
    """Return this process's environment for dbmate, with the address and without variables that change it.

    dbmate works in `schema`; the search_path of the address does not count.

    Raises `DependencyUnavailable` when PostgreSQL is away, and `LoginRefused` when it refuses the login.
    """
    with translating():
        connection = await login.connect(address, timeout=_CONNECT_WITHIN)
    try:
        # asyncpg has no public names for them.
        known: Any = connection
        used, place = known._params, known._addr
        tls = known._transport.get_extra_info("ssl_object") is not None
        url = _url(
            host=place[0] if isinstance(place, tuple) else place.rpartition("/")[0],
            port=place[1] if isinstance(place, tuple) else int(place.rpartition(".")[2]),
            user=used.user,
            password=used.password,
            database=used.database,
            options={**address.session_parameters, "search_path": schema, **_tls(address, tls=tls)},
        )
    finally:
        await connection.close()
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DBMATE_") and name not in _SETTLED
    }
    return {**inherited, "DATABASE_URL": url}


def _tls(address: PostgresAddress, *, tls: bool) -> dict[str, str]:
    """Return the TLS options of the bot's connection: dbmate's driver has no mode that tries TLS first."""
    if not tls:
        return {"sslmode": "disable"}
    asked = address.options.get("sslmode") or os.environ.get("PGSSLMODE", "")
    files = {name: address.options[name] for name in _FILES if name in address.options}
    return {"sslmode": asked if asked in _VERIFYING else "require", **files}


def _url(
    *, host: str, port: int, user: str, password: str | None, database: str, options: Mapping[str, str]
) -> str:
    """Build the encoded address. The host is in the query, where IPv6 and sockets need no brackets."""
    secret = "" if not password else f":{quote(password, safe='')}"
    query = urlencode({**options, "host": host, "port": str(port)}, quote_via=quote)
    return f"postgres://{quote(user, safe='')}{secret}@/{quote(database, safe='')}?{query}"
