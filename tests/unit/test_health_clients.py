"""Health says who is how far behind, and waits for that no longer than for anything else."""

from __future__ import annotations

import asyncio

from sandbox_core.health import HealthChecker
from sandbox_core.models import Sandbox
from sandbox_core.namespaces.backlogs import Backlog, SessionBacklog
from sandbox_core.namespaces.client_traces import KeptSession
from tests.unit.test_health import SANDBOX


def session(*, connected: bool) -> SessionBacklog:
    return SessionBacklog(KeptSession("0a1b2c3d", "discord.py", 7, connected), 0)


async def test_ordinary_bots_are_counted_while_they_are_connected() -> None:
    async def read(_: Sandbox) -> Backlog:
        return Backlog(sessions=(session(connected=True), session(connected=False), session(connected=True)))

    assert (await HealthChecker([], backlog=read).check(SANDBOX)).clients == 2


async def test_a_sandbox_without_any() -> None:
    async def read(_: Sandbox) -> Backlog:
        return Backlog(sessions=())

    assert (await HealthChecker([], backlog=read).check(SANDBOX)).clients == 0


async def test_without_redis_it_is_not_known_and_the_rest_is() -> None:
    async def read(_: Sandbox) -> Backlog:
        return Backlog(unread={"sessions": "Redis is unavailable."})

    health = await HealthChecker([], backlog=read, timeout=0.05).check(SANDBOX)
    assert (health.clients, health.parts) == (None, ())


async def test_what_hangs_altogether_is_given_up_and_named() -> None:
    async def read(_: Sandbox) -> Backlog:
        await asyncio.Event().wait()
        return Backlog()

    health = await HealthChecker([], backlog=read, timeout=0.05).check(SANDBOX)
    assert (health.clients, health.backlog.consumers) == (None, None)
    assert health.backlog.unread.keys() == {"consumers", "sessions"}


async def test_where_there_is_no_endpoint_nobody_is_asked() -> None:
    assert (await HealthChecker([]).check(SANDBOX)).clients is None
