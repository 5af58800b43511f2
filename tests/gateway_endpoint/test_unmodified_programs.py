"""`sandboxctl exec NAME -- python mybot.py`: programs that nobody changed, as processes, in a sandbox."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from discord_sim import SimGuild
from tests.conftest import ROOT
from tests.e2e.harness import free_port
from tests.e2e.programs import Program, program

from .calls import names
from .front import environment_of
from .stage import BOB, Process, Stage, until

BOTS = Path(__file__).parent / "bots"
NODE_MODULES = os.environ.get("SANDBOX_NODE_MODULES", "")
LIBRARIES = os.environ.get("SANDBOX_CLIENT_LIBRARIES", "")
"""A folder for each library that this environment does not have: `pip install --target`."""
_FOLDERS = {"on_py_cord.py": "py-cord", "on_nextcord.py": "nextcord", "on_disnake.py": "disnake"}


def place_of(name: str) -> str:
    """What comes onto `PYTHONPATH` for this bot's library; skips where it is not installed."""
    if name not in _FOLDERS:
        return str(ROOT)
    place = Path(LIBRARIES, _FOLDERS[name])
    if not LIBRARIES or not place.is_dir():
        pytest.skip(f"needs SANDBOX_CLIENT_LIBRARIES with {_FOLDERS[name]} in it")
    return str(place)


def contents(stage: Stage, guild: SimGuild) -> list[str]:
    """What the bot wrote in the server's channel."""
    written = stage.sim.world.messages.get(guild.default_channel.id, {}).values()
    return [each.content for each in written if each.author.id == stage.sim.bot_user.id]


def said(bot: Program) -> list[list[str]]:
    """What the bot said; its library may write beside it."""
    lines = (line.split() for line in bot.output.splitlines())
    return [words for words in lines if words[:1] in (["ready"], ["refused"])]


def start_of(name: str) -> tuple[str, ...]:
    """The command that starts this bot; skips without what it needs."""
    if not name.endswith(".cjs"):
        return sys.executable, str(BOTS / name)
    node = shutil.which("node")
    if node is None or not Path(NODE_MODULES, "discord.js").is_dir():
        pytest.skip("needs node, and SANDBOX_NODE_MODULES with discord.js in it")
    return node, str(BOTS / name)


@pytest.mark.parametrize("name", ["on_discord_py.py", "on_hikari.py", "on_discord_js.cjs", *_FOLDERS])
async def test_an_ordinary_bot_lives_in_its_sandbox(
    stage: Stage, process: Process, tmp_path: Path, name: str
) -> None:
    guild, more, foreign = stage.guilds[:3]
    await stage.sandbox("mine", guild, more)
    await stage.sandbox("theirs", foreign, owner=BOB)
    alice = stage.sim.add_user("alice")
    guild.add_member(alice)
    settings = environment_of(stage.settings, sandbox_gateway_url=process.url) | {"NODE_PATH": NODE_MODULES}
    settings["PYTHONPATH"] = place_of(name)
    words = ("exec", "--token-variable", "MY_TOKEN", "mine", "--", *start_of(name), "MY_TOKEN")
    async with program("sandbox_bot", *words, directory=tmp_path, **settings) as bot:
        await until(lambda: said(bot) or not bot.running, within=40)
        assert said(bot) == [["ready", *sorted([str(guild.id), str(more.id)])]], bot.errors
        await until(lambda: names(stage.sim, more) == ["echo"])
        assert names(stage.sim, guild) == ["echo"]
        assert names(stage.sim, foreign) == []
        stage.sim.message(guild, content="ping")
        await until(lambda: contents(stage, guild) == ["pong"])
        answer = await stage.sim.slash(alice, guild.default_channel, "echo", text="this")
        assert answer.content == "echo this"
        stage.sim.message(guild, content=f"elsewhere {foreign.default_channel.id}")
        await until(lambda: len(said(bot)) > 1)
        assert said(bot)[1:] == [["refused", "403", "50001"]]
        assert contents(stage, foreign) == []
        assert "Note:" not in bot.errors
        assert stage.sim.token not in bot.output + bot.errors
        bot.signal(signal.SIGINT)
        await bot.exit_code()


async def test_the_programs_own_sitecustomize_runs_as_well(
    stage: Stage, process: Process, tmp_path: Path
) -> None:
    await stage.sandbox("mine", stage.guilds[0])
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("import sys; sys.own = 'ran'\n")
    (tmp_path / "bot.py").write_text(
        "import sys, discord, hikari\n"
        "from discord.http import Route\n"
        "print(sys.own, sys.modules['sitecustomize'].__file__)\n"
        "print(Route.BASE, discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY, hikari.urls.REST_API_URL)\n"
    )
    settings = environment_of(stage.settings, sandbox_gateway_url=process.url)
    settings["PYTHONPATH"] = f"{tmp_path / 'own'}:{ROOT}"
    words = ("exec", "mine", "--", sys.executable, str(tmp_path / "bot.py"))
    async with program("sandbox_bot", *words, directory=tmp_path, **settings) as bot:
        assert await bot.exit_code() == 0, bot.errors
        own, addresses = bot.output.splitlines()
        assert own == f"ran {tmp_path / 'own' / 'sitecustomize.py'}"
        assert addresses.split() == [process.api_url, process.gateway_url, process.api_url]


async def test_what_will_not_work_is_said_before(stage: Stage, tmp_path: Path) -> None:
    await stage.sandbox("mine")
    place = f"127.0.0.1:{free_port()}"
    settings = environment_of(stage.settings, sandbox_gateway_url=f"http://{place}")
    words = ("exec", "mine", "--", sys.executable, "-I", "-c", "print('began')")
    async with program("sandbox_bot", *words, directory=tmp_path, **settings) as bot:
        assert await bot.exit_code() == 0
        lines = bot.errors.splitlines()
        assert [line.split()[:2] for line in lines] == [
            ["Note:", "With"],
            ["Note:", "Nothing"],
            ["Note:", "The"],
        ]
        assert "-I" in lines[0]
        assert place in lines[1]
        assert bot.output == "began\n"
    wrong = ("exec", "--token-variable", "MY-TOKEN", "mine", "--", "true")
    async with program("sandbox_bot", *wrong, directory=tmp_path, **settings) as bot:
        assert await bot.exit_code() == 2
        assert "MY-TOKEN" in bot.errors or "BOT_TOKEN" in bot.errors
