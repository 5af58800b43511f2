"""The servers' addresses from the settings, as variables for another program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sandbox_core.addresses import PostgresAddress
from sandbox_core.secret_files import is_secret
from sandbox_core.settings import Settings

# https://www.postgresql.org/docs/current/libpq-envars.html
_LIBPQ = {
    "sslmode": "PGSSLMODE",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "passfile": "PGPASSFILE",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "krbsrvname": "PGKRBSRVNAME",
    "gsslib": "PGGSSLIB",
    "service": "PGSERVICE",
}


def worker_addresses(settings: Settings) -> dict[str, str]:
    """Return the three addresses that a worker without credentials of its own needs, and no other secret.

    They come also from `.env` and files.
    """
    database, redis, nats = settings.database_url, settings.redis_url, settings.nats_url
    if settings.tenant_nats is None:
        nats = settings.sandbox_nats_url or nats
    if not settings.enforced:
        database = settings.sandbox_database_url or database
        redis = settings.sandbox_redis_url or redis
    return {
        "DATABASE_URL": database.get_secret_value(),
        "REDIS_URL": redis.get_secret_value(),
        # A worker in a sandbox reads the sandboxes' stream.
        "NATS_URL": nats.get_secret_value(),
    }


def secret_variables(settings: Settings) -> frozenset[str]:
    """Return the names of all variables with a secret of the bot, or the file with it."""
    names = [name.upper() for name, field in type(settings).model_fields.items() if is_secret(field)]
    return frozenset(names) | {f"{name}_FILE" for name in names}


def libpq_variables(address: PostgresAddress, schema: str | None) -> dict[str, str]:
    """Return the address as libpq's variables; other users can read a command line, but not these."""
    return dict(_libpq(address, schema))


def _libpq(address: PostgresAddress, schema: str | None) -> Iterator[tuple[str, str]]:
    if address.endpoints:
        yield "PGHOST", ",".join(each.host for each in address.endpoints)
        if any(each.port for each in address.endpoints):
            yield "PGPORT", ",".join(str(each.port or "") for each in address.endpoints)
    if address.user is not None:
        yield "PGUSER", address.user
    if address.password is not None:
        yield "PGPASSWORD", address.password.get_secret_value()
    if address.database is not None:
        yield "PGDATABASE", address.database
    for name, variable in _LIBPQ.items():
        if name in address.options:
            yield variable, address.options[name]
    session: Mapping[str, str] = {
        **address.session_parameters,
        **({"search_path": schema} if schema else {}),
    }
    if session:
        yield "PGOPTIONS", " ".join(f"-c {name}={_escaped(value)}" for name, value in session.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
