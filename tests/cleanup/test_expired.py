from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from sandbox_core.error_text import explain
from sandbox_core.errors import (
    CleanupFailed,
    DependencyUnavailable,
    SandboxNotFound,
    StillWritten,
    TransitionNotAllowed,
)
from sandbox_core.manager.failures import pause_after
from sandbox_core.models import Actor, AuditEvent, GuildAccess, Sandbox, SandboxStatus
from sandbox_core.postgres import cleanup as rows
from sandbox_core.postgres import connected, sandboxes, transaction
from sandbox_core.subjects import redis_prefix

from .conftest import GUILDS, Yard

AWAY = DependencyUnavailable("Redis", "it can't be reached")


async def test_what_has_expired_goes_and_the_rest_stays(
    yard: Yard, alice: Actor, guilds: list[GuildAccess]
) -> None:
    over = await yard.sandbox(alice, "over", ttl="1h", guilds=guilds[:2])
    stays = await yard.sandbox(alice, "stays", ttl="2h", guilds=guilds[2:3])
    yard.clock.now = over.expires_at - timedelta(microseconds=1)
    assert (await yard.cleanup.cleanup_expired()).destroyed == ()

    yard.clock.now = over.expires_at
    report = await yard.cleanup.cleanup_expired()

    assert [each.id for each in report.destroyed] == [over.id]
    assert (report.failed, report.left_to_others, report.result) == ((), 0, "ok")
    assert await yard.left_of(over) == []
    assert await yard.left_of(stays) == ["schema", "keys", "events", "mappings"]
    assert [yard.routes.current[guild_id] for guild_id in GUILDS[:2]] == [None, None]
    assert yard.counted.passes == [("ok", 1)]
    assert (await yard.row(stays)).status is SandboxStatus.RUNNING
    story = [(entry.event_type, entry.actor) for entry in await yard.audit(over)][-5:]
    assert story == [
        (AuditEvent.STATUS_CHANGED, "cleanup"),
        (AuditEvent.GUILD_UNREGISTERED, "cleanup"),
        (AuditEvent.GUILD_UNREGISTERED, "cleanup"),
        (AuditEvent.DESTROYING, "cleanup"),
        (AuditEvent.DESTROYED, "cleanup"),
    ]
    *_, expired, _, _, destroying, destroyed = await yard.audit(over)
    assert (expired.details["from"], expired.details["to"]) == ("running", "expired")
    assert (destroying.details["from"], destroying.details["reason"]) == ("expired", "expired")
    assert set(destroyed.details["steps"]) == {"routes", "NATS", "Redis", "PostgreSQL"}
    assert destroyed.details["failed_attempts"] == 0


async def test_nothing_due_is_no_pass(yard: Yard) -> None:
    report = await yard.cleanup.cleanup_expired()
    assert (report.destroyed, report.result, yard.counted.passes) == ((), "ok", [])
    assert await yard.cleanup.next_due() is None


async def test_the_next_moment_is_the_earliest_expiry_or_retry(yard: Yard, alice: Actor) -> None:
    first = await yard.sandbox(alice, "first", ttl="1h")
    second = await yard.sandbox(alice, "second", ttl="2h")
    assert await yard.cleanup.next_due() == first.expires_at
    yard.redis_part.failing[first.id] = AWAY
    yard.clock.now = first.expires_at
    (failure,) = (await yard.cleanup.cleanup_expired()).failed
    assert await yard.cleanup.next_due() == failure.next_attempt_at < second.expires_at


@pytest.mark.parametrize("status", [SandboxStatus.PENDING, SandboxStatus.CREATING])
async def test_an_abandoned_creation_goes_but_a_young_one_is_left_alone(
    yard: Yard, alice: Actor, status: SandboxStatus
) -> None:
    sandbox = await yard.sandbox(alice, "half-made")
    async with transaction(yard.pool) as connection:
        await connection.execute(
            "UPDATE sandboxes SET status = $2::text::sandbox_status WHERE id = $1", sandbox.id, status.value
        )
    yard.clock.forward(minutes=1, seconds=59)
    assert (await yard.cleanup.cleanup_expired()).destroyed == ()
    yard.clock.forward(seconds=1)
    assert [each.id for each in (await yard.cleanup.cleanup_expired()).destroyed] == [sandbox.id]
    assert await yard.left_of(sandbox) == []
    assert (await yard.audit(sandbox))[-2].details["reason"] == "creation abandoned"


async def test_one_failure_stops_nobody_else_and_backs_off(yard: Yard, alice: Actor) -> None:
    bad = await yard.sandbox(alice, "bad", ttl="1h")
    good = [await yard.sandbox(alice, f"good-{number}", ttl="1h") for number in range(5)]
    yard.redis_part.failing[bad.id] = AWAY
    yard.clock.forward(hours=1)

    report = await yard.cleanup.cleanup_expired()

    assert {each.id for each in report.destroyed} == {each.id for each in good}
    (failure,) = report.failed
    assert (failure.step, failure.attempts) == ("Redis", 1)
    assert failure.reason == "Redis is unavailable (it can't be reached)."
    assert failure.next_attempt_at == yard.clock.now + pause_after(1)
    assert yard.counted.passes == [("partial", 5)]
    assert yard.counted.errors == ["SANDBOX_012"]
    # The store that failed keeps nobody from the others.
    assert await yard.left_of(bad) == ["keys", "bookkeeping"]
    assert (await yard.row(bad)).status is SandboxStatus.DESTROYING
    (kept,) = await yard.cleanup.failures()
    assert (kept.sandbox.id, kept.step, kept.reason) == (bad.id, "Redis", failure.reason)

    drops = len(yard.redis_part.dropped)
    assert (await yard.cleanup.cleanup_expired()).failed == ()
    assert len(yard.redis_part.dropped) == drops
    for attempt in range(2, 12):
        yard.clock.now = failure.next_attempt_at
        (failure,) = (await yard.cleanup.cleanup_expired()).failed
        assert failure.attempts == attempt
        assert failure.next_attempt_at == yard.clock.now + pause_after(attempt)
    assert pause_after(11) == pause_after(1000) == timedelta(minutes=10)
    failures_told = [entry for entry in await yard.audit(bad) if "failed_step" in entry.details]
    assert len(failures_told) == 1

    yard.redis_part.failing.clear()
    yard.clock.now = failure.next_attempt_at
    assert [each.id for each in (await yard.cleanup.cleanup_expired()).destroyed] == [bad.id]
    assert await yard.left_of(bad) == []
    assert (await yard.audit(bad))[-1].details["failed_attempts"] == 11
    assert await yard.cleanup.failures() == []


async def test_a_worker_that_keeps_writing_is_named_and_its_sandbox_goes_once_it_stops(
    yard: Yard, alice: Actor
) -> None:
    sandbox = await yard.sandbox(alice, "busy", ttl="1h")
    key = redis_prefix(sandbox.id)
    stop, number = False, 0

    async def worker() -> None:
        nonlocal number
        while not stop:
            number += 1
            await yard.redis.mset({f"{key}{number}-{part}": "x" for part in range(20)})

    writing = asyncio.create_task(worker())
    try:
        yard.clock.forward(hours=1)
        async with asyncio.timeout(60):
            (failure,) = (await yard.cleanup.cleanup_expired()).failed
            with pytest.raises(CleanupFailed) as told:
                await yard.manager.destroy(alice, "busy")
    finally:
        stop = True
        await writing
    reason = "Something still writes the sandbox's keys in Redis."
    assert (failure.step, failure.reason) == ("Redis", reason)
    assert explain(told.value).sentence == f"Destroying `busy` stopped at “Redis”: {reason}"
    assert isinstance(told.value.__cause__, StillWritten)

    yard.clock.forward(minutes=10)
    assert [each.id for each in (await yard.cleanup.cleanup_expired()).destroyed] == [sandbox.id]
    assert await yard.left_of(sandbox) == []
    # What a worker writes after that is nobody's, and goes with the next periodic pass.
    await yard.redis.set(key + "late", "x")
    _, orphans = await yard.cleanup.run()
    assert [(each.store, each.id) for each in orphans.removed] == [("Redis", str(sandbox.id))]
    assert await yard.left_of(sandbox) == []


async def test_a_slow_removal_delays_nobody(
    yard: Yard, alice: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes due while another's keys are still being removed does not wait for them."""
    monkeypatch.setattr("sandbox_core.cleanup.passes.LOOK_AGAIN", 0.01)
    slow = await yard.sandbox(alice, "slow", ttl="1h")
    later = [await yard.sandbox(alice, f"later-{number}", ttl="2h") for number in range(6)]
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        reached.set()
        await go_on.wait()

    yard.faults.at["destroy:NATS"] = hang
    yard.clock.forward(hours=1)
    turn = asyncio.create_task(yard.cleanup.cleanup_expired())
    await reached.wait()
    yard.redis_part.failing[later[0].id] = AWAY
    yard.clock.forward(hours=1)
    await _until_destroyed(yard, later[1:])
    # One that failed meanwhile gets its next attempt too.
    async with asyncio.timeout(60), connected(yard.pool) as connection:
        while not await rows.attempts(connection, later[0].id):
            await asyncio.sleep(0.01)
    yard.redis_part.failing.clear()
    yard.clock.forward(seconds=5)
    await _until_destroyed(yard, later)
    assert not turn.done()
    assert (await yard.row(slow)).status is SandboxStatus.DESTROYING

    go_on.set()
    report = await turn
    assert {each.id for each in report.destroyed} == {each.id for each in (slow, *later)}
    assert (report.failed, yard.counted.passes) == ((), [("ok", 7)])
    assert await yard.left_of(slow) == []


async def _until_destroyed(yard: Yard, those: list[Sandbox]) -> None:
    async with asyncio.timeout(60):
        while {(await yard.row(each)).status for each in those} != {SandboxStatus.DESTROYED}:
            await asyncio.sleep(0.01)


async def test_a_pass_that_is_cancelled_ends_its_removals(yard: Yard, alice: Actor) -> None:
    sandbox = await yard.sandbox(alice, "mine", ttl="1h")
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    yard.faults.at["destroy:NATS"] = hang
    yard.clock.forward(hours=1)
    turn = asyncio.create_task(yard.cleanup.cleanup_expired())
    await reached.wait()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("cleanup-")]
    # Nothing of it holds the sandbox any more.
    assert [each.id for each in (await yard.cleanup.cleanup_expired()).destroyed] == [sandbox.id]
    assert await yard.left_of(sandbox) == []


async def test_a_fault_nobody_foresaw_is_a_failure_of_its_sandbox_alone(yard: Yard, alice: Actor) -> None:
    sandbox = await yard.sandbox(alice, "odd", ttl="1h")
    other = await yard.sandbox(alice, "other", ttl="1h")
    yard.clock.forward(hours=1)
    yard.faults.at["destroy:expired"] = ZeroDivisionError("a password could be here")
    report = await yard.cleanup.cleanup_expired()
    (failure,) = report.failed
    assert failure.reason == "ZeroDivisionError"
    assert {failure.sandbox.id, *(each.id for each in report.destroyed)} == {sandbox.id, other.id}
    assert yard.counted.errors == ["INTERNAL"]
    yard.clock.now = failure.next_attempt_at
    assert len((await yard.cleanup.cleanup_expired()).destroyed) == 1


async def test_an_extension_at_the_last_moment_wins(yard: Yard, alice: Actor) -> None:
    sandbox = await yard.sandbox(alice, "mine", ttl="1h")
    stale = await yard.row(sandbox)
    await yard.manager.extend(alice, "mine", "1h")
    yard.clock.now = sandbox.expires_at
    # As if the pass had listed it before the extension.
    assert await yard.cleanup._clean(stale, Actor("cleanup")) is None
    assert (await yard.row(sandbox)).status is SandboxStatus.RUNNING
    assert await yard.left_of(sandbox) == ["schema", "keys", "events"]


async def test_guilds_of_a_half_done_removal_are_told_where_they_go_now(
    yard: Yard, alice: Actor, guilds: list[GuildAccess]
) -> None:
    """The process died after it ended the mappings and before it told the routes."""
    sandbox = await yard.sandbox(alice, "dies", ttl="1h", guilds=guilds[:2])
    yard.clock.forward(hours=1)
    yard.faults.at["destroy:expired"] = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await yard.cleanup.cleanup_expired()
    assert (await yard.row(sandbox)).status is SandboxStatus.EXPIRED
    heir = await yard.sandbox(alice, "heir", guilds=guilds[1:2])
    yard.routes.current.clear()

    assert [each.id for each in (await yard.cleanup.cleanup_expired()).destroyed] == [sandbox.id]

    assert yard.routes.current[GUILDS[0]] is None
    route = yard.routes.current[GUILDS[1]]
    assert route is not None
    assert route.sandbox_id == str(heir.id)


async def test_one_sandbox_on_request(yard: Yard, alice: Actor) -> None:
    sandbox = await yard.sandbox(alice, "mine", ttl="1h")
    with pytest.raises(TransitionNotAllowed):
        await yard.cleanup.cleanup_sandbox(sandbox.id)
    with pytest.raises(SandboxNotFound):
        await yard.cleanup.cleanup_sandbox(uuid4())
    yard.clock.forward(hours=1)
    yard.redis_part.failing[sandbox.id] = AWAY
    for _ in range(2):
        # A pause after a failure is for automatic work only.
        with pytest.raises(CleanupFailed) as failed:
            await yard.cleanup.cleanup_sandbox(sandbox.id)
        assert failed.value.step == "Redis"
    yard.redis_part.failing.clear()
    done = await yard.cleanup.cleanup_sandbox(sandbox.id)
    assert done is not None
    assert done.status is SandboxStatus.DESTROYED
    assert await yard.cleanup.cleanup_sandbox(sandbox.id) == done
    assert await yard.left_of(sandbox) == []


async def test_redis_keys_alone(yard: Yard, alice: Actor) -> None:
    sandbox = await yard.sandbox(alice, "mine")
    neighbour = await yard.sandbox(alice, "neighbour")
    await yard.redis.mset({f"sandbox:{sandbox.id}:{number}": "x" for number in range(1500)})
    assert await yard.cleanup.cleanup_redis_keys(sandbox.id) == 1501
    assert await yard.cleanup.cleanup_redis_keys(sandbox.id) == 0
    assert await yard.left_of(neighbour) == ["schema", "keys", "events"]


async def test_activity_moves_forward_only_and_in_one_statement(yard: Yard, alice: Actor) -> None:
    one, two = [await yard.sandbox(alice, name) for name in ("one", "two")]
    later = yard.clock.now + timedelta(minutes=5)
    await yard.cleanup.record_activity({one.id: later, two.id: yard.clock.now, uuid4(): later})
    await yard.cleanup.record_activity({one.id: later - timedelta(minutes=1)})
    await yard.cleanup.record_activity({})
    assert (await yard.row(one)).last_activity_at == later
    assert (await yard.row(two)).last_activity_at == yard.clock.now


async def test_the_population(yard: Yard, alice: Actor) -> None:
    await yard.sandbox(alice, "one")
    await yard.sandbox(alice, "two")
    await yard.manager.destroy(alice, "two")
    await yard.cleanup.refresh_gauges()
    assert yard.counted.by_owner == {alice.id: 1}


async def test_two_at_once_do_each_sandbox_once(yard: Yard, alice: Actor) -> None:
    made = [await yard.sandbox(alice, f"box-{number}", ttl="1h") for number in range(12)]
    yard.clock.forward(hours=1)
    cleaners = [yard.another_cleanup() for _ in range(3)]
    reports = await asyncio.gather(*(cleaner.cleanup_expired() for cleaner in cleaners))
    destroyed = [each.id for report in reports for each in report.destroyed]
    assert sorted(destroyed) == sorted(each.id for each in made)
    for part in yard.parts:
        assert sorted(part.dropped) == sorted(each.id for each in made)
    for each in made:
        events = [entry.event_type for entry in await yard.audit(each)]
        assert events.count(AuditEvent.DESTROYED) == events.count(AuditEvent.DESTROYING) == 1


async def test_a_claim_is_left_alone_while_it_is_held_and_taken_over_when_its_session_ends(
    yard: Yard, alice: Actor
) -> None:
    sandbox = await yard.sandbox(alice, "mine", ttl="1h")
    yard.clock.forward(hours=1)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        reached.set()
        await go_on.wait()

    yard.faults.at["destroy:NATS"] = hang
    slow = asyncio.create_task(yard.another_cleanup().cleanup_expired())
    await reached.wait()
    assert (await yard.cleanup.cleanup_expired()).left_to_others == 1
    assert await yard.cleanup.cleanup_sandbox(sandbox.id) is None
    async with connected(yard.pool) as connection:
        # As the server does when the process of that session has died.
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks"
            " WHERE locktype = 'advisory' AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    report = await yard.cleanup.cleanup_expired()
    assert [each.id for each in report.destroyed] == [sandbox.id]
    go_on.set()
    # The first one finds it finished, which is as good.
    assert (await slow).failed == ()
    assert await yard.left_of(sandbox) == []
    events = [entry.event_type for entry in await yard.audit(sandbox)]
    assert events.count(AuditEvent.DESTROYED) == 1


async def test_a_destruction_on_request_keeps_cleanup_away(yard: Yard, alice: Actor) -> None:
    sandbox = await yard.sandbox(alice, "mine")
    seen: list[int] = []

    async def look() -> None:
        seen.append((await yard.cleanup.cleanup_expired()).left_to_others)

    yard.faults.at["destroy:Redis"] = look
    await yard.manager.destroy(alice, "mine")
    assert seen == [1]
    assert await yard.left_of(sandbox) == []


async def test_an_expired_row_is_finished(yard: Yard, alice: Actor) -> None:
    sandbox = await yard.sandbox(alice, "mine", ttl="1h")
    yard.clock.forward(hours=1)
    async with transaction(yard.pool) as connection:
        await sandboxes.set_status(
            connection, sandbox.id, SandboxStatus.RUNNING, SandboxStatus.EXPIRED, at=yard.clock.now
        )
    assert len((await yard.cleanup.cleanup_expired()).destroyed) == 1
    assert await yard.left_of(sandbox) == []
