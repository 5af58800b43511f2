"""`sandboxctl exec --production -- python mybot.py`: production's program, as a process, unchanged."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.e2e.programs import program
from tests.gateway_endpoint.calls import names
from tests.gateway_endpoint.front import environment_of
from tests.gateway_endpoint.stage import Process, Stage, until
from tests.gateway_endpoint.test_unmodified_programs import NODE_MODULES, contents, said, start_of


@pytest.mark.parametrize("name", ["on_discord_py.py", "on_hikari.py", "on_discord_js.cjs"])
async def test_productions_bot_lives_in_the_other_servers(
    stage: Stage, process: Process, token: str, tmp_path: Path, name: str
) -> None:
    taken, guild, *others = stage.guilds
    await stage.sandbox("mine", taken)
    alice = stage.sim.add_user("alice")
    guild.add_member(alice)
    settings = environment_of(stage.settings, sandbox_gateway_url=process.url) | {"NODE_PATH": NODE_MODULES}
    settings["PYTHONPATH"] = str(ROOT)
    words = ("exec", "--production", "--token-variable", "MY_TOKEN", "--", *start_of(name), "MY_TOKEN")
    async with program("sandbox_bot", *words, directory=tmp_path, **settings) as bot:
        await until(lambda: said(bot) or not bot.running, within=40)
        assert said(bot) == [["ready", *sorted(str(each.id) for each in (guild, *others))]], bot.errors
        # Its global commands are Discord's own.
        await until(lambda: [each["name"] for each in stage.sim.world.commands.in_scope(None)] == ["echo"])
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
