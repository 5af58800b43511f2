"""The database's address for dbmate, whose driver reads addresses and libpq's variables in its own way.

So a connection is made first, as the bot makes it: what it used is written out for dbmate, with nothing left
to find out, and a refused login or an absent server is told in the bot's own words.
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
# What libpq takes where the address is silent. This one is not, and dbmate's driver refuses some of them.
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
    """This process's environment with the address that dbmate is to use, and without what would change it.

    dbmate works in `schema`, whatever the address's own search_path is.

    Raises `DependencyUnavailable` when PostgreSQL is away, and `LoginRefused` when it says no.
    """
    with translating():
        connection = await login.connect(address, timeout=_CONNECT_WITHIN)
    try:
        # asyncpg has no public words for them.
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
    """TLS as the bot's connection had it: dbmate's driver knows no mode that tries."""
    if not tls:
        return {"sslmode": "disable"}
    asked = address.options.get("sslmode") or os.environ.get("PGSSLMODE", "")
    files = {name: address.options[name] for name in _FILES if name in address.options}
    return {"sslmode": asked if asked in _VERIFYING else "require", **files}


def _url(
    *, host: str, port: int, user: str, password: str | None, database: str, options: Mapping[str, str]
) -> str:
    """Everything is encoded. The host stands behind the `?`, where IPv6 and sockets need no brackets."""
    secret = "" if not password else f":{quote(password, safe='')}"
    query = urlencode({**options, "host": host, "port": str(port)}, quote_via=quote)
    return f"postgres://{quote(user, safe='')}{secret}@/{quote(database, safe='')}?{query}"
