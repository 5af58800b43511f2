"""Which events a sandbox is charged with, without a server."""

from __future__ import annotations

import math
from collections.abc import Collection

import pytest

from sandbox_core.event_router import BudgetLimits, EventRouter, GatewayIntake
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import Route
from sandbox_core.nats.publication import Publication
from sandbox_core.routing import RouteTable, TrustedTable

GUILDS = [str(613625648685547541 + number) for number in range(5)]
OWN = "613625648685547600"
SANDBOX = "00000001-0000-4000-8000-000000000000"


class Routes:
    """All but `OWN` go to the sandbox."""

    def __init__(self) -> None:
        self.trusted = TrustedTable(RouteTable({g: Route(SANDBOX, math.inf) for g in GUILDS}), math.inf)

    async def resolve(self, guild_ids: Collection[str]) -> RouteTable:
        raise AssertionError("the table is known")


class Sent:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.taken: list[Publication] = []

    def submit(self, publication: Publication) -> None:
        publication.unanswered = 1
        self.taken.append(publication)

    def in_flight(self) -> list[Publication]:
        return list(self.taken)

    def withdraw(self, publication: Publication) -> None:
        self.taken.remove(publication)


class World:
    def __init__(self) -> None:
        self.metrics = RoutingMetrics()
        self.router = EventRouter(
            Routes(), self.metrics, max_pending=10, sandbox_limits=BudgetLimits(events=4, all_events=4)
        )
        self.production, self.sandboxes = Sent(), Sent()
        self.router.attach(self.production, self.sandboxes)
        self.intake = GatewayIntake(self.router)
        self.intake.adopt("session", 0, 0)
        self.seq = 0

    def send(self, guild_id: str) -> int:
        self.seq += 1
        text = f'{{"t":"MESSAGE_CREATE","s":{self.seq},"op":0,"d":{{"guild_id":"{guild_id}"}}}}'
        frame = self.intake.read(text.encode())
        assert frame is not None
        self.intake.take(frame, 0)
        return self.seq

    @property
    def on_their_way(self) -> list[int]:
        return [publication.context.frame.seq for publication in self.sandboxes.taken]

    @property
    def charged(self) -> int:
        return self.router.sandboxes.budgets.count

    def acknowledge(self) -> None:
        taken, self.sandboxes.taken = self.sandboxes.taken, []
        self.router.acknowledged(taken)


@pytest.fixture
def world() -> World:
    world = World()
    # The first event of each tells where its server's go.
    for guild_id in GUILDS:
        world.send(guild_id)
    world.acknowledge()
    assert (world.router.pending, world.charged) == (0, 0)
    return world


def test_events_behind_which_none_waits_are_not_charged(world: World) -> None:
    for guild_id in GUILDS:
        world.send(guild_id)
    assert (world.router.pending, world.router.backlog.count, world.charged) == (5, 0, 0)
    assert sum(world.metrics.sandbox_dropped.values()) == 0
    world.acknowledge()
    assert world.router.pending == 0


def test_what_waits_is_charged_with_the_one_before_it_and_given_back(world: World) -> None:
    world.send(GUILDS[0])
    world.send(GUILDS[0])
    assert (world.charged, world.router.pending) == (2, 2)
    world.acknowledge()
    world.acknowledge()
    assert (world.charged, world.router.sandboxes.budgets.size, world.router.pending) == (0, 0, 0)


def test_one_that_is_on_its_way_is_not_dropped_and_one_that_was_refused_is(world: World) -> None:
    sent = [world.send(GUILDS[0]) for _ in range(5)]
    # The first is on its way, so the second went.
    assert (world.on_their_way, world.charged) == (sent[:1], 4)
    assert world.metrics.sandbox_dropped["budget"] == 1
    (first,) = world.sandboxes.taken
    first.unanswered = 0
    world.send(GUILDS[0])
    assert (world.on_their_way, world.charged) == (sent[2:3], 4)
    assert world.metrics.sandbox_dropped["budget"] == 2


def test_production_s_events_fill_the_backlog_alone(world: World) -> None:
    for _ in range(9):
        world.send(OWN)
        world.send(GUILDS[0])
    assert (world.router.backlog.count, world.router.full) == (9, False)
    world.send(OWN)
    assert world.router.full
