"""Resume points on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
import pytest
from redis.asyncio import Redis

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.redis.client import create_client
from sandbox_core.sharding.resume_point_keys import GatewaySessions, ResumePoint
from sandbox_core.subjects import gateway_session_key

APPLICATION = 300000000000000001
ONE = ResumePoint("session-one", "wss://gateway.invalid/?a=b", 41)
TWO = ResumePoint("session-two", "wss://gateway.invalid", 0)


@pytest.fixture
def sessions(redis: Redis) -> GatewaySessions:
    return GatewaySessions(redis)


@pytest.fixture
async def nowhere() -> AsyncIterator[GatewaySessions]:
    """Of a server that is not there."""
    client = create_client("redis://127.0.0.1:1/0")
    yield GatewaySessions(client)
    await client.aclose()


async def test_saved_points_are_loaded_by_another_process(redis_url: str, sessions: GatewaySessions) -> None:
    await sessions.save(APPLICATION, 2, {0: ONE, 1: TWO})
    another = create_client(redis_url)
    try:
        loaded = GatewaySessions(another)
        assert await loaded.load(APPLICATION, 0, 2) == ONE
        assert await loaded.load(APPLICATION, 1, 2) == TWO
    finally:
        await another.aclose()


async def test_a_point_is_one_applications_and_one_shards(sessions: GatewaySessions) -> None:
    await sessions.save(APPLICATION, 2, {0: ONE})
    # Sharded differently, the session has other guilds.
    for application, shard, count in [(APPLICATION, 1, 2), (APPLICATION, 0, 1), (APPLICATION + 1, 0, 2)]:
        assert await sessions.load(application, shard, count) is None


@pytest.mark.parametrize("foreign", [b"", b"null", b"[]", b'{"session_id": 1}', b"\xff\xfe\x00"])
async def test_what_is_no_resume_point_is_none(
    redis: Redis, sessions: GatewaySessions, foreign: bytes
) -> None:
    await redis.set(gateway_session_key(APPLICATION, 0, 1), foreign)
    assert await sessions.load(APPLICATION, 0, 1) is None


async def test_a_point_without_an_epoch_counts_as_the_first(redis: Redis, sessions: GatewaySessions) -> None:
    """As an earlier version writes it; and that one reads what this one writes."""
    key = gateway_session_key(APPLICATION, 0, 1)
    await redis.set(
        key, '{"session_id":"old","resume_url":"wss://x","sequence":7,"since":1.5,"saved_at":2.5}'
    )
    loaded = await sessions.load(APPLICATION, 0, 1)
    assert loaded == ResumePoint("old", "wss://x", 7, 1.5, 2.5, epoch=0)
    await sessions.save(APPLICATION, 1, {0: ONE})
    assert await sessions.load(APPLICATION, 0, 1) == ONE

    @dataclass
    class Earlier:
        session_id: str
        resume_url: str
        sequence: int
        since: float = 0.0
        saved_at: float = 0.0

    kept = msgspec.json.decode(await redis.get(key), type=Earlier)
    assert kept == Earlier(ONE.session_id, ONE.resume_url, ONE.sequence)


@pytest.mark.parametrize(
    "foreign", ["", "{", "null", "[1]", '{"sequence":"x"}', '{"sequence":99,"epoch":"x"}']
)
async def test_what_is_no_point_is_replaced(redis: Redis, sessions: GatewaySessions, foreign: str) -> None:
    await redis.set(gateway_session_key(APPLICATION, 0, 1), foreign)
    await redis.lpush(gateway_session_key(APPLICATION, 1, 2), "x")
    await sessions.save(APPLICATION, 1, {0: ONE})
    await sessions.save(APPLICATION, 2, {1: TWO})
    assert await sessions.load(APPLICATION, 0, 1) == ONE
    assert await sessions.load(APPLICATION, 1, 2) == TWO


async def test_a_later_point_replaces_the_earlier(sessions: GatewaySessions) -> None:
    await sessions.save(APPLICATION, 1, {0: ONE})
    await sessions.save(APPLICATION, 1, {0: TWO})
    assert await sessions.load(APPLICATION, 0, 1) == TWO


async def test_a_forgotten_session_is_not_resumed(sessions: GatewaySessions) -> None:
    await sessions.save(APPLICATION, 2, {0: ONE, 1: TWO})
    await sessions.forget(APPLICATION, 0, 2, "an-older-session")
    assert await sessions.load(APPLICATION, 0, 2) == ONE
    await sessions.forget(APPLICATION, 0, 2, ONE.session_id)
    await sessions.forget(APPLICATION, 0, 2, ONE.session_id)
    assert await sessions.load(APPLICATION, 0, 2) is None
    assert await sessions.load(APPLICATION, 1, 2) == TWO


async def test_a_point_expires_by_itself(sessions: GatewaySessions, redis: Redis) -> None:
    await sessions.save(APPLICATION, 1, {0: ONE})
    # Discord refuses to resume much sooner; a day-old key would only be in the way.
    assert 60 <= await redis.ttl(gateway_session_key(APPLICATION, 0, 1)) <= 3600


async def test_nothing_to_save_is_no_error(sessions: GatewaySessions, redis: Redis) -> None:
    await sessions.save(APPLICATION, 1, {})
    assert await redis.keys() == []


@pytest.mark.parametrize("content", ["", "{}", "null", "[1]", '{"session_id":1}', '{"session_id":'])
async def test_content_that_is_no_point(sessions: GatewaySessions, redis: Redis, content: str) -> None:
    await redis.set(gateway_session_key(APPLICATION, 0, 1), content)
    assert await sessions.load(APPLICATION, 0, 1) is None


async def test_a_server_that_is_away(nowhere: GatewaySessions) -> None:
    with pytest.raises(DependencyUnavailable, match="Redis"):
        await nowhere.load(APPLICATION, 0, 1)
    with pytest.raises(DependencyUnavailable, match="Redis"):
        await nowhere.save(APPLICATION, 1, {0: ONE})
    with pytest.raises(DependencyUnavailable, match="Redis"):
        await nowhere.forget(APPLICATION, 0, 1, ONE.session_id)
