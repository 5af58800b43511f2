"""The process dies with SIGKILL at a step: another one refuses, makes or removes what it left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import asyncpg
import pytest
from redis import exceptions as rd

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.errors import SandboxNotFound
from tests.conftest import ROOT

from .conftest import ALICE, Held, held, hold
from .test_life import both_refused, both_work, left_of


async def die(
    servers: EmbeddedServers, what: str, point: str, *, program: str = "mortal", times: int = 1
) -> None:
    """Do it in a process that dies there, when it comes there for so many times."""
    settings = {
        "database_url": servers.database_url,
        "redis_url": servers.redis_url,
        "nats_url": servers.nats_url,
        "sandbox_isolation": "enforced",
        **servers.tenant_settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"tests.isolation.{program}",
        cwd=ROOT,
        env=dict(os.environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    task = {"settings": settings, "do": what, "die_at": point, "times": times}
    async with asyncio.timeout(60):
        out, _ = await process.communicate(json.dumps(task).encode())
    assert process.returncode == -signal.SIGKILL, out.decode()


@pytest.mark.parametrize("point", ["create:inserted", "create:PostgreSQL", "create:Redis", "create:NATS"])
async def test_while_it_creates(
    core: Core, closed: EmbeddedServers, admin: asyncpg.Connection, point: str
) -> None:
    await die(closed, "create", point)
    sandbox = (await core.manager.list())[0]
    async with asyncio.timeout(20):
        # Until PostgreSQL has noticed the death.
        while not (await core.cleanup.cleanup_expired()).destroyed:
            await asyncio.sleep(0.02)
    with pytest.raises(SandboxNotFound):
        await core.manager.get("mine")
    assert await left_of(core, sandbox, admin) == []
    await both_refused(held(core, sandbox))


@pytest.mark.parametrize("point", ["rotate:counted", "rotate:made"])
async def test_while_it_rotates(core: Core, closed: EmbeddedServers, mine: Held, point: str) -> None:
    connection = await mine.postgres()
    await die(closed, "rotate", point)
    rotated = held(core, await core.manager.get("mine"))
    assert rotated.sandbox.generation == 2
    await core.cleanup.keep_credentials()
    await both_refused(mine)
    await both_work(rotated)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await connection.fetchval("SELECT 1")
    connection.terminate()
    assert await core.cleanup.keep_credentials() == []


@pytest.mark.parametrize(
    "point",
    ["destroy:destroying", "destroy:routes", "destroy:NATS", "destroy:Redis", "destroy:PostgreSQL"],
)
async def test_while_it_destroys(
    core: Core, closed: EmbeddedServers, mine: Held, admin: asyncpg.Connection, point: str
) -> None:
    await die(closed, "destroy", point)
    # Whatever the reconciler does, it makes no login of a sandbox that ends.
    await core.cleanup.keep_credentials()
    async with asyncio.timeout(20):
        while not (await core.cleanup.cleanup_expired()).destroyed:
            await asyncio.sleep(0.02)
    await both_refused(mine)
    assert await left_of(core, mine.sandbox, admin) == []


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
