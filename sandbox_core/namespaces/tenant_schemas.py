"""Sandboxes' schemas in the tenants' database, which is not the one with the bot's own tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import asyncpg

from sandbox_core.errors import DependencyUnavailable, DoesNotFit, SandboxNotFound, SchemaCreationFailed
from sandbox_core.guests import ROLE_LENGTH, ROLES
from sandbox_core.models import Sandbox
from sandbox_core.postgres import Connection, Pool, connected, sandboxes, transaction
from sandbox_core.postgres.errors import unavailable
from sandbox_core.subjects import schema_name
from sandbox_core.templates import Template, run

from .amounts import Amount, Pace
from .base import IsOrphan, PartHealth, PartState
from .credentials import WILL_BE_MADE
from .postgres import DROP_WITHIN, SchemaProvisioner, SchemaStats, lock_schema, run_as_bot, unused
from .postgres_roles import SandboxRoles
from .tenant_removal import QUERIES, ROUNDS, STEPS, unhindered

_ASIDE, _GONE = "_old", "_gone"
"""What is appended to the name of a schema while a new one takes its place, and while it is dropped then."""
_AT_ONCE = 50


class TenantSchemas(SchemaProvisioner):
    """The same as `SchemaProvisioner`, in another database, and with `roles` for each sandbox a role's own.

    The bot's role owns the schema, and the sandbox's role the tables in it. The tables are made before the
    role can log in, and rows are counted from statistics, so nothing of a sandbox runs as the bot.
    """

    def __init__(
        self, control: Pool, tenants: Pool, *, installation: str, roles: SandboxRoles | None
    ) -> None:
        """`control` is the bot's own database; `installation` marks the schemas of this one."""
        super().__init__(control)
        self._tenants = tenants
        self._mark = installation
        self._roles = roles
        self.credentials = roles

    async def create(self, schema: str) -> None:
        """Create the schema with its tables, without a role."""
        await self._create(schema, None)

    async def _make(self, sandbox: Sandbox) -> None:
        await self._create(sandbox.schema_name, sandbox if sandbox.generation else None)

    async def _create(self, schema: str, sandbox: Sandbox | None) -> None:
        # The lock is in the bot's database, where no sandbox can take it.
        async with transaction(self._pool) as control:
            await lock_schema(control, schema)
            statements = await self._statements(control, schema)
            await _lock_rights(control)
            async with transaction(self._tenants) as connection:
                try:
                    await connection.execute(statements)
                    if self._roles is not None and sandbox is not None:
                        await self._roles.create(connection, sandbox)
                except asyncpg.PostgresError as error:
                    if unavailable(error) is not None:
                        raise
                    raise SchemaCreationFailed(schema, str(error.args[0])) from error

    async def _statements(self, control: Connection, schema: str) -> str:
        """Return what makes the schema with its tables."""
        tables = await control.fetchval("SELECT sandbox_tenant_tables($1)", self.extract_sandbox_id(schema))
        mark = self._mark.replace("'", "''")
        return f"CREATE SCHEMA {schema}; COMMENT ON SCHEMA {schema} IS '{mark}'; {tables}"

    async def fill(self, sandbox: Sandbox, template: Template) -> None:
        """Run the template with the sandbox's own login, or without one as `SchemaProvisioner` does."""
        schema = sandbox.schema_name
        if self._roles is None or not sandbox.generation:
            async with transaction(self._tenants) as connection:
                await run_as_bot(connection, template, schema)
            return
        async with self._roles.session(sandbox) as connection, connection.transaction():
            # A sandbox that is full begins with read-only ones.
            await connection.execute("SET TRANSACTION READ WRITE")
            await run(connection, template, schema)

    async def renew(self, sandbox: Sandbox, template: Template | None) -> None:
        """Make the schema anew; the sandbox's connections end, and its role stays.

        The present schema is only renamed until the new one is whole: so it can come back, and no worker's
        lock on a table holds this up.
        """
        schema = sandbox.schema_name
        if self._roles is None or not sandbox.generation:
            await self._renew_at_once(schema, template)
            return
        roles = self._roles
        await roles.end_sessions(sandbox)
        before = await self._set_aside(sandbox, roles)
        if template is not None:
            try:
                await self.fill(sandbox, template)
            except DoesNotFit:
                await self._take_back(schema)
                raise
        # What began meanwhile has perhaps seen the old schema, or one without the template.
        await roles.end_sessions(sandbox)
        await self._let_go(schema)
        await self._unlink(before)

    async def _renew_at_once(self, schema: str, template: Template | None) -> None:
        async with transaction(self._pool) as control:
            await lock_schema(control, schema)
            statements = await self._statements(control, schema)
            async with transaction(self._tenants) as connection:
                await self._drop_here(connection, schema)
                await connection.execute(statements)
                if template is not None:
                    await run_as_bot(connection, template, schema)

    async def _set_aside(self, sandbox: Sandbox, roles: SandboxRoles) -> list[int]:
        """Put a new schema in the place of the present one. Return its present large objects."""
        schema, aside = sandbox.schema_name, f"{sandbox.schema_name}{_ASIDE}"
        async with transaction(self._pool) as control:
            await lock_schema(control, schema)
            statements = await self._statements(control, schema)
            await _lock_rights(control)
            async with (
                transaction(self._tenants) as connection,
                unhindered(self._tenants, connection, self._mark),
            ):
                if await self._exists(connection, aside):
                    # Somebody died in the middle of this: the present one is not whole.
                    await self._drop_here(connection, schema)
                elif await self._exists(connection, schema):
                    await connection.execute(f"ALTER SCHEMA {schema} RENAME TO {aside}")
                await connection.execute(statements)
                # Whoever ends it waits for this, or has begun, and may have dropped its role already.
                if not await sandboxes.keeps_running(control, sandbox.id):
                    raise SandboxNotFound(sandbox.name)
                await roles.give(connection, sandbox)
                rows = await connection.fetch(
                    "SELECT l.oid::bigint AS oid FROM pg_largeobject_metadata AS l "
                    "JOIN pg_roles AS r ON r.oid = l.lomowner "
                    "WHERE r.rolname ~ $2 AND left(r.rolname, $3) = $1",
                    schema,
                    ROLES,
                    ROLE_LENGTH,
                )
        return [row["oid"] for row in rows]

    async def _take_back(self, schema: str) -> None:
        """Put the schema that was set aside back in its place."""
        async with transaction(self._pool) as control:
            await lock_schema(control, schema)
            async with (
                transaction(self._tenants) as connection,
                unhindered(self._tenants, connection, self._mark),
            ):
                if await self._exists(connection, f"{schema}{_ASIDE}"):
                    await self._drop_here(connection, schema)
                    await connection.execute(f"ALTER SCHEMA {schema}{_ASIDE} RENAME TO {schema}")

    async def _let_go(self, schema: str) -> None:
        """Drop the schema that was set aside, under another name: what is no longer whole can't come back."""
        aside, gone = f"{schema}{_ASIDE}", f"{schema}{_GONE}"
        if await self._is_there(gone):
            # Somebody died in the middle of this.
            await self._drop_whole(gone, DROP_WITHIN)
        async with (
            transaction(self._tenants) as connection,
            unhindered(self._tenants, connection, self._mark),
        ):
            if await self._exists(connection, aside):
                await connection.execute(f"ALTER SCHEMA {aside} RENAME TO {gone}")
        await self._drop_whole(gone, DROP_WITHIN)

    async def _drop_here(self, connection: Connection, schema: str) -> None:
        if await self._exists(connection, schema):
            await connection.execute("SET LOCAL client_min_messages = warning")
            await connection.execute(f"DROP SCHEMA {schema} CASCADE", timeout=DROP_WITHIN)

    async def _unlink(self, large_objects: list[int]) -> None:
        for begin in range(0, len(large_objects), _AT_ONCE):
            async with connected(self._tenants) as connection:
                await connection.execute(
                    "SELECT lo_unlink(l.oid) FROM pg_largeobject_metadata AS l "
                    "WHERE l.oid::bigint = ANY ($1::bigint[])",
                    large_objects[begin : begin + _AT_ONCE],
                )

    async def drop_schema(self, schema: str, *, within: float = DROP_WITHIN) -> None:
        """Refuse the role's logins, then drop the schema and the role; what is missing is no error."""
        self.extract_sandbox_id(schema)
        await self._drop(schema, within)

    async def _drop(self, schema: str, within: float) -> bool:
        if self._roles is not None:
            await self._roles.revoke_role(schema)
        found = False
        for each in (f"{schema}{_GONE}", f"{schema}{_ASIDE}"):
            if await self._is_there(each):
                # A reset was interrupted.
                found = await self._drop_whole(each, within)
        found = await self._drop_whole(schema, within) or found
        if self._roles is not None:
            # By itself, because the rest may take long, and others wait for the lock.
            async with transaction(self._pool) as control:
                await _lock_rights(control)
                async with (
                    transaction(self._tenants) as connection,
                    unhindered(self._tenants, connection, self._mark),
                ):
                    await self._roles.drop(connection, schema)
        return found

    async def _drop_whole(self, schema: str, within: float) -> bool:
        """Drop a schema, in smaller parts where the server can't do it in larger ones."""
        for size in STEPS:
            try:
                return await self._drop_in_parts(schema, size, within)
            except DependencyUnavailable as error:
                if size == STEPS[-1] or not isinstance(error.__cause__, asyncpg.OutOfMemoryError):
                    raise
        return False

    async def _drop_in_parts(self, schema: str, size: int, within: float) -> bool:
        for query in QUERIES:
            for _ in range(ROUNDS):
                if not await self._drop_some(schema, query, size, within):
                    break
        async with (
            transaction(self._tenants) as connection,
            unhindered(self._tenants, connection, self._mark),
        ):
            await connection.execute("SET LOCAL client_min_messages = warning")
            found = await self._exists(connection, schema)
            if found:
                await connection.execute(f"DROP SCHEMA {schema} CASCADE", timeout=within)
        return found

    async def _drop_some(self, schema: str, query: str, size: int, within: float) -> bool:
        """Drop a part of what is too much for one statement. Return whether there may be more."""
        async with connected(self._tenants) as connection:
            rows = await connection.fetch(query, schema, size)
            # One of another installation is left alone.
            if len(rows) < size or not await self._exists(connection, schema):
                return False
            statements = ["SET client_min_messages = warning", *(row["statement"] for row in rows)]
            async with unhindered(self._tenants, connection, self._mark):
                # Together they are one transaction. The pool takes the setting back.
                await connection.execute(";".join(statements), timeout=within)
        return True

    async def exists(self, schema: str) -> bool:
        """Return whether the schema exists."""
        self.extract_sandbox_id(schema)
        return await self._is_there(schema)

    async def _is_there(self, schema: str) -> bool:
        async with connected(self._tenants) as connection:
            return await self._exists(connection, schema)

    async def _exists(self, connection: Connection, schema: str) -> bool:
        found = await connection.fetchval(
            "SELECT true FROM pg_namespace AS n WHERE n.nspname = $1 "
            "AND obj_description(n.oid, 'pg_namespace') = $2",
            schema,
            self._mark,
        )
        return found is not None

    async def stats(self, schema: str) -> SchemaStats:
        """Count the tables, and estimate the rows from the server's statistics."""
        self.extract_sandbox_id(schema)
        async with connected(self._tenants) as connection:
            rows = await connection.fetch(
                """
                SELECT c.relname::text AS name,
                       coalesce(nullif(pg_stat_get_live_tuples(c.oid), 0), greatest(c.reltuples, 0))::bigint
                           AS rows
                FROM pg_class AS c
                WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p') ORDER BY 1
                """,
                schema,
            )
        return SchemaStats(schema, {row["name"]: row["rows"] for row in rows}, exact=False)

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """Check also the sandbox's login; `facts` has its `connections`, and how many it may have."""
        health = await super().check(sandbox)
        if self._roles is None or not sandbox.generation or health.state is not PartState.HEALTHY:
            return health
        used = await self._roles.connections(sandbox)
        # Each login may have as many.
        most = self._roles.limits.connections * (1 + len(sandbox.guests))
        facts = {**health.facts, "connections": used, "connections_limit": most}
        if await self._roles.lacking([sandbox]):
            lacks = f"{health.detail}; its login {WILL_BE_MADE}"
            return replace(health, state=PartState.DEGRADED, detail=lacks, facts=facts)
        return replace(health, facts=facts)

    async def measure(self, sandboxes: Sequence[Sandbox], pace: Pace) -> Mapping[UUID, Amount]:
        """Do as `SchemaProvisioner`; also what a sandbox's role has outside of its schema."""
        return await self._measured(self._tenants, sandboxes, pace)

    async def list_schemas(self) -> list[str]:
        """Return every schema and role of this installation with an exact name of ours, sorted.

        Also where a reset has left nothing but what it had set aside.
        """
        roles = [] if self._roles is None else await self._roles.names()
        return sorted({*await self._schemas(), *await self._schemas(f"({_ASIDE}|{_GONE})"), *roles})

    async def list_whole(self) -> set[str]:
        """Return those with a schema: a role that is missing is made again, and tables are not."""
        return {self.extract_sandbox_id(schema) for schema in await self._schemas()}

    async def _schemas(self, appended: str = "") -> list[str]:
        async with connected(self._tenants) as connection:
            rows = await connection.fetch(
                "SELECT left(n.nspname, $3) AS name FROM pg_namespace AS n "
                "WHERE n.nspname ~ $2 AND obj_description(n.oid, 'pg_namespace') = $1",
                self._mark,
                f"^sandbox_[0-9a-f]{{8}}{appended}$",
                ROLE_LENGTH,
            )
        return [row["name"] for row in rows]

    async def drop_orphan(self, schema: str, _is_orphan: IsOrphan | None = None) -> bool:
        """Do as `SchemaProvisioner`."""
        schema = schema_name(self.extract_sandbox_id(schema))
        async with connected(self._pool) as control, control.transaction():
            await lock_schema(control, schema)
            # Check under the lock: a creation may have taken the name meanwhile.
            if not await unused(control, [schema]):
                return False
            return await self._drop(schema, DROP_WITHIN)


async def _lock_rights(control: Connection) -> None:
    """Lock the rights on the tenants' database until the transaction ends.

    Every role has some there: all of them change one row of the catalogue, and PostgreSQL refuses the second
    of two changes at the same time ("tuple concurrently updated"). The lock is in the bot's own database.
    """
    await control.execute("SELECT pg_advisory_xact_lock(hashtext('sandbox_rights'), 0)")
