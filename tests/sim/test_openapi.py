"""Every REST call of these flows fits Discord's own description, both ways."""

from __future__ import annotations

import io
from collections import Counter

import aiohttp
import discord
import pytest

from discord_sim import DiscordSim, SimGuild, SimUser
from tests.sim import openapi
from tests.sim.conftest import StartBot
from tests.sim.example_bot import PlainBot


@pytest.fixture(scope="session")
def description() -> openapi.OpenApi:
    """Discord's description, or a skip that says how to get it."""
    path = openapi.spec_path()
    if path is None:
        pytest.skip("Discord's OpenAPI description is not here; name it in DISCORD_OPENAPI")
    return openapi.load(path)


@pytest.fixture
async def bot(start: StartBot, guild: SimGuild) -> PlainBot:
    """A ready bot with its commands synced."""
    client = PlainBot(guild.id)
    await start(client)
    return client


def assert_described(sim: DiscordSim, description: openapi.OpenApi, least: set[str]) -> None:
    """All requests and answers fit, and the flow did make these calls."""
    problems = Counter(p for r in sim.requests for p in description.problems(r))
    assert not problems, "\n".join(problems)
    made = {f"{r.method} {r.route}" for r in sim.requests}
    assert least <= made, least - made


async def test_commands_components_and_forms(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, bot: PlainBot, description: openapi.OpenApi
) -> None:
    channel = guild.default_channel
    result = await sim.slash(alice, channel, "sandbox create", name="mine")
    await result.wait_until(lambda r: bool(r.followups))
    await sim.autocomplete(alice, channel, "sandbox create", focused="name", value="m")
    await sim.click(result, alice, label="Later")
    await sim.select(result, alice, ["One"])
    form = await sim.click(result, alice, label="Ask")
    await sim.submit_modal(form, alice, {"name": "new"})
    await sim.click(result, alice, label="Confirm")
    await sim.slash(alice, channel, "sandbox connect")
    twice = await sim.slash(alice, channel, "sandbox twice")
    await twice.wait_until(lambda r: r.message.deleted)
    webhook = "/webhooks/{webhook_id}/{webhook_token}"
    assert_described(
        sim,
        description,
        {
            "PUT /applications/{application_id}/guilds/{guild_id}/commands",
            "POST /interactions/{interaction_id}/{interaction_token}/callback",
            f"POST {webhook}",
            f"GET {webhook}/messages/@original",
            f"PATCH {webhook}/messages/@original",
            f"DELETE {webhook}/messages/@original",
        },
    )


async def test_messages_and_lookups(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, bot: PlainBot, description: openapi.OpenApi
) -> None:
    user = await bot.fetch_user(alice.id)
    sent = await user.send("hi", file=discord.File(io.BytesIO(b"x"), "x.txt"))
    await sent.reply("again", mention_author=False)
    await sent.edit(embed=discord.Embed(title="t", description="d").add_field(name="n", value="v"))
    await sent.channel.fetch_message(sent.id)
    assert len([m async for m in sent.channel.history()]) == 2
    await sent.delete()
    fetched = await bot.fetch_guild(guild.id)
    await fetched.fetch_member(alice.id)
    await fetched.fetch_roles()
    await fetched.fetch_channels()
    assert [m async for m in fetched.fetch_members(limit=5)]
    assert [g async for g in bot.fetch_guilds()]
    await bot.fetch_channel(guild.default_channel.id)
    await bot.application_info()
    await bot.tree.sync()
    commands = await bot.tree.fetch_commands(guild=discord.Object(guild.id))
    await commands[0].edit(description="changed")
    await commands[1].delete()
    assert await bot.tree.fetch_commands() == []
    assert_described(
        sim,
        description,
        {
            "GET /users/@me",
            "POST /users/@me/channels",
            "GET /users/{user_id}",
            "GET /users/@me/guilds",
            "POST /channels/{channel_id}/messages",
            "PATCH /channels/{channel_id}/messages/{message_id}",
            "DELETE /channels/{channel_id}/messages/{message_id}",
            "GET /guilds/{guild_id}",
            "GET /guilds/{guild_id}/members/{user_id}",
            "GET /guilds/{guild_id}/members",
            "GET /guilds/{guild_id}/roles",
            "GET /guilds/{guild_id}/channels",
            "PATCH /applications/{application_id}/guilds/{guild_id}/commands/{command_id}",
        },
    )


async def test_remaining_routes(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, description: openapi.OpenApi
) -> None:
    """What discord.py does not call, but other clients do."""
    app, here = f"/applications/{sim.application_id}", f"/guilds/{guild.id}"
    command = {"name": "ping", "description": "Answers"}
    calls: list[tuple[str, str, object]] = [
        ("GET", "/gateway", None),
        ("GET", "/gateway/bot", None),
        ("GET", "/applications/@me", None),
        ("POST", f"{app}/commands", command),
        ("POST", f"{app}/commands", command),
        ("GET", f"{app}/commands", None),
        ("POST", f"{app}{here}/commands", command),
        ("GET", f"{here}/members/search?query=al&limit=3", None),
        ("GET", f"{here}/roles/{guild.id}", None),
        ("GET", f"{here}?with_counts=true", None),
        ("GET", f"{app}{here}/commands/permissions", None),
        ("POST", f"/channels/{guild.default_channel.id}/typing", None),
        ("DELETE", f"/users/@me{here}", None),
    ]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bot {sim.token}"}) as http:
        for method, path, body in calls:
            async with http.request(method, sim.api_url + path, json=body) as answer:
                assert answer.status < 300, (method, path, await answer.text())
    assert next(r.status for r in sim.requests if r.route and r.route.endswith("}/commands")) == 201
    assert_described(sim, description, set())


async def test_errors_have_discords_shape(
    sim: DiscordSim, guild: SimGuild, description: openapi.OpenApi
) -> None:
    async with aiohttp.ClientSession() as http:
        good = {"Authorization": f"Bot {sim.token}"}
        cases: list[tuple[str, dict[str, str], int, int]] = [
            ("/users/@me", {}, 401, 0),
            ("/users/@me", {"Authorization": "Bot wrong"}, 401, 0),
            ("/users/1", good, 404, 10013),
            ("/users/abc", good, 400, 50035),
            ("/channels/1", good, 404, 10003),
            ("/guilds/1", good, 404, 10004),
            (f"/guilds/{guild.id}/members/1", good, 404, 10013),
            (f"/channels/{guild.default_channel.id}/messages/1", good, 404, 10008),
            (f"/applications/{sim.application_id}/commands/1", good, 404, 10063),
            ("/applications/1/commands", good, 403, 20012),
            ("/no/such/route", good, 404, 0),
        ]
        for path, headers, status, code in cases:
            async with http.get(sim.api_url + path, headers=headers) as answer:
                body = await answer.json()
                assert (answer.status, body["code"]) == (status, code), path
                assert answer.headers["Content-Type"] == "application/json"
                assert isinstance(body["message"], str)
        async with http.post(sim.api_url + "/users/@me/channels", headers=good, data="{") as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, 50109)
    assert [r.path for r in sim.unknown_requests] == ["/no/such/route"]
    assert all("Authorization" not in r.headers for r in sim.requests)
