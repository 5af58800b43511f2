"""After an outage longer than the duplicate window nothing is stored twice, on a real nats-server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from structlog.testing import capture_logs

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.ack_inbox import PubAckError
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.late import LateResends
from sandbox_core.nats.publication import Publication
from sandbox_core.nats.publisher import AckPublisher
from sandbox_core.nats.stored import StoredEvents
from sandbox_core.nats.streams import StreamLimits, Streams
from sandbox_core.nats.wire import Label
from tests.streams import StreamsOf, reads_of

from .conftest import SANDBOX_1, read_back, until
from .test_publisher import Clock, Recorder, publication

_WINDOW = timedelta(seconds=0.5)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def publisher(
    connection: NatsConnection, recorder: Recorder, clock: Clock
) -> AsyncIterator[AckPublisher]:
    js = connection.client.jetstream(timeout=2)
    publisher = AckPublisher(
        connection,
        StreamsOf(js, SANDBOX_1, limits=StreamLimits(duplicate_window=_WINDOW)),
        recorder,
        stored=StoredEvents(reads_of(connection)),
        duplicate_window=_WINDOW,
        monotonic=clock,
    )
    await publisher.start()
    await until(lambda: publisher.sending)
    yield publisher
    await publisher.close()


async def unheard(publisher: AckPublisher, *publications: Publication) -> None:
    """Send, and lose the answers."""
    lost: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "stored", lost.extend)
        for each in publications:
            publisher.submit(each)
        await until(lambda: len(lost) == len(publications))


def lost_on_the_way(publisher: AckPublisher, *publications: Publication) -> None:
    """Send, and have nothing arrive."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher._wire, "put", lambda *_: True)
        for each in publications:
            publisher.submit(each)


async def forgotten(js: JetStreamContext) -> None:
    """Return when the server has forgotten the ids of what is stored by now."""
    await js.publish("events.PROBE", headers={"Nats-Msg-Id": "probe"})
    async with asyncio.timeout(60):
        while (await js.publish("events.PROBE", headers={"Nats-Msg-Id": "probe"})).duplicate:
            await asyncio.sleep(0.05)


async def stored_ids(reader: Client, stream: str = "EVENTS") -> list[str]:
    ids = [message.headers["Nats-Msg-Id"] for message in await read_back(reader, stream)]
    return [identity for identity in ids if identity != "probe"]


async def test_what_is_stored_counts_as_acknowledged_and_the_rest_is_sent(
    publisher: AckPublisher, recorder: Recorder, clock: Clock, reader: Client
) -> None:
    other = Publication(Label(f"sandbox.{SANDBOX_1}.events.X", {}), "other:3:7", b"{}", "other")
    await unheard(publisher, publication(1), other, publication(3))
    lost_on_the_way(publisher, publication(2), publication(4))
    await forgotten(reader.jetstream())
    clock.now += 60
    with capture_logs() as logs:
        assert publisher.sweep.resend_overdue() in {0, 5}
        async with asyncio.timeout(60):
            await publisher.drained()
    assert await stored_ids(reader) == ["session:0:1", "session:0:3", "session:0:2", "session:0:4"]
    assert await stored_ids(reader, "SANDBOX") == ["other:3:7"]
    assert sorted(recorder.acknowledged_contexts, key=str) == [1, 2, 3, 4, "other"]
    assert [entry["sessions"] for entry in logs if entry["event"] == "stored_events_read"] == [2], (
        "one reading"
    )
    (judged,) = [entry for entry in logs if entry["event"] == "late_resends_judged"]
    assert (judged["publications"], judged["stored"]) == (5, 3)


async def test_an_outage_longer_than_the_window_stores_nothing_twice(
    publisher: AckPublisher, recorder: Recorder, clock: Clock, reader: Client, servers: EmbeddedServers
) -> None:
    sandboxed = Publication(Label(f"sandbox.{SANDBOX_1}.events.X", {}), "session:0:9", b"{}", 9)
    await unheard(publisher, *(publication(number) for number in range(5)), sandboxed)
    lost_on_the_way(publisher, publication(5))
    await forgotten(reader.jetstream())
    await servers.nats.kill()
    await until(lambda: not publisher.sending)
    publisher.submit(publication(6))
    clock.now += 600
    await servers.nats.start()
    async with asyncio.timeout(60):
        await publisher.drained()
    await until(lambda: reader.is_connected)
    assert sorted(await stored_ids(reader)) == [f"session:0:{number}" for number in range(7)]
    # The memory stream was lost with its server; nobody has the event.
    assert await stored_ids(reader, "SANDBOX") == ["session:0:9"]
    assert sorted(recorder.acknowledged_contexts, key=str) == [0, 1, 2, 3, 4, 5, 6, 9]


async def test_within_the_window_nothing_is_asked(
    publisher: AckPublisher, clock: Clock, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(LateResends, "ask", lambda _, late: asked.append(late))
    publisher.sweep._ack_timeout = 0.1
    await unheard(publisher, publication(1))
    clock.now += _WINDOW.total_seconds() / 2
    publisher.sweep.resend_overdue()
    async with asyncio.timeout(60):
        await publisher.drained()
    assert asked == []
    assert await stored_ids(reader) == ["session:0:1"]


async def test_what_was_refused_each_time_is_not_late(
    publisher: AckPublisher, clock: Clock, reader: Client
) -> None:
    taken = publication(1)
    lost_on_the_way(publisher, taken)
    assert publisher._late is not None
    assert publisher._late.is_late(taken, clock.now + 60)
    with capture_logs():
        publisher.not_stored(taken.number, PubAckError(10077, "maximum messages exceeded"))
        assert not publisher._late.is_late(taken, clock.now + 60)
        clock.now += 60
        async with asyncio.timeout(60):
            await publisher.drained()
    assert await stored_ids(reader) == ["session:0:1"]


class Stored:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int, float]] = []
        self.answer = asyncio.Event()
        self.faults: list[Exception] = []

    async def sequences(self, session_id: str, shard_id: int, *, after: int, since: float) -> set[int]:
        self.asked.append((session_id, shard_id, after, since))
        if self.faults:
            raise self.faults.pop()
        await self.answer.wait()
        return {7}


class Judgements:
    def __init__(self) -> None:
        self.found_ids: list[str] = []
        self.missing_ids: list[str] = []

    def found(self, publication: Publication) -> None:
        self.found_ids.append(publication.message_id)

    def missing(self, publication: Publication) -> None:
        self.missing_ids.append(publication.message_id)


def late(message_id: str, since: float) -> Publication:
    publication = Publication(Label("events.X", {}), message_id, b"", None)
    publication.unanswered, publication.unanswered_since = 1, since
    return publication


async def test_one_question_per_session_is_asked_until_it_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sandbox_core.nats.late._PAUSE", 0.01)
    stored, judgements, clock = Stored(), Judgements(), Clock()
    clock.now = 1000.0
    resends = LateResends(stored, judgements, duplicate_window=100.0, monotonic=clock, now=lambda: 50_000.0)
    away = DependencyUnavailable("NATS", "away")
    # Two sessions are asked for: the first question fails with both.
    stored.faults = [away, away, away, ValueError()]
    assert not resends.is_late(late("a:0:1", 0.0), clock.now)
    assert not resends.is_late(late("a:0:1", 921.0), clock.now)
    assert resends.is_late(late("a:0:1", 920.0), clock.now)
    with capture_logs() as logs:
        for message_id, since in (("a:0:7", 880.0), ("a:0:9", 890.0), ("a:1:7", 895.0), ("nameless", 899.0)):
            resends.ask(late(message_id, since))
        await until(lambda: len(stored.asked) == 6)
        # What becomes late meanwhile is in the next question.
        resends.ask(late("b:0:7", 850.0))
        stored.answer.set()
        await until(lambda: len(judgements.found_ids) == 3)
    assert stored.asked[-3:-1] == [("a", 0, 6, 49_880.0), ("a", 1, 6, 49_880.0)]
    assert stored.asked[-1] == ("b", 0, 6, 49_850.0)
    assert judgements.found_ids == ["a:0:7", "a:1:7", "b:0:7"]
    assert judgements.missing_ids == ["a:0:9", "nameless"]
    assert [entry["event"] for entry in logs] == [
        "late_resends_not_judged",
        "late_resends_wait",
        "late_resends_judged",
        "late_resends_judged",
    ]
    await resends.close()


async def test_what_is_acknowledged_while_it_is_asked_for_is_sent_no_more(
    connection: NatsConnection, recorder: Recorder, clock: Clock, reader: Client
) -> None:
    stored = Stored()
    streams = Streams(connection.client.jetstream(timeout=2), StreamLimits())
    publisher = AckPublisher(connection, streams, recorder, stored=stored, monotonic=clock)
    await publisher.start()
    await until(lambda: publisher.sending)
    heard_late, gone = publication(8), publication(9)
    lost_on_the_way(publisher, heard_late, gone)
    clock.now += 600
    publisher.sweep.resend_overdue()
    await until(lambda: stored.asked)
    publisher.stored([heard_late.number])
    publisher.withdraw(gone)
    stored.answer.set()
    publisher.submit(publication(10))
    async with asyncio.timeout(60):
        await publisher.drained()
    assert await stored_ids(reader) == ["session:0:10"]
    assert recorder.acknowledged_contexts == [8, 10]
    await publisher.close()


async def test_closing_ends_the_question(clock: Clock) -> None:
    stored, judgements = Stored(), Judgements()
    resends = LateResends(stored, judgements, duplicate_window=1.0, monotonic=clock, now=time.time)
    await resends.close()
    resends.ask(late("a:0:7", 1.0))
    await until(lambda: stored.asked)
    async with asyncio.timeout(60):
        await resends.close()
    assert (judgements.found_ids, judgements.missing_ids) == ([], [])
