"""Checks which migrations a database has, and whether `migrate` could apply the others."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from pathlib import Path

from sandbox_core.postgres.pool import Connection

from ..migrate import MIGRATIONS_TABLE, migrations_dir
from .findings import Look
from .postgres_rights import FUNCTIONS, TABLES, Role, quoted, schema_owner


class Migrated(Enum):
    """How far a database is migrated."""

    NOT = "not"
    PARTLY = "partly"
    DONE = "done"
    UNKNOWN = "unknown"
    """The record can't be read, or it is wrong."""


async def look_at_migrations(connection: Connection, look: Look, role: Role) -> Migrated:
    """Find missing migrations, and reasons why `migrate` would fail."""
    applied = await _applied(connection, look, role)
    if applied is None:
        return Migrated.UNKNOWN
    known = set(migrations())
    if newer := applied - known:
        look.failed(
            f"{len(newer)} migrations are newer than this program", "Install the release that brought them."
        )
    if not (missing := known - applied):
        return await _all_there(connection, look, role)
    await _may_migrate(connection, look, role)
    look.failed(
        f"{len(missing)} of {len(known)} migrations are not applied",
        "With a DATABASE_URL of the role that owns the tables:" if applied else "Apply them:",
        ["sandboxctl migrate"],
    )
    return Migrated.PARTLY if applied else Migrated.NOT


def migrations() -> dict[str, Path]:
    """Return the files by version, in the order of their application."""
    return {path.name.split("_", 1)[0]: path for path in sorted(migrations_dir().glob("*.sql"))}


def statements(migration: Path) -> str:
    """Return the SQL that applies the migration."""
    return migration.read_text(encoding="utf-8").split("-- migrate:down", 1)[0]


async def _applied(connection: Connection, look: Look, role: Role) -> set[str] | None:
    """Return the recorded versions; None when the record can't be read."""
    row = await connection.fetchrow(
        """
        SELECT has_table_privilege(c.oid, 'SELECT') AS readable, pg_get_userbyid(c.relowner) AS owner,
            has_schema_privilege(n.oid, 'USAGE') AS reachable
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2
        """,
        role.schema,
        MIGRATIONS_TABLE,
    )
    if row is None:
        return set()
    table = f"{quoted(role.schema)}.{quoted(MIGRATIONS_TABLE)}"
    if not row["readable"]:
        look.failed(
            f"the role may not read {MIGRATIONS_TABLE}, where the migrations are recorded",
            f"In the database {role.database}, as {row['owner']}, the table's owner, or as a superuser:",
            [f"GRANT SELECT ON {table} TO {quoted(role.name)};"],
        )
        return None
    if not row["reachable"]:
        # The check of the rights reports this.
        return None
    rows = await connection.fetch(f"SELECT version::text FROM {table}")  # noqa: S608 (a constant, quoted)
    return {row["version"] for row in rows}


async def _all_there(connection: Connection, look: Look, role: Role) -> Migrated:
    present = await _present(connection, role)
    lost = [name for name in (*TABLES, *FUNCTIONS) if name not in present]
    if not lost:
        look.ok("all migrations are applied")
        return Migrated.DONE
    look.failed(
        f"all migrations are recorded as applied, and these are missing: {', '.join(lost)}",
        "Restore them from a backup of the database: a recorded migration is not applied again.",
    )
    return Migrated.UNKNOWN


async def _present(connection: Connection, role: Role) -> Collection[str]:
    rows = await connection.fetch(
        """
        SELECT c.relname::text FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1
        UNION ALL
        SELECT format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)) FROM pg_proc AS p
        JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname = $1
        """,
        role.schema,
    )
    return {row[0] for row in rows}


async def _may_migrate(connection: Connection, look: Look, role: Role) -> None:
    foreign = await connection.fetch(
        """
        SELECT DISTINCT pg_get_userbyid(c.relowner)::text AS owner
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = ANY($2) AND NOT pg_has_role(c.relowner, 'USAGE')
        ORDER BY 1
        """,
        role.schema,
        list(TABLES),
    )
    if foreign:
        owners = ", ".join(row["owner"] for row in foreign)
        look.note(f"the tables belong to {owners}: the role {role.name} can't migrate them")
        return
    owner = await connection.fetchval(
        """
        SELECT pg_get_userbyid(nspowner) FROM pg_namespace
        WHERE nspname = $1
            AND NOT (has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'))
        """,
        role.schema,
    )
    if owner is not None:
        look.failed(
            f"the role may not make tables in the schema {role.schema}, so `migrate` would fail",
            f"In the database {role.database}, as {schema_owner(owner)}, or as a superuser:",
            [f"GRANT USAGE, CREATE ON SCHEMA {quoted(role.schema)} TO {quoted(role.name)};"],
        )
