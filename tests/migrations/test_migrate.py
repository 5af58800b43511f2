"""Up, twice, down and up again; two processes at once; failures in words."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from sandbox_bot.migrate import MigrationError, migrate, migrations_dir
from sandbox_core.errors import DependencyUnavailable, LoginRefused
from tests.embedded.processes import descendants, told_of

# Everything in the schema `public`, in words that are equal exactly when the definitions are.
CATALOGUE = """
    SELECT 'table ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
           || ' ' || a.attnotnull || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'function ' || pg_get_functiondef(oid)
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'view ' || viewname || ' ' || definition FROM pg_views WHERE schemaname = 'public'
UNION ALL SELECT 'enum ' || enumtypid::regtype || ' ' || enumlabel || ' ' || enumsortorder FROM pg_enum
ORDER BY 1
"""
MIGRATIONS = sorted(path.name for path in migrations_dir().glob("*.sql"))


async def catalogue(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch(CATALOGUE)]
    finally:
        await connection.close()


async def applied(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [
            row[0]
            for row in await connection.fetch("SELECT version FROM sandbox_schema_migrations ORDER BY 1")
        ]
    finally:
        await connection.close()


async def test_up_applies_every_migration(database_url: str) -> None:
    assert await applied(database_url) == [name.split("_")[0] for name in MIGRATIONS]


async def test_migrating_twice_changes_nothing(database_url: str) -> None:
    before = await catalogue(database_url)
    await migrate(database_url)
    assert await catalogue(database_url) == before


async def test_down_undoes_one_migration_at_a_time_and_all_of_it(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    for left in range(len(MIGRATIONS) - 1, -1, -1):
        await migrate(empty_database_url, down=True)
        assert len(await applied(empty_database_url)) == left
    remaining = await catalogue(empty_database_url)
    assert remaining
    assert all("sandbox_schema_migrations" in line for line in remaining), remaining


async def test_up_down_up_equals_fresh(database_url: str, empty_database_url: str) -> None:
    await migrate(empty_database_url)
    for _ in MIGRATIONS:
        await migrate(empty_database_url, down=True)
    await migrate(empty_database_url)
    assert await catalogue(empty_database_url) == await catalogue(database_url)


async def test_down_without_anything_applied_says_so(empty_database_url: str) -> None:
    with pytest.raises(MigrationError, match="rollback"):
        await migrate(empty_database_url, down=True)


async def test_down_leaves_the_schemas_of_sandboxes(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute("SELECT create_sandbox_schema('0a1b2c3d')")
        for _ in MIGRATIONS:
            await migrate(empty_database_url, down=True)
        assert await connection.fetchval("SELECT count(*) FROM sandbox_0a1b2c3d.badges") == 0
    finally:
        await connection.close()


async def test_four_processes_at_once(database_url: str, empty_database_url: str) -> None:
    await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert await catalogue(empty_database_url) == await catalogue(database_url)


async def test_no_schema_dump_is_written(empty_database_url: str) -> None:
    directory = migrations_dir()
    before = sorted(directory.parent.rglob("schema.sql")), sorted(directory.iterdir())
    await migrate(empty_database_url)
    assert (sorted(directory.parent.rglob("schema.sql")), sorted(directory.iterdir())) == before


async def test_settings_of_dbmate_in_the_environment_are_ignored(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DBMATE_MIGRATIONS_DIR", str(tmp_path))
    monkeypatch.setenv("DBMATE_MIGRATIONS_TABLE", "elsewhere")
    await migrate(empty_database_url)
    assert len(await applied(empty_database_url)) == len(MIGRATIONS)


async def test_a_wrong_password_is_refused_without_repeating_it(database_url: str) -> None:
    secret = "pa%40ss-word-of-nobody"
    url = urlsplit(database_url)
    wrong = urlunsplit(url._replace(netloc=f"{url.username}:{secret}@{url.hostname}:{url.port}"))
    with pytest.raises(LoginRefused, match="the password is wrong") as caught:
        await migrate(wrong)
    assert secret not in str(caught.value)
    assert "pa@ss-word-of-nobody" not in str(caught.value)


async def test_an_unreachable_server_is_named(database_url: str) -> None:
    url = urlsplit(database_url)
    # Port 1 is reserved (tcpmux) and nobody listens there.
    nowhere = urlunsplit(url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:1"))
    with pytest.raises(DependencyUnavailable, match=r"connection refused at 127\.0\.0\.1:1\b"):
        await migrate(nowhere)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="command lines are read from /proc")
async def test_the_password_is_not_in_the_command_line(database_url: str) -> None:
    """Looked at from outside, while dbmate waits for a table that somebody else has locked."""
    password = urlsplit(database_url).password
    assert password
    connection = await asyncpg.connect(database_url)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE sandbox_schema_migrations")
        migrating = asyncio.create_task(migrate(database_url))
        async with asyncio.timeout(60):
            while not await connection.fetchval(
                "SELECT count(*) FROM pg_locks"
                " WHERE NOT granted AND relation = 'sandbox_schema_migrations'::regclass"
            ):
                await asyncio.sleep(0.01)
        command_lines = [told_of(pid, "cmdline") for pid in descendants(os.getpid())]
        await transaction.rollback()
        await migrating
    finally:
        await connection.close()
    assert any("dbmate" in line for line in command_lines)
    assert not any(password in line for line in command_lines)


@pytest.mark.parametrize("name", MIGRATIONS)
def test_every_migration_can_be_undone(name: str) -> None:
    text = (migrations_dir() / name).read_text()
    down = text.split("-- migrate:down", 1)[1]
    assert "DROP" in down
