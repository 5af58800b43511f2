from __future__ import annotations

import asyncio

import pytest

from sandbox_core.errors import (
    CleanupFailed,
    DependencyUnavailable,
    NotPermitted,
    SandboxNotFound,
    SandboxNotRunning,
    TransitionNotAllowed,
)
from sandbox_core.manager import teardown
from sandbox_core.models import Actor, AuditEvent, GuildAccess, SandboxStatus
from sandbox_core.postgres import sandboxes, transaction

from .conftest import World

AWAY = DependencyUnavailable("Redis", "it can't be reached")


async def test_everything_goes_and_the_neighbour_stays(
    world: World, alice: Actor, managed: GuildAccess
) -> None:
    sandbox = (await world.manager.create(alice, name="mine", guilds=[managed])).sandbox
    neighbour = (await world.manager.create(alice, name="neighbour")).sandbox
    await world.fill(sandbox)
    await world.fill(neighbour)
    assert await world.left_of(sandbox) == ["schema", "keys", "events"]
    world.clock.forward(minutes=5)

    destroyed = (await world.manager.destroy(alice, "mine")).sandbox

    assert destroyed.status is SandboxStatus.DESTROYED
    assert destroyed.destroyed_at == world.clock.now
    assert await world.left_of(sandbox) == []
    assert await world.left_of(neighbour) == ["schema", "keys", "events"]
    assert world.routes.current[managed.guild_id] is None
    assert await world.manager.list() == [neighbour]
    assert len(world.observed.destroyed_seconds) == 1
    log = [(entry.event_type, dict(entry.details)) for entry in await world.audit(sandbox.id)]
    assert log[-3:-1] == [
        (AuditEvent.GUILD_UNREGISTERED, {"guild_id": managed.guild_id, "reason": "sandbox destroyed"}),
        (AuditEvent.DESTROYING, {"from": "running", "guild_ids": [managed.guild_id]}),
    ]
    assert log[-1][0] is AuditEvent.DESTROYED
    assert log[-1][1]["failed_attempts"] == 0
    assert set(log[-1][1]["steps"]) == {"routes", "NATS", "Redis", "PostgreSQL"}
    with pytest.raises(SandboxNotFound):
        await world.manager.destroy(alice, "mine")


async def test_events_go_to_production_before_anything_is_dropped(
    world: World, alice: Actor, managed: GuildAccess
) -> None:
    sandbox = (await world.manager.create(alice, name="mine", guilds=[managed])).sandbox
    told: list[str | None] = []

    async def look() -> None:
        told.append(world.routes.sandbox_of(managed.guild_id))

    assert world.routes.sandbox_of(managed.guild_id) == str(sandbox.id)
    world.nats_part.before_drop.append(look)
    await world.manager.destroy(alice, "mine")
    assert told == [None]


async def test_parts_go_in_reverse(world: World, alice: Actor) -> None:
    await world.manager.create(alice, name="mine")
    order: list[str] = []

    def note(store: str) -> object:
        async def noted() -> None:
            order.append(store)

        return noted

    for part in (world.postgres_part, world.redis_part, world.nats_part):
        part.before_drop.append(note(part.store))
    await world.manager.destroy(alice, "mine")
    assert order == ["NATS", "Redis", "PostgreSQL"]


async def test_only_its_owner_or_the_bots_owner(
    world: World, alice: Actor, bob: Actor, bot_owner: Actor
) -> None:
    await world.manager.create(alice, name="mine")
    with pytest.raises(NotPermitted) as refused:
        await world.manager.destroy(bob, "mine")
    assert refused.value.action == "destroy `mine`"
    assert (await world.manager.get("mine")).status is SandboxStatus.RUNNING
    assert (await world.manager.destroy(bot_owner, "mine")).sandbox.status is SandboxStatus.DESTROYED


@pytest.mark.parametrize("error", [AWAY, RuntimeError("a password could be here")])
async def test_a_failing_step_is_named_and_a_repeat_goes_on(
    world: World, alice: Actor, managed: GuildAccess, error: Exception
) -> None:
    sandbox = (await world.manager.create(alice, name="mine", guilds=[managed])).sandbox
    await world.fill(sandbox)
    world.redis_part.before_drop.append(error)
    with pytest.raises(CleanupFailed) as failed:
        await world.manager.destroy(alice, "mine")
    assert failed.value.step == "Redis"
    assert "password" not in str(failed.value)
    stuck = await world.manager.get("mine")
    assert (stuck.status, stuck.guild_ids) == (SandboxStatus.DESTROYING, ())
    assert await world.left_of(sandbox) == ["keys"]
    assert world.routes.current[managed.guild_id] is None

    assert (await world.manager.destroy(alice, "mine")).sandbox.status is SandboxStatus.DESTROYED
    assert await world.left_of(sandbox) == []
    events = [entry.event_type for entry in await world.audit(sandbox.id)]
    assert events.count(AuditEvent.DESTROYING) == events.count(AuditEvent.DESTROYED) == 1
    failure, end = (await world.audit(sandbox.id))[-2:]
    assert failure.event_type is AuditEvent.STATUS_CHANGED
    assert (failure.details["failed_step"], failure.details["failed_attempts"]) == ("Redis", 1)
    assert "password" not in str(failure.details)
    assert end.details["failed_attempts"] == 1


async def test_the_first_of_several_failing_steps_is_named(world: World, alice: Actor) -> None:
    await world.manager.create(alice, name="mine")
    world.nats_part.before_drop.append(DependencyUnavailable("NATS", "no answer in time"))
    world.redis_part.before_drop.append(AWAY)
    with pytest.raises(CleanupFailed) as failed:
        await world.manager.destroy(alice, "mine")
    assert (failed.value.step, failed.value.reason) == ("NATS", "NATS is unavailable (no answer in time).")


async def test_the_last_step_fails_with_postgresql_away(
    world: World, alice: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.manager.create(alice, name="mine")

    async def away(*_: object, **__: object) -> None:
        raise DependencyUnavailable("PostgreSQL", "the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr("sandbox_core.manager.teardown.finish", away)
        with pytest.raises(CleanupFailed) as failed:
            await world.manager.destroy(alice, "mine")
    assert failed.value.step == "status"
    assert (await world.manager.destroy(alice, "mine")).sandbox.status is SandboxStatus.DESTROYED


async def test_destroying_at_once_ends_destroyed_for_both(world: World, alice: Actor) -> None:
    for _ in range(5):
        sandbox = (await world.manager.create(alice, name="mine")).sandbox
        outcomes = await asyncio.gather(
            *(world.manager.destroy(alice, "mine") for _ in range(3)), return_exceptions=True
        )
        assert any(not isinstance(outcome, BaseException) for outcome in outcomes)
        for outcome in outcomes:
            # A late one may find it gone already.
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, SandboxNotFound)
            else:
                assert outcome.sandbox.status is SandboxStatus.DESTROYED
        assert await world.left_of(sandbox) == []
        events = [entry.event_type for entry in await world.audit(sandbox.id)]
        assert events.count(AuditEvent.DESTROYED) == 1


async def test_somebody_else_finished_meanwhile(world: World, alice: Actor) -> None:
    sandbox = (await world.manager.create(alice, name="mine")).sandbox

    async def somebody_else() -> None:
        await world.manager.destroy(alice, "mine")

    world.redis_part.before_drop.append(somebody_else)
    assert (await world.manager.destroy(alice, "mine")).sandbox.status is SandboxStatus.DESTROYED
    events = [entry.event_type for entry in await world.audit(sandbox.id)]
    assert events.count(AuditEvent.DESTROYED) == 1


async def test_it_is_gone_between_looking_and_locking(
    world: World, alice: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.manager.create(alice, name="mine")
    stale = await world.manager.get("mine")
    await world.manager.destroy(alice, "mine")

    async def as_it_was(_reference: str) -> object:
        return stale

    monkeypatch.setattr(world.manager, "get", as_it_was)
    with pytest.raises(SandboxNotFound):
        await world.manager.destroy(alice, "mine")


async def test_finishing_what_was_never_begun_is_refused(world: World, alice: Actor) -> None:
    sandbox = (await world.manager.create(alice, name="mine")).sandbox
    with pytest.raises(TransitionNotAllowed):
        await teardown.finish(world.manager._tools, alice, sandbox, {})


async def test_one_being_created_is_left_to_its_creator(world: World, alice: Actor) -> None:
    seen: list[SandboxStatus] = []

    async def try_to_destroy() -> None:
        with pytest.raises(SandboxNotRunning) as refused:
            await world.manager.destroy(alice, "mine")
        seen.append(refused.value.status)

    world.nats_part.before_provision.append(try_to_destroy)
    sandbox = (await world.manager.create(alice, name="mine")).sandbox
    assert seen == [SandboxStatus.CREATING]
    assert sandbox.status is SandboxStatus.RUNNING


@pytest.mark.parametrize("status", [SandboxStatus.PENDING, SandboxStatus.CREATING])
async def test_one_whose_creator_died_can_be_destroyed(
    world: World, alice: Actor, status: SandboxStatus
) -> None:
    sandbox = (await world.manager.create(alice, name="mine")).sandbox
    async with transaction(world.pool) as connection:
        await connection.execute(
            "UPDATE sandboxes SET status = $2::text::sandbox_status WHERE id = $1", sandbox.id, status.value
        )
    world.clock.forward(minutes=3)
    assert (await world.manager.destroy(alice, "mine")).sandbox.status is SandboxStatus.DESTROYED
    assert await world.left_of(sandbox) == []
    destroying = (await world.audit(sandbox.id))[-2]
    assert destroying.details["from"] == status.value


async def test_an_expired_one_is_destroyed(world: World, alice: Actor, managed: GuildAccess) -> None:
    sandbox = (await world.manager.create(alice, name="mine", ttl="1h", guilds=[managed])).sandbox
    world.clock.forward(hours=2)
    async with transaction(world.pool) as connection:
        await sandboxes.set_status(
            connection, sandbox.id, SandboxStatus.RUNNING, SandboxStatus.EXPIRED, at=world.clock.now
        )
    assert (await world.manager.destroy(alice, "mine")).sandbox.status is SandboxStatus.DESTROYED


async def test_a_cancelled_destruction_is_continued(world: World, alice: Actor) -> None:
    sandbox = (await world.manager.create(alice, name="mine")).sandbox
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    world.redis_part.before_drop.append(hang)
    task = asyncio.create_task(world.manager.destroy(alice, "mine"))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await world.manager.get("mine")).status is SandboxStatus.DESTROYING
    await world.manager.destroy(alice, "mine")
    assert await world.left_of(sandbox) == []
