"""Whoever may publish on NATS can say that a shard was taken: the holder asks PostgreSQL first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from sandbox_core.nats.connection import NatsConnection
from sandbox_core.postgres.pool import Pool
from sandbox_core.sharding import tuning
from sandbox_core.sharding.other_leases import Latest
from sandbox_core.sharding.peers import Takeovers
from tests.event_path.conftest import connected

from .conftest import until
from .leasing import APPLICATION, Process
from .test_takeovers import TAKE


@pytest.fixture
async def stranger(nats_url: str) -> AsyncIterator[NatsConnection]:
    """The connection of anybody who may publish."""
    async with connected(nats_url, "stranger") as connection:
        yield connection


@pytest.fixture
async def holder(nats_url: str, pool: Pool) -> AsyncIterator[Process]:
    """A process with one shard under a lasting lease, which hears what is said."""
    process = Process(pool, recommended=1, lease=60.0)
    async with connected(nats_url, "holder") as connection:
        takeovers = Takeovers(connection, APPLICATION)
        await takeovers.hear(process.keeper.taken)
        await connection.client.flush()
        await process.turn()
        assert process.shards == {0}
        yield process
        await takeovers.close()


@pytest.fixture
def asked(holder: Process, monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """The shards of each look into the database, which goes on as ever."""
    looks: list[set[int]] = []
    through = holder.link._rows.latest

    async def counted(shard_count: int, shard_ids: Collection[int]) -> Mapping[int, Latest]:
        looks.append(set(shard_ids))
        return await through(shard_count, shard_ids)

    monkeypatch.setattr(holder.link._rows, "latest", counted)
    return looks


def lied(logs: list[Mapping[str, object]]) -> list[object]:
    return [line["shards"] for line in logs if line["event"] == "takeover_untrue"]


async def test_a_forged_takeover_changes_nothing(
    holder: Process, stranger: NatsConnection, pool: Pool
) -> None:
    said = Takeovers(stranger, APPLICATION)
    with capture_logs() as logs:
        for epoch in (2, 3, 2**62):
            await said.tell(1, {0: epoch, 7: epoch})
        await until(lambda: bool(lied(logs)))
        # It is answered by who loses something.
        await said.tell(1, {0: 2}, within=0.3)
    assert lied(logs) == [[0]]
    assert (holder.shards, holder.runs.lost, holder.runs.dropped) == ({0}, [], [])
    assert holder.keeper.epoch(0) == 1
    await holder.turn()
    assert holder.shards == {0}
    assert await pool.fetchval("SELECT epoch FROM gateway_shards") == 1


async def test_a_true_one_is_believed_and_answered_at_once(
    holder: Process, stranger: NatsConnection, pool: Pool
) -> None:
    await pool.execute(TAKE, uuid4())
    async with asyncio.timeout(60):
        await Takeovers(stranger, APPLICATION).tell(1, {0: 2}, within=120)
    assert [shard_id for shard_id, _ in holder.runs.lost] == [0]
    await until(lambda: holder.shards == set())


async def test_a_true_one_that_is_told_again_is_not_looked_up_again(
    holder: Process, stranger: NatsConnection, pool: Pool, asked: list[set[int]]
) -> None:
    await pool.execute(TAKE, uuid4())
    said = Takeovers(stranger, APPLICATION)
    await said.tell(1, {0: 2}, within=60)
    asked.clear()
    for _ in range(3):
        await said.tell(1, {0: 2})
    await said.tell(1, {0: 9})
    await until(lambda: len(asked) == 1)
    assert asked == [{0}], "that is another one"


@pytest.mark.parametrize("hangs", [False, True])
async def test_with_postgresql_away_the_lease_protects_and_then_the_epoch_decides(
    holder: Process, stranger: NatsConnection, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    async def hanging(*_: object) -> Mapping[int, Latest]:
        await asyncio.Event().wait()
        raise AssertionError

    if hangs:
        monkeypatch.setattr(holder.link, "latest", hanging)
        monkeypatch.setattr(tuning, "TAKEOVER_LOOKED_UP_WITHIN", 0.25)
    else:
        holder.link.cut = True
    said = Takeovers(stranger, APPLICATION)
    with capture_logs() as logs:
        await said.tell(1, {0: 2})
        await until(lambda: bool(lied(logs)))
    assert holder.shards == {0}, "by the database's clock nobody can have taken it"
    holder.ahead = 61.0
    async with asyncio.timeout(60):
        await said.tell(1, {0: 2}, within=120)
    assert [shard_id for shard_id, _ in holder.runs.lost] == [0], "now it may be true"
    await until(lambda: holder.shards == set())


async def test_since_nats_was_lost_the_lease_alone_proves_nothing(
    holder: Process, stranger: NatsConnection
) -> None:
    """Who was away from both servers may have been taken for gone."""
    holder.link.cut = True
    holder.keeper.nats_is_away()
    holder.keeper.nats_is_back()
    await Takeovers(stranger, APPLICATION).tell(1, {0: 2}, within=60)
    await until(lambda: holder.shards == set())


async def test_what_is_no_news_is_not_looked_up(
    holder: Process, stranger: NatsConnection, asked: list[set[int]]
) -> None:
    said = Takeovers(stranger, APPLICATION)
    for shard_count, epochs in ((1, {5: 2}), (2, {0: 2}), (1, {0: 1}), (1, {0: 2, 5: 2})):
        await said.tell(shard_count, epochs)
    await until(lambda: bool(asked))
    assert asked == [{0}], "another number of shards, no shard of these, and its own epoch"
    assert holder.shards == {0}
