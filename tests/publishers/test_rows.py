"""The leases of plugins and of other numbers of shards, on the real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from pydantic import SecretStr

from sandbox_core.nats.connection import NatsConnection
from sandbox_core.postgres.pool import Pool, create_pool
from sandbox_core.sharding.lease_rows import ShardRows
from sandbox_core.sharding.lease_types import Before, Leases
from sandbox_core.sharding.peers import ShardHolders
from sandbox_core.sharding.publishers import Kind
from sandbox_core.sharding.registered import PublisherNotices, describe, registered
from tests.gateway.leasing import APPLICATION, Process, turns

LEASE = 60.0
"""Longer than any test takes; one that needs an end puts it there."""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await create_pool(database_url)
    yield pool
    await pool.close()


class One:
    """One process of a kind, whose turns a test takes."""

    def __init__(self, pool: Pool, kind: Kind, count: int, *shard_ids: int) -> None:
        self.id = uuid4()
        self.settled: dict[int, float] = {}
        self._rows = ShardRows(
            pool,
            APPLICATION,
            self.id,
            lease=LEASE,
            kind=kind,
            name=f"{kind}:{count}",
            settled=lambda: self.settled,
        )
        self._count = count
        self._shard_ids = shard_ids or tuple(range(count))

    async def turn(self, *, may_take_lapsed: bool = True) -> Leases:
        await self._rows.prepare(self._count)
        return await self._rows.fix(
            self._count, self._shard_ids, (), may_take_lapsed=may_take_lapsed, taking=True
        )

    async def leave(self) -> None:
        await self._rows.leave()


async def test_a_plugin_s_shard_is_watched_and_a_standalone_one_only_by_a_plugin(pool: Pool) -> None:
    plugin, bot = One(pool, Kind.PLUGIN, 1), One(pool, Kind.STANDALONE, 1)
    assert set((await plugin.turn()).mine) == {0}
    plugin.settled = {0: 2.0}
    await plugin.turn()
    leases = await bot.turn()
    assert (dict(leases.mine), leases.others) == ({}, {0})
    before = leases.standby[0]
    assert before.holder is not None
    assert (before.holder.kind, before.holder.name) == (Kind.PLUGIN, "plugin:1")
    assert before.settled_ago is not None
    assert 2.0 <= before.settled_ago < 30
    assert before.renewed_ago is not None
    await plugin.leave()
    leases = await bot.turn()
    assert leases.mine == {0: 2}
    assert (after := leases.of(0).after) is not None
    assert after.settled_ago is not None
    # What the plugin published is not in any session that was saved before.
    assert leases.of(0).stale_epoch == 1
    other = One(pool, Kind.STANDALONE, 1)
    leases = await other.turn()
    assert (leases.standby, set(leases.others_of)) == ({}, {0})
    assert set((await plugin.turn()).standby) == {0}


async def test_who_was_never_there_leaves_nothing_to_go_on_with(pool: Pool) -> None:
    leases = await One(pool, Kind.PLUGIN, 1).turn()
    found = leases.of(0)
    assert (leases.mine, found.after, found.stale_epoch) == ({0: 1}, None, 1)


async def test_one_number_of_shards_is_published_at_a_time(pool: Pool) -> None:
    one, two = One(pool, Kind.STANDALONE, 1), One(pool, Kind.PLUGIN, 2)
    await one.turn()
    one.settled = {0: 0.5}
    await one.turn()
    leases = await two.turn()
    assert leases.mine == {}
    assert {n: before.holder.shard_count for n, before in leases.standby.items() if before.holder} == {
        0: 1,
        1: 1,
    }
    await pool.execute(
        "UPDATE gateway_shards SET lease_until = clock_timestamp() - interval '1 s' WHERE holder IS NOT NULL"
    )
    assert (await two.turn(may_take_lapsed=False)).mine == {}
    leases = await two.turn()
    assert leases.mine == {0: 1, 1: 1}
    assert leases.superseded == {1: {0: 2}}
    after = [leases.of(n).after for n in (0, 1)]
    assert [each is not None and each.settled_ago is not None for each in after] == [True, True]
    # It finds that it has lost them, and takes nothing.
    leases = await one.turn()
    assert (leases.mine, set(leases.standby)) == ({}, {0})
    await two.leave()
    leases = await one.turn()
    assert leases.mine == {0: 3}
    assert leases.of(0).stale_epoch == 2


async def test_a_number_that_was_left_frees_the_other_at_once(pool: Pool) -> None:
    one, two = One(pool, Kind.STANDALONE, 1), One(pool, Kind.STANDALONE, 2)
    await one.turn()
    await one.leave()
    leases = await two.turn(may_take_lapsed=False)
    assert set(leases.mine) == {0, 1}
    assert all(leases.of(n).after is not None for n in (0, 1))


async def test_processes_that_share_watch_different_shards_of_a_plugin(pool: Pool) -> None:
    plugin = One(pool, Kind.PLUGIN, 4)
    await plugin.turn()
    first, second = Process(pool), Process(pool)
    for _ in range(2):
        await first.turn()
        await second.turn()
    assert (set(first.runs.standby), set(second.runs.standby)) == ({0, 2}, {1, 3})
    assert first.keeper.standing_by
    await plugin.leave()
    await turns([first, second], lambda: len(first.shards) == 2 and len(second.shards) == 2)
    assert (first.shards, second.shards) == ({0, 2}, {1, 3}), "each goes on with what it stood by for"
    before = first.runs.before[0]
    assert before is not None


async def test_without_the_database_fixed_shards_wait_for_a_plugin_that_has_some(pool: Pool) -> None:
    process = Process(pool, shard_count=1)
    process.link.cut = True
    process.others_hold = True
    for _ in range(5):
        await process.turn()
    assert process.shards == set()
    assert "another process runs some" in process.keeper.trouble


async def test_a_bot_s_sessions_begin_one_after_the_other_also_without_the_database(pool: Pool) -> None:
    plugin = Process(pool, shard_count=2, shard_ids=[])
    plugin.keeper._at_once = False
    plugin.link.cut = True
    plugin.keeper.want({0})
    for _ in range(3):
        await plugin.turn()
    assert plugin.shards == set(), "first it makes sure that the database is away"
    plugin.others_hold = True
    await plugin.turn()
    assert plugin.shards == set()
    plugin.others_hold = False
    await plugin.turn()
    assert plugin.shards == {0}
    assert plugin.runs.before[0] == Before(None), "somebody had it just before"
    plugin.keeper.want({0, 1})
    await plugin.turn()
    assert plugin.shards == {0, 1}
    plugin.link.cut = False
    await plugin.turn()
    assert plugin.shards == {0, 1}
    assert plugin.runs.dropped == []


async def subscribed(connection: NatsConnection) -> None:
    """Return when the server knows the connection's subscriptions.

    nats-py's flush sends its PING past what is buffered: only a second one comes behind it.
    """
    for _ in range(2):
        await connection.client.flush()


async def test_plugins_answer_over_nats_which_shards_they_hold(nats_url: str) -> None:
    asker, holder = NatsConnection(), NatsConnection()
    held: list[int] = [2, 3]
    try:
        for connection in (asker, holder):
            await connection.connect(SecretStr(nats_url), name="test")
        there = ShardHolders(holder, APPLICATION, lambda: bool(held), plugin=lambda: (4, held))
        await there.start()
        asked = {
            wanted: ShardHolders(asker, APPLICATION, lambda: False, wanted=lambda wanted=wanted: wanted)
            for wanted in ((4, (0, 1)), (4, (1, 2)), (1, (0,)))
        }
        for holders in asked.values():
            await holders.start()
        await subscribed(holder)
        found = [
            (await holders.others(within=0.5), await holders.plugins(within=0.5))
            for holders in asked.values()
        ]
        assert found == [(False, False), (True, True), (True, True)]
        everything = ShardHolders(asker, APPLICATION, lambda: False)
        assert await everything.others(within=5)
        await there.close()
        standalone = ShardHolders(holder, APPLICATION, lambda: True)
        await standalone.start()
        await subscribed(holder)
        assert await everything.others(within=5)
        assert not await everything.plugins(within=0.5)
    finally:
        await holder.close()
        await asker.close()


async def test_who_publishes_and_who_stands_by_is_told(pool: Pool) -> None:
    bot, plugin, late = (
        One(pool, Kind.STANDALONE, 1),
        One(pool, Kind.PLUGIN, 1),
        One(pool, Kind.STANDALONE, 1),
    )
    await bot.turn()
    assert (await registered(pool)).standing_by == ()
    for one in (plugin, late):
        await one.turn()
    found = await registered(pool, APPLICATION)
    assert [(holder.kind, holder.shard_id) for holder in found.publishing] == [(Kind.STANDALONE, 0)]
    # A second standalone bot that waits for the first is as it should be.
    (pair,) = found.standing_by
    text = describe(pair)
    assert text.startswith("two processes would publish shard 0 of this application: the standalone bot")
    assert text.endswith("and the plugin plugin:1, which stands by")
    assert (await registered(pool, APPLICATION + 1)).standing_by == ()


async def test_another_number_of_shards_is_told_with_both(pool: Pool) -> None:
    one, two = One(pool, Kind.STANDALONE, 1), One(pool, Kind.STANDALONE, 2)
    await one.turn()
    await two.turn()
    (pair,) = (await registered(pool)).standing_by
    assert "shards in all: 1 in the first, 2 in the second" in describe(pair)


async def test_the_owner_is_told_once_by_whoever_comes_first(pool: Pool) -> None:
    bot, plugin = One(pool, Kind.STANDALONE, 1), One(pool, Kind.PLUGIN, 1)
    await bot.turn()
    await plugin.turn()
    patient, now = PublisherNotices(pool), PublisherNotices(pool, after=0.0)
    assert await patient.take(APPLICATION) == []
    (notice,) = await now.take(APPLICATION)
    assert await now.take(APPLICATION) == []
    await now.give_back(notice)
    assert await now.take(APPLICATION) == [notice]
    another = One(pool, Kind.PLUGIN, 1)
    await another.turn()
    assert len(await now.take(APPLICATION)) == 1
