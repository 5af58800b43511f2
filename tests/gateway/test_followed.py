"""Whoever follows a sandbox's events, or production's, sees each of them once and in order, through kills."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from discord_sim import DiscordSim, SimGuild
from sandbox_bot.embedded import EmbeddedServers
from tests.conftest import revive
from tests.forked import ForkedProcess, start_forked

from .conftest import BotProcess, until

OWNER = "200000000000000001"
REMOVED = "Events may have been removed before they could be read."


@dataclass
class Follower:
    """`sandboxctl events … --follow`, and what it has written so far."""

    process: ForkedProcess
    lines: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    readers: list[asyncio.Task[None]] = field(default_factory=list)

    def read(self) -> None:
        """Take what it writes from now on."""
        self.readers = [asyncio.create_task(self._out()), asyncio.create_task(self._err())]

    @property
    def ids(self) -> list[str]:
        return [line["message_id"] for line in self.lines]

    async def seen(self, ids: list[str]) -> None:
        """Wait until it has shown the last of these, and compare all of them."""
        await until(lambda: ids[-1] in self.ids)
        assert self.ids == ids

    async def _out(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(json.loads(line))

    async def _err(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.notes.append(line.decode().rstrip())


class Talk:
    """Messages in the sandbox's server and in production's, one after the other."""

    def __init__(self, sim: DiscordSim, sandboxed: SimGuild, other: SimGuild) -> None:
        self._sim = sim
        self._guilds = (sandboxed, other)
        self.said = 0

    def say(self, count: int = 1) -> None:
        for _ in range(count):
            self.said += 1
            for guild in self._guilds:
                self._sim.message(guild, content=f"message {self.said}")

    def ids(self, side: int) -> list[str]:
        """What the messages' events are called, on the sandbox's side or on production's."""
        guild = str(self._guilds[side].id)
        return [
            f"{frame.session_id}:{frame.shard}:{frame.seq}"
            for frame in self._sim.sent
            if frame.type == "MESSAGE_CREATE" and json.loads(frame.raw)["d"]["guild_id"] == guild
        ]


@dataclass
class World:
    bot: BotProcess
    talk: Talk
    sandbox: Follower
    production: Follower
    start_bot: Callable[[], Any]

    async def all_seen(self) -> None:
        """Both followers have shown everything, each event once and in order."""
        await self.sandbox.seen(self.talk.ids(0))
        await self.production.seen(self.talk.ids(1))


@pytest.fixture
async def world(
    sim: DiscordSim,
    start_bot: Callable[[], Any],
    servers: EmbeddedServers,
    database_url: str,
    redis_url: str,
    nats_url: str,
) -> AsyncIterator[World]:
    sandboxed, other = sim.add_guild("Cooks"), sim.add_guild("Others")
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "NATS_URL": nats_url,
        "SANDBOX_ISOLATION": "convention",
        "DISCORD_TOKEN": "sim-token",
        "DISCORD_API_URL": sim.api_url,
    }

    async def command(*arguments: str) -> None:
        process = await start_forked(*arguments, environment=environment, own_stderr=True)
        _, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")

    followers: list[Follower] = []

    async def following(*whose: str) -> Follower:
        words = ("events", *whose, "--follow", "--json", "--type", "MESSAGE_CREATE")
        process = await start_forked(*words, environment=environment, own_stderr=True)
        follower = Follower(process)
        followers.append(follower)
        follower.read()
        return follower

    bot = await start_bot()
    await sim.wait_connected()
    await command("create", "seen", "--owner", OWNER)
    await command("register-guild", "seen", str(sandboxed.id), "--yes")
    talk = Talk(sim, sandboxed, other)
    talk.say()
    world = World(bot, talk, await following("seen"), await following("--production"), start_bot)
    await world.all_seen()
    yield world
    await revive(servers.nats)
    for follower in followers:
        follower.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            code = await follower.process.wait()
        await asyncio.gather(*follower.readers)
        assert code == 0, "\n".join(follower.notes[-40:])


async def test_the_bot_is_killed(world: World) -> None:
    world.talk.say(20)
    await world.bot.end(signal.SIGKILL)
    world.talk.say(20)
    await world.start_bot()
    world.talk.say(20)
    await world.all_seen()
    assert world.sandbox.notes == world.production.notes == []


async def test_nats_is_killed_and_comes_back(world: World, servers: EmbeddedServers) -> None:
    for _ in range(2):
        world.talk.say(20)
        await world.all_seen()
        await servers.nats.kill()
        world.talk.say(20)
        await servers.nats.start()
        world.talk.say(20)
        await world.all_seen()
    # Production's stream is on disk; a sandbox's is in memory, so that it is another one each time.
    assert world.production.notes == []
    assert world.sandbox.notes == [REMOVED] * 2


async def test_nats_hangs(world: World, servers: EmbeddedServers) -> None:
    world.talk.say(20)
    os.kill(servers.nats.pid, signal.SIGSTOP)
    try:
        world.talk.say(20)
        await until(lambda: world.bot.says("nats_disconnected"))
    finally:
        os.kill(servers.nats.pid, signal.SIGCONT)
    world.talk.say(20)
    await world.all_seen()
    assert world.sandbox.notes == world.production.notes == []


async def test_the_bot_and_nats_are_killed_while_events_come(world: World, servers: EmbeddedServers) -> None:
    stop = asyncio.Event()

    async def talk() -> None:
        while not stop.is_set():
            world.talk.say()
            await asyncio.sleep(0.002)

    talking = asyncio.create_task(talk())
    try:
        bot = world.bot
        for kills in range(3):
            known = len(world.production.lines)
            await until(lambda known=known: len(world.production.lines) > known + 50)
            # It may be back later than production's follower, and notices only what it was there for.
            await until(lambda kills=kills: len(world.sandbox.notes) == kills)
            await servers.nats.kill()
            await bot.end(signal.SIGKILL)
            await servers.nats.start()
            bot = await world.start_bot()
    finally:
        stop.set()
        await talking
    world.talk.say()
    await world.production.seen(world.talk.ids(1))
    # What a killed server had in memory is gone, and that is said; nothing else is.
    ids, shown = world.talk.ids(0), world.sandbox
    await until(lambda: ids[-1] in shown.ids)
    assert shown.ids == [each for each in ids if each in set(shown.ids)]
    assert shown.notes == [REMOVED] * 3


async def test_whoever_does_not_read_for_a_while_misses_nothing(world: World) -> None:
    for reader in world.sandbox.readers:
        reader.cancel()
    await asyncio.gather(*world.sandbox.readers, return_exceptions=True)
    # More than fits into a pipe and into what the process holds.
    for _ in range(40):
        world.talk.say(100)
        await world.production.seen(world.talk.ids(1))
    world.sandbox.read()
    await world.all_seen()
    assert world.sandbox.notes == []
