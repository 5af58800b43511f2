"""What the image holds, laid out without a container engine: no more than its files and locked packages."""

from __future__ import annotations

import asyncio
import compileall
import json
import re
import shutil
import signal
import sys
from importlib import metadata
from pathlib import Path

import pytest

from discord_sim import DiscordSim
from sandbox_bot import __version__
from tests.deploy.tools import DEPLOY, ROOT
from tests.e2e.harness import eventually, free_port, get
from tests.forked import ForkedProcess, WarmServer, start_forked


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`app/` with what the Dockerfile copies, `lib/…/site-packages` and `bin/` with what it installs.

    The packages are links to this environment's, those of deploy/requirements.lock alone: neither the project
    itself, which is not installed in the image, nor what only tests need.
    """
    directory = tmp_path_factory.mktemp("image")
    copied = re.findall(r"^COPY (?!--)(\S+) /app/(\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    for source, target in copied:
        shutil.copytree(
            ROOT / source, directory / "app" / target, ignore=shutil.ignore_patterns("__pycache__")
        )
    assert compileall.compile_dir(directory / "app", quiet=1)
    packages = directory / "lib" / "python" / "site-packages"
    packages.mkdir(parents=True)
    locked = re.findall(r"^([\w.-]+)==", (DEPLOY / "requirements.lock").read_text(), re.MULTILINE)
    for distribution in _installed(locked):
        for file in distribution.files or ():
            top = file.parts[0]
            if top != "..":
                link = packages / top
                if not link.exists():
                    link.symlink_to(Path(str(distribution.locate_file(top))))
            elif file.parts[-2] == "bin":
                (directory / "bin").mkdir(exist_ok=True)
                (directory / "bin" / file.name).symlink_to(Path(str(file.locate())).resolve())
    return directory


def _installed(locked: list[str]) -> list[metadata.Distribution]:
    found = []
    for name in locked:
        try:
            found.append(metadata.distribution(name))
        except metadata.PackageNotFoundError:
            # Locked for another platform or Python.
            continue
    return found


# -S: this environment's own packages stay out of sight.
_PYTHON = (sys.executable, "-S")


class Container:
    """`sandboxctl` as the image runs it."""

    def __init__(self, image: Path, environment: dict[str, str]) -> None:
        packages = image / "lib" / "python" / "site-packages"
        self._app = image / "app"
        self._environment = {
            "PATH": str(image / "bin"),
            "PYTHONPATH": f"{self._app}:{packages}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "LOG_FORMAT": "json",
            **environment,
        }

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start it, with its output piped."""
        return await asyncio.create_subprocess_exec(
            *(*_PYTHON, "-m", "sandbox_bot", *arguments),
            cwd=self._app,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def run(self, *arguments: str, server: WarmServer | None = None) -> str:
        """Run it to its end; what it printed. Fails unless the end is good."""
        process: asyncio.subprocess.Process | ForkedProcess
        if server is None:
            process = await self.start(*arguments)
        else:
            process = await start_forked(
                *arguments,
                environment=self._environment,
                directory=self._app,
                endpoint=server.endpoint,
            )
        async with asyncio.timeout(60):
            printed, _ = await process.communicate()
        assert process.returncode == 0, printed.decode()
        return printed.decode()

    def warm_server(self) -> WarmServer:
        """A server of forks that has only what the image has."""
        modules = ("sandbox_bot.cli", "sandbox_bot.runner")
        return WarmServer(python=_PYTHON, modules=modules, directory=self._app, **self._environment)


async def test_every_command_that_operators_use_works_in_the_image(
    image: Path, sim: DiscordSim, urls: dict[str, str]
) -> None:
    assert {path.name for path in (image / "app").iterdir()} == {
        "sandbox_bot",
        "sandbox_cogs",
        "sandbox_core",
    }
    before = _files(image)
    alice = sim.add_user("alice")
    dev = sim.add_guild("dev", owner=alice)
    port = free_port()
    container = Container(
        image,
        {
            "DISCORD_TOKEN": sim.token,
            "DISCORD_API_URL": sim.api_url,
            "DISCORD_DEV_GUILD_IDS": str(dev.id),
            "OPS_PORT": str(port),
            "SANDBOX_ISOLATION": "convention",
            **{name.upper(): url for name, url in urls.items()},
        },
    )
    assert await container.run("--version") == f"sandboxctl {__version__}\n"
    assert await container.run("migrate") == "The database is up to date.\n"

    bot = await container.start("run")
    server = container.warm_server()
    try:

        async def ready() -> bool:
            assert bot.returncode is None
            return (await get(f"http://127.0.0.1:{port}", "/readyz"))[0] == 200

        await eventually(ready)
        assert await _healthy(image, port) == 0
        assert "failed" not in await container.run("doctor", server=server)
        owner = ("--owner", str(alice.id))
        await container.run("create", "box", *owner, server=server)
        await container.run("register-guild", "box", str(dev.id), *owner, "--yes", server=server)
        listed = json.loads(await container.run("list", "--json", server=server))
        assert [sandbox["name"] for sandbox in listed["sandboxes"]] == ["box"]
        await container.run("orphans", server=server)
        await container.run("unregister-guild", "--all", "--yes", server=server)
        await container.run("destroy", "box", "--yes", server=server)
    finally:
        server.stop()
        bot.send_signal(signal.SIGTERM)
        printed, _ = await bot.communicate()
    assert bot.returncode == 0, printed.decode()
    assert await _healthy(image, port) != 0
    assert _files(image) == before, "the file system may be read-only"


def _files(image: Path) -> set[Path]:
    return set((image / "app").rglob("*"))


async def _healthy(image: Path, port: int) -> int:
    """The exit code of the image's health check."""
    dockerfile = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    command = re.search(r"^HEALTHCHECK .*? CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert command is not None
    _, *arguments = json.loads(command[1])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        env={"OPS_PORT": str(port)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()
