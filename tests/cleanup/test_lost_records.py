"""The record of a notice is committed, and PostgreSQL's answer is lost: the notice is sent, and once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from sandbox_core.cleanup import Notices
from sandbox_core.errors import CleanupFailed, DependencyUnavailable, OutcomeUnknown
from sandbox_core.models import Actor
from sandbox_core.postgres import Pool
from sandbox_core.sharding import publishers
from sandbox_core.sharding.publishers import Holder, Kind, StandsBy
from sandbox_core.sharding.registered import PublisherNotices, Registered
from tests.core.manager.lost_commits import LostCommits, losing_commits

from .conftest import LEADS, Yard
from .test_notices import TEN, all_of, told


@pytest.fixture
async def cut(database_url: str) -> AsyncIterator[tuple[LostCommits, Pool]]:
    """The way to PostgreSQL, and the pool of a process that goes it."""
    async with losing_commits(database_url) as made:
        yield made


async def due(yard: Yard, alice: Actor, kind: str) -> None:
    """One notice of this kind is due."""
    sandbox = await yard.sandbox(alice, "mine", ttl="24h")
    if kind == "expires":
        yard.clock.now = sandbox.expires_at - TEN
        return
    yard.clock.now = sandbox.expires_at
    if kind == "stuck":
        yard.redis_part.failing[sandbox.id] = DependencyUnavailable("Redis", "it can't be reached")
        for _ in range(3):
            with pytest.raises(CleanupFailed):
                await yard.cleanup.cleanup_sandbox(sandbox.id)
    else:
        await yard.cleanup.cleanup_expired()


@pytest.mark.parametrize("kind", ["expires", "gone", "stuck"])
async def test_a_record_that_was_committed(
    yard: Yard, alice: Actor, cut: tuple[LostCommits, Pool], kind: str
) -> None:
    await due(yard, alice, kind)
    way, pool = cut
    notices = Notices(pool, leads=LEADS, clock=yard.clock)
    way.lose()
    with pytest.raises(OutcomeUnknown):
        await all_of(notices)
    assert way.lost == 1
    assert await told(yard) == [], "another process leaves it to who recorded it"
    yard.clock.forward(seconds=5)
    assert [notice.kind.value for notice in await all_of(notices)] == [kind]
    yard.clock.forward(seconds=5)
    assert await all_of(notices) == []


async def test_a_record_that_was_not(yard: Yard, alice: Actor, cut: tuple[LostCommits, Pool]) -> None:
    await due(yard, alice, "expires")
    way, pool = cut
    notices = Notices(pool, leads=LEADS, clock=yard.clock)
    way.lose()
    with pytest.raises(OutcomeUnknown):
        await all_of(notices)
    # As if it had been rolled back, and another process had been sooner.
    await pool.execute("DELETE FROM sandbox_notices")
    yard.clock.forward(seconds=5)
    assert await told(yard) == [("expires", "mine")]
    yard.clock.forward(seconds=5)
    assert await all_of(notices) == []


async def test_of_two_publishers(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = yard.pool
    notices, other = PublisherNotices(pool, after=0), PublisherNotices(pool, after=0)
    two = StandsBy(1, uuid4(), Kind.PLUGIN, "b:2", 1, 60.0, uuid4(), Holder(Kind.STANDALONE, "a:1", 1, 0))

    async def found(*_: object) -> Registered:
        return Registered((), (two,))

    monkeypatch.setattr("sandbox_core.sharding.registered.registered", found)
    claim = publishers.claim_notice

    async def claimed_and_lost(*arguments: object) -> bool:
        await claim(*arguments)  # type: ignore[arg-type]
        raise DependencyUnavailable("PostgreSQL", "the connection was lost")

    with monkeypatch.context() as lost:
        lost.setattr(publishers, "claim_notice", claimed_and_lost)
        with pytest.raises(DependencyUnavailable):
            await notices.take(1)
    assert await other.take(1) == []
    assert len(await notices.take(1)) == 1
    assert await notices.take(1) == []
