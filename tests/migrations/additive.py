"""Whether code that was written for one schema runs on the next: compared in PostgreSQL's own catalogue.

While a new version is rolled out, the old one runs on the new schema. So a migration may add what the old
code does not know of, and may neither take away nor forbid what it relies on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import asyncpg

_COLUMNS = """
    SELECT c.relname, a.attname, c.relkind = 'r', format_type(a.atttypid, a.atttypmod), a.attnotnull,
           a.atthasdef OR a.attidentity <> ''
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
      AND c.relname <> 'sandbox_schema_migrations'
"""
# A unique index that is no constraint's refuses rows just the same. Constraint triggers (`t`) are triggers.
_RULES = """
    SELECT rel.relname, conname, pg_get_constraintdef(con.oid),
           ARRAY(SELECT attname::text FROM pg_attribute
                 WHERE attrelid = con.conrelid AND attnum = ANY (con.conkey))
    FROM pg_constraint con JOIN pg_class rel ON rel.oid = con.conrelid
    WHERE con.connamespace = 'public'::regnamespace AND con.contype NOT IN ('n', 't')
      AND rel.relname <> 'sandbox_schema_migrations'
UNION ALL
    SELECT rel.relname, idx.relname, pg_get_indexdef(i.indexrelid),
           ARRAY(SELECT attname::text FROM pg_attribute
                 WHERE attrelid = i.indrelid AND attnum = ANY (i.indkey))
    FROM pg_index i JOIN pg_class rel ON rel.oid = i.indrelid JOIN pg_class idx ON idx.oid = i.indexrelid
    WHERE rel.relnamespace = 'public'::regnamespace AND i.indisunique
      AND rel.relname <> 'sandbox_schema_migrations'
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
"""
_FUNCTIONS = """
    SELECT oid::regprocedure::text, pg_get_function_result(oid)
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""
_ENUMS = """
    SELECT typname, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid
    WHERE typnamespace = 'public'::regnamespace
"""
_WIDENS = re.compile(r"^-- widens (\w+):", re.MULTILINE)


@dataclass(frozen=True)
class Column:
    """One column of a table, or of a view (`is_table` false)."""

    is_table: bool
    type: str
    not_null: bool
    filled: bool
    """Has a value when an INSERT does not name it: a default, an identity, or generated."""


@dataclass(frozen=True)
class Schema:
    """What code relies on."""

    columns: dict[tuple[str, str], Column]
    rules: dict[tuple[str, str], tuple[str, frozenset[str]]]
    """Constraints and unique indexes by table and name: the definition, and the columns it is about."""
    functions: dict[str, str]
    """What a function returns, by its signature."""
    labels: frozenset[tuple[str, str]]
    """The values of enum types."""

    @property
    def relations(self) -> set[str]:
        """Tables and views."""
        return {relation for relation, _ in self.columns}


async def schema_of(connection: asyncpg.Connection) -> Schema:
    """What the database's schema `public` has now."""
    return Schema(
        columns={
            (relation, name): Column(*facts) for relation, name, *facts in await connection.fetch(_COLUMNS)
        },
        rules={
            (table, name): (definition, frozenset(columns))
            for table, name, definition, columns in await connection.fetch(_RULES)
        },
        functions={row[0]: row[1] for row in await connection.fetch(_FUNCTIONS)},
        labels=frozenset((row[0], row[1]) for row in await connection.fetch(_ENUMS)),
    )


def breaks(before: Schema, after: Schema, migration: str = "") -> list[str]:
    """Why code written for `before` would not run on `after`, each with what to do instead.

    `migration` is the SQL in between: a constraint that it replaces by a wider one it says so of, in a line
    `-- widens ck_name: why every row of before still passes`.
    """
    return [
        *_columns(before, after),
        *_rules(before, after, frozenset(_WIDENS.findall(migration))),
        *_functions(before, after),
        *_labels(before, after),
    ]


_LATER = "leave it, and remove it once no running version uses it"


def _columns(before: Schema, after: Schema) -> Iterator[str]:
    for relation in sorted(before.relations - after.relations):
        yield f"{relation} is gone: {_LATER}"
    for (relation, name), old in before.columns.items():
        if relation not in after.relations:
            continue
        new = after.columns.get((relation, name))
        if new is None:
            yield f"{relation}.{name} is gone: {_LATER}; instead of renaming it, add another and write both"
            continue
        if new.type != old.type:
            yield f"{relation}.{name} changes from {old.type} to {new.type}: add another, and write both"
        if new.not_null and not old.not_null:
            yield f"{relation}.{name} becomes NOT NULL: the old version may write NULL; wait one version"
        if old.filled and not new.filled:
            yield f"{relation}.{name} loses its default: the old version leaves it out; wait one version"
    for (relation, name), new in after.columns.items():
        known = relation in before.relations and (relation, name) not in before.columns
        if known and new.is_table and new.not_null and not new.filled:
            yield f"{relation}.{name} is new and NOT NULL: the old version leaves it out; give it a default"


def _rules(before: Schema, after: Schema, widened: frozenset[str]) -> Iterator[str]:
    for (table, name), (definition, columns) in after.rules.items():
        if table not in before.relations or before.rules.get((table, name), ("",))[0] == definition:
            continue
        old_columns = {column for relation, column in before.columns if relation == table}
        if columns and not columns & old_columns:
            continue
        if (table, name) not in before.rules:
            yield f"{table}: {name} is new, and the old version's rows may break it; wait one version"
        elif name not in widened:
            yield f"{table}: {name} changes; if every old row still passes, say: -- widens {name}: why"


def _functions(before: Schema, after: Schema) -> Iterator[str]:
    for signature, result in before.functions.items():
        if signature not in after.functions:
            yield f"{signature} is gone: {_LATER}; add the new one beside it"
        elif after.functions[signature] != result:
            yield f"{signature} returns {after.functions[signature]} now: give the new one another name"


def _labels(before: Schema, after: Schema) -> Iterator[str]:
    types = {type_name for type_name, _ in before.labels}
    for type_name, label in sorted(before.labels - after.labels):
        yield f"the value {label} of {type_name} is gone: {_LATER}"
    for type_name, label in sorted(after.labels - before.labels):
        if type_name in types:
            yield f"{label} is a new value of {type_name}, which the old version can't read; add a column"
