"""What a face asks the manager before it acts, and the audit log of what happened."""

from __future__ import annotations

import pytest

from sandbox_core.errors import NotPermitted, SandboxNotFound, SandboxNotRunning
from sandbox_core.models import Actor, AuditEvent, SandboxStatus

from .conftest import World

UNKNOWN_ID = "82a0bcf2-1126-4996-a067-47c24b15d5b6"


async def test_who_may_manage(world: World, alice: Actor, bob: Actor, bot_owner: Actor) -> None:
    sandbox = await world.manager.create(alice, name="mine")
    world.manager.check_may_manage(alice, sandbox)
    world.manager.check_may_manage(bot_owner, sandbox)
    with pytest.raises(NotPermitted) as refused:
        world.manager.check_may_manage(bob, sandbox, "connect to")
    assert refused.value.action == "connect to `mine`"


async def test_whether_it_runs_now(world: World, alice: Actor) -> None:
    sandbox = await world.manager.create(alice, name="mine", ttl="1h")
    world.manager.check_running(sandbox)
    world.clock.now = sandbox.expires_at
    with pytest.raises(SandboxNotRunning) as expired:
        world.manager.check_running(sandbox)
    assert expired.value.status is SandboxStatus.EXPIRED
    with pytest.raises(SandboxNotRunning) as gone:
        world.manager.check_running(await world.manager.destroy(alice, "mine"))
    assert gone.value.status is SandboxStatus.DESTROYED


async def test_the_audit_log_outlives_its_sandbox(world: World, alice: Actor) -> None:
    first = await world.manager.create(alice, name="mine")
    await world.manager.destroy(alice, "mine")
    world.clock.forward(minutes=1)
    second = await world.manager.create(alice, name="mine")
    world.clock.forward(minutes=1)
    await world.manager.destroy(alice, "mine")
    for reference, sandbox in {
        "mine": second,
        second.short_id.upper(): second,
        first.short_id: first,
        f" {str(first.id).upper()} ": first,
    }.items():
        entries = await world.manager.audit(reference)
        assert {entry.sandbox_id for entry in entries} == {sandbox.id}, reference
        assert entries[0].event_type is AuditEvent.CREATED
        assert entries[-1].event_type is AuditEvent.DESTROYED
    assert len(await world.manager.audit("mine", limit=2)) == 2


async def test_a_live_sandbox_owns_the_name_in_the_audit_log(world: World, alice: Actor) -> None:
    await world.manager.create(alice, name="mine")
    await world.manager.destroy(alice, "mine")
    live = await world.manager.create(alice, name="mine")
    assert {entry.sandbox_id for entry in await world.manager.audit("mine")} == {live.id}


@pytest.mark.parametrize("reference", ["mien", "", "'; DROP TABLE sandboxes; --", "\0", UNKNOWN_ID])
async def test_nothing_is_known_of_what_never_was(world: World, alice: Actor, reference: str) -> None:
    await world.manager.create(alice, name="mine")
    with pytest.raises(SandboxNotFound):
        await world.manager.audit(reference)
