"""Deciding and publishing: the order per guild, waiting, and exactly one destination per event."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Collection

import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.event_router import EventRouter, GatewayIntake
from sandbox_core.event_router.lane import Lanes
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import Route
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.publication import Publication
from sandbox_core.nats.publisher import AckPublisher
from sandbox_core.nats.wire import Label
from sandbox_core.routing import RouteTable, TrustedTable
from tests.streams import StreamsOf

from .conftest import GUILD_A, GUILD_B, SANDBOX_1, SANDBOX_2, dispatch, read_back, until


class Routes:
    """Routes in the test's hand: a table, or none and an answer that comes when the test says so."""

    def __init__(self) -> None:
        self.trusted = TrustedTable(RouteTable({GUILD_A: Route(SANDBOX_1, 1000.0)}), math.inf)
        self.behind: RouteTable | None = None
        self.asked: list[set[str]] = []

    @property
    def current_table(self) -> RouteTable | None:
        return self.trusted.table

    @current_table.setter
    def current_table(self, table: RouteTable | None) -> None:
        self.trusted.table = table

    async def resolve(self, guild_ids: Collection[str]) -> RouteTable:
        self.asked.append(set(guild_ids))
        await asyncio.sleep(0)
        table = self.current_table or self.behind
        if table is None:
            raise DependencyUnavailable("PostgreSQL", "it is away")
        return table


class Slow:
    """A publisher whose acknowledgements the test gives, in any order it likes."""

    def __init__(self) -> None:
        self.taken: list[Publication] = []
        self.withdrawn: list[Publication] = []

    def submit(self, publication: Publication) -> None:
        self.taken.append(publication)

    def in_flight(self) -> list[Publication]:
        return [publication for publication in self.taken if publication not in self.withdrawn]

    def withdraw(self, publication: Publication) -> None:
        self.withdrawn.append(publication)


@pytest.fixture
def routes() -> Routes:
    return Routes()


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
async def router(routes: Routes, slow: Slow) -> AsyncIterator[EventRouter]:
    router = EventRouter(routes, RoutingMetrics(), max_pending=10, now=lambda: 500.0)
    router.attach(slow)
    yield router
    await router.close()


@pytest.fixture
def intake(router: EventRouter) -> GatewayIntake:
    intake = GatewayIntake(router)
    intake.adopt("session", 0, 0)
    return intake


def send(intake: GatewayIntake, raw: bytes, shard_id: int = 0) -> None:
    frame = intake.read(raw)
    assert frame is not None
    intake.take(frame, shard_id)


def subjects(publications: list[Publication]) -> list[str]:
    return [publication.subject for publication in publications]


async def test_one_guild_waits_for_its_acknowledgement_and_others_do_not(
    intake: GatewayIntake, router: EventRouter, slow: Slow
) -> None:
    for seq in (1, 2, 3):
        send(intake, dispatch(seq, guild_id=GUILD_A))
    send(intake, dispatch(4, guild_id=GUILD_B))
    send(intake, dispatch(5))
    assert [p.headers["Nats-Msg-Id"] for p in slow.taken] == ["session:0:1", "session:0:4", "session:0:5"]
    router.acknowledged([slow.taken[0]])
    router.acknowledged([slow.taken[3]])
    assert slow.taken[4].headers["Nats-Msg-Id"] == "session:0:3"
    ledger = intake.ledger(0)
    assert ledger is not None
    assert (ledger.acknowledged, router.pending, intake.lag) == (2, 3, 3)
    for publication in slow.taken[1:3] + slow.taken[4:]:
        router.acknowledged([publication])
    async with asyncio.timeout(1):
        await router.idle()
    assert ledger.acknowledged == 5
    send(intake, dispatch(6, guild_id=GUILD_A))
    assert slow.taken[-1].headers["Nats-Msg-Id"] == "session:0:6"


async def test_subject_headers_and_payload(intake: GatewayIntake, slow: Slow) -> None:
    raw = dispatch(1, guild_id=GUILD_A, content="  ünï  ")
    send(intake, raw)
    send(intake, dispatch(2, "TYPING_START"))
    sandboxed, production = slow.taken
    assert sandboxed.subject == f"sandbox.{SANDBOX_1}.events.MESSAGE_CREATE"
    assert sandboxed.payload is raw
    assert sandboxed.headers == {
        "Nats-Msg-Id": "session:0:1",
        "Nats-Expected-Stream": "SANDBOX_3f2a9c01",
        "Discord-Event": "MESSAGE_CREATE",
        "Discord-Guild-Id": GUILD_A,
        "Discord-Shard": "0",
        "Sandbox-Id": SANDBOX_1,
    }
    assert production.subject == "events.TYPING_START"
    assert production.headers == {
        "Nats-Msg-Id": "session:0:2",
        "Nats-Expected-Stream": "EVENTS",
        "Discord-Event": "TYPING_START",
        "Discord-Shard": "0",
    }


async def test_what_is_handled_here_is_done_and_not_published(
    intake: GatewayIntake, router: EventRouter, slow: Slow
) -> None:
    send(intake, dispatch(1, "READY", session_id="new", shard=[0, 1]))
    send(intake, dispatch(2, "INTERACTION_CREATE", type=2, guild_id=GUILD_A, data={"name": "sandbox"}))
    send(intake, dispatch(3, "RESUMED"))
    ledger = intake.ledger(0)
    assert ledger is not None
    assert (ledger.session_id, ledger.acknowledged, slow.taken, router.pending) == ("new", 3, [], 0)


async def test_a_bad_event_name_is_a_dead_letter(intake: GatewayIntake, slow: Slow) -> None:
    send(intake, dispatch(1, "bad.>\r\nname", guild_id=GUILD_A))
    assert slow.taken[0].subject == "events.dead_letter.BAD_TYPE"
    assert slow.taken[0].headers["Discord-Event"] == "BAD_TYPE"


async def test_what_messages_have_in_common_is_kept_for_the_latest_of_them_only(
    intake: GatewayIntake, router: EventRouter, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router, "lanes", Lanes(most=2))
    guild_ids = [str(10**17 + number) for number in (0, 0, 1, 2, 0)]
    for seq, guild_id in enumerate(guild_ids, 1):
        send(intake, dispatch(seq, guild_id=guild_id))
        # One of a guild at a time is on its way.
        router.acknowledged([slow.taken[-1]])
    send(intake, dispatch(6, "bad.name", guild_id=GUILD_A))
    assert [p.headers["Discord-Guild-Id"] for p in slow.taken] == [*guild_ids, GUILD_A]
    assert [p.message_id for p in slow.taken] == [f"session:0:{seq}" for seq in range(1, 7)]
    assert slow.taken[0].label is slow.taken[1].label
    assert slow.taken[0].label is not slow.taken[4].label
    assert set(router.lanes) == {GUILD_A}


async def test_a_full_router_holds_its_source_back_until_half_is_done(
    intake: GatewayIntake, router: EventRouter, slow: Slow
) -> None:
    for seq in range(1, 10):
        send(intake, dispatch(seq, guild_id=str(10**17 + seq)))
    assert not intake.full
    # A sandbox's event counts towards its own budget.
    send(intake, dispatch(10, guild_id=GUILD_A))
    assert not intake.full
    send(intake, dispatch(11, guild_id=GUILD_B))
    assert intake.full
    waiting = asyncio.create_task(intake.room())
    for publication in slow.taken[:4]:
        router.acknowledged([publication])
    await asyncio.sleep(0)
    assert not waiting.done()
    router.acknowledged([slow.taken[4]])
    async with asyncio.timeout(1):
        await waiting
    assert not intake.full


async def test_events_of_an_unknown_side_wait_and_are_never_guessed(
    intake: GatewayIntake, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    routes.current_table = None
    send(intake, dispatch(1, guild_id=GUILD_A))
    send(intake, dispatch(2, guild_id=GUILD_B))
    await until(lambda: router.waiting_for)
    assert (router.waiting_for, router.held, slow.taken) == ("PostgreSQL: it is away", 2, [])
    routes.current_table = RouteTable({GUILD_A: Route(SANDBOX_2, 1000.0)})
    # What comes later waits behind what is held, or the order would be lost.
    send(intake, dispatch(3, guild_id=GUILD_A))
    assert slow.taken == []
    await until(lambda: len(slow.taken) == 2)
    assert subjects(slow.taken) == [f"sandbox.{SANDBOX_2}.events.MESSAGE_CREATE", "events.MESSAGE_CREATE"]
    router.acknowledged([slow.taken[0]])
    assert slow.taken[2].headers["Nats-Msg-Id"] == "session:0:3"
    assert router.waiting_for == ""


async def test_without_a_current_table_each_batch_is_looked_up_once(
    intake: GatewayIntake, routes: Routes, slow: Slow
) -> None:
    routes.current_table, routes.behind = None, RouteTable({GUILD_A: Route(SANDBOX_1, 1000.0)})
    send(intake, dispatch(1, guild_id=GUILD_A))
    send(intake, dispatch(2, guild_id=GUILD_B))
    send(intake, dispatch(3, "USER_UPDATE"))
    await until(lambda: len(slow.taken) == 3)
    assert routes.asked == [{GUILD_A, GUILD_B}]


async def test_a_replayed_frame_is_taken_once(intake: GatewayIntake, router: EventRouter, slow: Slow) -> None:
    send(intake, dispatch(1, guild_id=GUILD_A))
    send(intake, dispatch(1, guild_id=GUILD_A))
    router.acknowledged([slow.taken[0]])
    send(intake, dispatch(1, guild_id=GUILD_A))
    assert (len(slow.taken), router.pending) == (1, 0)


async def test_frames_that_are_nobodys(intake: GatewayIntake, slow: Slow) -> None:
    assert intake.read(b"no frame") is None
    send(intake, b'{"op":11}')
    send(intake, dispatch(1, guild_id=GUILD_A), shard_id=5)
    assert slow.taken == []
    assert intake.ledger(5) is None


async def test_a_session_taken_over_goes_on_from_its_sequence(intake: GatewayIntake, slow: Slow) -> None:
    intake.adopt("older", 3, 40)
    intake.adopt("older", 3, 0)
    send(intake, dispatch(40), shard_id=3)
    send(intake, dispatch(41), shard_id=3)
    assert [p.headers["Nats-Msg-Id"] for p in slow.taken] == ["older:3:41"]


async def test_a_publication_of_somebody_else_is_refused(router: EventRouter, slow: Slow) -> None:
    with pytest.raises(TypeError):
        router.acknowledged([Publication(Label("events.X", {}), "session:0:1", b"", None)])


async def test_held_events_outlive_an_unforeseen_fault(
    intake: GatewayIntake, router: EventRouter, routes: Routes, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes.current_table = None
    resolve = routes.resolve
    failed = 0

    async def fail(guild_ids: Collection[str]) -> RouteTable:
        nonlocal failed
        failed += 1
        if failed > 1:
            return await resolve(guild_ids)
        raise ZeroDivisionError

    monkeypatch.setattr(routes, "resolve", fail)
    with capture_logs() as logs:
        send(intake, dispatch(1, guild_id=GUILD_A))
        await until(lambda: router.waiting_for)
        assert (router.held, slow.taken) == (1, [])
        await until(lambda: failed > 1)
        assert router.waiting_for.startswith("PostgreSQL") or router.held
        routes.behind = RouteTable({GUILD_A: Route(SANDBOX_1, 1000.0)})
        await until(lambda: slow.taken)
    assert logs[0]["event"] == "held_events_not_answered"
    assert logs[0]["exc_info"]
    await until(lambda: not router.waiting_for)
    assert subjects(slow.taken) == [f"sandbox.{SANDBOX_1}.events.MESSAGE_CREATE"]


async def test_nothing_waits_once_a_held_session_is_lost(
    intake: GatewayIntake, router: EventRouter, routes: Routes
) -> None:
    routes.current_table = None
    send(intake, dispatch(1, guild_id=GUILD_A))
    await until(lambda: router.waiting_for)
    intake.lose(0)
    await until(lambda: not router.waiting_for)
    assert (router.pending, router.held) == (0, 0)


async def test_a_router_without_publisher_says_so(routes: Routes) -> None:
    intake = GatewayIntake(EventRouter(routes, RoutingMetrics(), max_pending=10))
    intake.adopt("session", 0, 0)
    with pytest.raises(RuntimeError, match="publisher"):
        send(intake, dispatch(1))


async def test_a_flood_reaches_both_streams_once_and_in_order(
    routes: Routes, connection: NatsConnection, reader: Client
) -> None:
    metrics = RoutingMetrics()
    router = EventRouter(routes, metrics, max_pending=5000, now=lambda: 500.0)
    publisher = AckPublisher(connection, StreamsOf(connection.client.jetstream(), SANDBOX_1), router)
    router.attach(publisher)
    await publisher.start()
    intake = GatewayIntake(router)
    intake.adopt("session", 0, 0)
    guild_ids = [GUILD_A, GUILD_B, *(str(10**17 + number) for number in range(8))]
    for seq in range(1, 3001):
        send(intake, dispatch(seq, guild_id=guild_ids[seq % 10]))
    async with asyncio.timeout(60):
        await router.idle()
    await publisher.close()
    production, sandboxed = await read_back(reader, "EVENTS"), await read_back(reader, "SANDBOX")
    assert (len(production), len(sandboxed)) == (2700, 300)
    assert {message.headers["Discord-Guild-Id"] for message in sandboxed} == {GUILD_A}
    for guild_id in guild_ids:
        seqs = [
            int(message.headers["Nats-Msg-Id"].rsplit(":", 1)[1])
            for message in production + sandboxed
            if message.headers["Discord-Guild-Id"] == guild_id
        ]
        assert seqs == sorted(seqs)
        assert len(seqs) == 300
    assert metrics.routed["production"] + metrics.routed["sandbox"] == 3000
    assert sum(metrics.route_seconds.counts) == 3000


async def test_what_is_too_large_for_its_sandbox_is_a_dead_letter_and_the_guild_goes_on(
    routes: Routes, connection: NatsConnection, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(connection.client), "max_payload", property(lambda _: 2000))
    metrics = RoutingMetrics()
    router = EventRouter(routes, metrics, max_pending=10, now=lambda: 500.0)
    publisher = AckPublisher(connection, StreamsOf(connection.client.jetstream(), SANDBOX_1), router)
    router.attach(publisher)
    await publisher.start()
    intake = GatewayIntake(router)
    intake.adopt("session", 0, 0)
    send(intake, dispatch(1, guild_id=GUILD_A, content=random.Random(1).randbytes(4000).hex()))
    send(intake, dispatch(2, guild_id=GUILD_A))
    async with asyncio.timeout(60):
        await router.idle()
    await publisher.close()
    [letter], [event] = await read_back(reader, "EVENTS"), await read_back(reader, "SANDBOX")
    assert letter.subject == "events.dead_letter.TOO_LARGE"
    assert letter.headers["Dead-Letter-Subject"] == f"sandbox.{SANDBOX_1}.events.MESSAGE_CREATE"
    assert event.headers["Nats-Msg-Id"] == "session:0:2"
    assert {side: count for side, count in metrics.routed.items() if count} == {
        "dead_letter": 1,
        "sandbox": 1,
    }
