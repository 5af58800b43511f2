"""What processes tell each other of shards over NATS, on the real server."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial

import pytest
from pydantic import SecretStr

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.postgres.pool import create_pool
from sandbox_core.sharding.peers import ShardHolders, Takeovers
from sandbox_core.subjects import shard_holders_subject, shard_takeovers_subject

from .conftest import until
from .leasing import Process

APPLICATION = 1_234_567_890_123_456_789

Connect = Callable[[], Awaitable[NatsConnection]]


@pytest.fixture
async def connect(nats_url: str) -> AsyncIterator[Connect]:
    """Makes connections of as many processes."""
    made: list[NatsConnection] = []

    async def one() -> NatsConnection:
        connection = NatsConnection()
        made.append(connection)
        await connection.connect(SecretStr(nats_url), name="test", within=5)
        return connection

    yield one
    for connection in made:
        await connection.close()


class Candidate:
    """A process that starts while PostgreSQL is away."""

    def __init__(self, connection: NatsConnection, application: int = APPLICATION) -> None:
        self.runs = False
        self.connection = connection
        self.holders = ShardHolders(connection, application, lambda: self.runs)

    async def start(self) -> None:
        await self.holders.start()
        await self.connection.client.flush()

    async def turn(self, within: float) -> None:
        if not self.runs and not await self.holders.others(within=within):
            self.runs = True


async def test_of_those_who_ask_at_the_same_time_one_runs(connect: Connect) -> None:
    connections = [await connect() for _ in range(3)]
    chance = random.Random(5)

    async def one_runs(repetition: int, within: float, late: Sequence[float]) -> None:
        # Each of an application of its own, so that all can ask at once and none has to hurry.
        candidates = [Candidate(each, APPLICATION + repetition) for each in connections[: len(late)]]
        for candidate in candidates:
            await candidate.start()

        async def begin(candidate: Candidate, after: float) -> None:
            await asyncio.sleep(after)
            await candidate.turn(within)

        async with asyncio.timeout(60):
            while not any(candidate.runs for candidate in candidates):
                await asyncio.gather(*(begin(c, after) for c, after in zip(candidates, late, strict=True)))
        for _ in range(2):
            assert sum(candidate.runs for candidate in candidates) == 1, repetition
            await asyncio.gather(*(candidate.turn(within) for candidate in candidates))
        for candidate in candidates:
            await candidate.holders.close()

    repetitions = []
    for repetition in range(16):
        within = chance.choice([1.0, 2.0])
        others = 1 + repetition % 2
        late = [0.0, *(chance.choice([0.0, chance.uniform(0, 1.2 * within)]) for _ in range(others))]
        repetitions.append(one_runs(repetition, within, late))
    await asyncio.gather(*repetitions)


async def test_of_processes_that_start_together_without_postgresql_one_runs_all_shards(
    connect: Connect, database_url: str
) -> None:
    connections = [await connect() for _ in range(2)]
    async with await create_pool(database_url) as pool:

        async def one_runs_all(application: int) -> None:
            processes = [Process(pool, recommended=2) for _ in connections]
            holders = []
            for process, connection in zip(processes, connections, strict=True):
                process.link.cut = True
                runs = process.runs
                holder = ShardHolders(connection, application, lambda runs=runs: bool(runs.running))
                await holder.start()
                await connection.client.flush()
                process.keeper._anybody_else = partial(holder.others, within=1.0)
                holders.append(holder)
            async with asyncio.timeout(60):
                while not any(process.shards for process in processes):
                    await asyncio.gather(*(process.turn() for process in processes))
            for _ in range(3):
                assert sorted(len(process.shards) for process in processes) == [0, 2]
                await asyncio.gather(*(process.turn() for process in processes))
            for holder in holders:
                await holder.close()

        await asyncio.gather(*(one_runs_all(APPLICATION + repetition) for repetition in range(10)))


async def test_who_stood_still_while_it_asked_asks_again(connect: Connect) -> None:
    """Another one may have asked meanwhile, got no answer, and run since."""
    frozen = Candidate(await connect())
    await frozen.start()
    asking = asyncio.create_task(frozen.turn(0.05))
    await until(lambda: frozen.holders._asking)
    time.sleep(0.7)  # noqa: ASYNC251 (the process as a whole stands still)
    await asking
    assert not frozen.runs
    async with asyncio.timeout(60):
        while not frozen.runs:
            await frozen.turn(0.05)


async def test_a_process_of_an_earlier_version_is_answered_and_waits(connect: Connect) -> None:
    asking, earlier = Candidate(await connect()), await connect()
    await asking.start()
    turn = asyncio.create_task(asking.turn(1.0))
    await until(lambda: asking.holders._asking)
    # It asks without an id, and takes any answer for a holder's.
    answer = await earlier.client.request(shard_holders_subject(APPLICATION), b"", timeout=5)
    assert answer.data
    await turn
    assert asking.runs


async def test_silence_proves_nothing_when_the_connection_was_lost(
    connect: Connect, servers: EmbeddedServers
) -> None:
    candidate = Candidate(await connect())
    await candidate.start()
    turn = asyncio.create_task(candidate.turn(4.0))
    await until(lambda: candidate.holders._asking)
    await servers.nats.kill()
    await servers.nats.start()
    with pytest.raises(DependencyUnavailable, match="NATS"):
        await turn
    assert not candidate.runs
    await until(lambda: candidate.connection.connected)
    await candidate.turn(0.1)
    assert candidate.runs


async def test_a_takeover_is_told_to_all_and_answered_by_who_loses(connect: Connect) -> None:
    told: list[tuple[str, int, dict[int, int]]] = []

    def hears(name: str, *loses: int) -> Callable[[int, Mapping[int, int]], Awaitable[set[int]]]:
        async def on_takeover(shard_count: int, epochs: Mapping[int, int]) -> set[int]:
            told.append((name, shard_count, dict(epochs)))
            return epochs.keys() & loses

        return on_takeover

    here, there, third = [Takeovers(await connect(), APPLICATION) for _ in range(3)]
    elsewhere = Takeovers(await connect(), APPLICATION + 1)
    await here.hear(hears("here"))
    await there.hear(hears("there", 1))
    await third.hear(hears("third", 2, 3))
    await elsewhere.hear(hears("elsewhere", 1, 2))
    for takeovers in (here, there, third, elsewhere):
        await takeovers._peers._connection.client.flush()
    # Both have answered long before the time is over.
    async with asyncio.timeout(60):
        await here.tell(4, {1: 7, 2: 2**40}, within=60)
    assert {name for name, _, _ in told} >= {"there", "third"}
    await until(lambda: len(told) == 3)
    assert {(count, tuple(epochs.items())) for _, count, epochs in told} == {(4, ((1, 7), (2, 2**40)))}
    # Nobody answers for a dead process; and what is no takeover is passed over.
    await here.tell(4, {0: 9}, within=0.01)
    for nonsense in (b"", b"{}", b"[1]", b'{"shard_count":4,"epochs":{"x":1}}'):
        await here._peers._connection.client.publish(shard_takeovers_subject(APPLICATION), nonsense)
    await here.tell(4, {0: 10})
    await until(lambda: len(told) == 9)
    await there.close()
    await there._peers._connection.client.flush()
    await here.tell(4, {0: 11})
    await until(lambda: len(told) == 11)
    await Takeovers(here._peers._connection, APPLICATION).close()


async def test_without_nats_a_takeover_is_told_to_nobody() -> None:
    takeovers = Takeovers(NatsConnection(), APPLICATION)
    await takeovers.tell(4, {0: 1}, within=60)
    await takeovers.close()
