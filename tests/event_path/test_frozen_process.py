"""A process that stood still longer than its leases sends and saves nothing it had decided before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from sandbox_core.bootstrap import Core, open_core
from sandbox_core.event_router import EventRouter, GatewayIntake
from sandbox_core.lease_trust import LeaseTrust
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import ResumePoint, Route
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.publisher import AckPublisher
from sandbox_core.nats.stored import StoredEvents
from sandbox_core.routing import RouteTable
from sandbox_core.settings import load_settings
from sandbox_core.sharding.sessions import SessionBook
from tests.streams import StreamsOf, reads_of

from .conftest import GUILD_A, GUILD_B, SANDBOX_1, connected, dispatch, read_back, until
from .test_router import Routes, Slow, intake, router, routes, send, slow

__all__ = ["intake", "router", "routes", "slow"]

APPLICATION = 300000000000000001


class Process:
    """The event path of one process, whose clock can be put forward."""

    def __init__(self, connection: NatsConnection, table: RouteTable) -> None:
        self.ahead = 0.0
        self.connection = connection
        self.routes = Routes()
        self.routes.current_table = table
        streams = StreamsOf(connection.client.jetstream(timeout=3), SANDBOX_1)
        self.router = EventRouter(self.routes, RoutingMetrics(), max_pending=100, now=lambda: 500.0)
        self.publisher = AckPublisher(
            connection, streams, self.router, monotonic=lambda: time.monotonic() + self.ahead
        )
        self.router.attach(self.publisher)
        self.intake = GatewayIntake(self.router)

    async def start(self) -> None:
        self.publisher.trust.extend(time.monotonic() + self.ahead + 5)
        await self.publisher.start()
        await until(lambda: self.publisher.sending)
        # A disconnect that is only told forgets what is buffered, and no reconnect subscribes anew.
        await self.connection.client.flush()

    async def close(self) -> None:
        await self.publisher.close()
        await self.router.close()


@pytest.fixture
async def elsewhere(nats_url: str) -> AsyncIterator[NatsConnection]:
    async with connected(nats_url, "elsewhere") as connection:
        yield connection


async def test_what_was_decided_before_a_freeze_is_not_sent_after_it(
    connection: NatsConnection, elsewhere: NatsConnection, reader: Client
) -> None:
    began = time.time()
    frozen, holder = Process(connection, RouteTable()), Process(elsewhere, RouteTable())
    frozen.intake.adopt("session", 0, 0)
    frozen.intake.adopt("other", 1, 0)
    await frozen.start()
    # Nothing can be sent while NATS is away; then the process freezes beyond its leases.
    frozen.publisher._on_disconnect()
    send(frozen.intake, dispatch(1, guild_id=GUILD_A))
    send(frozen.intake, dispatch(1, guild_id=GUILD_B), 1)
    frozen.ahead += 10

    stored = StoredEvents(reads_of(elsewhere))
    holder.routes.current_table = RouteTable({GUILD_A: Route(SANDBOX_1, 1e12)})
    holder.intake.adopt("session", 0, 0, await stored.sequences("session", 0, after=0, since=began))
    await holder.start()
    send(holder.intake, dispatch(1, guild_id=GUILD_A))
    await holder.router.idle()

    extended = asyncio.Event()

    async def wait_for_trust() -> None:
        extended.set()
        await LeaseTrust.extended(frozen.publisher.trust)

    frozen.publisher.trust.extended = wait_for_trust  # type: ignore[method-assign]
    frozen.publisher._on_reconnect()
    async with asyncio.timeout(60):
        await extended.wait()
    assert not frozen.publisher.sending
    assert await read_back(reader, "EVENTS") == []
    frozen.intake.lose(0)
    frozen.publisher.trust.extend(time.monotonic() + frozen.ahead + 5)
    async with asyncio.timeout(60):
        await frozen.router.idle()
    assert frozen.publisher.outstanding == 0
    for stream, identity in (("EVENTS", "other:1:1"), ("SANDBOX", "session:0:1")):
        assert [m.headers["Nats-Msg-Id"] for m in await read_back(reader, stream)] == [identity]
    await frozen.close()
    await holder.close()


async def test_a_lost_session_leaves_every_lane_and_others_go_on(
    intake: GatewayIntake, router: EventRouter, slow: Slow, routes: Routes
) -> None:
    intake.adopt("other", 1, 0)
    ledger = intake.ledger(0)
    assert ledger is not None
    # Events of no guild share a lane: lost, other, lost, other; the other ones keep their order.
    for seq in (1, 2):
        send(intake, dispatch(seq), 0)
        send(intake, dispatch(seq), 1)
    # A guild in the middle of a switch, and one whose route nobody knows.
    send(intake, dispatch(3, guild_id=GUILD_A))
    send(intake, dispatch(4, guild_id=GUILD_A))
    drained = []
    router.switching.on_drained = lambda: drained.append(router.switching.in_flight(GUILD_A))
    router.switching.pause({GUILD_A})
    routes.current_table = None
    for seq in (5, 6, 7, 8):
        send(intake, dispatch(seq, guild_id=GUILD_B))
    # One of them is a sandbox's for certain, and not production's to wait for.
    assert (router.pending, router.full, router.held) == (10, False, 4)

    intake.lose(0)
    assert drained == [False]
    assert (router.pending, router.full, router.held) == (2, False, 0)
    assert (ledger.lag, ledger.acknowledged, ledger.received) == (0, 0, 8)
    send(intake, dispatch(9, guild_id=GUILD_A))
    assert router.pending == 2
    assert [p.headers["Nats-Msg-Id"] for p in slow.in_flight()] == ["other:1:1"]
    for expected in ("other:1:1", "other:1:2"):
        (publication,) = slow.in_flight()
        assert publication.headers["Nats-Msg-Id"] == expected
        slow.withdraw(publication)
        router.acknowledged([publication])
    async with asyncio.timeout(1):
        await router.idle()
    other = intake.ledger(1)
    assert other is not None
    assert (other.acknowledged, other.lag) == (2, 0)


async def test_what_stays_of_a_switching_guild_keeps_the_old_side(
    intake: GatewayIntake, router: EventRouter, slow: Slow, routes: Routes
) -> None:
    send(intake, dispatch(1, guild_id=GUILD_A))
    send(intake, dispatch(2, guild_id=GUILD_A))
    # A session that Discord ended is resumed by nobody: its events are published here.
    intake.forget(0)
    intake.adopt("next", 0, 0)
    send(intake, dispatch(1, guild_id=GUILD_A))
    router.switching.pause({GUILD_A})
    send(intake, dispatch(2, guild_id=GUILD_A))
    intake.lose(0)
    assert router.pending == 2
    routes.current_table = RouteTable()
    for seq in (1, 2):
        (publication,) = slow.in_flight()
        assert publication.headers["Nats-Msg-Id"] == f"session:0:{seq}"
        assert publication.subject == f"sandbox.{SANDBOX_1}.events.MESSAGE_CREATE"
        slow.withdraw(publication)
        router.acknowledged([publication])
    assert not router.switching.in_flight(GUILD_A)
    assert router.pending == 0


@pytest.fixture
async def core(database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Core]:
    settings = load_settings(
        _env_file=None, database_url=database_url, redis_url=redis_url, nats_url=nats_url
    )
    async with open_core(settings) as opened:
        yield opened


async def test_a_thawed_process_writes_nothing_over_the_new_holders_resume_point(core: Core) -> None:
    ahead = 0.0
    books, intakes = [], []
    for _ in range(2):
        intake = GatewayIntake(core.router)
        book = SessionBook(
            core.resume_points,
            intake,
            core.metrics,
            trust=LeaseTrust(),
            monotonic=lambda: time.monotonic() + ahead,
        )
        await book.open(APPLICATION, (0,), 1)
        assert book._saver is not None
        book._saver.cancel()
        books.append(book)
        intakes.append(intake)
    for book, intake, session_id in zip(books, intakes, ("old", "new"), strict=True):
        book._trust.extend(time.monotonic() + ahead + 5)
        send(intake, dispatch(1, "READY", session_id=session_id, shard=[0, 1]))
        book.of(0).began("wss://resume.invalid")
        await book._save()
        ahead += 20
    frozen, _ = books

    async def saved() -> str:
        point = await core.resume_points.load(APPLICATION, 0, 1)
        assert point is not None
        return point.session_id

    assert await saved() == "new"
    await frozen._save()
    assert await saved() == "new"
    # The lease keeper has heard who has the shard.
    frozen.of(0).disown()
    frozen._trust.extend(time.monotonic() + ahead + 5)
    await frozen._save()
    assert await saved() == "new"
    await core.router.idle()


async def test_a_process_that_does_not_know_that_it_lost_its_lease_writes_over_nothing(core: Core) -> None:
    """It is cut off from PostgreSQL, and so its trust holds."""
    books, intakes = [], []
    for epoch in (4, 5):
        intake = GatewayIntake(core.router)
        book = SessionBook(core.resume_points, intake, core.metrics)
        book.lease_epoch = lambda shard_id, epoch=epoch: epoch + shard_id  # type: ignore[misc]
        await book.open(APPLICATION, (0,), 1)
        assert book._saver is not None
        book._saver.cancel()
        books.append(book)
        intakes.append(intake)
    for book, intake, session_id in zip(books, intakes, ("old", "new"), strict=True):
        send(intake, dispatch(1, "READY", session_id=session_id, shard=[0, 1]))
        book.of(0).began("wss://resume.invalid")
        await book._save()
    cut_off, _ = books
    send(intakes[0], dispatch(2, guild_id=GUILD_A))
    await core.router.idle()
    await cut_off._save()
    point = await core.resume_points.load(APPLICATION, 0, 1)
    assert point is not None
    assert (point.session_id, point.epoch) == ("new", 5)
    # Who goes on with a session while PostgreSQL is away has no lease, and stands where it found it.
    successor = SessionBook(core.resume_points, GatewayIntake(core.router), core.metrics)
    await successor.open(APPLICATION, (0,), 1)
    found = successor.of(0).resume_point()
    assert found is not None
    successor.of(0).resuming(found)
    # With a database that was restored from a copy the epochs go back, too.
    for sequence, leased, epoch in ((2, 0, 5), (3, 9, 9), (4, 2, 9)):
        successor.lease_epoch = lambda shard_id, leased=leased: leased  # type: ignore[misc]
        send(successor._intake, dispatch(sequence, guild_id=GUILD_A))
        await core.router.idle()
        await successor._save()
        point = await core.resume_points.load(APPLICATION, 0, 1)
        assert point is not None
        assert (point.session_id, point.sequence, point.epoch) == ("new", sequence, epoch)
    await successor.close()


async def test_the_saver_outlives_an_unforeseen_fault(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    book = SessionBook(core.resume_points, core.intake, core.metrics)
    store = core.resume_points
    save = store.save
    failed = 0

    async def fail(application_id: int, shard_count: int, points: Mapping[int, ResumePoint]) -> None:
        nonlocal failed
        failed += 1
        if failed == 1:
            raise ZeroDivisionError
        await save(application_id, shard_count, points)

    monkeypatch.setattr(store, "save", fail)
    monkeypatch.setattr("sandbox_core.sharding.tuning.AFTER_FAILURE", 0.01)
    with capture_logs() as logs:
        await book.open(APPLICATION, (0,), 1)
        send(core.intake, dispatch(1, "READY", session_id="session", shard=[0, 1]))
        book.of(0).began("wss://resume.invalid")
        await until(lambda: failed > 1)
    (entry,) = [entry for entry in logs if entry["event"] == "resume_points_not_saved"]
    assert entry["exc_info"]
    await book.close()
    point = await store.load(APPLICATION, 0, 1)
    assert point is not None
    assert point.session_id == "session"
    await core.router.idle()
