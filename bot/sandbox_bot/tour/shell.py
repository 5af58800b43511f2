"""A shell that is prepared for the tour's servers: the developer's, and one for whoever looks around."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from sandbox_core.settings import Settings

from ..embedded import EmbeddedServers
from ..embedded._process import GuardedProcess, ProcessPlan
from ..embedded._programs import postgres_programs
from ._screen import StepFailed
from .stage import World

_STARTS_WITHIN = 30.0
_GRACE = 5.0
_BOT = Path(__file__).with_name("mybot.py")


class Shell:
    """Runs commands as a person would, each of them until this process ends."""

    def __init__(self, servers: EmbeddedServers, place: World, settings: Settings, directory: Path) -> None:
        self._directory = directory
        self._url = f"http://127.0.0.1:{settings.sandbox_gateway_port}"
        self.file = directory / "shell"
        """What prepares a shell: settings, `sandboxctl` and `psql` on the path."""
        variables = {
            "DATABASE_URL": servers.database_url,
            "REDIS_URL": servers.redis_url,
            "NATS_URL": servers.nats_url,
            **{name.upper(): value for name, value in servers.tenant_settings.items()},
            "DISCORD_TOKEN": place.sim.token,
            "DISCORD_API_URL": place.sim.api_url,
            "DISCORD_DEV_GUILD_IDS": str(place.dev_guild.id),
            "SANDBOX_GATEWAY_PORT": str(settings.sandbox_gateway_port),
            "SANDBOX_OWNER": str(place.developer.id),
        }
        programs = f"{Path(sys.executable).parent}{os.pathsep}{postgres_programs()}"
        lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        self.file.touch(mode=0o600)
        self.file.write_text("\n".join((*lines, f"export PATH={shlex.quote(programs)}{os.pathsep}$PATH", "")))
        shutil.copy(_BOT, directory)

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[None]:
        """Run `sandboxctl gateway`, beside the bot."""
        async with self.running("sandboxctl gateway", "gateway") as process:
            yield
            await process.stop()

    async def endpoint_listens(self) -> None:
        """Return when the endpoint takes connections. Raises `StepFailed`."""
        async with aiohttp.ClientSession() as http:
            for _ in range(int(_STARTS_WITHIN / 0.05)):
                try:
                    async with http.get(f"{self._url}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.05)
        raise StepFailed("sandboxctl gateway does not listen.")

    @asynccontextmanager
    async def running(self, command: str, name: str) -> AsyncIterator[GuardedProcess]:
        """Run a command; it ends with the body, or with this process. What it prints is in `name`.log."""
        script = f". {shlex.quote(str(self.file))}\ncd {shlex.quote(str(self._directory))}\nexec {command}"
        process = await GuardedProcess.start(
            ProcessPlan(
                ["/bin/sh", "-c", script], self.log_of(name), stop_signal=signal.SIGTERM, grace=_GRACE
            )
        )
        try:
            yield process
        finally:
            await process.kill()

    async def has_said(self, name: str, word: str, process: GuardedProcess) -> None:
        """Return when a command has printed this line. Raises `StepFailed` if it ends before."""
        for _ in range(int(_STARTS_WITHIN / 0.05)):
            printed = self.log_of(name).read_text()
            if word in printed.splitlines():
                return
            if not process.running:
                raise StepFailed(f"The command {name} has ended: {printed.strip()[-500:]}")
            await asyncio.sleep(0.05)
        raise StepFailed(f"The command {name} is not ready in time.")

    def log_of(self, name: str) -> Path:
        """Where a command's output is."""
        return self._directory / f"{name}.log"
