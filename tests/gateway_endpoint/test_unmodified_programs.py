"""`sandboxctl exec NAME -- python mybot.py`: how it points programs elsewhere, and what it says before."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from sandbox_bot import pointing
from tests.compat.conftest import require
from tests.compat.libraries import LIBRARIES
from tests.conftest import ROOT
from tests.e2e.harness import free_port
from tests.e2e.programs import program

from .front import environment_of
from .stage import Process, Stage


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


_SHARDS = """
const { fetchRecommendedShardCount, REST } = require("discord.js");
const token = process.env.DISCORD_TOKEN;
fetchRecommendedShardCount(token).then((shards) => console.log("shards", shards, new REST().options.api));
"""


async def test_discord_js_asks_the_endpoint_how_many_shards_there_are(
    stage: Stage, process: Process, tmp_path: Path
) -> None:
    """By undici's `fetch`, and not by its own client: as its ShardingManager does first."""
    (library,) = (each for each in LIBRARIES if each.name == "discord.js")
    node, _ = require(library)
    await stage.sandbox("mine", stage.guilds[0])
    (tmp_path / "index.cjs").write_text(_SHARDS)
    settings = environment_of(stage.settings, sandbox_gateway_url=process.url) | library.variables
    words = ("exec", "mine", "--", node, str(tmp_path / "index.cjs"))
    async with program("sandbox_bot", *words, directory=tmp_path, **settings) as bot:
        assert await bot.exit_code() == 0, bot.errors
        assert bot.output == f"shards 1 {process.url}/api\n"


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


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["python3.13", "mybot.py"], ""),
        (["python", "-W", "error", "-Im", "mybot"], "With -Im Python does not read"),
        (["python", "-X", "dev", "mybot.py", "-I"], ""),
        (["python", "-m", "mybot", "-E"], ""),
        (["node", "index.js"], ""),
        (["npm", "start"], ""),
        (["/opt/bun/bin/bun", "index.ts"], "Bun reads no NODE_OPTIONS"),
        (["Deno.exe", "run", "main.ts"], "Deno reads no NODE_OPTIONS"),
        (["java", "-jar", "bot.jar"], "Java reads no file of sandboxctl's"),
        (["docker", "run", "my-bot"], "docker does not hand this environment over"),
    ],
)
def test_programs_that_nothing_points_there(command: list[str], said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v10"
        found = list(pointing.warnings(command, url, "1"))
    assert [sentence[: len(said)] for sentence in found] == ([said] if said else [])
