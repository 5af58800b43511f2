"""The side of an event, told on arrival to who handles events beside the router, and kept by the router."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict

import pytest
import structlog

from sandbox_core.event_router import EventRouter, GatewayIntake
from sandbox_core.event_router.messages import place_of
from sandbox_core.events import DISPATCH, Frame
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import Route
from sandbox_core.routing import Destination, RouteTable, Side
from sandbox_core.subjects import DEFAULT_NAMES

from .conftest import GUILD_A, GUILD_B, SANDBOX_1, SANDBOX_2, dispatch, until
from .test_router import Routes, Slow, intake, router, routes, slow, subjects

__all__ = ["intake", "router", "routes", "slow"]

IN_1 = f"sandbox.{SANDBOX_1}.events.MESSAGE_CREATE"
IN_2 = f"sandbox.{SANDBOX_2}.events.MESSAGE_CREATE"
PRODUCTION = "events.MESSAGE_CREATE"


def subject_of(destination: Destination, event: str) -> str:
    """Where the event goes; "" for what is handled here and goes nowhere."""
    if destination.side is Side.HANDLED:
        return ""
    return place_of(DEFAULT_NAMES, destination, event)[1]


class Host:
    """Somebody who is told each event's side, once."""

    def __init__(self, intake: GatewayIntake) -> None:
        self._intake = intake
        self.told: list[tuple[int, str]] = []
        self.ended: list[int] = []

    def send(self, seq: int, guild_id: str | None = None, *, event: str = "MESSAGE_CREATE") -> bool:
        data = {} if guild_id is None else {"guild_id": guild_id}
        frame = self._intake.read(dispatch(seq, event, **data))
        assert frame is not None

        def tell(destination: Destination | None) -> None:
            if destination is None:
                self.ended.append(seq)
            else:
                self.told.append((seq, subject_of(destination, event)))

        return self._intake.take(frame, 0, tell)


@pytest.fixture
def host(intake: GatewayIntake) -> Host:
    return Host(intake)


async def test_the_side_is_told_before_what_came_earlier_is_acknowledged(host: Host, slow: Slow) -> None:
    for seq in (1, 2, 3):
        assert host.send(seq, GUILD_A)
    host.send(4, GUILD_B)
    host.send(5)
    assert host.told == [(1, IN_1), (2, IN_1), (3, IN_1), (4, PRODUCTION), (5, PRODUCTION)]
    assert subjects(slow.taken) == [IN_1, PRODUCTION, PRODUCTION]


async def test_the_router_publishes_where_it_said_whatever_expires_or_is_forgotten(
    routes: Routes, slow: Slow
) -> None:
    now = 999.0
    router = EventRouter(routes, RoutingMetrics(), max_pending=10, now=lambda: now)
    router.attach(slow)
    intake = GatewayIntake(router)
    intake.adopt("session", 0, 0)
    host = Host(intake)
    for seq in (1, 2):
        host.send(seq, GUILD_A)
    now = 1001.0
    routes.current_table = None
    host.send(3, GUILD_A)
    assert host.told == [(1, IN_1), (2, IN_1)]
    routes.behind = RouteTable({GUILD_A: Route(SANDBOX_2, 2000.0)})
    await until(lambda: len(host.told) == 3)
    for published in range(3):
        router.acknowledged([slow.taken[published]])
    assert [subject for _, subject in host.told] == subjects(slow.taken) == [IN_1, IN_1, IN_2]
    await router.close()


async def test_during_a_switch_nothing_is_told_and_afterwards_all_of_it_in_order(
    host: Host, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    for seq in (1, 2):
        host.send(seq, GUILD_A)
    router.switching.pause({GUILD_A})
    for seq in (3, 4):
        host.send(seq, GUILD_A)
    host.send(5, GUILD_B)
    assert [seq for seq, _ in host.told] == [1, 2, 5]
    for published in (0, 2):
        router.acknowledged([slow.taken[published]])
    assert not router.switching.in_flight(GUILD_A)
    routes.current_table = RouteTable()
    router.switching.resume({GUILD_A})
    assert host.told[3:] == [(3, PRODUCTION), (4, PRODUCTION)]
    host.send(6, GUILD_A)
    assert host.told[-1] == (6, PRODUCTION)
    for published in (3, 4, 5):
        router.acknowledged([slow.taken[published]])
    assert subjects(slow.taken) == [IN_1, PRODUCTION, IN_1, PRODUCTION, PRODUCTION, PRODUCTION]


async def test_a_switch_that_changes_nothing_does_not_wait_for_acknowledgements(
    host: Host, router: EventRouter
) -> None:
    host.send(1, GUILD_A)
    router.switching.pause({GUILD_A})
    host.send(2, GUILD_A)
    assert [seq for seq, _ in host.told] == [1]
    router.switching.resume({GUILD_A})
    assert host.told == [(1, IN_1), (2, IN_1)]


async def test_an_unknown_route_is_asked_for_although_something_is_in_flight(
    host: Host, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    host.send(1, GUILD_A)
    routes.current_table = None
    host.send(2, GUILD_A)
    host.send(3, GUILD_A)
    await until(lambda: routes.asked)
    assert [seq for seq, _ in host.told] == [1]
    assert len(slow.taken) == 1
    routes.behind = RouteTable()
    await until(lambda: len(host.told) == 3)
    assert host.told[1:] == [(2, PRODUCTION), (3, PRODUCTION)]
    router.acknowledged([slow.taken[0]])
    assert subjects(slow.taken) == [IN_1, PRODUCTION]
    assert router.waiting_for == ""


async def test_a_table_that_comes_back_decides_what_waited_before_what_comes(
    host: Host, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    host.send(1, GUILD_A)
    routes.current_table = None
    host.send(2, GUILD_A)
    routes.current_table = RouteTable()
    host.send(3, GUILD_A)
    assert [seq for seq, _ in host.told] == [1]
    router.acknowledged([slow.taken[0]])
    assert host.told[1:] == [(2, PRODUCTION), (3, PRODUCTION)]
    assert subjects(slow.taken) == [IN_1, PRODUCTION]


async def test_a_switch_before_the_answer_keeps_the_old_routes_for_what_is_in_flight_only(
    host: Host, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    routes.current_table = None
    host.send(1, GUILD_A)
    await until(lambda: routes.asked)
    router.switching.pause({GUILD_A})
    host.send(2, GUILD_A)
    routes.current_table = RouteTable({GUILD_A: Route(SANDBOX_2, 1000.0)})
    router.switching.resume({GUILD_A})
    assert host.told == [(1, IN_2), (2, IN_2)]
    router.acknowledged([slow.taken[0]])
    assert subjects(slow.taken) == [IN_2, IN_2]


async def test_what_is_handled_here_or_not_taken_is_told_apart(host: Host, router: EventRouter) -> None:
    assert host.send(1, event="RESUMED")
    assert host.told == [(1, "")]
    assert not host.send(1, GUILD_A)
    assert host.told == [(1, "")]


async def test_a_frame_that_is_not_published_is_judged_in_its_guilds_order(
    host: Host, intake: GatewayIntake, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    told: list[Side] = []
    frame = intake.read(dispatch(7, guild_id=GUILD_A))
    assert frame is not None

    def tell(destination: Destination | None) -> None:
        assert destination is not None
        told.append(destination.side)

    router.judge(frame, tell)
    assert (told, slow.taken, router.pending) == ([Side.SANDBOX], [], 0)
    router.switching.pause({GUILD_A})
    router.judge(frame, tell)
    host.send(1, GUILD_A)
    assert told == [Side.SANDBOX]
    routes.current_table = RouteTable()
    router.switching.resume({GUILD_A})
    assert told == [Side.SANDBOX, Side.PRODUCTION]
    assert host.told == [(1, PRODUCTION)]
    assert len(slow.taken) == router.pending == 1


async def test_what_was_judged_goes_where_it_was_told_when_it_is_published_after_all(
    intake: GatewayIntake, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    told: list[str] = []

    def tell(destination: Destination | None) -> None:
        assert destination is not None
        told.append(subject_of(destination, "MESSAGE_CREATE"))

    frames = [intake.read(dispatch(seq, guild_id=GUILD_A)) for seq in (1, 2, 3)]
    ledger = intake.ledger(0)
    assert ledger is not None
    for number, frame in enumerate(frames):
        assert frame is not None
        router.judge(frame, tell)
        if number == 0:
            routes.current_table = RouteTable()
            router.switching.pause({GUILD_A})
    assert len(told) == 1
    for frame in frames:
        assert frame is not None
        assert router.route(frame, ledger)
    router.acknowledged([slow.taken[0]])
    routes.current_table = RouteTable({GUILD_A: Route(SANDBOX_2, 1000.0)})
    router.switching.resume({GUILD_A})
    router.acknowledged([slow.taken[1]])
    assert told == subjects(slow.taken) == [IN_1, IN_2, IN_2]


async def test_a_side_that_was_told_after_the_event_was_taken_is_kept_when_the_route_expires(
    routes: Routes, slow: Slow
) -> None:
    now = 999.0
    router = EventRouter(routes, RoutingMetrics(), max_pending=10, now=lambda: now)
    router.attach(slow)
    intake = GatewayIntake(router)
    intake.adopt("session", 0, 0)
    ledger = intake.ledger(0)
    assert ledger is not None
    told: list[str] = []

    def tell(destination: Destination | None) -> None:
        assert destination is not None
        told.append(subject_of(destination, "MESSAGE_CREATE"))

    router.switching.pause({GUILD_A})
    for seq in (1, 2):
        frame = intake.read(dispatch(seq, guild_id=GUILD_A))
        assert frame is not None
        router.judge(frame, tell)
        router.route(frame, ledger)
    router.switching.resume({GUILD_A})
    assert told == [IN_1, IN_1]
    now = 1001.0
    router.acknowledged([slow.taken[0]])
    assert subjects(slow.taken) == told


@pytest.mark.parametrize("why", ["switched", "unknown"])
async def test_our_own_interaction_is_not_kept_waiting_by_its_guilds_route(
    intake: GatewayIntake, router: EventRouter, routes: Routes, why: str
) -> None:
    data = {"guild_id": GUILD_A, "id": "9", "type": 2, "data": {"name": "sandbox"}}
    frame = intake.read(dispatch(1, "INTERACTION_CREATE", **data))
    assert frame is not None
    if why == "switched":
        router.switching.pause({GUILD_A})
    else:
        routes.current_table = None
    told: list[Destination | None] = []
    router.judge(frame, told.append)
    assert [destination.side for destination in told if destination is not None] == [Side.HANDLED]


async def test_a_process_that_stands_by_learns_whose_its_own_interactions_answers_are(
    intake: GatewayIntake, router: EventRouter
) -> None:
    intake.stand_by(0)
    data = {"guild_id": GUILD_A, "id": "9", "channel_id": "77", "type": 2, "data": {"name": "sandbox"}}
    asked = intake.read(dispatch(1, "INTERACTION_CREATE", **data))
    assert asked is not None
    assert not intake.take(asked, 0)
    waiting = intake.waiting(0)
    assert waiting is not None
    assert not waiting.frames
    answer = intake.read(dispatch(2, id="10", channel_id="77", flags=64))
    assert answer is not None
    assert router.channels.of(answer.hints) == GUILD_A


async def test_a_guild_that_came_before_is_judged_without_its_frame(router: EventRouter) -> None:
    told: list[Destination | None] = []
    with structlog.testing.capture_logs() as logs:
        router.judge(Frame(b"", DISPATCH, "GUILD_CREATE", 0, 0.0, GUILD_A), told.append)
    assert [destination.side for destination in told if destination is not None] == [Side.SANDBOX]
    assert logs == []


async def test_at_the_end_whoever_waits_is_told_that_nobody_decides(
    host: Host, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    routes.current_table = None
    for seq in (1, 2):
        host.send(seq, GUILD_A)
    await router.close()
    assert (host.told, host.ended, slow.taken) == ([], [1, 2], [])


@pytest.mark.parametrize("seed", range(20))
async def test_host_and_streams_agree_whatever_happens_in_between(seed: int) -> None:
    """Switches, lost tables, slow acknowledgements: one side per event, in order, the same for both."""
    chance = random.Random(seed)
    routes, slow = Routes(), Slow()
    router = EventRouter(routes, RoutingMetrics(), max_pending=10_000, now=lambda: 500.0)
    router.attach(slow)
    intake = GatewayIntake(router)
    intake.adopt("session", 0, 0)
    host = Host(intake)
    guilds = [GUILD_A, GUILD_B]
    of: dict[int, str] = {}
    table = routes.current_table
    paused: set[str] = set()
    acknowledged = 0
    for seq in range(1, 400):
        match chance.randrange(8):
            case 0 if routes.current_table is not None:
                routes.current_table = None
            case 1:
                routes.current_table = table
            case 2 if routes.current_table is not None:
                guild = chance.choice(guilds)
                paused.add(guild)
                router.switching.pause({guild})
            case 3 if acknowledged < len(slow.taken):
                router.acknowledged([slow.taken[acknowledged]])
                acknowledged += 1
            case 4:
                for guild in [guild for guild in paused if not router.switching.in_flight(guild)]:
                    assert table is not None
                    route = chance.choice((None, Route(SANDBOX_1, 1000.0), Route(SANDBOX_2, 1000.0)))
                    table = table.with_changes({guild: route})
                    routes.current_table = table
                    paused.discard(guild)
                    router.switching.resume({guild})
            case _:
                of[seq] = chance.choice(guilds)
                host.send(seq, of[seq])
        await asyncio.sleep(0)
    routes.current_table = table
    router.switching.resume(paused)
    async with asyncio.timeout(60):
        while router.pending:
            for publication in slow.taken[acknowledged:]:
                router.acknowledged([publication])
                acknowledged += 1
            await asyncio.sleep(0)
    published: dict[int, str] = {}
    for publication in slow.taken:
        seq = json.loads(publication.payload)["s"]
        assert seq not in published
        published[seq] = publication.subject
    assert published == dict(host.told)
    assert len(host.told) == len(of)
    order: dict[str, list[int]] = defaultdict(list)
    for seq, _ in host.told:
        order[of[seq]].append(seq)
    assert all(seqs == sorted(seqs) for seqs in order.values())
    await router.close()
