"""The process dies with SIGKILL at a step: another one finds and removes what it left."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

from sandbox_bot.embedded import TenantNatsServer
from sandbox_core.models import Sandbox
from tests.conftest import ROOT
from tests.forked import start_forked

from .conftest import Bot, refused, sandbox_of, worker


async def die(what: str, sandbox: Sandbox, server: TenantNatsServer, database_url: str, step: str) -> None:
    """Do it in a process that dies there."""
    task = {
        "do": what,
        "id": str(sandbox.id),
        "expires_at": sandbox.expires_at.isoformat(),
        "url": server.url,
        "database_url": database_url,
        "die_at": step,
    }
    process = await start_forked(
        module="tests.tenant_nats.mortal",
        directory=ROOT,
        environment=os.environ,
        given=json.dumps(task).encode(),
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL, out.decode()


async def nothing_is_left(bot: Bot, sandbox: Sandbox) -> None:
    assert await refused(bot.url(sandbox))
    assert await bot.namespace.list_ids() == set()
    assert await bot.servers.connections() == []
    assert not any((await bot.servers.streams()).values())


@pytest.mark.parametrize("step", ["taken", "stream", "login"])
async def test_while_it_provisions(bot: Bot, server: TenantNatsServer, database_url: str, step: str) -> None:
    sandbox = sandbox_of()
    await die("provision", sandbox, server, database_url, step)
    assert await bot.namespace.list_ids() == {str(sandbox.id)}
    assert await refused(bot.url(sandbox)) is (step != "login")

    async def is_orphan() -> bool:
        return True

    assert await bot.namespace.drop_orphan(str(sandbox.id), is_orphan)
    await nothing_is_left(bot, sandbox)


@pytest.mark.parametrize("step", ["taken", "stream", "login"])
async def test_provisioning_again_goes_on(
    bot: Bot, server: TenantNatsServer, database_url: str, step: str
) -> None:
    sandbox = sandbox_of()
    await die("provision", sandbox, server, database_url, step)
    bot.provisioned.append(sandbox)
    await bot.namespace.provision(sandbox)
    assert not await refused(bot.url(sandbox))
    assert (await bot.send(sandbox, "x")).seq == 1


@pytest.mark.parametrize("step", ["revoked", "removed", "freed"])
async def test_while_it_drops(
    bot: Bot, sandbox: Sandbox, server: TenantNatsServer, database_url: str, step: str
) -> None:
    async with worker(bot.url(sandbox)) as client:
        await die("drop", sandbox, server, database_url, step)
        async with asyncio.timeout(10):
            await client.disconnected.wait()
    assert await refused(bot.url(sandbox))
    assert await bot.namespace.list_ids() == (set() if step == "freed" else {str(sandbox.id)})
    await bot.namespace.drop(sandbox)
    await nothing_is_left(bot, sandbox)
