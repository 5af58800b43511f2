"""The process dies with SIGKILL at a step: another one refuses, makes or removes what it left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import asyncpg
import pytest
from redis import exceptions as rd

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.models import Sandbox
from sandbox_core.postgres import connected
from tests.conftest import ROOT
from tests.forked import start_forked

from .conftest import ALICE, Held, held, hold
from .gateway import Worker, is_refused
from .test_life import Sessions, both_refused, both_work, expire, left_of

PROVISIONED = ["taken", "stream", "login"]
"""Steps on NATS alone, as a sandbox is made."""
DROPPED = ["revoked", "removed", "freed"]
"""The same, as it goes."""
UNFINISHED = [
    "create:inserted",
    "create:PostgreSQL",
    "create:Redis",
    *PROVISIONED,
    "create:NATS",
]
FINISHED = ["create:running", "create:routes"]
ENDING = [
    "destroy:destroying",
    "destroy:routes",
    *DROPPED,
    "destroy:NATS",
    "destroy:Redis",
    "destroy:PostgreSQL",
    "destroy:destroyed",
]


async def die(
    servers: EmbeddedServers, what: str, point: str, times: int = 1, *, program: str = "mortal"
) -> None:
    """Do it in a process that dies there, when it comes there for so many times."""
    settings = {
        "database_url": servers.database_url,
        "redis_url": servers.redis_url,
        "nats_url": servers.nats_url,
        "sandbox_isolation": "enforced",
        **servers.tenant_settings,
    }
    task = {"settings": settings, "do": what, "die_at": point, "times": times}
    process = await start_forked(
        module=f"tests.isolation.{program}",
        directory=ROOT,
        environment=os.environ,
        given=json.dumps(task).encode(),
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL, out.decode()


class Lived:
    """A worker with connections to all three servers, busy and idle, before the process dies."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._sessions = Sessions(held)
        self._worker = Worker()

    async def begin(self) -> None:
        await self._sessions.open()
        await self._worker.connect(self._held.variables["NATS_URL"])

    async def ends(self) -> None:
        """Every connection is cut."""
        await self._sessions.all_cut()
        async with asyncio.timeout(20):
            await self._worker.ended.wait()
        await self._worker.close()


async def all_work(held: Held) -> None:
    await both_work(held)
    assert not await is_refused(held.variables["NATS_URL"])


async def all_refused(held: Held) -> None:
    await both_refused(held)
    assert await is_refused(held.variables["NATS_URL"])


async def nothing_left(bot: Core, sandbox: Sandbox, admin: asyncpg.Connection) -> None:
    """No role, user, slot, schema, key or stream of the sandbox, and no orphan of anything."""
    assert await left_of(bot, sandbox, admin) == []
    nats_sides: Any = bot.namespaces[2]
    streams = [
        whose for slot in (await nats_sides._new._servers.streams()).values() for whose in slot.values()
    ]
    assert str(sandbox.id) not in streams
    redis_sides: Any = bot.namespaces[1]
    assert [key async for key in redis_sides._new._redis.scan_iter(f"sandbox:{sandbox.id}:*")] == []
    async with connected(bot.pool) as connection:
        taken = "SELECT count(*) FROM nats_slots WHERE sandbox_id = $1"
        assert await connection.fetchval(taken, sandbox.id) == 0
    found = await bot.cleanup.find_orphaned_resources()
    assert (found.orphans, found.degraded) == ((), ())


async def ended(bot: Core) -> None:
    """A pass of the cleanup, repeated until PostgreSQL has noticed the death, leaves no sandbox."""
    async with asyncio.timeout(20):
        while await bot.manager.list():
            await bot.cleanup.cleanup_expired()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("point", UNFINISHED)
async def test_while_it_creates(
    bot: Core, closed: EmbeddedServers, admin: asyncpg.Connection, point: str
) -> None:
    await die(closed, "create", point)
    (sandbox,) = await bot.manager.list()
    cut_off, lived = held(bot, sandbox), None
    if point in {"login", "create:NATS"}:
        # Nobody was shown these logins, and they are there.
        lived = Lived(cut_off)
        await lived.begin()
    # Whatever is made anew meanwhile, it is not for a sandbox that never began.
    await bot.cleanup.keep_credentials()
    await ended(bot)
    if lived is not None:
        await lived.ends()
    await all_refused(cut_off)
    await nothing_left(bot, sandbox, admin)


@pytest.mark.parametrize("point", FINISHED)
async def test_right_after_it_has_created(bot: Core, closed: EmbeddedServers, point: str) -> None:
    await die(closed, "create", point)
    await bot.cleanup.cleanup_expired()
    assert await bot.cleanup.keep_credentials() == []
    await all_work(held(bot, await bot.manager.get("mine")))


@pytest.mark.parametrize(("point", "time"), [("rotate:counted", 1), *(("rotate:made", n) for n in (1, 2, 3))])
async def test_while_it_rotates(bot: Core, closed: EmbeddedServers, point: str, time: int) -> None:
    mine = await hold(bot, "mine")
    lived = Lived(mine)
    await lived.begin()
    await die(closed, "rotate", point, time)
    rotated = held(bot, await bot.manager.get("mine"))
    assert rotated.sandbox.generation == 2
    await bot.cleanup.keep_credentials()
    await lived.ends()
    await all_refused(mine)
    await all_work(rotated)
    assert await bot.cleanup.keep_credentials() == []


@pytest.mark.parametrize("time", [1, 2, 3])
async def test_while_another_finishes_a_rotation(bot: Core, closed: EmbeddedServers, time: int) -> None:
    """The first died as it had counted, the second as it made the logins of a store."""
    mine = await hold(bot, "mine")
    lived = Lived(mine)
    await lived.begin()
    await die(closed, "rotate", "rotate:counted")
    await die(closed, "keep", "rotate:made", time)
    await bot.cleanup.keep_credentials()
    await lived.ends()
    await all_refused(mine)
    await all_work(held(bot, await bot.manager.get("mine")))


@pytest.mark.parametrize("what", ["destroy", "expire"])
@pytest.mark.parametrize("point", ["destroy:expired", *ENDING])
async def test_while_it_ends(
    bot: Core, closed: EmbeddedServers, admin: asyncpg.Connection, what: str, point: str
) -> None:
    if (what, point) == ("destroy", "destroy:expired"):
        pytest.skip("only an expiry has this step")
    mine = await hold(bot, "mine")
    async with mine.redis() as redis:
        await redis.set(f"{mine.prefix}left", "x")
    lived = Lived(mine)
    await lived.begin()
    if what == "expire":
        await expire(bot, mine.sandbox.id)
    await die(closed, what, point)
    # Whatever the reconciler does, it makes no login of a sandbox that ends; those that are there go with it.
    await bot.cleanup.keep_credentials()
    await lived.ends()
    await all_refused(mine)
    await ended(bot)
    await nothing_left(bot, mine.sandbox, admin)


@pytest.mark.parametrize("point", DROPPED)
async def test_while_it_removes_an_orphan(
    bot: Core, closed: EmbeddedServers, admin: asyncpg.Connection, point: str
) -> None:
    """What has no sandbox any more is found again by the next one that looks."""
    gone = (await hold(bot, "gone")).sandbox
    await bot.manager.destroy(ALICE, "gone")
    for namespace in bot.namespaces:
        await namespace.provision(gone)
    await die(closed, "orphans", point)
    await bot.cleanup.cleanup_orphaned_resources()
    await nothing_left(bot, gone, admin)
    await all_refused(held(bot, gone))


async def test_what_running_sandboxes_lack_is_found_on_each_server(
    bot: Core, admin: asyncpg.Connection
) -> None:
    """The other direction: the sandbox is there, and its role, its user or its account is not."""
    mine = await hold(bot, "mine")
    for store, credentials in [(each.store, each.credentials) for each in bot.namespaces]:
        assert credentials is not None
        await credentials.revoke(mine.sandbox)
        assert await bot.cleanup.keep_credentials() == [(store, mine.sandbox.id)]
        await all_work(mine)
    assert await bot.cleanup.keep_credentials() == []


async def test_a_server_that_is_away_does_not_keep_the_others_from_refusing(
    core: Core, closed: EmbeddedServers, mine: Held
) -> None:
    await closed.tenant_valkey.kill()
    with pytest.raises(Exception, match="SANDBOX_006"):
        await core.manager.destroy(ALICE, "mine")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await mine.postgres()
    await closed.tenant_valkey.start()
    await core.cleanup.keep_credentials()
    async with mine.redis() as redis:
        with pytest.raises(rd.AuthenticationError):
            await redis.ping()
    await core.manager.destroy(ALICE, "mine")


async def test_everything_goes_at_once(core: Core, admin: asyncpg.Connection) -> None:
    """Rotations, extensions, mending and the end of one sandbox: nothing is left, whoever comes last."""
    for number in range(5):
        made = await hold(core, f"race-{number}")
        manager, name = core.manager, made.sandbox.name
        results = await asyncio.gather(
            manager.rotate(ALICE, name),
            manager.extend(ALICE, name, "1h"),
            core.cleanup.keep_credentials(),
            manager.destroy(ALICE, name),
            core.cleanup.keep_credentials(),
            return_exceptions=True,
        )
        assert not isinstance(results[3], BaseException), results[3]
        await core.cleanup.keep_credentials()
        assert await left_of(core, made.sandbox, admin) == []
