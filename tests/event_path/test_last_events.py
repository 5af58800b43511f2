"""When a guild last had an event in production: after a restart, elsewhere, and where it is not known."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from redis.asyncio import Redis

from sandbox_core import subjects
from sandbox_core.event_router import DAY, Activity, LastEvents
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.message_ids import MessageIds
from sandbox_core.nats.stream_guilds import StreamGuilds
from sandbox_core.nats.streams import StreamLimits, Streams
from sandbox_core.redis.client import create_client
from sandbox_core.redis.last_events import LastEventRecord
from sandbox_core.subjects import DEFAULT_NAMES
from tests.event_path.conftest import count

BUSY, QUIET = "100000000000000001", "100000000000000002"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = create_client(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def stream(connection: NatsConnection) -> StreamGuilds:
    js = connection.client.jetstream(timeout=3)
    await Streams(js, StreamLimits()).ensure()
    ids = MessageIds(connection.client, js)
    return StreamGuilds(ids, js, DEFAULT_NAMES.events, DEFAULT_NAMES.events_subjects)


async def publish(reader: Client, guild_id: str, *, kind: str = "MESSAGE_CREATE", count: int = 1) -> None:
    js = reader.jetstream()
    for _ in range(count):
        await js.publish(f"events.{kind}", b"{}", headers={"Discord-Guild-Id": guild_id})


async def test_a_process_that_starts_finds_the_day_in_the_stream(
    redis: Redis, stream: StreamGuilds, reader: Client
) -> None:
    await publish(reader, BUSY, count=3)
    await publish(reader, QUIET, kind="GUILD_CREATE")
    events = LastEvents(Activity(time.time, RoutingMetrics()), LastEventRecord(redis), stream)
    assert not (await events.of(QUIET)).is_none, "before the first writing nothing is known"
    await events.write()
    busy, quiet = await events.of(BUSY), await events.of(QUIET)
    assert busy.ago is not None
    assert busy.ago < 60
    assert quiet.is_none
    assert quiet.looked_back >= DAY


async def test_processes_know_of_each_others_guilds_and_so_does_who_looks_at_the_record_alone(
    redis: Redis, stream: StreamGuilds
) -> None:
    activity = Activity(lambda: time.time() - 300, RoutingMetrics())
    first = LastEvents(activity, LastEventRecord(redis), stream)
    second = LastEvents(Activity(time.time, RoutingMetrics()), LastEventRecord(redis), stream)
    count(activity, BUSY, None)
    await first.write()
    await second.write()
    for other in (second, LastEvents(Activity(time.time, RoutingMetrics()), LastEventRecord(redis), None)):
        busy = await other.of(BUSY)
        assert busy.ago is not None
        assert 295 < busy.ago < 360
        assert (await other.of(QUIET)).is_none


async def test_what_another_process_published_just_now_is_found(
    redis: Redis, stream: StreamGuilds, reader: Client
) -> None:
    events = LastEvents(Activity(time.time, RoutingMetrics()), LastEventRecord(redis), stream)
    await events.write()
    assert (await events.of(QUIET)).is_none
    await publish(reader, QUIET)
    assert (await events.of(QUIET)).ago is not None


async def test_a_lost_record_is_made_again_with_what_every_process_knew(
    redis: Redis, stream: StreamGuilds
) -> None:
    activities = [Activity(time.time, RoutingMetrics()) for _ in range(2)]
    processes = [LastEvents(activity, LastEventRecord(redis), stream) for activity in activities]
    for guild_id, activity, process in zip((BUSY, QUIET), activities, processes, strict=True):
        count(activity, guild_id, None)
        await process.write()
    await redis.delete(subjects.LAST_EVENTS_KEY)
    looker = LastEvents(Activity(time.time, RoutingMetrics()), LastEventRecord(redis), None)
    assert (await looker.of(BUSY)).looked_back == 0
    for process in processes:
        await process.write()
    assert (await looker.of(BUSY)).ago is not None
    assert (await looker.of(QUIET)).ago is not None


async def test_more_messages_than_there_is_time_for_make_it_look_back_less(
    stream: StreamGuilds, reader: Client
) -> None:
    await publish(reader, BUSY, count=20)
    short = await stream.look((DAY, 3600.0), at_most=10)
    assert (short.last, short.since > time.time() - 60) == ({}, True)
    whole = await stream.look((DAY, 3600.0), at_most=20)
    assert list(whole.last) == [BUSY]
    assert whole.since <= time.time() - DAY + 60
