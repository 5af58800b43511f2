"""Production's calls pass as they come, with the real token in place of its own."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from sandbox_gateway.share import ShareLimits
from sandbox_gateway.tenants import AllBut, Production
from tests.guard.recorder import Answer, Recorder
from tests.guard.rig import C1, C_FOREIGN, FOREIGN, G1, REAL_TOKEN, W_FOREIGN, Rig, rig

OWN = "/production/api/v10"


@pytest.fixture
def production(guard: Rig) -> Rig:
    """The guard, while production has a token."""
    guard.tenants.production = Production(1, AllBut(frozenset({G1})))
    return guard


@pytest.mark.parametrize("prefix", ["/api/v10", "/api/v9", OWN])
async def test_calls_pass_unchanged(production: Rig, discord: Recorder, prefix: str) -> None:
    # A route that no rule has, odd characters, somebody else's server, and a sandbox's.
    for path in ("/brand/new", f"/guilds/{FOREIGN}", f"/channels/{C1}/messages?limit=5&x=%2F..%2f;a"):
        reply = await production.ask("GET", path, token="production", prefix=prefix)
        sent = discord.requests[-1]
        assert sent.target == f"{prefix.removeprefix('/production')}{path}"
        assert sent.headers["authorization"] == f"Bot {REAL_TOKEN}"
        assert reply.headers["X-RateLimit-Bucket"] == "abcd"
        assert reply.headers["Content-Type"] == "application/json"


async def test_headers_and_bodies_pass(production: Rig, discord: Recorder) -> None:
    body = b'{"content": "x",  "content": "twice", "message_reference": {"guild_id": "1"}}'
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "DiscordBot (mine, 1)",
        "X-Audit-Log-Reason": "%C3%A4",
        "X-Something": "else",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "not further",
    }
    path = f"/channels/{C_FOREIGN}/messages"
    await production.ask("POST", path, token="production", data=body, headers=headers)
    sent = discord.requests[-1]
    assert sent.body == body
    assert sent.headers["content-length"] == str(len(body))
    for name in ("Content-Type", "User-Agent", "X-Audit-Log-Reason", "X-Something"):
        assert sent.headers[name.lower()] == headers[name]
    assert "x-hop" not in sent.headers


async def test_an_upload_is_streamed(production: Rig, discord: Recorder) -> None:
    form = aiohttp.FormData()
    form.add_field("payload_json", json.dumps({"content": "file"}))
    form.add_field("files[0]", io.BytesIO(b"z" * 2_000_000), filename="a.bin")
    path = f"/channels/{C_FOREIGN}/messages"
    reply = await production.ask("POST", path, token="production", data=form)
    assert reply.status == 200
    assert discord.requests[-1].body.count(b"z" * 2_000_000) == 1
    assert discord.requests[-1].headers["content-type"].startswith("multipart/form-data; boundary=")


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
async def test_answers_pass_as_they_are(production: Rig, discord: Recorder, status: int) -> None:
    headers = {
        "Content-Type": "application/json",
        "X-RateLimit-Scope": "user",
        "Retry-After": "2",
        "X-Own": "1",
    }
    discord.answers["GET", "/users/@me"] = Answer(status, {"message": "no", "code": 7}, headers)
    reply = await production.ask("GET", "/users/@me", token="production")
    assert (reply.status, reply.json) == (status, {"message": "no", "code": 7})
    for name, value in headers.items():
        assert reply.headers[name] == value


async def test_the_gateway_is_ours(production: Rig, discord: Recorder) -> None:
    for path in ("/gateway", "/gateway/bot"):
        reply = await production.ask("GET", path, token="production", prefix=OWN)
        assert reply.json["url"] == "ws://gateway.sandboxes"
    assert discord.requests == []


async def test_only_productions_token_passes(production: Rig, discord: Recorder) -> None:
    for token in ("mine", "wrong", None):
        assert (await production.ask("GET", "/users/@me", token=token, prefix=OWN)).status == 401
    production.tenants.production = None
    for prefix in (OWN, "/api/v10"):
        reply = await production.ask("GET", "/users/@me", token="production", prefix=prefix)
        assert reply.status == 401
    assert discord.requests == []


async def test_it_waits_for_no_control_plane(production: Rig, discord: Recorder) -> None:
    production.tenants.stale = True
    reply = await production.ask("GET", "/brand/new", token="production")
    assert reply.status == 200
    assert (await production.ask("GET", f"/guilds/{G1}")).status == 503


async def test_webhooks_without_a_token_pass_on_its_own_path_alone(
    production: Rig, discord: Recorder
) -> None:
    path = f"/webhooks/{W_FOREIGN}/foreign-webhook-token"
    body = json.dumps({"content": "log"}).encode()
    headers = {"Content-Type": "application/json"}
    reply = await production.ask("POST", path, token=None, prefix=OWN, data=body, headers=headers)
    assert reply.status == 200
    assert "authorization" not in discord.requests[-1].headers
    discord.clear()
    # A sandbox's bot that has the address of a webhook of production's does not get through with it.
    reply = await production.ask("POST", path, token=None, data=body, headers=headers)
    assert (reply.status, reply.json["code"]) == (404, 10015)
    assert all(each.method == "GET" for each in discord.requests)


async def test_an_interaction_that_production_saw_is_answered(production: Rig, discord: Recorder) -> None:
    holder = production.tenants.production
    assert holder is not None
    await production.seen.note(holder, "interaction", "130000000000000001", "its-token", guild_id=FOREIGN)
    path = "/interactions/130000000000000001/its-token/callback"
    body = json.dumps({"type": 5}).encode()
    headers = {"Content-Type": "application/json"}
    reply = await production.ask("POST", path, token=None, data=body, headers=headers)
    assert reply.status == 200
    assert discord.requests[-1].body == body
    discord.clear()
    # Another sandbox's bot can't answer it, also with its own token.
    assert (await production.ask("POST", path, data=body, headers=headers)).status == 404
    assert discord.calls(path) == []


async def test_what_is_no_call_is_refused(production: Rig, discord: Recorder) -> None:
    token = b"Authorization: Bot production\r\n"
    for target in (
        b"/production/other",
        b"/production/api/v10",
        b"/production/",
    ):
        answer = await production.raw(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n" + token + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 404"), target
    assert discord.requests == []


@pytest.fixture
async def narrow(discord: Recorder, redis_url: str) -> AsyncIterator[Rig]:
    """A guard whose sandboxes have one call a second."""
    async with rig(discord.base, redis_url, limits=ShareLimits(1, 1, longest_wait=0.0)) as made:
        made.tenants.production = Production(1, AllBut(frozenset({G1})))
        yield made


async def test_it_takes_nothing_of_the_sandboxes_share(narrow: Rig, discord: Recorder) -> None:
    async def call() -> int:
        return (await narrow.ask("GET", f"/guilds/{FOREIGN}", token="production")).status

    assert set(await asyncio.gather(*(call() for _ in range(20)))) == {200}
    assert (await narrow.ask("GET", f"/guilds/{G1}")).status == 200
    assert (await narrow.ask("GET", f"/guilds/{G1}")).status == 429
    assert await call() == 200


async def test_its_global_limit_stops_the_sandboxes_and_not_itself(narrow: Rig, discord: Recorder) -> None:
    limited = {"message": "slow", "retry_after": 30.0, "global": True}
    headers = {"Content-Type": "application/json", "X-RateLimit-Global": "true", "Retry-After": "30"}
    discord.answers["GET", "/users/@me"] = Answer(429, limited, headers)
    assert (await narrow.ask("GET", "/users/@me", token="production")).json == limited
    assert (await narrow.ask("GET", f"/guilds/{G1}")).json["retry_after"] > 20
    assert (await narrow.ask("GET", f"/guilds/{G1}", token="production")).status == 200
