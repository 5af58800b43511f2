"""The ways to install that the documents name, walked to a running bot."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from discord_sim import DiscordSim
from sandbox_bot import __version__
from tests.e2e.harness import eventually, free_port, get
from tests.e2e.programs import command
from tests.packaging.conftest import Built, Environment, done, install_into, uv_program
from tests.packaging.lock import ROOT


def test_pip_needs_nothing_that_is_not_locked(built: Built, tmp_path: Path) -> None:
    """`pip install` of the wheel, where what the lock names is there already and no index is."""
    environment = Environment(tmp_path / "environment")
    done([sys.executable, "-m", "venv", "--without-pip", str(environment.prefix)], tmp_path)
    install_into(
        environment, "--require-hashes", "--no-deps", "-r", str(ROOT / "deploy" / "requirements.lock")
    )
    pip = [sys.executable, "-m", "pip", "--python", environment.program("python")]
    done([*pip, "install", "--quiet", "--no-index", str(built.wheel)], tmp_path)
    done([*pip, "check"], tmp_path)
    printed = done([environment.program("sandboxctl"), "--version"], tmp_path, PATH=os.defpath)
    assert printed == f"sandboxctl {__version__}\n"


@pytest.fixture(scope="module")
def tool(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `sandboxctl`, installed as a tool with the extra `embedded`: what pipx does, too."""
    uv = uv_program()
    if uv is None:
        reason = "uv is not there; the Makefile installs it where it can be had"
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    place = tmp_path_factory.mktemp("tool")
    environment = {**os.environ, "UV_TOOL_DIR": str(place / "tools"), "UV_TOOL_BIN_DIR": str(place / "bin")}
    wanted = f"discord-server-sandboxes[embedded] @ {built.wheel.as_uri()}"
    # Of what it needs the newest would be installed; a test installs what is known to work.
    locked = ("--constraints", str(ROOT / "requirements.lock"))
    done(
        [uv, "tool", "install", "--quiet", "--python", sys.executable, wanted, *locked], place, **environment
    )
    return place / "bin"


async def test_the_tool_plays_the_tour(tool: Path, tmp_path: Path) -> None:
    async with command(str(tool / "sandboxctl"), "tour", directory=tmp_path, TMPDIR=str(tmp_path)) as tour:
        assert await tour.exit_code(within=120) == 0, tour.output + tour.errors
    assert "all right." in tour.output
    assert list(tmp_path.iterdir()) == []


async def test_the_tool_runs_the_bot_with_servers_of_its_own(tool: Path, tmp_path: Path) -> None:
    port = free_port()
    async with DiscordSim() as sim:
        guild = sim.add_guild("dev", owner=sim.add_user("alice"))
        environment = {
            "DISCORD_TOKEN": sim.token,
            "DISCORD_API_URL": sim.api_url,
            "DISCORD_DEV_GUILD_IDS": str(guild.id),
            "OPS_PORT": str(port),
        }
        run = command(str(tool / "sandboxctl"), "run", "--embedded", directory=tmp_path, **environment)
        async with run as running:

            async def ready() -> bool:
                assert running.running, running.errors
                return (await get(f"http://127.0.0.1:{port}", "/readyz"))[0] == 200

            await eventually(ready)
            running.look_at_family()
            running.signal(signal.SIGTERM)
            assert await running.exit_code() == 0, running.errors
    assert "Traceback" not in running.errors
    assert {path.name for path in tmp_path.iterdir()} == {".local"}
