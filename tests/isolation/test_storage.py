"""What sandboxes store is measured, told and held, on the real servers with what `connect` shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from redis.exceptions import NoPermissionError

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.cleanup import Notice, NoticeKind
from sandbox_core.errors import StorageUsedUp
from sandbox_core.measuring import Measuring
from sandbox_core.namespaces import Pace
from sandbox_core.postgres.errors import DRIVER_ERRORS
from sandbox_core.stored import MIB, Level, StorageLimit

from .conftest import ALICE, BOB, Held, held, hold, opened, settings_of

POSTGRES, REDIS = "PostgreSQL", "Redis"
SMALL = {"sandbox_database_mb": 4, "sandbox_redis_mb": 1, "sandbox_redis_keys": 1000}
LARGE = "CREATE TABLE large AS SELECT repeat('x', 1000) AS x FROM generate_series(1, $1::int)"


@pytest.fixture
async def core(closed: EmbeddedServers) -> AsyncIterator[Core]:
    async with opened(settings_of(closed, **SMALL)) as made:
        await made.cleanup.keep_credentials()
        await made.pool.execute("DELETE FROM sandbox_storage_turns")
        yield made
        for sandbox in await made.manager.list():
            await made.manager.destroy(ALICE if sandbox.owner == ALICE.id else BOB, sandbox.name)


class Now:
    """A clock that the test moves on from one turn to the next."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


def measuring(core: Core, clock: Callable[[], datetime], **others: Any) -> Measuring:
    return Measuring(
        pool=core.pool, namespaces=core.namespaces, limits=core.measuring.limits, clock=clock, **others
    )


@pytest.fixture
def measure(core: Core) -> Callable[[], Any]:
    """Measures both stores, and does what follows from it."""
    now = Now()
    made = measuring(core, now)

    async def every() -> None:
        now.offset += timedelta(minutes=1)
        for store in made.stores:
            assert await made.turn(store) > 20
        await core.cleanup.keep_credentials()

    return every


async def notices(core: Core) -> list[Notice]:
    return [each async for each in core.notices.take() if each.kind is NoticeKind.STORAGE]


async def test_what_each_stores_is_known(core: Core, mine: Held, other: Held, measure: Any) -> None:
    connection = await mine.postgres()
    await connection.execute(LARGE.replace("$1::int", "1000"))
    await connection.execute("CREATE INDEX ON large (x)")
    real = await connection.fetchval("SELECT pg_total_relation_size('large')")
    await connection.close()
    async with mine.redis() as redis:
        for number in range(300):
            await redis.set(f"{mine.prefix}{number}", "x" * 500)
        await redis.hset(f"{mine.prefix}hash", mapping={str(number): "y" * 500 for number in range(100)})
    await measure()
    sandbox = await core.manager.get("mine")
    stored = sandbox.stored(POSTGRES)
    assert stored is not None
    assert real <= stored.bytes < real + 400_000
    assert stored.items == 4
    keys = sandbox.stored(REDIS)
    assert keys is not None
    assert keys.items == 301
    assert 200_000 < keys.bytes < 400_000
    its = (await core.manager.get("other")).stored(REDIS)
    assert its is not None
    assert its.items == 3
    assert its.bytes < 1000
    assert await notices(core) == []


async def test_what_is_in_no_schema_of_its_own_counts_too(core: Core, mine: Held, measure: Any) -> None:
    await measure()
    before = (await core.manager.get("mine")).stored(POSTGRES)
    connection = await mine.postgres()
    await connection.execute(LARGE.replace("TABLE", "TEMPORARY TABLE").replace("$1::int", "1500"))
    await measure()
    after = (await core.manager.get("mine")).stored(POSTGRES)
    await connection.close()
    assert before is not None
    assert after is not None
    assert after.bytes - before.bytes > 1_500_000
    assert after.items == before.items + 1


async def test_a_sandbox_that_locks_its_table_holds_nobody_up(
    core: Core, mine: Held, other: Held, measure: Any
) -> None:
    connection = await mine.postgres()
    await connection.execute(LARGE.replace("$1::int", "2000"))
    await measure()
    known = (await core.manager.get("mine")).stored(POSTGRES)
    assert known is not None
    async with asyncio.timeout(10), connection.transaction():
        await connection.execute("LOCK TABLE large, communities, profiles, badges")
        await measure()
    await connection.close()
    locked = (await core.manager.get("mine")).stored(POSTGRES)
    assert locked is not None
    # What can't be measured now has not gone.
    assert locked.bytes == known.bytes
    assert locked.measured_at > known.measured_at
    assert (await core.manager.get("other")).stored(POSTGRES) is not None


async def test_a_lock_that_comes_in_between_is_waited_for_shortly(
    core: Core, mine: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sandbox_core.namespaces import postgres_amounts

    # As if the table had been locked after the list was made.
    monkeypatch.setattr(
        postgres_amounts, "_RELATIONS", postgres_amounts._RELATIONS.replace("AccessExclusive", "None")
    )
    connection = await mine.postgres()
    async with asyncio.timeout(10), connection.transaction():
        await connection.execute("LOCK TABLE communities")
        amounts = await core.namespaces[0].measure([mine.sandbox], Pace())
    await connection.close()
    assert amounts[mine.sandbox.id].at_least


async def test_postgresql_near_full_and_with_room_again(core: Core, mine: Held, measure: Any) -> None:
    connection = await mine.postgres()
    await connection.execute(LARGE.replace("$1::int", "2800"))
    await measure()
    (near,) = await notices(core)
    assert near.stored is not None
    assert (near.stored.level, near.stored.store) == (Level.NEAR, POSTGRES)
    await measure()
    assert await notices(core) == []
    assert await core.manager.create(ALICE, name="second")

    await connection.execute("INSERT INTO large SELECT x FROM large LIMIT 1000")
    await measure()
    (full,) = await notices(core)
    assert full.stored is not None
    assert full.stored.level is Level.FULL
    # The setting is for new sessions, so those from before are ended.
    with pytest.raises(DRIVER_ERRORS):
        await connection.execute("INSERT INTO large VALUES ('more')")
    connection = await mine.postgres()
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await connection.execute("INSERT INTO large VALUES ('more')")
    assert await connection.fetchval("SELECT count(*) FROM large") == 3800
    with pytest.raises(StorageUsedUp) as refused:
        await core.manager.create(ALICE, name="third")
    assert (refused.value.code, refused.value.sandbox_name) == ("SANDBOX_014", "mine")
    with pytest.raises(StorageUsedUp):
        await core.manager.check_create(ALICE, name="third")
    assert await core.manager.create(BOB, name="of-bob")

    await measure()
    assert await notices(core) == []
    await connection.execute("SET default_transaction_read_only = off")
    await connection.execute("TRUNCATE large")
    await measure()
    (room,) = await notices(core)
    assert room.stored is not None
    assert (room.stored.level, room.stored.before) == (Level.ROOM, Level.FULL)
    connection = await mine.postgres()
    await connection.execute("INSERT INTO large VALUES ('more')")
    await connection.close()
    assert await core.manager.create(ALICE, name="third")


async def test_redis_near_full_and_with_room_again(core: Core, mine: Held, other: Held, measure: Any) -> None:
    async with mine.redis() as redis:
        await redis.set(f"{mine.prefix}a", "x" * 900_000)
        await measure()
        assert [each.stored.level for each in await notices(core) if each.stored] == [Level.NEAR]
        await redis.rpush(f"{mine.prefix}b", *(f"{number}" * 50 for number in range(3000)))
        await measure()
        assert [each.stored.level for each in await notices(core) if each.stored] == [Level.FULL]
    # Its connections are ended; clients connect again.
    async with mine.redis() as redis:
        for command in (
            ("SET", f"{mine.prefix}c", "1"),
            ("APPEND", f"{mine.prefix}a", "1"),
            ("RPUSH", f"{mine.prefix}b", "1"),
            ("HSET", f"{mine.prefix}h", "a", "1"),
            ("XADD", f"{mine.prefix}x", "*", "a", "1"),
            ("SORT", f"{mine.prefix}b", "STORE", f"{mine.prefix}d"),
            ("COPY", f"{mine.prefix}a", f"{mine.prefix}d"),
            ("SETRANGE", f"{mine.prefix}a", "2000000", "x"),
            ("BITOP", "NOT", f"{mine.prefix}d", f"{mine.prefix}a"),
            ("PFADD", f"{mine.prefix}p", "x"),
            ("GEOADD", f"{mine.prefix}g", "1", "1", "x"),
            ("RENAME", f"{mine.prefix}a", f"{mine.prefix}z"),
        ):
            with pytest.raises(NoPermissionError):
                await redis.execute_command(*command)
        assert len(await redis.get(f"{mine.prefix}a")) == 900_000
        assert await redis.lpop(f"{mine.prefix}b") == "0" * 50
        with pytest.raises(StorageUsedUp):
            await core.manager.create(ALICE, name="second")
        async with other.redis() as neighbour:
            assert await neighbour.set(f"{other.prefix}c", "1")
        assert await redis.delete(f"{mine.prefix}a", f"{mine.prefix}b") == 2
        await measure()
    (room,) = await notices(core)
    assert room.stored is not None
    assert (room.stored.level, room.stored.before) == (Level.ROOM, Level.FULL)
    async with mine.redis() as redis:
        assert await redis.set(f"{mine.prefix}c", "1")


async def test_many_small_keys_count_as_keys(core: Core, mine: Held, measure: Any) -> None:
    async with mine.redis() as redis:
        for start in range(0, 1000, 100):
            await redis.mset({f"{mine.prefix}{number}": "" for number in range(start, start + 100)})
    await measure()
    with pytest.raises(StorageUsedUp) as refused:
        await core.manager.create(ALICE, name="second")
    assert (refused.value.of_keys, refused.value.used, refused.value.limit) == (True, 1000, 1000)


async def test_a_full_one_stays_held_after_a_restart_and_a_rotation(
    core: Core, mine: Held, measure: Any, closed: EmbeddedServers
) -> None:
    async with mine.redis() as redis:
        await redis.set(f"{mine.prefix}a", "x" * 1_100_000)
    await measure()
    await core.manager.rotate(ALICE, "mine")
    rotated = held(core, await core.manager.get("mine"))
    async with rotated.redis() as redis:
        with pytest.raises(NoPermissionError):
            await redis.set(f"{mine.prefix}b", "1")
    await closed.tenant_valkey.kill()
    await closed.tenant_valkey.start()
    await core.cleanup.keep_credentials()
    async with rotated.redis() as redis:
        with pytest.raises(NoPermissionError):
            await redis.set(f"{mine.prefix}b", "1")
    await core.manager.destroy(ALICE, "mine")
    assert await core.pool.fetchval("SELECT count(*) FROM sandbox_storage") >= 0


async def test_all_together(closed: EmbeddedServers) -> None:
    settings = settings_of(closed, sandbox_redis_all_mb=1)
    async with opened(settings) as core:
        mine = await hold(core, "mine")
        try:
            async with mine.redis() as redis:
                await redis.set(f"{mine.prefix}a", "x" * 1_100_000)
            await measuring(core, lambda: datetime.now(UTC) + timedelta(days=1)).turn(REDIS)
            with pytest.raises(StorageUsedUp) as refused:
                await core.manager.create(BOB, name="second")
            assert (refused.value.sandbox_name, refused.value.limit) == ("", MIB)
        finally:
            await core.manager.destroy(ALICE, "mine")


async def test_one_process_measures_for_all(core: Core, mine: Held) -> None:
    now = Now()
    now.offset = timedelta(hours=1)
    first, second = measuring(core, now), measuring(core, now)
    assert 29 < await first.turn(REDIS) <= 30
    at = (await core.manager.get("mine")).stored(REDIS)
    assert 20 < await second.turn(REDIS) <= 30
    assert (await core.manager.get("mine")).stored(REDIS) == at
    # A process that has died in its turn holds nobody up for longer.
    now.offset += timedelta(seconds=31)
    assert 29 < await second.turn(REDIS) <= 30
    after = (await core.manager.get("mine")).stored(REDIS)
    assert at is not None
    assert after is not None
    assert after.measured_at > at.measured_at


async def test_a_store_that_is_away_is_measured_later(
    core: Core, mine: Held, closed: EmbeddedServers, capsys: pytest.CaptureFixture[str]
) -> None:
    now = Now()
    now.offset = timedelta(hours=2)
    made = measuring(core, now)
    await closed.tenant_valkey.kill()
    try:
        assert await made.turn(REDIS) > 0
        assert (await core.manager.get("mine")).stored(REDIS) is None
    finally:
        await closed.tenant_valkey.start()
    now.offset += timedelta(minutes=1)
    await made.turn(REDIS)
    assert (await core.manager.get("mine")).stored(REDIS) is not None


@asynccontextmanager
async def _filled(mine: Held, keys: int) -> AsyncIterator[None]:
    async with mine.redis() as redis:
        for start in range(0, keys, 1000):
            await redis.mset({f"{mine.prefix}{number}": "x" for number in range(start, start + 1000)})
    yield


async def test_many_keys_are_measured_in_small_steps(core: Core, mine: Held) -> None:
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)
        await asyncio.sleep(0)

    clock = iter(range(10_000_000))
    async with _filled(mine, 20_000):
        pace = Pace(rests=9, at_most=1.0, monotonic=lambda: next(clock) / 1000, sleep=sleep)
        amounts = await core.namespaces[1].measure([mine.sandbox], pace)
    assert amounts[mine.sandbox.id].items == pytest.approx(20_000, rel=0.05)
    assert len(rests) > 50
    # Each piece of the work is followed by nine times its length of rest.
    assert all(rest == pytest.approx(0.009) for rest in rests)


async def test_limits_are_by_store(core: Core) -> None:
    assert core.measuring.limits == {
        POSTGRES: StorageLimit(4 * MIB),
        REDIS: StorageLimit(MIB, 1000),
    }
