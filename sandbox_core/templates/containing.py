"""Sees whether a transaction stays in a sandbox's schema, where no role of the sandbox's own guarantees that.

A transaction keeps its locks until its end, and the server tells which: of every table that was read or
written, whoever did it, also a function that the template made. What is made without such a lock is found by
the transaction that made it.
"""

from __future__ import annotations

from sandbox_core.postgres.pool import Connection

from .files import Template

_TOUCHED = """
    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_locks AS l
    JOIN pg_class AS c ON c.oid = l.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND CASE
        WHEN l.database = 0 THEN l.mode NOT LIKE '%ShareLock' AND c.relname IN
            ('pg_authid', 'pg_auth_members', 'pg_database', 'pg_db_role_setting', 'pg_tablespace')
        ELSE n.nspname NOT IN ($1, 'pg_catalog', 'pg_toast', 'information_schema')
            AND n.nspname NOT LIKE 'pg!_temp%' ESCAPE '!' AND n.nspname NOT LIKE 'pg!_toast!_temp%' ESCAPE '!'
    END
    ORDER BY c.relkind <> 'r', 1 LIMIT 1
"""
# By its number it is of this transaction or a later one, and of a later one only when it has ended.
_MADE = """
    WITH mine AS (SELECT pg_current_xact_id()::text::bigint AS id), made AS (
        SELECT format('%I.%I', n.nspname, p.proname) AS name, p.xmin::text::bigint AS made_by
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname <> $1
        UNION ALL
        SELECT format('%I.%I', n.nspname, t.typname), t.xmin::text::bigint
        FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
        WHERE n.nspname <> $1 AND n.nspname NOT LIKE 'pg!_%' ESCAPE '!'
        UNION ALL
        SELECT format('%I', n.nspname), n.xmin::text::bigint FROM pg_namespace AS n
        WHERE n.nspname <> $1 AND n.nspname NOT LIKE 'pg!_%' ESCAPE '!'
    )
    SELECT name FROM made, mine WHERE CASE
        WHEN made_by >= (id & 4294967295) THEN
            pg_xact_status((((id >> 32) << 32) | made_by)::text::xid8) = 'in progress'
        ELSE false
    END
    LIMIT 1
"""


async def refuse_reaching_out(connection: Connection, template: Template, schema: str) -> None:
    """Raise `DoesNotFit` when this transaction has reached out of the schema."""
    for query in (_TOUCHED, _MADE):
        if (found := await connection.fetchval(query, schema)) is not None:
            last = template.statements[-1].line if template.statements else 1
            problem = f"by here it has reached out of the sandbox, to {found}"
            raise template.does_not_fit(last, problem, _RIGHT)


_RIGHT = "A template reads and writes in the sandbox's schema only."
