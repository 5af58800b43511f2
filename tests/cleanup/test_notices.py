"""Who is told what, and that nobody is told twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from sandbox_core.cleanup import Notice, NoticeKind, Notices
from sandbox_core.cleanup.notices import STUCK_AFTER, leads_due
from sandbox_core.errors import CleanupFailed, DependencyUnavailable
from sandbox_core.models import Actor, GuildAccess

from .conftest import LEADS, START, Yard

HOUR, TEN = timedelta(hours=1), timedelta(minutes=10)


async def all_of(notices: Notices) -> list[Notice]:
    return [notice async for notice in notices.take()]


async def told(yard: Yard) -> list[tuple[str, str]]:
    return [(notice.kind.value, notice.sandbox.name) for notice in await all_of(yard.notices)]


@pytest.mark.parametrize(
    ("life", "age", "due"),
    [
        (timedelta(hours=24), timedelta(hours=22, minutes=59), []),
        (timedelta(hours=24), timedelta(hours=23), [HOUR]),
        (timedelta(hours=24), timedelta(hours=23, minutes=50), [TEN, HOUR]),
        (timedelta(hours=1), timedelta(minutes=1), []),
        (timedelta(minutes=30), timedelta(minutes=1), []),
        (timedelta(minutes=30), timedelta(minutes=20), [TEN]),
        (timedelta(minutes=10), timedelta(minutes=9), []),
    ],
)
def test_which_leads_are_due(life: timedelta, age: timedelta, due: list[timedelta]) -> None:
    assert leads_due(START + life, START, START + age, sorted(LEADS)) == due


async def test_the_owner_is_told_an_hour_and_ten_minutes_before(yard: Yard, alice: Actor) -> None:
    sandbox = await yard.sandbox(alice, "mine", ttl="24h")
    yard.clock.now = sandbox.expires_at - HOUR - timedelta(seconds=1)
    assert await told(yard) == []
    yard.clock.forward(seconds=1)
    (notice,) = await all_of(yard.notices)
    assert (notice.kind, notice.about) == (NoticeKind.EXPIRES, sandbox.expires_at)
    assert await told(yard) == []
    yard.clock.now = sandbox.expires_at - TEN
    assert await told(yard) == [("expires", "mine")]
    assert await told(yard) == []
    yard.clock.now = sandbox.expires_at
    assert await told(yard) == []
    await yard.cleanup.cleanup_expired()
    assert await told(yard) == [("gone", "mine")]
    assert await told(yard) == []


async def test_after_an_outage_only_the_nearest_is_told(yard: Yard, alice: Actor) -> None:
    sandbox = await yard.sandbox(alice, "mine", ttl="24h")
    yard.clock.now = sandbox.expires_at - timedelta(minutes=5)
    assert await told(yard) == [("expires", "mine")]
    assert await told(yard) == []


async def test_an_extension_is_told_about_anew(yard: Yard, alice: Actor) -> None:
    sandbox = await yard.sandbox(alice, "mine", ttl="24h")
    yard.clock.now = sandbox.expires_at - TEN
    assert await told(yard) == [("expires", "mine")]
    extended = (await yard.manager.extend(alice, "mine", "20m")).sandbox
    # Half an hour is left: who has just decided that need not hear it.
    yard.clock.forward(minutes=5)
    assert await told(yard) == []
    yard.clock.now = extended.expires_at - TEN
    assert await told(yard) == [("expires", "mine")]


async def test_of_several_processes_one_tells(yard: Yard, alice: Actor) -> None:
    for number in range(5):
        await yard.sandbox(alice, f"box-{number}", ttl="24h")
    yard.clock.forward(hours=23, minutes=30)
    several = [Notices(yard.pool, leads=LEADS, clock=yard.clock) for _ in range(3)]
    taken = await asyncio.gather(*(all_of(each) for each in several))
    assert sorted(notice.sandbox.name for part in taken for notice in part) == [
        f"box-{number}" for number in range(5)
    ]


async def test_what_was_extended_between_the_look_and_the_lock_is_not_told(yard: Yard, alice: Actor) -> None:
    sandbox = await yard.sandbox(alice, "mine", ttl="24h")
    yard.clock.now = sandbox.expires_at - TEN
    await yard.manager.extend(alice, "mine", "24h")
    assert not await yard.notices._claim_expiry(sandbox, [TEN], yard.clock.now)
    assert await told(yard) == []


async def test_who_stops_after_one_leaves_the_others_to_be_taken(yard: Yard, alice: Actor) -> None:
    root = Actor("200000000000000009", "Root", is_bot_owner=True)
    for name in ("first", "second"):
        await yard.sandbox(alice, name, ttl="24h")
    await yard.sandbox(alice, "destroyed", ttl="24h")
    yard.clock.forward(hours=23)
    await yard.manager.destroy(root, "destroyed")
    expected = [("expires", "first"), ("expires", "second"), ("gone", "destroyed")]
    for notice in expected:
        taken = await anext(aiter(yard.notices.take()))
        assert (taken.kind, taken.sandbox.name) == notice
    assert await told(yard) == []


async def test_what_ends_while_others_are_told_does_not_expire_soon(yard: Yard, alice: Actor) -> None:
    for name in ("first", "second"):
        await yard.sandbox(alice, name, ttl="24h")
    yard.clock.forward(hours=23, minutes=59)
    notices = yard.notices.take()
    assert (await anext(notices)).sandbox.name == "first"
    yard.clock.forward(minutes=1)
    assert [notice.sandbox.name async for notice in notices] == []


async def test_what_was_not_sent_is_handed_out_again(yard: Yard, alice: Actor) -> None:
    await yard.sandbox(alice, "mine", ttl="24h")
    yard.clock.forward(hours=23)
    (notice,) = await all_of(yard.notices)
    await yard.notices.give_back(notice)
    assert await all_of(yard.notices) == [notice]


async def test_whoever_destroys_their_own_needs_no_notice(
    yard: Yard, alice: Actor, guilds: list[GuildAccess]
) -> None:
    await yard.sandbox(alice, "mine")
    await yard.manager.destroy(alice, "mine")
    await yard.sandbox(alice, "from-the-shell")
    await yard.manager.destroy(replace(alice, via="cli:root"), "from-the-shell")
    assert await told(yard) == []
    root = Actor("200000000000000009", "Root", is_bot_owner=True)
    await yard.sandbox(alice, "taken-away")
    await yard.manager.destroy(root, "taken-away")
    assert await told(yard) == [("gone", "taken-away")]
    # Somebody else's shell, and an id that only ends like the owner's.
    await yard.sandbox(alice, "by-the-operator")
    await yard.manager.destroy(Actor("cli:root", is_bot_owner=True), "by-the-operator")
    await yard.sandbox(alice, "by-another")
    await yard.manager.destroy(Actor(f"1{alice.id}", is_bot_owner=True, via="cli:root"), "by-another")
    assert await told(yard) == [("gone", "by-the-operator"), ("gone", "by-another")]


async def test_a_failed_creation_and_old_news_are_told_to_nobody(yard: Yard, alice: Actor) -> None:
    yard.faults.at["create:Redis"] = DependencyUnavailable("Redis", "it can't be reached")
    with pytest.raises(DependencyUnavailable):
        await yard.manager.create(alice, name="failed")
    assert await told(yard) == []
    await yard.sandbox(alice, "old", ttl="1h")
    yard.clock.forward(hours=1)
    await yard.cleanup.cleanup_expired()
    yard.clock.forward(hours=2)
    assert await told(yard) == []


async def test_no_leads_mean_no_warnings(yard: Yard, alice: Actor) -> None:
    await yard.sandbox(alice, "mine", ttl="1h")
    yard.clock.forward(minutes=59)
    assert await all_of(Notices(yard.pool, leads=(), clock=yard.clock)) == []


async def test_a_removal_that_keeps_failing_reaches_the_bots_owner_once(yard: Yard, alice: Actor) -> None:
    sandbox = await yard.sandbox(alice, "stuck", ttl="1h")
    yard.clock.forward(hours=1)
    yard.redis_part.failing[sandbox.id] = DependencyUnavailable("Redis", "it can't be reached")
    for attempt in range(1, STUCK_AFTER + 4):
        with pytest.raises(CleanupFailed):
            await yard.cleanup.cleanup_sandbox(sandbox.id)
        notices = await all_of(yard.notices)
        assert len(notices) == (attempt == STUCK_AFTER), attempt
        for notice in notices:
            assert notice.kind is NoticeKind.STUCK
            assert notice.failure is not None
            assert (notice.failure.step, notice.failure.attempts) == ("Redis", STUCK_AFTER)
