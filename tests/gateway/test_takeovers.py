"""Shards that another process takes: who was cut off lets go, and an older lease counts for nothing."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

from sandbox_core.postgres.pool import Pool
from sandbox_core.sharding.lease_types import Leases

from .leasing import LASTING, lasting, let_lapse, turns

TAKE = "UPDATE gateway_shards SET holder = $1, lease_until = clock_timestamp() + interval '1 minute'"
"""Another process takes it, which the holder does not expect."""


async def test_a_process_cut_off_alone_loses_its_shards_and_lets_go_when_it_hears(pool: Pool) -> None:
    first, second = lasting(pool), lasting(pool)
    await turns([first, second], lambda: len(second.shards) == 2)
    first.link.cut = True
    await let_lapse(pool, first)
    second.ahead += LASTING
    async with asyncio.timeout(60):
        while second.shards != {0, 1, 2, 3}:
            await second.turn()
            await first.turn()
            await asyncio.sleep(0.01)
    assert len(first.shards) == 2, "for all it knows the database is away from everybody"
    first.link.cut = False
    await first.turn()
    assert first.shards == set()
    assert len(first.runs.dropped) == 2


async def epochs(pool: Pool) -> dict[int, int]:
    rows = await pool.fetch("SELECT shard_id, epoch FROM gateway_shards")
    return {row["shard_id"]: row["epoch"] for row in rows}


async def test_an_epoch_grows_with_each_change_of_holder_whoever_makes_it(pool: Pool) -> None:
    first, second = lasting(pool, recommended=1), lasting(pool, recommended=1)
    await first.turn()
    await first.turn()
    assert (await epochs(pool), first.keeper.epoch(0)) == ({0: 1}, 1)
    await first.keeper.leave()
    assert await epochs(pool) == {0: 1}
    await second.turn()
    assert (await epochs(pool), second.keeper.epoch(0), second.keeper.epoch(1)) == ({0: 2}, 2, 0)
    assert second.takeovers.said == [], "it was free"
    # As a version does that does not know of epochs.
    await pool.execute("UPDATE gateway_shards SET holder = $1, lease_until = now()", uuid4())
    assert await epochs(pool) == {0: 3}


async def test_a_process_cut_off_alone_stops_as_soon_as_it_is_told(pool: Pool) -> None:
    first, second = lasting(pool), lasting(pool)
    await turns([first, second], lambda: len(second.shards) == 2)
    lost = first.shards
    first.link.cut = True
    second.takeovers.listeners = [first.keeper, second.keeper]
    await let_lapse(pool, first)
    for process in (first, second):
        process.ahead += LASTING
    async with asyncio.timeout(60):
        while second.shards != {0, 1, 2, 3}:
            await second.turn()
            await first.turn()
            await asyncio.sleep(0.01)
    assert {shard for shard, _ in first.runs.lost} == lost
    assert (first.shards, set(first.runs.dropped)) == (set(), lost)
    assert second.runs.lost == []
    ((count, told, within), *_) = second.takeovers.said
    assert (count, told.keys()) == (4, lost)
    assert within > 0, "it waits for those who run them"
    # Whoever did not hear it is told again, and nobody waits for that.
    (shard_id, *_) = lost
    waiting = asyncio.create_task(first.keeper.may_connect(shard_id, closed_at_once=False))
    second.takeovers.said.clear()
    for _ in range(4):
        await second.turn()
        await first.turn()
    assert [within for _, _, within in second.takeovers.said] == [0.0] * 4
    assert (first.shards, waiting.done()) == (set(), False)
    first.link.cut = False
    await turns([first, second], lambda: len(first.shards) == 2)
    waiting.cancel()
    second.takeovers.said.clear()
    await second.turn()
    ((_, told, _),) = second.takeovers.said
    assert told.keys() == second.shards == lost, "it gave up the others, and tells of what it kept"


async def test_fixed_shards_that_were_taken_are_not_run_again_without_a_lease(pool: Pool) -> None:
    process = lasting(pool, shard_count=2)
    process.link.cut = True
    await process.turn()
    assert process.shards == {0, 1}
    assert await process.keeper.taken(3, {0: 7}) == ()
    assert process.shards == {0, 1}, "those are other shards"
    assert await process.keeper.taken(2, {0: 7, 5: 7}) == {0}
    assert [shard_id for shard_id, _ in process.runs.lost] == [0]
    assert await process.keeper.taken(2, {1: 7}) == {1}
    for _ in range(3):
        await process.turn()
    assert process.shards == set()
    process.link.cut = False
    await process.turn()
    assert process.shards == {0, 1}, "nobody has it, whatever was said"


async def test_who_has_a_later_lease_loses_nothing_to_an_older_takeover(pool: Pool) -> None:
    first, second = lasting(pool, recommended=1), lasting(pool, recommended=1)
    await first.turn()
    await first.keeper.leave()
    await second.turn()
    for epoch in (1, 2):
        assert not await second.keeper.taken(1, {0: epoch})
    await pool.execute(TAKE, uuid4())
    assert await second.keeper.taken(1, {0: 3}) == {0}
    await asyncio.sleep(0)
    assert second.shards == set()


async def test_a_takeover_counts_against_an_answer_that_is_older(pool: Pool) -> None:
    process, taker = lasting(pool, recommended=1), uuid4()
    await process.turn()
    through = process.link._through
    share = through().share

    async def answered_before(*arguments: int, **more: bool) -> Leases:
        leases = await share(*arguments, **more)
        await pool.execute(TAKE, taker)
        assert await process.keeper.taken(1, {0: 2}) == {0}
        return leases

    rows = through()
    rows.share = answered_before  # type: ignore[method-assign]
    await process.turn()
    assert process.shards == set()
    rows.share = share  # type: ignore[method-assign]
    await pool.execute("UPDATE gateway_shards SET holder = NULL, lease_until = NULL")
    await process.turn()
    assert process.shards == {0}


async def test_back_on_nats_and_without_postgresql_a_process_listens_before_it_sends(pool: Pool) -> None:
    process = lasting(pool, recommended=1)
    await process.turn()
    trust = process.runs.trust

    def may_send() -> bool:
        return time.monotonic() + process.ahead < trust.until

    process.link.cut = True
    process.ahead = 2 * LASTING
    await process.turn()
    assert may_send(), "PostgreSQL may be away from everybody"
    process.keeper.nats_is_back()
    assert not may_send(), "a takeover may have been told while it could not hear"
    await process.turn()
    assert not may_send()
    # By then who took its shard has said so again.
    process.ahead += 2.6
    await process.turn()
    assert may_send()
    # With PostgreSQL it is known with the next turn, which comes at once.
    process.link.cut = False
    process.keeper.nats_is_back()
    assert not may_send()
    await process.turn()
    assert may_send()
