"""Tries a sandbox's whole life in PostgreSQL, in one transaction that is rolled back.

No other session sees it or waits for it: it locks only rows and objects that it creates, waits at most
`_LOCK_WITHIN` for a lock, and ends within seconds. Only a gap in an identity column stays.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg

from sandbox_core import subjects
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Actor, AuditEvent, Sandbox, SandboxStatus, short_id
from sandbox_core.postgres import audit, guild_mappings, sandboxes
from sandbox_core.postgres.pool import Connection

from .findings import Look
from .postgres_migrations import migrations, statements
from .postgres_rights import quoted

_LOCK_WITHIN, _STATEMENT_WITHIN = "500ms", "2s"
# Discord will not use these ids for decades. The id is random, so two trials do not wait for each other.
_GUILDS = range(10**19, 2**64)
_NOBODY = "0"


class _Undo(Exception):
    """Rolls the transaction back."""


async def look_at_trial(connection: Connection, look: Look, migrate_into: str = "") -> None:
    """Create, register and destroy a sandbox; with `migrate_into` first migrate that schema."""
    trial = _Trial(connection)
    steps = "migrate, create, register" if migrate_into else "create, register"
    try:
        with suppress(_Undo):
            async with connection.transaction():
                await connection.execute(
                    f"SET LOCAL lock_timeout = '{_LOCK_WITHIN}';"
                    f"SET LOCAL statement_timeout = '{_STATEMENT_WITHIN}'"
                )
                if migrate_into:
                    await trial.migrate(migrate_into)
                await trial.create()
                await trial.register()
                await trial.destroy()
                raise _Undo
    except (asyncpg.PostgresError, DependencyUnavailable) as error:
        cause = error.__cause__ if isinstance(error, DependencyUnavailable) else error
        said = str(cause or error).split("\n", 1)[0]
        look.failed(
            f"a trial, undone at once, stopped at “{trial.step}”: {said}",
            "Fix the reason; then run doctor again.",
        )
    else:
        look.ok(f"{steps} and destroy were tried and undone")


class _Trial:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.step = ""
        now = datetime.now(UTC)
        sandbox_id = uuid4()
        self._now = now
        self._guild_id = str(secrets.choice(_GUILDS))
        self._sandbox = Sandbox(
            id=sandbox_id,
            name=f"doctor-{sandbox_id.hex}",
            owner=_NOBODY,
            status=SandboxStatus.PENDING,
            schema_name=subjects.schema_name(short_id(sandbox_id)),
            created_at=now,
            expires_at=now + timedelta(hours=1),
        )

    async def migrate(self, schema: str) -> None:
        self.step = "migrate"
        # CREATE SCHEMA IF NOT EXISTS would need the right even for an existing schema.
        if not await self._connection.fetchval("SELECT 1 FROM pg_namespace WHERE nspname = $1", schema):
            await self._connection.execute(f"CREATE SCHEMA {quoted(schema)}")
        for migration in migrations().values():
            await self._connection.execute(statements(migration))

    async def create(self) -> None:
        self.step = "create"
        sandbox, connection = self._sandbox, self._connection
        await sandboxes.insert(connection, sandbox, limit=1)
        await self._to(SandboxStatus.PENDING, SandboxStatus.CREATING)
        await connection.execute("SELECT create_sandbox_schema($1)", sandbox.short_id)
        await connection.fetch("SELECT * FROM get_sandbox_schema_stats($1)", sandbox.short_id)
        await self._to(SandboxStatus.CREATING, SandboxStatus.RUNNING)
        await audit.record(
            connection,
            sandbox.id,
            AuditEvent.CREATED,
            actor=Actor(_NOBODY),
            at=self._now,
            details={},
        )

    async def register(self) -> None:
        self.step = "register"
        await guild_mappings.claim(self._connection, self._guild_id, self._sandbox.id, _NOBODY, self._now)
        # The triggers for changed routes run at the commit, which never comes here.
        await self._connection.execute("SET CONSTRAINTS ALL IMMEDIATE")

    async def destroy(self) -> None:
        self.step = "destroy"
        await self._to(SandboxStatus.RUNNING, SandboxStatus.DESTROYING)
        await guild_mappings.remove_all(self._connection, self._sandbox.id)
        await self._connection.execute("SELECT drop_sandbox_schema($1)", self._sandbox.short_id)
        await self._to(SandboxStatus.DESTROYING, SandboxStatus.DESTROYED)

    async def _to(self, expected: SandboxStatus, target: SandboxStatus) -> None:
        await sandboxes.set_status(self._connection, self._sandbox.id, expected, target, at=datetime.now(UTC))
