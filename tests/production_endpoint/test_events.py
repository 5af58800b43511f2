"""What production's own client sees: the servers that no sandbox has, and every event of them, once."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from discord_sim import SimGuild
from sandbox_core.client_endpoint import PRODUCTION, PRODUCTION_WORD
from sandbox_core.production import MOST_SERVERS, ProductionToken
from sandbox_gateway.calls import Ring
from tests.e2e.harness import eventually
from tests.gateway_endpoint.raw import Raw, connected
from tests.gateway_endpoint.stage import ALICE, Process, Stage, until
from tests.gateway_endpoint.test_resume import contents

from .conftest import OPERATOR


def servers(found: list[dict[str, Any]]) -> set[str]:
    """The servers of a beginning, each as READY names it and then with what is in it."""
    ready, *created = found
    assert ready["t"] == "READY"
    named = {each["id"] for each in ready["d"]["guilds"]}
    assert all(each["t"] == "GUILD_CREATE" and each["d"]["unavailable"] is False for each in created)
    assert {each["d"]["id"] for each in created} == named
    return named


def ids(*guilds: SimGuild) -> set[str]:
    return {str(guild.id) for guild in guilds}


async def test_begins_with_exactly_the_servers_that_no_sandbox_has(
    stage: Stage, process: Process, token: str
) -> None:
    first, second, *others = stage.guilds
    await stage.sandbox("mine", first)
    async with connected(process) as raw:
        assert servers(await raw.identify(token)) == ids(second, *others)
        stage.sim.message(first, content="the sandbox's")
        stage.sim.message(second, content="production's")
        assert contents(await raw.until_content("production's")) == ["production's"]
    async with connected(process) as raw:
        shard = [0, 2]
        found = servers(await raw.identify(token, shard=shard))
        assert found == {each for each in ids(second, *others) if (int(each) >> 22) % 2 == 0}


async def test_what_is_of_no_server_is_productions_alone(stage: Stage, process: Process, token: str) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    alice = stage.sim.add_user("alice")
    async with connected(process) as raw, connected(process) as theirs:
        await raw.identify(token)
        await theirs.identify(stage.token(mine))
        author = {"id": str(alice.id), "username": "alice"}
        stage.sim.emit("MESSAGE_CREATE", {"id": "1", "channel_id": "2", "author": author, "content": "hello"})
        stage.sim.emit("USER_UPDATE", {"id": str(stage.sim.bot_user.id), "username": "renamed"})
        found = await raw.until_event("USER_UPDATE")
        assert contents(found) == ["hello"]
        stage.sim.message(stage.guilds[0], content="end")
        assert [each["t"] for each in await theirs.until_content("end")] == ["MESSAGE_CREATE"]


async def test_intents_choose_as_for_a_sandbox(
    stage: Stage, process: Process, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = stage.sim.world.application()
    monkeypatch.setattr(stage.sim.world, "application", lambda: {**application, "flags": 0})
    async with connected(process) as raw:
        # Servers and their messages, without what these say.
        await raw.identify(token, intents=(1 << 0) | (1 << 9))
        stage.sim.emit("TYPING_START", {"guild_id": str(stage.guilds[0].id), "user_id": "1"})
        stage.sim.message(stage.guilds[0], content="hidden")
        found = await raw.until_event("MESSAGE_CREATE")
        assert [each["t"] for each in found] == ["MESSAGE_CREATE"]
        assert contents(found) == [""]
    async with connected(process) as raw:
        await raw.send(2, {"token": token, "intents": 1 << 1, "properties": {}})
        assert await raw.close_code() == 4014


async def test_a_server_that_is_joined_or_left(stage: Stage, process: Process, token: str) -> None:
    async with connected(process) as raw:
        begun = servers(await raw.identify(token))
        joined = stage.sim.add_guild("joined")
        stage.sim.message(joined, content="there")
        found = await raw.until_content("there")
        assert [each["t"] for each in found] == ["GUILD_CREATE", "MESSAGE_CREATE"]
        joined.remove_bot()
        left = (await raw.until_event("GUILD_DELETE"))[-1]
        assert "unavailable" not in left["d"] or left["d"]["unavailable"] is False
    async with connected(process) as raw:
        assert servers(await raw.identify(token)) == begun


async def test_what_it_did_is_kept(
    stage: Stage, process: Process, token: str, tokens: ProductionToken
) -> None:
    """As `sandboxctl sessions --production` and `calls --production` show it, also after a revocation."""
    sessions, calls = (make(stage.core.redis, PRODUCTION) for make in (Ring.of_sessions, Ring.of_calls))
    await asyncio.gather(sessions.last(1), calls.last(1))
    async with connected(process) as raw, aiohttp.ClientSession() as http:
        await raw.identify(token)
        url = f"{process.url}/{PRODUCTION_WORD}/api/v10/users/@me"
        async with http.get(url, headers={"Authorization": f"Bot {token}"}) as answer:
            assert answer.status == 200
        await tokens.revoke(OPERATOR)
        assert await raw.close_code() == 4004
    found: list[str] = []

    async def all_kept() -> bool:
        found.extend(each.what for each in await sessions.further())
        found.extend(each.route for each in await calls.further())
        return len(found) >= 3

    await eventually(all_kept)
    assert sorted(found) == ["/users/@me", "closed", "identified"]


async def test_more_servers_than_can_be_served_are_refused_with_a_sentence(
    stage: Stage, process: Process, token: str
) -> None:
    for number in range(MOST_SERVERS - len(stage.guilds)):
        stage.sim.add_guild(f"more-{number}")
    async with connected(process) as raw:
        assert len(servers(await raw.identify(token))) == MOST_SERVERS
    one = stage.sim.add_guild("one-too-many")
    # Also where a sandbox has it: it may come back at any time.
    await stage.sandbox("mine", one)
    async with connected(process) as raw:
        await raw.send(2, {"token": token, "intents": 1, "properties": {}})
        message = await raw.socket.receive(timeout=10)
        assert (message.data, message.extra) == (
            4011,
            f"the bot is in more than {MOST_SERVERS} servers, the most for production here",
        )


async def test_only_the_present_token_is_taken(
    stage: Stage, process: Process, tokens: ProductionToken, token: str
) -> None:
    async def refused(tried: str) -> int:
        async with connected(process) as raw:
            await raw.send(2, {"token": tried, "intents": 1, "properties": {}})
            return await raw.close_code()

    assert await refused(token[:-1] + ("a" if token[-1] != "a" else "b")) == 4004
    assert await refused(token.replace("production", "sbx-00000000")) == 4004
    async with connected(process) as raw:
        await raw.identify(token)
        new = (await tokens.rotate(OPERATOR)).variables["DISCORD_TOKEN"]
        assert await raw.close_code() == 4004
    assert await refused(token) == 4004
    async with connected(process) as raw:
        await raw.identify(new)
        session_id, sequence = raw.session_id, raw.sequence or 0
        assert await tokens.revoke(OPERATOR) is True
        assert await raw.close_code() == 4004
    assert await tokens.revoke(OPERATOR) is False
    assert await refused(new) == 4004
    shown = await tokens.show(OPERATOR)
    assert shown.made
    assert shown.variables["DISCORD_TOKEN"] not in {token, new}
    assert (await tokens.show(OPERATOR)).variables == shown.variables
    # A session is of the token that began it.
    async with connected(process) as raw:
        await raw.resume(shown.variables["DISCORD_TOKEN"], session_id, sequence)
        answer = await raw.receive()
        assert (answer["op"], answer["d"]) == (9, False)


async def test_a_planned_end_sends_it_to_another_process(stage: Stage, process: Process, token: str) -> None:
    other = await stage.start()
    guild = stage.guilds[0]
    async with connected(process) as raw:
        await raw.identify(token)
        stopping = asyncio.create_task(process.stop())
        assert (await raw.until(lambda payload: payload["op"] == 7))[-1]["op"] == 7
        session_id, sequence = raw.session_id, raw.sequence or 0
    await stopping
    stage.processes.remove(process)
    for number in range(20):
        stage.sim.message(guild, content=f"{number}")
    async with connected(other) as again:
        await again.resume(token, session_id, sequence)
        found = await again.until_event("RESUMED")
        if "19" not in contents(found):
            found += await again.until_content("19")
        assert contents(found) == [f"{number}" for number in range(20)]


async def test_the_members_of_a_server_are_answered(stage: Stage, process: Process, token: str) -> None:
    first, second = stage.guilds[:2]
    await stage.sandbox("mine", first)

    async def members(raw: Raw, guild: SimGuild) -> None:
        await raw.send(8, {"guild_id": str(guild.id), "query": "", "limit": 0})

    async with connected(process) as raw:
        await raw.identify(token)
        await members(raw, first)
        await members(raw, second)
        chunk = (await raw.until_event("GUILD_MEMBERS_CHUNK"))[-1]["d"]
        assert chunk["guild_id"] == str(second.id)
        assert len(chunk["members"]) == len(second.members)
    assert (await stage.core.manager.get("mine")).owner == ALICE.id
    await until(lambda: not len(process.endpoint.sessions))
