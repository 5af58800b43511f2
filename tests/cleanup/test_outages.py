"""Each server away during a cleanup: it finishes later, and nothing is left."""

from __future__ import annotations

import pytest

from sandbox_bot.embedded import EmbeddedServer, EmbeddedServers
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Actor, AuditEvent, SandboxStatus

from .conftest import Yard

POINTS = ["destroy:expired", "destroy:destroying", "destroy:routes", "destroy:NATS", "destroy:Redis"]


def server(servers: EmbeddedServers, name: str) -> EmbeddedServer:
    return {"PostgreSQL": servers.postgres, "Redis": servers.valkey, "NATS": servers.nats}[name]


async def finish(yard: Yard) -> None:
    """Passes, each at its time, until nothing is due."""
    for _ in range(30):
        try:
            await yard.cleanup.cleanup_expired()
        except DependencyUnavailable:
            continue
        if not [each for each in await yard.manager.list() if each.status is not SandboxStatus.RUNNING]:
            return
        yard.clock.forward(minutes=10)
    pytest.fail("cleanup does not come to an end")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("away", ["PostgreSQL", "Redis", "NATS"])
async def test_it_finishes_later(
    yard: Yard, alice: Actor, servers: EmbeddedServers, away: str, point: str
) -> None:
    made = [await yard.sandbox(alice, f"box-{number}", ttl="1h") for number in range(2)]
    stays = await yard.sandbox(alice, "stays", ttl="100h")
    yard.clock.forward(hours=1)
    victim = server(servers, away)
    yard.faults.at[point] = victim.kill
    try:
        if away == "PostgreSQL":
            with pytest.raises(DependencyUnavailable) as stopped:
                await yard.cleanup.cleanup_expired()
            assert stopped.value.dependency == away
            assert yard.counted.passes == [("unavailable", 0)]
        else:
            for failure in (await yard.cleanup.cleanup_expired()).failed:
                assert failure.step == away
                assert failure.reason.startswith(away)
    finally:
        if not victim.running:
            await victim.start()

    await finish(yard)

    for each in made:
        assert await yard.left_of(each) == []
        assert (await yard.row(each)).status is SandboxStatus.DESTROYED
        events = [entry.event_type for entry in await yard.audit(each)]
        assert events.count(AuditEvent.DESTROYED) == 1
    assert (await yard.row(stays)).status is SandboxStatus.RUNNING
