"""Sharing as far as it needs no credentials: the rules, the log, the lists, and which names come first."""

from __future__ import annotations

import pytest

from sandbox_core.errors import InvalidInput, NotPermitted, SandboxNotNamed, ShareLimitReached
from sandbox_core.manager import Colleague
from sandbox_core.models import Actor, AuditEvent, ShareAccess

from .conftest import World

SEE = ShareAccess.SEE
BOB = Colleague("200000000000000002", "Bob")


async def test_it_is_shared_and_taken_back(world: World, alice: Actor) -> None:
    await world.manager.create(alice, name="mine")
    shared = await world.manager.share(alice, "mine", BOB, SEE)
    assert not shared.already
    assert (await world.manager.get("mine")).share_of(BOB.user_id) == shared.sandbox.shares[0]
    assert shared.sandbox.shares[0].shown_name == "Bob"
    assert (await world.manager.share(alice, "mine", BOB, SEE)).already
    left = await world.manager.unshare(alice, "mine", BOB.user_id)
    assert left.sandbox.shares == ()
    with pytest.raises(InvalidInput, match="not shared with them"):
        await world.manager.unshare(alice, "mine", BOB.user_id)
    entries = [
        (each.event_type, each.actor, dict(each.details))
        for each in await world.manager.audit("mine")
        if each.event_type in {AuditEvent.SHARED, AuditEvent.UNSHARED}
    ]
    about = {"user_id": BOB.user_id, "access": "see"}
    assert entries == [(AuditEvent.SHARED, alice.id, about), (AuditEvent.UNSHARED, alice.id, about)]


async def test_it_ends_with_the_sandbox(world: World, alice: Actor) -> None:
    await world.manager.create(alice, name="mine")
    await world.manager.share(alice, "mine", BOB, SEE)
    assert (await world.manager.destroy(alice, "mine")).sandbox.name == "mine"
    assert await world.pool.fetchval("SELECT count(*) FROM sandbox_shares") == 0


async def test_only_its_owners_share_it(world: World, alice: Actor, bob: Actor) -> None:
    await world.manager.create(alice, name="mine")
    carol = Colleague("200000000000000003")
    with pytest.raises(NotPermitted):
        await world.manager.share(bob, "mine", carol, SEE)
    await world.manager.share(alice, "mine", Colleague(bob.id), SEE)
    with pytest.raises(NotPermitted):
        await world.manager.share(bob, "mine", carol, SEE)
    with pytest.raises(NotPermitted):
        await world.manager.unshare(bob, "mine", bob.id)
    await world.manager.share(Actor("root", is_bot_owner=True), "mine", carol, SEE)


async def test_so_many_at_most(world: World, alice: Actor) -> None:
    await world.manager.create(alice, name="mine")
    for number in range(10):
        await world.manager.share(alice, "mine", Colleague(f"20000000000000010{number}"), SEE)
    with pytest.raises(ShareLimitReached):
        await world.manager.share(alice, "mine", BOB, SEE)


async def test_lists_and_names_of_a_colleague(world: World, alice: Actor, bob: Actor) -> None:
    for name in ("aaa", "zzz"):
        await world.manager.create(alice, name=name)
    manager = world.manager
    assert await manager.list(owner=bob.id, shared=True) == []
    with pytest.raises(SandboxNotNamed):
        await manager.get_or_only(None, owner=bob.id, shared=True)
    shared = (await manager.share(alice, "zzz", Colleague(bob.id), SEE)).sandbox
    assert await manager.list(owner=bob.id, shared=True) == [shared]
    assert await manager.list(owner=bob.id) == []
    # The only one that is shared is meant by whoever has none, and only where that can do no harm.
    assert await manager.get_or_only(None, owner=bob.id, shared=True) == shared
    with pytest.raises(SandboxNotNamed):
        await manager.get_or_only(None, owner=bob.id)
    assert [each.name for each in await manager.suggest("", owner_first=bob.id)] == ["zzz", "aaa"]
    own = (await manager.create(bob, name="mmm")).sandbox
    assert await manager.get_or_only(None, owner=bob.id, shared=True) == own
    assert [each.name for each in await manager.suggest("", owner_first=bob.id)] == ["mmm", "zzz", "aaa"]
