"""Switching a guild's route in one process: nothing on the wrong side, and other guilds never wait."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from sandbox_core.event_router import EventRouter, GatewayIntake
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import Route
from sandbox_core.routing import RouteTable

from .conftest import GUILD_A, GUILD_B, SANDBOX_1, SANDBOX_2, dispatch, until
from .test_router import Routes, Slow, intake, router, routes, send, slow, subjects

__all__ = ["intake", "router", "routes", "slow"]

IN_1 = f"sandbox.{SANDBOX_1}.events.MESSAGE_CREATE"
IN_2 = f"sandbox.{SANDBOX_2}.events.MESSAGE_CREATE"
PRODUCTION = "events.MESSAGE_CREATE"


async def test_what_came_before_a_switch_goes_to_the_old_side(
    intake: GatewayIntake, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    for seq in (1, 2, 3):
        send(intake, dispatch(seq, guild_id=GUILD_A))
    router.switching.pause({GUILD_A})
    send(intake, dispatch(4, guild_id=GUILD_A))
    for published in range(3):
        assert router.switching.in_flight(GUILD_A)
        router.acknowledged([slow.taken[published]])
    assert not router.switching.in_flight(GUILD_A)
    routes.current_table = RouteTable({GUILD_A: Route(SANDBOX_2, 1000.0)})
    router.switching.resume({GUILD_A})
    router.acknowledged([slow.taken[3]])
    assert subjects(slow.taken) == [IN_1, IN_1, IN_1, IN_2]
    send(intake, dispatch(5, guild_id=GUILD_A))
    assert subjects(slow.taken[4:]) == [IN_2]


async def test_a_switch_that_cannot_wait_keeps_the_sides_too(
    intake: GatewayIntake, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    """The link is lost while NATS is away: the new route takes effect at once."""
    for seq in (1, 2):
        send(intake, dispatch(seq, guild_id=GUILD_A))
    router.switching.pause({GUILD_A})
    send(intake, dispatch(3, guild_id=GUILD_A))
    routes.current_table = RouteTable({GUILD_A: Route(SANDBOX_2, 1000.0)})
    router.switching.resume({GUILD_A})
    router.switching.keep_side({GUILD_A})
    routes.current_table = RouteTable()
    for published in range(3):
        router.acknowledged([slow.taken[published]])
    assert subjects(slow.taken) == [IN_1, IN_1, PRODUCTION]


async def test_expiry_counts_at_the_moment_of_publishing(routes: Routes, slow: Slow) -> None:
    now = 999.0
    router = EventRouter(routes, RoutingMetrics(), max_pending=10, now=lambda: now)
    router.attach(slow)
    intake = GatewayIntake(router)
    intake.adopt("session", 0, 0)
    send(intake, dispatch(1, guild_id=GUILD_A))
    send(intake, dispatch(2, guild_id=GUILD_A))
    now = 1000.0
    router.acknowledged([slow.taken[0]])
    assert subjects(slow.taken) == [IN_1, PRODUCTION]


async def test_a_paused_guild_publishes_nothing_and_others_go_on(
    intake: GatewayIntake, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    drained = 0

    def on_drained() -> None:
        nonlocal drained
        drained += 1

    router.switching.on_drained = on_drained
    send(intake, dispatch(1, guild_id=GUILD_A))
    router.switching.pause({GUILD_A})
    send(intake, dispatch(2, guild_id=GUILD_A))
    send(intake, dispatch(3, guild_id=GUILD_B))
    send(intake, dispatch(4))
    assert [p.headers["Nats-Msg-Id"] for p in slow.taken] == ["session:0:1", "session:0:3", "session:0:4"]
    assert (router.switching.in_flight(GUILD_A), drained) == (True, 0)
    router.acknowledged([slow.taken[1]])
    assert drained == 0
    router.acknowledged([slow.taken[0]])
    assert (router.switching.in_flight(GUILD_A), drained, len(slow.taken)) == (False, 1, 3)
    # What comes while nothing is in flight waits just so.
    send(intake, dispatch(5, guild_id=GUILD_A))
    assert not router.switching.in_flight(GUILD_A)
    routes.current_table = RouteTable({GUILD_A: Route(SANDBOX_2, 1000.0)})
    router.switching.resume({GUILD_A})
    router.acknowledged([slow.taken[3]])
    assert [p.headers["Nats-Msg-Id"] for p in slow.taken[3:]] == ["session:0:2", "session:0:5"]
    assert subjects(slow.taken[3:]) == [IN_2, IN_2]


async def test_an_idle_guild_is_drained_at_once(
    intake: GatewayIntake, router: EventRouter, slow: Slow
) -> None:
    router.switching.pause({GUILD_A})
    assert not router.switching.in_flight(GUILD_A)
    send(intake, dispatch(1, guild_id=GUILD_A))
    assert (slow.taken, router.held, router.pending) == ([], 0, 1)
    router.switching.resume({GUILD_A, GUILD_B})
    assert subjects(slow.taken) == [IN_1]


async def test_an_answer_from_before_a_switch_decides_nothing(
    intake: GatewayIntake, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    """The question was asked while the old route stood; its answer comes after the switch."""
    asked, answer = asyncio.Event(), asyncio.Event()
    resolve = routes.resolve

    async def late(guild_ids: Collection[str]) -> RouteTable:
        if asked.is_set():
            return await resolve(guild_ids)
        asked.set()
        await answer.wait()
        return RouteTable({GUILD_A: Route(SANDBOX_1, 1000.0)})

    routes.resolve = late  # type: ignore[method-assign]
    routes.current_table, routes.behind = None, RouteTable({GUILD_A: Route(SANDBOX_2, 1000.0)})
    send(intake, dispatch(1, guild_id=GUILD_A))
    async with asyncio.timeout(60):
        await asked.wait()
    router.switching.pause({GUILD_A})
    router.switching.resume({GUILD_A})
    answer.set()
    await until(lambda: slow.taken)
    assert subjects(slow.taken) == [IN_2]


async def test_a_guild_that_is_held_and_paused_waits_for_both(
    intake: GatewayIntake, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    routes.current_table = None
    send(intake, dispatch(1, guild_id=GUILD_A))
    send(intake, dispatch(2, guild_id=GUILD_B))
    router.switching.pause({GUILD_A})
    await until(lambda: router.waiting_for)
    assert router.held == 1
    routes.current_table = RouteTable({GUILD_A: Route(SANDBOX_2, 1000.0)})
    await until(lambda: slow.taken)
    assert subjects(slow.taken) == [PRODUCTION]
    router.switching.resume({GUILD_A})
    assert subjects(slow.taken) == [PRODUCTION, IN_2]


async def test_events_without_a_guild_never_wait_for_routes(
    intake: GatewayIntake, router: EventRouter, routes: Routes, slow: Slow
) -> None:
    routes.current_table = None
    send(intake, dispatch(1))
    send(intake, dispatch(2, "USER_UPDATE"))
    assert subjects(slow.taken) == [PRODUCTION]
    router.acknowledged([slow.taken[0]])
    assert subjects(slow.taken) == [PRODUCTION, "events.USER_UPDATE"]


async def test_what_another_process_has_stored_is_not_published_again(
    router: EventRouter, slow: Slow
) -> None:
    intake = GatewayIntake(router)
    intake.adopt("session", 0, 10, stored={12, 13, 40})
    for seq in (11, 12, 13, 14):
        send(intake, dispatch(seq, guild_id=GUILD_B))
    ledger = intake.ledger(0)
    assert ledger is not None
    assert (ledger.acknowledged, ledger.lag) == (10, 2)
    router.acknowledged([slow.taken[0]])
    assert (ledger.acknowledged, ledger.lag) == (13, 1)
    router.acknowledged([slow.taken[1]])
    assert [p.headers["Nats-Msg-Id"] for p in slow.taken] == ["session:0:11", "session:0:14"]
    assert ledger.acknowledged == 14
