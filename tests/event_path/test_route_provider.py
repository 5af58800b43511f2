"""Routes in tiers: the table while it is current, then Redis, then PostgreSQL, then the last table."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import NOBODY_ASKED, DatedRoute, Route, Switch
from sandbox_core.postgres.pool import Pool, create_pool
from sandbox_core.postgres.routes import RouteRows
from sandbox_core.postgres.switches import UNTRUSTED_AFTER
from sandbox_core.redis.client import create_client
from sandbox_core.redis.route_cache import RouteCache
from sandbox_core.route_provider import RouteFollower, RouteProvider
from sandbox_core.subjects import ROUTE_NULL, route_key, route_moment_key

from .conftest import GUILD_A, GUILD_B, until

FAR = 4_000_000_000.0
SANDBOX = "3f2a9c01-7b1d-4b5e-9a54-0d6f1c2b3a49"


@dataclass
class World:
    """The provider under test with the real stores below it."""

    pool: Pool
    redis: Redis
    metrics: RoutingMetrics
    provider: RouteProvider
    follower: RouteFollower
    cold: RouteProvider
    """A provider without a table, over the same stores."""

    async def sandbox(self, *guild_ids: str, status: str = "running") -> str:
        sandbox_id = uuid.uuid4()
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO sandboxes (id, name, owner, status, schema_name, created_at, expires_at)"
                " VALUES ($1, $2, '1', $3, $4, now(), to_timestamp($5))",
                sandbox_id,
                f"box-{sandbox_id.hex[:8]}",
                status,
                f"sandbox_{sandbox_id.hex[:8]}",
                FAR,
            )
            for guild_id in guild_ids:
                await connection.execute(
                    "INSERT INTO sandbox_guild_mapping (guild_id, sandbox_id, registered_by)"
                    " VALUES ($1, $2, '1')",
                    guild_id,
                    sandbox_id,
                )
        return str(sandbox_id)

    async def unmap(self, guild_id: str) -> None:
        await self.pool.execute("DELETE FROM sandbox_guild_mapping WHERE guild_id = $1", guild_id)


@pytest.fixture
async def world(database_url: str, redis_url: str) -> AsyncIterator[World]:
    pool = await create_pool(database_url, min_size=0)
    redis = create_client(redis_url)
    metrics = RoutingMetrics()

    async def connect() -> asyncpg.Connection[Any]:
        return await asyncpg.connect(database_url, timeout=2)

    follower = RouteFollower(connect, heartbeat=0.5)
    cache = RouteCache(redis, timedelta(seconds=60))
    provider = RouteProvider(RouteRows(pool), cache, metrics, follower=follower)
    cold = RouteProvider(RouteRows(pool), cache, metrics)
    yield World(pool, redis, metrics, provider, follower, cold)
    await provider.close()
    await cold.close()
    await redis.aclose()
    pool.terminate()


async def started(world: World) -> None:
    world.provider.start()
    await until(lambda: world.provider.current_table is not None)


def table_route(world: World, guild_id: str) -> Route | None:
    table = world.provider.current_table
    assert table is not None
    return table.route(guild_id, 0.0)


async def test_the_table_is_loaded_and_follows_every_change(world: World) -> None:
    first = await world.sandbox(GUILD_A)
    await started(world)
    assert table_route(world, GUILD_A) == Route(first, FAR)
    second = await world.sandbox(GUILD_B)
    await until(lambda: table_route(world, GUILD_B) == Route(second, FAR))
    await world.unmap(GUILD_A)
    await until(lambda: table_route(world, GUILD_A) is None)
    await world.pool.execute("UPDATE sandboxes SET status = 'destroying' WHERE id = $1", uuid.UUID(second))
    await until(lambda: table_route(world, GUILD_B) is None)
    assert world.provider.statistics()["current"] is True


async def test_a_sandbox_that_is_not_running_has_no_route(world: World) -> None:
    await world.sandbox(GUILD_A, status="creating")
    await started(world)
    assert table_route(world, GUILD_A) is None
    assert await world.cold.lookup(GUILD_A) is None


async def test_an_answered_change_has_switched_this_process(world: World) -> None:
    await started(world)
    sandbox_id = await world.sandbox(GUILD_A)
    await world.provider.guilds_changed({GUILD_A: Route(sandbox_id, FAR)})
    assert table_route(world, GUILD_A) == Route(sandbox_id, FAR)
    assert await world.redis.get(route_key(GUILD_A)) == sandbox_id
    await world.unmap(GUILD_A)
    await world.provider.guilds_changed({GUILD_A: None})
    assert table_route(world, GUILD_A) is None
    assert await world.redis.get(route_key(GUILD_A)) == ROUTE_NULL


async def test_without_a_table_redis_answers_before_postgres(world: World) -> None:
    sandbox_id = await world.sandbox(GUILD_A)
    assert await world.cold.lookup(GUILD_A) is not None
    assert await world.cold.lookup(GUILD_B) is None
    assert await world.redis.mget([route_key(GUILD_A), route_key(GUILD_B)]) == [sandbox_id, ROUTE_NULL]
    assert 0 < await world.redis.pttl(route_key(GUILD_A)) <= 60_000
    # Only a changed row tells Redis from PostgreSQL: the cached answer stands.
    await world.unmap(GUILD_A)
    assert await world.cold.lookup(GUILD_A) is not None
    assert world.metrics.lookups[("redis", "hit")] == 1
    await world.cold.invalidate(GUILD_A)
    assert await world.cold.lookup(GUILD_A) is None


async def test_many_guilds_are_one_question_each(world: World) -> None:
    guild_ids = [str(10**17 + number) for number in range(500)]
    sandbox_id = await world.sandbox(*guild_ids)
    table = await world.cold.resolve([*guild_ids, GUILD_B, "not a guild", "1"])
    assert len(table) == 500
    counted = {key: count for key, count in world.metrics.lookups.items() if count}
    assert counted == {("redis", "miss"): 501, ("postgres", "hit"): 501}
    await world.cold.resolve(guild_ids)
    assert world.metrics.lookups[("redis", "hit")] == 500
    assert await world.cold.invalidate_sandbox(sandbox_id) == 500
    assert await world.redis.exists(route_key(guild_ids[0])) == 0
    assert await world.cold.warm() == 500
    assert await world.redis.get(route_key(guild_ids[0])) == sandbox_id


async def test_a_slow_reader_does_not_put_an_old_route_over_a_new_one(world: World) -> None:
    sandbox_id = await world.sandbox(GUILD_A)
    await world.unmap(GUILD_A)
    await world.cold.guilds_changed({GUILD_A: None})
    cache = RouteCache(world.redis, timedelta(seconds=60))
    (kept,) = (await cache.get_many([GUILD_A])).values()
    await cache.put_many({GUILD_A: DatedRoute(Route(sandbox_id, FAR), kept.as_of - 0.1)}, only_read=True)
    assert await cache.get_many([GUILD_A]) == {GUILD_A: kept}
    assert kept.route is None


async def test_a_cached_route_ends_with_its_sandbox(world: World) -> None:
    cache = RouteCache(world.redis, timedelta(seconds=60), now=lambda: 1000.0)
    ends_soon, is_over = Route(SANDBOX, 1005.0), Route(SANDBOX, 999.0)
    await cache.put_many({GUILD_A: DatedRoute(ends_soon, 990.5), GUILD_B: DatedRoute(is_over, 990.5)})
    assert 0 < await world.redis.pttl(route_key(GUILD_A)) <= 5000
    assert await cache.get_many([GUILD_A, GUILD_B]) == {
        GUILD_A: DatedRoute(ends_soon, 990.5),
        GUILD_B: DatedRoute(None, 990.5),
    }
    assert await cache.get_many([]) == {}
    await cache.put_many({})
    await cache.invalidate([])


async def test_an_older_route_never_replaces_a_later_one(world: World) -> None:
    cache = RouteCache(world.redis, timedelta(seconds=60))
    new, old = DatedRoute(Route(SANDBOX, FAR), 20.25), DatedRoute(None, 20.125)
    for only_read in (False, True):
        await cache.put_many({GUILD_A: new}, only_read=only_read)
        await cache.put_many({GUILD_A: old, GUILD_B: old}, only_read=only_read)
        assert await cache.get_many([GUILD_A, GUILD_B]) == {GUILD_A: new, GUILD_B: old}
        # Nor where the later one's key has run out meanwhile.
        await world.redis.delete(route_key(GUILD_A))
        await cache.put_many({GUILD_A: old}, only_read=only_read)
        assert await cache.get_many([GUILD_A]) == {}
    many = {str(10**17 + number): new for number in range(1_200)}
    await cache.put_many(many)
    assert await cache.get_many(many) == many


async def test_a_route_of_an_unknown_moment_is_told_from_one_that_was_written_here(world: World) -> None:
    cache = RouteCache(world.redis, timedelta(seconds=60))
    unknown = DatedRoute(Route(SANDBOX, float("inf")), float("-inf"))
    # Somebody else writes the key alone, beside a moment that belongs to another value, or to none.
    for note in ("99.0 inf __NULL__", "no moment", "", "x y z", None):
        if note is None:
            await world.redis.delete(route_moment_key(GUILD_A))
        else:
            await world.redis.set(route_moment_key(GUILD_A), note)
        await world.redis.set(route_key(GUILD_A), SANDBOX)
        assert await cache.get_many([GUILD_A]) == {GUILD_A: unknown}, note
        await cache.put_many({GUILD_A: DatedRoute(None, 100.0)}, only_read=True)
        assert await cache.get_many([GUILD_A]) == {GUILD_A: unknown}, "it may be a change that is later"
    await cache.put_many({GUILD_A: DatedRoute(None, 100.0)})
    assert await cache.get_many([GUILD_A]) == {GUILD_A: DatedRoute(None, 100.0)}
    # Who changes a route and can't ask for the moment writes it all the same.
    await cache.put_many({GUILD_A: DatedRoute(Route(SANDBOX, FAR), float("-inf"))})
    assert await cache.get_many([GUILD_A]) == {GUILD_A: unknown}
    # Whatever is no text there is in nobody's way.
    await world.redis.delete(route_key(GUILD_A))
    await world.redis.lpush(route_moment_key(GUILD_A), "x")
    await cache.put_many({GUILD_A: DatedRoute(None, 100.0)})
    assert await cache.get_many([GUILD_A]) == {GUILD_A: DatedRoute(None, 100.0)}


async def test_what_is_no_route_in_the_cache_is_asked_of_postgresql(world: World) -> None:
    sandbox_id = await world.sandbox(GUILD_A)
    for nonsense in ("garbage", "", "*", sandbox_id.upper(), f"{sandbox_id}."):
        await world.redis.set(route_key(GUILD_A), nonsense)
        route = await world.cold.lookup(GUILD_A)
        assert route == Route(sandbox_id, FAR), nonsense


async def test_a_redis_that_refuses_writes_is_slower_and_never_wrong(world: World) -> None:
    sandbox_id = await world.sandbox(GUILD_A)
    await world.redis.config_set("min-replicas-to-write", 1)
    try:
        assert await world.cold.lookup(GUILD_A) == Route(sandbox_id, FAR)
        await world.unmap(GUILD_A)
        await world.cold.guilds_changed({GUILD_A: None})
        with pytest.raises(DependencyUnavailable, match="takes no writes"):
            await world.cold.invalidate(GUILD_A)
    finally:
        await world.redis.config_set("min-replicas-to-write", 0)
    await until_cached(world, {GUILD_A: None})


async def until_cached(world: World, routes: dict[str, Route | None]) -> None:
    cache = RouteCache(world.redis, timedelta(seconds=60))
    async with asyncio.timeout(60):
        while {guild: dated.route for guild, dated in (await cache.get_many(routes)).items()} != routes:
            await asyncio.sleep(0.02)


async def test_redis_away_is_slower_and_never_wrong(world: World, servers: EmbeddedServers) -> None:
    await started(world)
    await servers.valkey.kill()
    sandbox_id = await world.sandbox(GUILD_A)
    await world.provider.guilds_changed({GUILD_A: Route(sandbox_id, FAR)})
    assert table_route(world, GUILD_A) == Route(sandbox_id, FAR)
    assert await world.cold.lookup(GUILD_A) == Route(sandbox_id, FAR)
    assert world.metrics.lookups[("redis", "error")] >= 1
    await servers.valkey.start()
    # What could not be written is written as soon as Redis is back.
    async with asyncio.timeout(60):
        while await world.redis.get(route_key(GUILD_A)) != sandbox_id:
            await asyncio.sleep(0.05)


async def test_postgres_away_leaves_the_last_known_table(world: World, servers: EmbeddedServers) -> None:
    sandbox_id = await world.sandbox(GUILD_A)
    await started(world)
    await servers.postgres.kill()
    await until(lambda: world.provider.current_table is None)
    assert world.provider.loaded
    assert world.provider.trouble
    assert await world.provider.lookup(GUILD_A) == Route(sandbox_id, FAR)
    assert await world.provider.lookup(GUILD_B) is None
    # A change this process committed itself, just before the link went, is not lost on it.
    await world.provider.guilds_changed({GUILD_B: Route(sandbox_id, FAR)})
    assert (await world.provider.resolve([GUILD_B])).route(GUILD_B, 0.0) is not None
    await servers.postgres.start()
    await until(lambda: world.provider.current_table is not None, within=30)
    assert table_route(world, GUILD_A) == Route(sandbox_id, FAR)
    # The full read settles what PostgreSQL never confirmed.
    assert table_route(world, GUILD_B) is None
    assert world.provider.trouble == ""


async def test_both_away_and_nothing_known_is_said_and_not_guessed(
    world: World, servers: EmbeddedServers
) -> None:
    await servers.postgres.kill()
    await servers.valkey.kill()
    world.provider.start()
    with pytest.raises(DependencyUnavailable, match="PostgreSQL"):
        await world.provider.resolve([GUILD_A])
    # The next question does not wait for the same outage again, and its answer says the same.
    where = servers.database_url.rpartition("@")[2].partition("/")[0]
    failed = world.metrics.lookups["postgres", "error"]
    with pytest.raises(DependencyUnavailable, match=f"(refused|lost) at {where}"):
        await world.provider.resolve([GUILD_A])
    assert world.metrics.lookups["postgres", "error"] == failed
    assert not world.provider.loaded
    await until(lambda: world.provider.trouble)
    await servers.postgres.start()
    await servers.valkey.start()
    await until(lambda: world.provider.current_table is not None, within=30)


async def test_changes_during_a_lost_link_are_read_in_full(world: World) -> None:
    await started(world)
    first = await world.sandbox(GUILD_A)
    await until(lambda: table_route(world, GUILD_A) is not None)
    await world.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%sandbox_routes%'"
    )
    second = await world.sandbox(GUILD_B)
    await until(
        lambda: (
            world.provider.current_table is not None
            and table_route(world, GUILD_B) == Route(second, FAR)
            and table_route(world, GUILD_A) == Route(first, FAR)
        )
    )


async def test_a_database_without_migrations_is_named(empty_database_url: str) -> None:
    async def connect() -> asyncpg.Connection[Any]:
        return await asyncpg.connect(empty_database_url, timeout=2)

    follower = RouteFollower(connect)
    follower.start()
    await until(lambda: "sandboxctl migrate" in follower.trouble)
    with pytest.raises(DependencyUnavailable):
        await follower.refresh([GUILD_A])
    await follower.close()
    await follower.close()


async def test_a_refresh_that_loses_its_link_says_so(world: World, servers: EmbeddedServers) -> None:
    await started(world)
    await servers.postgres.kill()

    async def refresh_until_refused() -> None:
        while True:
            await world.follower.refresh([GUILD_A])

    with pytest.raises(DependencyUnavailable):
        await asyncio.wait_for(refresh_until_refused(), 60)
    await servers.postgres.start()


class Failing:
    """Stands for a part of the provider; each of its methods raises."""

    def __init__(self, real: object, *, times: int = 1) -> None:
        self._real = real
        self._left = times

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if not callable(real):
            return real

        async def fail(*arguments: object, **options: object) -> Any:
            if self._left:
                self._left -= 1
                raise ValueError(name)
            return await real(*arguments, **options)

        return fail


class Telling:
    async def tell(self, routes: object, as_of: float) -> None:
        """Tell nobody."""


class Asking:
    async def ask(self, guild_ids: object) -> Switch:
        """Everybody has switched."""
        return Switch(("one",))


@pytest.mark.parametrize("part", ["_rows", "_announcements", "_processes", "_cache", "_follower"])
async def test_a_committed_change_is_told_whatever_fails_on_the_way(
    world: World, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    sandbox_id = await world.sandbox(GUILD_A)
    provider = world.provider
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(provider, "_sleep", sleep)
    monkeypatch.setattr(provider, "_announcements", Telling())
    monkeypatch.setattr(provider, "_processes", Asking())
    if part == "_cache":
        monkeypatch.setattr(provider._writer, "_cache", Failing(provider._cache))
    elif part == "_follower":
        monkeypatch.setattr(world.follower, "refresh", Failing(world.follower).refresh)
    else:
        monkeypatch.setattr(provider, part, Failing(getattr(provider, part)))
    switch = await provider.guilds_changed({GUILD_A: Route(sandbox_id, FAR)})
    expected = Switch(unconfirmed=(NOBODY_ASKED,)) if part == "_processes" else Switch(("one",))
    assert switch == expected
    assert slept == ([UNTRUSTED_AFTER] if part == "_processes" else [])

    async def written() -> bool:
        return await world.redis.get(route_key(GUILD_A)) == sandbox_id

    async with asyncio.timeout(10):
        while not await written():
            await asyncio.sleep(0.02)
    assert (await provider.lookup(GUILD_A)) == Route(sandbox_id, FAR)
