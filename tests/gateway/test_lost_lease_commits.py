"""PostgreSQL commits a takeover, and its answer is lost: what follows a takeover follows all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sandbox_core.errors import OutcomeUnknown
from sandbox_core.postgres.pool import Pool
from sandbox_core.sharding.lease_types import FoundShard, Predecessor
from sandbox_core.sharding.publishers import Kind
from sandbox_core.sharding.taken import Taken, Unconfirmed
from tests.core.manager.lost_commits import LostCommits, losing_commits
from tests.publishers.test_rows import One

from .leasing import LEASE, Process, lapsed


@pytest.fixture
async def cut(database_url: str) -> AsyncIterator[tuple[LostCommits, Pool]]:
    """The way to PostgreSQL, and the pool of a process that goes it."""
    async with losing_commits(database_url) as made:
        yield made


@pytest.mark.parametrize("hangs", [False, True], ids=["connection lost", "no answer"])
async def test_the_predecessor_is_told_and_gone_on_from(
    pool: Pool, cut: tuple[LostCommits, Pool], hangs: bool
) -> None:
    way, cut_pool = cut
    first, second = Process(pool), Process(cut_pool)
    await first.turn()
    # It alone is cut off from PostgreSQL, and does not know that its leases lapse.
    first.link.cut = True
    second.takeovers.listeners = [first.keeper]
    await second.turn()
    await lapsed(pool)
    second.ahead += LEASE
    way.hang() if hangs else way.lose()
    await second.turn()
    assert way.lost == 1
    way.mend()
    assert second.shards == set(), "it does not know"
    assert await pool.fetchval("SELECT array_agg(DISTINCT holder) FROM gateway_shards") == [second.id]
    await second.turn()
    assert second.shards == {0, 1, 2, 3}
    ((count, told, within), *_) = second.takeovers.said
    assert (count, told) == (4, dict.fromkeys(range(4), 2))
    assert within > 0, "it waits for those who run them"
    assert set(first.runs.dropped) == {0, 1, 2, 3}
    assert all(second.runs.before[shard_id] is not None for shard_id in range(4)), "somebody had them"
    # As after every takeover, it is told at each turn and waited for once.
    await second.turn()
    assert [within for _, _, within in second.takeovers.said[1:]] == [0.0]


async def test_a_takeover_that_was_not_committed_is_none(pool: Pool, cut: tuple[LostCommits, Pool]) -> None:
    way, cut_pool = cut
    first, second = Process(pool, lease=60.0), Process(cut_pool, lease=60.0)
    await first.turn()
    way.lose()
    await second.turn()
    for _ in range(2):
        await second.turn()
    assert (second.shards, second.takeovers.said) == (set(), [])
    assert first.shards == {0, 1, 2, 3}


async def rows_lapsed(pool: Pool) -> None:
    await pool.execute(
        "UPDATE gateway_shards SET lease_until = clock_timestamp() - interval '1 second'"
        " WHERE holder IS NOT NULL"
    )


async def test_what_was_settled_is_told_with_its_age(pool: Pool, cut: tuple[LostCommits, Pool]) -> None:
    way, cut_pool = cut
    before, after = One(pool, Kind.STANDALONE, 2), One(cut_pool, Kind.STANDALONE, 2)
    before.settled = {0: 2.0, 1: 3.0}
    await before.turn()
    await before.turn()
    await rows_lapsed(pool)
    await after.turn(may_take_lapsed=False)
    way.lose()
    with pytest.raises(OutcomeUnknown):
        await after.turn()
    await asyncio.sleep(0.3)
    leases = await after.turn()
    assert leases.mine == {0: 2, 1: 2}
    assert all(leases.of(shard_id).is_taken_over for shard_id in (0, 1))
    for shard_id, settled in before.settled.items():
        predecessor = leases.of(shard_id).after
        assert predecessor is not None
        ago = predecessor.settled_ago
        assert ago is not None
        assert settled + 0.3 <= ago < 30
    again = await after.turn()
    told = [(shard.is_taken_over, shard.after) for shard in again.shards.values()]
    assert set(told) == {(False, None)}, "that is said once"


async def test_another_number_of_shards_is_ended(pool: Pool, cut: tuple[LostCommits, Pool]) -> None:
    way, cut_pool = cut
    before, after = One(pool, Kind.STANDALONE, 1), One(cut_pool, Kind.STANDALONE, 2)
    await before.turn()
    await after.turn(may_take_lapsed=False)
    await rows_lapsed(pool)
    way.lose()
    with pytest.raises(OutcomeUnknown):
        await after.turn()
    leases = await after.turn()
    assert set(leases.mine) == {0, 1}
    assert leases.superseded == {1: {0: 2}}


def test_what_may_still_be_committed_is_remembered() -> None:
    """A server that hangs commits when it goes on, also after the turn that follows."""
    now = 100.0
    unconfirmed = Unconfirmed(lambda: now)
    taken = Taken(
        {0: FoundShard(7, is_taken_over=True, after=Predecessor(5.0)), 1: FoundShard(4)}, {2: {1: 3}}
    )
    unconfirmed.commits(unconfirmed.turn_begins(), taken)
    now = 101.0
    asked_at = unconfirmed.turn_begins()
    assert unconfirmed.kept({}, asked_at) == Taken()
    unconfirmed.confirmed()
    now = 103.0
    asked_at = unconfirmed.turn_begins()
    kept = unconfirmed.kept({0: FoundShard(7), 1: FoundShard(5)}, asked_at)
    assert kept == Taken({0: FoundShard(7, is_taken_over=True, after=Predecessor(8.0))}, {2: {1: 3}})
    unconfirmed.confirmed()
    unconfirmed.turn_begins()
    assert unconfirmed.kept({0: FoundShard(7)}, 104.0) == Taken()
    # What was confirmed itself is no news.
    unconfirmed.commits(unconfirmed.turn_begins(), taken)
    unconfirmed.confirmed()
    assert unconfirmed.kept({0: FoundShard(7)}, 104.0) == Taken()
    # One that was rolled back is not taken for the next, which gets the same epoch.
    unconfirmed.commits(unconfirmed.turn_begins(), taken)
    unconfirmed.turn_begins()
    unconfirmed.confirmed()
    unconfirmed.commits(unconfirmed.turn_begins(), Taken({0: FoundShard(7)}))
    unconfirmed.confirmed()
    assert unconfirmed.kept({0: FoundShard(7)}, 104.0) == Taken()
    # Nothing is remembered for ever.
    unconfirmed.commits(unconfirmed.turn_begins(), taken)
    now = 200.0
    unconfirmed.turn_begins()
    unconfirmed.confirmed()
    assert unconfirmed.kept({0: FoundShard(7)}, now) == Taken()
