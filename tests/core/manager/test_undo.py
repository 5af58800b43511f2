"""A creation that fails or is cancelled: the steps before are taken back, whatever stopped it."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import pytest

from sandbox_core.error_text import explain
from sandbox_core.errors import (
    CutOff,
    DependencyUnavailable,
    GuildAlreadyMapped,
    SandboxError,
    SchemaCreationFailed,
    TransitionNotAllowed,
)
from sandbox_core.models import Actor, AuditEvent, GuildAccess, SandboxStatus
from sandbox_core.postgres import connected, sandboxes, transaction
from sandbox_core.subjects import redis_prefix

from .conftest import World

GUILDS = [GuildAccess(f"10000000000000000{n}", bot_is_member=True, caller_manages=True) for n in range(1, 4)]


async def assert_undone(world: World, actor: Actor, *, code: str | None) -> None:
    (row,) = await world.rows()
    assert row.status is SandboxStatus.DESTROYED
    assert row.destroyed_at == world.clock.now
    assert row.guild_ids == ()
    assert await world.left_of(row) == []
    destroying, destroyed = (await world.audit(row.id))[-2:]
    assert (destroying.event_type, destroyed.event_type) == (AuditEvent.DESTROYING, AuditEvent.DESTROYED)
    assert destroyed.actor == actor.id
    assert destroyed.details["reason"] == "creation failed"
    assert destroyed.details.get("code") == code
    for guild in GUILDS:
        assert world.routes.sandbox_of(guild.guild_id) is None
        assert await world.manager.for_guild(guild.guild_id) is None


async def test_postgresql_refuses_the_schema(world: World, alice: Actor) -> None:
    async with connected(world.pool) as connection:
        database = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"REVOKE CREATE ON DATABASE {database} FROM current_user")
    with pytest.raises(SchemaCreationFailed) as failed:
        await world.manager.create(alice, guilds=GUILDS)
    assert "permission denied" in failed.value.reason
    await assert_undone(world, alice, code="SANDBOX_005")
    assert world.observed.failures == ["SANDBOX_005"]


# Provisioning is all or nothing, so a schema that stands is never a failed step.
MOMENTS = [
    ("postgres_part", "before_provision"),
    ("redis_part", "before_provision"),
    ("redis_part", "after_provision"),
    ("nats_part", "before_provision"),
    ("nats_part", "after_provision"),
]


@pytest.mark.parametrize(("part", "moment"), MOMENTS)
@pytest.mark.parametrize(
    "fault", [DependencyUnavailable("Redis", "it can't be reached"), ZeroDivisionError()]
)
async def test_a_failing_step_leaves_nothing(
    world: World, alice: Actor, part: str, moment: str, fault: Exception
) -> None:
    getattr(getattr(world, part), moment).append(fault)
    with pytest.raises(type(fault)) as raised:
        await world.manager.create(alice, guilds=GUILDS)
    assert raised.value is fault
    await assert_undone(world, alice, code="SANDBOX_012" if isinstance(fault, SandboxError) else None)


async def test_a_store_that_hangs_counts_as_away(
    world: World, alice: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        async def lose_patience() -> None:
            patch.setattr("sandbox_core.manager.teardown.STEP_TIMEOUT", 0.05)

        async def hang() -> None:
            patch.undo()
            await asyncio.Event().wait()

        world.redis_part.after_provision.append(lose_patience)
        world.nats_part.before_provision.append(hang)
        with pytest.raises(DependencyUnavailable) as failed:
            await world.manager.create(alice)
    assert failed.value.dependency == "NATS"
    await assert_undone(world, alice, code="SANDBOX_012")


async def test_a_guild_lost_to_somebody_else_at_the_last_moment(
    world: World, alice: Actor, bob: Actor
) -> None:
    await world.manager.create(bob, name="rival")

    async def bob_registers() -> None:
        await world.manager.register_guild(bob, "rival", GUILDS[1])

    world.nats_part.after_provision.append(bob_registers)
    with pytest.raises(GuildAlreadyMapped) as failed:
        await world.manager.create(alice, name="late", guilds=GUILDS)
    assert failed.value.sandbox_name == "rival"
    late = next(row for row in await world.rows() if row.name == "late")
    assert late.status is SandboxStatus.DESTROYED
    assert await world.left_of(late) == []
    assert (await world.manager.get("rival")).guild_ids == (GUILDS[1].guild_id,)
    assert await world.manager.for_guild(GUILDS[0].guild_id) is None


@pytest.mark.parametrize(("part", "moment"), MOMENTS)
async def test_cancellation_leaves_nothing(world: World, alice: Actor, part: str, moment: str) -> None:
    reached = asyncio.Event()

    async def wait_for_ever() -> None:
        reached.set()
        await asyncio.Event().wait()

    getattr(getattr(world, part), moment).append(wait_for_ever)
    task = asyncio.create_task(world.manager.create(alice, guilds=GUILDS))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_undone(world, alice, code=None)
    assert world.observed.failures == ["CANCELLED"]
    assert len(world.observed.failed_seconds) == 1


async def test_a_second_cancellation_does_not_stop_the_undoing(world: World, alice: Actor) -> None:
    reached, undoing, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def wait_for_ever() -> None:
        reached.set()
        await asyncio.Event().wait()

    async def hold() -> None:
        undoing.set()
        await go_on.wait()

    world.nats_part.before_provision.append(wait_for_ever)
    world.redis_part.before_drop.append(hold)
    task = asyncio.create_task(world.manager.create(alice))
    await reached.wait()
    task.cancel()
    await undoing.wait()
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_undone(world, alice, code=None)


async def test_cancellation_at_any_moment_leaves_nothing_half_made(world: World, alice: Actor) -> None:
    """Cancelled after each number of turns of the event loop, until one creation gets through."""
    for turns in range(0, 400, 3):
        task = asyncio.create_task(world.manager.create(alice, guilds=GUILDS))
        for _ in range(turns):
            if task.done():
                break
            # One turn of the loop; a bare sleep(0) would outrun the servers.
            await asyncio.sleep(0.0001)
        task.cancel()
        try:
            sandbox = (await task).sandbox
        except asyncio.CancelledError:
            assert await world.manager.list() == []
            assert await world.provisioner.list_schemas() == []
            continue
        assert sandbox.status is SandboxStatus.RUNNING
        break
    else:
        pytest.fail("no creation got through")
    assert turns > 0


async def test_a_cancellation_that_finds_a_step_done_undoes_it(world: World, alice: Actor) -> None:
    reached = asyncio.Event()

    async def done_all_the_same() -> None:
        reached.set()
        # As a driver that loses a cancellation at the very end.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    world.postgres_part.after_provision.append(done_all_the_same)
    task = asyncio.create_task(world.manager.create(alice, guilds=GUILDS))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_undone(world, alice, code=None)


async def test_what_cannot_be_taken_back_stays_destroying(world: World, alice: Actor) -> None:
    world.nats_part.after_provision.append(ZeroDivisionError())
    world.redis_part.before_drop.append(DependencyUnavailable("Redis", "it can't be reached"))
    with pytest.raises(ZeroDivisionError):
        await world.manager.create(alice, name="stuck")
    stuck = await world.manager.get("stuck")
    assert stuck.status is SandboxStatus.DESTROYING
    # The schema is gone all the same, and a later pass ends what is left.
    assert not await world.provisioner.exists(stuck.schema_name)
    assert (await world.manager.destroy(alice, "stuck")).sandbox.status is SandboxStatus.DESTROYED


async def test_an_undoing_that_hangs_is_given_up(
    world: World, alice: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox_core.manager.teardown.UNDO_TIMEOUT", 0.5)
    world.nats_part.before_provision.append(ZeroDivisionError())
    world.redis_part.before_drop.append(asyncio.Event().wait)
    with pytest.raises(ZeroDivisionError):
        await world.manager.create(alice, name="stuck")
    assert (await world.manager.get("stuck")).status is SandboxStatus.DESTROYING


async def test_a_fault_in_the_undoing_does_not_hide_the_cause(
    world: World, alice: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("sandbox_core.manager.teardown.begin", broken)
    cause = DependencyUnavailable("Redis", "it can't be reached")
    world.redis_part.before_provision.append(cause)
    with pytest.raises(CutOff) as raised:
        await world.manager.create(alice)
    assert raised.value.fault is cause
    assert explain(raised.value).sentence == explain(cause).sentence
    assert "Nothing was changed" not in explain(raised.value).way_out, "its row is left"


async def test_a_sandbox_taken_away_while_it_is_made_does_not_come_back(
    world: World, alice: Actor, bot_owner: Actor
) -> None:
    """Its creator slept so long that somebody took it for abandoned and destroyed it."""

    async def taken_for_abandoned() -> None:
        world.clock.forward(minutes=3)
        await world.manager.destroy(bot_owner, "slow")

    world.nats_part.before_provision.append(taken_for_abandoned)
    with pytest.raises(TransitionNotAllowed):
        await world.manager.create(alice, name="slow", guilds=GUILDS)
    (row,) = await world.rows()
    assert row.status is SandboxStatus.DESTROYED
    assert await world.left_of(row) == []


async def test_nothing_is_undone_that_was_never_written(world: World, alice: Actor) -> None:
    """The insert itself is interrupted: no row, no audit, no schema."""
    async with transaction(world.pool) as blocker:
        # Holds the owner's lock, so that the creation waits in its first statement.
        await blocker.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('sandbox owner ' || $1::text, 0))", alice.id
        )
        task = asyncio.create_task(world.manager.create(alice))
        while not await blocker.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await blocker.fetchval("SELECT count(*) FROM sandboxes") == 0
        assert await blocker.fetchval("SELECT count(*) FROM sandbox_audit_log") == 0


async def test_keys_written_by_an_early_worker_go_too(world: World, alice: Actor) -> None:
    async def early_worker() -> None:
        async with connected(world.pool) as connection:
            (row,) = await sandboxes.select(connection)
        await world.redis.set(redis_prefix(row.id) + "early", "1")

    world.nats_part.before_provision.extend([early_worker])
    world.nats_part.after_provision.append(asyncpg.InterfaceError("odd"))
    with pytest.raises(asyncpg.InterfaceError):
        await world.manager.create(alice)
    await assert_undone(world, alice, code=None)
