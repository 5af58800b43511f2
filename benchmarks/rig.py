"""What the measurements run on: embedded servers, a simulator in its own process, the real bot."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from sandbox_bot.client import SandboxBot
from sandbox_bot.embedded import EmbeddedServers, TenantNatsServer, embedded_servers
from sandbox_bot.logs import configure_logging
from sandbox_bot.migrate import migrate
from sandbox_bot.runner import run_bot
from sandbox_core.nats.tenant.configuration import TenantLimits
from sandbox_core.ops import OpsServer
from sandbox_core.settings import load_settings

_TOKEN = "bench-token"  # noqa: S105 - accepted by the local simulator alone
_STARTED_WITHIN = 60


@dataclass(frozen=True, slots=True)
class SimProcess:
    """A simulator in a process of its own, driven over its control endpoint."""

    info: dict[str, Any]
    http: aiohttp.ClientSession

    @property
    def token(self) -> str:
        """The bot token it accepts."""
        return _TOKEN

    @property
    def developer(self) -> dict[str, Any]:
        """Who types the commands, and where: fields of a control request."""
        return {"user": self.info["users"]["alice"], "guild": self.info["guilds"][0]["id"]}

    async def post(self, name: str, **body: Any) -> dict[str, Any]:
        """One control request; raises with the simulator's own words when it refuses."""
        url = self.info["api_url"].rsplit("/api", 1)[0]
        async with self.http.post(f"{url}/_sim/{name}", json=body) as response:
            answer: dict[str, Any] = await response.json()
            if response.status != 200:
                raise RuntimeError(f"the simulator refused {name}: {answer}")
            return answer


@dataclass(frozen=True, slots=True)
class Rig:
    """Everything up and connected."""

    servers: EmbeddedServers
    sim: SimProcess
    bot: SandboxBot


@asynccontextmanager
async def servers(*, slots: int = 0) -> AsyncIterator[EmbeddedServers]:
    """The embedded servers as `make run` starts them (data is flushed to disk), migrated.

    With `slots` the sandboxes' nats-server is another one, with so many accounts.
    """
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as directory:
        async with embedded_servers(Path(directory)) as running:
            await migrate(running.database_url)
            if not slots:
                yield running
                return
            larger = TenantNatsServer(
                *(Path(directory) / "larger-nats", Path(directory) / "larger-nats.log"),
                running.credentials_key,
                limits=TenantLimits(slots=slots),
            )
            await larger.start()
            try:
                yield replace(running, tenant_nats=larger)
            finally:
                await larger.stop()


@asynccontextmanager
async def sim_process(
    *, guilds: int, shards: int = 1, session_ttl: float = 180.0
) -> AsyncIterator[SimProcess]:
    """A simulator with that many guilds; `session_ttl` seconds after its client left a session is over."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "discord_sim", "--token", _TOKEN, "--guilds", str(guilds), "--print-ready-json"),
        *("--shards", str(shards), "--max-concurrency", "16", "--session-ttl", str(session_ttl)),
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    try:
        assert process.stdout is not None
        info = json.loads(await process.stdout.readline())
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as http:
            yield SimProcess(info, http)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@asynccontextmanager
async def rig(*, guilds: int = 10, isolated: bool = False, slots: int = 0) -> AsyncIterator[Rig]:
    """Servers, simulator and bot; the bot runs in this process, where it can be measured.

    With `isolated` sandboxes have logins of their own, and `slots` accounts on NATS.
    """
    async with servers(slots=slots) as running, sim_process(guilds=guilds) as sim:
        tenants: dict[str, Any] = running.tenant_settings if isolated else {}
        settings = load_settings(
            _env_file=None,
            database_url=running.database_url,
            redis_url=running.redis_url,
            nats_url=running.nats_url,
            discord_token=_TOKEN,
            discord_api_url=sim.info["api_url"],
            discord_dev_guild_ids=str(sim.info["guilds"][0]["id"]),
            sandbox_max_per_owner=10_000,
            ops_port=0,
            log_level="ERROR",
            sandbox_isolation="enforced" if isolated else "convention",
            **tenants,
        )
        configure_logging(settings)
        stop = asyncio.Event()
        started: asyncio.Future[SandboxBot] = asyncio.get_running_loop().create_future()

        async def on_started(bot: SandboxBot, ops: OpsServer) -> None:
            started.set_result(bot)

        running_bot = asyncio.create_task(run_bot(settings, stop=stop, on_started=on_started))
        async with asyncio.timeout(_STARTED_WITHIN):
            while not started.done():
                if running_bot.done():
                    await running_bot
                await asyncio.sleep(0.1)
        try:
            yield Rig(running, sim, started.result())
        finally:
            stop.set()
            await running_bot
