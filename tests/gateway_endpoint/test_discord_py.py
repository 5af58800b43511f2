"""discord.py, unmodified, in a sandbox."""

from __future__ import annotations

import pytest

from .pybot import running
from .stage import BOB, Process, Stage, until

pytestmark = pytest.mark.usefixtures("discord_untouched")


async def test_sees_exactly_its_servers_and_their_events(stage: Stage, process: Process) -> None:
    ours, more, theirs = stage.guilds[0], stage.guilds[1], stage.guilds[2]
    mine = await stage.sandbox("mine", ours, more)
    await stage.sandbox("other", theirs, owner=BOB)
    async with running(stage.token(mine), process) as bot:
        assert bot.visible == {ours.id, more.id}
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
