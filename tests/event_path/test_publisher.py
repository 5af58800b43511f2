"""Publishing until acknowledged, against a real nats-server that comes and goes."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from nats.aio.client import Client
from nats.js.api import StorageType, StreamConfig
from pydantic import SecretStr
from structlog.testing import capture_logs

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.publication import Publication
from sandbox_core.nats.publisher import AckPublisher
from sandbox_core.nats.streams import MADE_BY, MARK, StreamLimits, Streams
from sandbox_core.nats.wire import Label
from sandbox_core.subjects import DEFAULT_NAMES
from tests.streams import StreamsOf

from .conftest import SANDBOX_1, read_back, until


class Recorder:
    """Collects what the publisher reports."""

    def __init__(self) -> None:
        self.acknowledged_contexts: list[object] = []
        self.failures: list[str] = []

    def acknowledged(self, publications: Sequence[Publication]) -> None:
        self.acknowledged_contexts += [publication.context for publication in publications]

    def attempt_failed(self, reason: str) -> None:
        self.failures.append(reason)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def streams(connection: NatsConnection) -> StreamsOf:
    return StreamsOf(connection.client.jetstream(timeout=2), SANDBOX_1)


@pytest.fixture
async def publisher(
    connection: NatsConnection, streams: StreamsOf, recorder: Recorder, clock: Clock
) -> AsyncIterator[AckPublisher]:
    publisher = AckPublisher(connection, streams, recorder, monotonic=clock)
    await publisher.start()
    yield publisher
    await publisher.close()


def publication(number: int, subject: str = "events.TEST", payload: bytes = b"{}") -> Publication:
    return Publication(Label(subject, {}), f"session:0:{number}", payload, number)


async def test_many_in_flight_arrive_in_order(
    publisher: AckPublisher, recorder: Recorder, reader: Client
) -> None:
    for number in range(2000):
        publisher.submit(publication(number, payload=b"%d" % number))
    async with asyncio.timeout(60):
        await publisher.drained()
    assert sorted(recorder.acknowledged_contexts, key=int) == list(range(2000))  # type: ignore[call-overload]
    messages = await read_back(reader, "EVENTS")
    assert [message.data for message in messages] == [b"%d" % number for number in range(2000)]
    assert messages[7].headers == {"Nats-Msg-Id": "session:0:7"}
    assert publisher.outstanding == 0


async def test_a_repeated_id_is_stored_once_and_acknowledged_twice(
    publisher: AckPublisher, recorder: Recorder, reader: Client
) -> None:
    publisher.submit(publication(1))
    publisher.submit(publication(1))
    await publisher.drained()
    assert recorder.acknowledged_contexts == [1, 1]
    assert len(await read_back(reader, "EVENTS")) == 1


async def test_a_missing_stream_is_made_and_its_events_wait(
    publisher: AckPublisher, recorder: Recorder, reader: Client
) -> None:
    publisher.submit(publication(1))
    await publisher.drained()
    await reader.jetstream().delete_stream("EVENTS")
    publisher.submit(publication(2))
    async with asyncio.timeout(60):
        await publisher.drained()
    assert "no_stream" in recorder.failures
    assert len(await read_back(reader, "EVENTS")) == 1


async def test_a_killed_server_loses_nothing(
    publisher: AckPublisher, recorder: Recorder, servers: EmbeddedServers, reader: Client
) -> None:
    publisher.submit(publication(0))
    await publisher.drained()
    await servers.nats.kill()
    await until(lambda: not publisher.sending)
    for number in range(1, 500):
        publisher.submit(publication(number))
        publisher.submit(publication(number, f"sandbox.{SANDBOX_1}.events.TEST"))
    assert publisher.outstanding == 998
    await servers.nats.start()
    async with asyncio.timeout(60):
        await publisher.drained()
    await until(lambda: reader.is_connected)
    events = await read_back(reader, "EVENTS")
    assert [message.headers["Nats-Msg-Id"] for message in events] == [f"session:0:{n}" for n in range(500)]
    assert len(await read_back(reader, "SANDBOX")) == 499


async def test_an_acknowledgement_that_does_not_come_is_asked_for_again(
    publisher: AckPublisher, recorder: Recorder, clock: Clock, reader: Client
) -> None:
    publisher.submit(publication(0))
    await publisher.drained()
    lost: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "stored", lost.append)
        publisher.submit(publication(1))
        await until(lambda: lost)
    assert publisher.sweep.resend_overdue() == 0
    clock.now += 6
    # The sweep of the publisher itself may have come first.
    publisher.sweep.resend_overdue()
    async with asyncio.timeout(60):
        await publisher.drained()
    assert recorder.failures == ["ack_timeout"]
    assert len(await read_back(reader, "EVENTS")) == 2


async def test_what_is_too_large_goes_compressed(
    publisher: AckPublisher, reader: Client, connection: NatsConnection
) -> None:
    payload = b"x" * (connection.client.max_payload + 1)
    publisher.submit(publication(1, payload=payload))
    async with asyncio.timeout(60):
        await publisher.drained()
    [message] = await read_back(reader, "EVENTS")
    assert message.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(message.data) == payload


async def test_what_stays_too_large_goes_to_the_dead_letters(
    connection: NatsConnection,
    streams: StreamsOf,
    recorder: Recorder,
    reader: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(type(connection.client), "max_payload", property(lambda _: 2000))
    publisher = AckPublisher(connection, streams, recorder)
    await publisher.start()
    publisher.submit(publication(1, payload=random.Random(1).randbytes(4000)))
    async with asyncio.timeout(60):
        await publisher.drained()
    await publisher.close()
    [message] = await read_back(reader, "EVENTS")
    assert message.subject == "events.dead_letter.TOO_LARGE"
    assert message.headers["Dead-Letter-Subject"] == "events.TEST"
    assert recorder.failures == ["dead_letter"]


async def test_a_refusal_is_tried_again(
    publisher: AckPublisher, recorder: Recorder, reader: Client, nats_url: str
) -> None:
    publisher.submit(publication(1))
    await publisher.drained()
    # A stream that takes no more messages refuses, until it takes some again.
    config = (await reader.jetstream().stream_info("EVENTS")).config
    await reader.jetstream().update_stream(config, sealed=False, max_msgs=1, discard="new")
    with capture_logs() as logs:
        for number in (2, 3):
            publisher.submit(publication(number))
        await until(lambda: recorder.failures.count("refused") >= 6)
        assert [entry["event"] for entry in logs] == ["publish_refused"], "one line for all of them"
        said = "the stream EVENTS takes no events: maximum messages exceeded"
        assert publisher.refused == said
        assert (logs[0]["reason"], logs[0]["server"]) == (said, nats_url.removeprefix("nats://"))
        await reader.jetstream().update_stream(config)
        async with asyncio.timeout(60):
            await publisher.drained()
    assert publisher.refused == ""
    assert sorted(recorder.acknowledged_contexts, key=str) == [1, 2, 3]
    assert [entry["event"] for entry in logs] == ["publish_refused", "publish_refusals_over"]
    assert logs[1]["refusals"] == {logs[0]["code"]: recorder.failures.count("refused")}


async def test_a_message_the_stream_never_takes_becomes_a_dead_letter(
    publisher: AckPublisher, recorder: Recorder, reader: Client
) -> None:
    publisher.submit(publication(1))
    await publisher.drained()
    config = (await reader.jetstream().stream_info("EVENTS")).config
    await reader.jetstream().update_stream(config, max_msg_size=400)
    publisher.submit(publication(2, payload=random.Random(1).randbytes(500)))
    # What is refused for its size alone goes compressed, as where the server has the limit.
    publisher.submit(publication(3, payload=b"x" * 500))
    async with asyncio.timeout(60):
        await publisher.drained()
    stored = {m.headers["Nats-Msg-Id"]: m for m in await read_back(reader, "EVENTS")}
    assert stored["session:0:2"].subject == "events.dead_letter.TOO_LARGE"
    assert stored["session:0:3"].subject == "events.TEST"
    assert stored["session:0:3"].headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(stored["session:0:3"].data) == b"x" * 500


async def test_unforeseen_faults_are_logged_and_publishing_goes_on(
    publisher: AckPublisher, recorder: Recorder, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.submit(publication(0))
    await publisher.drained()
    faults = {"sweep", "send", "answer"}

    def fault(name: str) -> None:
        if name in faults:
            faults.remove(name)
            raise ZeroDivisionError(name)

    sweep, acknowledged = publisher.sweep.resend_overdue, recorder.acknowledged
    # Reading `max_payload` comes first in sending.
    limit = publisher._connection.client.max_payload

    def max_payload(_: object) -> int:
        fault("send")
        return limit

    def resend() -> int:
        fault("sweep")
        return sweep()

    def hear(taken: Publication) -> None:
        acknowledged(taken)
        fault("answer")

    with capture_logs() as logs:
        monkeypatch.setattr(type(publisher._connection.client), "max_payload", property(max_payload))
        monkeypatch.setattr(publisher.sweep, "resend_overdue", resend)
        monkeypatch.setattr(recorder, "acknowledged", hear)
        for number in range(1, 4):
            publisher.submit(publication(number))
        async with asyncio.timeout(60):
            await publisher.drained()
        await until(lambda: not faults)
        await until(lambda: len(logs) == 3)
    assert {entry["event"] for entry in logs} == {
        "publish_failed",
        "answer_not_handled",
        "publisher_task_failed",
    }
    assert all(entry["exc_info"] for entry in logs)
    assert sorted(recorder.acknowledged_contexts, key=str) == [0, 1, 2, 3]
    assert len(await read_back(reader, "EVENTS")) == 4
    # The sweep goes on too.
    swept = asyncio.Event()
    monkeypatch.setattr(publisher.sweep, "resend_overdue", swept.set)
    async with asyncio.timeout(60):
        await swept.wait()


async def test_streams_are_made_once_with_their_limits(streams: StreamsOf, reader: Client) -> None:
    await asyncio.gather(streams.ensure(), streams.ensure())
    assert (streams.production.ready, streams.sandboxes.ready) == (True, True)
    sandbox = (await reader.jetstream().stream_info(DEFAULT_NAMES.sandbox_stream(SANDBOX_1))).config
    events = (await reader.jetstream().stream_info("EVENTS")).config
    assert (sandbox.storage, sandbox.max_age, sandbox.max_msgs) == ("memory", 300, 500_000)
    assert (sandbox.max_bytes, sandbox.max_consumers) == (32 * 1024 * 1024, 50)
    assert (events.storage, events.max_age, events.num_replicas) == ("file", 86400, 1)
    assert (events.subjects, sandbox.subjects) == (["events.>"], [f"sandbox.{SANDBOX_1}.events.>"])


async def test_a_server_that_is_away_is_named_and_waited_for(servers: EmbeddedServers, nats_url: str) -> None:
    await servers.nats.kill()
    connection = NatsConnection()
    url = SecretStr(nats_url)
    with pytest.raises(DependencyUnavailable, match="NATS") as refused:
        await connection.connect(url, name="test", within=0.2)
    assert nats_url not in str(refused.value)
    assert not connection.connected
    await servers.nats.start()
    await connection.connect(url, name="test", within=10)
    assert connection.connected
    await servers.nats.kill()
    await until(lambda: not connection.connected)
    with pytest.raises(DependencyUnavailable):
        await Streams(connection.client.jetstream(timeout=0.5), StreamLimits()).ensure()
    await connection.close()
    await servers.nats.start()


async def test_streams_follow_the_settings(connection: NatsConnection, reader: Client) -> None:
    js = reader.jetstream()
    await Streams(js, StreamLimits()).ensure()
    present = (await js.stream_info("EVENTS")).config
    await js.update_stream(present, max_bytes=10**9, subjects=["events.GUILD_CREATE"])
    await Streams(js, StreamLimits(events_max_age=timedelta(hours=2))).ensure()
    changed = (await js.stream_info("EVENTS")).config
    assert (changed.max_age, changed.max_bytes, changed.subjects) == (7200, 10**9, ["events.>"])


async def test_a_stream_that_cannot_be_what_it_has_to_be_is_named(reader: Client) -> None:
    js = reader.jetstream()
    await js.add_stream(
        StreamConfig(
            name="EVENTS", subjects=["events.>"], storage=StorageType.MEMORY, metadata={MADE_BY: MARK}
        )
    )
    streams = Streams(js, StreamLimits())
    with pytest.raises(DependencyUnavailable, match="stream EVENTS has other storage"):
        await streams.ensure()
    assert not streams.ready


async def test_closing_what_never_connected_ends_its_attempts(servers: EmbeddedServers) -> None:
    # Attempts fail every second: closing at many moments meets one that is just failing.
    for moment in range(25):
        connection = NatsConnection()
        with pytest.raises(DependencyUnavailable):
            await connection.connect(SecretStr("nats://127.0.0.1:1"), name="test", within=moment / 10_000)
        async with asyncio.timeout(60):
            await connection.close()
        assert not connection.connected
