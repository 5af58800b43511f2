"""A sandbox's part of PostgreSQL: one schema with the tenant tables."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import structlog

from sandbox_core.errors import DependencyUnavailable, SchemaCreationFailed
from sandbox_core.models import Sandbox, short_id
from sandbox_core.postgres import Connection, Pool, connected, transaction
from sandbox_core.postgres.errors import unavailable
from sandbox_core.postgres.pool import COMMAND_TIMEOUT
from sandbox_core.subjects import is_schema_name, schema_name
from sandbox_core.templates import Template, refuse_reaching_out, run
from sandbox_core.words import counted

from .amounts import Amount, Pace
from .base import IsOrphan, PartHealth, PartState
from .credentials import Credentials
from .postgres_amounts import measure_schemas

_log = structlog.get_logger("sandbox.namespaces")

_PREFIX_LENGTH = len("sandbox_")
_CREATE = "SELECT create_sandbox_schema($1)"

DROP_WITHIN = 120.0
"""The limit in seconds to drop a schema: it may have many tables, or a worker's transaction may lock one.

A caller with a shorter limit cancels it, which ends it on the server, too.
"""
COUNT_WITHIN = 30.0
"""The limit in seconds to count every row; the health check has a much shorter one."""


@dataclass(frozen=True, slots=True)
class SchemaStats:
    """The tables of a schema with their numbers of rows; empty when the schema does not exist."""

    schema: str
    rows: dict[str, int]
    exact: bool = True
    """Whether the rows were counted, and not estimated."""

    @property
    def total_rows(self) -> int:
        """The number of rows in all tables."""
        return sum(self.rows.values())


class SchemaProvisioner:
    """Creates, checks and drops the schemas `sandbox_{short_id}`, and no others."""

    store = "PostgreSQL"
    credentials: Credentials | None = None

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @staticmethod
    def generate_schema_name(sandbox_id: UUID) -> str:
        """Return `sandbox_` and the first 8 hex digits of the id."""
        return schema_name(short_id(sandbox_id))

    @staticmethod
    def extract_sandbox_id(schema: str) -> str:
        """Return the short id in a schema's name. Raises `InvalidInput` for a name that is not ours."""
        return schema_name(schema[_PREFIX_LENGTH:] if is_schema_name(schema) else schema)[_PREFIX_LENGTH:]

    async def create(self, schema: str) -> None:
        """Create the schema with its tables, in one transaction.

        Raises `SchemaCreationFailed` with PostgreSQL's message when it refuses, and `InvalidInput` for a
        name that is not ours.
        """
        part = self.extract_sandbox_id(schema)
        async with transaction(self._pool) as connection:
            try:
                await connection.execute(_CREATE, part)
            except asyncpg.PostgresError as error:
                if unavailable(error) is not None:
                    raise
                raise SchemaCreationFailed(schema, str(error.args[0])) from error

    async def drop_schema(self, schema: str, *, within: float = DROP_WITHIN) -> None:
        """Drop the schema and everything in it in at most `within` seconds; a missing schema is no error."""
        part = self.extract_sandbox_id(schema)
        async with connected(self._pool) as connection:
            await connection.execute("SELECT drop_sandbox_schema($1)", part, timeout=within)

    async def exists(self, schema: str) -> bool:
        """Return whether the schema exists."""
        part = self.extract_sandbox_id(schema)
        async with connected(self._pool) as connection:
            return bool(await connection.fetchval("SELECT sandbox_schema_exists($1)", part))

    async def stats(self, schema: str) -> SchemaStats:
        """Count the tables and rows now."""
        part = self.extract_sandbox_id(schema)
        async with connected(self._pool) as connection:
            rows = await connection.fetch(
                "SELECT * FROM get_sandbox_schema_stats($1)", part, timeout=COUNT_WITHIN
            )
        return SchemaStats(schema, {row["table_name"]: row["row_count"] for row in rows})

    async def list_schemas(self) -> list[str]:
        """Return every schema with an exact name of ours, sorted, without those of another installation."""
        async with connected(self._pool) as connection:
            rows = await connection.fetch(
                """
                SELECT nspname::text AS name FROM pg_namespace
                WHERE CASE WHEN nspname ~ '^sandbox_[0-9a-f]{8}$'
                           THEN NOT sandbox_schema_is_others(substr(nspname, 9)) ELSE false END
                """
            )
        return sorted(row["name"] for row in rows)

    async def orphans(self) -> list[str]:
        """Return the schemas with a name of ours that belong to no live sandbox."""
        schemas = await self.list_schemas()
        async with connected(self._pool) as connection:
            return await unused(connection, schemas)

    async def cleanup_orphans(self) -> list[str]:
        """Drop every orphan. Return the dropped ones. Schemas with other names stay."""
        return [schema for schema in await self.orphans() if await self.drop_orphan(schema)]

    async def drop_orphan(self, schema: str, _is_orphan: IsOrphan | None = None) -> bool:
        """Drop the schema (name or short id). Return False when a live sandbox has it, or it is gone."""
        part = self.extract_sandbox_id(schema)
        schema = schema_name(part)
        async with transaction(self._pool) as connection:
            await lock_schema(connection, schema)
            # Check under the lock: a creation may have taken the name meanwhile.
            if not await unused(connection, [schema]):
                return False
            dropped = await connection.fetchval("SELECT drop_sandbox_schema($1)", part, timeout=DROP_WITHIN)
            return bool(dropped)

    # The namespace protocol

    async def provision(self, sandbox: Sandbox) -> None:
        """Create the sandbox's schema. Raises as `create` does."""
        try:
            await self._make(sandbox)
        except SchemaCreationFailed:
            raise
        except BaseException:
            # After an interruption at the commit the schema may exist.
            await asyncio.shield(self._take_back(sandbox.schema_name))
            raise

    async def _make(self, sandbox: Sandbox) -> None:
        await self.create(sandbox.schema_name)

    async def _take_back(self, schema: str) -> None:
        try:
            # The only limit here; a schema without rows is dropped at once.
            await self.drop_schema(schema, within=COMMAND_TIMEOUT)
        except DependencyUnavailable as error:
            # The caller needs its own error. If the schema exists, it is found as an orphan.
            _log.warning(
                "schema_not_removed", schema=schema, dependency=error.dependency, reason=error.reason
            )

    async def drop(self, sandbox: Sandbox) -> None:
        """Drop the sandbox's schema."""
        await self.drop_schema(sandbox.schema_name)

    async def fill(self, sandbox: Sandbox, template: Template) -> None:
        """Run the template as the bot's role; it is undone when it has reached out of the schema."""
        async with transaction(self._pool) as connection:
            await run_as_bot(connection, template, sandbox.schema_name)

    async def renew(self, sandbox: Sandbox, template: Template | None) -> None:
        """Drop the schema, make it and run the template, in one transaction."""
        part = self.extract_sandbox_id(sandbox.schema_name)
        async with transaction(self._pool) as connection:
            await connection.execute("SELECT drop_sandbox_schema($1)", part, timeout=DROP_WITHIN)
            await connection.execute(_CREATE, part)
            if template is not None:
                await run_as_bot(connection, template, sandbox.schema_name)

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """Check that the schema has its tables; `facts` has `tables` and `rows`."""
        started = time.perf_counter()
        exists = await self.exists(sandbox.schema_name)
        stats = await self.stats(sandbox.schema_name) if exists else SchemaStats(sandbox.schema_name, {})
        latency = (time.perf_counter() - started) * 1000
        facts: dict[str, int | float | str] = {
            "schema": sandbox.schema_name,
            "tables": len(stats.rows),
            "rows": stats.total_rows,
        }
        if not exists:
            detail = f"the schema {sandbox.schema_name} does not exist"
            return PartHealth(self.store, PartState.UNHEALTHY, detail, latency, facts)
        rows = counted(stats.total_rows, "row", "rows")
        detail = f"{counted(len(stats.rows), 'table', 'tables')}, {'' if stats.exact else 'about '}{rows}"
        return PartHealth(self.store, PartState.HEALTHY, detail, latency, facts)

    async def measure(self, sandboxes: Sequence[Sandbox], pace: Pace) -> Mapping[UUID, Amount]:
        """Add up the sizes of what is in each schema."""
        return await self._measured(self._pool, sandboxes, pace)

    async def _measured(self, pool: Pool, sandboxes: Sequence[Sandbox], pace: Pace) -> Mapping[UUID, Amount]:
        found = await measure_schemas(pool, [each.schema_name for each in sandboxes], pace)
        return {each.id: found[each.schema_name] for each in sandboxes}

    async def list_ids(self) -> set[str]:
        """Return short ids: a schema's name contains no more."""
        return {self.extract_sandbox_id(schema) for schema in await self.list_schemas()}

    async def list_whole(self) -> set[str]:
        """Return the same: there is nothing but the schema."""
        return await self.list_ids()

    def always_has(self, sandbox: Sandbox) -> str:
        """Return the schema."""
        return f"the schema {sandbox.schema_name}"

    def name_of(self, listed_id: str) -> str:
        """Return the schema's name."""
        return schema_name(listed_id)


async def run_as_bot(connection: Connection, template: Template, schema: str) -> None:
    """Run a template in the transaction, with rights that only its check keeps in the schema."""
    await run(connection, template, schema)
    await refuse_reaching_out(connection, template, schema)


async def lock_schema(connection: Connection, schema: str) -> None:
    """Lock the schema's name in the bot's database until the transaction ends."""
    # create_sandbox_schema and drop_sandbox_schema take the same lock. Take it before the check. Another
    # session's DROP may hold it for the whole of `DROP_WITHIN`.
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtext('sandbox_schema'), hashtext($1))", schema, timeout=DROP_WITHIN
    )


async def unused(connection: Connection, schemas: Collection[str]) -> list[str]:
    """Return which of these schemas no live sandbox has."""
    rows = await connection.fetch(
        """
        SELECT candidate FROM unnest($1::text[]) AS candidate
        WHERE NOT EXISTS (
            SELECT 1 FROM sandboxes AS s WHERE s.schema_name = candidate AND s.status <> 'destroyed'
        )
        ORDER BY candidate
        """,
        list(schemas),
    )
    return [row["candidate"] for row in rows]
