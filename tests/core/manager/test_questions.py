"""What a face asks the manager before it acts, and the audit log of what happened."""

from __future__ import annotations

import pytest

from sandbox_core.errors import (
    BotNotInGuild,
    ConfirmationNeeded,
    GuildAlreadyMapped,
    GuildProtected,
    InvalidInput,
    NameTaken,
    NotPermitted,
    OwnerLimitReached,
    SandboxNotFound,
    SandboxNotRunning,
)
from sandbox_core.models import Actor, AuditEvent, GuildAccess, SandboxStatus

from .conftest import PROTECTED, World

FREE, OTHER = "100000000000000001", "100000000000000002"

UNKNOWN_ID = "82a0bcf2-1126-4996-a067-47c24b15d5b6"


async def test_who_may_manage(world: World, alice: Actor, bob: Actor, bot_owner: Actor) -> None:
    sandbox = (await world.manager.create(alice, name="mine")).sandbox
    world.manager.check_may_manage(alice, sandbox)
    world.manager.check_may_manage(bot_owner, sandbox)
    with pytest.raises(NotPermitted) as refused:
        world.manager.check_may_manage(bob, sandbox, "connect to")
    assert refused.value.action == "connect to `mine`"


async def test_whether_it_runs_now(world: World, alice: Actor) -> None:
    sandbox = (await world.manager.create(alice, name="mine", ttl="1h")).sandbox
    world.manager.check_running(sandbox)
    world.clock.now = sandbox.expires_at
    with pytest.raises(SandboxNotRunning) as expired:
        world.manager.check_running(sandbox)
    assert expired.value.status is SandboxStatus.EXPIRED
    with pytest.raises(SandboxNotRunning) as gone:
        world.manager.check_running((await world.manager.destroy(alice, "mine")).sandbox)
    assert gone.value.status is SandboxStatus.DESTROYED


def guild(guild_id: str, *, manages: bool = True, member: bool = True) -> GuildAccess:
    return GuildAccess(guild_id, bot_is_member=member, caller_manages=manages)


async def test_what_create_would_refuse(world: World, alice: Actor, bob: Actor, bot_owner: Actor) -> None:
    """A face that asks first tells refusals before its question; the same ones, and nothing is changed."""
    await world.manager.create(bob, name="taken", guilds=[guild(FREE)])
    before = await world.rows()
    for arguments, refusal in (
        ({"name": "Not-A-Name"}, InvalidInput),
        ({"ttl": "never"}, InvalidInput),
        ({"name": "taken"}, NameTaken),
        ({"guilds": [guild("x")]}, InvalidInput),
        ({"guilds": [guild(OTHER, manages=False)]}, NotPermitted),
        ({"guilds": [guild(OTHER, member=False)]}, BotNotInGuild),
        ({"guilds": [guild(PROTECTED)]}, GuildProtected),
        ({"guilds": [guild(FREE)]}, GuildAlreadyMapped),
    ):
        for refused in (world.manager.check_create, world.manager.create):
            with pytest.raises(refusal):
                await refused(alice, **arguments)  # type: ignore[arg-type]
    await world.manager.check_create(alice, name="free", ttl="2h", guilds=[guild(OTHER)])
    # The confirmation comes last: nothing else is in the way then.
    with pytest.raises(ConfirmationNeeded):
        await world.manager.check_create(bot_owner, name="free", guilds=[guild(PROTECTED)])
    with pytest.raises(NameTaken):
        await world.manager.check_create(bot_owner, name="taken", guilds=[guild(PROTECTED)])
    await world.manager.check_create(bot_owner, name="free", guilds=[guild(PROTECTED)], confirmed=True)
    assert await world.rows() == before


async def test_the_owners_limit_is_told_before_a_question(world: World, alice: Actor) -> None:
    for _ in range(5):
        await world.manager.check_create(alice)
        await world.manager.create(alice)
    with pytest.raises(OwnerLimitReached):
        await world.manager.check_create(alice)
    with pytest.raises(OwnerLimitReached):
        await world.manager.create(alice)


async def test_what_register_guild_would_refuse(
    world: World, alice: Actor, bob: Actor, bot_owner: Actor
) -> None:
    mine = (await world.manager.create(alice, name="mine", ttl="1h", guilds=[guild(FREE)])).sandbox
    theirs = (await world.manager.create(bob, name="theirs", ttl="2h")).sandbox
    manager = world.manager
    for actor, sandbox, access, refusal in (
        (bob, mine, guild(OTHER), NotPermitted),
        (alice, mine, guild(OTHER, manages=False), NotPermitted),
        (alice, mine, guild(PROTECTED), GuildProtected),
        (bob, theirs, guild(FREE), GuildAlreadyMapped),
        (bot_owner, mine, guild(PROTECTED), ConfirmationNeeded),
    ):
        with pytest.raises(refusal):
            await manager.check_register_guild(actor, sandbox, access)
        with pytest.raises(refusal):
            await manager.register_guild(actor, sandbox.name, access)
    await manager.check_register_guild(alice, mine, guild(OTHER))
    await manager.check_register_guild(alice, mine, guild(FREE))
    await manager.check_register_guild(bot_owner, mine, guild(PROTECTED), confirmed=True)
    world.clock.now = mine.expires_at
    with pytest.raises(SandboxNotRunning):
        await manager.check_register_guild(alice, mine, guild(OTHER))
    # What an expired sandbox had is free.
    await manager.check_register_guild(bob, theirs, guild(FREE))


async def test_the_audit_log_outlives_its_sandbox(world: World, alice: Actor) -> None:
    first = (await world.manager.create(alice, name="mine")).sandbox
    await world.manager.destroy(alice, "mine")
    world.clock.forward(minutes=1)
    second = (await world.manager.create(alice, name="mine")).sandbox
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
    live = (await world.manager.create(alice, name="mine")).sandbox
    assert {entry.sandbox_id for entry in await world.manager.audit("mine")} == {live.id}


@pytest.mark.parametrize("reference", ["mien", "", "'; DROP TABLE sandboxes; --", "\0", UNKNOWN_ID])
async def test_nothing_is_known_of_what_never_was(world: World, alice: Actor, reference: str) -> None:
    await world.manager.create(alice, name="mine")
    with pytest.raises(SandboxNotFound):
        await world.manager.audit(reference)
