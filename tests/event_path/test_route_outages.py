"""Routes while a store is away, refuses, or fails in the middle of a change."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import NOBODY_ASKED, Route, Switch
from sandbox_core.postgres.switches import UNTRUSTED_AFTER
from sandbox_core.redis.route_cache import RouteCache
from sandbox_core.route_provider import RouteFollower
from sandbox_core.subjects import route_key

from .conftest import GUILD_A, GUILD_B, until
from .route_world import FAR, World, started, table_route, world

__all__ = ["world"]


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
