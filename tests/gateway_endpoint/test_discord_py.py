"""discord.py, unmodified, in a sandbox."""

from __future__ import annotations

import time

import pytest
import yarl

from .pybot import running
from .stage import ALICE, BOB, Process, Stage, until

pytestmark = pytest.mark.usefixtures("discord_untouched")


async def test_sees_exactly_its_servers_and_their_events(stage: Stage, process: Process) -> None:
    ours, more, theirs = stage.guilds[0], stage.guilds[1], stage.guilds[2]
    mine = await stage.sandbox("mine", ours, more)
    await stage.sandbox("other", theirs, owner=BOB)
    async with running(stage.token(mine), process) as bot:
        # The library calls itself ready when no server has come for a moment.
        await until(lambda: bot.visible == {ours.id, more.id})
        assert {channel.name for channel in bot.get_guild(ours.id).text_channels} == {"general"}
        for number in range(10):
            for guild in stage.guilds:
                stage.sim.message(guild, content=f"{guild.name} {number}")
        stage.sim.message(more, content="last")
        await until(lambda: "last" in bot.contents)
        assert bot.contents == [
            *(f"{guild.name} {number}" for number in range(10) for guild in (ours, more)),
            "last",
        ]


async def test_answers_what_it_hears(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with running(stage.token(mine), process) as bot:
        stage.sim.message(stage.guilds[0], content="ping")
        await until(lambda: bot.contents == ["ping", "pong"])


async def test_resumes_after_a_cut_with_exactly_what_was_missed(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with running(stage.token(mine), process) as bot:
        expected = []
        for cut in range(3):
            for number in range(50):
                expected.append(f"{cut} {number}")
                stage.sim.message(guild, content=expected[-1])
                if number == 25:
                    bot.cut()
        await until(lambda: len(bot.contents) >= len(expected) and bot.resumed >= 1)
        assert bot.contents == expected
        assert bot.identified == 1


async def test_resumes_at_another_process(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with running(stage.token(mine), process) as bot:
        stage.sim.message(guild, content="before")
        await until(lambda: bot.contents == ["before"])
        other = await stage.start()
        bot.ws.gateway = yarl.URL(other.gateway_url)
        bot.cut()
        for number in range(20):
            stage.sim.message(guild, content=f"missed {number}")
        await until(lambda: bot.resumed == 1 and len(bot.contents) == 21)
        assert bot.contents == ["before", *(f"missed {number}" for number in range(20))]
        assert (len(process.endpoint.sessions), len(other.endpoint.sessions)) == (0, 1)
        assert bot.identified == 1


async def test_a_server_comes_and_goes_with_its_events(stage: Stage, process: Process) -> None:
    first, second = stage.guilds[:2]
    mine = await stage.sandbox("mine", first)
    async with running(stage.token(mine), process) as bot:
        stage.sim.message(second, content="production's")
        await stage.register("mine", second)
        stage.sim.message(second, content="ours")
        await until(lambda: "ours" in bot.contents)
        assert bot.visible == {first.id, second.id}
        await stage.unregister(second)
        stage.sim.message(second, content="production's again")
        await until(lambda: bot.visible == {first.id})
        stage.sim.message(first, content="end")
        await until(lambda: "end" in bot.contents)
        assert bot.contents == ["ours", "end"]
        assert bot.seen == [f"available {first.id}", f"available {second.id}", f"unavailable {second.id}"]


@pytest.mark.parametrize("ending", ["destroy", "rotate"])
async def test_ends_with_its_sandbox(stage: Stage, process: Process, ending: str) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with running(stage.token(mine), process) as bot:
        began = time.monotonic()
        await getattr(stage.core.manager, ending)(ALICE, "mine")
        await until(lambda: bot.is_closed() or bot.ws is None or bot.ws.socket.close_code == 4004)
        assert time.monotonic() - began < 5
