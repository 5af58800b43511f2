"""What the bot's role in the sandboxes' database can do, and who is let in there."""

from __future__ import annotations

import asyncpg

from sandbox_core.words import counted

TRUSTS = (
    "it lets roles in without a password",
    "In pg_hba.conf: scram-sha-256 instead of trust, peer or ident where sandboxes' workers come from.",
)
# Asked in the tenants' database. PUBLIC is the role with the oid 0.
ABILITIES = """
    SELECT r.rolname AS role, r.rolsuper AS super, r.rolcreaterole AS makes_roles,
           current_database() AS database,
           has_database_privilege(current_database(), 'CREATE') AS makes_schemas,
           has_database_privilege(current_database(), 'CONNECT WITH GRANT OPTION')
               AND has_database_privilege(current_database(), 'TEMPORARY WITH GRANT OPTION') AS lets_in,
           current_setting('max_prepared_transactions')::int AS prepared,
           ARRAY(
               SELECT d.datname::text FROM pg_database AS d
               WHERE d.datallowconn AND EXISTS (
                   SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
                   WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT'
               )
               ORDER BY 1
           ) AS open_databases,
           EXISTS (
               SELECT FROM pg_namespace AS n,
                   aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
               WHERE n.nspname = 'public' AND a.grantee = 0 AND a.privilege_type = 'CREATE'
           ) AS open_schema
    FROM pg_roles AS r WHERE r.rolname = current_user
"""


def lacking_abilities(found: asyncpg.Record) -> list[tuple[str, str]]:
    """Return what is missing, each with the statement that mends it, the most important first."""
    role, database = quoted(found["role"]), quoted(found["database"])
    lacking = []
    if found["super"]:
        lacking.append(
            (
                f"the role {found['role']} is a superuser",
                f"SANDBOX_DATABASE_URL must name an ordinary role with CREATEROLE that owns {database}.",
            )
        )
    elif not found["makes_roles"]:
        lacking.append(
            (
                f"the role {found['role']} may not make roles",
                f"As a superuser: ALTER ROLE {role} CREATEROLE;",
            )
        )
    if not (found["makes_schemas"] and found["lets_in"]):
        lacking.append(
            (
                f"the role {found['role']} may not make schemas in {found['database']}, and let roles in",
                f"As a superuser: ALTER DATABASE {database} OWNER TO {role};",
            )
        )
    if found["open_databases"]:
        names = ", ".join(map(quoted, found["open_databases"]))
        kinds = counted(len(found["open_databases"]), "database", "databases")
        lacking.append(
            (
                f"every role may connect to {kinds}: {names}",
                f"As a superuser: REVOKE ALL ON DATABASE {names} FROM PUBLIC; GRANT CONNECT where needed.",
            )
        )
    if found["open_schema"]:
        lacking.append(
            (
                f"every role may make tables in the schema public of {found['database']}",
                f"As a superuser, in {database}: REVOKE ALL ON SCHEMA public FROM PUBLIC;",
            )
        )
    if found["prepared"]:
        lacking.append(
            (
                "prepared transactions are on, and one outlives its session",
                "In postgresql.conf: max_prepared_transactions = 0",
            )
        )
    return lacking


def quoted(name: str) -> str:
    """Return a name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'
