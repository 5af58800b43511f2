"""Measures the tables, indexes and the like of all sandboxes in one database.

A file's size is read under a lock that only `ACCESS EXCLUSIVE` hinders. What is locked so is left out, and
where a lock comes in between, the wait for it is short.
"""

from __future__ import annotations

from collections.abc import Collection

import asyncpg

from sandbox_core.guests import ROLE_LENGTH, ROLES
from sandbox_core.postgres import Pool, connected

from .amounts import Amount, Pace

_PAGE = 8192
_AT_ONCE = 500
"""The most relations of one statement: about 5 ms."""
_LOCK_WITHIN_MS = 50

# A relation is the sandbox's by its schema, or by its owner: temporary tables are in other schemas. TOAST has
# files of its own beside those of a table.
_RELATIONS = """
    WITH own AS (
        SELECT coalesce(r.rolname, n.nspname)::text AS name, c.oid, c.relkind, c.relpages, c.reltoastrelid
        FROM pg_class AS c
        LEFT JOIN LATERAL (
            SELECT oid, left(rolname, $2) AS rolname FROM pg_roles
            WHERE oid = c.relowner AND rolname ~ $3 AND left(rolname, $2) = ANY ($1)
        ) AS r ON true
        LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = ANY ($1)
        WHERE c.relkind IN ('r', 'm', 'i', 't', 'S') AND (r.oid IS NOT NULL OR n.oid IS NOT NULL)
    ), every AS (
        SELECT name, oid, relkind, relpages FROM own
        UNION SELECT own.name, t.oid, t.relkind, t.relpages
            FROM own JOIN pg_class AS t ON t.oid = own.reltoastrelid
        UNION SELECT own.name, t.oid, t.relkind, t.relpages
            FROM own JOIN pg_index AS i ON i.indrelid = own.reltoastrelid
            JOIN pg_class AS t ON t.oid = i.indexrelid
    ), locked AS (
        SELECT DISTINCT l.relation AS oid FROM pg_locks AS l
        WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
    SELECT name, count(*) FILTER (WHERE relkind IN ('r', 'm')) AS tables,
           array_agg(oid) FILTER (WHERE locked.oid IS NULL) AS free,
           count(locked.oid) AS locked,
           coalesce(sum(relpages) FILTER (WHERE locked.oid IS NOT NULL), 0) AS locked_pages
    FROM every LEFT JOIN locked USING (oid) GROUP BY name
"""


async def measure_schemas(pool: Pool, schemas: Collection[str], pace: Pace) -> dict[str, Amount]:
    """Return what the sandboxes with these schemas, and roles of the same names, store in the database."""
    async with connected(pool) as connection:
        rows = await connection.fetch(_RELATIONS, list(schemas), ROLE_LENGTH, ROLES)
    await pace.rest()
    found = dict.fromkeys(schemas, Amount())
    for row in rows:
        # Of a table that is locked, the size that the server has noted last.
        amount = Amount(int(row["locked_pages"]) * _PAGE, row["tables"], at_least=row["locked"] > 0)
        relations = row["free"] or []
        for start in range(0, len(relations), _AT_ONCE):
            amount += await _sizes(pool, relations[start : start + _AT_ONCE])
            await pace.rest()
        found[row["name"]] = amount
    return found


async def _sizes(pool: Pool, relations: list[int]) -> Amount:
    async with connected(pool) as connection:
        # The pool takes the setting back.
        await connection.execute(f"SET lock_timeout = {_LOCK_WITHIN_MS}")
        try:
            size = await connection.fetchval(
                "SELECT coalesce(sum(pg_relation_size(oid)), 0) FROM unnest($1::oid[]) AS oid", relations
            )
        except asyncpg.LockNotAvailableError:
            # Rarely: it was not locked when the list was made.
            return Amount(at_least=True)
    return Amount(int(size))
