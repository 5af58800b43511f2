"""Runs a template in a sandbox's schema, in one transaction that the caller has begun."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import asyncpg

from sandbox_core.errors import DoesNotFit
from sandbox_core.postgres.pool import Connection

from .files import Template
from .fitting import DEFAULT_TABLES, Step, fitted
from .statements import Problem

_MEND = "Mend the template, or choose another one."
_CLEAN = "For pg_dump: without --clean, or with --if-exists too. There is nothing yet to remove."
_CHUNK = 256 * 1024
_DATA_LINE = re.compile(r"\bline (\d+)")


async def run(connection: Connection, template: Template, schema: str) -> None:
    """Run it; the caller's transaction must be rolled back when this raises.

    Raises `DoesNotFit` with the line for whatever PostgreSQL refuses in it.
    """
    await connection.execute(f"SET LOCAL search_path = {schema}")
    # Nobody may have made anything else there before.
    if template.replaces_tables:
        names = ", ".join(f"{schema}.{each}" for each in DEFAULT_TABLES)
        await connection.execute(f"DROP TABLE IF EXISTS {names} CASCADE")
    line = 1
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + template.within.total_seconds()
    for statement in template.statements:
        line = statement.line
        try:
            step = fitted(statement, schema)
            await _do(connection, step, schema, max(0.001, ends_at - loop.time()))
        except Problem as error:
            raise template.does_not_fit(error.line, error.problem, error.right) from None
        except (TimeoutError, asyncpg.QueryCanceledError) as error:
            problem = f"the template takes longer than {template.within.total_seconds():g} s"
            raise template.does_not_fit(line, problem, "Take fewer rows into it.") from error
        except asyncpg.PostgresError as error:
            if error.severity != "ERROR":
                # FATAL is about the session: the server is going down, or was told to end it.
                raise
            raise _refused(template, step, error) from error
        if not connection.is_in_transaction():
            raise template.does_not_fit(line, "it ends the transaction", "Leave it out.")


async def _do(connection: Connection, step: Step, schema: str, within: float) -> None:
    if step.copy is None:
        await connection.execute(step.sql, timeout=within)
        return
    await connection.copy_to_table(
        step.copy.table,
        schema_name=schema,
        columns=step.copy.columns or None,
        source=_chunks(step.data),
        timeout=within,
    )


async def _chunks(data: str) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), _CHUNK):
        yield data[begin : begin + _CHUNK].encode()


def _refused(template: Template, step: Step, error: asyncpg.PostgresError) -> DoesNotFit:
    line = step.line
    if step.copy is not None:
        match = _DATA_LINE.search(str(getattr(error, "context", "") or ""))
        line = step.line if match is None else step.data_line + int(match[1]) - 1
    elif position := getattr(error, "position", None):
        line += step.sql.count("\n", 0, int(position) - 1)
    removes = step.sql[:4].lower() == "drop" or (
        step.sql[:5].lower() == "alter" and " drop constraint " in step.sql.lower()
    )
    # The classes 42 and 3F: what it names is not there.
    is_missing = removes and str(error.sqlstate)[:2] in {"42", "3F"}
    return template.does_not_fit(line, f"PostgreSQL says: {error.args[0]}", _CLEAN if is_missing else _MEND)
