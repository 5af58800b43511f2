"""The short way of publishing puts the same bytes on the wire as nats-py does, or none."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import nats.errors
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nats.aio.client import Client
from structlog.testing import capture_logs

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats import wire
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.publication import Publication
from sandbox_core.nats.publisher import AckPublisher
from sandbox_core.nats.streams import StreamLimits, Streams
from sandbox_core.nats.wire import Label, PublishWire

from .conftest import SANDBOX_1, read_back, until
from .test_publisher import Recorder, publication

_ODD = st.text(st.sampled_from("aZ09.-_:% \t\r\n\x00\x0b\x1c\x85\u00a0\u2028ä😀"), max_size=8) | st.text(
    max_size=8
)
_HEADERS = st.dictionaries(st.sampled_from(["Discord-Event", "X"]) | _ODD, _ODD, max_size=4)


def at_once(work: Coroutine[Any, Any, None]) -> None:
    """Run what never has to wait."""
    with pytest.raises(StopIteration):
        work.send(None)


def by_nats_py(subject: str, reply: str, headers: dict[str, str], payload: bytes) -> bytes:
    """What nats-py's own publish puts into its buffer."""
    client = Client()
    client._status = Client.CONNECTED
    at_once(client.publish(subject, payload, reply=reply, headers=headers))
    (command,) = client._pending
    return command


@given(
    subject=st.just("events.MESSAGE_CREATE") | _ODD,
    headers=_HEADERS,
    message_id=st.just("session:0:1") | _ODD,
    payload=st.binary(max_size=50),
)
@example(subject="events.X", headers={"A": "x\r\nB: forged"}, message_id="s:0:1", payload=b"")
@example(subject="events.X", headers={"A\r\nB: forged": "x"}, message_id="s:0:1", payload=b"")
@example(
    subject="events.X",
    headers={"A": "x\r\n\r\nPUB events.FORGED 0\r\n"},
    message_id="s:0:1",
    payload=b"",
)
@example(subject="events.X", headers={}, message_id="s\r\nB: forged", payload=b"")
@example(subject="events.X", headers={}, message_id="", payload=b"")
@example(subject="events.X 0\r\n\r\nPUB events.FORGED", headers={}, message_id="s:0:1", payload=b"")
@example(subject="events.X", headers={"A": " padded "}, message_id="s:0:1", payload=b"")
@example(subject="events.X", headers={"A": ""}, message_id="s:0:1", payload=b"\r\n")
@example(subject="", headers={}, message_id="s:0:1", payload=b"")
def test_the_same_bytes_or_none(
    subject: str, headers: dict[str, str], message_id: str, payload: bytes
) -> None:
    ours = Label(subject, headers).encode(message_id, "_INBOX.a.1", payload)
    whole = {"Nats-Msg-Id": message_id, **headers}
    try:
        theirs = by_nats_py(subject, "_INBOX.a.1", whole, payload)
    except (nats.errors.BadSubjectError, nats.errors.BadHeaderError):
        assert ours is None
        return
    plain = not any(character.isspace() for text in (subject, *whole, *whole.values()) for character in text)
    if plain and message_id and "" not in headers:
        assert ours is not None
    assert ours in {None, theirs}


def test_no_value_can_end_its_line() -> None:
    for character in map(chr, range(0x3000 + 1)):
        if character.isspace():
            assert Label("events.X", {"A": f"a{character}b"}).encode("s:0:1", "r", b"") is None
            assert Label(f"events{character}.X", {"A": "a"}).encode("s:0:1", "r", b"") is None
            assert Label("events.X", {"A": "a"}).encode(f"s:0:1{character}", "r", b"") is None


@pytest.fixture
async def streams(connection: NatsConnection) -> Streams:
    streams = Streams(connection.client.jetstream(timeout=2), StreamLimits())
    await streams.ensure()
    return streams


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def publisher(
    connection: NatsConnection, streams: Streams, recorder: Recorder
) -> AsyncIterator[AckPublisher]:
    publisher = AckPublisher(connection, streams, recorder)
    await publisher.start()
    await until(lambda: publisher.sending)
    # A disconnect that is only told forgets what is buffered, and no reconnect subscribes anew.
    await connection.client.flush()
    yield publisher
    await publisher.close()


async def test_both_ways_store_the_same_message(
    connection: NatsConnection, streams: Streams, reader: Client
) -> None:
    ways = PublishWire(connection.client)
    headers = {"Discord-Event": "X", "Sandbox-Id": SANDBOX_1, "Odd": "a=%;,b"}
    assert ways.put(Label("events.X", headers), "session:0:1", "", b"\x00\r\n{}")
    await ways.send("events.X", "", {**headers, "Nats-Msg-Id": "session:0:2"}, b"\x00\r\n{}")
    async with asyncio.timeout(60):
        while len(stored := await read_back(reader, "EVENTS")) < 2:
            await asyncio.sleep(0.01)
    first, second = stored
    assert first.headers == {**headers, "Nats-Msg-Id": "session:0:1"}
    assert second.headers == {**headers, "Nats-Msg-Id": "session:0:2"}
    assert (first.subject, first.data) == (second.subject, second.data) == ("events.X", b"\x00\r\n{}")
    assert connection.client.stats["out_msgs"] >= 2


async def test_a_header_that_would_forge_others_is_stored_as_one(
    publisher: AckPublisher, recorder: Recorder, reader: Client
) -> None:
    forged = "x\r\nDiscord-Event: FORGED\r\n\r\n{}\r\nPUB events.FORGED 1\r\n1"
    taken = publication(1)
    taken.label_anew(taken.subject, {"Odd": forged})
    publisher.submit(taken)
    publisher.submit(publication(2))
    async with asyncio.timeout(60):
        await publisher.drained()
    messages = {message.headers["Nats-Msg-Id"]: message for message in await read_back(reader, "EVENTS")}
    assert set(messages) == {"session:0:1", "session:0:2"}
    assert set(messages["session:0:1"].headers) == {"Nats-Msg-Id", "Odd"}
    assert "\n" not in messages["session:0:1"].headers["Odd"]
    assert messages["session:0:1"].data == b"{}"
    assert recorder.failures == []


async def test_what_can_be_sent_is_sent_when_it_is_submitted(
    publisher: AckPublisher, connection: NatsConnection
) -> None:
    for number in range(3):
        publisher.submit(publication(number))
    commands = [command for command in connection.client._pending if command.startswith(b"HPUB ")]
    assert [b"session:0:%d\r\n" % number in command for number, command in enumerate(commands)] == [True] * 3
    async with asyncio.timeout(60):
        await publisher.drained()


async def test_a_client_without_the_private_names_is_used_by_its_own_publish(
    connection: NatsConnection,
    streams: Streams,
    recorder: Recorder,
    reader: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "_NAMES", (*wire._NAMES, "_renamed"))
    with capture_logs() as logs:
        publisher = AckPublisher(connection, streams, recorder)
    assert [(entry["event"], entry["missing"]) for entry in logs] == [("nats_client_unknown", ["_renamed"])]
    await publisher.start()
    for number in range(300):
        publisher.submit(publication(number))
    async with asyncio.timeout(60):
        await publisher.drained()
    await publisher.close()
    stored = [message.headers["Nats-Msg-Id"] for message in await read_back(reader, "EVENTS")]
    assert stored == [f"session:0:{number}" for number in range(300)]


async def test_a_full_buffer_is_waited_for_and_the_order_kept(
    publisher: AckPublisher, connection: NatsConnection, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_MAX_BUFFERED_BYTES", 10_000)
    sizes = []
    put = PublishWire.put

    def measured(self: PublishWire, *arguments: Any) -> bool:
        taken = put(self, *arguments)
        sizes.append(connection.client._pending_data_size)
        return taken

    monkeypatch.setattr(PublishWire, "put", measured)
    for number in range(500):
        publisher.submit(publication(number, payload=b"x" * 1000))
    async with asyncio.timeout(60):
        await publisher.drained()
    assert 10_000 < max(sizes) < 13_000
    stored = [message.headers["Nats-Msg-Id"] for message in await read_back(reader, "EVENTS")]
    assert stored == [f"session:0:{number}" for number in range(500)]


async def test_waiting_for_room_ends_with_the_connection_and_can_be_cancelled(
    connection: NatsConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = PublishWire(connection.client)
    monkeypatch.setattr(wire, "_ROOM_WITHIN", 0.01)
    monkeypatch.setattr(connection.client, "_pending_data_size", 10**9)
    # Nobody writes any more, as on a connection that has fallen silent.
    monkeypatch.setattr(connection.client, "_flush_queue", asyncio.Queue(2))
    waiting = asyncio.create_task(ways.room())
    await until(connection.client._flush_queue.full)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection.client, "_status", Client.RECONNECTING)
        await ways.room()
        with pytest.raises(nats.errors.OutboundBufferLimitError):
            await ways.send("events.X", "", {}, b"")
        assert not ways.put(Label("events.X", {}), "session:0:1", "", b"")


async def test_what_was_buffered_when_the_connection_went_is_not_written_to_the_next_one(
    publisher: AckPublisher, connection: NatsConnection, recorder: Recorder, reader: Client
) -> None:
    publisher.submit(publication(1))
    publisher.submit(publication(2))
    assert connection.client.pending_data_size > 0
    publisher._on_disconnect()
    assert (connection.client._pending, connection.client.pending_data_size) == ([], 0)
    taken = next(iter(publisher.in_flight()))
    publisher.withdraw(taken)
    publisher._on_reconnect()
    async with asyncio.timeout(60):
        await publisher.drained()
    assert [message.headers["Nats-Msg-Id"] for message in await read_back(reader, "EVENTS")] == [
        "session:0:2"
    ]
    assert recorder.acknowledged_contexts == [2]


async def test_without_its_writing_task_the_client_is_used_by_its_own_publish(
    publisher: AckPublisher, connection: NatsConnection, recorder: Recorder
) -> None:
    task = connection.client._flusher_task
    assert task is not None
    task.cancel()
    await until(task.done)
    publisher.submit(publication(1))
    async with asyncio.timeout(60):
        await publisher.drained()
    assert recorder.acknowledged_contexts == [1]


async def test_a_fault_in_sending_does_not_reach_who_submits(
    publisher: AckPublisher, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox_core.nats.publisher._FAILED_PAUSE", 0.01)
    broken = Publication(Label("events.X", {}), "\ud800", b"{}", "broken")
    with capture_logs() as logs:
        publisher.submit(broken)
        publisher.submit(publication(1))
        await until(lambda: len(logs) > 2)
    assert {entry["event"] for entry in logs} == {"publish_failed"}
    assert recorder.acknowledged_contexts == [1]
    publisher.withdraw(broken)
    await publisher.drained()


def test_nats_py_still_works_as_is_relied_on() -> None:
    send, flush = inspect.getsource(Client._send_command), inspect.getsource(Client._flusher)
    assert "self._pending.append(cmd)" in send
    assert "self._pending_data_size += len(cmd)" in send
    assert "await self._flush_queue.get()" in flush
    assert "self._transport.writelines(self._pending[:])" in flush
    assert "self._pending = []" in flush
    assert "if not future.done()" in flush
    assert "await self._ps.parse(b)" in inspect.getsource(Client._read_loop)
    # Subscriptions are made anew from here, so a dropped SUB is no loss.
    assert "for sid, sub in self._subs.items()" in inspect.getsource(Client._attempt_reconnect)


@pytest.fixture
def stuck(connection: NatsConnection) -> Iterator[Callable[[], None]]:
    """A buffer that is full and that nobody writes, until the result is called."""
    client = connection.client
    queue = client._flush_queue
    client._pending_data_size, client._flush_queue = 10**9, asyncio.Queue(2)

    def go_on() -> None:
        while not client._flush_queue.empty():
            written = client._flush_queue.get_nowait()
            if not written.done():
                written.set_result(None)
        client._pending_data_size, client._flush_queue = 0, queue

    yield go_on
    if client._flush_queue is not queue:
        go_on()


async def test_what_is_withdrawn_while_there_is_no_room_is_not_sent(
    publisher: AckPublisher, connection: NatsConnection, reader: Client, stuck: Callable[[], None]
) -> None:
    taken = publication(1)
    publisher.submit(taken)
    await until(connection.client._flush_queue.qsize)
    publisher.withdraw(taken)
    stuck()
    publisher.submit(publication(2))
    async with asyncio.timeout(60):
        await publisher.drained()
    await connection.client.flush()
    stored = [message.headers["Nats-Msg-Id"] for message in await read_back(reader, "EVENTS")]
    assert stored == ["session:0:2"]


async def test_leases_that_lapse_while_there_is_no_room_stop_what_waits(
    publisher: AckPublisher, connection: NatsConnection, reader: Client, stuck: Callable[[], None]
) -> None:
    waiting = publication(1)
    publisher.submit(waiting)
    await until(connection.client._flush_queue.qsize)
    publisher.trust.end()
    with capture_logs() as logs:
        stuck()
        await until(lambda: logs or waiting.sent_at)
    assert (waiting.sent_at, [entry["event"] for entry in logs]) == (0.0, ["publishing_waits"])
    publisher.trust.extend(math.inf)
    async with asyncio.timeout(60):
        await publisher.drained()
    assert len(await read_back(reader, "EVENTS")) == 1


async def test_closing_ends_a_recovery_that_lost_its_cancellation(
    connection: NatsConnection, recorder: Recorder
) -> None:
    class LosesOne:
        cancelled = 0

        async def ensure(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                if self.cancelled > 1:
                    raise
                # As `asyncio.wait_for` on Python 3.11, which nats-py sends its requests through.
                raise DependencyUnavailable("NATS", "no answer in time") from None

    streams = LosesOne()
    publisher = AckPublisher(connection, streams, recorder)
    await publisher.start()
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await publisher.close()
    assert streams.cancelled == 2


async def test_what_may_not_be_sent_any_more_when_the_buffer_is_written_is_left_out(
    publisher: AckPublisher, connection: NatsConnection, reader: Client
) -> None:
    """As in a process that is frozen in between, and whose shard another one has by then."""
    publisher.submit(publication(1))
    assert connection.client.pending_data_size > 0
    publisher.trust.end()
    await connection.client.flush()
    assert await read_back(reader, "EVENTS") == []
    publisher.trust.extend(math.inf)
    async with asyncio.timeout(60):
        await publisher.drained()
    assert [message.headers["Nats-Msg-Id"] for message in await read_back(reader, "EVENTS")] == [
        "session:0:1"
    ]
