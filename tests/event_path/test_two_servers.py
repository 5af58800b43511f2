"""The sandboxes' stream has a NATS server of its own, which is away, hangs or is full: production goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from pydantic import SecretStr
from structlog.testing import capture_logs

from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.stored import StoredEvents
from sandbox_core.routing import RouteTable
from tests.doctor.servers import ConfiguredNats, nats_server
from tests.streams import EVERY_SANDBOX, messages_of, reads_of

from .conftest import GUILD_A, GUILD_B, until
from .test_sandbox_refusals import World

_FEW = 30


@pytest.fixture
async def tenant(tmp_path: Path) -> AsyncIterator[ConfiguredNats]:
    async with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
async def sandbox_connection(tenant: ConfiguredNats) -> AsyncIterator[NatsConnection]:
    connection = NatsConnection()
    await connection.connect(SecretStr(tenant.url), name="test", within=5)
    yield connection
    await connection.close()


@pytest.fixture
async def world(
    connection: NatsConnection, sandbox_connection: NatsConnection, reader: Client
) -> AsyncIterator[World]:
    world = World(connection, reader, sandbox_connection)
    await world.publishers.start()
    await until(lambda: world.publishers.production.takes and world.publishers.sandboxes.takes)
    yield world
    await world.publishers.close()
    await world.router.close()


async def _in_sandbox(tenant: ConfiguredNats) -> list[str]:
    client = await nats.connect(tenant.url)
    try:
        js = client.jetstream()
        found = await messages_of(js, EVERY_SANDBOX)
    finally:
        await client.close()
    return [str((message.headers or {})["Nats-Msg-Id"]) for message in found]


async def test_each_stream_is_on_its_own_server(world: World, tenant: ConfiguredNats) -> None:
    await world.flood(20)
    await until(lambda: world.router.pending == 0)
    await world.production_is_done()
    assert await _in_sandbox(tenant) == world.sent[GUILD_A]
    assert [info.config.name for info in await world.js.streams_info()] == ["EVENTS"]


async def test_a_sandbox_s_server_that_restarts_costs_production_nothing(
    world: World, tenant: ConfiguredNats
) -> None:
    await tenant.kill()
    await until(lambda: not world.publishers.sandboxes.sending)
    await world.flood(_FEW)
    await world.production_is_done()
    assert world.publishers.production_lacks() == ""
    assert world.publishers.sandboxes_trouble
    # However long it is away: nothing of production waits for these, and there is room for them.
    world.publishers.sandboxes.sweep.give_up()
    world.ahead += 120.0
    world.publishers.sandboxes.sweep.give_up()
    assert world.router.pending == _FEW
    await tenant.start()
    await until(lambda: world.router.pending == 0)
    assert world.dropped == 0
    assert await _in_sandbox(tenant) == world.sent[GUILD_A]


async def test_a_hung_server_of_sandboxes_costs_production_nothing(
    world: World, tenant: ConfiguredNats
) -> None:
    os.kill(tenant.pid, signal.SIGSTOP)
    try:
        await world.flood(300)
        await world.production_is_done()
        assert world.publishers.production.takes
        assert world.metrics.sandbox_dropped["budget"] > 0
    finally:
        os.kill(tenant.pid, signal.SIGCONT)
    await until(lambda: world.router.pending == 0)
    stored = await _in_sandbox(tenant)
    assert stored == [one for one in world.sent[GUILD_A] if one in set(stored)], "a gap, never a reordering"
    assert len(stored) + world.dropped == len(world.sent[GUILD_A])


async def test_what_production_waits_for_is_given_up_while_the_server_is_away(
    world: World, tenant: ConfiguredNats
) -> None:
    await tenant.kill()
    await until(lambda: not world.publishers.sandboxes.sending)
    world.send(GUILD_A)
    # The guild's events go to production from now on; one of a sandbox is in front of them.
    world.routes.trusted.table = RouteTable()
    world.send(GUILD_A)
    world.publishers.sandboxes.sweep.give_up()
    world.ahead += 3.5
    world.publishers.sandboxes.sweep.give_up()
    await until(lambda: world.router.pending == 0)
    assert world.dropped == 1
    assert await world.stored_in("EVENTS", GUILD_A) == world.sent[GUILD_A][1:]


async def test_a_publisher_begins_once_its_server_is_there(
    connection: NatsConnection, reader: Client, tenant: ConfiguredNats
) -> None:
    await tenant.kill()
    late = NatsConnection()
    with pytest.raises(Exception, match="NATS"):
        await late.connect(SecretStr(tenant.url), name="test", within=0.2)
    world = World(connection, reader, late)
    await world.publishers.start()
    await until(lambda: world.publishers.production.takes)
    await world.flood(_FEW)
    await world.production_is_done()
    assert world.router.pending == _FEW
    await tenant.start()
    await until(lambda: world.router.pending == 0)
    assert (world.dropped, await _in_sandbox(tenant)) == (0, world.sent[GUILD_A])
    await world.publishers.close()
    await world.router.close()
    await late.close()


@pytest.mark.parametrize("how", ["away", "hung"])
async def test_a_session_is_taken_over_without_the_sandboxes_server(
    world: World,
    tenant: ConfiguredNats,
    connection: NatsConnection,
    sandbox_connection: NatsConnection,
    how: str,
) -> None:
    world.send(GUILD_A)
    world.send(GUILD_B)
    await until(lambda: world.router.pending == 0)

    stored = StoredEvents(reads_of(connection, sandbox_connection), within=30)
    assert await stored.sequences("session", 0, after=0, since=0) == {1, 2}
    if how == "away":
        await tenant.kill()
        await until(lambda: not sandbox_connection.connected)
    else:
        os.kill(tenant.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            assert await stored.sequences("session", 0, after=0, since=0) == {2}
    finally:
        if how == "hung":
            os.kill(tenant.pid, signal.SIGCONT)


async def test_a_full_server_of_sandboxes_costs_production_nothing(
    connection: NatsConnection, reader: Client, tmp_path: Path
) -> None:
    store = {"store_dir": str(tmp_path / "full"), "max_memory_store": 20_000}
    async with nats_server(tmp_path, jetstream=store) as tenant:
        sandboxes = NatsConnection()
        await sandboxes.connect(SecretStr(tenant.url), name="test", within=5)
        world = World(connection, reader, sandboxes)
        await world.publishers.start()
        await until(lambda: world.publishers.production.takes and world.publishers.sandboxes.takes)
        with capture_logs() as logs:
            await world.flood(300)
            await world.production_is_done()
        assert world.publishers.production.takes
        told = [line["reason"] for line in logs if line["event"] == "sandbox_stream_unusable"]
        assert told == []
        trouble = "the stream SANDBOX_3f2a9c01 can't be made: JetStream has no room left"
        assert trouble in world.publishers.sandboxes_trouble
        assert str(tenant.port) in world.publishers.sandboxes_trouble
        await until(lambda: world.dropped > 0)
        assert world.publishers.production_lacks() == ""
        await world.publishers.close()
        await world.router.close()
        await sandboxes.close()
