"""What is away is said with 503, and nothing is let through on a guess."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import aiohttp
import pytest

from sandbox_bot.embedded import EmbeddedServers
from tests.guard.recorder import Answer, Recorder
from tests.guard.rig import C1, C_FOREIGN, G1, INSIDE_TOKEN, W1, Rig, rig

_AWAY = {"message": "503: Service Unavailable", "code": 0}
_CALLS = [
    ("GET", f"/guilds/{G1}", "mine"),
    ("POST", f"/channels/{C1}/messages", "mine"),
    ("POST", "/interactions/150000000000000001/token/callback", None),
    ("POST", f"/webhooks/{W1}/{INSIDE_TOKEN}", None),
]


@pytest.mark.parametrize(("method", "path", "token"), _CALLS)
async def test_the_table_is_stale(
    guard: Rig, discord: Recorder, method: str, path: str, token: str | None
) -> None:
    guard.tenants.stale = True
    reply = await guard.ask(method, path, token=token)
    assert (reply.status, reply.json) == (503, _AWAY)
    assert discord.requests == []


async def test_redis_is_away(servers: EmbeddedServers, discord: Recorder) -> None:
    url = urlunsplit(urlsplit(servers.redis_url)._replace(path="/58"))
    async with rig(discord.base, url) as guard:
        assert (await guard.ask("GET", f"/guilds/{G1}")).status == 200
        discord.clear()
        await servers.valkey.kill()
        try:
            for method, path, token in _CALLS:
                reply = await guard.ask(method, path, token=token)
                assert (reply.status, reply.json) == (503, _AWAY)
            assert discord.requests == []
        finally:
            await servers.valkey.start()
        assert (await guard.ask("GET", f"/guilds/{G1}")).status == 200


async def test_discord_is_away(redis_url: str) -> None:
    async with rig("http://127.0.0.1:9/api/v10", redis_url) as guard:
        for method, path, token in _CALLS:
            if path.startswith("/interactions"):
                continue
            reply = await guard.ask(method, path, token=token)
            assert (reply.status, reply.json) == (503, _AWAY)


@pytest.mark.parametrize("status", [500, 502, 401])
async def test_discord_does_not_say_where_a_channel_is(guard: Rig, discord: Recorder, status: int) -> None:
    discord.answers["GET", f"/channels/{C1}"] = Answer(status, {"message": "x", "code": 0})
    assert (await guard.ask("POST", f"/channels/{C1}/messages", json={"content": "a"})).status == 503
    assert discord.calls(f"/channels/{C1}/messages") == []
    del discord.answers["GET", f"/channels/{C1}"]
    assert (await guard.ask("POST", f"/channels/{C1}/messages", json={"content": "a"})).status == 200


@pytest.mark.parametrize(
    "answer",
    [
        {"id": C_FOREIGN, "guild_id": G1},
        {"guild_id": G1},
        {"id": C1, "guild_id": int(G1)},
        {"id": C1, "guild_id": None},
        [{"id": C1, "guild_id": G1}],
        "x",
        None,
    ],
)
async def test_an_answer_about_something_else(guard: Rig, discord: Recorder, answer: object) -> None:
    discord.answers["GET", f"/channels/{C1}"] = Answer(200, answer)
    assert (await guard.ask("GET", f"/channels/{C1}/pins")).status == 403
    assert discord.calls(f"/channels/{C1}/pins") == []


async def test_the_real_token_is_refused(guard: Rig, discord: Recorder) -> None:
    """The sandbox's token is right, so its bot must not be told that it is wrong."""
    discord.answers["GET", f"/guilds/{G1}"] = Answer(401, {"message": "401: Unauthorized", "code": 0})
    reply = await guard.ask("GET", f"/guilds/{G1}")
    assert (reply.status, reply.json) == (503, _AWAY)


async def test_discords_own_faults_are_passed_on(guard: Rig, discord: Recorder) -> None:
    page = Answer(502, b"<html>bad gateway</html>", {"Content-Type": "text/html"})
    discord.answers["GET", f"/guilds/{G1}"] = page
    reply = await guard.ask("GET", f"/guilds/{G1}")
    assert (reply.status, reply.body) == (502, page.body)


async def test_an_answer_that_breaks_off(guard: Rig, discord: Recorder) -> None:
    discord.answers["GET", f"/guilds/{G1}"] = Answer(200, b"{", missing=1000)
    reply = await guard.ask("GET", f"/guilds/{G1}")
    assert (reply.status, reply.json) == (503, _AWAY)


async def test_a_large_answer_that_breaks_off(guard: Rig, discord: Recorder) -> None:
    """Its beginning was sent on already: the client gets no end of it, and nothing else in its place."""
    discord.answers["GET", f"/guilds/{G1}"] = Answer(200, b"x" * 400_000, missing=100_000)
    with pytest.raises(aiohttp.ClientPayloadError):
        await guard.ask("GET", f"/guilds/{G1}")
    del discord.answers["GET", f"/guilds/{G1}"]
    assert (await guard.ask("GET", f"/guilds/{G1}")).status == 200
