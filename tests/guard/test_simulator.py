"""The guard in front of a whole simulated Discord: what becomes of a bot's calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from discord_sim import DiscordSim, SimGuild
from tests.guard.rig import Rig, rig, tenant


@dataclass(frozen=True)
class Scene:
    """A server of the sandbox and one of production, and the guard."""

    sim: DiscordSim
    mine: SimGuild
    foreign: SimGuild
    guard: Rig

    def channel(self, guild: SimGuild) -> str:
        return str(next(iter(guild.channels.values())).id)


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with DiscordSim() as sim:
        owner = sim.add_user("owner")
        mine, foreign = sim.add_guild("Mine", owner=owner), sim.add_guild("Foreign", owner=owner)
        async with rig(sim.api_url, redis_url, real_token=sim.token) as guard:
            guard.tenants.known["mine"] = tenant("mine", str(mine.id))
            yield Scene(sim, mine, foreign, guard)


async def test_a_message_with_a_file(scene: Scene) -> None:
    channel = scene.channel(scene.mine)
    form = aiohttp.FormData()
    form.add_field("files[0]", b"hello", filename="hello.txt", content_type="text/plain")
    form.add_field("payload_json", '{"content": "look"}')
    sent = await scene.guard.ask("POST", f"/channels/{channel}/messages", data=form)
    assert sent.status == 200
    assert sent.headers["Content-Type"] == "application/json"
    assert (sent.json["content"], sent.json["attachments"][0]["filename"]) == ("look", "hello.txt")
    path = f"/channels/{channel}/messages/{sent.json['id']}"
    edited = await scene.guard.ask("PATCH", path, json={"content": "seen"})
    assert edited.json["content"] == "seen"
    assert [each["id"] for each in (await scene.guard.ask("GET", f"/channels/{channel}/messages")).json] == [
        sent.json["id"]
    ]
    assert (await scene.guard.ask("DELETE", path)).status == 204


async def test_another_servers_channel(scene: Scene) -> None:
    channel = scene.channel(scene.foreign)
    reply = await scene.guard.ask("POST", f"/channels/{channel}/messages", json={"content": "a"})
    assert (reply.status, reply.json) == (403, {"message": "Missing Access", "code": 50001})
    assert [each.route for each in scene.sim.requests] == ["/channels/{channel_id}"]


async def test_the_bot_is_in_the_sandboxs_servers_only(scene: Scene) -> None:
    guilds = await scene.guard.ask("GET", "/users/@me/guilds")
    assert [each["id"] for each in guilds.json] == [str(scene.mine.id)]
    assert (await scene.guard.ask("GET", f"/guilds/{scene.foreign.id}")).status == 403
    assert (await scene.guard.ask("GET", "/users/@me")).json["id"] == str(scene.sim.world.bot.id)
    application = await scene.guard.ask("GET", "/oauth2/applications/@me")
    assert application.json["id"] == str(scene.sim.world.application_id)
