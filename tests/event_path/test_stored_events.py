"""What the streams hold of one session: read by message id, from a moment on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import datetime

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from structlog.testing import capture_logs

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats import message_ids, wire
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.every_stream import StreamReads
from sandbox_core.nats.message_ids import MessageIds
from sandbox_core.nats.stored import StoredEvents
from sandbox_core.nats.streams import StreamLimits, Streams
from tests.streams import EVERY_SANDBOX, StreamsOf, names_of, reads_of

from .conftest import SANDBOX_1, until


def stored_events(connection: NatsConnection) -> StoredEvents:
    return StoredEvents(reads_of(connection))


async def test_the_sessions_later_events_are_found_in_both_streams(
    connection: NatsConnection, reader: Client
) -> None:
    js = connection.client.jetstream(timeout=3)
    stored = stored_events(connection)
    assert await stored.sequences("session", 0, after=0, since=time.time()) == set()
    await StreamsOf(js, SANDBOX_1).ensure()
    every = ["EVENTS", *await names_of(js, EVERY_SANDBOX)]
    began = time.time()
    for seq in range(1, 1201):
        subject = f"sandbox.{SANDBOX_1}.events.X" if seq % 3 == 0 else "events.X"
        await reader.publish(subject, b"x" * 100, headers={"Nats-Msg-Id": f"session:0:{seq}"})
    for other in ("session:1:1300", "sessions:0:1301", "session:0:x", "session:0:", ""):
        await reader.publish("events.X", b"", headers={"Nats-Msg-Id": other} if other else None)
    await reader.flush()
    async with asyncio.timeout(60):
        while sum([(await js.stream_info(stream)).state.messages for stream in every]) < 1205:
            await asyncio.sleep(0.02)
    assert await stored.sequences("session", 0, after=1000, since=began) == set(range(1001, 1201))
    assert await stored.sequences("session", 1, after=0, since=began) == {1300}
    # The margin for another machine's clock included, all this is too early.
    assert await stored.sequences("session", 0, after=0, since=time.time() + 60) == set()
    for stream in every:
        assert (await js.stream_info(stream)).state.consumer_count == 0


async def test_nats_away_is_said(connection: NatsConnection, servers: EmbeddedServers) -> None:
    stored = stored_events(connection)
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
    async with asyncio.timeout(60):
        while (await js.stream_info("EVENTS")).state.messages < count:
            await asyncio.sleep(0.02)


async def test_when_the_time_is_over_what_was_found_counts(
    connection: NatsConnection, reader: Client
) -> None:
    js = connection.client.jetstream(timeout=3)
    began = time.time()
    await fill(reader, js, 2000)

    class Slow(MessageIds):
        """Takes longer than it may after the first stream."""

        async def read(
            self, stream: str, subject: str, begin: datetime, found: Callable[[str], None]
        ) -> None:
            await super().read(stream, subject, begin, found)
            await asyncio.Event().wait()

    stored = StoredEvents(StreamReads(Slow(connection.client, js), "EVENTS", "events.>"), within=0.5)
    with capture_logs() as logs:
        found = await stored.sequences("session", 1, after=0, since=began)
    assert found == set(range(1, 2001, 4))
    assert [entry["event"] for entry in logs] == ["stored_events_not_read_to_the_end"]


async def test_shards_taken_at_once_share_readings(connection: NatsConnection, reader: Client) -> None:
    js = connection.client.jetstream(timeout=3)
    began = time.time()
    await fill(reader, js, 2000)
    stored = stored_events(connection)
    with capture_logs() as logs:
        found = await asyncio.gather(
            *(stored.sequences("session", shard, after=400 * shard, since=began) for shard in range(4))
        )
    assert found == [{seq for seq in range(1, 2001) if seq % 4 == s and seq > 400 * s} for s in range(4)]
    assert [entry["sessions"] for entry in logs] == [4]


async def test_a_consumer_lost_in_between_is_no_answer(
    connection: NatsConnection, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    js = connection.client.jetstream(timeout=3)
    began = time.time()
    await fill(reader, js, 1200)
    monkeypatch.setattr(message_ids, "_BATCH", 500)
    monkeypatch.setattr(message_ids, "_BATCH_WITHIN", 0.5)
    original = message_ids.Batches.until

    async def until_one_is_gone(batches: message_ids.Batches, received: int, within: float) -> bool:
        if received == 1000:
            info = await js.consumers_info("EVENTS")
            await js.delete_consumer("EVENTS", info[0].name)
        return await original(batches, received, within)

    stored = stored_events(connection)
    with monkeypatch.context() as patch:
        patch.setattr(message_ids.Batches, "until", until_one_is_gone)
        # The batch on its way is read; the next one has nobody to come from.
        with pytest.raises(DependencyUnavailable, match="NATS"):
            await stored.sequences("session", 1, after=0, since=began)
    assert len(await stored.sequences("session", 1, after=0, since=began)) == 300


async def test_what_was_removed_meanwhile_is_not_waited_for(
    connection: NatsConnection, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    js = connection.client.jetstream(timeout=3)
    began = time.time()
    await fill(reader, js, 1200)
    monkeypatch.setattr(message_ids, "_BATCH", 500)
    original = message_ids.Batches.until

    async def until_purged(batches: message_ids.Batches, received: int, within: float) -> bool:
        if received == 500:
            result = await original(batches, received, within)
            await js.purge_stream("EVENTS", keep=100)
            return result
        return await original(batches, received, within)

    monkeypatch.setattr(message_ids.Batches, "until", until_purged)
    found = await stored_events(connection).sequences("session", 1, after=0, since=began)
    assert found == {seq for seq in (*range(1, 501), *range(1101, 1201)) if seq % 4 == 1}


async def test_with_another_parser_nats_pys_way_is_taken(
    connection: NatsConnection, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Renamed:
        """What nats-py's parser no longer is."""

    monkeypatch.setattr(wire, "Parser", Renamed)
    began = time.time()
    await fill(reader, connection.client.jetstream(timeout=3), 1200)
    found = await stored_events(connection).sequences("session", 1, after=0, since=began)
    assert found == set(range(1, 1200, 4))


@pytest.mark.parametrize("largest", [1, 7, 60, 500, 100_000])
async def test_cut_anywhere_the_same_ids_are_found(connection: NatsConnection, largest: int) -> None:
    client = connection.client
    found: list[str] = []
    batches = message_ids.Batches(found.append)
    subscription = await client.subscribe(client.new_inbox(), cb=batches.on_message)
    other = await client.subscribe("other")
    known = wire.incoming(client, subscription)
    assert known is not None
    ways, sid = known
    batches.numbered(sid)
    ways.use(batches)
    pieces: list[bytes] = []
    for number in range(200):
        chance = number % 7
        if chance == 0:
            # A message that looks like one of the consumer's inside.
            pieces.append(_message(b"MSG other %d" % other._id, b"HMSG events.X %d x 40 40\r\n" % sid))
        elif chance == 1:
            pieces.append(_headers_only(sid, b"Nats-Msg-Size: 5\r\n"))
        elif chance == 2:
            pieces.append(_headers_only(sid, b"X: Nats-Msg-Id: x\r\nNats-Msg-Id: %d\r\n" % number))
        else:
            pieces.append(_headers_only(sid, b"Nats-Msg-Id: %d\r\nNats-Msg-Size: 5\r\n" % number))
    data = b"".join(pieces)
    random_sizes = random.Random(largest)
    position = 0
    while position < len(data):
        size = random_sizes.randint(1, largest)
        await client._ps.parse(data[position : position + size])
        position += size
    others = sum(1 for number in range(200) if number % 7 == 0)
    assert await batches.until(200 - others, 5)
    assert sorted(map(int, found)) == [number for number in range(200) if number % 7 > 1]
    for _ in range(others):
        assert (await other.next_msg()).data.startswith(b"HMSG ")
    assert not client._ps.buf
    ways.leave(batches)
    await client.flush()


def _message(control: bytes, payload: bytes) -> bytes:
    return b"%b %d\r\n%b\r\n" % (control, len(payload), payload)


def _headers_only(sid: int, lines: bytes) -> bytes:
    head = b"NATS/1.0\r\n%b\r\n" % lines
    return b"HMSG events.X %d $JS.ACK.x %d %d\r\n%b\r\n" % (sid, len(head), len(head), head)
