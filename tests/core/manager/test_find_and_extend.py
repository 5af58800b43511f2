from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from sandbox_core.errors import InvalidInput, NotPermitted, SandboxNotFound, SandboxNotRunning
from sandbox_core.models import Actor, AuditEvent, GuildAccess, SandboxStatus
from sandbox_core.namespaces import PartState
from sandbox_core.postgres import audit, connected

from .conftest import START, World


async def test_found_by_name_id_and_short_id(world: World, alice: Actor) -> None:
    sandbox = (await world.manager.create(alice, name="welcome-flow")).sandbox
    for reference in ("welcome-flow", " welcome-flow ", str(sandbox.id), str(sandbox.id).upper()):
        assert await world.manager.get(reference) == sandbox
    assert await world.manager.get(sandbox.short_id) == sandbox
    assert await world.manager.get(sandbox.short_id.upper()) == sandbox


async def test_a_name_wins_over_a_short_id_that_reads_the_same(world: World, alice: Actor) -> None:
    first = (await world.manager.create(alice, name="first")).sandbox
    named = (await world.manager.create(alice, name=first.short_id)).sandbox
    assert await world.manager.get(first.short_id) == named
    assert await world.manager.get(str(first.id)) == first


async def test_the_unknown_is_answered_with_the_nearest(world: World, alice: Actor) -> None:
    await world.manager.create(alice, name="welcome-flow")
    near = ("welcome-flow",)
    for reference, suggested in {
        "welcome-flwo": near,
        "Welcome-Flow": near,
        "nothing-alike": (),
        "": (),
        "'; DROP TABLE sandboxes; --": (),
        "\0": (),
        "*": (),
        "ffffffff-ffff-4fff-8fff-ffffffffffff": (),
        "x" * 5000: (),
    }.items():
        with pytest.raises(SandboxNotFound) as missing:
            await world.manager.get(reference)
        assert missing.value.reference == reference
        assert missing.value.suggestions == suggested


async def test_the_list_filters(world: World, alice: Actor, bob: Actor) -> None:
    first = (await world.manager.create(alice, name="first")).sandbox
    world.clock.forward(minutes=1)
    second = (await world.manager.create(bob, name="second")).sandbox
    world.clock.forward(minutes=1)
    await world.manager.create(alice, name="third")
    third = (await world.manager.destroy(alice, "third")).sandbox

    manager = world.manager
    assert await manager.list() == [second, first]
    assert await manager.list(include_destroyed=True) == [third, second, first]
    assert await manager.list(owner=alice.id) == [first]
    assert await manager.list(owner=alice.id, include_destroyed=True) == [third, first]
    assert await manager.list(status=SandboxStatus.DESTROYED) == [third]
    assert await manager.list(status=SandboxStatus.RUNNING) == [second, first]
    assert await manager.list(owner="nobody") == []


async def test_suggestions_put_the_callers_own_first(world: World, alice: Actor, bob: Actor) -> None:
    for actor, name in [(alice, "zoo"), (alice, "my-api"), (bob, "api-b"), (bob, "an-api"), (bob, "old-api")]:
        await world.manager.create(actor, name=name)
    await world.manager.destroy(bob, "old-api")

    async def names(prefix: str) -> list[str]:
        return [sandbox.name for sandbox in await world.manager.suggest(prefix, owner_first=alice.id)]

    assert await names("") == ["my-api", "zoo", "an-api", "api-b"]
    assert await names(" API") == ["my-api", "api-b", "an-api"]
    assert await names("%") == []
    assert await names("\0") == []


async def test_suggestions_are_as_many_as_discord_shows(world: World, alice: Actor) -> None:
    manager = world.with_limits(replace(world.limits, max_per_owner=30))
    for _ in range(27):
        await manager.create(alice)
    assert len(await manager.suggest("", owner_first=alice.id)) == 25


async def test_a_guilds_sandbox(world: World, alice: Actor, managed: GuildAccess) -> None:
    assert await world.manager.for_guild(managed.guild_id) is None
    sandbox = (await world.manager.create(alice, guilds=[managed])).sandbox
    assert await world.manager.for_guild(f" {managed.guild_id} ") == sandbox
    world.clock.forward(hours=24)
    found = await world.manager.for_guild(managed.guild_id)
    assert found is not None
    assert not found.routes_at(world.clock.now)
    with pytest.raises(InvalidInput):
        await world.manager.for_guild("one")


async def test_extending_adds_to_the_present_expiry(world: World, alice: Actor, managed: GuildAccess) -> None:
    sandbox = (await world.manager.create(alice, name="mine", ttl="2h", guilds=[managed])).sandbox
    world.clock.forward(hours=1)
    extension = await world.manager.extend(alice, "mine", "3h")
    assert not extension.capped
    assert extension.sandbox.expires_at == START + timedelta(hours=5)
    assert extension.sandbox.last_activity_at == world.clock.now
    route = world.routes.current[managed.guild_id]
    assert route is not None
    assert route.expires_at == extension.sandbox.expires_at.timestamp()
    entry = (await world.audit(sandbox.id))[-1]
    assert entry.event_type is AuditEvent.TTL_EXTENDED
    assert entry.details == {
        "from": sandbox.expires_at.isoformat(),
        "to": extension.sandbox.expires_at.isoformat(),
        "capped": False,
    }


async def test_extending_stops_at_the_longest_life(world: World, alice: Actor) -> None:
    await world.manager.create(alice, name="mine", ttl="2h")
    world.clock.forward(hours=1)
    extension = await world.manager.extend(alice, "mine", "168h")
    assert extension.capped
    assert extension.sandbox.expires_at == START + timedelta(hours=168)
    again = await world.manager.extend(alice, "mine", "1h")
    assert again.capped
    assert again.sandbox.expires_at == START + timedelta(hours=168)


@pytest.mark.parametrize("duration", ["900h", "10y", "9" * 300])
async def test_more_than_any_life_is_capped_and_not_refused(
    world: World, alice: Actor, duration: str
) -> None:
    await world.manager.create(alice, name="mine", ttl="2h")
    extension = await world.manager.extend(alice, "mine", duration)
    assert extension.capped
    assert extension.sandbox.expires_at == START + timedelta(hours=168)


async def test_extending_never_shortens_a_life(world: World, alice: Actor) -> None:
    await world.manager.create(alice, name="mine", ttl="100h")
    stricter = world.with_limits(replace(world.limits, max_ttl=timedelta(hours=48)))
    extension = await stricter.extend(alice, "mine", "1h")
    assert extension.capped
    assert extension.sandbox.expires_at == START + timedelta(hours=100)


async def test_extending_at_once_adds_both(world: World, alice: Actor) -> None:
    await world.manager.create(alice, name="mine", ttl="2h")
    await asyncio.gather(*(world.manager.extend(alice, "mine", "1h") for _ in range(4)))
    assert (await world.manager.get("mine")).expires_at == START + timedelta(hours=6)


async def test_one_message_extends_once(world: World, alice: Actor, bot_owner: Actor) -> None:
    await world.manager.create(alice, name="mine", ttl="2h")
    await world.manager.create(alice, name="other", ttl="2h")
    first = await world.manager.extend(bot_owner, "mine", "500h", cause_id="1576959397827969025")
    assert first.capped
    for _ in range(2):
        assert await world.manager.extend(bot_owner, "mine", "500h", cause_id="1576959397827969025") == first
    # Another message is another wish, and so is the same one for another sandbox.
    await world.manager.extend(bot_owner, "mine", "1h", cause_id="1576959397827969026")
    await world.manager.extend(bot_owner, "other", "1h", cause_id="1576959397827969025")
    assert (await world.manager.get("other")).expires_at == START + timedelta(hours=3)
    entries = await world.audit(first.sandbox.id)
    said = [each.details["cause_id"] for each in entries if each.event_type is AuditEvent.TTL_EXTENDED]
    assert said == ["1576959397827969025", "1576959397827969026"]
    # It was done in time, also when it is asked for again after the end.
    world.clock.forward(hours=200)
    again = await world.manager.extend(bot_owner, "mine", "500h", cause_id="1576959397827969025")
    assert again.sandbox.expires_at == first.sandbox.expires_at


async def test_who_may_extend_and_what(world: World, alice: Actor, bob: Actor, bot_owner: Actor) -> None:
    sandbox = (await world.manager.create(alice, name="mine", ttl="2h")).sandbox
    with pytest.raises(NotPermitted):
        await world.manager.extend(bob, "mine", "1h")
    with pytest.raises(InvalidInput) as refused:
        await world.manager.extend(alice, "mine", "abc")
    assert refused.value.field == "duration"
    await world.manager.extend(bot_owner, "mine", "1h")
    world.clock.forward(hours=3)
    with pytest.raises(SandboxNotRunning) as expired:
        await world.manager.extend(alice, "mine", "1h")
    assert expired.value.status is SandboxStatus.EXPIRED
    await world.manager.destroy(alice, "mine")
    assert (await world.row(sandbox.id)) is not None


async def test_health_of_a_sandbox(world: World, alice: Actor) -> None:
    sandbox = (await world.manager.create(alice, name="mine")).sandbox
    await world.fill(sandbox)
    health = await world.manager.health("mine")
    assert health.sandbox == sandbox
    assert health.overall is PartState.HEALTHY
    assert [part.store for part in health.parts] == ["PostgreSQL", "Redis", "NATS"]
    await world.provisioner.drop(sandbox)
    assert (await world.manager.health("mine")).overall is PartState.DEGRADED


async def test_the_audit_log_gives_the_newest_in_order(world: World, alice: Actor) -> None:
    sandbox = (await world.manager.create(alice, name="mine")).sandbox
    await world.manager.destroy(alice, "mine")
    async with connected(world.pool) as connection:
        newest = await audit.entries(connection, sandbox.id, limit=2)
    assert [entry.event_type for entry in newest] == [AuditEvent.DESTROYING, AuditEvent.DESTROYED]
