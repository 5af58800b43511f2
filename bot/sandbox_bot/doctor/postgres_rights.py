"""Checks each right that the bot's role needs in PostgreSQL, and gives the statement that grants it.

`TABLES` and `FUNCTIONS` list what the project's SQL uses. A test compares them with every statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sandbox_core.postgres.pool import Connection

from .findings import Look

_READ, _ADD, _CHANGE, _REMOVE = "SELECT", "INSERT", "UPDATE", "DELETE"

TABLES: Mapping[str, tuple[str, ...]] = {
    "sandboxes": (_READ, _ADD, _CHANGE),
    "sandbox_guild_mapping": (_READ, _ADD, _REMOVE),
    "sandbox_routes": (_READ,),
    "sandbox_audit_log": (_READ, _ADD),
    "sandbox_cleanup": (_READ, _ADD, _CHANGE, _REMOVE),
    "sandbox_notices": (_READ, _ADD, _REMOVE),
    "gateway_processes": (_READ, _ADD, _CHANGE, _REMOVE),
    "gateway_resume_points": (_READ, _ADD, _CHANGE, _REMOVE),
    "gateway_shards": (_READ, _ADD, _CHANGE),
    "gateway_identify_buckets": (_READ, _ADD, _CHANGE),
    "gateway_publishers": (_READ, _ADD, _CHANGE, _REMOVE),
    "gateway_notices": (_READ, _ADD, _REMOVE),
    "sandbox_creations": (_READ, _ADD, _REMOVE),
    "nats_slots": (_READ, _ADD, _CHANGE),
    "sandbox_commands": (_READ, _ADD, _REMOVE),
    "sandbox_guild_commands": (_READ, _ADD, _CHANGE, _REMOVE),
    "sandbox_command_creates": (_READ, _ADD, _CHANGE, _REMOVE),
    "sandbox_shares": (_READ, _ADD, _CHANGE, _REMOVE),
    "production_token": (_READ, _ADD, _CHANGE),
    "recordings": (_READ, _ADD, _CHANGE, _REMOVE),
    "sandbox_storage": (_READ, _ADD, _CHANGE, _REMOVE),
    "sandbox_storage_turns": (_READ, _ADD, _CHANGE),
}
"""Tables and views, each with the needed rights."""

FUNCTIONS = (
    "sandbox_schema_name(text)",
    "sandbox_schema_mark()",
    "sandbox_schema_is_others(text)",
    "sandbox_tenant_tables(text)",
    "create_sandbox_schema(text)",
    "sandbox_schema_exists(text)",
    "drop_sandbox_schema(text)",
    "get_sandbox_schema_stats(text)",
    "sandbox_channel(text)",
    "notify_sandbox_route(text)",
    "sandbox_session()",
    "sandbox_session_is_over(text)",
)
"""The functions that are called, also by other functions and by triggers."""

TYPE = "sandbox_status"


def quoted(name: str) -> str:
    """Return a name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Role:
    """The role of the connection, its database and its schema."""

    name: str
    database: str
    schema: str
    """The schema of the control tables."""


async def look_at_rights(connection: Connection, look: Look, role: Role) -> bool:
    """Check each right in the control tables' schema; a finding has the GRANT for a missing right.

    Return True when no right is missing.
    """
    lacking = [
        await _in_schema(connection, look, role),
        await _in_tables(connection, look, role),
        await _in_functions(connection, look, role),
        await _in_types(connection, look, role),
    ]
    return not any(lacking)


async def look_at_schema_right(connection: Connection, look: Look, role: Role) -> bool:
    """Check the right to create schemas. Return whether the role has it."""
    owner = await connection.fetchval(
        """
        SELECT pg_get_userbyid(datdba) FROM pg_database
        WHERE datname = current_database() AND NOT has_database_privilege(datname, 'CREATE')
        """
    )
    if owner is None:
        return True
    look.failed(
        "the role may not create schemas, which every sandbox needs",
        f"As {owner}, the database's owner, or as a superuser:",
        [f"GRANT CREATE ON DATABASE {quoted(role.database)} TO {quoted(role.name)};"],
    )
    return False


async def _in_schema(connection: Connection, look: Look, role: Role) -> bool:
    owner = await connection.fetchval(
        """
        SELECT pg_get_userbyid(nspowner) FROM pg_namespace
        WHERE nspname = $1 AND NOT has_schema_privilege(oid, 'USAGE')
        """,
        role.schema,
    )
    if owner is None:
        return False
    look.failed(
        f"the role may not use the schema {role.schema}, where the control tables are",
        f"In the database {role.database}, as {schema_owner(owner)}, or as a superuser:",
        [f"GRANT USAGE ON SCHEMA {quoted(role.schema)} TO {quoted(role.name)};"],
    )
    return True


async def _in_tables(connection: Connection, look: Look, role: Role) -> bool:
    wanted = [(table, right) for table, rights in TABLES.items() for right in rights]
    rows = await connection.fetch(
        """
        SELECT wanted.relation, wanted.privilege, pg_get_userbyid(c.relowner) AS owner
        FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS wanted(relation, privilege, place)
        JOIN pg_class AS c ON c.relname = wanted.relation
        JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = $1
        WHERE NOT has_table_privilege(c.oid, wanted.privilege)
        ORDER BY wanted.place
        """,
        role.schema,
        [table for table, _ in wanted],
        [right for _, right in wanted],
    )
    lacking: dict[str, list[str]] = {}
    for row in rows:
        lacking.setdefault(row["relation"], []).append(row["privilege"])
    if not lacking:
        return False
    # Group tables that lack the same rights.
    alike: dict[tuple[str, ...], list[str]] = {}
    for table, rights in lacking.items():
        alike.setdefault(tuple(rights), []).append(table)
    what = f"rights in {len(lacking)} of {len(TABLES)} tables"
    if len(alike) == 1:
        what = "".join(f"{', '.join(rights)} in {', '.join(tables)}" for rights, tables in alike.items())
    look.failed(
        f"the role lacks {what}",
        f"In the database {role.database}, as {rows[0]['owner']}, the tables' owner, or as a superuser:",
        [
            f"GRANT {', '.join(rights)} ON {_listed(role, map(quoted, tables))} TO {quoted(role.name)};"
            for rights, tables in alike.items()
        ],
    )
    return True


async def _in_functions(connection: Connection, look: Look, role: Role) -> bool:
    rows = await connection.fetch(
        """
        SELECT wanted.signature, pg_get_userbyid(p.proowner) AS owner
        FROM unnest($2::text[]) WITH ORDINALITY AS wanted(signature, place)
        JOIN pg_proc AS p ON format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)) = wanted.signature
        JOIN pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = $1
        WHERE NOT has_function_privilege(p.oid, 'EXECUTE')
        ORDER BY wanted.place
        """,
        role.schema,
        list(FUNCTIONS),
    )
    if not rows:
        return False
    lacking = [row["signature"] for row in rows]
    look.failed(
        f"the role may not call {', '.join(lacking)}",
        f"In the database {role.database}, as {rows[0]['owner']}, the functions' owner, or as a superuser:",
        [f"GRANT EXECUTE ON FUNCTION {_listed(role, lacking)} TO {quoted(role.name)};"],
    )
    return True


async def _in_types(connection: Connection, look: Look, role: Role) -> bool:
    owner = await connection.fetchval(
        """
        SELECT pg_get_userbyid(t.typowner) FROM pg_type AS t
        JOIN pg_namespace AS n ON n.oid = t.typnamespace AND n.nspname = $1
        WHERE t.typname = $2 AND NOT has_type_privilege(t.oid, 'USAGE')
        """,
        role.schema,
        TYPE,
    )
    if owner is None:
        return False
    look.failed(
        f"the role may not use the type {TYPE}",
        f"In the database {role.database}, as {owner}, the type's owner, or as a superuser:",
        [f"GRANT USAGE ON TYPE {_listed(role, [TYPE])} TO {quoted(role.name)};"],
    )
    return True


def schema_owner(name: str) -> str:
    """Return the owner of a schema, for a sentence."""
    # Since version 15 this role owns the schema `public`, and stands for the database's owner.
    return "the database's owner" if name == "pg_database_owner" else f"{name}, the schema's owner"


def _listed(role: Role, names: Iterable[str]) -> str:
    return ", ".join(f"{quoted(role.schema)}.{name}" for name in names)


async def look_at_schemas(connection: Connection, look: Look, role: Role) -> bool:
    """Check that the role owns every sandbox's schema, which it needs to drop it. Return whether it does."""
    rows = await connection.fetch(
        """
        SELECT n.nspname::text AS schema, pg_get_userbyid(n.nspowner)::text AS owner,
            array(
                SELECT c.relname::text FROM pg_class AS c
                WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p') ORDER BY 1
            ) AS tables
        FROM pg_namespace AS n
        JOIN sandboxes AS s ON s.schema_name = n.nspname AND s.status <> 'destroyed'
        WHERE NOT pg_has_role(n.nspowner, 'USAGE')
        ORDER BY 1
        """
    )
    if not rows:
        return True
    owners = sorted({row["owner"] for row in rows})
    to = quoted(role.name)
    commands = []
    for row in rows:
        schema = quoted(row["schema"])
        commands.append(f"ALTER SCHEMA {schema} OWNER TO {to};")
        commands += [f"ALTER TABLE {schema}.{quoted(table)} OWNER TO {to};" for table in row["tables"]]
    look.failed(
        f"{len(rows)} schemas of sandboxes belong to {', '.join(owners)}, and the role can't drop them: "
        + ", ".join(row["schema"] for row in rows),
        f"In the database {role.database}, as a superuser:",
        commands,
    )
    return False
