"""The sandboxes' stream refuses, on a real server: production goes on, and every lost event is counted."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import suppress

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StreamConfig
from nats.js.errors import APIError, NotFoundError
from structlog.testing import capture_logs

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.event_router import BudgetLimits, EventRouter, GatewayIntake
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import Route
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.sandbox_streams import sandbox_config
from sandbox_core.nats.streams import StreamLimits
from sandbox_core.publishers import Publishers, open_publishers
from sandbox_core.routing import RouteTable, TrustedTable
from sandbox_core.subjects import DEFAULT_NAMES
from tests.streams import living

from .conftest import GUILD_A, GUILD_B, SANDBOX_1, SANDBOX_2, dispatch, read_back, until

GUILD_C = "613625648685547541"
_BUDGET = 50
_SUBJECT = f"sandbox.{SANDBOX_1}.events.FLOOD"
_STREAM = DEFAULT_NAMES.sandbox_stream(SANDBOX_1)


class FixedRoutes:
    """A's events go to one sandbox, C's to another, B's to production."""

    def __init__(self) -> None:
        routes = {GUILD_A: Route(SANDBOX_1, math.inf), GUILD_C: Route(SANDBOX_2, math.inf)}
        self.trusted = TrustedTable(RouteTable(routes), math.inf)

    async def resolve(self, guild_ids: Collection[str]) -> RouteTable:
        raise AssertionError("the table is known")


class World:
    """A router with both publishers, and a clock that can be moved on."""

    def __init__(
        self, connection: NatsConnection, reader: Client, sandboxes: NatsConnection | None = None
    ) -> None:
        self.js: JetStreamContext = reader.jetstream()
        self.reader = reader
        self.ahead = 0.0
        self.metrics = RoutingMetrics()
        self.routes = FixedRoutes()
        self.router = EventRouter(
            self.routes,
            self.metrics,
            max_pending=100,
            sandbox_limits=BudgetLimits(events=_BUDGET, all_events=3 * _BUDGET),
            monotonic=self.clock,
        )
        self.publishers: Publishers = open_publishers(
            connection,
            sandboxes or connection,
            StreamLimits(),
            self.router,
            living=living(SANDBOX_1, SANDBOX_2),
            tracing=None,
            monotonic=self.clock,
        )
        self.intake = GatewayIntake(self.router, monotonic=self.clock)
        self.intake.adopt("session", 0, 0)
        self.sent: dict[str, list[str]] = {GUILD_A: [], GUILD_B: [], GUILD_C: []}
        self.seq = 0

    def clock(self) -> float:
        return time.monotonic() + self.ahead

    def send(self, guild_id: str) -> None:
        self.seq += 1
        frame = self.intake.read(dispatch(self.seq, guild_id=guild_id))
        assert frame is not None
        self.intake.take(frame, 0)
        self.sent[guild_id].append(f"session:0:{self.seq}")

    async def flood(self, rounds: int) -> None:
        """So many events of A and of B, at the pace at which production takes them."""
        for _ in range(rounds):
            self.send(GUILD_A)
            self.send(GUILD_B)
            async with asyncio.timeout(30):
                await self.intake.room()
            await asyncio.sleep(0)

    @property
    def dropped(self) -> int:
        return sum(self.metrics.sandbox_dropped.values())

    async def stored(self, guild_id: str) -> list[str]:
        return await self.stored_in("EVENTS" if guild_id == GUILD_B else "SANDBOX", guild_id)

    async def stored_in(self, stream: str, guild_id: str) -> list[str]:
        return [
            m.headers["Nats-Msg-Id"]
            for m in await read_back(self.reader, stream)
            if (m.headers or {}).get("Discord-Guild-Id") == guild_id
        ]

    async def production_is_done(self) -> None:
        await until(lambda: self.router.backlog.count == 0)
        assert await self.stored(GUILD_B) == self.sent[GUILD_B]


@pytest.fixture
async def world(connection: NatsConnection, reader: Client) -> AsyncIterator[World]:
    world = World(connection, reader)
    await world.publishers.start()
    await until(lambda: world.publishers.production.takes and world.publishers.sandboxes.takes)
    yield world
    await world.publishers.close()
    await world.router.close()


async def _flood(js: JetStreamContext, payload: bytes) -> None:
    for _ in range(1000):
        await js.publish(_SUBJECT, payload)


async def _full(js: JetStreamContext) -> None:
    await js.update_stream(_sandbox(max_bytes=20_000, discard=DiscardPolicy.NEW))
    # Foreign publishes, until the stream takes no more.
    with pytest.raises(APIError, match="maximum bytes"):
        await _flood(js, b"x" * 1000)
    with pytest.raises(APIError, match="maximum bytes"):
        await _flood(js, b"x")


async def _few_of_a_subject(js: JetStreamContext) -> None:
    await js.update_stream(
        _sandbox(max_msgs_per_subject=1, discard=DiscardPolicy.NEW, discard_new_per_subject=True)
    )


async def _sealed(js: JetStreamContext) -> None:
    await js.update_stream(_sandbox(sealed=True))


async def _taken(js: JetStreamContext) -> None:
    await js.delete_stream(_STREAM)
    await js.add_stream(StreamConfig(name="OTHER", subjects=[f"sandbox.{SANDBOX_1}.>"]))


async def _elsewhere(js: JetStreamContext) -> None:
    await js.delete_stream(_STREAM)
    await js.add_stream(StreamConfig(name=_STREAM, subjects=["other.>"]))


async def _edited_back(js: JetStreamContext) -> None:
    await js.purge_stream(_STREAM)
    await js.update_stream(_sandbox())


async def _deleted(js: JetStreamContext) -> None:
    for name in ("OTHER", _STREAM):
        with suppress(NotFoundError):
            await js.delete_stream(name)


def _sandbox(**changes: object) -> StreamConfig:
    return sandbox_config(StreamLimits(), SANDBOX_1).evolve(**changes)


Act = Callable[[JetStreamContext], Awaitable[None]]


@pytest.mark.parametrize(
    ("hinder", "mend", "said"),
    [
        (_full, _edited_back, "maximum bytes exceeded"),
        (_few_of_a_subject, _edited_back, "maximum messages per subject exceeded"),
        (_sealed, _deleted, "sealed"),
        (_taken, _deleted, "expected stream does not match"),
        (_elsewhere, _deleted, "is not this bot's"),
    ],
)
async def test_production_goes_on_and_each_lost_event_is_counted(
    world: World, hinder: Act, mend: Act, said: str
) -> None:
    await world.flood(10)
    await until(lambda: world.router.pending == 0)
    before = len(await world.stored(GUILD_A))
    assert before == 10
    await hinder(world.js)
    with capture_logs() as logs:
        await world.flood(300)
        # Far more than the router takes before it holds its source back, and all of it in order.
        await world.production_is_done()
        await until(lambda: said in world.publishers.sandboxes_trouble)
        assert "127.0.0.1:" in world.publishers.sandboxes_trouble
        assert world.publishers.production_lacks() == ""
        assert world.router.pending <= _BUDGET
        assert world.metrics.sandbox_dropped["budget"] >= 300 - _BUDGET - 10
        # What still waits is not kept for ever.
        await until(lambda: world.metrics.sandbox_dropped["budget"] + world.router.pending >= 290)
        world.publishers.sandboxes.sweep.give_up()
        world.ahead += 31.0
        world.publishers.sandboxes.sweep.give_up()
        await until(lambda: world.router.pending == 0)
        ledger = world.intake.ledger(0)
        assert ledger is not None
        assert (ledger.lag, ledger.acknowledged) == (0, world.seq)
        await mend(world.js)
        acknowledged = world.metrics.routed["sandbox"]
        world.send(GUILD_A)
        await until(lambda: world.router.pending == 0)
        assert world.metrics.routed["sandbox"] == acknowledged + 1
        world.send(GUILD_A)
        await until(lambda: world.router.pending == 0)
        world.ahead += 11.0
        world.router.sandboxes.budgets.look()
    assert world.metrics.routed["sandbox"] + world.dropped == len(world.sent[GUILD_A])
    stored = await world.stored(GUILD_A)
    assert stored[-2:] == world.sent[GUILD_A][-2:]
    assert stored == [one for one in world.sent[GUILD_A] if one in set(stored)], "a gap, never a reordering"
    assert world.publishers.sandboxes_trouble == ""
    told = [(line["event"], line.get("dropped")) for line in logs if "dropping" in line["event"]]
    assert told == [("sandbox_events_dropping", None), ("sandbox_events_dropping_over", world.dropped)]
    assert world.router.sandboxes.budgets.drain_dropped()[SANDBOX_1].events == world.dropped


async def test_a_stream_that_never_answers_costs_its_sandbox_only(world: World) -> None:
    await world.js.update_stream(_sandbox(no_ack=True))
    await world.flood(100)
    await world.production_is_done()
    assert world.dropped == 100 - _BUDGET
    while world.metrics.sandbox_dropped["no_ack"] == 0:
        world.publishers.sandboxes.sweep.give_up()
        world.ahead += 31.0
        await asyncio.sleep(0.01)
    # Then it is looked at, and said.
    await until(lambda: "has no_ack set" in world.publishers.sandboxes_trouble)
    await world.js.update_stream(_sandbox())
    await until(lambda: world.router.pending == 0)
    assert world.metrics.routed["sandbox"] + world.dropped == 100
    await world.production_is_done()


async def test_another_sandbox_s_flood_costs_a_quiet_one_nothing(world: World) -> None:
    await world.js.update_stream(_sandbox(max_msgs=1, discard=DiscardPolicy.NEW))
    world.send(GUILD_A)
    await until(lambda: world.router.pending == 0)
    for _ in range(6):
        world.send(GUILD_C)
    await world.flood(200)
    await world.production_is_done()
    assert await world.stored(GUILD_C) == world.sent[GUILD_C]
    await world.js.update_stream(_sandbox())
    await until(lambda: world.router.pending == 0)
    assert len(await world.stored(GUILD_A)) + world.dropped == 201
    assert world.router.sandboxes.budgets.drain_dropped().keys() == {SANDBOX_1}


@pytest.mark.parametrize(("more", "reason"), [(5, "refused"), (20, "budget")])
async def test_what_would_be_production_s_is_never_dropped(world: World, more: int, reason: str) -> None:
    await world.js.update_stream(_sandbox(max_msgs=1, discard=DiscardPolicy.NEW))
    await world.js.publish(_SUBJECT, b"{}")
    for _ in range(40):
        world.send(GUILD_A)
    await until(lambda: world.publishers.sandboxes.refused)
    # The route ends: all but the one that was given to the publisher are production's now.
    world.routes.trusted.table = RouteTable()
    for _ in range(more):
        world.send(GUILD_A)
    # Those hinder nobody for long: the refused one is given up after a few seconds.
    world.publishers.sandboxes.sweep.give_up()
    world.ahead += 3.5
    world.publishers.sandboxes.sweep.give_up()
    await until(lambda: world.router.pending == 0)
    stored = [m.headers["Nats-Msg-Id"] for m in await read_back(world.reader, "EVENTS")]
    assert stored == world.sent[GUILD_A][1:]
    assert {why: count for why, count in world.metrics.sandbox_dropped.items() if count} == {reason: 1}


async def test_ids_that_somebody_else_has_used_lose_no_event(world: World) -> None:
    for seq in range(1, 41):
        await world.js.publish(
            _SUBJECT if seq % 2 else "events.TEST", b"{}", headers={"Nats-Msg-Id": f"session:0:{seq}"}
        )
    with capture_logs() as logs:
        await world.flood(20)
        await until(lambda: world.router.pending == 0)
    assert world.metrics.errors["id_taken"] == 40
    assert [line["event"] for line in logs] == ["message_id_taken"] * 2, "once for each side"
    bodies = [m.data for m in await read_back(world.reader, "EVENTS") if m.data != b"{}"]
    assert bodies == [dispatch(seq, guild_id=GUILD_B) for seq in range(2, 41, 2)]
    bodies = [m.data for m in await read_back(world.reader, "SANDBOX") if m.data != b"{}"]
    assert bodies == [dispatch(seq, guild_id=GUILD_A) for seq in range(1, 41, 2)]


async def test_while_the_whole_server_hangs_no_sandbox_loses_an_event(
    connection: NatsConnection, reader: Client, servers: EmbeddedServers
) -> None:
    world = World(connection, reader)
    await world.publishers.start()
    await until(lambda: world.publishers.production.takes and world.publishers.sandboxes.takes)
    os.kill(servers.nats.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(60):
            # It may answer once more what it had read.
            while await world.publishers.production.answers():
                pass
        for _ in range(20):
            world.send(GUILD_A)
        # The guild's events go to production from now on, and wait.
        world.routes.trusted.table = RouteTable()
        world.send(GUILD_A)
        for _ in range(3):
            assert not await world.publishers.production.answers()
            world.ahead += 31.0
        assert world.dropped == 0
    finally:
        os.kill(servers.nats.pid, signal.SIGCONT)
    await until(lambda: world.router.pending == 0)
    assert world.dropped == 0
    assert await world.stored(GUILD_A) == world.sent[GUILD_A][:1]
    assert await world.stored_in("EVENTS", GUILD_A) == world.sent[GUILD_A][1:]
    await world.publishers.close()
    await world.router.close()
