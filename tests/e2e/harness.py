"""The real bot in this process, the simulator it talks to, and what a test wants to know of both."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import nats
import nats.errors
from nats.js import JetStreamContext

from discord_sim import DiscordSim, Frame, InteractionResult, SimGuild, SimUser
from sandbox_bot.client import SandboxBot
from sandbox_bot.gateway import GatewayTuning
from sandbox_bot.runner import run_bot
from sandbox_bot.tour.readback import Comparison, Expected, StoredEvent, compare, read_streams, stored_count
from sandbox_bot.tour.stage import default_settings
from sandbox_core.ops import OpsServer
from sandbox_core.settings import Settings
from sandbox_core.subjects import StreamNames

PATIENCE = 60.0
"""Seconds a test waits for what has to come; it fails afterwards, so no run gets longer than it must."""

_READ_AGAIN = 2

_FIRST_PORT, _PORTS = 10_000, 9_900
"""Embedded servers choose from 20000 on, and Linux by itself from 32768 on."""
_ports = itertools.count(1_009 * os.getpid())

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Side = str | None
"""A sandbox's id, or None for production."""


class BotRun:
    """One run of the standalone bot, from its start to its stop."""

    def __init__(self, settings: Settings, tuning: GatewayTuning | None = None) -> None:
        self.settings = settings
        self._stop = asyncio.Event()
        self._started: asyncio.Future[tuple[SandboxBot, OpsServer]]
        self._started = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(
            run_bot(settings, stop=self._stop, on_started=self._on_started, tuning=tuning),
            name="bot under test",
        )

    async def _on_started(self, bot: SandboxBot, ops: OpsServer) -> None:
        self._started.set_result((bot, ops))

    async def ready(self) -> None:
        """Return when it is connected. Raises what its run raised when it ended instead."""
        either: set[asyncio.Future[Any]] = {self._task, self._started}
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._started.done():
            await self._task
        assert self._started.done(), "the bot ended before it was ready"

    @property
    def bot(self) -> SandboxBot:
        """The running bot."""
        return self._started.result()[0]

    @property
    def url(self) -> str:
        """The ops endpoint; answers from the first moment on."""
        return f"http://127.0.0.1:{self.settings.ops_port}"

    @property
    def ended(self) -> bool:
        """True once it has stopped, or failed: whoever waited for it has seen how."""
        return self._task.done()

    async def stop(self) -> None:
        """What SIGTERM does. Raises what the run raised; twice is harmless."""
        self._stop.set()
        async with asyncio.timeout(PATIENCE):
            await self._task


class Sides:
    """Where the frames of `sim.sent` have to be, told as the test goes on."""

    def __init__(self, sim: DiscordSim) -> None:
        self._sim = sim
        self._changes: dict[int, list[tuple[int, frozenset[Side]]]] = defaultdict(list)

    def set(self, guild: SimGuild, *sides: Side) -> None:
        """From the next frame on this guild's events belong on one of `sides`."""
        self._changes[guild.id].append((len(self._sim.sent), frozenset(sides)))

    def expected(self) -> list[Expected]:
        """Every frame sent so far with its sides; the bot's own interactions have none."""
        return [Expected(frame, self._of(index, frame)) for index, frame in enumerate(self._sim.sent)]

    def _of(self, index: int, frame: Frame) -> frozenset[Side]:
        if frame.type == "INTERACTION_CREATE" and _is_own(frame):
            return frozenset()
        sides: frozenset[Side] = frozenset({None})
        for since, changed in self._changes.get(frame.guild_id or 0, ()):
            if index >= since:
                sides = changed
        return sides


class Live:
    """A person at the simulator, the bot behind it, and the streams."""

    def __init__(self, sim: DiscordSim, run: BotRun, alice: SimUser, guilds: list[SimGuild]) -> None:
        self.sim = sim
        self.run = run
        self.alice = alice
        self.dev, *self.guilds = guilds
        self.sides = Sides(sim)

    @property
    def names(self) -> StreamNames:
        """What the bot's streams are called."""
        return self.run.settings.stream_names

    async def slash(self, command: str, *, timeout: float = 60.0, **options: Any) -> InteractionResult:
        """Alice uses `/sandbox {command}` in the dev guild."""
        channel = self.dev.default_channel
        return await self.sim.slash(self.alice, channel, f"sandbox {command}", timeout=timeout, **options)

    async def create(self, name: str = "box") -> str:
        """A running sandbox; its id, read from the answer."""
        result = await self.slash("create", name=name)
        found = _ID.search(result.text)
        assert found is not None, result.text
        return found.group()

    async def register(self, guild: SimGuild, sandbox_id: str, name: str = "box") -> None:
        """Register a guild; its events may go either way until the command has answered."""
        self.sides.set(guild, None, sandbox_id)
        result = await self.slash("register-guild", name=name, guild=str(guild.id))
        if "away from production" in result.text:
            # A guild with traffic is asked about first; the button on the left says yes.
            result = await self.sim.click(result, self.alice, label=result.buttons[0]["label"])
        await result.wait_until(lambda r: "Server registered" in r.text, timeout=PATIENCE)
        self.sides.set(guild, sandbox_id)

    async def unregister(self, guild: SimGuild, sandbox_id: str) -> None:
        """End a guild's registration; its events may go either way until the command has answered."""
        self.sides.set(guild, None, sandbox_id)
        result = await self.slash("unregister-guild", guild=str(guild.id))
        assert "Server unregistered" in result.text, result.text
        self.sides.set(guild, None)

    async def mapped(self, name: str = "box") -> tuple[str, SimGuild]:
        """A sandbox with one guild registered to it."""
        guild = self.guilds[0]
        sandbox_id = await self.create(name)
        await self.register(guild, sandbox_id, name)
        return sandbox_id, guild

    async def stored(self, *, wait: bool = True) -> list[StoredEvent]:
        """Both streams' messages, once everything that has to be there is, or patience is over."""
        async with jetstream(self.run.settings) as js:
            if wait:
                await eventually(lambda: self._complete(js), fail=False)
            for _ in range(_READ_AGAIN):
                # A cluster that has just lost a node can take its time to make a consumer.
                with contextlib.suppress(nats.errors.TimeoutError):
                    return await read_streams(js, self.names)
            return await read_streams(js, self.names)

    async def _complete(self, js: JetStreamContext) -> bool:
        await self.run.bot.sandbox_core.router.idle()
        return await stored_count(js, self.names) >= sum(1 for event in self.sides.expected() if event.sides)

    async def checked(self) -> list[StoredEvent]:
        """Both streams' messages, after making sure that they are exactly what the simulator sent."""
        async with asyncio.timeout(PATIENCE):
            while True:
                expected = self.sides.expected()
                stored = await self.stored()
                # What the bot wrote meanwhile, such as a notice, is an event as well.
                if len(self.sides.expected()) == len(expected):
                    break
        assert_exact(compare(expected, stored, self.names))
        return stored

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of the ops endpoint."""
        return await get(self.run.url, path)


class Flood:
    """A flood under way. It goes on until the test has had its turn, however slow the machine is."""

    _CHUNK = 100

    def __init__(self, sim: DiscordSim, least: int, rate: float) -> None:
        """`least` events at least, `rate` a second."""
        self.sent = 0
        self._sim = sim
        self._least = least
        self._rate = rate
        self._may_end = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self.sent < self._least or not self._may_end:
            await self._sim.flood(self._CHUNK, rate=self._rate, hold_disconnected=True)
            self.sent += self._CHUNK

    async def reached(self, count: int) -> None:
        """Return when so many events have been sent."""
        await eventually(lambda: self.sent >= count)

    async def over(self) -> None:
        """Let it end, and return when it has."""
        self._may_end = True
        await self._task


def assert_exact(result: Comparison) -> None:
    """Nothing lost, doubled, on a wrong side, altered or out of order."""
    assert not result.faults, result
    assert result.delivered == result.expected > 0


def of_types(stored: Iterable[StoredEvent], *types: str) -> list[StoredEvent]:
    """Those of these event names."""
    return [event for event in stored if event.headers["Discord-Event"] in types]


def settings_for(sim: DiscordSim, dev_guild: SimGuild, urls: dict[str, str], **overrides: object) -> Settings:
    """Settings for the simulator and the test's own servers, independent of the environment."""
    return default_settings(
        **{
            "discord_token": sim.token,
            "discord_api_url": sim.api_url,
            "discord_dev_guild_ids": str(dev_guild.id),
            "ops_port": free_port(),
            "sandbox_isolation": "convention",
            **urls,
            **overrides,
        }
    )


def free_port() -> int:
    """A port nobody listens on at the moment.

    Nobody gets it in the time until it is used: it is below those that others choose from, and every process
    of the tests begins elsewhere.
    """
    while True:
        port = _FIRST_PORT + next(_ports) % _PORTS
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@asynccontextmanager
async def jetstream(settings: Settings) -> AsyncIterator[JetStreamContext]:
    """A connection of the test's own, never the bot's."""
    client = await nats.connect(settings.nats_url.get_secret_value().split(","))
    try:
        yield client.jetstream()
    finally:
        await client.close()


async def get(url: str, path: str) -> tuple[int, str]:
    """Status and body; status 0 while nothing listens."""
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{url}{path}") as response:
            return response.status, await response.text()
    except aiohttp.ClientConnectionError as error:
        return 0, str(error)


async def eventually(
    condition: Callable[[], Awaitable[bool] | bool], *, fail: bool = True, within: float = PATIENCE
) -> None:
    """Return when `condition` holds; after `within` seconds fail, or with `fail=False` return anyway."""
    try:
        async with asyncio.timeout(within):
            while True:
                holds = condition()
                if holds if isinstance(holds, bool) else await holds:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        if fail:
            raise AssertionError(f"it did not happen within {within:g} seconds") from None


def _is_own(frame: Frame) -> bool:
    data = json.loads(frame.raw)["d"]["data"]
    return data.get("name") == "sandbox" or str(data.get("custom_id", "")).startswith("sandbox:")
