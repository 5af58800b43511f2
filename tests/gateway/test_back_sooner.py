"""Leases of a process that is gone are taken before they lapse, and of no other."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.postgres.pool import Pool
from sandbox_core.postgres.processes import GatewayProcess, announce
from sandbox_core.postgres.sessions import this_session
from sandbox_core.sharding.peers import Presence
from tests.e2e.harness import Flood
from tests.event_path.proxy import proxied

from .conftest import BotProcess, until
from .leasing import APPLICATION, LASTING, Process, turns
from .test_many_processes import SHARDS, Team, readiness, runs, sim, team

__all__ = ["sim", "team"]

FIXED = {"DISCORD_SHARD_COUNT": str(SHARDS)}


@asynccontextmanager
async def session(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of its own; ended at the latest with the block."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        connection.terminate()


async def over(pool: Pool, named: str) -> None:
    """Return when the server has noticed that the session is over."""
    async with asyncio.timeout(60):
        while not await pool.fetchval("SELECT sandbox_session_is_over($1)", named):
            await asyncio.sleep(0.01)


async def dead(pool: Pool, database_url: str, **settings: int) -> Process:
    """A process that has all shards under a lasting lease, and whose session in PostgreSQL is over."""
    process = Process(pool, lease=LASTING, **settings)
    async with session(database_url) as connection:
        await announce(connection, GatewayProcess(process.id, "dead:1"))
        named = await this_session(connection)
        await process.turn()
    assert named is not None
    await over(pool, named)
    return process


async def test_a_session_is_over_when_it_has_ended_on_a_server_that_runs_on(
    pool: Pool, database_url: str
) -> None:
    async with session(database_url) as connection:
        named = await this_session(connection)
        assert named is not None
        assert not await pool.fetchval("SELECT sandbox_session_is_over($1)", named)
        assert not await connection.fetchval("SELECT sandbox_session_is_over($1)", named)
        server, pid, _ = named.split("/")
        # Another one with the same process id is another session.
        assert await pool.fetchval("SELECT sandbox_session_is_over($1)", f"{server}/{pid}/1.000000")
    await over(pool, named)
    _, rest = named.split("/", 1)
    assert not await pool.fetchval("SELECT sandbox_session_is_over($1)", f"1.000000/{rest}"), (
        "another server's"
    )
    assert await pool.fetchval("SELECT sandbox_session_is_over(NULL)") is False


async def test_behind_a_pooler_no_session_is_noted(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with session(database_url) as connection:
        process = GatewayProcess(uuid4(), "pooled:1")
        # What PgBouncer tells its clients is no process of the server's.
        monkeypatch.setattr(asyncpg.Connection, "get_server_pid", lambda self: 1)
        await announce(connection, process)
        assert await this_session(connection) is None
    noted = "SELECT session FROM gateway_processes WHERE process_id = $1"
    assert await pool.fetchval(noted, process.id) is None


async def test_a_lease_is_taken_at_once_when_both_servers_say_that_its_holder_is_gone(
    pool: Pool, database_url: str
) -> None:
    holder, successor = await dead(pool, database_url), Process(pool, lease=LASTING)
    for _ in range(3):
        await successor.turn()
    assert successor.shards == set(), "over NATS it still answers"
    assert {str(one) for one in successor.keeper.stands_by_for.values()} == {
        "the standalone bot of an earlier version"
    }
    successor.missing_on_nats = {holder.id}
    await turns([successor], lambda: successor.shards == {0, 1, 2, 3})
    ((_, told, _), *_) = successor.takeovers.said
    assert told == dict.fromkeys(range(4), 2), "as every takeover it is told, with the epochs"
    await holder.turn()
    assert (holder.shards, sorted(holder.runs.dropped)) == (set(), [0, 1, 2, 3])


async def test_who_has_only_just_reached_the_database_takes_what_lapsed_when_its_holder_is_gone(
    pool: Pool, database_url: str
) -> None:
    holder, successor = await dead(pool, database_url), Process(pool, lease=LASTING)
    await pool.execute("UPDATE gateway_shards SET lease_until = now()")
    await successor.turn()
    successor.missing_on_nats = {holder.id}
    for _ in range(2):
        await successor.turn()
    assert successor.shards == {0, 1, 2, 3}


async def test_nobody_asks_nats_for_a_process_whose_session_lives(pool: Pool, database_url: str) -> None:
    holder, other = Process(pool, lease=LASTING), Process(pool, lease=LASTING, shard_count=4)
    async with session(database_url) as connection:
        await announce(connection, GatewayProcess(holder.id, "alive:1"))
        await holder.turn()
        other.missing_on_nats = {holder.id}
        for _ in range(3):
            await other.turn()
    assert (len(holder.shards), other.shards) == (4, set())


async def test_a_holder_that_came_back_in_between_keeps_its_lease(pool: Pool, database_url: str) -> None:
    holder, other = await dead(pool, database_url), Process(pool, lease=LASTING)
    other.missing_on_nats = {holder.id}
    await other.turn()
    # Its connections were lost, and it is back.
    async with session(database_url) as connection:
        await announce(connection, GatewayProcess(holder.id, "alive:1"))
        await holder.turn()
        other.missing_on_nats = set()
        for _ in range(3):
            await other.turn()
    assert (holder.runs.lost, other.shards & holder.shards) == ([], set())


@pytest.mark.parametrize("fixed", [None, 4], ids=["shared", "fixed"])
async def test_of_several_takers_at_once_each_shard_goes_to_one(
    pool: Pool, database_url: str, fixed: int | None
) -> None:
    holder = await dead(pool, database_url, **({} if fixed is None else {"shard_count": fixed}))
    takers = [Process(pool, lease=LASTING, shard_count=fixed) for _ in range(4)]
    for taker in takers:
        taker.missing_on_nats = {holder.id}
        await taker.turn()
    async with asyncio.timeout(60):
        while sum(len(taker.shards) for taker in takers) < 4:
            await asyncio.gather(*(taker.turn() for taker in takers))
    assert sorted(shard for taker in takers for shard in taker.shards) == [0, 1, 2, 3]


async def test_back_on_nats_a_process_asks_before_it_sends_however_long_its_lease_lasts(
    pool: Pool, database_url: str
) -> None:
    process = Process(pool, recommended=1, lease=LASTING)
    await process.turn()
    trust = process.runs.trust
    process.keeper.nats_is_away()
    process.keeper.nats_is_back()
    assert time.monotonic() >= trust.until
    through = process.link._through

    def back_meanwhile() -> object:
        process.keeper.nats_is_back()
        return through()

    process.link._through = back_meanwhile  # type: ignore[assignment, method-assign]
    await process.turn()
    assert time.monotonic() >= trust.until, "it was asked before the connection was lost again"
    process.link._through = through  # type: ignore[method-assign]
    await process.turn()
    assert time.monotonic() < trust.until


async def test_nats_tells_at_once_that_a_process_is_gone(nats_url: str) -> None:
    ids = [uuid4(), uuid4()]
    connections = [NatsConnection(), NatsConnection()]
    try:
        for connection in connections:
            await connection.connect(SecretStr(nats_url), name="test", within=5)
        here, there = (Presence(c, APPLICATION, i) for c, i in zip(connections, ids, strict=True))
        # Who is not heard itself, as where the rights are missing, can't tell of others.
        assert not await here.is_gone(ids[1])
        await here.start()
        assert await here.is_gone(ids[1])
        await there.start()
        for _ in range(2):
            await connections[1].client.flush()
        assert not await here.is_gone(ids[1])
        await connections[1].close()
        async with asyncio.timeout(60):
            while not await here.is_gone(ids[1]):
                await asyncio.sleep(0.01)
        await here.close()
    finally:
        for connection in connections:
            await connection.close()
    assert not await here.is_gone(ids[1]), "without a connection nothing is said"


# Whole processes


async def holds_all(team: Team, **settings: str) -> BotProcess:
    """A process that runs all shards."""
    bot = await team.start(**FIXED, **settings)
    await runs(bot, SHARDS)
    return bot


async def test_the_only_process_is_killed_and_its_successor_resumes_within_seconds(team: Team) -> None:
    first = await holds_all(team)
    await team.map_one(team.guilds[0])
    flood = Flood(team.sim, 1_200, rate=200)
    await flood.reached(200)
    await first.end(signal.SIGKILL)
    second = await team.start(**FIXED)
    await until(lambda: len(team.sim.resumes) == SHARDS)
    # Without waiting for the lease to lapse; `make chaos` measures how soon.
    assert second.says("holder_gone")
    await flood.over()
    await team.checked()
    assert all(resume.replayed is not None for resume in team.sim.resumes)
    assert len(team.sim.identifies) == SHARDS


async def test_a_process_that_stands_by_says_for_whom(team: Team) -> None:
    first = await holds_all(team)
    second = await team.start(**FIXED)
    _, said = await readiness(second)
    shards = ", ".join(map(str, range(SHARDS)))
    assert str(said["gateway"]).startswith(
        f"standing by: shards {shards} are published by the standalone bot "
    )
    assert str(said["gateway"]).endswith(f":{first.process.pid}")


@pytest.mark.parametrize("what", ["postgres", "both"])
async def test_a_process_that_loses_its_connections_keeps_its_shards_while_it_answers_over_nats(
    team: Team, database_url: str, nats_url: str, what: str
) -> None:
    async with AsyncExitStack() as stack:
        postgres, database = await stack.enter_async_context(proxied(database_url))
        nats, address = await stack.enter_async_context(proxied(nats_url))
        first = await holds_all(team, DATABASE_URL=database, NATS_URL=address)
        second = await team.start(**FIXED)
        await team.map_one(team.guilds[0])
        flood = Flood(team.sim, 1_500, rate=150)
        await flood.reached(150)
        if what == "both":
            nats.sever()
        postgres.sever()
        await runs(second, SHARDS)
        assert second.says("holder_gone") == (what == "both")
        if what == "postgres":
            # It heard of it, and had published until then.
            await until(lambda: first.says("shard_lost"))
        nats.mend()
        postgres.mend()
        await until(lambda: first.says("shard_lost"))
        await flood.over()
        await team.checked()
    assert len(team.sim.identifies) == SHARDS
    assert all(resume.replayed is not None for resume in team.sim.resumes)


async def test_a_process_that_is_frozen_keeps_its_shards_until_its_lease_lapses(team: Team) -> None:
    first = await holds_all(team)
    second = await team.start(**FIXED)
    flood = Flood(team.sim, 1_500, rate=150)
    await flood.reached(150)
    first.process.send_signal(signal.SIGSTOP)
    await runs(second, SHARDS)
    first.process.send_signal(signal.SIGCONT)
    assert not second.says("holder_gone")
    await until(lambda: first.says("shard_lost"))
    await flood.over()
    await team.checked()
    assert len(team.sim.identifies) == SHARDS


@pytest.mark.parametrize("server", ["postgres", "nats"])
async def test_a_server_that_restarts_takes_no_shard_from_anybody(
    team: Team, servers: EmbeddedServers, server: str
) -> None:
    first = await holds_all(team)
    second = await team.start(**FIXED)
    flood = Flood(team.sim, 750, rate=150)
    await flood.reached(150)
    restarted = getattr(servers, server)
    await restarted.kill()
    await restarted.start()
    await flood.over()
    await team.checked()
    for bot in (first, second):
        assert not bot.says("holder_gone")
        assert not bot.says("shard_lost")
    assert team.sim.resumes == []
