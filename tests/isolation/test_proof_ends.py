"""A proof that does not come to its end: killed, cancelled, or a server goes away. Nothing stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.errors import CleanupFailed, DependencyUnavailable
from sandbox_core.isolation import prove, verdict_text
from sandbox_core.models import Sandbox, SandboxStatus
from sandbox_core.settings import Settings

from .conftest import held, trial_core
from .test_deaths import die
from .test_life import both_refused
from .test_proof import OPERATOR, nothing_is_left


async def let_expire(core: Core) -> None:
    """Make all as old as if their time were over."""
    await core.pool.execute(
        "UPDATE sandboxes SET created_at = created_at - interval '3 minutes', "
        "expires_at = expires_at - interval '3 minutes' WHERE status <> 'destroyed'"
    )


@pytest.mark.parametrize(
    ("point", "times", "there"),
    [
        ("create:Redis", 1, 1),
        ("create:NATS", 2, 2),
        ("isolation:made", 1, 2),
        ("isolation:attacked", 1, 2),
        ("destroy:destroying", 1, 2),
        ("destroy:Redis", 1, 2),
    ],
)
async def test_killed(core: Core, closed: EmbeddedServers, point: str, times: int, there: int) -> None:
    await die(closed, "prove", point, program="mortal_proof", times=times)
    left = await core.manager.list()
    assert len(left) == there
    # Until then somebody may still be at work with them; their logins end with them, also without a bot.
    await let_expire(core)
    await core.cleanup.keep_credentials()
    for sandbox in left:
        if sandbox.status is SandboxStatus.RUNNING:
            await both_refused(held(core, sandbox))
    async with asyncio.timeout(20):
        # Until PostgreSQL has noticed the death.
        while await core.manager.list():
            await core.cleanup.cleanup_expired()
    await nothing_is_left(core)
    for sandbox in left:
        await both_refused(held(core, sandbox))
        entries = await core.manager.audit(str(sandbox.id))
        assert entries[0].actor == "cli:root for doctor"
        assert entries[-1].event_type.value == "sandbox_destroyed"


@pytest.mark.parametrize("again", [False, True])
async def test_cancelled(core: Core, enforced: Settings, again: bool) -> None:
    made = asyncio.Event()

    async def stay(point: str) -> None:
        if point == "isolation:made":
            made.set()
            await asyncio.Event().wait()

    async with trial_core(enforced) as trial:
        proof = asyncio.create_task(prove(trial, OPERATOR, faults=stay))
        async with asyncio.timeout(20):
            await made.wait()
        assert len(await core.manager.list()) == 2
        proof.cancel()
        if again:
            # In the middle of the removal: it is not interrupted.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            proof.cancel()
        with pytest.raises(asyncio.CancelledError):
            await proof
    await nothing_is_left(core)


@pytest.mark.parametrize("steps", [1, 40, 200, 400])
async def test_cancelled_at_any_moment(core: Core, enforced: Settings, steps: int) -> None:
    async with trial_core(enforced) as trial:
        proof = asyncio.create_task(prove(trial, OPERATOR))
        for _ in range(steps):
            await asyncio.sleep(0)
        proof.cancel()
        with pytest.raises(asyncio.CancelledError):
            await proof
    await nothing_is_left(core)


SERVERS: dict[str, tuple[Callable[[EmbeddedServers], object], str]] = {
    "valkey": (lambda servers: servers.tenant_valkey, "Redis (sandboxes)"),
    "nats": (lambda servers: servers.tenant_nats, "NATS (sandboxes)"),
    "postgres": (lambda servers: servers.postgres, "PostgreSQL (sandboxes)"),
}


@pytest.mark.parametrize("which", SERVERS)
async def test_a_server_goes_away_midway(
    core: Core, closed: EmbeddedServers, enforced: Settings, which: str
) -> None:
    choose, title = SERVERS[which]
    server: Any = choose(closed)
    made: list[Sandbox] = []

    async def kill(point: str) -> None:
        if point == "isolation:made":
            made.extend(await core.manager.list())
            await server.kill()

    try:
        async with trial_core(enforced) as trial:
            report = await prove(trial, OPERATOR, faults=kill)
    finally:
        await server.start()
    away = {each.title: each.where for each in report.away}
    assert away[title] == f"127.0.0.1:{server.port}"
    assert verdict_text(report).startswith("Not proven: ")
    assert f"{title} at 127.0.0.1:{server.port}" in verdict_text(report)
    assert not report.proven
    assert report.failed == []
    # They are left to cleanup, which removes them as soon as the server is back.
    assert set(report.left) == {each.name for each in made}
    await let_expire(core)
    for sandbox in made:
        async with asyncio.timeout(30):
            while True:
                try:
                    await core.cleanup.cleanup_sandbox(sandbox.id)
                    break
                except (DependencyUnavailable, CleanupFailed):
                    await asyncio.sleep(0.1)
    await nothing_is_left(core)
