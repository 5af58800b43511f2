"""Routes in tiers: the table while it is current, then Redis, then PostgreSQL, then the last table."""

from __future__ import annotations

import uuid
from datetime import timedelta

from sandbox_core.models import DatedRoute, Route
from sandbox_core.redis.route_cache import RouteCache
from sandbox_core.subjects import ROUTE_NULL, route_key, route_moment_key

from .conftest import GUILD_A, GUILD_B, until
from .route_world import FAR, SANDBOX, World, started, table_route, world

__all__ = ["world"]


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
