"""create, drop, exists and stats of a sandbox's schema."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

HOSTILE = [
    None,
    "",
    "a" * 41,
    "A1",
    "a-b",
    "a b",
    "a\n",
    'x"; DROP TABLE sandboxes; --',
    "x'; DROP TABLE sandboxes; --",
    "x.communities",
    "%I",
    "\u0430",
]
FUNCTIONS = [
    "create_sandbox_schema",
    "drop_sandbox_schema",
    "sandbox_schema_exists",
    "get_sandbox_schema_stats",
]


async def test_create_makes_the_tenant_tables(connection: asyncpg.Connection) -> None:
    assert await connection.fetchval("SELECT create_sandbox_schema('test123')") == "sandbox_test123"
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'sandbox_test123'")
    assert {row["tablename"] for row in tables} == {"communities", "profiles", "badges"}
    indexes = await connection.fetch("SELECT indexname FROM pg_indexes WHERE schemaname = 'sandbox_test123'")
    assert {row["indexname"] for row in indexes} == {
        "communities_pkey",
        "communities_guild_id_key",
        "idx_communities_created",
        "profiles_pkey",
        "profiles_community_id_user_id_key",
        "idx_profiles_user",
        "idx_profiles_community_xp",
        "badges_pkey",
        "badges_profile_id_code_key",
        "idx_badges_code",
    }


async def test_the_tenant_tables_belong_together(connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT create_sandbox_schema('test123')")
    await connection.execute("SET search_path = sandbox_test123")
    community = await connection.fetchval(
        "INSERT INTO communities (guild_id, name) VALUES ('110373943822540800', 'A') RETURNING id"
    )
    profile = await connection.fetchval(
        "INSERT INTO profiles (community_id, user_id) VALUES ($1, '80351110224678912') RETURNING id",
        community,
    )
    await connection.execute("INSERT INTO badges (profile_id, code) VALUES ($1, 'first')", profile)
    await connection.execute("DELETE FROM communities")
    assert await connection.fetchval("SELECT count(*) FROM badges") == 0


async def test_creating_twice_is_refused_and_harmless(connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT create_sandbox_schema('test123')")
    await connection.execute(
        "INSERT INTO sandbox_test123.communities (guild_id, name) VALUES ('110373943822540800', 'A')"
    )
    with pytest.raises(asyncpg.DuplicateSchemaError):
        await connection.execute("SELECT create_sandbox_schema('test123')")
    assert await connection.fetchval("SELECT count(*) FROM sandbox_test123.communities") == 1


async def test_create_is_all_or_nothing(connection: asyncpg.Connection) -> None:
    """A statement that fails after the tables were made leaves none of them."""
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.execute(
            "SELECT 1 / length(replace(create_sandbox_schema('test123'), 'sandbox_test123', ''))"
        )
    assert await connection.fetchval("SELECT sandbox_schema_exists('test123')") is False


async def test_drop_is_idempotent(connection: asyncpg.Connection) -> None:
    assert await connection.fetchval("SELECT drop_sandbox_schema('test123')") is False
    await connection.execute("SELECT create_sandbox_schema('test123')")
    assert await connection.fetchval("SELECT sandbox_schema_exists('test123')") is True
    assert await connection.fetchval("SELECT drop_sandbox_schema('test123')") is True
    assert await connection.fetchval("SELECT sandbox_schema_exists('test123')") is False
    assert await connection.fetchval("SELECT drop_sandbox_schema('test123')") is False


async def test_drop_takes_what_the_developer_added(connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT create_sandbox_schema('test123')")
    await connection.execute("CREATE TABLE sandbox_test123.extra (id int)")
    await connection.execute("CREATE VIEW public.outside AS SELECT * FROM sandbox_test123.extra")
    assert await connection.fetchval("SELECT drop_sandbox_schema('test123')") is True
    assert await connection.fetchval("SELECT to_regclass('public.outside')") is None


async def test_of_two_drops_at_once_one_did_it(connection: asyncpg.Connection, database_url: str) -> None:
    await connection.execute("SELECT create_sandbox_schema('test123')")
    async with asyncpg.create_pool(database_url, min_size=4, max_size=4) as pool:
        answers = await asyncio.gather(
            *(pool.fetchval("SELECT drop_sandbox_schema('test123')") for _ in range(4))
        )
    assert sorted(answers) == [False, False, False, True]


async def test_of_two_creates_at_once_one_wins(database_url: str) -> None:
    async with asyncpg.create_pool(database_url, min_size=4, max_size=4) as pool:
        answers = await asyncio.gather(
            *(pool.fetchval("SELECT create_sandbox_schema('test123')") for _ in range(4)),
            return_exceptions=True,
        )
    assert answers.count("sandbox_test123") == 1
    assert sum(isinstance(answer, asyncpg.DuplicateSchemaError) for answer in answers) == 3


async def test_stats_count_exactly(connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT create_sandbox_schema('test123')")
    await connection.execute(
        "INSERT INTO sandbox_test123.communities (guild_id, name) "
        "SELECT (110373943822540800 + n)::text, 'guild' FROM generate_series(1, 137) AS n"
    )
    await connection.execute('CREATE TABLE sandbox_test123."Odd ""name""" AS SELECT 1 AS one')
    rows = await connection.fetch("SELECT * FROM get_sandbox_schema_stats('test123')")
    assert {row["table_name"]: row["row_count"] for row in rows} == {
        "communities": 137,
        "profiles": 0,
        "badges": 0,
        'Odd "name"': 1,
    }
    assert all(row["total_bytes"] > 0 for row in rows)


async def test_stats_of_no_schema(connection: asyncpg.Connection) -> None:
    assert await connection.fetch("SELECT * FROM get_sandbox_schema_stats('test123')") == []


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_hostile_arguments_are_refused(connection: asyncpg.Connection, function: str) -> None:
    schemas = "SELECT nspname FROM pg_namespace ORDER BY 1"
    before = await connection.fetch(schemas)
    for argument in HOSTILE:
        with pytest.raises(asyncpg.InvalidParameterValueError, match="not the id part of a sandbox schema"):
            await connection.fetch(f"SELECT * FROM {function}($1)", argument)
        assert await connection.fetch(schemas) == before, argument


async def test_functions_work_from_any_search_path(connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT create_sandbox_schema('test123')")
    await connection.execute("SET search_path = sandbox_test123")
    assert await connection.fetchval("SELECT public.sandbox_schema_exists('test123')") is True
    assert len(await connection.fetch("SELECT * FROM public.get_sandbox_schema_stats('test123')")) == 3
    assert await connection.fetchval("SELECT public.drop_sandbox_schema('test123')") is True
