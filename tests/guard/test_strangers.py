"""Calls that anybody may send: they don't use up what Discord allows the address, nor what others have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import pytest

from sandbox_gateway.commands.rest import ApplicationId
from sandbox_gateway.guard.strangers import Strangers
from sandbox_gateway.guarding import PatientRest
from sandbox_gateway.share import STRANGERS, ShareLimits, ShareUsed
from sandbox_gateway.tenants import AllBut, Production
from tests.gateway_endpoint.stage import until
from tests.guard.recorder import Answer, Recorder
from tests.guard.rig import APPLICATION, C1, C2, FOREIGN, G1, G2, W_FOREIGN, Rig, rig, tenant

OWN = "/production/api/v10"
JSON = {"Content-Type": "application/json"}
MINUTE = 60.0


@pytest.fixture
def production(guard: Rig) -> Rig:
    """The guard, while production has a token."""
    guard.tenants.production = Production(1, AllBut(frozenset({G1})))
    return guard


async def execute(production: Rig, token: str) -> int:
    """Use a webhook on production's own path, as its library does."""
    path = f"/webhooks/{W_FOREIGN}/{token}"
    reply = await production.ask("POST", path, token=None, prefix=OWN, data=b"{}", headers=JSON)
    return reply.status


async def test_wrong_webhooks_end_before_discords_limit(production: Rig, discord: Recorder) -> None:
    invalid = Answer(401, {"message": "Invalid Webhook Token", "code": 50027})
    tokens = [f"wrong-{number}" for number in range(520)]
    for token in tokens:
        discord.answers["POST", f"/webhooks/{W_FOREIGN}/{token}"] = invalid
    assert await execute(production, "right") == 200
    statuses = [await execute(production, token) for token in tokens]
    assert statuses == [401] * 500 + [503] * 20
    assert sum(each.method == "POST" for each in discord.requests) == 501
    # What Discord has accepted goes on, and production's own token is not concerned.
    assert await execute(production, "right") == 200
    assert await execute(production, "new") == 503
    reply = await production.ask("GET", f"/guilds/{FOREIGN}", token="production", prefix=OWN)
    assert reply.status == 200
    # Somebody's own token of OAuth is no way around.
    headers = {"Authorization": "Bearer wrong"}
    reply = await production.ask("GET", "/users/@me", token=None, prefix=OWN, headers=headers)
    assert reply.status == 503
    # An answer to an interaction that production has seen passes always.
    holder = production.tenants.production
    assert holder is not None
    await production.seen.note(holder, "interaction", "130000000000000001", "its-token", guild_id=FOREIGN)
    body = json.dumps({"type": 5}).encode()
    for path in ("/interactions/130000000000000001/its-token/callback", f"/webhooks/{W_FOREIGN}/its-token"):
        reply = await production.ask("POST", path, token=None, prefix=OWN, data=body, headers=JSON)
        assert reply.status == 200
    reply = await production.ask(
        "POST", "/interactions/130000000000000002/not-seen/callback", token=None, prefix=OWN, data=body
    )
    assert reply.status == 503


def test_what_is_refused_counts_for_ten_minutes() -> None:
    now = [0.0]
    strangers = Strangers(monotonic=lambda: now[0])
    strangers.answered("known", 204)
    for _ in range(500):
        assert not strangers.too_many("other")
        strangers.answered("other", 429)
        strangers.answered("other", 404)
    assert strangers.too_many("other")
    assert not strangers.too_many("known")
    for _ in range(1500):
        assert not strangers.too_many("known")
        strangers.answered("known", 429)
    assert strangers.too_many("known")
    now[0] = 9 * MINUTE
    assert strangers.too_many("known")
    now[0] = 10 * MINUTE
    assert not strangers.too_many("other")


async def test_strangers_take_nothing_from_the_endpoints_own_work(discord: Recorder, redis_url: str) -> None:
    limits = ShareLimits(1000, 1000, invalid_each=2, invalid_all=1000)
    async with rig(discord.base, redis_url, limits=limits) as guard:
        for number in range(4):
            path = f"/webhooks/{W_FOREIGN}/wrong-{number}"
            reply = await guard.ask("POST", path, token=None, data=b"{}", headers=JSON)
            assert reply.status == (404 if number < 2 else 429)
        with pytest.raises(ShareUsed):
            await guard.upstream.request("GET", "/applications/@me", sandbox_id=STRANGERS)
        assert await ApplicationId(guard.upstream).get() == APPLICATION


UPLOAD = (
    f"POST /api/v10/channels/{C1}/messages HTTP/1.1\r\nHost: a\r\nAuthorization: Bot mine\r\n"
    "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 100000\r\n\r\n"
    '--B\r\nContent-Disposition: form-data; name="files[0]"; filename="a"\r\n\r\nslow'
).encode()


@pytest.fixture
async def uploads(guard: Rig, discord: Recorder) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Begins uploads that do not go on."""
    writers: list[asyncio.StreamWriter] = []

    async def begin(number: int) -> None:
        for _ in range(number):
            _, writer = await asyncio.open_connection("127.0.0.1", guard.port)
            writers.append(writer)
            writer.write(UPLOAD)
        begun = f"POST /api/v10/channels/{C1}/messages".encode()
        await until(lambda: bytes(discord.received).count(begun) == len(writers))

    yield begin
    for writer in writers:
        writer.transport.abort()


async def test_uploads_that_last_stop_no_other_sandbox(
    guard: Rig, discord: Recorder, uploads: Callable[[int], Awaitable[None]]
) -> None:
    guard.tenants.known["other"] = tenant("other", G2)
    guard.places.learn(G1, [C1])
    guard.places.learn(G2, [C2])
    await uploads(50)
    refused = await guard.ask("GET", f"/channels/{C1}/messages")
    assert (refused.status, refused.headers["Via"]) == (429, "1.1 sandbox-gateway")
    assert refused.json["retry_after"] == 1
    assert (await guard.ask("GET", f"/channels/{C2}/messages", token="other")).status == 200


@pytest.mark.parametrize("path", ["/voice/regions", "/users/@me/guilds", f"/channels/{C1}/messages"])
async def test_what_stops_all_is_said_as_a_limit_wherever_it_is_met(
    guard: Rig, discord: Recorder, path: str
) -> None:
    """A library takes Cloudflare's page for the end of its program, and 403 for the end of its channel."""
    page = Answer(403, b"<html>", {"Content-Type": "text/html", "Retry-After": "7"})
    for asked in ("/voice/regions", "/users/@me/guilds", f"/channels/{C1}"):
        discord.answers["GET", asked] = page
    reply = await guard.ask("GET", path)
    assert (reply.status, reply.headers["Content-Type"]) == (429, "application/json")
    assert (reply.json["retry_after"], reply.headers["Via"]) == (7, "1.1 sandbox-gateway")


async def test_a_refused_real_token_is_not_the_bots_own(guard: Rig, discord: Recorder) -> None:
    refused = Answer(401, {"message": "401: Unauthorized", "code": 0})
    discord.answers["GET", "/users/@me"] = discord.answers["GET", f"/guilds/{G1}"] = refused
    for path in ("/users/@me", f"/guilds/{G1}"):
        assert (await guard.ask("GET", path)).status == 503


async def test_an_answer_that_is_no_json_decides_nothing(guard: Rig, discord: Recorder) -> None:
    for path in ("/invites/inside1", "/guilds/templates/inside1"):
        discord.answers["GET", path] = Answer(200, b"<html>", {"Content-Type": "text/html"})
        assert (await guard.ask("GET", path)).status in {403, 503}


async def test_the_endpoints_own_questions_wait_for_a_route(guard: Rig, discord: Recorder) -> None:
    path, sandbox_id = f"/guilds/{G1}/members", UUID(int=5)
    limited = {"message": "slow", "retry_after": 0.05, "global": False}
    discord.answers["GET", path] = Answer(429, limited, {"Content-Type": "application/json"})
    asking = asyncio.create_task(PatientRest(guard.upstream).request("GET", path, sandbox_id=sandbox_id))
    await until(lambda: discord.calls(path))
    discord.answers["GET", path] = Answer(200, [])
    assert (await asking).status == 200


def test_the_limits_leave_room_in_any_ten_minutes() -> None:
    """A count may end, and the next one begin, within ten minutes of Discord's."""
    assert 2 * ShareLimits().invalid_all + 500 < 10_000
    assert ShareLimits().invalid_each < ShareLimits().invalid_all
