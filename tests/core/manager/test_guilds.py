from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from sandbox_core.errors import (
    BotNotInGuild,
    ConfirmationNeeded,
    GuildAlreadyMapped,
    GuildLimitReached,
    GuildNotRegistered,
    GuildProtected,
    InvalidInput,
    NotPermitted,
    SandboxNotFound,
    SandboxNotRunning,
)
from sandbox_core.manager import Changed
from sandbox_core.models import Actor, AuditEvent, GuildAccess, SandboxStatus
from sandbox_core.postgres import guild_mappings, sandboxes, transaction
from sandbox_core.postgres import guild_mappings as mappings_module

from .conftest import PROTECTED, World


def audited(entries: list, event: AuditEvent) -> list[dict]:  # type: ignore[type-arg]
    return [dict(entry.details) for entry in entries if entry.event_type is event]


async def test_registering_sends_the_guild_to_the_sandbox(
    world: World, alice: Actor, managed: GuildAccess
) -> None:
    sandbox = (await world.manager.create(alice, name="mine")).sandbox
    world.clock.forward(minutes=1)
    registered = (await world.manager.register_guild(alice, "mine", managed)).sandbox
    assert registered.guild_ids == (managed.guild_id,)
    assert registered.last_activity_at == world.clock.now
    assert await world.manager.for_guild(managed.guild_id) == registered
    assert world.routes.sandbox_of(managed.guild_id) == str(sandbox.id)
    assert audited(await world.audit(sandbox.id), AuditEvent.GUILD_REGISTERED) == [
        {"guild_id": managed.guild_id}
    ]


async def test_registering_again_is_harmless(world: World, alice: Actor, managed: GuildAccess) -> None:
    sandbox = (await world.manager.create(alice, name="mine", guilds=[managed])).sandbox
    again = (await world.manager.register_guild(alice, "mine", managed)).sandbox
    assert again.guild_ids == (managed.guild_id,)
    assert len(audited(await world.audit(sandbox.id), AuditEvent.GUILD_REGISTERED)) == 1


async def test_a_guild_of_another_sandbox_is_refused(
    world: World, alice: Actor, bob: Actor, managed: GuildAccess
) -> None:
    await world.manager.create(alice, name="alices", guilds=[managed])
    await world.manager.create(bob, name="bobs")
    with pytest.raises(GuildAlreadyMapped) as refused:
        await world.manager.register_guild(bob, "bobs", managed)
    assert (refused.value.guild_id, refused.value.sandbox_name) == (managed.guild_id, "alices")
    assert (await world.manager.get("bobs")).guild_ids == ()


async def test_the_same_guild_at_once_goes_to_one(
    world: World, alice: Actor, bob: Actor, managed: GuildAccess
) -> None:
    for round_number in range(5):
        await world.manager.create(alice, name="alices")
        await world.manager.create(bob, name="bobs")
        outcomes = await asyncio.gather(
            world.manager.register_guild(alice, "alices", managed),
            world.manager.register_guild(bob, "bobs", managed),
            return_exceptions=True,
        )
        (winner,) = (outcome.sandbox for outcome in outcomes if isinstance(outcome, Changed))
        (loser,) = (outcome for outcome in outcomes if isinstance(outcome, BaseException))
        assert isinstance(loser, GuildAlreadyMapped), round_number
        assert loser.sandbox_name == winner.name
        assert await world.manager.for_guild(managed.guild_id) == winner
        await world.manager.destroy(alice, "alices")
        await world.manager.destroy(bob, "bobs")


async def test_a_sandbox_has_so_many_guilds_at_most(world: World, alice: Actor) -> None:
    def access(number: int) -> GuildAccess:
        return GuildAccess(str(2 * 10**17 + number), bot_is_member=True, caller_manages=True)

    most = world.limits.max_guilds
    with pytest.raises(GuildLimitReached):
        await world.manager.create(alice, guilds=[access(n) for n in range(most + 1)])
    assert await world.rows() == []
    made = (await world.manager.create(alice, name="full", guilds=[access(n) for n in range(most)])).sandbox
    with pytest.raises(GuildLimitReached) as refused:
        await world.manager.register_guild(alice, "full", access(most))
    assert refused.value.limit == most
    with pytest.raises(GuildLimitReached):
        await world.manager.check_register_guild(alice, made, access(most))
    # One that it has already takes no more room.
    again = await world.manager.register_guild(alice, "full", access(0))
    assert len(again.sandbox.guild_ids) == most
    await world.manager.unregister_guild(alice, access(0))
    assert (await world.manager.register_guild(alice, "full", access(most))).sandbox.guild_ids[-1] == str(
        2 * 10**17 + most
    )


async def test_two_creations_with_the_same_guilds_do_not_block_each_other(
    world: World, alice: Actor, bob: Actor
) -> None:
    guilds = [GuildAccess(f"10000000000000000{n}", bot_is_member=True, caller_manages=True) for n in range(8)]
    outcomes = await asyncio.gather(
        world.manager.create(alice, guilds=guilds),
        world.manager.create(bob, guilds=guilds[::-1]),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Changed", "GuildAlreadyMapped"]
    assert len(await world.provisioner.list_schemas()) == 1


async def test_an_expired_sandbox_gives_its_guilds_up(
    world: World, alice: Actor, bob: Actor, managed: GuildAccess
) -> None:
    old = (await world.manager.create(alice, name="old", ttl="1h", guilds=[managed])).sandbox
    world.clock.forward(hours=1)
    new = (await world.manager.create(bob, name="new", guilds=[managed])).sandbox
    assert new.guild_ids == (managed.guild_id,)
    assert (await world.manager.get("old")).guild_ids == ()
    assert audited(await world.audit(old.id), AuditEvent.GUILD_UNREGISTERED) == [
        {"guild_id": managed.guild_id, "reason": "expired", "registered_with": str(new.id)}
    ]


async def test_a_mapping_that_vanishes_is_asked_for_again(
    world: World, alice: Actor, managed: GuildAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the refused insert and the question who holds the guild, its holder lets go."""
    await world.manager.create(alice, name="first", guilds=[managed])
    await world.manager.create(alice, name="second")
    real = mappings_module.holder_of
    asked = 0

    async def let_go_first(connection, guild_id):  # type: ignore[no-untyped-def]
        nonlocal asked
        asked += 1
        if asked == 1:
            await world.manager.unregister_guild(alice, managed, reference="first")
        return await real(connection, guild_id)

    # The call inside unregister_guild counts too, and finds the holder as it must.
    monkeypatch.setattr(mappings_module, "holder_of", let_go_first)
    registered = (await world.manager.register_guild(alice, "second", managed)).sandbox
    assert registered.guild_ids == (managed.guild_id,)


async def test_an_expired_holder_that_lets_go_by_itself(
    world: World, alice: Actor, bob: Actor, managed: GuildAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The expired sandbox is destroyed between the question and the removal: no audit row of ours for it."""
    old = (await world.manager.create(alice, name="old", ttl="1h", guilds=[managed])).sandbox
    await world.manager.create(bob, name="new", ttl="5h")
    world.clock.forward(hours=1)
    real = mappings_module.remove

    async def destroyed_first(connection, guild_id, sandbox_id):  # type: ignore[no-untyped-def]
        await world.manager.destroy(alice, "old")
        return await real(connection, guild_id, sandbox_id)

    monkeypatch.setattr(guild_mappings, "remove", destroyed_first)
    assert (await world.manager.register_guild(bob, "new", managed)).sandbox.guild_ids == (managed.guild_id,)
    (unregistered,) = audited(await world.audit(old.id), AuditEvent.GUILD_UNREGISTERED)
    assert unregistered["reason"] == "sandbox destroyed"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"guild_id": "abc"}, InvalidInput),
        ({"bot_is_member": False}, BotNotInGuild),
        ({"caller_manages": False}, NotPermitted),
        ({"guild_id": PROTECTED}, GuildProtected),
    ],
)
async def test_a_guild_that_may_not_be_diverted(
    world: World, alice: Actor, managed: GuildAccess, changed: dict[str, object], error: type[Exception]
) -> None:
    await world.manager.create(alice, name="mine")
    with pytest.raises(error):
        await world.manager.register_guild(alice, "mine", replace(managed, **changed))  # type: ignore[arg-type]
    assert (await world.manager.get("mine")).guild_ids == ()
    assert world.routes.changes == []


async def test_the_bots_owner_may_divert_any_guild_the_bot_is_in(
    world: World, alice: Actor, bot_owner: Actor
) -> None:
    await world.manager.create(alice, name="mine")
    manages = GuildAccess(PROTECTED, bot_is_member=True, caller_manages=True)
    with pytest.raises(GuildProtected):
        await world.manager.register_guild(alice, "mine", manages, confirmed=True)
    protected = GuildAccess(PROTECTED, bot_is_member=True, caller_manages=False)
    with pytest.raises(ConfirmationNeeded) as asked:
        await world.manager.register_guild(bot_owner, "mine", replace(protected, name="Production"))
    assert (asked.value.guild_id, asked.value.guild_name) == (PROTECTED, "Production")
    assert await world.manager.for_guild(PROTECTED) is None
    with pytest.raises(ConfirmationNeeded):
        await world.manager.create(bot_owner, guilds=[protected])
    registered = (await world.manager.register_guild(bot_owner, "mine", protected, confirmed=True)).sandbox
    assert registered.guild_ids == (PROTECTED,)
    with pytest.raises(BotNotInGuild):
        await world.manager.register_guild(bot_owner, "mine", replace(protected, bot_is_member=False))


async def test_somebody_elses_sandbox_is_refused(
    world: World, alice: Actor, bob: Actor, managed: GuildAccess
) -> None:
    await world.manager.create(alice, name="alices")
    with pytest.raises(NotPermitted) as refused:
        await world.manager.register_guild(bob, "alices", managed)
    assert refused.value.action == "register servers with `alices`"
    with pytest.raises(SandboxNotFound):
        await world.manager.register_guild(bob, "nobodys", managed)


async def test_from_its_expiry_on_nothing_is_registered(
    world: World, alice: Actor, managed: GuildAccess
) -> None:
    sandbox = (await world.manager.create(alice, name="mine", ttl="1h")).sandbox
    world.clock.now = sandbox.expires_at - timedelta(microseconds=1)
    await world.manager.register_guild(alice, "mine", managed)
    world.clock.now = sandbox.expires_at
    with pytest.raises(SandboxNotRunning) as refused:
        await world.manager.register_guild(alice, "mine", managed)
    assert refused.value.status is SandboxStatus.EXPIRED


async def test_a_sandbox_being_destroyed_takes_no_guild(
    world: World, alice: Actor, managed: GuildAccess
) -> None:
    sandbox = (await world.manager.create(alice, name="mine")).sandbox
    async with transaction(world.pool) as connection:
        await sandboxes.set_status(
            connection, sandbox.id, SandboxStatus.RUNNING, SandboxStatus.DESTROYING, at=world.clock.now
        )
    with pytest.raises(SandboxNotRunning) as refused:
        await world.manager.register_guild(alice, "mine", managed)
    assert refused.value.status is SandboxStatus.DESTROYING


async def test_registering_and_destroying_at_once_never_leaves_a_mapping(
    world: World, alice: Actor, managed: GuildAccess
) -> None:
    for _ in range(5):
        await world.manager.create(alice, name="mine")
        register, destroy = await asyncio.gather(
            world.manager.register_guild(alice, "mine", managed),
            world.manager.destroy(alice, "mine"),
            return_exceptions=True,
        )
        assert isinstance(destroy, Changed)
        assert isinstance(register, Changed | SandboxNotRunning | SandboxNotFound)
        assert await world.manager.for_guild(managed.guild_id) is None


async def test_unregistering_gives_the_guild_back(world: World, alice: Actor, managed: GuildAccess) -> None:
    sandbox = (await world.manager.create(alice, name="mine", guilds=[managed])).sandbox
    left = (await world.manager.unregister_guild(alice, managed)).sandbox
    assert (left.id, left.guild_ids) == (sandbox.id, ())
    assert world.routes.current[managed.guild_id] is None
    assert audited(await world.audit(sandbox.id), AuditEvent.GUILD_UNREGISTERED) == [
        {"guild_id": managed.guild_id}
    ]


async def test_who_may_unregister(
    world: World, alice: Actor, bob: Actor, bot_owner: Actor, managed: GuildAccess
) -> None:
    await world.manager.create(alice, name="mine")
    elsewhere = replace(managed, caller_manages=False)
    for actor, access in [(alice, elsewhere), (bot_owner, elsewhere), (bob, managed)]:
        await world.manager.register_guild(alice, "mine", managed)
        assert (await world.manager.unregister_guild(actor, access)).sandbox.guild_ids == ()
    await world.manager.register_guild(alice, "mine", managed)
    with pytest.raises(NotPermitted):
        await world.manager.unregister_guild(bob, elsewhere)
    assert (await world.manager.get("mine")).guild_ids == (managed.guild_id,)


async def test_unregistering_what_is_not_registered(world: World, alice: Actor, managed: GuildAccess) -> None:
    await world.manager.create(alice, name="mine", guilds=[managed])
    await world.manager.create(alice, name="other")
    with pytest.raises(GuildNotRegistered):
        await world.manager.unregister_guild(alice, replace(managed, guild_id="100000000000000077"))
    with pytest.raises(GuildNotRegistered):
        await world.manager.unregister_guild(alice, managed, reference="other")
    with pytest.raises(SandboxNotFound):
        await world.manager.unregister_guild(alice, managed, reference="nobodys")
    with pytest.raises(InvalidInput):
        await world.manager.unregister_guild(alice, replace(managed, guild_id="x"))
    assert (await world.manager.unregister_guild(alice, managed, reference="mine")).sandbox.guild_ids == ()


async def test_unregistering_twice_at_once_succeeds_once(
    world: World, alice: Actor, managed: GuildAccess
) -> None:
    for _ in range(5):
        sandbox = (await world.manager.create(alice, guilds=[managed])).sandbox
        outcomes = await asyncio.gather(
            *(world.manager.unregister_guild(alice, managed) for _ in range(2)), return_exceptions=True
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Changed", "GuildNotRegistered"]
        await world.manager.destroy(alice, sandbox.name)


async def test_processes_that_have_not_switched_are_named_in_every_result(
    world: World, alice: Actor, managed: GuildAccess
) -> None:
    world.routes.unconfirmed = ("host:1", "host:2")
    created = await world.manager.create(alice, name="mine", guilds=[managed])
    assert created.unconfirmed == ("host:1", "host:2")
    assert created.sandbox == await world.manager.get("mine")
    assert (await world.manager.extend(alice, "mine", "1h")).unconfirmed == ("host:1", "host:2")
    assert (await world.manager.unregister_guild(alice, managed)).unconfirmed == ("host:1", "host:2")
    registered = await world.manager.register_guild(alice, "mine", managed)
    assert registered.unconfirmed == ("host:1", "host:2")
    assert (await world.manager.destroy(alice, "mine")).unconfirmed == ("host:1", "host:2")
    # Where no guild's route changes nobody is asked.
    assert (await world.manager.create(alice, name="empty")).unconfirmed == ()
