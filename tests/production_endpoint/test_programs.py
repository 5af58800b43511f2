"""`sandboxctl exec --production -- python mybot.py`: production's program, as a process, unchanged."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from discord_sim import SimGuild
from tests.compat.conftest import require
from tests.compat.libraries import IN_CI, Library
from tests.compat.place import said_by
from tests.e2e.programs import program
from tests.gateway_endpoint.calls import names
from tests.gateway_endpoint.front import environment_of
from tests.gateway_endpoint.stage import Process, Stage, until


def contents(stage: Stage, guild: SimGuild) -> list[str]:
    """What the bot wrote in the server's channel."""
    written = stage.sim.world.messages.get(guild.default_channel.id, {}).values()
    return [each.content for each in written if each.author.id == stage.sim.bot_user.id]


@pytest.mark.parametrize("library", IN_CI, ids=lambda library: library.name)
async def test_productions_bot_lives_in_the_other_servers(
    stage: Stage, process: Process, token: str, tmp_path: Path, library: Library
) -> None:
    taken, guild, *others = stage.guilds
    await stage.sandbox("mine", taken)
    alice = stage.sim.add_user("alice")
    guild.add_member(alice)
    settings = environment_of(stage.settings, sandbox_gateway_url=process.url) | library.variables
    words = ("exec", "--production", "--token-variable", "MY_TOKEN", "--", *require(library), "MY_TOKEN")
    async with program("sandbox_bot", *words, directory=tmp_path, **settings) as bot:
        await until(lambda: said_by(bot) or not bot.running, within=40)
        assert said_by(bot) == [["ready", *sorted(str(each.id) for each in (guild, *others))]], bot.errors
        # Its global commands are Discord's own.
        own = stage.sim.world.commands
        await until(lambda: sorted(each["name"] for each in own.in_scope(None)) == ["ask", "echo", "slow"])
        assert names(stage.sim, guild) == []
        stage.sim.message(taken, content="ping")
        stage.sim.message(guild, content="ping")
        await until(lambda: contents(stage, guild) == ["pong"])
        assert contents(stage, taken) == []
        answer = await stage.sim.slash(alice, guild.default_channel, "echo", text="this")
        assert answer.content == "echo this"
        assert "Note:" not in bot.errors
        for secret in (token, stage.sim.token):
            assert secret not in bot.output + bot.errors
        bot.signal(signal.SIGINT)
        await bot.exit_code()
