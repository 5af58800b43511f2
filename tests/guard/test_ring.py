"""What is kept of a sandbox's calls: no body, no token, and no more than a few hundred."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sandbox_gateway.calls import KEPT, CallRecord, Ring, SessionRecord
from tests.guard.recorder import Recorder
from tests.guard.rig import C1, C_FOREIGN, G1, REAL_TOKEN, Rig, rig, tenant


async def _until(found: Callable[[], Any]) -> Any:
    async with asyncio.timeout(10):
        while not (value := await found()):
            await asyncio.sleep(0.01)
    return value


def _ring(guard: Rig) -> Ring:
    return Ring.of_calls(guard.redis, guard.mine.sandbox_id)


async def test_each_call_is_kept_with_what_became_of_it(guard: Rig) -> None:
    await guard.ask("POST", f"/channels/{C1}/messages", json={"content": "s3cr3t words"})
    await guard.ask("POST", f"/channels/{C_FOREIGN}/messages", json={"content": "s3cr3t words"})
    await guard.ask("GET", "/no/such/route")
    await guard.ask("POST", "/interactions/150000000000000001/s3cr3t-token/callback", json={})

    async def four() -> list[CallRecord]:
        found = await _ring(guard).last(10)
        return found if len(found) == 4 else []

    records = await _until(four)
    assert [(each.method, each.route, each.status, each.refused) for each in records] == [
        ("POST", "/channels/{channel_id}/messages", 200, ""),
        ("POST", "/channels/{channel_id}/messages", 403, "foreign_place"),
        ("?", "", 404, "unknown_route"),
        ("POST", "/interactions/{interaction_id}/{interaction_token}/callback", 404, "token_not_seen"),
    ]
    assert all(each.ms >= 0 for each in records)
    (key,) = await guard.redis.keys("sandbox:gateway:calls:*")
    stored = str(await guard.redis.xrange(key))
    for secret in ("s3cr3t", "mine", REAL_TOKEN, C1):
        assert secret not in stored
    assert 0 < await guard.redis.pttl(key) <= 6 * 3600 * 1000


async def test_the_ring_of_all_processes_is_one_and_bounded(discord: Recorder, redis_url: str) -> None:
    async with rig(discord.base, redis_url) as one, rig(discord.base, redis_url) as other:
        mine = one.mine
        for number in range(KEPT * 2):
            record = CallRecord(float(number), "GET", "/users/@me", 200, "", 1.0)
            (one, other)[number % 2].calls.record_call(mine.sandbox_id, record)
            if number % 100 == 0:
                await asyncio.sleep(0.02)
        one.calls.record_session(mine, "identified", {"shard": 0})

        async def last() -> bool:
            found = await Ring.of_calls(one.redis, mine.sandbox_id).last(KEPT)
            return {each.at for each in found} >= {KEPT * 2 - 1.0, KEPT * 2 - 2.0}

        await _until(last)
        assert len(await Ring.of_calls(one.redis, mine.sandbox_id).last(10_000)) < KEPT * 1.5
        (session,) = await Ring.of_sessions(one.redis, mine.sandbox_id).last(5)
        assert (session.what, session.details) == ("identified", {"shard": 0})
        assert isinstance(session, SessionRecord)


async def test_following_shows_each_call_once(guard: Rig) -> None:
    ring = _ring(guard)
    assert await ring.last(10) == []
    seen: list[CallRecord] = []
    for _ in range(3):
        await guard.ask("GET", f"/guilds/{G1}")
        before = len(seen)
        async with asyncio.timeout(10):
            while len(seen) == before:
                seen += await ring.further()
    assert len(seen) == 3
    assert await ring.further() == []


async def test_a_sandboxs_calls_are_its_own(guard: Rig) -> None:
    guard.tenants.known["other"] = tenant("other")
    await guard.ask("GET", f"/guilds/{G1}", token="other")
    await _until(Ring.of_calls(guard.redis, guard.tenants.known["other"].sandbox_id).further)
    assert await _ring(guard).last(10) == []


async def test_what_cant_be_written_is_counted(guard: Rig) -> None:
    for _ in range(5000):
        guard.calls.record_call(guard.mine.sandbox_id, CallRecord(0.0, "GET", "/", 200, "", 0.0))
    assert guard.calls.lost > 0
