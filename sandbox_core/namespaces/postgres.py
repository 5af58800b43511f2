"""A sandbox's part of PostgreSQL: one schema with the tenant tables."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
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
from sandbox_core.words import counted

from .base import IsOrphan, PartHealth, PartState

_log = structlog.get_logger("sandbox.namespaces")

_PREFIX_LENGTH = len("sandbox_")

DROP_WITHIN = 120.0
"""Seconds that dropping a schema may take at most: many tables, or a worker's transaction that holds one.

Whoever waits for less cancels it, which ends it on the server too.
"""
COUNT_WITHIN = 30.0
"""The same for counting every row; the health check stops it much sooner."""


@dataclass(frozen=True, slots=True)
class SchemaStats:
    """The tables of a schema with their exact row counts; empty when the schema does not exist."""

    schema: str
    rows: dict[str, int]

    @property
    def total_rows(self) -> int:
        """Rows of all tables together."""
        return sum(self.rows.values())


class SchemaProvisioner:
    """Makes, inspects and drops the schemas `sandbox_{short_id}`, and no others."""

    store = "PostgreSQL"

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @staticmethod
    def generate_schema_name(sandbox_id: UUID) -> str:
        """`sandbox_` and the first 8 hex digits of the id."""
        return schema_name(short_id(sandbox_id))

    @staticmethod
    def extract_sandbox_id(schema: str) -> str:
        """The short id in a schema's name. Raises `InvalidInput` for a name that is not ours."""
        return schema_name(schema[_PREFIX_LENGTH:] if is_schema_name(schema) else schema)[_PREFIX_LENGTH:]

    async def create(self, schema: str) -> None:
        """Make the schema with its tables, in one transaction.

        Raises `SchemaCreationFailed` with PostgreSQL's message when it refuses, and `InvalidInput` for a
        name that is not ours.
        """
        part = self.extract_sandbox_id(schema)
        async with transaction(self._pool) as connection:
            try:
                await connection.execute("SELECT create_sandbox_schema($1)", part)
            except asyncpg.PostgresError as error:
                if unavailable(error) is not None:
                    raise
                raise SchemaCreationFailed(schema, str(error.args[0])) from error

    async def drop_schema(self, schema: str, *, within: float = DROP_WITHIN) -> None:
        """Drop the schema and everything in it, within so many seconds; fine when there is none."""
        part = self.extract_sandbox_id(schema)
        async with connected(self._pool) as connection:
            await connection.execute("SELECT drop_sandbox_schema($1)", part, timeout=within)

    async def exists(self, schema: str) -> bool:
        """Whether the schema is there."""
        part = self.extract_sandbox_id(schema)
        async with connected(self._pool) as connection:
            return bool(await connection.fetchval("SELECT sandbox_schema_exists($1)", part))

    async def stats(self, schema: str) -> SchemaStats:
        """Tables and rows, counted now."""
        part = self.extract_sandbox_id(schema)
        async with connected(self._pool) as connection:
            rows = await connection.fetch(
                "SELECT * FROM get_sandbox_schema_stats($1)", part, timeout=COUNT_WITHIN
            )
        return SchemaStats(schema, {row["table_name"]: row["row_count"] for row in rows})

    async def list_schemas(self) -> list[str]:
        """Every schema that bears a name of ours exactly, sorted; none that another installation made."""
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
        """Schemas with a name of ours that no sandbox owns which is not destroyed."""
        schemas = await self.list_schemas()
        async with connected(self._pool) as connection:
            return await _unused(connection, schemas)

    async def cleanup_orphans(self) -> list[str]:
        """Drop every orphan; returns what was dropped. Names that are not exactly ours survive."""
        return [schema for schema in await self.orphans() if await self.drop_orphan(schema)]

    async def drop_orphan(self, schema: str, _is_orphan: IsOrphan | None = None) -> bool:
        """Drop the schema, named or by its short id; False when a sandbox owns it by now, or it is gone."""
        part = self.extract_sandbox_id(schema)
        schema = schema_name(part)
        async with transaction(self._pool) as connection:
            await _lock(connection, schema)
            # Asked under the lock: a creation may have taken the name since the schema was found.
            if not await _unused(connection, [schema]):
                return False
            dropped = await connection.fetchval("SELECT drop_sandbox_schema($1)", part, timeout=DROP_WITHIN)
            return bool(dropped)

    # The namespace protocol

    async def provision(self, sandbox: Sandbox) -> None:
        """Make the sandbox's schema. Raises as `create` does."""
        try:
            await self.create(sandbox.schema_name)
        except SchemaCreationFailed:
            raise
        except BaseException:
            # Interrupted at the commit, the schema may stand without anybody having seen the answer.
            await asyncio.shield(self._take_back(sandbox.schema_name))
            raise

    async def _take_back(self, schema: str) -> None:
        try:
            # Nothing else bounds this, and a schema without rows goes at once.
            await self.drop_schema(schema, within=COMMAND_TIMEOUT)
        except DependencyUnavailable as error:
            # The caller's own error is the one to see; the schema, if it stands, is listed as an orphan.
            _log.warning("schema_not_taken_back", schema=schema, reason=error.reason)

    async def drop(self, sandbox: Sandbox) -> None:
        """Drop the sandbox's schema."""
        await self.drop_schema(sandbox.schema_name)

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """Healthy when the schema is there with its tables; `facts` has `tables` and `rows`."""
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
        detail = f"{counted(len(stats.rows), 'table', 'tables')}, {counted(stats.total_rows, 'row', 'rows')}"
        return PartHealth(self.store, PartState.HEALTHY, detail, latency, facts)

    async def list_ids(self) -> set[str]:
        """Short ids: a schema's name holds no more."""
        return {self.extract_sandbox_id(schema) for schema in await self.list_schemas()}

    def always_has(self, sandbox: Sandbox) -> str:
        """Its schema."""
        return f"the schema {sandbox.schema_name}"

    def name_of(self, listed_id: str) -> str:
        """The schema's name."""
        return schema_name(listed_id)


async def _lock(connection: Connection, schema: str) -> None:
    # The lock that create_sandbox_schema and drop_sandbox_schema take, held from before the question on.
    # Another one's DROP may hold it for as long as it takes.
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtext('sandbox_schema'), hashtext($1))", schema, timeout=DROP_WITHIN
    )


async def _unused(connection: Connection, schemas: Collection[str]) -> list[str]:
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
