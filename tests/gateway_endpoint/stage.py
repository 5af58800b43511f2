"""A local Discord, a bot's core that publishes its events, the endpoint, and clients that know of neither."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from discord_sim import DiscordSim, SimGuild
from sandbox_core.bootstrap import Core, NatsUse, open_core
from sandbox_core.models import Actor, GuildAccess, Sandbox
from sandbox_core.settings import Settings
from sandbox_gateway.process import Endpoint, EndpointTuning, open_endpoint, serve
from sandbox_gateway.share import ShareLimits
from tests.isolation.gateway import publishing
from tests.plugin.test_fitness import free_port

ALICE = Actor("200000000000000001", "Alice")
BOB = Actor("200000000000000002", "Bob")
PLENTY = ShareLimits(all_sandboxes=10_000, each=10_000)
QUICK = EndpointTuning(identify_every=0.01, leave_within=2.0, share=PLENTY)


async def until(what: Callable[[], object], within: float = 60.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(within):
        while not what():
            await asyncio.sleep(0.01)


@dataclass
class Addresses:
    """Where clients connect to."""

    url: str

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/v10"

    @property
    def gateway_url(self) -> str:
        return f"ws{self.url.removeprefix('http')}/"


@dataclass
class Process(Addresses):
    """One process's endpoint, in this process."""

    endpoint: Endpoint
    stop: Callable[[], Any]


@dataclass
class Stage:
    """What a test plays with."""

    sim: DiscordSim
    core: Core
    """The bot's: it publishes."""
    settings: Settings
    guilds: list[SimGuild]
    processes: list[Process] = field(default_factory=list)
    read: int = 0
    """The last event of Discord's that the bot has read."""

    async def start(self, tuning: EndpointTuning = QUICK) -> Process:
        """Start one more process of the endpoint."""
        stack = AsyncExitStack()
        port = free_port()
        own = self.settings.model_copy(update={"sandbox_gateway_port": port})
        core = await stack.enter_async_context(
            open_core(own, follow_routes=False, use_nats=NatsUse.SANDBOXES)
        )
        endpoint = await stack.enter_async_context(open_endpoint(core, tuning))
        url = await stack.enter_async_context(
            serve(endpoint, "127.0.0.1", port, leave_within=tuning.leave_within)
        )
        process = Process(url, endpoint, stack.aclose)
        self.processes.append(process)
        return process

    async def sandbox(self, name: str, *guilds: SimGuild, owner: Actor = ALICE) -> Sandbox:
        """Create a sandbox with these servers."""
        await self.core.manager.create(owner, name=name)
        for guild in guilds:
            await self.register(name, guild, owner)
        return await self.core.manager.get(name)

    async def register(self, name: str, guild: SimGuild, owner: Actor = ALICE) -> None:
        await self.core.manager.register_guild(owner, name, access(guild))

    async def unregister(self, guild: SimGuild, owner: Actor = ALICE) -> None:
        await self.core.manager.unregister_guild(owner, access(guild))

    def token(self, sandbox: Sandbox) -> str:
        """What `connect` shows."""
        return self.core.manager.credentials(sandbox)["DISCORD_TOKEN"]

    async def published(self) -> None:
        """Everything that Discord has sent is stored."""
        await until(lambda: self.read >= self.sim.sessions[-1].sequence)
        async with asyncio.timeout(20):
            await self.core.router.idle()


def access(guild: SimGuild) -> GuildAccess:
    """What Discord says of an administrator."""
    return GuildAccess(str(guild.id), bot_is_member=True, caller_manages=True)


async def publish_from(sim: DiscordSim, core: Core, read: Callable[[int], None]) -> None:
    """Read the simulator's gateway as the bot does, and publish; until it is cancelled."""
    async with aiohttp.ClientSession() as session, session.ws_connect(sim.gateway_url, max_msg_size=0) as ws:
        await ws.receive()
        identify = {"token": sim.token, "intents": (1 << 26) - 1, "properties": {}}
        await ws.send_json({"op": 2, "d": identify})
        async for message in ws:
            raw = message.data.encode()
            frame = core.intake.read(raw)
            if frame is None:
                continue
            if frame.type == "READY":
                core.intake.adopt(json.loads(raw)["d"]["session_id"], 0, 0)
            core.intake.take(frame, 0)
            read(json.loads(raw)["s"])


@asynccontextmanager
async def staged(settings: Settings, sim: DiscordSim, guilds: list[SimGuild]) -> AsyncIterator[Stage]:
    """The stage without an endpoint yet."""
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(publishing(settings))
        stage = Stage(sim, core, settings, guilds)

        def note(sequence: int) -> None:
            stage.read = sequence

        reading = asyncio.create_task(publish_from(sim, core, note))
        try:
            await sim.wait_connected()
            yield stage
            for process in stage.processes:
                await process.stop()
            for sandbox in await core.manager.list():
                await core.manager.destroy(Actor("test", is_bot_owner=True), sandbox.name)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
