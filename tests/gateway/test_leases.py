"""Leases on the real database: who gets which shard, when, and what happens while it is away."""

from __future__ import annotations

import asyncio
import math
import time

import pytest
from pydantic import SecretStr

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.postgres.pool import Pool
from sandbox_core.sharding.lease_rows import ShardRows
from sandbox_core.sharding.peers import ShardHolders

from .leasing import APPLICATION, LASTING, LEASE, Process, lapsed, lasting, let_lapse, turns


async def test_the_first_process_takes_all_and_gives_up_what_others_should_have(pool: Pool) -> None:
    first, second, third = lasting(pool), lasting(pool), lasting(pool)
    await first.turn()
    assert first.shards == {0, 1, 2, 3}
    await turns([first, second], lambda: len(second.shards) == 2)
    assert len(first.shards) == 2
    await turns([first, second, third], lambda: len(third.shards) == 1)
    assert [len(p.shards) for p in (first, second, third)] == [2, 1, 1], "the first has been here longest"
    assert first.runs.dropped == second.runs.dropped == []


async def test_one_shard_more_than_processes_stays_where_it_is(pool: Pool) -> None:
    first, second = lasting(pool, recommended=1), lasting(pool, recommended=1)
    await first.turn()
    for _ in range(3):
        await second.turn()
        await first.turn()
    assert (first.shards, second.shards) == ({0}, set())
    assert second.keeper.standing_by
    assert not first.keeper.standing_by


async def test_shards_are_given_up_one_at_a_time(pool: Pool) -> None:
    first, second = lasting(pool), lasting(pool)
    await first.turn()
    await second.turn()
    first.runs.may_hand_over.clear()
    for _ in range(3):
        await first.turn()
        await second.turn()
    assert (first.shards, second.shards) == ({0, 1, 2, 3}, set())
    first.runs.may_hand_over.set()
    await turns([first, second], lambda: len(second.shards) == 2)


async def test_a_process_that_leaves_frees_its_shards_at_once(pool: Pool) -> None:
    first, second = lasting(pool), lasting(pool)
    await first.turn()
    await second.turn()
    first.keeper.stop_taking()
    first.runs.shards.clear()
    await first.turn()
    assert first.shards == set(), "it only renews"
    await first.keeper.leave()
    await second.turn()
    assert second.shards == {0, 1, 2, 3}


async def test_a_dead_process_s_shards_are_taken_when_its_leases_have_lapsed(pool: Pool) -> None:
    first, second = Process(pool), Process(pool)
    await first.turn()
    last_renewal = time.monotonic()
    await turns([second], lambda: second.shards == {0, 1, 2, 3})
    assert time.monotonic() - last_renewal >= LEASE


async def test_who_has_only_just_reached_the_database_takes_nothing_that_lapsed(pool: Pool) -> None:
    first, second = lasting(pool, recommended=1), lasting(pool, recommended=1)
    await first.turn()
    await let_lapse(pool, first)
    await second.turn()
    assert second.shards == set(), "the database may have been away from everybody"
    await first.turn()
    assert first.shards == {0}, "the holder renews what nobody took"
    second.ahead += LASTING
    await second.turn()
    assert second.shards == set()


async def test_the_number_of_shards_is_one_for_all_and_changes_when_nobody_runs_any(pool: Pool) -> None:
    processes = [lasting(pool, recommended=number) for number in (2, 3, 4)]
    await asyncio.gather(*(process.turn() for process in processes))
    counts = {count for process in processes for count in process.runs.shards.values()}
    assert len(counts) == 1
    for process in processes:
        await process.keeper.leave()
    later = lasting(pool, recommended=5)
    await later.turn()
    assert later.runs.shards == dict.fromkeys(range(5), 5)


async def test_fixed_shards_are_run_by_one_process_and_by_no_other(pool: Pool) -> None:
    even = lasting(pool, shard_count=4, shard_ids=[0, 2])
    odd = lasting(pool, shard_count=4, shard_ids=[1, 3])
    successor = lasting(pool, shard_count=4, shard_ids=[0, 2])
    for process in (even, odd, successor):
        await process.turn()
    assert (even.shards, odd.shards, successor.shards) == ({0, 2}, {1, 3}, set())
    await even.keeper.leave()
    await successor.turn()
    assert successor.shards == {0, 2}


async def test_fixed_shards_run_without_the_database_and_are_leased_when_it_is_back(pool: Pool) -> None:
    earlier = lasting(pool, shard_count=2)
    await earlier.turn()
    process = lasting(pool, shard_count=2)
    process.link.cut = True
    await process.turn()
    assert process.shards == {0, 1}
    await let_lapse(pool, earlier)
    process.link.cut = False
    await process.turn()
    assert process.shards == {0, 1}
    holders = await pool.fetch("SELECT DISTINCT holder FROM gateway_shards")
    assert [row["holder"] for row in holders] == [process.id]


@pytest.mark.parametrize("others_hold", [True, False])
async def test_a_start_without_the_database_asks_the_others(pool: Pool, others_hold: bool) -> None:
    process = lasting(pool, recommended=2)
    process.link.cut = True
    process.others_hold = others_hold
    for _ in range(5):
        await process.turn()
    assert process.shards == (set() if others_hold else {0, 1})
    assert bool(process.keeper.trouble) == others_hold
    process.link.cut = False
    await process.turn()
    assert process.shards == {0, 1}
    assert process.keeper.trouble == ""
    assert process.runs.dropped == []


async def test_shards_run_unleased_are_dropped_when_others_agreed_on_another_number(pool: Pool) -> None:
    process, other = lasting(pool, recommended=2), lasting(pool, recommended=3)
    process.link.cut = True
    for _ in range(5):
        await process.turn()
    await other.turn()
    process.link.cut = False
    await turns([process, other], lambda: len(process.shards) == 1 and not process.keeper.trouble)
    assert sorted(process.runs.dropped) == [0, 1]
    assert {*process.runs.shards.values(), *other.runs.shards.values()} == {3}


async def test_a_vouched_shard_connects_at_once_and_one_closed_again_and_again_waits(pool: Pool) -> None:
    process = lasting(pool, recommended=1)
    running = asyncio.create_task(process.keeper.run())
    try:
        async with asyncio.timeout(60):
            while not process.shards:
                await asyncio.sleep(0.01)
            for _ in range(5):
                await process.keeper.may_connect(0, closed_at_once=True)
            process.link.cut = True
            process.ahead += LASTING
            for closed_at_once in (True, True, False, True, True):
                await process.keeper.may_connect(0, closed_at_once=closed_at_once)
            third = asyncio.create_task(process.keeper.may_connect(0, closed_at_once=True))
            for _ in range(3):
                await process.keeper._next_turn()
            assert not third.done(), "somebody else seems to have its session"
            process.link.cut = False
            await third
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_is_lost_is_told_before_the_leases_count_again(pool: Pool) -> None:
    frozen, other = Process(pool, recommended=1), Process(pool, recommended=1)
    # What follows from an answer counts from before it was asked for, however long that took.
    asked_at = time.monotonic()
    await frozen.turn()
    before = frozen.runs.trust.until
    assert asked_at < before < time.monotonic() + LEASE
    await turns([other], lambda: other.shards == {0})
    asked_at = time.monotonic()
    assert asked_at >= before
    await frozen.turn()
    assert frozen.runs.lost == [(0, before)]
    assert frozen.runs.dropped == [0]
    assert frozen.runs.trust.until > asked_at
    await frozen.keeper.leave()
    assert frozen.runs.trust.until == -math.inf


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "dies"])
@pytest.mark.parametrize("fixed", [None, 1], ids=["shared", "fixed"])
async def test_a_shard_that_another_process_had_in_between_is_begun_anew(
    pool: Pool, fixed: int | None, leaves: bool
) -> None:
    frozen = Process(pool, recommended=1, shard_count=fixed)
    other = Process(pool, recommended=1, shard_count=fixed)
    await frozen.turn()
    before = frozen.runs.trust.until
    await turns([other], lambda: other.shards == {0})
    if leaves:
        await other.keeper.leave()
    else:
        await lapsed(pool)
    await frozen.turn()
    assert frozen.runs.lost == [(0, before)], "what it decided before the other one is not sent"
    assert frozen.runs.dropped == [0]
    await turns([frozen], lambda: frozen.shards == {0})
    assert (frozen.runs.lost, frozen.runs.dropped) == ([(0, before)], [0])
    assert frozen.keeper.epoch(0) == 3


async def test_a_turn_that_finds_the_database_away_lets_shards_go_on_unless_it_stood_still(
    pool: Pool,
) -> None:
    process = lasting(pool, recommended=1)
    await process.turn()
    process.link.cut = True
    process.ahead += 2 * LASTING
    before = process.runs.trust.until
    assert before < time.monotonic() + process.ahead
    stands_still = process.link._through

    def stand_still() -> ShardRows:
        process.ahead += 2 * LASTING + 5
        return stands_still()

    process.link._through = stand_still  # type: ignore[method-assign]
    await process.turn()
    assert process.runs.trust.until == before
    process.link._through = stands_still  # type: ignore[method-assign]
    await process.turn()
    assert process.runs.trust.until > time.monotonic() + process.ahead
    assert process.shards == {0}


async def test_a_shard_that_does_not_drain_is_not_released(pool: Pool) -> None:
    first, second = lasting(pool), lasting(pool)
    await first.turn()
    first.runs.drains = False
    await second.turn()
    for _ in range(5):
        await first.turn()
        await second.turn()
    assert (first.shards, second.shards) == ({0, 1, 2, 3}, set())
    first.runs.drains = True
    assert not any(first.keeper._shards.of(shard_id).is_ending for shard_id in range(4))
    await first.turn()
    assert first.shards == {0, 1, 2, 3}, "each attempt costs a connection: the next one comes later"
    first.ahead += 31
    await turns([first, second], lambda: len(second.shards) == 2)


async def test_holders_of_shards_answer_over_nats(nats_url: str) -> None:
    held = False
    asker, holder = NatsConnection(), NatsConnection()
    try:
        for connection in (asker, holder):
            await connection.connect(SecretStr(nats_url), name="test")
        here = ShardHolders(asker, APPLICATION, lambda: False)
        there = ShardHolders(holder, APPLICATION, lambda: held)
        elsewhere = ShardHolders(holder, APPLICATION + 1, lambda: True)
        for holders in (here, there, elsewhere):
            await holders.start()
        await holder.client.flush()
        assert not await here.others(within=0.2)
        held = True
        assert await here.others(within=10)
        await there.close()
        await holder.client.flush()
        assert not await here.others(within=0.2)
    finally:
        await holder.close()
        await asker.close()
    with pytest.raises(DependencyUnavailable):
        await here.others()
