"""Templates where the servers keep sandboxes apart: the sandbox's own role runs them, with its own login."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.errors import DoesNotFit
from tests.conftest import create_database, drop_database
from tests.templates.dumps import dump, looks_like_the_source

from .conftest import ALICE, held, opened, settings_of


@pytest.fixture
async def shop(core: Core, closed: EmbeddedServers, tmp_path: Path) -> AsyncIterator[Core]:
    """A core with a directory of templates; `core` removes the sandboxes."""
    async with opened(
        settings_of(closed, sandbox_templates_dir=str(tmp_path), sandbox_template_seconds=2)
    ) as made:
        yield made


@pytest.fixture
async def dumped(closed: EmbeddedServers, tmp_path: Path) -> None:
    url = await create_database(closed, "dumped")
    await dump(url, tmp_path / "shop.sql")
    await drop_database(closed, "dumped")


@pytest.mark.usefixtures("dumped")
async def test_a_dump_becomes_a_sandbox_of_its_own_role(shop: Core, admin: asyncpg.Connection) -> None:
    made = (await shop.manager.create(ALICE, template="shop")).sandbox
    own = await held(shop, made).postgres()
    await looks_like_the_source(own, made.schema_name)
    await own.close()
    owners = await admin.fetch(
        "SELECT DISTINCT pg_get_userbyid(relowner)::text AS name FROM pg_class "
        "WHERE relnamespace = $1::regnamespace",
        made.schema_name,
    )
    assert [row["name"] for row in owners] == [made.schema_name]
    # Whatever is in it, it can be removed.
    await shop.manager.destroy(ALICE, made.name)
    assert await _left(admin, made.schema_name) == (0, 0)


@pytest.mark.parametrize(
    ("sql", "line", "words"),
    [
        (
            "CREATE TABLE t (a int);\nDO $$ BEGIN EXECUTE 'CREATE TABLE pub' || 'lic.x ()'; END $$;",
            2,
            "denied",
        ),
        ("SELECT 1;\nDO $$ BEGIN EXECUTE 'DELETE FROM {other}.communities'; END $$;", 2, "denied"),
        ("DO $$ BEGIN EXECUTE 'RESET ROLE'; EXECUTE 'CREATE ROLE x'; END $$;", 1, "denied"),
        ("DO $$ BEGIN EXECUTE 'SET SESSION AUTHORIZATION postgres'; END $$;", 1, "denied"),
        ("DO $$ BEGIN EXECUTE 'CREATE SCHEMA x'; END $$;", 1, "denied"),
        ("DO $$ BEGIN EXECUTE 'DROP SCHEMA {own} CASCADE'; END $$;", 1, "does not exist"),
        ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sandbox';", 1, "denied"),
        ("SET statement_timeout = 0;\nSELECT pg_sleep(30);", 2, "takes longer than 2 s"),
        ("CREATE TABLE t (a int);\nCOPY t FROM stdin;\n1\n\n\\.\n", 4, "invalid input syntax"),
    ],
)
async def test_a_template_can_not_leave_its_sandbox(
    shop: Core, admin: asyncpg.Connection, tmp_path: Path, sql: str, line: int, words: str
) -> None:
    other = (await shop.manager.create(ALICE, name="other")).sandbox
    (tmp_path / "wrong.sql").write_text(
        sql.replace("{other}", other.schema_name).replace("{own}", "sandbox_x")
    )
    with pytest.raises(DoesNotFit) as refused:
        await shop.manager.create(ALICE, name="wrong", template="wrong")
    assert f"line {line}," in refused.value.what
    assert words in refused.value.problem
    assert [each.name for each in await shop.manager.list()] == ["other"]
    names = await admin.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'sandbox\\_%'")
    roles = await admin.fetch("SELECT rolname FROM pg_roles WHERE rolname LIKE 'sandbox\\_%'")
    assert [row["nspname"] for row in names] == [other.schema_name]
    assert [row["rolname"] for row in roles] == [other.schema_name]


async def test_a_cancelled_template_leaves_nothing(
    shop: Core, admin: asyncpg.Connection, tmp_path: Path
) -> None:
    (tmp_path / "slow.sql").write_text("CREATE TABLE t (a int);\nSELECT pg_sleep(30);")
    making = asyncio.create_task(shop.manager.create(ALICE, name="slow", template="slow"))
    while not await admin.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()"
    ):
        await asyncio.sleep(0.02)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert await shop.manager.list() == []
    assert await admin.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'sandbox\\_%'") == 0


async def test_a_trial_takes_no_default_template(shop: Core, tmp_path: Path) -> None:
    (tmp_path / "default.sql").write_text("SELECT 1/0;")
    made = (await shop.manager.create_trial(ALICE, "trial")).sandbox
    assert made.template == ""


async def _left(admin: asyncpg.Connection, schema: str) -> tuple[int, int]:
    return (
        await admin.fetchval("SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, $1)", schema),
        await admin.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", schema),
    )
