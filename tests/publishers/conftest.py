"""The plugin and the standalone bot side by side, as processes, on the simulator and real servers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import nats
import pytest

from discord_sim import DiscordSim, Frame
from sandbox_bot.tour.readback import StoredEvent, read_streams
from sandbox_core.postgres.pool import Pool, create_pool
from tests.chaos.judge import is_published
from tests.e2e.harness import Flood, eventually
from tests.forked import ForkedProcess, start_forked
from tests.gateway.conftest import BotProcess, until

GUILDS = 12


class _Flood(Flood):
    """Goes on while a killed process's session, which nobody resumes, is disconnected."""

    async def _run(self) -> None:
        while self.sent < self._least or not self._may_end:
            await self._sim.flood(self._CHUNK, rate=self._rate, hold_disconnected=False)
            self.sent += self._CHUNK


@dataclass
class HostProcess(BotProcess):
    """One host; its log is kept for the failure message."""

    async def unload(self) -> None:
        """Have it unload the extension that publishes, and go on."""
        self.process.send_signal(signal.SIGUSR1)
        await until(lambda: self.says("host_unloaded"))


async def stands_by(bot: BotProcess) -> None:
    """Return when it says that another process publishes."""
    await until(lambda: bot.says("publishing_stands_by"))


Start = Callable[..., Awaitable[BotProcess]]


@dataclass
class Side:
    """Everything a test needs."""

    sim: DiscordSim
    pool: Pool
    nats_url: str
    start_host: Start
    start_bot: Start
    processes: list[BotProcess]
    run_sandboxctl: Callable[..., Awaitable[tuple[int, str]]]

    def flood(self, least: int, rate: float = 150) -> Flood:
        """Events in all guilds; each goes to every process of the test."""
        return _Flood(self.sim, least, rate)

    async def stored(self) -> list[StoredEvent]:
        """Both streams, read back."""
        client = await nats.connect(self.nats_url)
        try:
            return await read_streams(client.jetstream())
        finally:
            await client.close()

    async def checked(self) -> None:
        """Every event is stored once, in its guild's order, whichever session it was published from."""
        faults: dict[str, list[str]] = {}

        async def complete() -> bool:
            # What is sent after this look, such as the bot's own notice, is not stored yet.
            sent = list(self.sim.sent)
            faults.update(_faults(sent, await self.stored()))
            return not faults["lost"]

        await eventually(complete, fail=False)
        logs = "\n\n".join("\n".join(process.log[-12:]) for process in self.processes)
        assert faults == {"lost": [], "doubled": [], "disordered": []}, logs

    async def sandboxctl(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of a command."""
        return await self.run_sandboxctl(*arguments)

    async def published_by(self, *kinds: str) -> None:
        """Return when just these kinds hold shards."""

        async def so() -> bool:
            rows = await self.pool.fetch(
                """
                SELECT DISTINCT p.kind FROM gateway_shards AS s
                JOIN gateway_publishers AS p ON p.process_id = s.holder
                WHERE s.lease_until > clock_timestamp()
                """
            )
            return {row["kind"] for row in rows} == set(kinds)

        await eventually(so)

    async def readiness(self, bot: BotProcess) -> dict[str, object]:
        """What `/readyz` says."""
        async with aiohttp.ClientSession() as http, http.get(f"{bot.ops_url}/readyz") as response:
            answer: dict[str, object] = await response.json()
        return answer

    async def gaps(self, bot: BotProcess) -> float:
        """How many gaps a standalone bot has counted."""
        async with aiohttp.ClientSession() as http, http.get(f"{bot.ops_url}/metrics") as response:
            text = await response.text()
        (line,) = [line for line in text.splitlines() if line.startswith("sandbox_gateway_gaps_total ")]
        return float(line.split()[1])


def _faults(sent: list[Frame], stored: list[StoredEvent]) -> dict[str, list[str]]:
    events: dict[tuple[int, bytes], int] = {}
    sent_as: defaultdict[int, list[str]] = defaultdict(list)
    by_id: dict[str, tuple[int, Frame]] = {}
    for frame in sent:
        # A new session's own GUILD_CREATEs are no events: nothing happened.
        if not is_published(frame) or frame.type == "GUILD_CREATE":
            continue
        number = events.setdefault((id(frame.payload), frame.middle), len(events))
        message_id = f"{frame.session_id}:{frame.shard}:{frame.seq}"
        by_id[message_id] = (number, frame)
        sent_as[number].append(f"{frame.type} {message_id}")
    copies: defaultdict[int, list[str]] = defaultdict(list)
    order: defaultdict[object, list[int]] = defaultdict(list)
    for event in stored:
        if event.message_id in by_id:
            number, frame = by_id[event.message_id]
            assert event.payload == frame.raw
            copies[number].append(event.message_id)
            order[event.stream, frame.guild_id].append(number)
    return {
        "lost": [f"event {n}: {sent_as[n]}" for n in range(len(events)) if n not in copies][:20],
        "doubled": [f"event {number}: {ids}" for number, ids in copies.items() if len(ids) > 1][:20],
        "disordered": [f"guild {place}" for place, numbers in order.items() if numbers != sorted(numbers)],
    }


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    """A simulator on which up to two shards may identify at once."""
    async with DiscordSim(record=True, replay_limit=100_000, max_concurrency=16) as running:
        for number in range(GUILDS):
            running.add_guild(f"G{number}")
        yield running


@pytest.fixture
async def side(sim: DiscordSim, database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Side]:
    """Nobody has started yet. Those alive at the end are killed."""
    environment = {
        **{
            name: value for name, value in os.environ.items() if not name.startswith(("DISCORD_", "SANDBOX_"))
        },
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "NATS_URL": nats_url,
        "SANDBOX_ISOLATION": "convention",
        "DISCORD_TOKEN": "sim-token",
        "DISCORD_API_URL": sim.api_url,
        "DISCORD_DEV_GUILD_IDS": str(min(sim.world.guilds)),
        "HOST_GATEWAY": sim.gateway_url,
        "OPS_PORT": "0",
        "LOG_FORMAT": "json",
    }
    pool = await create_pool(database_url)
    started: list[BotProcess] = []

    async def start(
        make: Callable[[ForkedProcess], BotProcess],
        more: dict[str, str],
        *arguments: str,
        module: str = "sandbox_bot",
    ) -> BotProcess:
        bot = make(await start_forked(*arguments, environment=environment | more, module=module))

        async def read() -> None:
            async for line in bot.process.stdout:
                bot.log.append(line.decode().rstrip())

        bot.reader = asyncio.create_task(read())
        started.append(bot)
        await bot.started()
        return bot

    async def start_host(**more: str) -> BotProcess:
        return await start(HostProcess, more, module="tests.publishers.host")

    async def start_bot(**more: str) -> BotProcess:
        return await start(BotProcess, more, "run")

    async def run_sandboxctl(*arguments: str) -> tuple[int, str]:
        process = await start_forked(*arguments, environment=environment)
        output = (await process.stdout.read()).decode()
        return await process.wait(), output

    yield Side(sim, pool, nats_url, start_host, start_bot, started, run_sandboxctl)
    for bot in started:
        if bot.process.returncode is None:
            await bot.end(signal.SIGKILL)
    await pool.close()
