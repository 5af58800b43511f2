"""Standing by and going on, with a router whose publications a test sees, and no process."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Collection

from sandbox_core.event_router import EventRouter, GatewayIntake, ShardLedger
from sandbox_core.event_router.waiting import WaitingFrames
from sandbox_core.metrics import Metrics, RoutingMetrics
from sandbox_core.nats.publication import Publication
from sandbox_core.routing import RouteTable, TrustedTable
from sandbox_core.sharding.lease_types import Before
from sandbox_core.sharding.settled import SettledMoments
from sandbox_core.sharding.succession import Succession

GUILD = "613425648685547541"


class NoRoutes:
    """All is production."""

    trusted = TrustedTable(RouteTable(), math.inf)

    async def resolve(self, guild_ids: Collection[str]) -> RouteTable:
        return RouteTable()


class Published:
    """Notes what is published, and acknowledges when it is told to."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.router: EventRouter | None = None
        self.acknowledges = True
        self._waiting: list[Publication] = []

    def submit(self, publication: Publication) -> None:
        self._waiting.append(publication)
        if self.acknowledges:
            asyncio.get_running_loop().call_soon(self._acknowledge)

    def _acknowledge(self) -> None:
        waiting, self._waiting = self._waiting, []
        for publication in waiting:
            self.ids.append(publication.message_id)
            assert self.router is not None
            self.router.acknowledged([publication])

    def in_flight(self) -> list[Publication]:
        return list(self._waiting)

    def withdraw(self, publication: Publication) -> None:
        self._waiting.remove(publication)


class World:
    """One process: frames come in, and another process's copies are in the streams."""

    def __init__(self) -> None:
        self.published = Published()
        self.router = EventRouter(NoRoutes(), RoutingMetrics(), max_pending=1000)
        self.published.router = self.router
        self.router.attach(self.published)
        self.intake = GatewayIntake(self.router)
        self.metrics = Metrics()
        self.connected = True
        self.stored: list[bytes] = []
        self.succession = Succession(
            self.intake, self, self.metrics, lambda shard_id: self.connected, sleep=self._sleep
        )

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))

    async def read(
        self, guild_ids: Collection[str], since: float, found: Callable[[str, bytes, float], None]
    ) -> None:
        for raw in self.stored:
            found(GUILD, raw, time.time())

    def ready(self, session: str = "mine") -> None:
        self.intake.stand_by(0)
        self.frame("READY", 1, session_id=session, shard=[0, 1], guilds=[{"id": GUILD}])

    def frame(self, event: str, seq: int, **data: object) -> bytes:
        raw = json.dumps({"t": event, "s": seq, "op": 0, "d": data}).encode()
        frame = self.intake.read(raw)
        assert frame is not None
        self.intake.take(frame, 0)
        return raw

    def message(self, seq: int, number: int) -> bytes:
        return self.frame("MESSAGE_CREATE", seq, id=str(number), guild_id=GUILD)

    async def gone_on(self, before: Before | None) -> list[str]:
        self.succession.go_on(0, before)
        async with asyncio.timeout(30):
            await self.router.idle()
        return self.published.ids

    def gaps(self) -> float:
        return self.metrics.gateway_gaps._value.get()


def live(settled_ago: float | None = None, renewed_ago: float = 0.0) -> Before:
    now = time.monotonic()
    return Before(None if settled_ago is None else now - settled_ago, None, now - renewed_ago)


async def test_the_first_publisher_publishes_everything() -> None:
    world = World()
    world.ready()
    world.frame("GUILD_CREATE", 2, id=GUILD)
    world.message(3, 1)
    assert await world.gone_on(None) == ["mine:0:2", "mine:0:3"]
    world.message(4, 2)
    await world.router.idle()
    assert world.published.ids[-1] == "mine:0:4"
    assert world.gaps() == 0
    ledger = world.intake.ledger(0)
    assert ledger is not None
    assert (ledger.acknowledged, ledger.lag) == (4, 0)


async def test_who_goes_on_publishes_the_rest_and_not_its_own_beginning() -> None:
    world = World()
    world.ready()
    world.frame("GUILD_CREATE", 2, id=GUILD)
    world.succession.published_elsewhere(0, live(settled_ago=-0.01))
    await asyncio.sleep(0.02)
    world.stored = [world.message(number, number) for number in range(3, 6)]
    for number in range(6, 9):
        world.message(number, number)
    before = Before(time.monotonic() - 0.005, None)
    assert await world.gone_on(before) == [f"mine:0:{n}" for n in range(6, 9)]
    assert world.gaps() == 0
    ledger = world.intake.ledger(0)
    assert ledger is not None
    assert (ledger.acknowledged, ledger.lag) == (8, 0)


async def test_who_came_too_late_says_so_and_publishes_what_it_has() -> None:
    world = World()
    world.ready()
    world.frame("GUILD_CREATE", 2, id=GUILD)
    world.message(3, 3)
    assert await world.gone_on(live(settled_ago=5.0)) == ["mine:0:2", "mine:0:3"]
    assert world.gaps() == 1


async def test_after_a_long_time_nothing_is_missed() -> None:
    world = World()
    world.ready()
    world.message(2, 1)
    assert await world.gone_on(live(settled_ago=3600.0)) == ["mine:0:2"]
    assert world.gaps() == 0


async def test_nothing_is_published_before_the_missed_events_have_come() -> None:
    world = World()
    world.ready()
    world.connected = False
    world.message(2, 1)
    world.succession.go_on(0, None)
    for _ in range(5):
        await asyncio.sleep(0.01)
    assert world.published.ids == []
    world.stored = []
    world.message(3, 2)
    world.connected = True
    await world.router.idle()
    assert world.published.ids == ["mine:0:2", "mine:0:3"]


async def test_a_shard_lost_while_it_is_joined_is_kept_and_gone_on_with_later() -> None:
    world = World()
    world.ready()
    world.connected = False
    world.message(2, 1)
    world.succession.go_on(0, None)
    await asyncio.sleep(0.02)
    world.succession.give_way(0)
    await world.router.idle()
    world.message(3, 2)
    world.connected = True
    await asyncio.sleep(0.03)
    assert world.published.ids == []
    assert await world.gone_on(None) == ["mine:0:2", "mine:0:3"]


async def test_what_was_not_acknowledged_is_kept_when_the_shard_is_lost() -> None:
    world = World()
    world.ready()
    await world.gone_on(None)
    world.message(2, 1)
    await world.router.idle()
    world.published.acknowledges = False
    world.message(3, 2)
    world.message(4, 3)
    world.succession.give_way(0)
    world.message(5, 4)
    world.published.acknowledges = True
    waiting = world.intake.waiting(0)
    assert waiting is not None
    assert [frame.seq for frame, _ in waiting.frames] == [3, 4, 5]
    assert await world.gone_on(None) == [f"mine:0:{n}" for n in range(2, 6)]


async def test_commands_are_not_kept_as_the_other_process_answers_them() -> None:
    world = World()
    world.ready()
    world.frame("INTERACTION_CREATE", 2, guild_id=GUILD, type=2, data={"name": "sandbox"})
    world.frame("INTERACTION_CREATE", 3, guild_id=GUILD, type=2, data={"name": "theirs"})
    assert await world.gone_on(None) == ["mine:0:3"]


def test_too_many_frames_let_the_oldest_go_and_say_since_when_all_are_there() -> None:
    world_router = EventRouter(NoRoutes(), RoutingMetrics(), max_pending=10)
    waiting = WaitingFrames(world_router.channels, 0.0)
    ledger = ShardLedger("mine", 0)
    intake = GatewayIntake(world_router, monotonic=lambda: moment)
    for seq in range(1, 500):
        moment = float(seq)
        raw = json.dumps({"t": "X", "s": seq, "op": 0, "d": {"guild_id": GUILD}}).encode()
        frame = intake.read(raw)
        assert frame is not None
        waiting.keep(frame, ledger)
    assert waiting.frames[0][0].seq == 199, "five minutes"
    assert waiting.complete_since == 199.0
    waiting.stored_before(450.0)
    assert waiting.frames[0][0].seq == 450
    assert waiting.complete_since == 199.0


async def test_what_is_settled_is_proved_by_a_later_event_that_is_acknowledged() -> None:
    world, now, connection = World(), 100.0, 1
    settled = SettledMoments(world.intake, lambda shard_id: connection, monotonic=lambda: now)
    world.ready()
    assert settled() == {}, "it stands by"
    await world.gone_on(None)
    settled()
    now = 101.0
    assert settled() == {}, "nothing has come: the connection may hang"
    world.message(2, 1)
    await world.router.idle()
    now = 102.0
    assert settled() == {0: 1.0}
    world.published.acknowledges = False
    world.message(3, 2)
    now = 103.0
    assert settled() == {0: 2.0}, "it is not stored"
    world.published.acknowledges = True
    connection = 0
    assert settled() == {0: 2.0}
    connection = 2
    settled()
    world.message(4, 3)
    now = 104.0
    assert settled()[0] == 3.0, "what a look before the replay saw says nothing"
