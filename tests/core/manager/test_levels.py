"""What a sandbox's bot may do at Discord: who may change it, and what is kept of that."""

from __future__ import annotations

import pytest

from sandbox_core.errors import GuildProtected, NotPermitted, SandboxNotRunning
from sandbox_core.models import Actor, AuditEvent, GuildAccess, RestLevel

from .conftest import PROTECTED, World

FULL, DEFAULT, READ_ONLY = RestLevel.FULL, RestLevel.NO_MODERATION, RestLevel.READ_ONLY


async def _changes(world: World, name: str) -> list[dict[str, object]]:
    entries = await world.manager.audit(name)
    return [dict(each.details) for each in entries if each.event_type is AuditEvent.REST_LEVEL_CHANGED]


async def test_a_sandbox_moderates_nobody_at_first(world: World, alice: Actor) -> None:
    assert (await world.manager.create(alice, name="mine")).sandbox.rest_level is DEFAULT
    assert DEFAULT.includes(READ_ONLY)
    assert FULL.includes(DEFAULT)
    assert not READ_ONLY.includes(DEFAULT)


async def test_its_owner_raises_it_with_the_right_to_register_each_server(
    world: World, alice: Actor, managed: GuildAccess
) -> None:
    await world.manager.create(alice, name="mine", guilds=[managed])
    for accesses in ([], [GuildAccess(managed.guild_id, bot_is_member=True, caller_manages=False)]):
        with pytest.raises(NotPermitted):
            await world.manager.set_rest_level(alice, "mine", FULL, accesses)
    changed = (await world.manager.set_rest_level(alice, "mine", FULL, [managed])).sandbox
    assert changed.rest_level is FULL
    assert (await world.manager.get("mine")).rest_level is FULL
    assert await _changes(world, "mine") == [{"from": "no_moderation", "to": "full"}]


async def test_its_owner_lowers_it_without_asking_anybody(
    world: World, alice: Actor, managed: GuildAccess
) -> None:
    await world.manager.create(alice, name="mine", guilds=[managed])
    await world.manager.set_rest_level(alice, "mine", READ_ONLY)
    # Up again is more than the server's people were told of.
    with pytest.raises(NotPermitted):
        await world.manager.set_rest_level(alice, "mine", DEFAULT)


async def test_nobody_else_changes_it(world: World, alice: Actor, bob: Actor, managed: GuildAccess) -> None:
    await world.manager.create(alice, name="mine", guilds=[managed])
    for level in RestLevel:
        with pytest.raises(NotPermitted):
            await world.manager.set_rest_level(bob, "mine", level, [managed])
    assert await _changes(world, "mine") == []


async def test_a_protected_server_takes_the_bots_owner(world: World, alice: Actor) -> None:
    owner = Actor("900000000000000001", is_bot_owner=True)
    protected = GuildAccess(PROTECTED, bot_is_member=True, caller_manages=True)
    await world.manager.create(alice, name="mine")
    await world.manager.register_guild(owner, "mine", protected, confirmed=True)
    with pytest.raises(GuildProtected):
        await world.manager.set_rest_level(alice, "mine", FULL, [protected])
    await world.manager.set_rest_level(owner, "mine", FULL)
    assert (await world.manager.get("mine")).rest_level is FULL


async def test_the_same_level_again_is_no_change(world: World, alice: Actor) -> None:
    await world.manager.create(alice, name="mine")
    await world.manager.set_rest_level(alice, "mine", DEFAULT)
    assert await _changes(world, "mine") == []


async def test_a_sandbox_past_its_expiry(world: World, alice: Actor) -> None:
    await world.manager.create(alice, name="mine", ttl="1h")
    world.clock.forward(hours=2)
    with pytest.raises(SandboxNotRunning):
        await world.manager.set_rest_level(alice, "mine", READ_ONLY)
