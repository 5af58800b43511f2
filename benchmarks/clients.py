"""Unmodified bots at the gateway endpoint: how late events come, how many, and how long a beginning takes.

The events take the bot's own path into the sandbox's stream; the endpoint has a process of its own. The
clients, the publisher and the local Discord share another one.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import aiohttp

from discord_sim import DiscordSim, SimGuild
from sandbox_bot.embedded import embedded_servers
from sandbox_bot.migrate import migrate
from sandbox_bot.tour.stage import default_settings
from sandbox_core.bootstrap import Core, open_core
from sandbox_core.models import Actor, GuildAccess, Sandbox
from sandbox_core.nats.message_ids import Content
from sandbox_core.nats.tenant.streams import SlotStreams
from sandbox_core.postgres import nats_slots
from sandbox_core.postgres.pool import connected
from sandbox_core.subjects import SLOT_STREAM, sandbox_events

from .counting_client import CountingClient, connect, resume
from .report import Section, Spread, percentile

_OWNER = Actor("200000000000000001", "Alice")
_ROUNDS = 3
_RATE = 1000
_NONCE = re.compile(rb'"nonce":"(\d+)"')
_BODY = 1100
_PORT = 19470


@dataclass
class _Place:
    """What is measured."""

    sim: DiscordSim
    core: Core
    url: str
    pid: int
    sent: int = 0

    async def sandbox(self, name: str, guilds: list[SimGuild]) -> tuple[Sandbox, str]:
        """A sandbox with these servers, and its token."""
        made = await self.core.manager.create(_OWNER, name=name)
        for guild in guilds:
            access = GuildAccess(str(guild.id), bot_is_member=True, caller_manages=True)
            await self.core.manager.register_guild(_OWNER, name, access)
        return made.sandbox, self.core.manager.credentials(made.sandbox)["DISCORD_TOKEN"]

    def send(self, guild: SimGuild) -> None:
        """One event of about 1.3 kB."""
        self.sent += 1
        body = {"guild_id": str(guild.id), "nonce": str(self.sent), "content": "x" * _BODY}
        raw = json.dumps({"t": "MESSAGE_CREATE", "s": self.sent, "op": 0, "d": body}, separators=(",", ":"))
        frame = self.core.intake.read(raw.encode())
        assert frame is not None
        self.core.intake.take(frame, 0)

    async def send_many(self, guild: SimGuild, count: int) -> None:
        """As many as the bot may have under way, again and again."""
        for number in range(count):
            self.send(guild)
            if number % 500 == 499:
                await self.core.router.idle()

    @property
    def memory(self) -> int:
        """The endpoint's resident memory in bytes."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def measure(section: Section) -> None:
    """Lag at a steady rate, events per second to 1, 50 and 200 sessions, and beginnings."""
    async with _place() as place:
        guilds = [place.sim.add_guild(f"guild-{number}") for number in range(20)]
        _, token = await place.sandbox("one", guilds[:1])
        sandbox = await place.core.manager.get("one")
        seconds = section.size(5, 1)
        lags = [await _lag(place, sandbox, token, guilds[0], seconds) for _ in range(_ROUNDS)]
        shares = (0.5, 0.99)
        spreads = [Spread(tuple(percentile(each, share) for each in lags)) for share in shares]
        section.table(
            f"Stored to received at {_RATE:,}/s, milliseconds: median (min-max) of {_ROUNDS} rounds",
            ("", "p50", "p99"),
            [("one session", *spreads)],
        )
        most = section.size(6000, 1000)
        rows: list[tuple[object, ...]] = [
            ("1, of stored events, after RESUME", await _resumed(place, token, guilds[0], most), "")
        ]
        for sessions in (1, 50, 200):
            count = most if sessions == 1 else section.size(40_000 // sessions, 200)
            rows.append(await _throughput(place, token, guilds[0], sessions, count))
        section.table(
            "Events through one process; the others share the machine's cores with whoever publishes them",
            ("sessions", "events/s to all of them", "memory of a session, kB"),
            rows,
        )
        _, many = await place.sandbox("many", [*guilds[1:], place.sim.add_guild("last")])
        section.table(
            "IDENTIFY to the last GUILD_CREATE, milliseconds, with as many requests to Discord as it takes",
            ("servers", "time"),
            [(1, await _beginning(place, token, 1)), (20, await _beginning(place, many, 20))],
        )


async def _lag(place: _Place, sandbox: Sandbox, token: str, guild: SimGuild, seconds: int) -> list[float]:
    client = await connect(place.url, token, guilds=1, keep=True)
    begin, first, count = datetime.now(UTC), place.sent, _RATE * seconds
    before = client.received
    started = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(started + number / _RATE - time.perf_counter())
        place.send(guild)
    await client.until(before + count)
    came = {int(found[1]): at for at, text in client.kept if (found := _NONCE.search(text))}
    client.close()
    stored: dict[int, float] = {}

    def note(content: Content) -> None:
        if (found := _NONCE.search(content.payload)) is not None:
            stored[int(found[1])] = content.stored_at

    async with connected(place.core.pool) as connection:
        row = await nats_slots.of_sandbox(connection, sandbox.id)
    assert row is not None
    reads = SlotStreams(place.core.sandbox_nats).reads(row.slot)
    await reads.read_whole(SLOT_STREAM, sandbox_events(sandbox.id), begin - timedelta(seconds=1), note)
    return [(came[each] - stored[each]) * 1000 for each in range(first + 1, first + count + 1)]


async def _resumed(place: _Place, token: str, guild: SimGuild, count: int) -> Spread:
    """Events per second while nobody publishes any: what the process does by itself."""
    rates = []
    for _ in range(_ROUNDS):
        before = await connect(place.url, token, guilds=1)
        before.close()
        await place.send_many(guild, count)
        await place.core.router.idle()
        started = time.perf_counter()
        client = await resume(place.url, token, before)
        # HELLO comes before them, RESUMED behind them.
        await client.until(1 + count + 1)
        rates.append(count / (time.perf_counter() - started))
        client.close()
    return Spread(tuple(rates), 0)


async def _throughput(
    place: _Place, token: str, guild: SimGuild, sessions: int, count: int
) -> tuple[object, ...]:
    before = place.memory
    clients: list[CountingClient] = []
    for _ in range(sessions):
        clients.append(await connect(place.url, token, guilds=1))
        # A moment passes between two beginnings of one sandbox.
        await asyncio.sleep(0.005)
    each = (place.memory - before) / sessions / 1024
    rates = []
    for _ in range(_ROUNDS):
        wanted = [client.received + count for client in clients]
        started = time.perf_counter()
        sending = asyncio.create_task(place.send_many(guild, count))
        await asyncio.gather(*(client.until(number) for client, number in zip(clients, wanted, strict=True)))
        await sending
        rates.append(sessions * count / (time.perf_counter() - started))
    for client in clients:
        client.close()
    return sessions, Spread(tuple(rates), 0), f"{each:,.0f}" if sessions > 1 else ""


async def _beginning(place: _Place, token: str, guilds: int) -> Spread:
    taken = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        (await connect(place.url, token, guilds=guilds)).close()
        taken.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(0.05)
    return Spread(tuple(taken), 0)


@asynccontextmanager
async def _place() -> AsyncIterator[_Place]:
    with tempfile.TemporaryDirectory() as directory:
        async with embedded_servers(Path(directory), fast=True) as servers, DiscordSim() as sim:
            await migrate(servers.database_url)
            given = {
                "database_url": servers.database_url,
                "redis_url": servers.redis_url,
                "nats_url": servers.nats_url,
                "sandbox_isolation": "enforced",
                "discord_token": sim.token,
                "discord_api_url": sim.api_url,
                "sandbox_gateway_port": str(_PORT),
                **servers.tenant_settings,
            }
            async with open_core(default_settings(**given)) as core, _endpoint(given) as pid:
                publishers = core.publishers
                while not (publishers.production.takes and publishers.sandboxes.takes):  # noqa: ASYNC110 (nobody tells)
                    await asyncio.sleep(0.01)
                core.intake.adopt(uuid4().hex, 0, 0)
                yield _Place(sim, core, f"http://127.0.0.1:{_PORT}", pid)


@asynccontextmanager
async def _endpoint(settings: dict[str, str]) -> AsyncIterator[int]:
    environment = {**os.environ, **{name.upper(): value for name, value in settings.items()}}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.endpoint_process", env=environment
    )
    try:
        async with aiohttp.ClientSession() as http, asyncio.timeout(60):
            while not await _is_ready(http):  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


async def _is_ready(http: aiohttp.ClientSession) -> bool:
    try:
        async with http.get(f"http://127.0.0.1:{_PORT}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
