"""Checks PostgreSQL: the login, the version, writes, notifications and migrations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

import asyncpg

from sandbox_core.bootstrap import Core
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.postgres import connected
from sandbox_core.postgres.pool import Connection

from .findings import Look
from .places import Place
from .postgres_migrations import Migrated, look_at_migrations
from .postgres_rights import Role, look_at_rights, look_at_schema_right, look_at_schemas, quoted
from .postgres_trial import look_at_trial
from .publishers import check_publishers
from .versions import judge_version

_MINIMUM = 15
_SKEW_LIMIT = 2.0
_HEARD_WITHIN = 2.0
_FOLLOWERS = 1
"""Connections outside the pool: the one that listens for changed routes."""
_WRITABLE = "SET default_transaction_read_only = off"

Clock = Callable[[], datetime]


async def look_at_postgres(core: Core, look: Look, place: Place, clock: Clock) -> None:
    """Check everything that the bot does there; trials are undone."""
    try:
        async with connected(core.pool) as connection:
            began = time.perf_counter()
            await connection.execute("SELECT 1")
            look.ok(f"it answers, in {(time.perf_counter() - began) * 1000:.0f} ms")
            writes, may_use_tables = await _inside(connection, look, core, clock)
        if writes:
            await _notifications(core, look)
        if writes and may_use_tables:
            await check_publishers(core.pool, look.failed)
    except DependencyUnavailable as error:
        if look.found or not _not_let_in(look, place, error.__cause__):
            raise
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        said = str(error).split("\n", 1)[0]
        look.failed(
            f"it refused a question: {said}",
            "A pooler in transaction mode does this, and a server that is not PostgreSQL itself: "
            "DATABASE_URL must name PostgreSQL, or a pooler in session mode.",
        )


def _not_let_in(look: Look, place: Place, cause: BaseException | None) -> bool:
    """Explain a refused connection that a statement can fix. Return False when it has another reason."""
    role, database = quoted(place.user), quoted(place.database)
    match cause:
        case asyncpg.InsufficientPrivilegeError():
            look.away(
                f"the role {place.user} may not connect to the database {place.database}",
                "As the database's owner, or as a superuser:",
                [f"GRANT CONNECT ON DATABASE {database} TO {role};"],
            )
        case asyncpg.InvalidCatalogNameError():
            look.away(
                f"the database {place.database} does not exist",
                "Check DATABASE_URL, or make it, as a superuser:",
                [f"CREATE DATABASE {database} OWNER {role};"],
            )
        case asyncpg.InvalidAuthorizationSpecificationError() if "not permitted to log in" in str(cause):
            look.away(
                f"the role {place.user} may not log in", "As a superuser:", [f"ALTER ROLE {role} LOGIN;"]
            )
        case asyncpg.TooManyConnectionsError() if "for role" in str(cause):
            look.away(
                f"the role {place.user} has no connection left",
                "As a superuser:",
                [f"ALTER ROLE {role} CONNECTION LIMIT -1;"],
            )
        case _:
            return False
    return True


async def _inside(connection: Connection, look: Look, core: Core, clock: Clock) -> tuple[bool, bool]:
    """Check with one connection. Return whether the server takes writes, and the role may use its tables."""
    version = str(await connection.fetchval("SHOW server_version")).split()[0]
    judge_version(look, version, (_MINIMUM,), f"PostgreSQL {_MINIMUM} or newer is needed.")
    await _clocks(connection, look, clock)
    role = Role(
        str(await connection.fetchval("SELECT current_user")),
        str(await connection.fetchval("SELECT current_database()")),
        core.settings.sandbox_control_schema,
    )
    await _connections(connection, look, role, core.pool.get_max_size() + _FOLLOWERS)
    writes = await _takes_writes(connection, look, role)
    # In the order of the fixes: `migrate` creates a missing schema.
    makes_schemas = await look_at_schema_right(connection, look, role)
    migrated = await look_at_migrations(connection, look, role)
    finds_tables = await _finds_its_tables(connection, look, role)
    may_use_tables = await look_at_rights(connection, look, role)
    if makes_schemas and may_use_tables:
        look.ok("the role has all of its rights")
    can = makes_schemas and finds_tables and may_use_tables
    if migrated is Migrated.DONE and can:
        can = await look_at_schemas(connection, look, role)
    if writes and can and migrated in {Migrated.DONE, Migrated.NOT}:
        await look_at_trial(connection, look, role.schema if migrated is Migrated.NOT else "")
    return writes, finds_tables and may_use_tables


async def _clocks(connection: Connection, look: Look, clock: Clock) -> None:
    before = clock()
    there: datetime = await connection.fetchval("SELECT clock_timestamp()")
    skew = (there - before - (clock() - before) / 2).total_seconds()
    look.judge(
        abs(skew) <= _SKEW_LIMIT,
        f"its clock and this machine's are {abs(skew):.1f} s apart",
        "Use NTP on both machines: sandboxes expire by the bot's clock.",
    )


async def _connections(connection: Connection, look: Look, role: Role, needed: int) -> None:
    row = await connection.fetchrow(
        """
        SELECT rolconnlimit AS role, datconnlimit AS database
        FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()
        """
    )
    assert row is not None  # noqa: S101 (both are in use)
    for kind, name in (("role", role.name), ("database", role.database)):
        if 0 <= row[kind] < needed:
            look.failed(
                f"the {kind} {name} may have {row[kind]} connections, and the bot uses up to {needed}",
                "As a superuser:",
                [f"ALTER {kind.upper()} {quoted(name)} CONNECTION LIMIT {needed};"],
            )


async def _takes_writes(connection: Connection, look: Look, role: Role) -> bool:
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        look.failed(
            "it is a standby, which takes no writes", "DATABASE_URL must name the primary of this server."
        )
        return False
    if await connection.fetchval("SHOW transaction_read_only") == "on":
        look.failed(
            "every transaction is read-only there (default_transaction_read_only is on)",
            "As a superuser:",
            [
                # A setting of the role in the database has priority over all others.
                f"ALTER ROLE {quoted(role.name)} IN DATABASE {quoted(role.database)} {_WRITABLE};"
            ],
        )
        return False
    return True


async def _finds_its_tables(connection: Connection, look: Look, role: Role) -> bool:
    """Check that the connection has the search_path that the bot asked for."""
    path = str(await connection.fetchval("SHOW search_path"))
    if path.strip('"') == role.schema:
        return True
    look.failed(
        f"the connection's search_path is {path}, and not {role.schema} as the bot asked for",
        "A pooler must pass it on; or DATABASE_URL must name PostgreSQL itself.",
    )
    return False


async def _notifications(core: Core, look: Look) -> None:
    """Check notifications: one idle connection listens and another notifies, as in the bot."""
    channel, heard = f"sandbox_doctor_{uuid4().hex}", asyncio.Event()

    def on_notification(*_: object) -> None:
        heard.set()

    async with connected(core.pool) as listener, connected(core.pool) as teller:
        await listener.add_listener(channel, on_notification)
        try:
            async with teller.transaction():
                await teller.execute("SELECT pg_notify($1, '')", channel)
            try:
                async with asyncio.timeout(_HEARD_WITHIN):
                    await heard.wait()
            except TimeoutError:
                look.failed(
                    "a notification (LISTEN, NOTIFY) did not arrive, so changed routes would come late",
                    "A pooler in transaction mode loses them: DATABASE_URL must name PostgreSQL itself, or "
                    "a pooler in session mode.",
                )
            else:
                look.ok("notifications arrive")
        finally:
            await listener.remove_listener(channel, on_notification)
