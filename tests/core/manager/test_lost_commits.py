"""PostgreSQL commits, and its answer is lost: what is said then is true, and so is what a repetition says."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from sandbox_core.error_text import explain
from sandbox_core.errors import (
    DependencyUnavailable,
    GuildNotRegistered,
    NameTaken,
    OutcomeUnknown,
    SandboxNotFound,
)
from sandbox_core.manager import SandboxManager
from sandbox_core.models import Actor, AuditEvent, GuildAccess, SandboxStatus

from .conftest import World
from .lost_commits import LostCommits, losing_commits


@pytest.fixture
async def cut(world: World, database_url: str) -> AsyncIterator[tuple[LostCommits, SandboxManager]]:
    """The way to PostgreSQL, and a manager that goes it."""
    async with losing_commits(database_url) as (way, pool):
        yield way, world._manager(pool=pool)


async def events_of(world: World, name: str = "mine") -> Counter[AuditEvent]:
    return Counter(entry.event_type for entry in await world.manager.audit(name))


def says_nothing_was_changed(error: DependencyUnavailable) -> bool:
    return "Nothing was changed" in str(explain(error))


@pytest.mark.parametrize("number", [1, 2], ids=["inserted", "running"])
async def test_a_creation_is_undone(
    world: World,
    cut: tuple[LostCommits, SandboxManager],
    alice: Actor,
    managed: GuildAccess,
    number: int,
) -> None:
    way, manager = cut
    way.lose(number)
    with pytest.raises(DependencyUnavailable) as failed:
        await manager.create(alice, name="mine", guilds=[managed])
    assert way.lost == 1
    # It was undone, so that is what is said.
    assert not isinstance(failed.value, OutcomeUnknown)
    assert says_nothing_was_changed(failed.value)
    (row,) = await world.rows()
    assert row.status is SandboxStatus.DESTROYED
    assert await world.left_of(row) == []
    assert await world.manager.for_guild(managed.guild_id) is None
    again = await manager.create(alice, name="mine", guilds=[managed])
    assert again.sandbox.status is SandboxStatus.RUNNING
    assert again.sandbox.guild_ids == (managed.guild_id,)


async def test_a_creation_that_could_not_be_undone(
    world: World, cut: tuple[LostCommits, SandboxManager], alice: Actor, bob: Actor
) -> None:
    way, manager = cut
    way.lose(2, stays_away=True)
    with pytest.raises(OutcomeUnknown) as failed:
        await manager.create(alice, name="mine")
    assert not says_nothing_was_changed(failed.value)
    way.mend()
    for ask in (manager.create, manager.check_create):
        with pytest.raises(NameTaken) as own:
            await ask(alice, name="mine")
        assert own.value.own is SandboxStatus.RUNNING
        assert explain(own.value).sentence == "You already have a sandbox named `mine`; it is running."
        with pytest.raises(NameTaken) as others:
            await ask(bob, name="mine")
        assert others.value.own is None
        assert explain(others.value).sentence == "A sandbox named `mine` already exists."
    assert len(await world.rows()) == 1


async def test_a_registration(
    world: World, cut: tuple[LostCommits, SandboxManager], alice: Actor, managed: GuildAccess
) -> None:
    way, manager = cut
    await manager.create(alice, name="mine")
    way.lose()
    with pytest.raises(OutcomeUnknown) as failed:
        await manager.register_guild(alice, "mine", managed)
    assert not says_nothing_was_changed(failed.value)
    assert way.lost == 1
    again = await manager.register_guild(alice, "mine", managed)
    assert again.already
    assert again.sandbox.guild_ids == (managed.guild_id,)
    # The others are told now at the latest.
    assert world.routes.sandbox_of(managed.guild_id) == str(again.sandbox.id)
    assert (await events_of(world))[AuditEvent.GUILD_REGISTERED] == 1


async def test_the_end_of_a_registration(
    world: World, cut: tuple[LostCommits, SandboxManager], alice: Actor, managed: GuildAccess
) -> None:
    way, manager = cut
    first = await manager.create(alice, name="mine")
    assert not (await manager.register_guild(alice, str(first.sandbox.id), managed)).already
    way.lose()
    with pytest.raises(OutcomeUnknown):
        await manager.unregister_guild(alice, managed)
    with pytest.raises(GuildNotRegistered) as again:
        await manager.unregister_guild(alice, managed)
    assert "its events go to production" in explain(again.value).sentence
    assert (await events_of(world))[AuditEvent.GUILD_UNREGISTERED] == 1


async def test_an_extension_is_made_once(
    world: World, cut: tuple[LostCommits, SandboxManager], alice: Actor
) -> None:
    way, manager = cut
    before = (await manager.create(alice, name="mine", ttl="2h")).sandbox.expires_at
    way.lose()
    with pytest.raises(OutcomeUnknown) as failed:
        await manager.extend(alice, "mine", "1h")
    assert "Look before you repeat it" in explain(failed.value).way_out
    assert (await manager.get("mine")).expires_at == before + timedelta(hours=1)
    assert (await events_of(world))[AuditEvent.TTL_EXTENDED] == 1


async def test_the_begin_of_a_destruction(
    world: World, cut: tuple[LostCommits, SandboxManager], alice: Actor
) -> None:
    way, manager = cut
    sandbox = (await manager.create(alice, name="mine")).sandbox
    way.lose(1)
    with pytest.raises(OutcomeUnknown):
        await manager.destroy(alice, "mine")
    assert (await manager.destroy(alice, "mine")).sandbox.status is SandboxStatus.DESTROYED
    assert await world.left_of(sandbox) == []
    assert (await events_of(world))[AuditEvent.DESTROYING] == 1


async def test_the_end_of_a_destruction_is_found_out(
    world: World, cut: tuple[LostCommits, SandboxManager], alice: Actor
) -> None:
    way, manager = cut
    sandbox = (await manager.create(alice, name="mine")).sandbox
    way.lose(2)
    gone = await manager.destroy(alice, "mine")
    assert way.lost == 1
    assert gone.sandbox.status is SandboxStatus.DESTROYED
    assert await world.left_of(sandbox) == []
    assert (await events_of(world))[AuditEvent.DESTROYED] == 1
    assert len(world.observed.destroyed_seconds) == 1
    with pytest.raises(SandboxNotFound):
        await manager.destroy(alice, "mine")
