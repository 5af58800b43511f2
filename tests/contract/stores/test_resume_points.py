"""Resume points in PostgreSQL, and both stores as one while either is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.postgres import Pool, create_pool
from sandbox_core.redis.client import create_client
from sandbox_core.sharding.resume_point_keys import GatewaySessions, ResumePoint
from sandbox_core.sharding.resume_point_rows import ResumePointRows
from sandbox_core.sharding.resume_points import ResumePoints, ResumePointStore

APPLICATION = 300000000000000001
ONE = ResumePoint("one", "wss://gateway.invalid/?a=b", 41, 1_700_000_000.5, 1_700_000_001.25)
TWO = ResumePoint("two", "wss://gateway.invalid", 2**40, 1_700_000_002.0, 1_700_000_003.0)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await create_pool(database_url) as opened:
        yield opened


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = create_client(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def nowhere() -> AsyncIterator[GatewaySessions]:
    """Of a server that is not there."""
    client = create_client("redis://127.0.0.1:1/0")
    yield GatewaySessions(client)
    await client.aclose()


async def test_rows_are_one_applications_shards_and_the_latest_counts(pool: Pool) -> None:
    rows = ResumePointRows(pool)
    await rows.save(APPLICATION, 2, {0: ONE, 1: TWO})
    await rows.save(APPLICATION, 2, {0: replace(ONE, sequence=42)})
    assert await rows.load(APPLICATION, 0, 2) == replace(ONE, sequence=42)
    assert await rows.load(APPLICATION, 1, 2) == TWO
    for application, shard, count in [(APPLICATION, 0, 1), (APPLICATION + 1, 0, 2)]:
        assert await rows.load(application, shard, count) is None
    for _ in range(2):
        await rows.forget(APPLICATION, 0, 2, "an-older-session")
        assert await rows.load(APPLICATION, 0, 2) == replace(ONE, sequence=42)
    for _ in range(2):
        await rows.forget(APPLICATION, 0, 2, ONE.session_id)
    assert await rows.load(APPLICATION, 0, 2) is None
    assert await rows.load(APPLICATION, 1, 2) == TWO


@pytest.fixture(params=["Redis", "PostgreSQL"])
def store(request: pytest.FixtureRequest, pool: Pool, redis: Redis) -> ResumePointStore:
    return GatewaySessions(redis) if request.param == "Redis" else ResumePointRows(pool)


async def test_a_point_never_goes_back(store: ResumePointStore) -> None:
    """Saved in this order: what is kept, what is tried, and whether it replaces the first."""
    same, other = ONE.session_id, TWO.session_id
    attempts = [
        ((same, 41, 0), (same, 40, 0), False),
        ((same, 41, 0), (same, 41, 0), True),
        ((same, 2**40, 3), (same, 2**40 + 1, 3), True),
        ((same, 41, 3), (same, 40, 4), False),
        ((same, 41, 3), (same, 42, 4), True),
        # What the earlier holder knows of the session does not tell what the later one has published.
        ((same, 41, 4), (same, 42, 3), False),
        ((same, 41, 4), (other, 1, 3), False),
        ((same, 41, 4), (other, 1, 0), False),
        ((same, 41, 4), (other, 1, 4), True),
        ((same, 41, 4), (other, 1, 5), True),
        ((same, 41, 0), (other, 1, 0), True),
    ]
    for shard_id, (kept, tried, replaces) in enumerate(attempts):
        points = [
            replace(ONE, session_id=session_id, sequence=sequence, epoch=epoch, saved_at=float(number))
            for number, (session_id, sequence, epoch) in enumerate((kept, tried))
        ]
        for point in points:
            # Among others, as those of a process are saved together.
            await store.save(APPLICATION, 20, {18: TWO, shard_id: point, 19: TWO})
        assert await store.load(APPLICATION, shard_id, 20) == points[replaces], (kept, tried)
    assert await store.load(APPLICATION, 19, 20) == TWO


async def test_of_two_stores_the_later_point_counts(pool: Pool, redis: Redis) -> None:
    sessions, rows = GatewaySessions(redis), ResumePointRows(pool)
    both = ResumePoints(sessions, rows)
    cases = [
        # Of one session the higher sequence, of two the later epoch, without epochs the one saved last.
        (replace(ONE, sequence=9, saved_at=2.0), replace(ONE, sequence=8, saved_at=3.0)),
        (replace(ONE, epoch=3, saved_at=2.0), replace(TWO, epoch=2, saved_at=3.0)),
        (replace(ONE, epoch=0, saved_at=3.0), replace(TWO, epoch=2, saved_at=2.0)),
    ]
    for shard_id, (later, earlier) in enumerate(cases):
        for number, (one, other) in enumerate([(later, earlier), (earlier, later)]):
            await sessions.save(APPLICATION + number, 3, {shard_id: one})
            await rows.save(APPLICATION + number, 3, {shard_id: other})
            assert await both.load(APPLICATION + number, shard_id, 3) == later


async def test_while_redis_is_away_postgres_keeps_them(
    pool: Pool, redis: Redis, nowhere: GatewaySessions
) -> None:
    later = replace(ONE, sequence=50, saved_at=ONE.saved_at + 1)
    whole = ResumePoints(GatewaySessions(redis), ResumePointRows(pool))
    await whole.save(APPLICATION, 1, {0: ONE})
    await ResumePoints(nowhere, ResumePointRows(pool)).save(APPLICATION, 1, {0: later})
    # Redis is back with what it had: the later one counts, wherever it lies.
    assert await whole.load(APPLICATION, 0, 1) == later
    assert await ResumePoints(nowhere, ResumePointRows(pool)).load(APPLICATION, 0, 1) == later
    latest = replace(later, sequence=60, saved_at=later.saved_at + 1)
    await whole.save(APPLICATION, 1, {0: latest})
    assert await whole.load(APPLICATION, 0, 1) == latest
    await whole.forget(APPLICATION, 0, 1, "an-older-session")
    assert await whole.load(APPLICATION, 0, 1) == latest
    await whole.forget(APPLICATION, 0, 1, latest.session_id)
    assert await whole.load(APPLICATION, 0, 1) is None


async def test_who_takes_over_while_redis_is_away_has_a_copy(
    pool: Pool, redis: Redis, nowhere: GatewaySessions
) -> None:
    now = 100.0
    points = ResumePoints(GatewaySessions(redis), ResumePointRows(pool), monotonic=lambda: now)
    without_redis = ResumePoints(nowhere, ResumePointRows(pool))
    # Nothing is copied yet: there may be a point in Redis, and nobody can say there is none.
    with pytest.raises(DependencyUnavailable, match="Redis"):
        await without_redis.load(APPLICATION, 0, 1)
    await points.save(APPLICATION, 1, {0: ONE})
    assert await without_redis.load(APPLICATION, 0, 1) == ONE
    now = 109.0
    await points.save(APPLICATION, 1, {0: replace(ONE, sequence=43)})
    assert await without_redis.load(APPLICATION, 0, 1) == ONE
    now = 110.0
    await points.save(APPLICATION, 1, {0: replace(ONE, sequence=44)})
    assert await without_redis.load(APPLICATION, 0, 1) == replace(ONE, sequence=44)


async def test_redis_is_left_alone_for_a_while_after_a_failure(pool: Pool, redis: Redis) -> None:
    now = 0.0
    failing = True
    sessions = GatewaySessions(redis)

    class Sometimes(GatewaySessions):
        tries = 0

        async def save(self, *arguments: object) -> None:
            self.tries += 1
            if failing:
                raise DependencyUnavailable("Redis", "no answer in time")
            await sessions.save(*arguments)  # type: ignore[arg-type]

    sometimes = Sometimes(redis)
    points = ResumePoints(sometimes, ResumePointRows(pool), monotonic=lambda: now)
    await points.save(APPLICATION, 1, {0: ONE})
    await points.save(APPLICATION, 1, {0: ONE})
    assert sometimes.tries == 1
    now, failing = 2.0, False
    await points.save(APPLICATION, 1, {0: TWO})
    assert await sessions.load(APPLICATION, 0, 1) == TWO


async def test_both_away_is_said(nowhere: GatewaySessions) -> None:
    async with await create_pool("postgresql://nobody@127.0.0.1:1/nothing", min_size=0) as pool:
        points = ResumePoints(nowhere, ResumePointRows(pool))
        with pytest.raises(DependencyUnavailable):
            await points.load(APPLICATION, 0, 1)
        with pytest.raises(DependencyUnavailable):
            await points.save(APPLICATION, 1, {0: ONE})
        with pytest.raises(DependencyUnavailable):
            await points.forget(APPLICATION, 0, 1, ONE.session_id)
