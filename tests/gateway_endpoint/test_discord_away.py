"""Discord answers with faults, or not at all: what a client asks for comes later, or is told to be away."""

from __future__ import annotations

import asyncio

import pytest

from sandbox_core.subjects import client_identify_keys
from sandbox_gateway.sessions.limits import IDENTIFIES

from .calls import calling, names, slash
from .raw import ALL, Raw, connected
from .stage import Process, Stage, until


async def alive(raw: Raw) -> None:
    """The next payload is the answer to a heartbeat, so nothing else was sent."""
    await raw.send(1, raw.sequence)
    assert (await raw.receive())["op"] == 11


async def test_nobody_comes_in_who_can_not_be_told_who_he_is(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    stage.sim.show_page(503, path="/users/@me")
    async with connected(process) as raw:
        await raw.send(2, {"token": stage.token(mine), "intents": ALL})
        assert await raw.close_code() == 4000
    stage.sim.show_page(None)
    async with connected(process) as again:
        await again.identify(stage.token(mine))


async def test_a_server_that_discord_does_not_describe_comes_later(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        stage.sim.fail_next("GET", rf"/guilds/{guild.id}$")
        found = await raw.identify(stage.token(mine))
        assert [each["t"] for each in found] == ["READY", "GUILD_CREATE"]


async def test_a_client_comes_again_where_discord_stays_away(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    stage.sim.fail_next("GET", rf"/guilds/{guild.id}$", times=50)
    async with connected(process) as raw:
        await raw.send(2, {"token": stage.token(mine), "intents": ALL, "properties": {}})
        await raw.until_event("READY")
        assert await raw.close_code() == 4000
    stage.sim.rest.failures.clear()
    stage.sim.message(guild, content="missed")
    async with connected(process) as again:
        await again.resume(stage.token(mine), raw.session_id, 1)
        found = await again.until_event("RESUMED")
        assert [each["t"] for each in found] == ["GUILD_CREATE", "MESSAGE_CREATE", "RESUMED"]


async def test_a_server_without_the_bot_is_unavailable(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    stage.sim.fail_next("GET", rf"/guilds/{guild.id}$", status=404)
    async with connected(process) as raw:
        found = await raw.identify(stage.token(mine))
        assert (found[-1]["t"], found[-1]["d"]) == (
            "GUILD_DELETE",
            {"id": str(guild.id), "unavailable": True},
        )


async def test_members_and_sounds_that_discord_does_not_tell(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        stage.sim.fail_next("GET", rf"/guilds/{guild.id}/members")
        stage.sim.fail_next("GET", rf"/guilds/{guild.id}/soundboard-sounds")
        await raw.send(8, {"guild_id": str(guild.id), "query": "", "limit": 0})
        await raw.send(31, {"guild_ids": [str(guild.id)]})
        await until(lambda: not stage.sim.rest.failures)
        await alive(raw)
        await raw.send(31, {"guild_ids": [str(guild.id)]})
        assert (await raw.receive())["t"] == "SOUNDBOARD_SOUNDS"


async def test_all_members_need_their_intent(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine), intents=1)
        await raw.send(8, {"guild_id": str(guild.id), "query": "", "limit": 0})
        await alive(raw)
        await raw.send(8, {"guild_id": str(guild.id), "user_ids": [str(guild.owner.id)]})
        assert len((await raw.receive())["d"]["members"]) == 1


async def test_a_day_has_a_thousand_identifies(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    _, key = client_identify_keys(mine.id)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
    since, number = str(await stage.core.redis.get(key)).split(":")
    assert number == "1"
    await stage.core.redis.set(key, f"{since}:{IDENTIFIES}")
    async with connected(process) as late:
        await late.send(2, {"token": stage.token(mine), "intents": 1, "properties": {}})
        assert await late.close_code() == 4004
    # The day after, it may again.
    await stage.core.redis.set(key, f"{int(since) - 86_400}:{IDENTIFIES}")
    await asyncio.sleep(0.02)
    async with connected(process) as again:
        await again.identify(stage.token(mine))


@pytest.mark.parametrize("trouble", ["refused", "page"])
async def test_commands_come_when_discord_takes_them(stage: Stage, process: Process, trouble: str) -> None:
    """What a second server was to get is written there later, and nobody else waits for it."""
    first, second = sorted(stage.guilds[:2], key=lambda guild: guild.id)
    mine = await stage.sandbox("mine", first, second)
    path = rf"/guilds/{second.id}/commands"
    if trouble == "refused":
        stage.sim.fail_next("PUT", path, status=400)
        stage.sim.fail_next("POST", path, status=400)
    else:
        stage.sim.show_page(503, path=path)
    async with calling(stage, mine, process) as bot:
        assert (await bot.ask("POST", body=slash("ping")))[0] == 201
        assert names(stage.sim, first) == ["ping"]
        stage.sim.show_page(None)
        # The bot's next write is a reason to try again at once.
        assert (await bot.ask("POST", body=slash("pong")))[0] == 201
    await until(lambda: names(stage.sim, second) == ["ping", "pong"])


async def test_one_commands_permissions(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with calling(stage, mine, process) as bot:
        _, ping = await bot.ask("POST", body=slash("ping"))
        status, answer = await bot.ask("GET", guild, f"{ping['id']}/permissions")
        assert (status, answer["code"]) == (404, 10066)
        status, answer = await bot.ask("GET", guild, "100000000000000017/permissions")
        assert (status, answer["code"]) == (404, 10066)
        stage.sim.fail_next("GET", rf"/guilds/{guild.id}/commands/permissions", status=500)
        assert (await bot.ask("GET", guild, "permissions"))[0] == 500
