"""Ordinary bots of production and of sandboxes at once, on libraries that nobody here wrote, unmodified."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yarl

from tests.e2e.harness import eventually
from tests.e2e.programs import program
from tests.gateway_endpoint.front import environment_of, front
from tests.gateway_endpoint.hikaribot import started
from tests.gateway_endpoint.pybot import Addresses, running
from tests.gateway_endpoint.stage import BOB, Process, Stage, until
from tests.gateway_endpoint.test_processes import ready

pytestmark = pytest.mark.usefixtures("discord_untouched")


class OwnPath(Addresses):
    """The addresses that `production-token` prints."""

    @property
    def api_url(self) -> str:
        return f"{self.url}/production/api/v10"


async def test_three_bots_at_once_each_see_their_own(stage: Stage, process: Process, token: str) -> None:
    first, second, *others = stage.guilds
    mine = await stage.sandbox("mine", first)
    theirs = await stage.sandbox("theirs", second, owner=BOB)
    async with AsyncExitStack() as stack:
        production = await stack.enter_async_context(running(token, OwnPath(process.url)))
        one = await stack.enter_async_context(running(stage.token(mine), process))
        two = await stack.enter_async_context(started(stage.token(theirs), process))
        await until(lambda: production.visible == {guild.id for guild in others})
        await until(lambda: (one.visible, two.available) == ({first.id}, [second.id]))
        for number in range(20):
            for guild in stage.guilds:
                stage.sim.message(guild, content=f"{guild.name} {number}")
        expected = [f"{guild.name} {number}" for number in range(20) for guild in others]
        await until(lambda: len(production.contents) >= len(expected))
        await until(lambda: len(one.contents) == len(two.contents) == 20)
        assert production.contents == expected
        assert one.contents == [f"{first.name} {number}" for number in range(20)]
        assert two.contents == [f"{second.name} {number}" for number in range(20)]


async def test_discord_py_answers_loses_a_server_and_gets_it_back(
    stage: Stage, process: Process, token: str
) -> None:
    guild, other = stage.guilds[:2]
    await stage.sandbox("mine")
    async with running(token, OwnPath(process.url)) as bot:
        await until(lambda: len(bot.visible) == 5)
        stage.sim.message(guild, content="ping")
        await until(lambda: bot.contents == ["ping", "pong"])
        await stage.register("mine", guild)
        stage.sim.message(guild, content="the sandbox's")
        await until(lambda: guild.id not in bot.visible)
        await stage.unregister(guild)
        stage.sim.message(guild, content="production's")
        stage.sim.message(other, content="end")
        await until(lambda: "end" in bot.contents)
        assert bot.contents == ["ping", "pong", "production's", "end"]
        assert guild.id in bot.visible
        bot.cut()
        for number in range(20):
            stage.sim.message(guild, content=f"missed {number}")
        await until(lambda: bot.resumed == 1 and len(bot.contents) == 24)
        assert bot.contents[4:] == [f"missed {number}" for number in range(20)]
        other_process = await stage.start()
        bot.ws.gateway = yarl.URL(other_process.gateway_url)
        bot.cut()
        stage.sim.message(guild, content="at another")
        await until(lambda: bot.contents[-1] == "at another")
        assert (bot.identified, bot.resumed) == (1, 2)


async def test_hikari_answers_and_resumes(stage: Stage, process: Process, token: str) -> None:
    guild, taken = stage.guilds[:2]
    await stage.sandbox("mine")
    async with started(token, OwnPath(process.url)) as seen:
        await until(lambda: set(seen.available) == {each.id for each in stage.guilds})
        stage.sim.message(guild, content="ping")
        await until(lambda: seen.contents == ["ping", "pong"])
        await stage.register("mine", taken)
        await until(lambda: seen.gone == [taken.id])
        await stage.unregister(taken)
        await until(lambda: seen.available.count(taken.id) == 2)
        (shard,) = seen.bot.shards.values()
        shard._ws._ws._response.connection.transport.abort()  # type: ignore[attr-defined]
        for count in range(20):
            stage.sim.message(guild, content=f"missed {count}")
        await until(lambda: len(seen.contents) == 22 and seen.resumed == 1)
        assert seen.contents[2:] == [f"missed {count}" for count in range(20)]


async def test_a_killed_process_is_no_end(stage: Stage, tmp_path: Path, token: str) -> None:
    guild = stage.guilds[0]
    async with front() as address:
        settings = environment_of(stage.settings, sandbox_gateway_url=address.url)
        one, two = (
            program("sandbox_bot", "gateway", directory=tmp_path, SANDBOX_GATEWAY_PORT=str(port), **settings)
            for port in address.ports
        )
        async with one as first, two as second:
            for port in address.ports:
                await eventually(lambda port=port: ready(port))
            async with running(token, OwnPath(address.url)) as bot:
                expected = [f"{number}" for number in range(200)]
                for number, text in enumerate(expected):
                    stage.sim.message(guild, content=text)
                    if number == 100:
                        await until(lambda: len(bot.contents) > 50)
                        first.signal(signal.SIGKILL)
                await until(lambda: len(bot.contents) >= len(expected), within=40)
                assert bot.contents == expected
                assert (bot.identified, bot.resumed > 0) == (1, True)
            for secret in (token, token.rsplit(".", 1)[1], stage.sim.token):
                assert secret not in first.errors + second.errors
