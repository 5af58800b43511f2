"""A reset where the servers keep sandboxes apart: credentials, slot and connections to NATS stay."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.errors import DoesNotFit
from sandbox_core.models import Resetting
from sandbox_core.postgres.errors import DRIVER_ERRORS
from sandbox_core.subjects import SLOT_DEAD_LETTERS, SLOT_STREAM
from sandbox_core.tenant_nats import TenantNats
from tests.conftest import ROOT
from tests.forked import start_forked

from .conftest import ALICE, GUILD, Held, held, hold, opened, settings_of
from .gateway import MINE, PRODUCTION, Gateway, access, eventually, worker
from .test_deaths import die

SEED = "INSERT INTO public.communities (guild_id, name) VALUES ('100000000000000009', 'seed');\n"


@pytest.fixture
def gateway(bot: Core) -> Gateway:
    return Gateway(bot, uuid4().hex)


async def fill(mine: Held) -> None:
    """Something in each part, also what is outside of the schema, and hard to remove."""
    own = await mine.postgres()
    await own.execute("INSERT INTO communities (guild_id, name) VALUES ($1, 'x')", GUILD)
    await own.execute("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE more (a int)")
    await own.execute("CREATE TYPE mood AS ENUM ('ok'); CREATE VIEW v AS SELECT * FROM communities")
    await own.execute("SELECT lo_create(0)")
    await own.close()
    async with mine.redis() as redis:
        await redis.set(f"{mine.prefix}key", "x")


async def stored(core: Core, admin: asyncpg.Connection, mine: Held) -> tuple[list[str], int, int, int]:
    """The rows of the table, how many objects are in the schema and outside, and how many keys."""
    rows = await admin.fetch(f"SELECT name FROM {mine.schema}.communities ORDER BY 1")
    more = await admin.fetchval(
        "SELECT count(*) FROM pg_depend WHERE refobjid = to_regnamespace($1) AND deptype = 'n'", mine.schema
    )
    large = await admin.fetchval(
        "SELECT count(*) FROM pg_largeobject_metadata WHERE lomowner = to_regrole($1)", mine.schema
    )
    async with mine.redis() as redis:
        keys = await redis.exists(f"{mine.prefix}key")
    return [row["name"] for row in rows], more, large, keys


async def test_what_is_stored_goes_and_the_logins_stay(
    bot: Core, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    mine, other = await hold(bot, "mine"), await hold(bot, "other")
    await bot.manager.register_guild(ALICE, "mine", access(MINE))
    fresh = await stored(bot, admin, mine)
    await fill(mine)
    await fill(other)
    async with worker(mine.variables["NATS_URL"]) as reads:
        await reads.subscribe(mine.sandbox.id)
        before = gateway.send(MINE)
        assert (await reads.next()).headers["Nats-Msg-Id"] == before
        await gateway.done()
        # It holds a lock on what is to go, and never ends its transaction.
        own = await mine.postgres()
        await own.execute("BEGIN; LOCK TABLE communities, more")

        done = (await bot.manager.reset(ALICE, "mine")).sandbox
        assert done.generation == mine.sandbox.generation
        assert bot.manager.credentials(done) == dict(mine.variables)
        assert await stored(bot, admin, mine) == fresh == ([], fresh[1], 0, 0)
        assert (await stored(bot, admin, other))[0] == ["x"]
        assert await admin.fetchval("SELECT to_regnamespace($1)", f"{mine.schema}_old") is None
        assert own.is_closed() or not await _answers(own)
        health = await bot.manager.health("mine")
        assert {part.state.value for part in health.parts} == {"healthy"}
        nats = next(part for part in health.parts if part.store == "NATS")
        assert (nats.facts["messages"], nats.facts["dead_letters"]) == (0, 0)

        # The connection to NATS is the one of before, and the next event comes.
        after = gateway.send(MINE)
        gateway.send(PRODUCTION)
        assert (await reads.next()).headers["Nats-Msg-Id"] == after
    # The login works in the new schema.
    own = await mine.postgres()
    await own.execute("INSERT INTO communities (guild_id, name) VALUES ($1, 'new')", GUILD)
    assert await own.fetchval("SELECT count(*) FROM communities") == 1
    await own.close()


async def _answers(connection: asyncpg.Connection) -> bool:
    try:
        await connection.fetchval("SELECT 1", timeout=5)
    except DRIVER_ERRORS:
        return False
    return True


async def test_no_event_is_lost_doubled_or_on_the_wrong_side(bot: Core, gateway: Gateway) -> None:
    mine = await hold(bot, "mine")
    await bot.manager.register_guild(ALICE, "mine", access(MINE))
    over = asyncio.Event()

    async def send() -> None:
        while not over.is_set():
            gateway.send(MINE)
            gateway.send(PRODUCTION)
            await asyncio.sleep(0.002)

    async with worker(mine.variables["NATS_URL"]) as reads:
        await reads.subscribe(mine.sandbox.id)
        sending = asyncio.create_task(send())
        for _ in range(3):
            await bot.manager.reset(ALICE, "mine")
        over.set()
        await sending
        await gateway.done()
        last = gateway.send(MINE)
        await gateway.done()
        came = [(await reads.next()).headers["Nats-Msg-Id"]]
        while came[-1] != last:
            came.append((await reads.next()).headers["Nats-Msg-Id"])
    # What was stored before a reset is gone; of what came since none is missing, twice, or out of order.
    assert came == gateway.sent[MINE][-len(came) :]
    assert await gateway.production() == gateway.sent[PRODUCTION]


@pytest.fixture
async def shop(core: Core, closed: EmbeddedServers, tmp_path: Path) -> AsyncIterator[Core]:
    (tmp_path / "shop.sql").write_text(SEED)
    async with opened(settings_of(closed, sandbox_templates_dir=str(tmp_path))) as made:
        yield made


async def test_a_template_that_does_not_fit_brings_everything_back(
    shop: Core, admin: asyncpg.Connection, tmp_path: Path
) -> None:
    mine = held(shop, (await shop.manager.create(ALICE, name="mine", template="shop")).sandbox)
    await fill(mine)
    before = await stored(shop, admin, mine)
    row = await shop.manager.get("mine")
    (tmp_path / "shop.sql").write_text(SEED + "CREATE TABLE t (a int);\nSELECT 1/0;")
    with pytest.raises(DoesNotFit) as refused:
        await shop.manager.reset(ALICE, "mine")
    assert "line 3" in refused.value.what
    assert await stored(shop, admin, mine) == before
    assert await shop.manager.get("mine") == row
    assert await admin.fetchval("SELECT to_regnamespace($1)", f"{mine.schema}_old") is None
    own = await mine.postgres()
    assert await own.fetchval("SELECT f()") == 1
    await own.close()
    (tmp_path / "shop.sql").write_text(SEED)
    await shop.manager.reset(ALICE, "mine")
    assert (await stored(shop, admin, mine))[0] == ["seed"]


async def test_a_full_sandbox_has_room_again(shop: Core, admin: asyncpg.Connection) -> None:
    mine = held(shop, (await shop.manager.create(ALICE, name="mine", template="shop")).sandbox)
    await shop.pool.execute(
        "INSERT INTO sandbox_storage (sandbox_id, store, bytes, items, measured_at, level) "
        "SELECT $1, store, 1, 1, now(), 'full' FROM unnest(ARRAY['PostgreSQL', 'Redis']) AS store",
        mine.sandbox.id,
    )
    await shop.cleanup.keep_credentials()
    own = await mine.postgres()
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await own.execute("CREATE TABLE t (a int)")
    await own.close()
    await shop.manager.reset(ALICE, "mine")
    own = await mine.postgres()
    await own.execute("CREATE TABLE t (a int)")
    await own.close()
    async with mine.redis() as redis:
        await redis.set(f"{mine.prefix}key", "x")
    assert (await stored(shop, admin, mine))[0] == ["seed"]


@pytest.mark.parametrize("point", ["reset:begun", "reset:PostgreSQL", "reset:Redis", "reset:NATS"])
async def test_a_killed_reset_is_finished_by_the_bot(
    core: Core, closed: EmbeddedServers, admin: asyncpg.Connection, point: str
) -> None:
    mine = await hold(core, "mine")
    fresh = await stored(core, admin, mine)
    await fill(mine)
    await die(closed, "reset", point)
    assert (await core.manager.get("mine")).resetting is not Resetting.NO

    async def finished() -> bool:
        return bool(await core.cleanup.finish_resets())

    # Once PostgreSQL has noticed the death.
    await eventually(finished)
    assert await stored(core, admin, mine) == fresh
    assert (await core.manager.get("mine")).resetting is Resetting.NO
    assert await admin.fetchval("SELECT to_regnamespace($1)", f"{mine.schema}_old") is None


@pytest.mark.parametrize("then", ["finished", "destroyed"])
async def test_a_death_while_the_schema_is_set_aside(
    shop: Core, closed: EmbeddedServers, admin: asyncpg.Connection, tmp_path: Path, then: str
) -> None:
    mine = held(shop, (await shop.manager.create(ALICE, name="mine", template="shop")).sandbox)
    await fill(mine)
    (tmp_path / "shop.sql").write_text(SEED + "SELECT pg_sleep(20);")
    task = {
        "settings": {
            "database_url": closed.database_url,
            "redis_url": closed.redis_url,
            "nats_url": closed.nats_url,
            "sandbox_isolation": "enforced",
            "sandbox_templates_dir": str(tmp_path),
            **closed.tenant_settings,
        },
        "do": "reset",
        "die_at": "never",
        "times": 1,
    }
    process = await start_forked(
        module="tests.isolation.mortal",
        directory=ROOT,
        environment=os.environ,
        given=json.dumps(task).encode(),
    )

    async def sleeps() -> bool:
        query = "SELECT true FROM pg_stat_activity WHERE usename = $1 AND query LIKE '%pg_sleep(20)%'"
        return bool(await admin.fetchval(query, mine.schema))

    await eventually(sleeps)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert await admin.fetchval("SELECT to_regnamespace($1)", f"{mine.schema}_old") is not None
    (tmp_path / "shop.sql").write_text(SEED)
    if then == "destroyed":
        await shop.manager.destroy(ALICE, "mine")
        names = await admin.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'sandbox\\_%'")
        assert [row["nspname"] for row in names] == []
        return

    async def finished() -> bool:
        return bool(await shop.cleanup.finish_resets())

    await eventually(finished)
    assert (await stored(shop, admin, mine))[0] == ["seed"]
    assert (await stored(shop, admin, mine))[2] == 0
    assert await admin.fetchval("SELECT to_regnamespace($1)", f"{mine.schema}_old") is None


async def test_dead_letters_go(bot: Core) -> None:
    mine = await hold(bot, "mine")
    tenant: TenantNats | None = bot.tenants.nats
    assert tenant is not None
    slot = int((await _nats(bot))["slot"])
    js = tenant.streams.jetstream(slot)
    await tenant.streams.publish(slot, f"sandbox.{mine.sandbox.id}.events.X", b"{}", {"Nats-Msg-Id": "1"})
    assert (await js.stream_info(SLOT_STREAM)).state.messages == 1
    await bot.manager.reset(ALICE, "mine")
    assert (await js.stream_info(SLOT_STREAM)).state.messages == 0
    assert (await js.stream_info(SLOT_DEAD_LETTERS)).state.messages == 0
    assert int((await _nats(bot))["slot"]) == slot


async def _nats(bot: Core) -> dict[str, int | float | str]:
    parts = (await bot.manager.health("mine")).parts
    return dict(next(part.facts for part in parts if part.store == "NATS"))
