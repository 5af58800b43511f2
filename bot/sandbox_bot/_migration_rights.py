"""Finds the right that a role lacks after a failed migration, and the statement that grants it."""

from __future__ import annotations

import asyncpg

from sandbox_core.addresses import PostgresAddress
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.postgres import login
from sandbox_core.postgres.errors import DRIVER_ERRORS

_WITHIN = 5.0

_RIGHTS = """
    SELECT current_database() AS database, current_user AS role,
           quote_ident(current_database()) AS database_name, quote_ident(current_user) AS role_name,
           quote_ident($1) AS schema_name, n.oid IS NOT NULL AS has_schema,
           has_database_privilege(current_database(), 'CREATE') AS may_make_schemas,
           coalesce(has_schema_privilege(n.oid, 'USAGE'), false) AS may_look,
           coalesce(has_schema_privilege(n.oid, 'CREATE'), false) AS may_make_tables,
           t.relowner::regrole::text AS owner,
           coalesce(pg_has_role(t.relowner, 'USAGE'), true) AS is_owner
    FROM (VALUES (1)) AS always
    LEFT JOIN pg_namespace AS n ON n.nspname = $1
    LEFT JOIN pg_class AS t ON t.relnamespace = n.oid AND t.relname = $2 AND t.relkind = 'r'
"""


async def lacking_right(address: PostgresAddress, schema: str, table: str) -> str | None:
    """Return a sentence with the missing right and its GRANT; None when the failure has another reason."""
    try:
        connection = await login.connect(address, timeout=_WITHIN, command_timeout=_WITHIN)
        try:
            found = await connection.fetchrow(_RIGHTS, schema, table)
        finally:
            await connection.close(timeout=_WITHIN)
    except (*DRIVER_ERRORS, DependencyUnavailable):
        # Then dbmate's own text explains the failure.
        return None
    return None if found is None else _sentence(found, schema, address.where)


def _sentence(found: asyncpg.Record, schema: str, server: str) -> str | None:
    role, where = found["role"], f"the database {found['database']} at {server}"
    if not found["has_schema"]:
        if found["may_make_schemas"]:
            return None
        return (
            f"The role {role} may not make the schema {schema} in {where}. As the database's owner: "
            f"GRANT CREATE ON DATABASE {found['database_name']} TO {found['role_name']};"
        )
    rights = {"USAGE": found["may_look"], "CREATE": found["may_make_tables"]}
    missing = ", ".join(right for right, given in rights.items() if not given)
    if missing:
        return (
            f"The role {role} may not make tables in the schema {schema} of {where}. As the schema's owner: "
            f"GRANT {missing} ON SCHEMA {found['schema_name']} TO {found['role_name']};"
        )
    if not found["is_owner"]:
        return (
            f"The role {role} may not change the tables in the schema {schema} of {where}, "
            f"which belong to {found['owner']}: migrate as {found['owner']}."
        )
    return None
