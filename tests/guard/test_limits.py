"""The share of all sandboxes and of each, in every process, and what stops it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sandbox_core.models import RestLevel
from sandbox_gateway.share import ShareLimits
from tests.guard.recorder import Answer, Recorder
from tests.guard.rig import C1, FOREIGN, FOREIGN_TOKEN, G1, G2, PLENTY, W_FOREIGN, Rig, rig, tenant

_ID, _TOKEN = "150000000000000001", "aW50ZXJhY3Rpb246MTUw"
_MANY = ShareLimits(all_sandboxes=1000, each=1000, invalid_each=1000, invalid_all=1000)


def _limits(**changes: Any) -> ShareLimits:
    kept = {
        name: getattr(PLENTY, name)
        for name in ("all_sandboxes", "each", "longest_wait", "invalid_each", "invalid_all")
    }
    return ShareLimits(**(kept | changes))


@asynccontextmanager
async def two(discord: Recorder, redis_url: str, limits: ShareLimits) -> AsyncIterator[tuple[Rig, Rig]]:
    """Two processes' guards, for the same two sandboxes."""
    async with (
        rig(discord.base, redis_url, limits=limits) as one,
        rig(discord.base, redis_url, limits=limits) as other,
    ):
        one.tenants.known["other"] = tenant("other", G2)
        other.tenants.known |= one.tenants.known
        for each in (one, other):
            each.places.learn(G1, [C1])
        yield one, other


async def _statuses(*calls: Any) -> list[int]:
    return sorted(reply.status for reply in await asyncio.gather(*calls))


async def test_a_sandboxs_share_holds_over_all_processes(discord: Recorder, redis_url: str) -> None:
    async with two(discord, redis_url, _limits(each=4, longest_wait=0.0)) as (one, other):
        statuses = await _statuses(
            *(each.ask("GET", f"/guilds/{G1}") for each in (one, other) for _ in range(6))
        )
        assert statuses.count(200) <= 4 + 1
        assert statuses.count(200) >= 2
        assert set(statuses) == {200, 429}


async def test_all_sandboxes_together(discord: Recorder, redis_url: str) -> None:
    async with two(discord, redis_url, _limits(all_sandboxes=5, longest_wait=0.5)) as (one, other):
        started = time.monotonic()
        statuses = await _statuses(
            *(one.ask("GET", f"/guilds/{G1}") for _ in range(4)),
            *(other.ask("GET", f"/guilds/{G2}", token="other") for _ in range(4)),
        )
        seconds = time.monotonic() - started
        assert statuses.count(200) <= 5 * (1 + int(seconds))
        assert 429 in statuses or seconds >= 0.9


async def test_a_call_too_many_waits_in_line(discord: Recorder, redis_url: str) -> None:
    async with rig(discord.base, redis_url, limits=_limits(each=3)) as guard:
        started = time.monotonic()
        assert await _statuses(*(guard.ask("GET", f"/guilds/{G1}") for _ in range(6))) == [200] * 6
        assert time.monotonic() - started > 0.5


async def test_a_line_that_is_full_says_for_how_long(discord: Recorder, redis_url: str) -> None:
    async with rig(discord.base, redis_url, limits=_limits(each=2, longest_wait=1.0)) as guard:
        replies = await asyncio.gather(*(guard.ask("GET", f"/guilds/{G1}") for _ in range(12)))
        refused = [each for each in replies if each.status == 429]
        assert refused
        told = refused[-1]
        assert told.headers["Content-Type"] == "application/json"
        assert told.headers["Via"]
        assert told.headers["X-RateLimit-Global"] == "true"
        assert set(told.json) == {"message", "retry_after", "global", "code"}
        assert int(told.headers["Retry-After"]) >= told.json["retry_after"] > 0
        await asyncio.sleep(told.json["retry_after"])
        assert (await guard.ask("GET", f"/guilds/{G1}")).status == 200


async def test_a_sandbox_that_asks_too_often_takes_nothing_from_others(
    discord: Recorder, redis_url: str
) -> None:
    async with two(discord, redis_url, _limits(all_sandboxes=6, each=3)) as (one, other):
        flood = [asyncio.create_task(one.ask("GET", f"/guilds/{G1}")) for _ in range(60)]
        for _ in range(3):
            assert (await other.ask("GET", f"/guilds/{G2}", token="other")).status == 200
        replies = await asyncio.gather(*flood)
        assert 429 in {each.status for each in replies}


async def test_answers_to_interactions_wait_for_no_other_sandbox(discord: Recorder, redis_url: str) -> None:
    async with two(discord, redis_url, _limits(all_sandboxes=1, longest_wait=0.0)) as (one, other):
        await one.seen.note(one.mine, "interaction", _ID, _TOKEN)
        while (await other.ask("GET", f"/guilds/{G2}", token="other")).status == 200:
            pass
        reply = await one.ask("POST", f"/interactions/{_ID}/{_TOKEN}/callback", token=None, json={"type": 5})
        assert reply.status == 200


_STOPS = [
    Answer(
        429,
        {"message": "You are being rate limited.", "retry_after": 0.6, "global": True},
        {"Content-Type": "application/json", "X-RateLimit-Global": "true", "Via": "1.1 google"},
    ),
    Answer(429, b"<html>Error 1015</html>", {"Content-Type": "text/html", "Retry-After": "1"}),
    Answer(403, b"<html>Error 1020</html>", {"Content-Type": "text/html", "Retry-After": "1"}),
]


@pytest.mark.parametrize("answer", _STOPS)
async def test_what_stops_all_sandboxes(discord: Recorder, redis_url: str, answer: Answer) -> None:
    async with two(discord, redis_url, PLENTY) as (one, other):
        discord.answers["GET", f"/guilds/{G1}"] = answer
        stopped = await one.ask("GET", f"/guilds/{G1}")
        assert stopped.status == 429
        assert stopped.headers["Content-Type"] == "application/json"
        assert stopped.json["retry_after"] >= 0.6
        discord.clear()
        told = await other.ask("GET", f"/guilds/{G2}", token="other")
        assert told.status == 429
        assert 0 < told.json["retry_after"] <= 1
        assert discord.requests == []
        await asyncio.sleep(told.json["retry_after"])
        assert (await other.ask("GET", f"/guilds/{G2}", token="other")).status == 200


async def test_a_routes_own_limit_is_the_clients(guard: Rig, discord: Recorder) -> None:
    body = {"message": "You are being rate limited.", "retry_after": 0.5, "global": False}
    headers = {
        "Content-Type": "application/json",
        "Retry-After": "1",
        "X-RateLimit-Scope": "user",
        "Via": "1.1 google",
    }
    discord.answers["GET", f"/guilds/{G1}"] = Answer(429, body, headers)
    reply = await guard.ask("GET", f"/guilds/{G1}")
    assert (reply.status, reply.json) == (429, body)
    for name, value in headers.items():
        assert reply.headers[name] == value
    assert (await guard.ask("GET", f"/guilds/{G2}")).status == 200


@pytest.mark.parametrize("status", [401, 403, 429])
async def test_invalid_requests_end_before_discords_limit(
    discord: Recorder, redis_url: str, status: int
) -> None:
    async with two(discord, redis_url, _limits(invalid_each=5)) as (one, other):
        body = {"message": "Missing Permissions", "code": 50013, "retry_after": 0.1}
        discord.answers["GET", f"/guilds/{G1}"] = Answer(status, body)
        for number in range(8):
            await (one, other)[number % 2].ask("GET", f"/guilds/{G1}")
        assert len(discord.calls(f"/guilds/{G1}")) == 5
        told = await one.ask("GET", f"/guilds/{G2}")
        assert told.status == 429
        assert 500 < told.json["retry_after"] <= 600
        # The others go on.
        assert (await one.ask("GET", f"/guilds/{G2}", token="other")).status == 200


async def test_invalid_requests_of_all_together(discord: Recorder, redis_url: str) -> None:
    async with two(discord, redis_url, _limits(invalid_all=4)) as (one, other):
        discord.answers["GET", f"/guilds/{G1}"] = Answer(403, {"message": "no", "code": 50001})
        discord.answers["GET", f"/guilds/{G2}"] = Answer(403, {"message": "no", "code": 50001})
        for _ in range(4):
            await one.ask("GET", f"/guilds/{G1}")
            await other.ask("GET", f"/guilds/{G2}", token="other")
        assert len(discord.requests) == 4


async def test_what_the_guard_refuses_is_no_invalid_request(discord: Recorder, redis_url: str) -> None:
    async with rig(discord.base, redis_url, limits=_limits(invalid_each=3)) as guard:
        for _ in range(10):
            assert (await guard.ask("GET", f"/guilds/{FOREIGN}")).status == 403
        assert (await guard.ask("GET", f"/guilds/{G1}")).status == 200


async def test_strangers_have_a_share_of_their_own(discord: Recorder, redis_url: str) -> None:
    async with rig(discord.base, redis_url, limits=_limits(each=2, longest_wait=0.0)) as guard:
        for number in range(10):
            path = f"/webhooks/{W_FOREIGN}/{FOREIGN_TOKEN}{number}"
            assert (await guard.ask("POST", path, token=None, json={})).status in {404, 429}
        assert (await guard.ask("GET", f"/guilds/{G1}")).status == 200
        assert len(discord.requests) <= 6


@pytest.mark.parametrize(
    "changes", [{"guild_ids": frozenset({G2})}, {"level": RestLevel.READ_ONLY}, {"credentials": 2}]
)
async def test_what_changes_while_a_call_waits(
    discord: Recorder, redis_url: str, changes: dict[str, Any]
) -> None:
    async with rig(discord.base, redis_url, limits=_limits(each=1)) as guard:
        path = f"/guilds/{G1}/bans/160000000000000001"
        assert (await guard.ask("GET", f"/guilds/{G1}")).status == 200
        waiting = asyncio.create_task(guard.ask("PUT", path, json={}))
        keys = await guard.redis.keys("sandbox:gateway:rest:share:*")
        assert keys
        await asyncio.sleep(0.2)
        assert not waiting.done()
        guard.tenants.change("mine", **changes)
        assert (await waiting).status in {401, 403}
        assert discord.calls(path) == []
