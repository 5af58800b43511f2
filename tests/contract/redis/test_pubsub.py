"""Channels below the prefix."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from sandbox_core.errors import InvalidInput
from sandbox_core.redis.confined import create_confined_client

from .conftest import OTHER_PREFIX, PREFIX, World


@pytest.fixture
async def neighbour(redis_url: str) -> AsyncIterator[Redis]:
    """A worker in another sandbox."""
    client = create_confined_client(redis_url, OTHER_PREFIX, client_name="test")
    yield client
    await client.aclose()


async def next_message(pubsub: PubSub) -> dict[str, Any]:
    message = await pubsub.get_message(timeout=60)
    assert message is not None
    return message


def of(kind: str, channel: str | None, data: object, pattern: str | None = None) -> dict[str, Any]:
    return {"type": kind, "pattern": pattern, "channel": channel, "data": data}


async def test_messages_name_channels_as_they_were_subscribed_to(world: World) -> None:
    client = world.client
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("news")
        await pubsub.psubscribe("new*")
        assert await next_message(pubsub) == of("subscribe", "news", 1)
        assert await next_message(pubsub) == of("psubscribe", "new*", 2)
        assert await client.pubsub_channels() == ["news"]
        assert await client.pubsub_channels("x*") == []
        assert await client.pubsub_numsub("news", "none") == [("news", 1), ("none", 0)]
        assert await client.publish("news", "hello") == 2
        assert await next_message(pubsub) == of("message", "news", "hello")
        assert await next_message(pubsub) == of("pmessage", "news", "hello", pattern="new*")
        await pubsub.unsubscribe("news")
        await pubsub.punsubscribe()
        assert await next_message(pubsub) == of("unsubscribe", "news", 1)
        assert await next_message(pubsub) == of("punsubscribe", "new*", 0)
        assert not pubsub.subscribed


async def test_sharded_channels(world: World) -> None:
    client = world.client
    async with client.pubsub() as pubsub:
        await pubsub.ssubscribe("news")
        assert await next_message(pubsub) == of("ssubscribe", "news", 1)
        assert await client.execute_command("PUBSUB", "SHARDCHANNELS") == ["news"]
        await client.spublish("news", "hello")
        assert await next_message(pubsub) == of("smessage", "news", "hello")
        await pubsub.sunsubscribe()
        assert await next_message(pubsub) == of("sunsubscribe", "news", 0)


async def test_handlers_are_found_by_the_name_they_were_given_for(world: World) -> None:
    client = world.client
    received: list[dict[str, Any]] = []
    async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(news=received.append)
        await pubsub.psubscribe(**{"job.*": received.append})
        await client.publish("news", "one")
        await client.publish("job.done", "two")
        while len(received) < 2:
            await pubsub.get_message(timeout=60)
    assert received == [of("message", "news", "one"), of("pmessage", "job.done", "two", pattern="job.*")]


async def test_subscriptions_survive_a_lost_connection(confined: Redis, redis: Redis) -> None:
    async with confined.pubsub() as pubsub:
        await pubsub.subscribe("news")
        assert await next_message(pubsub) == of("subscribe", "news", 1)
        connection = pubsub.connection
        assert connection is not None
        await connection.disconnect()
        assert await next_message(pubsub) == of("subscribe", "news", 1)
        await redis.publish(f"{PREFIX}news", "again")
        assert await next_message(pubsub) == of("message", "news", "again")


async def test_nothing_is_heard_across_the_border(
    confined: Redis, neighbour: Redis, production: Redis
) -> None:
    async with confined.pubsub() as here, neighbour.pubsub() as there, production.pubsub() as outside:
        for pubsub in (here, there, outside):
            await pubsub.subscribe("news")
            await next_message(pubsub)
        await here.psubscribe("*")
        await next_message(here)
        assert await confined.publish("news", "for one") == 2
        assert await neighbour.publish("news", "for the other") == 1
        # Another client's message on this channel is the last one: nothing came between.
        assert await production.publish("news", "for nobody in a sandbox") == 1
        assert await confined.publish("news", "end") == 2
        assert [(await next_message(here))["data"] for _ in range(4)] == ["for one", "for one", "end", "end"]
        assert (await next_message(there))["data"] == "for the other"
        assert (await next_message(outside))["data"] == "for nobody in a sandbox"


async def test_a_subscription_is_all_that_a_pubsub_sends(confined: Redis) -> None:
    async with confined.pubsub() as pubsub:
        with pytest.raises(InvalidInput) as refused:
            await pubsub.execute_command("GET", f"{OTHER_PREFIX}secret")
        assert (refused.value.code, refused.value.value) == ("SANDBOX_007", "GET")
        assert pubsub.connection is None
        await pubsub.subscribe("news")
        await next_message(pubsub)
        await pubsub.execute_command("PING", "still there")
        assert "still there" in repr(await pubsub.parse_response(timeout=60))


async def test_everybodys_notifications_are_refused(confined: Redis, production: Redis) -> None:
    for channel in ("__keyspace@0__:*", b"__keyevent@0__:set"):
        async with confined.pubsub() as pubsub:
            with pytest.raises(InvalidInput, match="SANDBOX_007"):
                await pubsub.psubscribe(channel)
        async with production.pubsub() as pubsub:
            await pubsub.psubscribe(channel)
            assert (await next_message(pubsub))["type"] == "psubscribe"
