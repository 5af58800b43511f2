"""The server has done a command, and its answer is lost: a worker's command is not sent a second time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from redis import exceptions as rd
from redis.asyncio import Redis

from sandbox_core.models import DatedRoute, ResumePoint, Route
from sandbox_core.redis.client import create_client
from sandbox_core.redis.confined import create_confined_client
from sandbox_core.redis.last_events import LastEventRecord
from sandbox_core.redis.route_cache import RouteCache
from sandbox_core.redis.shared_channels import SharedChannels
from sandbox_core.sharding.resume_point_keys import GatewaySessions
from tests.event_path.proxy import Proxy, proxied

from .conftest import PREFIX


class LosesAnswers(Proxy):
    """Ends a connection instead of passing the next answer on, when told to."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.loses = 0
        self.lost = 0
        self._hangs = False

    def lose(self, *, hangs: bool = False) -> None:
        """Lose the next answer; `hangs` keeps the connection open."""
        self.loses, self._hangs = 1, hangs

    async def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(*self._target)
        asking = asyncio.create_task(self._pass(reader, inner_writer))
        answering = asyncio.create_task(self._answer(inner_reader, writer))
        for task in (asking, answering):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, source: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if self.loses:
                    self.loses -= 1
                    self.lost += 1
                    if self._hangs:
                        continue
                    return
                writer.write(data)
        finally:
            writer.close()


@pytest.fixture
async def way(redis_url: str, impatient: None) -> AsyncIterator[tuple[LosesAnswers, str]]:
    async with proxied(redis_url, kind=LosesAnswers) as made:
        yield made


@pytest.fixture(params=[PREFIX, ""], ids=["sandbox", "production"])
async def worker(request: pytest.FixtureRequest, way: tuple[LosesAnswers, str]) -> AsyncIterator[Redis]:
    """A worker's client, connected."""
    client = create_confined_client(way[1], request.param, client_name="test")
    await client.ping()
    yield client
    await client.aclose()


Command = Callable[[Redis], Awaitable[Any]]


async def _alone(client: Redis) -> None:
    await client.incr("n")


async def _pipeline(client: Redis) -> None:
    await client.pipeline(transaction=False).incr("n").execute()


async def _transaction(client: Redis) -> None:
    await client.pipeline(transaction=True).incr("n").execute()


async def _watched(client: Redis) -> None:
    async with client.pipeline() as pipeline:
        await pipeline.watch("m")
        pipeline.multi()
        pipeline.incr("n")
        await pipeline.execute()


@pytest.mark.parametrize("command", [_alone, _pipeline, _transaction])
@pytest.mark.parametrize("hangs", [False, True], ids=["connection lost", "no answer"])
async def test_a_command_of_a_worker_is_done_once(
    way: tuple[LosesAnswers, str], worker: Redis, command: Command, hangs: bool
) -> None:
    await command(worker)
    way[0].lose(hangs=hangs)
    with pytest.raises((rd.ConnectionError, rd.TimeoutError)):
        await command(worker)
    assert way[0].lost == 1
    assert await worker.get("n") == "2", "it was done, and not again"
    await command(worker)
    assert await worker.get("n") == "3"


async def test_a_watched_transaction_is_done_once(way: tuple[LosesAnswers, str], worker: Redis) -> None:
    await _watched(worker)
    async with worker.pipeline() as pipeline:
        await pipeline.watch("m")
        pipeline.multi()
        pipeline.incr("n")
        way[0].lose()
        with pytest.raises((rd.ConnectionError, rd.TimeoutError, rd.WatchError)):
            await pipeline.execute()
    assert await worker.get("n") == "2"


async def cut_off(redis: Redis) -> None:
    """The server ends every connection of the worker's."""
    for client in await redis.client_list():
        if client["name"] == "test":
            await redis.client_kill_filter(_id=client["id"])


async def test_a_connection_that_was_lost_while_idle_costs_no_command(worker: Redis, redis: Redis) -> None:
    await worker.incr("n")
    for number in (2, 3):
        await cut_off(redis)
        (connection,) = worker.connection_pool._available_connections
        async with asyncio.timeout(60):
            while not await connection.can_read():
                await asyncio.sleep(0.001)
        assert await worker.incr("n") == number


async def test_connecting_is_tried_twice(way: tuple[LosesAnswers, str]) -> None:
    client = create_confined_client(way[1], PREFIX, client_name="test")
    # What is lost is the answer to the handshake.
    way[0].lose()
    assert await client.incr("n") == 1
    assert way[0].lost == 1
    await client.aclose()


async def test_a_subscription_goes_on(worker: Any, redis: Redis) -> None:
    async with worker.pubsub() as pubsub:
        await pubsub.subscribe("news")
        assert (await pubsub.get_message(timeout=60))["type"] == "subscribe"
        await cut_off(redis)
        assert (await pubsub.get_message(timeout=60))["type"] == "subscribe", "it subscribed again"
        await redis.publish(worker.confinement.add("news"), "heard")
        assert (await pubsub.get_message(timeout=60))["data"] == "heard"


GUILD = "100000000000000001"
OWN: dict[str, Callable[[Redis], Awaitable[Any]]] = {
    "a route": lambda redis: RouteCache(redis, timedelta(seconds=60)).put_many({GUILD: ROUTE}),
    "a route that was read": lambda redis: RouteCache(redis, timedelta(seconds=60)).put_many(
        {GUILD: ROUTE}, only_read=True
    ),
    "a route ended": lambda redis: RouteCache(redis, timedelta(seconds=60)).invalidate([GUILD]),
    "channels": lambda redis: SharedChannels(redis).keep({"7": GUILD}, {"8": GUILD}),
    "a record": lambda redis: LastEventRecord(redis).begin(3, 100.0, 200.0),
    "moments": lambda redis: LastEventRecord(redis).write({GUILD: 150.0}, 200.0),
    "a gap": lambda redis: LastEventRecord(redis).incomplete_before(120.0),
    "old moments": lambda redis: LastEventRecord(redis).forget_beyond(160.0, 300.0),
    "a resume point": lambda redis: GatewaySessions(redis).save(1, 1, {0: POINT}),
    "a session ended": lambda redis: GatewaySessions(redis).forget(1, 0, 1, "s"),
}
"""What the bot writes to Redis, in an order in which each finds something."""
ROUTE = DatedRoute(Route(str(uuid4()), 4e9), 1e9)
POINT = ResumePoint("s", "wss://gateway.example", 5, since=100.0, saved_at=100.0)


async def contents(redis: Redis) -> dict[str, object]:
    """Every key's value."""
    found: dict[str, object] = {}
    async for key in redis.scan_iter():
        kind = await redis.type(key)
        found[key] = await (redis.zrange(key, 0, -1, withscores=True) if kind == "zset" else redis.get(key))
    return found


@pytest.mark.parametrize("last", OWN)
async def test_the_bots_own_commands_may_be_done_twice(
    way: tuple[LosesAnswers, str], redis: Redis, last: str
) -> None:
    """They are sent again, and leave what they leave when they are done once."""
    through = create_client(way[1])
    left = []
    for loses in (False, True):
        await redis.flushdb()
        for name, write in OWN.items():
            if name == last and loses:
                way[0].lose()
            await write(through)
            if name == last:
                break
        left.append(await contents(redis))
    await through.aclose()
    assert way[0].lost == 1
    assert left[0] == left[1]
