"""What removing a sandbox from the sandboxes' database takes: in parts, and whoever holds it up.

A transaction keeps a lock on each thing that it drops, and the server's table of them is small: a sandbox
with more could never be removed. What is counted here are catalogues only; no function of a sandbox runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sandbox_core import tasks
from sandbox_core.guests import ROLES
from sandbox_core.postgres import Connection, Pool, connected

STEPS = (50, 5, 1)
"""How much one transaction drops: less, where the server can't do that."""

# Any number of these belongs to one table or domain. What came from a parent goes with that.
_PARTS = """
    WITH tables AS (
        SELECT c.oid, c.oid::regclass AS name FROM pg_class AS c WHERE c.relnamespace = to_regnamespace($1)
    ), every AS (
        SELECT format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I CASCADE', t.name, c.conname) AS statement
        FROM pg_constraint AS c JOIN tables AS t ON t.oid = c.conrelid
        WHERE c.contype IN ('c', 'f', 'u', 'x') AND c.conislocal AND c.coninhcount = 0
        UNION ALL
        SELECT format('ALTER DOMAIN %s DROP CONSTRAINT IF EXISTS %I CASCADE', c.contypid::regtype, c.conname)
        FROM pg_constraint AS c JOIN pg_type AS t ON t.oid = c.contypid
        WHERE t.typnamespace = to_regnamespace($1) AND c.contype = 'c'
        UNION ALL
        SELECT format('DROP TRIGGER IF EXISTS %I ON %s CASCADE', g.tgname, t.name)
        FROM pg_trigger AS g JOIN tables AS t ON t.oid = g.tgrelid
        WHERE NOT g.tgisinternal AND g.tgparentid = 0
        UNION ALL
        SELECT format('DROP POLICY IF EXISTS %I ON %s', p.polname, t.name)
        FROM pg_policy AS p JOIN tables AS t ON t.oid = p.polrelid
        UNION ALL
        SELECT format('DROP RULE IF EXISTS %I ON %s CASCADE', r.rulename, t.name)
        FROM pg_rewrite AS r JOIN tables AS t ON t.oid = r.ev_class WHERE r.rulename <> '_RETURN'
        UNION ALL
        SELECT format('DROP INDEX IF EXISTS %s CASCADE', i.indexrelid::regclass)
        FROM pg_index AS i JOIN tables AS t ON t.oid = i.indrelid
        WHERE NOT EXISTS (
            SELECT 1 FROM pg_constraint AS c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x')
        ) AND NOT EXISTS (SELECT 1 FROM pg_inherits AS h WHERE h.inhrelid = i.indexrelid)
    ) SELECT statement FROM every LIMIT $2
"""
# The newest first: what depends on others is younger than they are. What is a part of another goes with it.
_OBJECTS = """
    SELECT format('DROP %s IF EXISTS %s CASCADE', CASE
               WHEN o.type IN ('function', 'procedure', 'aggregate') THEN 'ROUTINE'
               WHEN o.type = 'composite type' THEN 'TYPE'
               WHEN o.type = 'statistics object' THEN 'STATISTICS' ELSE upper(o.type)
           END, o.identity) AS statement
    FROM pg_depend AS d, LATERAL pg_identify_object(d.classid, d.objid, 0) AS o
    WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = to_regnamespace($1)
      AND d.deptype = 'n' AND d.classid <> 'pg_default_acl'::regclass AND NOT EXISTS (
          SELECT 1 FROM pg_depend AS i
          WHERE i.classid = d.classid AND i.objid = d.objid AND i.objsubid = 0 AND i.deptype = 'i'
      )
    ORDER BY d.objid DESC LIMIT $2
"""
_LARGE_OBJECTS = """
    SELECT format('SELECT lo_unlink(%s)', l.oid) AS statement
    FROM pg_largeobject_metadata AS l JOIN pg_roles AS r ON r.oid = l.lomowner
    WHERE r.rolname ~ ('^' || $1 || '(_[0-9a-f]{8})?$') LIMIT $2
"""
# Any sandbox may name this one's role, and its guests', in policies on its own tables.
_NAMED = """
    WITH going AS (
        SELECT array_agg(r.oid) AS roles FROM pg_roles AS r
        WHERE r.rolname ~ ('^' || $1 || '(_[0-9a-f]{8})?$')
    )
    SELECT CASE
               WHEN p.polroles <@ g.roles
               THEN format('DROP POLICY IF EXISTS %I ON %s', p.polname, p.polrelid::regclass)
               ELSE format('ALTER POLICY %I ON %s TO %s', p.polname, p.polrelid::regclass, (
                   SELECT string_agg(quote_ident(r.rolname), ', ') FROM pg_roles AS r
                   WHERE r.oid = ANY (p.polroles) AND r.oid <> ALL (g.roles)
               ))
           END AS statement
    FROM pg_policy AS p, going AS g WHERE p.polroles && g.roles LIMIT $2
"""
ROUNDS = 2000
"""How often at most: another sandbox may make new ones meanwhile."""
QUERIES = (_PARTS, _OBJECTS, _LARGE_OBJECTS, _NAMED)
"""The statements that drop some of what is in a schema, and of its role: `$1` is the name, `$2` the most."""

_HELD_UP_FOR = 0.2
_BLOCKERS = """
    SELECT pg_terminate_backend(a.pid) FROM unnest(pg_blocking_pids($1)) AS b (pid)
    JOIN pg_stat_activity AS a ON a.pid = b.pid JOIN pg_roles AS r ON r.oid = a.usesysid
    JOIN pg_shdescription AS d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
    WHERE r.rolname ~ $3 AND starts_with(d.description, $2)
"""


@asynccontextmanager
async def unhindered(pool: Pool, connection: Connection, mark: str) -> AsyncIterator[None]:
    """End the sessions of sandboxes of this installation that hold the body's statements up for long.

    A sandbox may have locked a table of its own with a policy that names the role of the removed one.
    """
    watch = asyncio.create_task(_end_blockers(pool, connection.get_server_pid(), mark), name="unhindered")
    try:
        yield
    finally:
        await tasks.end(watch)


async def _end_blockers(pool: Pool, held_up: int, mark: str) -> None:
    while True:
        await asyncio.sleep(_HELD_UP_FOR)
        async with connected(pool) as connection:
            await connection.execute(_BLOCKERS, held_up, f"{mark};", ROLES)
