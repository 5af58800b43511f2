"""Three of the sandboxes' nats-servers: a worker is cut off wherever it is connected."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nats.errors
import pytest

from sandbox_bot.embedded import TenantNatsServer
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.tenant.configuration import ServerPlace
from sandbox_core.postgres.pool import Pool
from tests.chaos.cluster import _free_ports

from .conftest import KEY, LIMITS, Bot, Worker, bot_process, eventually, refused, worker

CLUSTER = replace(LIMITS, replicas=3)


class Node(TenantNatsServer):
    """One node of the cluster."""

    def __init__(self, directory: Path, number: int, ports: list[int], key: str = KEY) -> None:
        super().__init__(directory / f"{number}", directory / f"{number}.log", key, limits=CLUSTER)
        self._cluster_port, self._ports = ports[number], ports

    def _place(self) -> ServerPlace:
        return replace(
            super()._place(),
            cluster="tenants",
            cluster_port=self._cluster_port,
            routes=[f"127.0.0.1:{port}" for port in self._ports],
        )


@dataclass
class Cluster:
    nodes: list[Node]
    bot: Bot


@pytest.fixture(scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Node]]:
    ports = _free_ports(3)
    directory = tmp_path_factory.mktemp("tenant-cluster")
    made = [Node(directory, number, ports) for number in range(3)]
    for node in made:
        await node.start()
    yield made
    await asyncio.gather(*(node.kill() for node in made))


@pytest.fixture
async def cluster(nodes: list[Node], pool: Pool) -> AsyncIterator[Cluster]:
    everywhere = ",".join(node.url for node in nodes)
    async with bot_process(pool, nodes[0].url, limits=CLUSTER, workers=everywhere) as bot:

        async def formed() -> bool:
            try:
                answers = [each async for each in bot.servers._answers("CONNZ", {})]
                await bot.streams.account(0)
            except (DependencyUnavailable, nats.errors.Error):
                return False
            return len(answers) == 3

        await eventually(formed, within=60)
        yield Cluster(nodes, bot)
        for sandbox in bot.provisioned:
            await bot.namespace.drop(sandbox)


@asynccontextmanager
async def everywhere(cluster: Cluster, sandbox: Any) -> AsyncIterator[list[Worker]]:
    """A worker on each node."""
    url = cluster.bot.url(sandbox)
    login = url.split("://")[1].split("@")[0]
    addresses = [node.url.replace("://", f"://{login}@") for node in cluster.nodes]
    async with worker(addresses[0]) as one, worker(addresses[1]) as two, worker(addresses[2]) as three:
        yield [one, two, three]


async def test_a_worker_gets_events_on_every_node_and_is_cut_off_on_all(cluster: Cluster) -> None:
    bot = cluster.bot
    sandbox = await bot.sandbox()
    assert (await bot.send(sandbox, "hello", "s:0:1")).seq == 1
    assert (await bot.send(sandbox, "hello", "s:0:1")).duplicate is True
    async with everywhere(cluster, sandbox) as workers:
        for each in workers:
            message = await each.client.jetstream(timeout=10).get_msg("SANDBOX", seq=1)
            assert message.data == b"hello"
        assert (await bot.namespace.check(sandbox)).facts["connections"] == 3
        await bot.logins.revoke(sandbox)
        async with asyncio.timeout(10):
            await asyncio.gather(*(each.disconnected.wait() for each in workers))
    assert await refused(bot.url(sandbox))
    await bot.namespace.drop(sandbox)
    assert await bot.namespace.list_ids() == set()


async def test_with_a_server_that_hangs_the_slot_is_not_given_back(cluster: Cluster) -> None:
    """Its connections may live on, so the removal is tried again later."""
    bot, hung = cluster.bot, cluster.nodes[2]
    sandbox = await bot.sandbox()
    async with everywhere(cluster, sandbox) as workers:
        os.kill(hung.pid, signal.SIGSTOP)
        try:
            with pytest.raises(DependencyUnavailable, match="2 of 3 servers"):
                await bot.namespace.drop(sandbox)
            assert await bot.namespace.slot_of(sandbox.id) is not None
            assert await bot.logins_cleared(sandbox)
            async with asyncio.timeout(1):
                await asyncio.gather(*(each.disconnected.wait() for each in workers[:2]))
        finally:
            os.kill(hung.pid, signal.SIGCONT)

        async def dropped() -> bool:
            try:
                await bot.namespace.drop(sandbox)
            except DependencyUnavailable:
                return False
            return True

        await eventually(dropped, within=30)
        async with asyncio.timeout(10):
            await asyncio.gather(*(each.disconnected.wait() for each in workers))
    assert await bot.namespace.list_ids() == set()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_server_that_has_ended_is_not_waited_for(cluster: Cluster, how: str) -> None:
    bot, ended = cluster.bot, cluster.nodes[1]
    sandbox = await bot.sandbox()
    await getattr(ended, how)()
    try:

        async def dropped() -> bool:
            try:
                await bot.namespace.drop(sandbox)
            except DependencyUnavailable as error:
                print(time.monotonic(), error)
                return False
            return True

        await eventually(dropped, within=30)
        assert await bot.namespace.slot_of(sandbox.id) is None
    finally:
        await ended.start()


async def test_a_server_without_the_key_does_not_join(cluster: Cluster, tmp_path: Path) -> None:
    """It would see every account."""
    own = _free_ports(1)
    others = [node._cluster_port for node in cluster.nodes]
    rogue = Node(tmp_path, 0, [*own, *others], key="r" * 32)
    await rogue.start()
    try:

        async def is_refused() -> bool:
            return "Authorization Violation" in rogue._log.read_text()

        await eventually(is_refused)
        answers = [each async for each in cluster.bot.servers._answers("CONNZ", {})]
        assert {each["server"]["name"] for each in answers} == {node._server_name for node in cluster.nodes}
    finally:
        await rogue.kill()
