"""Resets and the logins of a sandbox: what its role has set, guests' objects, another key, busy workers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.errors import NoCredentials, SandboxNotFound, SandboxNotRunning
from sandbox_core.models import Resetting, ShareAccess
from sandbox_core.postgres.errors import DRIVER_ERRORS
from sandbox_core.settings import Settings

from .conftest import ALICE, BOB, Held, held, hold, opened, settings_of
from .test_deaths import all_refused, all_work
from .test_life import both_refused, both_work, configured_with
from .test_reset import SEED, stored
from .test_sharing import colleague, guest, shared


@pytest.fixture
async def shop(core: Core, closed: EmbeddedServers, tmp_path: Path) -> AsyncIterator[Core]:
    """A core with one template; `core` removes the sandboxes."""
    (tmp_path / "shop.sql").write_text(SEED)
    async with opened(settings_of(closed, sandbox_templates_dir=str(tmp_path))) as made:
        yield made


async def seeded(shop: Core) -> Held:
    return held(shop, (await shop.manager.create(ALICE, name="mine", template="shop")).sandbox)


async def test_what_the_role_has_set_goes(shop: Core, admin: asyncpg.Connection) -> None:
    """With these no session could begin, and no template would run."""
    mine = await seeded(shop)
    own = await mine.postgres()
    for setting in ("statement_timeout = 1", "search_path = pg_catalog", "local_preload_libraries = 'no'"):
        await own.execute(f"ALTER ROLE {mine.schema} SET {setting}")
        await own.execute(f"ALTER ROLE {mine.schema} IN DATABASE tenants SET {setting}")
    await own.close()
    with pytest.raises(asyncpg.UndefinedFileError):
        await mine.postgres()
    await shop.manager.reset(ALICE, "mine")
    own = await mine.postgres()
    assert await own.fetchval("SELECT name FROM communities") == "seed"
    assert await own.fetchval("SHOW statement_timeout") == "1min"
    await own.close()


async def test_large_objects_of_guests_go(bot: Core, admin: asyncpg.Connection) -> None:
    await hold(bot, "mine")
    his = await shared(bot)
    connection = await his.postgres()
    await connection.execute("SET ROLE NONE")
    await connection.execute("SELECT lo_create(0)")
    await connection.close()
    await bot.manager.reset(BOB, "mine")
    assert await admin.fetchval("SELECT count(*) FROM pg_largeobject_metadata") == 0
    await all_work(his)


async def test_a_template_runs_beside_workers_that_have_every_connection(
    shop: Core, admin: asyncpg.Connection
) -> None:
    mine = await seeded(shop)
    most = shop.settings.sandbox_database_connections

    async def works() -> None:
        while True:
            with contextlib.suppress(*DRIVER_ERRORS):
                connection = await mine.postgres()
                try:
                    while True:
                        await connection.fetchval("SELECT count(*) FROM communities")
                        await asyncio.sleep(0.1)
                finally:
                    connection.terminate()
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(works()) for _ in range(most)]
        count = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"
        while await admin.fetchval(count, mine.schema) < most:
            await asyncio.sleep(0.05)
        await shop.manager.reset(ALICE, "mine")
        for each in workers:
            each.cancel()
    assert (await stored(shop, admin, mine))[0] == ["seed"]


async def test_a_rotation_in_the_middle_does_not_stop_it(shop: Core, admin: asyncpg.Connection) -> None:
    mine = await seeded(shop)
    await shop.manager.share(ALICE, "mine", colleague(), ShareAccess.USE)

    async def rotate(point: str) -> None:
        if point == "reset:begun":
            await shop.manager.rotate(ALICE, "mine")

    manager = shop.manager
    manager._tools = replace(manager._tools, faults=rotate)
    await manager.reset(BOB, "mine")
    now = await manager.get("mine")
    assert (now.generation, now.resetting) == (2, Resetting.NO)
    await both_work(held(shop, now))
    await both_work(guest(shop, now, BOB))
    assert (await stored(shop, admin, held(shop, now)))[0] == ["seed"]
    assert mine.sandbox.generation == 1


async def test_what_a_colleague_has_left_goes_with_a_rotation_and_a_reset(bot: Core) -> None:
    """Code in the schema acts as the sandbox's role when its worker writes; see docs/security.md."""
    mine = await hold(bot, "mine")
    his = await shared(bot)
    insert = "INSERT INTO communities (guild_id, name) VALUES ('100000000000000001', 'x')"
    connection = await his.postgres()
    await connection.execute(
        "CREATE FUNCTION let_in() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN EXECUTE $x$ALTER ROLE {mine.schema} PASSWORD 'known'$x$; RETURN NEW; END $$; "
        "CREATE TRIGGER let_in BEFORE INSERT ON communities FOR EACH ROW EXECUTE FUNCTION let_in()"
    )
    await connection.close()
    await bot.manager.unshare(ALICE, "mine", BOB.id)
    await all_refused(his)
    own = await mine.postgres()
    await own.execute(insert)
    await own.close()
    known = f"postgresql://{mine.schema}:known@{mine.variables['DATABASE_URL'].partition('@')[2]}"
    intruder = await asyncpg.connect(known)

    rotated = held(bot, (await bot.manager.rotate(ALICE, "mine")).sandbox)
    with pytest.raises(DRIVER_ERRORS):
        await intruder.fetchval("SELECT 1")
    intruder.terminate()
    await bot.manager.reset(ALICE, "mine")
    own = await rotated.postgres()
    await own.execute(insert)
    await own.close()
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(known)
    await all_work(rotated)


async def sleeps(admin: asyncpg.Connection, mine: Held) -> None:
    query = "SELECT true FROM pg_stat_activity WHERE usename = $1 AND query LIKE '%pg_sleep(20)%'"
    while not await admin.fetchval(query, mine.schema):
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("ending", ["destroyed", "expired"])
async def test_the_sandboxs_end_does_not_wait_for_a_template(
    shop: Core, admin: asyncpg.Connection, tmp_path: Path, ending: str
) -> None:
    mine = await seeded(shop)
    (tmp_path / "shop.sql").write_text(SEED + "SELECT pg_sleep(20);")
    if ending == "expired":
        await shop.pool.execute(
            "UPDATE sandboxes SET expires_at = now() + interval '5 s' WHERE id = $1", mine.sandbox.id
        )
    resetting = asyncio.create_task(shop.manager.reset(ALICE, "mine"))
    await sleeps(admin, mine)
    if ending == "destroyed":
        await shop.manager.destroy(ALICE, "mine")
        with pytest.raises((SandboxNotFound, SandboxNotRunning)):
            await resetting
    else:
        expires_at = (await shop.manager.get("mine")).expires_at
        with pytest.raises(SandboxNotRunning):
            await resetting
        assert datetime.now(UTC) - expires_at < timedelta(seconds=2)
        # It is nobody's turn any more.
        assert len((await shop.cleanup.cleanup_expired()).destroyed) == 1
    await both_refused(mine)
    assert (await shop.cleanup.find_orphaned_resources()).orphans == ()
    names = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'sandbox\\_%'"
    assert await admin.fetchval(names) == 0


async def test_with_another_key_nothing_is_reset_and_workers_go_on(
    core: Core, mine: Held, enforced: Settings, closed: EmbeddedServers
) -> None:
    """What was made with the former key can't be made again, and holds until the expiry, also a later one."""
    await both_work(mine)
    key = SecretStr("k" * 32)
    changed = enforced.model_copy(update={"sandbox_credentials_key": key})
    async with configured_with(closed.tenant_nats, key), opened(changed) as second:
        with pytest.raises(NoCredentials) as refused:
            await second.manager.reset(ALICE, "mine")
        assert refused.value.outdated
        assert (await second.manager.get("mine")).resetting is Resetting.NO
        before = (await second.manager.get("mine")).expires_at
        extended = (await second.manager.extend(ALICE, "mine", "1h")).sandbox
        assert extended.expires_at == before + timedelta(hours=1)
        await both_work(mine)
        valid = "SELECT rolvaliduntil FROM pg_roles WHERE rolname = $1"
        connection = await mine.postgres()
        assert await connection.fetchval(valid, mine.schema) == extended.expires_at
        await connection.close()
        until = await second.pool.fetchval(
            "SELECT until FROM nats_slots WHERE sandbox_id = $1 AND generation = 1", mine.sandbox.id
        )
        assert until == extended.expires_at
        rotated = (await second.manager.rotate(ALICE, "mine")).sandbox
        await second.manager.reset(ALICE, "mine")
        await both_work(held(second, rotated))
        await second.manager.destroy(ALICE, "mine")
