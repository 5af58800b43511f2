"""A new version with a new schema takes over from the old one, and back again, while events flow."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from discord_sim import DiscordSim, InteractionResult, SimGuild
from sandbox_bot import __version__
from sandbox_bot.tour.readback import compare, read_streams, stored_count
from tests.deploy.next_version import VERSION, make_next_version, python_path
from tests.deploy.tools import ROOT
from tests.e2e.harness import Flood, Sides, assert_exact, eventually, get, jetstream, settings_for
from tests.e2e.programs import Program, program
from tests.forked import WarmServer
from tests.migrations.additive import breaks, schema_of

_SHARDS = 2
_CONNECTED = re.compile(r'^sandbox_gateway_connected\{shard="\d+"\} 1', re.MULTILINE)
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    """Two shards: of two processes, each then has one."""
    async with DiscordSim(
        record=True, replay_limit=100_000, shards=_SHARDS, max_concurrency=_SHARDS
    ) as running:
        yield running


class Version:
    """A running bot of one version."""

    def __init__(self, running: Program, url: str) -> None:
        self._program = running
        self._url = url

    async def ready(self) -> bool:
        """Whether it says that it is; fails with what it said when it has ended instead."""
        assert self._program.running, self._program.errors
        return (await get(self._url, "/readyz"))[0] == 200

    async def runs(self, shards: int) -> None:
        """Return when it is connected on so many shards."""

        async def connected() -> bool:
            assert self._program.running, self._program.errors
            return len(_CONNECTED.findall((await get(self._url, "/metrics"))[1])) == shards

        await eventually(connected)

    async def number(self) -> str:
        """Which version it says that it is."""
        return str(json.loads((await get(self._url, "/version"))[1])["version"])

    async def stop(self) -> None:
        """SIGTERM, and a good end."""
        self._program.signal(signal.SIGTERM)
        assert await self._program.exit_code() == 0, self._program.errors
        assert "stopped_with_events_unacknowledged" not in self._program.errors


class Rollout:
    """The world that the versions serve, one after the other: one sandbox is kept, others come and go."""

    def __init__(self, sim: DiscordSim, urls: dict[str, str], stack: contextlib.AsyncExitStack) -> None:
        self.sim = sim
        self.sides = Sides(sim)
        self.alice = sim.add_user("alice")
        self.dev = sim.add_guild("dev", owner=self.alice)
        self.guilds = [sim.add_guild(f"guild-{number}", owner=self.alice) for number in range(9)]
        self.urls = urls
        self._stack = stack
        self._servers: dict[Path, WarmServer] = {}
        self._kept = ""

    async def start(self, code: Path) -> Version:
        """Start the version whose code is in this folder, and return when it is ready."""
        settings = settings_for(self.sim, self.dev, self.urls)
        running = await self._stack.enter_async_context(
            program(
                *("sandbox_bot", "run"),
                directory=code,
                server=self._server(code),
                PYTHONPATH=python_path(code),
                DISCORD_TOKEN=self.sim.token,
                DISCORD_API_URL=self.sim.api_url,
                DISCORD_DEV_GUILD_IDS=str(self.dev.id),
                OPS_PORT=str(settings.ops_port),
                SANDBOX_ISOLATION=settings.sandbox_isolation,
                **{name.upper(): url for name, url in self.urls.items()},
            )
        )
        version = Version(running, f"http://127.0.0.1:{settings.ops_port}")
        await eventually(version.ready)
        return version

    def _server(self, code: Path) -> Path | None:
        """Where that version's programs are forked; the run's own server has this checkout's."""
        if code == ROOT:
            return None
        if code not in self._servers:
            server = WarmServer(
                modules=("sandbox_bot.cli", "sandbox_bot.runner"),
                directory=code,
                **{**os.environ, "PYTHONPATH": python_path(code)},
            )
            self._stack.callback(server.stop)
            self._servers[code] = server
        return self._servers[code].endpoint

    async def migrate(self, code: Path) -> None:
        """What `sandboxctl migrate` of that version does."""
        async with program(
            *("sandbox_bot", "migrate"),
            directory=code,
            server=self._server(code),
            PYTHONPATH=python_path(code),
            DATABASE_URL=self.urls["database_url"],
        ) as running:
            assert await running.exit_code() == 0, running.errors

    async def slash(self, command: str, **options: Any) -> InteractionResult:
        """Alice uses `/sandbox {command}`; a refusal fails the test."""
        channel = self.dev.default_channel
        result = await self.sim.slash(self.alice, channel, f"sandbox {command}", timeout=60, **options)
        assert re.search(r"SANDBOX_\d{3}", result.text) is None, result.text
        return result

    async def create_kept(self) -> None:
        """The sandbox that gets events. It is there to the end: what it received goes with it."""
        found = _ID.search((await self.slash("create", name="kept")).text)
        assert found is not None
        self._kept = found.group()

    async def register(self, guild: SimGuild) -> None:
        """From the answer on, its events belong to the kept sandbox; until then either side will do."""
        self.sides.set(guild, None, self._kept)
        result = await self.slash("register-guild", name="kept", guild=str(guild.id))
        if "away from production" in result.text:
            result = await self.sim.click(result, self.alice, label=result.buttons[0]["label"])
        await result.wait_until(lambda r: "Server registered" in r.text, timeout=60)
        self.sides.set(guild, self._kept)

    async def unregister(self, guild: SimGuild) -> None:
        """From the answer on, its events belong to production; until then either side will do."""
        self.sides.set(guild, None, self._kept)
        assert "Server unregistered" in (await self.slash("unregister-guild", guild=str(guild.id))).text
        self.sides.set(guild, None)

    async def life(self, name: str) -> None:
        """A sandbox's life from its creation to its end."""
        await self.slash("create", name=name)
        status = (await self.slash("status", name=name)).text.lower()
        assert "healthy" in status
        assert "unhealthy" not in status
        assert "degraded" not in status
        assert name in (await self.slash("list")).text
        await self.slash("extend", name=name, duration="30h")
        await self.slash("connect", name=name)
        await self.destroy(name)

    async def destroy(self, name: str) -> None:
        """`/sandbox destroy`, and yes."""
        result = await self.slash("destroy", name=name)
        result = await self.sim.click(result, self.alice, label="Destroy it")
        await result.wait_until(lambda r: f"{name} is destroyed" in r.text, timeout=60)

    async def checked(self) -> None:
        """Make sure that both streams hold exactly what Discord sent, each event where it belongs."""
        wanted = sum(1 for event in self.sides.expected() if event.sides)
        async with jetstream(settings_for(self.sim, self.dev, self.urls)) as js:

            async def complete() -> bool:
                return await stored_count(js) >= wanted

            await eventually(complete, fail=False)
            assert_exact(compare(self.sides.expected(), await read_streams(js)))
        assert len(self.sim.identifies) == _SHARDS, "a session was begun anew"
        assert all(resume.replayed is not None for resume in self.sim.resumes)
        assert {session.last_client_close for session in self.sim.sessions} <= {None, 4000}


@pytest.fixture
async def rollout(sim: DiscordSim, urls: dict[str, str]) -> AsyncIterator[Rollout]:
    async with contextlib.AsyncExitStack() as stack:
        yield Rollout(sim, urls, stack)


@pytest.fixture
async def database(urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(urls["database_url"])
    yield opened
    await opened.close()


async def test_a_new_version_takes_over_and_can_be_taken_back(
    rollout: Rollout, database: asyncpg.Connection, tmp_path: Path
) -> None:
    next_version = make_next_version(tmp_path)
    first, second, third = rollout.guilds[:3]

    old = await rollout.start(ROOT)
    await old.runs(_SHARDS)
    await rollout.create_kept()
    await rollout.register(first)
    await rollout.life("before")
    flood = Flood(rollout.sim, 1_000, rate=250)
    await flood.reached(250)

    before = await schema_of(database)
    await rollout.migrate(next_version)
    assert breaks(before, await schema_of(database)) == []
    # The old code on the new schema: each statement that it had prepared, and the new notifications.
    await rollout.register(second)
    await rollout.life("between")

    new = await rollout.start(next_version)
    assert (await old.number(), await new.number()) == (__version__, VERSION)
    for version in (old, new):
        await version.runs(_SHARDS // 2)
    await rollout.life("beside")
    await old.stop()
    await new.runs(_SHARDS)
    assert len(rollout.sim.resumes) == _SHARDS
    await rollout.unregister(first)
    await rollout.register(third)
    await rollout.life("after")
    await rollout.slash("create", name="of-the-new")
    assert await database.fetchval("SELECT count(*) FROM sandbox_layouts WHERE layout = 'small'") >= 2

    # The new version disappoints: the old one comes back, and the schema stays.
    back = await rollout.start(ROOT)
    await new.stop()
    await back.runs(_SHARDS)
    await rollout.unregister(third)
    await rollout.life("back")
    await rollout.destroy("of-the-new")
    await flood.over()
    await rollout.checked()
    await back.stop()
