"""What the streams hold of one session: read by message id, from a moment on."""

from __future__ import annotations

import asyncio
import time

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from structlog.testing import capture_logs

from bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.stored import StoredEvents
from sandbox_core.nats.streams import StreamLimits, Streams

from .conftest import SANDBOX_1, until


async def test_the_sessions_later_events_are_found_in_both_streams(
    connection: NatsConnection, reader: Client
) -> None:
    js = connection.client.jetstream(timeout=3)
    stored = StoredEvents(js)
    assert await stored.sequences("session", 0, after=0, since=time.time()) == set()
    await Streams(js, StreamLimits()).ensure()
    began = time.time()
    for seq in range(1, 1201):
        subject = f"sandbox.{SANDBOX_1}.events.X" if seq % 3 == 0 else "events.X"
        await reader.publish(subject, b"x" * 100, headers={"Nats-Msg-Id": f"session:0:{seq}"})
    for other in ("session:1:1300", "sessions:0:1301", "session:0:x", "session:0:", ""):
        await reader.publish("events.X", b"", headers={"Nats-Msg-Id": other} if other else None)
    await reader.flush()
    async with asyncio.timeout(15):
        while sum([(await js.stream_info(stream)).state.messages for stream in ("EVENTS", "SANDBOX")]) < 1205:
            await asyncio.sleep(0.02)
    assert await stored.sequences("session", 0, after=1000, since=began) == set(range(1001, 1201))
    assert await stored.sequences("session", 1, after=0, since=began) == {1300}
    # The margin for another machine's clock included, all this is too early.
    assert await stored.sequences("session", 0, after=0, since=time.time() + 60) == set()
    for stream in ("EVENTS", "SANDBOX"):
        assert (await js.stream_info(stream)).state.consumer_count == 0


async def test_nats_away_is_said(connection: NatsConnection, servers: EmbeddedServers) -> None:
    stored = StoredEvents(connection.client.jetstream(timeout=1))
    await servers.nats.kill()
    await until(lambda: not connection.connected)
    with pytest.raises(DependencyUnavailable, match="NATS"):
        await stored.sequences("session", 0, after=0, since=time.time())
    await servers.nats.start()
    await until(lambda: connection.connected)


async def fill(reader: Client, js: JetStreamContext, count: int) -> None:
    await Streams(js, StreamLimits()).ensure()
    for seq in range(1, count + 1):
        await reader.publish("events.X", b"x", headers={"Nats-Msg-Id": f"session:{seq % 4}:{seq}"})
    await reader.flush()
    async with asyncio.timeout(15):
        while (await js.stream_info("EVENTS")).state.messages < count:
            await asyncio.sleep(0.02)


async def test_when_the_time_is_over_what_was_found_counts(
    connection: NatsConnection, reader: Client
) -> None:
    js = connection.client.jetstream(timeout=3)
    began = time.time()
    await fill(reader, js, 2000)
    fetched = 0
    original = JetStreamContext.PullSubscription.fetch

    async def fetch(subscription: object, batch: int, timeout: float) -> list[Msg]:
        nonlocal fetched
        fetched += 1
        if fetched == 2:
            # Longer than the reading may take.
            await asyncio.Event().wait()
        return await original(subscription, batch, timeout=timeout)

    with pytest.MonkeyPatch.context() as patch, capture_logs() as logs:
        patch.setattr(JetStreamContext.PullSubscription, "fetch", fetch)
        found = await StoredEvents(js, within=0.5).sequences("session", 1, after=0, since=began)
    assert found == set(range(1, 501, 4))
    assert [entry["event"] for entry in logs] == ["stored_events_not_read_to_the_end"]
    assert (await js.stream_info("EVENTS")).state.consumer_count == 0


async def test_shards_taken_at_once_share_readings(connection: NatsConnection, reader: Client) -> None:
    js = connection.client.jetstream(timeout=3)
    began = time.time()
    await fill(reader, js, 2000)
    stored = StoredEvents(js)
    with capture_logs() as logs:
        found = await asyncio.gather(
            *(stored.sequences("session", shard, after=400 * shard, since=began) for shard in range(4))
        )
    assert found == [{seq for seq in range(1, 2001) if seq % 4 == s and seq > 400 * s} for s in range(4)]
    assert [entry["sessions"] for entry in logs] == [4]


async def test_a_consumer_lost_in_between_is_no_answer(connection: NatsConnection, reader: Client) -> None:
    js = connection.client.jetstream(timeout=3)
    began = time.time()
    await fill(reader, js, 1200)
    original = JetStreamContext.PullSubscription.fetch
    fetched = 0

    async def fetch(subscription: JetStreamContext.PullSubscription, batch: int, timeout: float) -> list[Msg]:
        nonlocal fetched
        fetched += 1
        if fetched == 2:
            await js.delete_consumer("EVENTS", (await subscription.consumer_info()).name)
        return await original(subscription, batch, timeout=timeout)

    stored = StoredEvents(js)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JetStreamContext.PullSubscription, "fetch", fetch)
        with pytest.raises(DependencyUnavailable, match="NATS"):
            await stored.sequences("session", 1, after=0, since=began)
    assert len(await stored.sequences("session", 1, after=0, since=began)) == 300
