"""Guild-less events of a guild: found across processes, asked of Discord, or put on neither side.

Each core has its own connections: to the servers they are as many processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from nats.aio.client import Client
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.events import DIRECT
from sandbox_core.redis.client import create_client
from sandbox_core.subjects import channel_guild_key, interaction_guild_key

from .conftest import GUILD_A, GUILD_B, dispatch, read_back, until
from .test_confirmation import ACCESS, ALICE, Fleet, Gateway

CHANNEL, ELSEWHERE = "813625648685547541", "913625648685547541"
INTERACTION = "713625648685547541"
EPHEMERAL = {"flags": 64, "channel_type": 0, "interaction_metadata": {"id": INTERACTION}}
SANDBOXED, PRODUCTION, UNATTRIBUTED = "sandbox", "events", "events.unattributed"


class Directory:
    """Discord's side of the question: what it would answer, and what it was asked."""

    def __init__(self, **owners: str) -> None:
        self.owners = owners
        self.away = False
        self.silent = False
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def guild(self, channel_id: str) -> str | None:
        self.asked.append(channel_id)
        if self.silent:
            await asyncio.Event().wait()
        await self.gate.wait()
        if self.away:
            raise DependencyUnavailable("Discord", "away")
        return self.owners.get(channel_id)


@pytest.fixture
async def fleet(database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(database_url, redis_url, nats_url, stack)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = create_client(redis_url)
    yield client
    await client.aclose()


async def mapped(gateway: Gateway) -> None:
    await gateway.core.manager.create(ALICE, name="mine", guilds=[ACCESS])


async def process(fleet: Fleet, directory: Directory | None = None) -> Gateway:
    gateway = await fleet.gateway()
    gateway.core.channels.directory = directory
    return gateway


def take(gateway: Gateway, event_type: str, **data: Any) -> None:
    gateway.sent += 1
    frame = gateway.core.intake.read(dispatch(gateway.sent, event_type, **data))
    assert frame is not None
    gateway.core.intake.take(frame, 0)


async def where(reader: Client) -> list[tuple[str, str]]:
    """Message id and side of everything stored, each stream in its order."""
    found = []
    for stream in ("EVENTS", "SANDBOX"):
        for message in await read_back(reader, stream):
            parts = message.subject.split(".")
            side = SANDBOXED if parts[0] == "sandbox" else ".".join(parts[:-1])
            found.append((message.headers["Nats-Msg-Id"], side))
    return found


def attributions(gateway: Gateway, tier: str, result: str) -> int:
    return gateway.core.metrics.routing.attributions[tier, result]


async def noted(redis: Redis, key: str) -> None:
    async with asyncio.timeout(60):
        while await redis.get(key) is None:
            await asyncio.sleep(0.01)


async def test_an_interaction_of_another_process_tells_whose_its_message_is(
    fleet: Fleet, reader: Client, redis: Redis
) -> None:
    shard_0, shard_1 = await process(fleet), await process(fleet)
    await mapped(shard_0)
    take(shard_1, "INTERACTION_CREATE", id=INTERACTION, type=2, guild_id=GUILD_A)
    # It need not be in Redis yet: the question is repeated.
    take(shard_0, "MESSAGE_CREATE", id="1", channel_id=CHANNEL, **EPHEMERAL)
    take(shard_0, "MESSAGE_UPDATE", id="1", channel_id=CHANNEL, **EPHEMERAL)
    take(shard_0, "MESSAGE_DELETE", id="1", channel_id=CHANNEL)
    assert shard_0.core.intake.lag == 3
    assert shard_0.core.router.held == 3
    await shard_0.idle()
    await shard_1.idle()
    expected = [("session1:0:1", SANDBOXED), *((f"session0:0:{n}", SANDBOXED) for n in (1, 2, 3))]
    stored = await where(reader)
    assert sorted(stored) == sorted(expected)
    assert [key for key, _ in stored if key.startswith("session0")] == [key for key, _ in expected[1:]]
    assert 0 < await redis.ttl(interaction_guild_key(INTERACTION)) <= 900


async def test_a_process_that_takes_over_and_knows_no_channels_asks_what_was_noted(
    fleet: Fleet, reader: Client, redis: Redis
) -> None:
    first = await process(fleet)
    take(first, "GUILD_CREATE", id=GUILD_A, channels=[{"id": CHANNEL}])
    take(first, "GUILD_CREATE", id=GUILD_B, channels=[{"id": ELSEWHERE}])
    # Its guild is mapped afterwards: its channels are noted then, and those of others never.
    await mapped(first)
    await noted(redis, channel_guild_key(CHANNEL))
    assert await redis.get(channel_guild_key(CHANNEL)) == GUILD_A
    assert await redis.exists(channel_guild_key(ELSEWHERE)) == 0
    successor = await process(fleet)
    take(successor, "MESSAGE_DELETE", id="1", channel_id=CHANNEL)
    await successor.idle()
    await first.idle()
    assert ("session1:0:1", SANDBOXED) in await where(reader)
    # What it was told once it knows.
    take(successor, "MESSAGE_DELETE", id="2", channel_id=CHANNEL)
    assert successor.core.router.held == 0
    assert attributions(successor, "redis", "hit") == 1
    await successor.idle()


async def test_discord_is_asked_about_what_nobody_noted_and_the_answer_is_noted(
    fleet: Fleet, reader: Client, redis: Redis
) -> None:
    directory = Directory(**{CHANNEL: GUILD_A})
    asking = await process(fleet, directory)
    await mapped(asking)
    for number in range(1, 4):
        take(asking, "MESSAGE_DELETE", id=str(number), channel_id=CHANNEL)
    await asking.idle()
    assert directory.asked == [CHANNEL]
    assert await where(reader) == [(f"session0:0:{n}", SANDBOXED) for n in (1, 2, 3)]
    await noted(redis, channel_guild_key(CHANNEL))


async def test_what_nobody_knows_is_put_on_neither_side_and_counted(fleet: Fleet, reader: Client) -> None:
    directory = Directory()
    asking = await process(fleet, directory)
    take(asking, "MESSAGE_DELETE", id="1", channel_id=CHANNEL)
    await asking.idle()
    take(asking, "MESSAGE_CREATE", id="2", channel_id=CHANNEL, flags=64)
    await asking.idle()
    # No id can form an address or a key.
    take(asking, "MESSAGE_DELETE", id="3", channel_id="../users/@me")
    await asking.idle()
    assert await where(reader) == [(f"session0:0:{n}", UNATTRIBUTED) for n in (1, 2, 3)]
    assert asking.core.metrics.routing.routed["unattributed"] == 3
    assert attributions(asking, "none", "unknown") == 3
    assert directory.asked == [CHANNEL], "a channel that can't be seen is not asked about again at once"


async def test_direct_messages_and_events_of_guilds_wait_for_no_answer(fleet: Fleet, reader: Client) -> None:
    directory = Directory()
    directory.gate.clear()
    gateway = await process(fleet, directory)
    take(gateway, "MESSAGE_DELETE", id="1", channel_id=CHANNEL)
    await until(lambda: directory.asked)
    take(gateway, "MESSAGE_CREATE", id="2", channel_id=ELSEWHERE, flags=0)
    take(gateway, "MESSAGE_DELETE", id="2", channel_id=ELSEWHERE)
    take(gateway, "MESSAGE_CREATE", id="3", channel_id="1", flags=64, channel_type=1)
    gateway.send(GUILD_A)
    await until(lambda: gateway.core.router.pending == 1)
    assert sorted(await where(reader)) == [(f"session0:0:{n}", PRODUCTION) for n in (2, 3, 4, 5)]
    ledger = gateway.core.intake.ledger(0)
    assert ledger is not None
    assert ledger.acknowledged == 0, "a crash now has the first one replayed"
    directory.gate.set()
    await gateway.idle()
    assert ledger.acknowledged == 5
    assert directory.asked == [CHANNEL]


async def test_a_direct_message_tells_of_what_waits_in_its_channel(fleet: Fleet, reader: Client) -> None:
    directory = Directory()
    directory.gate.clear()
    gateway = await process(fleet, directory)
    take(gateway, "TYPING_START", channel_id=CHANNEL)
    take(gateway, "MESSAGE_DELETE", id="1", channel_id=CHANNEL)
    await until(lambda: directory.asked)
    assert gateway.core.router.held == 2
    take(gateway, "MESSAGE_CREATE", id="2", channel_id=CHANNEL, channel_type=1)
    assert gateway.core.router.held == 0
    await gateway.idle()
    assert await where(reader) == [(f"session0:0:{n}", PRODUCTION) for n in (1, 2, 3)]


async def test_a_channel_of_direct_messages_is_asked_about_once_by_all(
    fleet: Fleet, reader: Client, redis: Redis
) -> None:
    first, directory = await process(fleet, Directory(**{CHANNEL: DIRECT})), Directory()
    take(first, "MESSAGE_DELETE", id="1", channel_id=CHANNEL)
    await first.idle()
    await noted(redis, channel_guild_key(CHANNEL))
    second = await process(fleet, directory)
    take(second, "MESSAGE_DELETE", id="2", channel_id=CHANNEL)
    await second.idle()
    assert directory.asked == []
    assert await where(reader) == [("session0:0:1", PRODUCTION), ("session1:0:1", PRODUCTION)]


async def test_another_message_of_the_channel_can_tell_what_the_first_could_not(
    fleet: Fleet, reader: Client, redis: Redis
) -> None:
    directory = Directory()
    directory.gate.clear()
    gateway = await process(fleet, directory)
    await mapped(gateway)
    await redis.set(interaction_guild_key(INTERACTION), GUILD_A)
    take(gateway, "MESSAGE_DELETE", id="1", channel_id=CHANNEL)
    take(gateway, "MESSAGE_CREATE", id="2", channel_id=CHANNEL, **EPHEMERAL)
    take(gateway, "MESSAGE_DELETE", id="2", channel_id=CHANNEL)
    directory.gate.set()
    await gateway.idle()
    assert await where(reader) == [
        ("session0:0:1", UNATTRIBUTED),
        ("session0:0:2", SANDBOXED),
        ("session0:0:3", SANDBOXED),
    ]


async def test_without_redis_discord_tells_and_without_both_it_is_neither_side(
    fleet: Fleet, reader: Client, servers: EmbeddedServers
) -> None:
    directory = Directory(**{CHANNEL: GUILD_A})
    gateway = await process(fleet, directory)
    await mapped(gateway)
    await servers.valkey.kill()
    try:
        take(gateway, "MESSAGE_CREATE", id="1", channel_id=CHANNEL, **EPHEMERAL)
        await gateway.idle()
        directory.away = True
        take(gateway, "MESSAGE_CREATE", id="2", channel_id=ELSEWHERE, **EPHEMERAL)
        await gateway.idle()
    finally:
        await servers.valkey.start()
    assert await where(reader) == [("session0:0:2", UNATTRIBUTED), ("session0:0:1", SANDBOXED)]
    assert attributions(gateway, "redis", "error") > 0
    assert attributions(gateway, "discord", "error") > 0


async def test_what_redis_did_not_take_is_noted_when_it_is_back(
    fleet: Fleet, redis: Redis, servers: EmbeddedServers
) -> None:
    gateway = await process(fleet)
    await servers.valkey.kill()
    try:
        take(gateway, "INTERACTION_CREATE", id=INTERACTION, type=2, guild_id=GUILD_A)
        gateway.send(GUILD_A)
        await gateway.idle()
    finally:
        await servers.valkey.start()
    await noted(redis, interaction_guild_key(INTERACTION))
    assert await redis.get(interaction_guild_key(INTERACTION)) == GUILD_A


async def test_a_silent_discord_holds_an_event_for_a_bounded_time(fleet: Fleet, reader: Client) -> None:
    directory = Directory()
    directory.silent = True
    gateway = await process(fleet, directory)
    for number in range(1, 40):
        take(gateway, "MESSAGE_DELETE", id="1", channel_id=str(1000 + number))
    async with asyncio.timeout(60):
        await gateway.core.router.idle()
    assert {side for _, side in await where(reader)} == {UNATTRIBUTED}
    assert gateway.core.metrics.routing.routed["unattributed"] == 39


async def test_too_many_that_wait_do_not_take_the_others_room(fleet: Fleet, reader: Client) -> None:
    directory = Directory()
    directory.gate.clear()
    gateway = await process(fleet, directory)
    for number in range(1, 1011):
        take(gateway, "MESSAGE_DELETE", id="1", channel_id=str(1000 + number))
    assert gateway.core.router.held == 1000
    assert not gateway.core.router.full
    directory.gate.set()
    await gateway.idle()
    assert gateway.core.metrics.routing.routed["unattributed"] == 1010


async def test_what_waits_is_not_done_when_the_process_ends(fleet: Fleet) -> None:
    directory = Directory()
    directory.gate.clear()
    gateway = await process(fleet, directory)
    take(gateway, "MESSAGE_DELETE", id="1", channel_id=CHANNEL)
    await until(lambda: directory.asked)
    await gateway.core.router.close()
    ledger = gateway.core.intake.ledger(0)
    assert ledger is not None
    assert (ledger.acknowledged, ledger.lag) == (0, 1)
