from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.health import HealthChecker, RoutingCheck, ServerCheck
from sandbox_core.models import Route, Sandbox, SandboxStatus
from sandbox_core.namespaces import PartHealth, PartState
from sandbox_core.routing import RouteTable

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SANDBOX = Sandbox(
    UUID("3f2a9c01-0000-4000-8000-000000000000"),
    "x",
    "1",
    SandboxStatus.RUNNING,
    "sandbox_3f2a9c01",
    NOW,
    NOW,
)


class Part:
    """A part that only answers how it is."""

    def __init__(self, store: str, answer: PartState | Exception | Callable[[], Awaitable[object]]) -> None:
        self.store = store
        self._answer = answer

    async def check(self, sandbox: Sandbox) -> PartHealth:
        if isinstance(self._answer, Exception):
            raise self._answer
        if not isinstance(self._answer, PartState):
            await self._answer()
            return PartHealth(self.store, PartState.HEALTHY, "", 1.0)
        return PartHealth(self.store, self._answer, "", 1.0)


H, D, U = PartState.HEALTHY, PartState.DEGRADED, PartState.UNHEALTHY


@pytest.mark.parametrize(
    ("states", "overall"),
    [
        ((H, H, H), H),
        ((), H),
        ((D, H, H), D),
        ((H, U, H), D),
        ((U, H, U), U),
        ((D, D, H), U),
        ((U, U, U), U),
    ],
)
async def test_the_whole_follows_from_the_parts(states: tuple[PartState, ...], overall: PartState) -> None:
    health = await HealthChecker([Part(str(n), state) for n, state in enumerate(states)]).check(SANDBOX)
    assert health.overall is overall
    assert [part.store for part in health.parts] == [str(n) for n in range(len(states))]


async def test_a_store_that_is_away_is_a_finding() -> None:
    away = DependencyUnavailable("Redis", "it can't be reached")
    health = await HealthChecker([Part("PostgreSQL", H), Part("Redis", away)]).check(SANDBOX)
    assert health.overall is D
    assert health.parts[1].state is U
    assert health.parts[1].detail == "it can't be reached"


async def test_a_store_that_waits_for_another_names_that_one() -> None:
    away = DependencyUnavailable("PostgreSQL", "connection refused")
    health = await HealthChecker([Part("Routing", away)]).check(SANDBOX)
    assert health.parts[0].detail == "PostgreSQL is unavailable (connection refused)."


async def test_a_store_that_hangs_is_a_finding() -> None:
    health = await HealthChecker([Part("NATS", asyncio.Event().wait)], timeout=0.02).check(SANDBOX)
    assert (health.parts[0].state, health.parts[0].detail) == (U, "no answer within 0.02 s")
    assert health.parts[0].latency_ms > 0


async def test_stores_are_asked_at_the_same_time() -> None:
    together = asyncio.Barrier(3)
    parts = [Part(str(n), together.wait) for n in range(3)]
    assert (await HealthChecker(parts).check(SANDBOX)).overall is H


async def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        await HealthChecker([Part("Redis", ZeroDivisionError())]).check(SANDBOX)


async def test_a_question_that_resists_its_cancellation_is_not_waited_for() -> None:
    released, ended = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await released.wait()
            ended.set()
            raise ZeroDivisionError

    checker = HealthChecker([Part("PostgreSQL", stubborn), Part("Redis", H)], timeout=0.02)
    with capture_logs() as logs:
        health = await checker.check(SANDBOX)
        assert [(part.store, part.state) for part in health.parts] == [("PostgreSQL", U), ("Redis", H)]
        assert not ended.is_set()
        released.set()
        await checker.close()
    assert ended.is_set()
    assert [line["event"] for line in logs] == ["abandoned_work_failed"]


COOKS, MUSIC = "300000000000000002", "300000000000000003"


class KnownRoutes:
    """Routes as they stand, with what ails them."""

    def __init__(self, routes: dict[str, Route], trouble: str = "", *, current: bool = True) -> None:
        self._table = RouteTable(routes)
        self.trouble = trouble
        self.current_table = self._table if current and not trouble else None

    async def resolve(self, guild_ids: Collection[str]) -> RouteTable:
        return self._table


ELSEWHERE = Route("11111111-0000-4000-8000-000000000000", 2000.0)
HERE = Route(str(SANDBOX.id), 2000.0)


@pytest.mark.parametrize(
    ("routes", "now", "state", "detail"),
    [
        ({COOKS: HERE, MUSIC: HERE}, 1000.0, H, "2 of 2 servers routed here"),
        ({COOKS: HERE}, 1000.0, D, "1 of 2 servers routed here"),
        ({COOKS: HERE, MUSIC: ELSEWHERE}, 1000.0, D, "1 of 2 servers routed here"),
        ({COOKS: HERE, MUSIC: HERE}, 2000.0, D, "0 of 2 servers routed here"),
    ],
)
async def test_routing_counts_the_servers_that_really_lead_here(
    routes: dict[str, Route], now: float, state: PartState, detail: str
) -> None:
    part = RoutingCheck(KnownRoutes(routes), now=lambda: now)
    answer = await part.check(SANDBOX.evolve(guild_ids=(COOKS, MUSIC)))
    assert (answer.store, answer.state, answer.detail) == ("Routing", state, detail)
    assert answer.facts == {"guilds": 2, "routed": int(detail[0]), "lost": 0}


async def test_a_registered_server_without_its_mapping_is_named() -> None:
    async def lost(sandbox: Sandbox) -> list[str]:
        assert sandbox.id == SANDBOX.id
        return [MUSIC]

    part = RoutingCheck(KnownRoutes({COOKS: HERE}), lost=lost, now=lambda: 1000.0)
    answer = await part.check(SANDBOX.evolve(guild_ids=(COOKS,)))
    assert answer.state is D
    assert answer.detail == f"1 of 2 servers routed here; the mapping of {MUSIC} is missing"
    assert answer.facts == {"guilds": 2, "routed": 1, "lost": 1}


async def test_routing_that_is_not_current_is_degraded() -> None:
    answer = await RoutingCheck(KnownRoutes({}, "PostgreSQL: connection refused")).check(SANDBOX)
    assert answer.state is D
    assert answer.detail == ("no servers registered; changes may come late: PostgreSQL: connection refused")


async def answers() -> None:
    return None


async def is_away() -> None:
    raise DependencyUnavailable("Redis", "it can't be reached")


async def hangs() -> None:
    await asyncio.Event().wait()


async def test_the_whole_system_is_judged_by_its_servers_and_routing() -> None:
    lacking = ""
    system = [
        ServerCheck("PostgreSQL", answers),
        ServerCheck("NATS", answers, lacks=lambda: lacking),
        RoutingCheck(KnownRoutes({})),
    ]
    checker = HealthChecker([], system=system, timeout=0.05)
    health = await checker.check_system()
    assert [(part.store, part.state) for part in health.checks] == [
        ("PostgreSQL", H),
        ("NATS", H),
        ("Routing", H),
    ]
    assert (health.overall, health.checks[0].detail, health.checks[0].latency_ms > 0) == (H, "answers", True)
    lacking = "the streams are not there yet"
    health = await checker.check_system()
    assert (health.overall, health.checks[1].state) == (D, D)
    assert health.checks[1].detail == "answers, but the streams are not there yet"


async def test_servers_away_or_hanging_and_late_routes_are_findings() -> None:
    system = [
        ServerCheck("Redis", is_away),
        ServerCheck("NATS", hangs),
        RoutingCheck(KnownRoutes({}, "connection refused")),
    ]
    health = await HealthChecker([], system=system, timeout=0.05).check_system()
    assert health.overall is U
    assert [(part.state, part.detail) for part in health.checks] == [
        (U, "it can't be reached"),
        (U, "no answer within 0.05 s"),
        (D, "changes may come late: connection refused"),
    ]


async def test_a_silent_link_is_no_current_routing() -> None:
    answer = await RoutingCheck(KnownRoutes({}, current=False)).check_system()
    assert (answer.state, answer.detail) == (D, "changes may come late: the link to PostgreSQL is silent")


async def test_a_part_of_the_system_is_asked_by_one_at_a_time() -> None:
    released, asked = asyncio.Event(), 0

    async def slow() -> None:
        nonlocal asked
        asked += 1
        await released.wait()

    checker = HealthChecker([], system=[ServerCheck("NATS", slow)], timeout=60)
    for _ in range(3):
        health = await checker.check_system(within=0.01)
        assert (health.checks[0].state, health.checks[0].detail) == (U, "no answer within 0.01 s")
    waiting = asyncio.create_task(checker.check_system())
    released.set()
    assert (await waiting).overall is H
    assert asked == 1
    await checker.check_system()
    assert asked == 2
    await checker.close()
